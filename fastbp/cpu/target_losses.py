"""The kernel of softmax cross-entropy with probabilities of all classes.

Every class c of a row has a weight u_c = w_c·((1 - ε)·t_c + ε/C). As with labels, rows go in
groups, and what is computed once for each row is computed for the whole group.
"""

from typing import Any

from ..elementary import narrowed, times
from ..formulas.cross_entropy import (
    biased_total,
    gradient_factor,
    target_loss,
    weighted,
    z_term,
)
from ..formulas.softmax import accumulate, log_of_total, reciprocal_of_total, unbiased
from .row_kernels import (
    rows_in_group,
)
from .row_losses import Array, alone, transform, transform_backward
from .rows import (
    exp_total,
    row_max,
)
from .target_rows import (
    target_sums,
    target_to_gradient,
)
from .vectors import (
    Number,
    Pointer,
    at,
    borrow,
    either,
    give_back,
    if_given,
    lane_numbers,
    load_lanes,
    longest_short_row,
    number,
    read_tile,
    row,
    rows_in_tile,
    spare_tile,
    store_lanes,
    sum_zero,
    write_tile,
)


def target_blocks(
    first: int, last: int, x: Array, probabilities: Array, class_weight: Array, smoothing: Array,
    sample_weight: Array, denominator: float, dloss: Array, losses: Array, sums: Array, dx: Array,
    block: int, softcap: Any, temperature: Any, z: Any,
) -> None:  # fmt: skip
    """Blocks of rows. `smoothing` holds the four numbers of `as_smoothing`."""
    n_rows, n = x.shape
    p = row(x, 0)
    group = rows_in_tile(x) if n <= longest_short_row(x) else rows_in_group(x)
    class_weights, smooth = row(class_weight, 0), row(smoothing, 0)
    room = borrow(x, dx, temperature, n * group)
    cap, heat, z = alone(softcap), alone(temperature), alone(z)
    weights, dlosses = lane_numbers(x), lane_numbers(x)
    m_, s_, s_lo_, u_, u_lo_ = (
        lane_numbers(x), lane_numbers(x), lane_numbers(x), lane_numbers(x), lane_numbers(x)
    )  # fmt: skip
    d_, d_lo_, o_, o_lo_ = lane_numbers(x), lane_numbers(x), lane_numbers(x), lane_numbers(x)
    for b in range(first, last):
        total, total_lo = 0.0, 0.0
        end = min(n_rows, (b + 1) * block)
        for i in range(b * block, end, group):
            rows = min(group, end - i)
            for j in range(rows):
                weights[j] = sample_weight[i + j] if sample_weight.size else 1.0
                dlosses[j] = dloss[min(i + j, dloss.size - 1)]
            w, g = load_lanes(p, weights), load_lanes(p, dlosses)
            if n <= longest_short_row(x):
                tile, t = read_tile(x, i, rows, n), read_tile(probabilities, i, rows, n)
                spare, dtile = spare_tile(tile, temperature), if_given(tile, dx)
                of_tile = target_reduce(tile, spare, dtile, n, t, class_weights, smooth, cap, heat)
                loss = target_losses(w, z, *of_tile)
                if dx is not None:
                    factors = target_factors(w, (g, denominator), z, *of_tile)
                    target_apply(tile, spare, dtile, n, t, class_weights, smooth, factors, cap)
                    write_tile(tile, dx, i, rows, n)
            else:
                for j in range(rows):
                    m_[j], s_[j], s_lo_[j], u_[j], u_lo_[j], d_[j], d_lo_[j], o_[j], o_lo_[j] = (
                        target_reduce(
                            row(x, i + j), at(room, j * n), row(dx, i + j), n,
                            row(probabilities, i + j), class_weights, smooth, cap, heat,
                        )
                    )  # fmt: skip
                of_rows = (
                    narrowed(load_lanes(p, m_), number(p, 0)), load_lanes(p, s_),
                    load_lanes(p, s_lo_), load_lanes(p, u_), load_lanes(p, u_lo_),
                    load_lanes(p, d_), load_lanes(p, d_lo_), load_lanes(p, o_),
                    load_lanes(p, o_lo_),
                )  # fmt: skip
                loss = target_losses(w, z, *of_rows)
                if dx is not None:
                    f0, f1, f2, f3, f4, f5 = target_factors(w, (g, denominator), z, *of_rows)
                    store_lanes(p, s_, f0)
                    store_lanes(p, s_lo_, f1)
                    store_lanes(p, u_, f2)
                    store_lanes(p, u_lo_, f3)
                    store_lanes(p, d_, f4)
                    store_lanes(p, d_lo_, f5)
                    for j in range(rows):
                        target_apply(
                            row(x, i + j), at(room, j * n), row(dx, i + j), n,
                            row(probabilities, i + j), class_weights, smooth,
                            (s_[j], s_lo_[j], u_[j], u_lo_[j], d_[j], d_lo_[j]), cap,
                        )  # fmt: skip
            store_lanes(p, weights, loss)
            for j in range(rows):
                if losses.size:
                    losses[i + j] = weights[j]
                total, total_lo = accumulate(total, total_lo, weights[j])
        sums[b, 0], sums[b, 1] = total, total_lo
    give_back(room)


