"""Our overlay for zero-to-jupyterhub satisfies that chart's own schema, and agrees with what the side chart renders."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from rendering import ROOT, Helm

from gpu_launcher import configure

SCHEMA = json.loads((Path(__file__).parent / "data" / "z2jh" / "values.schema.json").read_text())
OVERLAY = yaml.safe_load((ROOT / "hub_config" / "z2jh-values.yaml").read_text())

# The sections and fields that the schema requires; the chart's own values.yaml brings them, and more.
REQUIRED: dict[str, Any] = {
    "imagePullSecrets": [],
    "hub": {"baseUrl": "/"},
    "proxy": {},
    "singleuser": {},
    "scheduling": {"userScheduler": {"enabled": True, "plugins": {}, "pluginConfig": [], "logLevel": 4}},
    "ingress": {"enabled": False},
    "prePuller": {"hook": {"enabled": True}, "continuous": {"enabled": True}},
    "custom": {},
    "cull": {"enabled": True},
    "debug": {"enabled": False},
    "rbac": {"create": True},
    "global": {},
}


def merged(below: Any, above: Any) -> Any:
    """What Helm makes of two values files: mappings are joined, everything else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def test_overlay_satisfies_the_schema() -> None:
    jsonschema.validate(REQUIRED, SCHEMA)
    jsonschema.validate(merged(REQUIRED, OVERLAY), SCHEMA)


def test_overlay_with_a_typo_does_not() -> None:
    with pytest.raises(jsonschema.ValidationError, match="extraVolume"):
        jsonschema.validate(merged(REQUIRED, {"hub": {"extraVolume": []}}), SCHEMA)


def test_overlay_mounts_what_the_side_chart_makes(helm: Helm) -> None:
    settings, state = (item for item in helm.template() if item["kind"] == "ConfigMap")
    (volume,) = OVERLAY["hub"]["extraVolumes"]
    (mount,) = OVERLAY["hub"]["extraVolumeMounts"]
    assert volume["configMap"]["name"] == settings["metadata"]["name"]
    assert mount["name"] == volume["name"]
    (code,) = OVERLAY["hub"]["extraConfig"].values()
    assert all(f"{mount['mountPath']}/{key}" in code for key in settings["data"])
    assert f'state_config_map = "{state["metadata"]["name"]}"' in code


def test_overlay_sends_records_to_the_controller_with_its_secret(helm: Helm) -> None:
    named = {item["kind"]: item for item in helm.template() if item["kind"] in ("Service", "Secret")}
    environment = OVERLAY["hub"]["extraEnv"]
    assert environment["GPU_LAUNCHER_CONTROLLER_URL"] == f"http://{named['Service']['metadata']['name']}"
    assert [port["port"] for port in named["Service"]["spec"]["ports"]] == [80]
    secret = environment["GPU_LAUNCHER_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": named["Secret"]["metadata"]["name"], "key": "token", "optional": True}
    assert list(named["Secret"]["data"]) == ["token"]


def test_overlay_calls_configure_as_it_is() -> None:
    (code,) = OVERLAY["hub"]["extraConfig"].values()
    (call,) = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    inspect.signature(configure).bind(*call.args, **{str(item.arg): item.value for item in call.keywords})


def test_overlay_runs_the_hub_as_the_account_that_the_side_chart_binds(helm: Helm) -> None:
    bindings = [item for item in helm.template() if "subjects" in item]
    hubs = [item for item in bindings if item["metadata"]["labels"]["app.kubernetes.io/component"] == "hub"]
    subjects = {subject["name"] for item in hubs for subject in item["subjects"]}
    assert subjects == {OVERLAY["hub"]["serviceAccount"]["name"]}
    assert OVERLAY["rbac"]["create"] is True
