"""The libraries that fastbp is compared with, where they are installed, and copies of memory."""
# ruff: noqa: D102 - a method has the name of its operation; all do what the class `Library` says

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from .frameworks import Jax, Torch, TorchCompile
from .libraries import Array, Call, Fastbp, Library, NumPy


class OnnxRuntime(Library):
    """ONNX Runtime, a model of one node with its input and output bound to the arrays."""

    name = "onnxruntime"
    module = "onnxruntime"
    # As old as the operators allow, so that any pair of onnx and onnxruntime will do.
    OPSET, IR_VERSION = 13, 7
    dtypes = ("float32", "float64", "float16")

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.onnx: Any = import_module("onnx")

    def _node(self, kind: str, *args: Array, out: Array, **attributes: Any) -> Call:
        helper = self.onnx.helper
        element = helper.np_dtype_to_tensor_dtype
        names = [f"x{i}" for i in range(len(args))]
        inputs = [
            helper.make_tensor_value_info(name, element(a.dtype), a.shape)
            for name, a in zip(names, args, strict=True)
        ]
        output = helper.make_tensor_value_info("y", element(out.dtype), out.shape)
        node = helper.make_node(kind, names, ["y"], **attributes)
        model = helper.make_model(
            helper.make_graph([node], kind, inputs, [output]),
            opset_imports=[helper.make_opsetid("", self.OPSET)],
            ir_version=self.IR_VERSION,
        )
        options = self.lib.SessionOptions()
        options.intra_op_num_threads = self.threads
        session = self.lib.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        binding = session.io_binding()
        for name, a in zip(names, args, strict=True):
            binding.bind_input(name, "cpu", 0, a.dtype, a.shape, a.ctypes.data)
        binding.bind_output("y", "cpu", 0, out.dtype, out.shape, out.ctypes.data)

        def call() -> Array:
            session.run_with_iobinding(binding)
            return out

        return call

    def softmax(self, x: Array, out: Array, *, axis: int = 1) -> Call:
        return self._node("Softmax", x, out=out, axis=axis)

    def log_softmax(self, x: Array, out: Array, *, axis: int = 1) -> Call:
        return self._node("LogSoftmax", x, out=out, axis=axis)

    def logsumexp(self, x: Array, out: Array, *, axis: int = 1) -> Call:
        return self._node("ReduceLogSumExp", x, out=out, axes=[axis], keepdims=0)

    def sigmoid(self, x: Array, out: Array) -> Call:
        return self._node("Sigmoid", x, out=out)

    def softmax_cross_entropy_labels(
        self, logits: Array, labels: Array, _out: None, *, axis: int = 1
    ) -> Call:
        loss = np.empty((), logits.dtype)
        if axis == 0:  # classes are expected along axis 1
            logits, labels = logits[None], labels[None]
        return self._node("SoftmaxCrossEntropyLoss", logits, labels, out=loss, reduction="mean")


class SciPy(Library):
    """scipy.special."""

    name = "scipy"
    module = "scipy"
    dtypes = ("float32", "float64", "float16")

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.special: Any = import_module("scipy.special")

    def softmax(self, x: Array, _out: Array, *, axis: int = 1) -> Call:
        return lambda: self.special.softmax(x, axis=axis)

    def log_softmax(self, x: Array, _out: Array, *, axis: int = 1) -> Call:
        return lambda: self.special.log_softmax(x, axis=axis)

    def logsumexp(self, x: Array, _out: Array, *, axis: int = 1) -> Call:
        return lambda: self.special.logsumexp(x, axis=axis)

    def sigmoid(self, x: Array, out: Array) -> Call:
        expit = self.special.expit
        return lambda: expit(x, out=out)

    def log_sigmoid(self, x: Array, out: Array) -> Call:
        log_expit = self.special.log_expit
        return lambda: log_expit(x, out=out)


