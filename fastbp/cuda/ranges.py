"""Kernels of huge rows on a GPU, each of which several blocks share by ranges of columns.

In three launches: every range is reduced to a few numbers, as if it were a row; what the ranges of
a row have left is joined; and every range is mapped. So a row is read twice, however few or many
there are. Where ranges begin depends on the number of columns alone, and all blocks have as many
threads: a row has the same bits alone and in a batch, and on any GPU.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from ..cpu.backward_rows import likely_and_others, shifted_dot, value_at_max
from ..cpu.rows import INF, map_two_rows, row_max
from ..cpu.vectors import (
    Number,
    Pointer,
    all_but_one,
    at,
    count,
    counted,
    counts,
    lanes,
    load_some,
    number,
    pick,
    splat64,
    store,
    sum_across,
    sum_zero,
)
from ..formulas.ranges import rescaled_total, shifted_to
from ..formulas.softmax import accumulate, add_pairs, equal, unbiased
from .words import (
    block,
    blocks,
    columns,
    of_block,
    put_number,
    read_part,
    result_part,
    rows,
    thread,
    write_part,
)

RowFunction = Callable[..., Any]
Kernel = Callable[..., None]

# A range is so long that it repays being joined, and so short that a few of them fit on a chip.
WIDTH, THREADS = 8192, 256
# Rows of so many columns are shared: on no GPU would they fit on the chip.
HUGE = 65536
# The numbers that a range of one row leaves, one of two rows, and one of those of log_softmax.
OF_TOTAL, OF_DOT, OF_LIKELY = 3, 6, 3
# And what a row's ranges are mapped with; there is room for as many.
MOST_OF_ROW = 3


def ranges(n: int, width: int) -> int:
    """How many there are of n columns."""
    return (n + width - 1) // width


# kernels ------------------------------------------------------------------------------------------


@cache
def each_range(reduce: RowFunction) -> Kernel:
    """Kernel of the three numbers reduce(x, n) of each range of the rows of x.

    Those of a row stand together: the first numbers of all its ranges, the second ones, the third.
    """

    def kernel(x: Any, width: int, left: Pointer) -> None:
        n, per_row = columns(x), ranges(columns(x), width)
        for k in range(block(), rows(x) * per_row, blocks()):
            i, r = k // per_row, k % per_row
            size = min(width, n - r * width)
            p = read_part(x, i, r * width, size, 0)
            leave_3(at(left, i * per_row * 3 + r), per_row, *reduce(p, size))

    return kernel


def each_range_of_two(reduce: RowFunction, leave: RowFunction, how_many: int) -> Kernel:
    """The same of the rows of x and y; reduce(x, y, n) gives so many numbers."""

    def kernel(x: Any, y: Any, width: int, left: Pointer) -> None:
        n, per_row = columns(x), ranges(columns(x), width)
        for k in range(block(), rows(x) * per_row, blocks()):
            i, r = k // per_row, k % per_row
            size = min(width, n - r * width)
            p, q = read_part(x, i, r * width, size, 0), read_part(y, i, r * width, size, 1)
            leave(at(left, i * per_row * how_many + r), per_row, *reduce(p, q, size))

    return kernel


def joined(join: RowFunction, how_many: int, leave: RowFunction) -> Kernel:
    """Kernel of the numbers join(left, per_row) of each row of x, by a block for each.

    They are made of what the row's ranges have left, so many numbers each. Were they made by every
    block that maps a range, it would do so for as long as it maps.
    """

    def kernel(x: Any, width: int, left: Pointer, of_rows: Pointer) -> None:
        per_row = ranges(columns(x), width)
        for i in range(block(), rows(x), blocks()):
            numbers = join(of_block(at(left, i * per_row * how_many)), per_row)
            leave(at(of_rows, i * MOST_OF_ROW), 1, *numbers)

    return kernel


def joined_to_number(join: RowFunction, formula: RowFunction) -> Kernel:
    """Kernel of numbers[i] = formula(*join(left, per_row)), likewise."""

    def kernel(x: Any, width: int, left: Pointer, numbers: Pointer) -> None:
        per_row = ranges(columns(x), width)
        for i in range(block(), rows(x), blocks()):
            of_row = join(of_block(at(left, i * per_row * OF_TOTAL)), per_row)
            put_number(x, numbers, i, formula(*of_row))

    return kernel


def each_range_mapped(apply: RowFunction, take: RowFunction) -> Kernel:
    """Kernel of apply(x, y, n, numbers) for each range of the rows of x and of the result y."""

    def kernel(x: Any, width: int, of_rows: Pointer, y: Any) -> None:
        n, per_row = columns(x), ranges(columns(x), width)
        for k in range(block(), rows(x) * per_row, blocks()):
            i, r = k // per_row, k % per_row
            size = min(width, n - r * width)
            p = read_part(x, i, r * width, size, 0)
            q = result_part(p, y, i, r * width)
            apply(p, q, size, take(at(of_rows, i * MOST_OF_ROW)))
            write_part(q, y, i, r * width, size)

    return kernel


def each_range_of_two_mapped(formula: RowFunction, take: RowFunction) -> Kernel:
    """Kernel of z_j = formula(x_j, y_j, *numbers) for each range of the rows of x, y and z."""
    apply = map_two_rows(formula)

    def kernel(x: Any, y: Any, width: int, of_rows: Pointer, z: Any) -> None:
        n, per_row = columns(x), ranges(columns(x), width)
        for k in range(block(), rows(x) * per_row, blocks()):
            i, r = k // per_row, k % per_row
            size = min(width, n - r * width)
            p, q = read_part(x, i, r * width, size, 0), read_part(y, i, r * width, size, 1)
            to = result_part(p, z, i, r * width)
            apply(p, q, to, size, take(at(of_rows, i * MOST_OF_ROW)))
            write_part(to, z, i, r * width, size)

    return kernel


def each_range_with_two_numbers(apply: RowFunction) -> Kernel:
    """Kernel of apply(x, y, n, (a[i], b[i])) for each range of the rows of x and of y."""

    def kernel(a: Pointer, b: Pointer, x: Any, width: int, y: Any) -> None:
        n, per_row = columns(x), ranges(columns(x), width)
        for k in range(block(), rows(x) * per_row, blocks()):
            i, r = k // per_row, k % per_row
            size = min(width, n - r * width)
            p = read_part(x, i, r * width, size, 0)
            q = result_part(p, y, i, r * width)
            apply(p, q, size, (pick(a, i), pick(b, i)))
            write_part(q, y, i, r * width, size)

    return kernel


# what a range leaves ------------------------------------------------------------------------------


def leave_2(left: Pointer, step: int, a: Number, b: Number) -> None:
    """Two numbers, so many places apart, by one thread of the block."""
    if thread() == 0:
        store(left, 0, a)
        store(left, step, b)


def leave_3(left: Pointer, step: int, a: Number, b: Number, c: Number) -> None:
    """Three."""
    leave_2(left, step, a, b)
    if thread() == 0:
        store(left, 2 * step, c)


def leave_6(
    left: Pointer, step: int, a: Number, b: Number, c: Number, d: Number, e: Number, f: Number
) -> None:
    """Six."""
    leave_3(left, step, a, b, c)
    leave_3(at(left, 3 * step), step, d, e, f)


def take_2(left: Pointer) -> tuple[Number, Number]:
    """Two numbers that stand together."""
    return pick(left, 0), pick(left, 1)


def take_3(left: Pointer) -> tuple[Number, Number, Number]:
    """Three."""
    return pick(left, 0), pick(left, 1), pick(left, 2)


LEAVE: dict[int, RowFunction] = {2: leave_2, 3: leave_3}
TAKE: dict[int, RowFunction] = {2: take_2, 3: take_3}


def dot_of_range(dy: Pointer, y: Pointer, n: int) -> tuple[Number, ...]:
    """(max y, c, Σ y·(dy - c), Σ y), the sums as pairs, c being dy at the largest y."""
    shift = value_at_max(y, dy, n)
    return (row_max(y, n), shift, *shifted_dot(dy, y, n, shift), *row_sum(y, n))


def row_sum(x: Pointer, n: int) -> tuple[Number, Number]:
    """Σ x."""
    width = lanes(x)
    s = s_lo = splat64(x, 0)
    j = 0
    while j < n:
        s, s_lo = accumulate(s, s_lo, load_some(x, j, min(width, n - j), 0))
        j += width
    return sum_across(x, s, s_lo, number(x, 0))


# joined -------------------------------------------------------------------------------------------


def join_totals(left: Pointer, per_row: int) -> tuple[Number, Number, Number]:
    """(m, s, s_lo) of a row from those of its ranges."""
    width, m = lanes(left), row_max(left, per_row)
    of_s, of_s_lo = at(left, per_row), at(left, 2 * per_row)
    total = total_lo = splat64(left, 0)
    maxima = counts(left, 0)
    j = 0
    while j < per_row:
        k = min(width, per_row - j)
        of_range = load_some(left, j, k, -INF)
        s, s_lo = load_some(of_s, j, k, 0), load_some(of_s_lo, j, k, 0)
        maxima = count(left, maxima, equal(of_range, m))
        total, total_lo = add_pairs(total, total_lo, *rescaled_total(of_range, s, s_lo, m), m)
        j += width
    s, s_lo = unbiased(*sum_across(left, total, total_lo, m), m)
    # One maximum is left out; the others are those of ranges, which have left out one each.
    return m, *add_pairs(s, s_lo, all_but_one(left, counted(left, maxima)), sum_zero(left), m)


def finished(finish: RowFunction) -> RowFunction:
    """Of the ranges of a row finish(m, s, s_lo)."""

    def join(left: Pointer, per_row: int) -> Any:
        return finish(*join_totals(left, per_row))

    return join


def join_dots(left: Pointer, per_row: int) -> tuple[Number, Number, Number]:
    """(c, Σ y·(dy - c) as a pair) of a row, c being dy at the largest y."""
    width, of_shift = lanes(left), at(left, per_row)
    shift = value_at_max(left, of_shift, per_row)
    of_dot, of_dot_lo = at(left, 2 * per_row), at(left, 3 * per_row)
    of_sum, of_sum_lo = at(left, 4 * per_row), at(left, 5 * per_row)
    total = total_lo = splat64(left, 0)
    j = 0
    while j < per_row:
        k = min(width, per_row - j)
        dot, dot_lo = load_some(of_dot, j, k, 0), load_some(of_dot_lo, j, k, 0)
        u, u_lo = load_some(of_sum, j, k, 0), load_some(of_sum_lo, j, k, 0)
        # Where no range is, there is nothing to shift.
        of_range = load_some(of_shift, j, k, shift)
        dot, dot_lo = shifted_to(dot, dot_lo, u, u_lo, of_range, shift)
        total, total_lo = add_pairs(total, total_lo, dot, dot_lo, shift)
        j += width
    return (shift, *sum_across(left, total, total_lo, shift))


def joined_likely(finish: RowFunction) -> RowFunction:
    """Of the ranges of a row finish(likely, others, others_lo, like), see `likely_and_others`."""

    def join(left: Pointer, per_row: int) -> Any:
        width, like = lanes(left), number(left, 0)
        of_others, of_others_lo = at(left, per_row), at(left, 2 * per_row)
        likely = s = s_lo = splat64(left, 0)
        j = 0
        while j < per_row:
            k = min(width, per_row - j)
            likely = likely + load_some(left, j, k, 0)  # one range has it at most
            others, others_lo = load_some(of_others, j, k, 0), load_some(of_others_lo, j, k, 0)
            s, s_lo = add_pairs(s, s_lo, others, others_lo, like)
            j += width
        of_row, _ = sum_across(left, likely, splat64(left, 0), like)
        return finish(of_row, *sum_across(left, s, s_lo, like), like)

    return join


# what is launched, by how a kernel of rows is made ------------------------------------------------


class Ways(NamedTuple):
    """The kernels of a CPU's one."""

    reduce: Kernel
    how_many: int  # numbers that a range leaves
    join: Kernel
    apply: Kernel | None  # none where the row's number is the result


