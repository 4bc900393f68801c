"""What public functions do with arrays on a GPU, between their checks and their kernel.

They name the kernel that they would run on a CPU; here is made of the same functions what a GPU
runs. Nothing here waits for the GPU.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

from ..checks import HALVES, as_axes, same_shape
from ..cpu.origins import Origin, origins, origins_when_long
from ..elementary import INFINITY
from . import elementwise, row_kernels, run
from .arrays import View
from .copies import fill
from .layouts import (
    as_mask,
    as_out,
    as_values,
    copy_to,
    finish,
    in_one_order,
    new,
    new_like,
    numbers_to_read,
    others_of,
    place_of,
    room,
    rows_of,
    rows_to_read,
    views_of,
)
from .range_calls import launch_huge, launch_huge_with_two_numbers
from .run import LONG, Numbers, Place, Real, Rows

Kernel = Callable[..., Any]
Axes = tuple[int, ...]
Axis = int | Axes | None

# The factory of kernels for CPUs -> that for GPUs.
FACTORIES: dict[str, Callable[..., Kernel]] = {
    "each_row_in_groups": row_kernels.each_row_reduced,
    "each_row_where": row_kernels.each_row_where,
    "each_row_to_number": row_kernels.each_row_to_number,
    "each_row_to_number_where": row_kernels.each_row_to_number_where,
    "each_row_with_two_numbers": row_kernels.each_row_with_two_numbers,
    "each_two_rows": row_kernels.each_two_rows,
    "map_one": elementwise.map_one,
    "map_two": elementwise.map_two,
}
# Of those that need room in the GPU's memory where a row is too long for the chip.
WITH_ROOM: dict[str, Callable[..., Kernel]] = {
    "each_row_where": row_kernels.each_long_row_where,
    "each_row_to_number_where": row_kernels.each_long_row_to_number_where,
}


@cache
def on_gpu(kernel: Kernel) -> Kernel:
    """The GPU's kernel of what a CPU's one is made of."""
    made_of = origins[kernel]
    return FACTORIES[made_of.factory](*made_of.given)


@cache
def on_gpu_when_long(kernel: Kernel) -> tuple[Kernel, bool]:
    """The same for rows too long for the chip, and whether it is given room before its result."""
    made_of: Origin = origins[kernel]
    if made_of.factory in WITH_ROOM:
        return WITH_ROOM[made_of.factory](*made_of.given), True
    if kernel in origins_when_long:
        made_of = origins_when_long[kernel]
        return FACTORIES[made_of.factory](*made_of.given), False
    return on_gpu(kernel), False


# inputs and results -------------------------------------------------------------------------------


def check_shapes(views: dict[str, View]) -> None:
    """All must be shaped as the first, and of a type to compute with; a mask broadcasts to it."""
    (name, first), *others = views.items()
    for other, view in others:
        if other == "where":
            views[other] = as_mask(view, first)
            continue
        as_values(view, other)
        shaped: Any = view
        same_shape(shaped, other, first.shape, name)


class Inputs(NamedTuple):
    """Arguments as rows, and what keeps their memory."""

    rows: list[Rows]
    owners: list[Any]

    def are_views_of(self, views: Iterable[View]) -> bool:
        """Whether nothing had to be copied."""
        return all(a is v.owner for a, v in zip(self.owners, views, strict=True))


def input_rows(views: dict[str, View], axes: Axes, dtype: str, place: Place) -> Inputs:
    """Arguments as rows of that type; a mask stays one."""
    read = [
        rows_to_read(view, axes, "uint8" if name == "where" else dtype, place)
        for name, view in views.items()
    ]
    return Inputs([rows for rows, _ in read], [owner for _, owner in read])


def result_rows(result: View, axes: Axes, place: Place) -> tuple[Rows, View]:
    """Rows into which a kernel may write the result, and the array that they are of."""
    rows = rows_of(result, axes)
    if rows is not None:
        return rows, result
    moved = result.permuted(others_of(result.ndim, axes) + axes)
    aside = room(moved.shape, result.dtype, result, place)
    rows = rows_of(aside, tuple(range(result.ndim - len(axes), result.ndim)))
    assert rows is not None  # noqa: S101  (it has no gaps)
    return rows, aside


def put_back(written: View, result: View, axes: Axes, place: Place) -> None:
    """Bring the rows to the result, if they were written elsewhere."""
    if written is not result:
        copy_to(result.permuted(others_of(result.ndim, axes) + axes), written, place)


def launch_rows(
    kernel: Kernel, slots: int, dtype: str, place: Place, x: View, rows: list[Rows], result: Any
) -> Any:
    """Launch what a GPU runs for a CPU's kernel, for rows of this length.

    `result` is the rows or numbers that it writes. What is returned can be launched again, unless
    it is None.
    """
    first = rows[0]
    if launch_huge(kernel, dtype, place, x, rows, result):
        return None
    if run.regime_on(place, first.columns, slots, dtype) is not LONG:
        return run.launch_rows(on_gpu(kernel), slots, dtype, place, *rows, result)
    long_kernel, wants_room = on_gpu_when_long(kernel)
    if not wants_room:
        return run.launch_rows(long_kernel, slots, dtype, place, *rows, result)
    if type(result) is Rows and dtype not in HALVES:
        return run.launch_rows(long_kernel, slots, dtype, place, *rows, result, result)
    kind = run.computed(dtype)
    spare = room((first.rows, first.columns), kind, x, place)
    return run.launch_rows(long_kernel, slots, dtype, place, *rows, rows_of(spare, (1,)), result)


# Launches by what they depend on: the kernel, how arrays are laid out and of what type, and where.
# Whoever calls with such arrays again pays for little more than the launch.
_launched: dict[Any, run.Launched] = {}
MOST_REMEMBERED = 4096


def key_of(kernel: Kernel, axes: Any, views: Iterable[View]) -> Any:
    """What a launch depends on but the addresses."""
    return (kernel, axes, *(view[1:5] for view in views))  # dtype, shape, strides, device


def remember(key: Any, launched: Any, views: list[View]) -> None:
    """Keep a launch that was given the addresses of these, in their order, and no others."""
    if launched is not None and len(launched.addresses) == len(views):
        if len(_launched) >= MOST_REMEMBERED:
            _launched.clear()
        _launched[key] = launched


def again(key: Any, views: list[View]) -> bool:
    """Do as before, if these arrays are like others before; the last is the result."""
    launched = _launched.get(key)
    if launched is None:
        return False
    place = place_of(views)
    run.again(launched, [view.address for view in views], place.stream)
    finish(views[0], views[-1], place)
    return True


# what public functions call -----------------------------------------------------------------------


def map_rows(
    kernel: Kernel,
    arrays: dict[str, Any],
    axis: Axis,
    out: Any,
    of_16_bits: Kernel | None = None,
) -> Any:
    """A result shaped as the first of the arrays, from the rows of all of them.

    Numbers of 16 bits may have a kernel of their own.
    """
    views = views_of(arrays)
    name, x = next(iter(views.items()))
    dtype, axes = as_values(x, name), as_axes(axis, x.ndim, name)
    if of_16_bits is not None and dtype in HALVES:
        kernel = of_16_bits
    result = new_like(x, dtype) if out is None else as_out(out, x.shape, dtype, views, 1)
    given = [*views.values(), result]
    key = key_of(kernel, axes, given)
    if again(key, given):
        return result.owner
    check_shapes(views)
    if x.size:
        place = place_of(given)
        inputs = input_rows(views, axes, dtype, place)
        y, written = result_rows(result, axes, place)
        slots = len(views.keys() - {"where"})
        launched = launch_rows(kernel, slots, dtype, place, x, inputs.rows, y)
        if written is not result:
            put_back(written, result, axes, place)
        elif inputs.are_views_of(views.values()):
            remember(key, launched, given)
        finish(x, result, place)
    return result.owner


def reduce_rows(
    kernel: Kernel, arrays: dict[str, Any], axis: Axis, keepdims: bool, out: Any
) -> Any:
    """A number of each row; of rows without columns it is -inf."""
    views = views_of(arrays)
    name, x = next(iter(views.items()))
    dtype, axes = as_values(x, name), as_axes(axis, x.ndim, name)
    shape = reduced_shape(x, axes, keepdims)
    result = new(shape, dtype, x) if out is None else as_out(out, shape, dtype, views, 0)
    given = [*views.values(), result]
    key = key_of(kernel, axes, given)
    if again(key, given):
        return result.owner
    check_shapes(views)
    if result.size:
        place, everything = place_of(given), tuple(range(result.ndim))
        y, written = result_rows(result, everything, place)
        numbers = Numbers(y.address, dtype)
        if x.size:
            inputs = input_rows(views, axes, dtype, place)
            launched = launch_rows(kernel, 1, dtype, place, x, inputs.rows, numbers)
            if written is result and inputs.are_views_of(views.values()):
                remember(key, launched, given)
        else:
            nothing = Real(-INFINITY, run.computed(dtype))
            run.launch_elements(fill, result.size, place, result.size, numbers, nothing)
        put_back(written, result, everything, place)
        finish(x, result, place)
    return result.owner


def reduced_shape(x: View, axes: Axes, keepdims: bool) -> Axes:
    """The shape without these axes."""
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    return kept if keepdims else tuple(x.shape[a] for a in others_of(x.ndim, axes))


def rows_with_two_numbers(
    kernel: Kernel, arrays: dict[str, Any], axis: Axis, keepdims: bool, out: Any
) -> Any:
    """A result shaped as x, from its rows and two numbers for each.

    The arrays are called dy, x and y; the kernel is given y, dy and x.
    """
    views = views_of(arrays)
    dy, x, y = views["dy"], views["x"], views["y"]
    dtype, axes = as_values(dy, "dy"), as_axes(axis, x.ndim, "x")
    shape = reduced_shape(x, axes, keepdims)
    for name in ("dy", "x", "y"):
        as_values(views[name], name)
        if name != "x":
            shaped: Any = views[name]
            same_shape(shaped, name, shape, "logsumexp's result")
    inputs = {"x": x, "dy": dy, "y": y}
    result = new_like(x, dtype) if out is None else as_out(out, x.shape, dtype, inputs, 1)
    given = [y, dy, x, result]
    key = key_of(kernel, axes, given)
    if again(key, given):
        return result.owner
    if x.size:
        place = place_of(given)
        numbers = [numbers_to_read(v, dtype, place) for v in (y, dy)]
        rows, owner = rows_to_read(x, axes, dtype, place)
        dx, written = result_rows(result, axes, place)
        addresses = [a for a, _ in numbers]
        if not launch_huge_with_two_numbers(kernel, dtype, place, addresses, rows, dx):
            launched = run.launch_rows(on_gpu(kernel), 1, dtype, place, *addresses, rows, dx)
            owners = [o for _, o in numbers] + [owner, written.owner]
            if all(a is v.owner for a, v in zip(owners, given, strict=True)):
                remember(key, launched, given)
        put_back(written, result, axes, place)
        finish(x, result, place)
    return result.owner


def map_elements(
    kernel: Kernel, arrays: dict[str, Any], out: Any, of_16_bits: Kernel | None = None
) -> Any:
    """A result shaped as the arrays, element by element.

    Numbers of 16 bits may have a kernel of their own.
    """
    views = views_of(arrays)
    name, x = next(iter(views.items()))
    dtype = as_values(x, name)
    # Elements are read before they are written, so out may be any input.
    replaceable = len(views)
    result = new_like(x, dtype) if out is None else as_out(out, x.shape, dtype, views, replaceable)
    given = [*views.values(), result]
    key = key_of(kernel, None, given)
    if again(key, given):
        return result.owner
    check_shapes(views)
    if x.size:
        used = of_16_bits if of_16_bits is not None and dtype in HALVES else kernel
        n, place, everything = x.size, place_of(given), tuple(range(x.ndim))
        if in_one_order(given) and all(v.dtype == dtype for v in given):
            numbers = [Numbers(v.address, dtype) for v in given]
            remember(key, run.launch_elements(on_gpu(used), n, place, n, *numbers), given)
        else:
            read = [numbers_to_read(v, dtype, place) for v in views.values()]
            y, written = result_rows(result, everything, place)
            numbers = [*(a for a, _ in read), Numbers(y.address, dtype)]
            run.launch_elements(on_gpu(used), n, place, n, *numbers)
            put_back(written, result, everything, place)
        finish(x, result, place)
    return result.owner