class ScikitLearn(Library):
    """scikit-learn: its own softmax, and the losses behind its boosted trees and linear models.

    They are per sample and so are their gradients: the mean is not part of the timed call. What
    holds samples in columns is given as its transpose, which they take as it lies.
    """

    name = "scikit-learn"
    module = "sklearn"
    dtypes = ("float32", "float64")

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.row_softmax: Any = import_module("sklearn.utils.extmath").softmax
        losses: Any = import_module("sklearn._loss")
        self.loss_class = losses.HalfMultinomialLoss
        self.binary_loss_class = losses.HalfBinomialLoss

    def answers(self, result: Any) -> tuple[Array, ...]:
        if isinstance(result, tuple):
            losses, dlogits = result
            return np.asarray(np.mean(losses)), dlogits / losses.size
        return (np.asarray(np.mean(result)) if result.ndim == 1 else result,)

    def softmax(self, x: Array, out: Array, *, axis: int = 1) -> Call:
        row_softmax, rows = self.row_softmax, _rows(out, axis)

        def call() -> Array:
            np.copyto(out, x)  # it works in place, or in an array of its own
            row_softmax(rows, copy=False)
            return out

        return call

    def softmax_cross_entropy_labels(
        self, logits: Array, labels: Array, _out: None, *, axis: int = 1
    ) -> Call:
        x = _rows(logits, axis)
        loss = self.loss_class(n_classes=x.shape[1]).loss
        targets, losses = labels.astype(x.dtype), np.empty(len(x), x.dtype)
        return lambda: loss(targets, x, loss_out=losses, n_threads=self.threads)

    def softmax_cross_entropy_with_grad_labels(
        self, logits: Array, labels: Array, out: Array, *, axis: int = 1
    ) -> Call:
        x, dx = _rows(logits, axis), _rows(out, axis)
        loss_gradient = self.loss_class(n_classes=x.shape[1]).loss_gradient
        targets, losses = labels.astype(x.dtype), np.empty(len(x), x.dtype)

        def call() -> tuple[Array, Array]:
            loss_gradient(targets, x, loss_out=losses, gradient_out=dx, n_threads=self.threads)
            return losses, out

        return call

    def sigmoid_cross_entropy_with_grad_hard(
        self, logits: Array, targets: Array, out: Array
    ) -> Call:
        loss_gradient = self.binary_loss_class().loss_gradient
        x, t, dlogits = (a.reshape(-1) for a in (logits, targets, out))  # it takes one dimension
        losses = np.empty_like(x)

        def call() -> tuple[Array, Array]:
            loss_gradient(t, x, loss_out=losses, gradient_out=dlogits, n_threads=self.threads)
            return losses, out

        return call


def _rows(a: Array, axis: int) -> Array:
    return a if axis else a.T


class NumExpr(Library):
    """NumExpr, which has no reductions along rows worth the name: elementwise operations."""

    name = "numexpr"
    module = "numexpr"
    dtypes = ("float32", "float64")

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.lib.set_num_threads(threads)

    def _evaluate(self, formula: str, out: Array, **variables: Array) -> Call:
        evaluate = self.lib.evaluate
        return lambda: evaluate(formula, variables, {}, out=out)

    def sigmoid(self, x: Array, out: Array) -> Call:
        return self._evaluate("1 / (1 + exp(-x))", out, x=x)

    def log_sigmoid(self, x: Array, out: Array) -> Call:
        return self._evaluate("where(x < 0, x, 0) - log1p(exp(-abs(x)))", out, x=x)

    def sigmoid_backward_y(self, dy: Array, y: Array, out: Array) -> Call:
        return self._evaluate("dy * y * (1 - y)", out, dy=dy, y=y)

    def sigmoid_backward_x(self, dy: Array, x: Array, out: Array) -> Call:
        return self._evaluate("dy / ((1 + exp(-x)) * (1 + exp(x)))", out, dy=dy, x=x)


LIBRARIES: tuple[type[Library], ...] = (
    Fastbp,
    NumPy,
    Torch,
    TorchCompile,
    Jax,
    OnnxRuntime,
    SciPy,
    ScikitLearn,
    NumExpr,
)


def load_libraries(
    threads: int, *, compiled_slowly: bool = True
) -> tuple[dict[str, Library], list[str]]:
    """The libraries that are installed, by name, and the names of those that are not.

    Parameters
    ----------
    threads : int
        How many threads each may use.
    compiled_slowly : bool
        Whether to take those that compile for seconds, too.
    """
    loaded, missing = {}, []
    for library in LIBRARIES:
        if library.slow_to_compile and not compiled_slowly:
            continue
        try:
            loaded[library.name] = library(threads)
        except ImportError:
            missing.append(library.name)
    return loaded, missing


def copies(n_bytes: int, threads: int, libraries: Iterable[Library]) -> dict[str, Call]:
    """Ways to copy arrays so that `n_bytes` are moved: half of them read, half of them written.

    Which one is fastest depends on the size: threads cost more than they gain where it is small.
    """
    source = np.ones(max(1, n_bytes // 8), np.float32)
    target = np.zeros_like(source)  # written once: the first touch of a page costs much more
    calls: dict[str, Call] = {"copy by numpy": lambda: np.copyto(target, source)}
    if threads > 1:
        parts = list(zip(*(np.array_split(a, threads) for a in (target, source)), strict=True))
        pool = ThreadPoolExecutor(threads - 1)

        def copy_in_threads() -> None:
            others = [pool.submit(np.copyto, *part) for part in parts[1:]]
            np.copyto(*parts[0])
            for other in others:
                other.result()

        calls["copy by threads"] = copy_in_threads
    for library in libraries:
        if isinstance(library, Torch):
            copy = library.lib.from_numpy(target).copy_
            calls["copy by torch"] = partial(copy, library.lib.from_numpy(source))
    return calls
