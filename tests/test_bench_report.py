"""``fastbp bench``: what it shows of times, and its command line."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from fastbp.__main__ import main
from fastbp.bench import cold, peers, picture, problems, tables
from fastbp.bench.libraries import Fastbp, NumPy
from fastbp.bench.measure import Settings
from fastbp.bench.problems import COPY, OPERATIONS, SHAPES, WrongAnswerError
from fastbp.bench.report import Case, ColdStart, Report


@pytest.fixture
def only_numpy(monkeypatch):
    monkeypatch.setattr(peers, "LIBRARIES", (Fastbp, NumPy))


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
        Case("softmax", "8192x1000@0", 65536000, {"copy": 1000.0, "fastbp": 1500.0,
                                                  "numpy": 12000.0, "torch": 12345.6}),
        Case("sigmoid_backward[y]", "32x10", 3840, {"copy": 1.0, "fastbp": 2.0, "torch": 1.234}),
        Case("softmax", "2000x32000", 1024000000,
             {"copy": 100.0, "fastbp": 150.0, "numpy": 300.0}, "float64"),
        Case("softmax", "65536x1000", 1048576000,
             {"copy": 100.0, "fastbp": 250.0, "numpy": 300.0}, "float64"),
    ],
    wrong=["torch in softmax 3x4 float16", "torch in sigmoid 1x2 float16"],
    cold=[ColdStart("softmax", 12.345, 0.4)],
)  # fmt: skip

MARKDOWN = """\
**softmax, float32**

| shape | copy | fastbp | numpy | torch |
|---|---:|---:|---:|---:|
| 32×10 | 0.50 | **2.00** | 8.00 | 4.00 |
| 8192×1000@0 | 1,000 | **1,500** | 12,000 | 12,346 |

**sigmoid_backward[y], float32**

| shape | copy | fastbp | torch |
|---|---:|---:|---:|
| 32×10 | 1.00 | 2.00 | **1.23** |

**softmax, float64**

| shape | copy | fastbp | numpy |
|---|---:|---:|---:|
| 2000×32000 | 100 | **150** | 300 |
| 65536×1000 | 100 | **250** | 300 |

| operation | dtype | fastest peer ÷ fastbp | worst | fastbp ÷ copy |
|---|---:|---:|---:|---:|
| softmax | float32 | 4.00 | 2.00 (32×10) | – |
| sigmoid_backward[y] | float32 | 0.62 | 0.62 (32×10) | – |
| softmax | float64 | 1.55 | 1.20 (65536×1000) | 2.50 (65536×1000) |

| import and first call | nothing compiled yet | compiled before |
|---|---:|---:|
| softmax | 12.35 s | 0.40 s |

