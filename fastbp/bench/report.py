"""What was measured: stored as JSON, and shown as tables and as a picture."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .problems import COPY, FASTBP

# Programs that run beside the benchmark, from which on one of them has to wait for a core.
QUIET_LOAD = 0.5

# More columns than that are cut in a terminal of the usual 80 characters.
SHAPES_IN_A_TABLE = 5


@dataclass(frozen=True)
class Case:
    """Times of an operation on one shape: that of a copy, of fastbp and of the other libraries."""

    operation: str
    shape: str
    bytes_moved: int
    microseconds: dict[str, float]

    @property
    def fastest_peer(self) -> float | None:
        """The least time of all but the copy and fastbp; None if there is nobody else."""
        peers = [t for n, t in self.microseconds.items() if n not in (COPY, FASTBP)]
        return min(peers, default=None)


@dataclass(frozen=True)
class Report:
    """What was measured, on what, and when."""

    date: str
    command: str
    machine: dict[str, str]
    threads: int
    settings: dict[str, float]
    versions: dict[str, str]
    not_installed: list[str]
    cases: list[Case]

    @property
    def operations(self) -> list[str]:
        """Names of the operations, in their order."""
        return list(dict.fromkeys(case.operation for case in self.cases))

    def save(self, file: str | Path) -> None:
        """Write everything into a JSON file."""
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)
        Path(file).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: str | Path) -> Report:
        """Read what `save` has written.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it holds something else.
        """
        try:
            fields = json.loads(Path(file).read_text(encoding="utf-8"))
            return cls(**{**fields, "cases": [Case(**case) for case in fields["cases"]]})
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{str(file)!r} is no file that fastbp bench has written") from None

    def part(self, operations: Sequence[str] | None, shapes: Sequence[str] | None) -> Report:
        """The report on some operations and shapes; None stands for all."""
        cases = [
            case
            for case in self.cases
            if (operations is None or case.operation in operations)
            and (shapes is None or case.shape in shapes)
        ]
        return dataclasses.replace(self, cases=cases)

    def of(self, operation: str) -> list[Case]:
        """The cases of one operation."""
        return [case for case in self.cases if case.operation == operation]

    def names(self, operation: str) -> list[str]:
        """The copy, fastbp and the libraries that have the operation, in their order."""
        return list(dict.fromkeys(n for case in self.of(operation) for n in case.microseconds))

    def lead(self, operation: str) -> float | None:
        """Geometric mean, over shapes, of the fastest peer's time by fastbp's; None without one."""
        ratios = [
            case.fastest_peer / case.microseconds[FASTBP]
            for case in self.of(operation)
            if case.fastest_peer
        ]
        return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def summary(report: Report) -> list[str]:
    """Lines that say what was measured on what."""
    on, how = report.machine, report.settings
    rounds = f"{how['rounds']:g} x {1e3 * how['stretch']:g} ms"
    lines = [
        f"{on['cpu']}, {on['system']}, {on['python']}; {report.threads} of {on['cores']} cores",
        ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        f"float32; {how['percentile']:g}th percentile of {rounds}; {report.date}",
    ]
    if report.not_installed:
        lines.append(f"not installed: {', '.join(report.not_installed)}")
    load = float(on["load"])
    if load > QUIET_LOAD:
        lines.append(f"other programs were running (load {load:g}): the times say little")
    return lines


def time_text(microseconds: float) -> str:
    """Three digits or more: 1.23, 12.3, 123, 12,345."""
    digits = 2 if microseconds < 9.995 else 1 if microseconds < 99.95 else 0
    return f"{microseconds:,.{digits}f}"


def ratio_text(ratio: float) -> str:
    """Two digits or more: 0.12, 1.2, 12, 123."""
    digits = 2 if ratio < 0.995 else 1 if ratio < 9.95 else 0
    return f"{ratio:,.{digits}f}"


def tables(report: Report) -> list[Any]:
    """Tables (of rich) for each operation: a row for each library, a column for each shape.

    Many shapes take several tables: the first has the title, the last the summary. A cell holds
    the time in µs, and below it the time by that of fastbp and by that of a copy.

    Raises
    ------
    ImportError
        If rich is not installed.
    """
    try:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        raise ImportError('the tables need rich: pip install "fastbp[bench]"') from None
    drawn = []
    for operation in report.operations:
        all_cases = report.of(operation)
        for first in range(0, len(all_cases), SHAPES_IN_A_TABLE):
            cases = all_cases[first : first + SHAPES_IN_A_TABLE]
            is_last = cases[-1] is all_cases[-1]
            table = Table(
                title=None if first else Text(operation, style="bold"),  # not markup: brackets
                title_justify="left",
                caption=_lead_text(report, operation) if is_last else None,
                caption_justify="left",
                box=SIMPLE_HEAD,
                pad_edge=False,
            )
            table.add_column("µs\n÷ fastbp, ÷ copy", no_wrap=True)
            for case in cases:
                table.add_column(case.shape, justify="right", no_wrap=True)
            for name in report.names(operation):
                style = "bold" if name == FASTBP else "dim" if name == COPY else ""
                table.add_row(name, *(_cell(case, name) for case in cases), style=style)
            drawn.append(table)
    return drawn


def _cell(case: Case, name: str) -> str:
    if name not in case.microseconds:
        return ""
    time_ = case.microseconds[name]
    by_fastbp, by_copy = (time_ / case.microseconds[other] for other in (FASTBP, COPY))
    below = f"{ratio_text(by_fastbp)} {ratio_text(by_copy)}"
    # Where fastbp loses, the one who wins stands out.
    color = "red" if name not in (FASTBP, COPY) and by_fastbp < 1 else "default"
    return f"[{color}]{time_text(time_)}[/]\n[dim]{below}[/]"


def _lead_text(report: Report, operation: str) -> str:
    lead = report.lead(operation)
    if lead is None:
        return ""
    return f"time of the fastest other library by that of fastbp: {lead:.2f} (geometric mean)"


def markdown(report: Report) -> str:
    """Tables in Markdown, times in µs: a row for each shape, a column for each library."""
    lines = []
    for operation in report.operations:
        names = report.names(operation)
        lines += [f"**{operation}**", ""]
        lines += [f"| shape | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
        for case in report.of(operation):
            fastest = min(t for n, t in case.microseconds.items() if n != COPY)
            cells = []
            for name in names:
                time_ = case.microseconds.get(name)
                text = "–" if time_ is None else time_text(time_)
                cells.append(f"**{text}**" if time_ == fastest else text)
            lines.append(f"| {case.shape.replace('x', '×')} | {' | '.join(cells)} |")
        lines += ["", *filter(None, [_lead_text(report, operation)]), ""]
    lines += [f"{line}<br>" for line in summary(report)]
    return "\n".join([*lines, f"Made by `{report.command}`."]) + "\n"


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr, as a function of what comes next, what is done and how much there is.

    Raises
    ------
    ImportError
        If rich is not installed.
    """
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        raise ImportError('the tables need rich: pip install "fastbp[bench]"') from None
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("")

        def show(what: str, done: int, total: int) -> None:
            description = what.replace("[", r"\[")  # brackets would be markup
            bar.update(task, description=description, completed=done, total=total)

        yield show


