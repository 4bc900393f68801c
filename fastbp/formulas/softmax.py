"""Formulas of rows: softmax, log_softmax, logsumexp.

A row's total is Σ exp(x_j - m) = 1 + s, m being its maximum and s the sum over the other columns
(other equal maxima included). Keeping the 1 apart is what lets a confident row's loss,
log(1 + s), and its gradient keep all their digits when s is far below the precision of 1 + s.

Its sums are float64. Those of float32 exponentials need no more; those of float64 ones are kept
as hi + lo. Where a formula would take the trouble for nothing, it asks for `like`, any number of
the row's own precision, and leaves lo alone, which is 0 then.
"""

from ..elementary import (
    INFINITY,
    NAN,
    UNBIAS,
    Number,
    Pair,
    biased_exp_minus,
    biased_exp_quickly,
    difference,
    exp_and_rest,
    fma,
    larger,
    literal,
    log1p_for_float32,
    log1p_pair,
    narrowed,
    split,
    times,
    two_sum,
    where,
    widen,
)


def add_pairs(a: Number, a_lo: Number, b: Number, b_lo: Number, like: Number) -> Pair:
    """(a + a_lo) + (b + b_lo)."""
    if like.has_wider:
        return a + b, a_lo
    s, error = two_sum(a, b)
    return s, (a_lo + b_lo) + error


def accumulate(total: Number, total_lo: Number, x: Number) -> Pair:
    """total + x, for x of the row's own precision."""
    for part in x.parts(total.lanes):
        if x.has_wider:
            total = total + part.widen()
        else:
            total, error = two_sum(total, part)
            total_lo = total_lo + error
    return total, total_lo


def accumulate_exps(total: Number, total_lo: Number, e: Number) -> Pair:
    """total + e, for exponentials; those of float32 enter by their bits, see `whole_exps`."""
    if not e.has_wider:
        return accumulate(total, total_lo, e)
    for part in e.parts(total.lanes):
        total = total + part.widen_bits()
    return total, total_lo


def accumulate_quickly(total: Number, total_lo: Number, e: Number) -> Pair:
    """The same; the vectors of a wide one are added to each other first, and that is rounded."""
    parts = e.parts(total.lanes)
    while len(parts) > 1:
        parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return accumulate_exps(total, total_lo, parts[0])


def accumulate_product(total: Number, total_lo: Number, a: Number, b: Number) -> Pair:
    """total + a·b."""
    if a.has_wider:
        return fma(widen(a), widen(b), total), total_lo
    p, p_lo = times(a, a * 0.0, b, b * 0.0)
    total, error = two_sum(total, p)
    return total, (total_lo + p_lo) + error


def accumulate_shifted(total: Number, total_lo: Number, a: Number, b: Number, c: Number) -> Pair:
    """total + a·(b - c)."""
    if a.has_wider:
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


def whole_exps(total: Number) -> Number:
    """The sum of float32 exponentials that entered it by their bits, 2^-896 of their value.

    They are at most 2^64, and a block of them much less than 2^128, which NaN became.
    """
    return where(total < 2.0**-790, total * 2.0**896, NAN)


def exps_of_lanes(total: Number, total_lo: Number, like: Number) -> Pair:
    """That of a vector's lanes."""
    s, s_lo = sum_of_lanes(total, total_lo, like)
    return whole_exps(s), s_lo


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


def others(x: Number, m: Number) -> Number:
    """1 in the lanes where x is not the maximum, else 0."""
    return x.differs(m)


def rest(ones: Number, e: Number) -> Number:
    """e in the lanes that are 1, and 0 elsewhere."""
    return e.masked(ones)


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
    r_lo = s_lo if m.has_wider else fma(-r, total_lo, fma(-r, total, 1.0)) * r
    return where(abs(m) == INFINITY, NAN, r), r_lo


def scaled(e: Number, r: Number, r_lo: Number) -> Number:
    """e·(r + r_lo)."""
    return fma(e, r, e * r_lo)


def softmax(x: Number, m: Number, r: Number, r_lo: Number) -> Number:
    """exp(x - m)·(r + r_lo), r + r_lo undoing the bias of the exponential, too."""
    return scaled(biased_exp_minus(x, m), r, r_lo)


def reciprocal(like: Number, total: Number, total_lo: Number) -> Pair:
    """1 / (total + total_lo) as a pair of the precision of `like`."""
    r = 1.0 / total
    r_lo = total_lo if like.has_wider else fma(-r, total_lo, fma(-r, total, 1.0)) * r
    return split(r, r_lo, like)


def reciprocal_of_row(m: Number, total: Number, total_lo: Number) -> tuple[Number, Number, Number]:
    """m and 1 / (total + total_lo)."""
    return m, *reciprocal(m, total, total_lo)


def reciprocal_of_one_more(m: Number, s: Number, s_lo: Number) -> tuple[Number, Number, Number]:
    """m and 1 / (1 + s + s_lo) of the precision of m, to multiply biased exponentials."""
    return m, *split(*unbiased(*reciprocal_of_total(m, s, s_lo), m), m)


def scale_factors(r: Number, r_lo: Number, like: Number) -> tuple[Number, Number, Number]:
    """(before, r, r_lo) such that scaled(e·before, r, r_lo) unbiases e and multiplies it.

    The bias goes into r, unless r is so small that r·UNBIAS would lose digits.
    """
    bits = like.bits
    tiny = abs(r) < {32: 2.0**-36, 64: 2.0**-388}[bits]
    before = where(tiny, literal(UNBIAS[bits], like), 1.0)
    unbias = where(tiny, literal(1.0, r), UNBIAS[bits])
    return before, *split(r * unbias, r_lo * unbias, like)


