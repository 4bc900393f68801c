"""Formulas of sigmoid and log_sigmoid."""

from ..elementary import (
    UNBIAS,
    Number,
    biased_exp_quick_pair,
    exp_pair,
    fma,
    log1p_of_fraction,
    pair_of_reduced,
    quick_pair_of_reduced,
    reduced,
    two_sum,
    unbiased_pair,
    where,
)


def sigmoid(x: Number) -> Number:
    """σ(x) = 1 / (1 + e^-x), exact in both tails; error <= 0.97 ULP.

    With z = e^-|x|, σ is z / (1 + z) or 1 / (1 + z), and the quotient is corrected by its residual.
    Top and bottom both carry the bias of the exponential, so that a subnormal σ is rounded once, by
    the division.
    """
    return sigmoid_of_exp(*exp_below_one(*reduced_below_zero(x)))


def reduced_below_zero(x: Number) -> tuple[Number, Number, Number, Number]:
    """x, and -|x| reduced: the first third of σ(x)."""
    return x, *reduced(-abs(x))


def exp_below_one(x: Number, r: Number, r_lo: Number, power: Number) -> tuple[Number, ...]:
    """x and the pair z: the second third."""
    return x, *quick_pair_of_reduced(r, r_lo, power)


def sigmoid_of_exp(x: Number, z: Number, z_lo: Number) -> Number:
    """The last third."""
    one = 1.0 / UNBIAS[x.bits]
    negative = x < 0.0
    top = where(negative, z, one)
    reciprocal = 1.0 / (z + one)
    q = top * reciprocal
    residual = fma(-q, z, fma(-q, one, top))  # top - q·(1 + z), 1 + z not rounded
    residual = where(negative, residual + z_lo, residual)
    return fma(residual, reciprocal, q)


def sigmoid_quickly(x: Number) -> Number:
    """σ(x) in fewer operations, for results that are rounded to 16 bits; error <= 4.5 ULP."""
    one = 1.0 / UNBIAS[x.bits]
    z, _ = biased_exp_quick_pair(-abs(x))
    return where(x < 0.0, z, one) * (1.0 / (z + one))


def sigmoid_slope(x: Number) -> Number:
    """σ'(x) = z / (1 + z)², z = e^-|x|: exact in both tails, where y(1 - y) is 0; <= 1.5 ULP."""
    z, z_lo = exp_pair(-abs(x))
    return slope_of(z, z_lo, *one_plus(z, z_lo))


def one_plus(z: Number, z_lo: Number) -> tuple[Number, Number, Number]:
    """1 + z + z_lo for 0 <= z <= 1, as hi + lo, and 1 / hi."""
    bottom = z + 1.0
    return bottom, (z - (bottom - 1.0)) + z_lo, 1.0 / bottom


def slope_of(
    z: Number, z_lo: Number, bottom: Number, bottom_lo: Number, reciprocal: Number
) -> Number:
    """z / (1 + z)², from z and what `one_plus` says of it."""
    q = z * reciprocal
    q = fma(fma(-q, bottom, z) + fma(-q, bottom_lo, z_lo), reciprocal, q)
    q2 = q * reciprocal
    return fma(fma(-q2, bottom, q) - q2 * bottom_lo, reciprocal, q2)


def log_sigmoid(x: Number) -> Number:
    """log σ(x) = -(max(-x, 0) + log(1 + e^-|x|)); error <= 0.9 ULP."""
    return log_sigmoid_of_exp(*exact_exp_below_one(*reduced_below_zero(x)))


def exact_exp_below_one(x: Number, r: Number, r_lo: Number, power: Number) -> tuple[Number, ...]:
    """x and the pair z = e^-|x|: the second third of log σ(x)."""
    return x, *unbiased_pair(*pair_of_reduced(r, r_lo, power))


def log_sigmoid_of_exp(x: Number, z: Number, z_lo: Number) -> Number:
    """The last third."""
    hi, lo = log1p_of_fraction(z, z_lo)
    total, error = two_sum(where(x > 0.0, 0.0, -x), hi)
    # Below -64 the logarithm is under half an ULP of x; there two_sum(inf, …) would be NaN.
    return where(x < -64.0, x, -(total + (error + lo)))


def sigmoid_backward_of_output(dy: Number, y: Number) -> Number:
    """dx = dy·y(1 - y)."""
    return dy * (y * (1.0 - y))


def sigmoid_backward_of_input(dy: Number, x: Number) -> Number:
    """dx = dy·σ'(x)."""
    return dy * sigmoid_slope(x)


def log_sigmoid_backward(dy: Number, x: Number) -> Number:
    """dx = dy·σ(-x)."""
    return dy * sigmoid(-x)


# Long chains of operations in three parts: f(x) is third(*second(*first(x))). A processor that
# begins a part of one number and ends another's at the same time waits for neither.
PARTS = {
    sigmoid: (reduced_below_zero, exp_below_one, sigmoid_of_exp),
    log_sigmoid: (reduced_below_zero, exact_exp_below_one, log_sigmoid_of_exp),
}
