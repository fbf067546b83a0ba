"""The machine that runs PTX: what it computes, beside NumPy, and the faults that it finds."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from normspec.runtime.kernels.cuda.primitives import for_older
from ptx.arithmetic import fma, operation
from ptx.machine import launch
from ptx.memory import Fault, Global
from ptx.syntax import parse

MODULE = """
.version 8.0
.target sm_90
.visible .shared .align 8 .b8 shared_0[512];
.visible .entry test(.param .u64 test_param_0, .param .u64 test_param_1)
.maxntid 64, 1, 1
{
    .reg .pred %p<9>;
    .reg .b16 %rs<2>;
    .reg .b32 %r<20>;
    .reg .f32 %f<20>;
    .reg .b64 %rd<20>;
    ld.param.u64 %rd1, [test_param_0];
    ld.param.u64 %rd2, [test_param_1];
    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mul.lo.s32 %r4, %r2, %r3;
    add.s32 %r4, %r4, %r1;          // number of the thread
    mul.wide.u32 %rd5, %r4, 4;
    add.s64 %rd6, %rd3, %rd5;       // its place in x
    add.s64 %rd7, %rd4, %rd5;       // in y
    shl.b32 %r5, %r1, 2;
    cvt.u64.u32 %rd8, %r5;
    mov.u64 %rd9, shared_0;
    add.s64 %rd10, %rd9, %rd8;      // in shared memory
    {body}
    ret;
}
"""


def run(body, x, threads=64, blocks=1, cluster=1, capability=(9, 0)):
    """What the threads of PTX leave in y, one word each."""
    y = np.full(threads * blocks, 0xFFFFFFFF, np.uint32)
    arrays = {array.ctypes.data: array.nbytes for array in (x, y)}

    def allocation(address):
        inside = [(start, size) for start, size in arrays.items() if start <= address < start + size]
        return inside[0] if inside else (address, 0)

    kernel = parse(for_older(MODULE.replace("{body}", body), capability))
    launch(kernel, Global(allocation), (blocks, 1, 1), threads, cluster, [x.ctypes.data, y.ctypes.data])
    return y


WORDS = np.random.default_rng(0).integers(0, 1 << 32, 256, np.uint32)


def test_threads_take_their_own_way():
    """As many rounds as a thread's number; those that are done wait for no one."""
    body = """
        mov.u32 %r6, 0;
        mov.u32 %r7, 0;
        setp.eq.s32 %p1, %r1, 0;
        @%p1 bra $L__END;
    $L__LOOP:
        add.s32 %r7, %r7, 3;
        add.s32 %r6, %r6, 1;
        setp.lt.s32 %p2, %r6, %r1;
        @%p2 bra $L__LOOP;
    $L__END:
        st.global.u32 [%rd7], %r7;
    """
    np.testing.assert_array_equal(run(body, WORDS), 3 * np.arange(64))


def test_shared_memory_goes_around_behind_a_barrier():
    body = """
        ld.global.u32 %r6, [%rd6];
        st.shared.u32 [%rd10], %r6;
        bar.sync 0;
        xor.b32 %r7, %r5, 252;
        ld.shared.u32 %r8, [%r7];
        st.global.u32 [%rd7], %r8;
    """
    np.testing.assert_array_equal(run(body, WORDS), WORDS[63::-1])


PEERS = """
    st.shared.u32 [%rd10], %r4;
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    mov.u32 %r6, %cluster_ctarank;
    xor.b32 %r6, %r6, 1;
    { .reg .b32 a; mapa.shared::cluster.u32 a, %r5, %r6; ld.shared::cluster.u32 %r7, [a]; }
    st.global.u32 [%rd7], %r7;
"""
LEAVE = "barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.acquire.aligned;"


def test_blocks_of_a_cluster_read_each_other():
    y = run(PEERS + LEAVE, WORDS, blocks=4, cluster=2)
    np.testing.assert_array_equal(y.reshape(4, 64), np.arange(256).reshape(4, 64)[[1, 0, 3, 2]])


@pytest.mark.parametrize(
    ("mode", "operand", "source"),
    [
        ("bfly", 5, np.arange(32) ^ 5),
        ("down", 4, np.minimum(np.arange(32) + 4, np.where(np.arange(32) < 28, 99, np.arange(32)))),
        ("idx", 7, np.full(32, 7)),
    ],
)
def test_lanes_exchange(mode, operand, source):
    body = f"shfl.sync.{mode}.b32 %r6, %r1, {operand}, 0x1f, 0xffffffff; st.global.u32 [%rd7], %r6;"
    np.testing.assert_array_equal(run(body, WORDS), np.concatenate([source, source + 32]))


