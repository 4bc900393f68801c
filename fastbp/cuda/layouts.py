"""Arrays on a GPU as kernels want them: rows that are contiguous, or numbers one after another.

Where strides allow no such view, there is a copy, made by the GPU itself.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from . import driver, run
from .arrays import FLOATS, INTEGERS, Shape, View, in_c_order, itemsize, view_of
from .copies import MOST_AXES, copy_3, copy_8
from .run import Numbers, Place, Rows

Axes = tuple[int, ...]


# checks -------------------------------------------------------------------------------------------


def views_of(arrays: dict[str, Any]) -> dict[str, View]:
    """The arguments of a call, which must live on one GPU, the first one's."""
    views: dict[str, View] = {}
    for name, x in arrays.items():
        first = next(iter(views), name)
        views[name] = view = view_of(x, name, first)
        same_device(view, name, views[first], first)
    return views


def same_device(view: View, name: str, of: View, first: str) -> None:
    """An argument must live where the first one does."""
    if view.device != of.device and view.device >= 0 <= of.device:
        raise ValueError(f"{name} is on GPU {view.device}; expected {of.device}, that of {first}")


def as_values(view: View, name: str) -> str:
    """The type in which an array is taken: its own, float64 for integers and bools."""
    if view.dtype in FLOATS:
        return view.dtype
    if view.dtype in INTEGERS or view.dtype == "bool":
        return "float64"
    raise TypeError(
        f"{name} has dtype {view.dtype}; expected float32, float64, float16, bfloat16, integers "
        "or bools"
    )


def as_mask(mask: View, x: View) -> View:
    """`where`, broadcast to x, as bytes."""
    if mask.dtype != "bool":
        raise TypeError(f"where has dtype {mask.dtype}; expected bool")
    seen = checks.broadcast(outline(mask), "where", x.shape, "x")
    return mask._replace(dtype="uint8", shape=x.shape, strides=seen.strides)


def as_out(out: Any, shape: Shape, dtype: str, inputs: dict[str, View], replaceable: int) -> View:
    """An array for a result, by the same rules as on CPUs."""
    name, first = next(iter(inputs.items()))
    view = view_of(out, "out", name)
    same_device(view, "out", first, name)
    if view.dtype != dtype:
        raise TypeError(f"out has dtype {view.dtype}; expected {dtype}, the result's")
    outlines = {other: outline(input_) for other, input_ in inputs.items()}
    # Of the type of the result, which they may be converted to.
    like = np.empty(0, _outline_dtype(view))
    checks.as_out(outline(view), shape, {"": like} | outlines, replaceable + 1)
    return view


class _Outline:
    """What NumPy takes for an array that begins at an address."""

    def __init__(self, view: View) -> None:
        size = itemsize(view.dtype)
        self.__array_interface__ = {
            "version": 3, "shape": view.shape, "data": (view.address, view.read_only),
            "strides": tuple(s * size for s in view.strides), "typestr": _outline_dtype(view).str,
        }  # fmt: skip


def outline(view: View) -> checks.Array:
    """An array for questions about shapes, strides and overlap, whose elements nobody may touch.

    (They are in the GPU's memory.)
    """
    if not view.address:  # of nothing
        return np.empty(view.shape, _outline_dtype(view))
    return np.asarray(_Outline(view))


def _outline_dtype(view: View) -> np.dtype[Any]:
    return np.dtype((np.void, itemsize(view.dtype)))


# where to compute ---------------------------------------------------------------------------------


def place_of(views: list[View]) -> Place:
    """On the GPU of the arrays, after what the streams of all of them were given so far."""
    device = max(view.device for view in views)
    now: dict[str, int] = {}  # the streams of libraries
    streams = []
    for view in views:
        stream = view.stream
        if stream is None:
            library = view.library
            if library.name not in now:
                now[library.name] = library.current_stream(device)
            stream = now[library.name]
        if stream not in streams:
            streams.append(stream)
    first, *others = streams
    for other in others:
        driver.follow(first, other, device)
    return Place(device, first)


def finish(x: View, result: View, place: Place) -> None:
    """Have whoever computes with the result next find it finished; x is the first argument."""
    if result.stream is None and x.stream is None and result.library is x.library:
        return
    stream = result.stream
    if stream is None:
        stream = result.library.current_stream(place.device)
    if stream != place.stream:
        driver.follow(stream, place.stream, place.device)


# layouts ------------------------------------------------------------------------------------------


class Axis(NamedTuple):
    """An axis, or several that can be gone along as one: how long, and the strides of arrays."""

    length: int
    strides: Shape


