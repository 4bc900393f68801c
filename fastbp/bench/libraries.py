"""What a library is to the benchmarks; fastbp itself, and plain NumPy."""
# ruff: noqa: D102 - a method has the name of its operation; all do what the class `Library` says

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..testing import OPS
from .problems import (
    FASTBP,
    OPERATIONS,
    Problem,
    by_keyword,
    row_of,
    sigmoid,
    softmax,
    wide_enough,
)

Array = NDArray[Any]
Call = Callable[[], Any]


class Library:
    """A library: each method named like an operation prepares the call that is timed.

    A method is given the operation's arguments and `out`, an array for its result: that of a loss
    with gradient is dlogits, and the loss alone has none. The operation's options come by keyword,
    among them axis=0 where arrays hold rows in their columns. It returns a function without
    arguments; converting, compiling and allocating are done before, in the method.

    Parameters
    ----------
    threads : int
        How many threads the library may use.

    Raises
    ------
    ImportError
        If the library is not installed.
    """

    name = ""
    module = ""  # what to import, and whose version to report
    slow_to_compile = False
    dtypes: tuple[str, ...] = ("float32", "float64", "float16", "bfloat16")

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.lib: Any = import_module(self.module)

    @property
    def version(self) -> str:
        """The library's version."""
        return str(self.lib.__version__)

    @classmethod
    def has(cls, operation: str, dtype: str = "float32") -> bool:
        """Whether the library has the operation, and the dtype at all."""
        return hasattr(cls, method_name(operation)) and dtype in cls.dtypes

    def call(self, problem: Problem) -> Call:
        """The call to be timed."""
        prepare = getattr(self, method_name(problem.operation))
        call: Call = prepare(*problem.args, problem.out, **problem.options)
        return call

    def answers(self, result: Any) -> tuple[Array, ...]:
        """What the call returned, as NumPy arrays; not timed."""
        results = result if isinstance(result, tuple) else (result,)
        return tuple(np.asarray(r) for r in results)


def method_name(operation: str) -> str:
    """softmax_cross_entropy[labels,sum] → softmax_cross_entropy_labels_sum."""
    return operation.replace("[", "_").replace(",", "_").removesuffix("]")


class Fastbp(Library):
    """fastbp itself, every operation as the table has it."""

    name = FASTBP
    module = "fastbp"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import_module("numba").set_num_threads(threads)

    @classmethod
    def has(cls, operation: str, dtype: str = "float32") -> bool:
        return operation in OPERATIONS and dtype in cls.dtypes

    def call(self, problem: Problem) -> Call:
        function = OPS[row_of(problem.operation)].function
        args, named = by_keyword(problem.operation, problem.args)
        keywords = {**named, **problem.options}
        if problem.out is not None:
            keywords["out"] = problem.out
        return lambda: function(*args, **keywords)


