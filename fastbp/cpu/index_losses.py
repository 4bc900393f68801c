"""The kernel of softmax cross-entropy with probabilities of a few classes, named by their indices.

Smoothed labels of weighted classes are such, too: one index of weight 1 in each row.
"""

from typing import Any

from ..elementary import narrowed, times, two_sum, widen
from ..formulas.cross_entropy import (
    accumulate_target_loss,
    biased_total,
    gradient_factor,
    others_of_total,
    target_difference,
    target_loss,
    times_number,
    times_weight,
    unbiased_exp_minus,
    weighted,
    z_of_class,
    z_term,
)
from ..formulas.softmax import (
    accumulate,
    add_pairs,
    equal,
    log_of_total,
    reciprocal_of_total,
    scaled,
    unbiased,
)
from .row_losses import BAD, NAN, Array, alone, index_to_use, transform, transform_backward
from .rows import (
    exp_total,
    fill,
    row_max,
    scale_by_any,
)
from .target_rows import (
    target_sums,
    target_to_gradient,
)
from .vectors import (
    Number,
    Pointer,
    borrow,
    either,
    give_back,
    number,
    pick,
    put,
    row,
    sum_zero,
)


def index_blocks(
    first: int, last: int, x: Array, indices: Array, given: Array, class_weight: Array,
    smoothing: Any, ignore: int, has_ignore: bool, bad_is_nan: bool, sample_weight: Array,
    denominator: float, dloss: Array, losses: Array, sums: Array, dx: Array, block: int,
    softcap: Any, temperature: Any, z: Any,
) -> None:  # fmt: skip
    """Blocks of rows. `given` is None for labels, `smoothing` where there is none."""
    n_rows, n = x.shape
    count = indices.shape[1]
    class_weights, smooth = row(class_weight, 0), row(smoothing, 0)
    room = borrow(x, dx, temperature, n)
    picked = borrow(x, x, True, count)
    cap, heat, z = alone(softcap), alone(temperature), alone(z)
    for b in range(first, last):
        total, total_lo = 0.0, 0.0
        for i in range(b * block, min(n_rows, (b + 1) * block)):
            k = index_to_use(row(indices, i), count, n, ignore, has_ignore, bad_is_nan)
            if k < 0:
                loss = NAN if k == BAD else 0.0
                if dx is not None:
                    fill(row(dx, i), n, loss)
            else:
                weight = 1.0
                if sample_weight.size:
                    weight = float(sample_weight[i])
                loss = index_loss(
                    row(x, i), room, row(dx, i), n, row(indices, i), row(given, i), count, picked,
                    class_weights, smooth, weight, (dloss[min(i, dloss.size - 1)], denominator),
                    cap, heat, z,
                )  # fmt: skip
            if losses.size:
                losses[i] = loss
            total, total_lo = accumulate(total, total_lo, loss)
        sums[b, 0], sums[b, 1] = total, total_lo
    give_back(picked)
    give_back(room)


def index_loss(
    x: Pointer, room: Pointer, dx: Pointer, n: int, indices: Pointer, given: Pointer, count: int,
    picked: Pointer, weights: Pointer, smoothing: Any, weight: Number,
    upstream: tuple[Number, ...], softcap: Any, temperature: Any, z: Any,
) -> Number:  # fmt: skip
    """`index_row` of the logits as soft cap and temperature make them."""
    of_row = (indices, given, count, picked, weights, smoothing, weight, upstream, z)
    if temperature is None:
        return index_row(x, either(room, dx), dx, n, *of_row, (sum_zero(x), sum_zero(x)))
    offset = transform(x, room, n, softcap, temperature)
    if dx is None:
        return index_row(room, None, None, n, *of_row, offset)
    if softcap is None:
        return index_row(room, room, dx, n, *of_row, offset)
    loss = index_row(room, room, room, n, *of_row, offset)
    transform_backward(room, x, dx, n, softcap)
    return loss


