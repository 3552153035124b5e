"""Slot pools together with what their pods ask of a machine: who can use which machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpu_launcher.domain.image_reference import normalised
from gpu_launcher.domain.policy import ClusterPolicy
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.profile import Capacity, Profile
from gpu_launcher.domain.views import Expression, NodeClaimView, NodePoolView, NodeView
from gpu_launcher.planning.dialects import CAPACITY_TYPE, INSTANCE_TYPE
from gpu_launcher.planning.placement import where
from gpu_launcher.planning.requirements import fulfilled, overlap

# What zero-to-jupyterhub lets every user pod tolerate; GPU taints are the settings' to name.
USER_TOLERATIONS = frozenset({"hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated"})


@dataclass(frozen=True, slots=True)
class ServedPool:
    """A slot pool, what its pods ask of a node's labels, which taints they tolerate, and its profiles' images."""

    pool: SlotPool
    terms: tuple[Expression, ...]
    toleration_keys: frozenset[str]
    images: tuple[str, ...] = ()
    """Normalised references, each once, in the order of the profiles."""

    def uses_node(self, node: NodeView) -> bool:
        """Whether its pods may run on the node, whatever the room there is."""
        return node.taint_keys <= self.toleration_keys and fulfilled(self.terms, node.labels)

    def uses_claim(self, claim: NodeClaimView) -> bool:
        """Whether its pods may run on the machine that is asked for, as far as it is decided."""
        names = {kind.name for kind in self.pool.instance_types}
        if not self.pool.slot.gpus:
            suits = not claim.requests.gpus
        elif names and claim.instance_type:
            suits = claim.instance_type in names
        else:
            suits = claim.requests.gpus > 0
        return suits and overlap(self.terms, (*claim.requirements, *_decided(claim)))

    def uses_node_pool(self, node_pool: NodePoolView) -> bool:
        """Whether the NodePool may buy machines for its pods."""
        labels = (Expression(key, "In", (value,)) for key, value in node_pool.labels.items())
        tolerated = node_pool.taint_keys <= self.toleration_keys
        return tolerated and overlap(self.terms, (*node_pool.requirements, *labels))


def served_pools(
    profiles: Iterable[Profile], pools: Mapping[str, object], policy: ClusterPolicy
) -> dict[str, ServedPool]:
    """Return every pool that a session of these profiles can be in, by pool id; *pools* is by profile id.

    Profiles that no machine can serve are left out. Profiles of one pool ask for the same machines.
    """
    found: dict[str, ServedPool] = {}
    for profile in profiles:
        pool = pools.get(profile.id)
        if not isinstance(pool, SlotPool):
            continue
        for capacity in _capacities(profile):
            bought = pool.with_capacity(capacity)
            earlier = found.get(bought.id)
            images = (*(earlier.images if earlier else ()), *(normalised(image.reference) for image in profile.images))
            found[bought.id] = ServedPool(
                pool=bought,
                terms=earlier.terms if earlier else _terms(profile, bought, policy),
                toleration_keys=USER_TOLERATIONS | (frozenset(policy.toleration_keys) if profile.gpu else frozenset()),
                images=tuple(dict.fromkeys(images)),
            )
    return found


def _capacities(profile: Profile) -> tuple[Capacity, ...]:
    """Every way of buying that a session of the profile can end up with."""
    ticked = Capacity.SPOT_FIRST if profile.spot_choice and profile.capacity is Capacity.ON_DEMAND else None
    ways = (profile.capacity, ticked, profile.fallback.capacity)
    return tuple(dict.fromkeys(way for way in ways if way is not None))


def _terms(profile: Profile, pool: SlotPool, policy: ClusterPolicy) -> tuple[Expression, ...]:
    selector, affinity = where(profile, pool, policy, pool.capacity)
    exact = [Expression(key, "In", (value,)) for key, value in selector.items()]
    return (*exact, *(_expression(term) for term in affinity))


def _expression(term: Mapping[str, object]) -> Expression:
    values = term.get("values")
    return Expression(
        str(term["key"]), str(term["operator"]), tuple(map(str, values)) if isinstance(values, list) else ()
    )


def _decided(claim: NodeClaimView) -> tuple[Expression, ...]:
    known = {INSTANCE_TYPE: claim.instance_type, CAPACITY_TYPE: claim.capacity_type}
    return tuple(Expression(key, "In", (value,)) for key, value in known.items() if value)
