"""Every formula of fastbp, written once, on single numbers.

A formula is a plain Python function of numbers and never looks at the machine: `fastbp.cpu.simd`
calls it once, while a kernel is being compiled, with numbers that write down the arithmetic done to
them (scalars or whole vectors, float32 or float64), and what they wrote becomes the kernel's code.
So a formula may branch on `x.bits` (32 or 64), which is known then, but only choose with `where` by
values, which are not. Literals take the type of the number they meet.

No formula relies on a fast-math flag: the order of the operations, NaN and every fused multiply-add
are written out, which is why all machines return the same bits. A number known to more than its
type's precision is kept as an unevaluated sum of two, `hi` and `lo`.

Sources: exp by Cody and Waite's range reduction and log by the series in f / (2 + f), both as in
Muller, "Elementary Functions" (3rd ed., 2016); `two_sum` is Knuth's (TAOCP 2, 4.2.2); the
polynomials are minimax fits (Remez), their coefficients rounded one after another.
"""

from typing import Any

# A number while a kernel is being compiled; see the module's text.
Number = Any
Pair = tuple[Number, Number]

_hex = float.fromhex
INFINITY = float("inf")
NAN = float("nan")


def fma(a: Number, b: Number, c: Number) -> Number:
    """a·b + c, rounded once. `a` must not be a literal."""
    return a.fma(b, c)


def where(condition: Number, a: Number, b: Number) -> Number:
    """a where the condition holds and b elsewhere; one of them may be a literal."""
    return condition.where(a, b)


def two_sum(a: Number, b: Number) -> Pair:
    """a + b and the error of that sum, exactly, whichever is the larger."""
    s = a + b
    b_part = s - a
    return s, (a - (s - b_part)) + (b - b_part)


def widen(x: Number) -> Number:
    """x in float64."""
    return x.widen()


def split(hi: Number, lo: Number, like: Number) -> Pair:
    """The float64 pair hi + lo as a pair of numbers of the precision of `like`."""
    if like.bits == 64:
        return hi, lo
    narrow = hi.narrow()
    return narrow, ((hi - narrow.widen()) + lo).narrow()


def larger(x: Number, y: Number) -> Number:
    """The larger of x and y; y if x is NaN."""
    return where(x > y, x, y)


# exp --------------------------------------------------------------------------------------------

LOG2_E = 1.4426950408889634
# ln 2 = HI + LO, with so few bits in HI that n·HI is exact for every n that occurs.
LN2 = {32: (_hex("0x1.62e400p-1"), _hex("0x1.7f7d1cp-20")),
       64: (_hex("0x1.62e42fefa0000p-1"), _hex("0x1.cf79abc9e3b3ap-40"))}  # fmt: skip
# Adding this to a small number rounds it to an integer n, which then stands in the lowest bits.
# The bias makes those bits, shifted up to the exponent's place, read 2^(n + 64) or 2^(n + 512):
# large enough to be a normal number whenever e^x is not 0, and taken away by UNBIAS at the end,
# where a subnormal result is rounded, once.
MAGIC = {32: 1.5 * 2.0**23 + 127 + 64, 64: 1.5 * 2.0**52 + 1023 + 512}
UNBIAS = {32: 2.0**-64, 64: 2.0**-512}
MANTISSA_BITS = {32: 23, 64: 52}
# Below, exp is 0. (In float32 terms too small to be seen alone may still add up to a sum that is.)
EXP_UNDERFLOWS = {32: -130.0, 64: -746.0}
# (e^r - 1 - r) / r² on |r| <= ln(2) / 2, lowest power first: errors of 2^-28.2 and 2^-57.1.
EXP = {32: [_hex(c) for c in (
           "0x1.fffffcp-2", "0x1.55548cp-3", "0x1.555858p-5", "0x1.123de0p-7", "0x1.6ac74ep-10")],
       64: [_hex(c) for c in (
           "0x1.0000000000000p-1", "0x1.5555555555555p-3", "0x1.55555555536cfp-5",
           "0x1.1111111119441p-7", "0x1.6c16c17b6933ep-10", "0x1.a01a015ab9eaap-13",
           "0x1.a019af0f9d91fp-16", "0x1.71dee88e23ad9p-19", "0x1.289bf480fd4d5p-22",
           "0x1.ada81c2b12227p-26")]}  # fmt: skip


def polynomial(x: Number, coefficients: list[float]) -> Number:
    """Horner's rule; the coefficients with the lowest power first."""
    *rest, last_but_one, last = coefficients
    p = fma(x, last, last_but_one)
    for c in reversed(rest):
        p = fma(p, x, c)
    return p


