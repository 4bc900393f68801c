"""Gates and computation graphs: broadcasting, ties, branches, pruning, wrong graphs."""

import copy
import itertools
import pickle

import numpy as np
import pytest

from fastbp import layers
from fastbp.layers import (
    Add,
    Graph,
    Layer,
    Linear,
    Loss,
    Maximum,
    Minimum,
    Multiply,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    SoftmaxCrossEntropy,
    SquaredError,
    Tanh,
)
from fastbp.optim import SGD, Adam
from fastbp.testing import gradcheck
from fastbp.train import fit

GATES = {
    "add": (Add, np.add),
    "multiply": (Multiply, np.multiply),
    "maximum": (Maximum, np.maximum),
    "minimum": (Minimum, np.minimum),
}
SHAPES = [
    ((), ()),
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((), (2, 3)),
    ((1, 1, 1), (4,)),
    ((4, 1, 3), (2, 1)),
    ((0, 3), (1, 3)),
    ((2, 3), (3,), ()),
    ((3,), (2, 1), (1, 1), (1,)),
]


def numeric_gradients(function, arrays, h=1e-5):
    """The gradient of the number function(*arrays) by each array, by central differences."""
    gradients = []
    for array in arrays:
        gradient = np.empty_like(array)
        for i in np.ndindex(array.shape):
            saved = array[i]
            array[i] = saved + h
            above = function(*arrays)
            array[i] = saved - h
            below = function(*arrays)
            array[i] = saved
            gradient[i] = (above - below) / (2 * h)
        gradients.append(gradient)
    return gradients


def close(actual, expected, **options):
    np.testing.assert_allclose(actual, expected, **({"rtol": 1e-6, "atol": 1e-8} | options))


def as_type(name):
    return getattr(np if name != "bfloat16" else pytest.importorskip("ml_dtypes"), name)


# gates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", GATES)
def test_gates_broadcast_and_sum_gradients_back(name, shapes):
    gate, function = GATES[name]
    gate, rng = gate(), np.random.default_rng(1)
    inputs = [rng.normal(size=shape) for shape in shapes]
    y = gate.forward(*inputs)
    expected = inputs[0]
    for x in inputs[1:]:
        expected = function(expected, x)
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y, expected)
    dy = rng.normal(size=y.shape)
    gradients = gate.backward(dy)
    assert [g.shape for g in gradients] == [x.shape for x in inputs]
    numeric = numeric_gradients(lambda *xs: np.sum(dy * gate.forward(*xs)), inputs)
    for gradient, expected in zip(gradients, numeric, strict=True):
        assert isinstance(gradient, np.ndarray)
        close(gradient, expected)


@pytest.mark.parametrize(("gate", "first"), [(Maximum(), [3, 0, 0]), (Minimum(), [0, 3, 0])])
def test_ties_go_to_the_first(gate, first):
    a, b, c = np.array([2.0, 1.0, 0.0]), np.array([1.0, 2.0, 0.0]), np.array([1.0, 2.0, -0.0])
    gate.forward(a, b, c)
    da, db, dc = gate.backward([3.0, 3.0, 3.0])
    np.testing.assert_array_equal(da, [first[0], first[1], 3])
    np.testing.assert_array_equal(db, [first[1], first[0], 0])
    np.testing.assert_array_equal(dc, [0, 0, 0])


@pytest.mark.parametrize("gate", [Maximum(), Minimum()])
def test_zeros_are_equal_and_the_first_is_taken(gate):
    for n in (1, 3, 16, 100):
        for first, second in itertools.permutations([0.0, -0.0]):
            y = gate.forward(np.full(n, first), np.full(n, second))
            assert np.all(np.signbit(y) == np.signbit(first))


@pytest.mark.parametrize("gate", [Maximum(), Minimum()])
def test_nan_wins_and_the_first_of_them_gets_the_gradient(gate):
    nan = np.nan
    a, b, c = [1.0, nan, nan, -np.inf], [nan, 2.0, nan, np.inf], [nan, 3.0, 4.0, nan]
    np.testing.assert_array_equal(gate.forward(a, b, c), [nan] * 4)
    da, db, dc = gate.backward([np.inf, 2.0, nan, 4.0])
    np.testing.assert_array_equal(da, [0, 2, nan, 0])
    np.testing.assert_array_equal(db, [np.inf, 0, 0, 0])
    np.testing.assert_array_equal(dc, [0, 0, 0, 4])


