"""Arrays of other libraries that live on a GPU: where their elements are, and what is new of them.

A `View` says it in numbers; a `Library` knows how to look at its own arrays and how to make new
ones, so that what comes back is of the caller's kind. Libraries are asked for what they are when
one of their arrays comes, and never imported before.
"""

import contextlib
import math
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))

Shape = tuple[int, ...]


class View(NamedTuple):
    """An array on a GPU. Strides are in numbers, not in bytes."""

    address: int
    dtype: str
    shape: Shape
    strides: Shape
    device: int  # -1 if nobody knows, as it is empty
    library: "Library"
    owner: Any  # the array itself, which keeps the memory
    stream: int | None = None  # where it is computed; None: where its library computes now
    read_only: bool = False

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    def permuted(self, axes: Shape) -> "View":
        """With its axes in another order."""
        return self._replace(
            shape=tuple(self.shape[a] for a in axes), strides=tuple(self.strides[a] for a in axes)
        )


class Library(NamedTuple):
    """What is to be known about a library of arrays."""

    name: str
    lives_on_device: Callable[[Any], bool]
    view: Callable[[Any, str], View]  # of an array, whose name in messages is given
    current_stream: Callable[[int], int]  # on a device
    empty: Callable[[Shape, str, View], Any]  # a new array beside another one
    empty_like: Callable[[View, str], Any]  # of its shape and, where that is possible, its order
    has_pool: bool = False  # of memory that whoever asks next on a stream gets without waiting


def is_on_device(x: Any) -> bool:
    """Whether x is an array on a GPU. Cheap for what is none."""
    kind: Any = type(x)
    if not _may_be_on_device(kind):
        return "__cuda_array_interface__" in getattr(x, "__dict__", ())
    return library_of(kind).lives_on_device(x)


@lru_cache(maxsize=256)
def _may_be_on_device(kind: type) -> bool:
    return hasattr(kind, "__cuda_array_interface__") or library_of(kind) is not OTHERS


@lru_cache(maxsize=256)
def library_of(kind: type) -> Library:
    """The library whose arrays are of that type, or derived from one of it."""
    for base in kind.__mro__:
        found = LIBRARIES.get(base.__module__.partition(".")[0])
        if found is not None:
            return found
    return OTHERS


def view_of(x: Any, name: str, first: str) -> View:
    """Where the elements of an argument are, which must be on a GPU, as those of `first` are."""
    kind: Any = type(x)
    library = library_of(kind)
    if not library.lives_on_device(x):
        called = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
        raise TypeError(f"{name} is a {called}; expected an array on a GPU, as {first} is")
    return library.view(x, name)


def itemsize(dtype: str) -> int:
    """Bytes of a number in memory."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def in_c_order(shape: Shape) -> Shape:
    """The strides of an array without gaps whose last axis is the nearest."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def strides_in_numbers(strides: Shape, size: int, address: int, name: str) -> Shape:
    """Strides that were given in bytes."""
    found = _divided(strides, size)
    if address % size or found is None:
        raise ValueError(f"{name} has elements at addresses that are no multiples of {size} bytes")
    return found


