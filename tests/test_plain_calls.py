"""Plain calls that are remembered say what the general way says, bit for bit, errors included."""

import numpy as np
import pytest
from both_ways import (
    C,
    N,
    changes_of,
    changes_of_out,
    check_both_ways,
    check_changes,
    inf,
    like_x,
    nan,
    outcome,
    plain_way,
    strided,
)

import fastbp
from fastbp.cpu.doors import MOST_ENTRIES
from fastbp.ops import plain_calls
from fastbp.testing import as_dtype

# softmax_cross_entropy ----------------------------------------------------------------------------


def rows(dtype, kind, options, dloss):
    """New arguments, of which None is left out; True asks for an array."""
    rng = np.random.default_rng(1)
    computed = np.float32 if dtype.itemsize == 2 else dtype
    p = {"_dloss": dloss} if dloss is not None else {}
    p["_x"] = (3 * rng.standard_normal((N, C))).astype(dtype)
    p["_targets"] = rng.integers(C, size=N)
    if kind != "labels":
        p["_targets"] = rng.uniform(0.1, 1, (N, C)).astype(dtype)
    arrays = {
        "class_weight": rng.uniform(0.5, 2, C).astype(computed),
        "sample_weight": rng.uniform(0.5, 2, N).astype(computed),
    }
    return p | {k: arrays.get(k, v) if v is True else v for k, v in options.items()}


def fewer_classes(p):
    """What is remembered must not depend on how many there are."""
    p["_x"] = p["_x"][:, :3].copy()
    is_labels = p["_targets"].ndim == 1
    p["_targets"] = p["_targets"] % 3 if is_labels else p["_targets"][:, :3].copy()
    if "class_weight" in p:
        p["class_weight"] = p["class_weight"][:3].copy()


WEIGHTS = {"class_weight": True, "sample_weight": True}
OPTIONS = (
    {},
    {"class_weight": True},
    {"sample_weight": True},
    {"label_smoothing": 0.1},
    {"label_smoothing": 1, "reduction": "sum"},
    {**WEIGHTS, "label_smoothing": 0.25, "empty": "zero"},
    {**WEIGHTS, "reduction": "none"},
    {"reduction": "sum", "sample_weight": True},
    {"axis": 1, "empty": "zero"},
)
LABEL_OPTIONS = (
    {"ignore_index": 2},
    {"ignore_index": -3, "class_weight": True, "empty": "zero"},
    {"on_bad_label": "nan"},
    {"on_bad_label": "ignore", **WEIGHTS, "label_smoothing": 0.1, "reduction": "none"},
)
TRANSFORMED = (
    {"z_loss": 0.02, **WEIGHTS},
    {"softcap": 15.0, "temperature": 0.6, "z_loss": 0.02},
    {"temperature": 2, "label_smoothing": 0.1},
)
ROW_LOSSES = (
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_grad",
    "softmax_cross_entropy_backward",
)
NAMES = ("_x", "_targets", "class_weight", "sample_weight")


def options_of(dtype, kind):
    few = OPTIONS if dtype == np.float32 else OPTIONS[:6:5]
    return (
        *few,
        *(LABEL_OPTIONS if kind == "labels" and few is OPTIONS else ()),
        *(TRANSFORMED if dtype == np.float32 else ()),
    )


kinds = pytest.mark.parametrize("kind", ["labels", "probabilities"])
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])


@kinds
@dtypes
@pytest.mark.parametrize("name", ROW_LOSSES)
def test_losses_of_rows(name, dtype, kind, monkeypatch):
    dtype, is_backward = as_dtype(dtype), name.endswith("backward")
    changes = [*changes_of(NAMES), ("fewer classes", fewer_classes)]
    if name != "softmax_cross_entropy":
        changes += changes_of_out(NAMES)
    for options in options_of(dtype, kind):
        is_each = options.get("reduction") == "none"
        dloss = None
        if is_backward:
            dloss = np.linspace(1, 2, N).astype(np.float32) if is_each else 0.75

        def plain(options=options, dloss=dloss):
            return rows(dtype, kind, options, dloss)

        is_plain = not (is_each and is_backward)
        check_changes(getattr(fastbp, name), plain, changes, monkeypatch, options, is_plain)


