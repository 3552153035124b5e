"""Values that would buy, starve or mislead are refused, by the schema where it can and by the templates in any case."""

from __future__ import annotations

import json
import runpy
from typing import Any

import pytest
import yaml
from rendering import CHART, ROOT, Helm

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())

POOLS = 'nodePools={"create":true,"gpu":{"limits":{"nvidia.com/gpu":8}},"cpu":{"create":false}}'
CLASS = 'nodeClass={"name":"default"}'
EC2 = {
    "role": "nodes",
    "amiSelectorTerms": [{"alias": "al2023@v20260801"}],
    "subnetSelectorTerms": [{"id": "subnet-0"}],
    "securityGroupSelectorTerms": [{"id": "sg-0"}],
}


def ec2(**changes: Any) -> str:
    """A node class for AWS with these changes, as an argument for Helm."""
    return "nodeClass=" + json.dumps({"create": True, "kind": "EC2NodeClass", "aws": EC2 | changes})


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("nodepools={}", "nodepools"),
        ('nodePools={"gpu":{"limit":{}}}', "limit"),
        ('settings={"version":1,"profile":[]}', "profile"),
        ('priorityClasses={"session":{"globalDefault":true}}', "globalDefault"),
        ('image={"tags":"1"}', "tags"),
        ('hub={"serviceaccount":"hub"}', "serviceaccount"),
    ],
)
def test_c5_unknown_key_fails_lint(helm: Helm, key: str, path: str) -> None:
    done = helm.lint(key)
    assert done.returncode != 0
    assert f"additional properties '{path}' not allowed" in done.stdout + done.stderr


def test_c5_unknown_key_fails_the_settings_model() -> None:
    from gpu_launcher.settings import SettingsError, load_settings

    with pytest.raises(SettingsError, match="profile"):
        load_settings({"version": 1, "profile": []})


@pytest.mark.parametrize("value", [-33554432, -2000000000, 0, 5])
def test_c6_placeholder_priority_that_empties_nodes_or_beats_sessions(helm: Helm, value: int) -> None:
    item = f'priorityClasses={{"placeholder":{{"value":{value}}}}}'
    done = helm.lint(item)
    assert done.returncode != 0
    assert "/priorityClasses/placeholder/value" in done.stdout + done.stderr
    assert "priorityClasses.placeholder.value" in helm.refusal(item, schema=False)


@pytest.mark.parametrize("value", [-33554431, -10, -1])
def test_c6_placeholder_priority_in_range_is_accepted(helm: Helm, value: int) -> None:
    classes = [
        item
        for item in helm.template(f'priorityClasses={{"placeholder":{{"value":{value}}}}}')
        if item["kind"] == "PriorityClass"
    ]
    assert sorted(item["value"] for item in classes) == [value, 0]


