"""Kernels of rows that lie apart in memory: along an axis that is not the last.

An array is seen as (outer, n, inner), and row o·inner + c is x[o, :, c]. Short rows go into tiles
from where they are: the numbers x[o, j, c], x[o, j, c + 1], … are a column of a tile already. Of
longer ones a panel, some rows next to each other, is brought into room that is borrowed for it, in
which each is in one piece; there a kernel of contiguous rows computes it, and its result goes back.
So a row's bits are the same, whatever its strides, and nothing as large as an array is ever copied.

As the kernel is given by its address, the functions here are compiled but once for all kernels of
such arguments.
"""

from typing import Any

from .rows import STREAM_FROM
from .vectors import (
    Pointer,
    call_kernel,
    drain,
    in_columns,
    longest_short_row,
    panel_room,
    read_row,
    read_square,
    return_panel_room,
    rows_in_room,
    rows_to_line,
    square_side,
    strip,
    write_row,
    write_square,
)

# Of fewer rows next to each other, it takes longer to call a kernel for each such strip than to
# bring several together.
SHORTEST_STRIP = 64

# Of each column a panel takes so many bytes next to each other, or less where the room for all
# columns would be larger than this.
WIDTH, ROOM = 512, 1 << 19
FEWEST_ROWS = 16


def rows_in_panel(n_rows: int, itemsize: int, bytes_of_row: int) -> int:
    """How many rows are brought together at a time: few enough for a cache, and for all threads."""
    size = WIDTH // itemsize
    while size > FEWEST_ROWS and (size * bytes_of_row > ROOM or size * 32 > n_rows):
        size //= 2
    return size


def end_of_panel(x: Any, i: int, first: int, last: int, size: int) -> Any:
    """The first row after a panel that begins with row i; all but the first begin with a line."""
    end = min(last, i + size)
    if i == first:
        ahead = rows_to_line(x, i)
        if ahead > 0:
            end = min(end, i + ahead)
    return end


def is_large(x: Any) -> bool:
    """Whether x is better written past the cache."""
    return bool(x.size * x.itemsize >= STREAM_FROM)


def rows_in_squares(x: Any, rows: int) -> Any:
    """How many of some rows next to each other are read in squares; the last may be part of one."""
    side = square_side(x)
    in_squares = 0
    if in_columns(x):
        in_squares = rows // side * side
        if 4 * (rows - in_squares) > 3 * side:  # else it takes less to read them one by one
            in_squares = rows
    return in_squares


def read_panel(x: Any, i: int, k: int, room: Pointer) -> None:
    """k rows of x, from row i on, into the room."""
    if x is not None:
        n, inner = x.shape[1], x.shape[2]
        side = square_side(x)
        r = 0
        while r < k:
            o, c = (i + r) // inner, (i + r) % inner
            rows = min(k - r, inner - c)
            in_squares = rows_in_squares(x, rows)
            for j in range(0, n, side):
                for s in range(0, in_squares, side):
                    read_square(x, o, c + s, rows - s, j, room, r + s)
            for s in range(in_squares, rows):
                read_row(x, o, c + s, room, r + s)
            r += rows


def write_panel(room: Pointer, x: Any, i: int, k: int) -> None:
    """The inverse of `read_panel`; whoever calls it ends with `drain`."""
    past = is_large(x)
    n, inner = x.shape[1], x.shape[2]
    side = square_side(x)
    r = 0
    while r < k:
        o, c = (i + r) // inner, (i + r) % inner
        rows = min(k - r, inner - c)
        in_squares = rows_in_squares(x, rows)
        for j in range(0, n, side):
            for s in range(0, in_squares, side):
                write_square(room, r + s, x, o, c + s, rows - s, j, past)
        for s in range(in_squares, rows):
            write_row(room, r + s, x, o, c + s)
        r += rows


def in_strips(x: Any, y: Any, z: Any) -> bool:
    """Whether rows are short enough for tiles, and those next to each other are so in memory."""
    if x.shape[1] > longest_short_row(x) or x.shape[2] < SHORTEST_STRIP:
        return False
    return in_columns(x) and in_columns(y) and in_columns(z)


