"""``fastbp bench``: its libraries answer right, wrong ones are found, times are times."""

import dataclasses
import gc
import sys
import time

import numpy as np
import pytest

from fastbp.bench import frameworks, peers, problems
from fastbp.bench.libraries import (
    Fastbp,
    Library,
    NumPy,
    RefusedError,
    make_call,
    method_name,
)
from fastbp.bench.measure import Settings, measure, run
from fastbp.bench.problems import (
    BY_NAME,
    IGNORED,
    OPERATIONS,
    OPTIONS,
    WrongAnswerError,
    make_problem,
    parse_shape,
    row_of,
    shape_name,
    tasks,
)
from fastbp.bench.report import Report
from fastbp.testing import OPS

FLEETING = Settings(rounds=2, stretch=1e-3, warm_up=1e-4, pause=0)
BOTH = (Fastbp, NumPy)


def one_result(operation):
    return make_problem(operation, (4, 6))


# the libraries ------------------------------------------------------------------------------------


def test_every_method_of_a_library_is_an_operation():
    known = {method_name(operation) for operation in OPERATIONS}
    for library in peers.LIBRARIES:
        own = {name for name in vars(library) if not name.startswith("_")} - vars(Library).keys()
        methods = {name for name in own if callable(getattr(library, name))}
        assert methods <= known, library.name
    assert len({library.name for library in peers.LIBRARIES}) == len(peers.LIBRARIES)


def test_every_operation_is_in_the_table_and_has_fastbp_and_numpy():
    assert {row_of(operation) for operation in OPERATIONS} <= OPS.keys()
    for operation in OPERATIONS:
        assert all(library.has(operation) for library in BOTH), operation
        n_peers = sum(library.has(operation) for library in peers.LIBRARIES) - len(BOTH)
        assert n_peers >= 2, operation
    assert not NumPy.has("linear")
    assert all(any(option in operation for operation in OPERATIONS) for option in OPTIONS)
    assert not peers.NumExpr.has("sigmoid", "float16")
    assert not peers.TorchCompile.has("softmax"), "the same as torch"


ANSWERS = [
    (operation, library)
    for library in peers.LIBRARIES
    for operation in OPERATIONS
    if library.has(operation) and not library.slow_to_compile  # the benchmarks call these
]


@pytest.mark.filterwarnings("default")  # what other libraries warn of is theirs
@pytest.mark.parametrize(
    ("operation", "library"), ANSWERS, ids=[f"{library.name}-{o}" for o, library in ANSWERS]
)
def test_installed_libraries_answer_right(operation, library):
    try:
        loaded = library(1)
    except ImportError:
        pytest.skip(f"{library.name} is not installed")
    for _, shape, _ in tasks([operation], [(1, 2), (5, 17), (17, 5, 0)], ["float32"]):
        problem = make_problem(operation, shape)
        before = [a.copy() for a in problem.args]
        call = make_call(loaded, problem)
        problem.check(loaded.answers(call()), library.name)  # a second call is right, too
        for a, b in zip(problem.args, before, strict=True):
            np.testing.assert_array_equal(a, b)
    assert loaded.version[0].isdecimal()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("library", [one for one in peers.LIBRARIES if not one.slow_to_compile])
def test_installed_libraries_answer_right_in_other_dtypes(library, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    try:
        loaded = library(1)
    except ImportError:
        pytest.skip(f"{library.name} is not installed")
    for operation, shape, _ in tasks(OPERATIONS, [(5, 17), (17, 5, 0)], [dtype]):
        if library.has(operation, dtype):
            problem = make_problem(operation, shape, dtype)
            assert {a.dtype.name for a in problem.args} <= {dtype, "int64"}
            try:
                make_call(loaded, problem)
            except RefusedError:
                assert library is peers.OnnxRuntime, "the only one that has not all it names"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("operation", "library"), [a for a in ANSWERS if any(option in a[0] for option in OPTIONS)]
)
def test_options_reach_every_library(operation, library):
    """Another value has another answer."""
    try:
        loaded = library(1)
    except ImportError:
        pytest.skip(f"{library.name} is not installed")
    problem = one_result(operation)
    ((option, value),) = problem.options.items()
    if option == "ignore_index":
        assert IGNORED in problem.args[1], "the right answer shows that it is ignored"
        return
    other = dataclasses.replace(
        problem, options={option: value / 2 if option == "label_smoothing" else value[::-1].copy()}
    )
    with pytest.raises(WrongAnswerError):
        make_call(loaded, other)


