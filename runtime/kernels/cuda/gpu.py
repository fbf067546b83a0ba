"""One GPU through cuda.core: its memory, its streams, and the kernels that were loaded on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy.typing as npt
from cuda.bindings import driver
from cuda.core import Device, LaunchConfig, ObjectCode, Stream, launch

from . import cache
from .program import Program

_POINTER = driver.CUpointer_attribute
_ATTRIBUTES = [
    _POINTER.CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
    _POINTER.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
    _POINTER.CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
    _POINTER.CU_POINTER_ATTRIBUTE_RANGE_SIZE,
]
_ON_DEVICE = driver.CUmemorytype.CU_MEMORYTYPE_DEVICE, driver.CUmemorytype.CU_MEMORYTYPE_UNIFIED
_CLUSTER = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
PORTABLE = 8  # blocks of a cluster, likewise
LARGEST = {(9, 0): 16, (10, 0): 16, (10, 3): 16}  # blocks of a cluster, by compute capability
EARLY = hasattr(LaunchConfig, "programmatic_stream_serialization")  # since cuda-core 1.2; else a kernel begins later


class Kernel(Protocol):
    """What is left to say of a launch: ``kernel(stream, *arguments)``."""

    def __call__(self, stream: int, *arguments: Any) -> None: ...


class Gpu:
    """A GPU by its number.

    Attributes
    ----------
    capability : (int, int)
        Compute capability, (9, 0) for Hopper.
    multiprocessors : int
        Their number.
    clusters : int
        Blocks that a cluster can have; 1 where there are no clusters.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self._device = Device(index)
        with self.current():
            facts = self._device.properties
            self.capability = tuple(self._device.compute_capability)
            self.multiprocessors = int(facts.multiprocessor_count)
            self.clusters = LARGEST.get(self.capability, PORTABLE) if self.capability >= (9, 0) else 1
            self.name = str(self._device.name)
            self._memory = self._device.memory_resource
        self._streams: dict[int, Stream] = {}
        self._kernels: dict[str, Any] = {}
        self._fits: dict[tuple[str, int], bool] = {}
        self._lock = threading.Lock()

    @staticmethod
    def count() -> int:
        """Number of GPUs."""
        return int(_check(driver.cuDeviceGetCount()))

    @staticmethod
    def allocation(pointer: int) -> tuple[int, int, int]:
        """Device, start and bytes of the allocation that a pointer points into.

        Raises
        ------
        ValueError
            It is not memory of a GPU, or not any more.
        """
        kind, device, start, size = _check(driver.cuPointerGetAttributes(len(_ATTRIBUTES), _ATTRIBUTES, pointer))
        if kind not in _ON_DEVICE:
            raise ValueError(f"expected memory of a GPU, found pointer {pointer:#x}, which is of the host or was freed")
        return int(device), int(start), int(size)

    def is_current(self) -> bool:
        """Does the calling thread work on this GPU?"""
        error, device = driver.cuCtxGetDevice()
        return not error and int(device) == self.index

    @contextmanager
    def current(self) -> Iterator[None]:
        """Let the calling thread work on this GPU, then on the one before again; the first is as good as none."""
        error, before = driver.cuCtxGetDevice()
        self._device.set_current()
        try:
            yield
        finally:
            if error and self.index:
                _check(driver.cuCtxSetCurrent(0))
            elif not error and int(before) != self.index:
                Device(int(before)).set_current()

    def allocate(self, size: int, stream: int) -> tuple[Any, int]:
        """Bytes for work that is queued on a stream: an owner, that frees them in the order of it, and the pointer.

        The calling thread works on this GPU.
        """
        if size == 0:
            return None, 0
        buffer = self._memory.allocate(size, stream=self._streams.get(stream) or self.stream(stream))
        return buffer, int(buffer.handle)

    def upload(self, pointer: int, host: npt.NDArray[Any], stream: int) -> None:
        """Copy contiguous host memory to the device, when all before on the stream is done."""
        if host.nbytes:
            with self.current():
                _check(driver.cuMemcpyHtoDAsync(pointer, host.ctypes.data, host.nbytes, stream))
                _check(driver.cuStreamSynchronize(stream))

    def download(self, pointer: int, host: npt.NDArray[Any], stream: int) -> None:
        """Copy to contiguous host memory, when all before on the stream is done."""
        if host.nbytes:
            with self.current():
                _check(driver.cuMemcpyDtoHAsync(host.ctypes.data, pointer, host.nbytes, stream))
                _check(driver.cuStreamSynchronize(stream))

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy bytes from device to device, queued on the stream."""
        if size:
            with self.current():
                _check(driver.cuMemcpyAsync(target, source, size, stream))

    def stream(self, handle: int) -> Stream:
        """The stream of a raw handle, which somebody else keeps."""
        found = self._streams.get(handle)
        if found is None:
            found = self._streams.setdefault(handle, Stream.from_handle(handle))
        return found

    def order(self, first: int, second: int) -> None:
        """Let what is queued on the second stream from now on wait for what the first one has now."""
        with self.current():
            self.stream(second).wait(self.stream(first))

    def launcher(self, program: Program, grid: tuple[int, ...], serialized: bool = False) -> Kernel:
        """A program with its grid, in blocks, which are a multiple of its cluster along the first axis.

        With ``serialized``, it may begin before the one ahead of it on the stream ends (programmatic dependent launch).
        """
        kernel = self._load(program)
        config = _config(program, grid, serialized and EARLY and self.capability >= (9, 0))
        stream_of = self.stream
        streams = self._streams

        def call(stream: int, *arguments: Any) -> None:
            launch(streams.get(stream) or stream_of(stream), config, kernel, *arguments)

        return call

    def fits(self, program: Program) -> bool:
        """Is there room for a cluster of a program's blocks?

        They run beside each other on neighbouring multiprocessors, of which a GPU, or a part of one, may have too few.
        """
        if program.cluster == 1:
            return True
        key = program.name, program.cluster
        if key not in self._fits:
            config, occupancy = _config(program, (program.cluster,)), self._load(program).occupancy
            with self.current(), suppress(Exception):  # cuda.core raises one of its own if no such cluster can ever be
                self._fits[key] = occupancy.max_active_clusters(config, stream=self._device.default_stream) > 0
        return self._fits.setdefault(key, False)

    def _load(self, program: Program) -> Any:
        with self._lock:
            kernel = self._kernels.get(program.name)
            if kernel is None:
                kernel = self._kernels[program.name] = self._loaded(program)
        return kernel

    def _loaded(self, program: Program) -> Any:
        try:
            kernel = _kernel(cache.cubin(program, self.capability), program.name)
        except Exception:  # of cuda.core: a file whose checksum is right and that this driver does not take
            kernel = _kernel(cache.rebuilt(program, self.capability), program.name)
        if program.cluster > 1 and self.clusters > PORTABLE:
            _check(driver.cuKernelSetAttribute(_CLUSTER, 1, kernel.handle, self.index))
        return kernel


def _config(program: Program, grid: tuple[int, ...], serialized: bool = False) -> LaunchConfig:
    x, *others = grid
    early = {"programmatic_stream_serialization": True} if serialized else {}
    return LaunchConfig(
        grid=(x // program.cluster, *others, 1)[:3],
        cluster=program.cluster if program.cluster > 1 else None,
        block=program.threads,
        **early,
    )


def _kernel(cubin: bytes, name: str) -> Any:
    return ObjectCode.from_cubin(cubin).get_kernel(name)


def _check(result: tuple[Any, ...]) -> Any:
    """What a driver call returned beside its error code, which is raised if it is one."""
    error, *values = result
    if error:
        _, words = driver.cuGetErrorString(error)
        raise RuntimeError(f"CUDA: {error.name}: {words.decode()}")
    return values[0] if len(values) == 1 else values