def end_of_strip(x: Any, i: int, last: int) -> Any:
    """The first row after row i that is not of the same `outer`, or `last`."""
    inner = x.shape[2]
    return min(last, (i // inner + 1) * inner)


def map_panels(first: int, last: int, kernel: int, size: int, x: Any, y: Any) -> None:
    """A kernel of x and the result y; `size` rows at a time."""
    if in_strips(x, None, y):
        i = first
        while i < last:
            k = end_of_strip(x, i, last) - i
            call_kernel(kernel, 0, k, (strip(x, i, k), strip(y, i, k)))
            i += k
    else:
        room = panel_room(x, size)
        i = first
        while i < last:
            k = end_of_panel(y, i, first, last, size) - i
            read_panel(x, i, k, room)
            rows = rows_in_room(room, x, k)
            call_kernel(kernel, 0, k, (rows, rows))
            write_panel(room, y, i, k)
            i += k
        drain()
        return_panel_room(room)


def map_two_panels(first: int, last: int, kernel: int, size: int, x: Any, y: Any, z: Any) -> None:
    """A kernel of x, y and the result z, which is like x; y may be a mask."""
    is_mask = y.itemsize == 1  # tiles of which no kernel knows
    if not is_mask and in_strips(x, y, z):
        i = first
        while i < last:
            k = end_of_strip(x, i, last) - i
            call_kernel(kernel, 0, k, (strip(x, i, k), strip(y, i, k), strip(z, i, k)))
            i += k
    else:
        room, other = panel_room(x, size), panel_room(y, size)
        i = first
        while i < last:
            k = end_of_panel(z, i, first, last, size) - i
            read_panel(x, i, k, room)
            read_panel(y, i, k, other)
            rows = rows_in_room(room, x, k)
            call_kernel(kernel, 0, k, (rows, rows_in_room(other, y, k), rows))
            write_panel(room, z, i, k)
            i += k
        drain()
        return_panel_room(room)
        return_panel_room(other)


def reduce_panels(first: int, last: int, kernel: int, size: int, x: Any, numbers: Any) -> None:
    """A kernel of x and a number for each row."""
    if in_strips(x, None, None):
        i = first
        while i < last:
            end = end_of_strip(x, i, last)
            call_kernel(kernel, 0, end - i, (strip(x, i, end - i), numbers[i:end]))
            i = end
    else:
        room = panel_room(x, size)
        i = first
        while i < last:
            k = end_of_panel(x, i, first, last, size) - i
            read_panel(x, i, k, room)
            call_kernel(kernel, 0, k, (rows_in_room(room, x, k), numbers[i : i + k]))
            i += k
        return_panel_room(room)


def reduce_panels_where(
    first: int, last: int, kernel: int, size: int, x: Any, mask: Any, numbers: Any
) -> None:
    """The same of x and a mask."""
    room, other = panel_room(x, size), panel_room(mask, size)
    i = first
    while i < last:
        k = end_of_panel(x, i, first, last, size) - i
        read_panel(x, i, k, room)
        read_panel(mask, i, k, other)
        rows, allowed = rows_in_room(room, x, k), rows_in_room(other, mask, k)
        call_kernel(kernel, 0, k, (rows, allowed, numbers[i : i + k]))
        i += k
    return_panel_room(room)
    return_panel_room(other)


def spread_panels(
    first: int, last: int, kernel: int, size: int, a: Any, b: Any, x: Any, y: Any
) -> None:
    """A kernel of two numbers for each row, a and b, of x, and of the result y."""
    room = panel_room(x, size)
    i = first
    while i < last:
        k = end_of_panel(y, i, first, last, size) - i
        read_panel(x, i, k, room)
        rows = rows_in_room(room, x, k)
        call_kernel(kernel, 0, k, (a[i : i + k], b[i : i + k], rows, rows))
        write_panel(room, y, i, k)
        i += k
    drain()
    return_panel_room(room)
