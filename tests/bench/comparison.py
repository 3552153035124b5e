"""Plain KubeSpawner and the launcher on the same lab, in turns: how long a warm start takes, how late "ready" comes."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from crowd import Crowd, Timed

ALONE, ROUNDS = 12, 3
TOGETHER = (50, 100)
ANSWERS_AFTER_S = (0, 4, 60)
# Five at a time, five times: several at once, and still the lag of each and not the length of a queue. The pause
# divides none of the times after which servers answer, or every answer would come as the hub takes the next five.
GROUP, GROUPS, GROUP_EVERY_S = 5, 5, 2.7

WORST_RATIO, WORST_LAG_S = 1.05, 0.3

# Both hubs: the smallest pods on a machine that is there, with an image that is there, and no disk.
SITE = """
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.JupyterHub.concurrent_spawn_limit = 0
c.Spawner.http_timeout = 120
c.KubeSpawner.image = "example.org/notebook:1"
c.KubeSpawner.storage_pvc_ensure = False
c.KubeSpawner.volumes = c.KubeSpawner.volume_mounts = []


def _stub(spawner, pod):
    late = spawner.user.name.partition("-late-")[2]
    stub = {"gpu-launcher-lab/server": "stub", "gpu-launcher-lab/answers-after": late}
    pod.metadata.annotations = {**(pod.metadata.annotations or {}), **stub}
    return pod


c.KubeSpawner.modify_pod_hook = _stub
"""
_NODE = {"gpu-launcher-lab/system": "true"}
PLAIN = f"""{SITE}
c.KubeSpawner.cpu_limit = c.KubeSpawner.cpu_guarantee = 0.01
c.KubeSpawner.mem_limit = c.KubeSpawner.mem_guarantee = "64M"
c.KubeSpawner.node_selector = {_NODE!r}
"""
DOCUMENT = {
    "version": 1,
    "profiles": [
        {
            "id": "cpu",
            "display_name": "CPU",
            "default": True,
            "size": {"cpu": "10m", "memory": "64Mi", "ephemeral": "1Gi"},
            "node_selector": _NODE,
        }
    ],
}


@dataclass
class Measured:
    """What one hub showed in one measurement, over all its rounds."""

    rounds: list[list[Timed]] = field(default_factory=list)
    failed: int = 0
    cpu_s: float = 0.0

    @property
    def starts(self) -> list[Timed]:
        """Every start of every round."""
        return [start for starts in self.rounds for start in starts]

    @property
    def typical_s(self) -> float:
        """The median start, in seconds."""
        return statistics.median(start.seconds for start in self.starts)

    @property
    def all_s(self) -> float:
        """From the first click of a round until its last server is ready; the median round."""
        return statistics.median(max(start.ready for start in r) - min(start.asked for start in r) for r in self.rounds)

    @property
    def cpu_ms(self) -> float:
        """The hub's processor time for one start, in milliseconds."""
        return self.cpu_s / len(self.starts) * 1000

    def part_ms(self, part: str) -> float:
        """The median of one part of a start, in milliseconds: click, pod or lag."""
        parts: dict[str, Callable[[Timed], float]] = {
            "click": lambda one: one.created - one.asked,
            "pod": lambda one: one.pod_ready - one.created,
            "lag": lambda one: one.lag,
        }
        return statistics.median(map(parts[part], self.starts)) * 1000

    def lag_s(self, share: float) -> float:
        """The lag that this share of the starts does not exceed, in seconds."""
        lags = sorted(start.lag for start in self.starts)
        return lags[min(len(lags) - 1, int(share * len(lags)))]


Pair = tuple[Measured, Measured]


