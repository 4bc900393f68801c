"""What was measured, as tables for a terminal and in Markdown."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from .problems import COPY, FASTBP
from .report import Case, Goal, Report

# Programs that run beside the benchmark, from which on one of them has to wait for a core.
QUIET_LOAD = 0.5

# More columns than that are cut in a terminal of the usual 80 characters.
SHAPES_IN_A_TABLE = 5

COLD = ("import and first call", "nothing compiled yet", "compiled before")
GOALS = ("operation", "dtype", "fastest peer ÷ fastbp", "worst", "fastbp ÷ copy")


def summary(report: Report) -> list[str]:
    """Lines that say what was measured on what."""
    on, how = report.machine, report.settings
    percentile = f"{how['percentile']:g}th percentile"
    rounds = f"{how['rounds']:g} x {1e3 * how['stretch']:g} ms"
    lines = [
        f"{on['cpu']}, {on['system']}, {on['python']}; {report.threads} of {on['cores']} cores",
        ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        f"{', '.join(report.dtypes)}; {percentile} of {rounds}; {report.date}",
    ]
    if report.not_installed:
        lines.append(f"not installed: {', '.join(report.not_installed)}")
    if report.wrong:
        lines.append(f"left out, as the answer was wrong: {', '.join(report.wrong)}")
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
    """Tables (of rich) for each operation and dtype: rows are libraries, columns are shapes.

    Many shapes take several tables, the first of which has the title. A cell holds the time in µs,
    and below it the time by that of fastbp and by that of a copy. Last come the small tables.

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
    for part in report.parts():
        for first in range(0, len(part.cases), SHAPES_IN_A_TABLE):
            cases = part.cases[first : first + SHAPES_IN_A_TABLE]
            table = Table(
                title=None if first else Text(title(part), style="bold"),  # no markup: brackets
                title_justify="left",
                box=SIMPLE_HEAD,
                pad_edge=False,
            )
            table.add_column("µs\n÷ fastbp, ÷ copy", no_wrap=True)
            for case in cases:
                table.add_column(case.shape, justify="right", no_wrap=True)
            for name in part.names:
                style = "bold" if name == FASTBP else "dim" if name == COPY else ""
                table.add_row(name, *(_cell(case, name) for case in cases), style=style)
            drawn.append(table)
    for header, *rows in _small_tables(report):
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for i, cell in enumerate(header):
            table.add_column(cell, justify="right" if i else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))  # no markup: brackets
        drawn.append(table)
    return drawn


def title(part: Report) -> str:
    """Of a part with one operation and one dtype."""
    return f"{part.operations[0]}, {part.dtypes[0]}"


Rows = list[tuple[str, ...]]  # of cells, a header first


def goals_table(report: Report) -> Rows:
    """How far fastbp leads, for each operation and dtype."""
    return [GOALS, *map(_goal_cells, report.goals())]


def cold_table(report: Report) -> Rows:
    """The cold start; nothing if it was not measured."""
    rows = [(start.call, f"{start.empty:.2f} s", f"{start.filled:.2f} s") for start in report.cold]
    return [COLD, *rows] if rows else []


def _small_tables(report: Report) -> list[Rows]:
    return [rows for rows in (goals_table(report), cold_table(report)) if rows]


def _goal_cells(goal: Goal) -> tuple[str, ...]:
    def at(ratio_and_shape: tuple[float, str] | None) -> str:
        if ratio_and_shape is None:
            return "–"
        ratio, shape = ratio_and_shape
        return f"{ratio:.2f} ({_times(shape)})"

    lead = "–" if goal.lead is None else f"{goal.lead:.2f}"
    return goal.operation, goal.dtype, lead, at(goal.least_lead), at(goal.by_copy)


def _times(shape: str) -> str:
    return shape.replace("x", "×")


def _cell(case: Case, name: str) -> str:
    if name not in case.microseconds:
        return ""
    time_ = case.microseconds[name]
    by_fastbp, by_copy = (time_ / case.microseconds[other] for other in (FASTBP, COPY))
    below = f"{ratio_text(by_fastbp)} {ratio_text(by_copy)}"
    # Where fastbp loses, the one who wins stands out.
    color = "red" if name not in (FASTBP, COPY) and by_fastbp < 1 else "default"
    return f"[{color}]{time_text(time_)}[/]\n[dim]{below}[/]"


def markdown(report: Report) -> str:
    """All tables in Markdown, and what was measured on what."""
    small = [table_markdown(rows) for rows in _small_tables(report)]
    return "\n".join([times_markdown(report), *small, notes_markdown(report)])


def times_markdown(report: Report) -> str:
    """Times in µs: a row for each shape, a column for each library."""
    text = ""
    for part in report.parts():
        rows: Rows = [("shape", *part.names)]
        for case in part.cases:
            fastest = min(t for n, t in case.microseconds.items() if n != COPY)
            cells = []
            for name in part.names:
                time_ = case.microseconds.get(name)
                cell = "–" if time_ is None else time_text(time_)
                cells.append(f"**{cell}**" if time_ == fastest else cell)
            rows.append((_times(case.shape), *cells))
        text += f"\n**{title(part)}**\n\n{table_markdown(rows)}"
    return text.lstrip()


def notes_markdown(report: Report) -> str:
    """The summary, and the command."""
    lines = [f"{line}<br>" for line in summary(report)]
    return "\n".join([*lines, f"Made by `{report.command}`."]) + "\n"


def table_markdown(rows: Rows) -> str:
    """A table."""
    first, *others = (f"| {' | '.join(row)} |\n" for row in rows)
    return "".join([first, f"|---|{'---:|' * (len(rows[0]) - 1)}\n", *others])


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
