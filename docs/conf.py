"""How `make docs` makes a site of the repository's Markdown: these pages, and those in generated/docs/."""

from __future__ import annotations

import sys
from importlib import metadata, util
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "normspec"
version = release = metadata.version("normspec")
copyright = "the normspec authors"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml",
    "examples",
    "sources",
    "drawings",
    "tables",
]
# The repository itself is the source: a link that works between its files works on the site.
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "generated/docs/**.md",
    "specs/README.md",
    "benchmarks/**.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
exclude_patterns = [".*", "build", "dist", "out", "**/*.egg-info"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types in words, such as "array of shape (C,)"
autodoc_typehints = "none"  # the docstrings tell types in words
autodoc_member_order = "bysource"
autodoc_mock_imports = [name for name in ("jax", "torch") if util.find_spec(name) is None]
copybutton_prompt_text = r">>> |\.\.\. "  # output is not copied
copybutton_prompt_is_regexp = True
napoleon_google_docstring = False
smartquotes_action = "D"  # dashes; quotes of a spec are shown as they are

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
html_show_sphinx = html_use_index = html_domain_indices = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
html_math_renderer = "mathml"


def setup(app: Sphinx) -> None:
    """Contents for every folder that has an index; fields without words are left out."""
    app.connect("source-read", list_folder)
    app.connect("autodoc-skip-member", skip_field)


def list_folder(app: Sphinx, page: str, source: list[str]) -> None:
    """An index or README has the other pages of its folder below it; GitHub lists them itself."""
    folder, _, name = page.rpartition("/")
    if name in ("index", "README") and folder not in ("docs", "specs"):
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"


def skip_field(app: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """The fields of a named tuple have no words of their own."""
    return True if str(getattr(member, "__doc__", "")).startswith("Alias for field number") else None
