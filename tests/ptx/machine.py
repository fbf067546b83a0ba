"""A launch of a kernel, run in NumPy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arithmetic import TYPES, operation
from .memory import WINDOW, Fault, Global, Shared, Threads
from .syntax import Instruction, Kernel

Array = np.ndarray[Any, Any]
Step = Callable[[Array], None]  # an instruction, for the threads of a mask

WARP = 32
TOGETHER = 8192  # threads that go on together, at most, if a cluster has no more
RUNNING, AT_BLOCK, AT_CLUSTER = range(3)  # what a thread waits for
IMMEDIATE = re.compile(r"0([fd])([0-9A-F]{8,16})|(-?\d+|0x[0-9a-f]+)")


def launch(
    kernel: Kernel, memory: Global, grid: Sequence[int], threads: int, cluster: int, arguments: Sequence[int]
) -> None:
    """Run all blocks of a grid; arguments are their bits.

    Raises
    ------
    Fault
        The kernel does what a kernel must not.
    """
    blocks = int(np.prod(grid))
    step = max(TOGETHER // (threads * cluster), 1) * cluster
    memory.begin()
    with np.errstate(all="ignore"):
        for first in range(0, blocks, step):
            numbers = np.arange(first * threads, min(first + step, blocks) * threads)
            Blocks(kernel, memory, numbers, tuple(grid), threads, cluster, arguments).run()
    memory.end()


class Blocks:
    """Some blocks of a launch: their registers, their shared memory, and where their threads are."""

    def __init__(
        self,
        kernel: Kernel,
        memory: Global,
        numbers: Array,
        grid: tuple[int, ...],
        threads: int,
        cluster: int,
        arguments: Sequence[int],
    ) -> None:
        self._kernel, self._global = kernel, memory
        self._threads, self._cluster = threads, cluster
        self._shared = Shared(int(numbers[0]) // threads, numbers.size // threads, kernel.shared_bytes, cluster)
        self._arguments = dict(zip(kernel.parameters, arguments, strict=True))
        self._registers: dict[str, Array] = {}
        block = numbers // threads
        self._special = {
            "%tid.x": numbers % threads,
            "%ntid.x": np.full(numbers.size, threads),
            "%ctaid.x": block % grid[0],
            "%ctaid.y": block // grid[0] % grid[1],
            "%nctaid.x": np.full(numbers.size, grid[0]),
            "%nctaid.y": np.full(numbers.size, grid[1]),
            "%cluster_ctarank": block % cluster,
            "%cluster_nctarank": np.full(numbers.size, cluster),
        }
        self._place = np.zeros(numbers.size, np.int64)  # the basic block that comes next
        self._state = np.full(numbers.size, RUNNING)
        zeros = np.zeros(numbers.size, np.int64)
        self._at = Threads(numbers, block, block // cluster, zeros, zeros.copy(), zeros.copy())
        self._steps: dict[int, list[tuple[Instruction, Step]]] = {}

    def run(self) -> None:
        """Let every thread go to its end."""
        end = len(self._kernel.blocks)
        while not (self._place == end).all():
            ready = (self._state == RUNNING) & (self._place < end)
            if ready.any():
                here = int(self._place[ready].min())
                self._run_block(here, ready & (self._place == here))
            else:
                self._release()

    def _run_block(self, here: int, active: Array) -> None:
        if here not in self._steps:
            self._steps[here] = [(one, self._bind(one)) for one in self._kernel.blocks[here]]
        self._place[active] = here + 1
        for instruction, step in self._steps[here]:
            try:
                step(active)
            except Fault as fault:
                raise Fault(f"{self._kernel.name}: {instruction.text}: {fault}") from None

    def _release(self) -> None:
        """Let go the threads of which all that they wait for have arrived, those that ended aside."""
        ended = self._place == len(self._kernel.blocks)
        for state, size in ((AT_BLOCK, self._threads), (AT_CLUSTER, self._threads * self._cluster)):
            waiting = self._state == state
            if state == AT_BLOCK:
                there = (waiting | ended).reshape(-1, size).all(1)
                places = np.where(waiting, self._place, -1).reshape(-1, size)
                if ((places != places.max(1, keepdims=True)) & (places != -1))[there].any():
                    raise Fault(f"{self._kernel.name}: threads of a block wait at different barriers")
            else:
                arrivals = np.where(ended, np.iinfo(np.int64).max, self._at.arrivals).reshape(-1, size).min(1)
                there = arrivals > np.where(waiting, self._at.waits, -1).reshape(-1, size).max(1)
            free = waiting & np.repeat(there, size)
            if free.any():
                self._state[free] = RUNNING
                (self._at.syncs if state == AT_BLOCK else self._at.waits)[free] += 1
                return
        raise Fault(f"{self._kernel.name}: threads wait for what will never be")

    # -- operands

    def _register(self, name: str) -> tuple[Array, str]:
        """A register of all threads, and its type; nobody knows what is in it at first."""
        kinds = self._kernel.registers
        kind = kinds[name if name in kinds else name.rstrip("0123456789")]
        if name not in self._registers:
            dtype = TYPES[kind]
            self._registers[name] = np.frombuffer(b"\xa5" * self._place.size * np.dtype(dtype).itemsize, dtype).copy()
        return self._registers[name], kind

    def _read(self, operand: str, kind: str) -> Array:
        """An operand, as a type; what is the same for all threads has one number."""
        dtype = TYPES[kind]
        if operand in self._special:
            return self._special[operand].astype(dtype)
        if operand in self._kernel.shared:
            return np.array([self._kernel.shared[operand]], dtype)
        if found := IMMEDIATE.fullmatch(operand):
            letter, digits, integer = found.groups()
            if letter:
                bits = np.uint32 if letter == "f" else np.uint64
                return np.array([int(digits, 16)], bits).view(dtype)
            return np.array([int(integer, 0)], np.int64).astype(dtype)
        return self._register(operand)[0].view(dtype)

    def _low(self, operand: str, kind: str) -> Array:
        """The same of a register that may be wider than the type, which gets its low bits."""
        if not operand.startswith("%") or self._register(operand)[0].itemsize == TYPES[kind].itemsize:
            return self._read(operand, kind)
        return self._read(operand, self._register(operand)[1]).astype(TYPES[kind])

    def _write(self, operand: str, value: Array, active: Array) -> None:
        register = self._register(operand)[0]
        np.copyto(register, np.asarray(value).view(register.dtype), where=active)

    def _addresses(self, operand: str) -> Array:
        """``[register + offset]`` of every thread."""
        base, _, offset = operand.strip("[]").partition("+")
        start = base in self._kernel.shared or self._register(base)[1][1:] == "64"
        values = self._read(base, "u64" if start else "u32").astype(np.uint64) + np.uint64(int(offset or 0) % 2**64)
        return np.broadcast_to(values, self._place.shape)

    # -- instructions

    def _bind(self, instruction: Instruction) -> Step:
        """An instruction with its operands."""
        step = self._step(instruction.opcode, instruction.operands)
        if not instruction.guard:
            return step
        negated, name = instruction.guard.startswith("!"), instruction.guard.lstrip("!")
        guard = self._register(name)[0]
        return lambda active: step(active & ~guard if negated else active & guard)

    def _step(self, opcode: str, operands: tuple[str, ...]) -> Step:
        name, *modifiers = opcode.split(".")
        if name in ("ld", "st"):
            return self._move(name, modifiers, operands)
        if name == "mov":
            return self._copy(modifiers[0], operands)
        if name in STEPS:
            return STEPS[name](self, modifiers, operands)
        made = operation(opcode)
        target, *sources = operands
        read = [self._read(operand, kind) for operand, kind in zip(sources, made.sources, strict=True)]
        return lambda active: self._write(target, np.asarray(made.compute(*read)), active)

    def _copy(self, kind: str, operands: tuple[str, ...]) -> Step:
        target, source = operands
        if target.startswith("{"):
            bits, parts = self._read(source, kind), target.strip("{}").split(", ")
            narrow = TYPES[f"u{int(kind[1:]) // len(parts)}"]

            def unpack(active: Array) -> None:
                for part, name in enumerate(parts):
                    self._write(name, bits.view(narrow)[part :: len(parts)], active)

            return unpack
        if source.startswith("{"):
            names = source.strip("{}").split(", ")
            halves = [self._read(name, f"u{int(kind[1:]) // len(names)}") for name in names]
            return lambda active: self._write(target, np.stack(halves, 1).view(TYPES[kind]).ravel(), active)
        value = self._read(source, kind)
        return lambda active: self._write(target, value, active)

    def _move(self, name: str, modifiers: list[str], operands: tuple[str, ...]) -> Step:
        """Loads and stores."""
        space, kind = modifiers[0], modifiers[-1]
        names, place = operands if name == "ld" else operands[::-1]
        parts = names.strip("{}").split(", ")
        if space == "param":
            bits = np.array([self._arguments[place.strip("[]")]], np.uint64).view(TYPES[kind])[:1]
            return lambda active: self._write(parts[0], bits, active)
        dtype = TYPES[kind]
        vector = [one for one in modifiers if one in ("v2", "v4")]
        if len(parts) != int((vector or ["v1"])[0][1:]) or space not in ("global", "shared", "shared::cluster"):
            raise NotImplementedError(f"{name}.{'.'.join(modifiers)} {operands}")

        def load(active: Array) -> None:
            addresses, threads = self._addresses(place)[active], self._at.of(active)
            if space == "global":
                values = self._global.load(addresses, threads, dtype, len(parts))
            else:
                self._there(addresses, threads)
                values = self._shared.load(addresses, threads, dtype)[None]
            for part, value in zip(parts, values, strict=True):
                register = self._register(part)[0]
                register[active] = value.view(register.dtype) if value.itemsize == register.itemsize else value

        def store(active: Array) -> None:
            addresses, threads = self._addresses(place)[active], self._at.of(active)
            values = np.stack([np.broadcast_to(self._low(part, kind), active.shape)[active] for part in parts])
            if space == "global":
                self._global.store(addresses, threads, values)
            else:
                self._shared.store(addresses, threads, values[0])

        return load if name == "ld" else store

    def _there(self, addresses: Array, threads: Threads) -> None:
        """Are there still the blocks whose shared memory is read?"""
        ended = (self._place == len(self._kernel.blocks)).reshape(-1, self._threads).all(1)
        if ended[self._shared.owners(addresses, threads) - self._at.block[0]].any():
            raise Fault("shared memory of a block that ended")

    def _branch(self, modifiers: list[str], operands: tuple[str, ...]) -> Step:
        target = self._kernel.labels[operands[0]]

        def branch(active: Array) -> None:
            self._place[active] = target

        return branch

    def _return(self, modifiers: list[str], operands: tuple[str, ...]) -> Step:
        def leave(active: Array) -> None:
            self._shared.leave(self._at.of(active))
            self._place[active] = len(self._kernel.blocks)

        return leave

    def _shuffle(self, modifiers: list[str], operands: tuple[str, ...]) -> Step:
        _, mode, _ = modifiers
        target, source, operand, clamp, members = operands
        assert (clamp, members) == ("0x1f", "0xffffffff"), "of whole warps"
        value, by = self._read(source, "b32"), self._read(operand, "s32")
        lane = np.arange(self._place.size)

        def shuffle(active: Array) -> None:
            whole(active)
            place = lane % WARP
            other = {"bfly": place ^ by, "down": place + by, "idx": np.broadcast_to(by % WARP, place.shape)}[mode]
            self._write(target, value[lane - place + np.where(other < WARP, other, place)], active)

        return shuffle

    def _barrier(self, modifiers: list[str], operands: tuple[str, ...]) -> Step:
        """``bar.sync 0``, and the barriers of a cluster."""
        arrives, waits = "arrive" in modifiers, "wait" in modifiers

        def barrier(active: Array) -> None:
            whole(active)
            if arrives:
                self._at.arrivals[active] += 1
            else:
                self._state[active] = AT_CLUSTER if waits else AT_BLOCK

        return barrier

    def _map(self, modifiers: list[str], operands: tuple[str, ...]) -> Step:
        """``mapa``: the address of another block's shared memory."""
        target, source, rank = operands
        place, block = self._read(source, "u32"), self._read(rank, "u32")

        def locate(active: Array) -> None:
            self._write(target, place + (block + np.uint32(1)) * np.uint32(WINDOW), active)

        return locate

    def _nothing(self, modifiers: list[str], operands: tuple[str, ...]) -> Step:
        """``griddepcontrol``: launches follow each other."""
        return lambda active: None


STEPS = {
    "bra": Blocks._branch,
    "ret": Blocks._return,
    "shfl": Blocks._shuffle,
    "bar": Blocks._barrier,
    "barrier": Blocks._barrier,
    "mapa": Blocks._map,
    "griddepcontrol": Blocks._nothing,
}


def whole(active: Array) -> None:
    """Threads of a warp do this together."""
    warps = active.reshape(-1, WARP)
    if (warps.any(1) != warps.all(1)).any():
        raise Fault("part of a warp is elsewhere")