FAULTS = {
    "are in no allocation": "ld.global.u32 %r6, [%rd6+1024];",
    "is not aligned": "ld.global.u32 %r6, [%rd6+2];",
    "two threads write the same global memory": "st.global.u32 [%rd4], %r1;",
    "a thread reads global memory that another one writes": "ld.global.u32 %r6, [%rd4]; st.global.u32 [%rd7], %r1;",
    "outside of shared memory": "st.shared.u32 [%rd10+512], %r1;",
    "read before it is written": "ld.shared.u32 %r6, [%rd10];",
    "reads what another one wrote": "st.shared.u32 [%rd10], %r1; ld.shared.u32 %r6, [shared_0];",
    "two threads write the same shared memory": "st.shared.u32 [shared_0], %r1;",
    "overwrites what another one wrote or reads": """
        st.shared.u32 [%rd10], %r1;
        bar.sync 0;
        ld.shared.u32 %r6, [shared_0+128];
        st.shared.u32 [%rd10], %r6;""",
    "part of a warp is elsewhere": """
        setp.lt.s32 %p1, %r1, 40;
        @%p1 bra $L__PART;
        bra.uni $L__ALL;
    $L__PART:
        shfl.sync.bfly.b32 %r6, %r1, 1, 0x1f, 0xffffffff;
    $L__ALL:
        st.global.u32 [%rd7], %r1;""",
    "wait at different barriers": """
        setp.lt.s32 %p1, %r1, 32;
        @%p1 bra $L__PART;
        bar.sync 0;
        bra.uni $L__ALL;
    $L__PART:
        bar.sync 0;
        mov.u32 %r6, 0;
    $L__ALL:
        st.global.u32 [%rd7], %r1;""",
    "wait for what will never be": "barrier.cluster.wait.acquire.aligned;",
}


@pytest.mark.parametrize("said", FAULTS)
def test_what_a_kernel_must_not_do_is_found(said):
    with pytest.raises(Fault, match=said):
        run(FAULTS[said], WORDS)


def test_a_block_stays_for_those_who_read_it():
    with pytest.raises(Fault, match="ends while another one may read its shared memory"):
        run(PEERS, WORDS, blocks=2, cluster=2)


def test_a_product_is_added_before_it_is_rounded():
    a, c = np.float32(1 + 2.0**-12), np.float32(-(1 + 2.0**-11))
    assert fma(a, a, c) == np.float32(2.0**-24)
    wide = np.float64(1 + 2.0**-30), np.float64(-(1 + 2.0**-29))
    assert fma(wide[0], wide[0], wide[1]) == 2.0**-60


APPROXIMATE = {
    "rcp.approx.f32": (np.float32, lambda x: 1 / x, 2.0**-24, 2.0**-23),
    "rsqrt.approx.f32": (np.float32, lambda x: 1 / np.sqrt(x), 2.0**-24, 2.0**-23),
    "rcp.approx.ftz.f64": (np.float64, lambda x: 1 / x, 2.0**-21, 2.0**-19),
}


@pytest.mark.parametrize("opcode", APPROXIMATE)
def test_approximations_are_off_and_not_by_more_than_they_may(opcode):
    dtype, function, least, most = APPROXIMATE[opcode]
    x = np.random.default_rng(0).uniform(1e-3, 1e3, 4096).astype(dtype)
    exact = function(x.astype(np.longdouble))
    assert least < np.abs(operation(opcode).compute(x) / exact - 1).max() < most


def edges(dtype):
    """float32 numbers: every one of 16 bits, halfway to the next, and beside halfway."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(np.float32)
    with np.errstate(all="ignore"):
        halfway = (numbers + np.nextafter(numbers.astype(dtype), dtype(np.inf)).astype(np.float32)) / 2
    return np.concatenate([numbers, halfway, *(np.nextafter(halfway, np.float32(end)) for end in (-np.inf, np.inf))])


@pytest.mark.parametrize("capability", [(9, 0), (7, 5)])
@pytest.mark.parametrize(("element", "dtype"), [("f16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_numbers_are_rounded_to_16_bits_as_numpy_does(element, dtype, capability):
    """One at a time and in pairs; GPUs before 8.0 lack the instructions, and do several others instead."""
    x = edges(dtype)
    with np.errstate(all="ignore"):
        wanted = x.astype(dtype).astype(np.float32)
    single = f"ld.global.f32 %f1, [%rd6]; cvt.rn.{element}.f32 %rs1, %f1; st.global.u16 [%rd7], %rs1;"
    pair = f"""
        ld.global.f32 %f1, [%rd6];
        mov.f32 %f2, 0f3FC00000;
        cvt.rn.{element}x2.f32 %r6, %f1, %f2;
        st.global.u32 [%rd7], %r6;"""
    alone, both = (run(body, x, 256, x.size // 256, capability=capability).view(dtype) for body in (single, pair))
    for found in (alone[::2], both[1::2]):
        np.testing.assert_array_equal(found.astype(np.float32), wanted)
    np.testing.assert_array_equal(both[::2].astype(np.float32), np.full(x.size, 1.5))
