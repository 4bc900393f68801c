"""Copies between arrays on a GPU whose elements stand in different places, or are of other types.

A kernel goes along the elements of arrays of one shape, each of which has its own distances. What
the shape has more axes than, is merged where the distances allow it; most copies then have three.
"""

from collections.abc import Callable

from ..cpu.vectors import put
from .words import Pointer, block, blocks, convert_place, thread, threads

Kernel = Callable[..., None]

MOST_AXES = 8


def copy_3(
    n: int, target: Pointer, t0: int, t1: int, t2: int,
    source: Pointer, s0: int, s1: int, s2: int, n1: int, n2: int,
) -> None:  # fmt: skip
    """Three axes, of which the last two have n1 and n2 elements; n in all."""
    j = block() * threads() + thread()
    while j < n:
        rest, c = j // n2, j % n2
        a, b = rest // n1, rest % n1
        convert_place(target, a * t0 + b * t1 + c * t2, source, a * s0 + b * s1 + c * s2)
        j += blocks() * threads()


def copy_8(
    n: int, target: Pointer,
    t0: int, t1: int, t2: int, t3: int, t4: int, t5: int, t6: int, t7: int,
    source: Pointer, s0: int, s1: int, s2: int, s3: int, s4: int, s5: int, s6: int, s7: int,
    n1: int, n2: int, n3: int, n4: int, n5: int, n6: int, n7: int,
) -> None:  # fmt: skip
    """Eight axes, likewise."""
    j = block() * threads() + thread()
    while j < n:
        rest, h = j // n7, j % n7
        rest, g = rest // n6, rest % n6
        rest, f = rest // n5, rest % n5
        rest, e = rest // n4, rest % n4
        rest, d = rest // n3, rest % n3
        rest, c = rest // n2, rest % n2
        a, b = rest // n1, rest % n1
        first = a * t0 + b * t1 + c * t2 + d * t3
        last = e * t4 + f * t5 + g * t6 + h * t7
        of_first = a * s0 + b * s1 + c * s2 + d * s3
        of_last = e * s4 + f * s5 + g * s6 + h * s7
        convert_place(target, first + last, source, of_first + of_last)
        j += blocks() * threads()


def fill(n: int, target: Pointer, value: float) -> None:
    """Every one of n numbers is `value`."""
    j = block() * threads() + thread()
    while j < n:
        put(target, j, value)
        j += blocks() * threads()
