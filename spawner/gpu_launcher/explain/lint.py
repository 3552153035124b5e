"""What a configuration will do: the machines behind each profile, their prices, the wait, and everything that is wrong.

``gpu-launcher lint`` prints it; the hub logs it at its start and shows impossible profiles as unavailable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from gpu_launcher.domain.instance_type import InstanceType
from gpu_launcher.domain.policy import ClusterPolicy, Limits, Prices
from gpu_launcher.domain.pool import NoPool, NoPoolReason, SlotPool
from gpu_launcher.domain.profile import Profile
from gpu_launcher.domain.quantity import MIB
from gpu_launcher.explain.fallbacks import fallback_findings
from gpu_launcher.explain.findings import Finding, Level
from gpu_launcher.explain.prices import SlotPrice, priced, slot_price
from gpu_launcher.explain.wait import ColdStart, cold_start, in_words, shortening
from gpu_launcher.planning.dialects import LABELS, checkable
from gpu_launcher.planning.matching import Types, gib, wanted_name
from gpu_launcher.planning.pools import base_id, checkable_types, pools_for
from gpu_launcher.planning.sizing import image_bytes


@dataclass(frozen=True, slots=True)
class Machine:
    """A type that can serve a profile: sessions per machine, and dollars per hour of each."""

    name: str
    slots: int
    price: SlotPrice


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """What one profile will do; ``pool`` is None if no machine can serve it."""

    profile: Profile
    pool: SlotPool | None
    machines: tuple[Machine, ...]
    cold_start: ColdStart
    shortening: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether there is an error among the findings."""
        return any(finding.level is Level.ERROR for finding in self.findings)


def lint(
    profiles: Sequence[Profile],
    catalogue: Types,
    policy: ClusterPolicy,
    prices: Prices | None = None,
    limits: Limits | None = None,
) -> tuple[ProfileReport, ...]:
    """Return a report on each profile, in order. *catalogue* carries list prices; *prices* makes them the site's."""
    prices = prices or Prices()
    catalogue = priced(catalogue, prices)
    pools = pools_for(profiles, catalogue, policy)
    bases = {one.id: base_id(one, catalogue, policy) for one in profiles}
    beside = {one.id: [other for other in profiles if bases[other.id] == bases[one.id]] for one in profiles}
    reports = (
        _report(one, pools[one.id], beside[one.id], catalogue, policy, prices, limits or Limits()) for one in profiles
    )
    by_id = {one.id: one for one in profiles}
    return tuple(
        replace(one, findings=(*one.findings, *fallback_findings(one.profile, by_id, pools))) for one in reports
    )


def document_findings(catalogue: Types, policy: ClusterPolicy, prices: Prices) -> tuple[Finding, ...]:
    """Return what is wrong with the document outside its profiles."""
    if not LABELS[policy.dialect].catalogue:
        return ()
    names = [kind.name for kind in catalogue]
    return tuple(
        Finding(
            Level.WARNING,
            "unknown_type",
            f"prices.overrides: {name} is not in the table of machines and changes nothing{_nearest(name, names)}",
        )
        for name in prices.overrides
        if name not in names
    )


def _nearest(name: str, names: Sequence[str]) -> str:
    close = get_close_matches(name, names, n=1)
    return f"; nearest: {close[0]}" if close else ""


def _report(
    profile: Profile,
    found: SlotPool | NoPool,
    beside: Sequence[Profile],
    catalogue: Types,
    policy: ClusterPolicy,
    prices: Prices,
    limits: Limits,
) -> ProfileReport:
    pool = found if isinstance(found, SlotPool) else None
    image = profile.image(None)
    wait = cold_start(profile.gpu.count if profile.gpu else 0, image, policy)
    findings = [_impossible(profile, found, catalogue, policy)] if isinstance(found, NoPool) else []
    findings += _selector_findings(profile, catalogue, policy)
    findings += _image_findings(profile)
    findings += _disk_findings(profile, beside)
    findings += _limit_findings(profile, limits, wait)
    findings += _default_findings(profile)
    machines: tuple[Machine, ...] = ()
    if pool:
        findings += _pool_findings(profile, pool)
        machines = tuple(_machine(kind, pool, prices) for kind in pool.instance_types)
    return ProfileReport(profile, pool, machines, wait, shortening(image, policy), tuple(findings))


