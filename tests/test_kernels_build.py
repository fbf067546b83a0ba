"""Programs are compiled and assembled without a GPU, and what is said of the result is true."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from numba import cuda, types

from normspec.runtime.kernels.cuda import build
from normspec.runtime.kernels.cuda.program import Program

REAL = types.CPointer(types.float32)


@pytest.fixture(scope="module", autouse=True)
def compiler():
    """Skip where CUDA kernels cannot be compiled; neither a GPU nor a driver is needed for that."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0":
        pytest.skip("the simulator compiles nothing")
    try:
        importlib.metadata.version("numba-cuda")
        from normspec.runtime.kernels.cuda.compiler import compile_ptx

        compile_ptx(lambda: None, (), cc=(9, 0))
    except Exception as error:
        pytest.skip(f'needs numba-cuda with NVVM, pip install "normspec[cuda13]": {type(error).__name__}: {error}')


def double(x, y):
    i = cuda.threadIdx.x
    y[i] = x[i] + x[i]


def promote(x, y):
    i = cuda.threadIdx.x
    y[i] = x[i] * 0.1


def hoard(x, y):
    """More numbers than a thread has registers, all alive at once."""
    kept = cuda.local.array(300, np.float32)
    for i in range(300):
        kept[i] = x[i * 32]
    cuda.syncthreads()
    for i in range(300):
        y[i * 32] = kept[i]


def program(function, threads=128, signature=(REAL, REAL)):
    return Program(f"{function.__name__}_f32", function, signature, threads)


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (12, 0)])
def test_machine_code_for_every_capability(capability):
    binary = build.build(program(double), capability)
    assert binary.cubin.startswith(b"\x7fELF")
    assert b".text.double_f32\0" in binary.cubin
    assert 4 < binary.registers < 32
    assert (binary.spilled, binary.stack, binary.wide_loads, binary.wide_stores, binary.doubles) == (0, 0, 0, 0, [])


def test_the_ptx_is_for_the_newest_target_that_the_gpu_runs():
    targets = {(7, 5): 75, (8, 0): 80, (8, 9): 80, (9, 0): 90, (12, 0): 90}
    for capability, target in targets.items():
        assert f".target sm_{target}\n" in build.translate(program(double), capability)


def test_the_ptx_is_of_a_version_that_old_assemblers_know():
    for capability in ((7, 5), (9, 0)):
        assert re.findall(r"^\.version (.+)$", build.translate(program(double), capability), re.MULTILINE) == ["8.0"]


def test_the_launch_bound_is_in_the_ptx():
    ptx = build.translate(program(double)._replace(threads=96, minimum_blocks=3), (8, 0))
    assert ".maxntid 96" in ptx
    assert ".minnctapersm 3" in ptx


def test_the_same_program_gives_the_same_code():
    assert build.build(program(double), (9, 0)) == build.build(program(double), (9, 0))


WITHOUT_ROW_STACK = """
import numpy
if hasattr(numpy, "row_stack"):  # NumPy 2.5 has none
    del numpy.row_stack
    numpy.__all__.remove("row_stack")
from normspec.runtime.kernels.cuda import build, forward
assert "st.global" in build.written(forward.inference("f32", ("f32",) * 4, 4))
assert not hasattr(numpy, "row_stack")
"""


def test_what_numba_misses_in_numpy_does_not_stop_it():
    subprocess.run([sys.executable, "-c", WITHOUT_ROW_STACK], check=True)


def test_arithmetic_in_float64_is_found():
    assert build.build(program(promote), (9, 0)).doubles == ["mul.rn.f64"]


def test_registers_that_do_not_fit_are_found():
    binary = build.build(program(hoard), (9, 0))
    assert binary.spilled + binary.stack > 0


WIDE = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry wide(.param .u64 p)
{
    .reg .b64 %a, %d<4>;
    .reg .b32 %r<4>;
    .reg .f32 %f<4>;
    ld.param.u64 %a, [p];
    ld.global.nc.L1::no_allocate.v4.f32 {%f0, %f1, %f2, %f3}, [%a];
    ld.global.v2.b64 {%d0, %d1}, [%a+16];
    ld.global.v2.f32 {%f0, %f1}, [%a+32];
    st.global.cs.v4.b32 [%a+48], {%r0, %r1, %r2, %r3};
    st.global.v4.f32 [%a+64], {%f0, %f1, %f2, %f3};
    st.global.f32 [%a+80], %f0;
    ret;
}
"""


def test_accesses_of_128_bits_are_counted():
    binary = build.assemble(WIDE, (9, 0))
    assert (binary.wide_loads, binary.wide_stores) == (2, 2)
