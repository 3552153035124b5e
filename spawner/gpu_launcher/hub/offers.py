"""The configuration document, compiled once: every profile with the machines that can serve it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gpu_launcher.domain.pool import NoPool, SlotPool
from gpu_launcher.domain.profile import Profile
from gpu_launcher.domain.usage import Person
from gpu_launcher.explain.prices import priced
from gpu_launcher.planning.admission import entitled
from gpu_launcher.planning.pools import pools_for
from gpu_launcher.settings.catalogue import load_catalogue
from gpu_launcher.settings.load import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Offer:
    """One profile and its slot pool, or why it has none."""

    profile: Profile
    pool: SlotPool | NoPool


@dataclass(frozen=True, slots=True)
class Offers:
    """The settings and what they offer, in the admin's order."""

    settings: Settings
    by_id: Mapping[str, Offer]

    def open_to(self, person: Person) -> tuple[Offer, ...]:
        """Return the offers that the person may see, in order."""
        return tuple(offer for offer in self.by_id.values() if entitled(offer.profile, person))

    def possible_for(self, person: Person) -> tuple[str, ...]:
        """Return the ids of the profiles that the person can start: open to them, and served by some machine."""
        return tuple(offer.profile.id for offer in self.open_to(person) if isinstance(offer.pool, SlotPool))


def offers_of(document: Mapping[str, Any]) -> Offers:
    """Return the offers of a configuration document; each different document is compiled once.

    Raises SettingsError with every problem of the document.
    """
    return _compiled(json.dumps(document, sort_keys=True))


# Two: a hub has one document, tests and a reload have a second one for a moment.
@lru_cache(maxsize=2)
def _compiled(text: str) -> Offers:
    settings = load_settings(json.loads(text))
    pools = pools_for(settings.profiles, priced(load_catalogue(), settings.prices), settings.cluster)
    return Offers(settings, {profile.id: Offer(profile, pools[profile.id]) for profile in settings.profiles})
