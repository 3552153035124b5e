"""What earlier machines tell about a pool: how long new ones take, and since when the cloud has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gpu_launcher.domain.pool_state import LeadTime
from gpu_launcher.domain.profile import Capacity
from gpu_launcher.domain.start import Shortage, ShortageKind
from gpu_launcher.domain.views import Expression, NodeClaimView
from gpu_launcher.planning.dialects import CAPACITY_TYPE
from gpu_launcher.planning.requirements import overlap
from gpu_launcher.planning.served import ServedPool

# Enough for a steady p90, few enough that last month's slow machine image is forgotten.
_LEADS_KEPT = 50
# Karpenter asks again within seconds while a pod waits; nothing heard for this long means that nobody asks any more,
# and what nobody asks for is not known to be missing.
_SHORTAGE_LASTS_S = 900.0

_BOUGHT_AS: Mapping[Capacity, frozenset[str]] = {
    Capacity.ON_DEMAND: frozenset({"on-demand"}),
    Capacity.SPOT_FIRST: frozenset({"spot", "on-demand"}),
    Capacity.SPOT: frozenset({"spot"}),
    Capacity.RESERVED: frozenset({"reserved"}),
}


@dataclass(frozen=True, slots=True)
class Lead:
    """One machine's way from NodeClaim to usable node, which ended at ``at``."""

    claim: str
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class PoolHistory:
    """Lead times and the last launch by pool id, and the shortages of the whole cluster, oldest first.

    A memory of one process; what it holds can be had again from the next machines.
    """

    leads: Mapping[str, tuple[Lead, ...]] = field(default_factory=dict)
    launched: Mapping[str, float] = field(default_factory=dict)
    shortages: tuple[Shortage, ...] = ()
    settled: frozenset[str] = frozenset()
    """Claims that have told all that they can, so that a look at hundreds of machines costs nothing."""

    def seen(self, claims: Iterable[NodeClaimView], pools: Mapping[str, ServedPool]) -> PoolHistory:
        """Return the history with what these claims add to it; seeing a claim again adds nothing."""
        leads = {key: {lead.claim: lead for lead in known} for key, known in self.leads.items()}
        launched = dict(self.launched)
        settled = set()
        for claim in claims:
            name, lead = claim.uid or claim.name, _lead(claim)
            if lead is not None:
                settled.add(name)
            if name in self.settled:
                continue
            since = _since(claim, "Launched")
            for key in (key for key, served in pools.items() if served.uses_claim(claim)):
                if since is not None:
                    launched[key] = max(since, launched.get(key, since))
                if lead is not None:
                    leads.setdefault(key, {})[name] = lead
        newest = {
            key: tuple(sorted(known.values(), key=lambda lead: (lead.at, lead.claim))[-_LEADS_KEPT:])
            for key, known in leads.items()
        }
        return replace(self, leads=newest, launched=launched, settled=frozenset(settled))

    def lead(self, pool_id: str) -> LeadTime | None:
        """Return the pool's lead time; None before its first machine."""
        seconds = sorted(lead.seconds for lead in self.leads.get(pool_id, ()))
        if not seconds:
            return None
        return LeadTime(_rank(seconds, 50), _rank(seconds, 90), len(seconds))

    def shortage(self, served: ServedPool, now: float) -> tuple[ShortageKind, float] | None:
        """Return why nothing came for the pool at the last attempts and since when; None after a launch or silence.

        A pool that buys in two ways misses something only when both have failed.
        """
        launched = self.launched.get(served.pool.id, float("-inf"))
        later = sorted((one for one in self.shortages if one.at > launched), key=lambda one: one.at)
        misses = [(one, ways) for one in later if (ways := _missed(one, served))]
        began = [
            _began([one.at for one, ways in misses if way in ways], now) for way in _BOUGHT_AS[served.pool.capacity]
        ]
        known = [at for at in began if at is not None]
        return (misses[-1][0].kind, max(known)) if len(known) == len(began) else None


def _began(times: list[float], now: float) -> float | None:
    """When the misses began that go on until now; None if there are none."""
    after = now
    for at in reversed(times):
        if after - at > _SHORTAGE_LASTS_S:
            break
        after = at
    return after if times and after <= times[-1] else None


def _lead(claim: NodeClaimView) -> Lead | None:
    ready = _since(claim, "Initialized")
    if ready is None or claim.created_at is None or ready < claim.created_at:
        return None
    return Lead(claim.uid or claim.name, ready, ready - claim.created_at)


def _since(claim: NodeClaimView, condition: str) -> float | None:
    found = claim.conditions.get(condition)
    return found.since if found is not None and found.true else None


def _rank(ordered: list[float], percent: int) -> float:
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _missed(shortage: Shortage, served: ServedPool) -> frozenset[str]:
    """The ways of buying for the pool that failed there; none if it was not about the pool's machines."""
    ways = _BOUGHT_AS[served.pool.capacity]
    if shortage.claim is not None:
        bought = tuple(one for one in shortage.claim.requirements if one.key == CAPACITY_TYPE)
        asked = frozenset(way for way in ways if overlap((Expression(CAPACITY_TYPE, "In", (way,)),), bought))
        asked = asked if served.uses_claim(shortage.claim) else frozenset()
    else:
        names = {kind.name for kind in served.pool.instance_types}
        asked = ways if names and names <= set(shortage.instance_types) else frozenset()
    told = frozenset(shortage.capacity_types)
    # Every claim may take what is reserved first, also where nothing is: that says little about the rest.
    return asked if told <= {"reserved"} else asked & told
