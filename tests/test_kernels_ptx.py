"""What the forward kernels become on a GPU, where the simulator cannot look: instructions and their order."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re

import pytest
from numba import cuda

from normspec.runtime.kernels.cuda import build, forward, planes
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
        cuda.compile_ptx(lambda: None, (), cc=(9, 0))
    except Exception as error:
        pytest.skip(f'needs numba-cuda with NVVM, pip install "normspec[cuda13]": {type(error).__name__}: {error}')


@functools.cache
def ptx_of(program: Program, capability: tuple[int, int] = HOPPER) -> str:
    return build.translate(program, capability)


def resident(element: str, cluster: int) -> Program:
    return forward.resident(element, VECTORS, True, cluster, 8, 256)


def small_planes(element: str) -> Program:
    return planes.planes(element, VECTORS, planes.group_of(element, 49), planes.ROOMS[0])


PROGRAMS = [
    forward.inference("f32", VECTORS, True),
    forward.statistics("f16", True),
    forward.normalize("bf16", VECTORS, True),
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
def test_float64_occurs_where_statistics_go_out(program: Program) -> None:
    assert build.COMPUTED.findall(ptx_of(program)) in ([], ["add.f64"], ["add.rn.f64"])


def test_normalize_waits_for_the_statistics_before_it_reads_them() -> None:
    """Without that a programmatic launch would read the partial statistics of the call before."""
    ptx = ptx_of(forward.normalize("bf16", VECTORS, True))
    before, after = ptx.split("griddepcontrol.wait")
    assert before.count("ld.global") <= 2, "weight and bias"
    assert "st.global" not in before
    assert "shfl.sync" in after
    assert "griddepcontrol.launch_dependents" in ptx_of(forward.statistics("f16", True))
    for program in (forward.normalize("bf16", VECTORS, True), forward.statistics("f16", True)):
        assert "griddepcontrol" not in ptx_of(program, AMPERE)


def test_a_cluster_meets_before_its_blocks_read_each_other_and_before_they_end() -> None:
    ptx = ptx_of(resident("f16", 16))
    places = r"barrier\.cluster\.\w+\.\w+|ld\.shared::cluster|\bret;"
    found = [match for match in re.findall(places, ptx) if match]
    arrive, wait, leave = (
        "barrier.cluster.arrive.release",
        "barrier.cluster.wait.acquire",
        "barrier.cluster.arrive.relaxed",
    )
    assert found == [arrive, wait, *["ld.shared::cluster"] * 4, leave, wait, "ret;"]
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
    ptx = ptx_of(forward.inference(element, VECTORS, True), capability)
    assert expected in ptx
    assert absent not in ptx


@pytest.mark.parametrize("capability", [TURING, AMPERE, HOPPER, (10, 0)])
def test_a_feature_is_kept_in_registers(capability: tuple[int, int]) -> None:
    binary = build.build(resident("f32", 1), capability)
    assert (binary.spilled, binary.stack) == (0, 0)
    assert (binary.wide_loads, binary.wide_stores) == (8, 8)
    assert binary.registers <= 80, "three blocks of 256 threads share the registers of a multiprocessor"
