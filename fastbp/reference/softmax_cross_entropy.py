"""Softmax cross-entropy with labels, probabilities and sparse probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arrays import (
    Array,
    as_float,
    check_choice,
    check_reduction,
    check_shape,
    from_rows,
    quiet,
    reduced,
    result,
    row_sum,
    shape_of_row_values,
    to_rows,
)
from .softmax import exp_and_rest, others, shifted
from .targets import read_targets


def rows_of_loss(
    x: Array, u: Array, z: Array | float = 0.0, temperature: float = 1.0
) -> tuple[Array, Array]:
    """Loss (n_rows, 1) and gradient (n_rows, n_columns) of sum_c u_c * (lse - y_c) + z * lse^2.

    y = x / temperature, lse = logsumexp(y), z (n_rows, 1). With U = sum_c u_c, the first part is
    U log1p(s) + sum_c u_c (m - y_c), where 0 * inf = 0, and its gradient by y is
    p_j U - u_j = (e_j (U - u_j) - u_j (S - e_j)) / S, both brackets being sums over the other
    columns. For a label k of weight 1 that is p_j for j != k, and -(sum of the other e) / S at k:
    not p_k - 1, which is 0 once p_k rounds to 1. The gradient of the second part is 2 z lse p_j.
    """
    m, d = shifted(x)
    # Where m - x_c overflows, its half does not: a temperature or u_c may bring it back into range.
    half = (m / 2 - x / 2) / temperature
    d = np.where(np.isinf(d), -2 * half, d / temperature)
    e, s = exp_and_rest(d)
    gap = np.where(np.isinf(d), 2 * (u * half), u * -d)
    loss = row_sum(u) * np.log1p(s) + row_sum(np.where(u == 0, 0, gap))
    gradient = (e * others(u) - u * others(e)) / (1 + s)
    lse = m / temperature + np.log1p(s)
    loss = loss + np.where(z == 0, 0, z * lse * lse)
    gradient = gradient + np.where((z == 0) | (e == 0), 0, 2 * z * lse * (e / (1 + s)))
    # A row that has no softmax has no loss, even if every target in it is 0.
    exists = np.isfinite(m)
    loss = np.where(exists, loss, np.nan)
    return loss, np.where(exists, gradient / temperature, np.nan)


def _capped(x: Array, softcap: float | None) -> tuple[Array, Array]:
    """s tanh(x / s), and its slope 1 - tanh^2 = 4 z / (1 + z)^2 with z = exp(-2 |x| / s).

    Capped logits are rounded, so that differences of them have an error of about eps * s.
    """
    if softcap is None:
        return x, np.ones_like(x)
    z = np.exp(-2 * np.abs(x / softcap))
    return softcap * np.tanh(x / softcap), 4 * z / (1 + z) ** 2


def _number(value: Any, name: str, expected: str, dtype: Any) -> Any:
    """An option as a number, which must be as expected."""
    try:
        number = dtype.type(float(value))
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    fits = {
        "in [0, 1]": 0 <= number <= 1,
        "finite and >= 0": 0 <= number < np.inf,
        "finite and > 0": 0 < number < np.inf,
    }
    if not fits[expected]:
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return number


def _cross_entropy(
    dloss: ArrayLike | None,
    logits: ArrayLike,
    targets: Any,
    axis: int,
    class_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    label_smoothing: float,
    z_loss: float,
    softcap: float | None,
    temperature: float,
    reduction: str,
    empty: str,
    on_bad_label: str,
) -> tuple[Array, Array]:
    """The loss, and the gradient of dloss * loss (None: of the loss), of the functions below."""
    check_reduction(reduction, empty)
    check_choice(on_bad_label, ("raise", "nan", "ignore"), "on_bad_label")
    logits = as_float(logits, "logits")
    dtype = logits.dtype
    eps = _number(label_smoothing, "label_smoothing", "in [0, 1]", dtype)
    z_loss = _number(z_loss, "z_loss", "finite and >= 0", dtype)
    temperature = _number(temperature, "temperature", "finite and > 0", dtype)
    if softcap is not None:
        softcap = _number(softcap, "softcap", "finite and > 0", dtype)
    shape = shape_of_row_values(logits, axis)  # of the labels
    x = to_rows(logits, axis)
    n_rows, n_columns = x.shape
    if n_rows and not n_columns:
        raise ValueError(f"logits of shape {logits.shape} have no classes along axis {axis}")

    def weights(a: ArrayLike | None, name: str, shape: tuple[int, ...]) -> Array:
        weight = as_float(np.ones(shape) if a is None else a, name, dtype)
        check_shape(weight, shape, name)
        return weight

    of_class = weights(class_weight, "class_weight", (n_columns,))
    of_row = weights(sample_weight, "sample_weight", shape).reshape(n_rows, 1)
    t, labels, ignored, bad = read_targets(targets, logits, axis, shape, ignore_index, on_bad_label)

    # What z_loss is multiplied with, and what each row adds to the denominator of the mean.
    of_loss = of_row if labels is None else of_row * of_class[labels]
    share = np.where(ignored | bad, 0, of_loss)
    # Smoothing over all C classes and before class weights: torch.nn.functional.cross_entropy.
    u = of_row * (of_class * ((1 - eps) * t + eps / max(n_columns, 1)))
    u = np.where(bad, np.nan, np.where(ignored, 0, u))
    x, slope = _capped(np.where(bad | ignored, 0, x), softcap)  # these rows are not read
    loss, gradient = rows_of_loss(x, u, z_loss * share, temperature)
    gradient = slope * gradient

    loss, gradient = reduced(loss.reshape(shape), gradient, share, reduction, empty)
    if dloss is not None:
        dloss = as_float(dloss, "dloss", dtype)
        check_shape(dloss, loss.shape, "dloss")
        dloss = dloss.reshape(-1, 1)  # a column or, of a reduced loss, (1, 1)
        gradient = np.where(ignored, 0, dloss * gradient)
    return result(loss), from_rows(gradient, logits, axis)


@quiet
def softmax_cross_entropy(
    logits: ArrayLike,
    targets: Any,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
) -> Array:
    """Cross-entropy of softmax(logits) with labels or probabilities.

    A row's loss is sum_c u_c * (logsumexp(x) - x_c), where q = (1 - eps) * t + eps / C are its
    smoothed targets, t being one-hot for a label, and u_c = sample_weight * class_weight_c * q_c.

    Parameters
    ----------
    logits : floats; the C classes lie along `axis`
    targets : integers shaped as logits without `axis` (labels); floats shaped as logits
        (probabilities, which need not sum to 1); or a tuple (indices, weights) of integers and
        floats shaped as the labels with one more axis at the end, which holds k pairs for each
        row (sparse probabilities: t_c is the sum of the weights of index c)
    class_weight : (C,)
    sample_weight : shaped as the labels
    ignore_index : rows with this label are not read; their loss and gradient are 0. Only for labels
    label_smoothing : eps, in [0, 1]
    z_loss : z >= 0: each row's loss grows by z * logsumexp(x)^2 times sample_weight and, with
        labels, class_weight[label]
    softcap : s > 0: logits x become s * tanh(x / s)
    temperature : T > 0: then logits x become x / T
    reduction : "none" (shaped as the labels), "sum", or "mean": the sum divided by the sum, with
        labels, of class_weight[label] * sample_weight over the rows that are not ignored, and with
        probabilities, of sample_weight
    empty : the mean where that denominator is 0: NaN ("nan") or 0 ("zero"). Its gradient is 0
    on_bad_label : what a label outside [0, C), or a sparse row with such an index, does: an
        IndexError ("raise"); that row's loss and gradient are NaN, and it does not enter the
        denominator ("nan"); the row is ignored ("ignore")
    """
    return _cross_entropy(
        None, logits, targets, axis, class_weight, sample_weight, ignore_index, label_smoothing,
        z_loss, softcap, temperature, reduction, empty, on_bad_label,
    )[0]  # fmt: skip


@quiet
def softmax_cross_entropy_with_grad(
    logits: ArrayLike,
    targets: Any,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
    out: Array | None = None,
) -> tuple[Array, Array]:
    """(loss, dlogits): `softmax_cross_entropy` and its gradient, which is shaped as logits.

    Row by row, dlogits_j = p_j * sum_c u_c - u_j, divided by the denominator of the mean. With
    reduction "none" each row has the gradient of its own loss.
    """
    loss, dlogits = _cross_entropy(
        None, logits, targets, axis, class_weight, sample_weight, ignore_index, label_smoothing,
        z_loss, softcap, temperature, reduction, empty, on_bad_label,
    )  # fmt: skip
    return loss, result(dlogits, out)


@quiet
def softmax_cross_entropy_backward(
    dloss: ArrayLike,
    logits: ArrayLike,
    targets: Any,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
    out: Array | None = None,
) -> Array:
    """dlogits of dloss * `softmax_cross_entropy`; dloss is shaped as that loss."""
    _, dlogits = _cross_entropy(
        dloss, logits, targets, axis, class_weight, sample_weight, ignore_index, label_smoothing,
        z_loss, softcap, temperature, reduction, empty, on_bad_label,
    )  # fmt: skip
    return result(dlogits, out)
