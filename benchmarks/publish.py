"""Put what was measured into the pages: ``python -m normspec.benchmarks.publish``, after ``make bench`` and its like.

A page has a place for each kind of run, between two comments; what a run wrote to ``out/`` goes there, and its pictures
beside the page. What has not been run stays as it is.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

PLACES = {  # a kind of run, also the name of its files: the page, and the command that fills it
    "bench": ("performance.md", "make bench"),
    "scaling": ("performance.md", "make bench-scaling"),
    "bench-training": ("performance.md", "normspec bench-training"),
    "bench-gpu": ("performance-gpu.md", "make bench-gpu"),
}


def fill(page: str, name: str, command: str, text: str) -> str:
    """The page with ``text`` in the place of ``name``."""
    begin, end = f"<!-- {name}: written by `{command}` -->\n", f"<!-- end of {name} -->\n"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page has no place for the table: {begin.strip()} ... {end.strip()}")
    return pattern.sub(lambda _: f"{begin}\n{text.strip()}\n\n{end}", page)


def untitled(text: str) -> str:
    """A report without its title, for the page has one."""
    return re.sub(r"\A# .*\n", "", text)


def main(argv: Sequence[str] | None = None) -> int:
    """Fill the pages from what there is."""
    parser = argparse.ArgumentParser(prog="python -m normspec.benchmarks.publish", description=main.__doc__)
    parser.add_argument("--results", type=Path, default=Path("out"), help="folder of the runs (%(default)s)")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the pages (%(default)s)")
    options = parser.parse_args(argv)
    for name, (file, command) in PLACES.items():
        report, page = options.results / f"{name}.md", options.docs / file
        if not report.exists():
            continue
        text = untitled(report.read_text(encoding="utf-8"))
        page.write_text(fill(page.read_text(encoding="utf-8"), name, command, text), encoding="utf-8")
        for picture in re.findall(r"\]\((\S+\.png)\)", text):
            shutil.copy(options.results / picture, options.docs / picture)
        print(f"{report} is in {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