def test_special_values_of_sums_and_products_do_not_warn():
    inf, nan = np.inf, np.nan
    add, multiply = Add(), Multiply()
    big = np.float32(3e38)
    np.testing.assert_array_equal(add.forward([inf, nan, 1.0], [-inf, 1.0, inf]), [nan, nan, inf])
    assert add.forward(big, big) == inf
    np.testing.assert_array_equal(multiply.forward([0.0, 2.0], [inf, -inf]), [nan, -inf])
    da, db = multiply.backward([0.0, 1.0])
    np.testing.assert_array_equal(da, [nan, -inf])
    np.testing.assert_array_equal(db, [0.0, 2.0])
    assert multiply.forward(big, big) == inf
    assert np.shape(multiply.backward(big)) == (2,)


def test_products_with_zeros_divide_nothing():
    gate = Multiply()
    assert gate.forward(0.0, 0.0, 3.0, 4.0) == 0
    np.testing.assert_array_equal(gate.backward(1.0), [0, 0, 0, 0])
    assert gate.forward(2.0, 0.0, 3.0, 4.0) == 0
    np.testing.assert_array_equal(gate.backward(0.5), [0, 12, 0, 0])


@pytest.mark.parametrize("name", GATES)
def test_gradients_are_arrays_of_their_own(name):
    gate = GATES[name][0]()
    x = np.ones((2, 3))
    y = gate.forward(x, x)
    assert not np.shares_memory(x, y)
    dy = np.ones((2, 3))
    gradients = gate.backward(dy)
    for one, other in itertools.combinations([dy, x, *gradients], 2):
        assert not np.shares_memory(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", GATES)
def test_the_first_input_decides_the_dtype(name, dtype):
    dtype = as_type(dtype)
    gate, rng = GATES[name][0](), np.random.default_rng(2)
    y = gate.forward(rng.normal(size=(4, 3)).astype(dtype), rng.normal(size=3), [[1]])
    assert y.dtype == dtype
    dy = rng.normal(size=(4, 3)).astype(dtype)
    assert {g.dtype for g in gate.backward(dy)} == {np.dtype(dtype)}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_computed_in_float32(dtype):
    dtype = as_type(dtype)
    ones = np.full(3000, 1, dtype)  # whose sum would stop at 2048, or 256
    add, multiply = Add(), Multiply()
    add.forward(dtype(0), ones)
    assert add.backward(ones)[0] == dtype(3000)
    y = multiply.forward(dtype(300), dtype(300), dtype(0.01))  # 300² is too large for float16
    assert y == dtype(np.float32(90000) * np.float32(dtype(0.01)))


@pytest.mark.parametrize("name", GATES)
def test_strides_change_no_bits(name):
    gate, rng = GATES[name][0](), np.random.default_rng(3)
    x, z = rng.normal(size=(37, 50)).astype(np.float32), rng.normal(size=50).astype(np.float32)
    dy = rng.normal(size=(37, 50)).astype(np.float32)
    y = gate.forward(x, z)
    gradients = gate.backward(dy)
    for arrange in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2]):
        np.testing.assert_array_equal(gate.forward(arrange(x), arrange(z)), y)
        for actual, expected in zip(gate.backward(arrange(dy)), gradients, strict=True):
            np.testing.assert_array_equal(actual, expected)


