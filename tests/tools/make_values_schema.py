"""Write the settings' schema into the chart's values.schema.json, or check that it is the one there.

    python tests/tools/make_values_schema.py [--check]

Everything else in that file is written by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from gpu_launcher.settings import settings_schema

FILE = Path(__file__).resolve().parents[2] / "helm" / "gpu-launcher" / "values.schema.json"
PREFIX = "settings."


def with_settings(values_schema: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The values' schema with ``settings`` under its key and its definitions at the top, where references find them."""
    definitions = {name: moved(schema) for name, schema in settings.get("$defs", {}).items()}
    own = {name: schema for name, schema in values_schema["$defs"].items() if not name.startswith(PREFIX)}
    body = {key: value for key, value in settings.items() if key not in ("$defs", "$schema", "$id")}
    return values_schema | {
        "properties": values_schema["properties"] | {"settings": moved(body)},
        "$defs": own | {PREFIX + name: schema for name, schema in sorted(definitions.items())},
    }


def moved(schema: Any) -> Any:
    """The schema with each reference pointing to where ``with_settings`` puts the definition."""
    if isinstance(schema, list):
        return [moved(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    elsewhere = {key: moved(value) for key, value in schema.items()}
    if isinstance(schema.get("$ref"), str):
        elsewhere["$ref"] = schema["$ref"].replace("#/$defs/", f"#/$defs/{PREFIX}")
    return elsewhere


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the file is out of date")
    arguments = parser.parse_args()
    text = FILE.read_text()
    wanted = json.dumps(with_settings(json.loads(text), settings_schema()), indent=2) + "\n"
    if wanted == text:
        return 0
    if arguments.check:
        print(f"{FILE}: out of date; run {Path(__file__).name} without --check", file=sys.stderr)
        return 1
    FILE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
