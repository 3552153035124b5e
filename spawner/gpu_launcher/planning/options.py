"""What a browser or an API client sent, read once and totally: a request of ids and bounded numbers, or a refusal.

The input is untrusted JSON of any shape. Nothing of it reaches a pod but the ids that an admin configured, one GPU
count within the profile's bounds, and an unlisted image that an admin's pattern allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gpu_launcher.domain.image_reference import is_image_reference
from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.domain.profile import Capacity, Profile, default_profile
from gpu_launcher.domain.request import StartRequest

# Ten times what any form sends. Too small and a site's own extra fields are refused, too large and a body costs time.
_MOST_VALUES = 1000
_DEEPEST = 8
_LONGEST_TEXT = 4096

LONGEST_UNLISTED = 255
"""Most characters of a user's own image. It meets an admin's regular expression in the hub's event loop."""

_COUNT = re.compile(r"[0-9]{1,3}", re.ASCII)

_YES = frozenset({"on", "true", "1", "yes"})
_NO = frozenset({"", "off", "false", "0", "no"})


class _Bad(Exception):
    """A refusal on its way out of the small readers below."""

    def __init__(self, reason: RefusalReason, message: str, **detail: object) -> None:
        super().__init__(message)
        self.refusal = Refusal(reason, message, detail)


@dataclass(frozen=True, slots=True)
class _Fields:
    """The values that are understood, one each; None where absent."""

    profile: object
    image: object
    image_unlisted: object
    gpus: object
    spot: object
    fallback: object
    ignored: int


def parse_options(
    raw: object, profiles: Sequence[Profile], *, from_saved: bool = False, listed: Sequence[str] | None = None
) -> StartRequest | Refusal:
    """Return the request that *raw* makes, or a refusal that says what is allowed; never raises, whatever the input.

    None and an object without a profile pick the default profile. *from_saved* says that the options were not sent with
    this start but remembered: then what is gone (a profile, an image, a GPU count) falls back to the default, and the
    request's ``notice`` says so. *profiles* must hold a default. *listed* are the ids that the person can start: only
    these are named, and fallen back to; None is all.
    """
    try:
        _bounded(raw)
        if raw is not None and not isinstance(raw, dict):
            raise _Bad(RefusalReason.INVALID_OPTIONS, "The options of a start must be an object of names and values.")
        fields = raw or {}
        if not from_saved:
            return _request(fields, profiles, listed)
        return _remembered(fields, profiles, [one for one in profiles if listed is None or one.id in listed])
    except _Bad as bad:
        return bad.refusal


def _bounded(raw: object) -> None:
    """Refuse what is too large or too deep to be a form; walks without recursion, at most _MOST_VALUES steps."""
    seen = 0
    level: list[object] = [raw]
    for _ in range(_DEEPEST):
        following: list[object] = []
        for value in level:
            seen += 1 + (len(value) if isinstance(value, (dict, list, tuple)) else 0)
            if seen > _MOST_VALUES or (isinstance(value, (str, bytes)) and len(value) > _LONGEST_TEXT):
                raise _Bad(RefusalReason.INVALID_OPTIONS, "The options of this start are too large.")
            following.extend(_inside(value))
        if not following:
            return
        level = following
    raise _Bad(RefusalReason.INVALID_OPTIONS, "The options of this start are nested too deeply.")


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value


def _request(
    raw: Mapping[object, object], profiles: Sequence[Profile], listed: Sequence[str] | None = None
) -> StartRequest:
    profile = _profile(_one(raw.get("profile"), "profile"), profiles, listed)
    fields = _fields(raw, profile)
    image_id, reference = _image(fields, profile)
    return StartRequest(
        profile_id=profile.id,
        image_id=image_id,
        image_reference=reference,
        gpus=_gpus(fields.gpus, profile),
        spot=_spot(fields.spot, profile),
        ignored_keys=fields.ignored,
        fallback=_consent(fields.fallback, profile),
    )


def _remembered(raw: Mapping[object, object], profiles: Sequence[Profile], possible: Sequence[Profile]) -> StartRequest:
    """The request itself where the person can start it, else the nearest that they can."""
    try:
        request = _request(raw, profiles)
    except _Bad:
        return _fallback(raw, profiles, possible)
    # Nothing chosen is the default profile, also where it is closed to the person: that start is refused, not moved.
    if not raw.get("profile") or any(one.id == request.profile_id for one in possible):
        return request
    return _fallback(raw, profiles, possible)


def _fallback(raw: Mapping[object, object], profiles: Sequence[Profile], possible: Sequence[Profile]) -> StartRequest:
    """The same profile with its defaults, else the default profile, else the first; a closed one is never named."""
    if not possible:
        raise _Bad(RefusalReason.NOT_ENTITLED, "There is no profile that you can start. Ask an admin for access.")
    default = default_profile(tuple(profiles))
    try:
        saved = _profile(_one(raw.get("profile"), "profile"), profiles)
    except _Bad:
        saved = None
    profile = next((one for one in (saved, default) if one and one in possible), possible[0])
    if profile is saved:
        gone = f'Some choices of your last start are not available any more; "{profile.display_name}" starts as usual.'
    else:
        gone = f'The profile of your last start is not available any more; "{profile.display_name}" starts instead.'
    ignored = len(raw) - ("profile" in raw)
    return replace(_request({"profile": profile.id}, possible), ignored_keys=ignored, notice=gone)


