"""Options of softmax_cross_entropy: every pair of them, and what they do to special values.

Judged by the reference in a wider type, by PyTorch, and by what must be the same without an option.
"""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from options import (
    CAPPED,
    F32,
    F64,
    KINDS,
    N_ROWS,
    WIDTHS,
    along,
    backward,
    check_special,
    dense,
    dtypes,
    each,
    forward,
    inf,
    judged,
    kinds,
    nan,
    rows_of,
    same_bits,
    targets_of,
    transforms,
    with_grad,
)

import fastbp
from fastbp import reference
from fastbp.testing import OPS

IGNORED, BAD = [4, 5, 17], [1, 13]  # rows

# every pair ---------------------------------------------------------------------------------------

FACTORS = {
    "targets": KINDS,
    "class_weight": (False, True),
    "sample_weight": (False, True),
    "ignore_index": (False, True),
    "label_smoothing": (0.0, 0.1),
    "z_loss": (0.0, 0.02),
    "softcap": (None, 15.0),
    "temperature": (1.0, 0.6),
    "reduction": ("mean", "sum", "none"),
    "empty": ("nan", "zero"),
    "on_bad_label": ("raise", "nan", "ignore"),
    "axis": (-1, 0, 1),
}


def possible(case):
    return case.get("targets", "labels") == "labels" or not case.get("ignore_index")


def pairs_of(case):
    return set(itertools.combinations(((name, case[name]) for name in FACTORS if name in case), 2))


def all_pairs():
    """Every pair of values of two options that may be given together."""
    singles = [(name, value) for name, values in FACTORS.items() for value in values]
    together = itertools.combinations(singles, 2)
    return {(a, b) for a, b in together if a[0] != b[0] and possible(dict((a, b)))}


def few_cases():
    """All options at once; then cases around pairs that are missing, until there are none."""
    last = {name: values[-1] for name, values in FACTORS.items()}
    cases = [{**last, "targets": kind, "ignore_index": kind == "labels"} for kind in KINDS]
    missing = all_pairs().difference(*map(pairs_of, cases))
    while missing:
        case = dict(min(missing, key=repr))
        for name, values in FACTORS.items():
            if name not in case:
                several = [{**case, name: value} for value in values]
                case = max(filter(possible, several), key=lambda c: len(pairs_of(c) & missing))
        missing -= pairs_of(case)
        cases.append(case)
    return cases


CASES = few_cases()


def name_of(case):
    given = [(k, case[k]) for k in FACTORS if case[k] != FACTORS[k][0] and k != "targets"]
    return ",".join([case["targets"], *(k if v is True else f"{k}={v}" for k, v in given)])


cases = pytest.mark.parametrize("case", CASES, ids=name_of)
# In float64 one of each kind of targets, as all of them are compiled.
CASES_IN_DTYPES = {
    (name_of(case), str(dtype)): (case, dtype)
    for case, dtype in itertools.product(CASES, (F32, F64))
    if dtype == F32 or case in CASES[:3]
}


def test_every_pair_of_options_is_among_the_cases():
    assert set().union(*map(pairs_of, CASES)) >= all_pairs()
    assert len(CASES) < 25


def problem(case, n_columns, dtype):
    """(logits, targets, options) as rows, and which of them are neither ignored nor bad.

    What is not read is NaN.
    """
    rng = np.random.default_rng([n_columns, *name_of(case).encode()])
    x = OPS["softmax"].inputs(rng, (N_ROWS, n_columns), dtype).args[0]
    targets = targets_of(case["targets"], rng, x)
    options = {k: case[k] for k in FACTORS if k not in ("targets", "axis")}
    options["ignore_index"] = -7 if case["ignore_index"] else None
    for name, n in (("class_weight", n_columns), ("sample_weight", N_ROWS)):
        options[name] = rng.uniform(0.2, 3, n).astype(dtype) if case[name] else None
    used = np.ones(N_ROWS, bool)
    if case["ignore_index"]:
        targets[IGNORED], x[IGNORED], used[IGNORED] = -7, nan, False
    if case["on_bad_label"] != "raise" and case["targets"] != "probabilities":
        bad = targets if case["targets"] == "labels" else targets[0][:, 1]
        bad[BAD], x[BAD], used[BAD] = [n_columns, -1], nan, False
    return x, targets, options, used


