"""Layers and losses: gradients by finite differences, dtypes, layouts, names; both optimizers."""

import copy

import numpy as np
import pytest

import fastbp
from fastbp.layers import (
    CrossEntropy,
    Layer,
    Linear,
    LogSigmoid,
    LogSoftmax,
    Loss,
    ReLU,
    Sequential,
    Sigmoid,
    SigmoidCrossEntropy,
    Softmax,
    SoftmaxCrossEntropy,
    SquaredError,
    Tanh,
)
from fastbp.optim import SGD, Adam
from fastbp.testing import gradcheck

LAYERS = {
    "linear": lambda dtype: Linear(5, 3, rng=1, dtype=dtype),
    "linear out_in": lambda dtype: Linear(5, 3, weight_layout="out_in", rng=1, dtype=dtype),
    "linear without bias": lambda dtype: Linear(5, 3, bias=False, rng=1, dtype=dtype),
    "sigmoid": lambda dtype: Sigmoid(),
    "log_sigmoid": lambda dtype: LogSigmoid(),
    "softmax": lambda dtype: Softmax(),
    "softmax axis 0": lambda dtype: Softmax(axis=0),
    "softmax all axes": lambda dtype: Softmax(axis=None),
    "log_softmax": lambda dtype: LogSoftmax(),
    "log_softmax axis 0": lambda dtype: LogSoftmax(axis=0),
    "relu": lambda dtype: ReLU(),
    "tanh": lambda dtype: Tanh(),
    "sequential": lambda dtype: Sequential(
        Linear(5, 4, rng=1, dtype=dtype),
        Tanh(),
        Sequential(Linear(4, 3, rng=2, dtype=dtype), Sigmoid()),
    ),
}
SHAPES = [(5,), (4, 5), (2, 3, 5)]
LAYOUTS = {
    "C order": np.ascontiguousarray,
    "F order": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: x[..., ::-1].copy()[..., ::-1],
}


def numeric_gradient(function, x, h=1e-5):
    """Gradient of the scalar ``function()`` with respect to the array x, by central differences.

    ``function`` reads x, which is changed in place and restored.
    """
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        saved = x[i]
        x[i] = saved + h
        above = function()
        x[i] = saved - h
        below = function()
        x[i] = saved
        gradient[i] = (above - below) / (2 * h)
    return gradient


def assert_gradients_right(layer, x, rng):
    """Compare backward's dx and grads with finite differences of Σ dy · forward(x)."""
    x = x.copy()
    dy = rng.normal(size=np.shape(layer.forward(x)))
    dx = layer.backward(dy)
    grads = {name: grad.copy() for name, grad in layer.grads.items()}

    def function():
        return np.sum(dy * layer.forward(x))

    assert np.max(np.abs(dx)) > 1e-3, "a gradient of zeros would pass"
    np.testing.assert_allclose(dx, numeric_gradient(function, x), rtol=1e-6, atol=1e-8)
    assert grads.keys() == layer.params.keys()
    for name, param in layer.params.items():
        expected = numeric_gradient(function, param)
        np.testing.assert_allclose(grads[name], expected, rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_by_finite_differences(name, shape):
    rng = np.random.default_rng(3)
    assert_gradients_right(LAYERS[name](np.float64), rng.normal(size=shape), rng)


def test_finite_differences_find_a_wrong_gradient():
    class Wrong(Sigmoid):
        def backward(self, dy):
            return super().backward(dy) * 1.001

    rng = np.random.default_rng(3)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_gradients_right(Wrong(), rng.normal(size=(4, 5)), rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", LAYERS)
def test_layout_changes_nothing_and_dtype_is_kept(name, layout, dtype):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(6, 5)).astype(dtype)
    layer, other = LAYERS[name](dtype), LAYERS[name](dtype)
    y = layer.forward(x)
    dy = rng.normal(size=y.shape).astype(dtype)
    dx = layer.backward(dy)

    arranged_x, arranged_dy = LAYOUTS[layout](x), LAYOUTS[layout](dy)
    for array in (arranged_x, arranged_dy):
        array.flags.writeable = False
    y2 = other.forward(arranged_x)
    dx2 = other.backward(arranged_dy)
    # Products are the BLAS library's, which may round another layout differently.
    tolerance = 20 * np.finfo(dtype).eps if layer.params else 0
    for actual, expected in [(y2, y), (dx2, dx), *zip_dicts(other.grads, layer.grads)]:
        assert actual.dtype == dtype
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def zip_dicts(a, b):
    assert a.keys() == b.keys()
    return [(a[name], b[name]) for name in a]


@pytest.mark.parametrize("name", LAYERS)
def test_integers_are_taken_as_float64(name):
    x = np.arange(-5, 5).reshape(2, 5)
    y = LAYERS[name](np.float64).forward(x)
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, LAYERS[name](np.float64).forward(x.astype(float)))


