"""fastbp on a GPU beside PyTorch, torch.compile, CuPy and a copy of as many bytes.

    python benchmarks/gpu.py --json gpu.json --plot gpu.png

Times are those of the GPU, between two events, the L2 cache flushed before each and the libraries
in turn; and the time that a call takes of the host, on a tiny array. `--rehearse` tries everything
on the CPU, with small arrays, and measures nothing of interest.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gpu_peers
import numpy as np
from gpu_peers import FASTBP, LIBRARIES, OPERATIONS, Problem, make_problem

COPY = "copy"
DTYPES = ("float32", "bfloat16")
# The coarse ones first: what a budget of time cuts off are the others.
COLUMNS = (8, 128, 1024, 8192, 131_072,
           16, 32, 64, 256, 512, 2048, 4096, 16_384, 32_768, 65_536, 262_144)  # fmt: skip
QUICK_COLUMNS = (32, 1000, 32_768)
N_BYTES = 256 << 20
LEAST_ROWS = 1024  # a few for each multiprocessor, or the last ones would count too much
FLUSHED = 512 << 20  # bytes written before each measurement; no L2 cache is as large
REPEATS = 30
PERCENTILE = 20  # low: whatever disturbs a call makes it slower
TINY = 8, 8
PACKAGES = ("fastbp", "torch", "triton", "cupy-cuda13x", "cupy-cuda12x", "numba", "numba-cuda",
            "cuda-core", "cuda-bindings", "numpy")  # fmt: skip


class GpuClock:
    """Time between two events on PyTorch's stream."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.room = torch.empty(FLUSHED, dtype=torch.int8, device="cuda")

    def flush(self) -> None:
        """Fill the cache; meanwhile the host prepares the next call, which then waits for none."""
        self.room.zero_()

    def timed(self, call: Callable[[], Any]) -> Callable[[], float]:
        """Call it now; its microseconds are known when the GPU is done."""
        start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        return lambda: 1e3 * float(start.elapsed_time(end))

    def wait(self) -> None:
        """Until the GPU is done."""
        self.torch.cuda.synchronize()


class HostClock:
    """The same of a CPU."""

    def flush(self) -> None:
        """Nothing."""

    def timed(self, call: Callable[[], Any]) -> Callable[[], float]:
        """Call it; its microseconds are known."""
        start = time.perf_counter()
        call()
        microseconds = 1e6 * (time.perf_counter() - start)
        return lambda: microseconds

    def wait(self) -> None:
        """Nothing."""


Clock = GpuClock | HostClock


def measure(clock: Clock, calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Microseconds of each call: a low percentile, the calls taken in turn."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 2):
        pending = {}
        for name, call in calls.items():
            clock.flush()
            pending[name] = clock.timed(call)
        clock.wait()
        if repeat >= 2:
            for name, microseconds in pending.items():
                samples[name].append(microseconds())
    return {name: float(np.percentile(s, PERCENTILE)) for name, s in samples.items()}


def copy_of(torch: Any, n_bytes: int) -> Callable[[], Any]:
    """A copy that reads and writes so many bytes together."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    source = torch.zeros(n_bytes // 2, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def calls_of(
    torch: Any, problem: Problem, names: list[str]
) -> tuple[dict[str, Callable[[], Any]], dict[str, float], dict[str, str]]:
    """The calls that work, how far off their answers are, and why others do not."""
    calls: dict[str, Callable[[], Any]] = {}
    errors, failures = {}, {}
    for name in names:
        try:
            call = LIBRARIES[name](torch, problem)
            if call is None:
                continue
            error = gpu_peers.largest_error(torch, problem, call())
        except Exception as error_:  # noqa: BLE001  (of a library; the others go on)
            failures[name] = f"{type(error_).__name__}: {error_}".splitlines()[0][:300]
            continue
        errors[name] = error
        if error <= gpu_peers.EPS_ALLOWED:
            calls[name] = call
        else:
            failures[name] = f"wrong by {error:.3g} eps"
    return calls, errors, failures


def measured_case(
    torch: Any, clock: Clock, problem: Problem, names: list[str], repeats: int = REPEATS
) -> dict[str, Any]:
    """An operation on one shape, with all libraries."""
    calls, errors, failures = calls_of(torch, problem, names)
    times = measure(clock, {COPY: copy_of(torch, problem.bytes_moved), **calls}, repeats)
    return {
        "operation": problem.operation,
        "dtype": problem.dtype,
        "shape": problem.shape,
        "bytes_moved": problem.bytes_moved,
        "microseconds": times,
        "share_of_copy": {name: times[COPY] / times[name] for name in calls},
        "error_in_eps": errors,
        "failures": failures,
    }


def overhead(torch: Any, clock: Clock, names: list[str], calls_each: int) -> dict[str, Any]:
    """Microseconds that the host spends on a call: the GPU has next to nothing to do."""
    found: dict[str, Any] = {}
    size = 4 * TINY[0] * TINY[1]
    for operation in OPERATIONS:
        problem = make_problem(torch, operation, "float32", size, TINY[1])
        calls, _, failures = calls_of(torch, problem, names)
        samples: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(5):
            for name, call in calls.items():
                clock.wait()
                start = time.perf_counter()
                for _ in range(calls_each):
                    call()
                samples[name].append(1e6 * (time.perf_counter() - start) / calls_each)
                clock.wait()
        best = {name: float(np.percentile(s, PERCENTILE)) for name, s in samples.items()}
        found[operation] = {"microseconds": best, "failures": failures}
    return found


def machine(torch: Any) -> dict[str, Any]:
    """What the times depend on."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": dict(_versions()),
    }
    if not torch.cuda.is_available():
        return {**facts, "gpu": None}
    gpu = torch.cuda.get_device_properties(0)
    facts |= {
        "gpu": gpu.name,
        "capability": f"{gpu.major}.{gpu.minor}",
        "multiprocessors": gpu.multi_processor_count,
        "memory_bytes": gpu.total_memory,
        "l2_bytes": getattr(gpu, "L2_cache_size", None),
        "cuda": torch.version.cuda,
    }
    query = "--query-gpu=driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw"
    try:
        command = ["nvidia-smi", query, "--format=csv"]
        told = subprocess.run(  # noqa: S603  (the command is the one above)
            command, capture_output=True, text=True, timeout=20, check=True
        )
        facts["nvidia_smi"] = told.stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        facts["nvidia_smi"] = str(error)
    return facts


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield package, importlib.metadata.version(package)


