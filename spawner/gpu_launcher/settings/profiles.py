"""Profiles in the configuration document: what an admin writes for one card on the spawn page."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from gpu_launcher.domain import profile
from gpu_launcher.domain.profile import Capacity
from gpu_launcher.domain.quantity import MIB, format_bytes, format_cpu
from gpu_launcher.settings.fields import (
    Bytes,
    Cpu,
    Duration,
    GpuMemory,
    GpuName,
    GroupName,
    Id,
    ImageReference,
    InstanceTypeName,
    KubernetesName,
    LabelKey,
    LabelValue,
    Pattern,
    Text,
    Words,
)
from gpu_launcher.settings.part import Limit, Part

HEADROOM_CEILING = 200
"""Most spare slots of one profile. Nobody warms more by intent; a typing error of three digits costs a fortune."""

MOST_GPUS = 64
"""Most GPUs of one session. No host of today has more than 16; the catalogue says what exists."""

MOST_FALLBACKS = 5
"""Most other profiles of one fallback. Each may take minutes to turn out to be had no more than the first."""

_Gpus = Annotated[int, Field(ge=1, le=MOST_GPUS, strict=True)]


class Gpu(Part):
    """Which GPUs a profile wants. All given conditions hold together."""

    name: GpuName | None = None
    """The model, in lower case: `t4`, `l4`, `a10g`, `l40s`, `a100`, `h100` and so on. Without it any model will do."""
    count: _Gpus = 1
    """GPUs of a session."""
    memory: GpuMemory | None = None
    """The least memory of one GPU, as `">=22Gi"`. An A10G or L4 has 22888 MiB, which is sold as 24 GB."""
    max_count: _Gpus | None = None
    """Users may pick up to this many GPUs, in steps of `count`. The default is `count`: nothing to pick."""
    host_gpus: list[_Gpus] | None = Field(default=None, min_length=1, max_length=8)
    """Allowed numbers of GPUs of the machine. The default pins the smallest machine that holds the largest session:
    otherwise Karpenter buys one large machine for two small sessions. Several numbers make a pool of shared
    machines."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        most = self.max_count or self.count
        if most < self.count or most % self.count:
            raise ValueError(
                f"max_count {most} is not a multiple of count {self.count}; use {self.count * 2} or leave it out"
            )
        if self.host_gpus and (min(self.host_gpus) < most or len(set(self.host_gpus)) < len(self.host_gpus)):
            raise ValueError(
                f"host_gpus {self.host_gpus} must be different numbers, none below the largest session ({most} GPUs); "
                "remove the others"
            )
        return self

    def value(self) -> profile.GpuRequest:
        """Return the domain value."""
        return profile.GpuRequest(
            name=self.name,
            count=self.count,
            memory_mib_at_least=self.memory,
            max_count=self.max_count or self.count,
            host_gpus=tuple(sorted(self.host_gpus)) if self.host_gpus else None,
        )


class Image(Part):
    """A notebook image that users may pick."""

    id: Id
    """What users' choices are stored as."""
    display_name: Words
    """What users read."""
    reference: ImageReference
    """The image's full name, with a tag or a digest."""
    size: Bytes | None = None
    """Unpacked size on disk, in bytes. Without it neither the wait nor the disk can be judged."""
    session_extension: bool = False
    """Whether the image holds the launcher's session extension. There is none in this version, and nothing saves work
    when spot capacity is taken back; leave it `false`."""

    def value(self) -> profile.Image:
        """Return the domain value."""
        return profile.Image(self.id, self.display_name, self.reference, self.size, self.session_extension)


