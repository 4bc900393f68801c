"""The reference's softmax cross-entropy, with all its options and its linear layer."""

import itertools

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import (
    CLASS_WEIGHT,
    F64_MAX,
    LABELS,
    LOG2,
    LONG,
    NANS,
    PROBABILITIES,
    SAMPLE_WEIGHT,
    SPECIAL,
    X,
    assert_gradient,
    exact,
    exact_logsumexp,
    exact_softmax,
    inf,
    nan,
    precisions,
    rows,
    ulps,
)

from fastbp import reference as ref

# --- 1. mpmath ----------------------------------------------------------------------------------


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


def exact_rows_loss(row, u, z, softcap, temperature):
    """Loss and gradient of sum_c u_c (lse - y_c) + z lse^2, and the scales of their errors.

    The scale of a sum is its largest term, as each term is computed by itself.
    """
    x = exact(row)
    tanh = [0] * len(x) if softcap is None else [mpmath.tanh(v / softcap) for v in x]
    y = x if softcap is None else [softcap * v for v in tanh]
    y = [v / temperature for v in y]
    lse = exact_logsumexp(y)
    p = exact_softmax([v - max(y) for v in y])
    total = mpmath.fsum(u)
    terms = [uc * (lse - yc) for uc, yc in zip(u, y, strict=True)]
    gradient, scales = [], []
    for pj, uj, slope in zip(p, u, [(1 - v * v) / temperature for v in tanh], strict=True):
        pull = 2 * z * lse * pj
        gradient.append(slope * (pj * total - uj + pull))
        scales.append(slope * max(pj * (total - uj), uj * (1 - pj), abs(pull)))
    of_lse = max(abs(max(y)), abs(lse - max(y)))
    loss_scale = max(mpmath.fsum(terms), abs(2 * z * lse * of_lse), z * lse**2)
    return mpmath.fsum(terms) + z * lse**2, gradient, loss_scale, scales, max(map(abs, y))


TRANSFORMS = [
    dict(zip(("z_loss", "softcap", "temperature"), values, strict=True))
    for values in itertools.product((0.0, 0.25), (None, 8.0), (1.0, 0.7, 4.0))
]


@rows
@precisions
@pytest.mark.parametrize("options", TRANSFORMS, ids=repr)
def test_transformed_logits_against_mpmath(row, dtype, limit, options):
    z, softcap, temperature = (options[n] for n in ("z_loss", "softcap", "temperature"))
    label = len(row) // 2
    w = 0.5 + np.arange(len(row))
    loss, dlogits = ref.softmax_cross_entropy_with_grad(
        dtype(row), label, class_weight=w, sample_weight=3.0, label_smoothing=0.125,
        reduction="sum", **options,
    )  # fmt: skip
    n = len(row)
    u = [3 * mpmath.mpf(w[c]) * (0.875 * (c == label) + mpmath.mpf(0.125) / n) for c in range(n)]
    exact_loss, gradient, loss_scale, scales, largest = exact_rows_loss(
        row, u, mpmath.mpf(z) * 3 * mpmath.mpf(w[label]), softcap, mpmath.mpf(temperature)
    )
    # exp(d) has the absolute error of d.
    limit = 3 * limit + float(min(largest, 800)) * float(np.finfo(dtype).eps / np.spacing(1.0))
    assert ulps(loss, [exact_loss], [loss_scale or mpmath.mpf(1)]) <= limit
    assert ulps(dlogits, gradient, [v or mpmath.mpf(1) for v in scales]) <= limit


# --- 2. closed forms ----------------------------------------------------------------------------


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