A CPU, Linux x86_64, CPython 3.12.1; 2 of 4 cores<br>
fastbp 0.1.0, numpy 2.0.0, torch 2.5.0<br>
float32, float64; 20th percentile of 3 x 60 ms; 2026-01-02T03:04:05+00:00<br>
not installed: jax, scipy<br>
left out, as the answer was wrong: torch in softmax 3x4 float16, torch in sigmoid 1x2 float16<br>
Made by `fastbp bench --quick`.
"""


def test_markdown_shows_losing_cases_like_the_others():
    assert tables.markdown(MADE_UP) == MARKDOWN


def test_a_busy_machine_is_told():
    busy = dataclasses.replace(MADE_UP, machine={**MADE_UP.machine, "load": "2.50"})
    assert "2.5" in tables.summary(busy)[-1]
    assert "load" not in " ".join(tables.summary(MADE_UP))


def test_goals_are_of_the_fastest_peers_and_of_large_copies():
    softmax, _, wide = MADE_UP.goals()
    assert (softmax.operation, softmax.dtype) == ("softmax", "float32")
    assert softmax.lead == pytest.approx((4 / 2 * 12000 / 1500) ** 0.5)
    assert softmax.least_lead == (4 / 2, "32x10")
    assert softmax.by_copy is None, "nothing large"
    assert wide.by_copy == (250 / 100, "65536x1000")
    alone = Case("softmax", "1x1", 8, {COPY: 1.0, "fastbp": 2.0})
    (goal,) = dataclasses.replace(MADE_UP, cases=[alone]).goals()
    assert (goal.lead, goal.least_lead) == (None, None)


def test_many_shapes_take_several_tables_that_fit_a_terminal():
    rich = pytest.importorskip("rich.console")
    cases = [
        Case("softmax", problems.shape_name(shape), 8, {COPY: 123456.0, "fastbp": 123456.0})
        for shape in SHAPES
    ]
    drawn = tables.tables(dataclasses.replace(MADE_UP, cases=cases, cold=[]))
    assert [len(table.columns) - 1 for table in drawn[:-1]] == [5, 5, 1]
    console = rich.Console(width=80)
    with console.capture() as captured:
        console.print(*drawn)
    text = captured.get()
    assert "…" not in text, "something was cut"
    assert all(f" {case.shape}" in text for case in cases)
    assert text.count("123,456") == 2 * len(SHAPES)
    assert text.count("softmax") == 2, "one title, one line of goals"

    drawn = tables.tables(MADE_UP)
    titles = ["softmax, float32", "sigmoid_backward[y], float32", "softmax, float64"]
    assert [table.title.plain for table in drawn[:-2]] == titles
    console = rich.Console(width=120)
    with console.capture() as captured:
        console.print(*drawn[-2:])
    assert all(words in captured.get() for words in ("1.20 (65536×1000)", "12.35 s"))


def test_numbers_have_three_digits_or_more():
    texts = [tables.time_text(t) for t in (0.234, 9.994, 9.996, 99.94, 99.96, 12345.6)]
    assert texts == ["0.23", "9.99", "10.0", "99.9", "100", "12,346"]
    texts = [tables.ratio_text(r) for r in (0.123, 0.996, 9.94, 9.96, 1234.5)]
    assert texts == ["0.12", "1.0", "9.9", "10", "1,234"]


def test_stored_reports_come_back(tmp_path):
    file = tmp_path / "times.json"
    MADE_UP.save(file)
    assert Report.load(file) == MADE_UP
    assert json.loads(file.read_text("utf-8"))["cases"][0]["microseconds"]["torch"] == 4.0
    part = Report.load(file).part(["softmax"], ["32x10"])
    assert part.cases == MADE_UP.cases[:1]
    assert MADE_UP.part(dtypes=["float64"]).cases == MADE_UP.cases[3:]
    for text in ("", "{}", "[]", "null", '{"cases": 3}', '{"cases": [{}]}', "\x00"):
        file.write_text(text, "utf-8")
        with pytest.raises(ValueError, match="no file that fastbp bench has written"):
            Report.load(file)


def test_older_files_are_of_float32(tmp_path):
    file = tmp_path / "times.json"
    fields = dataclasses.asdict(MADE_UP)
    del fields["wrong"], fields["cold"]
    fields["cases"] = fields["cases"][:3]
    for case in fields["cases"]:
        del case["dtype"]
    file.write_text(json.dumps(fields), "utf-8")
    assert Report.load(file) == dataclasses.replace(
        MADE_UP, cases=MADE_UP.cases[:3], wrong=[], cold=[]
    )


@pytest.mark.parametrize("n_operations", [1, 2, 10, len(OPERATIONS)])
def test_the_picture_is_drawn(n_operations, tmp_path):
    pytest.importorskip("matplotlib")
    cases = [
        Case(operation, problems.shape_name(shape), 8, dict(MADE_UP.cases[0].microseconds))
        for operation in OPERATIONS[:n_operations]
        for shape in SHAPES
    ]
    cases[0].microseconds["another library"] = 3.0
    file = tmp_path / "picture.png"
    picture.plot(dataclasses.replace(MADE_UP, cases=cases), file)
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 10_000


def test_every_library_has_a_style_of_its_own():
    names = [library.name for library in peers.LIBRARIES]
    assert set(names) <= picture.STYLES.keys()
    assert len({picture.STYLES[name] for name in names}) == len(names)


# the command line ---------------------------------------------------------------------------------


def test_the_command_prints_stores_and_draws(only_numpy, tmp_path, capsys):
    for package in ("rich", "matplotlib"):
        pytest.importorskip(package)
    stored, picture = tmp_path / "times.json", tmp_path / "picture.png"
    what = ["--operations", "softmax", "sigmoid_backward", "--shapes", "3x4", "50x60@0"]
    what += ["--dtypes", "float32", "float64"]
    where = ["--json", str(stored), "--plot", str(picture)]
    assert main(["bench", "--quick", *what, *where]) == 0
    out = capsys.readouterr().out
    for words in (
        "softmax", "sigmoid_backward[y]", "3x4", "50x60@0", "fastbp", "numpy", "copy",
        "fastest peer ÷ fastbp", "softmax, float64", f"numpy {np.__version__}",
        "20th percentile of 1 x",
    ):  # fmt: skip
        assert words in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    loaded = Report.load(stored)
    assert len(loaded.cases) == 2 * (2 + 1 + 1), "no sigmoid along axis 0"
    assert loaded.command == (
        "fastbp bench --operations softmax 'sigmoid_backward[y]' 'sigmoid_backward[x]' "
        "--shapes 3x4 50x60@0 --dtypes float32 float64 --quick"
    )
    assert str(tmp_path) not in stored.read_text("utf-8"), "where files lie is nobody's business"

    assert main(["bench", "--from", str(stored), "--markdown"]) == 0
    assert capsys.readouterr().out == tables.markdown(loaded)
    assert main(["bench", "--from", str(stored), "--operations", "softmax"]) == 0
    assert "sigmoid" not in capsys.readouterr().out
    assert main(["bench", "--from", str(stored), "--dtypes", "float64"]) == 0
    assert "float32" not in capsys.readouterr().out


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
    assert main(["bench", "--large", "--dtypes", "float64", "float16", "--shapes", "3x4@0"]) == 0
    (full, options), (part, chosen), (quick, quickly), (large, widely) = called
    assert full == (OPERATIONS, SHAPES)
    assert options["threads"] is None
    assert options["dtypes"] == ["float32"]
    assert options["compiled_slowly"]
    assert large == (OPERATIONS, ((3, 4, 0), *problems.LARGE_SHAPES))
    assert widely["dtypes"] == ["float64", "float16"]
    assert widely["command"].endswith("--shapes 3x4@0 --dtypes float64 float16 --large")
    assert part == (("softmax_cross_entropy[labels]",), SHAPES)
    assert (chosen["threads"], chosen["settings"].rounds) == (1, 7)
    assert quick == (OPERATIONS, problems.QUICK_SHAPES)
    assert not quickly["compiled_slowly"]
    assert quickly["settings"].rounds == 1
    capsys.readouterr()


def test_the_cold_start_is_measured_where_asked_for(only_numpy, monkeypatch, tmp_path, capsys):
    pytest.importorskip("rich")
    asked = []

    def fake_seconds(call, variables):
        asked.append((call, variables["FASTBP_CACHE_DIR"], variables["NUMBA_NUM_THREADS"]))
        return 10.0 / len(asked)

    monkeypatch.setattr(cold, "_seconds", fake_seconds)
    file = tmp_path / "times.json"
    what = ["--quick", "--operations", "sigmoid", "--shapes", "3x4", "--threads", "1"]
    assert main(["bench", *what, "--cold", "--json", str(file)]) == 0
    assert "compiled before" in capsys.readouterr().out
    loaded = Report.load(file)
    assert loaded.cold == [ColdStart("softmax", 10.0, 10.0 / 4)]
    assert loaded.command.endswith("--quick --cold")
    assert len(set(asked)) == 1, "the same folder, empty the first time"
    asked.clear()
    assert [start.call for start in cold.measure_cold(threads=2)] == list(cold.CALLS)
    assert len({folder for _, folder, _ in asked}) == 3
    assert main(["bench", *what]) == 0
    assert "compiled before" not in capsys.readouterr().out


def test_a_new_process_says_how_long_it_took(tmp_path):
    folder = tmp_path / "cache"
    seconds = cold._seconds(cold.CALLS["softmax"], {"FASTBP_CACHE_DIR": str(folder)})
    assert 0 < seconds < 300
    assert any(folder.rglob("*")), "something was compiled into the folder"
    seconds = cold._seconds("assert np.arange(3).sum() == 3 and fastbp", {})
    assert 0 < seconds < 60


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--operations fly", ["--operations", "'fly'", "softmax"]),
        ("--operations", ["--operations"]),
        ("--shapes 3", ["--shapes", "'3'", "32x10"]),
        ("--shapes 3x4@2", ["--shapes", "'3x4@2'", "@0"]),
        ("--shapes 3x4@", ["--shapes", "'3x4@'"]),
        ("--shapes 1x4@0", ["--shapes", "'1x4@0'", "2 rows"]),
        ("--operations sigmoid --shapes 3x4@0", ["--shapes", "no axis"]),
        ("--dtypes int32", ["--dtypes", "int32", "float16"]),
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
        ("--from times.json --dtypes float16", ["--from", "times.json"]),
        ("--from times.json --cold", ["--cold", "--from"]),
        ("--from times.json --large", ["--large", "--from"]),
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
    for shape in ("1x10", "32x64", "1024x32000", "1x1000000"):
        assert f" {shape}" in out
