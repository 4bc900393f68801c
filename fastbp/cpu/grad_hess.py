"""The kernels of gradient and Hessian for boosted trees: of rows of classes, and of numbers."""

from typing import Any

import numpy as np

from ..elementary import NAN, narrowed
from ..formulas.cross_entropy import label_gradient, unbiased_exp_minus
from ..formulas.grad_hess import grad_and_hess, grad_hess_factors, sigmoid_grad_hess
from ..formulas.softmax import equal, reciprocal_of_total
from .rows import exp_total, row_max
from .vectors import (
    Number,
    Pointer,
    borrow,
    give_back,
    lane_numbers,
    lanes,
    load,
    load_lanes,
    load_some,
    longest_short_row,
    pick,
    put,
    read_tile,
    row,
    rows_in_tile,
    spare_tile,
    splat,
    store,
    store_some,
    write_tile,
)

Array = np.ndarray[Any, Any]


def first_bad_label(first: int, last: int, n_classes: int, labels: Array) -> int:
    """The first row whose label is no class; -1 if there is none."""
    for i in range(first, last):
        k = class_of(labels[i], n_classes)
        if k < 0 or k != labels[i]:
            return i
    return -1


def class_of(label: Any, n_classes: int) -> Any:
    """The class as an integer, -1 if the label is out of range; floats are cut."""
    if label >= 0 and label < n_classes:  # so a NaN is out of range, too
        return np.int64(label)
    return np.int64(-1)


def grad_hess_row(
    x: Pointer, grad: Pointer, hess: Pointer, n: int, k: Number, weight: Number, share: float,
    share_lo: float, floor: float,
) -> None:  # fmt: skip
    """Gradient and Hessian of a row with label k, or of a tile of them; grad may be x."""
    width = lanes(x)
    m = row_max(x, n)
    x_k = pick(x, k)
    s, s_lo = exp_total(x, grad, n, m, n)
    r, r_lo = reciprocal_of_total(m, s, s_lo)
    g, g_lo, h, h_lo, before, unbias = grad_hess_factors(r, r_lo, weight, share, share_lo, m)
    factors = (
        s, s_lo, g * unbias, g_lo * unbias, h * unbias, h_lo * unbias, narrowed(before, m), floor,
    )  # fmt: skip
    j = 0
    while j + width <= n:
        a, b = grad_and_hess(load(grad, j), *factors)
        store(grad, j, a)
        store(hess, j, b)
        j += width
    if j < n:
        a, b = grad_and_hess(load_some(grad, j, n - j, 0), *factors)
        store_some(grad, j, n - j, a)
        store_some(hess, j, n - j, b)
    e = unbiased_exp_minus(x_k, m)
    put(grad, k, narrowed(label_gradient(equal(x_k, m), e, s, s_lo, g, g_lo), m))


def grad_hess_rows(
    first: int, last: int, x: Array, labels: Array, sample_weight: Array, by_class: bool,
    share: float, share_lo: float, floor: float, grad: Array, hess: Array,
) -> None:  # fmt: skip
    """Rows of x with a label each; by_class, x and the results hold a class in each row instead."""
    n = x.shape[1]
    if by_class:
        n = x.shape[0]
    step = 1
    if n <= longest_short_row(x):
        step = rows_in_tile(x)
    used, weights = lane_numbers(x), lane_numbers(x)
    columns = 0 if by_class else n  # that are read with their rows
    room, more_room = borrow(x, x, True, n), borrow(x, x, True, n)
    for i in range(first, last, step):
        rows = min(step, last - i)
        for j in range(step):
            used[j], weights[j] = 0.0, 0.0
            if j < rows:
                k = class_of(labels[i + j], n)
                used[j], weights[j] = max(k, 0), 1.0
                if sample_weight is not None:
                    weights[j] = sample_weight[i + j]
                if k < 0:  # the label has been changed since it was checked
                    weights[j] = NAN
        if step > 1:
            tile = read_tile(x, i, rows, columns)
            other = spare_tile(tile, True)
            if by_class:
                read_columns(x, tile, i, rows, n)
            grad_hess_row(
                tile, tile, other, n, load_lanes(tile, used), load_lanes(tile, weights),
                share, share_lo, floor,
            )  # fmt: skip
            if by_class:
                write_columns(tile, grad, i, rows, n)
                write_columns(other, hess, i, rows, n)
            else:
                write_tile(tile, grad, i, rows, n)
                write_tile(other, hess, i, rows, n)
        elif by_class:
            for j in range(n):
                put(room, j, pick(row(x, j), i))
            grad_hess_row(
                room, room, more_room, n, int(used[0]), weights[0], share, share_lo, floor
            )
            for j in range(n):
                put(row(grad, j), i, room[j])
                put(row(hess, j), i, more_room[j])
        else:
            grad_hess_row(
                row(x, i), row(grad, i), row(hess, i), n, int(used[0]), weights[0],
                share, share_lo, floor,
            )  # fmt: skip
    give_back(room)
    give_back(more_room)


def read_columns(x: Array, tile: Pointer, i: int, k: int, n: int) -> None:
    """Into a tile, k numbers of each of the n rows of x from column i on."""
    for j in range(n):
        store(tile, j, load_some(row(x, j), i, k, 0))


def write_columns(tile: Pointer, x: Array, i: int, k: int, n: int) -> None:
    """The inverse of `read_columns`."""
    for j in range(n):
        store_some(row(x, j), i, k, load(tile, j))


def sigmoid_grad_hess_elements(
    first: int, last: int, x: Array, y: Array, sample_weight: Array, grad: Array, hess: Array
) -> None:
    """Gradient and Hessian of each number."""
    p, q, w, g, h = row(x, 0), row(y, 0), row(sample_weight, 0), row(grad, 0), row(hess, 0)
    width = lanes(p)
    weight = splat(p, 1)
    for j in range(first, last, width):
        n = min(width, last - j)
        if sample_weight is not None:
            weight = load_some(w, j, n, 0)
        a, b = sigmoid_grad_hess(load_some(p, j, n, 0), load_some(q, j, n, 0), weight)
        store_some(g, j, n, a)
        store_some(h, j, n, b)
