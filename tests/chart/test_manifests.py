"""What the chart renders is valid: core kinds strictly, Karpenter's against its own definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from rendering import CHART, NAMESPACE, RELEASE, Helm, Manifest

CORE_GROUPS = ("v1", "apps/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1", "scheduling.k8s.io/v1")
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
    documents = [item["data"]["settings.yaml"] for item in maps if item["metadata"]["name"].endswith("-settings")]
    assert [yaml.safe_load(text) for text in documents] == [{"version": 1, **profile}]


def test_a_hub_elsewhere_gets_its_own_settings_and_permissions(helm: Helm) -> None:
    objects = helm.template('hub={"serviceAccount":"hub","namespace":"notebooks"}')
    where = {
        (item["metadata"]["name"], item["metadata"]["namespace"]) for item in objects if item["kind"] == "ConfigMap"
    }
    assert where == {
        ("gpu-launcher-settings", NAMESPACE),
        ("gpu-launcher-settings", "notebooks"),
        ("gpu-launcher-state", "notebooks"),
    }
    subjects = {(one["name"], one["namespace"]) for item in objects for one in item.get("subjects", [])}
    assert subjects == {("hub", "notebooks"), ("gpu-launcher-controller", NAMESPACE)}
    secrets = {item["metadata"]["namespace"]: item["data"] for item in objects if item["kind"] == "Secret"}
    assert set(secrets) == {NAMESPACE, "notebooks"}
    assert secrets[NAMESPACE] == secrets["notebooks"], "the hub would show another secret than the controller expects"


def _controller(helm: Helm, *sets: str) -> Manifest:
    (found,) = (item for item in helm.template(*sets) if item["kind"] == "Deployment")
    return found


def test_the_controller_publishes_where_the_hub_looks(helm: Helm) -> None:
    found = _controller(helm, 'hub={"serviceAccount":"hub","namespace":"notebooks"}')
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert {"--namespace=notebooks", "--state=gpu-launcher-state"} <= set(container["args"])
    assert found["metadata"]["namespace"] == NAMESPACE
    assert (found["spec"]["replicas"], found["spec"]["strategy"]) == (1, {"type": "Recreate"})


def test_changed_settings_start_the_controller_anew(helm: Helm) -> None:
    def checksum(*sets: str) -> str:
        annotations = _controller(helm, *sets)["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["gpu-launcher/settings-checksum"])

    assert checksum() == checksum('controller={"create":true}')
    assert checksum() != checksum('settings={"version":1,"limits":{"gpus_per_user":1}}')


def test_without_the_controller_nothing_of_it_is_left(helm: Helm) -> None:
    objects = helm.template('controller={"create":false}')
    assert not {"Deployment", "Service", "Secret", "NetworkPolicy"} & {item["kind"] for item in objects}
    assert not [item for item in objects if "-state" in item["metadata"]["name"] or "controller" in str(item)]


def test_further_peers_may_reach_the_controller(helm: Helm) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    objects = helm.template(f"controller.networkPolicy.from={json.dumps([peer])}")
    (policy,) = (item for item in objects if item["kind"] == "NetworkPolicy")
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"][1:] == [peer]
    assert rule["from"][0]["podSelector"] == {"matchLabels": {"component": "hub"}}


def test_notes_tell_the_next_step(helm: Helm) -> None:
    done = helm.run("install", RELEASE, str(CHART), "--dry-run=client", "--namespace", NAMESPACE)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert "helm test gpu-launcher --namespace jupyter" in notes
    assert "Nothing was bought" in notes
    assert "none (nodePools.create=false)" in notes
