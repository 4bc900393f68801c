"""Every formula of fastbp, written once, on single numbers.

A formula is a plain Python function of numbers and never looks at the machine: `fastbp.cpu.simd`
calls it once, while a kernel is being compiled, with numbers that write down the arithmetic done to
them (scalars or whole vectors, float32 or float64), and what they wrote becomes the kernel's code.
`fastbp.elementary` says what a formula may and may not do.
"""

from .elementary import (
    INFINITY,
    NAN,
    UNBIAS,
    Number,
    Pair,
    biased_exp_minus,
    biased_exp_quick_pair,
    exp_pair,
    fma,
    larger,
    log1p_of_fraction,
    log1p_pair,
    narrowed,
    quotient,
    split,
    times,
    two_sum,
    where,
    widen,
)

# sigmoid ----------------------------------------------------------------------------------------


def sigmoid(x: Number) -> Number:
    """σ(x) = 1 / (1 + e^-x), exact in both tails; error <= 0.97 ULP.

    With z = e^-|x|, σ is z / (1 + z) or 1 / (1 + z), and the quotient is corrected by its residual.
    Top and bottom both carry the bias of the exponential, so that a subnormal σ is rounded once, by
    the division.
    """
    one = 1.0 / UNBIAS[x.bits]
    z, z_lo = biased_exp_quick_pair(-abs(x))
    negative = x < 0.0
    top = where(negative, z, one)
    reciprocal = 1.0 / (z + one)
    q = top * reciprocal
    residual = fma(-q, z, fma(-q, one, top))  # top - q·(1 + z), 1 + z not rounded
    residual = where(negative, residual + z_lo, residual)
    return fma(residual, reciprocal, q)


def sigmoid_slope(x: Number) -> Number:
    """σ'(x) = z / (1 + z)², z = e^-|x|: exact in both tails, where y(1 - y) is 0; <= 1.5 ULP."""
    z, z_lo = exp_pair(-abs(x))
    bottom = z + 1.0
    bottom_lo = (z - (bottom - 1.0)) + z_lo
    reciprocal = 1.0 / bottom
    q = z * reciprocal
    q = fma(fma(-q, bottom, z) + fma(-q, bottom_lo, z_lo), reciprocal, q)
    q2 = q * reciprocal
    return fma(fma(-q2, bottom, q) - q2 * bottom_lo, reciprocal, q2)


def log_sigmoid(x: Number) -> Number:
    """log σ(x) = -(max(-x, 0) + log(1 + e^-|x|)); error <= 0.9 ULP."""
    z, z_lo = exp_pair(-abs(x))
    hi, lo = log1p_of_fraction(z, z_lo)
    total, error = two_sum(where(x > 0.0, 0.0, -x), hi)
    # Below -64 the logarithm is under half an ULP of x; there two_sum(inf, …) would be NaN.
    return where(x < -64.0, x, -(total + (error + lo)))


# rows -------------------------------------------------------------------------------------------
#
# A row's total is Σ exp(x_j - m) = 1 + s, m being its maximum and s the sum over the other columns
# (other equal maxima included). Keeping the 1 apart is what lets a confident row's loss,
# log(1 + s), and its gradient keep all their digits when s is far below the precision of 1 + s.
#
# Its sums are float64. Those of float32 exponentials need no more; those of float64 ones are kept
# as hi + lo. Where a formula would take the trouble for nothing, it asks for `like`, any number of
# the row's own precision, and leaves lo alone, which is 0 then.


def add_pairs(a: Number, a_lo: Number, b: Number, b_lo: Number, like: Number) -> Pair:
    """(a + a_lo) + (b + b_lo)."""
    if like.bits == 32:
        return a + b, a_lo
    s, error = two_sum(a, b)
    return s, (a_lo + b_lo) + error


def accumulate(total: Number, total_lo: Number, x: Number) -> Pair:
    """total + x, for x of the row's own precision."""
    if x.bits == 32:
        return total + x.widen(), total_lo
    total, error = two_sum(total, x)
    return total, total_lo + error


def accumulate_product(total: Number, total_lo: Number, a: Number, b: Number, c: Number) -> Pair:
    """total + a·(b - c)."""
    if a.bits == 32:
        return fma(widen(a), widen(b) - widen(c), total), total_lo
    d, d_lo = two_sum(b, -c)
    p, p_lo = times(a, a * 0.0, d, d_lo)
    total, error = two_sum(total, p)
    return total, (total_lo + p_lo) + error


