"""Wrong arguments: which exception, and that it names the argument, what came and what was due.

An error leaves every argument as it was.
"""

import re

import numpy as np
import pytest

import fastbp

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
WIDE = X.astype(np.float64)
LABELS = np.array([0, 2])
ROW_FUNCTIONS = ("softmax", "log_softmax", "logsumexp")
LOSSES = (
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_grad",
    "softmax_cross_entropy_backward",
)
EMPTY = np.empty


def read_only():
    a = np.zeros((2, 3), np.float32)
    a.flags.writeable = False
    return a


def repeated():
    return np.lib.stride_tricks.as_strided(np.zeros(3, np.float32), (2, 3), (0, 4))


def loss(**options):
    """A case of the loss: arguments that fit, but for these."""
    return (
        "softmax_cross_entropy",
        (options.pop("logits", X), options.pop("targets", LABELS)),
        options,
    )


# (function, args, kwargs), exception, words of the message
CASES = {
    # the kind of a value
    "complex": (("softmax", (X + 1j,), {}), TypeError, "x complex64 float32"),
    "object": (("softmax", (np.array([[None]]),), {}), TypeError, "x object float"),
    "string": (("softmax", ("abc",), {}), TypeError, "x <U3 float"),
    "bytes": (("sigmoid", (b"abc",), {}), TypeError, "x S3 float"),
    "None": (("sigmoid", (None,), {}), TypeError, "x object float"),
    "dates": (("logsumexp", (np.array(["2020"], "M8[Y]"),), {}), TypeError, "x datetime64 float"),
    "records": (("sigmoid", (np.zeros(2, [("a", "f4")]),), {}), TypeError, "x float"),
    "longdouble rows": (("softmax", (X.astype("g"),), {}), TypeError, "x dtype float32"),
    "longdouble": (("sigmoid", (X.astype("g"),), {}), TypeError, "x float32 float64"),
    "ragged": (("softmax", ([[1, 2], [3]],), {}), ValueError, "x"),
    "masked": (("softmax", (np.ma.masked_array(X, X > 2),), {}), TypeError, "x masked"),
    "complex dy": (("softmax_backward", (X + 1j, X), {}), TypeError, "dy complex64"),
    "complex y": (("softmax_backward", (X, X + 1j), {}), TypeError, "y complex64"),
    "complex logits": (loss(logits=X.astype("D")), TypeError, "logits complex128"),
    "object weights": (loss(class_weight=["a", "b", "c"]), TypeError, "class_weight <U1"),
    "complex samples": (loss(sample_weight=[1j, 1]), TypeError, "sample_weight complex128"),
    # axis
    "axis too large": (("softmax", (X, 2), {}), ValueError, "axis 2 -2 1 x 2-D"),
    "axis too small": (("log_softmax", (X, -3), {}), ValueError, "axis -3 -2 1"),
    "axis no integer": (("softmax", (X, 1.0), {}), TypeError, "axis 1.0 int"),
    "axis a string": (("softmax", (X, "1"), {}), TypeError, "axis '1' int"),
    "axis twice": (("softmax", (X, (1, -1)), {}), ValueError, "axis (1, -1) twice"),
    "axis of a number": (("softmax", (1.0,), {}), ValueError, "x number axis"),
    "axis in a tuple": (("logsumexp", (X, (0, 5)), {}), ValueError, "axis 5"),
    "axes of a loss": (loss(axis=(0, 1)), TypeError, "axis (0, 1) int"),
    "no axis of a loss": (loss(axis=None), TypeError, "axis None int"),
    "axis of the loss": (loss(axis=2), ValueError, "axis 2 logits"),
    # shapes
    "y": (("softmax_backward", (X, X[:1]), {}), ValueError, "y (1, 3) (2, 3) dy"),
    "y transposed": (("log_softmax_backward", (X, X.T), {}), ValueError, "y (3, 2) (2, 3) dy"),
    "y of sigmoid": (("sigmoid_backward", (X, X[0]), {}), ValueError, "y (3,) (2, 3) dy"),
    "x of sigmoid": (("sigmoid_backward", (X,), {"x": X[0]}), ValueError, "x (3,) (2, 3) dy"),
    "x of log_sigmoid": (("log_sigmoid_backward", (X, X[0]), {}), ValueError, "x (3,) (2, 3) dy"),
    "dy of logsumexp": (
        ("logsumexp_backward", (X[:, :1], X, X[:, 0]), {}), ValueError, "dy (2, 1) (2,)"),
    "y of logsumexp": (
        ("logsumexp_backward", (X[:, 0], X, X[0]), {}), ValueError, "y (3,) (2,)"),
    "keepdims": (
        ("logsumexp_backward", (X[:, 0], X, X[:, 0]), {"keepdims": True}),
        ValueError, "dy (2,) (2, 1)"),
    # sigmoid_backward
    "neither": (("sigmoid_backward", (X,), {}), TypeError, "neither y x one"),
    "both": (("sigmoid_backward", (X, X), {"x": X}), TypeError, "both y x one"),
    # linear
    "features": (("linear", (X, np.ones((4, 2))), {}), ValueError, "weight 4 in_out 3 x"),
    "features out_in": (
        ("linear", (X, np.ones((3, 2))), {"weight_layout": "out_in"}),
        ValueError, "weight 2 out_in 3"),
    "bias": (("linear", (X, np.ones((3, 2)), np.ones(3)), {}), ValueError, "bias (3,) (2,)"),
    "1-D weight": (("linear", (X, np.ones(3)), {}), ValueError, "weight 1-D 2-D"),
    "number": (("linear", (1.0, np.ones((3, 2))), {}), ValueError, "x"),
    "weight_layout": (
        ("linear", (X, np.ones((3, 2))), {"weight_layout": "io"}),
        ValueError, "weight_layout 'io' 'in_out' 'out_in'"),
    "complex weight": (("linear", (X, np.ones((3, 2)) * 1j), {}), TypeError, "weight complex128"),
    "dy of linear": (
        ("linear_backward", (X, X, np.ones((3, 2))), {}), ValueError, "dy (2, 3) (2, 2)"),
    # targets
    "bool targets": (loss(targets=LABELS > 0), TypeError, "targets bool labels probabilities"),
    "object targets": (loss(targets=["a", "b"]), TypeError, "targets <U1 labels probabilities"),
    "complex targets": (loss(targets=X + 1j), TypeError, "targets complex64"),
    "longdouble targets": (loss(targets=X.astype("g")), TypeError, "targets dtype"),
    "one-hot integers": (
        loss(targets=X.astype(int)),
        ValueError, "targets integers (2, 3) labels (2,) probabilities"),
    "float labels": (
        loss(targets=LABELS.astype(float)), ValueError, "targets floats (2,) probabilities (2, 3)"),
    "labels of other rows": (loss(targets=[0, 1, 2]), ValueError, "targets (3,) (2,)"),
    "a label for each column": (loss(targets=LABELS, axis=0), ValueError, "targets (2,) (3,)"),
    # options
    "class_weight": (loss(class_weight=[1.0, 2.0]), ValueError, "class_weight (2,) (3,)"),
    "class_weight 2-D": (loss(class_weight=X), ValueError, "class_weight (2, 3) (3,)"),
    "sample_weight": (loss(sample_weight=[1.0]), ValueError, "sample_weight (1,) (2,)"),
    "sample_weight 2-D": (loss(sample_weight=X), ValueError, "sample_weight (2, 3) (2,)"),
    "smoothing above 1": (loss(label_smoothing=1.5), ValueError, "label_smoothing 1.5 0 1"),
    "smoothing below 0": (loss(label_smoothing=-0.1), ValueError, "label_smoothing -0.1"),
    "smoothing NaN": (loss(label_smoothing=np.nan), ValueError, "label_smoothing nan"),
    "smoothing a string": (loss(label_smoothing="a"), TypeError, "label_smoothing 'a' number"),
    "smoothing an array": (loss(label_smoothing=[0.1, 0.2]), TypeError, "label_smoothing number"),
    "reduction": (loss(reduction="avg"), ValueError, "reduction 'avg' 'mean' 'sum' 'none'"),
    "no reduction": (loss(reduction=None), ValueError, "reduction None 'none'"),
    "empty": (loss(empty="one"), ValueError, "empty 'one' 'nan' 'zero'"),
    "on_bad_label": (
        loss(on_bad_label="warn"), ValueError, "on_bad_label 'warn' 'raise' 'nan' 'ignore'"),
    "ignore_index": (loss(ignore_index=1.5), TypeError, "ignore_index 1.5 int"),
    "z_loss below 0": (loss(z_loss=-1e-9), ValueError, "z_loss -1e-09 0"),
    "z_loss NaN": (loss(z_loss=np.nan), ValueError, "z_loss nan"),
    "z_loss infinite": (loss(z_loss=np.inf), ValueError, "z_loss inf"),
    "z_loss a string": (loss(z_loss="a"), TypeError, "z_loss 'a' number"),
    "no z_loss": (loss(z_loss=None), TypeError, "z_loss None number"),
    "softcap 0": (loss(softcap=0), ValueError, "softcap 0.0 positive"),
    "softcap below 0": (loss(softcap=-30.0), ValueError, "softcap -30.0 positive"),
    "softcap NaN": (loss(softcap=np.nan), ValueError, "softcap nan positive"),
    "softcap infinite": (loss(softcap=np.inf), ValueError, "softcap inf positive"),
    "softcap an array": (loss(softcap=[1.0, 2.0]), TypeError, "softcap [1.0, 2.0] number"),
    "softcap too large": (loss(softcap=1e19), ValueError, "softcap 1e+19 1e-18 1e+18 float32"),
    "softcap too small": (
        loss(logits=X.astype(float), softcap=1e-151), ValueError, "softcap 1e-150 1e+150 float64"),
    "temperature too small": (
        loss(logits=X.astype(np.float16), temperature=1e-19), ValueError,
        "temperature 1e-19 1e-18 1e+18 float32"),
    "temperature 0": (loss(temperature=0.0), ValueError, "temperature 0.0 positive"),
    "temperature below 0": (loss(temperature=-1), ValueError, "temperature -1.0 positive"),
    "temperature NaN": (loss(temperature=np.nan), ValueError, "temperature nan positive"),
    "temperature infinite": (loss(temperature=np.inf), ValueError, "temperature inf positive"),
    "temperature complex": (loss(temperature=1j), TypeError, "temperature 1j number"),
    "no temperature": (loss(temperature=None), TypeError, "temperature None number"),
    "ignored probabilities": (loss(targets=X, ignore_index=0), ValueError, "ignore_index"),
    "no classes": (loss(logits=EMPTY((2, 0))), ValueError, "logits (2, 0) class"),
    # bad labels: the first row that has one, and its value
    "label too large": (loss(targets=[0, 3]), IndexError, "targets 3 row 1 0 2"),
    "label negative": (loss(targets=[-1, 7]), IndexError, "targets -1 row 0 0 2"),
    "label for another ignored one": (
        loss(targets=[-100, -1], ignore_index=-100), IndexError, "targets -1 row 1"),
    "label of a matrix": (
        loss(logits=np.zeros((2, 2, 3)), targets=[[0, 1], [9, 0]]), IndexError, "targets 9 (1, 0)"),
    "label of a row": (loss(logits=X[0], targets=5), IndexError, "targets 5 0 2"),
    "label of no rows": (loss(logits=X[0], targets=-1), IndexError, "targets -1"),
    # dloss
    "dloss of a mean": (
        ("softmax_cross_entropy_backward", (np.ones(2), X, LABELS), {}),
        ValueError, "dloss (2,) ()"),
    "dloss of rows": (
        ("softmax_cross_entropy_backward", (1.0, X, LABELS), {"reduction": "none"}),
        ValueError, "dloss () (2,)"),
    "complex dloss": (
        ("softmax_cross_entropy_backward", (1j, X, LABELS), {}), TypeError, "dloss complex128"),
    # out
    "out no array": (("softmax", (X,), {"out": [1.0]}), TypeError, "out list array"),
    "out of another dtype": (
        ("softmax", (X,), {"out": EMPTY((2, 3))}), TypeError, "out float64 float32"),
    "out of integers": (
        ("sigmoid", (X,), {"out": EMPTY((2, 3), int)}), TypeError, "out int64 float32"),
    "out float32 for integers": (
        ("sigmoid", (LABELS,), {"out": EMPTY(2, "f4")}), TypeError, "out float32 float64"),
    "out of swapped bytes": (
        ("softmax", (X,), {"out": EMPTY((2, 3), ">f4")}), TypeError, "out >f4"),
    "out of another shape": (
        ("softmax", (X,), {"out": EMPTY((3, 2), "f4")}), ValueError, "out (3, 2) (2, 3)"),
    "out of one row": (
        ("log_sigmoid", (X,), {"out": EMPTY(3, "f4")}), ValueError, "out (3,) (2, 3)"),
    "out of logsumexp": (
        ("logsumexp", (X,), {"out": EMPTY((2, 1), "f4")}), ValueError, "out (2, 1) (2,)"),
    "out of the loss": (
        ("softmax_cross_entropy_with_grad", (X, LABELS), {"out": EMPTY((2, 4), "f4")}),
        ValueError, "out (2, 4) (2, 3)"),
    "out read-only": (("softmax", (X,), {"out": read_only()}), ValueError, "out read-only"),
    "out repeated": (("softmax", (X,), {"out": repeated()}), ValueError, "out"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_error_says_what_and_why(case):
    (name, args, kwargs), exception, words = CASES[case]
    given = [a for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray)]
    before = [a.copy() for a in given]

    with pytest.raises(exception) as caught:
        getattr(fastbp, name)(*args, **kwargs)

    message = str(caught.value)
    assert type(caught.value) is exception
    # Shapes are written with a blank, so they are looked for as a whole.
    for word in re.findall(r"\([^)]*\)|\S+", words):
        assert word in message
    assert len(message.splitlines()) == 1
    for now, then in zip(given, before, strict=True):
        np.testing.assert_array_equal(now, then)


# The loss alone has no out, but all three share their checks.
OF_LOSSES = [case for case, (call, *_) in CASES.items() if call[0] == "softmax_cross_entropy"]


@pytest.mark.parametrize("case", OF_LOSSES)
@pytest.mark.parametrize("name", LOSSES[1:])
def test_all_losses_check_the_same(name, case):
    (_, args, kwargs), exception, _ = CASES[case]
    if name.endswith("backward"):
        args = (np.float32(1), *args)
    with pytest.raises(exception) as caught:
        getattr(fastbp, name)(*args, **kwargs)
    with pytest.raises(exception) as expected:
        fastbp.softmax_cross_entropy(*args[-2:], **kwargs)
    assert str(caught.value) == str(expected.value)


# overlap ------------------------------------------------------------------------------------------


def overlapping(shape=(4, 6)):
    """Two arrays that share a part of their memory."""
    base = np.arange(100, dtype=np.float32)
    n = int(np.prod(shape))
    return base[:n].reshape(shape), base[1 : n + 1].reshape(shape)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sigmoid", "log_sigmoid"])
def test_out_may_not_overlap_a_part_of_the_input(name):
    function = getattr(fastbp, name)
    square = np.arange(16, dtype=np.float32).reshape(4, 4)
    for x, out in [
        overlapping(),
        (square, square.T),
        (square, square[::-1]),
        (square, square[:, ::-1]),
        (square[:2], square[1:3]),
    ]:
        before = x.copy(), out.copy()
        with pytest.raises(ValueError, match="out overlaps x"):
            function(x, out=out)
        np.testing.assert_array_equal(x, before[0])
        np.testing.assert_array_equal(out, before[1])


def test_disjoint_parts_of_one_array_do_not_overlap():
    base = np.zeros((4, 12), np.float32)
    x, out = base[:, 0::2], base[:, 1::2]
    assert fastbp.softmax(x, out=out) is out
    np.testing.assert_array_equal(x, 0)
    np.testing.assert_array_equal(out, np.float32(1 / 6))


def test_out_may_be_the_first_argument_only():
    """In row functions; a second one would be read after its place was written."""
    dy, y = np.ones((2, 2, 3), np.float32)
    lse = np.ones(2, np.float32)
    t = np.float32([[1, 0, 0], [0, 1, 0]])
    calls = {
        "y": [
            lambda: fastbp.softmax_backward(dy, y, out=y),
            lambda: fastbp.log_softmax_backward(dy, y, out=y),
        ],
        "x": [lambda: fastbp.logsumexp(X[:, :1], out=X[:, 0])],
        "targets": [
            lambda: fastbp.softmax_cross_entropy_with_grad(X, t, out=t),
            lambda: fastbp.softmax_cross_entropy_backward(1.0, X, t, out=t),
        ],
    }
    for argument, several in calls.items():
        for call in several:
            with pytest.raises(ValueError, match=f"out overlaps {argument}"):
                call()
    square = np.ones((3, 3), np.float32)
    for weight in ({"sample_weight": square[0]}, {"class_weight": square[0]}):
        with pytest.raises(ValueError, match=f"out overlaps {next(iter(weight))}"):
            fastbp.softmax_cross_entropy_with_grad(np.eye(3, dtype="f4"), [0, 1, 2], out=square,
                                                   **weight)  # fmt: skip
    column = np.ones((2, 1), np.float32)
    with pytest.raises(ValueError, match="out overlaps dy"):
        fastbp.logsumexp_backward(column[:, 0], np.ones((2, 1), np.float32), lse, out=column)
    per_row = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="out overlaps dloss"):
        fastbp.softmax_cross_entropy_backward(
            per_row[:, 0], X, LABELS, reduction="none", out=per_row
        )


