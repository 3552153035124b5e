"""From raw Kubernetes objects to views. Every parser takes any JSON: what has no name is None, the rest is absent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gpu_launcher.cluster import raw as read
from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.views import (
    ContainerView,
    EventView,
    Expression,
    NodeClaimView,
    NodePoolView,
    NodeView,
    PodView,
    VolumeView,
)

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ZONE = "topology.kubernetes.io/zone"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
NODE_POOL = "karpenter.sh/nodepool"

# A kubelet lists so many images at most, and so many names of each.
_IMAGES_LISTED = 50
_DISRUPTED = ("karpenter.sh/disrupted", "karpenter.sh/disruption", "ToBeDeletedByClusterAutoscaler")

Raw = Mapping[str, object]


def pod_view(raw: object) -> PodView | None:
    """Return a pod; None for what is no object with a name."""
    meta, spec, status = _parts(raw)
    name = read.text(meta.get("name"))
    if not name:
        return None
    return PodView(
        namespace=read.text(meta.get("namespace")),
        name=name,
        uid=read.text(meta.get("uid")),
        created_at=read.moment(meta.get("creationTimestamp")),
        deleting="deletionTimestamp" in meta,
        phase=read.text(status.get("phase")),
        reason=read.text(status.get("reason")),
        message=read.text(status.get("message")),
        node=read.text(spec.get("nodeName")),
        ip=read.text(status.get("podIP")),
        conditions=read.conditions(status.get("conditions")),
        containers=_containers(status.get("containerStatuses")),
        init_containers=_containers(status.get("initContainerStatuses")),
        images=tuple(read.text(item.get("image")) for item in read.items(spec.get("containers"))),
        requests=_requests(spec),
        node_selector=read.labels(spec.get("nodeSelector")),
        node_affinity=_affinity(spec),
        toleration_keys=frozenset(read.text(item.get("key")) for item in read.items(spec.get("tolerations"))),
        claims=_claims(name, spec),
        labels=read.labels(meta.get("labels")),
        annotations=read.labels(meta.get("annotations")),
    )


def node_view(raw: object) -> NodeView | None:
    """Return a node; None for what is no object with a name."""
    meta, spec, status = _parts(raw)
    name = read.text(meta.get("name"))
    if not name:
        return None
    labels = read.labels(meta.get("labels"))
    conditions = read.conditions(status.get("conditions"))
    taints = [item for item in read.items(spec.get("taints")) if item.get("effect") in ("NoSchedule", "NoExecute")]
    keys = frozenset(read.text(item.get("key")) for item in taints)
    images = tuple(read.texts(item.get("names")) for item in read.items(status.get("images")))
    allocatable = status.get("allocatable")
    return NodeView(
        name=name,
        uid=read.text(meta.get("uid")),
        created_at=read.moment(meta.get("creationTimestamp")),
        deleting="deletionTimestamp" in meta,
        ready="Ready" in conditions and conditions["Ready"].true,
        initialized=NODE_POOL not in labels or labels.get("karpenter.sh/initialized") == "true",
        disrupted=any(key in keys for key in _DISRUPTED),
        unschedulable=spec.get("unschedulable") is True,
        conditions=conditions,
        taint_keys=keys,
        labels=labels,
        allocatable=read.resources(allocatable),
        gpus_advertised=(read.amount(read.mapping(allocatable).get(read.GPU)) or 0) > 0,
        images=images,
        images_complete=len(images) < _IMAGES_LISTED,
        instance_type=labels.get(INSTANCE_TYPE, ""),
        zone=labels.get(ZONE, ""),
        capacity_type=labels.get(CAPACITY_TYPE, ""),
        node_pool=labels.get(NODE_POOL, ""),
    )


def node_claim_view(raw: object) -> NodeClaimView | None:
    """Return a NodeClaim; None for what is no object with a name."""
    meta, spec, status = _parts(raw)
    name = read.text(meta.get("name"))
    if not name:
        return None
    labels = read.labels(meta.get("labels"))
    return NodeClaimView(
        name=name,
        uid=read.text(meta.get("uid")),
        created_at=read.moment(meta.get("creationTimestamp")),
        deleting="deletionTimestamp" in meta,
        node_pool=labels.get(NODE_POOL, ""),
        requests=read.resources(read.mapping(spec.get("resources")).get("requests")),
        requirements=_with_labels(read.expressions(spec.get("requirements")), labels),
        conditions=read.conditions(status.get("conditions")),
        node=read.text(status.get("nodeName")),
        instance_type=labels.get(INSTANCE_TYPE, ""),
        zone=labels.get(ZONE, ""),
        capacity_type=labels.get(CAPACITY_TYPE, ""),
    )


def node_pool_view(raw: object) -> NodePoolView | None:
    """Return a NodePool; None for what is no object with a name."""
    meta, spec, status = _parts(raw)
    name = read.text(meta.get("name"))
    if not name:
        return None
    template = read.mapping(spec.get("template"))
    machine = read.mapping(template.get("spec"))
    taints = [item for item in read.items(machine.get("taints")) if item.get("effect") in ("NoSchedule", "NoExecute")]
    limits = _amounts(spec.get("limits"))
    used = _amounts(status.get("resources"))
    return NodePoolView(
        name=name,
        deleting="deletionTimestamp" in meta,
        conditions=read.conditions(status.get("conditions")),
        requirements=read.expressions(machine.get("requirements")),
        taint_keys=frozenset(read.text(item.get("key")) for item in taints),
        labels=read.labels(read.mapping(template.get("metadata")).get("labels")) | {NODE_POOL: name},
        limits=limits,
        used={name: used.get(name, 0.0) for name in limits},
        weight=read.whole(spec.get("weight")) or 0,
    )


def event_view(raw: object) -> EventView | None:
    """Return a core/v1 event; None for what is about nothing or has no reason."""
    event = read.mapping(raw)
    about = read.mapping(event.get("involvedObject"))
    name, reason = read.text(about.get("name")), read.text(event.get("reason"))
    if not name or not reason:
        return None
    series = read.mapping(event.get("series"))
    created = read.moment(read.mapping(event.get("metadata")).get("creationTimestamp"))
    first = read.moment(event.get("firstTimestamp")) or read.moment(event.get("eventTime")) or created
    last = read.moment(series.get("lastObservedTime")) or read.moment(event.get("lastTimestamp")) or first
    counted = read.whole(event.get("count")) or read.whole(series.get("count")) or 1
    return EventView(
        kind=read.text(about.get("kind")),
        name=name,
        uid=read.text(about.get("uid")),
        reason=reason,
        message=read.text(event.get("message")),
        at=last,
        first_at=first,
        count=max(1, counted),
        source=read.text(read.mapping(event.get("source")).get("component"))
        or read.text(event.get("reportingComponent")),
        warning=event.get("type") == "Warning",
    )


def volume_views(
    pvcs: Iterable[object], pvs: Iterable[object], attachments: Iterable[object]
) -> tuple[VolumeView, ...]:
    """Return the claims, each with its volume and the nodes that hold it attached; what has no name is left out."""
    volumes = {read.text(_parts(raw)[0].get("name")): raw for raw in pvs}
    attached: dict[str, list[str]] = {}
    for raw in attachments:
        _, spec, status = _parts(raw)
        volume = read.text(read.mapping(spec.get("source")).get("persistentVolumeName"))
        # A detachment that is under way still holds the volume.
        if status.get("attached") is True and volume:
            attached.setdefault(volume, []).append(read.text(spec.get("nodeName")))
    found = []
    for raw in pvcs:
        meta, spec, status = _parts(raw)
        if name := read.text(meta.get("name")):
            volume = read.text(spec.get("volumeName"))
            _, bound, _ = _parts(volumes.get(volume) if volume else None)
            found.append(
                VolumeView(
                    claim=name,
                    phase=read.text(status.get("phase")),
                    volume=volume,
                    zones=_zones(bound),
                    access_modes=read.texts(spec.get("accessModes")),
                    attached_to=tuple(attached.get(volume, ())) if volume else (),
                )
            )
    return tuple(found)


def _parts(raw: object) -> tuple[Raw, Raw, Raw]:
    whole = read.mapping(raw)
    return read.mapping(whole.get("metadata")), read.mapping(whole.get("spec")), read.mapping(whole.get("status"))


def _containers(value: object) -> tuple[ContainerView, ...]:
    return tuple(_container(item) for item in read.items(value))


def _container(item: Raw) -> ContainerView:
    states = read.mapping(item.get("state"))
    state = next((word for word in ("running", "terminated", "waiting") if isinstance(states.get(word), Mapping)), "")
    now = read.mapping(states.get(state))
    last = read.mapping(read.mapping(item.get("lastState")).get("terminated"))
    return ContainerView(
        name=read.text(item.get("name")),
        state=state,
        reason=read.text(now.get("reason")),
        message=read.text(now.get("message")),
        ready=item.get("ready") is True,
        restarts=max(0, read.whole(item.get("restartCount")) or 0),
        exit_code=read.whole(now.get("exitCode")),
        started_at=read.moment(now.get("startedAt")),
        last_reason=read.text(last.get("reason")),
        last_exit_code=read.whole(last.get("exitCode")),
    )


def _requests(spec: Raw) -> Resources:
    """What the scheduler counts: all containers together, or one init container if that needs more."""

    def asked(item: Raw) -> Resources:
        given = read.mapping(item.get("resources"))
        # The API server fills requests from limits; a pod that is not from there may have limits only.
        return read.resources({**read.mapping(given.get("limits")), **read.mapping(given.get("requests"))})

    total = sum((asked(item) for item in read.items(spec.get("containers"))), Resources())
    for item in read.items(spec.get("initContainers")):
        total = Resources(*(max(pair) for pair in zip(total, asked(item), strict=True)))
    return total


def _affinity(spec: Raw) -> tuple[tuple[Expression, ...], ...]:
    node = read.mapping(read.mapping(spec.get("affinity")).get("nodeAffinity"))
    required = read.mapping(node.get("requiredDuringSchedulingIgnoredDuringExecution"))
    return tuple(
        read.expressions(term.get("matchExpressions")) for term in read.items(required.get("nodeSelectorTerms"))
    )


def _claims(pod: str, spec: Raw) -> tuple[str, ...]:
    names = []
    for volume in read.items(spec.get("volumes")):
        if isinstance(volume.get("ephemeral"), Mapping):
            names.append(f"{pod}-{read.text(volume.get('name'))}")
        else:
            names.append(read.text(read.mapping(volume.get("persistentVolumeClaim")).get("claimName")))
    return tuple(dict.fromkeys(name for name in names if name))


def _with_labels(found: tuple[Expression, ...], labels: Mapping[str, str]) -> tuple[Expression, ...]:
    """Requirements together with the labels that the claim has for certain, such as its NodePool's own."""
    named = {expression.key for expression in found}
    return found + tuple(Expression(key, "In", (value,)) for key, value in sorted(labels.items()) if key not in named)


def _amounts(value: object) -> dict[str, float]:
    return {name: found for name, raw in read.mapping(value).items() if (found := read.amount(raw)) is not None}


def _zones(volume: Raw) -> tuple[str, ...]:
    required = read.mapping(read.mapping(volume.get("nodeAffinity")).get("required"))
    zones: list[str] = []
    for term in read.items(required.get("nodeSelectorTerms")):
        for expression in read.expressions(term.get("matchExpressions")):
            # Drivers use their own key beside, or in place of, the well-known one.
            if expression.operator == "In" and (expression.key == ZONE or expression.key.endswith("/zone")):
                zones.extend(expression.values)
    return tuple(dict.fromkeys(zones))
