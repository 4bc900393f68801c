"""What a library is to the benchmarks; fastbp itself, and plain NumPy."""
# ruff: noqa: D102 - a method has the name of its operation; all do what the class `Library` says

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..testing import OPS
from .problems import FASTBP, OPERATIONS, Problem, sigmoid, softmax

Array = NDArray[Any]
Call = Callable[[], Any]


class Library:
    """A library: each method named like an operation prepares the call that is timed.

    A method is given the operation's arguments and `out`, a float32 array for its result: that of
    a loss with gradient is dlogits, and the loss alone has none. The operation's options come by
    keyword. It returns a function without arguments; converting, compiling and allocating are done
    before, in the method.

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

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.lib: Any = import_module(self.module)

    @property
    def version(self) -> str:
        """The library's version."""
        return str(self.lib.__version__)

    @classmethod
    def has(cls, operation: str) -> bool:
        """Whether the library has the operation."""
        return hasattr(cls, method_name(operation))

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
    def has(cls, operation: str) -> bool:
        return operation in OPERATIONS

    def call(self, problem: Problem) -> Call:
        function, args, keywords = OPS[problem.operation].function, problem.args, problem.options
        if problem.out is not None:
            keywords = {**keywords, "out": problem.out}
        return lambda: function(*args, **keywords)


class NumPy(Library):
    """Plain NumPy in float32, as one would write it in a course."""

    name = "numpy"
    module = "numpy"

    def softmax(self, x: Array, _out: Array) -> Call:
        return lambda: softmax(x)

    def log_softmax(self, x: Array, _out: Array) -> Call:
        def call() -> Any:
            z = x - np.max(x, axis=1, keepdims=True)
            return z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))

        return call

    def logsumexp(self, x: Array, _out: Array) -> Call:
        def call() -> Any:
            m = np.max(x, axis=1, keepdims=True)
            return m[:, 0] + np.log(np.sum(np.exp(x - m), axis=1))

        return call

    def sigmoid(self, x: Array, _out: Array) -> Call:
        return lambda: sigmoid(x)

    def log_sigmoid(self, x: Array, _out: Array) -> Call:
        return lambda: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))

    def softmax_backward(self, dy: Array, y: Array, _out: Array) -> Call:
        return lambda: y * (dy - np.sum(dy * y, axis=1, keepdims=True))

    def sigmoid_backward_y(self, dy: Array, y: Array, _out: Array) -> Call:
        return lambda: dy * y * (1 - y)

    def softmax_cross_entropy_labels(self, logits: Array, labels: Array, _out: None) -> Call:
        def call() -> Any:
            z = logits - np.max(logits, axis=1, keepdims=True)
            log_total = np.log(np.sum(np.exp(z), axis=1))
            return np.mean(log_total - z[np.arange(len(z)), labels])

        return call

    def softmax_cross_entropy_with_grad_labels(
        self, logits: Array, labels: Array, _out: Array
    ) -> Call:
        def call() -> tuple[Any, Array]:
            p = softmax(logits)
            rows = np.arange(len(p))
            loss = -np.mean(np.log(p[rows, labels]))
            p[rows, labels] -= 1
            p /= len(p)
            return loss, p

        return call

    def softmax_cross_entropy_with_grad_labels_label_smoothing(
        self, logits: Array, labels: Array, _out: Array, *, label_smoothing: float
    ) -> Call:
        on, off = 1 - label_smoothing, label_smoothing / logits.shape[1]

        def call() -> tuple[Any, Array]:
            z = logits - np.max(logits, axis=1, keepdims=True)
            p = np.exp(z)
            total = np.sum(p, axis=1, keepdims=True)
            rows = np.arange(len(p))
            smoothed = on * z[rows, labels] + off * np.sum(z, axis=1)
            loss = np.mean(np.log(total[:, 0]) - smoothed)
            p /= total
            p -= off
            p[rows, labels] -= on
            p /= len(p)
            return loss, p

        return call

    def softmax_cross_entropy_with_grad_probabilities(
        self, logits: Array, targets: Array, _out: Array
    ) -> Call:
        def call() -> tuple[Any, Array]:
            p = softmax(logits)
            loss = -np.mean(np.sum(targets * np.log(p), axis=1))
            return loss, (p - targets) / len(p)

        return call

    def sigmoid_cross_entropy_with_grad_hard(
        self, logits: Array, targets: Array, _out: Array
    ) -> Call:
        def call() -> tuple[Any, Array]:
            z = np.exp(-np.abs(logits))
            loss = np.mean(np.maximum(logits, 0) - logits * targets + np.log1p(z))
            return loss, (np.where(logits < 0, z, 1) / (1 + z) - targets) / logits.size

        return call


def make_call(library: Library, problem: Problem) -> Call:
    """The call to be timed, after a first one whose answer was right.

    Raises
    ------
    WrongAnswerError
        If it was not.
    """
    call = library.call(problem)
    if problem.out is not None:
        problem.out.fill(np.nan)  # or the library before would have answered for this one
    problem.check(library.answers(call()), library.name)
    return call
