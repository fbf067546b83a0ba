"""Examples run while the site is built: what a page shows as printed is what was printed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

from normspec.conformance.examples import execute
from normspec.runtime import Module, Tensor
from normspec.runtime.operators.tensor import manual_seed

LINES = 16  # of a variable's text; what is longer is cut

logger = logging.getLogger(__name__)


class Run(SphinxTransform):
    """Runs the examples of a page, one after the other in one namespace."""

    default_priority = 210

    def apply(self, **keywords: object) -> None:
        """Put what was printed below each statement, and the variables of a reference page below its examples."""
        with tempfile.TemporaryDirectory() as folder, within(folder):
            self.run()

    def run(self) -> None:
        """Run them here: what they write is thrown away."""
        names: dict[str, Any] = {"np": np}
        reference = self.env.docname.startswith("generated/")
        manual_seed(0)
        for block in list(self.document.findall(nodes.literal_block)):
            code = block.astext()
            if block.get("language") != "python" or not code.startswith(">>> "):
                continue
            before = dict(names)
            try:
                text = transcript(code, names)
            except ModuleNotFoundError as error:
                if str(error.name).startswith("normspec"):
                    raise
                return  # a page about a library that is not here stays as it was written
            except Exception as error:
                logger.warning("this example fails: %s: %s", type(error).__name__, error, location=block)
                continue
            shown: list[nodes.Node] = [nodes.literal_block(text, text, language="pycon")]
            variables = local_variables(code, before, names) if reference else ""
            if variables:
                shown += [
                    nodes.paragraph("", "Local variables", classes=["variables"]),
                    nodes.literal_block(variables, variables, language="text"),
                ]
            block.replace_self(shown)


@contextlib.contextmanager
def within(folder: str) -> Iterator[None]:
    """Work in another folder for a while."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def transcript(code: str, names: dict[str, Any]) -> str:
    """The code with what it prints now."""
    lines = []
    for source, _, printed in execute(code, names, "an example"):
        first, *rest = source.rstrip("\n").split("\n")
        lines += [f">>> {first}", *(f"... {line}".rstrip() for line in rest), *printed.splitlines()]
    return "\n".join(lines)


def local_variables(code: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    """The tensors and modules that an example has made and not printed itself."""
    texts = []
    for name, value in after.items():
        made = before.get(name) is not value and isinstance(value, (Module, Tensor))
        if made and f">>> {name}\n" not in f"{code}\n":
            lines = f"{name} = {value!r}".split("\n")
            texts += [*lines[:LINES], *(["..."] if len(lines) > LINES else [])]
    return "\n".join(texts)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the transform."""
    app.add_transform(Run)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