ODD = {
    "axis": (-1.0, True, 0, -2, None, "1", [1], np.int64(-1), -1 + 0j),
    "ignore_index": (2.0, True, "2", np.int64(2), 2**70, [2], np.array(2), np.array([2]), 2 + 0j),
    "label_smoothing": (0, False, 0j, "0.1", 0.1 + 0j, np.float32(0.5), np.array(0.1), 1e-300, nan,
                        -0.0, [0.1], 1.5),
    "z_loss": (0, 0j, "0", nan, -1, np.array(0.02), [0]),
    "softcap": (15, 15 + 0j, 0, "15", np.array(15.0), inf),
    "temperature": (1, True, 1 + 0j, "1", np.array([1.0]), 0),
    "reduction": ("MEAN", None, ["mean"], np.array("mean"), np.str_("sum"), b"mean"),
    "empty": ("none", None, {}, np.str_("zero")),
    "on_bad_label": (None, ["raise"], np.str_("nan")),
}  # fmt: skip


@pytest.mark.parametrize("option", ODD)
@pytest.mark.parametrize("name", ROW_LOSSES)
def test_odd_options(name, option, monkeypatch):
    """Values that equal one that is remembered, but are not what it takes; and others."""
    known = ({}, {"ignore_index": 2}, {"label_smoothing": 0.1}, TRANSFORMED[1])
    dloss = 0.75 if name.endswith("backward") else None
    for value in ODD[option]:
        for options in known:

            def given(options=options, value=value):
                return rows(as_dtype("float32"), "labels", {**options, option: value}, dloss)

            function = getattr(fastbp, name)
            function_of_known = rows(as_dtype("float32"), "labels", options, dloss)
            outcome(function, lambda p=function_of_known: p)
            check_both_ways(function, given, monkeypatch, f"{options} {option}={value!r}")


@pytest.mark.parametrize(
    "dloss", [1, True, nan, inf, -0.0, np.float32(0.1), np.float64(2), np.array(0.5), [1.0], "1"],
    ids=repr,
)  # fmt: skip
def test_dloss(dloss, monkeypatch):
    for kind in ("labels", "probabilities"):
        for options in ({}, {"reduction": "sum"}, {"reduction": "none"}):

            def given(kind=kind, options=options):
                return rows(as_dtype("float32"), kind, options, dloss)

            function = fastbp.softmax_cross_entropy_backward
            check_both_ways(function, given, monkeypatch, f"{kind} {options}")


def test_the_gradient_of_each_row_is_not_taken_for_that_of_all(monkeypatch):
    """A dloss for each row has a kernel of its own, which must not be remembered."""
    with monkeypatch.context() as patch:
        patch.setattr(plain_calls, "tables", {})

        def given(**dloss):
            p = rows(as_dtype("float32"), "labels", {"reduction": "none"}, None)
            return {**dloss, **p}

        each = np.linspace(1, 2, N).astype(np.float32)
        outcome(fastbp.softmax_cross_entropy_backward, lambda: given(_dloss=each))
        assert not plain_calls.tables
        check_both_ways(fastbp.softmax_cross_entropy_with_grad, given, patch, "with_grad")


def test_out_over_hard_labels(monkeypatch):
    """Labels are converted, and the copy does not overlap out any more."""
    for form in (np.int32, np.bool_):

        def given(form=form):
            room = np.zeros(N * 4, np.uint8)
            labels = room[: N * np.dtype(form).itemsize].view(form)
            labels[::2] = 1
            x = np.linspace(-1, 1, N, dtype=np.float32)
            return {"_x": x, "_targets": labels, "out": room.view(np.float32)}

        outcome(fastbp.sigmoid_cross_entropy_with_grad, lambda: given() | {"out": None})
        check_both_ways(fastbp.sigmoid_cross_entropy_with_grad, given, monkeypatch, form)


def test_options_that_change_are_forgotten(monkeypatch):
    """The oldest first, so that a temperature that falls with every call fills no memory."""
    x, labels = np.zeros((2, 3), np.float32), np.zeros(2, int)
    for i in range(MOST_ENTRIES + 1):
        fastbp.softmax_cross_entropy(x, labels, temperature=2.0 + i)
    with plain_way(monkeypatch):
        for i in range(1, MOST_ENTRIES + 1):
            fastbp.softmax_cross_entropy(x, labels, temperature=2.0 + i)
        with pytest.raises(AssertionError, match="general way"):
            fastbp.softmax_cross_entropy(x, labels, temperature=2.0)