class Size(Part):
    """Explicit amounts for the smallest session. What is left out is the whole slot: an equal part of the machine."""

    cpu: Cpu | None = None
    """CPU of a session, in cores (`"4"`) or millicores (`"3920m"`)."""
    memory: Bytes | None = None
    """Memory of a session, in bytes (`"16Gi"`)."""
    ephemeral: Bytes | None = None
    """Disk of a session, in bytes: what it writes outside its volumes. 10Gi for profiles without a GPU."""
    shm: Bytes | None = None
    """Size of the memory-backed /dev/shm, in bytes, counted inside the memory. The default is a quarter of the memory,
    at most 64Gi."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        for name, amount, least in (
            ("cpu", self.cpu, 10),
            ("memory", self.memory, 64 * MIB),
            ("ephemeral", self.ephemeral, 64 * MIB),
        ):
            if amount is not None and amount < least:
                shown = format_cpu(least) if name == "cpu" else format_bytes(least)
                raise ValueError(f"{name} is too small for a notebook; use {shown} or more, or leave it out")
        if self.shm is not None and self.memory is not None and self.shm > self.memory:
            raise ValueError("shm is counted inside the memory and cannot be larger; lower it or raise memory")
        return self

    def value(self) -> profile.Size:
        """Return the domain value."""
        return profile.Size(self.cpu, self.memory, self.ephemeral, self.shm)


class ProfileLimits(Part):
    """Limits on the sessions of one profile. Without a value there is no such limit."""

    gpus_per_user: Limit | None = None
    """GPUs that one user may hold through this profile at a time."""
    gpus_per_group: Limit | None = None
    """GPUs that the members of one group may hold together through this profile."""
    gpus_total: Limit | None = None
    """GPUs that everybody together may hold through this profile."""
    max_age: Duration | None = None
    """How long a session is protected from being moved or ended by Karpenter, from its start (`"36h"`). Without it the
    protection lasts as long as the session."""

    def value(self) -> profile.ProfileLimits:
        """Return the domain value."""
        return profile.ProfileLimits(self.gpus_per_user, self.gpus_per_group, self.gpus_total, self.max_age)


class HeadroomBounds(Part):
    """Bounds for spare slots. They are checked now; the controller that keeps spares is not in this version."""

    min: int = Field(default=0, ge=0, le=HEADROOM_CEILING)
    """Spare slots that are always kept."""
    max: int = Field(default=0, ge=0, le=HEADROOM_CEILING)
    """Most spare slots that are ever kept."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}; raise max or lower min")
        return self

    def value(self) -> profile.HeadroomBounds:
        """Return the domain value."""
        return profile.HeadroomBounds(self.min, self.max)


class Fallback(Part):
    """What a start becomes when there is no machine for it. Each step is tried once, in the order of these keys."""

    any_zone: bool = False
    """Whether a start may leave the zone that a node selector pins. It does so only where each of its volumes exists
    and can be used in another zone."""
    capacity: Capacity | None = Field(default=None, strict=False)
    """Another way of buying the same machine. It must be able to buy what `capacity` cannot, such as `on-demand` for a
    profile on `spot`. Where it brings the risk of spot to a profile without it, it needs the user's consent, given on
    the form."""
    profiles: list[Id] = Field(default_factory=list, max_length=MOST_FALLBACKS)
    """Other profiles, by id, the best first. They are started only with the user's consent, given on the form, and
    only where the user may start them. Their own `any_zone` and `capacity` are tried as well."""

    def value(self) -> profile.Fallback:
        """Return the domain value."""
        return profile.Fallback(self.capacity, tuple(self.profiles), self.any_zone)