def _profile(value: object, profiles: Sequence[Profile], listed: Sequence[str] | None = None) -> Profile:
    if value is None or value == "":
        return default_profile(tuple(profiles))
    if isinstance(value, str):
        for profile in profiles:
            if profile.id == value:
                return profile
        # The value itself is not repeated: it may be anything, and the list of what is allowed helps more.
        allowed = [profile.id for profile in profiles if listed is None or profile.id in listed]
        raise _Bad(
            RefusalReason.UNKNOWN_PROFILE,
            f"There is no such profile. Choose one of: {', '.join(allowed) or 'none'}.",
            allowed=allowed,
        )
    raise _Bad(RefusalReason.INVALID_OPTIONS, "The profile must be given by its id, as text.")


# Spellings of a field: ours and KubeSpawner's saved form; each also prefixed by the profile (the forms' own, and
# fancy-profiles').
_SPELLINGS = {
    "image": ("image",),
    "image_unlisted": ("image_unlisted", "image--unlisted-choice"),
    "gpus": ("gpus",),
    "spot": ("spot",),
    "fallback": ("fallback",),
}


def _fields(raw: Mapping[object, object], profile: Profile) -> _Fields:
    prefix = f"profile-option-{profile.id}--"
    known = {"profile"}
    found: dict[str, object] = {}
    for field, spellings in _SPELLINGS.items():
        for key in (*spellings, *(prefix + spelling for spelling in spellings)):
            known.add(key)
            if key in raw and found.get(field) in (None, ""):
                found[field] = _one(raw[key], field)
    return _Fields(
        profile=profile.id,
        image=found.get("image"),
        image_unlisted=found.get("image_unlisted"),
        gpus=found.get("gpus"),
        spot=found.get("spot"),
        fallback=found.get("fallback"),
        ignored=sum(1 for key in raw if key not in known),
    )


def _one(value: object, field: str) -> object:
    """The value itself; a form's list of one becomes its element."""
    if not isinstance(value, list):
        return value
    if len(value) == 1 and not isinstance(value[0], list):
        return value[0]
    if not value:
        return None
    raise _Bad(RefusalReason.INVALID_OPTIONS, f"The option {field} must be one value, not a list.")


def _image(fields: _Fields, profile: Profile) -> tuple[str | None, str | None]:
    chosen, unlisted = fields.image, fields.image_unlisted
    for value in (chosen, unlisted):
        if value is not None and not isinstance(value, str):
            raise _Bad(RefusalReason.INVALID_OPTIONS, "The image must be given as text.")
    # As in KubeSpawner: a page without scripts sends both fields, and whoever wrote a text meant it.
    if unlisted:
        return None, _unlisted(str(unlisted), profile)
    if chosen in (None, ""):
        return None, None
    if profile.image(str(chosen)) is None:
        allowed = [image.id for image in profile.images]
        message = f"There is no such image for this profile. Choose one of: {', '.join(allowed) or 'none'}."
        raise _Bad(RefusalReason.UNKNOWN_IMAGE, message, allowed=allowed)
    return str(chosen), None


def _unlisted(reference: str, profile: Profile) -> str:
    pattern = profile.unlisted_image_pattern
    if pattern is None:
        raise _Bad(RefusalReason.UNKNOWN_IMAGE, "This profile offers its listed images only.")
    if len(reference) > LONGEST_UNLISTED or not is_image_reference(reference):
        raise _Bad(RefusalReason.UNKNOWN_IMAGE, "This is not the name of an image, such as quay.io/team/image:tag.")
    if not re.fullmatch(pattern, reference):
        allowed = profile.unlisted_image_hint or f"images that match {pattern}"
        raise _Bad(RefusalReason.UNKNOWN_IMAGE, f"This image is not allowed here. Allowed: {allowed}")
    return reference


def _gpus(value: object, profile: Profile) -> int:
    gpu = profile.gpu
    least, most = (gpu.count, gpu.max_count) if gpu else (0, 0)
    if value is None or value == "":
        return least
    count = int(value) if isinstance(value, str) and _COUNT.fullmatch(value) else value
    if not isinstance(count, int) or isinstance(count, bool):
        raise _Bad(RefusalReason.INVALID_OPTIONS, f"The number of GPUs must be a whole number, {_range(least, most)}.")
    if not least <= count <= most or (least and count % least):
        raise _Bad(
            RefusalReason.INVALID_OPTIONS, f"This profile has {_range(least, most)} GPUs.", least=least, most=most
        )
    return count


def _range(least: int, most: int) -> str:
    if least == most:
        return f"exactly {least}" if least else "no"
    return f"{least} to {most}" if least == 1 else f"{least} to {most} in steps of {least}"


def _spot(value: object, profile: Profile) -> bool:
    flag = _flag(value, "spot")
    if flag and not profile.spot_choice and profile.capacity is Capacity.ON_DEMAND:
        raise _Bad(RefusalReason.INVALID_OPTIONS, f'"{profile.display_name}" is not offered on spot capacity.')
    return flag and profile.spot_choice


def _consent(value: object, profile: Profile) -> bool:
    # Consent to what a profile does not have (any more) harms nobody and is no reason to refuse.
    return _flag(value, "fallback") and profile.needs_consent


def _flag(value: object, field: str) -> bool:
    text = value.lower() if isinstance(value, str) else None
    if value is None or value is False or text in _NO:
        return False
    if value is True or text in _YES:
        return True
    raise _Bad(RefusalReason.INVALID_OPTIONS, f"The option {field} must be true or false.")
