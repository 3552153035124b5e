"""What an installation may do: rule 6 of the design, least privilege, restricted pods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rendering import NAMESPACE, Helm, Manifest

READ = {"get", "list", "watch"}
HARMLESS = {
    "ConfigMap",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "PriorityClass",
    "Pod",
    "Deployment",
    "Service",
    "Secret",
    "NetworkPolicy",
}
BUYS_ON_DEMAND = {"NodePool", "EC2NodeClass", "KWOKNodeClass"}


def kind(objects: list[Manifest], *kinds: str) -> list[Manifest]:
    return [item for item in objects if item["kind"] in kinds]


def pods(objects: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, pod spec) of each pod and each pod template."""
    for item in objects:
        if item["kind"] == "Pod":
            yield item["metadata"]["name"], item["spec"]
        elif "template" in item.get("spec", {}) and item["kind"] != "NodePool":
            yield item["metadata"]["name"], item["spec"]["template"]["spec"]


def rules(objects: list[Manifest]) -> Iterator[dict[str, Any]]:
    for item in kind(objects, "Role", "ClusterRole"):
        yield from item["rules"]


def test_installed_as_it_comes_it_can_buy_nothing(helm: Helm) -> None:
    objects = helm.template()
    assert {item["kind"] for item in objects} <= HARMLESS
    assert [name for name, spec in pods(objects) if "nvidia.com/gpu" in str(spec)] == []


def test_node_pools_come_only_when_asked_for(objects: list[Manifest], values: str | None) -> None:
    assert {item["kind"] for item in objects} <= HARMLESS | BUYS_ON_DEMAND
    if values is None:
        assert kind(objects, *BUYS_ON_DEMAND) == []


def test_no_node_pool_without_a_taint_a_limit_and_a_bound(objects: list[Manifest]) -> None:
    for pool in kind(objects, "NodePool"):
        template = pool["spec"]["template"]
        assert any(taint["effect"] == "NoSchedule" for taint in template["spec"]["taints"])
        assert {"nvidia.com/gpu", "cpu"} & set(pool["spec"]["limits"])
        assert "replicas" not in pool["spec"], "a static pool buys by itself"


def test_node_pools_never_end_a_session(objects: list[Manifest]) -> None:
    for pool in kind(objects, "NodePool"):
        spec = pool["spec"]["template"]["spec"]
        assert pool["spec"]["disruption"]["consolidationPolicy"] == "WhenEmpty"
        assert spec["expireAfter"] == "Never"
        assert "terminationGracePeriod" not in spec


def test_a_new_chart_version_is_not_drift(objects: list[Manifest]) -> None:
    # Karpenter hashes the template: a label there that names a version would replace every node at an upgrade.
    for pool in kind(objects, "NodePool"):
        assert "metadata" not in pool["spec"]["template"]


def test_gpu_and_cpu_pools_never_launch_each_others_machines(helm: Helm) -> None:
    pools = {item["metadata"]["name"]: item["spec"] for item in kind(helm.template(values="lab"), "NodePool")}
    gpu, cpu = (
        {item["key"]: item for item in pools[f"gpu-launcher-{name}"]["template"]["spec"]["requirements"]}
        for name in ("gpu", "cpu")
    )
    assert gpu["karpenter.k8s.aws/instance-gpu-manufacturer"] == {
        "key": "karpenter.k8s.aws/instance-gpu-manufacturer",
        "operator": "In",
        "values": ["nvidia"],
    }
    assert gpu["kubernetes.io/arch"]["values"] == ["amd64"]
    assert gpu["karpenter.sh/capacity-type"]["values"] == ["on-demand", "spot", "reserved"]
    assert cpu["karpenter.k8s.aws/instance-gpu-count"]["operator"] == "DoesNotExist"
    assert cpu["karpenter.k8s.aws/instance-category"]["values"] == ["c", "m", "r"]


def test_no_priority_is_the_clusters_default(objects: list[Manifest]) -> None:
    for item in kind(objects, "PriorityClass"):
        assert item["globalDefault"] is False


def test_nothing_selects_patches_or_hooks_into_foreign_objects(objects: list[Manifest]) -> None:
    # No webhook, no admission policy, no hook at install, upgrade or delete: only the pod of `helm test`.
    assert {item["kind"] for item in objects} <= HARMLESS | BUYS_ON_DEMAND
    for item in objects:
        hook = item["metadata"].get("annotations", {}).get("helm.sh/hook")
        assert hook in (None, "test")
        assert (hook == "test") == (item["kind"] == "Pod")