class Profile(Part):
    """One card on the spawn page. Users pick its id; everything else is the admin's."""

    id: Id
    """Lower-case letters, digits and hyphens. Labels, metrics and users' saved choices carry it: do not rename it."""
    display_name: Words
    """What users read on the card."""
    description: Text = ""
    """A sentence below the name."""
    default: bool = False
    """Whether this profile starts where nothing was chosen. Exactly one is the default; a single profile is anyway."""
    gpu: Gpu | None = None
    """The GPUs. Leave it out for a profile without one."""
    capacity: Capacity = Field(default=Capacity.ON_DEMAND, strict=False)
    """How the machine is bought: `on-demand` is anything that is not spot, so reserved capacity first; `spot-first`
    takes spot where there is any, else on-demand, and reserved capacity before both; `spot` and `reserved` are exactly
    that. Spot machines may be taken back with two minutes' notice."""
    spot_choice: bool = False
    """Whether users may tick spot on an on-demand profile, which makes that session `spot-first`: cheaper, and it may
    end with two minutes' notice."""
    images: list[Image] = Field(default_factory=list, max_length=50)
    """Images to pick from, the default first. Without any the hub's image is used."""
    unlisted_image_pattern: Pattern | None = None
    """A regular expression that an image of the user's own must match as a whole. Without it users have the listed
    images only. A group that is repeated must not itself vary in length: such patterns can take for ever."""
    unlisted_image_hint: Text = ""
    """What users read beside the field for an image of their own, such as `any image of quay.io/team`."""
    size: Size = Field(default_factory=Size)
    """Explicit amounts. A profile without a GPU states `cpu` and `memory`."""
    scratch: Bytes = 0
    """Disk that a session must at least have, in bytes. Where the machine's disk is too small for it, the profile is
    unavailable."""
    runtime_class: KubernetesName | None = None
    """The pod's RuntimeClass, such as `nvidia`."""
    groups: list[GroupName] = Field(default_factory=list)
    """JupyterHub groups whose members may use the profile. Empty admits everybody."""
    limits: ProfileLimits = Field(default_factory=ProfileLimits)
    """Limits on the sessions of this profile."""
    node_selector: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """Further node labels that must match exactly. GPU, capacity and architecture need none."""
    instance_types: list[InstanceTypeName] = Field(default_factory=list)
    """Only these machine types. Empty allows all that fit."""
    start_timeout: Duration = Field(default=900)
    """How long a start may take, between 1 minute and 2 hours."""
    headroom: HeadroomBounds = Field(default_factory=HeadroomBounds)
    """Bounds for spare slots, for the controller of a later version."""
    fallback: Fallback = Field(default_factory=Fallback)
    """What a start becomes when there is no machine for it. Without it, it ends and says so."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = (self._size_problem(), self._choice_problem(), self._selector_problem(), self._fallback_problem())
        for problem in problems:
            if problem:
                raise ValueError(problem)
        return self

    def _size_problem(self) -> str | None:
        if self.gpu is None and (self.size.cpu is None or self.size.memory is None):
            return "a profile without a GPU needs size.cpu and size.memory; add them, or name a GPU"
        if self.size.ephemeral is not None and self.size.ephemeral < self.scratch:
            return "size.ephemeral is smaller than scratch; raise it, or leave one of them out"
        if not 60 <= self.start_timeout <= 7200:
            return "start_timeout must be between 1 minute and 2 hours; a cold GPU node with a large image needs 15m"
        return None

    def _choice_problem(self) -> str | None:
        if self.spot_choice and self.capacity is not Capacity.ON_DEMAND:
            return f"spot_choice is for on-demand profiles, and capacity is {self.capacity}; remove one of them"
        if self.unlisted_image_hint and self.unlisted_image_pattern is None:
            return "unlisted_image_hint is for images that unlisted_image_pattern allows; add that, or remove the hint"
        for what, ids in (("image id", [image.id for image in self.images]), ("group", self.groups)):
            twice = sorted({one for one in ids if ids.count(one) > 1})
            if twice:
                return f"{what} {twice[0]} is there twice; remove one"
        return None

    def _selector_problem(self) -> str | None:
        for key in self.node_selector:
            if key == "karpenter.sh/capacity-type":
                return "node_selector must not choose the capacity type; use capacity"
            if key.startswith("gpu-launcher/"):
                return f"node_selector {key} is a label of pods, not of nodes; remove it"
        return None

    def _fallback_problem(self) -> str | None:
        other, listed = self.fallback.capacity, self.fallback.profiles
        if other is not None and not other.adds_to(self.capacity):
            able = [str(one) for one in Capacity if one.adds_to(self.capacity)]
            remedy = f"use {' or '.join(able)}, or remove it" if able else "remove it"
            return f"fallback.capacity {other} buys nothing that capacity {self.capacity} does not; {remedy}"
        if self.id in listed:
            return f"fallback.profiles names {self.id} itself; remove it there"
        twice = sorted({one for one in listed if listed.count(one) > 1})
        return f"fallback.profiles names {twice[0]} twice; remove one" if twice else None

    def value(self) -> profile.Profile:
        """Return the domain value."""
        return profile.Profile(
            id=self.id,
            display_name=self.display_name,
            description=self.description,
            default=self.default,
            gpu=self.gpu.value() if self.gpu else None,
            capacity=self.capacity,
            spot_choice=self.spot_choice,
            images=tuple(image.value() for image in self.images),
            unlisted_image_pattern=self.unlisted_image_pattern,
            unlisted_image_hint=self.unlisted_image_hint,
            size=self.size.value(),
            scratch=self.scratch,
            runtime_class=self.runtime_class,
            groups=tuple(self.groups),
            limits=self.limits.value(),
            node_selector=dict(self.node_selector),
            instance_types=tuple(self.instance_types),
            start_timeout_s=self.start_timeout,
            headroom=self.headroom.value(),
            fallback=self.fallback.value(),
        )