def test_c6_session_priority_cannot_push_others_or_fall_below_placeholders(helm: Helm) -> None:
    assert "/priorityClasses/session/value" in helm.refusal('priorityClasses={"session":{"value":-20}}')


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (['nodePools={"create":true}', CLASS], "nvidia.com/gpu"),
        (['nodePools={"create":true,"gpu":{"limits":{"cpu":8}},"cpu":{"create":false}}', CLASS], "nvidia.com/gpu"),
        ([POOLS], "/nodeClass/name"),
        ([POOLS, "nodePools.gpu.taints=[]", CLASS], "/nodePools/gpu/taints"),
        ([POOLS, 'nodePools.gpu.taints=[{"key":"a","effect":"PreferNoSchedule"}]', CLASS], "/nodePools/gpu/taints"),
        ([POOLS, "nodePools.gpu.taints=null", CLASS], "taints"),
        ([POOLS, CLASS, 'nodePools.gpu.expireAfter="720h"'], "expireAfter"),
        ([POOLS, CLASS, 'nodePools.gpu.terminationGracePeriod="1h"'], "terminationGracePeriod"),
        ([POOLS, CLASS, 'nodePools.gpu.requirements=[{"key":"a","operator":"In"}]'], "values"),
        (['image={"tag":"latest"}'], "/image/tag"),
        (['image={"digest":"sha256:1"}'], "/image/digest"),
        (['nodeClass={"create":true,"kind":"AKSNodeClass","group":"karpenter.azure.com"}'], "/nodeClass/kind"),
        ([POOLS, 'nodeClass={"kind":"AKSNodeClass","name":"gpu"}'], "/nodeClass/group"),
        (['nodeClass={"create":true}'], "amiSelectorTerms"),
        ([ec2(instanceProfile="also")], "oneOf"),
        ([ec2(disk={"throughput": 10})], "throughput"),
        ([ec2(disk={"snapshotInitializationRate": 200})], "snapshotID"),
    ],
)
def test_schema_refuses(helm: Helm, items: list[str], words: str) -> None:
    assert words in helm.refusal(*items)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([POOLS, CLASS, "nodePools.gpu.taints=[]"], "nodePools.gpu.taints"),
        (['nodePools={"create":true,"cpu":{"create":false}}', CLASS], "nodePools.gpu.limits"),
        ([POOLS], "nodeClass.name"),
    ],
)
def test_templates_refuse_where_the_schema_is_skipped(helm: Helm, items: list[str], words: str) -> None:
    assert words in helm.refusal(*items, schema=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"amiSelectorTerms": [{"id": "ami-0"}]}, "nodeClass.aws.amiFamily"),
        ({"disk": {"snapshotID": "snap-0"}}, "use Bottlerocket"),
        ({"disk": {"size": "500Gi"}}, "settings.cluster.disk, by which slots are divided, is 200Gi"),
        ({"parallelPull": {"enabled": True}, "userData": "mine"}, "nodeClass.aws.userData"),
        ({"amiFamily": "Custom", "amiSelectorTerms": [{"id": "ami-0"}]}, "nodeClass.aws.disk.deviceName"),
        (
            {
                "amiFamily": "Custom",
                "amiSelectorTerms": [{"id": "ami-0"}],
                "disk": {"deviceName": "/dev/sda1"},
                "parallelPull": {"enabled": True},
            },
            "nodeClass.aws.parallelPull",
        ),
    ],
)
def test_node_classes_that_cannot_work_are_refused_with_a_remedy(
    helm: Helm, changes: dict[str, Any], words: str
) -> None:
    assert words in helm.refusal(ec2(**changes))


@pytest.mark.parametrize(
    ("taint", "words"),
    [
        ({"key": "sku", "effect": "NoSchedule"}, "add it to settings.cluster.toleration_keys"),
        ({"key": "nvidia.com/gpu", "effect": "NoExecute"}, "sessions tolerate no NoExecute"),
    ],
)
def test_a_taint_that_no_session_tolerates_is_refused(helm: Helm, taint: dict[str, str], words: str) -> None:
    taints = [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}, taint]
    assert words in helm.refusal(POOLS, CLASS, f"nodePools.gpu.taints={json.dumps(taints)}")


BOTH = 'nodePools={"create":true,"gpu":{"limits":{"nvidia.com/gpu":8}},"cpu":{"limits":{"cpu":8}}}'
ON_SPOT = '[{"key":"karpenter.sh/capacity-type","operator":"In","values":["spot"]}]'
NOT_SPOT = '[{"key":"karpenter.sh/capacity-type","operator":"NotIn","values":["spot","reserved"]}]'


