"""Formulas of softmax cross-entropy.

General targets give every class c a weight u_c = w_c·((1 - ε)·t_c + ε/C); the loss of a row is
Σ u_c·(lse - x_c), its gradient p_j·Σu - u_j. Sums are those of `softmax`: pairs in float64.
"""

from ..elementary import (
    INFINITY,
    UNBIAS,
    Number,
    Pair,
    biased_exp_minus,
    fma,
    narrowed,
    quotient,
    times,
    two_sum,
    where,
    widen,
)
from .logits import ratio
from .softmax import accumulate, add_pairs, equal, logsumexp_pair, scaled


def label_loss(x: Number, m: Number, t: Number, t_lo: Number) -> Number:
    """log(1 + s) + (m - x) for the label's logit x, in float64: two terms >= 0."""
    d, d_lo = two_sum(widen(m), -widen(x))
    y, y_lo = two_sum(d, t)
    # An infinite d is the answer, unless t says that the row is NaN.
    return where(d == INFINITY, d + t, y + (y_lo + (t_lo + d_lo)))


def others_of_total(is_maximum: Number, e: Number, s: Number, s_lo: Number) -> Pair:
    """1 + s - e for one class's e: the sum of the others."""
    above, above_lo = two_sum(-e, 1.0)
    others, others_lo = two_sum(above, s)
    others_lo = others_lo + (above_lo + s_lo)
    return where(is_maximum, s, others), where(is_maximum, s_lo, others_lo)


def label_gradient(
    is_maximum: Number, e: Number, s: Number, s_lo: Number, r: Number, r_lo: Number
) -> Number:
    """-(1 + s - e)·(r + r_lo) for the label's e: the others' sum, never p - 1, which cancels."""
    p, p_lo = times(*others_of_total(is_maximum, e, s, s_lo), r, r_lo)
    return 0.0 - (p + p_lo)


def z_term(
    m: Number, s: Number, s_lo: Number, offset: Number, offset_lo: Number, z: Number,
    z_lo: Number | None = None,
) -> Pair:  # fmt: skip
    """z·lse² and its derivative 2·z·lse, lse being m + log(1 + s) + offset."""
    y, y_lo = logsumexp_pair(m, s, s_lo)
    lse, lse_lo = two_sum(y, offset)
    lse_lo = lse_lo + (y_lo + offset_lo)
    square, square_lo = times(lse, lse_lo, lse, lse_lo)
    rest, slope = square_lo * z, (lse + lse_lo) * z * 2.0
    if z_lo is not None:
        rest, slope = fma(square, z_lo, rest), fma(lse * 2.0, z_lo, slope)
    # The error of an infinite square is NaN.
    loss = where(square == INFINITY, square * z, fma(square, z, rest))
    return where(z == 0.0, 0.0 * z, loss), slope


def z_of_class(weight: Number, z: Number, z_lo: Number | None = None) -> tuple[Number, ...]:
    """z·weight, or of a pair a pair."""
    if z_lo is None:
        return (z * weight,)
    return times_number(z, z_lo, weight)


def nothing(s: Number) -> Number:
    """0, if s is finite."""
    return s * 0.0


def plus_one(x: Number) -> Pair:
    """1 + x, exactly."""
    return two_sum(x, x * 0.0 + 1.0)


def gradient_factor(
    weight: Number, dloss: Number, denominator: Number, denominator_lo: Number | None = None,
    dloss_lo: Number | None = None,
) -> Pair:  # fmt: skip
    """weight·dloss / denominator; 0 if the denominator is."""
    if denominator_lo is None:
        g, g_lo = quotient(widen(dloss), denominator)
    else:
        g, g_lo = ratio(dloss, dloss_lo, denominator, denominator_lo)
    g, g_lo = times(g, g_lo, weight, weight * 0.0)
    empty = denominator == 0.0
    return where(empty, 0.0, g), where(empty, 0.0, g_lo)


