"""The kernels of softmax cross-entropy.

A row is used with what its targets are: one label, for which there is a kernel of its own that also
takes tiles of short rows; or a weight u_c for every class c, for probabilities of all classes, or
of a few ones given by their indices, and for labels under smoothing.

What changes the logits first, temperature and soft cap, is a pass of its own, from the row to room
that is borrowed for it; then the room takes the row's place, and after a soft cap a last pass
brings the gradient back through it. Options that are not given are None, which is known while
compiling, and leave no trace in a kernel.
"""

from typing import Any

import numpy as np

from ..elementary import narrowed, quotient, split, times, widen
from ..formulas.cross_entropy import (
    accumulate_target_loss,
    biased_total,
    gradient_factor,
    label_gradient,
    label_loss,
    others_of_total,
    plus_one,
    target_difference,
    target_loss,
    times_weight,
    unbiased_exp_minus,
    weighted,
    z_term,
)
from ..formulas.logits import capped, capped_backward, tempered
from ..formulas.softmax import (
    add_pairs,
    equal,
    log_of_total,
    reciprocal_of_total,
    scaled,
    unbiased,
)
from .rows import (
    exp_total,
    fill,
    map_row,
    map_two_rows,
    row_max,
    scale_by_any,
    target_sums,
    target_to_gradient,
)
from .vectors import (
    Number,
    Pointer,
    borrow,
    either,
    give_back,
    lane_numbers,
    load_lanes,
    longest_short_row,
    number,
    pick,
    put,
    read_tile,
    row,
    rows_in_tile,
    spare_tile,
    store_lanes,
    tile_if,
    write_tile,
)

Array = np.ndarray[Any, Any]

NAN = float("nan")
# What `label_to_use` says of a row without a label.
IGNORED, BAD = -1, -2


# which rows count ---------------------------------------------------------------------------------


def count_rows(
    first: int, last: int, n_classes: int, indices: Array, class_weight: Array,
    sample_weight: Array, ignore: int, has_ignore: bool,
) -> tuple[int, float]:  # fmt: skip
    """(first row with a bad index or -1, Σ weights of the good ones that are not ignored)."""
    bad, good, s, s_lo = -1, 0, 0.0, 0.0
    for i in range(first, last):
        k = index_to_use(indices, i, n_classes, ignore, has_ignore, bad_is_nan=True)
        if k == IGNORED:
            continue
        if k == BAD:
            bad = i if bad < 0 else bad
            continue
        good += 1
        if class_weight.size or sample_weight.size:
            w = row_weight(class_weight, k, sample_weight, i)
            s, s_lo = add_pairs(s, s_lo, w, 0.0, w)
    if class_weight.size or sample_weight.size:
        return bad, s + s_lo
    return bad, float(good)


def row_weight(class_weight: Array, k: int, sample_weight: Array, i: int) -> float:
    """class_weight[k]·sample_weight[i], each 1 where it is not given."""
    w = 1.0
    if class_weight.size:
        w = float(class_weight[k])
    if sample_weight.size:
        w *= float(sample_weight[i])
    return w


def index_to_use(
    indices: Array, i: int, n_classes: int, ignore: int, has_ignore: bool, bad_is_nan: bool
) -> Any:
    """The first of row i's indices, or 0 if it has none; or what is wrong with one of them."""
    found = 0
    for j in range(indices.shape[1]):
        k = label_to_use(indices[i, j], n_classes, ignore, has_ignore, bad_is_nan)
        if k < 0:
            return k
        if j == 0:
            found = k
    return found


def label_to_use(
    label: int, n_classes: int, ignore: int, has_ignore: bool, bad_is_nan: bool
) -> Any:
    """The label; or IGNORED, or BAD, which are negative."""
    k: Any = np.int64(label)
    if has_ignore and k == ignore:
        return IGNORED
    if k < 0 or k >= n_classes:
        return BAD if bad_is_nan else IGNORED
    return k


# temperature and soft cap -------------------------------------------------------------------------

_temper = map_row(tempered)
_cap = map_row(capped)
_cap_backward = map_two_rows(capped_backward)


