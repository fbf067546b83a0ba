"""Specs are data from strangers: whatever stands in them, generated Python does what the templates say and no more."""

from __future__ import annotations

import ast
import re
import shutil

import pytest
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

from normspec.codegen.reader import SpecError
from normspec.codegen.render import render
from normspec.codegen.resolve import load
from suite import SPECS

DIALECT, CLASS = "torch/dialect.yaml", "torch/BatchNorm1d.yaml"
BREAK = '\'"""; PWNED; """\''  # out of a docstring
ATTEMPTS = [
    (DIALECT, "title: PyTorch", f"title: {BREAK}"),
    (DIALECT, "source: https", f"source: {BREAK} # "),
    (DIALECT, "reference: torch", f"reference: {BREAK} # "),
    (DIALECT, 'dtype: "torch.{name}"', 'dtype: \'{name}"""; PWNED; """\''),
    (DIALECT, "title: PyTorch", "title: 'ends in a backslash \\'"),
    (DIALECT, "title: PyTorch", "title: 'says \"hi\"'"),
    (DIALECT, "state_dict: {does: module.state_dict", "state_dict: {doc: 'says \"hi\"', does: module.state_dict"),
    (
        DIALECT,
        "state_dict: {does: module.state_dict",
        'state_dict: {doc: "a\\\\\\"\\"\\"; PWNED", does: module.state_dict',
    ),
    (DIALECT, "\nmodule: nn", "\nmodule: 'nn; import PWNED'"),
    (DIALECT, "manual_seed: {", "manual_seed: {module: 'a; import PWNED', "),
    (DIALECT, "load: {raises: RuntimeError", "load: {raises: 'PWNED'"),
    (DIALECT, "data: {binds: data}", "data: {binds: data, type: 'PWNED()'}"),
    (DIALECT, "data: {binds: data}", "data: {binds: data, type: 'int # PWNED'}"),
    (DIALECT, "data: {binds: data}", "data: {binds: data, doc: " + BREAK + "}"),
    ("storch/dialect.yaml", "n: {binds: name, default: module}", "n: {binds: name, default: 'a\" + str(PWNED) + \"'}"),
    ("storch/dialect.yaml", "n: {binds: name, default: module}", "n: {binds: name, default: 'a\\'}"),
    (CLASS, 'repr: "BatchNorm1d(', 'repr: "BatchNorm1d({{PWNED}}'),
    (CLASS, 'repr: "BatchNorm1d(', 'repr: "BatchNorm1d({{'),
    (CLASS, "summary: ", f"summary: {BREAK} # "),
    (CLASS, "origin: ", f"origin: {BREAK} # "),
    (CLASS, "module: nn", "module: ../../../evil"),
    (CLASS, "summary: ", "summary: '<script>PWNED</script>' # "),
    (CLASS, "summary: ", "summary: 'a `` <img onerror=PWNED> `` b' # "),
    (CLASS, "summary: ", 'summary: "x\\n\\n<script>PWNED</script>" # '),
    (CLASS, "input: [", "input: [N C <PWNED>, "),
    (DIALECT, "source: https", "source: 'x) <script>PWNED</script>' # "),
    (DIALECT, "title: PyTorch", "title: '](javascript:PWNED) | <b>PWNED</b>'"),
    (DIALECT, "title: PyTorch", "title: '{eval-rst}`PWNED`'"),
    ("operators/batch_norm.yaml", "latex: y", "latex: $$ <script>PWNED</script> y"),
    ("operators/batch_norm.yaml", "needs: an integer", "needs: <script>PWNED</script>"),
    ("lucid/BatchNorm1d.yaml", "      (32, 128)", "      ```\n      <script>PWNED</script>"),
    (CLASS, "summary: ", "summary: !!python/object/apply:os.system ['true'] # "),
]


@pytest.mark.parametrize(("file", "good", "bad"), ATTEMPTS, ids=[bad for *_, bad in ATTEMPTS])
def test_an_attempt_is_refused_or_stays_text(tmp_path, file, good, bad):
    specs = tmp_path / "specs"
    shutil.copytree(SPECS, specs)
    text = (specs / file).read_text()
    assert good in text
    (specs / file).write_text(text.replace(good, bad, 1))
    try:
        files = render(load(specs))
    except SpecError:
        return
    for name, source in files.items():
        assert not {"..", ";", " "} & set(name.replace("/", " / ").split(" / ")), name
        if name.endswith(".py"):
            nodes = list(ast.walk(ast.parse(source)))
            names = {node.id for node in nodes if isinstance(node, ast.Name)}
            modules = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
            assert "PWNED" not in names | modules, name
        if name.endswith(".md"):
            assert not marked_up(source), name


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (r"\bunbiased(?=[:,}])", '"unbiased=PWNED(), zzz"'),  # a parameter of an operator
        (r"(?<=^  )train(?=: \{doc)|module\.train(?=,)", lambda match: f'"{match[0]}(PWNED) or f"'),  # a function
        (r"\brecurse(?=: \{type)|(?<=(binds: |ixed: \{))recurse\b", '"recurse=PWNED, zzz"'),  # a parameter of one
        (r"\bmean(?=: \{shape)|(?<=keeps: )mean\b", '"mean = PWNED"'),  # a tensor that an operator keeps
    ],
    ids=["parameter", "function", "argument", "state"],
)
def test_what_an_operator_names_is_a_name(tmp_path, good, bad):
    """In every file, so that the levels agree with each other."""
    specs = tmp_path / "specs"
    shutil.copytree(SPECS, specs)
    for path in specs.glob("*/*.yaml"):
        path.write_text(re.sub(good, bad, path.read_text(), flags=re.MULTILINE))
    with pytest.raises(SpecError, match=r"operators/\w+\.yaml:\d+: '.*' cannot be a name in Python"):
        load(specs)


def marked_up(page):
    """What of a page is HTML, a link, a role or a directive and has the word."""
    parser = create_md_parser(MdParserConfig(enable_extensions={"dollarmath"}), RendererHTML)
    tokens = list(parser.parse(page))
    tokens += [inner for token in tokens for inner in token.children or []]
    kinds = ("html_block", "html_inline", "myst_role")
    return [
        token
        for token in tokens
        if (token.type in kinds and "PWNED" in token.content)
        or (token.type == "fence" and token.info.startswith("{"))
        or (token.type == "link_open" and "javascript" in str(token.attrs.get("href")))
    ]


def test_marked_up_words_would_be_seen():
    for page in (
        "<script>PWNED</script>",
        "a <b onclick=PWNED>",
        "{ref}`PWNED`",
        "```{eval-rst}\n```",
        "[a](javascript:x)",
    ):
        assert marked_up(page) or page.startswith("[a]"), page


def test_the_attempts_would_be_seen():
    names = {node.id for node in ast.walk(ast.parse('"""a"""; PWNED; """b"""')) if isinstance(node, ast.Name)}
    assert names == {"PWNED"}
