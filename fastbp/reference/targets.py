"""Targets of losses of rows: labels, probabilities, sparse probabilities."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, check_shape, is_float, to_rows


class Targets(NamedTuple):
    """What a row's loss compares its softmax with."""

    t: Array  # (n_rows, n_columns), one-hot for labels; of no meaning in the rows of the masks
    labels: Array | None  # (n_rows, 1), the class of each row; 0 in the rows of the masks
    ignored: Array  # (n_rows, 1), rows that are not read
    bad: Array  # (n_rows, 1), rows whose loss and gradient are NaN


def read_targets(
    targets: Any,
    logits: Array,
    axis: int,
    rows_shape: tuple[int, ...],
    ignore_index: int | None,
    on_bad_label: str,
) -> Targets:
    """Targets of any kind as rows; rows_shape is logits' shape without axis."""
    pair = sparse(targets)
    values = np.asarray(targets) if pair is None else np.empty(0)
    if pair is None and values.dtype.kind in "iu":
        return _labels(values, logits, axis, rows_shape, ignore_index, on_bad_label)
    if pair is None and not is_float(values.dtype):
        raise TypeError(
            "targets must be labels (integers), probabilities (floats) or a tuple (indices, "
            f"weights) of integers and floats, got dtype {values.dtype}"
        )
    if ignore_index is not None:
        raise ValueError(f"ignore_index must be None with probabilities, got {ignore_index}")
    if pair is not None:
        return _sparse_probabilities(*pair, logits, axis, rows_shape, on_bad_label)
    check_shape(values, logits.shape, "targets (floats, so probabilities)")
    nowhere = np.zeros((to_rows(logits, axis).shape[0], 1), bool)
    return Targets(to_rows(values.astype(logits.dtype), axis), None, nowhere, nowhere)


def sparse(targets: Any) -> tuple[Array, Array] | None:
    """(indices, weights) if that is what targets are: a tuple of integers and floats."""
    if not isinstance(targets, tuple) or len(targets) != 2:
        return None
    try:
        indices, weights = np.asarray(targets[0]), np.asarray(targets[1])
    except ValueError:  # ragged
        return None
    if indices.dtype.kind in "iu" and is_float(weights.dtype):
        return indices, weights
    return None


def _labels(
    labels: Array,
    logits: Array,
    axis: int,
    rows_shape: tuple[int, ...],
    ignore_index: int | None,
    on_bad_label: str,
) -> Targets:
    """A label equal to `ignore_index` is ignored even where it would be a class."""
    check_shape(labels, rows_shape, "targets (integers, so labels)")
    n_columns = logits.shape[axis]
    ignored = np.zeros(rows_shape, bool)
    if ignore_index is not None:
        ignored = np.asarray(labels == operator.index(ignore_index))
    bad = ~ignored & _outside(labels, n_columns)
    if np.any(bad) and on_bad_label == "raise":
        place, value = first_bad(labels, bad)
        raise IndexError(
            f"targets[{place}] is {value}: "
            f"labels must lie in [0, {n_columns}) or equal ignore_index ({ignore_index})"
        )
    used = np.where(ignored | bad, 0, labels).reshape(-1, 1)
    t = (used == np.arange(n_columns)).astype(logits.dtype)
    return Targets(t, used.astype(np.intp), *_masks(ignored, bad, on_bad_label))


def _sparse_probabilities(
    indices: Array,
    weights: Array,
    logits: Array,
    axis: int,
    rows_shape: tuple[int, ...],
    on_bad_label: str,
) -> Targets:
    """t_c of a row is the sum of the weights whose index is c."""
    k = indices.shape[-1] if indices.ndim else 0
    check_shape(indices, (*rows_shape, k), "targets[0] (the indices of sparse probabilities)")
    check_shape(weights, indices.shape, "targets[1] (the weights of sparse probabilities)")
    n_columns = logits.shape[axis]
    outside = _outside(indices, n_columns)
    if np.any(outside) and on_bad_label == "raise":
        place, value = first_bad(indices, outside)
        raise IndexError(f"targets[0][{place}] is {value}: indices must lie in [0, {n_columns})")
    n_rows = to_rows(logits, axis).shape[0]
    t = np.zeros((n_rows, n_columns), logits.dtype)
    columns = np.where(outside, 0, indices).astype(np.intp).reshape(n_rows, k)
    np.add.at(t, (np.arange(n_rows)[:, None], columns), weights.reshape(n_rows, k))
    bad = np.any(outside, axis=-1)
    return Targets(t, None, *_masks(np.zeros_like(bad), bad, on_bad_label))


def _outside(labels: Array, n_columns: int) -> Array:
    return np.asarray((labels < 0) | (labels >= n_columns))


def first_bad(labels: Array, bad: Array) -> tuple[str, Any]:
    """The place of the first bad label, and its value."""
    place = np.unravel_index(int(np.argmax(bad)), labels.shape)
    return ", ".join(str(i) for i in place), labels[place]


def _masks(ignored: Array, bad: Array, on_bad_label: str) -> tuple[Array, Array]:
    """The masks as columns; bad rows are ignored if so asked."""
    if on_bad_label == "ignore":
        ignored, bad = ignored | bad, np.zeros_like(bad)
    return ignored.reshape(-1, 1), bad.reshape(-1, 1)
