"""Softmax cross-entropy of a linear layer: a composition, and no more."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, quiet
from .linear import linear, linear_backward
from .softmax_cross_entropy import softmax_cross_entropy_with_grad
from .targets import read_targets

Progress = Callable[[int, int], object]


@quiet
def linear_cross_entropy(
    x: ArrayLike,
    weight: ArrayLike,
    targets: Any,
    bias: ArrayLike | None = None,
    *,
    weight_layout: str = "in_out",
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
    progress: Progress | None = None,
) -> Array:
    """`softmax_cross_entropy` of linear(x, weight, bias), the classes being its outputs.

    Ignored rows of x are not read. progress(rows_done, n_rows) is called now and then.
    """
    return linear_cross_entropy_with_grad(
        x, weight, targets, bias, weight_layout=weight_layout, class_weight=class_weight,
        sample_weight=sample_weight, ignore_index=ignore_index, label_smoothing=label_smoothing,
        z_loss=z_loss, softcap=softcap, temperature=temperature, reduction=reduction, empty=empty,
        on_bad_label=on_bad_label, progress=progress,
    )[0]  # fmt: skip


@quiet
def linear_cross_entropy_with_grad(
    x: ArrayLike,
    weight: ArrayLike,
    targets: Any,
    bias: ArrayLike | None = None,
    *,
    weight_layout: str = "in_out",
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
    progress: Progress | None = None,
) -> tuple[Array, tuple[Array, Array, Array | None]]:
    """(loss, (dx, dweight, dbias)), each gradient shaped as its argument; no bias, dbias None.

    With reduction "none", each row of dx is that of its own loss, and dweight and dbias are those
    of all losses' sum.
    """
    x = as_float(x, "x")
    logits = linear(x, weight, bias, weight_layout=weight_layout)
    loss, dlogits = softmax_cross_entropy_with_grad(
        logits, targets, class_weight=class_weight, sample_weight=sample_weight,
        ignore_index=ignore_index, label_smoothing=label_smoothing, z_loss=z_loss, softcap=softcap,
        temperature=temperature, reduction=reduction, empty=empty, on_bad_label=on_bad_label,
    )  # fmt: skip
    rows_shape = x.shape[:-1]
    ignored = read_targets(targets, logits, -1, rows_shape, ignore_index, on_bad_label).ignored
    read = np.where(ignored.reshape(*rows_shape, 1), 0, x)
    dx, dweight, dbias = linear_backward(dlogits, read, weight, weight_layout=weight_layout)
    if progress is not None:
        n_rows = math.prod(rows_shape)
        progress(n_rows, n_rows)
    return loss, (dx, dweight, None if bias is None else dbias)
