"""What is launched for huge rows, which blocks share; see `ranges`."""

from collections.abc import Callable
from functools import cache
from typing import Any

from ..cpu.origins import origins, origins_when_huge
from ..cpu.rows import total_of_row
from . import driver, run
from .arrays import View
from .label_ranges import OF_GRADIENT, label_ranges, label_totals
from .layouts import room
from .ranges import (
    HUGE,
    MOST_OF_ROW,
    OF_TOTAL,
    THREADS,
    WAYS,
    WIDTH,
    Ways,
    each_range,
    each_range_with_two_numbers,
    ranges,
)
from .run import BLOCK, CHIP, LONG, Launch, Numbers, Place, Regime, Rows
from .staging import SCRATCH, room_for

Kernel = Callable[..., Any]


@cache
def ways_of(kernel: Kernel) -> Ways | None:
    """What a GPU runs for a CPU's kernel, where several blocks share a row; None if they cannot."""
    if kernel not in origins_when_huge:
        return None
    made_of = origins_when_huge[kernel]
    return WAYS[made_of.factory](*made_of.given)


@cache
def with_two_numbers(kernel: Kernel) -> Kernel:
    """The same of a kernel that needs nothing of a row but two numbers."""
    return each_range_with_two_numbers(*origins[kernel].given)


def launch_huge(
    kernel: Kernel, dtype: str, place: Place, x: View, rows: list[Rows], result: Rows | Numbers
) -> bool:
    """Launch what a GPU runs for a CPU's kernel; False if its rows cannot be shared or are short.

    `result` is the rows or numbers that it writes.
    """
    first = rows[0]
    if first.columns < HUGE:
        return False
    ways = ways_of(kernel)
    if ways is None:
        return False
    left = room_for_numbers(first, ways.how_many, dtype, x, place)
    of_ranges = (*rows, WIDTH, Numbers(left.address, left.dtype))
    regime, shape, most = geometry(place, first, len(rows), dtype)
    run.execute(ways.reduce, regime, shape, most, place, of_ranges)
    if ways.apply is None:
        launch_by_row(ways.join, place, (first, *of_ranges[-2:], result))
        return True
    numbers = room((first.rows * MOST_OF_ROW,), left.dtype, x, place)
    of_rows = Numbers(numbers.address, numbers.dtype)
    launch_by_row(ways.join, place, (first, *of_ranges[-2:], of_rows))
    run.execute(ways.apply, regime, shape, most, place, (*rows, WIDTH, of_rows, result))
    return True


def launch_huge_with_two_numbers(
    kernel: Kernel, dtype: str, place: Place, numbers: list[Numbers], rows: Rows, result: Rows
) -> bool:
    """The same of such a kernel, in one launch."""
    if rows.columns < HUGE:
        return False
    regime, shape, most = geometry(place, rows, 1, dtype)
    arguments = (*numbers, rows, WIDTH, result)
    run.execute(with_two_numbers(kernel), regime, shape, most, place, arguments)
    return True


def launch_huge_labels(
    dtype: str, place: Place, like: View, x: Rows, labels: Numbers, class_weight: Numbers | None,
    ignored: tuple[int, int, int], incoming: tuple[Any, ...], losses: Numbers, dx: Rows | None,
    z: Any,
) -> bool:  # fmt: skip
    """Losses of rows with a label each and, if dx is not None, their gradients.

    False if the rows are short. `incoming` is what the gradients by the losses are made of.
    """
    if x.columns < HUGE:
        return False
    left = room_for_numbers(x, OF_TOTAL, dtype, like, place)
    numbers = None if dx is None else room((x.rows * OF_GRADIENT,), left.dtype, like, place)
    of_gradients = None if numbers is None else Numbers(numbers.address, numbers.dtype)
    of_totals = (x, WIDTH, Numbers(left.address, left.dtype))
    regime, shape, most = geometry(place, x, 1, dtype)
    run.execute(each_range(total_of_row), regime, shape, most, place, of_totals)
    arguments = (*of_totals, labels, class_weight, *ignored, *incoming, losses, of_gradients, z)
    launch_by_row(label_totals, place, arguments)
    if dx is not None:
        arguments = (x, WIDTH, of_gradients, labels, *ignored, dx)
        run.execute(label_ranges, regime, shape, most, place, arguments)
    return True


def launch_by_row(kernel: Kernel, place: Place, arguments: tuple[Any, ...]) -> None:
    """Launch a kernel that has a block for each row of its first argument."""
    shape = Launch(min(arguments[0].rows, 2**31 - 1), THREADS, SCRATCH)
    run.execute(kernel, LONG, shape, THREADS, place, arguments)


def room_for_numbers(rows: Rows, how_many: int, dtype: str, like: View, place: Place) -> View:
    """For what all ranges leave, so many numbers each."""
    n = rows.rows * ranges(rows.columns, WIDTH) * how_many
    return room((n,), run.computed(dtype), like, place)


def geometry(place: Place, rows: Rows, slots: int, dtype: str) -> tuple[Regime, Launch, int]:
    """A block for each range, and for how many threads a block has registers.

    Ranges come to the chip if it has room for those of two blocks at least. That changes no bits: a
    block goes along them in the same order, wherever they are.
    """
    chip = SCRATCH + slots * room_for(WIDTH) * run.itemsize(dtype)
    staged = 2 * chip <= max(CHIP, driver.device(place.device).chip)
    blocks = min(rows.rows * ranges(rows.columns, WIDTH), 2**31 - 1)
    # So many that a multiprocessor has registers for as many blocks as have room on its chip.
    if not staged:
        return LONG, Launch(blocks, THREADS, SCRATCH), 2 * THREADS
    several = 2 if dtype == "float64" else 4 if slots == 1 else 3
    return BLOCK, Launch(blocks, THREADS, chip), several * THREADS
