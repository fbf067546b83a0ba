"""What the forward kernels become on a GPU, where the simulator cannot look: instructions and their order."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from normspec.runtime.kernels.cuda import (
    build,
    columns,
    columns_backward,
    features_backward,
    forward,
    planes,
    primitives,
)
from normspec.runtime.kernels.cuda.program import Program

VECTORS = ("f32",) * 4
HOPPER, AMPERE, TURING = (9, 0), (8, 0), (7, 5)


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    """Skip where CUDA kernels cannot be compiled; neither a GPU nor a driver is needed for that."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0":
        pytest.skip("the simulator compiles nothing")
    try:
        importlib.metadata.version("numba-cuda")
        from normspec.runtime.kernels.cuda.compiler import compile_ptx

        compile_ptx(lambda: None, (), cc=(9, 0))
    except Exception as error:
        pytest.skip(f'needs numba-cuda with NVVM, pip install "normspec[cuda13]": {type(error).__name__}: {error}')


@functools.cache
def ptx_of(program: Program, capability: tuple[int, int] = HOPPER) -> str:
    return build.translate(program, capability)


def resident(element: str, cluster: int) -> Program:
    return forward.resident(element, VECTORS, primitives.ELEMENTS[element].width, cluster, 8, 256)


def small_planes(element: str) -> Program:
    return planes.planes(element, VECTORS, planes.group_of(element, 49))


