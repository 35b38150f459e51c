"""What a check found: one line a comparison, and the report that they make."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

__all__ = ["Finding", "Line", "Report", "Verdict", "worst"]

Verdict = Literal["passed", "failed", "noted", "skipped"]
_STYLES = {"passed": "green", "failed": "bold red", "noted": "yellow", "skipped": "dim"}


@dataclass(frozen=True)
class Finding:
    """What one comparison came to.

    Args:
        verdict: ``"noted"`` is worth knowing and no error; ``"skipped"`` could not be compared, ``detail`` says why.
        detail: in words: what was found and, where it failed, what to look at.
        difference: between the two sides, as far as it is a number.
        standard_error: of the difference, where it is estimated from draws.
        tolerance: the largest difference that passes; for an estimated one, at the level of the check.
        p_value: how often a difference so large would come from chance alone, where it is estimated.
    """

    verdict: Verdict
    detail: str = ""
    difference: float | None = None
    standard_error: float | None = None
    tolerance: float | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class Line:
    """One line of a report.

    Args:
        name: what ``only=`` calls it.
        section: the heading that it stands under.
        compared: what is compared.
        why: why it must hold.
        finding: what it came to.
    """

    name: str
    section: str
    compared: str
    why: str
    finding: Finding

    @property
    def verdict(self) -> Verdict:
        """``"passed"``, ``"failed"``, ``"noted"`` or ``"skipped"``."""
        return self.finding.verdict


@dataclass(frozen=True)
class Report:
    """All lines of a check, in the order in which they were looked at: what others rest upon comes first.

    Args:
        lines: one a comparison.
        subject: what was checked, in words.
        seed: of all draws.
        level: how often, at most, a line that compares estimates fails by chance.
        ranks: of the latents in draws of the posterior, ``(simulations, latent_dim)``, for
            :func:`pyro_vae.plots.rank_histograms`; None where they could not be drawn.
        rank_count: how many values a rank can take.

    Example:
        >>> report = Report((Line("kl", "ELBO", "a", "b", Finding("passed")),), "a VAE", 0, 1e-4)
        >>> report.passed, report["kl"].verdict
        (True, 'passed')
    """

    lines: tuple[Line, ...]
    subject: str
    seed: int
    level: float
    ranks: Tensor | None = field(default=None, compare=False)
    rank_count: int = 0

    @property
    def passed(self) -> bool:
        """Whether no line failed."""
        return not self.failures

    @property
    def failures(self) -> list[Line]:
        """The lines that failed; the first is the one to mend first."""
        return [line for line in self.lines if line.verdict == "failed"]

    def __getitem__(self, name: str) -> Line:
        for line in self.lines:
            if line.name == name:
                return line
        raise KeyError(f"there is no line {name!r}; there are {', '.join(line.name for line in self.lines)}")

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def summary(self) -> str:
        """One sentence: how many lines came to what, and which failed."""
        counts = {v: sum(line.verdict == v for line in self.lines) for v in _STYLES}
        said = ", ".join(f"{n} {v}" for v, n in counts.items() if n)
        return said + (f". Mend {self.failures[0].name} first" if self.failures else "")

    def table(self, why: bool = True) -> Table:
        """The report as a table of rich.

        Args:
            why: whether to say under each line why it must hold.
        """
        table = Table(title=f"{self.subject}", title_justify="left", box=None, pad_edge=False, header_style="bold")
        table.add_column("", no_wrap=True)
        table.add_column("compared")
        table.add_column("difference", justify="right", no_wrap=True)
        table.add_column("allowed", justify="right", no_wrap=True)
        section = ""
        for line in self.lines:
            if line.section != section:
                section = line.section
                table.add_row("", f"[bold]{section}[/bold]", "", "", end_section=False)
            found = line.finding
            style = _STYLES[line.verdict]
            said = [f"[cyan]{line.name}[/cyan]  {line.compared}"]
            if why and line.verdict != "skipped":
                said.append(f"[dim]{line.why}[/dim]")
            if found.detail and (line.verdict != "passed" or why):
                said.append(f"[{style}]{escape(found.detail)}[/{style}]")
            table.add_row(
                f"[{style}]{line.verdict}[/{style}]", "\n".join(said), _difference(found), _number(found.tolerance)
            )
        return table

    def __str__(self) -> str:
        text = io.StringIO()
        Console(width=110, file=text, color_system=None).print(self.table())
        return text.getvalue() + self.summary()

    def to_dict(self) -> dict[str, Any]:
        """The report as plain numbers and text; what is not a finite number is None."""
        lines = [asdict(line) for line in self.lines]
        for line in lines:
            line.update({k: _plain(v) for k, v in line.pop("finding").items()})
        return {
            "subject": self.subject,
            "passed": self.passed,
            "summary": self.summary(),
            "seed": self.seed,
            "level": self.level,
            "lines": lines,
        }

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _difference(found: Finding) -> str:
    if found.difference is None:
        return ""
    error = "" if found.standard_error is None else f" ± {found.standard_error:.1g}"
    return f"{found.difference:.2g}{error}"


def worst(findings: Sequence[Finding]) -> Finding:
    """The one that counts of several: the first that failed, else the one nearest to failing.

    Its p-value is that of the least of so many (Bonferroni), for comparisons that share the level of one line.
    """
    order = {"failed": 0, "noted": 1, "passed": 2, "skipped": 3}
    chosen = min(findings, key=lambda f: (order[f.verdict], _nearness(f)))
    if chosen.p_value is None:
        return chosen
    return replace(chosen, p_value=min(1.0, chosen.p_value * sum(f.p_value is not None for f in findings)))


def _nearness(found: Finding) -> float:
    """From 0, where it fails, to 1."""
    if found.p_value is not None:
        return found.p_value
    if found.difference is None or not found.tolerance:
        return 1.0
    return max(0.0, 1 - abs(found.difference) / found.tolerance)
