"""The libraries that fastbp is compared with, where they are installed, and copies of memory."""
# ruff: noqa: D102 - a method has the name of its operation; all do what the class `Library` says

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from .libraries import Array, Call, Fastbp, Library, NumPy


class Torch(Library):
    """PyTorch, eagerly; a gradient comes from autograd."""

    name = "torch"
    module = "torch"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.lib.set_num_threads(threads)
        self.cross_entropy = self.lib.nn.functional.cross_entropy

    def answers(self, result: Any) -> tuple[Array, ...]:
        results = result if isinstance(result, tuple) else (result,)
        return tuple(r.detach().numpy() for r in results)

    def _into(self, function: Callable[..., Any], *args: Array | int, out: Array) -> Call:
        """function(*args, out=out)."""
        arrays = [self.lib.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args]
        result = self.lib.from_numpy(out)
        return lambda: function(*arrays, out=result)

    def softmax(self, x: Array, out: Array) -> Call:
        return self._into(self.lib.softmax, x, 1, out=out)

    def log_softmax(self, x: Array, out: Array) -> Call:
        return self._into(self.lib.log_softmax, x, 1, out=out)

    def logsumexp(self, x: Array, out: Array) -> Call:
        return self._into(self.lib.logsumexp, x, 1, out=out)

    def sigmoid(self, x: Array, out: Array) -> Call:
        return self._into(self.lib.sigmoid, x, out=out)

    def log_sigmoid(self, x: Array, _out: Array) -> Call:
        t, function = self.lib.from_numpy(x), self.lib.nn.functional.logsigmoid
        return lambda: function(t)

    # The kernels that autograd calls, without autograd's own time.

    def softmax_backward(self, dy: Array, y: Array, out: Array) -> Call:
        dy_, y_, dx = map(self.lib.from_numpy, (dy, y, out))
        function, dtype = self.lib.ops.aten._softmax_backward_data.out, self.lib.float32  # noqa: SLF001
        return lambda: function(dy_, y_, 1, dtype, grad_input=dx)

    def sigmoid_backward_y(self, dy: Array, y: Array, out: Array) -> Call:
        dy_, y_, dx = map(self.lib.from_numpy, (dy, y, out))
        function = self.lib.ops.aten.sigmoid_backward.grad_input
        return lambda: function(dy_, y_, grad_input=dx)

    def softmax_cross_entropy_labels(self, logits: Array, labels: Array, _out: None) -> Call:
        x, t, cross_entropy = *map(self.lib.from_numpy, (logits, labels)), self.cross_entropy
        return lambda: cross_entropy(x, t)

    def softmax_cross_entropy_with_grad_labels(
        self, logits: Array, targets: Array, _out: Array
    ) -> Call:
        cross_entropy = self.cross_entropy
        x, t = self.lib.from_numpy(logits).requires_grad_(), self.lib.from_numpy(targets)

        def call() -> tuple[Any, Any]:
            x.grad = None  # what zero_grad() does; faster than writing zeros
            loss = cross_entropy(x, t)
            loss.backward()
            return loss, x.grad

        return call

    softmax_cross_entropy_with_grad_probabilities = softmax_cross_entropy_with_grad_labels


class TorchCompile(Library):
    """PyTorch through torch.compile, for the operations that it can fuse: losses with gradient."""

    name = "torch.compile"
    module = "torch"
    slow_to_compile = True

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
            raise ImportError("torch.compile needs a C++ compiler")
        self.eager = Torch(threads)

    def answers(self, result: Any) -> tuple[Array, ...]:
        return self.eager.answers(result)

    def softmax_cross_entropy_with_grad_labels(
        self, logits: Array, targets: Array, out: Array
    ) -> Call:
        # Forgets older shapes, of which torch.compile keeps eight and then gives up compiling.
        self.lib.compiler.reset()
        cross_entropy = self.lib.nn.functional.cross_entropy

        def loss(x: Any, t: Any) -> Any:
            return cross_entropy(x, t)

        self.eager.cross_entropy = self.lib.compile(loss, dynamic=False)
        return self.eager.softmax_cross_entropy_with_grad_labels(logits, targets, out)

    softmax_cross_entropy_with_grad_probabilities = softmax_cross_entropy_with_grad_labels


