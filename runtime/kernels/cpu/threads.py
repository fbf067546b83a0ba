"""A team of threads that share a compiled job without the GIL.

Its members are Python threads that stay in one compiled loop. They take a job, a function and its arguments, from
memory that all share; they look for the next for 0.2 ms, and then wait on a lock of their own. The caller
works, too, and never waits for a member that has not begun: if none comes, it does everything alone. So it does while
the team works for another caller. Who did what never shows in a result.

Not `numba.prange`: its workqueue layer aborts a process in which two threads call at once, and a fork after its OpenMP
layer has run kills the child. Locks are those that Python itself is made of, which need no GIL (``pythread.h``).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import sys
import threading
import time
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from normspec.runtime.kernels.cpu.jit import helper, inlined, kernel
from normspec.runtime.kernels.cpu.simd import INT64, LINE, add, call, instruction

Job = tuple[int, int]  # addresses of a function and of its arguments
Crew = tuple[int, int, int]  # address of a team, threads that share a job at most, and members that are woken for it
ALONE: Crew = (0, 1, 0)
library: Any = numba  # whose types omit half of what it exports

AWAKE = 2e-4  # seconds that a member looks for the next job
AGAIN = 1e-4  # after a job that is too small to wake anybody, in which another one makes that worth it
LOOKS = 1024  # between two offers of the processor to others
CPUS = 1024  # in a set of them

# The memory of a team, in bytes: what members read, what they write, what callers write, and a line for each member.
TICKET, FUNCTION, ARGUMENTS, STOP, PATIENCE = range(0, 40, 8)  # the ticket is 0 while there is no job
ACTIVE, SEATS = 64, 72
BUSY, TICKETS, MEMBERS = 128, 136, 144
ALLOWED, APART = 192, 192 + CPUS // 8  # where the caller may run, and without where it does
FIRST = APART + CPUS // 8
PARKED, LOCK, THREAD = 0, 8, 16


def allowed() -> int:
    """`numba.get_num_threads()`, which would start numba's own threads if nobody has set their number yet."""
    try:
        library.threading_layer()
    except ValueError:
        return int(library.config.NUMBA_NUM_THREADS)
    return int(library.get_num_threads())


# ------------------------------------------------------------------------------------------------------ instructions


@instruction
def peek(context: Any, address: Any) -> Any:
    """The number at an address, and all that was written before it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(arguments[0], INT64.as_pointer()), "seq_cst", 8)

    return types.int64(types.intp), generate


@instruction
def swap(context: Any, address: Any, number: Any) -> Any:
    """Put a number at an address; what was there before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], INT64.as_pointer())
        return builder.atomic_rmw("xchg", place, arguments[1], "seq_cst")

    return types.int64(types.intp, types.int64), generate


@instruction
def pause(context: Any) -> Any:
    """A hint that this is a loop that waits, where processors take it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            call(builder, "llvm.x86.sse2.pause", ir.VoidType(), ())
        return context.get_dummy_value()

    return types.void(), generate


@instruction
def job(context: Any, work: Any, arguments: Any) -> Any:
    """What a team is given: a compiled function, called with a rank and these arguments. Good until the caller ends."""
    found = work.get_call_type(context, (types.intp, *arguments), {})

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        compiled = work.dispatcher.overloads[tuple(found.args)]
        context.add_linking_libs([compiled.library])
        block = cgutils.alloca_once_value(builder, values[1])
        kind = ir.FunctionType(ir.VoidType(), [INT64, INT64])
        function = ir.Function(builder.module, kind, builder.module.get_unique_name("job"))
        function.linkage = "internal"
        inside = ir.IRBuilder(function.append_basic_block())
        kept = inside.load(inside.inttoptr(function.args[0], block.type))
        given = [function.args[1], *cgutils.unpack_tuple(inside, kept, len(arguments))]
        target = context.declare_function(builder.module, compiled.fndesc)
        context.call_conv.call_function(inside, target, compiled.fndesc.restype, compiled.fndesc.argtypes, given)
        inside.ret_void()
        addresses = builder.ptrtoint(function, INT64), builder.ptrtoint(block, INT64)
        return context.make_tuple(builder, signature.return_type, addresses)

    return types.UniTuple(types.intp, 2)(work, arguments), generate


@instruction
def perform(context: Any, function: Any, arguments: Any, rank: Any) -> Any:
    """A job, as the member of that rank; the caller has rank 0."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [INT64, INT64])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


