"""Numbers of 16 bits: float16, and bfloat16 of ml_dtypes, where that is installed.

They are read and written as such and computed in float32. So a result is that of float32, rounded
once, bit for bit; and losses, which are float32, have the very same bits.
"""

import dataclasses
import hashlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastbp
from fastbp import reference, testing
from fastbp.__main__ import main
from fastbp.cpu import run
from fastbp.cpu.elementwise import map_two
from fastbp.cpu.vectors import pick, put, row
from fastbp.formulas.elementwise_losses import itself
from fastbp.testing import OPS, check
from fastbp.testing.errors import finfo, flat

inf, nan = np.inf, np.nan
F32 = np.dtype(np.float32)
# Tiles of short rows, whole vectors and masked tails; the last three are for several threads.
SHAPES = [(0, 3), (1, 1), (5, 1), (37, 16), (33, 10), (5, 33), (3, 130), (40, 1000), (1, 40_000)]
# Products are the BLAS library's.
EXACT_BITS = [name for name in OPS if not name.startswith("linear")]
operations = pytest.mark.parametrize("name", OPS)
operations_of_fixed_bits = pytest.mark.parametrize("name", EXACT_BITS)


def half(name):
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


@pytest.fixture(params=["float16", "bfloat16"])
def dtype(request):
    return half(request.param)


def widened(value, dtype=F32):
    """Numbers of 16 bits in float32; other arguments as they are."""
    if isinstance(value, tuple):
        return tuple(widened(part, dtype) for part in value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.name in ("float16", "bfloat16"):
        return value.astype(dtype)
    return value


def rounded(value, dtype):
    with np.errstate(all="ignore"):
        return np.asarray(value).astype(dtype)


def bits(array):
    """Of numbers of 16 or 32 bits; every NaN counts as the same."""
    array = np.asarray(array)
    integers = np.atleast_1d(np.ascontiguousarray(array)).view(f"u{array.itemsize}")
    return np.where(np.isnan(array), 2 ** (8 * array.itemsize) - 1, integers.reshape(array.shape))


def assert_same_bits(actual, expected):
    for a, e in zip(flat(actual), flat(expected), strict=True):
        assert a.dtype == e.dtype
        assert_array_equal(bits(a), bits(e))


def arguments_for(name, shape, dtype):
    return OPS[name].inputs(np.random.default_rng(list(shape)), shape, dtype)


def in_float32(name, named, dtype):
    """What float32 gives, rounded; losses and Hessians stay float32."""
    result = OPS[name].function(**{key: widened(value) for key, value in named.items()})
    actual_dtypes = [part.dtype for part in flat(OPS[name].function(**named))]
    return tuple(
        rounded(part, kind) for part, kind in zip(flat(result), actual_dtypes, strict=True)
    )


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
    step = finfo(dtype).max * finfo(dtype).eps / 2  # from the largest number to the next, were it one
    step = step / (2 - finfo(dtype).eps) * 2
    ends = np.array([-finfo(dtype).max - step, finfo(dtype).max + step])
    finite = np.unique(np.append(finite, ends).astype(np.float64))
    ties = ((finite[:-1] + finite[1:]) / 2).astype(np.float32)
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
    even = rounded(x, dtype).astype(np.float64)
    for other in (np.nextafter(rounded(x, dtype), dtype.type(end)) for end in (-inf, inf)):
        off, off_even = np.abs(other.astype(np.float64) - x), np.abs(even - x)
        assert np.count_nonzero(off == off_even) > 10_000


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
    found = {}
    for name, process in processes.items():
        out, err = process.communicate(timeout=500)
        assert process.returncode == 0, err
        found[name] = json.loads(out)
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


@operations_of_fixed_bits
def test_float32_rounded_once(name, dtype):
    for shape in SHAPES:
        named = OPS[name].named(arguments_for(name, shape, dtype))
        assert_same_bits(OPS[name].function(**named), in_float32(name, named, dtype))


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
    exact = flat(OPS[name].exact(arguments_for(name, (33, 10), dtype)))
    for part in exact:
        finite = np.abs(part[np.isfinite(part)]) if np.ndim(part) else np.abs(part)
        assert 1e-3 < np.max(finite) < finfo(dtype).max
        assert np.size(finite) >= 0.5 * np.size(part)


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


@operations
def test_a_wrong_digit_is_found(name, dtype):
    """The largest number of a result, off by one place of 16 bits, or a loss by one part in 10⁵."""
    operation = OPS[name]
    arguments = arguments_for(name, (33, 10), dtype)
    result = operation.call(arguments)
    parts = flat(result)
    if name.startswith("linear"):
        return
    for k, part in enumerate(parts):
        wrong = [np.array(p) for p in parts]
        numbers = wrong[k].reshape(-1)
        i = np.argmax(np.where(np.isfinite(numbers), np.abs(numbers.astype(float)), 0))
        if part.dtype == F32:
            numbers[i] *= np.float32(1 + 1e-5)
            owed = operation.promise
        else:
            numbers[i] = np.nextafter(numbers[i], dtype.type(inf))
            owed = operation.promise_of(result) if len(parts) == 1 else 0.501
        wrong = tuple(wrong) if len(wrong) > 1 else wrong[0]
        low = operation.measure(arguments, wrong)
        if part.dtype != F32:
            numbers[i] = np.nextafter(np.nextafter(numbers[i], dtype.type(-inf)), dtype.type(-inf))
        assert max(low, operation.measure(arguments, wrong)) > owed


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
        for key in ("logits", "pred", "probs", "x", "dy"):
            if key in named and key not in ("x", "dy")[: "cross" in name]:
                break
        if name == "logsumexp":
            continue
        if name == "logsumexp_backward":
            key = "x"
        named[key] = out = named[key].copy()
        assert_same_bits(operation.function(**named, out=out), expected)
