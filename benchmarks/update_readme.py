"""Put the accuracy and speed tables into README.md, from a verification and stored times.

    fastbp bench --json benchmarks/results/NAME.json
    python benchmarks/update_readme.py benchmarks/results/NAME.json

Draws benchmarks/results/NAME.png beside the times.
"""

import re
import sys
from pathlib import Path

from fastbp.bench.picture import plot
from fastbp.bench.report import Report
from fastbp.bench.tables import markdown
from fastbp.testing import verify

ROOT = Path(__file__).resolve().parent.parent


def accuracy() -> str:
    """A row for each operation: the largest error in either dtype, and the promise.

    Of the many variants of losses only those with one option, or weights, are shown.
    """
    rows: dict[str, dict[str, object]] = {}
    for row in verify():
        if "," in row.operation and not row.operation.endswith(("smoothing]", "ignored]")):
            continue
        if row.operation.count(",") > 1 and "smoothing" in row.operation:
            continue
        cells = rows.setdefault(row.operation, {"promise": row.promise, "unit": row.unit})
        cells[row.dtype] = row.error
    lines = ["| operation | float32 | float64 | promise | unit |", "|---|---|---|---|---|"]
    lines += [
        f"| `{name}` | {c['float32']:.2f} | {c['float64']:.2f} | {c['promise']:g} "
        f"| {escaped(c['unit'])} |"
        for name, c in rows.items()
    ]
    return "\n".join(lines)


def escaped(text: object) -> str:
    """Text for a cell of a table in Markdown."""
    return str(text).replace("|", "\\|")


def speed(stored: Path) -> str:
    """The tables of all operations, and the picture."""
    times = Report.load(stored)
    picture = stored.with_suffix(".png")
    plot(times, picture)
    place = picture.resolve().relative_to(ROOT).as_posix()
    return f"![Time relative to a copy]({place})\n\n{markdown(times).strip()}"


def put(readme: str, name: str, content: str) -> str:
    """The README with that content between the comments that name it."""
    pattern = rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end -->)"
    filled, found = re.subn(
        pattern, lambda m: f"{m[1]}\n{content}\n\n{m[2]}", readme, flags=re.DOTALL
    )
    if found != 1:
        raise SystemExit(f"README.md has {found} places for {name}; expected 1")
    return filled


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    path = ROOT / "README.md"
    text = put(path.read_text("utf-8"), "accuracy", accuracy())
    path.write_text(put(text, "speed", speed(Path(sys.argv[1]))), "utf-8")