def test_fastbp_is_called_with_options_and_out(monkeypatch):
    called = []

    def function(*args, **keywords):
        called.append((args, keywords))

    for operation, shape, _ in tasks(OPERATIONS, [(4, 6), (4, 6, 0)], ["float32"]):
        problem = make_problem(operation, shape)
        row = dataclasses.replace(OPS[row_of(operation)], function=function)
        with monkeypatch.context() as patch:
            patch.setitem(OPS, row.name, row)
            Fastbp(1).call(problem)()
        args, keywords = called.pop()
        assert keywords.pop("out", None) is problem.out
        if operation in BY_NAME:
            args += (keywords.pop("x"),)
        assert args == problem.args
        assert keywords == problem.options
        assert keywords.get("axis", 1) == shape.axis


def test_a_library_may_refuse_a_dtype():
    class Refusing(Library):
        name, module = "refusing", "numpy"

        def softmax(self, x, out):
            raise RuntimeError(self.message)

    refusing = Refusing(1)
    refusing.message = "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find one"
    with pytest.raises(RefusedError):
        make_call(refusing, one_result("softmax"))
    refusing.message = "out of memory"
    with pytest.raises(RuntimeError, match="memory"):
        make_call(refusing, one_result("softmax"))


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setattr(peers, "LIBRARIES", (NumPy, peers.SciPy))
    loaded, missing = peers.load_libraries(1)
    assert list(loaded) == ["numpy"]
    assert missing == ["scipy"]
    monkeypatch.setattr(peers, "LIBRARIES", (NumPy, peers.TorchCompile))
    assert peers.load_libraries(1, compiled_slowly=False)[1] == []


def test_the_environment_is_left_as_it_was(monkeypatch):
    monkeypatch.setenv("FASTBP_TEST_SET", "by the user")
    monkeypatch.delenv("FASTBP_TEST_UNSET", raising=False)
    with frameworks._environment(FASTBP_TEST_SET="1", FASTBP_TEST_UNSET="2"):
        assert frameworks.os.environ["FASTBP_TEST_SET"] == "by the user"
        assert frameworks.os.environ["FASTBP_TEST_UNSET"] == "2"
    assert "FASTBP_TEST_UNSET" not in frameworks.os.environ
    assert frameworks.os.environ["FASTBP_TEST_SET"] == "by the user"


def test_copies_copy_all_of_it(monkeypatch):
    arrays = []

    def empty_like(a):
        arrays.append(np.full(a.shape, 7, a.dtype))
        return arrays[-1]

    monkeypatch.setattr(peers.np, "zeros_like", empty_like)
    for threads, names in ((1, ["copy by numpy"]), (3, ["copy by numpy", "copy by threads"])):
        calls = peers.copies(1000, threads, [])
        assert list(calls) == names
        for call in calls.values():
            arrays[-1].fill(7)
            call()
            assert np.all(arrays[-1] == 1)
        assert 2 * arrays[-1].nbytes == 1000


# wrong answers ------------------------------------------------------------------------------------


class Planted(NumPy):
    """NumPy with a mistake in its answers."""

    name = "planted"

    def __init__(self, mistake):
        super().__init__(1)
        self.mistake = mistake

    def answers(self, result):
        *others, last = super().answers(result)
        return (*others, self.mistake(last.copy()))


def off_in_one_place(a):
    a.flat[np.argmax(np.abs(a))] *= 1.01
    return a


def one_nan(a):
    a[(0,) * a.ndim] = np.nan
    return a


def zeros(a):
    return np.zeros_like(a)


def negated(a):
    return -a


def with_one_more_axis(a):
    return a[..., None]


MISTAKES = (off_in_one_place, one_nan, zeros, negated, with_one_more_axis)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_wrong_answer_is_found(operation, mistake):
    problem = one_result(operation)
    make_call(NumPy(1), problem)
    with pytest.raises(WrongAnswerError, match="planted is wrong in") as found:
        make_call(Planted(mistake), problem)
    assert f"{operation} of 4x6" in str(found.value)


def test_a_library_that_writes_nothing_is_found():
    class Idle(Library):
        name, module = "idle", "numpy"

        def softmax(self, x, out):
            return lambda: out

    problem = one_result("softmax")
    make_call(Fastbp(1), problem)  # leaves the right answer in the shared `out`
    with pytest.raises(WrongAnswerError, match="idle"):
        make_call(Idle(1), problem)


