"""What is measured: operations on named shapes, their inputs, and the check of every answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..testing import OPS, as_dtype

Array = NDArray[Any]

# Names in `fastbp.testing.OPS`, some with an option after it, which has a value below.
OPERATIONS = (
    "softmax",
    "log_softmax",
    "logsumexp",
    "sigmoid",
    "log_sigmoid",
    "softmax_backward",
    "log_softmax_backward",
    "sigmoid_backward[y]",
    "sigmoid_backward[x]",
    "softmax_cross_entropy[labels]",
    "softmax_cross_entropy_with_grad[labels]",
    "softmax_cross_entropy_with_grad[labels,label_smoothing]",
    "softmax_cross_entropy_with_grad[labels,class_weight]",
    "softmax_cross_entropy_with_grad[labels,ignore_index]",
    "softmax_cross_entropy_with_grad[probabilities]",
    "sigmoid_cross_entropy_with_grad[hard]",
)

Rng = np.random.Generator
LABEL_SMOOTHING = 0.1
IGNORED, EVERY = -1, 10  # the label of ignored rows, and how many rows there are for one of them

# What an operation is called with besides its arrays, from (rng, n_classes, dtype).
OPTIONS: dict[str, Callable[[Rng, int, np.dtype[Any]], Any]] = {
    "label_smoothing": lambda *_: LABEL_SMOOTHING,
    "class_weight": lambda rng, n_classes, dtype: rng.uniform(0.5, 2, n_classes).astype(dtype),
    "ignore_index": lambda *_: IGNORED,
}

# Which functions take their last array by name only.
BY_NAME = {"sigmoid_backward[x]": "x"}


class Shape(NamedTuple):
    """Rows and columns as they are stored, and the axis that holds what belongs together."""

    n_rows: int
    n_columns: int
    axis: int = 1


def shape_name(shape: tuple[int, ...]) -> str:
    """(32, 10) → 32x10; (1000, 8192, 0) → 1000x8192@0."""
    n_rows, n_columns, axis = Shape(*shape)
    return f"{n_rows}x{n_columns}" + f"@{axis}" * (axis != 1)


def parse_shape(text: str) -> Shape:
    """32x10 → (32, 10, 1); 1000x8192@0 → (1000, 8192, 0).

    Raises
    ------
    ValueError
        If the text is something else.
    """
    stored, at, axis = text.partition("@")
    rows, _, columns = stored.partition("x")
    counts = rows.isdecimal() and columns.isdecimal() and min(int(rows), int(columns)) >= 1
    if not counts or axis not in (("0", "1") if at else ("",)):
        raise ValueError(f"{text!r} is no shape such as 32x10, or 1000x8192@0 along axis 0")
    shape = Shape(int(rows), int(columns), int(axis or 1))
    if shape[shape.axis] < 2:
        raise ValueError(f"{text!r} has less than 2 {('rows', 'columns')[shape.axis]}")
    if shape.n_rows * shape.n_columns > MOST_NUMBERS:
        raise ValueError(f"{text!r} has more than {MOST_NUMBERS} numbers")
    return shape


SHAPES = (
    Shape(1, 10),  # a single row
    Shape(32, 10),  # small batches
    Shape(32, 64),
    Shape(1024, 10),  # many rows of few classes
    Shape(65536, 10),
    Shape(8192, 128),  # rows of a layer
    Shape(8192, 1000),
    Shape(1024, 32000),  # rows of a vocabulary
    Shape(64, 50257),
    Shape(1, 1_000_000),  # a single row of very many columns
    Shape(1000, 8192, 0),  # rows that lie in columns, as classes of pixels do
)
# Arrays that no cache holds.
LARGE_SHAPES = (Shape(65536, 1000), Shape(2000, 32000))
QUICK_SHAPES = (Shape(32, 10), Shape(1024, 10), Shape(8192, 128), Shape(128, 1024, 0))

COPY, FASTBP = "copy", "fastbp"
MOST_NUMBERS = 2**30  # in an array; libraries count in 32 bits
SEED = 0
BLOCK = 2**18  # numbers whose float64 temporaries stay in the cache


def row_of(operation: str) -> str:
    """The operation's name in `OPS`: an option after the kind of targets is not part of it."""
    return operation if operation in OPS else operation.partition(",")[0] + "]"