def _machine(kind: InstanceType, pool: SlotPool, prices: Prices) -> Machine:
    slots = pool.slots_per_host[kind.name]
    return Machine(kind.name, slots, slot_price(kind, slots, prices))


def _impossible(profile: Profile, none: NoPool, catalogue: Types, policy: ClusterPolicy) -> Finding:
    text = none.message
    if none.reason is NoPoolReason.NODE_SELECTOR:
        text += _memory_mix_up(profile, catalogue, policy)
    return Finding(Level.ERROR, none.reason, text)


def _memory_mix_up(profile: Profile, catalogue: Types, policy: ClusterPolicy) -> str:
    """Words for the commonest mistake: GPU memory, or a least amount, written as the exact memory of the host."""
    prefix = LABELS[policy.dialect].prefix
    value = profile.node_selector.get(f"{prefix}instance-memory")
    if prefix is None or value is None or not value.isdecimal():
        return ""
    amount = gib(int(value))
    written = amount.replace(" GiB", "Gi")
    text = (
        f". {prefix}instance-memory is the memory of the whole host in MiB, and a selector matches it exactly: no such "
        f'host exists. "At least {amount} of host memory" is a request (size.memory: {written}); "a GPU with {amount}" '
        f'is {prefix}instance-gpu-memory (gpu.memory: ">={written}"'
    )
    name = wanted_name(profile, policy.dialect)
    fits = [
        kind.name
        for kind in catalogue
        if kind.gpu and kind.gpus and str(kind.gpu.memory_mib) == value and name in (None, kind.gpu.name)
    ]
    return f"{text}, as {' and '.join(fits[:3])} has)" if fits else f"{text})"


def _selector_findings(profile: Profile, catalogue: Types, policy: ClusterPolicy) -> Iterator[Finding]:
    if LABELS[policy.dialect].catalogue:
        for key in profile.node_selector:
            if not checkable(key, catalogue, policy.dialect) and not key.startswith("topology."):
                text = (
                    f"node_selector {key} is no label of the machines: Karpenter buys only if a NodePool sets it in "
                    "its template or requirements"
                )
                yield Finding(Level.WARNING, "unchecked_label", text)
    names = [kind.name for kind in catalogue]
    for name in profile.instance_types if LABELS[policy.dialect].catalogue else ():
        if name not in names:
            left_out = " and is left out" if checkable_types(profile, catalogue, policy) else ""
            text = f"instance_types: {name} is not in the table of machines{left_out}{_nearest(name, names)}"
            yield Finding(Level.WARNING, "unknown_type", text)


def _image_findings(profile: Profile) -> Iterator[Finding]:
    unsized = [image.id for image in profile.images if image.bytes is None]
    if not profile.images:
        text = "the hub's image is used, whose size is unknown: the wait and the disk are not checked for it"
        yield Finding(Level.NOTE, "image_size_unknown", text)
    elif unsized:
        text = f"size is missing for image {', '.join(unsized)}: the wait and the disk are not checked for it"
        yield Finding(Level.NOTE, "image_size_unknown", text)
    plain = [image.id for image in profile.images if not image.session_extension]
    spot = profile.capacity.interruptible or profile.spot_choice or profile.risky_fallback
    if spot and (plain or not profile.images):
        which = f"image {', '.join(plain)}" if plain else "the hub's image"
        text = (
            f"spot machines go with two minutes' notice, and {which} has no session extension: nothing saves work "
            "before an interruption in this version; tell users to save to their home directory as they go, or buy "
            "on-demand"
        )
        yield Finding(Level.WARNING, "spot_without_extension", text)