STYLES = {  # colors that stay apart for most eyes (Okabe and Ito), and markers for the others
    FASTBP: ("#d55e00", "o"),
    "numpy": ("#999999", "s"),
    "torch": ("#0072b2", "^"),
    "torch.compile": ("#56b4e9", "v"),
    "jax": ("#009e73", "D"),
    "onnxruntime": ("#cc79a7", "P"),
    "scipy": ("#b8a900", "X"),
    "scikit-learn": ("#e69f00", "<"),
    "numexpr": ("#000000", ">"),
    COPY: ("0.4", ""),
}
UNKNOWN_STYLE = ("0.6", "*")


def plot(report: Report, file: str | Path) -> None:
    """Draw times by that of a copy, over shapes: a panel for each operation.

    Parameters
    ----------
    report : Report
        From `run` or `Report.load`.
    file : str or Path
        Where to; the suffix decides on the format (.png, .pdf, .svg …).

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('a plot needs Matplotlib: pip install "fastbp[bench]"') from None
    operations = report.operations
    n_columns = min(len(operations), 2 if len(operations) <= 4 else 3)
    n_rows = -(-len(operations) // n_columns)
    figure = Figure(figsize=(4.3 * n_columns, 3.2 * n_rows + 1.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    shapes = list(dict.fromkeys(case.shape for case in report.cases))
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True).ravel()
    lines: dict[str, Any] = {}
    for i, (axes, operation) in enumerate(zip(panels, operations, strict=False)):
        lines |= _draw_operation(axes, report, operation, shapes)
        # Shared axes label the outermost panels only, under some of which there may be none.
        axes.tick_params(labelbottom=i + n_columns >= len(operations))
        if i % n_columns == 0:
            axes.set_ylabel("time ÷ time of a copy")
    for axes in panels[len(operations) :]:
        axes.set_axis_off()
    names = [*(name for name in STYLES if name in lines), *(lines.keys() - STYLES.keys())]
    handles = [lines[name] for name in names]
    if len(operations) < len(panels):  # there is room
        panels[-1].legend(handles, names, loc="center", fontsize=11, frameon=False)
    else:
        n_lines = -(-len(names) // (3 * n_columns))
        columns = -(-len(names) // n_lines)
        figure.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False)
    on, _, how, *_ = summary(report)
    figure.supxlabel(f"rows x columns\n\n{on}\n{how}", fontsize=9)
    figure.savefig(file)


def _draw_operation(axes: Any, report: Report, operation: str, shapes: list[str]) -> dict[str, Any]:
    """One panel; returns its lines by library."""
    lines = {}
    for name in report.names(operation):
        if name == COPY:
            continue
        points = [
            (shapes.index(case.shape), case.microseconds[name] / case.microseconds[COPY])
            for case in report.of(operation)
            if name in case.microseconds
        ]
        color, marker = STYLES.get(name, UNKNOWN_STYLE)
        own = name == FASTBP
        (lines[name],) = axes.plot(
            *zip(*points, strict=True), color=color, marker=marker, ms=6 if own else 5,
            lw=2.5 if own else 1.2, zorder=3 if own else 2,
        )  # fmt: skip
    lines[COPY] = axes.axhline(1, color="0.4", lw=1, ls="--", zorder=1)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(range(len(shapes)), shapes, rotation=45, ha="right", rotation_mode="anchor")
    # Long names are wider than a panel.
    axes.set_title(operation.replace("_with_grad[", "_with_grad\n["), fontsize=10)
    axes.grid(axis="y", which="major", alpha=0.3)
    axes.grid(axis="y", which="minor", alpha=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    return lines
