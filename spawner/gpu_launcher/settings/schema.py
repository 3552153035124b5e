"""The document's JSON Schema: for Helm's values, editors and the reference page."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

from gpu_launcher.settings.document import Document
from gpu_launcher.settings.part import Part


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document; it refuses unknown keys on every level, so Helm can use it."""
    schema = deepcopy(_generated())
    _set_defaults(schema["properties"], Document)
    for part in Part.__subclasses__():
        if part is not Document:
            _set_defaults(schema["$defs"][part.__name__]["properties"], part)
    _tidy(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of the GPU launcher",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def keys_at(path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the document knows at a place, such as ``("profiles", 0, "gpu")``."""
    schema = _generated()
    node: dict[str, Any] = schema
    for step in path:
        node = node.get("items", {}) if isinstance(step, int) else node.get("properties", {}).get(step, {})
        for option in (node, *node.get("anyOf", ())):
            if "$ref" in option:
                node = schema["$defs"][option["$ref"].rsplit("/", 1)[1]]
    return list(node.get("properties", {}))


@cache
def _generated() -> dict[str, Any]:
    return Document.model_json_schema()


def _set_defaults(properties: dict[str, Any], part: type[Part]) -> None:
    """Write defaults as people write them: "200Gi" and not 214748364800."""
    written = part.model_construct().model_dump(mode="json", warnings=False)
    for name, field in properties.items():
        if field.get("default") is not None:
            field["default"] = written[name]
        else:
            field.pop("default", None)


def _tidy(node: object) -> None:
    """Drop the titles that pydantic makes of field names (they say nothing more) and the line breaks of docstrings."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
    if not isinstance(node, dict):
        return
    for key in ("properties", "$defs"):
        for inner in node.get(key, {}).values():
            inner.pop("title", None)
    if isinstance(node.get("description"), str):
        node["description"] = " ".join(node["description"].split())
    for value in node.values():
        _tidy(value)
