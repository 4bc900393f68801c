"""Errors in ULPs over the whole range of inputs; a comment beside each limit has what was measured.

float32 is judged by NumPy's float64, float64 by long double (where that is wider) and by mpmath.
"""

import mpmath
import numpy as np
import pytest

import fastbp
from fastbp import reference
from fastbp.testing import OPS, Arguments
from fastbp.testing.errors import spacing, ulps

needs_long_double = pytest.mark.skipif(
    np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps,
    reason="long double is no wider than float64 here",
)
precisions = pytest.mark.parametrize(
    ("dtype", "wide"),
    [(np.float32, np.float64), pytest.param(np.float64, np.longdouble, marks=needs_long_double)],
    ids=["float32", "float64"],
)

# functions of one number --------------------------------------------------------------------------


def exp(x):
    """The exponential inside all operations, for x <= 0: logsumexp_backward gives dy·exp(x - y)."""
    one, zero = np.ones(1, x.dtype), np.zeros(1, x.dtype)
    return fastbp.logsumexp_backward(one, np.minimum(x, 0)[None], zero)[0]


def slope(x):
    return fastbp.sigmoid_backward(np.ones_like(x), x=x)


def log_sigmoid_slope(x):
    return fastbp.log_sigmoid_backward(np.ones_like(x), x)


def exact_slope(x):
    return reference.sigmoid_backward(np.ones_like(x), x=x)


# name -> (fastbp's, exact, limit); and the largest errors that were measured, over every eleventh
# float32 and over three million float64.
FUNCTIONS = {
    "exp": (exp, lambda x: np.exp(np.minimum(x, 0)), 1.0),  # 0.87, 0.86
    "sigmoid": (fastbp.sigmoid, reference.sigmoid, 1.0),  # 0.96, 0.94
    "log_sigmoid": (fastbp.log_sigmoid, reference.log_sigmoid, 1.0),  # 0.90, 0.89
    "sigmoid_backward": (slope, exact_slope, 1.6),  # 1.47, 1.46
    "log_sigmoid_backward": (log_sigmoid_slope, lambda x: reference.sigmoid(-x), 1.0),  # 0.96, 0.94
}
functions = pytest.mark.parametrize("name", FUNCTIONS)


def worst(name, x, wide):
    """(largest error, where) of a function over x."""
    function, exact, _ = FUNCTIONS[name]
    error = ulps(function(x), exact(x.astype(wide)))
    i = int(np.argmax(error))  # of a NaN, if there is one
    return float(error[i]), x[i]


def floats(first, last, step, chunk=1 << 20):
    """The float32 numbers with bits first, first + step, … below last, and their negatives."""
    for start in range(first, last, chunk * step):
        bits = np.arange(start, min(last, start + chunk * step), step, dtype=np.uint32)
        yield bits.view(np.float32)
        yield -bits.view(np.float32)


SATURATED = int(np.float32(105).view(np.uint32))  # beyond, all of them are constant or linear
LAST = int(np.float32(np.inf).view(np.uint32)) + 1


def scan(name, step):
    limit = FUNCTIONS[name][2]
    for x in floats(0, SATURATED, step):
        error, where = worst(name, x, np.float64)
        assert error <= limit, f"{name}({where!r}) is wrong by {error} ULP"
    for x in floats(SATURATED, LAST, 100 * step):
        error, where = worst(name, x, np.float64)
        assert error <= limit, f"{name}({where!r}) is wrong by {error} ULP"


@functions
def test_every_97th_float32(name):
    scan(name, 97)


@pytest.mark.slow
@functions
def test_every_float32(name):
    scan(name, 1)


def float64_samples(n):
    rng = np.random.default_rng(0)
    small = np.exp(rng.uniform(np.log(1e-300), np.log(800), n))
    return np.concatenate([
        3 * rng.standard_normal(n), rng.uniform(-746, 710, n), rng.uniform(-1.5, 1.5, n),
        small, -small, rng.uniform(-745.2, -708, n), rng.uniform(708, 745.2, n),
        [0.0, -0.0, 5e-324, -5e-324, 1e308, -1e308, np.inf, -np.inf],
    ])  # fmt: skip


@needs_long_double
@functions
def test_float64_samples(name):
    error, where = worst(name, float64_samples(60_000), np.longdouble)
    assert error <= FUNCTIONS[name][2], f"{name}({where!r}) is wrong by {error} ULP"