def test_a_wrong_loss_is_found_beside_a_right_gradient():
    problem = one_result("softmax_cross_entropy_with_grad[labels]")
    loss, dlogits = problem.expected
    problem.check((loss, dlogits), "right")
    for wrong in (loss * 2, np.float32(np.nan), loss[None]):
        with pytest.raises(WrongAnswerError):
            problem.check((wrong, dlogits), "wrong")
    with pytest.raises(WrongAnswerError):
        problem.check((loss, dlogits * len(dlogits)), "not divided by the number of rows")
    problem = one_result("sigmoid_cross_entropy_with_grad[hard]")
    loss, dlogits = problem.expected
    for wrong in (loss * 6, dlogits), (loss, dlogits * 6):
        with pytest.raises(WrongAnswerError):
            problem.check(wrong, "divided by the number of rows")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_answer_is_the_references(operation, monkeypatch):
    """Although it is computed some rows at a time, and that of a loss from the rows' losses."""
    monkeypatch.setattr(problems, "BLOCK", 20)
    for _, shape, dtype in tasks([operation], [(11, 6), (6, 11, 0)], ["float32", "float64"]):
        problem = make_problem(operation, shape, dtype)
        args, named = problems.by_keyword(operation, problem.args)
        result = OPS[row_of(operation)].reference(*args, **named, **problem.options)
        results = result if isinstance(result, tuple) else (result,)
        rtol = {"float32": 1e-6, "float64": 1e-12}[dtype]
        for expected, exact in zip(problem.expected, results, strict=True):
            assert expected.dtype == dtype
            np.testing.assert_allclose(expected, exact, rtol=rtol, strict=False)
            assert expected.shape == np.shape(exact)


def test_inputs_are_of_the_stated_kind():
    (x,) = make_problem("softmax", (1000, 100)).args
    assert x.dtype == np.float32
    assert abs(x.mean()) < 0.1
    assert abs(x.std() - 3) < 0.1
    _, y = make_problem("softmax_backward", (10, 7)).args
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
    _, labels = make_problem("softmax_cross_entropy[labels]", (100, 7)).args
    assert set(labels) == set(range(7))
    _, targets = make_problem("softmax_cross_entropy_with_grad[probabilities]", (10, 7)).args
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    _, targets = make_problem("sigmoid_cross_entropy_with_grad[hard]", (10, 7)).args
    assert targets.dtype == np.float32
    assert set(targets.flat) == {0, 1}
    y = make_problem("log_softmax_backward", (10, 7)).args[1]
    np.testing.assert_allclose(np.exp(y).sum(axis=1), 1, rtol=1e-6)
    _, labels = make_problem("softmax_cross_entropy_with_grad[labels,ignore_index]", (40, 7)).args
    assert np.sum(labels == IGNORED) == 4
    assert make_problem("softmax", (10, 7)).bytes_moved == 2 * 4 * 70
    assert make_problem("softmax", (10, 7), "float64").bytes_moved == 2 * 8 * 70
    assert make_problem("logsumexp", (7, 10, 0)).bytes_moved == 4 * (70 + 10)
    (turned,) = make_problem("softmax", (7, 10, 0)).args
    np.testing.assert_array_equal(turned, make_problem("softmax", (10, 7)).args[0].T)
    assert turned.flags.c_contiguous
    assert make_problem("softmax", (10, 7)).args[0][0, 0] == x[0, 0], "the seed is always the same"


def test_shapes_have_names():
    for name, shape in (("32x10", (32, 10, 1)), ("1000x8192@0", (1000, 8192, 0))):
        assert parse_shape(name) == shape
        assert shape_name(shape) == name
    assert shape_name((32, 10)) == "32x10"
    assert parse_shape("3x4@1") == (3, 4, 1)
    assert parse_shape("2x1@0") == (2, 1, 0)


def test_only_operations_with_an_axis_are_measured_along_axis_0():
    found = tasks(OPERATIONS, [(3, 4), (3, 4, 0)], ["float32", "float64"])
    assert {t.operation for t in found if t.shape.axis == 1} == set(OPERATIONS)
    along = {t.operation for t in found if t.shape.axis == 0}
    assert set(OPERATIONS) - along == {o for o in OPERATIONS if o.startswith(("sig", "log_sig"))}
    assert [t.dtype for t in found] == sorted(t.dtype for t in found), "one dtype after the other"


# the measurement ----------------------------------------------------------------------------------


def test_times_are_those_of_single_calls():
    times = measure({"1 ms": lambda: time.sleep(1e-3), "nothing": lambda: None}, FLEETING)
    assert 1000 <= times["1 ms"] < 20_000
    assert 0 < times["nothing"] < 10
    assert gc.isenabled()