def index_row(
    x: Pointer, e: Pointer, dx: Pointer, n: int, indices: Pointer, given: Pointer, count: int,
    picked: Pointer, weights: Pointer, smoothing: Any, weight: Number,
    upstream: tuple[Number, ...], z: Any, offset: tuple[Number, Number],
) -> Number:  # fmt: skip
    """Loss of one row; the gradient goes to dx, if that is not None.

    e is room for the exponentials: dx, if that can hold them. The logits are x and an offset, which
    only the z-loss sees. Classes named by an index get what smoothing gives to all of them, and
    their own on top.
    """
    m = row_max(x, n)
    # Σu and Σu·(m - x), and first of all classes alike
    base, base_lo, d, d_lo = sum_zero(x), sum_zero(x), sum_zero(x), sum_zero(x)
    if smoothing is not None:
        base, base_lo, d, d_lo = target_sums(x, None, weights, n, m, smoothing)
    u, u_lo = base, base_lo
    z_weight = widen(number(x, 1))
    for j in range(count):
        c = int(indices[j])
        put(picked, j, pick(x, c))
        own, own_lo = weight_of_index(x, given, j, smoothing, weights, c)
        u, u_lo = add_pairs(u, u_lo, own, own_lo, m)
        d, d_lo = accumulate_target_loss(d, d_lo, own, own_lo, m, pick(picked, j))
    if given is None and weights is not None:
        z_weight = widen(pick(weights, int(indices[0])))
    s, s_lo = exp_total(x, e, n, m, n)
    t, t_lo = log_of_total(m, s, s_lo)
    loss = target_loss(u, u_lo, t, t_lo, d, d_lo)
    if z is not None:
        z_loss, z_slope = z_term(m, s, s_lo, *offset, *z_of_class(z_weight, *z))
        loss = loss + z_loss
        # Not into u, from which a row that is sure of its class takes all that is in it.
        u_lo, base_lo = u_lo + z_slope, base_lo + z_slope
    if dx is not None:
        r, r_lo = reciprocal_of_total(m, s, s_lo)
        r, r_lo = times(r, r_lo, *gradient_factor(weight, *upstream))
        if smoothing is None:
            scale_by_any(e, dx, n, *times(r, r_lo, *two_sum(u, u_lo)))
        else:
            factors = (*biased_total(s, s_lo, m), u, u_lo, *unbiased(r, r_lo, m))
            target_to_gradient(e, dx, None, weights, n, smoothing, factors)
        for j in range(count):
            c = int(indices[j])
            own, own_lo = share_of_class(x, smoothing, weights, c)
            others, others_lo = add_pairs(base, base_lo, -own, -own_lo, m)
            for other in range(count):
                k = int(indices[other])
                more, more_lo = weight_of_index(x, given, other, smoothing, weights, k)
                if k == c:
                    own, own_lo = add_pairs(own, own_lo, more, more_lo, m)
                else:
                    others, others_lo = add_pairs(others, others_lo, more, more_lo, m)
            x_c = pick(picked, j)
            e_c = unbiased_exp_minus(x_c, m)
            rest, rest_lo = others_of_total(equal(x_c, m), e_c, s, s_lo)
            d_c = target_difference(e_c, own, own_lo, rest, rest_lo, others, others_lo, m)
            put(dx, c, narrowed(scaled(d_c, r, r_lo), m))
    return weighted(loss, weight)


def weight_of_index(
    x: Pointer, given: Pointer, j: int, smoothing: Any, weights: Pointer, c: int
) -> tuple[Number, Number]:
    """w_c·keep·given[j]: what a row's index j adds to its class c."""
    own, own_lo = widen(number(x, 1)), sum_zero(x)
    if smoothing is not None:
        own, own_lo = smoothing[0], smoothing[1]
    if given is not None:
        own, own_lo = times_number(own, own_lo, widen(pick(given, j)))
    if weights is not None:
        own, own_lo = times_weight(own, own_lo, pick(weights, c))
    return own, own_lo


def share_of_class(x: Pointer, smoothing: Any, weights: Pointer, c: int) -> tuple[Number, Number]:
    """w_c·share: what smoothing gives to a class."""
    if smoothing is None:
        return sum_zero(x), sum_zero(x)
    own, own_lo = smoothing[2], smoothing[3]
    if weights is not None:
        own, own_lo = times_weight(own, own_lo, pick(weights, c))
    return own, own_lo
