"""Layers without parameters: one array in, one of the same shape out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastbp.checks import as_values, same_shape
from fastbp.ops import (
    log_sigmoid,
    log_sigmoid_backward,
    log_softmax,
    log_softmax_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
)

from .base import Array, Layer


class Sigmoid(Layer):
    """1 / (1 + exp(−x)). It keeps x, not y: from x the gradient is exact in both tails.

    Examples
    --------
    >>> from fastbp.layers import Sigmoid
    >>> layer = Sigmoid()
    >>> layer.forward([0.0, 2.0])
    array([0.5       , 0.88079708])
    >>> layer.backward([1.0, 1.0])
    array([0.25      , 0.10499359])
    """

    def forward(self, x: ArrayLike) -> Array:
        self._saved = as_values(x, "x")
        y: Array = sigmoid(self._saved)
        return y

    def backward(self, dy: ArrayLike) -> Array:
        dx: Array = sigmoid_backward(dy, x=self._recall())
        return dx


class LogSigmoid(Layer):
    """log(1 / (1 + exp(−x))).

    Examples
    --------
    >>> from fastbp.layers import LogSigmoid
    >>> layer = LogSigmoid()
    >>> layer.forward([0.0, -800.0])
    array([-6.93147181e-01, -8.00000000e+02])
    >>> layer.backward([1.0, 1.0])
    array([0.5, 1. ])
    """

    def forward(self, x: ArrayLike) -> Array:
        self._saved = as_values(x, "x")
        y: Array = log_sigmoid(self._saved)
        return y

    def backward(self, dy: ArrayLike) -> Array:
        dx: Array = log_sigmoid_backward(dy, self._recall())
        return dx


class Softmax(Layer):
    """exp(x) / Σ exp(x) along ``axis``.

    Parameters
    ----------
    axis : int, tuple of ints or None
        The axes of one row; None is the whole array.

    Examples
    --------
    >>> from fastbp.layers import Softmax
    >>> layer = Softmax()
    >>> layer.forward([[1.0, 1.0], [0.0, 800.0]])
    array([[0.5, 0.5],
           [0. , 1. ]])
    >>> layer.backward([[1.0, 0.0], [1.0, 0.0]])
    array([[ 0.25, -0.25],
           [ 0.  ,  0.  ]])
    """

    def __init__(self, axis: int | tuple[int, ...] | None = -1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: ArrayLike) -> Array:
        y = self._saved = softmax(x, self.axis)
        return y

    def backward(self, dy: ArrayLike) -> Array:
        return softmax_backward(dy, self._recall(), self.axis)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(axis={self.axis})"


class LogSoftmax(Softmax):
    """x − log Σ exp(x) along ``axis``.

    Parameters
    ----------
    axis : int, tuple of ints or None
        The axes of one row; None is the whole array.

    Examples
    --------
    >>> from fastbp.layers import LogSoftmax
    >>> layer = LogSoftmax()
    >>> layer.forward([[0.0, 800.0]])
    array([[-800.,    0.]])
    >>> layer.backward([[1.0, 0.0]])
    array([[ 1., -1.]])
    """

    def forward(self, x: ArrayLike) -> Array:
        y = self._saved = log_softmax(x, self.axis)
        return y

    def backward(self, dy: ArrayLike) -> Array:
        return log_softmax_backward(dy, self._recall(), self.axis)


class ReLU(Layer):
    """max(x, 0). The gradient at exactly 0 is 0, and a NaN stays a NaN.

    Examples
    --------
    >>> from fastbp.layers import ReLU
    >>> layer = ReLU()
    >>> layer.forward([-1.0, 0.0, 2.0])
    array([0., 0., 2.])
    >>> layer.backward([3.0, 3.0, 3.0])
    array([0., 0., 3.])
    """

    def forward(self, x: ArrayLike) -> Array:
        self._saved = as_values(x, "x")
        return np.asarray(np.maximum(self._saved, self._saved.dtype.type(0)))

    def backward(self, dy: ArrayLike) -> Array:
        x, dy = self._recall(), as_values(dy, "dy")
        same_shape(dy, "dy", x.shape, "x")
        # A product with 0 and 1 would make NaN of an infinite dy; NaN in x lets dy pass.
        return np.where(x <= 0, dy.dtype.type(0), dy)


class Tanh(Layer):
    """tanh(x). Its gradient is dy · 4σ′(2x), not dy · (1 − y²), which cancels in both tails.

    Examples
    --------
    >>> from fastbp.layers import Tanh
    >>> layer = Tanh()
    >>> layer.forward([0.0, 30.0])
    array([0., 1.])
    >>> layer.backward([1.0, 1.0])
    array([1.00000000e+00, 3.50260431e-26])
    """

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
