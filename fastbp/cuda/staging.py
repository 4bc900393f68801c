"""Rows brought to the chip and back, 16 bytes at a time wherever an address allows it.

The chip's memory begins with room for what is folded across a block (`SCRATCH` bytes), then come
the rows: one for each group of threads, each of them as far behind a multiple of 16 bytes as it is
in the GPU's memory, so that both sides of a copy are aligned alike.
"""

from collections.abc import Callable
from typing import Any

from ..cpu.vectors import at, lanes
from .words import (
    Matrix,
    Pointer,
    at_once,
    beyond_16,
    block,
    blocks,
    chip,
    copy_1,
    copy_16,
    copy_16_apart,
    copy_16_at_once,
    copy_place,
    first_row,
    lane,
    pack,
    read_part,
    read_row,
    result_part,
    result_row,
    row_at,
    row_step,
    rows,
    stride,
    thread,
    threads,
    wait,
    wait_block,
    write_part,
    write_row,
)

SCRATCH = 1024  # bytes
WARP = 32
THREAD, WARPS, BLOCK = 1, 32, 0  # groups: how many threads, 0 for all of a block


# a row for a warp or a block ----------------------------------------------------------------------


def first_row_of_warp(_x: Matrix) -> int:
    """One row for each warp."""
    return block() * (threads() // WARP) + thread() // WARP


def row_step_of_warp(_x: Matrix) -> int:
    """As many as there are warps."""
    return blocks() * (threads() // WARP)


def first_row_of_block(_x: Matrix) -> int:
    """One row for each block."""
    return block()


def row_step_of_block(_x: Matrix) -> int:
    """As many as there are blocks."""
    return blocks()


def room_for(n: int) -> int:
    """Room that a row of n numbers takes, with those before the first that is aligned."""
    return (n + 15) // 8 * 8


def read_row_of_warp(x: Matrix, i: int, n: int, slot: int) -> Pointer:
    """Row i of x, in the warp's part of the chip's memory."""
    source = row_at(x, i)
    place = slot * (threads() // WARP) + thread() // WARP
    p = chip(source, place * room_for(n) + beyond_16(source))
    copy_in(source, p, n)
    return p


def read_row_of_block(x: Matrix, i: int, n: int, slot: int) -> Pointer:
    """Row i of x."""
    return read_part_of_block(x, i, 0, n, slot)


def read_part_of_block(x: Matrix, i: int, start: int, n: int, slot: int) -> Pointer:
    """n columns of it."""
    source = at(row_at(x, i), start)
    p = chip(source, slot * room_for(n) + beyond_16(source))
    copy_in(source, p, n)
    return p


def itself(p: Pointer, _y: Matrix, _i: int) -> Pointer:
    """The result of a row on the chip takes its place."""
    return p


def copy_in(source: Pointer, p: Pointer, n: int) -> None:
    """p_j = source_j, by a group of threads."""
    wait(p)  # for whoever still reads what stood there
    width, me, group = pack(source), lane(p), lanes(p)
    head = min(n, (width - beyond_16(source)) % width)
    if me < head:
        copy_1(p, source, me)
    j = head + me * width
    step, several = group * width, at_once(source)
    while j + (several - 1) * step + width <= n:
        copy_16_at_once(p, source, j, step)  # what is asked for together is waited for together
        j += several * step
    while j + width <= n:
        copy_16(p, source, j)
        j += step
    j = head + (n - head) // width * width + me
    if j < n:
        copy_1(p, source, j)
    wait(p)


def write_row_of_group(p: Pointer, y: Matrix, i: int, n: int) -> None:
    """Row i of y is what stands on the chip."""
    copy_out(p, row_at(y, i), n)


def part_itself(p: Pointer, _y: Matrix, _i: int, _start: int) -> Pointer:
    """The result of a part on the chip takes its place."""
    return p


def write_part_of_block(p: Pointer, y: Matrix, i: int, start: int, n: int) -> None:
    """n columns of row i of y are what stands on the chip."""
    copy_out(p, at(row_at(y, i), start), n)


def copy_out(p: Pointer, target: Pointer, n: int) -> None:
    """target_j = p_j, by a group of threads."""
    wait(p)
    width, me, group = pack(target), lane(p), lanes(p)
    head = min(n, (width - beyond_16(target)) % width)
    if me < head:
        copy_1(target, p, me)
    j = head + me * width
    if aligned_alike(target, p):
        while j + width <= n:
            copy_16(target, p, j)
            j += group * width
    else:
        while j + width <= n:
            copy_16_apart(target, p, j)
            j += group * width
    j = head + (n - head) // width * width + me
    if j < n:
        copy_1(target, p, j)


def aligned_alike(target: Pointer, p: Pointer) -> bool:
    """Whether p on the chip is as many numbers behind a multiple of 16 bytes as the target is."""
    return (beyond_16(target) - beyond_16(p)) % min(pack(target), pack(p)) == 0


# short rows, one for each thread of a block -------------------------------------------------------


def first_row_of_tile(_x: Matrix) -> int:
    """The first of as many rows as a block has threads."""
    return block() * threads()


def row_step_of_tile(_x: Matrix) -> int:
    """As many rows as there are threads."""
    return blocks() * threads()


def read_tile(x: Matrix, i: int, n: int, slot: int) -> Pointer:
    """The row of this thread among those from i on; the block reads them together."""
    source = row_at(x, i)
    start = slot * threads() * pitch_of_tile(n)
    move_tile(chip(source, start), x, i, n, True)
    return chip(source, start + thread() * pitch_of_tile(n))


def write_tile(p: Pointer, y: Matrix, i: int, n: int) -> None:
    """The rows of y from i on are what stands on the chip, p being this thread's."""
    move_tile(at(p, -thread() * pitch_of_tile(n)), y, i, n, False)


def pitch_of_tile(n: int) -> int:
    """From one row of a tile to the next: an odd number, so that threads meet no bank twice."""
    return n | 1


def move_tile(p: Pointer, x: Matrix, i: int, n: int, inwards: bool) -> None:
    """Rows of x from i on to the chip, or from it: neighbouring threads, neighbouring numbers."""
    wait_block()
    count, step = min(threads(), rows(x) - i) * n, threads()
    pitch, base = pitch_of_tile(n), row_at(x, i)
    r, c = thread() // n, thread() % n
    down, right = step // n, step % n
    j = thread()
    while j < count:
        if inwards:
            copy_place(p, r * pitch + c, base, r * stride(x) + c)
        else:
            copy_place(base, r * stride(x) + c, p, r * pitch + c)
        j += step
        r, c = r + down, c + right
        if c >= n:
            r, c = r + 1, c - n
    wait_block()


# rows too long for the chip -----------------------------------------------------------------------


def row_where_it_is(x: Matrix, i: int, _n: int, _slot: int) -> Pointer:
    """Row i of x in the GPU's memory."""
    return row_at(x, i)


def row_of_result(_p: Pointer, y: Matrix, i: int) -> Pointer:
    """Row i of y in the GPU's memory."""
    return row_at(y, i)


def nothing(_p: Pointer, _y: Matrix, _i: int, _n: int) -> None:
    """The row has been written where it is."""


def part_where_it_is(x: Matrix, i: int, start: int, _n: int, _slot: int) -> Pointer:
    """A part of row i of x in the GPU's memory."""
    return at(row_at(x, i), start)


def part_of_result(_p: Pointer, y: Matrix, i: int, start: int) -> Pointer:
    """A part of row i of y in the GPU's memory."""
    return at(row_at(y, i), start)


def no_part(_p: Pointer, _y: Matrix, _i: int, _start: int, _n: int) -> None:
    """The part has been written where it is."""


# room beside a row --------------------------------------------------------------------------------


def spare_row_of_tile(x: Matrix, _room: Matrix, _needed: Any, n: int, slot: int) -> Pointer:
    """On the chip, for this thread alone."""
    return chip(row_at(x, 0), (slot * threads() + thread()) * pitch_of_tile(n))


def spare_row_of_warp(x: Matrix, _room: Matrix, _needed: Any, n: int, slot: int) -> Pointer:
    """On the chip, for this warp."""
    return chip(row_at(x, 0), ((slot * threads() + thread()) // WARP) * room_for(n))


def spare_row_of_block(x: Matrix, _room: Matrix, _needed: Any, n: int, slot: int) -> Pointer:
    """On the chip."""
    return chip(row_at(x, 0), slot * room_for(n))


def spare_row_where_it_is(_x: Matrix, room: Matrix, _needed: Any, _n: int, _slot: int) -> Pointer:
    """In the GPU's memory, for this block."""
    return row_at(room, block())


def no_row(_x: Matrix, _room: Matrix, _needed: Any, _n: int, _slot: int) -> None:
    """None."""


def no_result(_p: Pointer, _y: Matrix, _i: int) -> None:
    """None."""


SPARE_ROWS = {
    (THREAD, True): spare_row_of_tile,
    (WARPS, True): spare_row_of_warp,
    (BLOCK, True): spare_row_of_block,
    (BLOCK, False): spare_row_where_it_is,
}


# what the words of rows mean ----------------------------------------------------------------------

OF_ROWS: tuple[Callable[..., Any], ...] = (
    first_row, row_step, read_row, result_row, write_row, read_part, result_part, write_part,
)  # fmt: skip
# By the group and by whether rows come to the chip; only blocks have parts of rows.
MEANINGS: dict[tuple[int, bool], tuple[Callable[..., Any], ...]] = {
    (THREAD, True): (
        first_row_of_tile, row_step_of_tile, read_tile, itself, write_tile,
    ),
    (WARPS, True): (
        first_row_of_warp, row_step_of_warp, read_row_of_warp, itself, write_row_of_group,
    ),
    (BLOCK, True): (
        first_row_of_block, row_step_of_block, read_row_of_block, itself, write_row_of_group,
        read_part_of_block, part_itself, write_part_of_block,
    ),
    (BLOCK, False): (
        first_row_of_block, row_step_of_block, row_where_it_is, row_of_result, nothing,
        part_where_it_is, part_of_result, no_part,
    ),
}  # fmt: skip