SPARSE = (
    np.array([[[3, 1], [1, 1], [0, 2]], [[2, 2], [2, 0], [1, 3]]]),
    np.array([[[0.75, 0.25], [0.5, 0.25], [1.0, 0.0]], [[0.5, 0.5], [2.0, 0.5], [0.1, 0.2]]]),
)
EVERY_WEIGHT = {
    "class_weight": CLASS_WEIGHT, "sample_weight": SAMPLE_WEIGHT, "label_smoothing": 0.1
}  # fmt: skip
targets = pytest.mark.parametrize(
    "targets", [LABELS, PROBABILITIES, SPARSE], ids=["labels", "probabilities", "sparse"]
)


@targets
@pytest.mark.parametrize("weights", [{}, EVERY_WEIGHT], ids=["", "weights"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("transform", TRANSFORMS[1:], ids=repr)
def test_transformed_logits_by_differences(targets, weights, reduction, transform):
    options = {**weights, **transform, "reduction": reduction}
    if targets is LABELS:
        options["ignore_index"] = 2
    loss, dlogits = ref.softmax_cross_entropy_with_grad(X, targets, **options)
    assert_array_equal(loss, ref.softmax_cross_entropy(X, targets, **options))
    dloss = np.resize([2.0, -0.5, 3.0], np.shape(loss))
    assert_gradient(
        ref.softmax_cross_entropy_backward(dloss, X, targets, **options),
        lambda x: np.sum(dloss * ref.softmax_cross_entropy(x, targets, **options)),
        X,
    )
    ones = ref.softmax_cross_entropy_backward(np.ones_like(loss), X, targets, **options)
    assert_array_equal(ones, dlogits)


@targets
def test_what_z_loss_is_multiplied_with(targets):
    """class_weight[label] * sample_weight, but sample_weight alone with probabilities."""
    options = {**EVERY_WEIGHT, "softcap": 5.0, "temperature": 0.5}
    plain = ref.softmax_cross_entropy(X, targets, **options, reduction="none")
    loss = ref.softmax_cross_entropy(X, targets, **options, reduction="none", z_loss=0.25)
    lse = ref.logsumexp(5 * np.tanh(X / 5) / 0.5)
    weight = SAMPLE_WEIGHT * (CLASS_WEIGHT[LABELS] if targets is LABELS else 1)
    assert np.any(weight != SAMPLE_WEIGHT) == (targets is LABELS)
    assert_allclose(loss - plain, 0.25 * weight * lse**2, rtol=1e-12, atol=1e-12)
    # The denominator of the mean is the same.
    mean = ref.softmax_cross_entropy(X, targets, **options, z_loss=0.25)
    assert_allclose(mean, np.sum(loss) / np.sum(weight), rtol=1e-14)


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


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_transformed_logits_are_those_of_torch(kind, smoothing, transform):
    torch = pytest.importorskip("torch")
    z, softcap, temperature = (transform[n] for n in ("z_loss", "softcap", "temperature"))
    targets = LABELS if kind == "labels" else PROBABILITIES
    x = torch.tensor(X, requires_grad=True)
    y = x if softcap is None else softcap * torch.tanh(x / softcap)
    y = (y / temperature).reshape(-1, 4)
    t = torch.tensor(targets).reshape((-1,) if kind == "labels" else (-1, 4))
    weight = torch.tensor(CLASS_WEIGHT)
    expected = torch.nn.functional.cross_entropy(y, t, weight=weight, label_smoothing=smoothing)
    each = weight[t] if kind == "labels" else torch.ones(6, dtype=torch.float64)
    expected = expected + z * torch.sum(each * torch.logsumexp(y, 1) ** 2) / torch.sum(each)
    expected.backward()
    loss, dlogits = ref.softmax_cross_entropy_with_grad(
        X, targets, class_weight=CLASS_WEIGHT, label_smoothing=smoothing, **transform
    )
    assert_allclose(loss, expected.item(), rtol=1e-13)
    assert_allclose(dlogits, x.grad.numpy(), rtol=1e-11, atol=1e-14)


# --- 5. special values: the contract's table, row by row ------------------------------------------


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


# --- softcap, temperature, z_loss ----------------------------------------------------------------


def test_softcap_of_infinities():
    x = [[inf, 1.0, -inf], [-inf, -inf, -inf], [nan, 1.0, inf], [1e300, -1e300, 0.0]]
    loss, dlogits = ref.softmax_cross_entropy_with_grad(
        x, [1, 0, 0, 2], softcap=3.0, reduction="none"
    )
    capped = [3 * np.tanh(1 / 3), 3.0, -3.0]
    assert_allclose(loss[0], ref.logsumexp(capped) - capped[0], rtol=1e-15)
    assert_allclose(loss[1], np.log(3), rtol=1e-15)
    assert_allclose(loss[3], ref.logsumexp([3.0, 0.0, -3.0]), rtol=1e-15)
    assert_array_equal(np.isnan(loss), [False, False, True, False])
    assert_array_equal(dlogits[:2] == 0, [[True, False, True], [True, True, True]])
    assert_array_equal(dlogits[2], NANS)
    assert_array_equal(dlogits[3] == 0, [True, True, False])


def test_slopes_of_softcap_do_not_cancel():
    """1 - tanh^2 is 0 beyond 19 in float64."""
    _, dlogits = ref.softmax_cross_entropy_with_grad([300.0, 0.0], 1, softcap=2.0)
    slope = 1 - mpmath.tanh(150) ** 2
    p = 1 / (1 + mpmath.exp(-2))
    assert ulps(dlogits, [slope * p, -p]) <= 4


def test_temperatures_of_any_size():
    row = [F64_MAX, -F64_MAX, 0.0]
    exponents = [0.0, -2 * 1.7, -1.7]
    for label in range(3):
        loss, dlogits = ref.softmax_cross_entropy_with_grad(row, label, temperature=1e308)
        expected = ref.softmax_cross_entropy_with_grad(exponents, label)
        assert_allclose(loss, expected[0], rtol=1e-14)
        assert_allclose(dlogits * 1e308, expected[1], rtol=1e-14)
        loss, dlogits = ref.softmax_cross_entropy_with_grad(row, label, temperature=1e-300)
        assert loss == (0 if label == 0 else inf)
        assert_allclose(dlogits, 1e300 * (np.array([1, 0, 0]) - np.eye(3)[label]))
    with_z = ref.softmax_cross_entropy_with_grad(row, 0, temperature=1e-300, z_loss=0.1)
    assert_array_equal([with_z[0], *with_z[1]], [inf, inf, 0, 0])


def test_rows_without_a_softmax_have_no_z_loss():
    for x, _, _, lse in SPECIAL.values():
        loss, dlogits = ref.softmax_cross_entropy_with_grad([x, [0, 0, 0]], [0, 0], z_loss=0.5)
        exists = np.isfinite(lse)
        assert np.isnan(loss) == (not exists)
        assert_array_equal(np.isnan(dlogits), [[not exists] * 3, [False] * 3])


def test_rows_that_count_for_nothing_have_no_z_loss():
    x = [[F64_MAX, nan], [F64_MAX, 0.0], [1.0, 2.0]]
    options = {"ignore_index": 9, "sample_weight": [1, 0, 1], "z_loss": 0.5, "softcap": 4.0}
    for reduction in ("none", "sum", "mean"):
        loss, dlogits = ref.softmax_cross_entropy_with_grad(
            x, [9, 1, 1], reduction=reduction, **options
        )
        kept, kept_dlogits = ref.softmax_cross_entropy_with_grad(
            x[2], 1, reduction=reduction, z_loss=0.5, softcap=4.0
        )
        assert_array_equal(loss, [0, 0, kept] if reduction == "none" else kept)
        assert_array_equal(dlogits, [[0, 0], [0, 0], kept_dlogits])
    loss, dlogits = ref.softmax_cross_entropy_with_grad(
        x[2:] * 2, [1, 5], on_bad_label="nan", reduction="none", z_loss=0.5
    )
    assert_array_equal(np.isnan(loss), [False, True])
    assert_array_equal(np.isnan(dlogits), [[False] * 2, [True] * 2])
    loss, dlogits = ref.softmax_cross_entropy_with_grad(
        [[1.0]], [5], on_bad_label="ignore", z_loss=1
    )
    assert_array_equal([loss, dlogits[0, 0]], [nan, 0])


def test_a_single_class_pays_for_z_alone():
    loss, dlogits = ref.softmax_cross_entropy_with_grad([[3.0]], [0], z_loss=0.5, temperature=2.0)
    assert_array_equal([loss, dlogits[0, 0]], [0.5 * 1.5**2, 0.75])


# --- sparse probabilities ------------------------------------------------------------------------


def dense(sparse, n_classes):
    """The definition, one pair at a time."""
    indices, weights = np.asarray(sparse[0]), np.asarray(sparse[1])
    t = np.zeros((*indices.shape[:-1], n_classes))
    for place in np.ndindex(indices.shape):
        t[(*place[:-1], indices[place])] += weights[place]
    return t


@pytest.mark.parametrize("options", [*OPTIONS[::5], EVERY_WEIGHT | TRANSFORMS[-1]], ids=repr)
@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", [np.int8, np.uint64])
def test_sparse_probabilities_are_probabilities(options, axis, dtype):
    x, t = (np.moveaxis(a, -1, axis) for a in (X, dense(SPARSE, 4)))
    sparse = (SPARSE[0].astype(dtype), SPARSE[1])
    expected = ref.softmax_cross_entropy_with_grad(x, t, axis=axis, **options)
    actual = ref.softmax_cross_entropy_with_grad(x, sparse, axis=axis, **options)
    assert_array_equal(actual[0], expected[0])
    assert_array_equal(actual[1], expected[1])
    dloss = np.resize([2.0, -0.5, 3.0], np.shape(expected[0]))
    assert_array_equal(
        ref.softmax_cross_entropy_backward(dloss, x, sparse, axis=axis, **options),
        ref.softmax_cross_entropy_backward(dloss, x, t, axis=axis, **options),
    )


def test_no_pairs_at_all_are_probabilities_of_zero():
    for k in (0, 1):
        sparse = (np.zeros((2, 3, k), int), np.zeros((2, 3, k)))
        for smoothing in (0.0, 0.25):
            options = {"label_smoothing": smoothing, "z_loss": 0.5, "reduction": "none"}
            expected = ref.softmax_cross_entropy_with_grad(X, np.zeros(X.shape), **options)
            actual = ref.softmax_cross_entropy_with_grad(X, sparse, **options)
            assert_array_equal(actual[0], expected[0])
            assert_array_equal(actual[1], expected[1])
    # Not even of one class; and a single row, without any axis of rows.
    assert ref.softmax_cross_entropy(np.zeros((0, 0)), sparse_of([], (0, 2)), empty="zero") == 0
    assert_allclose(ref.softmax_cross_entropy([0.0, 0.0], ([1, 1], [0.5, 1.5])), 2 * LOG2)


def sparse_of(indices, shape=None):
    indices = np.reshape(indices, np.shape(indices) if shape is None else shape).astype(int)
    return indices, np.full(indices.shape, 0.5)


@pytest.mark.parametrize("bad", [3, -1, 2**40])
def test_bad_indices(bad):
    logits = LOGITS[[0, 1, 0]]
    sparse = sparse_of([[2, 1], [0, bad], [1, 1]])
    with pytest.raises(IndexError, match=rf"targets\[0\]\[1, 1\] is {bad}\b"):
        ref.softmax_cross_entropy(logits, sparse)
    weights = {"sample_weight": [1.0, 5.0, 2.0]}
    kept, kept_dlogits = ref.softmax_cross_entropy_with_grad(
        logits[[0, 2]], sparse_of([[2, 1], [1, 1]]), sample_weight=[1.0, 2.0], label_smoothing=0.1
    )
    for on_bad_label, value in (("nan", nan), ("ignore", 0)):
        loss, dlogits = ref.softmax_cross_entropy_with_grad(
            logits, sparse, on_bad_label=on_bad_label, label_smoothing=0.1, **weights
        )
        assert_array_equal(loss, nan if on_bad_label == "nan" else kept)
        assert_array_equal(dlogits, np.insert(kept_dlogits, 1, value, axis=0))
    # A weight of 0 makes a bad index no better.
    loss = ref.softmax_cross_entropy([1.0, 2.0], ([0, 2], [1.0, 0.0]), on_bad_label="nan")
    assert np.isnan(loss)


def test_which_tuples_are_sparse():
    """Only those of two, integers and then floats; all others are as numpy.asarray takes them."""
    x = [[1.0, 2.0], [4.0, 3.0]]
    for targets in ((0, 1), ((0.25, 0.75), (1.0, 0.0)), (np.array([0.5, 0.5]), [1.0, 0.0])):
        assert_array_equal(
            ref.softmax_cross_entropy(x, targets, reduction="none"),
            ref.softmax_cross_entropy(x, np.array(targets), reduction="none"),
        )
    pairs = ([[0], [1]], [[0.5], [1.0]])
    assert_array_equal(
        ref.softmax_cross_entropy(x, pairs, reduction="none"),
        ref.softmax_cross_entropy(x, [[0.5, 0.0], [0.0, 1.0]], reduction="none"),
    )
    with pytest.raises(ValueError, match="so prob"):
        ref.softmax_cross_entropy(x, list(pairs))


# --- linear cross-entropy ------------------------------------------------------------------------

FEATURES = np.random.default_rng(1).normal(0, 1, (2, 3, 5))
WEIGHT = np.random.default_rng(2).normal(0, 1, (5, 4))
BIAS = np.array([0.5, -1.0, 0.25, 0.0])


@targets
@pytest.mark.parametrize("layout", ["in_out", "out_in"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_linear_cross_entropy_by_differences(targets, layout, reduction):
    options = {**EVERY_WEIGHT, **TRANSFORMS[-1], "reduction": reduction, "weight_layout": layout}
    if targets is LABELS:
        options["ignore_index"] = 2
    weight = WEIGHT if layout == "in_out" else WEIGHT.T
    loss, gradients = ref.linear_cross_entropy_with_grad(FEATURES, weight, targets, BIAS, **options)
    assert_array_equal(loss, ref.linear_cross_entropy(FEATURES, weight, targets, BIAS, **options))
    assert np.shape(loss) == ((2, 3) if reduction == "none" else ())

    def f(x, w, b):
        return np.sum(ref.linear_cross_entropy(LONG(x), w, targets, b, **options))

    assert_gradient(gradients[0], lambda v: f(v, weight, BIAS), FEATURES)
    assert_gradient(gradients[1], lambda v: f(FEATURES, v, BIAS), weight)
    assert_gradient(gradients[2], lambda v: f(FEATURES, weight, v), BIAS)
    loss, (*_, nothing) = ref.linear_cross_entropy_with_grad(FEATURES, weight, targets, **options)
    assert nothing is None
    assert_allclose(np.sum(loss), f(FEATURES, weight, 0 * BIAS), rtol=1e-13)


def test_linear_cross_entropy_is_that_of_torch():
    torch = pytest.importorskip("torch")
    x, w, b = (torch.tensor(a, requires_grad=True) for a in (FEATURES, WEIGHT, BIAS))
    expected = torch.nn.functional.cross_entropy(
        (x @ w + b).reshape(6, 4), torch.tensor(LABELS).reshape(6), ignore_index=1
    )
    expected.backward()
    loss, gradients = ref.linear_cross_entropy_with_grad(
        FEATURES, WEIGHT, LABELS, BIAS, ignore_index=1
    )
    assert_allclose(loss, expected.item(), rtol=1e-13)
    for actual, tensor in zip(gradients, (x, w, b), strict=True):
        assert_allclose(actual, tensor.grad.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("label", [-100, 7])
def test_ignored_rows_of_linear_cross_entropy_are_not_read(label):
    x = FEATURES[0].copy()
    x[1] = [nan, inf, -inf, 1.0, 0.0]
    loss, (dx, *gradients) = ref.linear_cross_entropy_with_grad(
        x, WEIGHT, [3, label, 1], BIAS, ignore_index=-100, on_bad_label="ignore"
    )
    kept, (kept_dx, *kept_gradients) = ref.linear_cross_entropy_with_grad(
        x[[0, 2]], WEIGHT, [3, 1], BIAS
    )
    assert_allclose(loss, kept, rtol=1e-15)
    assert_allclose(dx, np.insert(kept_dx, 1, 0, axis=0), rtol=1e-15)
    for actual, expected in zip(gradients, kept_gradients, strict=True):
        assert_allclose(actual, expected, rtol=1e-14, atol=1e-15)


def test_linear_cross_entropy_reports_progress():
    calls = []
    for function in (ref.linear_cross_entropy, ref.linear_cross_entropy_with_grad):
        function(FEATURES, WEIGHT, LABELS, progress=lambda *done: calls.append(done))
    assert calls == [(6, 6), (6, 6)]


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message", "targets", "options"),
    [
        (ValueError, "z_loss", [0], {"z_loss": -0.1}),
        (ValueError, "z_loss", [0], {"z_loss": inf}),
        (ValueError, "z_loss", [0], {"z_loss": nan}),
        (TypeError, "z_loss", [0], {"z_loss": None}),
        (ValueError, "softcap", [0], {"softcap": 0.0}),
        (ValueError, "softcap", [0], {"softcap": inf}),
        (TypeError, "softcap", [0], {"softcap": "high"}),
        (ValueError, "temperature", [0], {"temperature": 0}),
        (ValueError, "temperature", [0], {"temperature": -1.0}),
        (ValueError, "temperature", [0], {"temperature": nan}),
        (TypeError, "temperature", [0], {"temperature": None}),
        (ValueError, "label_smoothing", [0], {"label_smoothing": nan}),
        (TypeError, "integer", [0], {"ignore_index": 0.5}),
        (ValueError, "ignore_index", [[0.5, 0.5]], {"ignore_index": 0}),
        (ValueError, "ignore_index", ([[0]], [[1.0]]), {"ignore_index": -100}),
        (ValueError, r"targets\[0\]", ([0], [1.0]), {}),
        (ValueError, r"targets\[0\]", ([[0], [1]], [[1.0], [1.0]]), {}),
        (ValueError, r"targets\[1\]", ([[0]], [[1.0, 2.0]]), {}),
        (ValueError, r"targets\[1\]", ([[0]], 1.0), {}),
        (ValueError, "so labels", ([[0]], [[1]]), {}),
        (ValueError, "so prob", ([[0.0]], [[1.0]]), {}),
        (TypeError, "dtype bool", [True], {}),
        (TypeError, "dtype complex", [[0j, 1j]], {}),
    ],
)
def test_errors(error, message, targets, options):
    calls = [
        lambda: ref.softmax_cross_entropy([[1.0, 2.0]], targets, **options),
        lambda: ref.softmax_cross_entropy_with_grad([[1.0, 2.0]], targets, **options),
        lambda: ref.softmax_cross_entropy_backward(1.0, [[1.0, 2.0]], targets, **options),
        lambda: ref.linear_cross_entropy([[1.0]], [[1.0, 2.0]], targets, **options),
        lambda: ref.linear_cross_entropy_with_grad([[1.0]], [[1.0, 2.0]], targets, **options),
    ]
    for call in calls:
        with pytest.raises(error, match=message):
            call()