def sum_of_lanes(total: Number, total_lo: Number, like: Number) -> Pair:
    """The sum over a vector's lanes, folded in halves."""
    for _ in range(total.kind.lanes.bit_length() - 1):
        (a, b), (a_lo, b_lo) = total.halves(), total_lo.halves()
        total, total_lo = add_pairs(a, a_lo, b, b_lo, like)
    return total, total_lo


def max_of_lanes(x: Number) -> Number:
    """The largest lane."""
    for _ in range(x.kind.lanes.bit_length() - 1):
        x = larger(*x.halves())
    return x


def value_at_max_of_lanes(x: Number, value: Number) -> Pair:
    """The largest lane of x, and what stands in that lane of `value`."""
    for _ in range(x.kind.lanes.bit_length() - 1):
        x, value = larger_with(*x.halves(), *value.halves())
    return x, value


def larger_with(x: Number, y: Number, of_x: Number, of_y: Number) -> Pair:
    """The larger of x and y, and what belongs to it; y if x is NaN."""
    bigger = x > y
    return where(bigger, x, y), where(bigger, of_x, of_y)


def rest(is_maximum: Number, e: Number) -> Number:
    """e but for the maxima."""
    return where(is_maximum, 0.0, e)


def equal(x: Number, y: Number) -> Number:
    """Where x is y."""
    return x == y


def unbiased(s: Number, s_lo: Number, like: Number) -> Pair:
    """The float64 pair s + s_lo of biased exponentials of the precision of `like`, set right."""
    return s * UNBIAS[like.bits], s_lo * UNBIAS[like.bits]


def reciprocal_of_total(m: Number, s: Number, s_lo: Number) -> Pair:
    """1 / (1 + s + s_lo); NaN if the row's maximum m is infinite."""
    total, total_lo = add_pairs(s, s_lo, s * 0.0 + 1.0, s_lo * 0.0, m)
    r = 1.0 / total
    r_lo = s_lo if m.bits == 32 else fma(-r, total_lo, fma(-r, total, 1.0)) * r
    return where(abs(m) == INFINITY, NAN, r), r_lo


def scaled(e: Number, r: Number, r_lo: Number) -> Number:
    """e·(r + r_lo)."""
    return fma(e, r, e * r_lo)


def scale_factors(r: Number, r_lo: Number, like: Number) -> tuple[Number, Number, Number]:
    """(before, r, r_lo) such that scaled(e·before, r, r_lo) unbiases e and multiplies it.

    The bias goes into r, unless r is so small that r·UNBIAS would lose digits.
    """
    bits = like.bits
    tiny = abs(r) < {32: 2.0**-36, 64: 2.0**-388}[bits]
    before = where(tiny, UNBIAS[bits], 1.0)
    unbias = where(tiny, 1.0, UNBIAS[bits])
    r, r_lo = split(r * unbias, r_lo * unbias, like)
    return narrowed(before, like), r, r_lo


def scaled_in_two_steps(e: Number, before: Number, r: Number, r_lo: Number) -> Number:
    """e·before·(r + r_lo)."""
    return scaled(e * before, r, r_lo)


def log_of_total(m: Number, s: Number, s_lo: Number) -> Pair:
    """t + t_lo = log(1 + s + s_lo); NaN if the row's maximum m is infinite."""
    t, t_lo = log1p_pair(s, s_lo)
    return where(abs(m) == INFINITY, NAN, t), t_lo


def log_softmax(x: Number, m: Number, t: Number, t_lo: Number) -> Number:
    """(x - m) - (t + t_lo): two terms <= 0, so nothing cancels. t is of x's precision here."""
    d, d_lo = two_sum(x, -m)
    y, y_lo = two_sum(d, -t)
    # Beyond the largest number d is -inf, and its error NaN.
    return where(d == -INFINITY, d - t, y + (y_lo + (d_lo - t_lo)))


def logsumexp(m: Number, s: Number, s_lo: Number) -> Number:
    """m + log(1 + s + s_lo) in float64; m itself if that is infinite and no NaN is in the row."""
    t, t_lo = log1p_pair(s, s_lo)
    y, y_lo = two_sum(widen(m), t)
    return where((abs(m) == INFINITY) & (s == s), widen(m), y + (y_lo + t_lo))


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


def gradient_factor(weight: Number, dloss: Number, denominator: Number) -> Pair:
    """weight·dloss / denominator; 0 if the denominator is."""
    g, g_lo = quotient(widen(dloss), denominator)
    g, g_lo = times(g, g_lo, weight, weight * 0.0)
    empty = denominator == 0.0
    return where(empty, 0.0, g), where(empty, 0.0, g_lo)