# nothing is written -------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [[0, 3], [0, -1]])
def test_out_is_untouched_after_a_bad_label(targets):
    out = np.full((2, 3), 7, np.float32)
    x = X.copy()
    for into in (out, x):
        before = into.copy()
        with pytest.raises(IndexError):
            fastbp.softmax_cross_entropy_with_grad(x, targets, out=into)
        with pytest.raises(IndexError):
            fastbp.softmax_cross_entropy_backward(1.0, x, targets, out=into)
        np.testing.assert_array_equal(into, before)


OPTIONS = {"z_loss": -1, "softcap": 0, "temperature": np.nan, "label_smoothing": 2, "empty": "one"}


@pytest.mark.parametrize("option", OPTIONS)
def test_out_is_untouched_after_a_bad_option(option):
    out, x = np.full((2, 3), 7, np.float32), X.copy()
    for into in (out, x):
        before = into.copy()
        for name in LOSSES[1:]:
            args = (np.float32(1),) * name.endswith("backward") + (x, LABELS)
            with pytest.raises(ValueError, match=option):
                getattr(fastbp, name)(*args, **{option: OPTIONS[option]}, out=into)
        np.testing.assert_array_equal(into, before)


def test_a_bad_label_far_away_is_found_first():
    """In a batch large enough for several threads, the first of two."""
    labels = np.zeros(5000, int)
    labels[[4321, 4999]] = 10, -5
    out = np.full((5000, 10), 7, np.float32)
    with pytest.raises(IndexError, match=r"10 at row 4321\b"):
        fastbp.softmax_cross_entropy_with_grad(np.zeros((5000, 10), "f4"), labels, out=out)
    np.testing.assert_array_equal(out, 7)