def mean_of_losses(
    total: Number, total_lo: Number, denominator: Number, denominator_lo: Number, of_nothing: Number
) -> Number:
    """total / denominator; `of_nothing`, unless the total is NaN, where the denominator is 0."""
    q, q_lo = ratio(total, total_lo, denominator, denominator_lo)
    mean = where(abs(q) == INFINITY, q, q + q_lo)
    of_zero = where(equal(total, total), of_nothing, total)
    return where(denominator == 0.0, of_zero, mean)


def normalized(a: Number, a_lo: Number) -> Pair:
    """a + a_lo with no more in a_lo than a rounds off; of an infinite a, a_lo is NaN."""
    s, s_lo = two_sum(a, a_lo)
    return where(abs(a) == INFINITY, a, s), s_lo


def times_number(a: Number, a_lo: Number, b: Number) -> Pair:
    """(a + a_lo)·b as hi + lo."""
    return times(a, a_lo, b, b * 0.0)


def weighted(loss: Number, weight: Number) -> Number:
    """loss·weight, where inf·0 is 0."""
    return where((weight == 0.0) & (loss == INFINITY), 0.0, loss * weight)


def smoothed(t: Number, keep: Number, keep_lo: Number, share: Number, share_lo: Number) -> Pair:
    """t·keep + share, in float64."""
    if t.has_wider:
        return fma(widen(t), keep, share), widen(t) * 0.0
    p, p_lo = times(t, t * 0.0, keep, keep_lo)
    u, error = two_sum(p, share)
    return u, error + (p_lo + share_lo)


def times_weight(u: Number, u_lo: Number, w: Number) -> Pair:
    """u·w, in float64."""
    if w.has_wider:
        return u * widen(w), u_lo
    return times(u, u_lo, w, w * 0.0)


def accumulate_target_loss(
    total: Number, total_lo: Number, u: Number, u_lo: Number, m: Number, x: Number
) -> Pair:
    """total + u·(m - x), where 0·inf is 0; total is inf if a term is, whatever total_lo is then."""
    nothing = u == 0.0
    if x.has_wider:
        return fma(u, where(nothing, 0.0, widen(m) - widen(x)), total), total_lo
    # In halves, so that m - x cannot overflow where u·(m - x) does not.
    d, d_lo = two_sum(m * 0.5, -(x * 0.5))
    d, d_lo = where(nothing, 0.0, d), where(nothing, 0.0, d_lo)
    p, p_lo = times(u * 2.0, u_lo * 2.0, d, d_lo)
    total, error = two_sum(total, p)
    return total, (total_lo + p_lo) + error


def target_loss(
    u: Number, u_lo: Number, t: Number, t_lo: Number, d: Number, d_lo: Number
) -> Number:
    """Σu·log(1 + s) + Σ u·(m - x)."""
    p, p_lo = times(u, u_lo, t, t_lo)
    y, y_lo = two_sum(p, d)
    return where(d == INFINITY, d + t, y + (y_lo + (p_lo + d_lo)))


# The sum of float64 logits, which could overflow, is made of these.
PART_OF_LOGIT = 2.0**-64


def accumulate_logit(total: Number, total_lo: Number, x: Number) -> Pair:
    """total + x, x in float64 being taken times PART_OF_LOGIT."""
    return accumulate(total, total_lo, x if x.has_wider else x * PART_OF_LOGIT)


def label_loss_smoothed(
    x: Number, m: Number, t: Number, t_lo: Number, total: Number, total_lo: Number, n: Number,
    keep: Number, keep_lo: Number, share: Number, share_lo: Number,
) -> Number:  # fmt: skip
    """log(1 + s) + keep·(m - x) + share·(n·m - Σx), x being the label's logit.

    As with labels, three terms >= 0.
    """
    if m.has_wider:
        d, d_lo = fma(widen(m), n, -total) * share, total_lo
    else:
        p, p_lo = times(m * PART_OF_LOGIT, m * 0.0, n, n * 0.0)
        d, d_lo = two_sum(p, -total)
        part = 1.0 / PART_OF_LOGIT
        d, d_lo = times(d, d_lo + (p_lo - total_lo), share * part, share_lo * part)
    d, d_lo = accumulate_target_loss(d, d_lo, keep, keep_lo, m, x)
    y, y_lo = two_sum(d, t)
    return where(d == INFINITY, d + t, y + (y_lo + (t_lo + d_lo)))