PROGRAMS = [
    forward.inference("f32", VECTORS, 4),
    forward.statistics("f16", 8),
    forward.normalize("bf16", VECTORS, 8),
    resident("f32", 1),
    resident("f16", 16),
    small_planes("bf16"),
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_kernels_call_nothing_and_keep_their_arrays_in_registers(program: Program) -> None:
    """Exact division and square root of float32 would become calls in machine code."""
    ptx = ptx_of(program)
    assert "call" not in ptx
    assert ".local" not in ptx
    assert not re.findall(r"\b(?:div|sqrt|rcp)\.rn|\b(?:div|rem)\.s64|\.ftz", ptx)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_sum_and_product_is_rounded(program: Program) -> None:
    """Others the assembler may fuse, and a GPU would compute what no test has seen."""
    found = set(re.findall(r"\b(?:add|sub|mul)[.\w]*\.f(?:32|64)\b", ptx_of(program)))
    assert found
    assert [one for one in found if ".rn." not in one] == []


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_float64_occurs_where_statistics_go_out(program: Program) -> None:
    assert build.COMPUTED.findall(ptx_of(program)) in ([], ["add.rn.f64"])


FIRST = [
    forward.statistics("f16", 8),
    features_backward.sums("f32", "f32", 4, False),
    columns.statistics("f32", 4),
    columns_backward.sums("f32", "f32", 4, False),
]
SECOND = [
    forward.moments("f32"),
    forward.normalize("bf16", VECTORS, 8),
    features_backward.gradient("f32", "f32", 4),
    columns.moments("f32", 4),
    columns.normalize("f32", VECTORS, 4),
    columns_backward.gradient("f32", "f32", 4),
]


@pytest.mark.parametrize("program", SECOND, ids=lambda program: program.name)
def test_a_second_launch_waits_for_the_first_before_it_reads_what_that_wrote(program: Program) -> None:
    """Without that a programmatic launch would read the partial statistics of the call before."""
    before, after = ptx_of(program).split("griddepcontrol.wait")
    assert before.count("ld.global") <= 2, "weight and bias"
    assert "st.global" not in before
    assert "ld.global" in after
    assert "griddepcontrol" not in ptx_of(program, AMPERE)


@pytest.mark.parametrize("program", FIRST, ids=lambda program: program.name)
def test_a_first_launch_lets_the_second_begin(program: Program) -> None:
    assert ptx_of(program).count("griddepcontrol.launch_dependents") == 1
    assert "griddepcontrol" not in ptx_of(program, AMPERE)


@pytest.mark.parametrize(
    ("program", "numbers"),
    [(resident("f16", 16), 4), (features_backward.resident("f16", "f32", 8, 16, 4, 256), 5)],
    ids=["forward", "backward"],
)
def test_a_cluster_meets_before_its_blocks_read_each_other_and_before_they_end(program: Program, numbers: int) -> None:
    """A relaxed arrival waits for no load: what was read of a peer must have been used, by a shuffle."""
    ptx = ptx_of(program)
    found = re.findall(r"barrier\.cluster\.\w+\.\w+|ld\.shared::cluster|\bret;", ptx)
    arrive, wait, leave = (
        "barrier.cluster.arrive.release",
        "barrier.cluster.wait.acquire",
        "barrier.cluster.arrive.relaxed",
    )
    assert found == [arrive, wait, *["ld.shared::cluster"] * numbers, leave, wait, "ret;"]
    assert "shfl.sync" in ptx[ptx.rindex("ld.shared::cluster") : ptx.index(leave)]
    assert "cluster" not in ptx_of(resident("f32", 1))


@pytest.mark.parametrize(
    ("element", "capability", "expected", "absent"),
    [
        ("bf16", HOPPER, "cvt.rn.bf16x2.f32", "cvt.rn.bf16.f32"),
        ("f16", HOPPER, "cvt.rn.f16x2.f32", "cvt.rn.f16.f32"),
        ("bf16", TURING, "0x7fff", "cvt.rn.bf16"),
        ("f16", TURING, "cvt.rn.f16.f32", "cvt.rn.f16x2"),
    ],
)
def test_rounding_to_16_bits(element: str, capability: tuple[int, int], expected: str, absent: str) -> None:
    """Turing knows no bfloat16, and rounds one number at a time."""
    width = primitives.ELEMENTS[element].width
    ptx = ptx_of(forward.inference(element, VECTORS, width), capability)
    assert expected in ptx
    assert absent not in ptx


@pytest.mark.parametrize("program", [PROGRAMS[2], PROGRAMS[4], PROGRAMS[5]], ids=lambda program: program.name)
def test_the_compiler_does_not_look_at_the_capability(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """PTX that is written once for all is what each would get."""
    oldest = build.written.__wrapped__(program)
    monkeypatch.setattr(build, "TARGETS", (HOPPER,))
    assert build.written.__wrapped__(program).replace(".target sm_90", ".target sm_75") == oldest


@pytest.mark.parametrize(("instruction", "results"), [("cvt.rn.bf16x2.f32", 2), ("cvt.rn.bf16.f32", 1)])
def test_bfloat16_before_ampere(instruction: str, results: int) -> None:
    """What Turing does instead, run here, rounds as NumPy's bfloat16 does."""
    numbers = np.random.default_rng(0).integers(0, 1 << 32, 4000, np.uint32)
    numbers[:8] = [0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 0x3F808000, 0x3F818000, 0x7F7FFFFF]
    first, second = numbers.view(np.float32).reshape(2, -1)
    if results == 2:
        registers = {"%f1": second, "%f0": first}
        ptx = primitives.for_older(f"{instruction} %r0, %f1, %f0;", TURING)
        found = simulated(ptx, registers)["%r0"]
        found = np.stack([found & np.uint32(0xFFFF), found >> np.uint32(16)]).astype(np.uint16)
    else:
        found = simulated(primitives.for_older(f"{instruction} %rs0, %f0;", TURING), {"%f0": first})["%rs0"]
    with np.errstate(invalid="ignore"):  # signalling NaNs
        expected = np.stack([first, second])[:results].astype(ml_dtypes.bfloat16)
    found = found.reshape(results, -1).view(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    there = ~np.isnan(expected)
    np.testing.assert_array_equal(found[there].view(np.uint16), expected[there].view(np.uint16))


def simulated(ptx: str, registers: dict[str, Any]) -> dict[str, Any]:
    """Run straight PTX on arrays."""
    u = np.uint32

    def shuffled(a: Any, b: Any, selector: int) -> Any:
        pair = a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32)
        parts = [pair >> np.uint64(8 * (selector >> 4 * i & 7)) & np.uint64(255) for i in range(4)]
        return sum(part << np.uint64(8 * i) for i, part in enumerate(parts)).astype(u)

    rules: dict[str, Any] = {
        "mov.b32": lambda a: a.view(u),
        "bfe.u32": lambda a, start, length: a >> u(start) & u((1 << length) - 1),
        "add.u32": lambda a, b: a + u(b),
        "shr.u32": lambda a, b: a >> u(b),
        "setp.nan.f32": lambda a, b: np.isnan(a) | np.isnan(b),
        "selp.b32": lambda a, b, choice: np.where(choice, u(a), b),
        "cvt.u16.u32": lambda a: a.astype(np.uint16),
        "prmt.b32": shuffled,
    }
    for line in ptx.strip("{ }").split(";"):
        name, _, rest = line.strip().partition(" ")
        if name and not name.startswith("."):
            target, *operands = (one.strip() for one in rest.split(","))
            registers[target] = rules[name](*(registers[one] if one in registers else int(one, 0) for one in operands))
    return registers


def test_shuffles_are_no_calls_where_threads_may_diverge() -> None:
    """Before Hopper a shuffle after a branch was one, and registers went to memory."""
    program = features_backward.resident("f32", "f32", 4, 1, 8, 512)
    binary = build.build(program, AMPERE)
    assert (binary.spilled, binary.stack) == (0, 0)


@pytest.mark.parametrize("capability", [TURING, AMPERE, HOPPER, (10, 0)])
def test_a_feature_is_kept_in_registers(capability: tuple[int, int]) -> None:
    binary = build.build(resident("f32", 1), capability)
    assert (binary.spilled, binary.stack) == (0, 0)
    assert (binary.wide_loads, binary.wide_stores) == (8, 8)
    assert binary.registers <= 80, "three blocks of 256 threads share the registers of a multiprocessor"
