"""The specs, resolved once: what the tests are made from."""

from pathlib import Path

from normspec.codegen.resolve import load

ROOT = Path(__file__).resolve().parents[1]
SPECS = ROOT / "specs"
DIALECTS = load(SPECS)
SEEDS = ("storch", "lucid", "tripy", "nvtripy", "torch")  # the dialects that the repository must have
CLASSES = {one.qualified: (dialect, one) for dialect in DIALECTS for one in dialect.classes}
