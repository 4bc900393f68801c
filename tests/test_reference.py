"""The reference, judged by what lies outside fastbp: mpmath, closed forms, differences, PyTorch."""

import ast
import inspect
import itertools
import sys

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from fastbp import reference as ref

inf, nan = np.inf, np.nan
LONG = np.longdouble
needs_80_bits = pytest.mark.skipif(
    np.finfo(LONG).eps > 1e-18, reason="long double is no wider than float64 here"
)

# --- 1. mpmath ----------------------------------------------------------------------------------
# Definitions written naively: 1 - p keeps 50 digits of the smallest float64 with 400 digits.
mpmath.mp.dps = 400

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


@rows
@precisions
def test_softmax_against_mpmath(row, dtype, limit):
    x = dtype(row)
    shift = max(exact(row))
    p = exact_softmax([v - shift for v in exact(row)])
    assert ulps(ref.softmax(x), p) <= limit
    log_p = [v - exact_logsumexp(exact(row)) for v in exact(row)]
    assert ulps(ref.log_softmax(x), log_p) <= limit
    lse = exact_logsumexp(exact(row))
    scale = max(abs(max(exact(row))), abs(lse - max(exact(row))))
    assert ulps(ref.logsumexp(x), [lse], [scale]) <= limit


@rows
@precisions
def test_cross_entropy_of_labels_against_mpmath(row, dtype, limit):
    shift = max(exact(row))
    p = exact_softmax([v - shift for v in exact(row)])
    for label in range(len(row)):
        loss, dlogits = ref.softmax_cross_entropy_with_grad(dtype(row), label)
        assert ulps(loss, [exact_logsumexp(exact(row)) - exact(row)[label]]) <= limit
        assert ulps(dlogits, [p[j] - (j == label) for j in range(len(row))]) <= limit
        one_hot = np.eye(len(row))[label]
        same_loss, same_dlogits = ref.softmax_cross_entropy_with_grad(dtype(row), one_hot)
        assert same_loss == loss
        assert_array_equal(same_dlogits, dlogits)


@rows
@precisions
def test_cross_entropy_of_probabilities_against_mpmath(row, dtype, limit):
    n = len(row)
    t = np.linspace(0, 1, n) ** 2 if n > 1 else np.array([0.75])
    w = 0.5 + np.arange(n)
    eps = 0.125
    options = {"class_weight": w, "sample_weight": 3.0, "label_smoothing": eps, "reduction": "sum"}
    loss, dlogits = ref.softmax_cross_entropy_with_grad(dtype(row), t, **options)
    u = [
        3 * wc * ((1 - mpmath.mpf(eps)) * tc + mpmath.mpf(eps) / n)
        for wc, tc in zip(exact(w), exact(t), strict=True)
    ]
    lse = exact_logsumexp(exact(row))
    expected = mpmath.fsum(uc * (lse - xc) for uc, xc in zip(u, exact(row), strict=True))
    assert ulps(loss, [expected]) <= 2 * limit
    p = exact_softmax([v - max(exact(row)) for v in exact(row)])
    total = mpmath.fsum(u)
    # Of p_j U - u_j, what belongs to j alone cancels exactly; the rest is the error's scale.
    scale = [max(pj * (total - uj), uj * (1 - pj)) for pj, uj in zip(p, u, strict=True)]
    gradient = [pj * total - uj for pj, uj in zip(p, u, strict=True)]
    assert ulps(dlogits, gradient, [s or mpmath.mpf(1) for s in scale]) <= 2 * limit


@rows
def test_backward_passes_against_mpmath(row):
    dy = np.resize([1.0, -0.5, 3.0, 0.25, -7.0], len(row))
    y = ref.softmax(row)
    g, p = exact(dy), exact(y)
    # y was rounded: the shifted formula is exact for rows that sum to 1, so let the largest do so.
    k = int(np.argmax(y))
    p[k] = 1 - mpmath.fsum(p[:k] + p[k + 1 :])
    dot = mpmath.fsum(a * b for a, b in zip(g, p, strict=True))
    expected = [pj * (gj - dot) for pj, gj in zip(p, g, strict=True)]
    largest = max(map(abs, expected))
    error = [abs(a - e) for a, e in zip(exact(ref.softmax_backward(dy, y)), expected, strict=True)]
    assert max(error) <= largest * 2e-15 + 5e-324  # one subnormal

    log_y = ref.log_softmax(row)
    if np.all(np.isfinite(log_y)):
        p = [mpmath.exp(v) for v in exact(log_y)]
        expected = [gj - pj * mpmath.fsum(g) for pj, gj in zip(p, g, strict=True)]
        scale = [max(abs(gj) * (1 - pj), pj) * 12 for pj, gj in zip(p, g, strict=True)]
        scale = [s or mpmath.mpf(1) for s in scale]
        assert ulps(ref.log_softmax_backward(dy, log_y), expected, scale) <= 3

    lse = ref.logsumexp(row)
    expected = [2 * mpmath.exp(v - exact(lse)) for v in exact(row)]
    distance = 1 + float(np.max(np.abs(np.clip(np.float64(row) - lse, -745, 0))))
    assert ulps(ref.logsumexp_backward(2.0, row, lse), expected) <= 3 + distance


