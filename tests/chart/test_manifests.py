"""What the chart renders is valid: core kinds strictly, Karpenter's against its own definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from rendering import CHART, NAMESPACE, RELEASE, Helm, Manifest

CORE_GROUPS = ("v1", "rbac.authorization.k8s.io/v1", "scheduling.k8s.io/v1")
KUBERNETES = "1.35"  # the lab's, and within reach of every supported cluster
EC2_NODE_CLASS = json.loads((Path(__file__).parent / "data" / "ec2nodeclass.schema.json").read_text())


def strict(schema: Any) -> Any:
    """The schema with unknown fields refused, which an API server would silently drop."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


def test_lint_is_clean(helm: Helm, values: str | None) -> None:
    done = helm.lint(values=values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout


def test_core_kinds_validate_strictly(objects: list[Manifest]) -> None:
    for item in objects:
        if item["apiVersion"] in CORE_GROUPS:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_karpenter_kinds_validate_strictly(objects: list[Manifest], definitions: dict[tuple[str, str], Any]) -> None:
    for item in objects:
        if item["apiVersion"] in CORE_GROUPS:
            continue
        aws = item["kind"] == "EC2NodeClass"
        jsonschema.validate(item, EC2_NODE_CLASS if aws else strict(definitions[item["apiVersion"], item["kind"]]))


def test_every_object_says_whose_it_is(objects: list[Manifest]) -> None:
    for item in objects:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "gpu-launcher"
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert {f"app.kubernetes.io/{key}" for key in ("version", "managed-by", "component")} <= set(labels)


def test_names_are_unique(objects: list[Manifest]) -> None:
    names = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))


def test_settings_reach_the_config_map_whole(helm: Helm) -> None:
    profile = {"id": "a10g", "big": 1099511627776, "ratio": 0.02, "text": "3: #x", "multi": "a\nb"}
    # The document's own schema is tested elsewhere; here only that YAML brings back what went in.
    document = f"settings={json.dumps(profile)}"
    done = helm.run("template", RELEASE, str(CHART), "--skip-schema-validation", "--set-json", document)
    maps = [item for item in yaml.safe_load_all(done.stdout) if item and item["kind"] == "ConfigMap"]
    assert [yaml.safe_load(item["data"]["settings.yaml"]) for item in maps] == [{"version": 1, **profile}]


def test_a_hub_elsewhere_gets_its_own_settings_and_permissions(helm: Helm) -> None:
    objects = helm.template('hub={"serviceAccount":"hub","namespace":"notebooks"}')
    where = {item["metadata"]["namespace"] for item in objects if item["kind"] == "ConfigMap"}
    assert where == {NAMESPACE, "notebooks"}
    subjects = [subject for item in objects for subject in item.get("subjects", [])]
    assert subjects
    assert {subject["namespace"] for subject in subjects} == {"notebooks"}


def test_notes_tell_the_next_step(helm: Helm) -> None:
    done = helm.run("install", RELEASE, str(CHART), "--dry-run=client", "--namespace", NAMESPACE)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert "helm test gpu-launcher --namespace jupyter" in notes
    assert "Nothing was bought" in notes
    assert "none (nodePools.create=false)" in notes
