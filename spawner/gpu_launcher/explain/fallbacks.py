"""Fallbacks that can be written and lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gpu_launcher.domain.pool import NoPool, SlotPool
from gpu_launcher.domain.profile import Profile
from gpu_launcher.explain.findings import Finding, Level


def fallback_findings(
    profile: Profile, profiles: Mapping[str, Profile], pools: Mapping[str, SlotPool | NoPool]
) -> Iterator[Finding]:
    """Yield what is wrong with a profile's fallbacks; both mappings are by profile id."""
    for key in profile.fallback.profiles:
        other = profiles.get(key)
        if other is None:
            continue
        if isinstance(pools[key], NoPool):
            text = f"fallback.profiles: no machine can serve {key}, so it is never started instead; correct {key} first"
            yield Finding(Level.WARNING, "fallback_impossible", text)
        elif _same_machines(profile, other, pools):
            text = (
                f"fallback.profiles: {key} needs the very machines that this profile needs, so it is passed over when "
                "they are short; name a profile with another GPU or capacity"
            )
            yield Finding(Level.WARNING, "fallback_same_machines", text)
        if _nobody(profile, other):
            text = (
                f"fallback.profiles: {key} is open to {', '.join(other.groups)} only and this profile to "
                f"{', '.join(profile.groups)}: who is in one group alone is not given {key}"
            )
            yield Finding(Level.NOTE, "fallback_not_open", text)


def _same_machines(profile: Profile, other: Profile, pools: Mapping[str, SlotPool | NoPool]) -> bool:
    ours, theirs = pools[profile.id], pools[other.id]
    same = isinstance(ours, SlotPool) and isinstance(theirs, SlotPool) and ours.id == theirs.id
    # Where it may go further, by zone or capacity, the same machines are not all that it stands for.
    return same and other.fallback.capacity is None and not other.fallback.any_zone


def _nobody(profile: Profile, other: Profile) -> bool:
    return bool(other.groups) and bool(profile.groups) and not set(profile.groups) & set(other.groups)