def _reduce(x: Number, x_lo: Number | float) -> tuple[Number, Number, Number]:
    """(r_hi, r_lo, power) with exp(x + x_lo) = exp(r_hi + r_lo)·power·UNBIAS, |r| <= ln(2) / 2."""
    bits = x.bits
    ln2_hi, ln2_lo = LN2[bits]
    t = fma(x, LOG2_E, MAGIC[bits])
    n = t - MAGIC[bits]
    r_hi = fma(n, -ln2_hi, x)  # exact
    r_lo = fma(n, -ln2_lo, x_lo)
    return r_hi, r_lo, t.shift_to_exponent(MANTISSA_BITS[bits])


def biased_exp_minus(x: Number, m: Number) -> Number:
    """exp(x - m) / UNBIAS for x <= m, exactly 1 / UNBIAS where they are equal; error <= 0.88 ULP.

    The rounding error of x - m, which is what makes other libraries' softmax wrong by |x - m| / 2
    ULP, is computed and taken into the reduced argument. The bias is left to the row's last
    factor, which undoes it at no cost.
    """
    d, d_lo = two_sum(x, -m)
    r_hi, r_lo, power = _reduce(d, d_lo)
    r = r_hi + r_lo
    e = ((fma(polynomial(r, EXP[x.bits]), r * r, r_lo) + r_hi) + 1.0) * power
    return where(d < EXP_UNDERFLOWS[x.bits], 0.0, e)


def biased_exp_pair(x: Number) -> Pair:
    """exp(x) / UNBIAS for x <= 0, as hi + lo: so scaled, the smallest results are normal."""
    smallest = EXP_UNDERFLOWS[x.bits]
    r_hi, r_lo, power = _reduce(where(x < smallest, smallest, x), 0.0)
    r = r_hi + r_lo
    h = r_hi + 1.0
    q = fma(polynomial(r, EXP[x.bits]), r * r, (r_hi - (h - 1.0)) + r_lo)
    hi = h + q
    lo = q - (hi - h)
    return hi * power, lo * power


def exp_pair(x: Number) -> Pair:
    """exp(x) for x <= 0 as hi + lo."""
    hi, lo = biased_exp_pair(x)
    return hi * UNBIAS[x.bits], lo * UNBIAS[x.bits]


# log --------------------------------------------------------------------------------------------

LN2_PAIR = {32: (_hex("0x1.62e430p-1"), _hex("-0x1.05c610p-29")),
            64: (_hex("0x1.62e42fefa39efp-1"), _hex("0x1.abc9e3b39803fp-56"))}  # fmt: skip
# (log(1 + f) - f + f²/2) / f³ on [-1/4, 1/2]: error 2^-27.9.
LOG1P_32 = [_hex(c) for c in (
    "0x1.555588p-2", "-0x1.fffeb4p-3", "0x1.996deap-3", "-0x1.55302ap-3", "0x1.28d47ap-3",
    "-0x1.0b9598p-3", "0x1.a0cc34p-4", "-0x1.5ee6bap-5")]  # fmt: skip
# (log((1 + s) / (1 - s)) / s - 2) / s², in s², for s = f / (2 + f), f + 1 in [√½, √2]: 2^-61.
LOG_64 = [_hex(c) for c in (
    "0x1.555555555554fp-1", "0x1.999999999c0ccp-2", "0x1.24924921ee4bcp-2", "0x1.c71c74870e27ep-3",
    "0x1.745c4cdcebc8cp-3", "0x1.3b35802c9e0b7p-3", "0x1.0dcfc6fe8d70cp-3",
    "0x1.1b658184c453fp-3")]  # fmt: skip


def _log1p_tail(f: Number, extra: Number) -> Number:
    """log(1 + f) - f + extra in float64, for √½ <= 1 + f <= √2."""
    s = f / (f + 2.0)
    w = s * s
    half_square = f * f * 0.5
    return fma(s, fma(w, polynomial(w, LOG_64), half_square), extra) - half_square


def log1p_of_fraction(z: Number, z_lo: Number) -> Pair:
    """log(1 + z + z_lo) for 0 <= z <= 1, as hi + lo."""
    # Above 1/2, log(1 + z) = ln 2 + log(1 + (z - 1)/2). Below it, z - 1 would not be exact.
    big = z > 0.5
    ln2_hi, ln2_lo = LN2_PAIR[z.bits]
    f = where(big, (z - 1.0) * 0.5, z)
    f_lo = where(big, z_lo * 0.5, z_lo)
    f_lo = fma(f_lo, f * f, fma(-f_lo, f, f_lo))  # f_lo / (1 + f)
    base_lo = where(big, ln2_lo, z * 0.0)
    if z.bits == 32:
        square = f * f
        tail = fma(f * square, polynomial(f, LOG1P_32), fma(f * -0.5, f, f_lo)) + base_lo
    else:
        tail = _log1p_tail(f, f_lo + base_lo)
    base = where(big, ln2_hi, z * 0.0)
    hi = base + f
    return hi, (f - (hi - base)) + tail


