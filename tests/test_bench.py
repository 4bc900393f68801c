"""``fastbp bench``: its libraries answer right, wrong ones are found, times are times."""

import dataclasses
import gc
import json
import sys
import time

import numpy as np
import pytest

from fastbp.__main__ import main
from fastbp.bench import peers, problems, report
from fastbp.bench.libraries import Fastbp, Library, NumPy, make_call, method_name
from fastbp.bench.measure import Settings, measure, run
from fastbp.bench.problems import COPY, OPERATIONS, SHAPES, WrongAnswerError, make_problem
from fastbp.bench.report import Case, Report
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
    assert set(OPERATIONS) <= OPS.keys()
    for operation in OPERATIONS:
        assert all(library.has(operation) for library in BOTH), operation
        n_peers = sum(library.has(operation) for library in peers.LIBRARIES) - len(BOTH)
        assert n_peers >= 2, operation
    assert not NumPy.has("linear")


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
    for shape in ((1, 2), (5, 17)):
        problem = make_problem(operation, shape)
        before = [a.copy() for a in problem.args]
        call = make_call(loaded, problem)
        problem.check(loaded.answers(call()), library.name)  # a second call is right, too
        for a, b in zip(problem.args, before, strict=True):
            np.testing.assert_array_equal(a, b)
    assert loaded.version[0].isdecimal()


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
    with peers._environment(FASTBP_TEST_SET="1", FASTBP_TEST_UNSET="2"):
        assert peers.os.environ["FASTBP_TEST_SET"] == "by the user"
        assert peers.os.environ["FASTBP_TEST_UNSET"] == "2"
    assert "FASTBP_TEST_UNSET" not in peers.os.environ
    assert peers.os.environ["FASTBP_TEST_SET"] == "by the user"


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


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_answer_is_the_references(operation, monkeypatch):
    """Although it is computed some rows at a time, and that of a loss from the rows' losses."""
    monkeypatch.setattr(problems, "BLOCK", 20)
    problem = make_problem(operation, (11, 6))
    result = OPS[operation].reference(*problem.args)
    results = result if isinstance(result, tuple) else (result,)
    for expected, exact in zip(problem.expected, results, strict=True):
        assert expected.dtype == np.float32
        np.testing.assert_allclose(expected, exact, rtol=1e-6, strict=False)
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
    _, targets = make_problem(OPERATIONS[-1], (10, 7)).args
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    assert make_problem("softmax", (10, 7)).bytes_moved == 2 * 4 * 70
    assert make_problem("softmax", (10, 7)).args[0][0, 0] == x[0, 0], "the seed is always the same"


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
    assert [s[0] for s in seen] == [f"{c.operation} {c.shape}" for c in measured.cases]
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


# the report ---------------------------------------------------------------------------------------

MADE_UP = Report(
    date="2026-01-02T03:04:05+00:00",
    command="fastbp bench --quick",
    machine={
        "cpu": "A CPU", "cores": "4", "system": "Linux x86_64", "python": "CPython 3.12.1",
        "load": "0.00",
    },
    threads=2,
    settings=dataclasses.asdict(Settings()),
    versions={"fastbp": "0.1.0", "numpy": "2.0.0", "torch": "2.5.0"},
    not_installed=["jax", "scipy"],
    cases=[
        Case("softmax", "32x10", 2560, {"copy": 0.5, "fastbp": 2.0, "numpy": 8.0, "torch": 4.0}),
        Case("softmax", "8192x1000", 65536000, {"copy": 1000.0, "fastbp": 1500.0, "numpy": 12000.0,
                                                "torch": 12345.6}),
        Case("sigmoid_backward[y]", "32x10", 3840, {"copy": 1.0, "fastbp": 2.0, "torch": 1.234}),
    ],
)  # fmt: skip

MARKDOWN = """\
**softmax**

| shape | copy | fastbp | numpy | torch |
|---|---:|---:|---:|---:|
| 32×10 | 0.50 | **2.00** | 8.00 | 4.00 |
| 8192×1000 | 1,000 | **1,500** | 12,000 | 12,346 |

time of the fastest other library by that of fastbp: 4.00 (geometric mean)

**sigmoid_backward[y]**

| shape | copy | fastbp | torch |
|---|---:|---:|---:|
| 32×10 | 1.00 | 2.00 | **1.23** |

time of the fastest other library by that of fastbp: 0.62 (geometric mean)

A CPU, Linux x86_64, CPython 3.12.1; 2 of 4 cores<br>
fastbp 0.1.0, numpy 2.0.0, torch 2.5.0<br>
float32; 20th percentile of 3 x 60 ms; 2026-01-02T03:04:05+00:00<br>
not installed: jax, scipy<br>
Made by `fastbp bench --quick`.
"""


