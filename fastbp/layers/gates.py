"""Gates: layers of several inputs, which broadcast as NumPy's operators do."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastbp.checks import as_values, computed_in, like_first, of_dtype, same_shape

from .base import Array, Layer


class Gate(Layer):
    """What every gate is: a layer of two or more inputs, elementwise and with broadcasting.

    ``forward(a, b, *others)`` takes arrays whose shapes broadcast to one, that of the result, and
    ``backward(dy)`` gives a tuple of as many gradients: of each input, in its shape. Where an input
    was repeated to fit, its gradient is the sum over all repetitions. Each gradient is an array of
    its own, even where it equals ``dy``.

    The first input decides the dtype of the result, and ``dy`` that of the gradients. float16 and
    bfloat16 are computed in float32. Nothing warns, whatever overflows.

    Raises
    ------
    TypeError
        If there are fewer than two inputs, or one is complex, an object or a string.
    ValueError
        If the shapes do not broadcast, or ``dy`` has another shape than the result.
    RuntimeError
        If ``backward`` is called before ``forward``.
    """

    def forward(self, a: ArrayLike, b: ArrayLike, *others: ArrayLike) -> Array:  # type: ignore[override]  # a gate is a layer of several inputs
        """The gate's output for its inputs."""
        first = as_values(a, "input 0")
        arrays = [like_first(x, f"input {i}", first) for i, x in enumerate((first, b, *others))]
        shapes = [x.shape for x in arrays]
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            got = " and ".join(map(str, shapes))
            raise ValueError(f"inputs have shapes {got}; expected shapes that broadcast") from None
        with np.errstate(all="ignore"):
            y, remembered = self._forward([of_dtype(x, computed_in(x.dtype)) for x in arrays])
        self._saved = shape, shapes, remembered
        return np.asarray(of_dtype(y, first.dtype))

    def backward(self, dy: ArrayLike) -> tuple[Array, ...]:  # type: ignore[override]  # as many gradients as inputs
        """The gradients of all inputs, each in its input's shape."""
        shape, shapes, remembered = self._recall()
        dy = as_values(dy, "dy")
        same_shape(dy, "dy", shape, "the output")
        with np.errstate(all="ignore"):
            computed = of_dtype(dy, computed_in(dy.dtype))
            gradients = self._backward(computed, remembered)
            summed = [_sum_to(g, to) for g, to in zip(gradients, shapes, strict=True)]
        return tuple(of_dtype(gradient, dy.dtype) for gradient in summed)

    @abc.abstractmethod
    def _forward(self, inputs: list[Array]) -> tuple[Array, Any]:
        """The result, and what `_backward` needs."""

    @abc.abstractmethod
    def _backward(self, dy: Array, remembered: Any) -> list[Array]:
        """The gradient of each input before it is summed, none of them dy itself."""


class Add(Gate):
    """a + b + …: it hands dy to every input.

    Special values are those of addition: inf − inf is NaN.

    Examples
    --------
    >>> from fastbp.layers import Add
    >>> gate = Add()
    >>> gate.forward([[1.0, 2.0], [3.0, 4.0]], [10.0, 20.0])
    array([[11., 22.],
           [13., 24.]])
    >>> gate.backward([[1.0, 2.0], [3.0, 4.0]])  # the second input served two rows
    (array([[1., 2.],
           [3., 4.]]), array([4., 6.]))
    """

    def _forward(self, inputs: list[Array]) -> tuple[Array, Any]:
        y = inputs[0]
        for x in inputs[1:]:
            y = y + x
        return y, len(inputs)

    def _backward(self, dy: Array, n_inputs: int) -> list[Array]:
        return [dy.copy() for _ in range(n_inputs)]


