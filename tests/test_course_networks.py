"""The course notes on backpropagation, row by row: layers, computation graphs and training.

`test_course_notes.py` has the same for functions, and says what a row is. Together they check every
row but 4-22, advice on the number and the width of layers.
"""

import itertools

import numpy as np
import pytest
from course import SEEDS, close, numerical_gradient, register, seed

import fastbp
from fastbp import reference
from fastbp.layers import (
    Add,
    CrossEntropy,
    Graph,
    Linear,
    Maximum,
    Minimum,
    Multiply,
    Sequential,
    Sigmoid,
    SigmoidCrossEntropy,
    Softmax,
    SoftmaxCrossEntropy,
    SquaredError,
    Tanh,
)
from fastbp.optim import SGD
from fastbp.train import accuracy, fit

ROWS = {}  # row -> check()
LEFT_OUT = {"4-22"}
row = register(ROWS)


def linear_layer(weight, bias=None, layout="in_out"):
    """A Linear in float64 with these parameters."""
    weight = np.array(weight, float)
    n_in, n_out = weight.shape if layout == "in_out" else weight.shape[::-1]
    options = {"bias": bias is not None, "weight_layout": layout, "dtype": np.float64}
    layer = Linear(n_in, n_out, **options)
    layer.params["weight"][...] = weight
    if bias is not None:
        layer.params["bias"][...] = bias
    return layer


def jacobian(graph, *inputs):
    """d output / d input, row by row, of a graph of numbers: several outputs, or one vector."""
    y = graph.forward(*inputs)
    if isinstance(y, tuple):
        rows = [graph.backward(*dy) for dy in np.eye(len(y))]
    else:
        rows = [graph.backward(dy) for dy in np.eye(y.size)]
    return np.array([np.ravel([g for g in np.atleast_1d(row) if g is not None]) for row in rows])


@row("0-3", "0-8", "0-9", "0-10", "0-11", "0-12", "1-4", "1-7", "1-8", "1-9", "1-10", "4-27", "B")
def the_layers_of_one_hidden_layer():
    b = seed("B_one_hidden_layer_sum")
    first, last = linear_layer(b["W1"], b["b1"]), linear_layer(b["W2"], b["b2"])
    net, loss = Sequential(first, Sigmoid(), last), SoftmaxCrossEntropy(reduction="sum")
    close(loss.forward(net.forward(b["X"]), b["labels"]), b["loss_sum"])
    close(net.backward(loss.backward()), b["dX"])
    for layer, i in ((first, 1), (last, 2)):
        close(layer.grads["weight"], b[f"dW{i}"])
        close(layer.grads["bias"], b[f"db{i}"])
    # With softmax and cross-entropy as modules of their own.
    softmax, on_probs = Softmax(), CrossEntropy(reduction="sum")
    probs = softmax.forward(net.forward(b["X"]))
    close(probs, b["probs"])
    close(on_probs.forward(probs, b["labels"]), b["loss_sum"])
    dlogits = softmax.backward(on_probs.backward())
    close(dlogits, b["dlogits"])
    close(net.backward(dlogits), b["dX"])


@row("2-2")
def bias_of_one_row_and_of_a_whole_batch():
    """db = 1^T dY for one b that all rows share; a B of the shape of Y has dB = dY."""
    c = seed("C_linear_W_NxM")
    gate = Add()
    xw = linear_layer(c["W"], layout="out_in").forward(c["X"])
    close(gate.forward(xw, c["b"]), c["Y"])
    close(gate.backward(c["dY"])[1], c["db"])
    close(gate.forward(xw, np.tile(c["b"], (2, 1))), c["Y"])
    close(gate.backward(c["dY"])[1], c["dY"])


@row("4-8", "4-12", "4-13", "E")
def a_step_of_logistic_regression():
    """theta <- theta - eta * gradient."""
    e = seed("E_logistic_regression")
    model, loss = linear_layer(e["theta"][:, None]), SigmoidCrossEntropy(reduction="sum")
    close(loss.forward(model.forward(e["X"]), e["y"][:, None]), e["bce_sum"])
    model.backward(loss.backward())
    close(model.grads["weight"][:, 0], e["grad"])
    SGD(model, lr=float(e["eta"])).step()
    close(model.params["weight"][:, 0], e["theta_next"])