def target_reduce(
    x: Pointer, room: Pointer, dx: Pointer, n: int, targets: Pointer, class_weights: Pointer,
    smoothing: Pointer, softcap: Any, temperature: Any,
) -> Any:  # fmt: skip
    """(m, s, Σu, Σ u·(m - x), offset) of a row or tile, all but m pairs; see `label_reduce`."""
    if temperature is None:
        m = row_max(x, n)
        sums = target_sums(x, targets, class_weights, n, m, smoothing)
        s, s_lo = exp_total(x, either(room, dx), n, m, n)
        return m, s, s_lo, *sums, sum_zero(x), sum_zero(x)
    offset, offset_lo = transform(x, room, n, softcap, temperature)
    m = row_max(room, n)
    sums = target_sums(room, targets, class_weights, n, m, smoothing)
    s, s_lo = exp_total(room, if_given(room, dx), n, m, n)
    return m, s, s_lo, *sums, offset, offset_lo


def target_losses(
    weight: Number, z: Any, m: Number, s: Number, s_lo: Number, u: Number, u_lo: Number, d: Number,
    d_lo: Number, offset: Number, offset_lo: Number,
) -> Number:  # fmt: skip
    """Σu·log(1 + s) + Σ u·(m - x), and what the z-loss adds, times the weight."""
    t, t_lo = log_of_total(m, s, s_lo)
    loss = target_loss(u, u_lo, t, t_lo, d, d_lo)
    if z is not None:
        z_loss, _ = z_term(m, s, s_lo, offset, offset_lo, *z)
        loss = loss + z_loss
    return weighted(loss, weight)


def target_factors(
    weight: Number, upstream: tuple[Number, ...], z: Any, m: Number, s: Number, s_lo: Number,
    u: Number, u_lo: Number, _d: Number, _d_lo: Number, offset: Number, offset_lo: Number,
) -> tuple[Number, ...]:  # fmt: skip
    """What `target_gradient` needs of a row; `upstream` is as in `label_factors`."""
    if z is not None:
        _, z_slope = z_term(m, s, s_lo, offset, offset_lo, *z)
        u_lo = u_lo + z_slope  # apart from u, see `index_row`
    r, r_lo = reciprocal_of_total(m, s, s_lo)
    r, r_lo = times(r, r_lo, *gradient_factor(weight, *upstream))
    return *biased_total(s, s_lo, m), u, u_lo, *unbiased(r, r_lo, m)


def target_apply(
    x: Pointer, room: Pointer, dx: Pointer, n: int, targets: Pointer, class_weights: Pointer,
    smoothing: Pointer, factors: tuple[Number, ...], softcap: Any,
) -> None:  # fmt: skip
    """The gradient of a row or tile, from its exponentials."""
    if softcap is None:
        target_to_gradient(either(room, dx), dx, targets, class_weights, n, smoothing, factors)
    else:
        target_to_gradient(room, room, targets, class_weights, n, smoothing, factors)
        transform_backward(room, x, dx, n, softcap)
