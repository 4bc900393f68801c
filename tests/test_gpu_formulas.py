"""Formulas as GPUs compute them, whose sums of float32 are pairs of float32, against mpmath.

A comment beside each limit has what was measured, of float32 and float64.
"""

import functools
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from gpu_numbers import FMA, Number

import fastbp
from fastbp import elementary
from fastbp.elementary import UNBIAS
from fastbp.formulas import cross_entropy, ranges, sigmoid, softmax
from fastbp.testing import inputs
from fastbp.testing.errors import spacing

precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])
inf, nan = np.inf, np.nan


@pytest.fixture(autouse=True)
def _digits_and_silence():
    with mpmath.workdps(60), np.errstate(all="ignore"):
        yield


def numbers(x, dtype):
    return Number(np.asarray(x, dtype))


def exactly(*parts):
    """The numbers that unevaluated sums hold, as mpf."""
    columns = [np.ravel(p.value) for p in parts]
    return [mpmath.fsum(float(v) for v in row) for row in zip(*columns, strict=True)]


def units(exact, dtype):
    """The spacings of the type at numbers of many digits."""
    return spacing(np.array([float(e) for e in exact]), np.dtype(dtype))


def worst(parts, exact, unit):
    """The largest error in units; inf where a result is no number."""
    pairs = zip(exactly(*parts), exact, unit, strict=True)
    found = [float(abs(a - e) / float(u)) if mpmath.isfinite(a) else inf for a, e, u in pairs]
    return max(found)


def ulps(result, exact, dtype, scale=None):
    parts = result if isinstance(result, tuple) else (result,)
    return worst(parts, exact, units(exact if scale is None else scale, dtype))


def sizes(low, high, n, seed=0):
    """Positive numbers of all sizes between two powers of 10."""
    return 10.0 ** np.random.default_rng(seed).uniform(low, high, n)


# numbers ------------------------------------------------------------------------------------------


@precisions
def test_fma_is_rounded_once(dtype):
    rng = np.random.default_rng(0)
    for a, b in rng.standard_normal((100, 2)).astype(dtype):
        product = a * b
        lost = Fraction(float(a)) * Fraction(float(b)) - Fraction(float(product))
        assert Fraction(float(Number(a).fma(Number(b), -Number(product)).value)) == lost
    # Of double precision, rounded to float32 after that, this would be a tie.
    assert FMA[32](1 + 2.0**-12, 1 + 2.0**-12, 2.0**-60) == np.float32(1 + 2.0**-11 + 2.0**-23)


def test_numbers_keep_their_type():
    x = Number(np.float32(0.1))
    assert (x + 0.1).value.dtype == np.float32
    assert (1 / x - x * x.literal(3)).value.dtype == np.float32
    assert (x > 0.1).value == False  # noqa: E712  # the literal is a float32, too
    assert (x > 0.0).where(0.0, 1.0).value.dtype == np.float64
    for wrong in (Number(np.float64(1)), np.float32(1), True, None):
        with pytest.raises(TypeError, match="met"):
            x + wrong
    with pytest.raises(TypeError, match="branched"):
        bool(x > 0.0)
    with pytest.raises(TypeError, match="branched"):
        max(x, x)


COMPILED = {"sigmoid": sigmoid.sigmoid, "log_sigmoid": sigmoid.log_sigmoid}


@precisions
@pytest.mark.parametrize("name", COMPILED)
def test_bits_are_those_of_compiled_formulas(name, dtype):
    x = inputs.values(np.random.default_rng(1), (1, 2000), np.dtype(dtype))[0]
    x[:8] = [0, -0.0, inf, -inf, nan, 1e-40, -100, 100]
    assert np.array_equal(COMPILED[name](Number(x)).value, getattr(fastbp, name)(x), equal_nan=True)


# exp and log --------------------------------------------------------------------------------------


@precisions
def test_exp_of_a_difference(dtype):
    rng = np.random.default_rng(2)
    lowest = {32: -129, 64: -745}[np.dtype(dtype).itemsize * 8]
    m = np.concatenate([10 * rng.standard_normal(1500), rng.choice([-1e4, 1e4], 500)]).astype(dtype)
    d = np.concatenate([rng.uniform(lowest, 0, 1000), rng.uniform(-3, 0, 500), -sizes(-9, 0, 500)])
    x = (m + d).astype(dtype)
    e = elementary.biased_exp_minus(Number(x), Number(m))
    differences = [mpmath.mpf(float(a)) - mpmath.mpf(float(b)) for a, b in zip(x, m, strict=True)]
    exact = [mpmath.exp(v) / UNBIAS[e.bits] for v in differences]
    assert ulps(e, exact, dtype) <= 0.88


