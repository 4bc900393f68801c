"""Optimizers: ``step()`` changes a layer's parameters in place, by the latest gradients.

Formulas, names and order of operations are PyTorch's, so that a run can be followed beside one
of ``torch.optim``.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["SGD", "Adam", "Optimizer"]

Array = NDArray[Any]


class HasParams(Protocol):
    """What an optimizer needs of a layer: parameters and gradients under the same names."""

    @property
    def params(self) -> Mapping[str, Array]: ...

    @property
    def grads(self) -> Mapping[str, Array]: ...


class Optimizer(abc.ABC):
    """What every optimizer is: ``step()``, and a learning rate ``lr`` that may be changed."""

    def __init__(self, layer: HasParams, lr: float) -> None:
        if not layer.params:
            raise ValueError(f"{layer!r} has no parameters to optimize")
        self.layer = layer
        self.lr = _number_in("lr", lr, 0, math.inf)

    def step(self) -> None:
        """Change every parameter in place.

        Raises
        ------
        RuntimeError
            If a parameter has no gradient yet; nothing is changed then.
        """
        params, grads = self.layer.params, self.layer.grads
        for name in params:
            if name not in grads:
                raise RuntimeError(
                    f"{type(self).__name__}.step was called before backward: "
                    f"there is no gradient of {name!r}"
                )
        # A run that diverges ends in inf and NaN, which the loss shows; a warning for each
        # operation that it meets on the way would say nothing more.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self._update(params, grads)

    @abc.abstractmethod
    def _update(self, params: Mapping[str, Array], grads: Mapping[str, Array]) -> None:
        """Change ``params``, none of which lacks its gradient."""


class SGD(Optimizer):
    """Stochastic gradient descent: θ ← θ − lr · v, with v ← momentum · v + gradient.

    Parameters
    ----------
    layer : object with params and grads
        A layer, often a whole ``Sequential``.
    lr : float
        Learning rate, 0 or more.
    momentum : float
        Share of the previous step's v that is kept, in [0, 1); 0 is plain gradient descent.

    Raises
    ------
    ValueError
        If ``lr`` or ``momentum`` is out of its range, or the layer has no parameters.

    References
    ----------
    ``torch.optim.SGD``, whose v, unlike Polyak's (1964), does not hold the learning rate.
    """

    def __init__(self, layer: HasParams, lr: float, momentum: float = 0.0) -> None:
        super().__init__(layer, lr)
        self.momentum = _number_in("momentum", momentum, 0, 1)
        self._velocity: dict[str, Array] = {}

    def _update(self, params: Mapping[str, Array], grads: Mapping[str, Array]) -> None:
        for name, param in params.items():
            step = grads[name]
            if self.momentum:
                velocity = self._velocity.setdefault(name, np.zeros_like(param))
                velocity *= self.momentum
                velocity += step
                step = velocity
            param -= self.lr * step


class Adam(Optimizer):
    """Adam: θ ← θ − lr · m̂ / (√v̂ + eps), from running means of the gradient and of its square.

    m ← β₁m + (1 − β₁)g and v ← β₂v + (1 − β₂)g² start at 0; m̂ = m / (1 − β₁ᵗ) and
    v̂ = v / (1 − β₂ᵗ) undo that in step t.

    Parameters
    ----------
    layer : object with params and grads
        A layer, often a whole ``Sequential``.
    lr : float
        Learning rate, 0 or more.
    betas : tuple of two floats
        (β₁, β₂), each in [0, 1).
    eps : float
        Added to the root, 0 or more.

    Raises
    ------
    ValueError
        If a number is out of its range, or the layer has no parameters.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    """

    def __init__(
        self,
        layer: HasParams,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(layer, lr)
        self.betas = (
            _number_in("betas[0]", betas[0], 0, 1),
            _number_in("betas[1]", betas[1], 0, 1),
        )
        self.eps = _number_in("eps", eps, 0, math.inf)
        self._n_steps = 0
        self._mean: dict[str, Array] = {}
        self._square: dict[str, Array] = {}

    def _update(self, params: Mapping[str, Array], grads: Mapping[str, Array]) -> None:
        self._n_steps += 1
        beta1, beta2 = self.betas
        correction1 = 1 - beta1**self._n_steps
        correction2 = 1 - beta2**self._n_steps
        for name, param in params.items():
            grad = grads[name]
            mean = self._mean.setdefault(name, np.zeros_like(param))
            square = self._square.setdefault(name, np.zeros_like(param))
            mean *= beta1
            mean += (1 - beta1) * grad
            square *= beta2
            square += (1 - beta2) * grad * grad
            denominator = np.sqrt(square) / math.sqrt(correction2) + self.eps
            param -= (self.lr / correction1) * mean / denominator


def _number_in(name: str, number: float, low: float, high: float) -> float:
    """``number`` as a float, if it is in [low, high)."""
    number = float(number)
    if not low <= number < high:  # written so that NaN fails too
        raise ValueError(f"{name} must be a number in [{low}, {high}), got {number}")
    return number
