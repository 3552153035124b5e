"""A lint report as text for people and as data for machines: the same words in both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import fill

from gpu_launcher.domain.quantity import MIB, format_bytes, format_cpu
from gpu_launcher.domain.resources import Resources
from gpu_launcher.explain.findings import Finding, Level
from gpu_launcher.explain.lint import Machine, ProfileReport
from gpu_launcher.explain.prices import dollars
from gpu_launcher.explain.wait import ColdStart, in_words
from gpu_launcher.planning.matching import gib

# A pool of twenty types is one cheap type and nineteen that Karpenter takes when it is gone.
_TYPES_SHOWN = 6


def as_text(reports: Sequence[ProfileReport], findings: Sequence[Finding] = ()) -> str:
    """Return the reports as a page of text: a block for each profile, the document's findings, a summary."""
    blocks = ["\n".join(_block(report)) for report in reports]
    if findings:
        blocks.append("\n".join(["document", *map(_worded, findings)]))
    every = [*findings, *(finding for report in reports for finding in report.findings)]
    errors = sum(finding.level is Level.ERROR for finding in every)
    warnings = sum(finding.level is Level.WARNING for finding in every)
    summary = f"{_number(len(reports), 'profile')}, {_number(errors, 'error')}, {_number(warnings, 'warning')}"
    return "\n\n".join([*blocks, summary])


def as_data(reports: Iterable[ProfileReport]) -> list[dict[str, object]]:
    """Return the reports as JSON data; prices in dollars per hour of one session, times in seconds."""
    return [
        {
            "profile": report.profile.id,
            "available": not report.failed,
            "pool": report.pool.id if report.pool else None,
            "session": _amounts(report.pool.slot) if report.pool else None,
            "machines": [
                {
                    "instance_type": machine.name,
                    "slots": machine.slots,
                    "on_demand_usd_per_hour": machine.price.on_demand,
                    "spot_usd_per_hour_estimate": machine.price.spot,
                }
                for machine in report.machines
            ],
            "cold_start": {
                "seconds": report.cold_start.seconds,
                "complete": report.cold_start.complete,
                "stages": {stage.name: stage.seconds for stage in report.cold_start.stages},
            },
            "shortening": list(report.shortening),
            "findings": findings_data(report.findings),
        }
        for report in reports
    ]


def findings_data(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return findings as JSON data."""
    return [{"level": finding.level, "code": finding.code, "text": finding.text} for finding in findings]


def session_words(slot: Resources) -> str:
    """Return what a session gets: ``"3.59 CPU · 13 GiB memory · 174 GiB disk · 1 GPU"``."""
    parts = [
        f"{slot.cpu_m / 1000:g} CPU",
        f"{gib(slot.memory // MIB)} memory",
        f"{gib(slot.ephemeral // MIB)} disk",
        _number(slot.gpus, "GPU") if slot.gpus else "no GPU",
    ]
    return " · ".join(parts)


def wait_words(wait: ColdStart) -> str:
    """Return the cold start in words, with its parts."""
    parts = ", ".join(
        f"{stage.name} unknown" if stage.seconds is None else f"{stage.name} {stage.seconds} s" for stage in wait.stages
    )
    least = "about" if wait.complete else "at least"
    return f"{least} {in_words(wait.seconds)} ({parts})"


def _block(report: ProfileReport) -> Iterator[str]:
    profile = report.profile
    yield f"{profile.id}  {profile.display_name}"
    if report.pool:
        yield f"  session     {session_words(report.pool.slot)}, {profile.capacity}"
        yield from _table(report.machines)
        yield f"  cold start  {wait_words(report.cold_start)}"
        for advice in report.shortening:
            yield _wrapped("shorter", advice)
    for finding in report.findings:
        yield _worded(finding)


def _worded(finding: Finding) -> str:
    return _wrapped(finding.level.upper(), finding.text)


def _table(machines: Sequence[Machine]) -> Iterator[str]:
    if not machines:
        return
    yield f"  {'machine':<18}{'sessions':>9}{'$/h each':>12}{'on spot, about':>18}"
    for machine in machines[:_TYPES_SHOWN]:
        yield (
            f"  {machine.name:<18}{machine.slots:>9}{_cell(machine.price.on_demand):>12}{_cell(machine.price.spot):>18}"
        )
    rest = machines[_TYPES_SHOWN:]
    if rest:
        yield f"  and {_number(len(rest), 'type')} more, up to {dollars(rest[-1].price.on_demand)} an hour"


def _wrapped(name: str, text: str) -> str:
    return fill(text, 110, initial_indent=f"  {name:<12}", subsequent_indent=" " * 14, break_on_hyphens=False)


def _cell(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:.2f}"


def _amounts(slot: Resources) -> dict[str, object]:
    return {
        "cpu": format_cpu(slot.cpu_m),
        "memory": format_bytes(slot.memory),
        "ephemeral": format_bytes(slot.ephemeral),
        "gpus": slot.gpus,
    }


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