# what is shown ------------------------------------------------------------------------------------


def line(case: dict[str, Any]) -> str:
    """A case in one line: how far each library comes to the speed of a copy."""
    rows, columns = case["shape"]
    speed = case["bytes_moved"] / case["microseconds"][COPY] / 1e6
    shares = "  ".join(f"{name} {share:6.1%}" for name, share in case["share_of_copy"].items())
    failed = "".join(f"  {name}: {why}" for name, why in case["failures"].items())
    operation = case["operation"].partition("[")[0]
    return (
        f"{operation:32}{case['dtype']:9}{rows:>9}x{columns:<7}{speed:5.2f} TB/s  {shares}{failed}"
    )


def plot(report: dict[str, Any], path: Path) -> None:
    """The share of a copy's speed over the number of columns: a panel for each operation."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        len(OPERATIONS), len(DTYPES), figsize=(12, 3 * len(OPERATIONS)), sharex=True, squeeze=False
    )
    for panels, operation in zip(axes, OPERATIONS, strict=True):
        for panel, dtype in zip(panels, DTYPES, strict=True):
            cases = [c for c in report["cases"]
                     if c["operation"] == operation and c["dtype"] == dtype]  # fmt: skip
            cases.sort(key=lambda c: c["shape"][1])
            for name in LIBRARIES:
                points = [(c["shape"][1], c["share_of_copy"][name])
                          for c in cases if name in c["share_of_copy"]]  # fmt: skip
                if points:
                    width = 2.5 if name == FASTBP else 1.2
                    panel.plot(*zip(*points, strict=True), "o-", ms=3, lw=width, label=name)
            panel.axhline(1, color="gray", lw=0.8, ls=":")
            panel.set_title(f"{operation}, {dtype}", fontsize=9)
            panel.set_xscale("log", base=2)
            panel.set_ylim(0, 1.15)
            panel.set_ylabel("copy / time")
    axes[0, 0].legend(fontsize=8)
    for panel in axes[-1]:
        panel.set_xlabel("columns")
    figure.suptitle(f"Share of the speed of a copy: {report['machine']['gpu']}, {report['date']}")
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(path, dpi=110)
    plt.close(figure)


# the program --------------------------------------------------------------------------------------


def arguments(command: list[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to store what was measured")
    parser.add_argument("--plot", type=Path, help="where to draw it, as a PNG")
    parser.add_argument("--seconds", type=float, default=600, help="begin no case after so many")
    parser.add_argument("--operations", nargs="+", default=OPERATIONS, choices=OPERATIONS)
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES), choices=LIBRARIES)
    parser.add_argument("--columns", type=int, nargs="+", default=COLUMNS)
    parser.add_argument("--megabytes", type=int, default=N_BYTES >> 20, help="of a matrix")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, a matrix of 1 MB")
    return parser.parse_args(command)


def run(given: argparse.Namespace, say: Callable[[str], object] = print) -> dict[str, Any]:
    """Measure; what is known is stored after every case."""
    import torch

    started = time.monotonic()
    n_bytes = 1 << 20 if given.rehearse else given.megabytes << 20
    least_rows = 1 if given.rehearse else LEAST_ROWS
    clock = HostClock() if given.rehearse else GpuClock(torch)
    report: dict[str, Any] = {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "machine": machine(torch),
        "settings": {"matrix_bytes": n_bytes, "least_rows": least_rows, "flushed_bytes": FLUSHED,
                     "percentile": PERCENTILE, "repeats": given.repeats},
        "overhead": {},
        "cases": [],
        "left_out": [],
    }  # fmt: skip
    report["overhead"] = overhead(torch, clock, given.libraries, 20 if given.rehearse else 500)
    for operation, found in report["overhead"].items():
        say(
            f"{operation:44} µs a call: {_numbers(found['microseconds'])} {found['failures'] or ''}"
        )
    for columns in given.columns:
        for dtype in given.dtypes:
            for operation in given.operations:
                if time.monotonic() - started > given.seconds:
                    report["left_out"].append([operation, dtype, columns])
                    continue
                problem = make_problem(torch, operation, dtype, n_bytes, columns, least_rows)
                case = measured_case(torch, clock, problem, given.libraries, given.repeats)
                report["cases"].append(case)
                say(line(case))
                store(report, given.json)
                del problem
    report["seconds"] = time.monotonic() - started
    store(report, given.json)
    return report


def _numbers(times: dict[str, float]) -> str:
    return "  ".join(f"{name} {microseconds:.1f}" for name, microseconds in times.items())


def store(report: dict[str, Any], path: Path | None) -> None:
    """Write it at once or not at all."""
    if path is not None:
        new = path.with_suffix(".new")
        new.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        os.replace(new, path)


def main(command: list[str] | None = None) -> None:
    """Measure, print, store and draw."""
    given = arguments(command)
    report = run(given)
    if report["left_out"]:
        print(f"{len(report['left_out'])} cases left out, for want of time")
    if given.plot:
        plot(report, given.plot)


if __name__ == "__main__":
    main()
