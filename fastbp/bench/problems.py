"""What is measured: operations on named shapes, their inputs, and the check of every answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..testing import OPS

Array = NDArray[Any]

# Names in `fastbp.testing.OPS`.
OPERATIONS = (
    "softmax",
    "log_softmax",
    "logsumexp",
    "sigmoid",
    "log_sigmoid",
    "softmax_backward",
    "sigmoid_backward[y]",
    "softmax_cross_entropy[labels]",
    "softmax_cross_entropy_with_grad[labels]",
    "softmax_cross_entropy_with_grad[labels,label_smoothing]",
    "softmax_cross_entropy_with_grad[probabilities]",
    "sigmoid_cross_entropy_with_grad[hard]",
)

# What an operation is called with besides its arrays.
OPTIONS: dict[str, dict[str, Any]] = {
    "softmax_cross_entropy_with_grad[labels,label_smoothing]": {"label_smoothing": 0.1},
}

# Rows x columns: a single row, small batches, many rows of few classes, rows of a layer, rows of a
# vocabulary, a single row of very many columns.
SHAPES = (
    (1, 10),
    (32, 10),
    (32, 64),
    (1024, 10),
    (65536, 10),
    (8192, 128),
    (8192, 1000),
    (1024, 32000),
    (64, 50257),
    (1, 1_000_000),
)
QUICK_SHAPES = ((32, 10), (1024, 10), (8192, 128))

COPY, FASTBP = "copy", "fastbp"
MOST_NUMBERS = 2**30  # in an array; libraries count in 32 bits
SEED = 0
BLOCK = 2**18  # numbers whose float64 temporaries stay in the cache


def shape_name(shape: tuple[int, int]) -> str:
    """(32, 10) → 32x10."""
    return f"{shape[0]}x{shape[1]}"


def parse_shape(text: str) -> tuple[int, int]:
    """32x10 → (32, 10).

    Raises
    ------
    ValueError
        If the text is something else.
    """
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) >= 1 and int(columns) >= 2):
        raise ValueError(
            f"{text!r} is no shape such as {shape_name(SHAPES[0])}, of 2 columns at least"
        )
    if int(rows) * int(columns) > MOST_NUMBERS:
        raise ValueError(f"{text!r} has more than {MOST_NUMBERS} numbers")
    return int(rows), int(columns)


class WrongAnswerError(Exception):
    """A library's answer differs from that of `fastbp.reference`."""


@dataclass(frozen=True)
class Problem:
    """An operation on float32 arrays of one shape."""

    operation: str
    shape: tuple[int, int]
    args: tuple[Array, ...]
    out: Array | None  # where libraries may write their result; all share it
    expected: tuple[Array, ...]
    bytes_moved: int
    options: Mapping[str, Any] = field(default_factory=dict)  # for every library, by keyword

    def check(self, answers: Sequence[Array], name: str) -> None:
        """Raise WrongAnswerError unless the answers are right, within what float32 allows all.

        Loose: how many ULPs a library is off is another question, for which there is `verify`.
        """
        where = f"{name} is wrong in {self.operation} of {shape_name(self.shape)}: "
        for i, (answer, expected) in enumerate(zip(answers, self.expected, strict=True)):
            what = f"its result {i + 1} of {len(self.expected)}" if i else "its result"
            if answer.shape != expected.shape:
                raise WrongAnswerError(
                    f"{where}{what} has shape {answer.shape}, not {expected.shape}"
                )
            if not (error := _error(answer, expected)) <= 1:  # written so that NaN fails, too
                raise WrongAnswerError(f"{where}{what} is off by {error:.3g} times the tolerance")


def _error(answer: Array, expected: Array) -> float:
    """The largest error, in units of what is tolerated.

    That is 1e-3 of the row's largest entry and 1e-5 of the largest of all, because peers lose the
    digits of confident rows.
    """
    if not expected.size:
        return 0.0
    size = np.abs(expected)
    largest = np.max(size, axis=1, keepdims=True) if size.ndim == 2 else size
    tolerance = 1e-3 * largest + 1e-5 * np.max(size) + np.finfo(np.float32).tiny
    return float(np.max(np.abs(answer - expected) / tolerance))


def make_problem(operation: str, shape: tuple[int, int]) -> Problem:
    """The operation on normal numbers with mean 0 and standard deviation 3, with its answer.

    Unlike the inputs in `fastbp.testing`, these are no traps: they are to be easy for all.
    """
    args = _inputs(operation, shape)
    options = OPTIONS.get(operation, {})
    expected = _expected(operation, args, options)
    out = np.empty_like(expected[-1]) if expected[-1].ndim else None
    n_bytes = OPS[operation].bytes_moved(*shape, args[0].itemsize)
    return Problem(operation, shape, args, out, expected, n_bytes, options)


def _inputs(operation: str, shape: tuple[int, int]) -> tuple[Array, ...]:
    rng = np.random.default_rng(SEED)
    n_rows, n_columns = shape
    x: Array = 3 * rng.standard_normal(shape, np.float32)
    if "backward" in operation:
        dy = rng.standard_normal(shape, np.float32)
        return dy, softmax(x) if operation.startswith("softmax") else sigmoid(x)
    if "labels" in operation:
        return x, rng.integers(n_columns, size=n_rows)
    if "probabilities" in operation:
        return x, softmax(rng.standard_normal(shape, np.float32))
    if "hard" in operation:
        return x, rng.integers(2, size=shape).astype(np.float32)
    return (x,)


def _expected(
    operation: str, args: tuple[Array, ...], options: Mapping[str, Any]
) -> tuple[Array, ...]:
    """The reference's results in float32; computed some rows at a time, which is much faster."""
    n_rows, n_columns = args[0].shape
    is_loss = "cross_entropy" in operation
    if is_loss:
        options = {**options, "reduction": "none"}
    step = max(1, BLOCK // n_columns)
    blocks = []
    for first in range(0, n_rows, step):
        block = OPS[operation].reference(*(a[first : first + step] for a in args), **options)
        blocks.append(block if isinstance(block, tuple) else (block,))
    results: list[Array]
    results = [np.concatenate(parts, dtype=np.float32) for parts in zip(*blocks, strict=True)]
    if is_loss:  # the mean over the rows, or over the elements
        losses = results[0]
        results[0] = np.asarray(np.mean(losses, dtype=np.float64), np.float32)
        results[1:] = [dlogits / losses.size for dlogits in results[1:]]
    return tuple(results)


def softmax(x: Array) -> Array:
    """Softmax of each row."""
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    y: Array = e / np.sum(e, axis=1, keepdims=True)
    return y


def sigmoid(x: Array) -> Array:
    """Sigmoid of each element."""
    y: Array = 1 / (1 + np.exp(-x))
    return y