@pytest.mark.parametrize("name", LAYERS)
def test_complex_input_is_a_type_error(name):
    with pytest.raises(TypeError):
        LAYERS[name](np.float64).forward(np.ones((2, 5), complex))


@pytest.mark.parametrize("name", LAYERS)
def test_backward_before_forward(name):
    with pytest.raises(RuntimeError, match=r"\w+\.backward was called before forward"):
        LAYERS[name](np.float64).backward(np.ones((2, 3)))


def test_linear_formula_and_layouts():
    x = np.random.default_rng(5).normal(size=(4, 3))
    dy = np.random.default_rng(6).normal(size=(4, 2))
    a = Linear(3, 2, rng=7, dtype=np.float64)
    b = Linear(3, 2, rng=7, dtype=np.float64, weight_layout="out_in")
    assert a.params["weight"].shape == (3, 2)
    assert b.params["weight"].shape == (2, 3)
    assert b.params["weight"].flags.c_contiguous
    np.testing.assert_array_equal(a.params["weight"], b.params["weight"].T)
    a.params["bias"][:] = b.params["bias"][:] = [0.5, -0.25]
    expected = x @ a.params["weight"] + a.params["bias"]
    np.testing.assert_allclose(a.forward(x), expected, rtol=1e-14)
    np.testing.assert_allclose(b.forward(x), expected, rtol=1e-14)
    np.testing.assert_allclose(a.backward(dy), dy @ a.params["weight"].T, rtol=1e-14)
    np.testing.assert_allclose(b.backward(dy), a.backward(dy), rtol=1e-14)
    np.testing.assert_allclose(a.grads["weight"], x.T @ dy, rtol=1e-13)
    np.testing.assert_allclose(b.grads["weight"], a.grads["weight"].T, rtol=1e-13)
    np.testing.assert_allclose(a.grads["bias"], dy.sum(axis=0), rtol=1e-13)


def test_linear_initial_weights():
    layer = Linear(300, 200, rng=8)
    weight = layer.params["weight"]
    limit = np.sqrt(6 / 500)
    assert weight.dtype == np.float32
    assert np.max(np.abs(weight)) <= limit
    # A uniform distribution on ±limit has the standard deviation limit / √3.
    assert np.std(weight) == pytest.approx(limit / np.sqrt(3), rel=0.01)
    assert abs(np.mean(weight)) < 0.01 * limit
    assert not layer.params["bias"].any()
    assert "bias" not in Linear(3, 2, bias=False).params


def test_linear_seeds():
    def weight(rng):
        return Linear(4, 3, rng=rng).params["weight"]

    np.testing.assert_array_equal(weight(1), weight(1))
    np.testing.assert_array_equal(weight(1), weight(np.random.default_rng(1)))
    assert not np.array_equal(weight(1), weight(2))
    assert not np.array_equal(weight(None), weight(None))
    rng = np.random.default_rng(1)
    assert not np.array_equal(weight(rng), weight(rng)), "a generator goes on"


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0, 3), {}, ValueError, "n_in must be at least 1, got 0"),
        ((3, -1), {}, ValueError, "n_out must be at least 1, got -1"),
        ((3.0, 1), {}, TypeError, "n_in must be an integer, got float"),
        ((3, 1), {"weight_layout": "io"}, ValueError, "weight_layout .* got 'io'"),
        ((3, 1), {"dtype": np.int64}, TypeError, "dtype must be float32 or float64, got int64"),
    ],
)
def test_linear_bad_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        Linear(*arguments, **options)


