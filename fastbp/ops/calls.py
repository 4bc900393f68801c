"""What public functions do between their checks and their kernel: layouts and results."""

from typing import Any

import numpy as np

from ..arrays import Array, in_one_order, put_back, rows_of, rows_to_write
from ..checks import as_axes, as_out, as_values, same_shape
from ..cpu.elementwise import if_small
from ..cpu.run import Kernel, function, launch

Axis = int | tuple[int, ...] | None

# Elementwise ranges begin at multiples of this, so that they do not share cache lines.
GRAIN = 1024

# Compiled `if_small` of a kernel, by its dtype and number of axes. By the dtype's number, which no
# other has: the letter of float16 is that of int1 of ml_dtypes, too.
small: dict[tuple[Kernel, int, int], Kernel] = {}


def map_rows(kernel: Kernel, inputs: dict[str, Array], axis: Axis, out: Array | None) -> Array:
    """kernel(first, last, *rows of the inputs, rows of the result), for inputs of one shape.

    Among them may be a mask.
    """
    (name, x), *others = inputs.items()
    for other, array in others:
        same_shape(array, other, x.shape, name)
    axes = as_axes(axis, x.ndim, name)
    if out is None:
        out = np.empty(x.shape, x.dtype)
    else:
        as_out(out, x.shape, inputs, replaceable=1)
    y = rows_to_write(out, axes)
    rows = [rows_of(array, axes) for array in inputs.values()]
    launch(kernel, x.dtype.char, y.shape[0], y.size, 1, *rows, y)
    return put_back(y, out, axes)


def map_element(kernel: Kernel, x: Any, out: Array | None) -> Any:
    """`map_elements` for one input, in less than 1 µs where there is nothing to convert."""
    if type(x) is np.ndarray:
        dtype = x.dtype
        entry = small.get((kernel, dtype.num, x.ndim))
        if entry is not None and dtype.isnative:
            result = np.empty(x.shape, dtype) if out is None else out
            if (out is None or _fits(out, dtype, x.ndim)) and entry(x, result):
                return result
    x = as_values(x, "x")
    result = map_elements(kernel, {"x": x}, out)
    if x.ndim and (kernel, x.dtype.num, x.ndim) not in small:
        small[kernel, x.dtype.num, x.ndim] = function(if_small(kernel), x, x)
    return result


def _fits(out: Any, dtype: np.dtype[Any], ndim: int) -> bool:
    """Whether compiled code may look at out: it cannot tell a dtype or what is read-only."""
    return (
        type(out) is np.ndarray and out.dtype == dtype and out.ndim == ndim and out.flags.writeable
    )


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