# other libraries ----------------------------------------------------------------------------------


def test_torch_tensors_are_a_type_error():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(2, 3)
    for x in (tensor, tensor.clone().requires_grad_()):
        with pytest.raises(TypeError, match=r"x is a torch\.Tensor"):
            fastbp.softmax(x)
    with pytest.raises(TypeError, match="targets"):
        fastbp.softmax_cross_entropy(X, torch.tensor([0, 1]))
    with pytest.raises(TypeError, match="out is a Tensor"):
        fastbp.softmax(X, out=tensor)


def test_jax_arrays_are_a_type_error():
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(TypeError, match="logits is a jax"):
        fastbp.softmax_cross_entropy(jnp.ones((2, 3)), LABELS)


def test_other_array_kinds_are_a_type_error():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="x"):
        fastbp.softmax(sparse.eye_array(3))


def test_positional_options_are_a_type_error():
    """Every option is keyword-only."""
    out = np.empty_like(X)
    for call in (
        lambda: fastbp.softmax(X, -1, out),
        lambda: fastbp.sigmoid(X, out),
        lambda: fastbp.sigmoid_backward(X, None, X),
        lambda: fastbp.logsumexp(X, -1, True),
        lambda: fastbp.softmax_cross_entropy(X, LABELS, -1),
        lambda: fastbp.softmax(X, unknown=1),
    ):
        with pytest.raises(TypeError, match=r"positional|unexpected"):
            call()
