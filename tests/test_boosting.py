"""XGBoost and LightGBM with fastbp's objective give the models of their own objectives.

What they hand over and expect is asserted, as their documentation says less.
"""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastbp

datasets = pytest.importorskip("sklearn.datasets", reason="pip install '.[boosting]'")
ROUNDS = 8


@pytest.fixture
def xgboost():
    return pytest.importorskip("xgboost", reason="pip install '.[boosting]'")


@pytest.fixture
def lightgbm():
    return pytest.importorskip("lightgbm", reason="pip install '.[boosting]'")


@pytest.fixture
def example():
    """The module examples/boosting.py, which is no part of the package."""
    path = Path(__file__).parents[1] / "examples" / "boosting.py"
    spec = importlib.util.spec_from_file_location("boosting", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def needs_its_usual_hessian(xgboost):
    """Skip where XGBoost's own Hessian of classes is not 2p(1 - p), as it is in 3.4 and before."""
    data = xgboost.DMatrix(np.eye(6), [0, 1, 2, 2, 2, 2])
    params = {"objective": "multi:softprob", "num_class": 3, "base_score": 0.5, "max_depth": 1}
    tree = xgboost.train(params, data, 1).get_dump(with_stats=True, dump_format="json")[0]
    if abs(json.loads(tree)["cover"] - 6 * 2 * (1 / 3) * (2 / 3)) > 1e-3:
        pytest.skip("this XGBoost has another Hessian of its own")


def weights_for(y):
    return np.random.default_rng(0).uniform(0.2, 3, len(y)).astype(np.float32)


# the example --------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_both_objectives_give_the_same_model(example, request, library):
    module = request.getfixturevalue(library)
    if library == "xgboost":
        needs_its_usual_hessian(module)
    names = []
    for name, split in example.datasets():
        own, ours = example.LIBRARIES[library](split, ROUNDS)
        assert (own.objective, ours.objective) == ("its own", "fastbp")
        # XGBoost sums in float32, where rounding may go another way.
        results = [fastbp.log_softmax(run.logits) for run in (ours, own)]
        assert_allclose(*results, rtol=1e-4, atol=1e-4)
        assert np.ptp(ours.logits) > 2
        names.append(name)
    assert names == ["digits", "wine", "breast cancer"]


def test_the_example_prints_its_table(example, capsys, xgboost, lightgbm):
    example.main(rounds=2)
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["data", "library", "objective", "accuracy", "log", "loss", "seconds"]
    assert len(rows) == 3 * 2 * 2
    assert all(re.search(r" 0\.\d{4} +[01]\.\d{6} +\d+\.\d\d$", row) for row in rows)


# XGBoost ------------------------------------------------------------------------------------------


def test_xgboost_with_weights_and_what_it_hands_over(xgboost):
    needs_its_usual_hessian(xgboost)
    x, y = datasets.load_wine(return_X_y=True)
    data = xgboost.DMatrix(x, y, weight=weights_for(y))

    def objective(margins, train):
        assert (margins.shape, margins.dtype) == ((len(y), 3), np.float32)
        assert margins.flags.c_contiguous
        assert (train.get_label().dtype, train.get_weight().dtype) == (np.float32, np.float32)
        return fastbp.softmax_cross_entropy_grad_hess(
            margins, train.get_label(), sample_weight=train.get_weight(), hessian="xgboost"
        )

    params = {"num_class": 3, "base_score": 0.5}
    own = xgboost.train({**params, "objective": "multi:softprob"}, data, ROUNDS)
    ours = xgboost.train(params, data, ROUNDS, obj=objective)
    margins = [model.predict(data, output_margin=True) for model in (ours, own)]
    assert_allclose(*margins, rtol=1e-4, atol=1e-4)


def test_xgboost_as_a_classifier(xgboost):
    needs_its_usual_hessian(xgboost)
    x, y = datasets.load_wine(return_X_y=True)

    def objective(labels, margins, sample_weight=None):
        assert (margins.shape, labels.dtype) == ((len(y), 3), np.float32)
        return fastbp.softmax_cross_entropy_grad_hess(
            margins, labels, sample_weight=sample_weight, hessian="xgboost"
        )

    for weights in (None, weights_for(y)):
        options = {"n_estimators": ROUNDS, "base_score": 0.5}
        own = xgboost.XGBClassifier(**options).fit(x, y, sample_weight=weights)
        ours = xgboost.XGBClassifier(objective=objective, **options).fit(
            x, y, sample_weight=weights
        )
        margins = [model.predict(x, output_margin=True) for model in (ours, own)]
        assert_allclose(*margins, rtol=1e-4, atol=1e-4)


def test_xgboost_learns_from_very_negative_margins(xgboost, example):
    """From margins of -104 on, the objective of XGBoost 3.2 to 3.4 gives nothing but 1/3."""
    x, y = datasets.load_wine(return_X_y=True)
    for base in (-200, -1e4):
        data = xgboost.DMatrix(x, y, base_margin=np.full((len(y), 3), base, np.float32))
        params = {"num_class": 3}
        ours = xgboost.train(params, data, 20, obj=example.xgboost_softmax)
        margins = ours.predict(data, output_margin=True)
        assert fastbp.softmax_cross_entropy(margins, y) < 0.05
        assert_array_equal(margins.argmax(axis=1), y)
    own = xgboost.train({**params, "objective": "multi:softprob"}, data, 20).predict(data)
    if np.ptp(own) > 0:  # in a version that learns, too
        assert_array_equal(own.argmax(axis=1), y)


# LightGBM -----------------------------------------------------------------------------------------

QUIET = {"verbose": -1, "deterministic": True, "force_col_wise": True, "min_data_in_leaf": 5}


def test_lightgbm_with_weights_and_what_it_hands_over(lightgbm):
    x, y = datasets.load_wine(return_X_y=True)
    weights = weights_for(y)

    def by_rows(margins, train):
        assert (margins.shape, margins.dtype) == ((len(y), 3), np.float64)
        assert margins.flags.f_contiguous
        assert train.get_label().dtype == np.float32
        grad, hess = fastbp.softmax_cross_entropy_grad_hess(
            margins, train.get_label(), sample_weight=train.get_weight(), hessian="lightgbm"
        )
        assert np.shares_memory(grad.ravel(order="F"), grad)  # LightGBM's next step is no copy
        return grad, hess

    def flat(margins, train):
        """As versions before 4 did it."""
        return fastbp.softmax_cross_entropy_grad_hess(
            margins.ravel(order="F"), train.get_label(), sample_weight=train.get_weight(),
            hessian="lightgbm", layout="classes",
        )  # fmt: skip

    def margins(objective):
        params = {**QUIET, "objective": objective, "num_class": 3, "boost_from_average": False}
        data = lightgbm.Dataset(x, y, weight=weights)
        return lightgbm.train(params, data, ROUNDS).predict(x, raw_score=True)

    own = margins("multiclass")
    assert np.ptp(own) > 1
    assert_allclose(margins(by_rows), own, rtol=1e-6, atol=1e-6)
    assert_array_equal(margins(flat), margins(by_rows))


def test_lightgbm_from_the_average(lightgbm, example):
    """`init_score` is how fastbp's objective begins where LightGBM's own does by default."""
    x, y = datasets.load_wine(return_X_y=True)
    average = np.log(np.bincount(y) / len(y))
    params = {**QUIET, "num_class": 3}
    data = lightgbm.Dataset(x, y, init_score=np.tile(average, (len(y), 1)))
    ours = lightgbm.train({**params, "objective": example.lightgbm_softmax}, data, ROUNDS)
    own = lightgbm.train({**params, "objective": "multiclass"}, lightgbm.Dataset(x, y), ROUNDS)
    expected = own.predict(x, raw_score=True)
    assert_allclose(ours.predict(x, raw_score=True) + average, expected, rtol=1e-6, atol=1e-6)


def test_lightgbm_as_a_classifier(lightgbm):
    x, y = datasets.load_wine(return_X_y=True)

    def objective(labels, margins, weights):
        assert (margins.shape, labels.dtype) == ((len(y), 3), np.float32)
        return fastbp.softmax_cross_entropy_grad_hess(
            margins, labels, sample_weight=weights, hessian="lightgbm"
        )

    options = {"n_estimators": ROUNDS, "boost_from_average": False, **QUIET}
    for weights in (None, weights_for(y)):
        own = lightgbm.LGBMClassifier(**options).fit(x, y, sample_weight=weights)
        ours = lightgbm.LGBMClassifier(objective=objective, **options)
        ours.fit(x, y, sample_weight=weights)
        margins = [model.predict(x, raw_score=True) for model in (ours, own)]
        assert_allclose(*margins, rtol=1e-6, atol=1e-6)
