"""Numbers of 16 bits: float16, and bfloat16 of ml_dtypes, where that is installed.

They are read and written as such and computed in float32. So a result is that of float32, rounded
once, bit for bit (but for sigmoid, which takes a shorter way to 16 bits); and losses, which are
float32, have the very same bits.
"""

import hashlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from halves import F32, arguments_for, assert_same_bits, bits, half, rounded, widened
from numpy.testing import assert_array_equal

import fastbp
from fastbp import reference
from fastbp.cpu import run
from fastbp.cpu.elementwise import map_two
from fastbp.cpu.vectors import pick, put, row
from fastbp.formulas.elementwise_losses import itself
from fastbp.testing import OPS
from fastbp.testing.errors import finfo, flat, ulps

inf, nan = np.inf, np.nan
# Tiles of short rows, whole vectors and masked tails; the last two are for several threads.
SHAPES = [(0, 3), (1, 1), (5, 1), (37, 16), (33, 10), (5, 33), (3, 130), (40, 1000), (1, 40_000)]
# Products are the BLAS library's.
EXACT_BITS = [name for name in OPS if not name.startswith("linear")]
operations = pytest.mark.parametrize("name", OPS)
operations_of_fixed_bits = pytest.mark.parametrize("name", EXACT_BITS)


@pytest.fixture(params=["float16", "bfloat16"])
def dtype(request):
    return half(request.param)


# conversions --------------------------------------------------------------------------------------

copy = map_two(itself)  # reads a vector, or a part of one, and writes it


def copy_one_by_one(first, last, x, _y, out):
    for i in range(first, last):
        put(row(out, 0), i, pick(row(x, 0), i))


def converted(x, dtype):
    """x in another dtype, as kernels read and write it: in vectors, and in single numbers."""
    results = []
    for kernel in (copy, copy_one_by_one):
        out = np.empty(x.shape, dtype)
        run.serial(kernel, (x.dtype.name, out.dtype.name), x.size, x, x, out)
        results.append(out)
    assert_same_bits(*results)
    return results[0]


def patterns(dtype):
    """All numbers of 16 bits, and not a multiple of any vector's length."""
    return np.append(np.arange(2**16, dtype=np.uint16), np.uint16(1)).view(dtype)


def hard_to_round(dtype):
    """All numbers of 16 bits, all ties between them, their neighbours, and float32 of all sizes."""
    every = patterns(dtype).astype(np.float32)
    finite = np.sort(every[np.isfinite(every)])
    largest, eps = float(finfo(dtype).max), float(finfo(dtype).eps)
    overflow = largest * 2 / (2 - eps)  # the next number, if there were one
    finite = np.unique(np.append(finite.astype(np.float64), [-overflow, overflow]))
    ties = ((finite[:-1] + finite[1:]) / 2).astype(np.float32)
    with np.errstate(all="ignore"):
        near = [np.nextafter(x, np.float32(end)) for x in (every, ties) for end in (-inf, inf)]
    sample = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    special = np.float32([0, -0.0, inf, -inf, nan, 1e-45, -1e-45, 3.4e38, -3.4e38])
    return np.concatenate([every, ties, *near, sample, special])


def check_conversions(dtype):
    x = patterns(dtype)
    with np.errstate(invalid="ignore"):
        assert_same_bits(converted(x, F32), x.astype(F32))
    assert_same_bits(converted(x, dtype), x)
    x = hard_to_round(dtype)
    assert len(x) > 10**6
    assert_same_bits(converted(x, dtype), rounded(x, dtype))


def test_conversions(dtype):
    check_conversions(dtype)


def test_ties_are_among_what_is_rounded(dtype):
    """Rounding down, up, or away from zero instead of to nearest even would be seen."""
    x = hard_to_round(dtype)
    x = x[np.isfinite(x)]
    even = rounded(x, dtype)
    for end in (-inf, inf):
        with np.errstate(over="ignore"):
            other = np.nextafter(even, dtype.type(end))
        off, off_even = (np.abs(y.astype(np.float64) - x) for y in (other, even))
        assert np.count_nonzero((off == off_even) & np.isfinite(off)) > 10_000


