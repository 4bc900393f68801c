"""linear_cross_entropy: the results of the reference, from blocks of rows.

What it shares with all operations is tested from the table, in test_operations.py; memory, and
errors, in test_linear_cross_entropy_blocks.py.
"""

import importlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastbp
from fastbp import reference

# The function of that name hides its module.
page = importlib.import_module("fastbp.ops.linear_cross_entropy")

nan = np.nan
IGNORED = -100
N_ROWS, N_IN, N_CLASSES = 23, 5, 11
FUNCTIONS = (fastbp.linear_cross_entropy, fastbp.linear_cross_entropy_with_grad)


@pytest.fixture(params=["one block", "blocks", "rows"])
def blocks(request, monkeypatch):
    """Everything at once; a few rows and columns at a time; one row and one column at a time."""
    row, column = N_CLASSES * 8, N_IN * 8
    sizes = {"one block": (1 << 20, 1 << 20), "blocks": (6 * row, 3 * column), "rows": (1, 1)}
    for name, size in zip(("BLOCK", "PANEL"), sizes[request.param], strict=True):
        monkeypatch.setattr(page, name, size)
    return request.param


def arrays(dtype=np.float64, seed=0, n_rows=N_ROWS):
    """x, weight (in, out), bias and labels."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_rows, N_IN)).astype(dtype)
    weight = rng.standard_normal((N_IN, N_CLASSES)).astype(dtype)
    bias = rng.standard_normal(N_CLASSES).astype(dtype)
    return x, weight, bias, rng.integers(N_CLASSES, size=n_rows)


def targets_of(kind, labels, dtype=np.float64):
    rng = np.random.default_rng(1)
    if kind == "probabilities":
        return rng.random((*labels.shape, N_CLASSES)).astype(dtype)
    if kind == "sparse":
        indices = rng.integers(N_CLASSES, size=(*labels.shape, 3))
        return indices, rng.random(indices.shape).astype(dtype)
    return labels


def weights(n_rows=N_ROWS):
    rng = np.random.default_rng(2)
    return {
        "class_weight": rng.uniform(0.2, 3, N_CLASSES),
        "sample_weight": rng.uniform(0.2, 3, n_rows),
    }


def assert_close(actual, expected, rtol):
    """(loss, (dx, dweight, dbias)), each beside its largest number; NaN where NaN is expected."""
    for a, e in zip((actual[0], *actual[1]), (expected[0], *expected[1]), strict=True):
        if e is None:
            assert a is None
            continue
        assert np.shape(a) == np.shape(e)
        finite = np.abs(e)[np.isfinite(e)]
        assert_allclose(a, e, rtol=rtol, atol=rtol * np.max(finite, initial=0.01))


def check(*args, rtol=1e-13, **options):
    """Loss and gradients against the reference, and the plain function against both."""
    result = fastbp.linear_cross_entropy_with_grad(*args, **options)
    exact = reference.linear_cross_entropy_with_grad(*args, **options)
    assert_close(result, exact, rtol)
    assert_array_equal(fastbp.linear_cross_entropy(*args, **options), result[0])
    return result


# results ------------------------------------------------------------------------------------------

OPTIONS = {
    "none": {},
    "smoothing": {"label_smoothing": 0.1},
    "softcap": {"softcap": 2.0, "temperature": 0.7},
    "z_loss": {"z_loss": 0.01},
    "all": {"label_smoothing": 0.2, "softcap": 5.0, "temperature": 1.5, "z_loss": 0.1, **weights()},
}


@pytest.mark.parametrize("kind", ["labels", "probabilities", "sparse"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.usefixtures("blocks")
def test_options(kind, options, reduction):
    x, weight, bias, labels = arrays()
    targets = targets_of(kind, labels)
    check(x, weight, targets, bias, reduction=reduction, **OPTIONS[options])


@pytest.mark.parametrize("layout", ["in_out", "out_in"])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("blocks")
def test_layouts_and_dtypes(layout, has_bias, dtype):
    x, weight, bias, labels = arrays(dtype)
    weight = weight if layout == "in_out" else weight.T.copy()
    bias = bias if has_bias else None
    rtol = 1e-5 if dtype == np.float32 else 1e-13
    loss, (dx, dweight, dbias) = check(x, weight, labels, bias, weight_layout=layout, rtol=rtol)
    assert loss.dtype == dx.dtype == dweight.dtype == dtype
    assert dbias is None if bias is None else dbias.dtype == dtype
    assert dweight.flags.c_contiguous


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3), (2, 1, 3), (0,), (2, 0)])
@pytest.mark.parametrize("kind", ["labels", "probabilities", "sparse"])
@pytest.mark.usefixtures("blocks")
def test_any_number_of_axes(shape, kind):
    x, weight, bias, labels = arrays(n_rows=int(np.prod(shape)))
    x, labels = x.reshape(*shape, N_IN), labels.reshape(shape)
    targets = targets_of(kind, labels)
    for reduction in ("none", "sum", "mean"):
        loss, (dx, _, _) = check(x, weight, targets, bias, reduction=reduction)
        assert np.shape(loss) == (shape if reduction == "none" else ())
        assert dx.shape == x.shape


def test_no_features_and_one_class():
    """Logits are the bias alone; a single class costs nothing."""
    check(np.zeros((3, 0)), np.zeros((0, 4)), [0, 3, 1], [1.0, 2.0, 3.0, 4.0])
    loss, (dx, dweight, dbias) = check(np.ones((3, 2)), np.ones((2, 1)), [0, 0, 0], [5.0])
    assert loss == 0
    for gradient in (dx, dweight, dbias):
        assert_array_equal(gradient, 0)


@pytest.mark.parametrize("empty", ["nan", "zero"])
@pytest.mark.usefixtures("blocks")
def test_nothing_to_average(empty):
    x, weight, bias, labels = arrays()
    for given in (
        {"ignore_index": IGNORED, "targets": np.full(N_ROWS, IGNORED)},
        {"sample_weight": np.zeros(N_ROWS), "targets": labels},
    ):
        loss, gradients = fastbp.linear_cross_entropy_with_grad(
            x, weight, bias=bias, empty=empty, **given
        )
        assert np.isnan(loss) if empty == "nan" else loss == 0
        for gradient in gradients:
            assert_array_equal(gradient, 0)


@pytest.mark.parametrize("layout", ["in_out", "out_in"])
@pytest.mark.usefixtures("blocks")
def test_ignored_rows_reach_nothing(layout):
    """As if they were not there, whatever is in them; they do not count in the mean."""
    x, weight, bias, labels = arrays()
    weight[0, 0] = 3e300  # whose product with what an ignored row holds would overflow
    x[:, 0] *= 1e-300
    ignored = np.random.default_rng(3).random(N_ROWS) < 0.4
    ignored[-1] = True
    x[ignored] = [nan, np.inf, -np.inf, 1e308, 1.0]
    labels[ignored] = IGNORED
    weight = weight if layout == "in_out" else weight.T.copy()
    for options in ({}, {"label_smoothing": 0.1}, {"reduction": "none"}, {"reduction": "sum"}):
        every = {**weights(), **options, "weight_layout": layout}
        loss, (dx, dweight, dbias) = check(x, weight, labels, bias, ignore_index=IGNORED, **every)
        assert_array_equal(dx[ignored], 0)
        every["sample_weight"] = every["sample_weight"][~ignored]
        alone = fastbp.linear_cross_entropy_with_grad(
            x[~ignored], weight, labels[~ignored], bias, **every
        )
        losses = loss[~ignored] if "none" in options.values() else loss
        assert_close((losses, (dx[~ignored], dweight, dbias)), alone, 1e-13)


@pytest.mark.parametrize("kind", ["labels", "sparse"])
@pytest.mark.usefixtures("blocks")
def test_bad_labels(kind):
    x, weight, bias, labels = arrays()
    bad = [4, 17]
    targets = targets_of(kind, labels)
    indices = targets[0] if kind == "sparse" else targets
    indices[bad] = [[-1, 2, 3], [2, 3, N_CLASSES]] if kind == "sparse" else [-1, N_CLASSES]
    with pytest.raises(IndexError, match=r"-1 at row 4; expected 0 to 10"):
        fastbp.linear_cross_entropy_with_grad(x, weight, targets, bias)

    _, (dx, dweight, dbias) = check(x, weight, targets, bias, on_bad_label="nan", reduction="none")
    assert np.isnan(dx[bad]).all()
    assert np.isfinite(np.delete(dx, bad, axis=0)).all()
    assert np.isnan(dweight).all()
    assert np.isnan(dbias).all()

    x[bad] = nan
    _, (dx, _, _) = check(x, weight, targets, bias, on_bad_label="ignore")
    assert_array_equal(dx[bad], 0)


@pytest.mark.parametrize("kind", ["i1", "u2", "i4", "u8", ">i8"])
@pytest.mark.usefixtures("blocks")
def test_labels_of_any_width(kind):
    x, weight, bias, labels = arrays()
    expected = fastbp.linear_cross_entropy_with_grad(x, weight, labels, bias, ignore_index=3)
    actual = fastbp.linear_cross_entropy_with_grad(
        x, weight, labels.astype(kind), bias, ignore_index=3
    )
    assert_close(actual, expected, 0)


@pytest.mark.usefixtures("blocks")
def test_nan_and_infinities():
    """They stay in their row of dx; a sum over rows has them all."""
    x, weight, bias, labels = arrays()
    for value in (nan, np.inf):
        x[3, 2] = value
        _, (dx, dweight, _) = check(x, weight, labels, bias)
        assert np.isnan(dx[3]).all()
        assert np.isfinite(np.delete(dx, 3, axis=0)).all()
        assert np.isnan(dweight).all()
    # A class that is masked for all rows.
    bias[6] = -np.inf
    labels[labels == 6] = 0
    loss, (_, dweight, dbias) = check(arrays()[0], weight, labels, bias)
    assert np.isfinite(loss)
    assert_array_equal(dweight[:, 6], 0)
    assert dbias[6] == 0


# other dtypes and strides -------------------------------------------------------------------------


def halves():
    dtypes = [np.dtype(np.float16)]
    try:
        import ml_dtypes
    except ImportError:
        return dtypes
    return [*dtypes, np.dtype(ml_dtypes.bfloat16)]


@pytest.mark.parametrize("dtype", halves(), ids=str)
@pytest.mark.parametrize("layout", ["in_out", "out_in"])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@pytest.mark.usefixtures("blocks")
def test_halves(dtype, layout, kind):
    """Computed in float32, however many blocks there are; the gradients are rounded once."""
    x, weight, bias, labels = arrays(dtype)
    weight = weight if layout == "in_out" else weight.T.copy()
    targets = targets_of(kind, labels, dtype)
    args = x, weight, targets, bias
    options = {"weight_layout": layout, "ignore_index": 3 if kind == "labels" else None}
    loss, gradients = fastbp.linear_cross_entropy_with_grad(*args, **options)
    exact = reference.linear_cross_entropy_with_grad(*args, **options)
    assert loss.dtype == np.float32
    assert_allclose(loss, exact[0], rtol=1e-6)
    for actual, expected in zip(gradients, exact[1], strict=True):
        assert actual.dtype == dtype
        half_spacing = np.abs(np.spacing(expected.astype(dtype)).astype(float)) / 2
        error = np.abs(actual.astype(float) - expected)
        assert np.all(error <= half_spacing + 1e-6 * np.max(np.abs(expected)))


@pytest.mark.parametrize("size", [0, 1, 5, (1 << 20) + 3])
def test_narrowing_in_place(size):
    wide = np.linspace(-3, 3, size).astype(np.float32).reshape(1, size)
    expected = wide.astype(np.float16)
    narrow = page._narrowed(wide.copy(), np.dtype(np.float16))
    assert_array_equal(narrow, expected, strict=True)
    base = narrow
    while base.base is not None:
        base = base.base
    assert base.nbytes <= 2 * size + 2


def every_second_column(a):
    wide = np.full((a.shape[0], 2 * a.shape[1]), nan, a.dtype)
    wide[:, ::2] = a
    return wide[:, ::2]


def unaligned(a):
    buffer = np.zeros(a.nbytes + 1, np.uint8)
    view = np.frombuffer(buffer, a.dtype, a.size, 1).reshape(a.shape)
    view[...] = a
    return view


WEIGHTS = {
    "Fortran": np.asfortranarray,
    "columns of a wider array": lambda a: np.concatenate([a, a], axis=1)[:, : a.shape[1]],
    "every second column": every_second_column,
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": unaligned,
    "swapped bytes": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "float32": lambda a: a.astype(np.float32),
    "integers": lambda a: np.round(4 * a).astype(np.int8),
    "list": lambda a: a.tolist(),
    "one row everywhere": lambda a: np.broadcast_to(a[0], a.shape),
}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("layout", ["in_out", "out_in"])
@pytest.mark.usefixtures("blocks")
def test_weights_that_products_cannot_read(kind, layout):
    x, weight, bias, labels = arrays()
    weight = WEIGHTS[kind](weight if layout == "in_out" else weight.T.copy())
    _, (_, dweight, _) = check(x, weight, labels, bias, weight_layout=layout)
    assert dweight.dtype == np.float64
    assert dweight.flags.writeable
    x = WEIGHTS[kind](x) if kind != "float32" else x
    check(x, weight, labels, bias, weight_layout=layout)


def test_which_weights_are_read_where_they_are():
    """All others are copied, a panel at a time."""
    a = np.zeros((6, 8), np.float32)
    for matrix in (a, a.T, a[::2], a[:, 1:5], a[1:5].T, a[:, ::-1][:, ::-1], a[:1], a[:, :1]):
        assert page._is_matrix(matrix), (matrix.shape, matrix.strides)
        (_, panel), *others = page._panels(matrix, matrix.dtype)
        assert panel is matrix
        assert not others
    for other in (a[:, ::2], a[::-1], a.T[::-1], np.broadcast_to(a[0], a.shape), unaligned(a)):
        assert not page._is_matrix(other), (other.shape, other.strides)


@pytest.mark.usefixtures("blocks")
def test_the_first_float_decides():
    x, weight, bias, labels = arrays(np.float32)
    probabilities = targets_of("probabilities", labels)
    wide = weight.astype(float), probabilities, bias.astype(float)
    loss, gradients = check(x, *wide, rtol=1e-5)
    assert {a.dtype for a in (loss, *gradients)} == {np.dtype(np.float32)}
    loss, gradients = check(x.astype(float), weight, probabilities.astype(np.float32), bias)
    assert {a.dtype for a in (loss, *gradients)} == {np.dtype(np.float64)}
    # What is too large for float32 becomes infinity, without a warning.
    assert fastbp.linear_cross_entropy(x, weight, labels, np.full(N_CLASSES, -1e300)) != 0


def test_inputs_are_not_written_to():
    x, weight, bias, labels = arrays()
    given = x, weight, labels, bias, *weights().values()
    before = [a.copy() for a in given]
    for a in given:
        a.flags.writeable = False
    fastbp.linear_cross_entropy_with_grad(*given[:4], **weights(), ignore_index=3)
    for a, b in zip(given, before, strict=True):
        assert_array_equal(a, b)


# progress -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
def test_progress(function, monkeypatch):
    x, weight, bias, labels = arrays()
    monkeypatch.setattr(page, "BLOCK", 10 * N_CLASSES * 8)
    calls = []
    options = {"progress": lambda *done: calls.append(done)}
    function(x, weight, labels, bias, **options)
    assert calls == [(10, 23), (20, 23), (23, 23)]

    calls.clear()
    labels[[0, 1, 5, 9, 22]] = IGNORED
    function(x, weight, labels, bias, ignore_index=IGNORED, **options)
    assert calls == [(14, 23), (23, 23)]  # rows 2 to 13 have ten that count

    calls.clear()
    function(x[:0], weight, labels[:0], bias, **options)
    assert calls == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_progress_may_stop_it(function, monkeypatch):
    """What it raises comes through; it is called without NumPy's warnings switched off."""
    x, weight, bias, labels = arrays()
    monkeypatch.setattr(page, "BLOCK", 1)
    calls = []

    def stop(rows_done, n_rows):
        calls.append((rows_done, n_rows, np.geterr()))
        if rows_done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        function(x, weight, labels, bias, progress=stop)
    assert [done for done, _, _ in calls] == [1, 2, 3]
    assert all(state == np.geterr() for _, _, state in calls)


# PyTorch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.usefixtures("blocks")
def test_against_torch(reduction):
    torch = pytest.importorskip("torch")
    x, weight, bias, labels = arrays(np.float32)
    weight = weight.T.copy()
    labels[::5] = IGNORED
    class_weight = weights()["class_weight"].astype(np.float32)
    options = {"label_smoothing": 0.1, "ignore_index": IGNORED, "reduction": reduction}
    loss, gradients = fastbp.linear_cross_entropy_with_grad(
        x, weight, labels, bias, weight_layout="out_in", class_weight=class_weight, **options
    )
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    logits = torch.nn.functional.linear(*tensors)
    theirs = torch.nn.functional.cross_entropy(
        logits, torch.tensor(labels), weight=torch.tensor(class_weight), **options
    )
    theirs.sum().backward()
    assert_allclose(loss, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
    for ours, tensor in zip(gradients, tensors, strict=True):
        assert_allclose(ours, tensor.grad.numpy(), rtol=1e-4, atol=1e-5)