@lru_cache(maxsize=1024)
def _divided(strides: Shape, size: int) -> Shape | None:
    return None if any(s % size for s in strides) else tuple(s // size for s in strides)


# all that have __cuda_array_interface__ -----------------------------------------------------------


def _has_interface(x: Any) -> bool:
    return hasattr(x, "__cuda_array_interface__")


def view_of_interface(x: Any, name: str) -> View:
    """An array that describes itself."""
    kind: Any = type(x)
    given = x.__cuda_array_interface__
    if given.get("mask") is not None:
        raise TypeError(f"{name} is a masked array, whose mask would be lost; pass its data")
    address, read_only = given["data"]
    dtype = dtype_of(given["typestr"], str(getattr(x, "dtype", "")), name)
    shape, strides = tuple(given["shape"]), given.get("strides")
    if strides is None:
        strides = in_c_order(shape)
    else:
        size = np.dtype(given["typestr"]).itemsize
        strides = strides_in_numbers(tuple(strides), size, address or 0, name)
    stream = given.get("stream")
    return View(
        address or 0, dtype, shape, strides, _device_of(address), library_of(kind), x,
        0 if stream is None else stream, bool(read_only),
    )  # fmt: skip


@lru_cache(maxsize=64)
def dtype_of(typestr: str, own_name: str, name: str) -> str:
    """The name of a type. bfloat16 has no letters of its own, so arrays of it must tell."""
    dtype, size = _name_and_size(np.dtype(typestr), name)
    return "bfloat16" if size == 2 and own_name.endswith("bfloat16") else dtype


@lru_cache(maxsize=64)
def _name_and_size(dtype: np.dtype[Any], name: str) -> tuple[str, int]:
    if not dtype.isnative:
        raise TypeError(f"{name} has dtype {dtype.str}; expected the machine's own order of bytes")
    return dtype.name, dtype.itemsize


def _device_of(address: int | None) -> int:
    from . import driver

    return driver.device_of(address) if address else -1


def _legacy_stream(_device: int) -> int:
    return 0


def _no_new_arrays(_shape: Shape, _dtype: str, like: View) -> Any:
    kind = type(like.owner)
    raise TypeError(
        f"an array of {kind.__module__}.{kind.__qualname__} cannot be made for the result; give it "
        "as out"
    )


def _none_like_it(like: View, dtype: str) -> Any:
    return _no_new_arrays(like.shape, dtype, like)


OTHERS = Library(
    "others", _has_interface, view_of_interface, _legacy_stream, _no_new_arrays, _none_like_it
)


# CuPy ---------------------------------------------------------------------------------------------


def _is_cupy_array(x: Any) -> bool:
    return isinstance(x, sys.modules["cupy"].ndarray)


def _view_of_cupy(x: Any, name: str) -> View:
    data = x.data
    dtype, size = _name_and_size(x.dtype, name)
    strides = strides_in_numbers(x.strides, size, data.ptr, name)
    return View(data.ptr, dtype, x.shape, strides, data.device_id, CUPY, x)


def _cupy_on(device: int) -> Any:
    return sys.modules["cupy"].cuda.Device(device)


def _stream_of_cupy(device: int) -> int:
    with _cupy_on(device):
        return int(sys.modules["cupy"].cuda.get_current_stream().ptr)


def _empty_of_cupy(shape: Shape, dtype: str, like: View) -> Any:
    kind = like.owner.dtype if dtype == like.dtype else dtype
    with _cupy_on(like.owner.data.device_id):
        return sys.modules["cupy"].empty(shape, kind)


def _cupy_like(like: View, dtype: str) -> Any:
    kind = like.owner.dtype if dtype == like.dtype else dtype
    with _cupy_on(like.owner.data.device_id):
        return sys.modules["cupy"].empty_like(like.owner, kind)


CUPY = Library(
    "cupy",
    _is_cupy_array,
    _view_of_cupy,
    _stream_of_cupy,
    _empty_of_cupy,
    _cupy_like,
    has_pool=True,
)


# PyTorch ------------------------------------------------------------------------------------------


def _is_torch_array(x: Any) -> bool:
    return isinstance(x, sys.modules["torch"].Tensor) and x.is_cuda


@cache
def _name_of_torch(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _view_of_torch(x: Any, name: str) -> View:
    """By its own attributes: the interface knows no gradients, and bfloat16 as <V2, if at all."""
    if x.requires_grad:
        raise TypeError(
            f"{name} requires gradients, which would not be recorded; expected one that does not "
            f"({name}.detach(); fastbp.torch has functions that record them)"
        )
    if x.layout is not sys.modules["torch"].strided:
        raise TypeError(f"{name} has layout {x.layout}; expected torch.strided")
    x = x.resolve_neg()
    device = x.get_device()
    return View(x.data_ptr(), _name_of_torch(x.dtype), tuple(x.shape), x.stride(), device, TORCH, x)


def _stream_of_torch(device: int) -> int:
    return int(sys.modules["torch"].cuda.current_stream(device).cuda_stream)


def _empty_of_torch(shape: Shape, dtype: str, like: View) -> Any:
    torch = sys.modules["torch"]
    return torch.empty(shape, dtype=getattr(torch, dtype), device=like.owner.device)


def _torch_like(like: View, dtype: str) -> Any:
    torch = sys.modules["torch"]
    return torch.empty_like(like.owner, dtype=getattr(torch, dtype))


TORCH = Library(
    "torch",
    _is_torch_array,
    _view_of_torch,
    _stream_of_torch,
    _empty_of_torch,
    _torch_like,
    has_pool=True,
)


# Numba --------------------------------------------------------------------------------------------


def _empty_of_numba(shape: Shape, dtype: str, like: View) -> Any:
    from numba import cuda

    with cuda.gpus[like.device] if like.device >= 0 else contextlib.nullcontext():
        return cuda.device_array(shape, np.dtype(dtype), stream=like.owner.stream)


def _numba_like(like: View, dtype: str) -> Any:
    from numba import cuda

    if dtype != like.dtype:
        return _empty_of_numba(like.shape, dtype, like)
    return cuda.device_array_like(like.owner, stream=like.owner.stream)


NUMBA = Library(
    "numba", _has_interface, view_of_interface, _legacy_stream, _empty_of_numba, _numba_like
)


# JAX ----------------------------------------------------------------------------------------------


def _is_on_gpu_of_jax(x: Any) -> bool:
    devices = getattr(x, "devices", None)
    return callable(devices) and any(d.platform in {"gpu", "cuda", "rocm"} for d in devices())


def _view_of_jax(_x: Any, name: str) -> View:
    raise TypeError(
        f"{name} is a JAX array on a GPU, whose memory nobody but JAX may time the use of; "
        f"expected an array of CuPy (cupy.from_dlpack({name})), PyTorch or Numba"
    )


JAX = Library("jax", _is_on_gpu_of_jax, _view_of_jax, _legacy_stream, _no_new_arrays, _none_like_it)

# By the first part of the name of the module that an array's type is from.
LIBRARIES = {
    "cupy": CUPY, "torch": TORCH, "numba": NUMBA, "numba_cuda": NUMBA, "jax": JAX, "jaxlib": JAX,
}  # fmt: skip