async def compare(crowds: tuple[Crowd, Crowd]) -> bool:
    """Print everything; return whether the launcher is as fast as it has to be. ``crowds``: plain, then launcher."""
    for people in crowds:
        await together(people, Measured(), 5)  # what a hub reads once, when it starts its first server
    print(_HEAD, flush=True)
    ratios = [ratio for count in (1, *TOGETHER) for ratio in _paces(count, await paces(crowds, count))]
    print(f"\n{'lag after pod Ready and first answer':<38}{'plain p50':>10}{'p95':>8}{'ours p50':>10}{'p95':>8}")
    lags = [_lags(late, await lags_of(crowds, late)) for late in ANSWERS_AFTER_S]
    fits = max(ratios) <= WORST_RATIO and max(lags) <= WORST_LAG_S
    print(
        f"\nworst ratio {max(ratios):.2f} (at most {WORST_RATIO} wanted), "
        f"worst p95 of the lag {max(lags):.2f} s (at most {WORST_LAG_S} s wanted): {'met' if fits else 'NOT met'}"
    )
    return fits


async def paces(crowds: tuple[Crowd, Crowd], count: int) -> Pair:
    """Measure starts of so many servers at the same moment, the hubs taking turns at going first."""
    found = Measured(), Measured()
    for turn in range(ALONE if count == 1 else ROUNDS):
        for side in (0, 1) if turn % 2 else (1, 0):
            await together(crowds[side], found[side], count)
    return found


async def together(people: Crowd, found: Measured, count: int) -> None:
    """Start so many servers at once, add what was measured, and stop them all."""
    users = [f"u{number:03}" for number in range(count)]
    await people.know(users)
    used = people.cpu_seconds()
    found.rounds.append(await people.start(users))
    found.failed += count - len(found.rounds[-1])
    found.cpu_s += people.cpu_seconds() - used
    await people.stop()


async def lags_of(crowds: tuple[Crowd, Crowd], late: int) -> Pair:
    """Measure servers that answer so many seconds after their pod is Ready."""
    found = Measured(), Measured()
    for people, measured in zip(crowds, found, strict=True):
        groups = [[f"u{group}{number}-late-{late}" for number in range(GROUP)] for group in range(GROUPS)]
        await people.know([user for group in groups for user in group])
        measured.rounds += await asyncio.gather(
            *(_later(people, group, number * GROUP_EVERY_S) for number, group in enumerate(groups))
        )
        await people.stop()
    return found


async def _later(people: Crowd, users: Sequence[str], delay_s: float) -> list[Timed]:
    await asyncio.sleep(delay_s)
    return await people.start(users)


_HEAD = (
    f"{'warm start: click to ready':<28}{'plain':>9}{'ours':>9}{'ratio':>7}"
    f"   {'click to pod':>15} {'pod to Ready':>15} {'lag':>13} {'hub CPU a start':>19}"
)


def _paces(count: int, pair: Pair) -> list[float]:
    plain, ours = pair
    parts = "".join(f" {plain.part_ms(part):>6.0f} ->{ours.part_ms(part):>4.0f} ms" for part in ("click", "pod", "lag"))
    cpu = f"{plain.cpu_ms:>8.0f} ->{ours.cpu_ms:>4.0f} ms"
    ratios = [ours.typical_s / plain.typical_s]
    what = f"alone, median of {len(ours.starts)}" if count == 1 else f"{count} at once, median"
    print(f"{what:<28}{plain.typical_s:>7.2f} s{ours.typical_s:>7.2f} s{ratios[0]:>7.2f}  {parts} {cpu}", flush=True)
    if plain.failed or ours.failed:
        print(f"  failed: plain {plain.failed}, ours {ours.failed}", flush=True)
    if count > 1:
        ratios.append(ours.all_s / plain.all_s)
        print(f"{'  until all are ready':<28}{plain.all_s:>7.2f} s{ours.all_s:>7.2f} s{ratios[1]:>7.2f}", flush=True)
    # A start that failed was not faster.
    return [*ratios, *([inf] if ours.failed else [])]


def _lags(late: int, pair: Pair) -> float:
    plain, ours = pair
    what = f"answers after {late:>2} s, {len(ours.starts)} starts"
    figures = "".join(f"{one.lag_s(0.5):>8.2f} s{one.lag_s(0.95):>6.2f} s" for one in (plain, ours))
    print(f"{what:<38}{figures}", flush=True)
    return ours.lag_s(0.95)
