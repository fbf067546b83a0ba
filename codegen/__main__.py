"""Write generated/ from specs/, or with ``--check`` only report what would change."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from .reader import SpecError
from .render import render
from .resolve import load

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "generated" if (ROOT / "pyproject.toml").is_file() else None  # an installed package has none
SCHEMA = "https://json-schema.org/"
DRAWING = 'id="extends-'


def main(argv: list[str] | None = None) -> int:
    """Run ``python -m normspec.codegen``, which is ``normspec generate``."""
    parser = argparse.ArgumentParser(prog="normspec generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if generated/ is not current")
    parser.add_argument("--specs", type=Path, default=ROOT / "specs", help="folder to read (%(default)s)")
    parser.add_argument("--output", type=Path, default=HOME, help="folder to write (%(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.output is None:
        parser.error("--output: expected a folder to write, found none: only a checkout has one of its own")
    try:
        wanted = render(load(arguments.specs))
    except SpecError as error:
        print(error, file=sys.stderr)
        return 1
    found = _texts(arguments.output)
    foreign = [name for name, text in found.items() if name not in wanted and not _ours(name, text)]
    if foreign and not arguments.check:
        print(f"{arguments.output} has files that are not generated: {', '.join(foreign)}", file=sys.stderr)
        return 1
    stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    for name in stale:
        if arguments.check:
            print(_difference(name, found.get(name), wanted.get(name)), file=sys.stderr, end="")
        else:
            _write(arguments.output / name, wanted.get(name))
    print(f"{len(wanted)} files, {len(stale)} {'not current' if arguments.check else 'written'}")
    return 1 if arguments.check and stale else 0


def _texts(folder: Path) -> dict[str, str]:
    """Every file under ``folder``, whoever put it there."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8", errors="replace") for path in files}


def _ours(name: str, text: str) -> bool:
    """Whether the generator wrote a file: only such files are ever removed."""
    marks = {"schema/": SCHEMA, "docs/": DRAWING}  # of files that have no first line to say so
    return "by `normspec generate`" in text.partition("\n")[0] or any(
        name.startswith(folder) and mark in text for folder, mark in marks.items()
    )


def _write(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def _difference(name: str, old: str | None, new: str | None) -> str:
    before = "/dev/null" if old is None else f"a/{name}"
    after = "/dev/null" if new is None else f"b/{name}"
    lines = difflib.unified_diff(
        (old or "").splitlines(keepends=True), (new or "").splitlines(keepends=True), before, after
    )
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
