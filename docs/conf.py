"""How `make docs` makes a site of the repository's Markdown: these pages, and those in generated/docs/."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "normspec"
version = release = metadata.version("normspec")
copyright = "the normspec authors"

extensions = ["myst_parser", "mathml", "examples", "sources", "drawings", "tables"]
# The repository itself is the source: a link that works between its files works on the site.
root_doc = "docs/index"
include_patterns = ["docs/**.md", "generated/docs/**.md", "specs/README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
exclude_patterns = [".*", "build", "dist", "out", "**/*.egg-info"]
nitpicky = True
smartquotes = False  # what a spec says is shown as it is

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

html_theme = "furo"
html_title = "normspec"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_favicon = "_static/icon.svg"
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path = ["_extra"]
html_copy_source = html_show_sourcelink = False
html_show_sphinx = html_use_index = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
html_math_renderer = "mathml"


def setup(app: Sphinx) -> None:
    """Contents for every folder that has an index: what is in it."""
    app.connect("source-read", list_folder)


def list_folder(app: Sphinx, page: str, source: list[str]) -> None:
    """An index or README has the other pages of its folder below it; GitHub lists them itself."""
    folder, _, name = page.rpartition("/")
    if name in ("index", "README") and folder not in ("docs", "specs"):
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"