def _disk_findings(profile: Profile, beside: Sequence[Profile]) -> Iterator[Finding]:
    """The images of other profiles on the same machines; *beside* are the profiles of the pool, this one too."""
    # A session with a size of its own, or without a GPU, gets its disk whatever lies beside it.
    if profile.gpu is None or profile.size.ephemeral is not None:
        return
    own = {image.reference for image in profile.images}
    others = [(other.id, image) for other in beside for image in other.images if image.reference not in own]
    taken = image_bytes(image for _, image in others)
    if taken:
        names = ", ".join(dict.fromkeys(f"{image.id} ({owner})" for owner, image in others if image.bytes))
        text = (
            f"the same machines hold images of other profiles, which leaves {gib(taken // MIB)} less disk on each: "
            f"{names}"
        )
        yield Finding(Level.NOTE, "shared_disk", text)


def _limit_findings(profile: Profile, limits: Limits, wait: ColdStart) -> Iterator[Finding]:
    count = profile.gpu.count if profile.gpu else 0
    stated = [
        ("limits.gpus_per_user", limits.gpus_per_user),
        ("its gpus_per_user", profile.limits.gpus_per_user),
        ("its gpus_total", profile.limits.gpus_total),
    ]
    for name, limit in stated:
        if limit is not None and limit < count:
            text = f"{name} is {limit}, below the {count} of one session: nobody can start it; raise the limit"
            yield Finding(Level.ERROR, "limit_too_low", text)
    yield from _group_limit_findings(profile, limits, count)
    if wait.seconds > profile.start_timeout_s:
        text = (
            f"a cold start takes about {in_words(wait.seconds)}, longer than start_timeout "
            f"({in_words(profile.start_timeout_s)}); raise it, or shorten the start"
        )
        yield Finding(Level.WARNING, "start_timeout_too_short", text)


def _default_findings(profile: Profile) -> Iterator[Finding]:
    if profile.default and profile.groups:
        text = (
            f"this is the default and open to {', '.join(profile.groups)} only: whoever else starts without "
            "choosing is refused; make a profile without groups the default"
        )
        yield Finding(Level.WARNING, "default_not_open", text)


def _group_limit_findings(profile: Profile, limits: Limits, count: int) -> Iterator[Finding]:
    of_profile = profile.limits.gpus_per_group
    low = [f"its gpus_per_group is {of_profile}"] if of_profile is not None and of_profile < count else []
    # A group with a number of its own was decided on by itself; 0 there may be meant.
    general = limits.gpus_per_group
    unnamed = [group for group in profile.groups if group not in limits.groups]
    if general is not None and general < count and (unnamed or not profile.groups):
        low.append(f"limits.gpus_per_group is {general}")
    if low:
        whom = f"members of {', '.join(unnamed or profile.groups)}" if profile.groups else "members of a group"
        text = f"{' and '.join(low)}, below the {count} of one session: {whom} cannot start it; raise the limit"
        yield Finding(Level.ERROR if profile.groups else Level.WARNING, "limit_too_low", text)


def _pool_findings(profile: Profile, pool: SlotPool) -> Iterator[Finding]:
    if not pool.instance_types:
        text = "there is no table of these machines: types, fit and prices cannot be checked; try the profile once"
        yield Finding(Level.WARNING, "unchecked_types", text)
    elif pool.usd_per_hour is None:
        first = pool.instance_types[0].name
        text = f"no price is known for {first}; set prices.overrides: {{{first}: dollars per hour}}"
        yield Finding(Level.WARNING, "price_unknown", text)
    if profile.size.shm is not None and profile.size.shm > pool.slot.memory:
        text = f"size.shm is larger than the session's memory of {gib(pool.slot.memory // MIB)} and is cut to it"
        yield Finding(Level.WARNING, "shm_too_large", text)
    unused = [_idle_gpus(kind, pool) for kind in pool.instance_types if profile.gpu and _idle_gpus(kind, pool)[1]]
    if unused:
        name, gpus = unused[0]
        text = (
            f"{gpus} of the GPUs of {name} can never be used by sessions of this size; lower size, "
            "or choose another gpu.host_gpus"
        )
        yield Finding(Level.WARNING, "stranded_gpus", text)


def _idle_gpus(kind: InstanceType, pool: SlotPool) -> tuple[str, int]:
    return kind.name, kind.gpus - pool.slots_per_host[kind.name] * pool.slot.gpus
