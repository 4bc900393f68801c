"""Formulas of gradient and Hessian for boosted trees.

With p_j = e_j / total, a column's gradient is p_j·w and its Hessian p_j·(1 - p_j)·w, where 1 - p_j
is what the *other* columns hold of the total, never a difference of probabilities.
"""

from ..elementary import (
    UNBIAS,
    Number,
    Pair,
    exp_pair,
    fma,
    literal,
    narrowed,
    times,
    two_sum,
    where,
    widen,
)
from .cross_entropy import others_of_total
from .sigmoid import one_plus, slope_of
from .softmax import scaled

# Where a Hessian's factor is smaller, multiplying it by UNBIAS would lose digits. (The float64 of
# float32's sums has digits enough.)
TINY = {32: 2.0**-36, 64: 2.0**-388}


def grad_hess_factors(
    r: Number, r_lo: Number, weight: Number, share: Number, share_lo: Number, like: Number
) -> tuple[Number, ...]:
    """(g, g_lo, h, h_lo, before, unbias) for a row whose total is 1 / (r + r_lo).

    The gradient is e·(g + g_lo), the Hessian e·others·(h + h_lo), h holding the convention's share.
    For biased exponentials, e is multiplied by `before` and these factors by `unbias`: as a rule 1
    and the bias, but the other way round where factors are so small that they would lose digits.
    """
    g, g_lo = times(r, r_lo, weight, weight * 0.0)
    h, h_lo = times(g, g_lo, r, r_lo)
    h, h_lo = times(h, h_lo, share, share_lo)
    tiny = abs(h) < (0.0 if like.has_wider else TINY[like.bits])
    unbias = UNBIAS[like.bits]
    before, after = where(tiny, literal(unbias, h), 1.0), where(tiny, literal(1.0, h), unbias)
    return g, g_lo, h, h_lo, before, after


def grad_and_hess(
    e: Number, s: Number, s_lo: Number, g: Number, g_lo: Number, h: Number, h_lo: Number,
    before: Number, floor: Number,
) -> Pair:  # fmt: skip
    """Gradient and Hessian of a column that is not the label's, from its biased exponential e.

    An e that is exactly 1 / UNBIAS is the maximum, or as good as one: the others hold s then.
    """
    unbias = UNBIAS[e.bits]
    wide = widen(e)
    is_maximum = wide == 1.0 / unbias
    if e.has_wider:
        others = where(is_maximum, s, fma(wide, -unbias, s + 1.0))
        gradient, hessian = wide * g, (wide * others) * h
    else:
        others, others_lo = others_of_total(is_maximum, e * unbias, s, s_lo)
        e = e * before
        p, p_lo = times(e, e * 0.0, others, others_lo)
        gradient = scaled(e, g, g_lo)
        hessian = fma(p, h, fma(p, h_lo, p_lo * h))
    hessian = where(hessian < floor, floor, hessian)
    return narrowed(gradient, e), narrowed(hessian, e)


def sigmoid_grad_hess(x: Number, y: Number, weight: Number) -> Pair:
    """(σ(x) - y)·weight and σ'(x)·weight for a label 0 <= y <= 1.

    With z = e^-|x|, σ(x) - y is ±(u - v·z) / (1 + z), u and v being y and 1 - y in the order that
    x's sign tells: for a label of 0 or 1 nothing cancels. σ'(x) is z / (1 + z)².
    """
    z, z_lo = exp_pair(-abs(x))
    bottom, bottom_lo, reciprocal = one_plus(z, z_lo)
    rest, rest_lo = two_sum(-y, 1.0)
    negative = x < 0.0
    u, u_lo = where(negative, y, rest), where(negative, 0.0, rest_lo)
    v, v_lo = where(negative, rest, y), where(negative, rest_lo, 0.0)
    p, p_lo = times(v, v_lo, z, z_lo)
    top, top_lo = two_sum(u, -p)
    top_lo = top_lo + (u_lo - p_lo)
    q = top * reciprocal
    q = fma(fma(-q, bottom, top) + fma(-q, bottom_lo, top_lo), reciprocal, q)
    gradient = where(negative, -q, q)

    return gradient * weight, slope_of(z, z_lo, bottom, bottom_lo, reciprocal) * weight
