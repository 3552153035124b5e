"""The table of instance types that comes with the package, as domain values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from gpu_launcher.domain.instance_type import Gpu, InstanceType
from gpu_launcher.domain.quantity import MIB
from gpu_launcher.domain.resources import Resources

# How AWS's own provider for Karpenter reads a type's name: letters are the category, the first digits the generation.
FAMILY = re.compile(r"(?P<category>[a-z]+)(?P<generation>[0-9]+)")


@cache
def load_catalogue() -> tuple[InstanceType, ...]:
    """Return every instance type of the package's table, in the table's order.

    Allocatable is what Karpenter estimates before DaemonSets, without ephemeral storage (that comes from the node
    class's disk). Prices are US dollars per hour on demand in one region; None where the source has none.
    """
    table = json.loads(files(__package__).joinpath("aws_instance_types.json").read_text())
    columns = table["columns"]
    return tuple(_instance_type(dict(zip(columns, row, strict=True))) for row in table["types"])


def _instance_type(row: Mapping[str, Any]) -> InstanceType:
    family, size = row["name"].split(".")
    parts = FAMILY.match(family)
    if parts is None:
        raise ValueError(f"aws_instance_types.json: {row['name']} does not begin with letters and a generation")
    return InstanceType(
        name=row["name"],
        arch=row["arch"],
        # A sliced GPU (g6f) has a name and a memory but counts 0 whole devices: it stays visible, and serves nobody.
        gpu=Gpu(name=row["gpu"], count=row["gpus"], memory_mib=row["gpu_mib"]) if row["gpu"] else None,
        vcpu=row["vcpu"],
        memory_mib=row["memory_mib"],
        allocatable=Resources(cpu_m=row["cpu_m"], memory=row["mib"] * MIB, gpus=row["gpus"]),
        pods=row["pods"],
        local_nvme_gb=row["nvme_gb"],
        network_mbps=row["mbps"],
        family=family,
        size=size,
        category=parts["category"],
        generation=parts["generation"],
        usd_per_hour=row["usd"],
    )