def below_0(dtype):
    lowest = {np.float32: -87, np.float64: -708}[dtype]
    uniform = np.random.default_rng(3).uniform(lowest, 0, 1000)
    return numbers(np.concatenate([uniform, -sizes(-9, 0, 500)]), dtype)


def positive(dtype, lowest, highest):
    """Numbers of all sizes, many of them near powers of 2, and what sums leave below an ULP."""
    powers = 2.0 ** np.arange(0, 24)
    near = np.concatenate([powers, 0.75 * powers])
    x = np.concatenate([sizes(lowest, highest, 1000), sizes(-1, 1, 800), near, near * 1.001])
    x = x.astype(dtype)
    x = x[x > 0]
    lo = np.random.default_rng(4).uniform(-0.5, 0.5, x.shape) * np.spacing(x)
    return Number(x), numbers(lo, dtype)


LEAST = {np.float32: -44, np.float64: -322}  # powers of 10
MOST = {np.float32: 38, np.float64: 308}


@precisions
def test_exp_as_a_pair(dtype):
    x = below_0(dtype)
    exact = [mpmath.exp(v) for v in exactly(x)]
    biased = [e / UNBIAS[x.bits] for e in exact]
    assert ulps(elementary.exp_pair(x), exact, dtype) <= 0.5  # 0.41, 0.29
    assert ulps(elementary.biased_exp_pair(x), biased, dtype) <= 0.2  # 0.17, 0.14
    assert ulps(elementary.biased_exp_quick_pair(x), biased, dtype) <= 0.35  # 0.31, 0.28


@precisions
def test_log1p_as_a_pair(dtype):
    s, s_lo = positive(dtype, LEAST[dtype], 9)
    exact = [mpmath.log1p(v) for v in exactly(s, s_lo)]
    assert ulps(elementary.log1p_pair(s, s_lo), exact, dtype) <= 0.8  # 0.75, 0.55


@precisions
def test_log1p_of_a_fraction(dtype):
    z, z_lo = positive(dtype, LEAST[dtype] + 1, 0)
    z, z_lo = (z < 1.0).where(z, 1.0), (z < 1.0).where(z_lo, 0.0)
    exact = [mpmath.log1p(v) for v in exactly(z, z_lo)]
    assert ulps(elementary.log1p_of_fraction(z, z_lo), exact, dtype) <= 0.4


@precisions
def test_log_as_a_pair(dtype):
    x, x_lo = positive(dtype, LEAST[dtype], MOST[dtype])
    exact = [mpmath.log(v) for v in exactly(x)]
    assert ulps(elementary.log_pair(x), exact, dtype) <= 0.35  # 0.30, 0.22
    normal = x.value >= np.finfo(dtype).tiny
    x, x_lo = Number(x.value[normal]), Number(x_lo.value[normal])
    exact = [mpmath.log(v) for v in exactly(x, x_lo)]
    assert ulps(elementary.log_pair(x, x_lo), exact, dtype) <= 0.5  # 0.44, 0.44


@precisions
def test_log_of_special_numbers(dtype):
    hi, lo = elementary.log_pair(numbers([0, -0.0, inf, -1, -inf, nan, 1], dtype))
    assert np.array_equal(hi.value, [-inf, -inf, inf, nan, nan, nan, 0], equal_nan=True)
    assert np.array_equal(lo.value, np.zeros(7))


# functions of one number --------------------------------------------------------------------------


FUNCTIONS_OF_ONE = {
    "sigmoid": (sigmoid.sigmoid, lambda v: 1 / (1 + mpmath.exp(-v)), 1.0),
    "log_sigmoid": (sigmoid.log_sigmoid, lambda v: -mpmath.log1p(mpmath.exp(-v)), 1.0),
    "sigmoid_slope": (
        sigmoid.sigmoid_slope, lambda v: mpmath.exp(-abs(v)) / (1 + mpmath.exp(-abs(v))) ** 2, 1.6,
    ),
}  # fmt: skip


