"""linear_cross_entropy: its blocks and how much memory they take, and what it says when wrong."""

import importlib
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastbp

# The function of that name hides its module.
page = importlib.import_module("fastbp.ops.linear_cross_entropy")

FUNCTIONS = (fastbp.linear_cross_entropy, fastbp.linear_cross_entropy_with_grad)


# errors -------------------------------------------------------------------------------------------

ERRORS = {
    "x a number": ({"x": 1.0}, ValueError, "x is a single number"),
    "x complex": ({"x": np.ones((3, 2)) * 1j}, TypeError, "x has dtype complex128"),
    "x of another width": ({"x": np.ones((3, 4))}, ValueError, "weight has n_in = 2"),
    "weight 1-D": ({"weight": np.ones(2)}, ValueError, "weight is 1-D"),
    "weight a string": ({"weight": "abc"}, TypeError, "weight has dtype <U3"),
    "weight_layout": ({"weight_layout": "io"}, ValueError, "weight_layout is 'io'"),
    "the other layout": ({"weight_layout": "out_in"}, ValueError, r"weight has n_in = 4 \(out_in"),
    "no classes": ({"weight": np.ones((2, 0))}, ValueError, "expected at least one class"),
    "bias": ({"bias": np.ones(3)}, ValueError, r"bias has shape \(3,\); expected \(4,\)"),
    "bias complex": ({"bias": np.ones(4) * 1j}, TypeError, "bias has dtype complex128"),
    "labels": ({"targets": [0, 1]}, ValueError, r"targets are integers of shape \(2,\)"),
    "bools": ({"targets": [True] * 3}, TypeError, "targets have dtype bool"),
    "probabilities": (
        {"targets": np.ones((3, 3))},
        ValueError,
        r"targets are floats of .*\(3, 4\)",
    ),
    "masked": ({"targets": np.ma.masked_array([0, 1, 2])}, TypeError, "targets is a masked array"),
    "bad label": ({"targets": [0, 4, 1]}, IndexError, "targets has label 4 at row 1; expected 0"),
    "class_weight": ({"class_weight": np.ones(3)}, ValueError, "class_weight has shape"),
    "sample_weight": ({"sample_weight": np.ones(4)}, ValueError, "sample_weight has shape"),
    "smoothing": ({"label_smoothing": 2}, ValueError, "label_smoothing is 2"),
    "z_loss": ({"z_loss": -1}, ValueError, "z_loss is -1"),
    "softcap": ({"softcap": 0}, ValueError, "softcap is 0"),
    "temperature": ({"temperature": 0}, ValueError, "temperature is 0"),
    "reduction": ({"reduction": "max"}, ValueError, "reduction is 'max'"),
    "empty": ({"empty": "one"}, ValueError, "empty is 'one'"),
    "on_bad_label": ({"on_bad_label": "wrap"}, ValueError, "on_bad_label is 'wrap'"),
    "ignore_index": ({"ignore_index": 1.5}, TypeError, "ignore_index is 1.5"),
    "progress": ({"progress": 3}, TypeError, "progress is 3; expected a function or None"),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("case", ERRORS)
def test_errors_come_before_anything_is_computed(case, function, monkeypatch):
    wrong, error, message = ERRORS[case]
    monkeypatch.setattr(page, "_solved", None)
    calls = []
    good = {"x": np.ones((3, 2)), "weight": np.ones((2, 4)), "targets": [0, 1, 2]}
    given = {**good, "progress": lambda *done: calls.append(done), **wrong}
    arrays = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
    before = {name: value.copy() for name, value in arrays.items()}
    with pytest.raises(error, match=message):
        function(**given)
    for name, value in arrays.items():
        assert_array_equal(value, before[name])
    assert calls == []


# memory -------------------------------------------------------------------------------------------


def peak_beyond_results(function):
    """Bytes that NumPy had at most, without those of what is returned."""
    function()
    tracemalloc.start()
    try:
        result = function()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    gradients = result[1] if isinstance(result, tuple) else ()
    return peak - sum(a.nbytes for a in gradients if a is not None)


MEMORY = {
    "in_out": {},
    "out_in": {"weight_layout": "out_in"},
    "smoothing": {"label_smoothing": 0.1},
    "softcap": {"softcap": 5.0, "z_loss": 0.1},
    "ignored": {"ignore_index": 7},
    "probabilities": {},
    "half probabilities": {},
    "float64 weight": {},
    "reversed weight": {},
    "half": {"weight_layout": "out_in"},
}


@pytest.mark.parametrize("case", MEMORY)
def test_memory(case, monkeypatch):
    """A block of logits and two panels, whatever the options; no copy of a whole weight."""
    n_rows, n_in, n_classes = 600, 32, 8000
    block, panel, others = 1 << 20, 1 << 17, 1 << 18
    monkeypatch.setattr(page, "BLOCK", block)
    monkeypatch.setattr(page, "PANEL", panel)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n_rows, n_in), dtype=np.float32)
    weight = rng.standard_normal((n_in, n_classes), dtype=np.float32)
    targets = rng.integers(n_classes, size=n_rows)
    allowed = block + 2 * panel + others
    assert weight.nbytes > 2 * panel + others
    if case == "out_in":
        weight = weight.T.copy()
    elif case == "probabilities":
        targets = np.broadcast_to(np.float32(1), (n_rows, n_classes))
        allowed += block
    elif case == "half probabilities":
        targets = np.zeros((n_rows, n_classes), np.float16)
        allowed += block
    elif case == "float64 weight":
        weight = weight.astype(float)
    elif case == "reversed weight":
        weight = weight[::-1].copy()[::-1]
    elif case == "half":
        x, weight = x.astype(np.float16), weight.T.astype(np.float16)
        allowed += weight.nbytes

    for function in FUNCTIONS:
        peak = peak_beyond_results(lambda f=function: f(x, weight, targets, **MEMORY[case]))
        assert 0.9 * block < peak <= allowed
        if allowed == block + 2 * panel + others:
            assert peak < 0.1 * (n_rows * n_classes * 4)


@pytest.mark.parametrize(
    ("shape", "dtype", "n_blocks"),
    [
        ((4096, 512, 50_257), np.float32, 13),  # 64 MiB, which is 8 % of the logits
        ((4096, 512, 50_257), np.float64, 26),
        ((10, 512, 50_257), np.float32, 1),
        ((8192, 4096, 250_000), np.float32, 16),  # an eighth of weight is 512 MB
        ((100, 8, 1 << 26), np.float32, 100),  # a row takes more than a block may
    ],
)
def test_how_many_rows_a_block_has(shape, dtype, n_blocks):
    n_rows, n_in, n_classes = shape
    x = np.broadcast_to(np.zeros(n_in, dtype), (n_rows, n_in))
    weight = np.broadcast_to(np.zeros((), dtype), (n_in, n_classes))
    problem = page.Problem(
        dtype=np.dtype(dtype), shape=x.shape, x=x, weight=weight, transposed=False, bias=None,
        loss=None, probabilities=None, used=None, progress=None,
    )  # fmt: skip
    rows = page._rows_at_once(problem)
    ends = [end for _, end in page._blocks(problem, rows)]
    assert len(ends) == n_blocks
    assert ends[-1] == n_rows
    row = n_classes * np.dtype(dtype).itemsize
    assert rows * row <= max(page.BLOCK, n_in * row // 8, row)
