"""What every layer is."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from typing import Any

from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


class Layer(abc.ABC):
    """What every layer is; derive from it to write your own.

    Attributes
    ----------
    params : dict of str to ndarray
        The parameters, which optimizers change in place. Empty if there are none.
    grads : dict of str to ndarray
        The gradients of the latest ``backward``, under the names of ``params``.
    parts : tuple of layers
        The layers that it is made of, as `Sequential` and `Graph` are. Empty for others.

    Notes
    -----
    ``forward`` keeps what ``backward`` needs, and ``self._recall()`` gives it back, or raises the
    ``RuntimeError`` for a ``backward`` without a ``forward``. `fastbp.testing.gradcheck` compares
    your ``backward`` with finite differences of your ``forward``.

    Examples
    --------
    >>> from fastbp import layers, testing
    >>> class Square(layers.Layer):
    ...     def forward(self, x):
    ...         self._saved = np.asarray(x)
    ...         return self._saved**2
    ...     def backward(self, dy):
    ...         return 2 * self._recall() * dy
    >>> testing.gradcheck(layers.Sequential(layers.Tanh(), Square()), [0.5, -1.0]) <= 1
    True
    """

    def __init__(self) -> None:
        self._params: dict[str, Array] = {}
        self._grads: dict[str, Array] = {}
        self._saved: Any = None

    @property
    def params(self) -> dict[str, Array]:
        return self._params

    @property
    def grads(self) -> dict[str, Array]:
        return self._grads

    @property
    def parts(self) -> tuple[Any, ...]:
        return ()

    @abc.abstractmethod
    def forward(self, x: ArrayLike) -> Array:
        """The layer's output for the input ``x``."""

    @abc.abstractmethod
    def backward(self, dy: ArrayLike) -> Array:
        """The gradient of the input, from that of the output; fills ``grads``."""

    def _recall(self) -> Any:
        """What ``forward`` saved."""
        if self._saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward was called before forward")
        return self._saved

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def is_layer(candidate: Any) -> bool:
    """Whether it is an object that can go forward and backward, if not derived from `Layer`."""
    both = hasattr(candidate, "forward") and hasattr(candidate, "backward")
    return both and not isinstance(candidate, type)


def found_twice(layers: Iterable[Any]) -> tuple[int, Any] | None:
    """The first layer that is there for the second time, and the position at which it is found.

    A layer remembers only its latest input, so that gradients would be wrong.
    """
    seen: set[int] = set()
    for i, layer in enumerate(layers):
        for part in _with_parts(layer):
            if id(part) in seen:
                return i, part
            seen.add(id(part))
    return None


def _with_parts(layer: Any) -> Iterator[Any]:
    """The layer and all that it is made of."""
    yield layer
    if isinstance(layer, Layer):
        for part in layer.parts:
            yield from _with_parts(part)