@pytest.mark.parametrize("margin", [1, 5, 9, 50, 700])
def test_confident_rows_keep_their_backward_precision(margin):
    """y (dy - dot) and dy - exp(y) sum(dy) lose the certain column: noise, and then 0."""
    dy = [1.0, 0.0, 0.0]
    y = ref.softmax([margin, 0.0, 0.0])
    p = exact(y)
    expected = [(p[1] + p[2]) * (1 - p[1] - p[2]), -p[0] * p[1], -p[0] * p[2]]
    assert ulps(ref.softmax_backward(dy, y), expected) <= 4
    log_y = ref.log_softmax([margin, 0.0, 0.0])
    p = [mpmath.exp(v) for v in exact(log_y)]
    assert ulps(ref.log_softmax_backward(dy, log_y), [1 - p[0], -p[1], -p[2]]) <= 3


SIGMOID_AT = [0, 1e-4, 0.5, 1, 2, 17, 37, 40, 100, 700, 740, 745, 1e-300, 5e-324]


@pytest.mark.parametrize("x", [*SIGMOID_AT, *(-v for v in SIGMOID_AT)])
def test_sigmoid_against_mpmath(x):
    z = mpmath.exp(-mpmath.mpf(x))
    s = 1 / (1 + z)
    assert ulps(ref.sigmoid(x), [s]) <= 2
    assert ulps(ref.log_sigmoid(x), [mpmath.log(s)]) <= 2
    assert ulps(ref.sigmoid_backward(3.0, x=x), [3 * s * (1 - s)]) <= 4
    assert ulps(ref.log_sigmoid_backward(3.0, x), [3 * (1 - s)]) <= 3


# --- 2. closed forms ----------------------------------------------------------------------------


def test_softmax_of_logs_is_their_share():
    weights = np.array([[1.0, 2.0, 5.0], [0.25, 0.5, 0.25]])
    shares = weights / weights.sum(axis=1, keepdims=True)
    assert_allclose(ref.softmax(np.log(weights)), shares, rtol=1e-15)
    assert_allclose(ref.logsumexp(np.log(weights)), [np.log(8), 0], rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("margin", [0, 1, 20, 40, 300, 700])
def test_two_classes_are_a_sigmoid(margin):
    logits = [[margin, 0.0], [0.0, margin]]
    loss, dlogits = ref.softmax_cross_entropy_with_grad(logits, [0, 0], reduction="none")
    assert_allclose(loss, -ref.log_sigmoid([margin, -margin]), rtol=1e-15)
    s = ref.sigmoid([-margin, margin])
    assert_allclose(dlogits, np.stack([-s, s], axis=1), rtol=1e-15)


def test_confident_rows_of_the_contract():
    for targets in ([0], [[1.0, 0.0, 0.0]]):
        loss, dlogits = ref.softmax_cross_entropy_with_grad(np.float32([[20, 0, 0]]), targets)
        assert f"{loss:.6e}" == "4.122307e-09"
        assert f"{dlogits[0, 0]:.6e}" == "-4.122307e-09"


def test_uniform_logits():
    loss, dlogits = ref.softmax_cross_entropy_with_grad(np.zeros((2, 8)), [3, 0])
    assert_allclose(loss, np.log(8), rtol=1e-15)
    assert_allclose(dlogits, (1 / 8 - np.eye(8)[[3, 0]]) / 2, rtol=1e-15)


# --- 3. finite differences ----------------------------------------------------------------------


def differences(f, x):
    """Gradient of the scalar f at x by central differences in long double, O(h^4)."""
    x = LONG(x)
    gradient = np.zeros(x.shape, LONG)
    h = LONG(1) / 512
    for i in np.ndindex(x.shape):
        step = np.zeros(x.shape, LONG)
        step[i] = h
        first = f(x + step) - f(x - step)
        second = f(x + 2 * step) - f(x - 2 * step)
        gradient[i] = (8 * first - second) / (12 * h)
    return gradient


def assert_gradient(actual, f, x):
    expected = differences(f, x)
    assert np.max(np.abs(expected)) > 1e-3  # a gradient of zeros proves nothing
    assert_allclose(actual, expected, rtol=1e-8, atol=1e-9)


rng = np.random.default_rng(0)
X = rng.normal(0, 2, (2, 3, 4))
X[1, 2, 3] = 9.0
DY = rng.normal(0, 1, X.shape)


@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), (2, 0), None])
def test_row_backwards_by_differences(axis):
    for f, backward in (
        (ref.softmax, ref.softmax_backward),
        (ref.log_softmax, ref.log_softmax_backward),
    ):
        dx = backward(DY, f(X, axis), axis)
        assert_gradient(dx, lambda x, f=f: np.sum(DY * f(x, axis)), X)
    for options in ({"axis": axis}, {"axis": axis, "keepdims": True}):
        y = ref.logsumexp(X, **options)
        dy = np.resize(DY, np.shape(y))
        dx = ref.logsumexp_backward(dy, X, y, **options)
        assert_gradient(dx, lambda x, dy=dy, o=options: np.sum(dy * ref.logsumexp(x, **o)), X)


