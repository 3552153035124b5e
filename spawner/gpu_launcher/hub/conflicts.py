"""What a site may have configured that cannot stand beside the launcher, each told with both names and the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KUBE_SPAWNERS = ("kubernetes", "kubespawner", "kubespawner.KubeSpawner", "kubespawner.spawner.KubeSpawner")
_OURS = ("gpu", "gpu_launcher.GpuSpawner", "gpu_launcher.hub.spawner.GpuSpawner")


class ConfigurationConflict(ValueError):
    """Raised where two parts of the hub's configuration contradict each other; the hub does not start with it."""


def refuse_second_list(config: Mapping[str, Any]) -> None:
    """Raise ConfigurationConflict if the configuration has a non-empty ``profile_list`` of its own.

    Two lists would each be half obeyed: one on the form, the other at the start.
    """
    for section in ("KubeSpawner", "GpuSpawner"):
        if section in config and config[section].get("profile_list"):
            raise ConfigurationConflict(
                f"c.{section}.profile_list and gpu_launcher.configure(profiles=...) both define profiles; "
                f"move the entries of c.{section}.profile_list into profiles and remove it"
            )


def spawner_is_ours(chosen: Any) -> bool:
    """Return whether ``c.JupyterHub.spawner_class`` is already the launcher's or a subclass of it.

    False means that it may be replaced: it is unset, or KubeSpawner itself, of which ours keeps the configuration.
    Raises ConfigurationConflict for any other spawner.
    """
    if isinstance(chosen, type):
        names = {f"{base.__module__}.{base.__qualname__}" for base in chosen.__mro__}
        if not names.isdisjoint(_OURS):
            return True
        if f"{chosen.__module__}.{chosen.__qualname__}" in _KUBE_SPAWNERS:
            return False
    elif chosen in _OURS:
        return True
    elif not chosen or chosen in _KUBE_SPAWNERS:
        return False
    raise ConfigurationConflict(
        f"c.JupyterHub.spawner_class is {chosen!r} and gpu_launcher.configure() needs gpu_launcher.GpuSpawner; "
        "remove the setting, or make that class a subclass of GpuSpawner"
    )


def refuse_second_call(present: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """Raise ConfigurationConflict if an earlier ``configure`` or ``c.GpuSpawner.settings`` said something else."""
    if present and dict(present) != dict(document):
        raise ConfigurationConflict(
            "c.GpuSpawner.settings is already set and gpu_launcher.configure() would replace it; "
            "call configure() once, with everything"
        )
