"""Builders with defaults, so that a test says only what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpu_launcher.domain.identity import SessionIdentity
from gpu_launcher.domain.instance_type import Gpu, InstanceType
from gpu_launcher.domain.profile import GpuRequest, Image, Profile, Size
from gpu_launcher.domain.quantity import GIB, MIB
from gpu_launcher.domain.resources import Resources


def machine(
    name: str = "g5.xlarge",
    gpu: str | None = "a10g",
    gpus: int = 1,
    gpu_mib: int = 22888,
    vcpu: int = 4,
    memory_mib: int = 16384,
    cpu_m: int = 3920,
    mib: int = 14162,
    usd: float | None = 1.006,
    arch: str = "amd64",
) -> InstanceType:
    family, size = name.split(".")
    return InstanceType(
        name=name,
        arch=arch,
        gpu=Gpu(gpu, gpus, gpu_mib) if gpu else None,
        vcpu=vcpu,
        memory_mib=memory_mib,
        allocatable=Resources(cpu_m, mib * MIB, 0, gpus if gpu else 0),
        pods=58,
        local_nvme_gb=0,
        network_mbps=2500,
        family=family,
        size=size,
        category=family.rstrip("0123456789defn"),
        generation="5",
        usd_per_hour=usd,
    )


CATALOGUE = (
    machine("m6i.large", None, vcpu=2, memory_mib=8192, cpu_m=1930, mib=6903, usd=0.096),
    machine("m6i.xlarge", None, vcpu=4, memory_mib=16384, cpu_m=3920, mib=14162, usd=0.192),
    machine("m6i.4xlarge", None, vcpu=16, memory_mib=65536, cpu_m=15890, mib=57691, usd=0.768),
    machine("g4dn.xlarge", "t4", 1, 16384, mib=14481, usd=0.526),
    machine("g5g.xlarge", "t4g", 1, 16384, memory_mib=8192, mib=6525, usd=0.42, arch="arm64"),
    machine("g5.xlarge"),
    machine("g5.2xlarge", vcpu=8, memory_mib=32768, cpu_m=7910, mib=29317, usd=1.212),
    machine("g5.12xlarge", gpus=4, vcpu=48, memory_mib=196608, cpu_m=47810, mib=173400, usd=5.672),
    machine("g5.48xlarge", gpus=8, vcpu=192, memory_mib=786432, cpu_m=191450, mib=723299, usd=16.288),
    machine("g6.xlarge", "l4", usd=0.8048),
    machine("g6f.xlarge", "l4", 0, 2861, usd=0.2375),
    machine("p4d.24xlarge", "a100", 8, 40960, 96, 1179648, 95690, 1082712, 21.957642),
    machine("p4de.24xlarge", "a100", 8, 81920, 96, 1179648, 95690, 1082712, 27.44705),
    machine("p5.4xlarge", "h100", 1, 81920, 16, 262144, 15890, 240830, 6.88),
    machine("p5.48xlarge", "h100", 8, 81920, 192, 2097152, 191450, 1938410, 55.04),
    machine("p5e.48xlarge", "h200", 8, 144384, 192, 2097152, 191450, 1938410, None),
)

TORCH = Image("torch", "PyTorch", "quay.io/team/torch:1", 9_000_000_000, session_extension=True)
JAX = Image("jax", "JAX", "quay.io/team/jax:1", 6_000_000_000, session_extension=True)

IDENTITY = SessionIdentity("jupyter.hub", "a" * 32, "b" * 32, "0123456789ab", ("vision",))


def gpu_profile(id: str = "a10g", name: str | None = None, **changes: Any) -> Profile:  # noqa: A002
    """A profile with one GPU of that name (the id's, unless given); ``gpu`` replaces the whole request."""
    gpu = changes.pop("gpu", GpuRequest(name=name or id))
    return replace(Profile(id=id, display_name=id.upper(), gpu=gpu), **changes)


def cpu_profile(id: str = "cpu", **changes: Any) -> Profile:  # noqa: A002
    """A default profile without a GPU: 2 CPU, 6 GiB."""
    size = changes.pop("size", Size(cpu_m=2000, memory=6 * GIB))
    return replace(Profile(id=id, display_name=id.upper(), default=True, size=size), **changes)
