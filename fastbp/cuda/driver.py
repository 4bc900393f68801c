"""The CUDA driver: the only place that talks to it, through cuda.bindings.

Nothing but `fetch` waits for a GPU or copies from one. Contexts are the primary ones, which CuPy,
PyTorch and Numba use, too.
"""

import contextlib
import ctypes
import struct
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from .compiler import INSTALL, MissingCudaError

MOST_ARGUMENTS = 64  # of a kernel


class Device(NamedTuple):
    """A GPU: its number, its compute capability, and what is asked of it before a launch."""

    number: int
    capability: tuple[int, int]
    chip: int  # bytes of the chip's memory that a block can have
    multiprocessors: int

    @property
    def architecture(self) -> str:
        """As assemblers call it; from Hopper on with all that this very one can do."""
        major, minor = self.capability
        return f"sm_{major}{minor}{'a' if major >= 9 else ''}"


class _Room(threading.local):
    """Where a thread puts a kernel's arguments; the driver copies them before a launch returns."""

    def __init__(self) -> None:
        self.words = (ctypes.c_uint64 * MOST_ARGUMENTS)()
        start = ctypes.addressof(self.words)
        self.pointers = (ctypes.c_void_p * MOST_ARGUMENTS)(
            *(start + 8 * i for i in range(MOST_ARGUMENTS))
        )
        self.address = ctypes.addressof(self.pointers)


_room = _Room()


@cache
def _driver() -> Any:
    """The module of the driver's functions, ready to be called."""
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise MissingCudaError(f"computing on a GPU needs numba-cuda: {INSTALL}") from error
    try:
        (error_code,) = driver.cuInit(0)
    except RuntimeError as error:  # there is no such library
        raise MissingCudaError(f"there is no driver of an NVIDIA GPU: {error}") from error
    if error_code != 0:
        raise MissingCudaError(f"no NVIDIA GPU can be used: {_name_of(error_code)}")
    return driver


def _name_of(error_code: Any) -> str:
    """What the driver calls an error."""
    return str(getattr(error_code, "name", error_code))


def _checked(result: tuple[Any, ...]) -> Any:
    """What a function of the driver returned beside its error, if it had none."""
    error_code, *values = result
    if error_code != 0:
        raise RuntimeError(f"the CUDA driver says {_name_of(error_code)}")
    return values[0] if values else None


@cache
def device(index: int) -> Device:
    """What is to be known about a GPU."""
    cuda = _driver()
    handle = _checked(cuda.cuDeviceGet(index))
    kinds = cuda.CUdevice_attribute

    def attribute(name: str) -> int:
        kind = getattr(kinds, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(_checked(cuda.cuDeviceGetAttribute(kind, handle)))

    return Device(
        index,
        (attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")),
        attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
        attribute("MULTIPROCESSOR_COUNT"),
    )


def device_of(address: int) -> int:
    """The number of the GPU in whose memory an address is."""
    cuda = _driver()
    kind = cuda.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return int(_checked(cuda.cuPointerGetAttribute(kind, address)))


@cache
def _context(index: int) -> Any:
    """A GPU's primary context, kept until the process ends."""
    cuda = _driver()
    return _checked(cuda.cuDevicePrimaryCtxRetain(_checked(cuda.cuDeviceGet(index))))


@contextlib.contextmanager
def _on(index: int) -> Iterator[Any]:
    """With that GPU's context being this thread's."""
    cuda, wanted = _driver(), _context(index)
    if int(_checked(cuda.cuCtxGetCurrent())) == int(wanted):
        yield cuda
        return
    _checked(cuda.cuCtxPushCurrent(wanted))
    try:
        yield cuda
    finally:
        _checked(cuda.cuCtxPopCurrent())


class Function(NamedTuple):
    """A kernel in a GPU's memory, and how its arguments are packed."""

    handle: Any
    arguments: struct.Struct
    device: int


def load(cubin: bytes, name: str, index: int, chip: int, layout: str) -> Function:
    """Bring machine code to a GPU, where its blocks may have so many bytes on the chip.

    The layout has a letter of `struct` for each argument.
    """
    if len(layout) > MOST_ARGUMENTS:
        raise ValueError(f"{name} has {len(layout)} arguments; expected {MOST_ARGUMENTS} at most")
    with _on(index) as cuda:
        module = _checked(cuda.cuModuleLoadData(cubin))  # for as long as the process lives
        handle = _checked(cuda.cuModuleGetFunction(module, name.encode()))
        kind = cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _checked(cuda.cuFuncSetAttribute(handle, kind, chip))
    packed = "".join({"f": "f4x"}.get(letter, letter) for letter in layout)
    return Function(handle, struct.Struct(f"<{packed}"), index)


def launch(
    function: Function, blocks: int, threads: int, chip: int, stream: int, words: Sequence[Any]
) -> None:
    """Have a kernel run after all that its stream was given before."""
    room = _room
    function.arguments.pack_into(room.words, 0, *words)
    shape = (blocks, 1, 1, threads, 1, 1, chip, stream, room.address, 0)
    cuda = _driver()
    error_code, context = cuda.cuCtxGetCurrent()
    if error_code == 0 and int(context) == int(_context(function.device)):  # as nearly always
        result = cuda.cuLaunchKernel(function.handle, *shape)
    else:
        with _on(function.device):
            result = cuda.cuLaunchKernel(function.handle, *shape)
    _checked(result)


def fetch(address: int, size: int, stream: int, index: int) -> bytes:
    """Some bytes of a GPU's memory, once the stream has done all that it was given so far."""
    room = ctypes.create_string_buffer(size)
    with _on(index) as cuda:
        _checked(cuda.cuMemcpyDtoHAsync(ctypes.addressof(room), address, size, stream))
        _checked(cuda.cuStreamSynchronize(stream))
    return room.raw


def follow(later: int, earlier: int, index: int) -> None:
    """What one stream is given from now on waits for all that another one was given so far."""
    with _on(index) as cuda:
        no_times = cuda.CUevent_flags.CU_EVENT_DISABLE_TIMING.value
        event = _checked(cuda.cuEventCreate(no_times))
        try:
            _checked(cuda.cuEventRecord(event, earlier))
            _checked(cuda.cuStreamWaitEvent(later, event, 0))
        finally:
            _checked(cuda.cuEventDestroy(event))  # once it has happened


class Memory:
    """Some bytes of a GPU's memory, given back when nobody has this object any more.

    They may be used by what the stream is given meanwhile.
    """

    def __init__(self, size: int, index: int, stream: int) -> None:
        self.index, self.stream, self.address = index, stream, 0
        if size:
            with _on(index) as cuda:
                self.address = int(_checked(cuda.cuMemAllocAsync(size, stream)))

    def __del__(self) -> None:
        if self.address:
            with contextlib.suppress(Exception), _on(self.index) as cuda:
                cuda.cuMemFreeAsync(self.address, self.stream)
