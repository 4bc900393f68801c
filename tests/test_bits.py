"""The same input gives the same bits for any threads, batch, strides, alignment and processor.

`linear` is exempt: its products are the BLAS library's.
"""

import inspect
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np
import pytest
from both_ways import forget_doors
from options import each

import fastbp
from fastbp.testing import OPS

NAMES = [name for name in OPS if not name.startswith("linear")]
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
names = pytest.mark.parametrize("name", NAMES)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
# Numbers by row, which lose the rows that are not asked for; other arguments stay.
BY_ROW = (
    "x", "y", "dy", "logits", "probs", "targets", "margins", "labels", "sample_weight", "dloss",
)  # fmt: skip


def arguments_for(name, shape, dtype):
    return OPS[name].inputs(np.random.default_rng(list(shape)), shape, dtype)


def bits(result):
    """The bytes of a result; every NaN counts as the same."""
    return [
        np.where(np.isnan(part), np.nan, part).astype(part.dtype).tobytes()
        for part in parts_of(result)
    ]


def parts_of(result):
    return result if isinstance(result, tuple) else (result,)


# rows ---------------------------------------------------------------------------------------------


def is_of_rows(name):
    return not any(word in name for word in ("sigmoid", "squared_error", "binary"))


def per_row(name, named):
    """The arguments with a loss for each row, for a mean depends on all of them."""
    named = dict(named)
    if "reduction" in inspect.signature(OPS[name].function).parameters:
        named["reduction"] = "none"
        if "dloss" in named:
            rows = named["probs" if "probs" in named else "logits"]
            named["dloss"] = np.full(len(rows), named["dloss"])
    return named


def per_element(named):
    """The same of elements, with weights of their own."""
    named, shape = dict(named), next(v.shape for v in named.values() if np.ndim(v) == 2)
    named = {key: np.broadcast_to(v, shape) if np.ndim(v) else v for key, v in named.items()}
    if {"target", "targets"} & named.keys():
        named["reduction"] = "none"
        if "dloss" in named:
            named["dloss"] = np.full(shape, named["dloss"])
    return named


def taken(named, rows):
    def of_rows(value):
        return value[rows] if isinstance(value, np.ndarray) else value

    return {key: each(of_rows, v) if key in BY_ROW else v for key, v in named.items()}


@dtypes
@pytest.mark.parametrize("name", [name for name in NAMES if is_of_rows(name)])
def test_a_row_does_not_depend_on_its_batch(name, dtype):
    function = OPS[name].function
    widths = (1, 2, 5, 16, 17, 32, 33, 64, 65, 100, 1000, 4097)
    for n_columns in widths if OPS[name].is_plain else widths[1::4]:
        named = per_row(name, OPS[name].named(arguments_for(name, (40, n_columns), dtype)))
        whole = function(**named)
        parts = whole if isinstance(whole, tuple) else (whole,)
        orders = [[3], [39], [0, 1], [7, 3, 3], list(range(39, -1, -1))]
        if n_columns == 4097:
            orders.append([3, 7] * 10)  # large enough for several threads
        for rows in orders:
            alone = function(**taken(named, rows))
            assert bits(alone) == bits(tuple(part[rows] for part in parts)), (n_columns, rows)


@dtypes
@pytest.mark.parametrize("name", [name for name in NAMES if not is_of_rows(name)])
def test_an_element_does_not_depend_on_its_place(name, dtype):
    """Vector body, masked tail and a single number; several threads and one."""
    named = per_element(OPS[name].named(arguments_for(name, (1, 70_000), dtype)))
    options = {key: value for key, value in named.items() if not isinstance(value, np.ndarray)}
    flat = {key: np.ravel(value) for key, value in named.items() if key not in options}
    function = partial(OPS[name].function, **options)
    whole = parts_of(function(**flat))
    for start, stop in [(0, 1), (5, 6), (0, 7), (3, 20), (1, 130), (9, 1033), (69_990, 70_000)]:
        part = function(**{key: value[start:stop] for key, value in flat.items()})
        assert bits(part) == bits(tuple(w[start:stop] for w in whole))
    alone = function(**{key: value[17] for key, value in flat.items()})
    assert bits(alone) == bits(tuple(w[17] for w in whole))


@pytest.mark.parametrize("offset", [1, 2, 4, 8, 12, 16, 20, 32])
@dtypes
@names
def test_alignment_does_not_matter(name, dtype, offset):
    def moved(a):
        if not isinstance(a, np.ndarray):
            return a
        buffer = np.zeros(a.nbytes + offset, np.uint8)
        view = np.frombuffer(buffer, a.dtype, a.size, offset).reshape(a.shape)
        view[...] = a
        return view

    for shape in [(5, 7), (3, 130)]:
        arguments = arguments_for(name, shape, dtype)
        named = {key: each(moved, v) for key, v in OPS[name].named(arguments).items()}
        assert bits(OPS[name].function(**named)) == bits(OPS[name].call(arguments))


