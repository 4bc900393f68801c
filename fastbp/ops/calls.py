"""What public functions do between their checks and their kernel: layouts and results."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..arrays import Array, in_one_order, put_back, rows_of, rows_to_write, views_of
from ..checks import as_axes, as_mask, as_out, as_values, like_first, out_or_new, same_shape
from ..cpu.elementwise import GRAIN
from ..cpu.panels import (
    map_panels,
    map_two_panels,
    reduce_panels,
    reduce_panels_where,
    rows_in_panel,
)
from ..cpu.run import Kernel, address_for, launch, usable_threads
from ..cpu.wide_rows import WIDE, are_better_shared
from ..cuda.arrays import is_on_device
from .plain_calls import doors, remember_map, remember_reduction

Axis = int | tuple[int, ...] | None


def plan_of_wide_rows(kernel: Kernel, x: Array) -> Callable[..., None] | None:
    """What to call with a kernel's arguments instead, if x has but a few huge rows."""
    if x.shape[1] < WIDE or not are_better_shared(x.shape[0], usable_threads()):
        return None
    from .wide_rows import PLANS  # it imports operations

    return PLANS.get(kernel)


@cache
def on_gpu() -> Any:
    """The module that does the same on a GPU, for the kernels named here."""
    from ..cuda import calls

    return calls


def map_rows(kernel: Kernel, inputs: dict[str, Array], axis: Axis, out: Array | None) -> Array:
    """kernel(first, last, *rows of the inputs, rows of the result), for inputs of one shape.

    Among them may be a mask.
    """
    (name, x), *others = inputs.items()
    for other, array in others:
        same_shape(array, other, x.shape, name)
    axes = as_axes(axis, x.ndim, name)
    result = out_or_new(out, inputs)
    views = views_of([*inputs.values(), result], axes)
    if views is None:
        views = [*(rows_of(array, axes) for array in inputs.values()), rows_to_write(result, axes)]
    launch_rows(kernel, map_two_panels if others else map_panels, views[-1], *views)
    return put_back(views[-1], result, axes)


def launch_rows(kernel: Kernel, in_panels: Kernel, x: Array, *arrays: Array) -> None:
    """kernel(first, last, *arrays) for all rows, x being among the arrays.

    Of a few huge ones the columns are shared among threads, if there is a plan for that.
    If they are panels, in_panels(first, last, address of the kernel, rows at a time, *arrays).
    """
    if x.ndim == 2:
        plan = plan_of_wide_rows(kernel, x)
        if plan is not None:
            plan(*arrays)
            return
        launch(kernel, x.dtype.char, x.shape[0], x.size, 1, *arrays)
        return
    like = (np.empty((0, 0), a.dtype) if a.ndim == 3 else a for a in arrays)
    code = address_for(kernel, x.dtype.char, *like)
    size = rows_at_a_time(arrays[:-1])  # the result takes x's room
    key = tuple(a.dtype.char for a in arrays)
    launch(in_panels, key, x.shape[0] * x.shape[2], x.size, size, code, size, *arrays)


def launch_panels(
    kernel: Kernel, in_panels: Kernel, key: Any, n_blocks: int, losses: Array, *arguments: Any
) -> None:
    """The same for the kernel of a loss, which is asked for the losses of all rows, in float64."""
    like = []
    for a in arguments:
        if a is losses:
            like.append(np.empty(0))
        else:
            like.append(np.empty((0, 0), a.dtype) if np.ndim(a) == 3 else a)
    code = address_for(kernel, (key, "in panels"), *like)
    x, *others = arguments
    size = rows_at_a_time([x, *(a for a in others[:1] if np.ndim(a) == 3)])
    launch(in_panels, key, n_blocks, x.size, 1, code, size, *arguments)


def rows_at_a_time(arrays: Sequence[Array]) -> int:
    """How many rows of panels are taken at a time, when each of these arrays takes room."""
    panels = [a for a in arrays if a.ndim == 3]
    outer, n, inner = panels[0].shape
    itemsize = panels[0].itemsize
    return rows_in_panel(outer * inner, itemsize, n * sum(a.itemsize for a in panels))


def map_one(
    kernel: Kernel, x: Any, out: Array | None, of_16_bits: Kernel | None = None, axis: Axis = -1,
    by_rows: bool = False,
) -> Any:  # fmt: skip
    """`map_elements` or `map_rows` for one input, in less than 1 µs where all is plain.

    Numbers of 16 bits may have a kernel of their own.
    """
    result = doors[kernel](x, axis, out)
    if result is not None:
        return result
    if is_on_device(x):
        if by_rows:
            return on_gpu().map_rows(kernel, {"x": x}, axis, out, of_16_bits)
        return on_gpu().map_elements(kernel, {"x": x}, out, of_16_bits)
    x = as_values(x, "x")
    used = kernel if of_16_bits is None or x.dtype.itemsize > 2 else of_16_bits
    result = map_rows(used, {"x": x}, axis, out) if by_rows else map_elements(used, {"x": x}, out)
    remember_map(used, kernel, by_rows, axis, [x])
    return result


