"""Losses of elements and of probabilities: accuracy, gradients, weights that broadcast, bits.

The table of operations tests shapes, layouts, threads and `out` of them, too.
"""

import itertools
import os
import subprocess
import sys
import tracemalloc

import mpmath
import numpy as np
import pytest
from elements import (
    ELEMENTWISE,
    WITH_GRAD,
    assert_same_bits,
    dtypes,
    gradient_of,
    inputs_of,
    names,
    precisions,
    reductions,
)
from numpy.testing import assert_allclose

import fastbp
from fastbp import reference
from fastbp.testing.element_losses import (
    ROWS,
    ulps_of_sigmoid_gradient,
    ulps_of_sigmoid_loss,
)
from fastbp.testing.errors import spacing, ulps

inf = np.inf

# accuracy -----------------------------------------------------------------------------------------


def floats(step, last=np.inf):
    """Every so many float32 numbers, and their negatives."""
    bits = np.arange(0, int(np.float32(last).view(np.uint32)) + 1, step, dtype=np.uint32)
    x = bits.view(np.float32)
    return np.concatenate([x, -x])


def doubles(n):
    rng = np.random.default_rng(0)
    small = np.exp(rng.uniform(np.log(1e-300), np.log(800), n))
    return np.concatenate([
        3 * rng.standard_normal(n), rng.uniform(-746, 746, n), rng.uniform(-1.5, 1.5, n), small,
        -small, rng.uniform(708, 746, n), [0.0, -0.0, 5e-324, 1e308, -1e308, inf, -inf],
    ])  # fmt: skip


@precisions
@pytest.mark.parametrize("target", [0, 1, 0.25, 0.7])
def test_sigmoid_cross_entropy_everywhere(dtype, wide, target):
    x = floats(997, 3e38) if dtype == np.float32 else doubles(40_000)
    t = np.full_like(x, target)
    named = {"logits": x.astype(wide), "targets": t.astype(wide), "reduction": "none"}
    hard = target in (0, 1)
    actual = fastbp.sigmoid_cross_entropy_with_grad(x, t, reduction="none")
    exact = reference.sigmoid_cross_entropy_with_grad(**named)
    assert ulps_of_sigmoid_loss(actual[0], exact[0], named) <= (1.25 if hard else 1.75)
    assert ulps_of_sigmoid_gradient(actual[1], exact[1], named) <= (1.75 if hard else 2.5)


@precisions
def test_sigmoid_cross_entropy_with_soft_targets_and_weights(dtype, wide):
    rng = np.random.default_rng(1)
    x = floats(9973, 100) if dtype == np.float32 else doubles(30_000)
    close = np.exp(rng.uniform(-40, 0, x.size))
    t = np.select([rng.random(x.size) < 0.3] * 1, [close], 1 - close).astype(dtype)
    p, w = rng.uniform(0.1, 9, (2, x.size)).astype(dtype)
    w[::5] = 0
    options = {"pos_weight": p, "sample_weight": w, "reduction": "none"}
    named = {"logits": x.astype(wide), "targets": t.astype(wide), **options,
             "pos_weight": p.astype(wide), "sample_weight": w.astype(wide)}  # fmt: skip
    actual = fastbp.sigmoid_cross_entropy_with_grad(x, t, **options)
    exact = reference.sigmoid_cross_entropy_with_grad(**named)
    assert ulps_of_sigmoid_loss(actual[0], exact[0], named) <= 2.5
    assert ulps_of_sigmoid_gradient(actual[1], exact[1], named) <= 3.5


@precisions
def test_the_logarithm_of_any_number(dtype, wide):
    rng = np.random.default_rng(0)
    if dtype == np.float32:
        x = np.abs(floats(997, 3e38))
    else:
        x = np.abs(np.concatenate([
            doubles(40_000), 1 + rng.uniform(-0.4, 0.4, 40_000),
            1 + rng.uniform(-1e-9, 1e-9, 40_000), 5e-324 * rng.integers(1, 2**52, 40_000),
        ]))  # fmt: skip
    x = x[(x > 0) & np.isfinite(x)]
    loss = fastbp.cross_entropy(x[:, None], np.zeros(x.size, int), reduction="none")
    assert np.max(ulps(loss, -np.log(x.astype(wide)))) <= 1  # 0.83, 0.83