def external(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the C library, or of Python's."""
    return types.ExternalFunction(name, result(*arguments))


allocate_lock = external("PyThread_allocate_lock", types.intp)
acquire_lock = external("PyThread_acquire_lock", types.int32, types.intp, types.int32)
release_lock = external("PyThread_release_lock", types.void, types.intp)
offer = external("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32)

if sys.platform == "linux":
    current_cpu = external("sched_getcpu", types.int32)
    get_affinity = external("sched_getaffinity", types.int32, types.int32, types.intp, types.intp)
    set_affinity = external("sched_setaffinity", types.int32, types.int32, types.intp, types.intp)

    @helper()
    def keep_apart(team: int) -> None:
        """Note where members may run that are not to begin where the caller runs, as Linux likes it."""
        for word in range(0, CPUS // 8, 8):
            swap(team + ALLOWED + word, 0)
        get_affinity(0, CPUS // 8, team + ALLOWED)
        cpu = current_cpu()
        for word in range(0, CPUS // 8, 8):
            swap(team + APART + word, peek(team + ALLOWED + word))
        if 0 <= cpu < CPUS:
            own = team + APART + cpu // 64 * 8
            swap(own, peek(own) & ~(1 << cpu % 64))

    @helper()
    def send_apart(team: int, thread: int) -> None:
        """Do not let a sleeping member begin there."""
        set_affinity(thread, CPUS // 8, team + APART)

    @helper()
    def settle(team: int) -> None:
        """Let the member that calls this run wherever the caller may."""
        set_affinity(0, CPUS // 8, team + ALLOWED)

else:

    @helper()
    def keep_apart(team: int) -> None:
        """Left to the system."""

    @helper()
    def send_apart(team: int, thread: int) -> None:
        """Left to the system."""

    @helper()
    def settle(team: int) -> None:
        """Left to the system."""


# ---------------------------------------------------------------------------------------------------------- the team


@inlined
def wait(looks: int) -> int:
    """A moment; how many moments there were. Every so often others may have the processor."""
    pause()
    if looks % LOOKS == LOOKS - 1:
        offer()
    return looks + 1


@helper()
def wake(team: int, count: int) -> None:
    """So many members, unless they are awake."""
    known = False
    for member in range(min(count, peek(team + MEMBERS))):
        own = team + FIRST + member * LINE
        if swap(own + PARKED, 0) != 0:
            if not known:
                keep_apart(team)
                known = True
            send_apart(team, peek(own + THREAD))
            release_lock(peek(own + LOCK))


@helper()
def together(crew: Crew, work: Job) -> None:
    """Do a job with a crew, this thread among them; all have left it at the end."""
    (team, threads, woken), (function, arguments) = crew, work
    if threads < 2 or team == 0 or swap(team + BUSY, 1) != 0:
        perform(function, arguments, 0)
        return
    swap(team + FUNCTION, function)
    swap(team + ARGUMENTS, arguments)
    swap(team + SEATS, threads - 1)
    swap(team + TICKET, add(team + TICKETS, 1) + 1)
    wake(team, woken)
    perform(function, arguments, 0)
    swap(team + TICKET, 0)
    looks = 0
    while peek(team + ACTIVE) != 0:
        looks = wait(looks)
    swap(team + BUSY, 0)


@inlined
def take_part(team: int, ticket: int) -> None:
    """In the job of that ticket, if it is still to be done and there is a seat left."""
    add(team + ACTIVE, 1)
    if peek(team + TICKET) == ticket:
        seat = add(team + SEATS, -1)
        if seat > 0:
            perform(peek(team + FUNCTION), peek(team + ARGUMENTS), seat)
    add(team + ACTIVE, -1)


@kernel
def serve(team: int, member: int) -> None:
    """What a member does until the team stops."""
    own = team + FIRST + member * LINE
    last = looks = 0
    while peek(team + STOP) == 0:
        ticket = peek(team + TICKET)
        if ticket != 0 and ticket != last:
            take_part(team, ticket)
            last, looks = ticket, 0
        elif looks < peek(team + PATIENCE):
            looks = wait(looks)
        else:
            swap(own + PARKED, 1)
            new = peek(team + TICKET) not in (0, last) or peek(team + STOP) != 0
            if not new or swap(own + PARKED, 0) == 0:  # if somebody has seen it parked, its lock will be released
                acquire_lock(peek(own + LOCK), 1)
                settle(team)
            looks = 0


@kernel
def look(looks: int) -> int:
    """As often as a member does, to see how long that takes."""
    done = 0
    while done < looks:
        done = wait(done)
    return done


@kernel
def prepare(team: int, member: int) -> None:
    """A lock for a member to wait on."""
    lock = allocate_lock()
    acquire_lock(lock, 1)
    swap(team + FIRST + member * LINE + LOCK, lock)


@kernel
def dismiss(team: int) -> None:
    """Have all members return to Python."""
    swap(team + STOP, 1)
    wake(team, peek(team + MEMBERS))


class Team:
    """Members are hired when there is work for them; Python ends without them."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin without members: a forked child has the memory of its parent's team, but none of its threads."""
        self._most = max(1, library.config.NUMBA_NUM_THREADS) - 1
        memory = np.zeros(FIRST // 8 + 8 * (self._most + 1), np.int64)
        start = -memory.ctypes.data % LINE // 8
        self._address, self._numbers = memory.ctypes.data + 8 * start, memory[start:]
        self._members: list[threading.Thread] = []
        self._last = 0.0  # when somebody came with a small job
        self._lock = threading.Lock()

    def crew(self, threads: int, woken: int) -> Crew:
        """For a job of at most so many threads, which is worth waking so many members; others come if awake.

        A small job is worth waking nobody, but if it is not the only one, a member will be awake for the others.
        """
        if woken == 0:
            before, self._last = self._last, time.monotonic()
            woken = int(self._last - before < AGAIN)
        woken = min(woken, threads - 1)
        if len(self._members) < min(woken, self._most):
            self._hire(woken)
        return self._address, threads, woken

    def _hire(self, count: int) -> None:
        with self._lock, contextlib.suppress(RuntimeError):  # no new threads when the interpreter ends
            if not self._members:
                self._numbers[PATIENCE // 8] = patience()
            for member in range(len(self._members), min(count, self._most)):
                prepare(self._address, member)
                thread = threading.Thread(target=serve, args=(self._address, member), name="normspec", daemon=True)
                thread.start()
                self._numbers[(FIRST + LINE * member + THREAD) // 8] = thread.native_id or 0
                self._members.append(thread)
                self._numbers[MEMBERS // 8] = len(self._members)

    def stop(self) -> None:
        """Let all members go."""
        with self._lock:
            self._most = 0
            if self._members:
                dismiss(self._address)
            for thread in self._members:
                thread.join(1)


def patience() -> int:
    """How often a member can look in the time that it stays awake."""
    looks, shortest = 1000, 1.0
    for _ in range(4):  # the first compiles
        began = time.perf_counter()
        look(looks)
        shortest = min(shortest, time.perf_counter() - began)
    return max(1, int(looks * AWAKE / shortest))


team = Team()
atexit.register(team.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=team.reset)
