"""The reference's losses of elements and of probabilities, and what boosted trees ask for."""

import itertools

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import (
    DY,
    LABELS,
    LONG,
    PROBABILITIES,
    SAMPLE_WEIGHT,
    X,
    assert_gradient,
    exact,
    exact_softmax,
    inf,
    nan,
    needs_80_bits,
    precisions,
    rows,
    ulps,
)

from fastbp import reference as ref

reductions = pytest.mark.parametrize("reduction", ["none", "sum", "mean"])

# --- sigmoid cross-entropy ------------------------------------------------------------------------

HARD = (DY > 0).astype(int)
SOFT = ref.sigmoid(DY)
POS_WEIGHT = np.array([0.5, 3.0, 1.0, 0.0])  # of the columns
OF_ELEMENTS = np.resize([1.0, 0.25, 0.0, 2.0, 3.0], X.shape)
AT = [0, 1e-4, 0.5, 1, 2, 17, 37, 40, 100, 700, 740, 745, 1e-300, 5e-324]


def shape_of(weight):
    return "None" if weight is None else str(np.shape(weight))


def exact_sigmoid_terms(x):
    """-log sigmoid(x), -log sigmoid(-x), sigmoid(x), sigmoid(-x)."""
    z = mpmath.exp(-abs(mpmath.mpf(x)))
    log, large, small = mpmath.log1p(z), 1 / (1 + z), z / (1 + z)
    if x < 0:
        return log - x, log, small, large
    return log, log + x, large, small


@precisions
@pytest.mark.parametrize("x", [*AT, *(-v for v in AT)])
def test_sigmoid_cross_entropy_against_mpmath(x, dtype, limit):
    positive, negative, s, rest = exact_sigmoid_terms(x)
    for t in (0, 1, 0.25, 0.9375, 2.0**-60):
        for pos_weight, weight in ((None, None), (2.5, 0.75)):
            a = t * (pos_weight or 1) * (weight or 1)
            b = (1 - mpmath.mpf(t)) * (weight or 1)
            loss, dlogits = ref.sigmoid_cross_entropy_with_grad(
                dtype(x), t, pos_weight=pos_weight, sample_weight=weight, reduction="sum"
            )
            assert ulps(loss, [a * positive + b * negative]) <= 2 * limit
            scale = max(b * s, a * rest)  # the gradient's larger term
            assert ulps(dlogits, [b * s - a * rest], [scale]) <= 2 * limit


@pytest.mark.parametrize("margin", [1, 16, 17, 20, 37, 40, 100, 700])
def test_two_classes_of_softmax_are_one_sigmoid(margin):
    """Confident elements keep their digits: 1 - sigmoid(17) is 0 in float32."""
    softmax = ref.softmax_cross_entropy_with_grad([[0.0, margin]] * 2, [0, 1], reduction="none")
    loss, dlogits = ref.sigmoid_cross_entropy_with_grad([margin] * 2, [0, 1], reduction="none")
    assert_allclose(loss, softmax[0], rtol=1e-15)
    assert_allclose(dlogits, softmax[1][:, 1], rtol=1e-15)
    loss, dlogits = ref.sigmoid_cross_entropy_with_grad([-margin] * 2, [1, 0], reduction="none")
    assert_allclose(loss, softmax[0], rtol=1e-15)
    assert_allclose(dlogits, -softmax[1][:, 1], rtol=1e-15)


