"""SVG drawings within the page, where they take on its colours, light or dark."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.typing import ExtensionMetadata


class Inline(SphinxTransform):
    """Puts the text of an SVG of the repository in the place of the image."""

    default_priority = 200

    def apply(self, **keywords: object) -> None:
        """Replace every image of a local SVG."""
        folder = Path(self.env.doc2path(self.env.docname)).parent
        for image in list(self.document.findall(nodes.image)):
            path = folder / image["uri"]
            if path.suffix == ".svg" and path.is_file():
                self.env.note_dependency(str(path))
                drawing = nodes.raw("", f'<div class="drawing">{path.read_text(encoding="utf-8")}</div>', format="html")
                image.replace_self(drawing)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the transform."""
    app.add_transform(Inline)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
