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

    def seen(self, claims: Iterable[NodeClaimView], pools: Mapping[str, ServedPool]) -> PoolHistory:
        """Return the history with what these claims add to it; seeing a claim again adds nothing."""
        leads = {key: {lead.claim: lead for lead in known} for key, known in self.leads.items()}
        launched = dict(self.launched)
        for claim in claims:
            users = [key for key, served in pools.items() if served.uses_claim(claim)]
            since = _since(claim, "Launched")
            for key in users:
                if since is not None:
                    launched[key] = max(since, launched.get(key, since))
                lead = _lead(claim)
                if lead is not None:
                    leads.setdefault(key, {})[lead.claim] = lead
        newest = {
            key: tuple(sorted(known.values(), key=lambda lead: (lead.at, lead.claim))[-_LEADS_KEPT:])
            for key, known in leads.items()
        }
        return replace(self, leads=newest, launched=launched)

    def lead(self, pool_id: str) -> LeadTime | None:
        """Return the pool's lead time; None before its first machine."""
        seconds = sorted(lead.seconds for lead in self.leads.get(pool_id, ()))
        if not seconds:
            return None
        return LeadTime(_rank(seconds, 50), _rank(seconds, 90), len(seconds))

    def shortage(self, served: ServedPool, now: float) -> tuple[ShortageKind, float] | None:
        """Return why nothing came for the pool at the last attempts and since when; None after a launch or silence."""
        launched = self.launched.get(served.pool.id, float("-inf"))
        missed = sorted((one.at, one.kind) for one in self.shortages if one.at > launched and _concerns(one, served))
        if not missed or now - missed[-1][0] > _SHORTAGE_LASTS_S:
            return None
        began, kind = missed[-1]
        for at, earlier in reversed(missed):
            if earlier is not kind or began - at > _SHORTAGE_LASTS_S:
                break
            began = at
        return kind, began


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


def _concerns(shortage: Shortage, served: ServedPool) -> bool:
    """Whether the pool got nothing either: for spot-first, no spot alone is no shortage."""
    if shortage.capacity_types and not _BOUGHT_AS[served.pool.capacity] <= set(shortage.capacity_types):
        return False
    if shortage.claim is not None:
        return served.uses_claim(shortage.claim) and _asked_for(shortage.claim.requirements, served)
    names = {kind.name for kind in served.pool.instance_types}
    return bool(names) and names <= set(shortage.instance_types)


def _asked_for(requirements: Iterable[Expression], served: ServedPool) -> bool:
    """Whether the claim would have taken every way in which the pool buys."""
    bought = tuple(one for one in requirements if one.key == CAPACITY_TYPE)
    return all(
        overlap((Expression(CAPACITY_TYPE, "In", (word,)),), bought) for word in _BOUGHT_AS[served.pool.capacity]
    )
