"""Plain calls: compiled functions that check what they are given, and compute if it is plain.

Where arrays are contiguous, of the shapes expected, and the same memory or apart, nothing stands
between the caller and the kernel. To find that out takes Python longer than a small kernel runs;
compiled code does it in some nanoseconds, and says no if there is more to do. As the kernel is
given by the address of its code, each function is compiled but once for arrays of one dtype and
number of axes.

The functions called `inner` are what `doors` call: they take arrays and options from where a door
has put them, and say 1 if the call was plain, and else 0.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .doors import FRAME_TOLD, RESULT_AT, TEAM as TEAM_AT
from .elementwise import GRAIN, PARALLEL_FROM, TEAM
from .vectors import array_of, place, share, word_at
from .wide_rows import WIDE

Array = np.ndarray[Any, Any]
Inner = Callable[[int, int], int]

# What entries of a table tell: first the address of the kernel.
KERNEL = FRAME_TOLD


def apart(a: int, a_bytes: int, b: int, b_bytes: int) -> bool:
    """Whether places from a on have none in common with those from b on."""
    return a + a_bytes <= b or b + b_bytes <= a


def can_hold_gradient(dx: int, dx_bytes: int, x: int, x_bytes: int) -> bool:
    """Whether the gradient by x, which is as large, may go to dx: it is x, or apart."""
    return dx_bytes == x_bytes and (dx == x or apart(dx, dx_bytes, x, x_bytes))


def is_untouched(other: int, other_bytes: int, dx: int, dx_bytes: int) -> bool:
    """Whether what is written to dx changes no other input, which may be empty."""
    return other_bytes == 0 or (other_bytes > 0 and apart(other, other_bytes, dx, dx_bytes))


def grain_of(by_rows: bool) -> int:
    """What ranges are multiples of."""
    return 1 if by_rows else GRAIN


def chunks_of(by_rows: bool, team: int, x: Array) -> int:
    """How many threads are to take the rows or elements of x.

    0 if that is unknown (see `run.team`), or if rows are so wide that threads may share them.
    """
    if x.size < PARALLEL_FROM:
        return 1
    n = x.shape[0] if by_rows else x.size
    if by_rows and x.size >= WIDE * n:
        return 0
    return min(team % TEAM, (n + grain_of(by_rows) - 1) // grain_of(by_rows))


def map_if_plain(kernel: int, by_rows: bool, team: int, x: Array, out: Array) -> bool:
    """Runs a kernel of one input for all rows or elements, unless something stands in its way.

    Says whether it did.
    """
    x_at, x_bytes = place(x)
    out_at, out_bytes = place(out)
    if x.shape != out.shape or x_bytes < 0:
        return False
    if not can_hold_gradient(out_at, out_bytes, x_at, x_bytes):
        return False
    chunks = chunks_of(by_rows, team, x)
    if chunks > 0:
        n, grain = x.shape[0] if by_rows else x.size, grain_of(by_rows)
        share(team // TEAM, kernel, n, chunks, grain, (x, out))
    return chunks > 0


def map_two_if_plain(kernel: int, by_rows: bool, team: int, x: Array, y: Array, out: Array) -> bool:
    """The same of two inputs; out may be either, of rows the first only."""
    x_at, x_bytes = place(x)
    y_at, y_bytes = place(y)
    out_at, out_bytes = place(out)
    if x.shape != out.shape or y.shape != x.shape or x_bytes < 0:
        return False
    if not (
        can_hold_gradient(out_at, out_bytes, x_at, x_bytes)
        and can_hold_gradient(out_at, out_bytes, y_at, y_bytes)
    ):
        return False
    if by_rows and y_at == out_at:
        return False
    chunks = chunks_of(by_rows, team, x)
    if chunks > 0:
        n, grain = x.shape[0] if by_rows else x.size, grain_of(by_rows)
        share(team // TEAM, kernel, n, chunks, grain, (x, y, out))
    return chunks > 0


def reduce_if_plain(kernel: int, team: int, x: Array, out: Array) -> bool:
    """The same for a kernel that makes a number of each row; out touches no input."""
    x_at, x_bytes = place(x)
    out_at, out_bytes = place(out)
    if out.size != x.shape[0] or min(x_bytes, out_bytes) < 0:
        return False
    if not is_untouched(x_at, x_bytes, out_at, out_bytes):
        return False
    chunks = chunks_of(True, team, x)
    if chunks > 0:
        share(team // TEAM, kernel, x.shape[0], chunks, 1, (x, out))
    return chunks > 0


@cache
def map_one(kind: Any, by_rows: bool) -> Inner:
    """What a door calls with x, and whatever else."""

    def inner(args: int, frame: int) -> int:
        x, out = array_of(word_at(args, 0), kind), array_of(word_at(frame, RESULT_AT), kind)
        kernel, team = word_at(frame, KERNEL), word_at(frame, TEAM_AT)
        return 1 if map_if_plain(kernel, by_rows, team, x, out) else 0

    return inner


@cache
def map_two(kind: Any, by_rows: bool) -> Inner:
    """The same with x and y."""

    def inner(args: int, frame: int) -> int:
        x, y = array_of(word_at(args, 0), kind), array_of(word_at(args, 1), kind)
        out = array_of(word_at(frame, RESULT_AT), kind)
        kernel, team = word_at(frame, KERNEL), word_at(frame, TEAM_AT)
        return 1 if map_two_if_plain(kernel, by_rows, team, x, y, out) else 0

    return inner


@cache
def reduce_rows(kind: Any, kind_of_out: Any) -> Inner:
    """The same with x, for a number of each row."""

    def inner(args: int, frame: int) -> int:
        x, out = array_of(word_at(args, 0), kind), array_of(word_at(frame, RESULT_AT), kind_of_out)
        kernel, team = word_at(frame, KERNEL), word_at(frame, TEAM_AT)
        return 1 if reduce_if_plain(kernel, team, x, out) else 0

    return inner
