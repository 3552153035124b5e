"""From an admitted request to the pod's fields: where it may run, what it gets, what it says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gpu_launcher.domain.identity import SessionIdentity
from gpu_launcher.domain.plan import PodPlan
from gpu_launcher.domain.policy import ClusterPolicy
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.profile import Capacity, GpuRequest, Profile
from gpu_launcher.domain.quantity import format_bytes, format_cpu
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.domain.resources import Resources
from gpu_launcher.planning.dialects import (
    ARCH,
    HOSTNAME,
    INSTANCE_TYPE,
    Expression,
    capacity_terms,
    count_terms,
    gpu_terms,
    in_values,
    no_gpu_terms,
)
from gpu_launcher.planning.matching import DEFAULT_ARCH
from gpu_launcher.planning.protection import DO_NOT_DISRUPT, protection_of
from gpu_launcher.planning.sizing import shm_of

INSTANCE_LABEL = "gpu-launcher/instance"
PROFILE_LABEL = "gpu-launcher/profile"
POOL_LABEL = "gpu-launcher/pool"
USER_LABEL = "gpu-launcher/user"
SERVER_LABEL = "gpu-launcher/server"
CAPACITY_LABEL = "gpu-launcher/capacity"
CONFIG_HASH = "gpu-launcher/config-hash"
PLAN = "gpu-launcher/plan"
GROUPS = "gpu-launcher/groups"
GPUS = "gpu-launcher/gpus"

# An annotation that repeats the decision, not the catalogue: the cheapest types decide.
_TYPES_IN_PLAN = 20
# All annotations of a pod may hold 256 KiB together.
_GROUPS_BYTES = 32_768


def capacity_of(profile: Profile, request: StartRequest) -> Capacity:
    """Return how this session's machine is bought: a ticked spot, where offered, turns on-demand into spot-first.

    Spot-first and not spot: whoever ticks a box to save money still wants to work today.
    """
    if request.spot and profile.spot_choice and profile.capacity is Capacity.ON_DEMAND:
        return Capacity.SPOT_FIRST
    return profile.capacity


def place(
    profile: Profile,
    request: StartRequest,
    pool: SlotPool,
    policy: ClusterPolicy,
    identity: SessionIdentity,
    versions: Mapping[str, str] | None = None,
) -> PodPlan:
    """Return the pod of an admitted request, whole: equal inputs give an equal plan.

    *versions* are of the software that decided, for the plan's annotation. Raises ValueError for a request that does
    not belong to the pool, which is a defect in the caller.
    """
    capacity = capacity_of(profile, request)
    pool = pool.with_capacity(capacity)
    copies = _copies(profile, request, pool)
    resources = pool.slot.times(copies)
    selector, affinity = where(profile, pool, policy, capacity)
    return PodPlan(
        profile_id=profile.id,
        pool_id=pool.id,
        image=_image(profile, request),
        resources=resources,
        shm=shm_of(profile.size, resources.memory, copies),
        node_selector=selector,
        tolerations=_tolerations(profile, policy),
        node_affinity=affinity,
        pod_affinity_preferred=_packing(pool),
        labels={
            INSTANCE_LABEL: identity.instance,
            PROFILE_LABEL: profile.id,
            POOL_LABEL: pool.id,
            USER_LABEL: identity.user_hash,
            SERVER_LABEL: identity.server_hash,
            CAPACITY_LABEL: str(capacity),
        },
        annotations={
            CONFIG_HASH: identity.config_hash,
            GPUS: str(resources.gpus),
            GROUPS: _groups(identity.groups),
            DO_NOT_DISRUPT: protection_of(profile.limits),
            PLAN: _record(profile, request, pool, policy, versions or {}),
        },
        runtime_class=profile.runtime_class,
        priority_class=policy.priority_class,
        start_timeout_s=profile.start_timeout_s,
    )


def _copies(profile: Profile, request: StartRequest, pool: SlotPool) -> int:
    if profile.gpu is None:
        copies, rest = (1, request.gpus)
    else:
        copies, rest = divmod(request.gpus, pool.slot.gpus)
    most = profile.gpu.max_count // profile.gpu.count if profile.gpu else 1
    if rest or not 1 <= copies <= most:
        raise ValueError(f"{request.gpus} GPUs are not 1 to {most} slots of the pool {pool.id}")
    return copies


def _image(profile: Profile, request: StartRequest) -> str | None:
    if request.image_reference is not None:
        return request.image_reference
    image = profile.image(request.image_id)
    if image is None and request.image_id is not None:
        raise ValueError(f"profile {profile.id} has no image {request.image_id!r}")
    return image.reference if image else None


def where(
    profile: Profile, pool: SlotPool, policy: ClusterPolicy, capacity: Capacity
) -> tuple[dict[str, str], tuple[Expression, ...]]:
    """Return the node selector and the match expressions; whatever is one exact value goes into the selector."""
    terms = list(capacity_terms(policy.dialect, capacity) or ())
    if profile.gpu is None:
        terms += no_gpu_terms(policy.dialect)
    else:
        terms += _gpu_wishes(profile.gpu, pool, policy)
    if profile.instance_types:
        # Types that are too small for the slot are left out here as well.
        names = [kind.name for kind in pool.instance_types] or list(profile.instance_types)
        terms.append(in_values(INSTANCE_TYPE, *sorted(names)))
    selector = {ARCH: DEFAULT_ARCH} | {key: value for term in terms for key, value in [_exact(term)] if key}
    return selector | dict(profile.node_selector), tuple(term for term in terms if not _exact(term)[0])


def _gpu_wishes(gpu: GpuRequest, pool: SlotPool, policy: ClusterPolicy) -> list[Expression]:
    terms = list(gpu_terms(policy.dialect, gpu.name, gpu.memory_mib_at_least) or ())
    # The packing trap: with the count left open, two pending 1-GPU pods become one dear 4-GPU host.
    terms += count_terms(policy.dialect, pool.host_gpus) or ()
    return terms


def _exact(term: Expression) -> tuple[str, str]:
    """The selector entry that says the same as the term; two empty texts if there is none."""
    key, values = term["key"], term.get("values")
    # The capacity stays an affinity, also with one value: one place to read how a machine is bought.
    if term["operator"] == "In" and isinstance(values, list) and len(values) == 1 and not _buys(str(key)):
        return str(key), str(values[0])
    return "", ""


def _buys(key: str) -> bool:
    return key.endswith(("/capacity-type", "/gke-spot"))


def _tolerations(profile: Profile, policy: ClusterPolicy) -> tuple[Mapping[str, str], ...]:
    if profile.gpu is None:
        return ()
    return tuple({"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in policy.toleration_keys)


def _packing(pool: SlotPool) -> tuple[Mapping[str, object], ...]:
    """The preference for the fullest shared host: notebooks cannot be moved, so hosts only empty if packed now."""
    if not pool.shared:
        return ()
    term = {"labelSelector": {"matchLabels": {POOL_LABEL: pool.id}}, "topologyKey": HOSTNAME}
    return ({"weight": 100, "podAffinityTerm": term},)


def _groups(groups: tuple[str, ...]) -> str:
    kept: list[str] = []
    for group in sorted(groups):
        if len(json.dumps([*kept, group])) > _GROUPS_BYTES:
            break
        kept.append(group)
    return json.dumps(kept)


def _record(
    profile: Profile, request: StartRequest, pool: SlotPool, policy: ClusterPolicy, versions: Mapping[str, str]
) -> str:
    """Everything that repeats the decision from the pod alone, as compact JSON."""
    kinds = pool.instance_types[:_TYPES_IN_PLAN]
    record = {
        "v": 1,
        "request": {
            "profile": profile.id,
            "image": request.image_id,
            "image_unlisted": request.image_reference,
            "gpus": request.gpus,
            "spot": request.spot,
            "fallback": request.fallback,
        },
        "pool": {"id": pool.id, "host_gpus": list(pool.host_gpus), "usd_per_hour": pool.usd_per_hour},
        "slot": _written(pool.slot),
        "types": {
            kind.name: {
                "slots": pool.slots_per_host[kind.name],
                "usd_per_hour": kind.usd_per_hour,
                "allocatable": _written(kind.allocatable),
            }
            for kind in kinds
        },
        "cluster": {
            "dialect": policy.dialect,
            "disk": format_bytes(policy.disk_bytes),
            "daemonsets": _written(policy.daemonsets),
            "reserve": policy.reserve,
            "images": pool.image_bytes,
        },
        "versions": dict(sorted(versions.items())),
    }
    return json.dumps(record, separators=(",", ":"), sort_keys=True)


def _written(resources: Resources) -> dict[str, object]:
    return {
        "cpu": format_cpu(resources.cpu_m),
        "memory": format_bytes(resources.memory),
        "ephemeral": format_bytes(resources.ephemeral),
        "gpus": resources.gpus,
    }