def test_wrong_use_of_a_gate():
    gate = Add()
    with pytest.raises(RuntimeError, match=r"Add\.backward was called before forward"):
        gate.backward(1.0)
    with pytest.raises(TypeError):
        gate.forward(1.0)
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\); expected .* that broadcast"):
        gate.forward(np.ones(2), np.ones(3))
    with pytest.raises(TypeError, match="input 1 has dtype complex128"):
        gate.forward(1.0, 1j)
    gate.forward(np.ones((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match=r"dy has shape \(3,\); expected \(2, 3\)"):
        gate.backward(np.ones(3))
    assert repr(gate) == "Add()"
    assert gate.params == gate.grads == {}


# graphs -------------------------------------------------------------------------------------------


class Spy(Layer):
    """Hands on what it gets, and counts."""

    def __init__(self):
        super().__init__()
        self.n_forward = self.n_backward = 0

    def forward(self, x):
        self.n_forward += 1
        return np.asarray(x)

    def backward(self, dy):
        self.n_backward += 1
        return dy


def branches(rng=1):
    """x feeds two layers, one of them two gates; a gate takes the same value twice."""
    return Graph(
        {
            "y": (Linear(4, 2, rng=rng + 2, dtype=np.float64), "sum"),
            "sum": (Add(), "square", "gated", "right"),
            "square": (Multiply(), "left", "left"),
            "gated": (Multiply(), "left", "right"),
            "left": (Sequential(Linear(3, 4, rng=rng, dtype=np.float64), Tanh()), "x"),
            "right": (Linear(3, 4, rng=rng + 1, bias=False, dtype=np.float64), "x"),
        },
        inputs="x",
        output="y",
    )


def test_a_graph_with_branches_by_hand():
    graph = branches()
    x = np.random.default_rng(2).normal(size=(5, 3))
    p = graph.params
    left = np.tanh(x @ p["left.0.weight"] + p["left.0.bias"])
    right = x @ p["right.weight"]
    expected = (left * left + left * right + right) @ p["y.weight"] + p["y.bias"]
    close(graph.forward(x), expected, rtol=1e-13)
    graph.backward(np.ones((5, 2)))
    dsum = np.ones((5, 2)) @ p["y.weight"].T
    close(graph.grads["right.weight"], x.T @ (dsum * (left + 1)), rtol=1e-12)
    dleft = dsum * (2 * left + right) * (1 - left**2)
    close(graph.grads["left.0.bias"], dleft.sum(axis=0), rtol=1e-12)


def test_gradcheck_of_a_graph_with_branches():
    x = np.random.default_rng(2).normal(size=(5, 3))
    assert 0 < gradcheck(branches(), x) <= 1
    assert 0 < gradcheck(Sequential(Tanh(), branches(), Sigmoid()), x) <= 1


def test_gradcheck_finds_a_wrong_branch():
    class Wrong(Tanh):
        def backward(self, dy):
            return 1.001 * super().backward(dy)

    nodes = branches().nodes | {"left": (Linear(3, 4, rng=1, dtype=np.float64), "wrong")}
    graph = Graph(nodes | {"wrong": (Wrong(), "x")}, "x", "y")
    with pytest.raises(AssertionError, match="gradient of x"):
        gradcheck(graph, np.random.default_rng(2).normal(size=(5, 3)))


def test_several_inputs_and_outputs():
    graph = Graph(
        {"u": (Multiply(), "a", "b"), "v": (Add(), "u", "a"), "w": (Tanh(), "v")},
        inputs=("a", "b"),
        output=("w", "u"),  # u feeds another node too
    )
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(3, 2)), rng.normal(size=2)
    w, u = graph.forward(a, b)
    close(u, a * b)
    close(w, np.tanh(a * b + a))
    dw, du = rng.normal(size=(2, 3, 2))
    gradients = graph.backward(dw, du)

    def function(a, b):
        w, u = graph.forward(a, b)
        return np.sum(dw * w) + np.sum(du * u)

    for gradient, expected in zip(gradients, numeric_gradients(function, [a, b]), strict=True):
        close(gradient, expected)


def test_one_name_is_one_name_in_a_list_too():
    graph = Graph({"y": (Tanh(), "x")}, inputs=["x"], output=["y"])
    assert graph.forward([0.5]).shape == (1,)
    assert graph.backward([1.0]).shape == (1,)
    assert (graph.inputs, graph.outputs, graph.input_grads) == (("x",), ("y",), ("x",))


@pytest.mark.parametrize("order", list(itertools.permutations("abcd")), ids="".join)
def test_nodes_come_in_any_order(order):
    nodes = {
        "a": (Sigmoid(), "x"),
        "b": (Tanh(), "a"),
        "c": (Multiply(), "a", "b"),
        "d": (Add(), "c", "x"),
    }
    graph = Graph({name: nodes[name] for name in order}, "x", "d")
    assert list(graph.nodes) == list("abcd")
    x = np.linspace(-2, 2, 7)
    s = 1 / (1 + np.exp(-x))
    close(graph.forward(x), s * np.tanh(s) + x, rtol=1e-13)
    assert gradcheck(graph, x) <= 1


def test_each_node_is_computed_once():
    spies = [Spy() for _ in range(4)]
    graph = Graph(
        {
            "a": (spies[0], "x"),
            "b": (spies[1], "a"),
            "c": (spies[2], "a"),
            "d": (Add(), "b", "c", "a"),
            "e": (spies[3], "d"),
        },
        "x",
        "e",
    )
    np.testing.assert_array_equal(graph.forward([1.0]), [3.0])
    np.testing.assert_array_equal(graph.backward([1.0]), [3.0])
    assert [(spy.n_forward, spy.n_backward) for spy in spies] == [(1, 1)] * 4


def pruned(**options):
    """A spy before every layer: Linear of "x", nothing to learn from "z"."""
    spies = {name: Spy() for name in "abcd"}
    graph = Graph(
        {
            "a": (spies["a"], "x"),
            "linear": (Linear(3, 3, rng=1, dtype=np.float64), "a"),
            "b": (spies["b"], "linear"),
            "c": (spies["c"], "z"),
            "sum": (Add(), "b", "c"),
            "d": (spies["d"], "sum"),
        },
        inputs=("x", "z"),
        output="d",
        **options,
    )
    graph.forward(np.ones((2, 3)), np.ones(3))
    gradients = graph.backward(np.ones((2, 3)))
    called = "".join(name for name, spy in spies.items() if spy.n_backward)
    returned = [gradient is not None for gradient in gradients]
    np.testing.assert_array_equal(graph.grads["linear.bias"], [2, 2, 2])
    return called, returned


@pytest.mark.parametrize(
    ("input_grads", "called", "returned"),
    [
        (True, "abcd", [True, True]),
        (False, "bd", [False, False]),
        (("x",), "abd", [True, False]),
        ("z", "bcd", [False, True]),
        ([], "bd", [False, False]),
    ],
)
def test_backward_runs_only_where_a_gradient_is_needed(input_grads, called, returned):
    assert pruned(input_grads=input_grads) == (called, returned)


def test_without_parameters_and_gradients_nothing_runs():
    spy = Spy()
    graph = Graph({"y": (spy, "x")}, "x", "y", input_grads=False)
    graph.forward([1.0])
    assert graph.backward([1.0]) is None
    assert spy.n_backward == 0


def test_a_first_graph_without_input_gradient():
    block = Graph({"y": (Linear(3, 2, rng=1), "x")}, "x", "y", input_grads=False)
    net = Sequential(block, Sigmoid())
    net.backward(np.ones_like(net.forward(np.ones((4, 3)))))
    assert net.backward(np.ones((4, 2))) is None
    assert net.grads["0.y.weight"].shape == (3, 2)


def test_names_of_parameters():
    graph = branches()
    expected = ["left.0.weight", "left.0.bias", "right.weight", "y.weight", "y.bias"]
    assert sorted(graph.params) == sorted(expected)
    assert graph.params["right.weight"] is graph.nodes["right"][0].params["weight"]
    assert graph.grads == {}
    graph.backward(np.ones_like(graph.forward(np.ones((2, 3)))))
    assert list(graph.grads) == list(graph.params)
    outer = Sequential(Tanh(), graph)
    assert sorted(outer.params) == sorted(f"1.{name}" for name in expected)


def test_repr():
    graph = Graph({"y": (Add(), "x", "z"), "w": (Tanh(), "y")}, ("x", "z"), "w")
    assert repr(graph) == "Graph({'y': (Add(), 'x', 'z'), 'w': (Tanh(), 'y')}, ('x', 'z'), 'w')"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])  # noqa: S301