@precisions
@pytest.mark.parametrize("name", FUNCTIONS_OF_ONE)
def test_functions_of_one_number(name, dtype):
    function, exact, limit = FUNCTIONS_OF_ONE[name]
    tail = {np.float32: 104, np.float64: 745}[dtype]
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.uniform(-tail, tail, 700), rng.uniform(-3, 3, 700), sizes(-9, 0, 300)])
    x = numbers(x, dtype)
    assert ulps(function(x), [exact(v) for v in exactly(x)], dtype) <= limit


# rows ---------------------------------------------------------------------------------------------

N_ROWS, N_COLUMNS = 64, 37


@functools.cache
def rows(name):
    """Hard rows, a `Number` for each column; and their exact exponentials below the maximum."""
    dtype = np.dtype(name)
    x = inputs.logits(np.random.default_rng(6), (N_ROWS, N_COLUMNS), dtype)
    with mpmath.workdps(60):
        exps = [[mpmath.exp(mpmath.mpf(float(v)) - float(max(row))) for v in row] for row in x]
    return [Number(np.ascontiguousarray(column)) for column in x.T], exps


def total_of(columns):
    """(m, s, s_lo) as `fastbp.cpu.rows` computes it."""
    m = functools.reduce(elementary.larger, columns)
    zero = Number(np.zeros_like(m.value))
    s, s_lo, maxima = zero, zero, zero
    for x in columns:
        are_others = softmax.others(x, m)
        maxima = maxima + are_others.where(m.literal(0), 1.0)
        e = softmax.rest(are_others, elementary.biased_exp_minus(x, m))
        s, s_lo = softmax.accumulate_exps(s, s_lo, e)
    s, s_lo = softmax.unbiased(s, s_lo, m)
    return m, *softmax.add_pairs(s, s_lo, maxima - 1.0, zero, m)


def others(exps):
    """Σ exp(x - m) without one maximum, of every row."""
    return [mpmath.fsum(sorted(row)[:-1]) for row in exps]


@precisions
def test_sums_are_pairs(dtype):
    columns, exps = rows(np.dtype(dtype).name)
    _, s, s_lo = total_of(columns)
    # What is left are the errors of the exponentials themselves.
    assert ulps((s, s_lo), others(exps), dtype) <= 0.9
    one = Number(np.ones(1, dtype))
    for terms in ([1.0, 2.0**-30, -1.0, 2.0**-30], [2.0**-20, 1.0, 2.0**-60, -1.0]):
        total, total_lo = one * 0.0, one * 0.0
        for t in terms:
            total, total_lo = softmax.accumulate(total, total_lo, one * t)
        assert exactly(total, total_lo) == [mpmath.fsum(terms)]


@precisions
def test_sums_of_products_are_pairs(dtype):
    rng = np.random.default_rng(7)
    a, b, c = (rng.standard_normal((50, 40)).astype(dtype) for _ in range(3))
    total = total_lo = Number(np.zeros(40, dtype))
    exact = [mpmath.mpf(0)] * 40
    for row in zip(a, b, c, strict=True):
        total, total_lo = softmax.accumulate_shifted(total, total_lo, *map(Number, row))
        x, y, z = (exactly(Number(v)) for v in row)
        exact = [e + p * (q - r) for e, p, q, r in zip(exact, x, y, z, strict=True)]
    unit = np.full(40, np.finfo(dtype).eps)
    assert worst((total, total_lo), exact, unit) <= 1e-4


def worst_of_columns(results, exact, dtype, scale=None):
    """ULPs of a list of columns beside exact rows."""
    columns = zip(*exact, strict=True)
    return max(ulps(r, list(e), dtype, scale) for r, e in zip(results, columns, strict=True))


@precisions
def test_totals_of_ranges(dtype):
    """A range's total as a part of its row's, with no digits lost where factors are subnormal."""
    rng = np.random.default_rng(8)
    lowest = {np.float32: -129, np.float64: -745}[dtype]
    m = rng.choice([-1e4, 0.3, 77], 1200).astype(dtype)
    d = np.concatenate([rng.uniform(lowest, 0, 700), -sizes(-9, 0, 400), np.zeros(100)])
    of_range = (m + d).astype(dtype)
    s = np.concatenate([sizes(-9, 4, 1199), [0]]).astype(dtype)
    s_lo = (s * rng.uniform(-1, 1, 1200) * np.finfo(dtype).eps / 2).astype(dtype)
    parts = ranges.rescaled_total(*map(Number, (of_range, s, s_lo, m)))
    unbias = UNBIAS[parts[0].bits]
    exact = [
        (mpmath.mpf(a) + b + (of != whole)) * mpmath.exp(mpmath.mpf(of) - whole) / unbias
        for a, b, of, whole in np.array([s, s_lo, of_range, m], np.float64).T.tolist()
    ]
    assert ulps(parts, exact, dtype) <= 0.2  # 0.15, 0.18