@pytest.mark.parametrize(
    "name", ["softmax_backward", "log_softmax_backward", "sigmoid_backward[y]"]
)
@pytest.mark.parametrize("offset", [0, 4, 36])
def test_large_results_are_written_past_the_cache_with_the_same_bits(name, offset):
    """A part of the rows is too small for that, and so is a result in place of an input."""
    shape = (2101, 2001)
    named = OPS[name].named(arguments_for(name, shape, DTYPES[0]))
    expected = np.concatenate(
        [
            OPS[name].function(**{key: value[i : i + 300] for key, value in named.items()})
            for i in range(0, shape[0], 300)
        ]
    )
    buffer = np.zeros(expected.nbytes + 128, np.uint8)
    start = -buffer.ctypes.data % 64 + offset
    out = buffer[start : start + expected.nbytes].view(np.float32).reshape(shape)
    assert bits(OPS[name].function(**named, out=out)) == bits(expected)
    assert not buffer[:start].any()
    assert not buffer[start + out.nbytes :].any()
    assert bits(OPS[name].function(**named, out=named["dy"])) == bits(expected)


def test_a_row_far_from_its_largest_y_is_summed_again():
    """softmax_backward of long rows, where Σ y·dy and dy at the largest y are nearly the same."""
    y = fastbp.softmax(np.where(np.arange(3000) == 7, 30.0, 0.0)).astype(np.float32)
    dy = np.full(3000, 1e6, np.float32)
    assert not fastbp.softmax_backward(dy, y).any()
    dy[9] += 1.0
    dx = fastbp.softmax_backward(dy, y)
    np.testing.assert_allclose(dx[9], y[9], rtol=1e-6)
    np.testing.assert_allclose(dx[7], -y[9] * y[7], rtol=1e-6)


# threads ------------------------------------------------------------------------------------------

PARALLEL_SHAPES = [(40, 1000), (3300, 10), (1, 40_000), (3, 20_011)]


@dtypes
@names
def test_number_of_threads_does_not_matter(name, dtype, threads, monkeypatch):
    """Serial, and in parallel with 1, 2 and (in a process of their own, see below) 3 threads."""
    from fastbp.cpu import run

    for shape in PARALLEL_SHAPES:
        arguments = arguments_for(name, shape, dtype)
        with monkeypatch.context() as patch:
            patch.setattr(run, "PARALLEL_FROM", 10**12)
            serial = bits(OPS[name].call(arguments))
        for n in (1, 2):
            threads(n)
            assert bits(OPS[name].call(arguments)) == serial


@dtypes
@names
def test_small_inputs_in_parallel(name, dtype, threads, monkeypatch):
    """Fewer rows than threads, and ranges that are empty."""
    from fastbp.cpu import run

    threads(2)
    for shape in [(1, 1), (2, 3), (3, 17), (5, 7)]:
        arguments = arguments_for(name, shape, dtype)
        serial = bits(OPS[name].call(arguments))
        with monkeypatch.context() as patch:
            patch.setattr(run, "PARALLEL_FROM", 0)
            forget_doors(patch)
            assert bits(OPS[name].call(arguments)) == serial


def test_the_parallel_path_is_what_runs(threads, monkeypatch):
    """Both paths are taken where the tests above mean them to be."""
    from fastbp.cpu import run

    threads(2)
    forget_doors(monkeypatch)
    in_parallel = []
    original = run._launch_parallel

    def spy(*arguments):
        in_parallel.append(True)
        original(*arguments)

    monkeypatch.setattr(run, "_launch_parallel", spy)
    for shape in ((5, 7), *PARALLEL_SHAPES):
        if shape[0] > 1:
            in_parallel.clear()
            fastbp.softmax(np.zeros(shape, np.float32))
            assert any(in_parallel) == (shape != (5, 7))
    for n_threads in (2, 1):
        threads(n_threads)
        in_parallel.clear()
        fastbp.sigmoid(np.zeros(40_000, np.float32))
        assert any(in_parallel) == (n_threads == 2)


def test_concurrent_calls():
    """Python threads that call at the same time, small and large inputs mixed."""
    cases = [
        (name, arguments_for(name, shape, dtype))
        for name in ("softmax", "sigmoid", "softmax_cross_entropy_with_grad[labels]")
        for shape in [(5, 7), (200, 300), (3300, 10)]
        for dtype in DTYPES
    ]
    expected = [bits(OPS[name].call(arguments)) for name, arguments in cases]
    start = threading.Barrier(4)

    def work(seed):
        start.wait()
        order = np.random.default_rng(seed).integers(len(cases), size=60)
        return [i for i in order if bits(OPS[cases[i][0]].call(cases[i][1])) != expected[i]]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[], [], [], []]


# processes ----------------------------------------------------------------------------------------