# Other machines convert float16 by moving bits.
PROCESSORS = {
    "f16c": {},
    "portable": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}
ELSEWHERE = """
import sys
sys.path.insert(0, sys.argv[1])
import test_halves
print(test_halves.digests(sys.argv[2:]))
"""
OF_A_PROCESSOR = ["softmax", "sigmoid", "softmax_cross_entropy_with_grad[labels]"]


def digests(names):
    """The conversions checked on this processor, and a digest of some operations' results."""
    from numba.core.registry import cpu_target

    from fastbp.cpu.halves import _has_conversions

    digest = hashlib.sha256()
    for dtype in map(half, names):
        check_conversions(dtype)
        for name in OF_A_PROCESSOR:
            for shape in SHAPES[3:6]:
                for part in flat(OPS[name].call(arguments_for(name, shape, dtype))):
                    digest.update(bits(part).tobytes())
    return json.dumps([_has_conversions(cpu_target.target_context), digest.hexdigest()])


def test_processor_does_not_matter():
    names = ["float16"]
    try:
        import ml_dtypes  # noqa: F401
    except ImportError:
        pass
    else:
        names.append("bfloat16")
    base = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_CPU")}
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-W", "error", "-c", ELSEWHERE, str(Path(__file__).parent), *names],
            env={**base, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name, variables in PROCESSORS.items()
    }  # fmt: skip
    outputs = {name: process.communicate(timeout=500) for name, process in processes.items()}
    assert [process.returncode for process in processes.values()] == [0, 0], outputs
    found = {name: json.loads(out) for name, (out, _) in outputs.items()}
    assert not found["portable"][0]
    assert found["portable"][1] == found["f16c"][1]


# every operation ----------------------------------------------------------------------------------


@operations
def test_operation_keeps_its_promise(name, dtype):
    operation = OPS[name]
    for shape in SHAPES:
        arguments = arguments_for(name, shape, dtype)
        named = operation.named(arguments)
        before = {key: np.array(widened(v)) for key, v in named.items() if not isinstance(v, tuple)}
        result = operation.call(arguments)
        assert operation.measure(arguments, result) <= operation.promise_of(result), shape
        for key, value in before.items():
            assert_array_equal(widened(named[key]), value, err_msg=f"{key} was changed")


@pytest.mark.parametrize("name", [name for name in EXACT_BITS if name != "sigmoid"])
def test_float32_rounded_once(name, dtype):
    for shape in SHAPES:
        named = OPS[name].named(arguments_for(name, shape, dtype))
        result = flat(OPS[name].function(**named))
        wide = OPS[name].function(**{key: widened(value) for key, value in named.items()})
        expected = [rounded(w, r.dtype) for w, r in zip(flat(wide), result, strict=True)]
        assert_same_bits(result, tuple(expected))


@pytest.mark.parametrize("name", ["sigmoid", "log_sigmoid"])
def test_all_numbers(name, dtype):
    x = patterns(dtype)
    y = getattr(fastbp, name)(x)
    with np.errstate(invalid="ignore"):
        exact = getattr(reference, name)(x.astype(np.float64))
    assert ulps(y, exact).max() <= 0.501  # measured: 0.50005
    assert_array_equal(np.isnan(y), np.isnan(exact))


@operations
def test_results_have_16_bits_and_losses_32(name, dtype):
    function = name.partition("[")[0]
    loss = any(word in function for word in ("cross_entropy", "squared_error"))
    parts = flat(OPS[name].call(arguments_for(name, (5, 7), dtype)))
    if function.endswith("grad_hess") or (loss and len(parts) == 1 and "backward" not in function):
        expected = {F32}
    elif function.endswith("_with_grad"):
        assert parts[0].dtype == F32
        parts, expected = parts[1:], {dtype}
    else:
        expected = {dtype}
    assert {part.dtype for part in parts} == expected


