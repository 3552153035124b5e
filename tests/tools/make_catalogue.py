"""Write the package's table of AWS instance types from the shared facts, or check that it still equals them.

    python tests/tools/make_catalogue.py [--check]

The facts lie in the project's shared folder: env GPU_LAUNCHER_SHARED, by default ``../shared`` beside the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "spawner" / "gpu_launcher" / "settings" / "aws_instance_types.json"
REGION = "us-east-1"
HEADER = {
    "about": "AWS instance types: what Karpenter counts as allocatable, the facts behind its labels, on-demand prices.",
    "source": "karpenter-provider-aws, reference of instance types and its price list (default settings)",
    "as_of": "2026-08",
    "licence": "The facts come from an Apache-2.0 work; this selection and form are the project's own (BSD-3-Clause).",
    "region": REGION,
    "units": "cpu_m millicores and mib MiB allocatable; gpu_mib MiB per GPU; nvme_gb GB; mbps Mbit/s; usd per hour",
}
COLUMNS = (
    "name",
    "arch",
    "gpu",
    "gpus",
    "gpu_mib",
    "vcpu",
    "memory_mib",
    "cpu_m",
    "mib",
    "pods",
    "nvme_gb",
    "mbps",
    "usd",
)


def shared_folder() -> Path:
    """Return where the shared facts should lie; the folder need not exist."""
    return Path(os.environ.get("GPU_LAUNCHER_SHARED") or ROOT.parent / "shared")


def facts_file() -> Path:
    return shared_folder() / "facts" / "aws_instance_types.json"


def row_of(fact: dict[str, Any]) -> list[Any]:
    """Return one row of the table; an unexpected unit or a name that does not carry its family is an error."""
    allocatable = fact["allocatable"]
    cpu, memory = allocatable["cpu"], allocatable["memory"]
    if not cpu.endswith("m") or not memory.endswith("Mi"):
        raise ValueError(f"{fact['name']}: allocatable is written in other units: {allocatable}")
    if fact["name"] != f"{fact['family']}.{fact['size']}":
        raise ValueError(f"{fact['name']}: is not family.size of {fact['family']}, {fact['size']}")
    if not fact["family"].startswith(fact["category"] + fact["generation"]):
        raise ValueError(f"{fact['name']}: family does not begin with {fact['category']}, {fact['generation']}")
    if int(allocatable.get("nvidia.com/gpu", 0)) != fact["gpu_count"]:
        raise ValueError(f"{fact['name']}: {fact['gpu_count']} GPUs, but allocatable {allocatable}")
    return [
        fact["name"],
        fact["arch"],
        fact["gpu_name"],
        fact["gpu_count"],
        fact["gpu_memory_mib"],
        fact["vcpu"],
        fact["memory_mib"],
        int(cpu.removesuffix("m")),
        int(memory.removesuffix("Mi")),
        int(allocatable["pods"]),
        fact["local_nvme_gb"],
        fact["network_mbps"],
        fact["on_demand_usd_per_hour"].get(REGION),
    ]


def render(facts: list[dict[str, Any]]) -> str:
    """Return the table's text: a header, then one type a line, by family and then by size of the host."""
    rows = sorted((row_of(fact) for fact in facts), key=lambda row: (row[0].split(".")[0], row[5], row[6], row[0]))
    head = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in HEADER.items())
    body = ",\n".join("    " + json.dumps(row) for row in rows)
    return f'{{\n{head}  "columns": {json.dumps(COLUMNS)},\n  "types": [\n{body}\n  ]\n}}\n'


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the table differs")
    options = parser.parse_args(arguments)
    facts = facts_file()
    if not facts.is_file():
        print(f"skipped: {facts} is absent; set GPU_LAUNCHER_SHARED to the shared folder", file=sys.stderr)
        return 0
    text = render(json.loads(facts.read_text()))
    if not options.check:
        TABLE.write_text(text)
        return 0
    if TABLE.read_text() == text:
        return 0
    print(f"{TABLE} differs from {facts}: run python tests/tools/make_catalogue.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