def map_two(
    kernel: Kernel, a: Any, b: Any, names: str, out: Array | None, axis: Axis = -1,
    by_rows: bool = False,
) -> Any:  # fmt: skip
    """The same for two inputs, whose names are given in one string."""
    result = doors[kernel](a, b, axis, out)
    if result is not None:
        return result
    first, second = names.split()
    if is_on_device(a):
        if by_rows:
            return on_gpu().map_rows(kernel, {first: a, second: b}, axis, out)
        return on_gpu().map_elements(kernel, {first: a, second: b}, out)
    a = as_values(a, first)
    inputs = {first: a, second: like_first(b, second, a)}
    result = map_rows(kernel, inputs, axis, out) if by_rows else map_elements(kernel, inputs, out)
    remember_map(kernel, kernel, by_rows, axis, [a, a])
    return result


def reduce_rows_of_one(
    kernel: Kernel, x: Any, axis: Axis, keepdims: bool, out: Array | None
) -> Any:
    """`reduce_rows` for one input, likewise."""
    result = doors[kernel](x, axis, keepdims, out)
    if result is not None:
        return result
    if is_on_device(x):
        return on_gpu().reduce_rows(kernel, {"x": x}, axis, keepdims, out)
    x = as_values(x, "x")
    result = reduce_rows(kernel, {"x": x}, axis, keepdims, out)
    remember_reduction(kernel, x, axis, keepdims)
    return result


def map_rows_where(kernel: Kernel, x: Any, where: Any, axis: Axis, out: Array | None) -> Array:
    """`map_rows` for one input of which a mask allows a part."""
    if is_on_device(x):
        result: Array = on_gpu().map_rows(kernel, {"x": x, "where": where}, axis, out)
        return result
    x = as_values(x, "x")
    return map_rows(kernel, {"x": x, "where": as_mask(where, x)}, axis, out)


def reduce_rows_where(
    kernel: Kernel, x: Any, where: Any, axis: Axis, keepdims: bool, out: Array | None
) -> Any:
    """`reduce_rows` likewise."""
    if is_on_device(x):
        return on_gpu().reduce_rows(kernel, {"x": x, "where": where}, axis, keepdims, out)
    x = as_values(x, "x")
    return reduce_rows(kernel, {"x": x, "where": as_mask(where, x)}, axis, keepdims, out)


def reduce_rows(
    kernel: Kernel, inputs: dict[str, Array], axis: Axis, keepdims: bool, out: Array | None
) -> Any:
    """kernel(first, last, *rows of the inputs, numbers), for a number of each row."""
    (name, x), *_ = inputs.items()
    axes = as_axes(axis, x.ndim, name)
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    shape = kept if keepdims else tuple(n for a, n in enumerate(x.shape) if a not in axes)
    result = np.empty(shape, x.dtype) if out is None else as_out(out, shape, inputs, 0)
    arrays = list(inputs.values())
    views = views_of(arrays, axes) or [rows_of(array, axes) for array in arrays]
    whole = result.flags.c_contiguous and result.flags.aligned
    numbers = result.reshape(-1) if whole else np.empty(result.size, x.dtype)
    in_panels = reduce_panels if len(arrays) == 1 else reduce_panels_where
    launch_rows(kernel, in_panels, views[0], *views, numbers)
    if not whole:
        result[...] = numbers.reshape(shape)
    return result[()] if out is None and not shape else result


def map_elements(kernel: Kernel, inputs: dict[str, Array], out: Array | None) -> Any:
    """kernel(first, last, *inputs, result) over the elements, for inputs of one shape.

    A result without `out` has the first input's order in memory; that of a number is a number.
    """
    (name, x), *others = inputs.items()
    for other, array in others:
        same_shape(array, other, x.shape, name)
    if out is None:
        result = np.empty_like(x, subok=False)
    else:
        # Elements are read before they are written, so out may be any input.
        result = as_out(out, x.shape, inputs, replaceable=len(inputs))
    arrays = [*inputs.values(), result]
    if not in_one_order(arrays):  # through copies
        arrays = [np.ravel(a) for a in inputs.values()] + [np.empty(x.size, x.dtype)]
    launch(kernel, (x.dtype.char, arrays[0].ndim), x.size, x.size, GRAIN, *arrays)
    if arrays[-1] is not result:
        result[...] = arrays[-1].reshape(x.shape)
    return result[()] if out is None and x.ndim == 0 else result
