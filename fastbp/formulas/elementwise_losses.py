"""Formulas of the losses that are not softmax cross-entropy: one number and its target at a time.

A gradient is multiplied by (g + g_lo), the incoming gradient over the denominator of a mean, before
it is rounded, so that this costs no accuracy. Loss and gradient of one function share their first
operations: a kernel that computes both computes those once.
"""

from ..elementary import (
    INFINITY,
    UNBIAS,
    Number,
    Pair,
    biased_exp_quick_pair,
    fma,
    literal,
    log1p_of_fraction,
    log_pair,
    times,
    two_sum,
    where,
)


def product(x: Number, x_lo: Number, g: Number, g_lo: Number) -> Number:
    """(x + x_lo)·(g + g_lo)."""
    return fma(x, g, fma(x_lo, g, x * g_lo))


def product_or_infinity(x: Number, x_lo: Number, g: Number, g_lo: Number) -> Number:
    """The same; x·g where x is infinite, whatever x_lo is then."""
    return where(abs(x) == INFINITY, x * g, product(x, x_lo, g, g_lo))


def itself(x: Number, _t: Number) -> Number:
    """x, whose loss is its sum."""
    return x


# sigmoid cross-entropy ----------------------------------------------------------------------------
#
# loss = u·log(1 + e^x) + v·log(1 + e^-x), with u = 1 - t and v = t times its weight. With
# z = e^-|x| both logarithms are L = log(1 + z), one of them plus |x|. The gradient,
# u·σ(x) - v·σ(-x), is (d + s·z) / (1 + z), where d = u and s = -v for x > 0, and the other way
# round below. No sum of two terms >= 0 cancels, and of a hard target one of d and s is 0.


def sides(x: Number, u: Number, v: Number) -> Pair:
    """(d, s)."""
    positive = x > 0.0
    return where(positive, u, -v), where(positive, -v, u)


def exp_of_minus_abs(x: Number) -> Pair:
    """z = e^-|x| as hi + lo."""
    z, z_lo = biased_exp_quick_pair(-abs(x))
    return z * UNBIAS[x.bits], z_lo * UNBIAS[x.bits]


def quotient_of_sides(x: Number, d: Number, s: Number) -> Pair:
    """(d + s·z) / (1 + z) as hi + lo: a quotient and its residual."""
    z, z_lo = exp_of_minus_abs(x)
    top = fma(s, z, d)
    reciprocal = 1.0 / (z + 1.0)
    q = top * reciprocal
    residual = fma(s - q, z_lo, fma(-q, z, top - q))
    return q, residual * reciprocal


def sigmoid_loss(x: Number, t: Number) -> Number:
    """-t·log σ(x) - (1 - t)·log σ(-x) = d·x + L."""
    d, _ = sides(x, 1.0 - t, t)
    x_of_d = where(d == 0.0, 0.0, x)  # 0·inf is 0
    linear = d * x_of_d
    log, log_lo = log1p_of_fraction(*exp_of_minus_abs(x))
    y, y_lo = two_sum(linear, log)
    rest = y_lo + (fma(d, x_of_d, -linear) + log_lo)
    return where(abs(linear) == INFINITY, linear, y + rest)


def sigmoid_gradient(x: Number, t: Number, g: Number, g_lo: Number) -> Number:
    """σ(x) - t, times g."""
    return product(*quotient_of_sides(x, *sides(x, 1.0 - t, t)), g, g_lo)


def weighted_sigmoid_loss(x: Number, t: Number, positive: Number, weight: Number) -> Number:
    """-(positive·t·log σ(x) + (1 - t)·log σ(-x))·weight = (|d|·(|x| + L) + |s|·L)·weight."""
    d, s = sides(x, 1.0 - t, positive * t)
    log, log_lo = log1p_of_fraction(*exp_of_minus_abs(x))
    nothing = (d == 0.0) | (weight == 0.0)  # 0·inf is 0
    large, large_lo = two_sum(where(nothing, 0.0, abs(x)), log)
    a = abs(d) * large
    a_lo = fma(abs(d), large, -a) + abs(d) * (large_lo + log_lo)
    b = abs(s) * log
    b_lo = fma(abs(s), log, -b) + abs(s) * log_lo
    y, y_lo = two_sum(a, b)
    rest = y_lo + (a_lo + b_lo)
    return where(abs(a) == INFINITY, a * weight, fma(y, weight, rest * weight))


