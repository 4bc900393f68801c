"""PyTorch and JAX, which derive gradients themselves."""
# ruff: noqa: D102 - a method has the name of its operation; all do what the class `Library` says

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from .libraries import Array, Call, Library
from .problems import Problem


class Torch(Library):
    """PyTorch, eagerly; a gradient comes from autograd."""

    name = "torch"
    module = "torch"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.lib.set_num_threads(threads)
        self.functional = self.lib.nn.functional

    def answers(self, result: Any) -> tuple[Array, ...]:
        results = result if isinstance(result, tuple) else (result,)
        # NumPy has no bfloat16 that PyTorch knows.
        widened = (r.detach().float() if r.element_size() == 2 else r.detach() for r in results)
        return tuple(r.numpy() for r in widened)

    def _tensor(self, a: Any) -> Any:
        """The array as a tensor on the same memory; anything else as it is."""
        if not isinstance(a, np.ndarray):
            return a
        if a.dtype.name == "bfloat16":
            return self.lib.from_numpy(a.view(np.int16)).view(self.lib.bfloat16)
        return self.lib.from_numpy(a)

    def _into(self, function: Callable[..., Any], *args: Array | int, out: Array) -> Call:
        """function(*args, out=out)."""
        tensors, result = list(map(self._tensor, args)), self._tensor(out)
        return lambda: function(*tensors, out=result)

    def softmax(self, x: Array, out: Array, *, axis: int = 1) -> Call:
        return self._into(self.lib.softmax, x, axis, out=out)

    def log_softmax(self, x: Array, out: Array, *, axis: int = 1) -> Call:
        return self._into(self.lib.log_softmax, x, axis, out=out)

    def logsumexp(self, x: Array, out: Array, *, axis: int = 1) -> Call:
        return self._into(self.lib.logsumexp, x, axis, out=out)

    def sigmoid(self, x: Array, out: Array) -> Call:
        return self._into(self.lib.sigmoid, x, out=out)

    def log_sigmoid(self, x: Array, _out: Array) -> Call:
        t, function = self._tensor(x), self.functional.logsigmoid
        return lambda: function(t)

    # The kernels that autograd calls, without autograd's own time.

    def softmax_backward(self, dy: Array, y: Array, out: Array, *, axis: int = 1) -> Call:
        dy_, y_, dx = map(self._tensor, (dy, y, out))
        function, dtype = self.lib.ops.aten._softmax_backward_data.out, dy_.dtype  # noqa: SLF001
        return lambda: function(dy_, y_, axis, dtype, grad_input=dx)

    def log_softmax_backward(self, dy: Array, y: Array, out: Array, *, axis: int = 1) -> Call:
        dy_, y_, dx = map(self._tensor, (dy, y, out))
        function, dtype = self.lib.ops.aten._log_softmax_backward_data.out, dy_.dtype  # noqa: SLF001
        return lambda: function(dy_, y_, axis, dtype, out=dx)

    def sigmoid_backward_y(self, dy: Array, y: Array, out: Array) -> Call:
        dy_, y_, dx = map(self._tensor, (dy, y, out))
        function = self.lib.ops.aten.sigmoid_backward.grad_input
        return lambda: function(dy_, y_, grad_input=dx)

    def sigmoid_backward_x(self, dy: Array, x: Array, out: Array) -> Call:
        dy_, x_, dx = map(self._tensor, (dy, x, out))
        sigmoid, function = self.lib.sigmoid, self.lib.ops.aten.sigmoid_backward.grad_input
        return lambda: function(dy_, sigmoid(x_), grad_input=dx)

    def softmax_cross_entropy_labels(
        self, logits: Array, labels: Array, _out: None, *, axis: int = 1
    ) -> Call:
        x, t = map(self._tensor, (logits, labels))
        if axis == 0:
            x, t = x[None], t[None]
        cross_entropy = self.functional.cross_entropy
        return lambda: cross_entropy(x, t)

    def _with_grad(
        self,
        loss_of: Callable[..., Any],
        logits: Array,
        targets: Array,
        *,
        axis: int = 1,
        **options: Any,
    ) -> Call:
        """The loss and its gradient with respect to the logits."""
        x, t = self._tensor(logits).requires_grad_(), self._tensor(targets)

        def call() -> tuple[Any, Any]:
            x.grad = None  # what zero_grad() does; faster than writing zeros
            # Classes are expected along axis 1; as one image of classes, which is faster than x.T.
            loss = loss_of(x, t, **options) if axis else loss_of(x[None], t[None], **options)
            loss.backward()
            return loss, x.grad

        return call

    def softmax_cross_entropy_with_grad_labels(
        self, logits: Array, targets: Array, _out: Array, **options: Any
    ) -> Call:
        return self._with_grad(self.functional.cross_entropy, logits, targets, **options)

    softmax_cross_entropy_with_grad_probabilities = softmax_cross_entropy_with_grad_labels
    softmax_cross_entropy_with_grad_labels_label_smoothing = softmax_cross_entropy_with_grad_labels
    softmax_cross_entropy_with_grad_labels_ignore_index = softmax_cross_entropy_with_grad_labels

    def softmax_cross_entropy_with_grad_labels_class_weight(
        self, logits: Array, labels: Array, out: Array, *, class_weight: Array, axis: int = 1
    ) -> Call:
        weight = self._tensor(class_weight)
        return self.softmax_cross_entropy_with_grad_labels(
            logits, labels, out, weight=weight, axis=axis
        )

    def sigmoid_cross_entropy_with_grad_hard(
        self, logits: Array, targets: Array, _out: Array
    ) -> Call:
        return self._with_grad(self.functional.binary_cross_entropy_with_logits, logits, targets)


