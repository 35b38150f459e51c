"""The report of a check: one line per comparison."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from torch import Tensor

from pyro_vae.model_guide import listed

__all__ = ["STOPPED", "UNSUPPORTED", "Finding", "Line", "Report", "Verdict", "worst"]

Verdict = Literal["passed", "failed", "noted", "skipped"]
_STYLES = {"passed": "green", "failed": "bold red", "noted": "yellow", "skipped": "dim"}
UNSUPPORTED = "not supported: "  # starts the detail of a line for programs that a check cannot read
STOPPED = "not checked, because "  # starts the detail of a line that depends on one that failed
_WIDTH = 110  # characters, at most


@dataclass(frozen=True)
class Finding:
    """The result of one comparison.

    Args:
        verdict: ``"noted"`` is worth knowing and no error; ``"skipped"`` was not compared, and ``detail`` says why.
        detail: what was found in words and, after a failure, what to look for.
        difference: between the two sides, if it is a number.
        standard_error: of the difference, if it is estimated from draws.
        tolerance: the largest difference that passes; for an estimated one, at the level of the check.
        p_value: the probability that chance makes the difference this large, if it is estimated.
        applies: False if there is nothing to compare (q is a point, or no objective was given). A line that was skipped
            but applies is a gap: something was left unchecked.
    """

    verdict: Verdict
    detail: str = ""
    difference: float | None = None
    standard_error: float | None = None
    tolerance: float | None = None
    p_value: float | None = None
    applies: bool = True


@dataclass(frozen=True)
class Line:
    """One line of a report.

    Args:
        name: for ``only=``.
        section: its heading.
        compared: what is compared with what.
        why: why the comparison must hold.
        finding: the result.
        about: what the line decides, such as "whether p(z) integrates to 1"; ``compared`` if empty.
    """

    name: str
    section: str
    compared: str
    why: str
    finding: Finding
    about: str = ""

    @property
    def verdict(self) -> Verdict:
        """``"passed"``, ``"failed"``, ``"noted"`` or ``"skipped"``."""
        return self.finding.verdict


@dataclass(frozen=True)
class Report:
    """All lines of a check, in the order in which they were checked: each depends on earlier lines only.

    Args:
        lines: one per comparison.
        subject: what was checked, in words.
        seed: of all draws.
        level: the probability, at most, that a line that compares estimates fails by chance.
        ranks: of the latents among draws of the posterior, ``(simulations, latent_dim)``, for
            :func:`pyro_vae.plots.rank_histograms`; None if they could not be drawn.
        rank_count: how many values a rank can take.
        cut: what was reduced because the networks are large, in words.

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
    cut: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if no line failed and the programs are supported.

        Nothing is known about unsupported programs: this is then False, although :attr:`failures` is empty.
        """
        return not self.failures and not self.unsupported

    @property
    def failures(self) -> list[Line]:
        """The lines that failed; fix the first one first."""
        return [line for line in self.lines if line.verdict == "failed"]

    @property
    def gaps(self) -> list[Line]:
        """The lines that apply but could not be checked."""
        return [line for line in self.lines if line.verdict == "skipped" and line.finding.applies]

    @property
    def unsupported(self) -> str:
        """Why nothing was checked, if model and guide are not supported; else empty."""
        return next((line.finding.detail for line in self.gaps if line.finding.detail.startswith(UNSUPPORTED)), "")

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
        """Return one or two sentences: how many lines passed or failed, what was not checked, and what to fix first."""
        if self.unsupported:
            return f"nothing was checked: {self.unsupported}"
        gaps = self.gaps
        counts = {v: sum(line.verdict == v for line in self.lines) for v in ("passed", "failed", "noted")}
        counts["not applicable"] = len(self.lines) - sum(counts.values()) - len(gaps)
        stopped = [line for line in gaps if _is_stopped(line)]
        others = [line for line in gaps if not _is_stopped(line)]
        counts["not checked"] = len(others)
        said = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
        if others:
            said += f": {listed(line.about or line.compared for line in others)}"
        if stopped:
            said += f"{';' if others else ','} {len(stopped)} {STOPPED}{_reason(stopped[0])}"
        return said + (f". Fix {self.failures[0].name} first" if self.failures else "")

    def table(self, why: bool = True) -> Table:
        """Return the whole report as a table for rich, with every line in the order in which they were checked.

        Show it with ``rich.print(report.table())``.

        Args:
            why: True to say under each line why it must hold.
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
            verdict = line.verdict if found.applies else "n/a"
            table.add_row(
                f"[{style}]{verdict}[/{style}]", "\n".join(said), _difference(found), _number(found.tolerance)
            )
        return table

    def brief(self, why: bool = True) -> RenderableType:
        """Return what ``print`` shows: failures, gaps and notes in full, and only the names of the other lines.

        Args:
            why: True to say under each failure why the line must hold.
        """
        parts: list[RenderableType] = [Text(self.subject, "italic")]
        if self.unsupported:
            return Group(*parts, Text(), Text(_sentence(self.summary())))
        noted = [line for line in self.lines if line.verdict == "noted"]
        if self.failures:
            first = f": fix {self.failures[0].name} first; it may cause the others" if len(self.failures) > 1 else ""
            parts += _part(f"Failed{first}", [_entry(line, why) for line in self.failures])
        gaps = _by_detail([line for line in self.gaps if not _is_stopped(line)])
        parts += _part("Not checked", [_gap_entry(detail, lines) for detail, lines in gaps])
        parts += _part("Noted", [_entry(line, why=False) for line in noted])
        parts += _folded("Passed", [line.name for line in self.lines if line.verdict == "passed"])
        if stopped := [line for line in self.gaps if _is_stopped(line)]:
            parts += _folded(f"Not checked, because {_reason(stopped[0])}", [line.name for line in stopped])
        parts += _folded("Does not apply", [line.name for line in self.lines if not line.finding.applies])
        if self.cut:
            said = f"{', '.join(self.cut)}. Small mistakes are found less often, large ones as always."
            parts += [Text(), Text.assemble(("Fewer than usual, because the networks are large", "bold"), f"  {said}")]
        return Group(*parts, Text(), Text(_sentence(self.summary())))

    def __repr__(self) -> str:
        """Return the subject and the summary; ``print`` shows what failed, with reasons."""
        return f"Report({self.subject}: {self.summary()})"

    def __rich__(self) -> RenderableType:
        return self.brief()

    def __str__(self) -> str:
        text = io.StringIO()
        width = min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns)
        Console(width=width, file=text, color_system=None).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        console = Console(width=_WIDTH, file=io.StringIO(), record=True, force_jupyter=False)
        console.print(self)
        return console.export_html(inline_styles=True, code_format='<pre style="font-family:monospace">{code}</pre>')

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain numbers and text; NaN and infinite numbers become None."""
        lines = [asdict(line) for line in self.lines]
        for line in lines:
            line.update({k: _plain(v) for k, v in line.pop("finding").items()})
        return {
            "subject": self.subject,
            "passed": self.passed,
            "unsupported": self.unsupported,
            "gaps": [line.name for line in self.gaps],
            "summary": self.summary(),
            "seed": self.seed,
            "level": self.level,
            "cut": list(self.cut),
            "lines": lines,
        }

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)


def _sentence(text: str) -> str:
    """Return the text with a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


