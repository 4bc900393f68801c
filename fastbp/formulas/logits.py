"""Formulas that change logits before their softmax: temperature and soft cap.

What comes out is the changed logit less that of the row's maximum, rounded once: as in a softmax
without them, an offset of all logits costs no digits. The numbers given, such as 1 / temperature,
are pairs hi + lo.
"""

from ..elementary import (
    INFINITY,
    Number,
    Pair,
    expm1_parts,
    fma,
    quotient,
    times,
    two_sum,
    where,
)
from .sigmoid import sigmoid_slope


def over(a: Number, b: Number, b_lo: Number | None = None) -> Pair:
    """a / (b + b_lo) as hi + lo."""
    if b_lo is None:
        return quotient(a, b)
    q = a / b
    return q, fma(-q, b_lo, fma(-q, b, a)) / b


def ratio(*numbers: Number) -> Pair:
    """a / b as hi + lo; of four numbers, (a + a_lo) / (b + b_lo)."""
    if len(numbers) == 2:
        return quotient(*numbers)
    a, a_lo, b, b_lo = numbers
    q = a / b
    return q, (fma(-q, b, a) + fma(-q, b_lo, a_lo)) / b


def tempered(x: Number, m: Number, r: Number, r_lo: Number) -> Number:
    """(x - m)·(r + r_lo) for x <= m."""
    d, d_lo = two_sum(x, -m)
    # Where d or the product is beyond the largest number, errors are NaN; x / 2 - m / 2 is not.
    coarse = (x * 0.5 - m * 0.5) * r * 2.0
    beyond = (d == -INFINITY) | (coarse == -INFINITY)
    return where(beyond, coarse, fma(d, r, fma(d, r_lo, d_lo * r)))


def capped(
    x: Number, m: Number, m_lo: Number, r: Number, r_lo: Number, cap: Number, cap_lo: Number
) -> Number:
    """What `capped_pair` says of x, less m + m_lo."""
    z, z_lo = capped_pair(x, r, r_lo, cap, cap_lo)
    d, d_lo = two_sum(z, -m)
    return d + (d_lo + (z_lo - m_lo))


def _twice_magnitude(x: Number, r: Number, r_lo: Number) -> Pair:
    """|x|·(r + r_lo), for r twice the inverse of the cap."""
    v, v_lo = times(abs(x), 0.0 * r, r, r_lo)
    return v, where(v == INFINITY, 0.0, v_lo)


def capped_pair(x: Number, r: Number, r_lo: Number, cap: Number, cap_lo: Number) -> Pair:
    """(cap + cap_lo)·tanh(x / s) as hi + lo, r being 2 / s; ±inf become ±cap.

    With e = exp(-2|x| / s), tanh is (1 - e) / (1 + e), where 1 - e is a sum of two terms of one
    sign: a small x loses no digits.
    """
    v, v_lo = _twice_magnitude(x, r, r_lo)
    most = {32: 30.0, 64: 60.0}[x.bits]  # beyond, tanh is 1
    beyond = v > most
    power, q, q_lo = expm1_parts(where(beyond, -most, -v), where(beyond, 0.0, -v_lo))
    # So e is power·(1 + q + q_lo).
    above = 1.0 - power
    part, part_lo = power * q, power * q_lo
    top = above - part
    top_lo = ((above - top) - part) + (((1.0 - above) - power) - part_lo)
    e = power + part
    bottom = e + 1.0
    bottom_lo = (e - (bottom - 1.0)) + ((part - (e - power)) + part_lo)
    y = top / bottom
    y_lo = (fma(-y, bottom, top) + fma(-y, bottom_lo, top_lo)) / bottom
    z, z_lo = times(y, y_lo, cap, cap_lo)
    negative = x < 0.0
    return where(negative, -z, z), where(negative, -z_lo, z_lo)


def capped_backward(dz: Number, x: Number, r: Number, r_lo: Number) -> Number:
    """dz·(1 - tanh²(x / s)), as 4·σ'(2x / s), which does not cancel."""
    v, v_lo = _twice_magnitude(x, r, r_lo)
    slope = sigmoid_slope(v) * 4.0
    return dz * fma(-v_lo, slope, slope)