def has_axis(operation: str) -> bool:
    """Whether the operation works along an axis, or on each element."""
    return "axis" in inspect.signature(OPS[row_of(operation)].function).parameters


class Task(NamedTuple):
    """What is measured at a time."""

    operation: str
    shape: Shape
    dtype: str

    def __str__(self) -> str:
        return f"{self.operation} {shape_name(self.shape)} {self.dtype}"


def tasks(
    operations: Sequence[str], shapes: Sequence[tuple[int, ...]], dtypes: Sequence[str]
) -> list[Task]:
    """All combinations; for operations on elements an axis would be the same once more."""
    return [
        Task(operation, shape, dtype)
        for dtype in dtypes
        for operation in operations
        for shape in (Shape(*s) for s in shapes)
        if shape.axis == 1 or has_axis(operation)
    ]


class WrongAnswerError(Exception):
    """A library's answer differs from that of `fastbp.reference`."""


# Of the row's largest entry, and of the largest of all: what is tolerated. Loose, as peers lose the
# digits of confident rows, and round to 16 bits after each step.
TOLERANCES = {
    "float32": (1e-3, 1e-5),
    "float64": (1e-10, 1e-12),
    "float16": (1e-2, 4e-3),
    "bfloat16": (8e-2, 3e-2),
}