def transform(x: Pointer, z: Pointer, n: int, softcap: Any, temperature: float) -> None:
    """z_j = softcap·tanh(x_j / softcap) / temperature, or x_j / temperature without a cap."""
    like = number(x, 0)
    if softcap is None:
        _temper(x, z, n, split(*quotient(1.0, temperature), like))
    else:
        r, r_lo = split(*quotient(2.0, softcap), like)
        cap, cap_lo = split(*quotient(softcap, temperature), like)
        _cap(x, z, n, (r, r_lo, cap, cap_lo))


def transform_backward(dz: Pointer, x: Pointer, dx: Pointer, n: int, softcap: float) -> None:
    """dx_j = dz_j·(1 - tanh²(x_j / softcap)); the temperature is in dz already."""
    _cap_backward(dz, x, dx, n, split(*quotient(2.0, softcap), number(x, 0)))


# a label for each row -----------------------------------------------------------------------------


def label_blocks(
    first: int, last: int, x: Array, labels: Array, class_weight: Array, ignore: int,
    has_ignore: bool, bad_is_nan: bool, sample_weight: Array, denominator: float, dloss: Array,
    losses: Array, sums: Array, dx: Array, block: int, softcap: Any, temperature: Any, z: Any,
) -> None:  # fmt: skip
    """Blocks of rows with a label each."""
    n_rows, n = x.shape
    step = 1
    if n <= longest_short_row(x):
        step = rows_in_tile(x)
    used, weights, dlosses = lane_numbers(x), lane_numbers(x), lane_numbers(x)
    room = borrow(x, dx, temperature, n)
    for b in range(first, last):
        total, total_lo = 0.0, 0.0
        end = min(n_rows, (b + 1) * block)
        for i in range(b * block, end, step):
            rows = min(step, end - i)
            for j in range(step):
                used[j], weights[j], dlosses[j] = 0.0, 0.0, 0.0
                if j < rows:
                    k = label_to_use(labels[i + j], n, ignore, has_ignore, bad_is_nan)
                    if k >= 0:
                        used[j] = k
                        weights[j] = row_weight(class_weight, k, sample_weight, i + j)
                        dlosses[j] = dloss[min(i + j, dloss.size - 1)]
            if step > 1:
                tile = read_tile(x, i, rows, n)
                loss = transformed_label_row(
                    tile, spare_tile(tile, temperature), tile_if(tile, dx), n,
                    load_lanes(tile, used), load_lanes(tile, weights), load_lanes(tile, dlosses),
                    denominator, softcap, temperature, z,
                )  # fmt: skip
                store_lanes(tile, weights, loss)
                if dx is not None:
                    write_tile(tile, dx, i, rows, n)
            elif label_to_use(labels[i], n, ignore, has_ignore, bad_is_nan) >= 0:
                weights[0] = transformed_label_row(
                    row(x, i), room, row(dx, i), n, int(used[0]), weights[0], dlosses[0],
                    denominator, softcap, temperature, z,
                )  # fmt: skip
            for j in range(rows):
                loss = weights[j]
                k = label_to_use(labels[i + j], n, ignore, has_ignore, bad_is_nan)
                if k < 0:
                    loss = NAN if k == BAD else 0.0
                    if dx is not None:
                        fill(row(dx, i + j), n, loss)
                if losses.size:
                    losses[i + j] = loss
                total, total_lo = add_pairs(total, total_lo, loss, 0.0, loss)
        sums[b, 0], sums[b, 1] = total, total_lo
    give_back(room)


def transformed_label_row(
    x: Pointer, room: Pointer, dx: Pointer, n: int, k: Number, weight: Number, dloss: Number,
    denominator: float, softcap: Any, temperature: Any, z: Any,
) -> Number:  # fmt: skip
    """`label_row` of the logits as soft cap and temperature make them."""
    if temperature is None:
        return label_row(x, either(room, dx), dx, n, k, weight, dloss, denominator, z)
    transform(x, room, n, softcap, temperature)
    if dx is None:
        return label_row(room, None, None, n, k, weight, dloss, denominator, z)
    if softcap is None:
        return label_row(room, room, dx, n, k, weight, dloss, denominator, z)
    loss = label_row(room, room, room, n, k, weight, dloss, denominator, z)
    transform_backward(room, x, dx, n, softcap)
    return loss


