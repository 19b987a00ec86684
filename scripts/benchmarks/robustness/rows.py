"""What every case of the robustness benchmark gives: rows of counts, and a sentence for each thing that went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field

SMALL, FULL = "small", "full"


@dataclass
class Row:
    """`runs` trials of one thing, how often each outcome came, figures by name, and what must not have happened.

    A failure names what is needed to see it again: a seed and a number, or a place in a file.
    """

    case: str
    what: str
    runs: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def count(self, outcome: str, failure: str = "") -> None:
        """One more trial, and what came of it; a `failure` says what went wrong."""
        self.runs += 1
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if failure:
            self.failures.append(failure)

    def most(self, name: str, value: float) -> None:
        """Keep the largest value of a figure."""
        self.figures[name] = max(value, self.figures.get(name, value))


def text(rows: Sequence[Row]) -> list[str]:
    """The rows as lines of a table."""
    lines = []
    for row in rows:
        outcomes = ", ".join(f"{number} {outcome}" for outcome, number in sorted(row.outcomes.items()))
        figures = ", ".join(f"{name} {value:.4g}" for name, value in row.figures.items())
        verdict = f"{len(row.failures)} FAILED" if row.failures else "ok"
        lines.append(f"  {row.case:12} {row.what:34} {row.runs:6} {verdict:>10}  {outcomes}")
        lines += [f"  {'':12} {figures}"] if figures else []
        lines += [f"  {'':12} FAILED: {failure}" for failure in row.failures[:20]]
    return lines
