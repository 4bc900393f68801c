"""Layers in a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .base import Array, Layer, found_twice, is_layer


class Sequential(Layer):
    """Layers one after the other, the first one first.

    ``params`` and ``grads`` gather those of all layers under names such as ``"0.weight"``: the
    position and the layer's own name. The arrays are the layers' own (change them in place), the
    dicts are made anew at each access.

    Parameters
    ----------
    *layers : objects with forward(x) and backward(dy)
        They become the attribute ``layers``, a tuple.

    Raises
    ------
    TypeError
        If an argument has no ``forward`` and ``backward``.
    ValueError
        If a layer appears twice, be it within another one: it remembers only its latest input, so
        that gradients would be wrong.

    Examples
    --------
    >>> from fastbp.layers import Linear, Sequential, Sigmoid
    >>> net = Sequential(Linear(4, 3, rng=0), Sigmoid(), Linear(3, 2, bias=False, rng=1))
    >>> net.forward(np.zeros((5, 4))).shape
    (5, 2)
    >>> list(net.params)
    ['0.weight', '0.bias', '2.weight']
    """

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            if not is_layer(layer):
                raise TypeError(
                    f"argument {i} of Sequential must be a layer, got {type(layer).__name__}"
                )
        twice = found_twice(layers)
        if twice is not None:
            i, layer = twice
            within = "" if layer is layers[i] else f" within {layers[i]!r}"
            raise ValueError(f"argument {i} of Sequential, {layer!r}{within}, appears twice")
        self.layers = layers

    @property
    def parts(self) -> tuple[Layer, ...]:
        return self.layers

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
        dx: Any = dy
        for layer in reversed(self.layers):
            dx = layer.backward(dx)
        if dx is not None:  # as it is of a graph whose input needs no gradient
            dx = np.asarray(dx)
        return dx  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"Sequential({', '.join(repr(layer) for layer in self.layers)})"
