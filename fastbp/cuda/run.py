"""Compiling kernels for the GPU at hand, keeping them, and launching them.

The arguments of a kernel are `Rows` (a matrix), `Numbers` (a pointer), integers, and `Real`
(a number of the kernel's own type). How the threads share rows is chosen by their length alone, so
that a row has the same bits wherever it stands.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Kernel = Callable[..., None]

HALVES = ("float16", "bfloat16")


class Rows(NamedTuple):
    """Rows in the GPU's memory; the stride is that from row to row, in numbers."""

    address: int
    dtype: str
    stride: int
    rows: int
    columns: int


class Numbers(NamedTuple):
    """Numbers in the GPU's memory, one after another."""

    address: int
    dtype: str


class Real(NamedTuple):
    """A number, given to a kernel in its own type."""

    value: float
    dtype: str


class Regime(NamedTuple):
    """How threads share the rows of a matrix."""

    name: str
    group: int  # threads for a row; 0 for all of a block
    staged: bool  # whether rows come to the chip


TILE = Regime("tile", 1, staged=True)
WARP = Regime("warp", 32, staged=True)
BLOCK = Regime("block", 0, staged=True)
LONG = Regime("long", 0, staged=False)
REGIMES = (TILE, WARP, BLOCK, LONG)

LONGEST_IN_TILE, LONGEST_IN_WARP = 32, 1024
SCRATCH = 1024  # bytes, before the rows on the chip
CHIP = 48 * 1024  # bytes that every GPU gives to a block without being asked


class Launch(NamedTuple):
    """How many blocks, of how many threads, with how many bytes on the chip."""

    blocks: int
    threads: int
    chip: int


def itemsize(dtype: str) -> int:
    """Bytes of a number on the chip, where those of 16 bits are float32."""
    return 8 if dtype == "float64" else 4


def regime_of(columns: int, slots: int, dtype: str, chip: int = CHIP) -> Regime:
    """How rows of this length are shared, `slots` of them being on the chip at once."""
    if columns <= LONGEST_IN_TILE:
        return TILE
    if columns <= LONGEST_IN_WARP:
        return WARP
    needed = SCRATCH + slots * room_for(columns) * itemsize(dtype)
    return BLOCK if needed <= chip else LONG


def room_for(columns: int) -> int:
    """As `staging.room_for`."""
    return (columns + 15) // 8 * 8


def geometry(regime: Regime, rows: int, columns: int, slots: int, dtype: str) -> Launch:
    """Blocks, threads and memory for a matrix."""
    size = itemsize(dtype)
    if regime is TILE:
        threads, per_block = 128, 128
        chip = slots * threads * (columns | 1) * size
    elif regime is WARP:
        # As many warps as fit, for few rows are long ones.
        warps = max(1, min(4, (CHIP - SCRATCH) // (slots * room_for(columns) * size)))
        threads, per_block = 32 * warps, warps
        chip = slots * warps * room_for(columns) * size
    else:
        threads, per_block = (256 if columns <= 4096 else 512 if columns <= 16384 else 1024), 1
        chip = slots * room_for(columns) * size if regime is BLOCK else 0
    blocks = max(1, min(-(-rows // per_block), 2**31 - 1))
    return Launch(blocks, threads, SCRATCH + chip)


def numba_type(argument: Any, regime: Regime) -> Any:
    """The type under which a kernel takes an argument."""
    from numba.core import types

    from ..cpu.halves import BY_NAME
    from .device_words import Matrix, Row

    if isinstance(argument, Rows):
        return Matrix(BY_NAME.get(argument.dtype) or getattr(types, argument.dtype),
                      regime.group, regime.staged)  # fmt: skip
    if isinstance(argument, Numbers):
        return Row(BY_NAME.get(argument.dtype) or getattr(types, argument.dtype), 1)
    if isinstance(argument, Real):
        return getattr(types, argument.dtype)
    if argument is None:
        return types.none
    return types.int64


def flat(arguments: tuple[Any, ...]) -> list[Any]:
    """The arguments as the compiled kernel takes them, one machine word each."""
    words: list[Any] = []
    for a in arguments:
        if isinstance(a, Rows):
            words += [a.address, np.int64(a.stride), np.int64(a.rows), np.int64(a.columns)]
        elif isinstance(a, Numbers):
            words.append(a.address)
        elif isinstance(a, Real):
            words.append(np.dtype(a.dtype).type(a.value))
        elif a is not None:
            words.append(np.int64(a))
    return words