def test_no_axes_make_every_entry_a_row():
    assert_array_equal(ref.softmax(X, ()), np.ones(X.shape))
    assert_array_equal(ref.log_softmax_backward(DY, np.zeros(X.shape), ()), np.zeros(X.shape))
    assert_array_equal(ref.logsumexp(X, ()), X)


def test_elementwise_backwards_by_differences():
    assert_gradient(ref.sigmoid_backward(DY, x=X), lambda x: np.sum(DY * ref.sigmoid(x)), X)
    assert_gradient(
        ref.sigmoid_backward(DY, ref.sigmoid(X)), lambda x: np.sum(DY * ref.sigmoid(x)), X
    )
    assert_gradient(ref.log_sigmoid_backward(DY, X), lambda x: np.sum(DY * ref.log_sigmoid(x)), X)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("layout", ["in_out", "out_in"])
def test_linear_backward_by_differences(shape, layout):
    x = np.resize(X, shape)
    w, b = rng.normal(size=(4, 5) if layout == "in_out" else (5, 4)), rng.normal(size=5)
    y = ref.linear(x, w, b, weight_layout=layout)
    dy = np.resize(DY, y.shape)
    dx, dweight, dbias = ref.linear_backward(dy, x, w, weight_layout=layout)

    def f(x, w, b):
        return np.sum(dy * ref.linear(LONG(x), w, b, weight_layout=layout))

    assert_gradient(dx, lambda v: f(v, w, b), x)
    assert_gradient(
        dweight, lambda v: np.sum(dy * ref.linear(LONG(x), v, b, weight_layout=layout)), w
    )
    assert_gradient(dbias, lambda v: f(x, w, v), b)
    assert_allclose(ref.linear(x, w, weight_layout=layout), y - b, rtol=1e-13, atol=1e-14)


CLASS_WEIGHT = np.array([0.5, 2.0, 1.25, 0.0])
LABELS = np.array([[3, 1, 0], [2, 2, 1]])
PROBABILITIES = np.abs(rng.normal(size=X.shape)) * (rng.random(X.shape) > 0.3)
SAMPLE_WEIGHT = np.array([[1.0, 0.5, 2.0], [0.0, 3.0, 0.25]])
OPTIONS = [
    dict(
        zip(("class_weight", "sample_weight", "label_smoothing", "reduction"), values, strict=True)
    )
    for values in itertools.product(
        (None, CLASS_WEIGHT), (None, SAMPLE_WEIGHT), (0.0, 0.1, 1.0), ("none", "sum", "mean")
    )
]