class NumPy(Library):
    """Plain NumPy, as one would write it in a course; numbers of 16 bits computed in float32."""

    name = "numpy"
    module = "numpy"

    def call(self, problem: Problem) -> Call:
        if problem.dtype.itemsize > 2:
            return super().call(problem)
        prepare, dtype = super().call, problem.dtype

        def call() -> Any:
            args = tuple(map(wide_enough, problem.args))
            options = {name: wide_enough(value) for name, value in problem.options.items()}
            result = prepare(dataclasses.replace(problem, args=args, options=options))()
            if isinstance(result, tuple):
                return tuple(r.astype(dtype) for r in result)
            return result.astype(dtype)

        return call

    def softmax(self, x: Array, _out: Array, *, axis: int = 1) -> Call:
        return lambda: softmax(x, axis)

    def log_softmax(self, x: Array, _out: Array, *, axis: int = 1) -> Call:
        def call() -> Any:
            z = x - np.max(x, axis=axis, keepdims=True)
            return z - np.log(np.sum(np.exp(z), axis=axis, keepdims=True))

        return call

    def logsumexp(self, x: Array, _out: Array, *, axis: int = 1) -> Call:
        def call() -> Any:
            m = np.max(x, axis=axis, keepdims=True)
            return np.squeeze(m, axis) + np.log(np.sum(np.exp(x - m), axis=axis))

        return call

    def sigmoid(self, x: Array, _out: Array) -> Call:
        return lambda: sigmoid(x)

    def log_sigmoid(self, x: Array, _out: Array) -> Call:
        return lambda: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))

    def softmax_backward(self, dy: Array, y: Array, _out: Array, *, axis: int = 1) -> Call:
        return lambda: y * (dy - np.sum(dy * y, axis=axis, keepdims=True))

    def log_softmax_backward(self, dy: Array, y: Array, _out: Array, *, axis: int = 1) -> Call:
        return lambda: dy - np.exp(y) * np.sum(dy, axis=axis, keepdims=True)

    def sigmoid_backward_y(self, dy: Array, y: Array, _out: Array) -> Call:
        return lambda: dy * y * (1 - y)

    def sigmoid_backward_x(self, dy: Array, x: Array, _out: Array) -> Call:
        def call() -> Any:
            y = sigmoid(x)
            return dy * y * (1 - y)

        return call

    def softmax_cross_entropy_labels(
        self, logits: Array, labels: Array, _out: None, *, axis: int = 1
    ) -> Call:
        def call() -> Any:
            z = logits - np.max(logits, axis=axis, keepdims=True)
            log_total = np.log(np.sum(np.exp(z), axis=axis))
            return np.mean(log_total - z[_at(labels, axis)])

        return call

    def softmax_cross_entropy_with_grad_labels(
        self, logits: Array, labels: Array, _out: Array, *, axis: int = 1
    ) -> Call:
        def call() -> tuple[Any, Array]:
            p = softmax(logits, axis)
            at = _at(labels, axis)
            loss = -np.mean(np.log(p[at]))
            p[at] -= 1
            p /= len(labels)
            return loss, p

        return call

    def softmax_cross_entropy_with_grad_labels_label_smoothing(
        self, logits: Array, labels: Array, _out: Array, *, label_smoothing: float, axis: int = 1
    ) -> Call:
        on, off = 1 - label_smoothing, label_smoothing / logits.shape[axis]

        def call() -> tuple[Any, Array]:
            z = logits - np.max(logits, axis=axis, keepdims=True)
            p = np.exp(z)
            total = np.sum(p, axis=axis, keepdims=True)
            at = _at(labels, axis)
            smoothed = on * z[at] + off * np.sum(z, axis=axis)
            loss = np.mean(np.log(np.squeeze(total, axis)) - smoothed)
            p /= total
            p -= off
            p[at] -= on
            p /= len(labels)
            return loss, p

        return call

    def softmax_cross_entropy_with_grad_labels_class_weight(
        self, logits: Array, labels: Array, _out: Array, *, class_weight: Array, axis: int = 1
    ) -> Call:
        return lambda: _weighted_loss(logits, labels, class_weight[labels], axis)

    def softmax_cross_entropy_with_grad_labels_ignore_index(
        self, logits: Array, labels: Array, _out: Array, *, ignore_index: int, axis: int = 1
    ) -> Call:
        def call() -> tuple[Any, Array]:
            counted = labels != ignore_index
            weights = counted.astype(logits.dtype)
            return _weighted_loss(logits, np.where(counted, labels, 0), weights, axis)

        return call

    def softmax_cross_entropy_with_grad_probabilities(
        self, logits: Array, targets: Array, _out: Array, *, axis: int = 1
    ) -> Call:
        def call() -> tuple[Any, Array]:
            p = softmax(logits, axis)
            loss = -np.mean(np.sum(targets * np.log(p), axis=axis))
            return loss, (p - targets) / logits.shape[1 - axis]

        return call

    def sigmoid_cross_entropy_with_grad_hard(
        self, logits: Array, targets: Array, _out: Array
    ) -> Call:
        def call() -> tuple[Any, Array]:
            z = np.exp(-np.abs(logits))
            loss = np.mean(np.maximum(logits, 0) - logits * targets + np.log1p(z))
            return loss, (np.where(logits < 0, z, 1) / (1 + z) - targets) / logits.size

        return call


def _at(labels: Array, axis: int) -> tuple[Array, Array]:
    """Where the labels' classes are."""
    rows = np.arange(len(labels))
    return (rows, labels) if axis else (labels, rows)


def _weighted_loss(logits: Array, labels: Array, weights: Array, axis: int) -> tuple[Any, Array]:
    """The mean loss, with a weight for each row, and its gradient."""
    p = softmax(logits, axis)
    at = _at(labels, axis)
    weights = weights / np.sum(weights)
    loss = -np.sum(weights * np.log(p[at]))
    p[at] -= 1
    p *= np.expand_dims(weights, axis)
    return loss, p


class RefusedError(Exception):
    """A library has an operation, but not for this dtype."""


def make_call(library: Library, problem: Problem) -> Call:
    """The call to be timed, after a first one whose answer was right.

    Raises
    ------
    WrongAnswerError
        If it was not.
    RefusedError
        If the library says that it has no code for the dtype.
    """
    try:
        call = library.call(problem)
        if problem.out is not None:
            problem.out.fill(np.nan)  # or the library before would have answered for this one
        result = call()
    except Exception as error:
        # PyTorch: '"mul" not implemented for …'; ONNX Runtime: "NOT_IMPLEMENTED : …".
        if "not implemented" in str(error).lower().replace("_", " "):
            raise RefusedError(f"{library.name}: {error}") from error
        raise
    problem.check(library.answers(result), library.name)
    return call
