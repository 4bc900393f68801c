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
        t, function = self.lib.from_numpy(x), self.functional.logsigmoid
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
        x, t = map(self.lib.from_numpy, (logits, labels))
        cross_entropy = self.functional.cross_entropy
        return lambda: cross_entropy(x, t)

    def _with_grad(
        self, loss_of: Callable[..., Any], logits: Array, targets: Array, **options: float
    ) -> Call:
        """The loss and its gradient with respect to the logits."""
        x, t = self.lib.from_numpy(logits).requires_grad_(), self.lib.from_numpy(targets)

        def call() -> tuple[Any, Any]:
            x.grad = None  # what zero_grad() does; faster than writing zeros
            loss = loss_of(x, t, **options)
            loss.backward()
            return loss, x.grad

        return call

    def softmax_cross_entropy_with_grad_labels(
        self, logits: Array, targets: Array, _out: Array, **options: float
    ) -> Call:
        return self._with_grad(self.functional.cross_entropy, logits, targets, **options)

    softmax_cross_entropy_with_grad_probabilities = softmax_cross_entropy_with_grad_labels
    softmax_cross_entropy_with_grad_labels_label_smoothing = softmax_cross_entropy_with_grad_labels

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
    def has(cls, operation: str) -> bool:
        return "with_grad" in operation and super().has(operation)

    def _with_grad(
        self, loss_of: Callable[..., Any], logits: Array, targets: Array, **options: float
    ) -> Call:
        # Forgets older shapes, of which torch.compile keeps eight and then gives up compiling.
        self.lib.compiler.reset()

        def loss(x: Any, t: Any) -> Any:
            return loss_of(x, t, **options)

        return super()._with_grad(self.lib.compile(loss, dynamic=False), logits, targets)


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

    def _loss_of_smoothed_labels(self, logits: Any, labels: Any, *, label_smoothing: float) -> Any:
        log_p = self.nn.log_softmax(logits, axis=1)
        right = self.np.take_along_axis(log_p, labels[:, None], axis=1).mean()
        return -((1 - label_smoothing) * right + label_smoothing * log_p.mean())

    def _loss_of_probabilities(self, logits: Any, targets: Any) -> Any:
        return -(targets * self.nn.log_softmax(logits, axis=1)).sum(axis=1).mean()

    def _loss_of_elements(self, logits: Any, targets: Any) -> Any:
        return (self.nn.softplus(logits) - targets * logits).mean()

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

    def softmax_cross_entropy_with_grad_labels_label_smoothing(
        self, logits: Array, labels: Array, _out: Array, *, label_smoothing: float
    ) -> Call:
        loss = partial(self._loss_of_smoothed_labels, label_smoothing=label_smoothing)
        return self._jit(self.lib.value_and_grad(loss), logits, labels.astype(np.int32))

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
