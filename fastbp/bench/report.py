"""What was measured, stored as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .problems import COPY, FASTBP

# From so many bytes on, arrays are in no cache, and an operation is compared with a copy.
LARGE = 200_000_000


@dataclass(frozen=True)
class Case:
    """Times of an operation on one shape: that of a copy, of fastbp and of the other libraries."""

    operation: str
    shape: str
    bytes_moved: int
    microseconds: dict[str, float]
    dtype: str = "float32"

    @property
    def fastest_peer(self) -> float | None:
        """The least time of all but the copy and fastbp; None if there is nobody else."""
        peers = [t for n, t in self.microseconds.items() if n not in (COPY, FASTBP)]
        return min(peers, default=None)


@dataclass(frozen=True)
class ColdStart:
    """Seconds of importing fastbp and of a first call, with an empty and with a filled cache."""

    call: str
    empty: float
    filled: float


@dataclass(frozen=True)
class Goal:
    """How fast fastbp is in an operation, over all shapes; None where nothing was measured."""

    operation: str
    dtype: str
    lead: float | None  # time of the fastest peer by that of fastbp, as a geometric mean
    least_lead: tuple[float, str] | None  # on the shape where it is least
    by_copy: tuple[float, str] | None  # time by that of a copy, on the large shape with the most


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
    wrong: list[str] = field(default_factory=list)  # what was left out for its answer
    cold: list[ColdStart] = field(default_factory=list)

    @property
    def dtypes(self) -> list[str]:
        """Names of the dtypes, in their order."""
        return list(dict.fromkeys(case.dtype for case in self.cases))

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
            cases = [Case(**case) for case in fields["cases"]]
            cold = [ColdStart(**start) for start in fields.get("cold", ())]
            return cls(**{**fields, "cases": cases, "cold": cold})
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{str(file)!r} is no file that fastbp bench has written") from None

    def part(
        self,
        operations: Sequence[str] | None = None,
        shapes: Sequence[str] | None = None,
        dtypes: Sequence[str] | None = None,
    ) -> Report:
        """The report on some operations, shapes and dtypes; None stands for all."""
        cases = [
            case
            for case in self.cases
            if (operations is None or case.operation in operations)
            and (shapes is None or case.shape in shapes)
            and (dtypes is None or case.dtype in dtypes)
        ]
        return dataclasses.replace(self, cases=cases)

    def parts(self) -> list[Report]:
        """The reports on a single operation in a single dtype, in their order."""
        return [
            part
            for dtype in self.dtypes
            for operation in self.operations
            if (part := self.part([operation], None, [dtype])).cases
        ]

    @property
    def names(self) -> list[str]:
        """The copy, fastbp and the libraries that were measured, in their order."""
        return list(dict.fromkeys(name for case in self.cases for name in case.microseconds))

    def goals(self) -> list[Goal]:
        """How fast fastbp is, for each operation and dtype."""
        return [_goal(part.cases) for part in self.parts()]


def _goal(cases: Sequence[Case]) -> Goal:
    leads = [
        (case.fastest_peer / case.microseconds[FASTBP], case.shape)
        for case in cases
        if case.fastest_peer
    ]
    mean = math.exp(sum(math.log(lead) for lead, _ in leads) / len(leads)) if leads else None
    by_copy = [
        (case.microseconds[FASTBP] / case.microseconds[COPY], case.shape)
        for case in cases
        if case.bytes_moved >= LARGE
    ]
    first = cases[0]
    return Goal(
        first.operation,
        first.dtype,
        mean,
        min(leads, default=None),
        max(by_copy, default=None),
    )