@operations
def test_inputs_are_no_trifle(name, dtype):
    for part in flat(OPS[name].call(arguments_for(name, (33, 10), dtype))):
        numbers = np.abs(part.astype(np.float64))
        finite = np.isfinite(numbers)
        assert np.max(numbers, where=finite, initial=0) > 1e-3
        assert np.count_nonzero(finite) >= 0.5 * np.size(part)


def test_inputs_have_what_makes_them_hard(dtype):
    x = arguments_for("softmax", (64, 10), dtype).args[0]
    p = np.asarray(reference.softmax(x))
    ordered = np.sort(x.astype(np.float64), axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    assert np.any((margin > 15) & (margin < 70)), "confident rows"
    assert np.any(margin == 0), "ties"
    assert np.any(np.abs(x) > 9000), "offsets"
    tiny = 2.0 ** finfo(dtype).minexp
    assert np.count_nonzero((p > finfo(dtype).smallest_subnormal) & (p < tiny)) > 10


# With a temperature alone, the largest gradient is where an exponential's error is largest, too.
@pytest.mark.parametrize("name", [name for name in EXACT_BITS if ",temperature]" not in name])
def test_a_wrong_digit_is_found(name, dtype):
    """The largest number of 16 bits, off by two places; beside a loss, whose promise counts, 16."""
    operation = OPS[name]
    arguments = arguments_for(name, (33, 10), dtype)
    result = flat(operation.call(arguments))
    wrong = [np.array(part) for part in result]
    numbers = wrong[-1].reshape(-1)
    i = np.argmax(np.abs(np.where(np.isfinite(numbers), numbers, 0).astype(np.float64)))
    if numbers.dtype == dtype:
        for _ in range(2 if len(result) == 1 else 16):
            numbers[i] = np.nextafter(numbers[i], dtype.type(0))
    else:
        numbers[i] *= F32.type(1 + 1e-5)
    error = operation.measure(arguments, tuple(wrong) if len(wrong) > 1 else wrong[0])
    assert error > operation.promise_of(result)


# layouts, out, axes -------------------------------------------------------------------------------


def column_slice(a):
    wide = np.full((*a.shape[:-1], a.shape[-1] + 5), nan if a.dtype.kind != "i" else 10**6, a.dtype)
    wide[..., 2:-3] = a
    return wide[..., 2:-3]


def unaligned(a):
    view = np.frombuffer(np.zeros(a.nbytes + 1, np.uint8), a.dtype, a.size, 1).reshape(a.shape)
    view[...] = a
    return view


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed": lambda a: a[(slice(None, None, -1),) * a.ndim].copy()[
        (slice(None, None, -1),) * a.ndim
    ],
    "columns of a wider array": column_slice,
    "every second row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "unaligned": unaligned,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@operations_of_fixed_bits
def test_layout_does_not_matter(name, dtype, layout):
    for shape in [(5, 7), (4, 130)]:
        arguments = arguments_for(name, shape, dtype)
        named = {
            key: LAYOUTS[layout](value) if isinstance(value, np.ndarray) else value
            for key, value in OPS[name].named(arguments).items()
        }
        assert_same_bits(OPS[name].function(**named), OPS[name].call(arguments))


def test_swapped_bytes():
    x = np.float16([[1, 2, -3]])
    y = fastbp.softmax(x.astype(">f2"))
    assert y.dtype == np.float16
    assert_same_bits(y, fastbp.softmax(x))


