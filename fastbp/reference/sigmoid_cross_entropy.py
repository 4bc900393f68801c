"""Cross-entropy of sigmoids, element by element."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, broadcast, check_reduction, check_shape, quiet, reduced, result
from .sigmoid import sigmoid_of, softplus_of


def product(weight: Array, term: Array) -> Array:
    """weight * term, where 0 * inf is 0."""
    return np.where((weight == 0) & np.isinf(term), 0, weight * term)


def _cross_entropy(
    dloss: ArrayLike | None,
    logits: ArrayLike,
    targets: ArrayLike,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    empty: str,
) -> tuple[Array, Array]:
    """The loss, and the gradient of dloss * loss (None: of the loss), of the functions below.

    With a = sample_weight * pos_weight * t and b = sample_weight * (1 - t), an element's loss is
    a softplus(-x) + b softplus(x): for t in [0, 1], two terms of one sign. Its gradient is
    b sigmoid(x) - a sigmoid(-x).
    """
    check_reduction(reduction, empty)
    x = as_float(logits, "logits")
    t = as_float(targets, "targets", x.dtype)
    check_shape(t, x.shape, "targets")

    def weights(a: ArrayLike | None, name: str) -> Array:
        return broadcast(as_float(1 if a is None else a, name, x.dtype), x.shape, name)

    of_element = weights(sample_weight, "sample_weight")
    a = of_element * (weights(pos_weight, "pos_weight") * t)
    b = of_element * (1 - t)
    losses = product(a, softplus_of(-x)) + product(b, softplus_of(x))
    gradient = b * sigmoid_of(x) - a * sigmoid_of(-x)
    loss, gradient = reduced(losses, gradient, of_element, reduction, empty)
    if dloss is not None:
        dloss = as_float(dloss, "dloss", x.dtype)
        check_shape(dloss, loss.shape, "dloss")
        gradient = dloss * gradient
    return result(loss), np.asarray(gradient)


@quiet
def sigmoid_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    empty: str = "nan",
) -> Array:
    """Cross-entropy of sigmoid(logits), element by element.

    An element's loss is sample_weight * -(pos_weight * t * log sigmoid(x) +
    (1 - t) * log sigmoid(-x)), where 0 * inf = 0.

    Parameters
    ----------
    logits : floats of any shape
    targets : shaped as logits: floats, integers or bools, taken as numbers t
    pos_weight, sample_weight : broadcast to logits
    reduction : "none" (shaped as logits), "sum", or "mean": the sum divided by the sum of
        sample_weight over the elements
    empty : the mean where that denominator is 0: NaN ("nan") or 0 ("zero"). Its gradient is 0
    """
    return _cross_entropy(None, logits, targets, pos_weight, sample_weight, reduction, empty)[0]


@quiet
def sigmoid_cross_entropy_with_grad(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    empty: str = "nan",
    out: Array | None = None,
) -> tuple[Array, Array]:
    """(loss, dlogits): `sigmoid_cross_entropy` and its gradient, which is shaped as logits.

    With reduction "none" each element has the gradient of its own loss.
    """
    loss, dlogits = _cross_entropy(
        None, logits, targets, pos_weight, sample_weight, reduction, empty
    )
    return loss, result(dlogits, out)


@quiet
def sigmoid_cross_entropy_backward(
    dloss: ArrayLike,
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    empty: str = "nan",
    out: Array | None = None,
) -> Array:
    """dlogits of dloss * `sigmoid_cross_entropy`; dloss is shaped as that loss."""
    _, dlogits = _cross_entropy(dloss, logits, targets, pos_weight, sample_weight, reduction, empty)
    return result(dlogits, out)