class Jax(Library):
    """JAX on the CPU, jitted; it cannot write into an array that exists."""

    name = "jax"
    module = "jax"

    def __init__(self, threads: int) -> None:
        # Read when the CPU client is made, by the first look at the devices.
        with _environment(NPROC=str(threads), JAX_PLATFORMS="cpu"):
            super().__init__(threads)
            self.cpu = self.lib.devices("cpu")[0]
        self.nn = self.lib.nn
        self.np: Any = import_module("jax.numpy")

    def _jit(self, function: Callable[..., Any], *args: Array) -> Call:
        """function(*args), waited for; of several results, that of one is enough."""
        jitted = self.lib.jit(function)
        arrays = [self.lib.device_put(a, self.cpu) for a in args]
        if not isinstance(jitted(*arrays), tuple):
            return lambda: jitted(*arrays).block_until_ready()

        def call() -> Any:
            results = jitted(*arrays)
            results[-1].block_until_ready()
            return results

        return call

    def softmax(self, x: Array, _out: Array) -> Call:
        return self._jit(lambda x: self.nn.softmax(x, axis=1), x)

    def log_softmax(self, x: Array, _out: Array) -> Call:
        return self._jit(lambda x: self.nn.log_softmax(x, axis=1), x)

    def logsumexp(self, x: Array, _out: Array) -> Call:
        return self._jit(lambda x: self.nn.logsumexp(x, axis=1), x)

    def sigmoid(self, x: Array, _out: Array) -> Call:
        return self._jit(self.nn.sigmoid, x)

    def log_sigmoid(self, x: Array, _out: Array) -> Call:
        return self._jit(self.nn.log_sigmoid, x)

    def softmax_backward(self, dy: Array, y: Array, _out: Array) -> Call:
        return self._jit(lambda dy, y: y * (dy - (dy * y).sum(axis=1, keepdims=True)), dy, y)

    def sigmoid_backward_y(self, dy: Array, y: Array, _out: Array) -> Call:
        return self._jit(lambda dy, y: dy * y * (1 - y), dy, y)

    def _loss_of_labels(self, logits: Any, labels: Any) -> Any:
        log_p = self.nn.log_softmax(logits, axis=1)
        return -self.np.take_along_axis(log_p, labels[:, None], axis=1).mean()

    def _loss_of_probabilities(self, logits: Any, targets: Any) -> Any:
        return -(targets * self.nn.log_softmax(logits, axis=1)).sum(axis=1).mean()

    def softmax_cross_entropy_labels(self, logits: Array, labels: Array, _out: None) -> Call:
        return self._jit(self._loss_of_labels, logits, labels.astype(np.int32))

    def softmax_cross_entropy_with_grad_labels(
        self, logits: Array, labels: Array, _out: Array
    ) -> Call:
        function = self.lib.value_and_grad(self._loss_of_labels)
        return self._jit(function, logits, labels.astype(np.int32))

    def softmax_cross_entropy_with_grad_probabilities(
        self, logits: Array, targets: Array, _out: Array
    ) -> Call:
        return self._jit(self.lib.value_and_grad(self._loss_of_probabilities), logits, targets)


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """The variables in the environment, for a while; those that the user has set stay."""
    added = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


class OnnxRuntime(Library):
    """ONNX Runtime, a model of one node with its input and output bound to the arrays."""

    name = "onnxruntime"
    module = "onnxruntime"
    # As old as the operators allow, so that any pair of onnx and onnxruntime will do.
    OPSET, IR_VERSION = 13, 7

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

    def softmax(self, x: Array, out: Array) -> Call:
        return self._node("Softmax", x, out=out, axis=1)

    def log_softmax(self, x: Array, out: Array) -> Call:
        return self._node("LogSoftmax", x, out=out, axis=1)

    def logsumexp(self, x: Array, out: Array) -> Call:
        return self._node("ReduceLogSumExp", x, out=out, axes=[1], keepdims=0)

    def sigmoid(self, x: Array, out: Array) -> Call:
        return self._node("Sigmoid", x, out=out)

    def softmax_cross_entropy_labels(self, logits: Array, labels: Array, _out: None) -> Call:
        loss = np.empty((), np.float32)
        return self._node("SoftmaxCrossEntropyLoss", logits, labels, out=loss, reduction="mean")


class SciPy(Library):
    """scipy.special."""

    name = "scipy"
    module = "scipy"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.special: Any = import_module("scipy.special")

    def softmax(self, x: Array, _out: Array) -> Call:
        return lambda: self.special.softmax(x, axis=1)

    def log_softmax(self, x: Array, _out: Array) -> Call:
        return lambda: self.special.log_softmax(x, axis=1)

    def logsumexp(self, x: Array, _out: Array) -> Call:
        return lambda: self.special.logsumexp(x, axis=1)

    def sigmoid(self, x: Array, out: Array) -> Call:
        expit = self.special.expit
        return lambda: expit(x, out=out)

    def log_sigmoid(self, x: Array, out: Array) -> Call:
        log_expit = self.special.log_expit
        return lambda: log_expit(x, out=out)


class ScikitLearn(Library):
    """scikit-learn: its own softmax, and the loss behind its boosted trees and linear models.

    That loss is per row and so is its gradient: the mean is not part of the timed call.
    """

    name = "scikit-learn"
    module = "sklearn"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.row_softmax: Any = import_module("sklearn.utils.extmath").softmax
        self.loss_class: Any = import_module("sklearn._loss").HalfMultinomialLoss

    def answers(self, result: Any) -> tuple[Array, ...]:
        if isinstance(result, tuple):
            losses, dlogits = result
            return np.asarray(np.mean(losses)), dlogits / len(losses)
        return (np.asarray(np.mean(result)) if result.ndim == 1 else result,)

    def softmax(self, x: Array, out: Array) -> Call:
        row_softmax = self.row_softmax

        def call() -> Array:
            np.copyto(out, x)  # it works in place, or in an array of its own
            row_softmax(out, copy=False)
            return out

        return call

    def softmax_cross_entropy_labels(self, logits: Array, labels: Array, _out: None) -> Call:
        loss = self.loss_class(n_classes=logits.shape[1]).loss
        targets, losses = labels.astype(np.float32), np.empty(len(logits), np.float32)
        return lambda: loss(targets, logits, loss_out=losses, n_threads=self.threads)

    def softmax_cross_entropy_with_grad_labels(
        self, logits: Array, labels: Array, out: Array
    ) -> Call:
        loss_gradient = self.loss_class(n_classes=logits.shape[1]).loss_gradient
        targets, losses = labels.astype(np.float32), np.empty(len(logits), np.float32)
        return lambda: loss_gradient(
            targets, logits, loss_out=losses, gradient_out=out, n_threads=self.threads
        )


class NumExpr(Library):
    """NumExpr, which has no reductions along rows worth the name: elementwise operations."""

    name = "numexpr"
    module = "numexpr"

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
