"""What the formulas are made of: sums and products with their errors, exp and log.

These are formulas themselves, in the sense of `fastbp.formulas`: plain functions of numbers that
are traced while a kernel is compiled. They may branch on `x.bits`, 32 or 64, and on
`x.has_wider`, which are known then, but only choose with `where` by values, which are not. Literals
take the type of the number they meet, so that no bare literal ever turns float32 into float64.

Sums of float32 are float64 where that is cheap (`x.has_wider`, `widen`). Where it is not, on a GPU,
and for float64, sums are of the numbers' own type, as pairs.

No formula relies on a fast-math flag: the order of the operations, NaN and every fused multiply-add
are written out, which is why all machines return the same bits. A number known to more than its
type's precision is kept as an unevaluated sum of two, `hi` and `lo`.

Sources: exp by Cody and Waite's range reduction, log by its series in f / (2 + f), both as in
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
    """a where the condition holds and b elsewhere; two literals are float64."""
    return condition.where(a, b)


def two_sum(a: Number, b: Number) -> Pair:
    """a + b and the error of that sum, exactly, whichever is the larger."""
    s = a + b
    b_part = s - a
    return s, (a - (s - b_part)) + (b - b_part)


def difference(x: Number, m: Number) -> Pair:
    """x - m for x <= m, and the error of that, exactly: Dekker's sum, in half of the operations.

    He adds the smaller number to the larger one; of x and -m, that is the one whose bits are the
    larger integer. If m >= 0, -m has the sign bit, and x has not, or is negative like -m; if m < 0,
    x, of the two the larger, has it alone. A GPU, whose registers have 32 bits, would compare and
    choose float64 in more operations than that saves.
    """
    if x.on_gpu and x.bits == 64:
        return two_sum(x, -m)
    d = x - m
    large, small = by_bits(x, -m)
    return d, small - (d - large)


def by_bits(x: Number, y: Number) -> Pair:
    """x and y, first the one whose bits are the larger integer."""
    return x.by_bits(y)  # type: ignore[no-any-return]


def literal(value: float, like: Number) -> Number:
    """The literal as a number of the precision of `like`."""
    return like.literal(value)


def widen(x: Number) -> Number:
    """x in the precision of sums."""
    return x.widen()


def split(hi: Number, lo: Number, like: Number) -> Pair:
    """The pair hi + lo, of the precision of sums, as a pair of the precision of `like`."""
    if not like.has_wider:
        return hi, lo
    narrow = hi.narrow()
    return narrow, ((hi - narrow.widen()) + lo).narrow()


def narrowed(x: Number, like: Number) -> Number:
    """x, of the precision of sums, in that of `like`."""
    return x.narrow() if like.has_wider else x


def times(a: Number, a_lo: Number, b: Number, b_lo: Number) -> Pair:
    """(a + a_lo)·(b + b_lo) as hi + lo."""
    p = a * b
    return p, fma(a, b, -p) + fma(a, b_lo, a_lo * b)


def quotient(a: Number, b: Number) -> Pair:
    """a / b as hi + lo."""
    q = a / b
    return q, fma(-q, b, a) / b


def larger(x: Number, y: Number) -> Number:
    """The larger of x and y; y if x is NaN."""
    return where(x > y, x, y)


# exp --------------------------------------------------------------------------------------------

LOG2_E = 1.4426950408889634
# ln 2 = HI + LO. n·HI is never rounded alone: x - n·HI, which is exact, comes from one fma.
LN2 = {
    32: (_hex("0x1.62e430p-1"), _hex("-0x1.05c610p-29")),
    64: (_hex("0x1.62e42fefa39efp-1"), _hex("0x1.abc9e3b39803fp-56")),
}
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
    """Estrin's scheme, in fewer steps than Horner's; the coefficients with the lowest power first.

    Neighbours are joined to polynomials in x², these to polynomials in x⁴, and so on.
    """
    terms: list[Number] = list(coefficients)
    while len(terms) > 1:
        joined = [fma(x, b, a) for a, b in zip(terms[::2], terms[1::2], strict=False)]
        x, odd = x * x, len(terms) % 2
        if odd:
            joined[-1] = fma(x, terms[-1], joined[-1])
        terms = joined
    return terms[0]


def polynomial_in_row(x: Number, coefficients: list[float]) -> Number:
    """The same for numbers of a row: on a GPU by Horner's scheme, in fewer operations.

    There other threads compute while one waits for the end of a step. (Single elements come at the
    memory's pace, and have the same bits on CPUs and GPUs.)
    """
    if not x.on_gpu:
        return polynomial(x, coefficients)
    *lower, p = coefficients
    for c in reversed(lower):
        p = fma(x, p, c)
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
    return exp_of_reduced(*reduced_minus(x, m))


def reduced_minus(x: Number, m: Number) -> tuple[Number, Number, Number, Number]:
    """x - m and what `_reduce` makes of it: a half of `biased_exp_minus`."""
    d, d_lo = difference(x, m)
    return d, *_reduce(d, d_lo)


def exp_of_reduced(d: Number, r_hi: Number, r_lo: Number, power: Number) -> Number:
    """The other half."""
    r = r_hi + r_lo
    q = fma(polynomial_in_row(r, EXP[d.bits]), r * r, r_lo) + r_hi
    e = fma(q, power, power)  # one operation, rounded as 1 + q is
    return where(d < EXP_UNDERFLOWS[d.bits], 0.0, e)


def biased_exp_quickly(x: Number, m: Number) -> Number:
    """As `biased_exp_minus`, for results that are rounded to 16 bits.

    x - m is rounded, and so is ln 2: errors of |x - m| / 2 and |x - m| / 4 ULP.
    """
    return exp_of_quickly_reduced(*quickly_reduced_minus(x, m))


def quickly_reduced_minus(x: Number, m: Number) -> tuple[Number, Number, Number]:
    """x - m, the reduced argument and the power: a half of `biased_exp_quickly`."""
    d = x - m
    t = fma(d, LOG2_E, MAGIC[x.bits])
    r = fma(t - MAGIC[x.bits], -LN2[x.bits][0], d)
    return d, r, t.shift_to_exponent(MANTISSA_BITS[x.bits])


def exp_of_quickly_reduced(d: Number, r: Number, power: Number) -> Number:
    """The other half."""
    e = fma(fma(polynomial_in_row(r, EXP[d.bits]), r * r, r), power, power)
    return where(d < EXP_UNDERFLOWS[d.bits], 0.0, e)


def biased_exp_pair(x: Number) -> Pair:
    """exp(x) / UNBIAS for x <= 0, as hi + lo: so scaled, the smallest results are normal."""
    return pair_of_reduced(*reduced(x))


def pair_of_reduced(r_hi: Number, r_lo: Number, power: Number) -> Pair:
    """The other half of `biased_exp_pair`, see `reduced`."""
    r = r_hi + r_lo
    h = r_hi + 1.0
    q = fma(polynomial(r, EXP[r.bits]), r * r, (r_hi - (h - 1.0)) + r_lo)
    hi = h + q
    lo = q - (hi - h)
    return hi * power, lo * power


def biased_exp_quick_pair(x: Number) -> Pair:
    """As `biased_exp_pair`, with an error of 1/4 ULP of hi, in 4 operations fewer."""
    return quick_pair_of_reduced(*reduced(x))


def reduced(x: Number) -> tuple[Number, Number, Number]:
    """What `_reduce` makes of x <= 0: the first half of exp(x), however the other one goes on."""
    smallest = EXP_UNDERFLOWS[x.bits]
    return _reduce(where(x < smallest, smallest, x), 0.0)


def quick_pair_of_reduced(r: Number, r_lo: Number, power: Number) -> Pair:
    """The other half of `biased_exp_quick_pair`."""
    q = fma(polynomial(r, EXP[r.bits]), r * r, r)
    hi = fma(q, power, power)
    return hi, fma(r_lo, hi, fma(q, power, power - hi))


def expm1_parts(x: Number, x_lo: Number) -> tuple[Number, Number, Number]:
    """(p, q, q_lo) with exp(x + x_lo) = p·(1 + q + q_lo), p a power of 2 and 1 for small x <= 0."""
    r_hi, r_lo, power = _reduce(x, x_lo)
    r = r_hi + r_lo
    c = fma(polynomial_in_row(r, EXP[x.bits]), r * r, r_lo)
    q = r_hi + c
    return power * UNBIAS[x.bits], q, c - (q - r_hi)


def exp_and_rest(x: Number) -> Pair:
    """exp(x) and 1 - exp(x) for x <= 0; the latter for exp(x) > 1/2 only. Errors <= 1.1 ULP."""
    unbias = UNBIAS[x.bits]
    r_hi, r_lo, power = reduced(x)
    r = r_hi + r_lo
    q = fma(polynomial_in_row(r, EXP[x.bits]), r * r, r)
    p = power * unbias
    return fma(q, power, power) * unbias, fma(-q, p, 1.0 - p)


def exp_pair(x: Number) -> Pair:
    """exp(x) for x <= 0 as hi + lo."""
    return unbiased_pair(*biased_exp_pair(x))


def unbiased_pair(hi: Number, lo: Number) -> Pair:
    """(hi + lo)·UNBIAS."""
    return hi * UNBIAS[hi.bits], lo * UNBIAS[hi.bits]


# log --------------------------------------------------------------------------------------------

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
    ln2_hi, ln2_lo = LN2[z.bits]
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


# ln 2 = HI + LO again, HI with fewer bits, by 9 or 21: here k·HI itself must be exact.
LN2_LOG = {
    32: (_hex("0x1.62e400p-1"), _hex("0x1.7f7d1cp-20")),
    64: (_hex("0x1.62e42fee00000p-1"), _hex("0x1.a39ef35793c76p-33")),
}
# The bits of the least u that a number is split into, times 2^k: √½ for the series in f / (2 + f);
# 3/4 for the polynomial of float32, in both types.
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
THREE_QUARTERS_BITS = {32: 0x3F400000, 64: 0x3FE8000000000000}


def _tail_of_log(f: Number, rest: Number) -> Number:
    """log(1 + f) - f + rest, for the f that the type's polynomial is good for."""
    if f.bits == 64:
        return _log1p_tail(f, rest)
    square = f * f
    return fma(f * square, polynomial(f, LOG1P_32), fma(f * -0.5, f, rest))


def log1p_pair(s: Number, s_lo: Number) -> Pair:
    """log(1 + s + s_lo) as hi + lo, for s >= 0 of the precision of sums and s_lo much smaller."""
    u = s + 1.0
    lost = where(s < 1.0, s - (u - 1.0), 1.0 - (u - s))
    # This is u, in powers of 2 and what they leave.
    k, scaled = u.split_exponent({32: THREE_QUARTERS_BITS[32], 64: SQRT_HALF_BITS}[s.bits])
    f = scaled - 1.0
    ln2_hi, ln2_lo = LN2_LOG[s.bits]
    tail = _tail_of_log(f, fma(k, ln2_lo, (lost + s_lo) / u))
    k_ln2 = k * ln2_hi
    hi = k_ln2 + f
    lo = where(k == 0.0, 0.0, f - (hi - k_ln2)) + tail
    tiny = s < {32: 1e-30, 64: 1e-300}[s.bits]
    total = where(tiny, s + s_lo, hi + lo)
    total_lo = where(tiny, 0.0, lo - (total - hi))
    return total, total_lo


def log1p_for_float32(s: Number) -> Number:
    """log(1 + s) for a float64 s >= 0, within 2^-29.8 of itself: no division, no pair."""
    u = s + 1.0
    k, scaled = u.split_exponent(THREE_QUARTERS_BITS[64])
    f = scaled - 1.0
    square = f * f
    rest = fma(square, -0.5, fma(k, LN2[64][0], s * 0.0))  # NaN, if s is
    log = fma(f * square, polynomial(f, LOG1P_32), rest) + f
    return where(s < 2.0**-18, fma(s * s, -0.5, s), log)


def _split_any(x: Number, lowest: int) -> Pair:
    """(k, u) with x = u·2^k, u from `lowest` on, for any finite x > 0."""
    # As `split_exponent` wants it, lifted above 1: in two steps, for a power may be too large.
    most, digits = {32: (127.0, 24.0), 64: (1023.0, 52.0)}[x.bits]
    below_one, subnormal = x < 1.0, x < 2.0 ** (1.0 - most)
    lifted = where(below_one, x * 2.0**most, x)
    k, u = where(subnormal, lifted * 2.0**digits, lifted).split_exponent(lowest)
    return k - where(subnormal, most + digits, where(below_one, literal(most, k), 0.0)), u


def log_pair(x: Number, x_lo: Number | None = None) -> Pair:
    """log(x + x_lo) as hi + lo, x_lo being below an ULP of x: -inf at 0, NaN below it."""
    correction = x * 0.0 if x_lo is None else x_lo / x
    if x.has_wider:  # as a float64, any x > 0 can be lifted above 1
        k, u = (x.widen() * 2.0**200).split_exponent(THREE_QUARTERS_BITS[64])
        k, u = (k - 200.0).narrow(), u.narrow()
    else:
        k, u = _split_any(x, {32: THREE_QUARTERS_BITS[32], 64: SQRT_HALF_BITS}[x.bits])
    f = u - 1.0
    ln2_hi, ln2_lo = LN2_LOG[x.bits]
    tail = _tail_of_log(f, fma(k, ln2_lo, correction))
    k_ln2 = k * ln2_hi
    hi = k_ln2 + f
    lo = where(k == 0.0, 0.0, f - (hi - k_ln2)) + tail
    limit = where(x == 0.0, -INFINITY, where(x == INFINITY, x, NAN))
    usual = (x > 0.0) & (x < INFINITY)
    return where(usual, hi, limit), where(usual, lo, 0.0)
