"""How long a start may be stuck, as admins write it."""

from __future__ import annotations

import pytest

from gpu_launcher.domain.start import StartPolicy
from gpu_launcher.settings import SettingsError, load_settings


def test_the_defaults_are_the_policy_s_own() -> None:
    assert load_settings({}).starts == StartPolicy()


def test_every_bound_can_be_set() -> None:
    given = {
        "no_capacity": "10m",
        "not_registering": "11m",
        "gpu_missing": "12m",
        "volume": "13s",
        "image": "14s",
        "crashes": 5,
    }
    assert load_settings({"starts": given}).starts == StartPolicy(600, 660, 720, 13, 14, 5)


@pytest.mark.parametrize("wrong", [{"no_capacity": 240}, {"crashes": 0}, {"crashes": True}, {"patience": "1m"}])
def test_what_is_no_bound_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"^starts\."):
        load_settings({"starts": wrong})