def test_copies_have_parameters_of_their_own(copied):
    graph, x = branches(), np.ones((2, 3))
    other = copied(graph)
    np.testing.assert_array_equal(other.forward(x), graph.forward(x))
    other.params["y.bias"] += 1
    np.testing.assert_array_equal(other.forward(x), graph.forward(x) + 1)


# losses and targets -------------------------------------------------------------------------------


def with_loss(**options):
    """Linear, then a loss as the last node."""
    return Graph(
        {
            "logits": (Linear(3, 4, rng=1, dtype=np.float64), "x"),
            "loss": (SoftmaxCrossEntropy(**options), "logits", "labels"),
        },
        inputs=("x", "labels"),
        output="loss",
    )


X = np.random.default_rng(5).normal(size=(6, 3))
LABELS = np.array([0, 3, 1, 2, 2, 0])


@pytest.mark.parametrize("dloss", [None, 1.0, -2.5])
def test_a_loss_as_the_last_node(dloss):
    graph = with_loss()
    assert graph.input_grads == ("x",)
    value = graph.forward(X, LABELS)
    dx, dlabels = graph.backward() if dloss is None else graph.backward(dloss)
    assert dlabels is None
    linear, loss = Linear(3, 4, rng=1, dtype=np.float64), SoftmaxCrossEntropy()
    assert value == loss.forward(linear.forward(X), LABELS)
    np.testing.assert_array_equal(dx, linear.backward(loss.backward(dloss or 1.0)))
    np.testing.assert_array_equal(graph.grads["logits.weight"], linear.grads["weight"])


