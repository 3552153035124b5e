"""From a document (YAML file, or the arguments of ``configure``) to settings, or to every problem in it at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gpu_launcher.domain.policy import ClusterPolicy, Limits, Mode, Prices
from gpu_launcher.domain.profile import Profile
from gpu_launcher.domain.start import StartPolicy
from gpu_launcher.settings.document import Document
from gpu_launcher.settings.problems import problem_of, profile_problems
from gpu_launcher.settings.schema import settings_schema

__all__ = ["Settings", "SettingsError", "load_settings", "read_document", "settings_schema"]


class SettingsError(ValueError):
    """Raised for a document with problems; ``problems`` holds each as "path: what; remedy"."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration as domain values.

    ``document`` is its canonical JSON with every default written out; ``hash`` the first 12 hex digits of its SHA-256:
    equal hashes mean equal settings, whatever the order and the spelling of the file.
    """

    profiles: tuple[Profile, ...]
    cluster: ClusterPolicy
    prices: Prices
    limits: Limits
    starts: StartPolicy
    headroom: Mode
    culling: Mode
    document: str
    hash: str


def load_settings(document: Mapping[str, Any] | str | Path) -> Settings:
    """Return the settings of a document, or of the YAML or JSON file at a path.

    Raises SettingsError with every problem, also for a file that cannot be read or is no YAML.
    """
    raw = document if isinstance(document, Mapping) else read_document(Path(document))
    problems: list[str] = []
    data = _data(raw, "", problems)
    if problems:
        raise SettingsError(problems)
    try:
        model = Document.model_validate(data)
    except ValidationError as error:
        raise SettingsError([*map(problem_of, error.errors()), *profile_problems(data)]) from None
    problems = profile_problems(model.model_dump(mode="json"))
    if problems:
        raise SettingsError(problems)
    return _settings(model)


def read_document(path: Path) -> Mapping[str, Any]:
    """Return the document in a YAML (or JSON) file, unchecked; an empty file is an empty document.

    Raises SettingsError for a file that cannot be read, is no YAML, is no mapping, or says a key twice.
    """
    import yaml

    from gpu_launcher.settings.yaml_keys import UniqueKeyLoader

    try:
        text = path.read_text(encoding="utf-8")
        # A SafeLoader that also refuses a key said twice: YAML silently keeps the last.
        raw = yaml.load(text, Loader=UniqueKeyLoader)  # noqa: S506
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read ({error.strerror}); check the path"]) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError([f"{path}: is not valid YAML ({_one_line(error)}); correct it there"]) from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise SettingsError([f"{path}: is not a mapping; begin it with version: 1"])
    return raw


def _settings(model: Document) -> Settings:
    document = json.dumps(model.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return Settings(
        profiles=tuple(profile.value() for profile in model.profiles),
        cluster=model.cluster.value(),
        prices=model.prices.value(),
        limits=model.limits.value(),
        starts=model.starts.value(),
        headroom=model.headroom.mode,
        culling=model.culling.mode,
        document=document,
        hash=hashlib.sha256(document.encode()).hexdigest()[:12],
    )


def _data(value: object, path: str, problems: list[str], depth: int = 0) -> Any:
    """The value as plain JSON data; whatever is code or an object is a problem, named by its path."""
    if depth > 20:
        problems.append(f"{path}: is nested too deeply; a document has at most 20 levels")
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        bad = [key for key in value if not isinstance(key, str)]
        problems.extend(f"{path or 'document'}: the key {key!r} is not text; quote it" for key in bad)
        return {
            key: _data(item, f"{path}.{key}" if path else key, problems, depth + 1)
            for key, item in value.items()
            if isinstance(key, str)
        }
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_data(item, f"{path}[{index}]", problems, depth + 1) for index, item in enumerate(value)]
    what = "a function" if callable(value) else f"a {type(value).__name__}"
    problems.append(f"{path}: is {what}; settings are data, write text, numbers, lists and mappings")
    return None


def _one_line(error: Exception) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    # PyYAML's own text also draws the place with a caret, which means nothing on one line.
    told = f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark and problem else str(error)
    return " ".join(told.split())[:300]