@precisions
def test_totals_of_ranges_of_special_numbers(dtype):
    def of(of_range, s, m):
        total, total_lo = ranges.rescaled_total(*(numbers(v, dtype) for v in (of_range, s, 0, m)))
        return float(total.value + total_lo.value)

    most = float(np.finfo(dtype).max)
    assert [of(-inf, 5, m) for m in (0, most, inf)] == [0] * 3
    assert [of(v, 5, inf) for v in (0, most, -most)] == [0] * 3
    assert of(-most, 5, most) == 0
    for v in (-inf, inf, most, 0):
        assert of(v, 5, v) * UNBIAS[np.dtype(dtype).itemsize * 8] == 5
    assert all(np.isnan(of(v, nan, m)) for v, m in [(-inf, 0), (-inf, -inf), (0, inf), (1, 1)])


@precisions
def test_softmax(dtype):
    columns, exps = rows(np.dtype(dtype).name)
    m, s, s_lo = total_of(columns)
    r, r_lo = softmax.unbiased(*softmax.reciprocal_of_total(m, s, s_lo), m)
    results = [softmax.scaled(elementary.biased_exp_minus(x, m), r, r_lo) for x in columns]
    exact = [[e / (1 + s) for e in row] for row, s in zip(exps, others(exps), strict=True)]
    assert worst_of_columns(results, exact, dtype) <= 2


@precisions
def test_log_softmax(dtype):
    columns, exps = rows(np.dtype(dtype).name)
    m, s, s_lo = total_of(columns)
    total = softmax.log_total(m, s, s_lo)
    results = [softmax.log_softmax(x, *total) for x in columns]
    differences = [[mpmath.log(e) for e in row] for row in exps]
    exact = [
        [d - mpmath.log1p(s) for d in row] for row, s in zip(differences, others(exps), strict=True)
    ]
    assert worst_of_columns(results, exact, dtype) <= 2


@precisions
def test_logsumexp(dtype):
    columns, exps = rows(np.dtype(dtype).name)
    total = total_of(columns)
    logs = [mpmath.log1p(s) for s in others(exps)]
    m = exactly(total[0])
    exact = [a + b for a, b in zip(m, logs, strict=True)]
    scale = [max(abs(a), b) for a, b in zip(m, logs, strict=True)]
    assert ulps(softmax.logsumexp(*total), exact, dtype, scale) <= 2


@precisions
def test_loss_and_gradient_at_the_label(dtype):
    columns, exps = rows(np.dtype(dtype).name)
    m, s, s_lo = total_of(columns)
    t = softmax.log_of_total(m, s, s_lo)
    r = softmax.reciprocal_of_total(m, s, s_lo)
    losses = [cross_entropy.label_loss(x, m, *t) for x in columns]
    gradients = [
        cross_entropy.label_gradient(
            softmax.equal(x, m), cross_entropy.unbiased_exp_minus(x, m), s, s_lo, *r
        )
        for x in columns
    ]
    totals = list(zip(exps, others(exps), strict=True))
    exact = [[mpmath.log1p(s) - mpmath.log(e) for e in row] for row, s in totals]
    assert worst_of_columns(losses, exact, dtype) <= 2
    exact = [[-(s + (1 - e)) / (1 + s) for e in row] for row, s in totals]
    assert worst_of_columns(gradients, exact, dtype) <= 2


@precisions
@pytest.mark.parametrize(
    ("row", "logsumexp"),
    [([nan, 1], nan), ([inf, 1], inf), ([-inf, -inf], -inf), ([-inf, 5], 5), ([nan, inf], nan)],
    ids=str,
)
def test_special_rows(row, logsumexp, dtype):
    columns = [numbers([v], dtype) for v in row]
    total = total_of(columns)
    assert np.array_equal(softmax.logsumexp(*total).value, [logsumexp], equal_nan=True)
    r, _ = softmax.reciprocal_of_total(*total)
    t, _ = softmax.log_of_total(*total)
    assert np.isnan(r.value[0]) == np.isnan(t.value[0]) == (logsumexp != 5)
