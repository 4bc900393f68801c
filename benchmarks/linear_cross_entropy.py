"""Time and memory of linear_cross_entropy with gradients, beside PyTorch's two ways.

    python benchmarks/linear_cross_entropy.py [--shape ROWS IN CLASSES] [--json FILE]

PyTorch computes it from `linear` and `cross_entropy`, which hold all logits, or with its own
`linear_cross_entropy` in blocks of rows, for which several sizes are tried: its best counts. The
three products alone, on blocks of the same size, say how much is left to gain.

Every way runs in processes of its own, in several rounds by turns: no library's threads are still
spinning while another one is measured. The time is that of the best call. The memory is the most
that the process had in its second call beyond what it had before, less the gradients; what BLAS
libraries keep for all their products came with the first one, and is stored as "bytes_of_first".
Linux alone tells it.
"""

import argparse
import ctypes
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SHAPE = 4096, 512, 50_257
CHUNKS = 256, 512, 1024, 2048  # rows in a block of PyTorch's
ROWS_OF_PRODUCTS = 320

Call = Callable[[], Any]  # returns what a caller keeps


class Problem(NamedTuple):
    """What is given, weight as (in, out) and as (out, in)."""

    x: Any
    weight: Any
    weight_out_in: Any
    labels: Any


def make_problem(n_rows: int, n_in: int, n_classes: int) -> Problem:
    """Values as at the start of training: logits are of the size of 1."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n_rows, n_in), dtype=np.float32)
    weight = rng.standard_normal((n_in, n_classes), dtype=np.float32) * np.float32(n_in**-0.5)
    labels = rng.integers(n_classes, size=n_rows)
    return Problem(x, weight, np.ascontiguousarray(weight.T), labels)


def fastbp_call(layout: str) -> Callable[[Problem], Call]:
    """Loss and gradients, weight as it is laid out."""

    def make(p: Problem) -> Call:
        import fastbp

        weight = p.weight if layout == "in_out" else p.weight_out_in
        return lambda: fastbp.linear_cross_entropy_with_grad(
            p.x, weight, p.labels, weight_layout=layout
        )

    return make


def products(p: Problem) -> Call:
    """The three products of NumPy, a block of rows at a time, dweight not even added up."""
    n_rows = min(ROWS_OF_PRODUCTS, len(p.x))
    z = np.empty((n_rows, p.weight.shape[1]), np.float32)

    def call() -> Any:
        dx, dweight = np.empty_like(p.x), np.empty_like(p.weight)
        for i in range(0, len(p.x), n_rows):
            x = p.x[i : i + n_rows]
            np.matmul(x, p.weight, out=z[: len(x)])
            np.matmul(z[: len(x)], p.weight.T, out=dx[i : i + n_rows])
            np.matmul(x.T, z[: len(x)], out=dweight)
        return dx, dweight

    return call


def torch_call(rows: int | str | None) -> Callable[[Problem], Call]:
    """PyTorch in blocks of so many rows, or of its own choice ("auto"); None: all logits."""

    def make(p: Problem) -> Call:
        import torch
        from torch.nn import functional

        x, weight = (torch.from_numpy(a).requires_grad_() for a in (p.x, p.weight_out_in))
        labels = torch.from_numpy(p.labels)
        options = None
        if rows == "auto":
            options = torch.nn.LinearCrossEntropyOptions()
        elif rows is not None:
            options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=rows)

        def call() -> Any:
            if rows is None:
                loss = functional.cross_entropy(functional.linear(x, weight), labels)
            else:
                loss = functional.linear_cross_entropy(x, weight, labels, options=options)
            loss.backward()
            kept = loss.item(), x.grad, weight.grad
            x.grad = weight.grad = None  # so that the next call does not find them
            return kept

        return call

    return make


WAYS: dict[str, Callable[[Problem], Call]] = {
    "fastbp": fastbp_call("in_out"),
    "fastbp, out_in": fastbp_call("out_in"),
    "torch, all logits": torch_call(None),
    "torch, blocks of its choice": torch_call("auto"),
    **{f"torch, blocks of {rows}": torch_call(rows) for rows in CHUNKS},
    "products of NumPy alone": products,
}


# one way, in a process of its own -----------------------------------------------------------------


def memory(name: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most; 0 if the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def forget_peak() -> None:
    """Begin anew with the most that this process had, and give back what is free."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except (AttributeError, OSError, TypeError):  # not glibc, not Linux, Windows
        return