@precisions
@pytest.mark.parametrize("target", ["0", "1", "soft", "close"])
def test_binary_cross_entropy_everywhere(dtype, wide, target):
    rng = np.random.default_rng(2)
    n, (lowest, ulp) = 100_000, ((-100, -16.5) if dtype == np.float32 else (-740, -36.5))
    p = np.concatenate([
        rng.random(n), np.exp(rng.uniform(lowest, 0, n)), 1 - np.exp(rng.uniform(ulp, 0, n)),
        0.5 + rng.uniform(-1e-3, 1e-3, n),
    ]).astype(dtype)  # fmt: skip
    p = p[(p > 0) & (p < 1)]
    t = {
        "0": np.zeros(p.size), "1": np.ones(p.size), "soft": rng.random(p.size),
        "close": np.minimum(p * (1 + rng.uniform(-1e-6, 1e-6, p.size)), 1),
    }[target].astype(dtype)  # fmt: skip
    hard = target in "01"
    loss = fastbp.binary_cross_entropy(p, t, reduction="none")
    exact = reference.binary_cross_entropy(p.astype(wide), t.astype(wide), reduction="none")
    assert np.max(ulps(loss, exact)) <= (1 if hard else 1.75)
    # Times 1/4: 1 / p alone may overflow.
    dprobs = fastbp.binary_cross_entropy_backward(0.25, p, t, reduction="sum")
    exact = reference.binary_cross_entropy_backward(1, p.astype(wide), t.astype(wide),
                                                    reduction="sum") / 4  # fmt: skip
    assert np.max(ulps(dprobs, exact)) <= (1.75 if hard else 3)


@precisions
@pytest.mark.parametrize("half", [False, True])
def test_squared_error_of_all_sizes(dtype, wide, half):
    rng = np.random.default_rng(3)
    x = (rng.standard_normal(100_000) * np.exp(rng.uniform(-40, 40, 100_000))).astype(dtype)
    near = x * (1 + rng.uniform(-1e-5, 1e-5, x.size))
    t = np.where(rng.random(x.size) < 0.5, near, rng.standard_normal(x.size)).astype(dtype)
    options = {"half": half, "reduction": "none"}
    actual = fastbp.squared_error_with_grad(x, t, **options)
    exact = reference.squared_error_with_grad(x.astype(wide), t.astype(wide), **options)
    assert np.max(ulps(actual[0], exact[0])) <= 0.75  # 0.50, 0.50
    assert np.max(ulps(actual[1], exact[1])) <= 0.75


def mp_ulps(actual, exact):
    unit = mpmath.mpf(float(spacing(float(exact), np.asarray(actual).dtype)))
    return float(abs(mpmath.mpf(float(actual)) - exact) / unit)


@dtypes
def test_beside_mpmath(dtype):
    """The definitions, computed naively with 700 digits."""
    largest = 100 if dtype == np.float32 else 740
    xs = [0, 1e-30, 1e-4, 0.5, 1, 2, 17, 20, 37, 60, 0.99 * largest, largest]
    with mpmath.workdps(700):
        targets = [dtype(t) for t in (0, 1, 0.25, 1e-20)]
        for x, t in itertools.product(map(dtype, [*xs, *(-v for v in xs)]), targets):
            s = 1 / (1 + mpmath.exp(-mpmath.mpf(float(x))))
            exact = -t * mpmath.log(s) - (1 - mpmath.mpf(float(t))) * mpmath.log(1 - s)
            loss, dx = fastbp.sigmoid_cross_entropy_with_grad(x, t, reduction="sum")
            assert mp_ulps(loss, exact) <= 1.75
            assert mp_ulps(dx, s - mpmath.mpf(float(t))) <= 2.5
        for p, t in itertools.product(map(dtype, [1e-30, 0.1, 0.5, 0.75, 1 - 1e-7]), targets):
            mp, mt = mpmath.mpf(float(p)), mpmath.mpf(float(t))
            exact = -mt * mpmath.log(mp) - (1 - mt) * mpmath.log(1 - mp)
            assert mp_ulps(fastbp.binary_cross_entropy(p, t), exact) <= 1.75
            dp = fastbp.binary_cross_entropy_backward(1.0, p, t)
            assert mp_ulps(dp, (mp - mt) / (mp * (1 - mp))) <= 3


