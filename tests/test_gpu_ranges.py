"""Huge rows on an imitated GPU, which blocks share by ranges of columns."""

import functools

import numpy as np
import pytest
from gpu_imitation import Array, imitate
from gpu_threads import RaceError
from gpu_words import simulated
from halves import assert_same_bits, half
from test_gpu_kernels import PROMISES, only, rebuilt

import fastbp
from fastbp.cuda import driver, range_calls, ranges, run, staging
from fastbp.testing import OPS, Arguments
from fastbp.testing.errors import ulps

inf, nan = np.inf, np.nan
WIDTH, HUGE = 96, 100  # here
NAMES = [
    "softmax", "log_softmax", "logsumexp", "softmax_backward", "log_softmax_backward",
    "logsumexp_backward",
]  # fmt: skip
DTYPES = ("float32", "float64", "float16", "bfloat16")
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture
def launched(monkeypatch):
    """Start a GPU whose ranges are short; what it has launched, as (kernel, regime, blocks)."""
    imitate(monkeypatch)
    monkeypatch.setattr(range_calls, "WIDTH", WIDTH)
    monkeypatch.setattr(range_calls, "HUGE", HUGE)
    found, execute = [], run.execute

    def noting(kernel, regime, shape, *rest):
        found.append((kernel, regime.name, shape.blocks))
        return execute(kernel, regime, shape, *rest)

    monkeypatch.setattr(run, "execute", noting)
    return found


def on_chip(monkeypatch, staged):
    """Whether ranges are to come to the chip."""
    device = driver.Device(0, (9, 0), 232_448 if staged else 0, 1)
    monkeypatch.setattr(driver, "device", lambda _index: device)
    monkeypatch.setattr(range_calls, "CHIP", 0)


def computed(name, values, out=None):
    """The result of an operation on the imitated GPU."""
    arguments = rebuilt(name, [Array(v) for v in values])
    return OPS[name].call(arguments).values if out is None else None


def given(name, shape, dtype, seed):
    arguments = OPS[name].inputs(np.random.default_rng(seed), shape, half(dtype))
    return [*arguments.args, *arguments.kwargs.values()]


def assert_right(name, values, result):
    promise = OPS[name].promise_of(result)
    if result.itemsize == 2:
        promise = PROMISES.get(name, promise)
    assert OPS[name].measure(rebuilt(name, values), result) <= promise


COLUMNS = (HUGE, 2 * WIDTH, 2 * WIDTH + 1, 7 * WIDTH - 1)


@pytest.mark.parametrize("staged", [True, False], ids=["on the chip", "where they are"])
@dtypes
@pytest.mark.parametrize("name", NAMES)
def test_ranges(name, dtype, staged, launched, monkeypatch):
    on_chip(monkeypatch, staged)
    for columns in COLUMNS if dtype == "float32" else COLUMNS[-1:]:
        values = given(name, (3, columns), dtype, seed=columns)
        launched.clear()
        result = computed(name, values)
        assert_right(name, values, result)
        assert {regime for _, regime, _ in launched} == {"block" if staged else "long"}
        per_row = -(-columns // WIDTH)
        assert [blocks for *_, blocks in launched][0] == 3 * per_row
