"""benchmarks/gpu.py, with --cuda on the GPU: a few shapes of every operation; else on the CPU.

On the CPU nothing is measured: it shows that the program works, and that the answers are right.
"""

import json

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

import gpu
from gpu_peers import FASTBP, OPERATIONS

DTYPES = pytest.mark.parametrize("dtype", gpu.DTYPES)
operations = pytest.mark.parametrize("operation", OPERATIONS)


@pytest.fixture
def said(capsys):
    """Show a line of the program's, whatever pytest captures."""

    def say(line):
        with capsys.disabled():
            print(f"\n{line}", end="")

    return say


@DTYPES
@operations
def test_all_libraries_are_measured_and_right(request, tmp_path, said, operation, dtype):
    """fastbp has to be; the others' failures are shown."""
    on_gpu = request.config.getoption("cuda")
    if dtype == "bfloat16" and not on_gpu:
        pytest.importorskip("ml_dtypes")
    columns = gpu.QUICK_COLUMNS if on_gpu else (8,)
    command = ["--operations", operation, "--dtypes", dtype, "--columns", *map(str, columns)]
    if not on_gpu:
        command += ["--rehearse", "--repeats", "2", "--libraries", "fastbp", "torch"]
    stored = tmp_path / "gpu.json"
    report = gpu.run(gpu.arguments([*command, "--json", str(stored)]), said)

    assert json.loads(stored.read_text("utf-8"))["cases"] == json.loads(json.dumps(report["cases"]))
    assert len(report["cases"]) == len(columns)
    for case in report["cases"]:
        assert FASTBP not in case["failures"]
        assert case["microseconds"][FASTBP] > 0


def test_the_picture_is_drawn(tmp_path):
    """As a PNG."""
    case = {
        "operation": OPERATIONS[0], "dtype": "float32", "shape": (4, 8), "bytes_moved": 256,
        "microseconds": {"copy": 1.0, FASTBP: 2.0}, "share_of_copy": {FASTBP: 0.5}, "failures": {},
    }  # fmt: skip
    report = {"cases": [case], "machine": {"gpu": "none"}, "date": "today"}
    gpu.plot(report, tmp_path / "gpu.png")
    assert (tmp_path / "gpu.png").read_bytes().startswith(b"\x89PNG")


def test_what_there_is_no_time_for_is_told(tmp_path):
    """Case by case."""
    command = ["--rehearse", "--seconds", "-1", "--columns", "8", "--libraries", "fastbp"]
    report = gpu.run(gpu.arguments(command), lambda _line: None)
    assert report["cases"] == []
    assert len(report["left_out"]) == len(OPERATIONS) * len(gpu.DTYPES)


def test_a_wrong_answer_is_not_measured(monkeypatch):
    """It is told how wrong it is."""
    import torch

    problem = gpu.make_problem(torch, "softmax", "float32", 4096, 8)
    monkeypatch.setitem(gpu.LIBRARIES, "wrong", lambda torch_, p: lambda: p.arrays[0] * 0)
    case = gpu.measured_case(torch, gpu.HostClock(), problem, ["fastbp", "wrong"], 2)
    assert set(case["share_of_copy"]) == {"fastbp"}
    assert case["failures"]["wrong"].startswith("wrong by")
