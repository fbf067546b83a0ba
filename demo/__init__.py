"""The main job on real data: ``normspec demo``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run every dialect on photographs and digits, print the numbers and draw the picture."""
    parser = argparse.ArgumentParser(prog="normspec demo", description=main.__doc__)
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder to write to (%(default)s)")
    folder: Path = parser.parse_args(argv).output
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return run(folder)
    except OSError as error:
        print(f"normspec demo: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("normspec"):
            raise
        missing = error.name.partition(".")[0]
        print(f'normspec demo needs {missing}: pip install "normspec[demo]"', file=sys.stderr)
    return 1


def run(folder: Path) -> int:
    """The same, into ``folder``; what it needs is imported here, so that what is missing can be said in a line."""
    from normspec.cli.terminal import Line
    from normspec.codegen.__main__ import ROOT
    from normspec.codegen.resolve import load

    from . import data, picture, table, work

    began = time.perf_counter()
    dialects = [one for one in load(ROOT / "specs") if importlib.util.find_spec(f"normspec.{one.name}")]
    if not dialects:
        print("normspec demo: no dialect is generated yet: normspec generate", file=sys.stderr)
        return 1
    line = Line()
    results = list(work.every(dialects, data.load(), line))
    line("drawing")
    picture.draw(results, folder / "demo.png")
    page = table.page(results, title="Batch norm on photographs and digits") + "\n\n![The picture](demo.png)\n"
    (folder / "demo.md").write_text(page, encoding="utf-8")
    line.done()
    print(table.page(results))
    print(f"\n{folder / 'demo.png'} and {folder / 'demo.md'}, {time.perf_counter() - began:.1f} s")
    return 0
