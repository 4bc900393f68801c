"""The kernel of softmax cross-entropy with a label for each row, smoothed or not.

Rows go in groups, as many as a vector has lanes: what is computed once for each row, logarithm,
divisions and all, is computed for the whole group.
"""

from typing import Any

import numpy as np

from ..elementary import larger, narrowed, times, where, widen
from ..formulas.cross_entropy import (
    accumulate_logit,
    gradient_factor,
    gradient_smoothed,
    label_gradient,
    label_gradient_smoothed,
    label_loss,
    label_loss_smoothed,
    nothing,
    plus_one,
    times_number,
    unbiased_exp_minus,
    weighted,
    z_term,
)
from ..formulas.softmax import (
    accumulate,
    add_pairs,
    equal,
    log_of_total,
    reciprocal_of_total,
    scale_factors,
    scaled,
)
from .row_kernels import (
    rows_in_group,
)
from .row_losses import BAD, NAN, Array, alone, label_to_use, transform, transform_backward
from .rows import (
    BLOCK,
    INF,
    exp_total,
    fill,
    map_row,
    row_max,
    scale_in_two_steps,
)
from .vectors import (
    Number,
    Pointer,
    Vector,
    at,
    borrow,
    either,
    first_lanes,
    give_back,
    if_given,
    lane_numbers,
    lanes,
    load,
    load_lanes,
    load_some,
    longest_short_row,
    max_across,
    number,
    pick,
    put,
    read_tile,
    row,
    rows_in_tile,
    spare_tile,
    splat,
    splat64,
    store,
    store_lanes,
    sum_across,
    sum_zero,
    write_tile,
)


def label_blocks(
    first: int, last: int, x: Array, labels: Array, class_weight: Array, ignore: int,
    has_ignore: bool, bad_is_nan: bool, smoothing: Array, sample_weight: Array, denominator: float,
    dloss: Array, losses: Array, sums: Array, dx: Array, block: int, softcap: Any,
    temperature: Any, z: Any,
) -> None:  # fmt: skip
    """Blocks of rows with a label each, in groups: a group's logarithms are one of a vector.

    `smoothing` is None or holds the four numbers of `as_smoothing`; then no class has a weight.
    """
    n_rows, n = x.shape
    p, smooth = row(x, 0), row(smoothing, 0)
    group = rows_in_tile(x) if n <= longest_short_row(x) else rows_in_group(x)
    room = borrow(x, dx, temperature, n * group)
    cap, heat, z = alone(softcap), alone(temperature), alone(z)
    used, kinds, blanks = lane_numbers(x), lane_numbers(x), lane_numbers(x)
    weights, dlosses, values = lane_numbers(x), lane_numbers(x), lane_numbers(x)
    m_, s_, s_lo_, x_k_ = lane_numbers(x), lane_numbers(x), lane_numbers(x), lane_numbers(x)
    offset_, offset_lo_ = lane_numbers(x), lane_numbers(x)
    all_, all_lo_ = lane_numbers(x), lane_numbers(x)
    for j in range(rows_in_tile(x)):
        used[j], kinds[j], weights[j] = 0.0, 0.0, 1.0
        dlosses[j] = dloss[0] if dloss.size else 0.0
    for b in range(first, last):
        total = total_lo = splat64(p, 0)
        end = min(n_rows, (b + 1) * block)
        for i in range(b * block, end, group):
            rows = min(group, end - i)
            usual = 0
            for j in range(rows):
                k: Any = np.int64(labels[i + j])
                is_usual = (k >= 0) & (k < n) & ((k != ignore) | (not has_ignore))
                used[j] = k if is_usual else 0
                usual += is_usual
            skips = usual < rows
            if skips:
                for j in range(rows):
                    kinds[j] = label_to_use(labels[i + j], n, ignore, has_ignore, bad_is_nan)
                    blanks[j] = NAN if kinds[j] == BAD else 0.0
            if class_weight.size or sample_weight.size or dloss.size > 1:
                for j in range(rows):
                    weights[j] = class_weight[int(used[j])] if class_weight.size else 1.0
                    if sample_weight.size:
                        weights[j] *= sample_weight[i + j]
                    dlosses[j] = dloss[min(i + j, dloss.size - 1)]
            w, g = load_lanes(p, weights), load_lanes(p, dlosses)
            if n <= longest_short_row(x):
                tile = read_tile(x, i, rows, n)
                spare, dtile, at_label = (
                    spare_tile(tile, temperature),
                    if_given(tile, dx),
                    load_lanes(p, used),
                )
                numbers = label_reduce(tile, spare, dtile, n, at_label, smooth, cap, heat)
                loss = label_losses(w, z, n, smooth, *numbers)
                if dx is not None:
                    factors, d_k = label_factors(w, (g, denominator), z, n, smooth, *numbers)
                    label_apply(tile, spare, dtile, n, at_label, factors, d_k, smooth, cap)
                    if skips:
                        blank_rows(dtile, n, load_lanes(p, kinds), load_lanes(p, blanks))
                    write_tile(tile, dx, i, rows, n)
            else:
                like = number(p, 0)
                for j in range(rows):
                    if kinds[j] >= 0.0:
                        m_[j], x_k_[j], offset_[j], offset_lo_[j], all_[j], all_lo_[j] = (
                            label_maximum(
                                row(x, i + j), at(room, j * n), n, int(used[j]), smooth, cap, heat
                            )
                        )
                for j in range(rows):
                    if kinds[j] >= 0.0:
                        s_[j], s_lo_[j] = exp_total_of(
                            row(x, i + j), at(room, j * n), row(dx, i + j), n, number(p, m_[j]),
                            heat, group * n,
                        )  # fmt: skip
                of_rows = (
                    narrowed(load_lanes(p, m_), like), load_lanes(p, s_), load_lanes(p, s_lo_),
                    narrowed(load_lanes(p, x_k_), like), load_lanes(p, offset_),
                    load_lanes(p, offset_lo_), load_lanes(p, all_), load_lanes(p, all_lo_),
                )  # fmt: skip
                loss = label_losses(w, z, n, smooth, *of_rows)
                if dx is not None:
                    (before, r, r_lo), d_k_ = label_factors(
                        w, (g, denominator), z, n, smooth, *of_rows
                    )
                    store_lanes(p, m_, widen(before))
                    store_lanes(p, s_, widen(r))
                    store_lanes(p, s_lo_, widen(r_lo))
                    store_lanes(p, x_k_, widen(d_k_))
                    for j in range(rows):
                        if kinds[j] >= 0.0:
                            label_apply(
                                row(x, i + j), at(room, j * n), row(dx, i + j), n, int(used[j]),
                                (number(p, m_[j]), number(p, s_[j]), number(p, s_lo_[j])),
                                number(p, x_k_[j]), smooth, cap,
                            )  # fmt: skip
            store_lanes(p, values, loss)
            if skips:
                for j in range(rows):
                    if kinds[j] < 0.0:
                        values[j] = blanks[j]
                        if dx is not None and n > longest_short_row(x):
                            fill(row(dx, i + j), n, blanks[j])
                    kinds[j] = 0.0
            if losses.size:
                for j in range(rows):
                    losses[i + j] = values[j]
            in_group = first_lanes(p, load_lanes(p, values), rows)
            total, total_lo = accumulate(total, total_lo, in_group)
        sums[b, 0], sums[b, 1] = sum_across(p, total, total_lo, denominator)
    give_back(room)