@dtypes
def test_both_tails(dtype):
    x, t = np.array([20, -20], dtype), np.array([1, 0])
    loss, dlogits = fastbp.sigmoid_cross_entropy_with_grad(x, t, reduction="none")
    eps = np.finfo(dtype).eps
    assert_allclose(loss, 2.061153620314381e-09, rtol=2 * eps)
    assert_allclose(dlogits, [-2.0611536181902037e-09, 2.0611536181902037e-09], rtol=2 * eps)
    assert fastbp.sigmoid_cross_entropy(np.float32(100), 1) == np.float32(3.783506e-44)


@precisions
def test_sums_of_many_elements(dtype, wide):
    """A million small losses beside one large: what is added one by one in float32 is lost."""
    x = np.full(1_000_001, -20, dtype)
    x[500] = 1e4
    t = np.zeros_like(x)
    for reduction in ("sum", "mean"):
        loss = fastbp.sigmoid_cross_entropy(x, t, reduction=reduction)
        exact = reference.sigmoid_cross_entropy(x.astype(wide), t, reduction=reduction)
        assert ulps(loss, exact) <= 1


# against differences, torch and itself ------------------------------------------------------------


@names
@reductions
def test_gradient_is_that_of_differences(name, reduction):
    x, t = inputs_of(name, (3, 4), np.float64)
    x = np.clip(x, 0.05, 0.95) if name == "binary_cross_entropy" else x / 8
    function = getattr(reference, name)
    dloss = np.resize([2.0, -0.5, 3.0], (3, 4) if reduction == "none" else ())
    actual = gradient_of(name, x, t, dloss, reduction=reduction)
    for i in np.ndindex(x.shape):
        h = np.zeros_like(x)
        h[i] = 1e-6
        above, below = (function(v, t, reduction=reduction) for v in (x + h, x - h))
        assert_allclose(actual[i], np.sum(dloss * (above - below)) / 2e-6, rtol=1e-5, atol=1e-9)


@reductions
@pytest.mark.parametrize("labels", [True, False], ids=["labels", "probabilities"])
def test_gradient_of_probabilities_is_that_of_differences(labels, reduction):
    rng = np.random.default_rng(0)
    p = rng.uniform(0.1, 0.9, (3, 4))
    t = np.array([0, 3, 1]) if labels else rng.random((3, 4))
    dloss = np.resize([2.0, -0.5, 3.0], 3 if reduction == "none" else ())
    actual = fastbp.cross_entropy_backward(dloss, p, t, reduction=reduction)
    for i in np.ndindex(p.shape):
        h = np.zeros_like(p)
        h[i] = 1e-6
        above, below = (reference.cross_entropy(v, t, reduction=reduction) for v in (p + h, p - h))
        assert_allclose(actual[i], np.sum(dloss * (above - below)) / 2e-6, rtol=1e-5, atol=1e-8)


@reductions
@dtypes
def test_beside_torch(dtype, reduction):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    def both(function, x):
        x = torch.tensor(x, requires_grad=True)
        loss = function(x)
        loss.sum().backward()
        return loss.detach().numpy(), x.grad.numpy()

    close = {"rtol": 1e-5 if dtype == np.float32 else 1e-12, "atol": 1e-6}
    x, t = inputs_of("sigmoid_cross_entropy", (6, 5), dtype)
    w = np.random.default_rng(0).uniform(0.2, 3, 5).astype(dtype)
    target = torch.tensor(t)
    for pos_weight in (None, w):
        actual = fastbp.sigmoid_cross_entropy_with_grad(
            x, t, pos_weight=pos_weight, reduction=reduction
        )
        tensor = None if pos_weight is None else torch.tensor(pos_weight)
        expected = both(
            lambda x, tensor=tensor: functional.binary_cross_entropy_with_logits(
                x, target, pos_weight=tensor, reduction=reduction
            ), x)  # fmt: skip
        for a, e in zip(actual, expected, strict=True):
            assert_allclose(a, e, **close)
    actual = fastbp.squared_error_with_grad(x, t, reduction=reduction)
    expected = both(lambda x: functional.mse_loss(x, target, reduction=reduction), x)
    for a, e in zip(actual, expected, strict=True):
        assert_allclose(a, e, **close)
    p = np.clip(inputs_of("binary_cross_entropy", (6, 5), dtype)[0], 0.01, 0.99)
    expected = both(lambda p: functional.binary_cross_entropy(p, target, reduction=reduction), p)
    one = np.ones((6, 5) if reduction == "none" else ())
    assert_allclose(fastbp.binary_cross_entropy(p, t, reduction=reduction), expected[0], **close)
    actual = fastbp.binary_cross_entropy_backward(one, p, t, reduction=reduction)
    assert_allclose(actual, expected[1], **close)
    labels = np.array([0, 4, 2, 2, 1, 3])
    expected = both(
        lambda p: functional.nll_loss(torch.log(p), torch.tensor(labels), reduction=reduction), p
    )
    one = np.ones(6 if reduction == "none" else ())
    assert_allclose(fastbp.cross_entropy(p, labels, reduction=reduction), expected[0], **close)
    actual = fastbp.cross_entropy_backward(one, p, labels, reduction=reduction)
    assert_allclose(actual, expected[1], **close)


