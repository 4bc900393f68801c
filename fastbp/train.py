"""The training loop: batches, the stop rule on the change of the loss, a history."""

from __future__ import annotations

import contextlib
import math
import operator
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["History", "accuracy", "fit", "predict_labels", "shuffled_batches"]

Array = NDArray[Any]


class Network(Protocol):
    """What :func:`fit` needs of a network."""

    def forward(self, x: Any) -> Any: ...

    def backward(self, dy: Any) -> Any: ...


class Loss(Protocol):
    """What :func:`fit` needs of a loss, which must be a single number."""

    def forward(self, x: Any, targets: Any) -> Any: ...

    def backward(self) -> Any: ...


class Stepper(Protocol):
    """What :func:`fit` needs of an optimizer."""

    def step(self) -> None: ...


@dataclass
class History:
    """What happened in each epoch, and why there was no further one.

    Attributes
    ----------
    loss : list of float
        Mean loss of the epoch's rows, each taken when its batch came, before that batch's step.
    seconds : list of float
        Time of the epoch's training, without that of the validation.
    accuracy : list of float
        Share of the validation rows labelled rightly after the epoch; empty without validation.
    stop_reason : {"epochs", "converged", "diverged"}
        All epochs are done; the loss changed by less than ``tol``; the loss is infinite or NaN.
    """

    loss: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    stop_reason: Literal["epochs", "converged", "diverged"] = "epochs"

    @property
    def n_epochs(self) -> int:
        """Number of epochs that were run."""
        return len(self.loss)


def fit(
    net: Network,
    loss: Loss,
    data: tuple[ArrayLike, ArrayLike],
    *,
    epochs: int,
    batch_size: int,
    optimizer: Stepper,
    tol: float = 1e-4,
    patience: int = 1,
    rng: int | np.random.Generator | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    progress: bool | str = False,
) -> History:
    """Train a network on batches in a new random order in each epoch.

    It stops early when the *loss* of an epoch differs by less than ``tol`` from that of the epoch
    before, ``patience`` times in a row. (The change of the parameters would be the wrong measure:
    it shrinks with the learning rate, and along flat directions it never ends.)

    Parameters
    ----------
    net : object with forward(x) and backward(dy)
        Any layer, such as a ``Sequential`` that ends in logits.
    loss : object with forward(x, targets) and backward()
        Its ``forward`` returns a single number, best a mean over rows.
    data : (x, targets)
        Training rows: ``x (n_rows, ...)`` and as many ``targets``.
    epochs : int
        Most passes over the data, at least 1.
    batch_size : int
        Rows of a batch, at least 1; an epoch's last batch may be smaller.
    optimizer : object with step()
        Made from the same ``net``.
    tol : float
        Stop below this change of the loss; 0 never stops early.
    patience : int
        Number of such changes in a row that it takes, at least 1.
    rng : int, numpy.random.Generator or None
        Seed or source of the order of rows; None takes a different one each time.
    validation : (x, labels), optional
        Rows on which the accuracy is measured after each epoch. Targets that are probabilities
        count as their most probable label.
    progress : bool or str
        Whether to show a progress bar on stderr; a string is shown before it.

    Returns
    -------
    History
        Loss, seconds and accuracy of each epoch, and the reason for the stop.

    Raises
    ------
    ImportError
        If ``progress`` is asked for and tqdm is not installed.
    ValueError
        If a number is out of its range, there are no rows, x and targets differ in their number
        of rows, or the loss is not a single number.

    Notes
    -----
    It stops, too, after an epoch whose loss is infinite or NaN: nothing would bring it back.
    """
    x, targets = _rows("data", data)
    _at_least_1("epochs", epochs)
    _at_least_1("batch_size", batch_size)
    _at_least_1("patience", patience)
    if not tol >= 0:
        raise ValueError(f"tol must be 0 or more, got {tol}")
    if validation is not None:
        validation = _rows("validation", validation)
    generator = np.random.default_rng(rng)
    history = History()
    n_small_changes = 0
    with _progress_bar(epochs, progress) as bar:
        for _ in range(epochs):
            start = time.perf_counter()
            total = 0.0
            for rows in shuffled_batches(len(x), batch_size, generator):
                batch_loss = loss.forward(net.forward(x[rows]), targets[rows])
                if np.ndim(batch_loss) != 0:
                    raise ValueError(
                        "loss must give a single number, got shape "
                        f'{np.shape(batch_loss)}; use reduction="mean"'
                    )
                total += float(batch_loss) * len(rows)
                net.backward(loss.backward())
                optimizer.step()
            history.seconds.append(time.perf_counter() - start)
            history.loss.append(total / len(x))
            if validation is not None:
                history.accuracy.append(accuracy(net, *validation))
            if bar is not None:
                bar.set_postfix_str(_summary(history), refresh=False)
                bar.update()

            if not math.isfinite(history.loss[-1]):
                history.stop_reason = "diverged"
                break
            if len(history.loss) > 1:
                is_small = abs(history.loss[-1] - history.loss[-2]) < tol
                n_small_changes = n_small_changes + 1 if is_small else 0
            if n_small_changes == patience:
                history.stop_reason = "converged"
                break
    return history


