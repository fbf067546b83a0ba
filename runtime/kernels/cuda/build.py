"""From a program to the machine code of a GPU, with what the assembler says of it; no GPU or driver is needed.

PTX is written once for all GPUs, for the compiler takes its time. It is said to be for the newest of ``TARGETS`` that
the GPU is not older than, and assembled for the GPU itself: on Blackwell that takes fewer registers than PTX of its own
would. It is also said to be of the version of PTX that it needs and not of the compiler's own: the assembler may come
from an older toolkit, as torch brings one along. And every sum and product is said to be rounded, which the assembler
takes to mean that no two of them may be fused: a GPU computes what the PTX says, to the last bit.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from .primitives import for_older
from .program import Program

Capability = tuple[int, int]  # to compute: a Hopper GPU has (9, 0)

TARGETS: tuple[Capability, ...] = ((7, 5), (8, 0), (9, 0))
VERSION = "8.0"  # of PTX: the first with all that ``primitives`` writes, of CUDA 12.0

WIDE = r"global[\w.:]*\.(?:v4\.[bfu]32|v2\.[bfu]64|v2\.b32)\b"  # a packet; the last is half of one
UNROUNDED = re.compile(r"\b(add|sub|mul)\.(f32|f64)\b")
UNKNOWN = -1  # what the assembler does not tell, which a launch does not need
COMPUTED = re.compile(r"^\s+(?:@!?%p\d+ )?((?!ld\.|st\.|cvt\.|mov\.|selp\.)[a-z]+[\w.]*\.f64)\b", re.MULTILINE)


class Binary(NamedTuple):
    """A program in machine code, which has its name as the entry, and what is known of it."""

    cubin: bytes
    ptx: str
    registers: int  # of a thread
    spilled: int  # bytes of registers that a thread stores or loads again, the more of both
    stack: int  # bytes of local memory of a thread

    @property
    def wide_loads(self) -> int:
        """Number of instructions that load a packet."""
        return len(re.findall(rf"\bld\.{WIDE}", self.ptx))

    @property
    def wide_stores(self) -> int:
        """Number of instructions that store a packet."""
        return len(re.findall(rf"\bst\.{WIDE}", self.ptx))

    @property
    def doubles(self) -> list[str]:
        """The instructions that compute in float64, beyond moving and converting."""
        return COMPUTED.findall(self.ptx)


def build(program: Program, capability: Capability) -> Binary:
    """Compile a program for GPUs of a compute capability.

    Raises whatever the compiler or the assembler raises: on a broken installation, not on a program of ours.
    """
    return assemble(translate(program, capability), capability)


def translate(program: Program, capability: Capability) -> str:
    """PTX that GPUs of a capability can run, the same in every process; its entry has the program's name."""
    major, minor = max(target for target in TARGETS if target <= capability)
    return for_older(written(program), capability).replace(".target sm_75", f".target sm_{major}{minor}")


@lru_cache(1)
def written(program: Program) -> str:
    """PTX of a program for all GPUs: nothing depends on their capability but what ``for_older`` replaces."""
    from .compiler import compile_ptx  # numba-cuda need not be there to import this module

    bounds = (program.threads, program.minimum_blocks)
    ptx: str = compile_ptx(program.function, program.signature, cc=TARGETS[0], launch_bounds=bounds)[0]
    (mangled,) = re.findall(r"\.visible \.entry (\w+)", ptx)
    unused = r"^\.common \.global .+ _ZN08NumbaEnv\w+;\n"  # named anew in each process
    ptx = re.sub(unused, "", ptx, flags=re.MULTILINE).replace(mangled, program.name)
    ptx = re.sub(r"^\.version .+", f".version {VERSION}", ptx, flags=re.MULTILINE)
    ptx = UNROUNDED.sub(r"\1.rn.\2", ptx)
    shared = dict.fromkeys(re.findall(r"_cudapy_smem_\d+", ptx))  # numbered on and on in a process
    numbers = {name: f"shared_{number}" for number, name in enumerate(shared)}
    return re.sub(r"_cudapy_smem_\d+", lambda match: numbers[match[0]], ptx)


def assemble(ptx: str, capability: Capability) -> Binary:
    """Machine code of PTX."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    major, minor = capability
    options = LinkerOptions(arch=f"sm_{major}{minor}", verbose=True)
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    cubin = bytes(linker.link("cubin").code)
    report = linker.get_info_log()

    def number(pattern: str) -> int:
        found = re.search(pattern, report)
        return int(found[1]) if found else UNKNOWN

    spilled = max(number(r"(\d+) bytes spill stores"), number(r"(\d+) bytes spill loads"))
    return Binary(cubin, ptx, number(r"Used (\d+) registers"), spilled, number(r"(\d+) bytes stack frame"))