def label_row(
    x: Pointer, e: Pointer, dx: Pointer, n: int, k: Number, weight: Number, dloss: Number,
    denominator: float, z: Any,
) -> Number:  # fmt: skip
    """Loss of one row, or of a tile of them; the gradient goes to dx, if that is not None.

    e is room for the exponentials: dx, if that can hold them.
    """
    # What the row does not decide comes first, and the logarithm last: scaling waits for the rest.
    g, g_lo = gradient_factor(weight, dloss, denominator)
    m = row_max(x, n)
    x_k = pick(x, k)
    s, s_lo = exp_total(x, e, n, m)
    if dx is not None:
        r, r_lo = reciprocal_of_total(m, s, s_lo)
        r, r_lo = times(r, r_lo, g, g_lo)
        e_k = unbiased_exp_minus(x_k, m)
        d_k = label_gradient(equal(x_k, m), e_k, s, s_lo, r, r_lo)
        if z is not None:
            _, z_slope = z_term(m, s, s_lo, z)
            d_k = d_k + e_k * r * z_slope
            r, r_lo = times(r, r_lo, *plus_one(z_slope))
        scale_by_any(e, dx, n, r, r_lo)
        put(dx, k, narrowed(d_k, m))
    t, t_lo = log_of_total(m, s, s_lo)
    loss = label_loss(x_k, m, t, t_lo)
    if z is not None:
        z_loss, _ = z_term(m, s, s_lo, z)
        loss = loss + z_loss
    return weighted(loss, weight)


# a weight for each class --------------------------------------------------------------------------


def target_blocks(
    first: int, last: int, x: Array, probabilities: Array, indices: Array, given: Array,
    class_weight: Array, keep: float, keep_lo: float, share: Any, share_lo: float, ignore: int,
    has_ignore: bool, bad_is_nan: bool, sample_weight: Array, denominator: float, dloss: Array,
    losses: Array, sums: Array, dx: Array, block: int, softcap: Any, temperature: Any, z: Any,
) -> None:  # fmt: skip
    """Blocks of rows whose class c has the weight u_c = w_c·(keep·t_c + share).

    t are the probabilities; or, if those are None, t_c sums up `given` (1 if None) where `indices`
    has c. share is None where it is 0 and there are no probabilities.
    """
    n_rows, n = x.shape
    room = borrow(x, dx, temperature, n)
    some = 0
    if indices is not None:
        some = indices.shape[1]
    picked = borrow(x, x, True, some)
    for b in range(first, last):
        total, total_lo = 0.0, 0.0
        for i in range(b * block, min(n_rows, (b + 1) * block)):
            k = 0
            if indices is not None:
                k = index_to_use(indices, i, n, ignore, has_ignore, bad_is_nan)
            if k < 0:
                loss = NAN if k == BAD else 0.0
                if dx is not None:
                    fill(row(dx, i), n, loss)
            else:
                loss = transformed_target_row(
                    row(x, i), room, row(dx, i), n, row(probabilities, i), i, indices, given,
                    picked, row(class_weight, 0), (keep, keep_lo), share, share_lo,
                    float(sample_weight[i]) if sample_weight.size else 1.0,
                    dloss[min(i, dloss.size - 1)], denominator, softcap, temperature, z,
                )  # fmt: skip
            if losses.size:
                losses[i] = loss
            total, total_lo = add_pairs(total, total_lo, loss, 0.0, loss)
        sums[b, 0], sums[b, 1] = total, total_lo
    give_back(picked)
    give_back(room)