def blank_rows(dx: Pointer, n: int, kinds: Vector, values: Vector) -> None:
    """Every number of those rows of a tile that are not used is that row's value."""
    for j in range(n):
        v = load(dx, j)
        store(dx, j, where(kinds < 0.0, narrowed(values, number(dx, 0)), v))


def label_reduce(
    x: Pointer, room: Pointer, dx: Pointer, n: int, k: Number, smoothing: Pointer, softcap: Any,
    temperature: Any,
) -> Any:  # fmt: skip
    """(m, s, s_lo, x_k, offset, Σx) of a row or tile, the last only under smoothing.

    The exponentials go to the room, if there is one, else to dx. The logits are x and an offset (a
    pair), which only the z-loss sees.
    """
    m, x_k, offset, offset_lo, total, total_lo = label_maximum(
        x, room, n, k, smoothing, softcap, temperature
    )
    s, s_lo = exp_total_of(x, room, dx, n, m, temperature, n)
    return m, s, s_lo, x_k, offset, offset_lo, total, total_lo


def label_maximum(
    x: Pointer, room: Pointer, n: int, k: Number, smoothing: Pointer, softcap: Any, temperature: Any
) -> Any:
    """(m, x_k, offset, Σx): what must be known before any exponential."""
    if temperature is None:
        m, total, total_lo = max_and_sum(x, n, smoothing)
        return m, pick(x, k), sum_zero(x), sum_zero(x), total, total_lo
    offset, offset_lo = transform(x, room, n, softcap, temperature)
    m, total, total_lo = max_and_sum(room, n, smoothing)
    return m, pick(room, k), offset, offset_lo, total, total_lo


def exp_total_of(
    x: Pointer, room: Pointer, dx: Pointer, n: int, m: Number, temperature: Any, ahead: int
) -> tuple[Number, Number]:
    """`exp_total` of the logits: x, or under a temperature what stands in the room."""
    if temperature is None:
        return exp_total(x, either(room, dx), n, m, ahead)
    return exp_total(room, either(if_given(room, dx), dx), n, m, ahead)