WITH_OUT = [n for n in EXACT_BITS if "out" in inspect.signature(OPS[n].function).parameters]


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_and_in_place(name, dtype):
    operation = OPS[name]
    for shape in [(5, 7), (3, 130), (40, 1000)]:
        arguments = arguments_for(name, shape, dtype)
        expected = flat(operation.call(arguments))
        for make in (np.zeros, lambda *like: column_slice(np.zeros(*like))):
            out = make(expected[-1].shape, dtype)
            returned = flat(operation.function(*arguments.args, **arguments.kwargs, out=out))
            assert returned[-1] is out
            assert_same_bits(returned, expected)
        named = dict(operation.named(arguments))
        firsts = "logits", "pred", "probs", "x" if name == "logsumexp_backward" else "dy", "x"
        key = next(first for first in firsts if first in named)
        if name != "logsumexp":  # whose result is no array of x's shape
            named[key] = out = named[key].copy()
            assert_same_bits(operation.function(**named, out=out), expected)


@pytest.mark.parametrize(
    "name",
    ["softmax", "log_softmax_backward", "softmax_cross_entropy_with_grad[labels]",
     "cross_entropy_backward[labels]"],
)  # fmt: skip
def test_axis(name, dtype):
    operation = OPS[name]
    for n_columns in (5, 40, 7000):
        arguments = arguments_for(name, (6, n_columns), dtype)
        args = [a.T.copy() if np.ndim(a) == 2 else a for a in arguments.args]
        result = operation.function(*args, **arguments.kwargs, axis=0)
        expected = operation.call(arguments)
        back = tuple(part.T if part.ndim == 2 else part for part in flat(result))
        assert_same_bits(back, expected)


def test_shapes_of_all_kinds(dtype):
    x = arguments_for("softmax", (6, 35), dtype).args[0]
    expected = fastbp.softmax(x)
    assert_same_bits(fastbp.softmax(x.reshape(6, 5, 7), axis=(1, 2)).reshape(6, 35), expected)
    assert_same_bits(fastbp.softmax(x, axis=None), fastbp.softmax(x.reshape(-1)).reshape(6, 35))
    y = fastbp.logsumexp(x)
    assert y.dtype == dtype
    assert_same_bits(fastbp.logsumexp(x, keepdims=True), y[:, None])
    for result in (fastbp.logsumexp(x[0]), fastbp.sigmoid(x[0, 0]), fastbp.sigmoid(dtype.type(1))):
        assert isinstance(result, dtype.type)
    assert isinstance(fastbp.softmax_cross_entropy(x[0], 3), np.float32)


def test_where(dtype):
    rng = np.random.default_rng(0)
    for shape in [(40, 7), (20, 70), (40, 1000)]:
        x = arguments_for("softmax", shape, dtype).args[0]
        mask = rng.random(shape) < 0.7
        mask[3] = False
        for name in ("softmax", "log_softmax", "logsumexp"):
            function = getattr(fastbp, name)
            expected = rounded(function(x.astype(F32), where=mask), dtype)
            assert_same_bits(function(x, where=mask), expected)
            masked = np.where(mask, x, dtype.type(nan))
            assert_same_bits(function(masked, where=mask), expected)
            if name != "logsumexp":
                assert_same_bits(function(masked, where=mask, out=masked), expected)


def test_nothing(dtype):
    for shape in [(0, 3), (3, 0), (0,), (2, 0, 3)]:
        x = np.empty(shape, dtype)
        for name in ("softmax", "log_softmax", "sigmoid"):
            y = getattr(fastbp, name)(x)
            assert y.shape == shape
            assert y.dtype == dtype
        assert_array_equal(fastbp.logsumexp(x).astype(F32), np.full(shape[:-1], -inf))
    no_rows, no_labels = np.empty((0, 3), dtype), np.empty(0, int)
    assert np.isnan(fastbp.softmax_cross_entropy(no_rows, no_labels))
    assert fastbp.softmax_cross_entropy(no_rows, no_labels, reduction="sum").dtype == F32
    y = fastbp.linear(no_rows, np.ones((3, 2), dtype), np.ones(2, dtype))
    assert (y.shape, y.dtype) == ((0, 2), dtype)
