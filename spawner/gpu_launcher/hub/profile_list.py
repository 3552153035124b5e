"""The offers as KubeSpawner's ``profile_list``, for forms and add-ons that know only that. JSON, no overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpu_launcher.domain.pool import NoPool
from gpu_launcher.domain.profile import Profile
from gpu_launcher.explain.alternatives import consent_words
from gpu_launcher.hub.offers import Offer


def published(offers: Iterable[Offer]) -> list[dict[str, Any]]:
    """Return a ``profile_list`` with the ids, words and choices of the offers that can be had.

    It has no ``kubespawner_override``: what a profile means is decided in the option step alone.
    """
    possible = {offer.profile.id: offer.profile for offer in offers if not isinstance(offer.pool, NoPool)}
    return [_entry(profile, possible) for profile in possible.values()]


def _entry(profile: Profile, possible: Mapping[str, Profile]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "slug": profile.id,
        "display_name": profile.display_name,
        "description": profile.description,
        "default": profile.default,
    }
    choices = {
        name: option
        for name, option in (
            ("image", _images(profile)),
            ("gpus", _gpus(profile)),
            ("spot", _spot(profile)),
            ("fallback", _fallback(profile, possible)),
        )
        if option
    }
    return entry | ({"profile_options": choices} if choices else {})


def _images(profile: Profile) -> dict[str, Any] | None:
    if len(profile.images) < 2 and not profile.unlisted_image_pattern:
        return None
    option = _option("Image", [(image.id, image.display_name) for image in profile.images])
    if profile.unlisted_image_pattern:
        option["unlisted_choice"] = {
            "enabled": True,
            "display_name": "Another image",
            "validation_regex": f"^(?:{profile.unlisted_image_pattern})$",
            "validation_message": f"This image is not allowed here. {profile.unlisted_image_hint}".rstrip(),
        }
    return option


def _gpus(profile: Profile) -> dict[str, Any] | None:
    gpu = profile.gpu
    if gpu is None or gpu.max_count <= gpu.count:
        return None
    return _option("GPUs", [(str(n), str(n)) for n in range(gpu.count, gpu.max_count + 1, gpu.count)])


def _spot(profile: Profile) -> dict[str, Any] | None:
    if not profile.spot_choice:
        return None
    return _option("Capacity", [("false", "on-demand"), ("true", "spot, may end with 2 minutes' notice")])


def _fallback(profile: Profile, possible: Mapping[str, Profile]) -> dict[str, Any] | None:
    agreed = consent_words(profile, possible)
    return _option("If there is none", [("false", "say so"), ("true", agreed)]) if agreed else None


def _option(title: str, choices: list[tuple[str, str]]) -> dict[str, Any]:
    named = {key: {"display_name": words, "default": place == 0} for place, (key, words) in enumerate(choices)}
    return {"display_name": title, "choices": named}