def granted_to(component: str, objects: list[Manifest]) -> set[tuple[str, str | None, str, str, str]]:
    """(kind of role, namespace, API group, resource or resource/name, verb) of everything that a component may do."""
    return {
        (
            item["kind"],
            item["metadata"].get("namespace"),
            group,
            "/".join([resource, *rule.get("resourceNames", [])]),
            verb,
        )
        for item in kind(objects, "Role", "ClusterRole")
        if item["metadata"]["labels"]["app.kubernetes.io/component"] == component
        for rule in item["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_rbac_of_the_hub_is_exact(helm: Helm) -> None:
    cluster_wide = [
        ("", "nodes"),
        ("", "persistentvolumes"),
        ("storage.k8s.io", "volumeattachments"),
        ("karpenter.sh", "nodeclaims"),
        ("karpenter.sh", "nodepools"),
    ]
    assert granted_to("hub", helm.template()) == {
        *(("ClusterRole", None, group, resource, verb) for group, resource in cluster_wide for verb in READ),
        *(("Role", "default", "", "events", verb) for verb in READ),
        *(("Role", NAMESPACE, "", "configmaps/gpu-launcher-state", verb) for verb in READ),
    }


def test_rbac_of_the_controller_is_exact(helm: Helm) -> None:
    cluster_wide = [("", "nodes"), ("", "pods"), ("karpenter.sh", "nodeclaims"), ("karpenter.sh", "nodepools")]
    assert granted_to("controller", helm.template()) == {
        *(("ClusterRole", None, group, resource, verb) for group, resource in cluster_wide for verb in READ),
        *(("Role", "default", "", "events", verb) for verb in READ),
        *(("Role", NAMESPACE, "", "configmaps/gpu-launcher-state", verb) for verb in ("get", "patch")),
    }


def test_rbac_annotating_pods_is_asked_for(helm: Helm) -> None:
    plain, asked = (kind(helm.template(*sets), "Role") for sets in ((), ('rbac={"annotatePods":true}',)))
    (added,) = (role for role in asked if role not in plain)
    assert added["metadata"]["namespace"] == NAMESPACE
    assert added["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]


def test_rbac_is_bound_to_its_component_alone(objects: list[Manifest]) -> None:
    bindings = kind(objects, "RoleBinding", "ClusterRoleBinding")
    roles = {(item["kind"], item["metadata"]["name"]) for item in kind(objects, "Role", "ClusterRole")}
    assert {(item["roleRef"]["kind"], item["roleRef"]["name"]) for item in bindings} == roles
    (account,) = (item["metadata"]["name"] for item in kind(objects, "ServiceAccount") if "-controller" in str(item))
    accounts = {"hub": "hub", "controller": account}
    for item in bindings:
        component = item["metadata"]["labels"]["app.kubernetes.io/component"]
        assert component in item["roleRef"]["name"]
        assert [(subject["kind"], subject["name"]) for subject in item["subjects"]] == [
            ("ServiceAccount", accounts[component])
        ]


def test_w8_no_wildcard_and_no_escalation_in_rbac(objects: list[Manifest]) -> None:
    for rule in rules(objects):
        assert "*" not in str(rule)
        assert "nonResourceURLs" not in rule
        assert not {"escalate", "bind", "impersonate", "create", "update", "delete"} & set(rule["verbs"])
        assert not {"secrets", "serviceaccounts", "serviceaccounts/token"} & set(rule["resources"])


def test_w8_pods_meet_the_restricted_standard(objects: list[Manifest]) -> None:
    for name, spec in pods(objects):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        sources = {source for volume in spec["volumes"] for source in volume} - {"name"}
        assert sources <= {"configMap", "emptyDir", "secret", "projected"}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in own
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "hostPort" not in str(container.get("ports"))


def test_w8_no_token_is_mounted_that_nobody_needs(objects: list[Manifest]) -> None:
    for item in kind(objects, "ServiceAccount"):
        assert item["automountServiceAccountToken"] is False
    for name, spec in pods(objects):
        assert spec["automountServiceAccountToken"] is name.endswith("-controller"), name
        assert spec["serviceAccountName"] not in ("", "default", "hub")


def test_w8_images_are_pinned(objects: list[Manifest]) -> None:
    for _, spec in pods(objects):
        for container in spec["containers"]:
            reference = container["image"]
            assert "@sha256:" in reference or (":" in reference and not reference.endswith(":latest"))


@pytest.mark.parametrize("tag", ["", "1.2.3"])
def test_w8_a_digest_wins_over_the_tag(helm: Helm, tag: str) -> None:
    digest = "sha256:" + "0" * 64
    objects = helm.template(f'image={{"repository":"registry.example.org/x","tag":"{tag}","digest":"{digest}"}}')
    images = [container["image"] for _, spec in pods(objects) for container in spec["containers"]]
    assert images == [f"registry.example.org/x@{digest}"] * 2
