"""What public functions do between their checks and their kernel: layouts and results."""

from typing import Any

import numpy as np

from ..arrays import Array, flat, put_back, rows_of, rows_to_write
from ..checks import as_axes, as_out, same_shape
from ..cpu.run import Kernel, launch

Axis = int | tuple[int, ...] | None

# Elementwise ranges begin at multiples of this, so that they do not share cache lines.
GRAIN = 1024


def map_rows(
    kernel: Kernel, inputs: dict[str, Array], axis: Axis, out: Array | None
) -> Array:
    """kernel(first, last, *rows of the inputs, rows of the result), for inputs of one shape."""
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


def map_elements(kernel: Kernel, inputs: dict[str, Array], out: Array | None) -> Any:
    """kernel(first, last, *flat inputs, flat result), for inputs of one shape.

    A result without `out` has the first input's order in memory; that of a number is a number.
    """
    (name, x), *others = inputs.items()
    for other, array in others:
        same_shape(array, other, x.shape, name)
    if out is None:
        result = np.empty_like(x, subok=False)
    else:
        result = as_out(out, x.shape, inputs, replaceable=len(inputs))
    flats = [flat(a) for a in (*inputs.values(), result)]
    one_order = all(f is not None for f in flats) and (
        not others or len({a.flags.c_contiguous for a in (*inputs.values(), result)}) == 1
    )
    if not one_order:  # strides that no single order follows: through copies
        flats = [np.ravel(a) for a in inputs.values()] + [np.empty(x.size, x.dtype)]
    launch(kernel, x.dtype.char, x.size, x.size, GRAIN, *flats)
    if not one_order:
        result[...] = flats[-1].reshape(x.shape)  # type: ignore[union-attr]
    return result[()] if out is None and x.ndim == 0 else result