@pytest.mark.parametrize("n_columns", WIDTHS)
@pytest.mark.parametrize("dtype_of_case", [*CASES_IN_DTYPES], ids=" ".join)
def test_pairs_of_options(dtype_of_case, n_columns):
    case, dtype = CASES_IN_DTYPES[dtype_of_case]
    x, targets, options, used = problem(case, n_columns, dtype)
    rows_there, numbers_there, rows_back = along(case["axis"])
    moved = {**options, "axis": case["axis"]}
    if options["sample_weight"] is not None:
        moved["sample_weight"] = numbers_there(options["sample_weight"])
    x_there = rows_there(x)
    t_there = each(rows_there if case["targets"] == "probabilities" else numbers_there, targets)
    before = x_there.copy()

    alone = forward(x_there, t_there, **moved)
    loss, dlogits = with_grad(x_there, t_there, **moved)
    same_bits(alone, loss)
    assert_array_equal(x_there, before)
    per_row = case["reduction"] == "none"
    assert np.shape(loss) == ((4, 5) if per_row else ())
    loss, gradient = np.ravel(loss) if per_row else loss, rows_back(dlogits)

    # The reference as it stands, and strictly for the rows that are used.
    wide = np.float64 if dtype == F32 else np.longdouble
    exact = reference.softmax_cross_entropy_with_grad(x.astype(wide), targets, **options)
    assert_allclose(loss, exact[0], rtol=1e-4, atol=1e-44)
    assert_allclose(gradient, exact[1], rtol=1e-3, atol=1e-6)
    unused = nan if case["on_bad_label"] == "nan" else 0
    bad = [i for i in BAD if not used[i]]
    if per_row:
        assert_array_equal(loss[bad], unused)
        judged("softmax_cross_entropy", loss[used], (x, targets), options, used)
    elif bad and np.isnan(unused):
        assert np.isnan(loss)
    else:
        judged("softmax_cross_entropy", loss, (x, targets), options, used)
    assert_array_equal(gradient[bad], unused)
    assert_array_equal(gradient[[i for i in IGNORED if not used[i]]], 0)
    dloss = np.linspace(0.5, 2, N_ROWS).astype(dtype) if per_row else dtype.type(0.75)
    back = backward(numbers_there(dloss) if per_row else dloss, x_there, t_there, **moved)
    back = rows_back(back)
    for result, g in ((gradient, np.ones_like(dloss)), (back, dloss)):
        judged("softmax_cross_entropy_backward", result[used], (g, x, targets), options, used)
    assert_array_equal(np.isnan(back), np.isnan(gradient))

    # In place, in both orders.
    for order in "CF":
        out = np.array(x_there, order=order)
        again = with_grad(out, t_there, **moved, out=out)
        assert again[1] is out
        same_bits(again, with_grad(x_there, t_there, **moved))
        out = np.array(x_there, order=order)
        backward(numbers_there(dloss) if per_row else dloss, out, t_there, **moved, out=out)
        same_bits(rows_back(out), back)


def by_torch(x, targets, options, reduction):
    """Loss and gradient: torch's cross_entropy where it has the options, the others by hand."""
    torch = pytest.importorskip("torch")
    leaf = torch.tensor(x.astype(np.float64), requires_grad=True)
    t = torch.tensor(targets.astype(np.int64 if targets.ndim == 1 else np.float64))
    z, cap = leaf, options["softcap"]
    z = (z if cap is None else cap * torch.tanh(z / cap)) / options["temperature"]
    given = options["class_weight"]
    weight = None if given is None else torch.tensor(given.astype(np.float64))
    ignore = -100 if options["ignore_index"] is None else options["ignore_index"]
    plain = {"weight": weight, "label_smoothing": options["label_smoothing"]}
    plain["ignore_index"] = ignore
    cross_entropy = torch.nn.functional.cross_entropy
    if options["sample_weight"] is None and not options["z_loss"]:
        loss = cross_entropy(z, t, **plain, reduction=reduction)
    else:
        share = torch.ones(len(x), dtype=torch.float64)
        if t.ndim == 1:
            share = (t != ignore).double()
            share = share if weight is None else share * weight[t.clamp(0)]
        loss = cross_entropy(z, t, **plain, reduction="none")
        loss = loss + options["z_loss"] * torch.logsumexp(z, 1) ** 2 * share
        if options["sample_weight"] is not None:
            by_row = torch.tensor(options["sample_weight"].astype(np.float64))
            loss, share = loss * by_row, share * by_row
        if reduction != "none":
            loss = loss.sum() / (share.sum() if reduction == "mean" else 1)
    loss.sum().backward()
    return loss.detach().numpy(), leaf.grad.numpy()


