"""The words of generated docstrings: NumPy's sections, filled from the model."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator

from .model import Argument, Callable_, Class, Condition, Example, Kept

WIDTH = 110


def of_class(one: Class) -> str:
    """Everything that the specs say of a class."""
    return _indented(_sections(_class(one)), 4)


def of_call(one: Class) -> str:
    """The docstring of the method that normalizes."""
    return _indented(
        _sections(
            [
                ("", _fill(one.call_doc)),
                ("Parameters", [f"{one.input} : array of shape {one.shapes}", *_fill(one.shape or "", 4)]),
                ("Returns", ["array", *_fill(one.call_returns, 4)]),
            ]
        ),
        8,
    )


def of_callable(one: Callable_, indent: int) -> str:
    """The docstring of a function or method."""
    arguments = one.arguments if one.kind == "function" else ()
    returns = [] if one.annotation == "None" or one.kind != "function" else _entry(one.annotation, one.gives or "")
    text = _sections(
        [
            ("", _fill(one.doc)),
            ("Parameters", _parameters(arguments)),
            ("Returns", returns),
            ("Raises", _raises(one.conditions)),
            ("Examples", _examples(one.examples)),
        ]
    )
    return _indented(text, indent)


def _class(one: Class) -> Iterator[tuple[str, list[str]]]:
    yield "", _fill(one.summary)
    if one.extension:
        yield "", _fill(f"An extension: {one.extension}")
    yield "", ["::", "", f"    {one.equation}"]
    for paragraph in one.paragraphs:
        yield "", _fill(paragraph)
    yield "", _fill(f"Supertypes: {', '.join(one.supertypes)}.")
    yield "Parameters", _parameters(one.arguments, one.constraint)
    yield "Shape", [*_fill(f"Input: {one.shapes}. Output: {one.output}."), *_fill(one.shape or "")]
    state = [line for kept in one.state for line in _entry(f"{kept.name} : {kept.type}", kept.doc, _state_facts(kept))]
    given = [line for each in one.attributes for line in _attribute(each)]
    yield "Attributes", [*given, *state]
    keys = (f"``{kept.name}`` ({kept.kind})" for kept in one.state)
    yield "State", _fill("The state dict has, in this order: " + ", ".join(keys) + ".")
    yield "Raises", _raises(one.raises)
    differences = [f"{each.about}. In {one.library}: {each.original} Here: {each.here}" for each in one.deviations]
    omitted = [f"{name} is left out: {reason}" for name, reason in one.omits.items()]
    notes = [line for note in (*one.notes, *differences, *omitted) for line in _bullet(note)]
    yield "Notes", notes
    yield "References", [*_bullet(one.source or ""), *_bullet(one.origin)] if one.source else _bullet(one.origin)
    yield "Examples", [*(f">>> {line}" for line in one.imports if one.examples), *_examples(one.examples)]


def _attribute(one: Argument) -> list[str]:
    fixed = "Cannot be assigned to." if one.constant else ""
    return _entry(f"{one.name} : {one.type}", one.attribute_doc, fixed)


def _raises(conditions: Iterable[Condition]) -> list[str]:
    raises: dict[str, list[str]] = {}
    for one in conditions:
        raises.setdefault(one.raises or "", []).append(one.doc)
    return [line for name, docs in raises.items() for line in _entry(name, " ".join(docs))]


def _state_facts(kept: Kept) -> str:
    never = f" None when {kept.none_when}." if kept.none_when else ""
    return f"Shape ({', '.join(kept.axes)}), {kept.dtype_doc}, initially {kept.init}.{never}"


def _parameters(arguments: Iterable[Argument], constraint: Callable[[Argument], str] = lambda _: "") -> list[str]:
    lines = []
    for one in arguments:
        default = f", default {one.default}" if one.default is not None else ""
        spelled = f" Also spelled ``{one.twin}``." if one.twin else ""
        must = f"Must be {constraint(one)}." if constraint(one) else ""
        lines += _entry(f"{one.name} : {one.type}{default}", one.doc + spelled, must)
    return lines


def _entry(head: str, *texts: str) -> list[str]:
    return [head, *_fill(" ".join(text for text in texts if text), 4)]


def _examples(examples: Iterable[Example]) -> list[str]:
    lines: list[str] = []
    for one in examples:
        if one.title:
            lines.append(f">>> # {one.title}")
        lines += [line.rstrip() for line in one.code.rstrip("\n").split("\n")]
    return lines


def _bullet(text: str) -> list[str]:
    lines = _fill(text, 2)
    return [f"* {lines[0][2:]}", *lines[1:]] if lines else []


def _fill(text: str, indent: int = 0) -> list[str]:
    if not text:
        return []
    lines = textwrap.wrap(" ".join(text.split()), WIDTH - 8 - indent, break_long_words=False, break_on_hyphens=False)
    return [" " * indent + line for line in lines]


def _sections(sections: Iterable[tuple[str, list[str]]]) -> str:
    """Titled blocks of lines, a blank line between them; empty ones are left out."""
    blocks = []
    for title, lines in sections:
        if lines:
            head = [title, "-" * len(title)] if title else []
            blocks.append("\n".join([*head, *lines]))
    return "\n\n".join(blocks)


def escape(text: str) -> str:
    """Text that stays what it is between triple quotes."""
    text = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return text[:-1] + '\\"' if text.endswith('"') else text


def _indented(text: str, indent: int) -> str:
    """As the inside of a docstring at this depth, the closing quotes on a line of their own if there are several."""
    space = " " * indent
    lines = escape(text).split("\n")
    body = "\n".join([lines[0], *(space + line if line.strip() else "" for line in lines[1:])])
    return body + (f"\n{space}" if len(lines) > 1 else "")