def weighted_sigmoid_gradient(
    x: Number, t: Number, g: Number, g_lo: Number, positive: Number, weight: Number
) -> Number:
    """((1 - t)·σ(x) - positive·t·σ(-x))·weight, times g."""
    q, q_lo = quotient_of_sides(x, *sides(x, 1.0 - t, positive * t))
    return product(q, q_lo, *times(weight, weight * 0.0, g, g_lo))


# squared error ------------------------------------------------------------------------------------


def squared_error(x: Number, t: Number) -> Number:
    """(x - t)²."""
    d, d_lo = two_sum(x, -t)
    square = d * d
    return where(square == INFINITY, square, fma(d, d, (d + d) * d_lo))


def half_squared_error(x: Number, t: Number) -> Number:
    """(x - t)² / 2."""
    d, d_lo = two_sum(x, -t)
    half = d * 0.5
    square = d * half
    return where(square == INFINITY, square, fma(d, half, d * d_lo))


def squared_error_gradient(x: Number, t: Number, g: Number, g_lo: Number) -> Number:
    """2·(x - t), times g."""
    return half_squared_error_gradient(x, t, g + g, g_lo + g_lo)


def half_squared_error_gradient(x: Number, t: Number, g: Number, g_lo: Number) -> Number:
    """x - t, times g."""
    d, d_lo = two_sum(x, -t)
    # Where x - t overflows, (x - t)·g need not.
    large = abs(d) == INFINITY
    d, d_lo = where(large, x * 0.5 - t * 0.5, d), where(large, 0.0, d_lo)
    scale = where(large, literal(2.0, d), 1.0)
    return product_or_infinity(d, d_lo, g * scale, g_lo * scale)


# losses of probabilities --------------------------------------------------------------------------


def log_times(t: Number, p: Number) -> Pair:
    """log p as hi + lo, to be multiplied by t: 0 where p and t are, as 0·log 0 is."""
    a, a_lo = log_pair(p)
    return where((t == 0.0) & (p == 0.0), 0.0, a), a_lo


def probability_loss(p: Number, t: Number) -> Number:
    """-t·log p."""
    a, a_lo = log_times(t, p)
    return 0.0 - fma(t, a, t * a_lo)


def whole(s: Number, s_lo: Number) -> Number:
    """s + s_lo; s if that is infinite, whatever s_lo is then."""
    return where(abs(s) == INFINITY, s, s + s_lo)


def minus_log(p: Number, _t: Number) -> Number:
    """-log p."""
    a, a_lo = log_pair(p)
    return 0.0 - (a + a_lo)


def probability_gradient(p: Number, t: Number, g: Number, g_lo: Number) -> Number:
    """-t / p, times g; 0 where t is."""
    nothing = t == 0.0
    return where(nothing, 0.0, scaled_quotient(-t, where(nothing, 1.0, p), g, g_lo))


def binary_loss(p: Number, t: Number) -> Number:
    """-t·log p - (1 - t)·log(1 - p)."""
    rest, u = 1.0 - p, 1.0 - t
    a, a_lo = log_times(t, p)
    b, b_lo = log_pair(rest, (1.0 - rest) - p)
    b = where((u == 0.0) & (rest == 0.0), 0.0, b)
    return 0.0 - fma(u, b, fma(t, a, fma(t, a_lo, u * b_lo)))


def binary_gradient(p: Number, t: Number, g: Number, g_lo: Number) -> Number:
    """(1 - t) / (1 - p) - t / p, times g: as (p - t) / (p·(1 - p)), which does not cancel.

    A term whose target is 0 is 0, whatever it is divided by.
    """
    no, yes, rest = t == 0.0, t == 1.0, 1.0 - p
    top = where(no, 1.0, where(yes, -1.0, p - t))
    bottom = where(no, rest, where(yes, p, p * rest))
    return scaled_quotient(top, bottom, g, g_lo)


# Below, 1 / p overflows, which 1 / p times g need not.
TINY = {32: 2.0**-100, 64: 2.0**-1000}
LIFT = {32: 2.0**60, 64: 2.0**600}


def scaled_quotient(a: Number, b: Number, g: Number, g_lo: Number) -> Number:
    """a / b, times g; -0 is 0."""
    lift = where(abs(b) < TINY[b.bits], literal(LIFT[b.bits], b), 1.0)
    b = (b + 0.0) * lift
    q = a / b
    q_lo = where(abs(b) == INFINITY, 0.0, fma(-q, b, a) / b)
    return product_or_infinity(q, q_lo, g * lift, g_lo * lift)