@cases
@pytest.mark.parametrize("n_columns", WIDTHS)
def test_pairs_of_options_beside_torch(case, n_columns):
    x, targets, options, used = problem({**case, "on_bad_label": "raise"}, n_columns, F32)
    x[~used] = 0  # which torch reads
    loss, dlogits = with_grad(x, targets, **options)
    if case["targets"] == "sparse":
        targets = dense(targets, n_columns, np.float64)
    exact = by_torch(x, targets, options, case["reduction"])
    assert_allclose(loss, exact[0], rtol=2e-6, atol=1e-12)
    assert_allclose(dlogits, exact[1], rtol=2e-5, atol=1e-6 * np.max(np.abs(exact[1])))


@pytest.mark.parametrize(
    "targets", [[0, 1], [[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]]], ids=["labels", "t"]
)
def test_weights_whose_sum_is_too_large_make_the_mean_nan(targets):
    x = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    loss = fastbp.softmax_cross_entropy(x, targets, sample_weight=[1e308, 1e308])
    assert np.isnan(loss)


# what must be the same ----------------------------------------------------------------------------


@kinds
def test_values_that_change_nothing(kind):
    for n_columns in WIDTHS:
        x, targets = rows_of(kind, n_columns)
        expected = with_grad(x, targets)
        for options in (
            {"z_loss": 0, "softcap": None, "temperature": 1, "label_smoothing": 0},
            {"class_weight": None, "sample_weight": None, "ignore_index": None},
            {"z_loss": np.float32(0), "temperature": np.array(1.0)},
            {"sample_weight": np.ones(N_ROWS)},
        ):
            same_bits(with_grad(x, targets, **options), expected)


@kinds
@pytest.mark.parametrize("temperature", [0.25, 2, 16])
def test_a_temperature_divides(kind, temperature):
    """Where x / T is exact, the same bits; but for the derivative of the division."""
    for n_columns in WIDTHS:
        x, targets = rows_of(kind, n_columns)
        x = np.clip(np.round(x * 64) / 64, np.max(x, axis=1, keepdims=True) - 20, None)
        options = {"z_loss": 0.02, "reduction": "none"}
        loss, dlogits = with_grad(x, targets, **options, temperature=temperature)
        exact = with_grad(x / F32.type(temperature), targets, **options)
        same_bits(loss, exact[0])
        assert_array_equal(dlogits, exact[1] / F32.type(temperature))


@transforms
@kinds
def test_rows_apart(kind, options):
    """Alone, in a batch, at any place of a tile: the same bits."""
    for n_columns in WIDTHS:
        x, targets = rows_of(kind, n_columns)
        whole = with_grad(x, targets, **options, reduction="none")
        for rows in ([3], [19, 2], [7, 7, 0], list(range(19, 2, -1))):
            taken = each(lambda a, rows=rows: a[rows], targets)
            alone = with_grad(x[rows], taken, **options, reduction="none")
            same_bits(alone, tuple(part[rows] for part in whole))


@kinds
def test_sixteen_bits(kind):
    """Kept in 16 bits, computed in float32; in place, too."""
    options = {**CAPPED, "reduction": "none"}
    for n_columns in WIDTHS:
        x, targets = rows_of(kind, n_columns)
        half = np.clip(x, -6e4, 6e4).astype(np.float16)
        if kind == "probabilities":
            targets = targets.astype(np.float16)
        loss, dlogits = with_grad(half, targets, **options)
        exact = with_grad(half.astype(F32), targets, **options)
        same_bits(loss, exact[0])
        same_bits(dlogits, exact[1].astype(np.float16))
        with_grad(half, targets, **options, out=half)
        same_bits(half, dlogits)