def peak_of(call: Call) -> int | None:
    """The most bytes that this process has during a call, beyond what it has before."""
    forget_peak()
    before = memory("VmRSS")
    kept = call()
    peak = memory("VmHWM") - before
    del kept
    return peak if before else None


def run(way: str, shape: tuple[int, int, int], seconds: float) -> dict[str, Any]:
    """Seconds of calls for about so long, and the memory of one."""
    n_rows, n_in, n_classes = shape
    small = make_problem(min(n_rows, 64), n_in, min(n_classes, 1024))
    WAYS[way](small)()  # compiles, and starts threads
    call = WAYS[way](make_problem(*shape))
    gradients = 4 * (n_rows * n_in + n_in * n_classes)
    peaks = [peak_of(call), peak_of(call)]
    first, second = (peak and peak - gradients for peak in peaks)
    times: list[float] = []
    while not times or sum(times) + times[-1] < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return {"seconds": times, "bytes": second, "bytes_of_first": first}


# all ways -----------------------------------------------------------------------------------------


def measure(shape: tuple[int, int, int], rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """By way: the seconds of all calls, and the largest memory."""
    found: dict[str, dict[str, Any]] = {}
    for i in range(rounds):
        for way in WAYS:
            print(f"\rround {i + 1} of {rounds}: {way:40}", end="", file=sys.stderr, flush=True)
            arguments = ["--way", way, "--shape", *map(str, shape), "--seconds", str(seconds)]
            process = subprocess.run(  # noqa: S603  (this file itself)
                [sys.executable, __file__, *arguments], capture_output=True, text=True, check=False
            )
            if process.returncode:
                reason = process.stderr.strip().splitlines()[-1]
                print(f"\r{way}: {reason}", file=sys.stderr)
                continue
            one = json.loads(process.stdout.splitlines()[-1])
            so_far = found.setdefault(way, {"seconds": [], "bytes": one["bytes"]})
            so_far["seconds"] += one["seconds"]
            if one["bytes"] is not None:
                so_far["bytes"] = max(so_far["bytes"], one["bytes"])
    print(file=sys.stderr)
    return found


def machine() -> dict[str, Any]:
    """What it was measured on."""
    import fastbp

    blas = {}
    try:
        from threadpoolctl import threadpool_info

        blas = {"blas": threadpool_info()[0].get("architecture")}
    except (ImportError, IndexError):
        pass
    return {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
        **blas,
        "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE"),
        "torch": version("torch"),
        "fastbp": fastbp.__version__,
    }


def report(found: dict[str, dict[str, Any]], shape: tuple[int, int, int]) -> str:
    """A table: milliseconds, beside PyTorch's best, megabytes, beside all logits."""
    logits = 4 * shape[0] * shape[2]
    best = {way: min(f["seconds"]) for way, f in found.items()}
    theirs = min((s for way, s in best.items() if way.startswith("torch")), default=float("nan"))
    n_rows, n_in, n_classes = shape
    lines = [
        f"{n_rows} rows, {n_in} features, {n_classes} classes; logits of {logits / 1e6:.0f} MB",
        f"{'':30} {'ms':>7} {'of torch':>9} {'MB':>7} {'of logits':>9}",
    ]
    for way, f in found.items():
        line = f"{way:30} {1e3 * best[way]:7.0f} {best[way] / theirs:9.2f}"
        if f["bytes"] is not None:
            line += f" {f['bytes'] / 1e6:7.0f} {f['bytes'] / logits:9.1%}"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, help="rows, features, classes")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way has its turn")
    parser.add_argument("--seconds", type=float, default=15.0, help="of calls in a turn")
    parser.add_argument("--json", type=Path, help="where to store what was measured")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    shape = tuple(given.shape)
    if given.way:
        print(json.dumps(run(given.way, shape, given.seconds)))
        return
    found = measure(shape, given.rounds, given.seconds)
    print(report(found, shape))
    if given.json:
        stored = {"machine": machine(), "shape": shape, "ways": found}
        given.json.write_text(json.dumps(stored, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