def run_python(code, *arguments, **environment):
    variables = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env={**variables, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def answer(process):
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    return out


# Prints {operation and dtype: SHA-256 of its results}.
DIGESTS = """
import hashlib, json, sys
import numpy as np
from fastbp.testing import OPS
names, shapes = json.loads(sys.argv[1])
digests = {}
for name in names:
    for dtype in ("float32", "float64"):
        digest = hashlib.sha256()
        for shape in shapes:
            rng = np.random.default_rng(shape)
            arguments = OPS[name].inputs(rng, tuple(shape), np.dtype(dtype))
            result = OPS[name].call(arguments)
            for part in result if isinstance(result, tuple) else (result,):
                part = np.where(np.isnan(part), np.nan, part).astype(part.dtype)
                digest.update(part.tobytes())
        digests[f"{name} {dtype}"] = digest.hexdigest()
print(json.dumps(digests))
"""


def digests(which, shapes, **environment):
    return run_python(DIGESTS, json.dumps([which, shapes]), **environment)


# Every formula and every way along a row once, as each processor has to compile them.
FORMULAS = [
    "softmax",
    "log_softmax_backward",
    "sigmoid_backward[x]",
    "log_sigmoid",
    "softmax_cross_entropy_with_grad[labels]",
    "softmax_cross_entropy_with_grad[probabilities,weights,softcap,temperature,z_loss]",
    "softmax_cross_entropy_with_grad[sparse]",
]
# Small, as fma is a call of the C library where there is no instruction for it.
SMALL = [[9, 7], [8, 70], [2, 4100]]
# No features given would be those of the host, whatever the name.
PROCESSORS = {
    "host": {},
    "haswell": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""},
    "skylake-avx512": {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": ""},
    "generic": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}


@cache
def flags_of_processor():
    """What this x86 can do; empty elsewhere."""
    import llvmlite.binding as llvm

    if "x86_64" not in llvm.get_process_triple():
        return frozenset()
    return frozenset(name for name, has in llvm.get_host_cpu_features().items() if has)


def compare_processors(which):
    able = {"host", "generic"}
    if {"avx2", "fma"} <= flags_of_processor():
        able.add("haswell")
    if {"avx512f", "avx512dq", "avx512vl"} <= flags_of_processor():
        able.add("skylake-avx512")
    processes = {name: digests(which, SMALL, **PROCESSORS[name]) for name in sorted(able)}
    found = {name: json.loads(answer(process)) for name, process in processes.items()}
    for name, found_there in found.items():
        assert found_there == found["host"], name
    assert len(found["host"]) == 2 * len(which)


def test_processor_does_not_matter():
    compare_processors(FORMULAS)


@pytest.mark.slow
def test_processor_does_not_matter_to_any_operation():
    compare_processors(NAMES)


def test_three_threads_give_the_bits_of_one():
    which = ["softmax", "sigmoid", *FORMULAS[-3:]]
    processes = [digests(which, PARALLEL_SHAPES, NUMBA_NUM_THREADS=str(n)) for n in (1, 3)]
    one, three = (json.loads(answer(process)) for process in processes)
    assert one == three


def test_small_inputs_start_no_threads():
    code = """
import os, numba, numpy as np, fastbp
def threads():
    folder = "/proc/self/task"
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0
x = np.ones((8, 10), np.float32)
labels = np.zeros(8, int)
before = threads()
for _ in range(3):
    fastbp.softmax(x), fastbp.sigmoid(x), fastbp.logsumexp(x)
    fastbp.softmax_cross_entropy_with_grad(x, labels)
assert threads() < before + 5, "Numba's are 6 more, and BLAS libraries may have some"
try:
    print("started", numba.threading_layer())
except ValueError:
    print("not started")
fastbp.softmax(np.ones((1000, 100), np.float32))
print("then", numba.threading_layer())
"""
    out = answer(run_python(code, NUMBA_NUM_THREADS="7"))
    assert out.startswith("not started\nthen ")


def test_settings_of_numba_are_left_alone():
    code = """
import numba, numpy as np, fastbp
numba.set_num_threads(2)
fastbp.softmax(np.ones((1000, 100), np.float32))
assert numba.get_num_threads() == 2
assert numba.config.NUMBA_NUM_THREADS == 3
print("left alone")
"""
    assert answer(run_python(code, NUMBA_NUM_THREADS="3")) == "left alone\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_computes():
    """After a parallel call of the parent, whose threads the child does not have."""
    code = """
import os, warnings
import numpy as np, fastbp
warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
x = np.random.default_rng(0).standard_normal((500, 200)).astype(np.float32)
expected = fastbp.softmax(x)
child = os.fork()
if child == 0:
    ok = np.array_equal(fastbp.softmax(x), expected)
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0 if np.array_equal(fastbp.softmax(x), expected) else 1)
    status = os.waitpid(grandchild, 0)[1]
    os._exit(0 if ok and status == 0 else 1)
status = os.waitpid(child, 0)[1]
assert status == 0, status
assert np.array_equal(fastbp.softmax(x), expected)  # the parent's threads still work
print("both")
"""
    assert answer(run_python(code, NUMBA_NUM_THREADS="2")) == "both\n"
