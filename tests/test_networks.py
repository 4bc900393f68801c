"""The notes' networks of one hidden layer, each trained on real data and judged on unseen rows.

Regression with one and with several outputs, binary and multi-class classification. The qualities
asked for are such that a network with a broken gradient misses them, which is tested too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from fastbp.layers import (
    Add,
    CrossEntropy,
    Graph,
    Linear,
    Sequential,
    Sigmoid,
    SigmoidCrossEntropy,
    Softmax,
    SoftmaxCrossEntropy,
    SquaredError,
)
from fastbp.optim import SGD, Adam
from fastbp.train import accuracy, fit, shuffled_batches

datasets = pytest.importorskip("sklearn.datasets")


def split(x, y, seed, scale_y):
    """Three quarters of the rows to learn from and one to be judged on, standardized."""
    order = np.random.default_rng(seed).permutation(len(x))
    n = 3 * len(x) // 4
    mean, scale = x[order[:n]].mean(axis=0), x[order[:n]].std(axis=0) + 1e-3
    x = ((x - mean) / scale).astype(np.float32)
    if scale_y is not None:
        y = y.reshape(len(x), -1)
        deviation = y[order[:n]].std(axis=0) if scale_y else 1
        y = ((y - y[order[:n]].mean(axis=0)) / deviation).astype(np.float32)
    return x[order[:n]], y[order[:n]], x[order[n:]], y[order[n:]]


def diabetes():
    """442 patients: how far their diabetes has gone a year later, from 10 measurements."""
    return split(*datasets.load_diabetes(return_X_y=True), seed=1, scale_y=True)


def petals():
    """150 irises: length and width of their petals, from those of their sepals."""
    flowers = datasets.load_iris().data
    return split(flowers[:, :2], flowers[:, 2:], seed=0, scale_y=True)


def lower_halves():
    """1797 handwritten digits: the 32 pixels of their lower half, from the upper one."""
    images = datasets.load_digits().data / 16
    return split(images[:, :32], images[:, 32:], seed=0, scale_y=False)


def breast_cancer():
    """569 tumours: malignant or benign, from 30 measurements."""
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return split(x, y[:, None], seed=0, scale_y=None)


def digits():
    """1797 handwritten digits: which one, from 64 pixels."""
    return split(*datasets.load_digits(return_X_y=True), seed=0, scale_y=None)


def r_squared(net, x, y):
    """The share of the variance that is explained."""
    return 1 - np.sum((net.forward(x) - y) ** 2) / np.sum((y - y.mean(axis=0)) ** 2)


def binary_accuracy(net, x, y):
    return np.mean((net.forward(x) > 0) == y)


@dataclass
class Task:
    data: Callable
    sizes: tuple  # of input, hidden layer and output
    loss: object
    quality: Callable
    enough: float
    lr: float
    epochs: int
    batch_size: int = 32

    def network(self, first=Linear, activation=Sigmoid):
        n_in, n_hidden, n_out = self.sizes
        return Sequential(
            first(n_in, n_hidden, rng=1), activation(), Linear(n_hidden, n_out, rng=2)
        )

    def trained(self, net, loss=None):
        """The quality of a network after its training, and its history."""
        x, y, x_test, y_test = self.data()
        history = fit(
            net, loss or self.loss, (x, y), epochs=self.epochs, batch_size=self.batch_size,
            optimizer=SGD(net, self.lr, momentum=0.9), tol=0, rng=1,
        )  # fmt: skip
        return self.quality(net, x_test, y_test), history


# Where linear least squares reaches R² 0.42, 0.79 and 0.34.
HALF = SquaredError(half=True)
TASKS = {
    "regression": Task(diabetes, (10, 4, 1), HALF, r_squared, 0.37, lr=0.05, epochs=60),
    "two outputs": Task(
        petals, (2, 4, 2), HALF, r_squared, 0.84, lr=0.1, epochs=150, batch_size=16
    ),
    "many outputs": Task(lower_halves, (32, 30, 32), HALF, r_squared, 0.41, lr=1.0, epochs=40),
    "binary": Task(
        breast_cancer, (30, 2, 1), SigmoidCrossEntropy(), binary_accuracy, 0.94, lr=0.05, epochs=20
    ),
    "multi-class": Task(
        digits, (64, 12, 10), SoftmaxCrossEntropy(), accuracy, 0.96, lr=0.1, epochs=30
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_network_learns_real_data(name):
    task = TASKS[name]
    quality, history = task.trained(task.network())
    assert quality > task.enough
    assert history.stop_reason == "epochs"
    assert history.loss[-1] < 0.8 * history.loss[0]


class NotLearning(Linear):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["weight"][...] = 0
        self.grads["bias"][...] = 0
        return dx


class WrongSign(Linear):
    def backward(self, dy):
        dx = super().backward(-np.asarray(dy))
        return -dx


class NoDerivative(Sigmoid):
    def backward(self, dy):
        return dy


BROKEN = {
    "hidden layer does not learn": {"first": NotLearning},
    "wrong sign": {"first": WrongSign},
    "no derivative": {"activation": NoDerivative},
}
CASES = [(name, fault) for name in TASKS for fault in BROKEN]
# Without σ′ the gradient still points about the right way, and a plane tells tumours apart.
CASES.remove(("binary", "no derivative"))


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_a_broken_gradient_misses_the_quality(name, fault):
    task = TASKS[name]
    with np.errstate(all="ignore"):  # a network that gets worse and worse
        quality, _ = task.trained(task.network(**BROKEN[fault]))
    assert not quality > task.enough


def test_softmax_and_cross_entropy_as_layers_of_their_own():
    """As the notes have it: a network that ends in probabilities."""
    task = TASKS["multi-class"]
    net = Sequential(*task.network().layers, Softmax())
    quality, history = task.trained(net, CrossEntropy())
    _, of_fused = task.trained(task.network())
    assert quality > task.enough
    np.testing.assert_allclose(history.loss[:5], of_fused.loss[:5], rtol=1e-4)


def test_a_graph_that_ends_in_its_loss_learns_the_same():
    task = TASKS["binary"]
    x, y, x_test, y_test = task.data()
    _, history = task.trained(expected := task.network())
    net = task.network()
    graph = Graph(
        {"net": (net, "x"), "loss": (SigmoidCrossEntropy(), "net", "y")}, ("x", "y"), "loss",
        input_grads=False,
    )  # fmt: skip
    optimizer, rng = SGD(graph, task.lr, momentum=0.9), np.random.default_rng(1)
    for epoch_loss in history.loss:
        total = 0.0
        for rows in shuffled_batches(len(x), task.batch_size, rng):
            total += float(graph.forward(x[rows], y[rows])) * len(rows)
            graph.backward()
            optimizer.step()
        assert total / len(x) == pytest.approx(epoch_loss, rel=1e-4)
    for name, param in expected.params.items():
        np.testing.assert_allclose(graph.params[f"net.{name}"], param, rtol=1e-3, atol=1e-4)
    assert binary_accuracy(net, x_test, y_test) > task.enough


def test_a_graph_with_a_shortcut_learns_real_data():
    """A linear model and hidden units for what it cannot know, added up."""
    task = TASKS["two outputs"]
    x, y, x_test, y_test = task.data()
    graph = Graph(
        {
            "linear": (Linear(2, 2, rng=1), "x"),
            "hidden": (Sequential(Linear(2, 6, rng=2), Sigmoid(), Linear(6, 2, rng=3)), "x"),
            "sum": (Add(), "linear", "hidden"),
        },
        "x",
        "sum",
        input_grads=False,
    )
    fit(graph, HALF, (x, y), epochs=150, batch_size=16, optimizer=Adam(graph, 0.02), tol=0, rng=1)
    assert r_squared(graph, x_test, y_test) > task.enough
