"""From arrays to launches on a driver that runs nothing: ``test_kernels_launch.py`` runs this file with that driver."""

from __future__ import annotations

import ctypes
import struct
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from cuda.core._utils.cuda_utils import CUDAError
from numba import types

from normspec.runtime.kernels import cuda
from normspec.runtime.kernels.cuda import cache, device
from normspec.runtime.kernels.cuda.program import Program
from stub import Driver

F32 = types.CPointer(types.float32)


@pytest.fixture(scope="session")
def library():
    return Driver()


@pytest.fixture
def driver(library):
    library.clear()
    yield library
    library.fail(0)
    library.quiet(False)


def scale(x, y, size, factor):
    for index in range(size):
        y[index] = x[index] * factor


TOY = Program("toy", scale, (F32, F32, types.int64, types.float32), 128)


def test_the_stub_is_a_gpu():
    assert cuda.available()
    assert cuda.describe().startswith("stub, compute capability 9.0, numba-cuda ")
    assert device.gpu(0).multiprocessors == 132
    assert device.gpu(0).shared == 232448


def test_a_launch_is_what_was_asked_for(driver):
    program = TOY._replace(name="toy_cluster", cluster=16, dynamic=100_000)
    kernel = device.gpu(0).launcher(program, (32, 5), serialized=True)
    driver.expect("toy_cluster", program.signature)
    kernel(0x1230, 0x7F00_0000_0000, 0x7F00_0000_1000, 2**40, np.float32(1.5))
    (launch,) = driver.launches()
    bits = struct.unpack("I", struct.pack("f", 1.5))[0]
    assert launch == (
        "toy_cluster", (32, 5, 1), 128, 100_000, 16, True, 0x1230, (0x7F00_0000_0000, 0x7F00_0000_1000, 2**40, bits)
    )  # fmt: skip
    attributes = [line for line in driver.lines() if line.startswith("attribute")]
    assert attributes == ["attribute 8 100000", "attribute 14 1"], "opt in to shared memory and large clusters"


def test_a_program_is_loaded_once(driver, monkeypatch):
    first = device.gpu(0).launcher(TOY, (1,))
    monkeypatch.setattr(cache, "cubin", lambda *_: pytest.fail("loaded again"))
    device.gpu(0).launcher(TOY, (7,))(0, 1, 2, 3, np.float32(4))
    first(0, 1, 2, 3, np.float32(4))
    assert [launch.grid for launch in driver.launches()] == [(7, 1, 1), (1, 1, 1)]


def test_memory_comes_and_goes(driver):
    before = driver.blocks()
    host = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    there = cuda.to_device(host[:, ::-1])
    np.testing.assert_array_equal(there.copy_to_host(), host[:, ::-1])
    other = cuda.empty_like(there)
    other.copy_to_device(there)
    np.testing.assert_array_equal(cuda.to_host(other), host[:, ::-1])
    assert driver.blocks() == before + 2
    del there, other
    assert driver.blocks() == before, "memory is freed with the arrays"


def test_out_of_memory_is_said(driver):
    driver.fail(2)
    with pytest.raises(CUDAError, match="unable to allocate enough memory"):
        cuda.empty((3,), np.float32)


def test_the_array_interface_goes_out_and_comes_in():
    there = cuda.to_device(np.ones((2, 3), np.float32))
    interface = there.__cuda_array_interface__
    assert interface == {
        "shape": (2, 3),
        "strides": None,
        "typestr": "<f4",
        "data": (there.pointer, False),
        "version": 3,
        "stream": 1,
    }
    back = cuda.asarray(Foreign(interface, there))
    assert (back.pointer, back.shape, back.strides, back.dtype) == (there.pointer, (2, 3), (12, 4), np.float32)
    assert (back.device, back.stream, back.readonly) == (0, 0, False)
    assert cuda.asarray(there) is there


class Foreign:
    """A foreign array."""

    def __init__(self, interface, owner=None, **changes):
        self.__cuda_array_interface__ = interface | changes
        self.owner = owner

    __cuda_array_interface__ = None  # asarray looks for it in the type


def foreign(array, **changes):
    return Foreign(array.__cuda_array_interface__, array, **changes)


@pytest.mark.parametrize(("stream", "handle"), [(None, 0), (1, 0), (2, 2), (0x5550, 0x5550)])
def test_a_foreign_stream_is_kept(stream, handle):
    there = cuda.to_device(np.ones(3, np.float32))
    assert cuda.asarray(foreign(there, stream=stream)).stream == handle


def test_foreign_strides_and_readonly_memory():
    there = cuda.to_device(np.ones((4, 6), np.float32))
    given = cuda.asarray(foreign(there, shape=(2, 3), strides=(48, 8), data=(there.pointer, True)))
    assert (given.strides, given.readonly) == ((48, 8), True)
    reverse = cuda.asarray(foreign(there, shape=(4, 6), strides=(-24, 4), data=(there.pointer + 72, False)))
    assert reverse.strides == (-24, 4)


def test_memory_that_is_not_there_is_refused(driver):
    host = np.ones(3, np.float32)
    there = cuda.to_device(host)
    interface = there.__cuda_array_interface__
    with pytest.raises(ValueError, match=r"expected memory of a GPU, found pointer 0x.* of the host or was freed"):
        cuda.asarray(Foreign(interface | {"data": (host.ctypes.data, False)}))
    with pytest.raises(ValueError, match=r"expected 16 bytes for shape \(4,\), found an allocation of 12"):
        cuda.asarray(foreign(there, shape=(4,)))
    with pytest.raises(ValueError, match=r"expected 20 bytes for shape \(3,\), found an allocation of 12"):
        cuda.asarray(foreign(there, strides=(8,)))
    del there
    with pytest.raises(ValueError, match="was freed"):
        cuda.asarray(Foreign(interface))