@dtypes
@reductions
@pytest.mark.parametrize("name", WITH_GRAD)
def test_one_pass_gives_what_two_give(name, dtype, reduction):
    for shape in [(), (1,), (5, 7), (3, 20_011)]:
        x, t = inputs_of(name, shape, dtype)
        loss, dx = getattr(fastbp, f"{name}_with_grad")(x, t, reduction=reduction)
        assert_same_bits(loss, getattr(fastbp, name)(x, t, reduction=reduction))
        one = np.ones(np.shape(loss))
        assert_same_bits(dx, gradient_of(name, x, t, one, reduction=reduction))


def test_probabilities_one_hot_are_labels():
    rng = np.random.default_rng(0)
    p = rng.random((33, 10)).astype(np.float32)
    labels = rng.integers(10, size=33)
    one_hot = (labels[:, None] == np.arange(10)).astype(np.float32)
    for reduction in ("none", "sum", "mean"):
        expected = fastbp.cross_entropy(p, labels, reduction=reduction)
        assert_allclose(fastbp.cross_entropy(p, one_hot, reduction=reduction), expected, rtol=1e-6)
        dloss = np.ones(np.shape(expected))
        assert_same_bits(
            fastbp.cross_entropy_backward(dloss, p, one_hot, reduction=reduction),
            fastbp.cross_entropy_backward(dloss, p, labels, reduction=reduction),
        )


# weights ------------------------------------------------------------------------------------------

SHAPE = (3, 4, 5, 700)
WEIGHT_SHAPES = [
    (), (1,), (1, 1), (700,), (5, 1), (1, 700), (5, 700), (4, 1, 1), (4, 1, 700), (3, 1, 1, 1),
    (3, 1, 5, 1), (1, 4, 5, 1), (3, 4, 1, 1), (3, 4, 5, 1), (3, 4, 5, 700), (1, 1, 1, 1),
]  # fmt: skip


def quarters(shape, seed):
    """Weights whose sums are exact."""
    return np.random.default_rng(seed).integers(0, 9, shape) / np.float32(4)


@dtypes
@pytest.mark.parametrize("shape", WEIGHT_SHAPES, ids=str)
@pytest.mark.parametrize("name", ["pos_weight", "sample_weight"])
def test_weights_broadcast(name, shape, dtype):
    """The same bits as with weights of all elements."""
    x, t = inputs_of("sigmoid_cross_entropy", SHAPE, dtype)
    w = quarters(shape, 0).astype(dtype) + dtype(0.25)
    full = np.ascontiguousarray(np.broadcast_to(w, SHAPE))
    for reduction in ("none", "mean"):
        options = {"reduction": reduction}
        actual = fastbp.sigmoid_cross_entropy_with_grad(x, t, **{name: w}, **options)
        expected = fastbp.sigmoid_cross_entropy_with_grad(x, t, **{name: full}, **options)
        exact = reference.sigmoid_cross_entropy_with_grad(x, t, **{name: full}, **options)
        for a, e, r in zip(actual, expected, exact, strict=True):
            assert_same_bits(a, e)
            assert_allclose(a, r, rtol=1e-5, atol=1e-7)


