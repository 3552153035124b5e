"""``gpu-launcher eta``: whether the waits that pages state are the waits that people have."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_launcher.domain.start import StartRecord
    from gpu_launcher.explain.calibration import Calibration, Share


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "eta",
        help="check stated waits against recorded or simulated starts",
        description=(
            "Replays starts in the order in which they ended; each is predicted from those before it. "
            "Exit code 0: 85-95 % ended before the stated p90, or there are too few to say; 1: not so; 2: no starts."
        ),
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--records", type=Path, metavar="FILE", help="start records: a hub's log, or JSON lines")
    source.add_argument("--simulate", type=int, metavar="N", help="N starts drawn from published figures")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation (default: 1)")
    parser.add_argument("--json", action="store_true", help="print data for machines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print how well the estimates did and return the exit code: 0 fine or too few, 1 not calibrated, 2 no starts."""
    from gpu_launcher.domain.policy import ClusterPolicy
    from gpu_launcher.explain.calibration import calibrate
    from gpu_launcher.explain.eta import priors
    from gpu_launcher.explain.simulated import simulated_starts
    from gpu_launcher.explain.wait import cold_start

    try:
        records = [*_recorded(args.records)] if args.records else [*simulated_starts(args.simulate, args.seed)]
    except OSError as error:
        print(f"{args.records}: {error.strerror}", file=sys.stderr)
        return 2
    if not records:
        print(f"no start records in {args.records or 'a simulation of none'}", file=sys.stderr)
        return 2
    found = calibrate(records, priors(cold_start(1, None, ClusterPolicy())))
    print(json.dumps(_data(found)) if args.json else _text(found))
    return 0 if all(share.kept or not share.enough for share in (found.whole, found.left)) else 1


def _recorded(path: Path) -> Iterator[StartRecord]:
    from gpu_launcher.telemetry.records import record_in

    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            record = record_in(line)
            if record is not None:
                yield record


def _rows(found: Calibration) -> Iterator[tuple[str, Share]]:
    yield "whole start", found.whole
    for kind, share in found.kinds.items():
        yield f"  {kind.value}", share
    yield "time left, all stages", found.left
    for stage, share in found.stages.items():
        yield f"  {stage.value}", share


def _text(found: Calibration) -> str:
    """The table for people, and what it means."""
    lines = [f"{found.starts} starts, {found.ready} ready", ""]
    lines.append(f"{'stated':<24}{'predictions':>12}{'before p50':>12}{'before p90':>12}")
    for name, share in _rows(found):
        if share.count:
            few = "" if share.enough else "  (few)"
            lines.append(f"{name:<24}{share.count:>12}{share.before_p50:>12.1%}{share.before_p90:>12.1%}{few}")
    return "\n".join([*lines, "", _verdict(found)])


def _verdict(found: Calibration) -> str:
    if not found.whole.enough:
        return "Too few starts to judge: 50 are needed. Wanted: 85-95 % before p90."
    kept = found.whole.kept and found.left.kept
    return f"{'Calibrated' if kept else 'Not calibrated'}: wanted are 85-95 % before p90."


def _data(found: Calibration) -> dict[str, object]:
    return {
        "version": 1,
        "starts": found.starts,
        "ready": found.ready,
        "wanted_before_p90": [0.85, 0.95],
        "whole": _share(found.whole),
        "left": _share(found.left),
        "kinds": {kind.value: _share(share) for kind, share in found.kinds.items() if share.count},
        "stages": {stage.value: _share(share) for stage, share in found.stages.items() if share.count},
    }


def _share(share: Share) -> dict[str, object]:
    return {
        "predictions": share.count,
        "before_p50": round(share.before_p50, 4),
        "before_p90": round(share.before_p90, 4),
        "enough": share.enough,
    }