@pytest.mark.parametrize("typestr", ["<i4", "<c8", "|b1", "<u4"])
def test_elements_that_are_no_floating_point_numbers_are_refused(typestr):
    there = cuda.to_device(np.ones(3, np.float64))
    with pytest.raises(TypeError, match="expected elements of float16, float32, float64, bfloat16, found"):
        cuda.asarray(foreign(there, typestr=typestr))


@pytest.mark.parametrize("value", [np.ones(3), [1.0], 3, None, "x"])
def test_what_is_not_on_a_gpu_is_refused(value):
    with pytest.raises((TypeError, ValueError), match=r"(on|of) a GPU"):
        cuda.asarray(value)


class Struct(ctypes.Structure):
    """DLPack's DLManagedTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


class Producer:
    """An array that only speaks DLPack."""

    def __init__(self, array, code=2, bits=32):
        self.array, self.streams = array, []
        self.sizes = (ctypes.c_int64 * array.ndim)(*array.shape)
        self.struct = Struct(array.pointer, 2, 0, array.ndim, code, bits, 1, self.sizes, None, 0, None, None)

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, *, stream=None, max_version=None, **_):
        self.streams.append(stream)
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return make(ctypes.addressof(self.struct), b"dltensor", None)


def test_dlpack_comes_in_on_the_default_stream():
    there = cuda.to_device(np.ones((2, 3), np.float32))
    producer = Producer(there)
    given = cuda.asarray(producer)
    assert (given.pointer, given.shape, given.strides, given.dtype) == (there.pointer, (2, 3), (12, 4), np.float32)
    assert producer.streams == [1]
    assert given.stream == 0
    with pytest.raises(TypeError, match="expected elements of float16"):
        cuda.asarray(Producer(there, code=0))


def test_dlpack_carries_bfloat16():
    there = cuda.to_device(np.ones((2, 3), np.uint16))
    assert cuda.asarray(Producer(there, code=4, bits=16)).dtype == np.uint16


def test_another_thread_can_launch(driver):
    kernel = device.gpu(0).launcher(TOY, (1,))
    failures = []

    def work():
        try:
            assert not device.gpu(0).is_current()
            with device.gpu(0).current():
                kernel(0, 1, 2, 3, np.float32(4))
        except BaseException as problem:
            failures.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures
    assert len(driver.launches()) == 1


# -- machine code on disk


@pytest.fixture
def builds(tmp_path, monkeypatch):
    """An empty folder, and a log of what is built."""
    from normspec.runtime.kernels.cuda import build

    monkeypatch.setenv("NORMSPEC_CACHE", str(tmp_path / "cache"))
    log = []

    def fake(program, capability):
        log.append(program.name)
        return SimpleNamespace(cubin=b"\x7fELF" + program.name.encode() * 100)

    monkeypatch.setattr(build, "build", fake)
    return log


def test_code_is_built_once(builds):
    code = cache.cubin(TOY, (9, 0))
    assert cache.cubin(TOY, (9, 0)) == code == b"\x7fELF" + b"toy" * 100
    assert builds == ["toy"]
    (file,) = cache.folder().iterdir()
    assert file.name.startswith("toy-sm90-")


def test_code_is_of_one_capability_and_one_state_of_the_sources(builds, monkeypatch):
    cache.cubin(TOY, (9, 0))
    cache.cubin(TOY, (8, 0))
    monkeypatch.setattr(cache, "digest", lambda: "other")
    cache.cubin(TOY, (9, 0))
    assert len(builds) == 3


def test_the_digest_sees_sources_and_versions(monkeypatch):
    digest = cache.digest.__wrapped__
    first = digest()
    assert digest() == first
    monkeypatch.setattr(cache, "version", lambda name: "0")
    assert digest() != first
    monkeypatch.undo()
    monkeypatch.setattr(cache, "SOURCES", cache.SOURCES + b" ")
    assert digest() != first


@pytest.mark.parametrize("damage", [b"", b"short", None, "truncated", "flipped"])
def test_a_damaged_file_is_built_anew(builds, damage):
    code = cache.cubin(TOY, (9, 0))
    (file,) = cache.folder().iterdir()
    content = file.read_bytes()
    if damage is None:
        file.unlink()
        file.mkdir()  # a folder where a file should be
    elif isinstance(damage, bytes):
        file.write_bytes(damage)
    else:
        file.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    assert cache.cubin(TOY, (9, 0)) == code
    assert len(builds) == 2


def test_a_file_that_the_driver_refuses_is_built_anew(builds, driver, monkeypatch):
    program = TOY._replace(name="refused")
    with monkeypatch.context() as patch:
        from normspec.runtime.kernels.cuda import build

        patch.setattr(build, "build", lambda *_: SimpleNamespace(cubin=b"not an ELF, whole though"))
        cache.cubin(program, (9, 0))
    device.gpu(0).launcher(program, (1,))
    assert builds == ["refused"]


def test_a_folder_that_cannot_be_written_does_no_harm(builds, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NORMSPEC_CACHE", str(tmp_path / "file" / "cache"))
    assert cache.cubin(TOY, (9, 0)) == cache.cubin(TOY, (9, 0))
    assert len(builds) == 2


def test_writers_do_not_disturb_each_other(builds):
    results = []
    threads = [threading.Thread(target=lambda: results.append(cache.cubin(TOY, (9, 0)))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 16
    assert len(set(results)) == 1
    assert len(list(cache.folder().iterdir())) == 1, "no temporary file is left"
