"""Gradient and Hessian for boosted trees, beside mpmath; `test_boosting` is about the libraries."""

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastbp
from fastbp import reference
from fastbp.testing import OPS
from fastbp.testing.errors import errors, spacing

inf, nan = np.inf, np.nan
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
HESSIANS = ("exact", "xgboost", "lightgbm")
# Either side of the longest rows that are computed several at once: 32 float32, 16 float64.
CLASSES = (1, 2, 3, 7, 10, 16, 17, 32, 33, 100)
softmax_grad_hess = fastbp.softmax_cross_entropy_grad_hess
sigmoid_grad_hess = fastbp.sigmoid_cross_entropy_grad_hess


def some_rows(n_rows, n_classes, dtype, seed=0):
    """Margins of all kinds, labels, weights."""
    rng = np.random.default_rng([seed, n_rows, n_classes])
    arguments = OPS["softmax_cross_entropy_grad_hess[exact]"].inputs(
        rng, (n_rows, n_classes), dtype
    )
    margins, labels = arguments.args
    return margins, labels, rng.uniform(0.2, 3, n_rows).astype(dtype)


def assert_same_bits(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        assert a.shape == e.shape
        assert_array_equal(a, e)
        assert_array_equal(np.signbit(a) & (a == 0), np.signbit(e) & (e == 0))


# accuracy -----------------------------------------------------------------------------------------


def mp_ulps(actual, exact, weight):
    """The largest error of an array beside mpf numbers; see the docstrings of both functions."""
    units = spacing(np.array([float(e) for e in exact]), actual.dtype)
    units = np.maximum(units, weight * float(np.finfo(actual.dtype).smallest_subnormal))
    actual = [mpmath.mpf(float(a)) for a in actual.ravel()]
    return max(float(abs(a - e) / u) for a, e, u in zip(actual, exact, units, strict=True))


def exact_row(margins, label, weight, hessian):
    """One row's gradient and Hessian in mpmath."""
    e = [mpmath.exp(mpmath.mpf(float(x))) for x in margins]
    total, n = mpmath.fsum(e), len(e)
    others = [mpmath.fsum(e[:j] + e[j + 1 :]) for j in range(n)]
    grad = [weight * (-others[j] if j == label else e[j]) / total for j in range(n)]
    hess = [weight * e[j] * others[j] / total**2 for j in range(n)]
    if hessian == "xgboost":
        hess = [max(2 * h, mpmath.mpf(1e-16)) for h in hess]
    if hessian == "lightgbm":
        hess = [h * n / max(n - 1, 1) for h in hess]
    return grad, hess


@pytest.mark.parametrize("hessian", HESSIANS)
@pytest.mark.parametrize("n_classes", [1, 2, 3, 10, 33])
@dtypes
def test_rows_beside_mpmath(dtype, n_classes, hessian):
    margins, labels, weights = some_rows(24, n_classes, dtype)
    grad, hess = softmax_grad_hess(margins, labels, sample_weight=weights, hessian=hessian)
    with mpmath.workdps(60):
        for i, weight in enumerate(weights):
            exact = exact_row(margins[i], labels[i], mpmath.mpf(float(weight)), hessian)
            # Over many rows: 1.80 and 2.06.
            assert mp_ulps(grad[i], exact[0], weight) <= 2
            assert mp_ulps(hess[i], exact[1], weight) <= 2.5


@dtypes
def test_numbers_beside_mpmath(dtype):
    rng = np.random.default_rng(1)
    last = 105 if dtype == np.float32 else 746
    x = np.concatenate([3 * rng.standard_normal(60), rng.uniform(-last, last, 90), [0, 40, -40]])
    x, n = x.astype(dtype), x.size
    w = rng.uniform(0.2, 3, n).astype(dtype)
    for y in (rng.integers(0, 2, n).astype(dtype), rng.random(n).astype(dtype)):
        grad, hess = sigmoid_grad_hess(x, y, sample_weight=w)
        with mpmath.workdps(400):
            for i in range(n):
                xi, yi, wi = (mpmath.mpf(float(v[i])) for v in (x, y, w))
                p, rest = 1 / (1 + mpmath.exp(-xi)), 1 / (1 + mpmath.exp(xi))
                terms = wi * (1 - yi) * p, wi * yi * rest
                error = abs(mpmath.mpf(float(grad[i])) - (terms[0] - terms[1]))
                tiny = w[i] * float(np.finfo(dtype).smallest_subnormal)
                # Over many numbers: 1.69 and 2.33.
                assert error <= 2 * max(spacing(float(max(terms)), dtype), tiny)
                assert mp_ulps(hess[i : i + 1], [wi * p * rest], w[i]) <= 2.5


@pytest.mark.skipif(np.finfo("g").eps >= np.finfo("d").eps, reason="no wider long double here")
@dtypes
def test_many_numbers_without_weights(dtype):
    rng = np.random.default_rng(4)
    arguments = OPS["sigmoid_cross_entropy_grad_hess"].inputs(rng, (1, 100_000), dtype)
    x, y = arguments.args[0], rng.integers(0, 2, (1, 100_000)).astype(dtype)
    exact = reference.sigmoid_cross_entropy_grad_hess(x.astype("g"), y.astype("g"))
    for actual, e, limit in zip(sigmoid_grad_hess(x, y), exact, (1, 1.6), strict=True):
        assert errors(actual, e, spacing(e, dtype)).max() <= limit  # 0.79, 1.46


@dtypes
def test_weights_of_any_size(dtype):
    """From 1e-30 to 1e30 no digit is lost, whatever is scaled on the way."""
    for n_classes in (3, 40):
        margins, labels, _ = some_rows(64, n_classes, dtype)
        weights = (10 ** np.random.default_rng(2).uniform(-30, 30, 64)).astype(dtype)
        wide = np.float64 if dtype == np.float32 else np.longdouble
        result = softmax_grad_hess(margins, labels, sample_weight=weights)
        exact = reference.softmax_cross_entropy_grad_hess(
            margins.astype(wide), labels, sample_weight=weights.astype(wide)
        )
        of_p = weights[:, None].astype(wide) * np.finfo(dtype).smallest_subnormal
        for actual, e in zip(result, exact, strict=True):
            limit = 2.5 if np.finfo(wide).eps < np.finfo(dtype).eps else 6
            assert errors(actual, e, np.maximum(spacing(e, dtype), of_p)).max() <= limit


def test_confident_rows_keep_their_digits():
    grad, hess = softmax_grad_hess(np.float32([[20, 0, 0]]), [0])
    small = np.float32(4.122307e-09)
    assert_allclose(grad, [[-small, small / 2, small / 2]], rtol=3e-7)
    assert_allclose(hess, [[small, small / 2, small / 2]], rtol=3e-7)
    grad, hess = sigmoid_grad_hess(np.float32([20, -20, -100]), [1, 0, 0])
    assert_allclose(grad, [-2.0611537e-09, 2.0611537e-09, 3.78e-44], rtol=1e-3)
    assert_array_equal(hess, np.abs(grad))


def test_the_hessian_is_the_derivative_of_the_gradient():
    margins, labels, weights = some_rows(8, 5, DTYPES[1])
    margins = np.clip(margins, -5, 5)
    _, hess = softmax_grad_hess(margins, labels, sample_weight=weights)
    for j in range(5):
        step = np.zeros(5)
        step[j] = 1e-6
        above, _ = softmax_grad_hess(margins + step, labels, sample_weight=weights)
        below, _ = softmax_grad_hess(margins - step, labels, sample_weight=weights)
        assert_allclose((above - below)[:, j] / 2e-6, hess[:, j], atol=1e-8)


@dtypes
def test_the_gradient_is_that_of_the_loss(dtype):
    for n_classes in CLASSES:
        margins, labels, weights = some_rows(20, n_classes, dtype)
        grad, _ = softmax_grad_hess(margins, labels, sample_weight=weights)
        _, expected = fastbp.softmax_cross_entropy_with_grad(
            margins, labels, sample_weight=weights, reduction="sum"
        )
        smallest = 4 * float(np.finfo(dtype).smallest_subnormal)
        assert_allclose(grad, expected, rtol=4 * np.finfo(dtype).eps, atol=smallest)


def test_conventions():
    margins, labels, weights = some_rows(40, 4, DTYPES[1])
    grad, hess = softmax_grad_hess(margins, labels, sample_weight=weights)
    for hessian, expected in [
        ("xgboost", np.maximum(2 * hess, 1e-16)),
        ("lightgbm", hess * 4 / 3),
    ]:
        same, other = softmax_grad_hess(margins, labels, sample_weight=weights, hessian=hessian)
        assert_array_equal(same, grad)
        assert_allclose(other, expected, rtol=1e-15, atol=1e-320)
    assert np.any(other < 1e-100)
    floor = softmax_grad_hess(margins, labels, sample_weight=np.zeros(40), hessian="xgboost")[1]
    assert_array_equal(floor, 1e-16)


def test_weights_of_powers_of_two_scale_exactly():
    for function, (x, y) in [
        (softmax_grad_hess, some_rows(50, 6, DTYPES[0])[:2]),
        (sigmoid_grad_hess, (np.float32([-3, 0.5, 7]), np.float32([0, 1, 0.25]))),
    ]:
        plain = function(x, y)
        normal = [np.abs(part) > 1e-30 for part in plain]
        for part, scaled, mask in zip(
            plain, function(x, y, sample_weight=np.full(len(x), 4)), normal, strict=True
        ):
            assert_array_equal(scaled[mask], 4 * part[mask])


# layouts, kinds of arguments ----------------------------------------------------------------------


@pytest.mark.parametrize("hessian", HESSIANS)
@dtypes
def test_layouts_have_the_same_bits(dtype, hessian):
    for n_rows in (1, 5, 16, 67):
        for n_classes in CLASSES:
            margins, labels, weights = some_rows(n_rows, n_classes, dtype)
            options = {"sample_weight": weights, "hessian": hessian}
            expected = softmax_grad_hess(margins, labels, **options)
            assert all(part.flags.c_contiguous for part in expected)

            fortran = np.asfortranarray(margins)
            for layout in ("rows", "classes"):  # what LightGBM 4 hands over
                result = softmax_grad_hess(fortran, labels, layout=layout, **options)
                assert_same_bits(result, expected)
                assert all(part.flags.f_contiguous for part in result)
            flat = softmax_grad_hess(fortran.ravel("K"), labels, layout="classes", **options)
            assert_same_bits([f.reshape(n_classes, n_rows).T for f in flat], expected)
            every_other = np.repeat(fortran.ravel("K"), 2)[::2]
            assert_same_bits(softmax_grad_hess(every_other, labels, layout="classes", **options),
                             flat)  # fmt: skip
            wide = np.full((n_rows, n_classes + 3), nan, dtype)
            wide[:, 1:-2] = margins
            assert_same_bits(softmax_grad_hess(wide[:, 1:-2], labels, **options), expected)
            result = softmax_grad_hess(margins, labels, layout="classes", **options)
            assert_same_bits(result, expected)
            assert all(part.flags.f_contiguous for part in result)


@pytest.mark.parametrize("layout", ["rows", "classes"])
@dtypes
def test_bits_do_not_depend_on_threads_or_the_batch(dtype, layout, monkeypatch):
    from fastbp.cpu import run

    def call(margins, labels, weights):
        if layout == "rows":
            return softmax_grad_hess(margins, labels, sample_weight=weights)
        flat = margins.T.reshape(-1)
        result = softmax_grad_hess(flat, labels, sample_weight=weights, layout=layout)
        return [part.reshape(margins.T.shape).T for part in result]

    for shape in [(20_000, 3), (1100, 33), (70, 1000)]:
        given = some_rows(*shape, dtype)
        whole = call(*given)
        with monkeypatch.context() as patch:
            patch.setattr(run, "PARALLEL_FROM", 10**12)
            assert_same_bits(call(*given), whole)
        with monkeypatch.context() as patch:
            patch.setattr(run, "PARALLEL_FROM", 0)
            few = [a[:67] for a in given]
            assert_same_bits(call(*few), [part[:67] for part in whole])
        for rows in (slice(5, 6), slice(1, 40), slice(3, 60, 7)):
            assert_same_bits(call(*(a[rows] for a in given)), [part[rows] for part in whole])


@dtypes
def test_bits_of_numbers_do_not_depend_on_threads_or_their_place(dtype, monkeypatch):
    from fastbp.cpu import run

    rng = np.random.default_rng(3)
    given = OPS["sigmoid_cross_entropy_grad_hess"].inputs(rng, (1, 70_000), dtype)
    x, y, w = (a[0] for a in (*given.args, given.kwargs["sample_weight"]))
    whole = sigmoid_grad_hess(x, y, sample_weight=w)
    with monkeypatch.context() as patch:
        patch.setattr(run, "PARALLEL_FROM", 10**12)
        assert_same_bits(sigmoid_grad_hess(x, y, sample_weight=w), whole)
    for part in (slice(0, 1), slice(3, 20), slice(9, 1033), slice(1, 999, 5)):
        result = sigmoid_grad_hess(x[part], y[part], sample_weight=w[part])
        assert_same_bits(result, [p[part] for p in whole])
    matrix = [a.reshape(70, 1000) for a in (x, y, w)]
    result = sigmoid_grad_hess(matrix[0].T, matrix[1].T, sample_weight=matrix[2].T)
    assert_same_bits([p.T for p in result], [p.reshape(70, 1000) for p in whole])
    by_row = sigmoid_grad_hess(matrix[0], matrix[1], sample_weight=w[:70, None])
    repeated = np.repeat(w[:70, None], 1000, axis=1)
    assert_same_bits(by_row, sigmoid_grad_hess(matrix[0], matrix[1], sample_weight=repeated))
    one = sigmoid_grad_hess(x[17], y[17], sample_weight=w[17])
    assert [type(part) for part in one] == [dtype.type, dtype.type]
    assert one == (whole[0][17], whole[1][17])


def test_labels_of_any_kind():
    margins, labels, _ = some_rows(40, 5, DTYPES[0])
    expected = softmax_grad_hess(margins, labels)
    for kind in "bBhHiIlLqQefdg":
        assert_same_bits(softmax_grad_hess(margins, labels.astype(kind)), expected)
    for given in (labels.tolist(), labels.astype(">f4"), labels.astype(">i2"),
                  np.repeat(labels, 3)[::3], labels[::-1].copy()[::-1]):  # fmt: skip
        assert_same_bits(softmax_grad_hess(margins, given), expected)
    x = margins[:, 0]
    for kind in "?bBiQefd":
        assert_same_bits(sigmoid_grad_hess(x, (labels > 1).astype(kind)),
                         sigmoid_grad_hess(x, (labels > 1).astype(np.float32)))  # fmt: skip


def test_margins_decide_on_the_dtype():
    labels, weights = np.float32([0, 1]), np.float32([1, 2])
    for given, expected in [(np.float32, np.float32), (np.float64, np.float64),
                            (np.int8, np.float64), (np.float16, np.float32),
                            (">f4", np.float32)]:  # fmt: skip
        for function, numbers in [(softmax_grad_hess, np.eye(2)), (sigmoid_grad_hess, np.ones(2))]:
            margins = numbers.astype(given)
            for weight in (weights, weights.astype(np.float64)):
                result = function(margins, labels, sample_weight=weight)
                assert [part.dtype for part in result] == [expected, expected]
                assert_same_bits(
                    result, function(margins.astype(expected), labels, sample_weight=weight)
                )


def test_half_precision_of_ml_dtypes():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    margins, labels, _ = some_rows(40, 5, DTYPES[0])
    margins = margins.astype(bfloat16)
    assert_same_bits(softmax_grad_hess(margins, labels),
                     softmax_grad_hess(margins.astype(np.float32), labels))  # fmt: skip


# special values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [4, 40])
@dtypes
def test_special_values(dtype, n_classes):
    margins, labels, _ = some_rows(9, n_classes, dtype)
    labels[:] = 2
    before = softmax_grad_hess(margins, labels)
    special = {1: nan, 3: inf, 5: -inf}
    for i, value in special.items():
        margins[i, 1] = value
    margins[7], margins[8] = -inf, 3e38
    margins[8, 2:] = -3e38
    grad, hess = softmax_grad_hess(margins, labels)
    for i in (0, 2, 4, 6):
        assert_same_bits([grad[i], hess[i]], [part[i] for part in before])
    for i in (1, 3, 7):
        assert np.isnan(grad[i]).all()
        assert np.isnan(hess[i]).all()
    assert grad[5, 1] == hess[5, 1] == 0
    assert np.isfinite(grad[5]).all()
    assert_array_equal(grad[8, :4], [0.5, 0.5, -1, 0])
    assert_array_equal(hess[8, :4], [0.25, 0.25, 0, 0])
    grad, hess = softmax_grad_hess(margins, np.full(9, 1), hessian="xgboost")
    assert grad[5, 1] == -1
    assert hess[5, 1] == dtype.type(1e-16)
    assert np.isnan(hess[1]).all()


@dtypes
def test_special_numbers(dtype):
    x = np.array([nan, inf, -inf, inf, -inf, 3e38, 1], dtype)
    grad, hess = sigmoid_grad_hess(x, np.array([0, 0, 0, 1, 1, 0, 0.5], dtype))
    assert_array_equal(grad[:-1], [nan, 1, 0, 0, -1, 1])
    assert_array_equal(hess[:-1], [nan, 0, 0, 0, 0, 0])


@dtypes
def test_a_single_class(dtype):
    margins = np.array([[-200.0], [0], [nan]], dtype)
    for hessian, expected in [("exact", 0), ("xgboost", dtype.type(1e-16)), ("lightgbm", 0)]:
        grad, hess = softmax_grad_hess(margins, [0, 0, 0], hessian=hessian)
        assert_array_equal(grad, [[0], [0], [nan]])
        assert not np.signbit(grad[:2]).any()
        assert_array_equal(hess, [[expected], [expected], [nan]])


@dtypes
def test_empty(dtype):
    for shape in [(0, 3), (0, 40), (0, 0)]:
        for layout in ("rows", "classes"):
            result = softmax_grad_hess(np.empty(shape, dtype), [], layout=layout)
            assert [(p.shape, p.dtype) for p in result] == [(shape, dtype)] * 2
    nothing = np.empty(0, dtype)
    for result in (softmax_grad_hess(nothing, nothing, layout="classes"),
                   sigmoid_grad_hess(nothing, nothing)):  # fmt: skip
        assert [(p.shape, p.dtype) for p in result] == [((0,), dtype)] * 2


def test_labels_that_change_meanwhile_cannot_harm():
    """The kernel checks them again: a bad one gives a row of NaN, and no write elsewhere."""
    from fastbp.cpu.run import serial
    from fastbp.ops.grad_hess import grad_hess_rows

    for n_classes in (3, 40):
        x = np.zeros((4, n_classes))
        grad, hess = np.zeros_like(x), np.zeros_like(x)
        for labels in (np.array([0, -1, 10**9, 1]), np.array([0, nan, 1e300, 1])):
            serial(grad_hess_rows, ("d", labels.dtype.char, True), 4,
                   x, labels, None, False, 1.0, 0.0, -inf, grad, hess)  # fmt: skip
            assert np.isnan(grad[1:3]).all()
            assert np.isfinite(grad[::3]).all()


# errors -------------------------------------------------------------------------------------------

M, L = np.eye(3, 2, dtype=np.float32), np.array([0.0, 1.0, 1.0], np.float32)
N = np.zeros(3, np.float32)

ERRORS = [
    (softmax_grad_hess, (M + 1j, L), {}, TypeError, "margins has dtype complex64"),
    (softmax_grad_hess, (M, L > 0), {}, TypeError, "labels has dtype bool; expected integers"),
    (softmax_grad_hess, (M, ["a"] * 3), {}, TypeError, "labels has dtype <U1"),
    (softmax_grad_hess, (M, L, None), {}, TypeError, "positional"),
    (softmax_grad_hess, (M, L), {"sample_weight": L * 1j}, TypeError, "sample_weight has dtype c"),
    (softmax_grad_hess, (M, [[0], [1], [1]]), {}, ValueError, r"labels has shape \(3, 1\)"),
    (softmax_grad_hess, (M, L[:2]), {}, ValueError, r"labels has shape \(2,\); expected \(3,\)"),
    (softmax_grad_hess, (M, L[:2]), {"layout": "classes"}, ValueError, r"expected \(3,\)"),
    (softmax_grad_hess, (M[:, 0], L), {}, ValueError, r'shape \(3,\); .* layout="classes"'),
    (softmax_grad_hess, (M[None], L), {}, ValueError, r"margins has shape \(1, 3, 2\); expected"),
    (softmax_grad_hess, (M[:2].ravel(), L), {"layout": "classes"}, ValueError, "4; .* of 3"),
    (softmax_grad_hess, (N, []), {"layout": "classes"}, ValueError, "3; .* of 0"),
    (softmax_grad_hess, (N[:0], L), {"layout": "classes"}, ValueError, "at least one class"),
    (softmax_grad_hess, (M[:, :0], L), {}, ValueError, r"\(3, 0\); expected at least one class"),
    (softmax_grad_hess, (M, L), {"hessian": "full"}, ValueError, "'full'; .*'exact', 'xgboost'"),
    (softmax_grad_hess, (M, L), {"layout": "C"}, ValueError, "'C'; .*'rows', 'classes'"),
    (softmax_grad_hess, (M, L), {"sample_weight": M}, ValueError, r"\(3, 2\); expected \(3,\)"),
    (softmax_grad_hess, (M, L), {"sample_weight": 2.0}, ValueError, r"\(\); expected \(3,\)"),
    (softmax_grad_hess, (M, [0, 0.5, 7]), {}, ValueError, "0.5 at row 1; expected whole numbers"),
    (softmax_grad_hess, (M, [0, 0, nan]), {}, ValueError, "nan at row 2"),
    (softmax_grad_hess, (M, [0, inf, 0]), {}, ValueError, "inf at row 1"),
    (softmax_grad_hess, (M, [0, 2, -1]), {}, IndexError, "label 2 at row 1; expected 0 to 1"),
    (softmax_grad_hess, (M, [-1.0, 0, 0]), {}, IndexError, "label -1 at row 0; expected 0 to 1"),
    (softmax_grad_hess, (M, [0, 1e30, 0]), {}, IndexError, r"label 1e\+30 at row 1; expected 0"),
    (softmax_grad_hess, (M, np.uint64([0, 0, 2**64 - 1])), {}, IndexError, f"{2**64 - 1} at row 2"),
    (softmax_grad_hess, (M.T.ravel(), [0, 9, 0]), {"layout": "classes"}, IndexError, "9 at row 1"),
    (sigmoid_grad_hess, (N + 1j, L), {}, TypeError, "margins has dtype complex64"),
    (sigmoid_grad_hess, (N, ["a"] * 3), {}, TypeError, "labels has dtype <U1"),
    (sigmoid_grad_hess, (N, L[:2]), {}, ValueError, r"labels has shape \(2,\); expected \(3,\)"),
    (sigmoid_grad_hess, (N, L), {"sample_weight": M}, ValueError, r"sample_weight .* \(3, 2\)"),
    (sigmoid_grad_hess, (N, [0, 1, -1]), {}, ValueError, "labels has -1.0 at 2; expected 0 to 1"),
    (sigmoid_grad_hess, (N, [0, 1 + 1e-12, 2]), {}, ValueError, "1.000000000001 at 1"),
    (sigmoid_grad_hess, (N, [nan, 1, 1]), {}, ValueError, "nan at 0"),
    (sigmoid_grad_hess, (M, M + 2 * M[:, ::-1]), {}, ValueError, r"2.0 at \(0, 1\)"),
    (sigmoid_grad_hess, (0.0, 7.0), {}, ValueError, "labels has 7.0; expected 0 to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "args", "options", "exception", "message"), ERRORS)
def test_errors_say_what_came_and_leave_arguments_alone(
    function, args, options, exception, message
):
    given = [a for a in (*args, *options.values()) if isinstance(a, np.ndarray)]
    before = [a.copy() for a in given]
    with pytest.raises(exception, match=message) as caught:
        function(*args, **options)
    assert type(caught.value) is exception
    assert len(str(caught.value).splitlines()) == 1
    for now, then in zip(given, before, strict=True):
        assert_array_equal(now, then)


def test_arguments_are_never_written_to():
    margins, labels, weights = some_rows(40, 5, DTYPES[0])
    given = [margins, labels.astype(np.float32), weights, np.asfortranarray(margins)]
    for array in given:
        array.flags.writeable = False
    for x in (margins, given[3]):
        softmax_grad_hess(x, given[1], sample_weight=weights)
    sigmoid_grad_hess(weights, np.clip(weights, 0, 1), sample_weight=weights)
