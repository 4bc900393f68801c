"""The words of kernels for a GPU, beyond those of `fastbp.cpu.vectors`.

A kernel runs in every thread of a grid of blocks. A *group* of threads computes a row: one thread,
a warp of 32, or a whole block, as the matrix says that holds the row. To a function of one row a
"vector" is one number in each thread of its group: `lanes` is how many threads that are, and what
is folded across the lanes is folded across the group.

The bodies are empty: these functions exist only inside a kernel.
"""

from typing import Any

Matrix = Any
Pointer = Any


def rows(x: Matrix) -> int:  # type: ignore[empty-body]
    """How many rows there are."""


def columns(x: Matrix) -> int:  # type: ignore[empty-body]
    """How many columns there are."""


def first_row(x: Matrix) -> int:  # type: ignore[empty-body]
    """The first row that this block, or warp, is to compute; of a tile of short rows, its first."""


def row_step(x: Matrix) -> int:  # type: ignore[empty-body]
    """From one row, or tile, that it is to compute, to the next."""


def own_row(x: Matrix, i: int) -> int:  # type: ignore[empty-body]
    """The row that this thread computes, where `first_row` and `row_step` have come to i."""


def read_row(x: Matrix, i: int, n: int, slot: int) -> Pointer:
    """The row `own_row(x, i)` on the chip, of numbers as they are computed with.

    Several rows of a group stand in different slots. Of a matrix whose rows are too long for the
    chip it is the row where it is.
    """


def result_row(p: Pointer, y: Matrix, i: int) -> Pointer:
    """Where the result of a row that was read as p is to stand: p, or a long row of y itself."""


def write_row(p: Pointer, y: Matrix, i: int, n: int) -> None:
    """Write what stands on the chip to that row of y."""


def read_part(x: Matrix, i: int, start: int, n: int, slot: int) -> Pointer:
    """As `read_row`, of n columns of row i from `start` on, by a block."""


def result_part(p: Pointer, y: Matrix, i: int, start: int) -> Pointer:
    """As `result_row`, of a part of a row."""


def write_part(p: Pointer, y: Matrix, i: int, start: int, n: int) -> None:
    """As `write_row`, of a part of a row."""


def put_number(x: Matrix, numbers: Pointer, i: int, value: float) -> None:
    """numbers[own_row(x, i)] = value, by one thread of the group, if there is such a row."""


def result_if_given(p: Pointer, y: Matrix, i: int) -> Pointer:
    """As `result_row`, or None if y is, which is known while compiling."""


def spare_row(x: Matrix, room: Matrix, needed: Any, n: int, slot: int) -> Pointer:
    """Room for n numbers in that slot of the chip; for a long row, the block's row of `room`.

    It is None if `needed` is, which is known while compiling.
    """


def if_staged(x: Matrix, p: Pointer) -> Pointer:
    """p, or None if rows of x are too long for the chip, which is known while compiling."""


def of_block(p: Pointer) -> Pointer:
    """The same pointer, for all threads of a block to go along together."""


def least_across(p: Pointer, k: int) -> int:  # type: ignore[empty-body]
    """The least of the integers that the threads of the group have."""


def class_at(labels: Pointer, i: int, n: int) -> int:  # type: ignore[empty-body]
    """labels[i], an integer of any width or a float; -1 if it is none of the integers 0 … n - 1."""


def is_fraction(numbers: Pointer, i: int) -> bool:  # type: ignore[empty-body]
    """Whether numbers[i], integers or floats, is 0 to 1."""


# what those are made of ---------------------------------------------------------------------------


def thread() -> int:  # type: ignore[empty-body]
    """The number of this thread in its block."""


def threads() -> int:  # type: ignore[empty-body]
    """How many threads a block has."""


def block() -> int:  # type: ignore[empty-body]
    """The number of this block."""


def blocks() -> int:  # type: ignore[empty-body]
    """How many blocks there are."""


def lane(p: Pointer) -> int:  # type: ignore[empty-body]
    """The number of this thread in its group."""


def wait(p: Pointer) -> None:
    """Wait for all threads of the group: what they have written can be read then."""


def wait_block() -> None:
    """Wait for all threads of the block."""


def chip(p: Pointer, offset: int) -> Pointer:
    """Room on the chip that a block shares, from that number on, of the type computed with."""


def stride(x: Matrix) -> int:  # type: ignore[empty-body]
    """From one row to the next, in numbers."""


def pack(p: Pointer) -> int:  # type: ignore[empty-body]
    """How many numbers are in 16 bytes."""


def beyond_16(p: Pointer) -> int:  # type: ignore[empty-body]
    """How many numbers p is behind the last address that is a multiple of 16 bytes."""


def row_at(x: Matrix, i: int) -> Pointer:
    """Row i of x where it is, in the GPU's memory."""


def copy_1(target: Pointer, source: Pointer, j: int) -> None:
    """target[j] = source[j], by this thread alone."""


def copy_16(target: Pointer, source: Pointer, j: int) -> None:
    """The same for as many numbers from j on as are in 16 bytes of the GPU's memory, at once.

    One of the two is on the chip; both are aligned alike, and target[j] on a multiple of 16 bytes.
    """


def at_once(p: Pointer) -> int:  # type: ignore[empty-body]
    """How many 16 bytes a thread reads before it writes any, see below; known while compiling."""


def copy_16_at_once(target: Pointer, source: Pointer, j: int, step: int) -> None:
    """`copy_16` at j, j + step … , as often as `at_once(source)` says."""


def copy_16_apart(target: Pointer, source: Pointer, j: int) -> None:
    """The same where only what is not on the chip is so aligned."""


def copy_place(target: Pointer, k: int, source: Pointer, j: int) -> None:
    """target[k] = source[j], by this thread alone."""


def convert_place(target: Pointer, k: int, source: Pointer, j: int) -> None:
    """target[k] = source[j] converted to target's type, both in the GPU's memory.

    Floats of any kind become floats of any kind, and integers likewise, through float64. Where the
    types are one, bits are copied.
    """


def map_1(formula: Any, target: Pointer, j: int, *sources: Pointer) -> None:
    """target[j] = formula(source[j], …), by this thread alone."""


def map_16(formula: Any, target: Pointer, j: int, *sources: Pointer) -> None:
    """The same for as many numbers from j on as are in 16 bytes; all are aligned so."""