def test_sums_of_weights_that_float64_cannot_hold(monkeypatch):
    """Their denominator is rounded once, or found the general way."""
    x, p = np.zeros((4, 3)), np.full((4, 3), 0.25)
    for w in (
        [1e16, 1, 1e-16, 1],
        [1e300, 1, 1e-300, -1e300],
        [1e308] * 4,
        [1, 2**-53, 2**-110, 0],
    ):

        def given(w=w):
            return {"_x": x.copy(), "_targets": p, "sample_weight": np.array(w, float)}

        check_both_ways(fastbp.softmax_cross_entropy_with_grad, given, monkeypatch, w)


# other losses -------------------------------------------------------------------------------------

ELEMENT_LOSSES = (
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_with_grad",
    "sigmoid_cross_entropy_backward",
    "squared_error",
    "squared_error_with_grad",
    "squared_error_backward",
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
)


@dtypes
@pytest.mark.parametrize("shape", [(N,), (N, C), (2, 3, C)], ids=str)
@pytest.mark.parametrize("name", ELEMENT_LOSSES)
def test_losses_of_elements(name, shape, dtype, monkeypatch):
    dtype, names = as_dtype(dtype), ("_x", "_targets")
    changes = list(changes_of(names))
    if name.endswith(("grad", "backward")):
        changes += changes_of_out(names)
    several = [{"reduction": reduction} for reduction in ("mean", "sum", "none")]
    if name.startswith("sigmoid"):
        several += [{"empty": "zero"}, {"reduction": ["sum"]}, {"empty": "EMPTY"}]
    if name.startswith("squared"):
        several += [{"half": True}]
    for options in several:

        def plain(options=options):
            rng = np.random.default_rng(1)
            p = {}
            if name.endswith("backward"):
                is_each = options.get("reduction") == "none"
                p["_dloss"] = np.linspace(1, 2, np.prod(shape)).reshape(shape) if is_each else 0.75
            p["_x"], p["_targets"] = rng.uniform(0.1, 0.9, (2, *shape)).astype(dtype)
            return p | options

        is_each = name.endswith("backward") and options.get("reduction") == "none"
        is_odd = options.get("reduction") == ["sum"] or options.get("empty") == "EMPTY"
        function = getattr(fastbp, name)
        check_changes(function, plain, changes, monkeypatch, options, not (is_each or is_odd))


@kinds
@dtypes
def test_cross_entropy(kind, dtype, monkeypatch):
    several = ({}, {"axis": 1, "reduction": "sum"}, {"reduction": "none"}, {"axis": -1.0},
               {"reduction": ["mean"]})  # fmt: skip
    for options in several:

        def plain(options=options):
            rng = np.random.default_rng(1)
            p = rng.uniform(0.1, 0.9, (N, C)).astype(as_dtype(dtype))
            targets = rng.integers(C, size=N) if kind == "labels" else p[::-1].copy()
            return {"_x": p, "_targets": targets, **options}

        is_odd = options.get("axis") == -1.0 or options.get("reduction") == ["mean"]
        changes = changes_of(("_x", "_targets"))
        check_changes(fastbp.cross_entropy, plain, changes, monkeypatch, options, not is_odd)


@dtypes
@pytest.mark.parametrize("name", ["sigmoid", "softmax", "log_softmax", "logsumexp"])
def test_maps_of_one(name, dtype, monkeypatch):
    def plain():
        return {"_x": np.random.default_rng(1).standard_normal((N, C)).astype(as_dtype(dtype))}

    changes = [*changes_of(["_x"]), *changes_of_out(["_x"])]
    if name == "logsumexp":

        def rows_of_out(p, change):
            change(p)
            if isinstance(p["out"], np.ndarray):
                p["out"] = p["out"].reshape(-1)[: p["_x"].shape[0]]

        changes += [
            (what, lambda p, change=change: rows_of_out(p, change))
            for what, change in changes_of_out(["_x"])
        ]
        changes += [("out of rows", lambda p: p.update(out=strided(like_x(p)[:, 0])))]
    check_changes(getattr(fastbp, name), plain, changes, monkeypatch, name)


@dtypes
@pytest.mark.parametrize("name", ["sigmoid_backward", "softmax_backward", "log_softmax_backward"])
def test_maps_of_two(name, dtype, monkeypatch):
    def plain():
        two = np.random.default_rng(1).uniform(0.1, 0.9, (2, N, C)).astype(as_dtype(dtype))
        return {"_x": two[0].copy(), "_y": two[1].copy()}

    names = ["_x", "_y"]
    changes = [*changes_of(names), *changes_of_out(names)]
    check_changes(getattr(fastbp, name), plain, changes, monkeypatch, name)