def test_markdown_shows_losing_cases_like_the_others():
    assert report.markdown(MADE_UP) == MARKDOWN


def test_a_busy_machine_is_told():
    busy = dataclasses.replace(MADE_UP, machine={**MADE_UP.machine, "load": "2.50"})
    assert "2.5" in report.summary(busy)[-1]
    assert "load" not in " ".join(report.summary(MADE_UP))


def test_lead_is_the_geometric_mean_over_the_fastest_peers():
    assert MADE_UP.lead("softmax") == pytest.approx((4 / 2 * 12000 / 1500) ** 0.5)
    alone = Case("softmax", "1x1", 8, {COPY: 1.0, "fastbp": 2.0})
    assert dataclasses.replace(MADE_UP, cases=[alone]).lead("softmax") is None


def test_numbers_have_three_digits_or_more():
    texts = [report.time_text(t) for t in (0.234, 9.994, 9.996, 99.94, 99.96, 12345.6)]
    assert texts == ["0.23", "9.99", "10.0", "99.9", "100", "12,346"]
    texts = [report.ratio_text(r) for r in (0.123, 0.996, 9.94, 9.96, 1234.5)]
    assert texts == ["0.12", "1.0", "9.9", "10", "1,234"]


def test_stored_reports_come_back(tmp_path):
    file = tmp_path / "times.json"
    MADE_UP.save(file)
    assert Report.load(file) == MADE_UP
    assert json.loads(file.read_text("utf-8"))["cases"][0]["microseconds"]["torch"] == 4.0
    part = Report.load(file).part(["softmax"], ["32x10"])
    assert part.cases == MADE_UP.cases[:1]
    for text in ("", "{}", "[]", "null", '{"cases": 3}', '{"cases": [{}]}', "\x00"):
        file.write_text(text, "utf-8")
        with pytest.raises(ValueError, match="no file that fastbp bench has written"):
            Report.load(file)


@pytest.mark.parametrize("n_operations", [1, 2, 10])
def test_the_picture_is_drawn(n_operations, tmp_path):
    pytest.importorskip("matplotlib")
    cases = [
        Case(operation, problems.shape_name(shape), 8, dict(MADE_UP.cases[0].microseconds))
        for operation in OPERATIONS[:n_operations]
        for shape in SHAPES
    ]
    cases[0].microseconds["another library"] = 3.0
    file = tmp_path / "picture.png"
    report.plot(dataclasses.replace(MADE_UP, cases=cases), file)
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 10_000


def test_every_library_has_a_style_of_its_own():
    names = [library.name for library in peers.LIBRARIES]
    assert set(names) <= report.STYLES.keys()
    assert len({report.STYLES[name] for name in names}) == len(names)


# the command line ---------------------------------------------------------------------------------


def test_the_command_prints_stores_and_draws(only_numpy, tmp_path, capsys):
    for package in ("rich", "matplotlib"):
        pytest.importorskip(package)
    stored, picture = tmp_path / "times.json", tmp_path / "picture.png"
    what = ["--operations", "softmax", "sigmoid_backward", "--shapes", "3x4", "50x60"]
    where = ["--json", str(stored), "--plot", str(picture)]
    assert main(["bench", "--quick", *what, *where]) == 0
    out = capsys.readouterr().out
    for words in (
        "softmax", "sigmoid_backward[y]", "3x4", "50x60", "fastbp", "numpy", "copy",
        "time of the fastest other library", f"numpy {np.__version__}", "20th percentile of 1 x",
    ):  # fmt: skip
        assert words in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    loaded = Report.load(stored)
    assert len(loaded.cases) == 4
    assert loaded.command == (
        "fastbp bench --operations softmax 'sigmoid_backward[y]' --shapes 3x4 50x60 --quick"
    )
    assert str(tmp_path) not in stored.read_text("utf-8"), "where files lie is nobody's business"

    assert main(["bench", "--from", str(stored), "--markdown"]) == 0
    assert capsys.readouterr().out == report.markdown(loaded)
    assert main(["bench", "--from", str(stored), "--operations", "softmax"]) == 0
    assert "sigmoid" not in capsys.readouterr().out


