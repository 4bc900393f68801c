"""The affine map, the layer with parameters."""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastbp.checks import as_values
from fastbp.ops import linear, linear_backward

from .base import Array, Layer


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

    Examples
    --------
    >>> from fastbp.layers import Linear
    >>> layer = Linear(2, 1, dtype=np.float64)
    >>> layer.params["weight"][...] = [[1.0], [10.0]]
    >>> layer.forward([[1.0, 2.0], [3.0, 4.0]])
    array([[21.],
           [43.]])
    >>> layer.backward([[1.0], [0.0]])
    array([[ 1., 10.],
           [ 0.,  0.]])
    >>> layer.grads["weight"].ravel(), layer.grads["bias"]
    (array([1., 2.]), array([1.]))
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


def _feature_count(name: str, count: int) -> int:
    """``count`` as an int of at least 1."""
    try:
        count = operator.index(count)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(count).__name__}") from None
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}")
    return count
