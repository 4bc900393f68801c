"""Layers of a network: each holds its parameters and calls fastbp's operations.

A layer has ``forward(x)``, ``backward(dy)`` and two dicts of arrays by name, ``params`` and
``grads``. The rules that hold for all of them:

- ``backward`` belongs to the latest ``forward`` and before any is a ``RuntimeError``.
- ``backward`` *overwrites* ``grads``; nothing is accumulated from one call to the next.
- What ``backward`` needs is kept by reference, not copied: arrays that went into or came out of
  ``forward`` must not be changed before ``backward`` has run.
- Results have the dtype of the layer's input, as in the operations; ``grads`` have the shapes and
  dtypes of ``params``.
"""

from __future__ import annotations

import abc
import inspect
import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastbp.checks import as_values, same_shape
from fastbp.ops import (
    linear,
    linear_backward,
    log_sigmoid,
    log_sigmoid_backward,
    log_softmax,
    log_softmax_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_with_grad,
)

__all__ = [
    "Layer",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Tanh",
]

Array = NDArray[Any]


class Layer(abc.ABC):
    """What every layer is; derive from it to write your own.

    Attributes
    ----------
    params : dict of str to ndarray
        The parameters, which optimizers change in place. Empty if there are none.
    grads : dict of str to ndarray
        The gradients of the latest ``backward``, under the names of ``params``.
    """

    def __init__(self) -> None:
        self._params: dict[str, Array] = {}
        self._grads: dict[str, Array] = {}
        self._saved: Array | None = None

    @property
    def params(self) -> dict[str, Array]:
        return self._params

    @property
    def grads(self) -> dict[str, Array]:
        return self._grads

    @abc.abstractmethod
    def forward(self, x: ArrayLike) -> Array:
        """The layer's output for the input ``x``."""

    @abc.abstractmethod
    def backward(self, dy: ArrayLike) -> Array:
        """The gradient of the input, from that of the output; fills ``grads``."""

    def _recall(self) -> Array:
        """What ``forward`` saved."""
        if self._saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward was called before forward")
        return self._saved

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Linear(Layer):
    """The affine map Y = XW + b, or Y = XWᵀ + b with ``weight_layout="out_in"``.

    Weights are drawn uniformly from ±√(6 / (n_in + n_out)), which keeps the variance of both
    activations and gradients about the same from layer to layer; biases start at 0. The same seed
    draws the same weights in both layouts, and up to rounding in both dtypes.

    Parameters
    ----------
    n_in, n_out : int
        Number of features that come in and go out, at least 1.
    bias : bool
        Whether there is a ``"bias"`` of shape (n_out,).
    weight_layout : {"in_out", "out_in"}
        Shape of ``"weight"``: (n_in, n_out), or (n_out, n_in) as PyTorch has it.
    rng : int, numpy.random.Generator or None
        Seed or source of the initial weights; None draws different ones each time.
    dtype : dtype
        float32 or float64.

    Raises
    ------
    TypeError
        If ``n_in`` or ``n_out`` is not an integer, or ``dtype`` is another one.
    ValueError
        If ``n_in`` or ``n_out`` is below 1, or ``weight_layout`` is unknown.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010, eq. 16.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        bias: bool = True,
        weight_layout: str = "in_out",
        rng: int | np.random.Generator | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.n_in = _feature_count("n_in", n_in)
        self.n_out = _feature_count("n_out", n_out)
        if weight_layout not in ("in_out", "out_in"):
            raise ValueError(f'weight_layout must be "in_out" or "out_in", got {weight_layout!r}')
        self.weight_layout = weight_layout
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype must be float32 or float64, got {dtype}")
        limit = np.sqrt(6 / (self.n_in + self.n_out))
        # Always drawn in float64 as (n_in, n_out), so that layout and dtype do not change them.
        weight = np.random.default_rng(rng).uniform(-limit, limit, (self.n_in, self.n_out))
        if weight_layout == "out_in":
            weight = weight.T
        self._params["weight"] = np.array(weight, dtype, order="C")
        if bias:
            self._params["bias"] = np.zeros(self.n_out, dtype)

    def forward(self, x: ArrayLike) -> Array:
        """``x (..., n_in)`` to ``y (..., n_out)``."""
        self._saved = as_values(x, "x")
        weight, bias = self._params["weight"], self._params.get("bias")
        return linear(self._saved, weight, bias, weight_layout=self.weight_layout)

    def backward(self, dy: ArrayLike) -> Array:
        """``dy (..., n_out)`` to ``dx (..., n_in)``; fills grads "weight" and "bias"."""
        x = self._recall()
        weight = self._params["weight"]
        dx, dweight, dbias = linear_backward(dy, x, weight, weight_layout=self.weight_layout)
        for name, grad in (("weight", dweight), ("bias", dbias)):
            if name in self._params:
                self._grads[name] = grad.astype(self._params[name].dtype, copy=False)
        return dx

    def __repr__(self) -> str:
        return f"Linear({self.n_in}, {self.n_out})"


class Sigmoid(Layer):
    """1 / (1 + exp(−x)). It keeps x, not y: from x the gradient is exact in both tails."""

    def forward(self, x: ArrayLike) -> Array:
        self._saved = as_values(x, "x")
        y: Array = sigmoid(self._saved)
        return y

    def backward(self, dy: ArrayLike) -> Array:
        dx: Array = sigmoid_backward(dy, x=self._recall())
        return dx


class LogSigmoid(Layer):
    """log(1 / (1 + exp(−x)))."""

    def forward(self, x: ArrayLike) -> Array:
        self._saved = as_values(x, "x")
        y: Array = log_sigmoid(self._saved)
        return y

    def backward(self, dy: ArrayLike) -> Array:
        dx: Array = log_sigmoid_backward(dy, self._recall())
        return dx


class Softmax(Layer):
    """exp(x) / Σ exp(x) along ``axis``, which may be an int, a tuple of ints or None."""

    def __init__(self, axis: int | tuple[int, ...] | None = -1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: ArrayLike) -> Array:
        self._saved = softmax(x, self.axis)
        return self._saved

    def backward(self, dy: ArrayLike) -> Array:
        return softmax_backward(dy, self._recall(), self.axis)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(axis={self.axis})"


class LogSoftmax(Softmax):
    """x − log Σ exp(x) along ``axis``, which may be an int, a tuple of ints or None."""

    def forward(self, x: ArrayLike) -> Array:
        self._saved = log_softmax(x, self.axis)
        return self._saved

    def backward(self, dy: ArrayLike) -> Array:
        return log_softmax_backward(dy, self._recall(), self.axis)


class ReLU(Layer):
    """max(x, 0). The gradient at exactly 0 is 0, and a NaN stays a NaN."""

    def forward(self, x: ArrayLike) -> Array:
        self._saved = as_values(x, "x")
        return np.asarray(np.maximum(self._saved, self._saved.dtype.type(0)))

    def backward(self, dy: ArrayLike) -> Array:
        x, dy = self._recall(), as_values(dy, "dy")
        same_shape(dy, "dy", x.shape, "x")
        # A product with 0 and 1 would make NaN of an infinite dy; NaN in x lets dy pass.
        return np.where(x <= 0, dy.dtype.type(0), dy)


class Tanh(Layer):
    """tanh(x). Its gradient is dy · 4σ′(2x), not dy · (1 − y²), which cancels in both tails."""

    def forward(self, x: ArrayLike) -> Array:
        self._saved = as_values(x, "x")
        return np.asarray(np.tanh(self._saved))

    def backward(self, dy: ArrayLike) -> Array:
        x = self._recall()
        # tanh(x) = 2σ(2x) − 1. Where 2x overflows, σ′ is rightly 0.
        with np.errstate(over="ignore"):
            two_x = x + x
        dx: Array = 4 * sigmoid_backward(dy, x=two_x)
        return dx


class Sequential(Layer):
    """Layers one after the other, the first one first.

    ``params`` and ``grads`` gather those of all layers under names such as ``"0.weight"``: the
    position and the layer's own name. The arrays are the layers' own (change them in place), the
    dicts are made anew at each access.

    Raises
    ------
    TypeError
        If an argument has no ``forward`` and ``backward``.
    ValueError
        If a layer appears twice: it remembers only its latest input, so that gradients would be
        wrong.
    """

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            if not (hasattr(layer, "forward") and hasattr(layer, "backward")):
                raise TypeError(
                    f"argument {i} of Sequential must be a layer, got {type(layer).__name__}"
                )
            if any(layer is other for other in layers[:i]):
                raise ValueError(f"argument {i} of Sequential, {layer!r}, appears twice")
        self.layers = layers

    @property
    def params(self) -> dict[str, Array]:
        return {
            f"{i}.{name}": param
            for i, layer in enumerate(self.layers)
            for name, param in layer.params.items()
        }

    @property
    def grads(self) -> dict[str, Array]:
        return {
            f"{i}.{name}": grad
            for i, layer in enumerate(self.layers)
            for name, grad in layer.grads.items()
        }

    def forward(self, x: ArrayLike) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return np.asarray(x)

    def backward(self, dy: ArrayLike) -> Array:
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return np.asarray(dy)

    def __repr__(self) -> str:
        return f"Sequential({', '.join(repr(layer) for layer in self.layers)})"


class SoftmaxCrossEntropy:
    """The loss −Σ targets · log softmax(logits), with its gradient from the same pass.

    ``forward`` computes the gradient too, as one fused pass costs little more than the loss alone
    and ``backward`` nearly always follows; call :func:`fastbp.softmax_cross_entropy` for a loss
    without a gradient.

    Parameters
    ----------
    **options
        Those of :func:`fastbp.softmax_cross_entropy`: ``axis``, ``class_weight``, ``reduction`` …

    Raises
    ------
    TypeError
        If an option is not one of those.
    """

    def __init__(self, **options: Any) -> None:
        parameters = inspect.signature(softmax_cross_entropy).parameters.values()
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        for name in options:
            if name not in known:
                raise TypeError(
                    f"SoftmaxCrossEntropy has no option {name!r}; it has {', '.join(known)}"
                )
        self.options = options
        self._inputs: tuple[ArrayLike, ArrayLike] | None = None
        self._loss: Any = None
        self._dlogits: Array | None = None

    def forward(self, x: ArrayLike, targets: ArrayLike) -> Any:
        """The loss of the logits ``x``: a scalar, or with ``reduction="none"`` one per row."""
        self._inputs = x, targets
        self._loss, self._dlogits = softmax_cross_entropy_with_grad(*self._inputs, **self.options)
        return self._loss

    def backward(self, dloss: ArrayLike = 1.0) -> Array:
        """The gradient of the logits.

        Parameters
        ----------
        dloss : float or ndarray
            Gradient of the loss: a number, or with ``reduction="none"`` also one per row.

        Raises
        ------
        RuntimeError
            If it is called before ``forward``.
        """
        if self._inputs is None:
            raise RuntimeError("SoftmaxCrossEntropy.backward was called before forward")
        if np.ndim(dloss) == 0:
            if self._dlogits is not None and np.asarray(dloss) == 1:
                # Handed out once: the array is the caller's from now on.
                dlogits, self._dlogits = self._dlogits, None
                return dlogits
            dloss = np.full_like(self._loss, dloss)
        # Not dlogits * dloss: that would round twice, and make NaN of an ignored row's 0 · inf.
        return softmax_cross_entropy_backward(dloss, *self._inputs, **self.options)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"SoftmaxCrossEntropy({options})"


def _feature_count(name: str, count: int) -> int:
    """``count`` as an int of at least 1."""
    try:
        count = operator.index(count)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(count).__name__}") from None
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}")
    return count