def test_options_reach_the_measurement(monkeypatch, capsys):
    pytest.importorskip("rich")
    called = []

    def fake_run(*arguments, **options):
        called.append((arguments, options))
        return MADE_UP

    monkeypatch.setattr("fastbp.bench.measure.run", fake_run)
    assert main(["bench"]) == 0
    what = ["--operations", "softmax_cross_entropy"]
    assert main(["bench", "--threads", "1", "--rounds", "7", *what]) == 0
    assert main(["bench", "--quick"]) == 0
    (full, options), (part, chosen), (quick, quickly) = called
    assert full == (OPERATIONS, SHAPES)
    assert options["threads"] is None
    assert options["compiled_slowly"]
    assert part == (("softmax_cross_entropy[labels]",), SHAPES)
    assert (chosen["threads"], chosen["settings"].rounds) == (1, 7)
    assert quick == (OPERATIONS, problems.QUICK_SHAPES)
    assert not quickly["compiled_slowly"]
    assert quickly["settings"].rounds == 1
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--operations fly", ["--operations", "'fly'", "softmax"]),
        ("--operations", ["--operations"]),
        ("--shapes 3", ["--shapes", "'3'", "32x10"]),
        ("--shapes 3x", ["--shapes", "'3x'"]),
        ("--shapes 0x3", ["--shapes", "'0x3'"]),
        ("--shapes 3x4x5", ["--shapes", "'3x4x5'"]),
        ("--shapes 3x1", ["--shapes", "'3x1'", "2 columns"]),
        ("--shapes -3x4", ["--shapes"]),
        ("--shapes 1000000x1000000", ["--shapes", "1000000x1000000", "numbers"]),
        ("--threads 0", ["--threads", "0 is not from 1 to"]),
        ("--threads 100000", ["--threads"]),
        ("--rounds 0", ["--rounds"]),
        ("--rounds many", ["--rounds", "'many'"]),
        ("--json nowhere/a.json", ["--json", "cannot write", "nowhere"]),
        ("--plot nowhere/a.png", ["--plot", "cannot write", "nowhere"]),
        ("--plot picture.xyz", ["--plot", "picture.xyz"]),
        ("--from nowhere.json", ["--from", "cannot read", "nowhere.json"]),
        ("--from .", ["--from", "cannot read"]),
        ("--from broken.json", ["--from", "broken.json", "no file that fastbp bench"]),
        ("--from times.json --shapes 7x7", ["--from", "times.json"]),
        ("--from times.json --quick", ["--quick", "--from"]),
        ("--from times.json --threads 1", ["--threads", "--from"]),
        ("--from times.json --json a.json", ["--json", "--from"]),
    ],
)
def test_misuse_is_one_line_and_status_2(
    arguments, words, only_numpy, tmp_path, monkeypatch, capsys
):
    for package in ("rich", "matplotlib"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{", "utf-8")
    MADE_UP.save(tmp_path / "times.json")
    assert main(["bench", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("fastbp bench: error: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err
    assert {p.name for p in tmp_path.iterdir()} == {"broken.json", "times.json"}


def test_a_wrong_library_is_one_line_and_status_1(monkeypatch, capsys):
    pytest.importorskip("rich")

    def wrong(*_, **__):
        raise WrongAnswerError("torch is wrong in softmax of 3x4: its result is off")

    monkeypatch.setattr("fastbp.bench.measure.run", wrong)
    assert main(["bench"]) == 1
    captured = capsys.readouterr()
    assert (
        captured.err.strip() == "fastbp bench: torch is wrong in softmax of 3x4: its result is off"
    )
    assert captured.out == ""


@pytest.mark.parametrize(
    ("package", "arguments"),
    [("rich.progress", []), ("matplotlib.figure", ["--plot", "picture.png"])],
)
def test_a_missing_extra_is_one_line(package, arguments, only_numpy, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["bench", "--quick", "--shapes", "3x4", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "pip install" in captured.err


def test_too_little_memory_is_one_line(monkeypatch, capsys):
    pytest.importorskip("rich")

    def too_much(*_, **__):
        raise MemoryError

    monkeypatch.setattr("fastbp.bench.measure.run", too_much)
    assert main(["bench"]) == 2
    error = capsys.readouterr().err
    assert error == "fastbp bench: error: not enough memory; choose smaller --shapes\n"


def test_help_names_operations_and_shapes(capsys):
    assert main(["bench", "--help"]) == 0
    out = capsys.readouterr().out
    assert "softmax_cross_entropy_with_grad" in out
    assert "1024x32000" in out
