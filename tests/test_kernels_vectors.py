"""The machine code of the CPU kernels: the loops that every value goes through have the widest vectors there are."""

from __future__ import annotations

import platform
import re
import subprocess
import sys

import pytest
from llvmlite.binding import get_host_cpu_features

COMPILE = """
import sys
import ml_dtypes, numpy
from normspec.runtime.kernels import cpu, files
files.read = lambda path: None  # what is loaded cannot be looked into
files.write = lambda path, code: None
x, vectors = numpy.ones((2, 1, 3), sys.argv[2]), (numpy.zeros(1), numpy.ones(1))
if sys.argv[1] == "normalize":
    cpu.normalize(x, x, *vectors, None, None, 1.0)
elif sys.argv[1] == "train":
    cpu.forward_training(x, x, None, None, None, None, 1.0, 0.0, False)
else:
    cpu.backward(x, x, x, *vectors, None, True)
print(*getattr(cpu.kernels, sys.argv[1]).inspect_asm().values())
"""
# What a loop has to have in wide registers: how its values come, are computed with, and go.
READ = {"float16": "vcvtph2ps", "bfloat16": "vpmovzxwd", "float32": "vcvtps2pd", "float64": "v"}
WRITE = {
    "float16": "vcvtps2ph",
    "bfloat16": "vpermi2w|vpermt2w|vpmovdw|vpackusdw|vpermq",  # the last after vpshufb, on Zen 3
    "float32": "vcvtpd2ps",
    "float64": "v",
}


def loops(code: str) -> list[str]:
    """The innermost ones: from a label to a jump back to it, without another jump between."""
    lines, labels, found = code.splitlines(), {}, []
    for number, line in enumerate(lines):
        if label := re.match(r"(\.L\w+):", line):
            labels[label[1]] = number
        elif (jump := re.match(r"\tj\w+\t(\.L\w+)", line)) and jump[1] in labels:
            body = lines[labels[jump[1]] + 1 : number]
            if not any(re.match(r"\tj|\.L\w+:", inner) for inner in body):
                found.append("\n".join(body))
    return found


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names of this processor's instructions")
@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [*(("normalize", dtype) for dtype in READ), ("train", "float16"), ("differentiate", "bfloat16")],
)
def test_main_loops_are_of_wide_vectors(kernel: str, dtype: str) -> None:
    features = get_host_cpu_features()
    register = "zmm" if features.get("avx512bw") else "ymm"
    if not (features.get("avx2") and features.get("fma")):
        pytest.skip("a processor without AVX2")
    code = subprocess.run([sys.executable, "-c", COMPILE, kernel, dtype], capture_output=True, text=True, check=True)
    bits = dtype in ("float16", "bfloat16")

    def has(loop: str, instruction: str) -> bool:
        return re.search(rf"\t(?:{instruction})\w*\t.*%{register}", loop) is not None

    second = [
        loop
        for loop in loops(code.stdout)
        if has(loop, READ[dtype]) and has(loop, WRITE[dtype]) and has(loop, rf"vfmadd\d+{'ps' if bits else 'pd'}")
    ]
    assert len(second) >= 4, "across and along, into the cache and past it"
    assert any("vmovnt" in loop for loop in second)
    assert not any("\tcall" in loop for loop in second)
    if kernel != "normalize":
        first = [loop for loop in loops(code.stdout) if has(loop, r"vfmadd\d+pd") and has(loop, "vaddpd")]
        assert len(first) >= 2, "sums across and along, in float64"