@reductions
@pytest.mark.parametrize("targets", [HARD, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("pos_weight", [None, 2.0, POS_WEIGHT, np.abs(DY)], ids=shape_of)
@pytest.mark.parametrize(
    "sample_weight", [None, 0.5, SAMPLE_WEIGHT[..., None], OF_ELEMENTS], ids=shape_of
)
def test_sigmoid_cross_entropy_by_differences(targets, pos_weight, sample_weight, reduction):
    options = {"pos_weight": pos_weight, "sample_weight": sample_weight, "reduction": reduction}
    loss, dlogits = ref.sigmoid_cross_entropy_with_grad(X, targets, **options)
    assert_array_equal(loss, ref.sigmoid_cross_entropy(X, targets, **options))
    assert np.shape(loss) == (X.shape if reduction == "none" else ())
    assert_gradient(dlogits, lambda x: np.sum(ref.sigmoid_cross_entropy(x, targets, **options)), X)
    dloss = np.resize([2.0, -0.5, 3.0], np.shape(loss))
    assert_gradient(
        ref.sigmoid_cross_entropy_backward(dloss, X, targets, **options),
        lambda x: np.sum(dloss * ref.sigmoid_cross_entropy(x, targets, **options)),
        X,
    )


@reductions
@pytest.mark.parametrize("targets", [HARD, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("pos_weight", [None, POS_WEIGHT], ids=["", "pos_weight"])
@pytest.mark.parametrize("sample_weight", [None, OF_ELEMENTS], ids=["", "sample_weight"])
def test_sigmoid_cross_entropy_is_that_of_torch(targets, pos_weight, sample_weight, reduction):
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    weights = [None if w is None else torch.tensor(w) for w in (sample_weight, pos_weight)]
    # With weights, torch divides by the number of elements.
    count = 1 if sample_weight is None else X.size / np.sum(sample_weight)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        x,
        torch.tensor(targets, dtype=torch.float64),
        weight=weights[0],
        pos_weight=weights[1],
        reduction=reduction,
    ) * (count if reduction == "mean" else 1)
    expected.sum().backward()
    loss, dlogits = ref.sigmoid_cross_entropy_with_grad(
        X, targets, pos_weight=pos_weight, sample_weight=sample_weight, reduction=reduction
    )
    assert_allclose(loss, expected.detach().numpy(), rtol=1e-12, atol=1e-15)
    assert_allclose(dlogits, x.grad.numpy(), rtol=1e-11, atol=1e-14)


def test_targets_of_any_kind_are_numbers():
    expected = ref.sigmoid_cross_entropy_with_grad(X, HARD.astype(float))
    for dtype in (bool, np.int8, np.uint64, np.float16):
        actual = ref.sigmoid_cross_entropy_with_grad(X, HARD.astype(dtype))
        assert_array_equal(actual[0], expected[0])
        assert_array_equal(actual[1], expected[1])


@pytest.mark.parametrize(
    ("x", "t", "loss", "gradient"),
    [
        (-inf, 0, 0, 0),
        (inf, 1, 0, 0),
        (-inf, 1, inf, -1),
        (inf, 0, inf, 1),
        (inf, 0.5, inf, 0.5),
        (-inf, 0.25, inf, -0.25),
        (nan, 0, nan, nan),
        (nan, 1, nan, nan),
        (1.7e308, 0, 1.7e308, 1),
        (1.7e308, 1, 0, 0),
        (-1.7e308, 1, 1.7e308, -1),
        (-1.7e308, 0, 0, 0),
        (0.0, nan, nan, nan),
    ],
)
def test_special_logits_of_sigmoids(x, t, loss, gradient):
    actual = ref.sigmoid_cross_entropy_with_grad([x, 0.0], [t, 1], reduction="none")
    assert_array_equal(actual[0], [loss, np.log(2)])
    assert_array_equal(actual[1], [gradient, -0.5])
    assert np.isnan(loss) or not np.signbit(actual[0][0])
    # A weight of 0 takes an infinite loss away, but not a NaN.
    nothing = ref.sigmoid_cross_entropy_with_grad([x], [t], sample_weight=0, reduction="sum")
    assert_array_equal(nothing[0], nan if np.isnan(loss) else 0)
    assert_array_equal(nothing[1], nan if np.isnan(loss) else 0)


def test_terms_of_weight_0_cost_nothing():
    """What pos_weight is 0 for, and what sample_weight is: never 0 * inf."""
    x, t = [-inf, inf, -inf, inf, -3.0], [1, 1, 0.5, 0.5, 1]
    loss, dlogits = ref.sigmoid_cross_entropy_with_grad(x, t, pos_weight=0, reduction="none")
    assert_array_equal(loss, [0, 0, 0, inf, 0])
    assert_array_equal(dlogits, [0, 0, 0, 0.5, 0])
    x, t, weight = [-inf, inf, 0.0, 5.0], [1, 0, 1, 0], [0, 0, 1, 0]
    loss, dlogits = ref.sigmoid_cross_entropy_with_grad(x, t, sample_weight=weight)
    assert loss == np.log(2)
    assert_array_equal(dlogits, [0, 0, -0.5, 0])


@pytest.mark.parametrize("shape", [(0,), (3, 0), (2, 2)])
def test_empty_means_of_elements(shape):
    for empty, expected in (("nan", nan), ("zero", 0)):
        options = {"sample_weight": 0.0, "empty": empty}
        loss, dlogits = ref.sigmoid_cross_entropy_with_grad(
            np.ones(shape), np.ones(shape), **options
        )
        assert_array_equal(loss, expected)
        assert_array_equal(dlogits, np.zeros(shape))
        loss = ref.sigmoid_cross_entropy(np.full((2,), nan), [0, 1], **options)
        assert_array_equal(loss, nan)
    for reduction, expected in (("sum", 0), ("none", np.zeros((3, 0)))):
        loss = ref.sigmoid_cross_entropy(np.zeros((3, 0)), np.zeros((3, 0)), reduction=reduction)
        assert_array_equal(loss, expected)


# --- cross-entropy of probabilities -------------------------------------------------------------

P = np.array(
    [
        0.5,
        0.1,
        0.25 + 2.0**-50,
        1e-300,
        5e-324,
        1 - 2.0**-53,
        2.0**-53,
        0.3,
        0.9,
        2.0**-30,
        1 - 2.0**-30,
    ]
)
T = np.array([0, 1, 0.25, 0.3, 1 - 2.0**-53, 2.0**-60])


@precisions
def test_binary_cross_entropy_against_mpmath(dtype, limit):
    for p, t in itertools.product(P, T):
        a, b = exact(np.array([p, t]))
        loss = ref.binary_cross_entropy(dtype(p), t)
        assert ulps(loss, [-b * mpmath.log(a) - (1 - b) * mpmath.log1p(-a)]) <= limit
        gradient = (1 - b) / (1 - a) - b / a
        if abs(gradient) < 1e308:
            dprobs = ref.binary_cross_entropy_backward(1, dtype(p), t)
            assert ulps(dprobs, [gradient]) <= 2 * limit


@reductions
def test_binary_cross_entropy_by_differences(reduction):
    p = 0.05 + 0.9 * ref.sigmoid(X)
    for t in (HARD, SOFT, HARD.astype(bool)):
        loss = ref.binary_cross_entropy(p, t, reduction=reduction)
        dloss = np.resize([2.0, -0.5, 3.0], np.shape(loss))
        assert_gradient(
            ref.binary_cross_entropy_backward(dloss, p, t, reduction=reduction),
            lambda p, t=t, d=dloss: np.sum(d * ref.binary_cross_entropy(p, t, reduction=reduction)),
            p,
            h=2.0**-14,
        )


@reductions
def test_binary_cross_entropy_is_that_of_torch(reduction):
    torch = pytest.importorskip("torch")
    for t in (HARD, SOFT):
        p = torch.tensor(ref.sigmoid(X), requires_grad=True)
        expected = torch.nn.functional.binary_cross_entropy(
            p, torch.tensor(t, dtype=torch.float64), reduction=reduction
        )
        expected.sum().backward()
        loss = ref.binary_cross_entropy(ref.sigmoid(X), t, reduction=reduction)
        dprobs = ref.binary_cross_entropy_backward(
            np.ones(np.shape(loss)), ref.sigmoid(X), t, reduction=reduction
        )
        assert_allclose(loss, expected.detach().numpy(), rtol=1e-13)
        assert_allclose(dprobs, p.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("p", "t", "loss", "gradient"),
    [
        (0, 0, 0, 1),
        (1, 1, 0, -1),
        (0, 1, inf, -inf),
        (1, 0, inf, inf),
        (0, 0.5, inf, -inf),
        (1, 0.5, inf, inf),
        (-0.0, 0, 0, 1),
        (-0.0, 1, inf, -inf),
        (nan, 0, nan, nan),
        (nan, 1, nan, nan),
        (0.5, nan, nan, nan),
    ],
)
def test_certain_probabilities_are_not_clamped(p, t, loss, gradient):
    actual = ref.binary_cross_entropy([p, 0.5], [t, 1], reduction="none")
    assert_array_equal(actual, [loss, np.log(2)])
    assert not np.signbit(actual[0])
    dprobs = ref.binary_cross_entropy_backward([1, 1], [p, 0.5], [t, 1], reduction="none")
    assert_array_equal(dprobs, [gradient, -2])


@pytest.mark.parametrize("p", [-0.5, 1.5, -inf, inf])
def test_what_is_no_probability_has_no_binary_cross_entropy(p):
    assert_array_equal(ref.binary_cross_entropy([p] * 3, [0, 1, 0.5], reduction="none"), [nan] * 3)


@reductions
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_cross_entropy_by_differences(axis, reduction):
    p = np.moveaxis(0.05 + ref.softmax(X), -1, axis)
    for t in (LABELS, np.moveaxis(PROBABILITIES, -1, axis)):
        loss = ref.cross_entropy(p, t, axis=axis, reduction=reduction)
        assert np.shape(loss) == ((2, 3) if reduction == "none" else ())
        dloss = np.resize([2.0, -0.5, 3.0], np.shape(loss))

        def f(p, t=t, dloss=dloss):
            return np.sum(dloss * ref.cross_entropy(p, t, axis=axis, reduction=reduction))

        dprobs = ref.cross_entropy_backward(dloss, p, t, axis=axis, reduction=reduction)
        assert_gradient(dprobs, f, p, h=2.0**-14)


@reductions
def test_cross_entropy_is_that_of_torch(reduction):
    torch = pytest.importorskip("torch")
    p = torch.tensor(ref.softmax(X), requires_grad=True)
    log = torch.moveaxis(torch.log(p), -1, 1)
    expected = torch.nn.functional.nll_loss(log, torch.tensor(LABELS), reduction=reduction)
    expected.sum().backward()
    loss = ref.cross_entropy(ref.softmax(X), LABELS, reduction=reduction)
    ones = np.ones(np.shape(loss))
    dprobs = ref.cross_entropy_backward(ones, ref.softmax(X), LABELS, reduction=reduction)
    assert_allclose(loss, expected.detach().numpy(), rtol=1e-12)
    assert_allclose(dprobs, p.grad.numpy(), rtol=1e-13)
    one_hot = np.eye(4)[LABELS]
    same = ref.cross_entropy(ref.softmax(X), one_hot, reduction=reduction)
    assert_array_equal(same, loss)
    same = ref.cross_entropy_backward(ones, ref.softmax(X), one_hot, reduction=reduction)
    assert_array_equal(same, dprobs)


@rows
@precisions
def test_cross_entropy_against_mpmath(row, dtype, limit):
    p = np.float64(ref.softmax(row))
    t = 0.5 + np.arange(len(p))
    p[0], t[0] = (0, 0) if len(p) > 1 else (0.75, 1)
    terms = [-b * mpmath.log(a) for a, b in zip(exact(p), exact(t), strict=True) if b]
    finite = all(mpmath.isfinite(v) for v in terms)
    loss = ref.cross_entropy(dtype(p), t)
    assert finite == np.isfinite(loss)
    if finite:
        scale = mpmath.fsum(abs(v) for v in terms)
        assert ulps(loss, [mpmath.fsum(terms)], [scale or mpmath.mpf(1)]) <= limit


def test_composition_with_softmax_is_softmax_cross_entropy():
    p = ref.softmax(X)
    for t in (LABELS, PROBABILITIES):
        loss, dlogits = ref.softmax_cross_entropy_with_grad(X, t)
        assert_allclose(ref.cross_entropy(p, t), loss, rtol=1e-13)
        dprobs = ref.cross_entropy_backward(1.0, p, t)
        assert_allclose(ref.softmax_backward(dprobs, p), dlogits, rtol=1e-11, atol=1e-15)


def test_cross_entropy_of_special_probabilities():
    p = [[0.0, 1.0], [1.0, 0.0], [0.5, nan], [-0.0, 0.5], [5e-324, 0.25]]
    loss = ref.cross_entropy(p, [0, 0, 0, 1, 1], reduction="none")
    assert_array_equal(loss, [inf, 0, np.log(2), np.log(2), np.log(4)])
    assert not np.signbit(loss[1])
    ones = np.ones(5)
    dprobs = ref.cross_entropy_backward(ones, p, [0, 0, 0, 1, 1], reduction="none")
    assert_array_equal(dprobs, [[-inf, 0], [-1, 0], [-2, 0], [0, -2], [0, -4]])
    assert not np.any(np.signbit(dprobs[dprobs == 0]))
    assert_array_equal(ref.cross_entropy_backward(1.0, [-0.0, 1.0], 0), [-inf, 0])
    t = [[0.0, 0.5], [2.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    loss = ref.cross_entropy(p, t, reduction="none")
    assert_array_equal(loss, [0, 0, nan, 0, np.log(4)])
    dprobs = ref.cross_entropy_backward(ones, p, t, reduction="none")
    assert_array_equal(dprobs, [[0, -0.5], [-2, 0], [-2, 0], [0, 0], [0, -4]])


def test_no_probabilities():
    for f in (ref.binary_cross_entropy, ref.squared_error):
        assert_array_equal(f(np.zeros((0, 2)), np.zeros((0, 2))), nan)
        assert_array_equal(f(np.zeros((0, 2)), np.zeros((0, 2)), reduction="sum"), 0)
    assert_array_equal(ref.cross_entropy(np.zeros((0, 3)), np.zeros(0, int)), nan)
    assert ref.cross_entropy(np.zeros((0, 3)), np.zeros(0, int), reduction="none").shape == (0,)
    assert ref.cross_entropy_backward(1.0, np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
    with pytest.raises(ValueError, match="no classes"):
        ref.cross_entropy(np.zeros((3, 0)), np.zeros(3, int))


# --- squared error ------------------------------------------------------------------------------


@reductions
@pytest.mark.parametrize("half", [False, True])
def test_squared_error(half, reduction):
    torch = pytest.importorskip("torch")
    options = {"half": half, "reduction": reduction}
    loss, dpred = ref.squared_error_with_grad(X, DY, **options)
    pred = torch.tensor(X, requires_grad=True)
    factor = 0.5 if half else 1.0
    expected = factor * torch.nn.functional.mse_loss(pred, torch.tensor(DY), reduction=reduction)
    expected.sum().backward()
    assert_allclose(loss, expected.detach().numpy(), rtol=1e-14)
    assert_allclose(dpred, pred.grad.numpy(), rtol=1e-14)
    assert_array_equal(ref.squared_error(X, DY, **options), loss)
    dloss = np.resize([2.0, -0.5, 3.0], np.shape(loss))
    assert_gradient(
        ref.squared_error_backward(dloss, X, DY, **options),
        lambda x: np.sum(dloss * ref.squared_error(x, DY, **options)),
        X,
    )


def test_squared_error_of_special_values():
    pred, target = [inf, inf, nan, 1e200, 1.5e154, 2.0], [0.0, inf, 0.0, 0.0, 0.0, True]
    loss, dpred = ref.squared_error_with_grad(pred, target, reduction="none")
    assert_array_equal(loss, [inf, nan, nan, inf, inf, 1])
    assert_array_equal(dpred, [inf, nan, nan, 2e200, 3e154, 2])
    loss, dpred = ref.squared_error_with_grad(pred, target, half=True, reduction="none")
    assert_allclose(loss, [inf, nan, nan, inf, 1.125e308, 0.5], rtol=1e-15)
    assert_array_equal(dpred, [inf, nan, nan, 1e200, 1.5e154, 1])


# --- gradients and Hessians for boosted trees -----------------------------------------------------

MARGINS = X.reshape(6, 4)
CLASSES = LABELS.reshape(6)
HESSIANS = {
    "exact": lambda h: h,
    "xgboost": lambda h: np.maximum(2 * h, 1e-16),
    "lightgbm": lambda h: 4 / 3 * h,
}


def second_differences(f, x):
    """The diagonal of the scalar f's Hessian at x, in long double, O(h^4)."""
    diagonal = np.zeros(x.shape, LONG)
    h = LONG(1) / 512
    for i in np.ndindex(x.shape):
        step = np.zeros(x.shape, LONG)
        step[i] = h
        near, far = (f(x + k * step) + f(x - k * step) for k in (1, 2))
        diagonal[i] = (16 * near - far - 30 * f(LONG(x))) / (12 * h * h)
    return diagonal


@needs_80_bits
@pytest.mark.parametrize("weight", [None, np.array([1.0, 0.5, 2.0, 0.0, 3.0, 0.25])])
@pytest.mark.parametrize("hessian", HESSIANS)
def test_grad_hess_by_differences(hessian, weight):
    def f(x):
        return ref.softmax_cross_entropy(x, CLASSES, sample_weight=weight, reduction="sum")

    for labels in (CLASSES, CLASSES.astype(np.float32), CLASSES.astype(np.uint8)):
        grad, hess = ref.softmax_cross_entropy_grad_hess(
            MARGINS, labels, sample_weight=weight, hessian=hessian
        )
        assert_gradient(grad, f, MARGINS)
        expected = HESSIANS[hessian](second_differences(f, MARGINS))
        assert_allclose(hess, np.float64(expected), rtol=1e-7, atol=1e-9)


@needs_80_bits
def test_grad_hess_of_sigmoids_by_differences():
    for labels, weight in itertools.product((HARD, SOFT), (1.0, SAMPLE_WEIGHT[..., None])):

        def f(x, labels=labels, weight=weight):
            return ref.sigmoid_cross_entropy(x, labels, sample_weight=weight, reduction="sum")

        grad, hess = ref.sigmoid_cross_entropy_grad_hess(X, labels, sample_weight=weight)
        assert_gradient(grad, f, X)
        assert_allclose(hess, np.float64(second_differences(f, X)), rtol=1e-7, atol=1e-9)


@rows
@precisions
def test_grad_hess_against_mpmath(row, dtype, limit):
    p = exact_softmax([v - max(exact(row)) for v in exact(row)])
    h = [3 * v * (1 - v) for v in p]
    for label in range(len(row)):
        grad, hess = ref.softmax_cross_entropy_grad_hess(
            dtype(row)[None], [label], sample_weight=[3.0]
        )
        assert ulps(grad, [3 * (p[j] - (j == label)) for j in range(len(row))]) <= 2 * limit
        assert ulps(hess, h) <= 2 * limit


@precisions
@pytest.mark.parametrize("x", [*AT, *(-v for v in AT)])
def test_grad_hess_of_sigmoids_against_mpmath(x, dtype, limit):
    _, _, s, rest = exact_sigmoid_terms(x)
    grad, hess = ref.sigmoid_cross_entropy_grad_hess(dtype([x, x]), [0, 1], sample_weight=3)
    assert ulps(grad, [3 * s, -3 * rest]) <= 2 * limit
    assert ulps(hess, [3 * s * rest] * 2) <= 2 * limit


@pytest.mark.parametrize("hessian", HESSIANS)
def test_layouts_of_margins(hessian):
    weight = np.arange(6.0)
    grad, hess = ref.softmax_cross_entropy_grad_hess(
        MARGINS, CLASSES, sample_weight=weight, hessian=hessian
    )
    flat = ref.softmax_cross_entropy_grad_hess(
        MARGINS.T.ravel(), CLASSES, sample_weight=weight, hessian=hessian, layout="classes"
    )
    for i, c in itertools.product(range(6), range(4)):
        assert flat[0][c * 6 + i] == grad[i, c]
        assert flat[1][c * 6 + i] == hess[i, c]
    for shape, layout in (((0, 4), "rows"), ((0, 0), "rows"), ((0,), "classes")):
        nothing = ref.softmax_cross_entropy_grad_hess(np.zeros(shape), [], layout=layout)
        assert [a.shape for a in nothing] == [shape, shape]


def test_special_margins():
    x = [[1.0, nan], [inf, 1.0], [-inf, -inf], [-inf, 1.0], [-200.0, -200.0], [3e38, -3e38]]
    for hessian, floor in (("exact", 0), ("xgboost", 1e-16), ("lightgbm", 0)):
        grad, hess = ref.softmax_cross_entropy_grad_hess(x, [0] * 6, hessian=hessian)
        assert_array_equal(grad[:3], [[nan, nan]] * 3)
        assert_array_equal(hess[:3], [[nan, nan]] * 3)
        assert_array_equal(grad[3:], [[-1, 1], [-0.5, 0.5], [0, 0]])
        quarter = {"exact": 0.25, "xgboost": 0.5, "lightgbm": 0.5}[hessian]
        assert_array_equal(hess[3:], [[floor, floor], [quarter, quarter], [floor, floor]])
        grad, hess = ref.softmax_cross_entropy_grad_hess([[7.0]], [0], hessian=hessian)
        assert_array_equal([grad[0, 0], hess[0, 0]], [0, floor])
    grad, hess = ref.sigmoid_cross_entropy_grad_hess([inf, inf, -inf, -inf, nan], [1, 0, 1, 0, 0])
    assert_array_equal(grad, [0, 1, -1, 0, nan])
    assert_array_equal(hess, [0, 0, 0, 0, nan])


def boosting_data():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(200, 4))
    labels = np.int64(features[:, 0] + 0.5 * features[:, 1] > 0) + (features[:, 2] > 0.5)
    assert set(labels) == {0, 1, 2}
    return features, labels, rng.random(200) + 0.5


@pytest.mark.parametrize("n_classes", [2, 3])
def test_grad_hess_are_those_of_xgboost(n_classes):
    """Trees grown from them are those that XGBoost grows for its own objective."""
    xgboost = pytest.importorskip("xgboost")
    features, labels, weight = boosting_data()
    labels = np.minimum(labels, n_classes - 1)
    data = xgboost.DMatrix(features, label=labels, weight=weight)
    options = {
        "base_score": 0.0 if n_classes > 2 else 0.5, "max_depth": 3, "nthread": 1,
        "tree_method": "exact", "disable_default_eval_metric": True,
    }  # fmt: skip
    if n_classes > 2:
        options |= {"objective": "multi:softprob", "num_class": n_classes}
    else:
        options |= {"objective": "binary:logistic"}

    def objective(margins, data):
        given = {"sample_weight": data.get_weight()}
        if n_classes > 2:
            return ref.softmax_cross_entropy_grad_hess(
                margins, data.get_label(), hessian="xgboost", **given
            )
        return ref.sigmoid_cross_entropy_grad_hess(margins, data.get_label(), **given)

    models = (xgboost.train(options, data, 4), xgboost.train(options, data, 4, obj=objective))
    expected, actual = (model.predict(data, output_margin=True) for model in models)
    assert np.max(np.abs(expected)) > 0.5
    assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_grad_hess_are_those_of_lightgbm(n_classes):
    lightgbm = pytest.importorskip("lightgbm")
    features, labels, weight = boosting_data()
    labels = np.minimum(labels, n_classes - 1)
    options = {
        "boost_from_average": False, "deterministic": True, "min_data_in_leaf": 5, "num_leaves": 7,
        "num_threads": 1, "verbose": -1, "num_class": n_classes if n_classes > 2 else 1,
    }  # fmt: skip

    def objective(margins, data):
        given = {"sample_weight": data.get_weight()}
        if n_classes == 2:
            return ref.sigmoid_cross_entropy_grad_hess(margins, data.get_label(), **given)
        flat = ref.softmax_cross_entropy_grad_hess(
            margins.ravel("F"), data.get_label(), hessian="lightgbm", layout="classes", **given
        )
        return [a.reshape(margins.shape, order="F") for a in flat]

    expected, actual = (
        lightgbm.train(
            {**options, "objective": o}, lightgbm.Dataset(features, label=labels, weight=weight), 4
        ).predict(features, raw_score=True)
        for o in ("multiclass" if n_classes > 2 else "binary", objective)
    )
    assert np.max(np.abs(expected)) > 0.5
    assert_allclose(actual, expected, atol=1e-6)


# --- errors --------------------------------------------------------------------------------------

trees = ref.softmax_cross_entropy_grad_hess
MATRIX = [[1.0, 2.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "targets must have", lambda: ref.sigmoid_cross_entropy([1.0, 2.0], 0)),
        (ValueError, "pos_weight", lambda: ref.sigmoid_cross_entropy(1.0, 0, pos_weight=[1, 2])),
        (
            ValueError,
            "sample_w",
            lambda: ref.sigmoid_cross_entropy([1.0], [0], sample_weight=[[1]]),
        ),
        (ValueError, "reduction", lambda: ref.sigmoid_cross_entropy([1.0], [0], reduction="all")),
        (ValueError, "empty", lambda: ref.sigmoid_cross_entropy([1.0], [0], empty="none")),
        (ValueError, "dloss", lambda: ref.sigmoid_cross_entropy_backward([1.0], [1.0], [0])),
        (TypeError, "targets", lambda: ref.sigmoid_cross_entropy([1.0], ["0"])),
        (TypeError, "logits", lambda: ref.sigmoid_cross_entropy([1j], [0])),
        (TypeError, "sample_w", lambda: ref.sigmoid_cross_entropy([1.0], [0], sample_weight="1")),
        (ValueError, "targets", lambda: ref.binary_cross_entropy([0.5], [[1]])),
        (ValueError, "reduction", lambda: ref.binary_cross_entropy([0.5], [1], reduction=None)),
        (ValueError, "dloss", lambda: ref.binary_cross_entropy_backward([1.0], [0.5], [1])),
        (ValueError, "so labels", lambda: ref.cross_entropy(MATRIX, [[0], [1]])),
        (ValueError, "so prob", lambda: ref.cross_entropy(MATRIX, [0.5, 0.5])),
        (TypeError, "dtype bool", lambda: ref.cross_entropy(MATRIX, [True, False])),
        (IndexError, r"targets\[1\] is 2\b", lambda: ref.cross_entropy(MATRIX, [0, 2])),
        (IndexError, r"targets\[0\] is -1\b", lambda: ref.cross_entropy(MATRIX, [-1, 2])),
        (ValueError, "dloss", lambda: ref.cross_entropy_backward([1.0], MATRIX, [0, 1])),
        (ValueError, "target must", lambda: ref.squared_error([1.0], 1.0)),
        (ValueError, "dloss", lambda: ref.squared_error_backward([1.0], [1.0], [1.0])),
        (ValueError, "hessian", lambda: trees(MATRIX, [0, 1], hessian="diagonal")),
        (ValueError, "layout", lambda: trees(MATRIX, [0, 1], layout="columns")),
        (ValueError, "margins", lambda: trees([1.0, 2.0], [0, 1])),
        (ValueError, "margins", lambda: trees(MATRIX, [0, 1, 1])),
        (ValueError, "margins", lambda: trees([1.0, 2.0, 3.0], [0, 1], layout="classes")),
        (ValueError, "no classes", lambda: trees([], [0, 1], layout="classes")),
        (ValueError, "labels", lambda: trees(MATRIX, [[0], [1]])),
        (ValueError, "sample_weight", lambda: trees(MATRIX, [0, 1], sample_weight=[1.0])),
        (ValueError, r"labels\[1\] is 0.5: .* integral", lambda: trees(MATRIX, [0, 0.5])),
        (ValueError, r"labels\[0\] is nan: .* integral", lambda: trees(MATRIX, [nan, 0])),
        (ValueError, r"labels\[0\] is inf: .* integral", lambda: trees(MATRIX, [inf, 0])),
        (IndexError, r"labels\[1\] is 2\b", lambda: trees(MATRIX, [0, 2])),
        (IndexError, r"labels\[0\] is -1.0", lambda: trees(MATRIX, [-1.0, 0.5])),
        (IndexError, r"labels\[1\] is 1e\+300", lambda: trees(MATRIX, [0, 1e300])),
        (TypeError, "labels", lambda: trees(MATRIX, [True, False])),
        (
            ValueError,
            r"labels\[1\] is 2.0: .* \[0, 1\]",
            lambda: ref.sigmoid_cross_entropy_grad_hess([1.0, 1.0], [0, 2]),
        ),
        (ValueError, "labels", lambda: ref.sigmoid_cross_entropy_grad_hess([1.0], [nan])),
        (ValueError, "labels must have", lambda: ref.sigmoid_cross_entropy_grad_hess([1.0], 0)),
        (
            ValueError,
            "sample_weight",
            lambda: ref.sigmoid_cross_entropy_grad_hess([1.0], [0], sample_weight=[1, 2]),
        ),
    ],
)
def test_errors(error, message, call):
    with pytest.raises(error, match=message):
        call()
