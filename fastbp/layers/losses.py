"""Losses: a prediction and its targets in, a number out, and the gradient of the prediction."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastbp.ops import (
    cross_entropy,
    cross_entropy_backward,
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_backward,
    sigmoid_cross_entropy_with_grad,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_with_grad,
    squared_error,
    squared_error_backward,
    squared_error_with_grad,
)

from .base import Array


class Loss(abc.ABC):
    """What every loss is; derive from it to write your own.

    A loss is no `Layer`: it takes targets, which have no gradient, and it has no parameters. In a
    `Graph` it is a node of two inputs, the prediction and the targets.

    Examples
    --------
    >>> from fastbp import layers, testing
    >>> class Absolute(layers.Loss):
    ...     def forward(self, x, targets):
    ...         self._signs = np.sign(x - targets)
    ...         return np.sum(np.abs(x - targets))
    ...     def backward(self, dloss=1.0):
    ...         return dloss * self._signs
    >>> testing.gradcheck(Absolute(), np.array([1.0, 2.0]), np.array([3.0, 0.0])) <= 1
    True
    """

    @abc.abstractmethod
    def forward(self, x: ArrayLike, targets: ArrayLike) -> Any:
        """The loss of the prediction ``x``: a number, or one per row or element."""

    @abc.abstractmethod
    def backward(self, dloss: ArrayLike = 1.0) -> Array:
        """The gradient of ``x``, from that of the loss."""


class _LossOfFunctions(Loss):
    """A loss of `fastbp.ops`, whose options go to its constructor."""

    _function: ClassVar[Callable[..., Any]]
    _function_backward: ClassVar[Callable[..., Any]]
    _function_with_grad: ClassVar[Callable[..., Any] | None] = None

    def __init__(self, **options: Any) -> None:
        parameters = inspect.signature(self._function).parameters.values()
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        for name in options:
            if name not in known:
                raise TypeError(
                    f"{type(self).__name__} has no option {name!r}; it has {', '.join(known)}"
                )
        self.options = options
        self._inputs: tuple[ArrayLike, ArrayLike] | None = None
        self._loss: Any = None
        self._dx: Array | None = None

    def forward(self, x: ArrayLike, targets: ArrayLike) -> Any:
        """The loss of ``x``: a number, or with ``reduction="none"`` one per row or element."""
        self._inputs = None  # an error leaves nothing of an earlier call
        if self._function_with_grad is None:
            self._loss = self._function(x, targets, **self.options)
        else:
            self._loss, self._dx = self._function_with_grad(x, targets, **self.options)
        self._inputs = x, targets
        return self._loss

    def backward(self, dloss: ArrayLike = 1.0) -> Array:
        """The gradient of ``x``.

        Parameters
        ----------
        dloss : float or ndarray
            Gradient of the loss: a number, or with ``reduction="none"`` also shaped as the loss.

        Raises
        ------
        RuntimeError
            If it is called before ``forward``.
        """
        if self._inputs is None:
            raise RuntimeError(f"{type(self).__name__}.backward was called before forward")
        if np.ndim(dloss) == 0:
            if self._dx is not None and np.asarray(dloss) == 1:
                # Handed out once: the array is the caller's from now on.
                dx, self._dx = self._dx, None
                return dx
            dloss = np.full_like(self._loss, dloss)
        # Not dx * dloss: that would round twice, and make NaN of an ignored row's 0 · inf.
        return self._function_backward(dloss, *self._inputs, **self.options)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({options})"


class SoftmaxCrossEntropy(_LossOfFunctions):
    """The loss −Σ targets · log softmax(x) of logits x, with its gradient from the same pass.

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

    Examples
    --------
    >>> from fastbp.layers import SoftmaxCrossEntropy
    >>> loss = SoftmaxCrossEntropy(reduction="sum")
    >>> loss.forward([[0.0, 0.0], [0.0, 800.0]], [1, 1])
    np.float64(0.6931471805599453)
    >>> loss.backward()
    array([[ 0.5, -0.5],
           [ 0. ,  0. ]])
    """

    _function = staticmethod(softmax_cross_entropy)
    _function_backward = staticmethod(softmax_cross_entropy_backward)
    _function_with_grad = staticmethod(softmax_cross_entropy_with_grad)


class SigmoidCrossEntropy(_LossOfFunctions):
    """Binary cross-entropy −t log σ(x) − (1 − t) log σ(−x) of logits x, and its gradient σ(x) − t.

    ``forward`` computes the gradient too, in the same pass; call
    :func:`fastbp.sigmoid_cross_entropy` for a loss without a gradient.

    Parameters
    ----------
    **options
        Those of :func:`fastbp.sigmoid_cross_entropy`: ``pos_weight``, ``reduction`` …

    Raises
    ------
    TypeError
        If an option is not one of those.

    Examples
    --------
    >>> from fastbp.layers import SigmoidCrossEntropy
    >>> loss = SigmoidCrossEntropy(reduction="sum")
    >>> loss.forward([0.0, 800.0], [1.0, 1.0])
    np.float64(0.6931471805599453)
    >>> loss.backward()
    array([-0.5,  0. ])
    """

    _function = staticmethod(sigmoid_cross_entropy)
    _function_backward = staticmethod(sigmoid_cross_entropy_backward)
    _function_with_grad = staticmethod(sigmoid_cross_entropy_with_grad)


class CrossEntropy(_LossOfFunctions):
    """The loss −Σ targets · log x of probabilities x, which a `Softmax` may have made.

    `SoftmaxCrossEntropy` on the logits does both in one pass and keeps the digits that are lost
    where a probability rounds to 1. Nothing is clamped here: certainty that is wrong costs +inf.

    Parameters
    ----------
    **options
        Those of :func:`fastbp.cross_entropy`: ``axis``, ``reduction``.

    Raises
    ------
    TypeError
        If an option is not one of those.

    Examples
    --------
    >>> from fastbp.layers import CrossEntropy
    >>> loss = CrossEntropy(reduction="sum")
    >>> loss.forward([[0.5, 0.5], [0.0, 1.0]], [0, 1])
    np.float64(0.6931471805599453)
    >>> loss.backward()
    array([[-2.,  0.],
           [ 0., -1.]])
    """

    _function = staticmethod(cross_entropy)
    _function_backward = staticmethod(cross_entropy_backward)


class SquaredError(_LossOfFunctions):
    """The loss (x − target)² of each element, or half of it, and its gradient.

    ``forward`` computes the gradient too, in the same pass; call :func:`fastbp.squared_error` for a
    loss without a gradient.

    Parameters
    ----------
    **options
        Those of :func:`fastbp.squared_error`: ``half``, ``reduction``.

    Raises
    ------
    TypeError
        If an option is not one of those.

    Examples
    --------
    >>> from fastbp.layers import SquaredError
    >>> loss = SquaredError(half=True, reduction="sum")
    >>> loss.forward([1.0, 5.0], [3.0, 4.0])
    np.float64(2.5)
    >>> loss.backward()
    array([-2.,  1.])
    """

    _function = staticmethod(squared_error)
    _function_backward = staticmethod(squared_error_backward)
    _function_with_grad = staticmethod(squared_error_with_grad)
