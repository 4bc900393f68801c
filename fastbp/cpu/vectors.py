"""The words in which kernels speak of vectors; `simd` says what they mean to the compiler.

A kernel is a plain Python function that Numba compiles. It reads and writes memory through row
pointers, in vectors of `lanes` numbers: 16 float32 or 8 float64. Vectors have the operators of
numbers, so the formulas take them as they stand. This module imports nothing, so that a page of
operations can name its kernels without starting the compiler.

The bodies are empty: these functions exist only inside a kernel.
"""
# ruff: noqa: ARG001  (the arguments are the declaration)

from typing import Any

Pointer = Any
Vector = Any
Number = Any


def row(array: Any, i: int) -> Pointer:
    """Pointer to row i of a 2-D array whose rows are contiguous, or to element i of a 1-D one.

    Of None it is None, which is known while compiling.
    """


def advance(p: Pointer, n: int) -> Pointer:
    """The pointer n elements further on."""


def lanes(p: Pointer) -> int:  # type: ignore[empty-body]
    """How many numbers of p's type a vector holds; known while compiling."""


def load(p: Pointer, j: int) -> Vector:
    """The vector p[j], p[j + 1], …"""


def load_some(p: Pointer, j: int, n: int, fill: float) -> Vector:
    """As `load`, but only the first n lanes are read; the others are `fill`."""


def store(p: Pointer, j: int, v: Vector) -> None:
    """Write v to p[j], p[j + 1], …"""


def store_some(p: Pointer, j: int, n: int, v: Vector) -> None:
    """Write the first n lanes of v."""


def splat(p: Pointer, value: float) -> Vector:
    """A vector of p's type with `value` in every lane."""


def splat64(p: Pointer, value: float) -> Vector:
    """A vector of as many float64 as there are lanes in a vector of p's type."""


def number(p: Pointer, value: float) -> Number:
    """`value` as a single number of p's type."""


def count(mask: Vector) -> int:  # type: ignore[empty-body]
    """In how many lanes the mask holds."""


def first_lanes(v: Vector, n: int) -> Vector:
    """v with 0 in all but the first n lanes."""