# ln 2 = HI + LO again, HI with 21 bits fewer than float64, so that k·HI is exact.
LN2_LOG = (_hex("0x1.62e42fee00000p-1"), _hex("0x1.a39ef35793c76p-33"))
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD


def log1p_pair(s: Number, s_lo: Number) -> Pair:
    """log(1 + s + s_lo) as hi + lo, for float64 s >= 0 and |s_lo| <= ulp(s) / 2."""
    u = s + 1.0
    lost = where(s < 1.0, s - (u - 1.0), 1.0 - (u - s))
    k, scaled = u.split_exponent(SQRT_HALF_BITS)  # u = scaled·2^k, √½ <= scaled < √2
    f = scaled - 1.0
    ln2_hi, ln2_lo = LN2_LOG
    tail = _log1p_tail(f, fma(k, ln2_lo, (lost + s_lo) / u))
    k_ln2 = k * ln2_hi
    hi = k_ln2 + f
    lo = where(k == 0.0, 0.0, f - (hi - k_ln2)) + tail
    tiny = s < 1e-300
    total = where(tiny, s, hi + lo)
    total_lo = where(tiny, 0.0, lo - (total - hi))
    return total, total_lo


# sigmoid ----------------------------------------------------------------------------------------


def sigmoid(x: Number) -> Number:
    """σ(x) = 1 / (1 + e^-x), exact in both tails; error <= 0.67 ULP.

    With z = e^-|x|, σ is z / (1 + z) or 1 / (1 + z). Top and bottom both carry the bias of
    `biased_exp_pair`, so that a subnormal σ is rounded once, by the division.
    """
    one = 1.0 / UNBIAS[x.bits]
    z, z_lo = biased_exp_pair(-abs(x))
    top, top_lo = where(x < 0.0, z, one), where(x < 0.0, z_lo, 0.0)
    bottom = z + one
    bottom_lo = (z - (bottom - one)) + z_lo
    reciprocal = 1.0 / bottom
    q = top * reciprocal
    residual = fma(-q, bottom_lo, fma(-q, bottom, top) + top_lo)
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
# (other equal maxima included). Keeping the 1 apart is what lets a confident row's loss, log(1 + s),
# and its gradient keep all their digits when s is far below the precision of 1 + s.


# Its sums are float64. Those of float32 exponentials need no more; those of float64 ones are kept as
# hi + lo. Where a formula would take the trouble for nothing, it asks for `like`, any number of the
# row's own precision, and leaves lo alone, which is 0 then.


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


def rest(is_maximum: Number, e: Number) -> Number:
    """e but for the maxima."""
    return where(is_maximum, 0.0, e)


def equal(x: Number, y: Number) -> Number:
    """Where x is y."""
    return x == y


def unequal(x: Number, y: Number) -> Number:
    """Where x is not y, as NaN is not NaN."""
    return x != y


def unbiased(s: Number, s_lo: Number, like: Number) -> Pair:
    """The float64 pair s + s_lo of biased exponentials of the precision of `like`, set right."""
    return s * UNBIAS[like.bits], s_lo * UNBIAS[like.bits]


def too_small_to_unbias(r: Number, like: Number) -> Number:
    """Whether the factor r·UNBIAS would lose digits in the precision of `like`."""
    return abs(r) < {32: 2.0**-36, 64: 2.0**-388}[like.bits]


def reciprocal_of_total(m: Number, s: Number, s_lo: Number) -> Pair:
    """1 / (1 + s + s_lo); NaN if the row's maximum m is infinite."""
    total, total_lo = add_pairs(s, s_lo, s * 0.0 + 1.0, s_lo * 0.0, m)
    r = 1.0 / total
    r_lo = s_lo if m.bits == 32 else fma(-r, total_lo, fma(-r, total, 1.0)) * r
    return where(abs(m) == INFINITY, NAN, r), r_lo


def times(a: Number, a_lo: Number, b: Number, b_lo: Number) -> Pair:
    """(a + a_lo)·(b + b_lo) as hi + lo."""
    p = a * b
    return p, fma(a, b, -p) + fma(a, b_lo, a_lo * b)


def quotient(a: Number, b: Number) -> Pair:
    """a / b as hi + lo."""
    q = a / b
    return q, fma(-q, b, a) / b


def scaled(e: Number, r: Number, r_lo: Number) -> Number:
    """e·(r + r_lo)."""
    return fma(e, r, e * r_lo)