def shuffled_batches(
    n_rows: int, batch_size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """The rows of each batch of one epoch: every row once, in random order."""
    order = rng.permutation(n_rows)
    for start in range(0, n_rows, batch_size):
        yield order[start : start + batch_size]


def predict_labels(net: Network, x: ArrayLike) -> NDArray[np.intp]:
    """The label with the largest output, ``(n_rows,)``, for ``x (n_rows, ...)``.

    Logits, log-probabilities and probabilities give the same answer.
    """
    return np.asarray(np.argmax(net.forward(x), axis=-1))


def accuracy(net: Network, x: ArrayLike, targets: ArrayLike) -> float:
    """Share of the rows of ``x`` whose predicted label is that of ``targets``.

    ``targets`` are labels ``(n_rows,)``, or probabilities ``(n_rows, n_columns)`` whose most
    probable label counts.
    """
    predicted = predict_labels(net, x)
    targets = np.asarray(targets)
    labels = targets if targets.ndim == predicted.ndim else np.argmax(targets, axis=-1)
    return float(np.mean(predicted == labels))


def _summary(history: History) -> str:
    """The latest epoch in a few words, for the progress bar."""
    text = f"loss {history.loss[-1]:.4g}"
    if history.accuracy:
        text += f", accuracy {100 * history.accuracy[-1]:.1f} %"
    return text


@contextlib.contextmanager
def _progress_bar(epochs: int, progress: bool | str) -> Iterator[Any]:
    """A tqdm bar of epochs on stderr that is closed at the end, or None."""
    if not progress:
        yield None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError('a progress bar needs tqdm: pip install "fastbp[demo]"') from None
    label = progress if isinstance(progress, str) else None
    with tqdm(total=epochs, desc=label, unit="epoch", dynamic_ncols=True) as bar:
        yield bar


def _rows(name: str, data: tuple[ArrayLike, ArrayLike]) -> tuple[Array, Array]:
    """(x, targets) as arrays with equally many rows, at least one."""
    if len(data) != 2:
        raise ValueError(f"{name} must be a pair (x, targets), got {len(data)} objects")
    x, targets = np.asarray(data[0]), np.asarray(data[1])
    if x.ndim == 0 or targets.ndim == 0 or len(x) != len(targets):
        raise ValueError(
            f"x and targets of {name} must have the same number of rows, "
            f"got shapes {x.shape} and {targets.shape}"
        )
    if len(x) == 0:
        raise ValueError(f"{name} has no rows")
    return x, targets


def _at_least_1(name: str, number: int) -> None:
    if operator.index(number) < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