def label_gradient_smoothed(
    is_maximum: Number, e: Number, s: Number, s_lo: Number, r: Number, r_lo: Number, z: Number,
    n: Number, keep: Number, keep_lo: Number, share: Number, share_lo: Number,
) -> Number:  # fmt: skip
    """(e·(Σu - u) - u·(1 + s - e))·(r + r_lo) for the label's e: u is keep + share, Σu is 1 + z."""
    u, u_lo = two_sum(keep, share)
    others, others_lo = times(share, share_lo, n - 1.0, n * 0.0)
    rest, rest_lo = others_of_total(is_maximum, e, s, s_lo)
    d = target_difference(
        e, u, u_lo + (keep_lo + share_lo), rest, rest_lo, others, z + others_lo, r
    )
    return scaled(d, r, r_lo)


def gradient_smoothed(e: Number, before: Number, r: Number, share: Number) -> Number:
    """p - share, times the row's weight, for any other class; see `scale_factors`."""
    return fma(e * before, r, -share)


def biased_total(s: Number, s_lo: Number, like: Number) -> Pair:
    """(1 + s) / UNBIAS as a float64 pair, which keeps an s however small."""
    total, total_lo = two_sum(s, 1.0)
    bias = 1.0 / UNBIAS[like.bits]
    return total * bias, (total_lo + s_lo) * bias


def target_gradient(
    e: Number, u: Number, u_lo: Number, total: Number, total_lo: Number,
    u_sum: Number, u_sum_lo: Number, r: Number, r_lo: Number,
) -> Number:  # fmt: skip
    """(p·Σu - u)·weight = (e·(Σu - u) - u·(total - e))·(r + r_lo), in float64 throughout.

    Both brackets are what the *other* classes hold: they do not cancel where p is nearly 1.
    """
    wide = widen(e)
    targets, targets_lo = add_pairs(u_sum, u_sum_lo, -u, -u_lo, e)
    if e.has_wider:  # float64 has digits enough for all of this
        others = (total - wide) + total_lo
        return narrowed(fma(wide, targets + targets_lo, -(u * others)) * r, e)
    others, others_lo = two_sum(total, -wide)
    others_lo = others_lo + total_lo
    difference = target_difference(wide, u, u_lo, others, others_lo, targets, targets_lo, e)
    return scaled(difference, r, r_lo)


def target_gradient_of_logit(
    x: Number, m: Number, u: Number, u_lo: Number, total: Number, total_lo: Number,
    u_sum: Number, u_sum_lo: Number, r: Number, r_lo: Number,
) -> Number:  # fmt: skip
    """The same for e = exp(x - m), where it has not been kept."""
    e = biased_exp_minus(x, m)
    return target_gradient(e, u, u_lo, total, total_lo, u_sum, u_sum_lo, r, r_lo)


def target_difference(
    e: Number, u: Number, u_lo: Number, others: Number, others_lo: Number,
    targets: Number, targets_lo: Number, like: Number,
) -> Number:  # fmt: skip
    """e·targets - u·others. A z-loss is in targets_lo, as it may be far below what u leaves."""
    if like.has_wider:
        return fma(e, targets + targets_lo, -(u * (others + others_lo)))
    p, p_lo = times(e, e * 0.0, targets, targets_lo)
    q, q_lo = times(u, u_lo, others, others_lo)
    d, d_lo = two_sum(p, -q)
    return d + (d_lo + (p_lo - q_lo))


def unbiased_exp_minus(x: Number, m: Number) -> Number:
    """exp(x - m) in float64, from what `biased_exp_minus` gives."""
    return widen(biased_exp_minus(x, m)) * UNBIAS[x.bits]