def test_libraries_take_turns_and_slow_ones_are_timed_often_enough():
    called = []
    calls = {"a": lambda: (called.append("a"), time.sleep(2e-3)), "b": lambda: called.append("b")}
    measure(calls, FLEETING)
    turns = [name for i, name in enumerate(called) if i == 0 or called[i - 1] != name]
    assert turns == ["a", "b", "a", "b"]
    # Once to warm up, and five times in each stretch, although one call is longer than it.
    assert called.count("a") == 2 * (1 + FLEETING.least_samples)


def test_a_few_disturbed_calls_do_not_count():
    n = 0

    def sometimes_slow():
        nonlocal n
        n += 1
        time.sleep(5e-3 if n % 2 else 1e-3)

    times = measure({"sometimes slow": sometimes_slow}, FLEETING)
    assert times["sometimes slow"] < 4000


def test_an_error_in_a_call_leaves_the_garbage_collector_on():
    with pytest.raises(ZeroDivisionError):
        measure({"broken": lambda: 1 / 0}, FLEETING)
    assert gc.isenabled()


@pytest.fixture
def only_numpy(monkeypatch):
    monkeypatch.setattr(peers, "LIBRARIES", BOTH)


def test_run_measures_everything_and_says_on_what(only_numpy, tmp_path):
    seen = []
    measured = run(
        ["softmax", "sigmoid"],
        [(3, 4), (5, 6)],
        threads=1,
        settings=FLEETING,
        command="fastbp bench --something",
        progress=lambda *arguments: seen.append(arguments),
    )
    assert [(case.operation, case.shape) for case in measured.cases] == [
        ("softmax", "3x4"), ("softmax", "5x6"), ("sigmoid", "3x4"), ("sigmoid", "5x6"),
    ]  # fmt: skip
    assert [s[0] for s in seen] == [f"{c.operation} {c.shape} float32" for c in measured.cases]
    assert {case.dtype for case in measured.cases} == {"float32"}
    assert [s[1:] for s in seen] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    for case in measured.cases:
        assert list(case.microseconds) == ["copy", "fastbp", "numpy"]
        assert all(0 < t < 1e6 for t in case.microseconds.values())
    assert measured.cases[0].bytes_moved == 2 * 4 * 12
    assert measured.versions["numpy"] == np.__version__
    assert measured.threads == 1
    assert measured.settings["rounds"] == 2
    assert set(measured.machine) == {"cpu", "cores", "system", "python", "load"}
    measured.save(tmp_path / "times.json")
    assert Report.load(tmp_path / "times.json") == measured


def test_a_wrong_library_ends_the_run(monkeypatch):
    monkeypatch.setattr(
        peers, "load_libraries", lambda *_, **__: ({"planted": Planted(negated)}, [])
    )
    monkeypatch.setattr("fastbp.bench.measure.load_libraries", peers.load_libraries)
    with pytest.raises(WrongAnswerError, match="planted"):
        run(["softmax"], [(3, 4)], threads=1, settings=FLEETING)


def test_a_library_that_is_wrong_in_16_bits_is_left_out(monkeypatch):
    libraries = {"fastbp": Fastbp(1), "planted": Planted(negated)}
    monkeypatch.setattr("fastbp.bench.measure.load_libraries", lambda *_, **__: (libraries, []))
    measured = run(["softmax"], [(3, 4)], dtypes=["float16"], threads=1, settings=FLEETING)
    (case,) = measured.cases
    assert list(case.microseconds) == ["copy", "fastbp"]
    assert case.dtype == "float16"
    assert measured.wrong == ["planted in softmax 3x4 float16"]
    libraries["fastbp"] = libraries.pop("planted")
    with pytest.raises(WrongAnswerError, match="planted"):
        run(["softmax"], [(3, 4)], dtypes=["float16"], threads=1, settings=FLEETING)


def test_a_library_that_refuses_is_left_out(monkeypatch):
    class Refusing(NumPy):
        name = "refusing"

        def softmax(self, x, out, *, axis=1):
            raise NotImplementedError("not implemented for 'Double'")

    libraries = {"fastbp": Fastbp(1), "refusing": Refusing(1)}
    monkeypatch.setattr("fastbp.bench.measure.load_libraries", lambda *_, **__: (libraries, []))
    measured = run(["softmax"], [(3, 4)], dtypes=["float64"], threads=1, settings=FLEETING)
    assert list(measured.cases[0].microseconds) == ["copy", "fastbp"]
    assert measured.wrong == []