def scaled_in_two_steps(e: Number, before: Number, r: Number, r_lo: Number) -> Number:
    """e·before·(r + r_lo)."""
    return scaled(e * before, r, r_lo)


def exp_scaled(x: Number, m: Number, before: Number, r: Number, r_lo: Number) -> Number:
    """The same for e = exp(x - m), where it has not been kept."""
    return scaled(biased_exp_minus(x, m) * before, r, r_lo)


def softmax_quickly(x: Number, m: Number, r: Number, _r_lo: Number) -> Number:
    """exp(x - m)·r, for results that are rounded to 16 bits."""
    return biased_exp_quickly(x, m) * r


def scaled_quickly(e: Number, r: Number, _r_lo: Number) -> Number:
    """e·r."""
    return e * r


def log_of_total(m: Number, s: Number, s_lo: Number) -> Pair:
    """t + t_lo = log(1 + s + s_lo); NaN if the row's maximum m is infinite."""
    t, t_lo = (log1p_for_float32(s), s_lo) if m.has_wider else log1p_pair(s, s_lo)
    return where(abs(m) == INFINITY, NAN, t), t_lo


def log_total(m: Number, s: Number, s_lo: Number) -> Pair:
    """m + log(1 + s + s_lo) as a pair of the precision of m, which keeps the digits of the lesser.

    Where the logarithm is too small to change m, it is the lower part: a confident row's.
    """
    t, t_lo = log_of_total(m, s, s_lo)
    if m.has_wider:
        hi = (widen(m) + t).narrow()
        return hi, (t - (widen(hi) - widen(m))).narrow()
    hi, lo = two_sum(m, t)
    return hi, lo + t_lo


def log_softmax(x: Number, total: Number, total_lo: Number) -> Number:
    """x - (total + total_lo)."""
    d, d_lo = difference(x, total)
    # Beyond the largest number d is -inf, and its error NaN.
    return where(d == -INFINITY, d, d + (d_lo - total_lo))


def log_beside_maximum(m: Number, s: Number, s_lo: Number) -> Pair:
    """m and log(1 + s + s_lo), of the precision of m."""
    t, t_lo = log_of_total(m, s, s_lo)
    return m, narrowed(t + t_lo, m)


def log_softmax_quickly(x: Number, m: Number, t: Number) -> Number:
    """(x - m) - t, for results that are rounded to 16 bits: x - m is exact most often."""
    return (x - m) - t


def logsumexp(m: Number, s: Number, s_lo: Number) -> Number:
    """m + log(1 + s + s_lo) in float64; m itself if that is infinite and no NaN is in the row."""
    if m.has_wider:
        y, y_lo = widen(m) + log1p_for_float32(s), s_lo
    else:
        y, y_lo = logsumexp_pair(m, s, s_lo)
    return where((abs(m) == INFINITY) & (s == s), widen(m), y + y_lo)


def logsumexp_of_row(m: Number, s: Number, s_lo: Number) -> Number:
    """The same in the row's own precision."""
    return narrowed(logsumexp(m, s, s_lo), m)


def logsumexp_pair(m: Number, s: Number, s_lo: Number) -> Pair:
    """The same as hi + lo, for a finite m."""
    t, t_lo = log1p_pair(s, s_lo)
    y, y_lo = two_sum(widen(m), t)
    return y, y_lo + t_lo


def softmax_backward(dy: Number, y: Number, shift: Number, dot: Number, dot_lo: Number) -> Number:
    """dx = y·((dy - shift) - Σ y·(dy - shift)).

    As Σ y = 1, any shift gives the same; dy at the largest y leaves nothing to cancel there.
    """
    return y * (((dy - shift) - dot) - dot_lo)


def shifted(dot: Number, dot_lo: Number, u: Number, u_lo: Number, c: Number) -> Pair:
    """Σ y·(dy - c) from dot = Σ y·dy and u = Σ y."""
    if c.has_wider:
        return fma(-widen(c), u, dot), dot_lo
    p, p_lo = times(u, u_lo, -c, c * 0.0)
    return add_pairs(dot, dot_lo, p, p_lo, c)


def is_precise(dot: Number, c: Number) -> Number:
    """Whether so much of Σ y·dy ≈ c is left in `dot`, their difference, that nothing is lost.

    Of the 53 or 106 bits of a sum, rounding may take 8; the row's own precision must remain.
    """
    return abs(dot) >= abs(widen(c)) * {32: 2.0**-20, 64: 2.0**-42}[c.bits]


# A little more than log ½, so that no two columns of a row are above.
LOG_HALF = -0.69


def is_likely(y: Number) -> Number:
    """Whether the probability exp(y) exceeds 1/2."""
    return y > LOG_HALF


def sums_of_dy(likely: Number, others: Number, others_lo: Number, like: Number) -> Pair:
    """Σ dy without the likely column, whose dy is `likely` or 0, and with it."""
    total, total_lo = add_pairs(others, others_lo, likely, likely * 0.0, like)
    return narrowed(others + others_lo, like), narrowed(total + total_lo, like)


def log_softmax_backward(dy: Number, y: Number, others: Number, total: Number) -> Number:
    """dx = dy - exp(y)·total, where the total is Σ dy.

    Where exp(y) > 1/2 that is (1 - exp(y))·dy - exp(y)·others: the likely column's own dy, which
    would cancel, is left out of the total.
    """
    e, left = exp_and_rest(y)
    return where(is_likely(y), fma(left, dy, -(e * others)), fma(-e, total, dy))


def logsumexp_backward(x: Number, y: Number, dy: Number) -> Number:
    """dx = dy·exp(x - y)."""
    return dy * (biased_exp_minus(x, y) * UNBIAS[x.bits])