def test_a_loss_of_rows():
    graph = with_loss(reduction="none")
    assert graph.forward(X, LABELS).shape == (6,)
    of_number, _ = graph.backward(2.0)
    of_rows, _ = graph.backward(np.full(6, 2.0))
    np.testing.assert_array_equal(of_number, of_rows)


def test_two_losses_and_their_sum():
    """Losses add up, and are also returned; the sum's own gradient and theirs add up."""
    graph = Graph(
        {
            "h": (Linear(3, 4, rng=1, dtype=np.float64), "x"),
            "class": (SoftmaxCrossEntropy(), "h", "labels"),
            "value": (SquaredError(half=True), "h", "values"),
            "weighted": (Multiply(), "value", "factor"),
            "sum": (Add(), "class", "weighted"),
        },
        inputs=("x", "labels", "values", "factor"),
        output=("sum", "class"),
        input_grads="x",
    )
    values = np.random.default_rng(6).normal(size=(6, 4))
    graph.forward(X, LABELS, values, 0.3)
    dx, *others = graph.backward(1.0, 0.5)
    assert others == [None] * 3

    def function(x):
        total, of_classes = graph.forward(x, LABELS, values, 0.3)
        return total + 0.5 * of_classes

    close(dx, *numeric_gradients(function, [X.copy()]))


def test_what_leads_only_to_targets_is_not_trained():
    teacher = Sequential(Linear(3, 4, rng=2, dtype=np.float64), Softmax())
    graph = Graph(
        {
            "teacher": (teacher, "x"),
            "student": (Linear(3, 4, rng=1, dtype=np.float64), "x"),
            "loss": (SoftmaxCrossEntropy(), "student", "teacher"),
        },
        "x",
        "loss",
    )
    assert list(graph.params) == ["student.weight", "student.bias"]
    before = graph.forward(X)
    dx = graph.backward()
    assert list(graph.grads) == list(graph.params)
    assert teacher.grads == {}
    optimizer = SGD(graph, 1.0)
    for _ in range(50):
        graph.forward(X)
        graph.backward()
        optimizer.step()
    assert graph.forward(X) < before
    student = Linear(3, 4, rng=1, dtype=np.float64)
    loss = SoftmaxCrossEntropy()
    loss.forward(student.forward(X), teacher.forward(X))
    np.testing.assert_array_equal(dx, student.backward(loss.backward()))


def test_a_nested_graph_that_gives_no_gradient_stops_it():
    spy = Spy()
    inner = Graph({"y": (Linear(3, 2, rng=1), "x")}, "x", "y", input_grads=False)
    graph = Graph(
        {"before": (Linear(3, 3, rng=2), "x"), "spy": (spy, "before"), "inner": (inner, "spy")},
        "x",
        "inner",
    )
    assert graph.input_grads == ()
    assert list(graph.params) == ["inner.y.weight", "inner.y.bias"]
    graph.forward(np.ones((2, 3)))
    assert graph.backward(np.ones((2, 2))) is None
    assert spy.n_backward == 0


def test_a_nested_graph_with_targets():
    outer = Graph({"all": (with_loss(), "x", "labels")}, ("x", "labels"), "all")
    assert outer.input_grads == ("x",)
    value = outer.forward(X, LABELS)
    dx, dlabels = outer.backward(1.0)
    assert dlabels is None
    graph = with_loss()
    assert value == graph.forward(X, LABELS)
    np.testing.assert_array_equal(dx, graph.backward()[0])
    assert list(outer.grads) == ["all.logits.weight", "all.logits.bias"]