@row("4-20", "4-21", "4-23")
def a_step_of_softmax_regression():
    b = seed("B_one_hidden_layer_sum")
    theta = np.array([[0.1, -0.2, 0.3], [0.0, 0.4, -0.5]])
    model, loss = linear_layer(theta, layout="out_in"), SoftmaxCrossEntropy(reduction="sum")
    p = reference.softmax(b["h"] @ theta.T)
    loss.forward(model.forward(b["h"]), b["labels"])
    model.backward(loss.backward())
    SGD(model, lr=0.1).step()
    close(model.params["weight"], theta - 0.1 * (p - np.eye(2)[b["labels"]]).T @ b["h"])


SEPARABLE = np.array([[-2.0, 1.0], [-1.0, 2.0], [1.0, -1.0], [2.0, 0.5]])
CLASSES = np.array([0, 0, 1, 1])


def logistic_model(lr, epochs, tol):
    """A model of two weights after descent over SEPARABLE, the history, and the last step."""
    model = linear_layer([[-0.1, 0.1], [0.1, -0.1]])
    steps = []

    class Recorded(SGD):
        def step(self):
            super().step()
            steps.append(self.lr * np.max(np.abs(self.layer.grads["weight"])))

    history = fit(
        model, SoftmaxCrossEntropy(), (SEPARABLE, CLASSES), epochs=epochs, batch_size=4, tol=tol,
        optimizer=Recorded(model, lr),
    )  # fmt: skip
    return model, history, steps[-1]


@row("4-9")
def stop_when_the_loss_no_longer_changes():
    """The rule is on the change of the loss: here theta still moves by more than tol, and would."""
    tol = 1e-4
    _, history, last_step = logistic_model(lr=0.5, epochs=1000, tol=tol)
    changes = np.abs(np.diff(history.loss))
    assert history.stop_reason == "converged"
    assert changes[-1] < tol <= np.min(changes[:-1])
    assert last_step > 5 * tol


@row("4-10")
def learning_rates_and_the_loss_without_gradient():
    """Too small a rate hardly moves, too large a one diverges; the 0/1 loss has gradient 0."""
    x, y = np.array([[1.0, 2.0], [1.0, -1.0], [1.0, 0.5]]), np.array([[3.0], [-3.0], [0.0]])
    reached = {}
    for lr in (1e-6, 0.1, 10.0):
        model = linear_layer([[0.0], [0.0]])
        history = fit(
            model, SquaredError(), (x, y), epochs=300, batch_size=3, tol=0, optimizer=SGD(model, lr)
        )
        reached[lr] = history
    assert reached[1e-6].loss[-1] > 0.99 * reached[1e-6].loss[0]
    assert reached[0.1].loss[-1] < 1e-9
    assert reached[10.0].stop_reason == "diverged"

    model, _, _ = logistic_model(lr=0.01, epochs=1, tol=0)
    weight = model.params["weight"]

    def zero_one_loss(changed):
        model.params["weight"][...] = changed
        return 1 - accuracy(model, SEPARABLE, CLASSES)

    start = weight.copy()
    np.testing.assert_array_equal(numerical_gradient(zero_one_loss, start), np.zeros((2, 2)))
    loss = SoftmaxCrossEntropy()
    weight[...] = start
    loss.forward(model.forward(SEPARABLE), CLASSES)
    model.backward(loss.backward())
    assert np.min(np.abs(model.grads["weight"])) > 0.1


@row("4-14", "4-15")
def one_against_all_and_one_against_one():
    """k models of one class against all; k (k - 1) / 2 pairs. Rows of weights are templates."""
    rng = np.random.default_rng(1)
    x, labels, k = rng.normal(size=(20, 3)), rng.integers(0, 4, size=20), 4
    weight = rng.normal(size=(k, 3))
    heads, loss = linear_layer(weight, layout="out_in"), SigmoidCrossEntropy(reduction="sum")
    logits = heads.forward(x)
    loss.forward(logits, np.eye(k)[labels])
    heads.backward(loss.backward())
    for j in range(k):  # k heads are k logistic regressions, which know nothing of each other
        alone = linear_layer(weight[j : j + 1], layout="out_in")
        loss.forward(alone.forward(x), labels[:, None] == j)
        dx = alone.backward(loss.backward())
        close(alone.grads["weight"][0], heads.grads["weight"][j])
        # What raises a class's logit most is its row of weights: the template.
        error = fastbp.sigmoid(logits[:, j : j + 1]) - (labels[:, None] == j)
        close(dx, error * weight[j])
    sums = [np.sum(fastbp.sigmoid(logits + bias), axis=1) for bias in (-3, 0)]
    assert np.max(sums[0]) < 0.9
    assert np.min(sums[1]) > 1.1
    close(np.sum(fastbp.softmax(logits), axis=1), 1)

    pairs = list(itertools.combinations(range(k), 2))
    assert len(pairs) == k * (k - 1) // 2 != k * (k + 1) // 2


