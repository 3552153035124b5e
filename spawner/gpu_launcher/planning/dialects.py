"""Node labels by cloud: what a profile's wishes are called on each kind of cluster.

A label that a cluster does not have makes a pod unschedulable for ever, so a wish that a dialect cannot express is
reported (``None``) and never turned into a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpu_launcher.domain.instance_type import InstanceType
from gpu_launcher.domain.policy import Dialect
from gpu_launcher.domain.profile import Capacity

ARCH = "kubernetes.io/arch"
OS = "kubernetes.io/os"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
HOSTNAME = "kubernetes.io/hostname"
CAPACITY_TYPE = "karpenter.sh/capacity-type"

Expression = Mapping[str, object]
"""One match expression of a node affinity: key, operator and, but for Exists and DoesNotExist, values."""


@dataclass(frozen=True, slots=True)
class NodeLabels:
    """The label keys of one dialect; None where it has no such label.

    ``gpu_values`` maps our GPU names to the label's values, each with the memory in MiB that it stands for (None where
    one value covers several); a None table means that the label holds our names. ``catalogue`` says whether we have a
    table of the cloud's machines.
    """

    gpu_name: str
    gpu_count: str | None
    gpu_memory: str | None
    gpu_values: Mapping[str, tuple[tuple[str, int | None], ...]] | None = None
    prefix: str | None = None
    catalogue: bool = False


_GKE_VALUES = {
    "t4": (("nvidia-tesla-t4", 16384),),
    "v100": (("nvidia-tesla-v100", 16384),),
    "l4": (("nvidia-l4", 22888),),
    "a100": (("nvidia-tesla-a100", 40960), ("nvidia-a100-80gb", 81920)),
    "h100": (("nvidia-h100-80gb", 81920), ("nvidia-h100-mega-80gb", 81920)),
    "h200": (("nvidia-h200-141gb", 144384),),
    "b200": (("nvidia-b200", 183359),),
}
# Azure's A100 machines carry 40 or 80 GB under one name.
_AKS_VALUES = {
    "t4": (("T4", 16384),),
    "v100": (("V100", 16384),),
    "a10": (("A10", 22888),),
    "a100": (("A100", None),),
    "h100": (("H100", 81920),),
}
_GFD_VALUES = {
    "t4": (("Tesla-T4", 16384),),
    "v100": (("Tesla-V100-SXM2-16GB", 16384), ("Tesla-V100-SXM2-32GB", 32768), ("Tesla-V100-SXM3-32GB", 32768)),
    "a10": (("NVIDIA-A10", 22888),),
    "a10g": (("NVIDIA-A10G", 22888),),
    "l4": (("NVIDIA-L4", 22888),),
    "l40s": (("NVIDIA-L40S", 45776),),
    "a100": (
        ("NVIDIA-A100-SXM4-40GB", 40960),
        ("NVIDIA-A100-PCIE-40GB", 40960),
        ("NVIDIA-A100-SXM4-80GB", 81920),
        ("NVIDIA-A100-80GB-PCIe", 81920),
    ),
    "h100": (("NVIDIA-H100-80GB-HBM3", 81920), ("NVIDIA-H100-PCIe", 81920)),
    "h200": (("NVIDIA-H200", 144384),),
    "b200": (("NVIDIA-B200", 183359),),
}


def _karpenter_labels(prefix: str) -> NodeLabels:
    return NodeLabels(
        gpu_name=f"{prefix}instance-gpu-name",
        gpu_count=f"{prefix}instance-gpu-count",
        gpu_memory=f"{prefix}instance-gpu-memory",
        prefix=prefix,
        catalogue=True,
    )


LABELS: Mapping[Dialect, NodeLabels] = {
    Dialect.AWS: _karpenter_labels("karpenter.k8s.aws/"),
    Dialect.EKS_AUTO: _karpenter_labels("eks.amazonaws.com/"),
    Dialect.GKE: NodeLabels(
        "cloud.google.com/gke-accelerator", "cloud.google.com/gke-accelerator-count", None, _GKE_VALUES
    ),
    Dialect.AKS: NodeLabels("karpenter.azure.com/sku-gpu-name", "karpenter.azure.com/sku-gpu-count", None, _AKS_VALUES),
    # GFD reports the driver's own figure (15360 for a 16 GB T4), so memory goes through the names here too.
    Dialect.GFD: NodeLabels("nvidia.com/gpu.product", "nvidia.com/gpu.count", "nvidia.com/gpu.memory", _GFD_VALUES),
}


def gpu_terms(dialect: Dialect, name: str | None, memory_mib: int | None) -> tuple[Expression, ...] | None:
    """Return expressions for a GPU of that name and at least that memory; None if the dialect cannot say it.

    Both None is any GPU: the label must exist.
    """
    labels = LABELS[dialect]
    if labels.gpu_values is not None:
        return _named_terms(labels, name, memory_mib)
    terms: list[Expression] = [in_values(labels.gpu_name, name)] if name else []
    if memory_mib is not None:
        # Node affinity knows Gt but not Gte.
        terms.append({"key": labels.gpu_memory, "operator": "Gt", "values": [str(memory_mib - 1)]})
    return tuple(terms) or (exists(labels.gpu_name),)


def _named_terms(labels: NodeLabels, name: str | None, memory_mib: int | None) -> tuple[Expression, ...] | None:
    values = labels.gpu_values or {}
    if name is None and memory_mib is None:
        return (exists(labels.gpu_name),)
    known = [pair for key, pairs in values.items() if name in (None, key) for pair in pairs]
    if memory_mib is not None:
        known = [(value, mib) for value, mib in known if mib is not None and mib >= memory_mib]
    return (in_values(labels.gpu_name, *(value for value, _ in known)),) if known else None


def count_terms(dialect: Dialect, host_gpus: tuple[int, ...]) -> tuple[Expression, ...] | None:
    """Return expressions for a host with one of these GPU counts; None if the dialect has no such label."""
    key = LABELS[dialect].gpu_count
    return None if key is None else (in_values(key, *map(str, host_gpus)),)


def no_gpu_terms(dialect: Dialect) -> tuple[Expression, ...]:
    """Return expressions that keep a pod off nodes with GPUs."""
    labels = LABELS[dialect]
    return ({"key": labels.gpu_count or labels.gpu_name, "operator": "DoesNotExist"},)


def capacity_terms(dialect: Dialect, capacity: Capacity) -> tuple[Expression, ...] | None:
    """Return expressions for a way of buying; None if the dialect cannot say it.

    Spot-first is one expression, so that Karpenter itself takes what is reserved, then spot, then on-demand.
    """
    if dialect is Dialect.GKE:
        spot = {"key": "cloud.google.com/gke-spot", "values": ["true"]}
        operator = {Capacity.ON_DEMAND: "NotIn", Capacity.SPOT: "In"}.get(capacity)
        return None if operator is None else ({**spot, "operator": operator},)
    if capacity is Capacity.ON_DEMAND:
        # Not "In [on-demand]": that would leave capacity which is already paid for, the reserved, standing.
        return ({"key": CAPACITY_TYPE, "operator": "NotIn", "values": ["spot"]},)
    values = {
        Capacity.SPOT_FIRST: ("spot", "on-demand", "reserved"),
        Capacity.SPOT: ("spot",),
        Capacity.RESERVED: ("reserved",),
    }
    return (in_values(CAPACITY_TYPE, *values[capacity]),)


def in_values(key: str, *values: str) -> Expression:
    """Return the expression that the label has one of these values."""
    return {"key": key, "operator": "In", "values": list(values)}


def exists(key: str) -> Expression:
    """Return the expression that the label is there, whatever its value."""
    return {"key": key, "operator": "Exists"}


def labels_of(kind: InstanceType, dialect: Dialect) -> dict[str, str]:
    """Return the labels that a node of this type will have, as far as the catalogue knows them."""
    known = {ARCH: kind.arch, OS: "linux", INSTANCE_TYPE: kind.name}
    prefix = LABELS[dialect].prefix
    if prefix is None:
        return known
    facts: dict[str, object] = {
        "instance-category": kind.category,
        "instance-family": kind.family,
        "instance-generation": kind.generation,
        "instance-size": kind.size,
        "instance-cpu": kind.vcpu,
        "instance-memory": kind.memory_mib,
        "instance-network-bandwidth": kind.network_mbps,
    }
    if kind.local_nvme_gb:
        facts["instance-local-nvme"] = kind.local_nvme_gb
    if kind.gpu:
        facts |= {
            "instance-gpu-name": kind.gpu.name,
            "instance-gpu-manufacturer": "nvidia",
            "instance-gpu-count": kind.gpu.count,
            "instance-gpu-memory": kind.gpu.memory_mib,
        }
    return known | {prefix + key: str(value) for key, value in facts.items()}


# The instance labels of Karpenter's AWS provider (and of EKS Auto Mode), also those that the catalogue does not hold.
_INSTANCE_LABELS = frozenset(
    {
        "instance-accelerator-count",
        "instance-accelerator-manufacturer",
        "instance-accelerator-name",
        "instance-capability-flex",
        "instance-category",
        "instance-cpu",
        "instance-cpu-manufacturer",
        "instance-cpu-sustained-clock-speed-mhz",
        "instance-ebs-bandwidth",
        "instance-encryption-in-transit-supported",
        "instance-family",
        "instance-generation",
        "instance-gpu-count",
        "instance-gpu-manufacturer",
        "instance-gpu-memory",
        "instance-gpu-name",
        "instance-hypervisor",
        "instance-local-nvme",
        "instance-memory",
        "instance-network-bandwidth",
        "instance-size",
        "instance-tenancy",
    }
)


def checkable(key: str, kinds: Iterable[InstanceType], dialect: Dialect) -> bool:
    """Return whether the catalogue knows this label's value for at least one of the types."""
    return any(key in labels_of(kind, dialect) for kind in kinds)


def misspelt(key: str, dialect: Dialect) -> bool:
    """Return whether the key claims to be the provider's instance label, but the provider has none of that name."""
    prefix = LABELS[dialect].prefix
    if prefix is None or not key.startswith(f"{prefix}instance-"):
        return False
    return key.removeprefix(prefix) not in _INSTANCE_LABELS


def known_labels(kinds: Iterable[InstanceType], dialect: Dialect) -> list[str]:
    """Return the label keys that nodes of these types are known to have, sorted."""
    prefix = LABELS[dialect].prefix
    provider = {f"{prefix}{word}" for word in _INSTANCE_LABELS} if prefix else set()
    return sorted(provider.union(*(labels_of(kind, dialect) for kind in kinds)))