def transformed_target_row(
    x: Pointer, room: Pointer, dx: Pointer, n: int, targets: Pointer, i: int, indices: Array,
    given: Array, picked: Pointer, weights: Pointer, keep: tuple[float, float], share: Any,
    share_lo: float, weight: float, dloss: float, denominator: float, softcap: Any,
    temperature: Any, z: Any,
) -> Number:  # fmt: skip
    """`target_row` of the logits as soft cap and temperature make them."""
    of_row = (targets, i, indices, given, picked, weights, keep, share, share_lo, weight, dloss,
              denominator, z)  # fmt: skip
    if temperature is None:
        return target_row(x, either(room, dx), dx, n, *of_row)
    transform(x, room, n, softcap, temperature)
    if dx is None:
        return target_row(room, None, None, n, *of_row)
    if softcap is None:
        return target_row(room, room, dx, n, *of_row)
    loss = target_row(room, room, room, n, *of_row)
    transform_backward(room, x, dx, n, softcap)
    return loss


def target_row(
    x: Pointer, e: Pointer, dx: Pointer, n: int, targets: Pointer, i: int, indices: Array,
    given: Array, picked: Pointer, weights: Pointer, keep: tuple[float, float], share: Any,
    share_lo: float, weight: float, dloss: float, denominator: float, z: Any,
) -> Number:  # fmt: skip
    """Loss of one row; the gradient goes to dx, if that is not None. e as in `label_row`.

    Classes named by an index get what smoothing gives to all of them, and their own on top.
    """
    m = row_max(x, n)
    base, base_lo, d, d_lo = 0.0, 0.0, 0.0, 0.0  # Σu and Σu·(m - x), and first of all classes alike
    if share is not None:
        base, base_lo, d, d_lo = target_sums(x, targets, weights, n, m, (*keep, share, share_lo))
    u, u_lo = base, base_lo
    z_weight = weight * 0.0 + 1.0
    if indices is not None:
        for j in range(indices.shape[1]):
            c = int(indices[i, j])
            put(picked, j, pick(x, c))
            own, own_lo = weight_of_index(i, j, given, keep, weights, c)
            u, u_lo = add_pairs(u, u_lo, own, own_lo, m)
            d, d_lo = accumulate_target_loss(d, d_lo, own, own_lo, m, pick(picked, j))
        if given is None and weights is not None:
            z_weight = widen(pick(weights, int(indices[i, 0])))
    s, s_lo = exp_total(x, e, n, m)
    t, t_lo = log_of_total(m, s, s_lo)
    loss = target_loss(u, u_lo, t, t_lo, d, d_lo)
    if z is not None:
        z_loss, z_slope = z_term(m, s, s_lo, z * z_weight)
        loss = loss + z_loss
        u, u_lo = add_pairs(u, u_lo, z_slope, 0.0, m)
        base, base_lo = add_pairs(base, base_lo, z_slope, 0.0, m)
    if dx is not None:
        r, r_lo = reciprocal_of_total(m, s, s_lo)
        r, r_lo = times(r, r_lo, *gradient_factor(weight, dloss, denominator))
        if share is not None:
            factors = (*biased_total(s, s_lo, m), u, u_lo, *unbiased(r, r_lo, m))
            target_to_gradient(e, dx, targets, weights, n, (*keep, share, share_lo), factors)
        else:
            scale_by_any(e, dx, n, *times(r, r_lo, u, u_lo))
        if indices is not None:
            for j in range(indices.shape[1]):
                c = int(indices[i, j])
                own, own_lo = share_of_class(share, share_lo, weights, c)
                others, others_lo = add_pairs(base, base_lo, -own, -own_lo, m)
                for other in range(indices.shape[1]):
                    k = int(indices[i, other])
                    more, more_lo = weight_of_index(i, other, given, keep, weights, k)
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
    i: int, j: int, given: Any, keep: tuple[float, float], weights: Pointer, c: int
) -> tuple[float, float]:
    """w_c·keep·given[i, j]: what index j of row i adds to its class c."""
    own, own_lo = keep
    if given is not None:
        own, own_lo = times(own, own_lo, widen(given[i, j]), 0.0)
    if weights is not None:
        own, own_lo = times_weight(own, own_lo, pick(weights, c))
    return own, own_lo


def share_of_class(share: Any, share_lo: float, weights: Pointer, c: int) -> tuple[float, float]:
    """w_c·share: what smoothing gives to a class."""
    if share is None:
        return 0.0, 0.0
    own, own_lo = share, share_lo
    if weights is not None:
        own, own_lo = times_weight(own, own_lo, pick(weights, c))
    return own, own_lo