@row("4-28")
def hidden_units_that_start_equal_stay_equal():
    """Small random weights start the units apart; equal ones have equal gradients for ever."""
    f = seed("F_cg12_l2_network")
    equal, random = np.full((3, 3), 0.1), Linear(3, 3, rng=0, dtype=np.float64).params["weight"]
    assert 0 < np.max(np.abs(random)) <= 1
    for start, stay_equal in ((equal, True), (random, False)):
        first = linear_layer(start)
        net, loss = Sequential(first, Sigmoid(), linear_layer(np.full((3, 1), 0.1))), SquaredError()
        optimizer = SGD(net, 0.01)
        for _ in range(10):
            loss.forward(net.forward(f["X"]), f["y"][:, None])
            net.backward(loss.backward())
            optimizer.step()
        units = first.params["weight"]
        assert np.array_equal(units, np.tile(units[:, :1], 3)) == stay_equal
        assert not np.array_equal(units, start)


# --- computation graphs -------------------------------------------------------------------------


@row("4-29")
def chain_rule_through_two_functions():
    """L = (w2 (w1 x) - y)^2; dL/dw2 holds no dz/dw1, as CG3 has it."""
    graph = Graph(
        {
            "z": (Multiply(), "w1", "x"),
            "yhat": (Multiply(), "w2", "z"),
            "loss": (SquaredError(reduction="sum"), "yhat", "y"),
        },
        inputs=("w1", "w2", "x", "y"),
        output="loss",
    )
    w1, w2, x, y = 0.5, -2.0, 3.0, 1.0
    error = w2 * w1 * x - y
    close(graph.forward(w1, w2, x, y), error**2)
    dw1, dw2, dx, dy = graph.backward()
    close(dw1, 2 * error * w2 * x)
    close(dw2, 2 * error * w1 * x)
    close(dx, 2 * error * w2 * w1)
    assert dy is None


@row("4-32")
def only_needed_partials_are_computed():
    """Those on a way from the loss to a weight: none of the data, nor of what is made of it."""
    called = []

    def seen(name, base, *arguments, **options):
        class Seen(base):
            def backward(self, *dy):
                called.append(name)
                return super().backward(*dy)

        return Seen(*arguments, **options)

    graph = Graph(
        {
            "scaled": (seen("scaled", Tanh), "x"),
            "a": (seen("a", Linear, 2, 2, rng=0), "scaled"),
            "b": (seen("b", Sigmoid), "a"),
            "c": (seen("c", Linear, 2, 1, rng=0), "b"),
            "loss": (seen("loss", SquaredError), "c", "y"),
        },
        inputs=("x", "y"),
        output="loss",
        input_grads=False,
    )
    graph.forward(np.ones((3, 2)), np.ones((3, 1)))
    assert graph.backward() == (None, None)
    assert called == ["loss", "c", "b", "a"]


@row("4-33", "H")
def gates():
    """add: 1, 1; mul: x2, x1; max and min: 1 to the one that is taken, a tie to x1."""
    h = seed("H_gates")

    def gradients(gate, x1, x2):
        graph = Graph({"y": (gate, "x1", "x2")}, ("x1", "x2"), "y")
        assert gate.forward(x1, x2) == graph.forward(x1, x2)
        return graph.backward(1.0)

    close(gradients(Add(), 2.0, 7.0), h["add"])
    close(gradients(Multiply(), *h["mul_x1_x2"]), h["mul_grads_at_3_5"])
    points = {"x1>x2": (2.0, 1.0), "x1<x2": (1.0, 2.0), "tie": (1.5, 1.5)}
    for name, point in points.items():
        close(gradients(Maximum(), *point), h["max_grads"][name])
        close(gradients(Minimum(), *point), h["min_grads"][name])
    # A constant: adding one hands the gradient on, multiplying by k multiplies it.
    for gate, expected in ((Add(), 1.0), (Multiply(), 4.0)):
        graph = Graph({"y": (gate, "x", "k")}, ("x", "k"), "y", input_grads="x")
        graph.forward(3.0, 4.0)
        assert graph.backward(1.0) == (expected, None)