def totals(reduce: RowFunction, finish: RowFunction, apply: RowFunction, how_many: int) -> Ways:
    """Those of apply(x, y, n, finish(m, s, s_lo)), so many numbers."""
    join = joined(finished(finish), OF_TOTAL, LEAVE[how_many])
    return Ways(each_range(reduce), OF_TOTAL, join, each_range_mapped(apply, TAKE[how_many]))


def number_of_totals(reduce: RowFunction, formula: RowFunction) -> Ways:
    """Those of formula(m, s, s_lo)."""
    return Ways(each_range(reduce), OF_TOTAL, joined_to_number(join_totals, formula), None)


def dots(formula: RowFunction) -> Ways:
    """Those of formula(dy, y, c, dot, dot_lo)."""
    reduce = each_range_of_two(dot_of_range, leave_6, OF_DOT)
    join = joined(join_dots, OF_DOT, leave_3)
    return Ways(reduce, OF_DOT, join, each_range_of_two_mapped(formula, take_3))


def likely_sums(finish: RowFunction, formula: RowFunction) -> Ways:
    """Those of formula(dy, y, *finish(likely, others, others_lo, like))."""
    reduce = each_range_of_two(likely_and_others, leave_3, OF_LIKELY)
    join = joined(joined_likely(finish), OF_LIKELY, leave_2)
    return Ways(reduce, OF_LIKELY, join, each_range_of_two_mapped(formula, take_2))


WAYS: dict[str, Callable[..., Ways]] = {
    way.__name__: way for way in (totals, number_of_totals, dots, likely_sums)
}