class Multiply(Gate):
    """a · b · …: it hands dy to every input, times all the others.

    Nothing is divided, so that inputs of 0 are no exception. Special values are those of
    multiplication: 0 · inf is NaN.

    Examples
    --------
    >>> from fastbp.layers import Multiply
    >>> gate = Multiply()
    >>> gate.forward([3.0], [5.0])
    array([15.])
    >>> gate.backward([1.0])
    (array([5.]), array([3.]))
    """

    def _forward(self, inputs: list[Array]) -> tuple[Array, Any]:
        y = inputs[0]
        for x in inputs[1:]:
            y = y * x
        return y, inputs

    def _backward(self, dy: Array, inputs: list[Array]) -> list[Array]:
        # dy · a₀ ⋯ aᵢ₋₁ from the left, aᵢ₊₁ ⋯ aₙ₋₁ from the right: n products and not n².
        gradients = [dy]
        for x in inputs[:-1]:
            gradients.append(gradients[-1] * x)
        after = inputs[-1]
        for i in range(len(inputs) - 2, -1, -1):
            gradients[i] = gradients[i] * after
            after = after * inputs[i]
        return gradients


class _Choice(Gate):
    """A gate that lets one of its inputs through at each place."""

    @staticmethod
    @abc.abstractmethod
    def _beats(x: Array, y: Array) -> Array:
        """Where x is to be taken and not y; false where they are equal."""

    def _forward(self, inputs: list[Array]) -> tuple[Array, Any]:
        y = inputs[0]
        chosen = np.zeros((), np.min_scalar_type(len(inputs)))
        for i, x in enumerate(inputs[1:], start=1):
            # Not np.maximum: which of +0 and −0 it takes is the machine's choice.
            better = self._beats(x, y) | (np.isnan(x) & ~np.isnan(y))
            y = np.where(better, x, y)
            chosen = np.where(better, chosen.dtype.type(i), chosen)
        return y, (chosen, len(inputs))

    def _backward(self, dy: Array, remembered: tuple[Array, int]) -> list[Array]:
        # A product with 0 and 1 would make NaN of an infinite dy.
        chosen, n_inputs = remembered
        zero = dy.dtype.type(0)
        return [np.where(chosen == i, dy, zero) for i in range(n_inputs)]


class Maximum(_Choice):
    """The largest of a, b, …: it hands dy to the one that it took, and 0 to the others.

    Of equal inputs (+0 and −0 are equal) it takes the first, which so gets all of the gradient;
    PyTorch and JAX share it out. A NaN beats every number and is the result; its gradient goes to
    the first input that is NaN.

    Examples
    --------
    >>> from fastbp.layers import Maximum
    >>> gate = Maximum()
    >>> gate.forward([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    array([2., 2., 3.])
    >>> gate.backward([1.0, 1.0, 1.0])
    (array([0., 1., 1.]), array([1., 0., 0.]))
    """

    @staticmethod
    def _beats(x: Array, y: Array) -> Array:
        return np.asarray(x > y)


class Minimum(_Choice):
    """The smallest of a, b, …: it hands dy to the one that it took, and 0 to the others.

    Of equal inputs (+0 and −0 are equal) it takes the first, which so gets all of the gradient. A
    NaN beats every number and is the result; its gradient goes to the first input that is NaN.

    Examples
    --------
    >>> from fastbp.layers import Minimum
    >>> gate = Minimum()
    >>> gate.forward([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    array([1., 2., 2.])
    >>> gate.backward([1.0, 1.0, 1.0])
    (array([1., 1., 0.]), array([0., 0., 1.]))
    """

    @staticmethod
    def _beats(x: Array, y: Array) -> Array:
        return np.asarray(x < y)


def _sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of an input of that shape, from the gradient of what it was repeated to."""
    if gradient.shape == shape:
        return np.asarray(gradient)
    n_new = gradient.ndim - len(shape)
    repeated = [n_new + i for i, n in enumerate(shape) if n == 1 and gradient.shape[n_new + i] != 1]
    gradient = np.ascontiguousarray(gradient)  # the order of a sum depends on the strides
    summed: Array = gradient.sum(axis=(*range(n_new), *repeated), keepdims=True)
    return summed.reshape(shape)