def weighted(loss: Number, weight: Number) -> Number:
    """loss·weight, where inf·0 is 0."""
    return where((weight == 0.0) & (loss == INFINITY), 0.0, loss * weight)


# backward passes ----------------------------------------------------------------------------------


def sigmoid_backward_of_output(dy: Number, y: Number) -> Number:
    """dx = dy·y(1 - y)."""
    return dy * (y * (1.0 - y))


def sigmoid_backward_of_input(dy: Number, x: Number) -> Number:
    """dx = dy·σ'(x)."""
    return dy * sigmoid_slope(x)


def log_sigmoid_backward(dy: Number, x: Number) -> Number:
    """dx = dy·σ(-x)."""
    return dy * sigmoid(-x)


def softmax_backward(dy: Number, y: Number, shift: Number, dot: Number, dot_lo: Number) -> Number:
    """dx = y·((dy - shift) - Σ y·(dy - shift)).

    As Σ y = 1, any shift gives the same; dy at the largest y leaves nothing to cancel there.
    """
    return y * (((dy - shift) - dot) - dot_lo)


# A little more than log ½, so that no two columns of a row are above.
LOG_HALF = -0.69


def is_likely(y: Number) -> Number:
    """Whether the probability exp(y) exceeds 1/2."""
    return y > LOG_HALF


def log_softmax_backward(
    dy: Number, y: Number, likely: Number, others: Number, others_lo: Number
) -> Number:
    """dx = dy - exp(y)·Σ dy, the sum being likely + others + others_lo.

    Where exp(y) > 1/2 that is (1 - exp(y))·dy - exp(y)·(others + others_lo): the likely column's
    own dy, which would cancel, is left out.
    """
    e, e_lo = exp_pair(y)
    usual = fma(-e, others_lo, fma(-e, others, fma(-e, likely, dy)))
    sure = fma(-e, others_lo, fma((1.0 - e) - e_lo, dy, -(e * others)))
    return where(is_likely(y), sure, usual)


def logsumexp_backward(x: Number, y: Number, dy: Number) -> Number:
    """dx = dy·exp(x - y)."""
    return dy * (biased_exp_minus(x, y) * UNBIAS[x.bits])


# targets ----------------------------------------------------------------------------------------
#
# General targets give every class c a weight u_c = w_c·((1 - ε)·t_c + ε/C); the loss of a row is
# Σ u_c·(lse - x_c), its gradient p_j·Σu - u_j.


def smoothed(t: Number, keep: Number, keep_lo: Number, share: Number, share_lo: Number) -> Pair:
    """t·keep + share, in float64."""
    if t.bits == 32:
        return fma(widen(t), keep, share), widen(t) * 0.0
    p, p_lo = times(t, t * 0.0, keep, keep_lo)
    u, error = two_sum(p, share)
    return u, error + (p_lo + share_lo)


def times_weight(u: Number, u_lo: Number, w: Number) -> Pair:
    """u·w, in float64."""
    if w.bits == 32:
        return u * widen(w), u_lo
    return times(u, u_lo, w, w * 0.0)


def accumulate_target_loss(
    total: Number, total_lo: Number, u: Number, u_lo: Number, m: Number, x: Number
) -> Pair:
    """total + u·(m - x), where 0·inf is 0; total is inf if a term is, whatever total_lo is then."""
    nothing = u == 0.0
    if x.bits == 32:
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
    others, others_lo = two_sum(total, -wide)
    others_lo = others_lo + total_lo
    difference = target_difference(wide, u, u_lo, others, others_lo, targets, targets_lo, e)
    return narrowed(scaled(difference, r, r_lo), e)


def target_difference(
    e: Number, u: Number, u_lo: Number, others: Number, others_lo: Number,
    targets: Number, targets_lo: Number, like: Number,
) -> Number:  # fmt: skip
    """e·targets - u·others."""
    if like.bits == 32:
        return fma(e, targets, -(u * (others + others_lo)))
    p, p_lo = times(e, e * 0.0, targets, targets_lo)
    q, q_lo = times(u, u_lo, others, others_lo)
    d, d_lo = two_sum(p, -q)
    return d + (d_lo + (p_lo - q_lo))


def unbiased_exp_minus(x: Number, m: Number) -> Number:
    """exp(x - m) in float64, from what `biased_exp_minus` gives."""
    return widen(biased_exp_minus(x, m)) * UNBIAS[x.bits]