# special values -----------------------------------------------------------------------------------


VALUES = [0.0, -1.0, 2.5, inf, -inf, nan, 3e38, -3e38]


@transforms
@kinds
def test_special_values(kind, options):
    """All rows of one, two and three of them, and long ones with some of them."""
    rng = np.random.default_rng(0)
    several = [np.array(list(itertools.product(VALUES, repeat=n)), F32) for n in (1, 2, 3)]
    for n_columns in (20, 33, 70):
        x = rng.standard_normal((200, n_columns)).astype(F32)
        columns = rng.integers(n_columns, size=(200, 3))
        np.put_along_axis(x, columns, rng.choice(np.float32(VALUES), columns.shape), axis=1)
        several.append(x)
    for x in several:
        targets = targets_of(kind, rng, np.nan_to_num(x))
        check_special(x, targets, options)
        if kind == "labels" and "temperature" in options:  # (m - x) / T is beyond float32, too
            check_special(x, targets, {**options, "temperature": 0.25})


@kinds
def test_a_soft_cap_makes_infinities_finite(kind):
    """±inf are as ±1e30: all of them become the cap, where it has no slope."""
    for n_columns in WIDTHS:
        x, targets = rows_of(kind, n_columns)
        x[::3, 0], x[1::3, -1], x[2] = inf, -inf, -inf
        finite = np.clip(x, -1e30, 1e30).astype(F32)
        loss, dlogits = with_grad(x, targets, **CAPPED, reduction="none")
        assert np.isfinite(loss).all()
        same_bits((loss, dlogits), with_grad(finite, targets, **CAPPED, reduction="none"))
        assert_array_equal(dlogits[np.isinf(x)], 0)
    for dtype in (F32, F64):
        x = np.array([[-inf] * 4, [inf] * 4, [inf, -inf, inf, -inf]], dtype)
        loss, dlogits = with_grad(x, [2, 0, 1], softcap=15.0, reduction="none")
        assert_allclose(loss, [np.log(4), np.log(4), 30 + np.log(2)], rtol=1e-6)
        assert_array_equal(dlogits, 0)


@pytest.mark.parametrize("offset", [1e4, -1e5, 1e6])
@kinds
def test_offsets_cost_nothing_with_a_temperature(kind, offset):
    for n_columns in WIDTHS:
        rng = np.random.default_rng(n_columns)
        x = (offset + rng.standard_normal((N_ROWS, n_columns))).astype(F32)
        targets = targets_of(kind, rng, x)
        options = {"temperature": 0.6, "reduction": "none"}
        loss, dlogits = with_grad(x, targets, **options)
        used = np.ones(N_ROWS, bool)
        judged("softmax_cross_entropy", loss, (x, targets), options, used)
        arguments = (np.ones(N_ROWS, F32), x, targets)
        judged("softmax_cross_entropy_backward", dlogits, arguments, options, used)


@pytest.mark.parametrize("power", [-18, -6, 6, 18])
@dtypes
def test_temperatures_and_caps_of_any_size(dtype, power):
    x = np.array([[0.5, -1, 2], [0, -inf, 1], [3e30, 1, -3e30], [1e-30, 0, 1e-20]], dtype)
    for option in ("temperature", "softcap"):
        options = {option: 10.0**power, "reduction": "none"}
        result = with_grad(x, [1, 2, 0, 1], **options)
        exact = reference.softmax_cross_entropy_with_grad(x, [1, 2, 0, 1], **options)
        assert_allclose(result[0], exact[0], rtol=1e-6)
        assert_allclose(result[1], exact[1], rtol=1e-5, atol=1e-35)


