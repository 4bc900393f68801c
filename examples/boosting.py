"""Boosted trees with fastbp's objective beside the libraries' own: same model, same time.

    pip install '.[boosting]'
    python examples/boosting.py

XGBoost and LightGBM take any objective as a function that returns gradient and Hessian by each
margin. Here these come from `fastbp.softmax_cross_entropy_grad_hess` and its binary twin, on data
sets that are part of scikit-learn.

For two runs to be the same, they must begin at the same margins, and the libraries' defaults differ
between their own objectives and yours:

* XGBoost begins its own objectives at `base_score`, a probability that it estimates from the
  labels. With a custom objective `base_score` is a margin, 0.5 by default: nothing to a softmax,
  which only sees differences, but a probability of 0.62 to a sigmoid. So, to begin at margin 0:
  `base_score=0.5` for its own objectives and `base_score=0` for yours. (To begin elsewhere, give a
  `base_margin`.)
* LightGBM begins its own objectives at the labels' average, yours at 0. So, to begin at margin 0:
  `boost_from_average=False`, which changes nothing for yours. (To begin at the average with yours,
  give the logarithms of the classes' frequencies as `init_score`, and add them to what is
  predicted.)

And they must agree on the Hessian, which is what the option `hessian` is for.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastbp

Array = NDArray[Any]
Objective = Callable[[Array, Any], tuple[Array, Array]]

ROUNDS = 50


class Split(NamedTuple):
    """A data set, a quarter of it kept for the test."""

    x: Array
    x_test: Array
    y: Array
    y_test: Array
    n_classes: int


class Run(NamedTuple):
    """One trained model: its logits for the test set, a column for each class."""

    library: str
    objective: str
    logits: Array
    seconds: float


# the objectives -----------------------------------------------------------------------------------
#
# Both libraries call them with the margins and the training data, which knows labels and weights.


def xgboost_softmax(margins: Array, data: Any) -> tuple[Array, Array]:
    """For margins (n_rows, n_classes)."""
    weight = data.get_weight()  # empty if there are none
    return fastbp.softmax_cross_entropy_grad_hess(
        margins,
        data.get_label(),
        sample_weight=weight if weight.size else None,
        hessian="xgboost",
    )


def xgboost_sigmoid(margins: Array, data: Any) -> tuple[Array, Array]:
    """For margins (n_rows,)."""
    weight = data.get_weight()
    return fastbp.sigmoid_cross_entropy_grad_hess(
        margins, data.get_label(), sample_weight=weight if weight.size else None
    )


def lightgbm_softmax(margins: Array, data: Any) -> tuple[Array, Array]:
    """For margins (n_rows, n_classes), class-major in memory, as the results are then."""
    return fastbp.softmax_cross_entropy_grad_hess(
        margins, data.get_label(), sample_weight=data.get_weight(), hessian="lightgbm"
    )


def lightgbm_sigmoid(margins: Array, data: Any) -> tuple[Array, Array]:
    """For margins (n_rows,)."""
    return fastbp.sigmoid_cross_entropy_grad_hess(
        margins, data.get_label(), sample_weight=data.get_weight()
    )


# training -----------------------------------------------------------------------------------------


def with_xgboost(split: Split, rounds: int) -> Iterator[Run]:
    """Its own objective and fastbp's."""
    import xgboost

    params: dict[str, Any] = {"max_depth": 4, "learning_rate": 0.2}
    several = split.n_classes > 2
    if several:
        params["num_class"] = split.n_classes
    own = {"objective": "multi:softprob" if several else "binary:logistic", "base_score": 0.5}
    ours = xgboost_softmax if several else xgboost_sigmoid
    data, test = xgboost.DMatrix(split.x, split.y), xgboost.DMatrix(split.x_test)
    for name, more, objective in (("its own", own, None), ("fastbp", {"base_score": 0.0}, ours)):
        start = time.perf_counter()
        model = xgboost.train({**params, **more}, data, rounds, obj=objective)
        seconds = time.perf_counter() - start
        margins = model.predict(test, output_margin=True)
        yield Run("XGBoost", name, as_logits(margins), seconds)


def with_lightgbm(split: Split, rounds: int) -> Iterator[Run]:
    """Its own objective and fastbp's."""
    import lightgbm

    several = split.n_classes > 2
    params: dict[str, Any] = {
        "num_leaves": 15,
        "learning_rate": 0.2,
        "verbose": -1,
        "deterministic": True,
        "force_col_wise": True,
        "boost_from_average": False,
        "num_class": split.n_classes if several else 1,
    }
    own = "multiclass" if several else "binary"
    ours = lightgbm_softmax if several else lightgbm_sigmoid
    objectives: tuple[tuple[str, Any], ...] = (("its own", own), ("fastbp", ours))
    for name, objective in objectives:
        data = lightgbm.Dataset(split.x, split.y)
        start = time.perf_counter()
        model = lightgbm.train({**params, "objective": objective}, data, rounds)
        seconds = time.perf_counter() - start
        margins = np.asarray(model.predict(split.x_test, raw_score=True))
        yield Run("LightGBM", name, as_logits(margins), seconds)


LIBRARIES = {"xgboost": with_xgboost, "lightgbm": with_lightgbm}


def as_logits(margins: Array) -> Array:
    """(n_rows, n_classes), also of two classes, which have one margin: the second one's."""
    return margins if margins.ndim == 2 else np.stack([np.zeros_like(margins), margins], axis=1)


def datasets() -> Iterator[tuple[str, Split]]:
    """Name and data of each."""
    from sklearn.datasets import load_breast_cancer, load_digits, load_wine
    from sklearn.model_selection import train_test_split

    for name, load in (
        ("digits", load_digits),
        ("wine", load_wine),
        ("breast cancer", load_breast_cancer),
    ):
        x, y = load(return_X_y=True)
        x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
        yield name, Split(x, x_test, y, y_test, int(y.max()) + 1)


def compare(libraries: Iterable[str], rounds: int) -> Iterator[tuple[str, Split, Run]]:
    """Every data set with every library and both objectives."""
    for name, split in datasets():
        for library in libraries:
            for run in LIBRARIES[library](split, rounds):
                yield name, split, run


def main(rounds: int = ROUNDS) -> None:
    """Print the table."""
    libraries = [name for name in LIBRARIES if find_spec(name)]
    for name in LIBRARIES.keys() - libraries:
        print(f"{name} is not installed")
    for _ in compare(libraries, 1):
        pass  # what is compiled and started the first time is no part of training

    print(f"{'data':14}{'library':10}{'objective':11}{'accuracy':>8}{'log loss':>12}{'seconds':>9}")
    for name, split, run in compare(libraries, rounds):
        accuracy = np.mean(run.logits.argmax(axis=1) == split.y_test)
        loss = fastbp.softmax_cross_entropy(run.logits, split.y_test)
        print(
            f"{name:14}{run.library:10}{run.objective:11}"
            f"{accuracy:8.4f}{loss:12.6f}{run.seconds:9.2f}"
        )


if __name__ == "__main__":
    main()