def merged(shape: Shape, *strides: Shape) -> list[Axis]:
    """The axes of arrays of one shape, as few as possible, in their order."""
    found: list[Axis] = []
    for length, *steps in zip(shape, *strides, strict=True):
        if length == 1:
            continue
        if found and all(
            outer == length * inner for outer, inner in zip(found[-1].strides, steps, strict=True)
        ):
            found[-1] = Axis(found[-1].length * length, tuple(steps))
        else:
            found.append(Axis(length, tuple(steps)))
    return found


def others_of(ndim: int, axes: Axes) -> Axes:
    """The axes that are not among these."""
    return tuple(a for a in range(ndim) if a not in axes)


def rows_of(view: View, axes: Axes) -> Rows | None:
    """An array as rows along these axes; None if its strides do not allow that."""
    shape, strides = view.shape, view.strides
    others = others_of(view.ndim, axes)
    n_columns = math.prod(shape[a] for a in axes)
    n_rows = math.prod(shape[a] for a in others)
    if n_rows * n_columns == 0:
        return Rows(0, view.dtype, n_columns, n_rows, n_columns)
    inner = merged(tuple(shape[a] for a in axes), tuple(strides[a] for a in axes))
    outer = merged(tuple(shape[a] for a in others), tuple(strides[a] for a in others))
    if len(inner) > 1 or len(outer) > 1 or (inner and inner[0].strides != (1,)):
        return None
    stride = outer[0].strides[0] if outer else n_columns
    return Rows(view.address, view.dtype, stride, n_rows, n_columns)


def rows_to_read(view: View, axes: Axes, dtype: str, place: Place) -> tuple[Rows, Any]:
    """An array as rows of that type, and what keeps their memory."""
    rows = rows_of(view, axes) if view.dtype == dtype else None
    if rows is not None:
        return rows, view.owner
    moved = view.permuted(others_of(view.ndim, axes) + axes)
    copy = room(moved.shape, dtype, view, place)
    copy_to(copy, moved, place)
    rows = rows_of(copy, tuple(range(view.ndim - len(axes), view.ndim)))
    assert rows is not None  # noqa: S101  (it has no gaps)
    return rows, copy.owner


def numbers_to_read(view: View, dtype: str, place: Place) -> tuple[Numbers, Any]:
    """The elements one after another, in the order of the axes, likewise."""
    rows, owner = rows_to_read(view, tuple(range(view.ndim)), dtype, place)
    return Numbers(rows.address, dtype), owner


def in_one_order(views: Iterable[View]) -> bool:
    """Whether arrays of one shape lie in memory without gaps, in the same order of elements."""
    first, *rest = views
    order = sorted(range(first.ndim), key=lambda a: -first.strides[a])
    shape = tuple(first.shape[a] for a in order)
    all_strides = [tuple(v.strides[a] for a in order) for v in (first, *rest)]
    axes = merged(shape, *all_strides)
    return not axes or (len(axes) == 1 and set(axes[0].strides) == {1})


def new_like(view: View, dtype: str) -> View:
    """A new array of the same kind and shape and, where that is possible, order."""
    made = view.library.empty_like(view, dtype)
    return view_of(made, "out", "x")


def new(shape: Shape, dtype: str, like: View) -> View:
    """A new array of the same kind, and of this shape."""
    return view_of(like.library.empty(shape, dtype, like), "out", "x")


def room(shape: Shape, dtype: str, like: View, place: Place) -> View:
    """Memory for the time of a call, in C's order.

    Where a library keeps a pool for its current stream, it is from there.
    """
    if like.library.has_pool:
        return new(shape, dtype, like)
    size = math.prod(shape) * itemsize(dtype)
    memory = driver.Memory(size, place.device, place.stream)
    return View(
        memory.address, dtype, shape, in_c_order(shape), place.device, like.library, memory,
        place.stream,
    )  # fmt: skip


def copy_to(target: View, source: View, place: Place) -> None:
    """Write the elements of one array to another one of its shape, converted to its type."""
    if target.size == 0:
        return
    axes = merged(target.shape, target.strides, source.strides)
    if len(axes) > MOST_AXES:
        raise ValueError(
            f"an array of {len(axes)} axes, none of which continues another one; expected "
            f"{MOST_AXES} at most"
        )
    kernel, n_axes = (copy_3, 3) if len(axes) <= 3 else (copy_8, MOST_AXES)
    axes = [Axis(1, (0, 0))] * (n_axes - len(axes)) + axes
    to, from_ = zip(*(axis.strides for axis in axes), strict=True)
    run.launch_elements(
        kernel, target.size, place, target.size,
        Numbers(target.address, _plain(target.dtype)), *to,
        Numbers(source.address, _plain(source.dtype)), *from_,
        *(axis.length for axis in axes[1:]),
    )  # fmt: skip


def _plain(dtype: str) -> str:
    """Bools are kept as bytes, 0 or 1."""
    return "uint8" if dtype == "bool" else dtype