def test_the_z_loss_of_rows_that_are_not_there():
    """NaN in a NaN row; 0 in an ignored one, whatever stands there, and in one of weight 0."""
    options = {"z_loss": 0.02, "reduction": "none", "ignore_index": -7}
    for n_columns in WIDTHS:
        x, labels = rows_of("labels", n_columns)
        expected = with_grad(x, labels, **options)
        x[2, 1], x[IGNORED], labels[IGNORED] = nan, inf, -7
        for policy, value in (("nan", nan), ("ignore", 0)):
            labels[BAD] = n_columns, -1
            loss, dlogits = with_grad(x, labels, **options, on_bad_label=policy)
            others = [i for i in range(N_ROWS) if i not in (2, *IGNORED, *BAD)]
            same_bits((loss[others], dlogits[others]), tuple(part[others] for part in expected))
            assert np.isnan(loss[2])
            assert np.isnan(dlogits[2]).all()
            assert_array_equal(loss[IGNORED], 0)
            assert_array_equal(dlogits[IGNORED], 0)
            assert_array_equal(loss[BAD], value)
            assert_array_equal(dlogits[BAD], value)


def test_the_z_loss_of_huge_logits():
    """Its square is beyond the largest number, and its slope is not."""
    for size, dtype, huge in ((1e200, F64, inf), (3e38, F32, inf), (1e15, F32, 2e28)):
        x = np.array([[size, 0, -size]], dtype)
        loss, dlogits = with_grad(x, [0], z_loss=0.02)
        assert_allclose(loss, huge, rtol=1e-6)
        assert_allclose(dlogits, [[0.04 * x[0, 0], 0, 0]], rtol=1e-6)


@transforms
@kinds
def test_a_weight_of_0_takes_an_infinite_loss(kind, options):
    """0·inf is 0 here: what does not count costs nothing."""
    for n_columns in WIDTHS:
        x, targets = rows_of(kind, n_columns)
        x[:, 1] = -inf
        one_hot = np.eye(n_columns, dtype=F32)[[1, 1]]
        first = {"labels": 1, "probabilities": one_hot}.get(kind)
        if kind == "sparse":
            targets[0][:2], targets[1][:2] = 1, 1
        else:
            targets[:2] = first
        weight = np.ones(N_ROWS, F32)
        weight[0] = 0
        loss, dlogits = with_grad(x, targets, **options, sample_weight=weight, reduction="none")
        assert loss[0] == 0
        assert_array_equal(dlogits[0], 0)
        assert (loss[1] == inf) == ("softcap" not in options)
        if kind == "labels" or not options:
            of_class = np.ones(n_columns, F32)
            of_class[1] = 0
            check_special(x, targets, {**options, "class_weight": of_class})
            loss, _ = with_grad(x, targets, **options, class_weight=of_class, reduction="none")
            assert np.isfinite(loss).all()


@transforms
@kinds
def test_one_class_and_no_rows(kind, options):
    x = np.float32([[-5], [0], [4], [1e-20]])
    one = {"labels": np.zeros(4, int), "probabilities": np.ones((4, 1), F32),
           "sparse": (np.zeros((4, 1), int), np.ones((4, 1), F32))}[kind]  # fmt: skip
    check_special(x, one, options)
    if "z_loss" not in options:
        zeros = np.zeros(4, F32), np.zeros((4, 1), F32)
        same_bits(with_grad(x, one, **options, reduction="none"), zeros)
    nothing, none = np.empty((0, 3), F32), each(lambda a: a[:0], one)
    if kind == "probabilities":
        none = nothing
    for reduction, expected in (("mean", nan), ("sum", 0), ("none", np.empty(0))):
        loss, dlogits = with_grad(nothing, none, **options, reduction=reduction)
        assert_array_equal(loss, expected)
        assert dlogits.shape == (0, 3)
    assert with_grad(nothing, none, **options, empty="zero")[0] == 0


@pytest.mark.parametrize("empty", ["nan", "zero"])
@kinds
def test_nothing_that_counts(kind, empty):
    """Weights of 0: the mean is what `empty` says, and the gradient 0."""
    options = {"empty": empty, "sample_weight": np.zeros(N_ROWS), "z_loss": 0.02}
    mean = nan if empty == "nan" else 0
    for n_columns, reduction in itertools.product(WIDTHS, ("mean", "sum", "none")):
        x, targets = rows_of(kind, n_columns)
        loss, dlogits = with_grad(x, targets, **options, reduction=reduction)
        assert_array_equal(loss, mean if reduction == "mean" else 0)
        assert_array_equal(dlogits, 0)
