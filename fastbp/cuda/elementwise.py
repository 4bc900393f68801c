"""Kernels of elements on a GPU: each thread takes as many at once as are in 16 bytes."""

from collections.abc import Callable
from functools import cache
from typing import Any

from .words import Pointer, beyond_16, block, blocks, map_1, map_16, pack, thread, threads

Formula = Callable[..., Any]
Kernel = Callable[..., None]


@cache
def map_one(formula: Formula) -> Kernel:
    """Kernel of y = formula(x) for n numbers."""

    def kernel(n: int, x: Pointer, y: Pointer) -> None:
        width, head = pack(x), aligned_from(x, n)
        me, everyone = block() * threads() + thread(), blocks() * threads()
        if beyond_16(x) != beyond_16(y):
            for j in range(me, n, everyone):
                map_1(formula, y, j, x)
            return
        if me < head:
            map_1(formula, y, me, x)
        for j in range(head + me * width, n - width + 1, everyone * width):
            map_16(formula, y, j, x)
        j = head + (n - head) // width * width + me
        if j < n:
            map_1(formula, y, j, x)

    return kernel


@cache
def map_two(formula: Formula) -> Kernel:
    """Kernel of z = formula(x, y) for n numbers."""

    def kernel(n: int, x: Pointer, y: Pointer, z: Pointer) -> None:
        width, head = pack(x), aligned_from(x, n)
        me, everyone = block() * threads() + thread(), blocks() * threads()
        if beyond_16(x) != beyond_16(z) or beyond_16(x) != beyond_16(y):
            for j in range(me, n, everyone):
                map_1(formula, z, j, x, y)
            return
        if me < head:
            map_1(formula, z, me, x, y)
        for j in range(head + me * width, n - width + 1, everyone * width):
            map_16(formula, z, j, x, y)
        j = head + (n - head) // width * width + me
        if j < n:
            map_1(formula, z, j, x, y)

    return kernel


def aligned_from(x: Pointer, n: int) -> int:
    """The first number of x on a multiple of 16 bytes; n if none is."""
    return min(n, (pack(x) - beyond_16(x)) % pack(x))