# training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer", [lambda g: SGD(g, 0.1, momentum=0.9), lambda g: Adam(g, 0.05)]
)
def test_a_graph_is_trained(optimizer):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(120, 3))
    labels = (x[:, 0] * x[:, 1] > 0).astype(int)  # no linear model knows that
    graph = branches()
    history = fit(
        graph, SoftmaxCrossEntropy(), (x, labels), epochs=60, batch_size=20, tol=0, rng=1,
        optimizer=optimizer(graph), validation=(x, labels),
    )  # fmt: skip
    assert history.accuracy[-1] > 0.95
    assert history.loss[-1] < 0.3 * history.loss[0]


# wrong graphs -------------------------------------------------------------------------------------


class NoGradient(Layer):
    """backward forgets the second input."""

    def __init__(self, returned):
        super().__init__()
        self.returned = returned

    def forward(self, a, b):
        return np.asarray(a)

    def backward(self, dy):
        return self.returned


TWICE = Sigmoid()

WRONG = [
    ({"a": (Sigmoid(), "b"), "b": (Tanh(), "a")}, "x", "a", "form a cycle: (a → b → a|b → a → b)"),
    ({"a": (Add(), "x", "a")}, "x", "a", "form a cycle: a → a"),
    ({"a": (Sigmoid(), "z")}, "x", "a", "node 'a' takes 'z', neither a node nor an input"),
    ({"x": (Sigmoid(), "x")}, "x", "x", "'x' is the name of an input and of a node"),
    ({"a": (Sigmoid(), "x"), "b": (Tanh(), "x")}, "x", "a", "node 'b' leads to no output"),
    ({"a": (Sigmoid(), "x")}, ("x", "z"), "a", "input 'z' leads to no output"),
    ({"a": (TWICE, "x"), "b": (TWICE, "a")}, "x", "b", r"node 'b' holds Sigmoid\(\), .* twice"),
    (
        {"a": (Sequential(TWICE), "x"), "b": (Tanh(), "a"), "c": (TWICE, "b")},
        "x", "c", r"node 'c' holds Sigmoid\(\), which appears twice",
    ),
    ({"a": (Sigmoid(),)}, "x", "a", "node 'a' has no inputs"),
    ({"a": (Add(), "x")}, "x", "a", "node 'a' has 1 inputs; Add.forward: missing .*'b'"),
    ({"a": (Sigmoid(), "x", "x")}, "x", "a", "node 'a' has 2 inputs; Sigmoid.forward: too many"),
    ({"a": (SquaredError(), "x")}, "x", "a", "1 inputs; SquaredError.forward: missing .*targets"),
    ({"a": (branches(), "x", "x")}, "x", "a", "node 'a' has 2 inputs; its graph takes 1"),
    (
        {"a": (Graph({"y": (Tanh(), "x"), "z": (Tanh(), "x")}, "x", ("y", "z")), "x")},
        "x", "a", "node 'a' is a graph of several outputs; expected one",
    ),
    ({"a": (Sigmoid(), "x")}, "x", "b", "output 'b' is unknown; expected the name of a node"),
    ({"a": (Sigmoid(), "x")}, "x", ("a", "x"), "output 'x' is an input; expected the name of a"),
    ({"a": (Sigmoid(), "x")}, "x", ("a", "a"), "output names 'a' twice"),
    ({"a": (Sigmoid(), "x")}, ("x", "x"), "a", "inputs names 'x' twice"),
    ({"a": (Sigmoid(), "x")}, (), "a", "inputs is empty; expected a name or several"),
    ({"a": (Sigmoid(), "x")}, "x", (), "output is empty; expected a name or several"),
    ({"a.b": (Sigmoid(), "x")}, "x", "a.b", "output has the name 'a.b'; .* without a dot"),
    ({"a.b": (Sigmoid(), "x")}, "x", "a", "nodes has the name 'a.b'; expected one without a dot"),
    ({}, "x", "a", "nodes is empty; expected at least one"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "inputs", "output", "message"), WRONG, ids=[w[3] for w in WRONG])
def test_a_wrong_graph_is_a_value_error(nodes, inputs, output, message):
    with pytest.raises(ValueError, match=message):
        Graph(nodes, inputs, output)