@row("4-34")
def ranks_of_derivatives():
    """dy/db, dy/dW and dy/dx of y = xW + b have the axes of y, then those of b, W and x."""
    layer = Linear(3, 2, rng=0, dtype=np.float64)
    x = np.array([1.0, 2.0, 3.0])
    y = layer.forward(x)
    dx, dweight, dbias = [], [], []
    for dy in np.eye(2):
        dx.append(layer.backward(dy))
        dweight.append(layer.grads["weight"])
        dbias.append(layer.grads["bias"])
    assert y.shape == (2,)
    close(dx, layer.params["weight"].T)  # (2, 3)
    close(dweight, np.einsum("i,jk->jik", x, np.eye(2)))  # (2, 3, 2)
    close(dbias, np.eye(2))  # (2, 2)


def cg10_g():
    """G(a, b) = (a - 5b, ab, a - b); constants are inputs that need no gradient."""
    return {
        "-5b": (Multiply(), "b", "-5"),
        "-b": (Multiply(), "b", "-1"),
        "c": (Add(), "a", "-5b"),
        "d": (Multiply(), "a", "b"),
        "e": (Add(), "a", "-b"),
    }


def cg10_f():
    """F(c, d, e) = (3cd, d - e)."""
    return {
        "-e": (Multiply(), "e", "-1"),
        "f1": (Multiply(), "3", "c", "d"),
        "f2": (Add(), "d", "-e"),
    }


@row("4-35", "4-36", "G")
def composition():
    """(F o G)' = F'(G) G', at (2, 3) and elsewhere; the third column of F' is (0, -1)."""
    g = Graph(cg10_g(), ("a", "b", "-5", "-1"), ("c", "d", "e"), input_grads=("a", "b"))
    f = Graph(cg10_f(), ("c", "d", "e", "3", "-1"), ("f1", "f2"), input_grads=("c", "d", "e"))
    both = Graph(
        cg10_g() | cg10_f(), ("a", "b", "-5", "-1", "3"), ("f1", "f2"), input_grads=("a", "b")
    )
    seeds = seed("G_calculus")
    point = seeds["cg10_point"]
    close(both.forward(*point, -5, -1, 3), seeds["cg10_value"])
    close(jacobian(both, *point, -5, -1, 3), seeds["cg10_jacobian"])
    assert np.max(np.abs(seeds["cg10_jacobian"] - seeds["cg10_printed_wrong"])) > 10
    for a, b in (point, (0.5, -1.25)):
        c, d, e = g.forward(a, b, -5, -1)
        of_g, of_f = jacobian(g, a, b, -5, -1), jacobian(f, c, d, e, 3, -1)
        close(of_g, [[1, -5], [b, a], [1, -1]])
        close(of_f, [[3 * d, 3 * c, 0], [0, 1, -1]])
        of_both = jacobian(both, a, b, -5, -1, 3)
        close(of_both, of_f @ of_g)
        close(of_both[0], [6 * a * b - 15 * b**2, 3 * a**2 - 30 * a * b])
        close(of_both[1], [b - 1, a + 1])


@row("4-37")
def order_of_nodes():
    """What feeds what decides, not the order in which nodes are written; and it matters."""
    x = np.array([0.3, -1.2])
    nodes = {"square": (Multiply(), "sigmoid", "sigmoid"), "sigmoid": (Sigmoid(), "x")}
    square_last = Graph(nodes, "x", "square")
    assert list(square_last.nodes) == ["sigmoid", "square"]
    square_first = Graph({"y": (Sigmoid(), "square"), "square": (Multiply(), "x", "x")}, "x", "y")
    s = reference.sigmoid(x)
    close(square_last.forward(x), s**2)
    close(square_last.backward(np.ones(2)), 2 * s * s * (1 - s))
    s = reference.sigmoid(x**2)
    close(square_first.forward(x), s)
    close(square_first.backward(np.ones(2)), s * (1 - s) * 2 * x)


@row("4-38", "4-42", "F")
def the_graph_of_cg12():
    f = seed("F_cg12_l2_network")
    graph = Graph(
        {
            "H": (linear_layer(f["W_rows_are_units"], layout="out_in"), "X"),
            "Z": (Sigmoid(), "H"),
            "yhat": (linear_layer(f["v"][1:, None], f["v"][:1]), "Z"),
            "loss": (SquaredError(reduction="sum"), "yhat", "y"),
        },
        inputs=("X", "y"),
        output=("loss", "yhat", "Z", "H"),
    )
    loss, yhat, z, h = graph.forward(f["X"], f["y"][:, None])
    for actual, name in ((loss, "loss_sum"), (yhat[:, 0], "yhat"), (z, "Z"), (h, "H")):
        close(actual, f[name])
    graph.backward(1.0, *(np.zeros_like(y) for y in (yhat, z, h)))
    grads = graph.grads
    close(np.append(grads["yhat.bias"], grads["yhat.weight"]), f["dv"])
    close(grads["H.weight"], f["dW"])


