"""Kernels of losses of rows that lie apart in memory; see `panels`.

A kernel is asked for the loss of each row of a panel, in float64. They are added here, for blocks
of rows need not end where panels do.
"""

from typing import Any

import numpy as np

from ..formulas.softmax import accumulate
from .panels import end_of_panel, end_of_strip, in_strips, read_panel, write_panel
from .row_losses import Array
from .vectors import (
    call_kernel,
    drain,
    panel_room,
    part,
    return_panel_room,
    rows_in_room,
    strip,
)


def label_panels(
    first: int, last: int, kernel: int, size: int, x: Array, labels: Array, class_weight: Array,
    ignore: int, has_ignore: bool, bad_is_nan: bool, smoothing: Array, sample_weight: Array,
    denominator: float, dloss: Array, losses: Array, sums: Array, dx: Array, block: int,
    softcap: Any, temperature: Any, z: Any,
) -> None:  # fmt: skip
    """`label_blocks`, in panels."""
    start, end = first * block, min(rows_in(x), last * block)
    of_rows, unused = np.empty(size), np.empty((1, 2))
    strips = in_strips(x, None, dx)
    room = panel_room(x, size)
    i = start
    while i < end:
        k = rows_at_once(x, i, start, end, size, strips)
        options = part(labels, i, k), class_weight, ignore, has_ignore, bad_is_nan, smoothing
        common = (
            part(sample_weight, i, k), denominator, part(dloss, i, k), of_rows, unused
        )  # fmt: skip
        rest = size, softcap, temperature, z
        if strips:
            rows, drows = (strip(x, i, k),), (strip(dx, i, k),)
        else:
            read_panel(x, i, k, room)
            rows, drows = (rows_in_room(room, x, k),), (rows_in_room(room, dx, k),)
        call_kernel(kernel, 0, 1, rows + options + common + drows + rest)
        if dx is not None and not strips:
            write_panel(room, dx, i, k)
        add_losses(of_rows, i, k, block, losses, sums)
        i += k
    drain()
    return_panel_room(room)


def target_panels(
    first: int, last: int, kernel: int, size: int, x: Array, probabilities: Array,
    class_weight: Array, smoothing: Array, sample_weight: Array, denominator: float, dloss: Array,
    losses: Array, sums: Array, dx: Array, block: int, softcap: Any, temperature: Any, z: Any,
) -> None:  # fmt: skip
    """`target_blocks`, in panels."""
    start, end = first * block, min(rows_in(x), last * block)
    of_rows, unused = np.empty(size), np.empty((1, 2))
    strips = in_strips(x, probabilities, dx)
    room, other = panel_room(x, size), panel_room(probabilities, size)
    i = start
    while i < end:
        k = rows_at_once(x, i, start, end, size, strips)
        common = (
            class_weight, smoothing, part(sample_weight, i, k), denominator, part(dloss, i, k),
            of_rows, unused,
        )  # fmt: skip
        rest = size, softcap, temperature, z
        if strips:
            rows, drows = (strip(x, i, k), strip(probabilities, i, k)), (strip(dx, i, k),)
        else:
            read_panel(x, i, k, room)
            read_panel(probabilities, i, k, other)
            rows = rows_in_room(room, x, k), rows_in_room(other, probabilities, k)
            drows = (rows_in_room(room, dx, k),)
        call_kernel(kernel, 0, 1, rows + common + drows + rest)
        if dx is not None and not strips:
            write_panel(room, dx, i, k)
        add_losses(of_rows, i, k, block, losses, sums)
        i += k
    drain()
    return_panel_room(room)
    return_panel_room(other)


def index_panels(
    first: int, last: int, kernel: int, size: int, x: Array, indices: Array, given: Array,
    class_weight: Array, smoothing: Any, ignore: int, has_ignore: bool, bad_is_nan: bool,
    sample_weight: Array, denominator: float, dloss: Array, losses: Array, sums: Array, dx: Array,
    block: int, softcap: Any, temperature: Any, z: Any,
) -> None:  # fmt: skip
    """`index_blocks`, in panels."""
    start, end = first * block, min(rows_in(x), last * block)
    of_rows, unused = np.empty(size), np.empty((1, 2))
    room = panel_room(x, size)
    i = start
    while i < end:
        k = rows_at_once(x, i, start, end, size, False)
        read_panel(x, i, k, room)
        options = (
            rows_in_room(room, x, k), part(indices, i, k), part(given, i, k), class_weight,
            smoothing, ignore, has_ignore, bad_is_nan,
        )  # fmt: skip
        common = (
            part(sample_weight, i, k), denominator, part(dloss, i, k), of_rows, unused,
            rows_in_room(room, dx, k), size, softcap, temperature, z,
        )  # fmt: skip
        call_kernel(kernel, 0, 1, options + common)
        if dx is not None:
            write_panel(room, dx, i, k)
        add_losses(of_rows, i, k, block, losses, sums)
        i += k
    drain()
    return_panel_room(room)


def rows_in(x: Array) -> Any:
    """How many rows an array (outer, n, inner) has."""
    return x.shape[0] * x.shape[2]


def rows_at_once(x: Array, i: int, start: int, end: int, size: int, strips: bool) -> Any:
    """How many rows from row i on are computed by one call."""
    stop = end_of_panel(x, i, start, end, size)
    if strips:
        stop = end_of_strip(x, i, min(end, i + size))
    return stop - i


def add_losses(of_rows: Array, i: int, k: int, block: int, losses: Array, sums: Array) -> None:
    """The losses of k rows from row i on: to where all are kept, and to their blocks' sums."""
    r = 0
    while r < k:
        b = (i + r) // block
        stop = min(k, (b + 1) * block - i)
        total, total_lo = sums[b, 0], sums[b, 1]
        while r < stop:
            if losses.size:
                losses[i + r] = of_rows[r]
            total, total_lo = accumulate(total, total_lo, of_rows[r])
            r += 1
        sums[b, 0], sums[b, 1] = total, total_lo