class TorchCompile(Torch):
    """PyTorch through torch.compile, for the operations that it can fuse: losses with gradient."""

    name = "torch.compile"
    slow_to_compile = True

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
            raise ImportError("torch.compile needs a C++ compiler")

    @classmethod
    def has(cls, operation: str, dtype: str = "float32") -> bool:
        return "with_grad" in operation and super().has(operation, dtype)

    def _with_grad(
        self,
        loss_of: Callable[..., Any],
        logits: Array,
        targets: Array,
        *,
        axis: int = 1,
        **options: Any,
    ) -> Call:
        # Forgets older shapes, of which torch.compile keeps eight and then gives up compiling.
        self.lib.compiler.reset()

        def loss(x: Any, t: Any) -> Any:
            return loss_of(x, t, **options)

        compiled = self.lib.compile(loss, dynamic=False)
        return super()._with_grad(compiled, logits, targets, axis=axis)


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

    def call(self, problem: Problem) -> Call:
        # A setting of the process, without which float64 would be computed in float32.
        self.lib.config.update("jax_enable_x64", problem.dtype == np.float64)
        return super().call(problem)

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

    def softmax(self, x: Array, _out: Array, *, axis: int = 1) -> Call:
        return self._jit(partial(self.nn.softmax, axis=axis), x)

    def log_softmax(self, x: Array, _out: Array, *, axis: int = 1) -> Call:
        return self._jit(partial(self.nn.log_softmax, axis=axis), x)

    def logsumexp(self, x: Array, _out: Array, *, axis: int = 1) -> Call:
        return self._jit(partial(self.nn.logsumexp, axis=axis), x)

    def sigmoid(self, x: Array, _out: Array) -> Call:
        return self._jit(self.nn.sigmoid, x)

    def log_sigmoid(self, x: Array, _out: Array) -> Call:
        return self._jit(self.nn.log_sigmoid, x)

    def softmax_backward(self, dy: Array, y: Array, _out: Array, *, axis: int = 1) -> Call:
        return self._jit(lambda dy, y: y * (dy - (dy * y).sum(axis, keepdims=True)), dy, y)

    def log_softmax_backward(self, dy: Array, y: Array, _out: Array, *, axis: int = 1) -> Call:
        exp = self.np.exp
        return self._jit(lambda dy, y: dy - exp(y) * dy.sum(axis, keepdims=True), dy, y)

    def sigmoid_backward_y(self, dy: Array, y: Array, _out: Array) -> Call:
        return self._jit(lambda dy, y: dy * y * (1 - y), dy, y)

    def sigmoid_backward_x(self, dy: Array, x: Array, _out: Array) -> Call:
        sigmoid = self.nn.sigmoid
        return self._jit(lambda dy, x: dy * sigmoid(x) * sigmoid(-x), dy, x)

    def _losses(self, logits: Any, labels: Any, axis: int) -> tuple[Any, Any]:
        """The loss of each row, and the log-probabilities."""
        log_p = self.nn.log_softmax(logits, axis=axis)
        at = self.np.expand_dims(labels, axis)
        return -self.np.take_along_axis(log_p, at, axis=axis).squeeze(axis), log_p

    def _loss_of_labels(
        self,
        logits: Any,
        labels: Any,
        *,
        axis: int = 1,
        label_smoothing: float | None = None,
        class_weight: Any = None,
        ignore_index: int | None = None,
    ) -> Any:
        if ignore_index is not None:
            counted = labels != ignore_index
            losses, _ = self._losses(logits, self.np.where(counted, labels, 0), axis)
            return losses.mean(where=counted)
        losses, log_p = self._losses(logits, labels, axis)
        if class_weight is not None:
            weights = class_weight[labels]  # whose sum may overflow, where their mean does not
            return (weights * losses).mean() / weights.mean()
        if label_smoothing is not None:
            return (1 - label_smoothing) * losses.mean() - label_smoothing * log_p.mean()
        return losses.mean()

    def _loss_of_probabilities(self, logits: Any, targets: Any, *, axis: int = 1) -> Any:
        return -(targets * self.nn.log_softmax(logits, axis=axis)).sum(axis=axis).mean()

    def _loss_of_elements(self, logits: Any, targets: Any) -> Any:
        return (self.nn.softplus(logits) - targets * logits).mean()

    def softmax_cross_entropy_labels(
        self, logits: Array, labels: Array, _out: None, **options: Any
    ) -> Call:
        loss = partial(self._loss_of_labels, **options)
        return self._jit(loss, logits, labels.astype(np.int32))

    def softmax_cross_entropy_with_grad_labels(
        self, logits: Array, labels: Array, _out: Array, **options: Any
    ) -> Call:
        loss = partial(self._loss_of_labels, **options)
        return self._jit(self.lib.value_and_grad(loss), logits, labels.astype(np.int32))

    softmax_cross_entropy_with_grad_labels_label_smoothing = softmax_cross_entropy_with_grad_labels
    softmax_cross_entropy_with_grad_labels_ignore_index = softmax_cross_entropy_with_grad_labels

    def softmax_cross_entropy_with_grad_labels_class_weight(
        self, logits: Array, labels: Array, out: Array, *, class_weight: Array, axis: int = 1
    ) -> Call:
        weight = self.lib.device_put(class_weight, self.cpu)
        return self.softmax_cross_entropy_with_grad_labels(
            logits, labels, out, class_weight=weight, axis=axis
        )

    def softmax_cross_entropy_with_grad_probabilities(
        self, logits: Array, targets: Array, _out: Array, **options: Any
    ) -> Call:
        loss = partial(self._loss_of_probabilities, **options)
        return self._jit(self.lib.value_and_grad(loss), logits, targets)

    def sigmoid_cross_entropy_with_grad_hard(
        self, logits: Array, targets: Array, _out: Array
    ) -> Call:
        return self._jit(self.lib.value_and_grad(self._loss_of_elements), logits, targets)


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