def option_id(options):
    set_ = [k for k, v in options.items() if k != "reduction" and v is not None and np.any(v)]
    return "+".join([options["reduction"], *set_]) + f"={options['label_smoothing']}"


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
@pytest.mark.parametrize("targets", [LABELS, PROBABILITIES], ids=["labels", "probabilities"])
def test_cross_entropy_by_differences(targets, options):
    if targets is LABELS:
        options = options | {"ignore_index": 2}
    loss, dlogits = ref.softmax_cross_entropy_with_grad(X, targets, **options)
    assert_array_equal(loss, ref.softmax_cross_entropy(X, targets, **options))
    assert_gradient(dlogits, lambda x: np.sum(ref.softmax_cross_entropy(x, targets, **options)), X)
    dloss = np.resize([2.0, -0.5, 3.0], np.shape(loss))
    assert_gradient(
        ref.softmax_cross_entropy_backward(dloss, X, targets, **options),
        lambda x: np.sum(dloss * ref.softmax_cross_entropy(x, targets, **options)),
        X,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_what_the_mean_divides_by(smoothing):
    options = {
        "class_weight": CLASS_WEIGHT, "sample_weight": SAMPLE_WEIGHT, "label_smoothing": smoothing,
    }  # fmt: skip
    kept = LABELS != 2
    for targets, ignore_index, denominator in (
        (LABELS, None, np.sum(CLASS_WEIGHT[LABELS] * SAMPLE_WEIGHT)),
        (LABELS, 2, np.sum((CLASS_WEIGHT[LABELS] * SAMPLE_WEIGHT)[kept])),
        (PROBABILITIES, None, np.sum(SAMPLE_WEIGHT)),
    ):
        options["ignore_index"] = ignore_index
        total = ref.softmax_cross_entropy_with_grad(X, targets, **options, reduction="sum")
        mean = ref.softmax_cross_entropy_with_grad(X, targets, **options)
        each = ref.softmax_cross_entropy_with_grad(X, targets, **options, reduction="none")
        assert_allclose(mean[0], total[0] / denominator, rtol=1e-15)
        assert_allclose(mean[1], total[1] / denominator, rtol=1e-15)
        assert_allclose(np.sum(each[0]), total[0], rtol=1e-15)
        assert_array_equal(each[1], total[1])


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_cross_entropy_along_any_axis(axis):
    logits = np.moveaxis(X, -1, axis)
    for targets in (LABELS, PROBABILITIES):
        moved = targets if targets is LABELS else np.moveaxis(targets, -1, axis)
        expected = ref.softmax_cross_entropy_with_grad(X, targets, reduction="none")
        loss, dlogits = ref.softmax_cross_entropy_with_grad(
            logits, moved, axis=axis, reduction="none"
        )
        assert_array_equal(loss, expected[0])
        assert_array_equal(dlogits, np.moveaxis(expected[1], -1, axis))
        dloss = ref.softmax_cross_entropy_backward(
            SAMPLE_WEIGHT, logits, moved, axis=axis, reduction="none"
        )
        assert_allclose(dloss, np.moveaxis(SAMPLE_WEIGHT[..., None] * expected[1], -1, axis))


# --- 4. PyTorch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "class_weight"])
@pytest.mark.parametrize("kind", ["labels", "ignored", "probabilities"])
def test_cross_entropy_is_that_of_torch(kind, weighted, smoothing, reduction):
    torch = pytest.importorskip("torch")
    targets = PROBABILITIES if kind == "probabilities" else LABELS
    ignore_index = 2 if kind == "ignored" else None
    class_weight = CLASS_WEIGHT if weighted else None
    x = torch.tensor(np.moveaxis(X, -1, 1).copy(), requires_grad=True)
    t = torch.tensor(np.moveaxis(targets, -1, 1).copy() if targets is PROBABILITIES else targets)
    expected = torch.nn.functional.cross_entropy(
        x,
        t,
        weight=None if class_weight is None else torch.tensor(class_weight),
        ignore_index=-100 if ignore_index is None else ignore_index,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    expected.sum().backward()
    loss, dlogits = ref.softmax_cross_entropy_with_grad(
        X,
        targets,
        class_weight=class_weight,
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    assert_allclose(loss, expected.detach().numpy(), rtol=1e-13, atol=1e-14)
    assert_allclose(np.moveaxis(dlogits, -1, 1), x.grad.numpy(), rtol=1e-12, atol=1e-14)


def test_other_operations_are_those_of_torch():
    torch = pytest.importorskip("torch")
    pairs = [
        (ref.softmax(X, 1), torch.softmax, {"dim": 1}),
        (ref.log_softmax(X, 1), torch.log_softmax, {"dim": 1}),
        (
            ref.logsumexp(X, (0, 2), keepdims=True),
            torch.logsumexp,
            {"dim": (0, 2), "keepdim": True},
        ),
        (ref.sigmoid(X), torch.sigmoid, {}),
        (ref.log_sigmoid(X), torch.nn.functional.logsigmoid, {}),
    ]
    for actual, f, options in pairs:
        assert_allclose(actual, f(torch.tensor(X), **options).numpy(), rtol=1e-13)


# --- 5. properties ------------------------------------------------------------------------------

# Multiples of 1/64, so that adding a constant is exact.
logits = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7),
    elements=st.integers(-(2**15), 2**15).map(lambda i: i / 64),
)  # fmt: skip
shifts = st.integers(-(2**20), 2**20).map(lambda i: i / 64)


@given(logits, shifts)
def test_shifts_change_nothing(x, c):
    assert_array_equal(ref.softmax(x + c), ref.softmax(x))
    assert_array_equal(ref.log_softmax(x + c), ref.log_softmax(x))
    assert_allclose(ref.logsumexp(x + c), ref.logsumexp(x) + c, rtol=1e-12, atol=1e-9)
    labels = np.zeros(len(x), int)
    for a, b in zip(
        ref.softmax_cross_entropy_with_grad(x + c, labels),
        ref.softmax_cross_entropy_with_grad(x, labels),
        strict=True,
    ):
        assert_array_equal(a, b)


@given(logits)
def test_rows_sum_to_one_and_their_gradients_to_zero(x):
    p = ref.softmax(x)
    assert np.all((p >= 0) & (p <= 1))
    assert_allclose(p.sum(axis=1), 1, rtol=1e-14)
    labels = np.arange(len(x)) % x.shape[1]
    losses, dlogits = ref.softmax_cross_entropy_with_grad(x, labels, reduction="none")
    assert np.all(losses >= 0)
    assert not np.any(np.signbit(losses))
    # Relative to what is added up: this holds for rows of any confidence.
    assert np.all(np.abs(dlogits.sum(axis=1)) <= 1e-14 * np.abs(dlogits).sum(axis=1) + 1e-320)
    assert_allclose(losses, -np.take_along_axis(ref.log_softmax(x), labels[:, None], 1)[:, 0])


@given(logits)
def test_sigmoid_is_symmetric(x):
    assert_allclose(ref.sigmoid(x) + ref.sigmoid(-x), 1, rtol=1e-15)
    assert_array_equal(ref.sigmoid_backward(x, x=x), ref.sigmoid_backward(x, x=-x))
    assert_allclose(ref.log_sigmoid(x) - ref.log_sigmoid(-x), x, rtol=1e-14, atol=1e-14)


# --- 6. special values: the contract's table, row by row ------------------------------------------

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


@pytest.mark.parametrize(
    ("x", "softmax", "log_softmax", "logsumexp"), SPECIAL.values(), ids=SPECIAL
)
def test_special_rows(x, softmax, log_softmax, logsumexp):
    assert_allclose(ref.softmax(x), softmax, rtol=1e-15)
    assert_allclose(ref.log_softmax(x), log_softmax, rtol=1e-15)
    assert_allclose(ref.logsumexp(x), logsumexp, rtol=1e-15)
    # A row among others: neither gives anything to the other.
    usual = [0.5, 1.0, -2.0]
    for f in (ref.softmax, ref.log_softmax, ref.logsumexp):
        assert_array_equal(f([usual, x, usual]), [f(usual), f(x), f(usual)])


@pytest.mark.parametrize(
    ("x", "softmax", "log_softmax"), [row[:3] for row in SPECIAL.values()], ids=SPECIAL
)
def test_cross_entropy_of_special_rows(x, softmax, log_softmax):
    p = np.array(softmax)
    for label in range(3):
        loss, dlogits = ref.softmax_cross_entropy_with_grad(
            [x, [0, 0, 0]], [label, 0], reduction="none"
        )
        assert_allclose(loss[0], -log_softmax[label] if np.isfinite(p[0]) else nan, rtol=1e-15)
        assert_allclose(dlogits[0], p - np.eye(3)[label], rtol=1e-15)
        assert np.all(np.isfinite([loss[1], *dlogits[1]]))
    # Targets that are all 0 cost nothing, unless the row has no softmax.
    loss, dlogits = ref.softmax_cross_entropy_with_grad(x, np.zeros(3))
    assert_array_equal(loss, 0 if np.isfinite(p[0]) else nan)
    assert_array_equal(dlogits, np.zeros(3) if np.isfinite(p[0]) else NANS)


def test_probability_zero_on_minus_infinity_contributes_nothing():
    loss, dlogits = ref.softmax_cross_entropy_with_grad([-inf, 1.0, 1.0], [0.0, 0.5, 0.5])
    assert_allclose(loss, LOG2, rtol=1e-15)
    assert_allclose(dlogits, 0, atol=1e-16)
    loss, dlogits = ref.softmax_cross_entropy_with_grad([-inf, 1.0, 1.0], [0.25, 0.75, 0.0])
    assert loss == inf
    assert_allclose(dlogits, [-0.25, -0.25, 0.5], rtol=1e-15)
    for weight in ({"class_weight": [0, 1, 1]}, {"sample_weight": 0.0}):
        loss = ref.softmax_cross_entropy([-inf, 1.0, 1.0], 0, reduction="sum", **weight)
        assert loss == 0


def test_differences_that_overflow_do_not_spoil_small_weights():
    loss = ref.softmax_cross_entropy([F64_MAX, 0.0, -F64_MAX], 0, label_smoothing=0.1)
    assert_allclose(loss, 0.1 * F64_MAX, rtol=1e-15)


def test_nothing_in_nothing_out():
    for f in (ref.softmax, ref.log_softmax):
        assert f(np.zeros((0, 3))).shape == (0, 3)
        assert f(np.zeros((3, 0))).shape == (3, 0)
    assert_array_equal(ref.logsumexp(np.zeros((2, 0))), [-inf, -inf])
    assert ref.logsumexp(np.zeros((0, 2))).shape == (0,)
    assert ref.softmax_backward(np.zeros((3, 0)), np.zeros((3, 0))).shape == (3, 0)
    assert ref.log_softmax_backward(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
    assert ref.logsumexp_backward(np.zeros(2), np.zeros((2, 0)), np.zeros(2)).shape == (2, 0)
    assert ref.sigmoid(np.zeros((0, 2))).shape == (0, 2)
    assert ref.linear(np.zeros((0, 2)), np.zeros((2, 3))).shape == (0, 3)
    dx, dweight, dbias = ref.linear_backward(np.zeros((0, 3)), np.zeros((0, 2)), np.ones((2, 3)))
    assert dx.shape == (0, 2)
    assert_array_equal(dweight, np.zeros((2, 3)))
    assert_array_equal(dbias, np.zeros(3))
    for shape in ((0, 3), (0, 0)):
        none, dlogits = ref.softmax_cross_entropy_with_grad(
            np.zeros(shape), np.zeros(0, int), reduction="none"
        )
        assert none.shape == (0,)
        assert dlogits.shape == shape
    with pytest.raises(ValueError, match="no classes"):
        ref.softmax_cross_entropy(np.zeros((3, 0)), np.zeros(3, int))


@pytest.mark.parametrize("x", [nan, inf, -inf])
def test_a_single_class_may_have_no_softmax(x):
    assert_array_equal([ref.softmax([x])[0], ref.log_softmax([x])[0]], [nan, nan])
    assert_array_equal(ref.logsumexp([x]), x)
    for targets in (0, [1.0], [0.0]):
        loss, dlogits = ref.softmax_cross_entropy_with_grad([x], targets)
        assert_array_equal([loss, dlogits[0]], [nan, nan])


def test_a_single_class_is_certain():
    loss, dlogits = ref.softmax_cross_entropy_with_grad([[-7.5]], [0])
    values = [loss, dlogits[0, 0], ref.log_softmax([[-7.5]])[0, 0]]
    assert values == [0, 0, 0]
    assert not np.any(np.signbit(values))
    assert ref.softmax([[-7.5]])[0, 0] == 1


def test_sigmoid_at_the_ends():
    assert_array_equal(ref.sigmoid([inf, -inf, nan, 800, -0.0]), [1, 0, nan, 1, 0.5])
    assert np.float32(ref.sigmoid(-100)) == np.float32(3.78e-44)
    log = ref.log_sigmoid([inf, -inf, nan])
    assert_array_equal(log, [0, -inf, nan])
    assert np.signbit(log[0])
    assert_array_equal(ref.sigmoid_backward([1, 1, 1], x=[inf, -inf, nan]), [0, 0, nan])
    assert_array_equal(ref.log_sigmoid_backward([1, 1, 1], [inf, -inf, nan]), [0, 1, nan])


# --- ignored rows, bad labels, empty means -------------------------------------------------------

LOGITS = np.array([[1.0, 2.0, 3.0], [nan, inf, -inf], [0.5, -1.0, 4.0]])


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_rows_are_not_read(reduction, smoothing):
    options = {"reduction": reduction, "label_smoothing": smoothing}
    loss, dlogits = ref.softmax_cross_entropy_with_grad(
        LOGITS, [2, -100, 0], ignore_index=-100, sample_weight=[1, nan, 2], **options
    )
    kept, kept_dlogits = ref.softmax_cross_entropy_with_grad(
        LOGITS[[0, 2]], [2, 0], sample_weight=[1, 2], **options
    )
    assert_array_equal(loss, np.insert(kept, 1, 0) if reduction == "none" else kept)
    assert_array_equal(dlogits, np.insert(kept_dlogits, 1, 0, axis=0))
    if reduction == "none":
        dlogits = ref.softmax_cross_entropy_backward(
            [1, nan, 1], LOGITS, [2, -100, 0], ignore_index=-100, reduction="none"
        )
        assert_array_equal(dlogits[1], 0)


@pytest.mark.parametrize("bad", [3, -1, 2**40, -(2**40)])
def test_bad_labels(bad):
    logits, labels = LOGITS[[0, 2, 0]], [2, bad, 1]
    with pytest.raises(IndexError, match=rf"targets\[1\] is {bad}\b"):
        ref.softmax_cross_entropy(logits, labels)
    loss, dlogits = ref.softmax_cross_entropy_with_grad(logits, labels, on_bad_label="nan")
    kept, kept_dlogits = ref.softmax_cross_entropy_with_grad(logits[[0, 2]], [2, 1])
    assert np.isnan(loss)
    assert_array_equal(dlogits, np.insert(kept_dlogits, 1, nan, axis=0))
    loss, dlogits = ref.softmax_cross_entropy_with_grad(logits, labels, on_bad_label="ignore")
    assert loss == kept
    assert_array_equal(dlogits, np.insert(kept_dlogits, 1, 0, axis=0))
    assert ref.softmax_cross_entropy(logits, labels, ignore_index=bad) == kept


def test_bad_labels_leave_out_as_it_was():
    out = np.full((2, 2), 7.0)
    with pytest.raises(IndexError, match=r"targets\[0\] is 255"):
        ref.softmax_cross_entropy_with_grad(np.zeros((2, 2)), np.uint8([255, 0]), out=out)
    assert_array_equal(out, 7)
    with pytest.raises(IndexError, match=r"targets\[1, 0\] is 9"):
        ref.softmax_cross_entropy(np.zeros((2, 2, 5)), [[0, 4], [9, 8]])


def test_ignore_index_may_be_a_class():
    assert_array_equal(
        ref.softmax_cross_entropy(np.zeros((2, 4)), [1, 2], ignore_index=1, reduction="none"),
        [0, np.log(4)],
    )


@pytest.mark.parametrize(
    "case",
    [
        {"targets": [5, 5, 5], "ignore_index": 5},
        {"targets": [5, 7, -1], "on_bad_label": "ignore"},
        {"targets": [0, 1, 2], "sample_weight": [0, 0, 0]},
        {"targets": [0, 1, 1], "class_weight": [0, 0, 1]},
        {"targets": [0, 1, 1], "class_weight": [0, 0, 1], "label_smoothing": 0.1},
        {"targets": np.ones((3, 3)), "sample_weight": [0, 0, 0]},
    ],
    ids=["ignored", "bad", "sample_weight", "class_weight", "smoothing", "probabilities"],
)
def test_empty_means(case):
    logits = np.eye(3)
    for empty, expected in (("nan", nan), ("zero", 0)):
        loss, dlogits = ref.softmax_cross_entropy_with_grad(logits, **case, empty=empty)
        assert_array_equal(loss, expected)
        assert_array_equal(dlogits, np.zeros((3, 3)))
        none = ref.softmax_cross_entropy(np.zeros((0, 3)), np.zeros(0, int), empty=empty)
        assert_array_equal(none, expected)
    assert ref.softmax_cross_entropy(np.zeros((0, 3)), np.zeros(0, int), reduction="sum") == 0


def test_a_nan_row_shows_even_in_an_empty_mean():
    for empty in ("nan", "zero"):
        loss, dlogits = ref.softmax_cross_entropy_with_grad(
            np.eye(2), [9, 0], sample_weight=[1, 0], on_bad_label="nan", empty=empty
        )
        assert np.isnan(loss)
        assert_array_equal(dlogits, [[nan, nan], [0, 0]])


# --- 7. the module ------------------------------------------------------------------------------


def test_imports_nothing_but_numpy():
    tree = ast.parse(inspect.getsource(ref))
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            roots.add(node.module.split(".")[0])
    assert roots - set(sys.stdlib_module_names) == {"numpy"}


def test_all_is_what_is_public():
    public = {n for n, f in vars(ref).items() if inspect.isfunction(f) and not n.startswith("_")}
    assert set(ref.__all__) == public


def test_everything_is_computed_in_float64_or_longdouble():
    for dtype in (np.float16, np.float32, np.float64, np.int8, bool, LONG):
        computed = LONG if dtype is LONG else np.float64
        x = np.ones((2, 2), dtype)
        results = [
            ref.softmax(x), ref.softmax_backward(x, x),
            ref.log_softmax(x), ref.log_softmax_backward(x, x),
            ref.logsumexp(x), ref.logsumexp_backward(x[0], x, x[0]),
            ref.sigmoid(x), ref.sigmoid_backward(x, x),
            ref.log_sigmoid(x), ref.log_sigmoid_backward(x, x),
            ref.linear(x, x, x[0]), *ref.linear_backward(x, x, x),
            *ref.softmax_cross_entropy_with_grad(x, [0, 1]),
            *ref.softmax_cross_entropy_with_grad(x, np.eye(2, dtype=np.float32), reduction="none"),
            ref.softmax_cross_entropy_backward(1, x, [0, 1]),
        ]  # fmt: skip
        assert {r.dtype for r in results} == {np.dtype(computed)}
    assert isinstance(ref.softmax_cross_entropy([[1.0, 2.0]], [0]), np.float64)
    assert isinstance(ref.logsumexp([1.0, 2.0]), np.float64)


def test_out_receives_the_result_and_may_be_the_input():
    labels = LABELS[0]
    x = np.float32(X[0])
    cases = [
        (lambda a, out: ref.softmax(a, out=out), x),
        (lambda a, out: ref.log_softmax(a, 0, out=out), x),
        (lambda a, out: ref.sigmoid(a, out=out), x),
        (lambda a, out: ref.log_sigmoid(a, out=out), x),
        (lambda a, out: ref.softmax_backward(a, x, out=out), x),
        (lambda a, out: ref.log_softmax_backward(a, x, out=out), x),
        (lambda a, out: ref.sigmoid_backward(a, x, out=out), x),
        (lambda a, out: ref.log_sigmoid_backward(a, x, out=out), x),
        (lambda a, out: ref.softmax_cross_entropy_with_grad(a, labels, out=out)[1], x),
        (lambda a, out: ref.softmax_cross_entropy_backward(2.0, a, labels, out=out), x),
    ]
    for f, a in cases:
        before = a.copy()
        expected = f(a, None)
        assert_array_equal(a, before)
        out = a.copy()
        assert f(out, out) is out
        assert_array_equal(out, np.float32(expected))
    out = np.empty(3)
    assert ref.logsumexp(x, out=out) is out
    assert_array_equal(out, ref.logsumexp(x))
    assert_array_equal(
        ref.logsumexp_backward(out, x, out, out=x.copy()), np.float32(out[:, None] * ref.softmax(x))
    )


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "x must hold real numbers", lambda: ref.softmax([1j])),
        (TypeError, "exactly one of y and x", lambda: ref.sigmoid_backward([1.0])),
        (TypeError, "exactly one of y and x", lambda: ref.sigmoid_backward(1.0, 1.0, x=1.0)),
        (ValueError, "out must have shape", lambda: ref.softmax([1.0], out=np.empty(2))),
        (ValueError, "y must have shape", lambda: ref.softmax_backward([1.0], [1.0, 2.0])),
        (ValueError, "weight_layout", lambda: ref.linear([1.0], [[1.0]], weight_layout="io")),
        (ValueError, "bias must have shape", lambda: ref.linear([1.0], [[1.0]], [1.0, 2.0])),
        (ValueError, "x must have shape", lambda: ref.linear([1.0, 2.0], [[1.0]])),
        (ValueError, "integers, so labels", lambda: ref.softmax_cross_entropy([[1.0]], [[1]])),
        (ValueError, "floats, so prob", lambda: ref.softmax_cross_entropy([[1.0]], [1.0])),
        (TypeError, "labels .* or prob", lambda: ref.softmax_cross_entropy([[1.0]], ["0"])),
        (ValueError, "reduction", lambda: ref.softmax_cross_entropy([[1.0]], [0], reduction="avg")),
        (ValueError, "empty", lambda: ref.softmax_cross_entropy([[1.0]], [0], empty="one")),
        (
            ValueError,
            "on_bad",
            lambda: ref.softmax_cross_entropy([[1.0]], [0], on_bad_label="wrap"),
        ),
        (
            ValueError,
            "smoothing",
            lambda: ref.softmax_cross_entropy([[1.0]], [0], label_smoothing=2),
        ),
        (
            ValueError,
            "class_w",
            lambda: ref.softmax_cross_entropy([[1.0]], [0], class_weight=[1, 2]),
        ),
        (
            ValueError,
            "sample_w",
            lambda: ref.softmax_cross_entropy([[1.0]], [0], sample_weight=1.0),
        ),
        (
            ValueError,
            "dloss",
            lambda: ref.softmax_cross_entropy_backward([1.0, 1.0], [[1.0]], [0]),
        ),
    ],
)
def test_errors(error, message, call):
    with pytest.raises(error, match=message):
        call()
