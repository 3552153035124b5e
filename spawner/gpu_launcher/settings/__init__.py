"""The configuration document and the catalogue, parsed into domain values.

The names below are resolved on first use: the catalogue is read where pydantic is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Settings", "SettingsError", "load_settings", "settings_schema"]

if TYPE_CHECKING:
    from gpu_launcher.settings.load import Settings, SettingsError, load_settings, settings_schema


def __getattr__(name: str) -> Any:
    if name in __all__:
        from gpu_launcher.settings import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
