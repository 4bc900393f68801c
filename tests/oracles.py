"""What the reference is judged by: numbers of 400 digits, and differences. With rows to try.

Tests of the reference import this module; it holds none itself.
"""

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose

inf, nan = np.inf, np.nan
LONG = np.longdouble
needs_80_bits = pytest.mark.skipif(
    np.finfo(LONG).eps > 1e-18, reason="long double is no wider than float64 here"
)

# --- rows ---------------------------------------------------------------------------------------

# Entries are float32 values, so that x - max is exact in float64.
ROWS = {
    "ordinary": [1, 2, 3],
    "ties": [0, 0, 0],
    "two maxima": [7.5, -1.25, 7.5, 7.375],
    "one class": [3.5],
    "confident": [20, 0, 0],
    "more confident": [45, 0, 0],
    "certain in float64": [1000, 900, 0],
    "confident and wrong": [0, 30, -60],
    "subnormal probability": [0, -740, -744.25],
    "subnormal logits": [2.0**-140, -(2.0**-149), 0],
    "offset": [10000, 10000.25, 9990.5, 9000],
    "negative offset": [-10000, -10000.25, -9990.5, -9000],
    "outlier": [0.5, -1.5, 0.25, 88.5, -0.125, 2],
    "logs of probabilities": [-0.6875, -1.375, -1.375],
    "large": [3e38, -3e38, 0],
    "all large": [3e38, 3e38],
}
ROWS = {name: np.float32(row) for name, row in ROWS.items()}
rows = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
precisions = pytest.mark.parametrize(
    ("dtype", "limit"),
    [(np.float64, 3.0), pytest.param(LONG, 0.51, marks=needs_80_bits)],
    ids=["float64", "longdouble"],
)

rng = np.random.default_rng(0)
X = rng.normal(0, 2, (2, 3, 4))
X[1, 2, 3] = 9.0
DY = rng.normal(0, 1, X.shape)
CLASS_WEIGHT = np.array([0.5, 2.0, 1.25, 0.0])
LABELS = np.array([[3, 1, 0], [2, 2, 1]])
PROBABILITIES = np.abs(rng.normal(size=X.shape)) * (rng.random(X.shape) > 0.3)
SAMPLE_WEIGHT = np.array([[1.0, 0.5, 2.0], [0.0, 3.0, 0.25]])

F32_MAX = 3e38
F64_MAX = 1.7e308
LOG2 = np.log(2.0)
NANS = [nan, nan, nan]
SPECIAL = {
    #                    x                  softmax         log_softmax          logsumexp
    "NaN": ([1, nan, 2], NANS, NANS, nan),
    "NaN and +inf": ([inf, nan, 2], NANS, NANS, nan),
    "NaN and -inf": ([-inf, nan, -inf], NANS, NANS, nan),
    "some -inf": ([-inf, 5, 5], [0, 0.5, 0.5], [-inf, -LOG2, -LOG2], 5 + LOG2),
    "all but one -inf": ([-inf, 5, -inf], [0, 1, 0], [-inf, 0, -inf], 5),
    "all -inf": ([-inf, -inf, -inf], NANS, NANS, -inf),
    "a +inf": ([inf, 1, -inf], NANS, NANS, inf),
    "all +inf": ([inf, inf, inf], NANS, NANS, inf),
    "+-3e38": ([F32_MAX, -F32_MAX, 0], [1, 0, 0], [0, -2 * F32_MAX, -F32_MAX], F32_MAX),
    "+-1.7e308": ([F64_MAX, -F64_MAX, 0], [1, 0, 0], [0, -inf, -F64_MAX], F64_MAX),
    "all 1.7e308": ([F64_MAX, F64_MAX, 0], [0.5, 0.5, 0], [-LOG2, -LOG2, -F64_MAX], F64_MAX),
    "all -1.7e308": ([-F64_MAX] * 3, [1 / 3] * 3, [-np.log(3)] * 3, -F64_MAX),
}


# --- mpmath -------------------------------------------------------------------------------------

# Definitions written naively: 1 - p keeps 50 digits of the smallest float64 with 400 digits.
mpmath.mp.dps = 400


def exact(a):
    """Floats as mpf, without rounding: a long double as the sum of two float64."""
    a = np.asarray(a)
    if a.ndim:
        return [exact(v) for v in a]
    high = float(a)
    return mpmath.mpf(high) + mpmath.mpf(float(a - type(a[()])(high)))


def ulps(actual, expected, scale=None):
    """Largest error in float64 spacings of `scale` (of `expected`, if there is none)."""
    worst = 0
    scale = expected if scale is None else scale
    for a, e, s in zip(np.ravel(actual), expected, scale, strict=True):
        # Beyond float64's range no spacing exists; relative error says enough.
        spacing = mpmath.mpf(float(np.spacing(abs(float(s))))) if abs(s) < 1e308 else abs(s) * 1e-16
        worst = max(worst, float(abs(exact(a) - e) / spacing))
    return worst


def exact_softmax(x):
    e = [mpmath.exp(v) for v in x]
    return [v / mpmath.fsum(e) for v in e]


def exact_logsumexp(x):
    shift = max(x)
    return shift + mpmath.log(mpmath.fsum(mpmath.exp(v - shift) for v in x))


# --- finite differences -------------------------------------------------------------------------


def differences(f, x, h):
    """Gradient of the scalar f at x by central differences in long double, O(h^4)."""
    x, h = LONG(x), LONG(h)
    gradient = np.zeros(x.shape, LONG)
    for i in np.ndindex(x.shape):
        step = np.zeros(x.shape, LONG)
        step[i] = h
        first = f(x + step) - f(x - step)
        second = f(x + 2 * step) - f(x - 2 * step)
        gradient[i] = (8 * first - second) / (12 * h)
    return gradient


def assert_gradient(actual, f, x, h=2.0**-9):
    expected = differences(f, x, h)
    assert np.max(np.abs(expected)) > 1e-3  # a gradient of zeros proves nothing
    assert_allclose(actual, expected, rtol=1e-8, atol=1e-9)