@pytest.mark.parametrize(
    ("nodes", "inputs", "message"),
    [
        ([("a", Sigmoid(), "x")], "x", "nodes is a list; expected a dict"),
        ({"a": Sigmoid()}, "x", r"node 'a' is a Sigmoid; expected \(layer, names"),
        ({"a": ("x", Sigmoid())}, "x", "node 'a' must begin with a layer, got 'x'"),
        ({"a": (Sigmoid, "x")}, "x", "node 'a' must begin with a layer, got <class"),
        ({"a": ()}, "x", "node 'a' must begin with a layer, got nothing"),
        ({"a": (Sigmoid(), 1)}, "x", "node 'a' takes 1; expected the name of an input"),
        ({1: (Sigmoid(), "x")}, "x", "nodes has the name 1; expected a string"),
        ({"a": (Sigmoid(), "x")}, ["x", 1], "inputs has the name 1; expected a string"),
    ],
)
def test_a_wrong_kind_is_a_type_error(nodes, inputs, message):
    with pytest.raises(TypeError, match=message):
        Graph(nodes, inputs, "a")


@pytest.mark.parametrize(
    ("input_grads", "message"),
    [
        ("z", "input_grads names 'z', which is no input"),
        (("x", "x"), "input_grads names 'x' twice"),
        ("t", "input 't' is only a target, which has no gradient"),
    ],
)
def test_wrong_input_grads(input_grads, message):
    nodes = {"a": (SquaredError(), "x", "t")}
    with pytest.raises(ValueError, match=message):
        Graph(nodes, ("x", "t"), "a", input_grads=input_grads)


def test_wrong_calls():
    graph = Graph({"y": (Add(), "a", "b")}, ("a", "b"), "y")
    with pytest.raises(RuntimeError, match=r"Graph\.backward was called before forward"):
        graph.backward(1.0)
    with pytest.raises(TypeError, match=r"forward takes one input for each of a, b; got 1"):
        graph.forward(1.0)
    graph.forward(np.ones((2, 3)), 1.0)
    with pytest.raises(TypeError, match=r"backward takes one gradient for each of y; got 0"):
        graph.backward()
    with pytest.raises(ValueError, match=r"dy has shape \(3,\); expected \(2, 3\), .* output 'y'"):
        graph.backward(np.ones(3))
    with pytest.raises(ValueError, match="broadcast"):
        graph.forward(np.ones(2), np.ones(3))
    with pytest.raises(RuntimeError, match="before forward"):
        graph.backward(np.ones((2, 3)))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.ones(2), "has 2 inputs, but its backward returned no tuple"),
        ((np.ones(2),), "has 2 inputs, but its backward returned 1 gradients"),
        ((np.ones(2), None), r"node 'y', NoGradient\(\), has no gradient of 'b'"),
    ],
)
def test_a_layer_that_gives_too_few_gradients(returned, message):
    nodes = {"y": (NoGradient(returned), "a", "b")}
    graph = Graph(nodes, ("a", "b"), "y")
    graph.forward(np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match=message):
        graph.backward(np.ones(2))


def test_a_gradient_that_nobody_needs_may_be_missing():
    graph = Graph(
        {"y": (NoGradient((np.ones(2), None)), "a", "b")}, ("a", "b"), "y", input_grads="a"
    )
    graph.forward(np.ones(2), np.ones(2))
    da, db = graph.backward(np.ones(2))
    np.testing.assert_array_equal(da, [1, 1])
    assert db is None


def test_a_loss_of_ones_own_is_known_by_its_class():
    class Absolute(Loss):
        def forward(self, x, targets):
            self.signs = np.sign(x - targets)
            return np.sum(np.abs(x - targets))

        def backward(self, dloss=1.0):
            return dloss * self.signs

    graph = Graph({"h": (ReLU(), "x"), "loss": (Absolute(), "h", "t")}, ("x", "t"), "loss")
    assert graph.forward([1.0, 2.0], [3.0, 0.0]) == 4
    dx, dt = graph.backward()
    np.testing.assert_array_equal(dx, [-1, 1])
    assert dt is None


def test_overflow_of_a_sum_of_gradients_does_not_warn():
    graph = Graph({"a": (Tanh(), "x"), "y": (Add(), "a", "x")}, "x", "y")
    graph.forward(np.zeros(2, np.float32))
    dx = graph.backward(np.array([3e38, 1], np.float32))
    np.testing.assert_array_equal(dx, np.array([np.inf, 2], np.float32))


def test_everything_is_exported():
    assert sorted(layers.__all__) == list(layers.__all__)
    assert all(hasattr(layers, name) for name in layers.__all__)