@pytest.mark.slow
@needs_long_double
@functions
def test_many_float64_samples(name):
    error, where = worst(name, float64_samples(3_000_000), np.longdouble)
    assert error <= FUNCTIONS[name][2], f"{name}({where!r}) is wrong by {error} ULP"


# mpmath -------------------------------------------------------------------------------------------

MP = {
    "exp": lambda x: mpmath.exp(min(x, 0)),
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "log_sigmoid": lambda x: -mpmath.log1p(mpmath.exp(-x)),
    "sigmoid_backward": lambda x: mpmath.exp(-x) / (1 + mpmath.exp(-x)) ** 2,
    "log_sigmoid_backward": lambda x: 1 / (1 + mpmath.exp(x)),
}


def mp_ulps(actual, exact):
    """Largest error of floats beside mpf numbers."""
    actual = np.ravel(actual)
    units = spacing(np.array([float(e) for e in exact]), actual.dtype)
    with mpmath.workdps(400):
        differences = [abs(mpmath.mpf(float(a)) - e) for a, e in zip(actual, exact, strict=True)]
        return max(float(d / mpmath.mpf(float(u))) for d, u in zip(differences, units, strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@functions
def test_beside_mpmath(name, dtype):
    x = float64_samples(40)
    x = x[np.abs(x) < (100 if dtype == np.float32 else 740)].astype(dtype)
    with mpmath.workdps(400):
        exact = [MP[name](mpmath.mpf(float(v))) for v in x]
    assert mp_ulps(FUNCTIONS[name][0](x), exact) <= FUNCTIONS[name][2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_beside_mpmath(dtype):
    """Eight kinds of rows, whose definitions are computed naively with 400 digits."""
    x = OPS["softmax"].inputs(np.random.default_rng(0), (32, 7), np.dtype(dtype)).args[0]
    labels = np.arange(32) % 7
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, labels, reduction="none")
    p, log_p = fastbp.softmax(x), fastbp.log_softmax(x)
    with mpmath.workdps(400):
        for i, k in enumerate(labels):
            e = [mpmath.exp(mpmath.mpf(float(v))) for v in x[i]]
            exact = [v / mpmath.fsum(e) for v in e]
            assert mp_ulps(p[i], exact) <= 2
            assert mp_ulps(log_p[i], [mpmath.log(v) for v in exact]) <= 2
            assert mp_ulps(loss[i], [-mpmath.log(exact[k])]) <= 2
            assert mp_ulps(dlogits[i], [v - (j == k) for j, v in enumerate(exact)]) <= 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_capped_and_divided_rows_beside_mpmath(dtype):
    """Where the smallest logit is then c below the largest, within 6 c ULP."""
    x = OPS["softmax"].inputs(np.random.default_rng(0), (32, 7), np.dtype(dtype)).args[0]
    labels = np.arange(32) % 7
    options = {"softcap": 20.0, "temperature": 0.7, "z_loss": 0.01}
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, labels, **options, reduction="none")
    with mpmath.workdps(400):
        cap, temperature, z = map(mpmath.mpf, options.values())
        for i, k in enumerate(labels):
            tanh = [mpmath.tanh(mpmath.mpf(float(v)) / cap) for v in x[i]]
            y = [cap * v / temperature for v in tanh]
            lse = mpmath.log(mpmath.fsum(mpmath.exp(v) for v in y))
            p = [mpmath.exp(v - lse) for v in y]
            slope = [(1 - v**2) / temperature for v in tanh]
            exact = [s * (v * (1 + 2 * z * lse) - int(j == k))
                     for j, (s, v) in enumerate(zip(slope, p, strict=True))]  # fmt: skip
            limit = 6 * max(1, float(max(y) - min(y)))
            assert mp_ulps(loss[i], [lse - y[k] + z * lse**2]) <= limit
            assert mp_ulps(dlogits[i], exact) <= limit


# rows ---------------------------------------------------------------------------------------------

WIDTHS = [1, 2, 3, 5, 10, 16, 17, 63, 64, 65, 100, 200, 511, 512, 513, 1000, 1500]
SCALES = [0.01, 0.1, 1, 3, 10, 30, 100]
OFFSETS = [0, -100, -1e4]


def stress(dtype, n_numbers):
    """Rows of all widths, scales and offsets; in half of them one column dominates."""
    rng = np.random.default_rng(0)
    for n_columns in WIDTHS:
        n_rows = max(4, n_numbers // n_columns)
        for scale in SCALES:
            for offset in OFFSETS:
                x = scale * rng.standard_normal((n_rows, n_columns)) + offset
                x[::2, rng.integers(n_columns)] += rng.uniform(0, 60)
                yield x.astype(dtype), rng


def largest_errors(dtype, wide, n_numbers):
    found = dict.fromkeys(("softmax", "log_softmax", "logsumexp", "loss", "gradient"), 0.0)
    for x, rng in stress(dtype, n_numbers):
        n_rows, n_columns = x.shape
        labels = np.where(
            np.arange(n_rows) % 4 < 2, np.argmax(x, axis=1), rng.integers(n_columns, size=n_rows)
        )
        actual = fastbp.softmax_cross_entropy_with_grad(x, labels, reduction="none")
        exact = reference.softmax_cross_entropy_with_grad(x.astype(wide), labels, reduction="none")
        lse = OPS["logsumexp"]
        errors = {
            "softmax": np.max(ulps(fastbp.softmax(x), reference.softmax(x.astype(wide)))),
            "log_softmax": np.max(
                ulps(fastbp.log_softmax(x), reference.log_softmax(x.astype(wide)))
            ),
            "logsumexp": lse.measure(Arguments((x,)), fastbp.logsumexp(x)),
            "loss": np.max(ulps(actual[0], exact[0])),
            "gradient": np.max(ulps(actual[1], exact[1])),
        }
        found = {name: max(found[name], float(errors[name])) for name in found}
    return found


ROW_LIMITS = {"softmax": 2, "log_softmax": 2, "logsumexp": 2, "loss": 2, "gradient": 2}


@precisions
def test_rows(dtype, wide):
    found = largest_errors(dtype, wide, 1500)
    assert all(found[name] <= limit for name, limit in ROW_LIMITS.items()), found


@pytest.mark.slow
@precisions
def test_many_rows(dtype, wide):
    found = largest_errors(dtype, wide, 100_000)
    assert all(found[name] <= limit for name, limit in ROW_LIMITS.items()), found


# As in the table of operations, whose kernels these are; and what was measured.
OPTIONS = {
    "z_loss": ({"z_loss": 0.01}, 3.5),  # 1.60, 2.71
    "temperature": ({"temperature": 0.7}, 3.5),  # 1.93, 1.73
    "softcap": ({"softcap": 20.0, "temperature": 0.7, "z_loss": 0.01}, 6),  # 3.25, 3.72
}


@precisions
@pytest.mark.parametrize("option", OPTIONS)
def test_rows_with_options(option, dtype, wide):
    options, limit = OPTIONS[option]
    worst_error = 0
    for x, rng in stress(dtype, 300):
        labels = rng.integers(x.shape[1], size=len(x))
        labels[::2] = np.argmax(x[::2], axis=1)
        arguments = Arguments((x, labels), {**options, "reduction": "none"})
        operation = OPS["softmax_cross_entropy_with_grad[labels,rows]"]
        error = operation.measure(arguments, operation.call(arguments))
        worst_error = max(worst_error, error)
    assert worst_error <= limit


@precisions
@pytest.mark.parametrize("kind", ["ordinary", "confident", "mixed"])
def test_mean_of_many_rows_is_within_one_ulp(dtype, wide, kind):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = (3 * rng.standard_normal((3000, 10))).astype(dtype)
        labels = rng.integers(10, size=3000)
        if kind != "ordinary":
            labels[:] = 0
            x[:, 0] += rng.normal(20 if kind == "confident" else 12, 4, 3000)
        loss = fastbp.softmax_cross_entropy(x, labels)
        exact = reference.softmax_cross_entropy(x.astype(wide), labels)
        assert ulps(loss, exact) <= 1  # 0.50 and 0.52


@precisions
def test_a_huge_row(dtype, wide):
    """A million small terms beside one large: what is added one by one in float32 is lost."""
    x = np.full((1, 1_000_001), -20.0) + 0.1 * np.random.default_rng(0).standard_normal(1_000_001)
    x[0, 0] = 0
    x = x.astype(dtype)
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, [0])
    exact = reference.softmax_cross_entropy_with_grad(x.astype(wide), [0])
    assert ulps(loss, exact[0]) <= 1
    assert np.max(ulps(dlogits, exact[1])) <= 2
    assert np.max(ulps(fastbp.softmax(x), reference.softmax(x.astype(wide)))) <= 2