@dataclass(frozen=True)
class Problem:
    """An operation on arrays of one shape and dtype."""

    operation: str
    shape: Shape
    args: tuple[Array, ...]
    out: Array | None  # where libraries may write their result; all share it
    expected: tuple[Array, ...]
    bytes_moved: int
    terms: tuple[float, ...]  # how large the numbers are whose difference each result is
    options: Mapping[str, Any] = field(default_factory=dict)  # for every library, by keyword

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the first array."""
        return self.args[0].dtype

    def check(self, answers: Sequence[Array], name: str) -> None:
        """Raise WrongAnswerError unless the answers are right, within what the dtype allows all.

        Loose: how many ULPs a library is off is another question, for which there is `verify`.
        """
        where = f"{name} is wrong in {self.operation} of {shape_name(self.shape)}: "
        for i, (answer, expected) in enumerate(zip(answers, self.expected, strict=True)):
            what = f"its result {i + 1} of {len(self.expected)}" if i else "its result"
            if answer.shape != expected.shape:
                raise WrongAnswerError(
                    f"{where}{what} has shape {answer.shape}, not {expected.shape}"
                )
            error = self._error(answer.astype(expected.dtype, copy=False), expected, self.terms[i])
            if not error <= 1:  # written so that NaN fails, too
                raise WrongAnswerError(f"{where}{what} is off by {error:.3g} times the tolerance")

    def _error(self, answer: Array, expected: Array, term: float) -> float:
        """The largest error, in units of what is tolerated."""
        if not expected.size:
            return 0.0
        size = np.abs(expected)
        largest = np.max(size, axis=self.shape.axis, keepdims=True) if size.ndim == 2 else size
        of_row, of_all = TOLERANCES[self.dtype.name]
        # Gradients of a mean over many rows may be subnormal in float16.
        least = 6e-8 if self.dtype.name == "float16" else np.finfo(np.float32).tiny
        tolerance = of_row * largest + of_all * max(np.max(size), term) + least
        return float(np.max(np.abs(answer - expected) / tolerance))


def by_keyword(operation: str, args: tuple[Array, ...]) -> tuple[tuple[Array, ...], dict[str, Any]]:
    """What fastbp and its reference take by position, and what by name."""
    name = BY_NAME.get(operation)
    return (args[:-1], {name: args[-1]}) if name else (args, {})


def make_problem(operation: str, shape: tuple[int, ...], dtype: str = "float32") -> Problem:
    """The operation on normal numbers with mean 0 and standard deviation 3, with its answer.

    Unlike the inputs in `fastbp.testing`, these are no traps: they are to be easy for all.
    """
    shape = Shape(*shape)
    # Made with a row for each thing; turned at the end.
    n_rows, n_columns = shape[:2] if shape.axis else shape[1::-1]
    rng = np.random.default_rng(SEED)
    args = _inputs(operation, rng, (n_rows, n_columns), as_dtype(dtype))
    words = operation.partition("[")[2].removesuffix("]").split(",")
    options = {
        word: OPTIONS[word](rng, n_columns, args[0].dtype) for word in words if word in OPTIONS
    }
    expected = _expected(operation, args, options)
    terms = _terms(operation, args)
    if shape.axis == 0:
        options = {**options, "axis": 0}
        args, expected = (tuple(map(_turned, arrays)) for arrays in (args, expected))
    out = np.empty(expected[-1].shape, args[0].dtype) if expected[-1].ndim else None
    n_bytes = OPS[row_of(operation)].bytes_moved(n_rows, n_columns, args[0].itemsize)
    return Problem(operation, shape, args, out, expected, n_bytes, terms, options)


def _terms(operation: str, args: tuple[Array, ...]) -> tuple[float, ...]:
    """How large the numbers are whose difference each result is, where that may be much smaller."""
    if operation == "softmax_backward":
        return (float(np.max(np.abs(args[0] * args[1]))),)
    if "cross_entropy" in operation:
        n = args[0].size if operation.startswith("sigmoid") else len(args[0])
        return float(np.mean(np.abs(args[0]), dtype=np.float32)), 1 / n
    return (0.0,)


def _turned(a: Array) -> Array:
    return np.ascontiguousarray(a.T) if a.ndim == 2 else a


def _inputs(
    operation: str, rng: Rng, shape: tuple[int, int], dtype: np.dtype[Any]
) -> tuple[Array, ...]:
    def normal(scale: float = 1) -> Array:
        wide = np.float64 if dtype == np.float64 else np.float32
        return (scale * rng.standard_normal(shape, wide)).astype(dtype, copy=False)

    n_rows, n_columns = shape
    x = normal(3)
    if "backward" in operation:
        dy = normal()
        if operation.startswith("log_softmax"):
            saved = np.log(softmax(wide_enough(x)))
        elif operation.startswith("softmax"):
            saved = softmax(wide_enough(x))
        else:
            saved = x if operation in BY_NAME else sigmoid(wide_enough(x))
        return dy, saved.astype(dtype, copy=False)
    if "labels" in operation:
        labels = rng.integers(n_columns, size=n_rows)
        if "ignore_index" in operation:
            labels[1::EVERY] = IGNORED
        return x, labels
    if "probabilities" in operation:
        return x, softmax(wide_enough(normal())).astype(dtype, copy=False)
    if "hard" in operation:
        return x, rng.integers(2, size=shape).astype(dtype)
    return (x,)


def wide_enough(a: Any) -> Any:
    """Arrays of 16 bits as float32, all else as it is."""
    return a.astype(np.float32) if isinstance(a, np.ndarray) and a.itemsize == 2 else a


def _expected(
    operation: str, args: tuple[Array, ...], options: Mapping[str, Any]
) -> tuple[Array, ...]:
    """The reference's results; computed some rows at a time, which is much faster.

    They are float64 for float64, float32 for all others.
    """
    args = tuple(map(wide_enough, args))
    options = {name: wide_enough(value) for name, value in options.items()}
    n_rows, n_columns = args[0].shape
    is_loss = "cross_entropy" in operation
    given = {**options, "reduction": "none"} if is_loss else options
    step = max(1, BLOCK // n_columns)
    blocks = []
    for first in range(0, n_rows, step):
        positional, named = by_keyword(operation, tuple(a[first : first + step] for a in args))
        block = OPS[row_of(operation)].reference(*positional, **named, **given)
        blocks.append(block if isinstance(block, tuple) else (block,))
    dtype = args[0].dtype
    results: list[Array]
    results = [np.concatenate(parts, dtype=dtype) for parts in zip(*blocks, strict=True)]
    if is_loss:  # the mean over the rows, or over the elements
        losses, share = results[0], np.ones(results[0].shape)
        if "ignore_index" in options:
            share *= args[1] != options["ignore_index"]
        if "class_weight" in options:
            share *= options["class_weight"][args[1]]
        results[0] = np.asarray(np.sum(losses, dtype=np.float64) / share.sum(), dtype)
        results[1:] = [dlogits / share.sum(dtype=dtype) for dlogits in results[1:]]
    return tuple(results)


def softmax(x: Array, axis: int = 1) -> Array:
    """Softmax of each row, or column."""
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    y: Array = e / np.sum(e, axis=axis, keepdims=True)
    return y


def sigmoid(x: Array) -> Array:
    """Sigmoid of each element."""
    y: Array = 1 / (1 + np.exp(-x))
    return y
