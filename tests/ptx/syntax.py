"""The text of a kernel in PTX as instructions in basic blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

ENDS = ("bra", "ret", "bar.", "barrier.cluster.wait")  # of a basic block: what jumps, and what waits
_STATEMENT = re.compile(r"\s*(?:(?P<label>\$\w+):|(?P<brace>[{}])|(?P<text>[^;]+);)")


class Instruction(NamedTuple):
    """``@guard opcode operands;`` in parts; the guard may be empty, and begins with ``!`` if it is negated."""

    text: str
    guard: str
    opcode: str
    operands: tuple[str, ...]


class Kernel(NamedTuple):
    """One kernel: its basic blocks go on from one to the next, or jump to a label's."""

    name: str
    parameters: dict[str, str]  # to types, in order
    shared: dict[str, int]  # addresses of arrays
    shared_bytes: int
    registers: dict[str, str]  # names, or their beginnings, to types
    blocks: list[list[Instruction]]
    labels: dict[str, int]  # to indices of blocks


def parse(ptx: str) -> Kernel:
    """Read a module of one kernel."""
    ptx = re.sub(r"//.*", "", ptx)
    found = re.search(r"\.entry (\w+)\((.*?)\)[^{]*\{(.*)\}", ptx, re.DOTALL)
    assert found is not None
    name, parameters, body = found.groups()
    types = {name: kind for kind, name in re.findall(r"\.param \.(\w+) (\w+)", parameters)}
    shared, size = {}, 0
    for alignment, array, count in re.findall(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\]", ptx):
        size = -(-size // int(alignment)) * int(alignment)
        shared[array] = size
        size += int(count)
    registers: dict[str, str] = {}
    labels: dict[str, int] = {}
    blocks = list(_blocks(body, registers, labels))
    return Kernel(name, types, shared, size, registers, blocks, labels)


def _blocks(body: str, registers: dict[str, str], labels: dict[str, int]) -> Iterator[list[Instruction]]:
    block: list[Instruction] = []
    done = 0
    for one in _statements(body, registers):
        if isinstance(one, str):
            if block:
                yield block
                block, done = [], done + 1
            labels[one] = done
            continue
        block.append(one)
        if one.opcode.startswith(ENDS):
            yield block
            block, done = [], done + 1
    yield block


def _statements(body: str, registers: dict[str, str]) -> Iterator[Instruction | str]:
    """Instructions, and labels as text; registers of an inner scope get a name of their own."""
    scopes, local = 0, dict[str, str]()
    for found in _STATEMENT.finditer(body):
        if found["label"]:
            yield found["label"]
        elif found["brace"]:
            scopes, local = scopes + 1, {}
        elif (text := " ".join(found["text"].split())).startswith(".reg"):
            _, kind, names = text.split(" ", 2)
            for name in names.split(", "):
                known = name.split("<")[0] if "<" in name else f"{name}:{scopes}"
                local |= {} if "<" in name else {name: known}
                registers[known] = kind[1:]
        elif not text.startswith(".pragma"):
            yield _instruction(text, local)


def _instruction(text: str, local: dict[str, str]) -> Instruction:
    found = re.fullmatch(r"(?:@(\S+) )?(\S+) ?(.*)", text)
    assert found is not None
    guard, opcode, rest = found.groups("")
    for name, known in local.items():
        rest = re.sub(rf"(?<![\w%.$]){name}\b", known, rest)
    operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", rest)
    return Instruction(text, guard, opcode, tuple(operands))