def test_linear_grads_have_the_dtype_of_its_params():
    layer = Linear(3, 2, rng=1)
    layer.backward(np.ones_like(layer.forward(np.ones((4, 3)))))
    assert {grad.dtype for grad in layer.grads.values()} == {np.dtype(np.float32)}


def test_grads_are_overwritten():
    layer = Linear(3, 2, rng=1)
    x, dy = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
    for _ in range(2):
        layer.forward(x)
        layer.backward(dy)
    np.testing.assert_array_equal(layer.grads["bias"], [4, 4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("layer", "gradient"),
    [
        (Sigmoid(), lambda x: np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))) ** 2),
        (Tanh(), lambda x: 4 * np.exp(-2 * np.abs(x)) / (1 + np.exp(-2 * np.abs(x))) ** 2),
    ],
    ids=["sigmoid", "tanh"],
)
def test_gradients_keep_their_precision_in_both_tails(layer, gradient, dtype):
    x = np.array([-40, -25, -18, -3, 0, 3, 18, 25, 40], dtype)
    layer.forward(x)
    dx = layer.backward(np.ones_like(x))
    expected = gradient(x.astype(np.longdouble))
    assert np.all(dx > 0)
    np.testing.assert_allclose(dx, expected.astype(dtype), rtol=4 * np.finfo(dtype).eps)


def test_tanh_and_relu_special_values():
    x = np.array([-np.inf, -3e38, 0, 3e38, np.inf, np.nan], np.float32)
    tanh, relu = Tanh(), ReLU()
    np.testing.assert_array_equal(tanh.forward(x), np.float32([-1, -1, 0, 1, 1, np.nan]))
    dy = np.ones_like(x)
    np.testing.assert_array_equal(tanh.backward(dy), np.float32([0, 0, 1, 0, 0, np.nan]))
    np.testing.assert_array_equal(relu.forward(x), np.float32([0, 0, 0, 3e38, np.inf, np.nan]))
    dy = np.full_like(x, np.inf)
    np.testing.assert_array_equal(relu.backward(dy), np.float32([0, 0, 0] + 3 * [np.inf]))


def test_relu_wants_dy_in_the_shape_of_x():
    relu = ReLU()
    relu.forward(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"dy has shape \(3,\); expected \(2, 3\)"):
        relu.backward(np.ones(3))


def test_sequential_names():
    net = Sequential(Linear(4, 3, rng=1), Sigmoid(), Sequential(Linear(3, 2, bias=False)))
    assert list(net.params) == ["0.weight", "0.bias", "2.0.weight"]
    assert net.params["0.weight"] is net.layers[0].params["weight"]
    assert net.grads == {}
    net.backward(np.ones_like(net.forward(np.ones((2, 4)))))
    assert list(net.grads) == list(net.params)
    assert repr(net) == "Sequential(Linear(4, 3), Sigmoid(), Sequential(Linear(3, 2)))"


def test_sequential_is_its_layers_in_order():
    first, last = Linear(3, 3, rng=1), Softmax()
    x = np.random.default_rng(2).normal(size=(2, 3)).astype(np.float32)
    expected = last.forward(first.forward(x))
    np.testing.assert_array_equal(Sequential(first, last).forward(x), expected)


def test_sequential_bad_arguments():
    layer = Sigmoid()
    with pytest.raises(TypeError, match="argument 1 of Sequential must be a layer, got int"):
        Sequential(layer, 3)
    with pytest.raises(TypeError, match="argument 0 of Sequential must be a layer, got list"):
        Sequential([layer])
    with pytest.raises(TypeError, match="argument 0 of Sequential must be a layer, got ABCMeta"):
        Sequential(Sigmoid)
    with pytest.raises(ValueError, match=r"argument 2 of Sequential, Sigmoid\(\), appears twice"):
        Sequential(layer, Tanh(), layer)
    with pytest.raises(ValueError, match=r"argument 1 .*, Sigmoid\(\) within .*, appears twice"):
        Sequential(layer, Sequential(Sequential(Tanh(), layer)))


def test_parts():
    layers = Tanh(), Sigmoid()
    assert Sequential(*layers).parts == layers
    assert Tanh().parts == ()


