"""What the lab's cloud sells: the catalogue with zones, disks and prices, as the lab's Karpenter reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_launcher.domain.instance_type import InstanceType
from gpu_launcher.domain.profile import Capacity
from gpu_launcher.domain.quantity import GIB, MIB, format_bytes, format_cpu
from gpu_launcher.lab.paths import LabError, write_json
from gpu_launcher.lab.settings import LabSettings
from gpu_launcher.planning.sizing import disk_room
from gpu_launcher.settings.catalogue import load_catalogue

AWS = "karpenter.k8s.aws"
_ZONE = re.compile(r"(?P<region>(?P<continent>[a-z]+)-(?P<side>[a-z]+)-(?P<number>[0-9]+))(?P<letter>[a-z])")
_SIDES = {"northeast": "ne", "northwest": "nw", "southeast": "se", "southwest": "sw"}
# Karpenter's VM_MEMORY_OVERHEAD_PERCENT, in thousandths: what the hypervisor keeps of the memory on the price list.
_VM_OVERHEAD = 75


@dataclass(frozen=True, slots=True)
class Reservation:
    """A capacity reservation: *count* machines of one type in one zone, already paid for."""

    id: str
    instance_type: str
    zone: str
    count: int


def instance_types(
    catalogue: Iterable[InstanceType],
    settings: LabSettings,
    *,
    reservations: Sequence[Reservation] = (),
    prices: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Return the JSON document for INSTANCE_TYPES_FILE_PATH: each type with labels, resources and offerings.

    *prices* (US dollars per hour, by type) replace the catalogue's. A type without any price is known to Karpenter and
    cannot be bought, as with AWS's provider. Raises LabError for a reservation of a type or zone that is not there.
    """
    known = list(catalogue)
    _check_reservations(reservations, {kind.name for kind in known}, settings.zones)
    priced = prices or {}
    return [
        {
            "name": kind.name,
            "labels": labels(kind, settings.zones),
            "capacity": _capacity(kind, settings.disk_gib),
            "allocatable": _allocatable(kind, settings.disk_gib),
            "offerings": list(_offerings(kind, settings, priced.get(kind.name, kind.usd_per_hour), reservations)),
        }
        for kind in known
    ]


def write_instance_types(path: Path, settings: LabSettings, **options: Any) -> None:
    """Write the package's whole catalogue to *path*; *options* are those of ``instance_types``."""
    write_json(path, instance_types(load_catalogue(), settings, **options))


def labels(kind: InstanceType, zones: Sequence[str]) -> dict[str, str]:
    """Return the labels that AWS's provider gives to nodes of this type, wherever and however bought."""
    result = {
        "kubernetes.io/arch": kind.arch,
        "topology.kubernetes.io/region": region_of(zones[0]),
        f"{AWS}/instance-category": kind.category,
        f"{AWS}/instance-family": kind.family,
        f"{AWS}/instance-generation": kind.generation,
        f"{AWS}/instance-size": kind.size,
        f"{AWS}/instance-cpu": str(kind.vcpu),
        f"{AWS}/instance-memory": str(kind.memory_mib),
        f"{AWS}/instance-network-bandwidth": str(kind.network_mbps),
    }
    if kind.local_nvme_gb:
        result[f"{AWS}/instance-local-nvme"] = str(kind.local_nvme_gb)
    if kind.gpu:
        result |= {
            f"{AWS}/instance-gpu-name": kind.gpu.name,
            f"{AWS}/instance-gpu-manufacturer": "nvidia",
            f"{AWS}/instance-gpu-count": str(kind.gpu.count),
            f"{AWS}/instance-gpu-memory": str(kind.gpu.memory_mib),
        }
    return result


def region_of(zone: str) -> str:
    """Return the region of an AWS zone, ``us-east-1`` of ``us-east-1a``; raises LabError for another form."""
    return _zone_parts(zone)["region"]


def zone_id(zone: str) -> str:
    """Return a zone's id in the form that AWS uses, ``use1-az1`` for ``us-east-1a``; raises LabError."""
    parts = _zone_parts(zone)
    side = _SIDES.get(parts["side"], parts["side"][0])
    return f"{parts['continent']}{side}{parts['number']}-az{ord(parts['letter']) - ord('a') + 1}"


def _zone_parts(zone: str) -> Mapping[str, str]:
    match = _ZONE.fullmatch(zone)
    if match is None:
        raise LabError(f"zone {zone!r}: write an AWS zone such as us-east-1a")
    return match.groupdict()


def _capacity(kind: InstanceType, disk_gib: int) -> dict[str, str]:
    # A kubelet reports what the machine has, which is more than what pods may use.
    memory_mib = kind.memory_mib - -(-kind.memory_mib * _VM_OVERHEAD // 1000)
    memory = max(memory_mib * MIB, kind.allocatable.memory)
    return _resources(kind, cpu_m=kind.vcpu * 1000, memory=memory, disk=disk_gib * GIB)


def _allocatable(kind: InstanceType, disk_gib: int) -> dict[str, str]:
    exact = kind.allocatable
    return _resources(kind, cpu_m=exact.cpu_m, memory=exact.memory, disk=disk_room(disk_gib * GIB))


def _resources(kind: InstanceType, *, cpu_m: int, memory: int, disk: int) -> dict[str, str]:
    result = {
        "cpu": format_cpu(cpu_m),
        "memory": format_bytes(memory),
        "ephemeral-storage": format_bytes(disk),
        "pods": str(kind.pods),
    }
    return result | ({"nvidia.com/gpu": str(kind.gpus)} if kind.gpus else {})


def _offerings(
    kind: InstanceType, settings: LabSettings, usd: float | None, reservations: Sequence[Reservation]
) -> Iterator[dict[str, Any]]:
    for zone in settings.zones:
        place = {"zone": zone, "zone_id": zone_id(zone)}
        spot = None if usd is None else round(usd * settings.spot_ratio, 6)
        yield place | {"capacity_type": Capacity.ON_DEMAND.value, "price": usd}
        yield place | {"capacity_type": Capacity.SPOT.value, "price": spot}
        for reservation in reservations:
            if (reservation.instance_type, reservation.zone) == (kind.name, zone):
                yield place | {
                    "capacity_type": Capacity.RESERVED.value,
                    # Already paid for, so it can be used even where no price is known.
                    "price": usd or 0.0,
                    "reservation": reservation.id,
                    "count": reservation.count,
                }


def _check_reservations(reservations: Iterable[Reservation], types: set[str], zones: Sequence[str]) -> None:
    for reservation in reservations:
        if reservation.instance_type not in types:
            raise LabError(f"reservation {reservation.id}: no instance type {reservation.instance_type!r}")
        if reservation.zone not in zones:
            raise LabError(f"reservation {reservation.id}: no zone {reservation.zone!r}; zones: {', '.join(zones)}")