def scaled_tiny(e: Number, r: Number, r_lo: Number) -> Number:
    """e·(r + r_lo) for a biased e and an r that could not take the bias."""
    return scaled(e * UNBIAS[e.bits], r, r_lo)


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


def label_gradient(
    is_maximum: Number, e: Number, s: Number, s_lo: Number, r: Number, r_lo: Number
) -> Number:
    """-(1 + s - e)·(r + r_lo) for the label's e: the others' sum, never p - 1, which cancels."""
    above, above_lo = two_sum(-e, 1.0)
    others, others_lo = two_sum(above, s)
    others_lo = others_lo + (above_lo + s_lo)
    others, others_lo = where(is_maximum, s, others), where(is_maximum, s_lo, others_lo)
    p, p_lo = times(others, others_lo, r, r_lo)
    return 0.0 - (p + p_lo)


def narrowed(x: Number, like: Number) -> Number:
    """The float64 x in the precision of `like`."""
    return x if like.bits == 64 else x.narrow()


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


def log_softmax_backward(dy: Number, y: Number, g: Number, g_lo: Number) -> Number:
    """dx = dy - exp(y)·(g + g_lo), g = Σ dy."""
    e, _ = exp_pair(y)
    return fma(-e, g, fma(-e, g_lo, dy))


def log_softmax_backward_of_likely(dy: Number, y: Number, g: Number, g_lo: Number) -> Number:
    """The same where exp(y) > 1/2, g being the sum over the other columns: dx = (1 - e)·dy - e·g."""
    y = widen(y)
    e, e_lo = exp_pair(y)
    p, p_lo = times(1.0 - e, -e_lo, widen(dy), y * 0.0)
    q, q_lo = times(e, e_lo, g, g_lo)
    d, d_lo = two_sum(p, -q)
    return d + (d_lo + (p_lo - q_lo))


def logsumexp_backward(x: Number, y: Number, dy: Number) -> Number:
    """dx = dy·exp(x - y)."""
    return dy * (biased_exp_minus(x, y) * UNBIAS[x.bits])


# targets ----------------------------------------------------------------------------------------
#
# General targets give every class c a weight u_c = w_c·((1 - ε)·t_c + ε/C); the loss of a row is
# Σ u_c·(lse - x_c), its gradient p_j·Σu - u_j.


def affine(x: Number, a: Number, b: Number) -> Number:
    """a·x + b in float64."""
    return fma(widen(x), a, b)


def accumulate_target(total: Number, total_lo: Number, u: Number, like: Number) -> Pair:
    """total + u, in float64."""
    return add_pairs(total, total_lo, u, u * 0.0, like)


def accumulate_target_loss(
    total: Number, total_lo: Number, u: Number, m: Number, x: Number
) -> Pair:
    """total + u·(m - x), where 0·inf is 0; total is inf if a term is, whatever total_lo is then."""
    nothing = u == 0.0
    if x.bits == 32:
        return fma(u, where(nothing, 0.0, widen(m) - widen(x)), total), total_lo
    # In halves, so that m - x cannot overflow where u·(m - x) does not.
    d, d_lo = two_sum(m * 0.5, -(x * 0.5))
    d, d_lo = where(nothing, 0.0, d), where(nothing, 0.0, d_lo)
    p, p_lo = times(u * 2.0, u * 0.0, d, d_lo)
    total, error = two_sum(total, p)
    return total, (total_lo + p_lo) + error


def target_loss(u: Number, u_lo: Number, t: Number, t_lo: Number, d: Number, d_lo: Number) -> Number:
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
    e: Number, u: Number, total: Number, total_lo: Number,
    u_sum: Number, u_sum_lo: Number, r: Number, r_lo: Number,
) -> Number:  # fmt: skip
    """(p·Σu - u)·weight = (e·(Σu - u) - u·(total - e))·(r + r_lo), in float64 throughout.

    Both brackets are what the *other* classes hold: they do not cancel where p is nearly 1.
    """
    wide = widen(e)
    other_targets = (u_sum - u) + u_sum_lo
    others = (total - wide) + total_lo
    return narrowed(scaled(fma(wide, other_targets, -(u * others)), r, r_lo), e)


def label_target_gradient(
    e: Number, u: Number, others: Number, other_targets: Number, r: Number
) -> Number:
    """The same for one class, in float64."""
    return fma(e, other_targets, -(u * others)) * r


def unbiased_exp_minus(x: Number, m: Number) -> Number:
    """exp(x - m) in float64, from what `biased_exp_minus` gives."""
    return widen(biased_exp_minus(x, m)) * UNBIAS[x.bits]