def test_a_layer_of_ones_own():
    class Square(Layer):
        def forward(self, x):
            self._saved = np.asarray(x)
            return self._saved**2

        def backward(self, dy):
            return 2 * self._recall() * dy

    net = Sequential(Linear(5, 3, rng=1, dtype=np.float64), Square())
    rng = np.random.default_rng(3)
    assert_gradients_right(net, rng.normal(size=(4, 5)), rng)


def one_hot(labels, n_columns):
    return np.eye(n_columns)[labels]


LOGITS = np.random.default_rng(9).normal(scale=3, size=(6, 4))
LABELS = np.array([0, 3, 1, 2, 2, 0])


@pytest.mark.parametrize(
    "options",
    [{}, {"reduction": "sum"}, {"label_smoothing": 0.1}, {"ignore_index": 2}],
    ids=str,
)
@pytest.mark.parametrize("dloss", [1.0, -2.5])
def test_loss_gradient_by_finite_differences(options, dloss):
    loss, logits = SoftmaxCrossEntropy(**options), LOGITS.copy()
    loss.forward(logits, LABELS)
    dlogits = loss.backward(dloss)
    expected = numeric_gradient(lambda: dloss * loss.forward(logits, LABELS), logits)
    np.testing.assert_allclose(dlogits, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dloss", [1.0, 3.0, np.linspace(-2, 2, 6)], ids=["1", "3", "rows"])
def test_loss_of_rows_gradient_by_finite_differences(dloss):
    loss, logits = SoftmaxCrossEntropy(reduction="none"), LOGITS.copy()
    assert loss.forward(logits, LABELS).shape == (6,)
    dlogits = loss.backward(dloss)
    expected = numeric_gradient(lambda: np.sum(dloss * loss.forward(logits, LABELS)), logits)
    np.testing.assert_allclose(dlogits, expected, rtol=1e-6, atol=1e-8)


def test_loss_gradient_along_another_axis():
    loss = SoftmaxCrossEntropy(axis=0)
    value = loss.forward(LOGITS.T, LABELS)
    dlogits = loss.backward()
    usual = SoftmaxCrossEntropy()
    assert value == pytest.approx(usual.forward(LOGITS, LABELS), rel=1e-14)
    np.testing.assert_allclose(dlogits.T, usual.backward(), rtol=1e-13)


def test_loss_backward_can_be_called_again():
    loss = SoftmaxCrossEntropy()
    loss.forward(LOGITS, LABELS)
    first = loss.backward()
    expected = first.copy()
    first[:] = 0  # it is the caller's
    np.testing.assert_allclose(loss.backward(), expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loss_keeps_the_dtype(dtype):
    loss = SoftmaxCrossEntropy()
    assert loss.forward(LOGITS.astype(dtype), LABELS).dtype == dtype
    assert loss.backward().dtype == dtype
    assert loss.backward(2.0).dtype == dtype


PROBS = np.random.default_rng(10).dirichlet(np.ones(4), size=6)
FRACTIONS = np.random.default_rng(11).random(size=(6, 4))

# name -> (class, x, targets, function, options to try)
LOSSES = {
    "softmax": (
        SoftmaxCrossEntropy, LOGITS, LABELS, fastbp.softmax_cross_entropy,
        [{}, {"z_loss": 0.1, "softcap": 5.0}],
    ),
    "softmax of probabilities": (
        SoftmaxCrossEntropy, LOGITS, FRACTIONS, fastbp.softmax_cross_entropy, [{}],
    ),
    "sigmoid": (
        SigmoidCrossEntropy, LOGITS, FRACTIONS, fastbp.sigmoid_cross_entropy,
        [{}, {"pos_weight": np.array([1.0, 2.0, 0.5, 3.0])}],
    ),
    "cross_entropy": (CrossEntropy, PROBS, LABELS, fastbp.cross_entropy, [{}]),
    "cross_entropy of probabilities": (CrossEntropy, PROBS, FRACTIONS, fastbp.cross_entropy, [{}]),
    "squared": (SquaredError, LOGITS, FRACTIONS, fastbp.squared_error, [{}, {"half": True}]),
}  # fmt: skip
LOSS_CASES = [
    pytest.param(
        kind,
        x,
        targets,
        function,
        {**options, "reduction": reduction},
        id=f"{name} {i} {reduction}",
    )
    for name, (kind, x, targets, function, several) in LOSSES.items()
    for i, options in enumerate(several)
    for reduction in ("mean", "sum", "none")
]
losses = pytest.mark.parametrize(("kind", "x", "targets", "function", "options"), LOSS_CASES)


@losses
def test_a_loss_is_its_function(kind, x, targets, function, options):
    loss = kind(**options)
    value = loss.forward(x, targets)
    np.testing.assert_array_equal(value, function(x, targets, **options))
    assert (np.ndim(value) == 0) == (options["reduction"] != "none")
    assert 0 < gradcheck(loss, x, targets) <= 1


@losses
def test_any_dloss_of_a_loss(kind, x, targets, function, options):
    loss = kind(**options)
    value = np.asarray(loss.forward(x, targets))
    for _ in range(2):  # the first gradient is at hand, the second one is not
        given = loss.backward()
        expected = given.copy()
        np.testing.assert_allclose(loss.backward(1), expected, rtol=1e-13)
        given[...] = 0  # it is the caller's
    np.testing.assert_allclose(loss.backward(-2.5), -2.5 * expected, rtol=1e-13)
    np.testing.assert_allclose(
        loss.backward(np.full(value.shape, -2.5)), -2.5 * expected, rtol=1e-13
    )


@losses
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_keep_the_dtype(kind, x, targets, function, options, dtype):
    loss = kind(**options)
    assert loss.forward(x.astype(dtype), targets).dtype == dtype
    for dloss in (1.0, 2.0):
        dx = loss.backward(dloss)
        assert (dx.dtype, dx.shape) == (dtype, x.shape)


KINDS = [SoftmaxCrossEntropy, SigmoidCrossEntropy, CrossEntropy, SquaredError]


@pytest.mark.parametrize("kind", KINDS)
def test_loss_bad_use(kind):
    assert issubclass(kind, Loss)
    with pytest.raises(TypeError, match=rf"{kind.__name__} has no option 'reducton'; .*reduction"):
        kind(reducton="sum")
    with pytest.raises(TypeError, match="no option 'targets'"):
        kind(targets=LABELS)
    loss = kind()
    with pytest.raises(RuntimeError, match=rf"{kind.__name__}\.backward was called before forward"):
        loss.backward()
    loss.forward(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="shape"):
        loss.forward(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(RuntimeError, match="before forward"):
        loss.backward()
    assert repr(kind(reduction="sum")) == f"{kind.__name__}(reduction='sum')"


@pytest.mark.parametrize("head", ["softmax", "log_softmax"])
def test_separate_steps_give_the_gradient_of_the_fused_one(head):
    """Softmax, then −mean Σ t log p by hand, against the fused loss on logits."""
    t = one_hot(LABELS, 4)
    loss = SoftmaxCrossEntropy()
    value = loss.forward(LOGITS, LABELS)
    layer = Softmax() if head == "softmax" else LogSoftmax()
    y = layer.forward(LOGITS)
    if head == "softmax":
        separate_value, dy = -np.sum(t * np.log(y)) / 6, -t / y / 6
    else:
        separate_value, dy = -np.sum(t * y) / 6, -t / 6
    assert separate_value == pytest.approx(float(value), rel=1e-12)
    np.testing.assert_allclose(layer.backward(dy), loss.backward(), rtol=1e-10, atol=1e-14)


def test_whole_network_by_finite_differences():
    """The network of one hidden layer, down to its input, with the fused loss."""
    net = Sequential(
        Linear(5, 7, rng=1, dtype=np.float64), Sigmoid(), Linear(7, 4, rng=2, dtype=np.float64)
    )
    loss, x = SoftmaxCrossEntropy(), np.random.default_rng(3).normal(size=(6, 5))

    def function():
        return float(loss.forward(net.forward(x), LABELS))

    function()
    dx = net.backward(loss.backward())
    grads = copy.deepcopy(net.grads)
    np.testing.assert_allclose(dx, numeric_gradient(function, x), rtol=1e-6, atol=1e-8)
    for name, param in net.params.items():
        expected = numeric_gradient(function, param)
        np.testing.assert_allclose(grads[name], expected, rtol=1e-6, atol=1e-8, err_msg=name)


class Weights:
    """The least that an optimizer accepts."""

    def __init__(self, **params):
        self.params = {name: np.array(value, float) for name, value in params.items()}
        self.grads = {}


def test_sgd_by_hand():
    w = Weights(a=[1.0, 2.0])
    kept = w.params["a"]
    optimizer = SGD(w, lr=0.1, momentum=0.5)
    w.grads["a"] = np.array([1.0, -2.0])
    optimizer.step()  # v = g
    np.testing.assert_allclose(w.params["a"], [0.9, 2.2], rtol=1e-15)
    optimizer.step()  # v = 0.5 g + g
    np.testing.assert_allclose(w.params["a"], [0.75, 2.5], rtol=1e-15)
    assert w.params["a"] is kept, "parameters are changed in place"
    np.testing.assert_array_equal(w.grads["a"], [1.0, -2.0])


def test_adam_by_hand():
    w = Weights(a=[1.0, 2.0, 3.0])
    optimizer = Adam(w, lr=0.1, eps=0.0)
    w.grads["a"] = np.array([1e-3, -50.0, 0.5])
    optimizer.step()  # m̂ / √v̂ is the sign of the gradient in the first step
    np.testing.assert_allclose(w.params["a"], [0.9, 2.1, 2.9], rtol=1e-14)
    w.grads["a"] = np.zeros(3)
    optimizer.step()
    # m̂ = 0.9 · 0.1 g / 0.19, v̂ = 0.999 · 0.001 g² / (1 − 0.999²)
    step = 0.1 * (0.09 / 0.19) / np.sqrt(0.000999 / (1 - 0.999**2))
    np.testing.assert_allclose(w.params["a"], [0.9 - step, 2.1 + step, 2.9 - step], rtol=1e-13)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.05, "momentum": 0.9}),
        ("Adam", {}),
        ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps_are_those_of_torch(name, options, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    start = rng.normal(size=(4, 3)).astype(dtype)
    layer = Linear(4, 3, dtype=dtype, bias=False)
    layer.params["weight"][...] = start
    theirs = torch.nn.Parameter(torch.tensor(start))
    our_optimizer = {"SGD": SGD, "Adam": Adam}[name](layer, **options)
    their_optimizer = getattr(torch.optim, name)([theirs], **options)
    for _ in range(20):
        grad = rng.normal(size=(4, 3)).astype(dtype)
        layer.grads["weight"] = grad
        theirs.grad = torch.tensor(grad)
        our_optimizer.step()
        their_optimizer.step()
    actual = layer.params["weight"]
    assert actual.dtype == dtype
    assert not np.allclose(actual, start, atol=1e-3), "the steps must be large enough to see"
    tolerance = 50 * np.finfo(dtype).eps
    np.testing.assert_allclose(actual, theirs.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_step_before_backward_changes_nothing(optimizer):
    w = Weights(a=[1.0], b=[2.0])
    w.grads["a"] = np.array([1.0])
    stepper = optimizer(w, lr=0.1)
    with pytest.raises(RuntimeError, match=r"step was called before backward.*'b'"):
        stepper.step()
    assert w.params == {"a": [1.0], "b": [2.0]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: SGD(w, -0.1), "lr"),
        (lambda w: SGD(w, np.nan), "lr"),
        (lambda w: SGD(w, np.inf), "lr"),
        (lambda w: SGD(w, 0.1, momentum=1.0), r"momentum must be a number in \[0, 1\), got 1.0"),
        (lambda w: SGD(w, 0.1, momentum=-0.1), "momentum"),
        (lambda w: Adam(w, -1), "lr"),
        (lambda w: Adam(w, betas=(1.0, 0.9)), r"betas\[0\]"),
        (lambda w: Adam(w, betas=(0.9, -1)), r"betas\[1\]"),
        (lambda w: Adam(w, eps=-1e-8), "eps"),
        (lambda w: SGD(Sigmoid(), 0.1), r"Sigmoid\(\) has no parameters"),
    ],
)
def test_optimizer_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(Weights(a=[1.0]))


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_diverging_steps_do_not_warn(optimizer):
    layer = Linear(1, 1, bias=False, rng=1)
    layer.grads["weight"] = np.array([[3e38]], np.float32)
    stepper = optimizer(layer, lr=1e30)
    for _ in range(3):
        stepper.step()
    assert np.all(np.isfinite(layer.grads["weight"]))