@dtypes
@pytest.mark.parametrize("n_columns", [1, 2, 3, 17, 700, 5000])
def test_weights_of_columns_and_rows(n_columns, dtype):
    shape = (-(-9000 // n_columns), n_columns)
    x, t = inputs_of("sigmoid_cross_entropy", shape, dtype)
    p, w = quarters(n_columns, 1).astype(dtype), quarters((shape[0], 1), 2).astype(dtype)
    full = {"pos_weight": np.tile(p, (shape[0], 1)), "sample_weight": np.tile(w, (1, n_columns))}
    actual = fastbp.sigmoid_cross_entropy_with_grad(x, t, pos_weight=p, sample_weight=w)
    for a, e in zip(actual, fastbp.sigmoid_cross_entropy_with_grad(x, t, **full), strict=True):
        assert_same_bits(a, e)


@pytest.mark.parametrize(
    ("pos_weight", "sample_weight"),
    [(3, None), (None, 0.5), (2.0, [1, 2, 0]), (np.float64(2), np.array([[True], [False]]))],
)
def test_weights_of_any_kind(pos_weight, sample_weight):
    x, t = inputs_of("sigmoid_cross_entropy", (2, 3), np.float32)
    loss = fastbp.sigmoid_cross_entropy(x, t, pos_weight=pos_weight, sample_weight=sample_weight)
    exact = reference.sigmoid_cross_entropy(
        x, t, pos_weight=pos_weight, sample_weight=sample_weight
    )
    assert loss.dtype == np.float32
    assert_allclose(loss, exact, rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (1000,), (1000, 1)], ids=str)
@pytest.mark.parametrize("name", ["pos_weight", "sample_weight"])
def test_weights_are_not_spread_over_all_elements(name, shape):
    x, t = inputs_of("sigmoid_cross_entropy", (1000, 1000), np.float32)
    out, w = np.empty_like(x), np.ones(shape, np.float32)
    fastbp.sigmoid_cross_entropy_with_grad(x, t, **{name: w}, out=out)
    tracemalloc.start()
    fastbp.sigmoid_cross_entropy_with_grad(x, t, **{name: w}, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 20


# bits ---------------------------------------------------------------------------------------------

BITS = """
import sys
import numba, numpy as np
from fastbp.cpu import run
from fastbp.testing import OPS
from fastbp.testing.element_losses import ROWS
run.PARALLEL_FROM = 1000
for name, *_ in ROWS:
    for dtype in ("float32", "float64"):
        for shape in [(3, 4001), (1, 40_000), (3300, 10)]:
            rng = np.random.default_rng(shape)
            arguments = OPS[name].inputs(rng, shape, np.dtype(dtype))
            found = set()
            for n in (1, 2, 3):
                numba.set_num_threads(n)
                result = OPS[name].call(arguments)
                parts = result if isinstance(result, tuple) else (result,)
                found.add(b"".join(part.tobytes() for part in parts))
            assert len(found) == 1, (name, dtype, shape)
print("equal")
"""


def test_one_two_and_three_threads_give_the_same_bits():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", BITS],
        env={**environment, "NUMBA_NUM_THREADS": "3"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.stdout == "equal\n", process.stderr


@dtypes
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
def test_slices_give_the_same_bits(weighted, dtype):
    x, t = inputs_of("sigmoid_cross_entropy", (5000,), dtype)
    weights = np.random.default_rng(0).uniform(0.2, 3, (2, 5000)).astype(dtype)

    def call(at):
        options = {"pos_weight": weights[0, at], "sample_weight": weights[1, at]}
        return fastbp.sigmoid_cross_entropy_with_grad(
            x[at], t[at], reduction="none", **(options if weighted else {})
        )

    whole = call(slice(None))
    for start, stop in [(0, 1), (1, 8), (3, 20), (7, 2100), (2040, 2060), (4990, 5000)]:
        for part, w in zip(call(slice(start, stop)), whole, strict=True):
            assert_same_bits(part, w[start:stop])


def test_every_operation_is_in_the_table():
    listed = {name.partition("[")[0] for name, *_ in ROWS}
    losses = {*ELEMENTWISE, "cross_entropy"}
    expected = losses | {f"{n}_backward" for n in losses} | {f"{n}_with_grad" for n in WITH_GRAD}
    assert listed == expected