def profiles(gpu: bool = False, **changes: Any) -> str:
    """Settings with one profile, as an argument for Helm."""
    kind: dict[str, Any] = {"gpu": {}} if gpu else {"size": {"cpu": "2", "memory": "6Gi"}}
    return "settings.profiles=" + json.dumps([{"id": "one", "display_name": "One", **kind, **changes}])


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([profiles(capacity="spot")], "one wants karpenter.sh/capacity-type spot, which nodePools.cpu.requirements"),
        ([profiles(capacity="spot-first")], "one wants karpenter.sh/capacity-type spot,"),
        ([profiles(spot_choice=True)], "one wants karpenter.sh/capacity-type spot,"),
        (
            [profiles(node_selector={"kubernetes.io/arch": "arm64"})],
            "wants kubernetes.io/arch arm64, which nodePools.cpu",
        ),
        ([profiles(True, node_selector={"kubernetes.io/arch": "arm64"})], "arm64, which nodePools.gpu.requirements"),
        ([profiles(True), f"nodePools.gpu.requirements={ON_SPOT}"], "capacity-type on-demand or reserved, which"),
        ([profiles(True, capacity="reserved"), f"nodePools.gpu.requirements={NOT_SPOT}"], "capacity-type reserved,"),
    ],
)
def test_a_profile_that_its_pool_cannot_serve_is_refused(helm: Helm, items: list[str], words: str) -> None:
    refusal = helm.refusal(BOTH, CLASS, *items)
    assert words in refusal
    assert "add it there, change the profile" in refusal


@pytest.mark.parametrize(
    "items",
    [
        [BOTH, profiles()],
        [BOTH, profiles(True, spot_choice=True)],
        [BOTH, profiles(capacity="reserved", node_selector={"kubernetes.io/arch": "amd64"})],
        [BOTH, profiles(capacity="spot"), f"nodePools.cpu.requirements={ON_SPOT}"],
        [BOTH, profiles(True), f"nodePools.gpu.requirements={NOT_SPOT}"],
        [POOLS, profiles(capacity="spot")],
    ],
)
def test_a_profile_that_its_pool_or_a_pool_of_ones_own_serves_is_not(helm: Helm, items: list[str]) -> None:
    assert helm.template(*items, CLASS)


def test_defaults_repeated_in_templates_are_the_settings_own() -> None:
    from gpu_launcher.domain.policy import ClusterPolicy
    from gpu_launcher.domain.quantity import parse_bytes

    policy = ClusterPolicy()
    assert parse_bytes(VALUES["nodeClass"]["aws"]["disk"]["size"]) == policy.disk_bytes == parse_bytes("200Gi")
    assert policy.toleration_keys == ("nvidia.com/gpu",)
    assert [taint["key"] for taint in VALUES["nodePools"]["gpu"]["taints"]] == list(policy.toleration_keys)


def test_schema_holds_the_settings_schema() -> None:
    tool = runpy.run_path(str(ROOT / "tests" / "tools" / "make_values_schema.py"))
    assert tool["with_settings"](SCHEMA, tool["settings_schema"]()) == SCHEMA, "run make_values_schema.py"


def _undocumented(values: Any, schema: Any, path: str = "") -> list[str]:
    if not isinstance(values, dict) or "properties" not in schema:
        return []
    return [
        found
        for key, value in values.items()
        for found in (
            _undocumented(value, schema["properties"][key], f"{path}.{key}")
            if key in schema["properties"]
            else [f"{path}.{key}"]
        )
    ]


def _closed(schema: Any, path: str = "") -> list[str]:
    """Paths of objects with known properties that would let an unknown key pass."""
    if not isinstance(schema, dict):
        return []
    children = schema.get("properties", {})
    found = [open_ for key, value in children.items() for open_ in _closed(value, f"{path}.{key}")]
    if children and schema.get("additionalProperties") is not False:
        return [path, *found]
    return found


def test_every_value_is_in_the_schema_and_every_object_is_closed() -> None:
    assert _undocumented(VALUES, SCHEMA) == []
    assert _closed(SCHEMA) == []
    assert [name for name, schema in SCHEMA["$defs"].items() if _closed(schema)] == []


def test_every_schema_key_is_in_the_values() -> None:
    def missing(schema: Any, values: Any, path: str = "") -> list[str]:
        if path == ".settings" or not isinstance(values, dict):
            return []
        found = []
        for key, child in schema.get("properties", {}).items():
            if key not in values:
                found.append(f"{path}.{key}")
            else:
                found += missing(child, values[key], f"{path}.{key}")
        return found

    assert missing(SCHEMA, VALUES) == [".global"]