@row("4-39")
def square_of_a_sum():
    """f = (2x + 3y)^2 has the gradient (8x + 12y, 12x + 18y)."""
    nodes = {"sum": (linear_layer([[2], [3]]), "xy"), "f": (Multiply(), "sum", "sum")}
    graph = Graph(nodes, "xy", "f")
    seeds = seed("G_calculus")
    close(jacobian(graph, seeds["cg13a_point"].astype(float)), [seeds["cg13a_grad"]])
    for x, y in ((0.5, -2.0), (-1.0, 0.25)):
        close(graph.forward([x, y]), (2 * x + 3 * y) ** 2)
        close(jacobian(graph, [x, y]), [[8 * x + 12 * y, 12 * x + 18 * y]])


def cg13b():
    """F = (x^2 + 2y, 3x + 4y^2)."""
    nodes = {
        "squares": (Multiply(), "xy", "xy"),
        "of squares": (linear_layer([[1, 0], [0, 4]]), "squares"),
        "of xy": (linear_layer([[0, 3], [2, 0]]), "xy"),
        "F": (Add(), "of squares", "of xy"),
    }
    return Graph(nodes, "xy", "F")


@row("4-40")
def jacobian_of_two_functions():
    graph = cg13b()
    close(jacobian(graph, [1.0, 2.0]), SEEDS["G_calculus"]["cg13b_DF_1_2"])
    for x, y in ((0.5, -2.0), (-1.0, 0.25)):
        close(graph.forward([x, y]), [x**2 + 2 * y, 3 * x + 4 * y**2])
        close(jacobian(graph, [x, y]), [[2 * x, 2], [3, 8 * y]])


@row("4-41")
def chain_rule_of_two_functions():
    """F o G with G = (x, x^2): (6x, 3 + 16x^3), also as F'(G) G'."""

    def of_g():
        return Graph(
            {
                "square": (Multiply(), "x", "x"),
                "(x, 0)": (linear_layer([[1, 0]]), "x"),
                "(0, square)": (linear_layer([[0, 1]]), "square"),
                "G": (Add(), "(x, 0)", "(0, square)"),
            },
            inputs="x",
            output="G",
        )

    g, f, both = of_g(), cg13b(), Sequential(of_g(), cg13b())
    seeds = seed("G_calculus")
    close(jacobian(both, [float(seeds["cg13c_x"])])[:, 0], seeds["cg13c_jac"])
    for x in (2.0, -0.5):
        close(g.forward([x]), [x, x**2])
        of_both = jacobian(both, [x])
        close(of_both[:, 0], [6 * x, 3 + 16 * x**3])
        close(of_both, jacobian(f, [x, x**2]) @ jacobian(g, [x]))


@row("4-43", "I")
def the_graph_of_cg14():
    """W -> a -> b = s(a) -> c = V b -> yhat = s(c), L = 1/2 (yhat - y)^2."""
    i = seed("I_cg14_chain")
    graph = Graph(
        {
            "loss": (SquaredError(half=True, reduction="sum"), "yhat", "y"),
            "yhat": (Sigmoid(), "c"),
            "c": (Multiply(), "V", "b"),
            "b": (Sigmoid(), "a"),
            "a": (Multiply(), "W", "X"),
        },
        inputs=("W", "V", "X", "y"),
        output=("loss", "yhat", "b"),
        input_grads=("W", "V"),
    )
    w, v, x, y = (i[name] for name in "WVXy")
    loss, yhat, b = graph.forward(w, v, x, y)
    close(loss, i["loss"])
    close(yhat, i["yhat"])
    dw, dv, dx, dy = graph.backward(1.0, 0.0, 0.0)
    close(dw, i["dW"])
    close(dv, i["dV"])
    assert dx is dy is None
    close(dw, (yhat - y) * yhat * (1 - yhat) * v * b * (1 - b) * x)
    close(dv, (yhat - y) * yhat * (1 - yhat) * b)


# --- the tests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
def test_row(name):
    ROWS[name]()


def test_no_row_is_forgotten():
    from test_course_notes import ROWS as OF_FUNCTIONS

    lengths = {0: 12, 1: 10, 2: 7, 3: 4, 4: 43}
    every = {f"{note}-{i}" for note, n in lengths.items() for i in range(1, n + 1)}
    every |= {*"ABCDEFGHIJK", "E2"}
    assert {*OF_FUNCTIONS, *ROWS} == every - LEFT_OUT
    assert {key.split("_")[0] for key in SEEDS} <= every
