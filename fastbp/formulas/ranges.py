"""How the sums of ranges of a row are joined, each having been made as if it were a row.

A range has its own maximum, or its own shift, and its sums are brought to those of the whole row.
They are pairs: where a number's sums are of a wider type, nothing is joined.
"""

from ..elementary import (
    EXP_UNDERFLOWS,
    UNBIAS,
    Number,
    Pair,
    biased_exp_pair,
    fma,
    literal,
    times,
    two_sum,
    where,
)
from .softmax import add_pairs


def rescaled_total(of_range: Number, s: Number, s_lo: Number, m: Number) -> Pair:
    """A range's total, (1 + s + s_lo)·exp(of_range - m) / UNBIAS, for a maximum of_range <= m.

    It is without the 1 where the two maxima are equal. The bias keeps small factors normal, whose
    products with a large total would otherwise have lost digits.
    """
    bits = m.bits
    d, d_lo = two_sum(of_range, -m)
    f, f_lo = biased_exp_pair(d)
    u, u_lo = two_sum(s, literal(1.0, s))
    t, t_lo = times(u, u_lo + s_lo, f, fma(f, d_lo, f_lo))
    # Of a range of -inf and NaN, s is NaN, and its products must be.
    gone, nothing = d < EXP_UNDERFLOWS[bits], s * 0.0
    same, bias = of_range == m, 1.0 / UNBIAS[bits]
    return (
        where(same, s * bias, where(gone, nothing, t)),
        where(same, s_lo * bias, where(gone, nothing, t_lo)),
    )


def shifted_to(
    dot: Number, dot_lo: Number, u: Number, u_lo: Number, of_range: Number, shift: Number
) -> Pair:
    """Σ y·(dy - shift) from dot = Σ y·(dy - of_range) and u = Σ y."""
    d, d_lo = two_sum(of_range, -shift)
    p, p_lo = times(u, u_lo, d, d_lo)
    return add_pairs(dot, dot_lo, p, p_lo, shift)
