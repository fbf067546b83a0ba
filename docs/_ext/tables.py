"""Tables that can be heard as well as seen: the first cell of a row is its heading."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.typing import ExtensionMetadata


class Headings(SphinxTransform):
    """Marks the first column of every table as a heading."""

    default_priority = 220

    def apply(self, **keywords: object) -> None:
        """Mark them."""
        for group in self.document.findall(nodes.tgroup):
            first = next(iter(group.findall(nodes.colspec)))
            first["stub"] = 1


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the transform."""
    app.add_transform(Headings)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