# What print shows.


def _part(heading: str, entries: list[RenderableType]) -> list[RenderableType]:
    """Return a part of the report, or nothing if it has no entries."""
    return [Text(), Text(heading, "bold"), *entries] if entries else []


def _entry(line: Line, why: bool) -> RenderableType:
    """Return a line with its detail, its difference and, with ``why``, the reason why it must hold."""
    found = line.finding
    said = [Text.assemble((line.name, _STYLES[line.verdict]), f"  {line.compared}")]
    said += [Text(_sentence(found.detail))] if found.detail else []
    measured = found.difference is not None and found.tolerance is not None and not math.isnan(found.difference)
    if line.verdict == "failed" and measured:
        said.append(Text(f"Difference {_difference(found)}, allowed {_number(found.tolerance)}.", "dim"))
    said += [Text(f"Why it must hold: {line.why}", "dim")] if why else []
    return Group(Padding(said[0], (0, 0, 0, 2)), *(Padding(text, (0, 0, 0, 4)) for text in said[1:]))


def _is_stopped(line: Line) -> bool:
    """True if a line was not checked because an earlier one failed."""
    return line.finding.detail.startswith(STOPPED)


def _reason(line: Line) -> str:
    """Return the failure that stopped a line, in words."""
    return line.finding.detail.removeprefix(STOPPED)


def _by_detail(lines: list[Line]) -> list[tuple[str, list[Line]]]:
    """Group lines by their detail."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.finding.detail, []).append(line)
    return list(found.items())


def _gap_entry(detail: str, lines: list[Line]) -> RenderableType:
    """Return the lines that could not be checked for one reason."""
    names = ", ".join(line.name for line in lines)
    about = listed(line.about or line.compared for line in lines)
    text = Text.assemble((names, "yellow"), f"  {about}: {detail}")
    return Padding(text, (0, 0, 0, 2))


def _folded(heading: str, names: list[str]) -> list[RenderableType]:
    """Return the names of lines and how many there are, in one paragraph."""
    return [Text(), Text.assemble((f"{heading} ({len(names)})", "bold"), f"  {', '.join(names)}")] if names else []


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _difference(found: Finding) -> str:
    if found.difference is None:
        return ""
    error = "" if found.standard_error is None else f" ± {found.standard_error:.1g}"
    return f"{found.difference:.2g}{error}"


def worst(findings: Sequence[Finding]) -> Finding:
    """Return the decisive one of several findings: the first that failed, else the one nearest to failing.

    Its p-value is corrected for their number (Bonferroni), for comparisons that share the level of one line. If some
    passed and others could not be checked, its detail says so.
    """
    order = {"failed": 0, "noted": 1, "passed": 2, "skipped": 3}
    chosen = min(findings, key=lambda f: (order[f.verdict], not f.applies, _nearness(f)))
    gaps = [f.detail for f in findings if f.verdict == "skipped" and f.applies and f.detail]
    if chosen.verdict == "passed" and gaps:
        said = f"{len(gaps)} of {len(findings)} parts were not checked: {gaps[0]}"
        chosen = replace(chosen, detail=f"{chosen.detail}; {said}" if chosen.detail else said)
    if chosen.p_value is None:
        return chosen
    return replace(chosen, p_value=min(1.0, chosen.p_value * sum(f.p_value is not None for f in findings)))


def _nearness(found: Finding) -> float:
    """Return a number from 0, at which it would fail, to 1."""
    if found.p_value is not None:
        return found.p_value
    if found.difference is None or not found.tolerance:
        return 1.0
    return max(0.0, 1 - abs(found.difference) / found.tolerance)