def max_and_sum(x: Pointer, n: int, smoothing: Pointer) -> tuple[Number, Number, Number]:
    """The largest of n logits, NaN left out, and under smoothing their sum: a pair."""
    if smoothing is None:
        return row_max(x, n), sum_zero(x), sum_zero(x)
    m, s, s_lo = max_and_sum_of_block(x, min(n, BLOCK))
    for j in range(BLOCK, n, BLOCK):
        found, more, more_lo = max_and_sum_of_block(at(x, j), min(n - j, BLOCK))
        m = larger(found, m)
        s, s_lo = add_pairs(s, s_lo, more, more_lo, m)
    return m, s, s_lo


def max_and_sum_of_block(x: Pointer, n: int) -> tuple[Number, Number, Number]:
    """The largest of n logits and their sum."""
    width = lanes(x)
    a = b = splat(x, -INF)
    s = s_lo = t = t_lo = splat64(x, 0)
    j = 0
    while j + 2 * width <= n:
        v, w = load(x, j), load(x, j + width)
        a, b = larger(v, a), larger(w, b)
        s, s_lo = accumulate_logit(s, s_lo, v)
        t, t_lo = accumulate_logit(t, t_lo, w)
        j += 2 * width
    while j < n:
        k = min(width, n - j)
        a = larger(load_some(x, j, k, -INF), a)
        s, s_lo = accumulate_logit(s, s_lo, load_some(x, j, k, 0))
        j += width
    m = max_across(x, larger(a, b))
    s, s_lo = add_pairs(s, s_lo, t, t_lo, m)
    return m, *sum_across(x, s, s_lo, m)


def label_losses(
    weight: Number, z: Any, n: int, smoothing: Pointer, m: Number, s: Number, s_lo: Number,
    x_k: Number, offset: Number, offset_lo: Number, total: Number, total_lo: Number,
) -> Number:  # fmt: skip
    """log(1 + s) + (m - x_k), smoothed or not, and what the z-loss adds, times the weight."""
    t, t_lo = log_of_total(m, s, s_lo)
    if smoothing is None:
        loss = label_loss(x_k, m, t, t_lo)
    else:
        loss = label_loss_smoothed(
            x_k, m, t, t_lo, total, total_lo, float(n),
            smoothing[0], smoothing[1], smoothing[2], smoothing[3],
        )  # fmt: skip
    if z is not None:
        z_loss, _ = z_term(m, s, s_lo, offset, offset_lo, *z)
        loss = loss + z_loss
    return weighted(loss, weight)


def label_factors(
    weight: Number, upstream: tuple[Number, ...], z: Any, n: int, smoothing: Pointer, m: Number,
    s: Number, s_lo: Number, x_k: Number, offset: Number, offset_lo: Number, _total: Number,
    _total_lo: Number,
) -> tuple[tuple[Number, ...], Number]:  # fmt: skip
    """What all of a row's exponentials are scaled by, and the gradient at its label.

    `upstream` is what `gradient_factor` takes behind the weight.
    """
    r, r_lo = reciprocal_of_total(m, s, s_lo)
    factor, factor_lo = gradient_factor(weight, *upstream)
    r, r_lo = times(r, r_lo, factor, factor_lo)
    e_k = unbiased_exp_minus(x_k, m)
    z_slope = nothing(s)
    if z is not None:
        _, z_slope = z_term(m, s, s_lo, offset, offset_lo, *z)
    if smoothing is None:
        d_k = label_gradient(equal(x_k, m), e_k, s, s_lo, r, r_lo)
        if z is not None:
            d_k = d_k + scaled(e_k, *times_number(r, r_lo, z_slope))
    else:
        d_k = label_gradient_smoothed(
            equal(x_k, m), e_k, s, s_lo, r, r_lo, z_slope, float(n),
            smoothing[0], smoothing[1], smoothing[2], smoothing[3],
        )  # fmt: skip
    if z is not None:
        r, r_lo = times(r, r_lo, *plus_one(z_slope))
    if smoothing is None:
        return scale_factors(r, r_lo, m), narrowed(d_k, m)
    before, r, _ = scale_factors(r + r_lo, r_lo * 0.0, m)
    share, share_lo = times(factor, factor_lo, smoothing[2], smoothing[3])
    return (before, r, narrowed(share + share_lo, m)), narrowed(d_k, m)


_smooth_scale = map_row(gradient_smoothed)


def label_apply(
    x: Pointer, room: Pointer, dx: Pointer, n: int, k: Number, factors: tuple[Number, ...],
    d_k: Number, smoothing: Pointer, softcap: Any,
) -> None:  # fmt: skip
    """The gradient of a row or tile, from its exponentials."""
    e, out = either(room, dx), either(if_given(room, softcap), dx)
    if smoothing is None:
        scale_in_two_steps(e, out, n, factors)
    else:
        _smooth_scale(e, out, n, factors)
    put(out, k, d_k)
    if softcap is not None:
        transform_backward(room, x, dx, n, softcap)
