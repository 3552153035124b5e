"""Raw objects become views; whatever they look like, parsing ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.cluster import raw as read
from gpu_launcher.cluster.parse import event_view, node_claim_view, node_pool_view, node_view, pod_view, volume_views
from gpu_launcher.domain.quantity import GIB
from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.views import Expression

AT = "2026-11-23T10:00:00Z"
UNIX = 1795428000.0

POD: dict[str, Any] = {
    "metadata": {
        "name": "jupyter-ada",
        "namespace": "hub",
        "uid": "u1",
        "creationTimestamp": AT,
        "labels": {"component": "singleuser-server"},
        "annotations": {"a": "b"},
    },
    "spec": {
        "nodeName": "n1",
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "karpenter.sh/capacity-type", "operator": "NotIn", "values": ["spot"]}
                            ]
                        }
                    ]
                }
            }
        },
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "volumes": [
            {"name": "home", "persistentVolumeClaim": {"claimName": "claim-ada"}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
            {"name": "token", "projected": {}},
        ],
        "initContainers": [{"name": "chown", "resources": {"requests": {"cpu": "5"}}}],
        "containers": [
            {
                "name": "notebook",
                "image": "torch",
                "resources": {
                    "requests": {"cpu": "3500m", "memory": "13Gi", "ephemeral-storage": "50Gi"},
                    "limits": {"nvidia.com/gpu": "1"},
                },
            }
        ],
    },
    "status": {
        "phase": "Pending",
        "podIP": "10.0.0.1",
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": AT}],
        "containerStatuses": [
            {
                "name": "notebook",
                "restartCount": 2,
                "ready": False,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            }
        ],
    },
}


def test_a_pod() -> None:
    pod = pod_view(POD)
    assert pod is not None
    assert (pod.namespace, pod.name, pod.uid, pod.node, pod.ip, pod.deleting) == (
        "hub", "jupyter-ada", "u1", "n1", "10.0.0.1", False,
    )  # fmt: skip
    assert pod.created_at == UNIX
    assert pod.requests == Resources(5000, 13 * GIB, 50 * GIB, 1)
    assert pod.node_affinity == ((Expression("karpenter.sh/capacity-type", "NotIn", ("spot",)),),)
    assert pod.toleration_keys == {"nvidia.com/gpu"}
    assert pod.claims == ("claim-ada", "jupyter-ada-scratch")
    assert pod.images == ("torch",)
    assert pod.conditions["PodScheduled"].true
    (container,) = pod.containers
    assert (container.state, container.reason, container.restarts) == ("waiting", "CrashLoopBackOff", 2)
    assert (container.last_exit_code, container.last_reason) == (137, "OOMKilled")
    going = pod_view({"metadata": {"name": "a", "deletionTimestamp": AT}})
    assert going is not None
    assert going.deleting


def test_a_node() -> None:
    labels = {
        "karpenter.sh/nodepool": "gpu",
        "karpenter.sh/initialized": "true",
        "karpenter.sh/capacity-type": "spot",
        "node.kubernetes.io/instance-type": "g5.xlarge",
        "topology.kubernetes.io/zone": "us-east-1b",
    }
    raw = {
        "metadata": {"name": "n1", "labels": labels},
        "spec": {
            "taints": [
                {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
                {"key": "soft", "effect": "PreferNoSchedule"},
                {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"},
            ]
        },
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": "3920m", "memory": "14501888Ki", "nvidia.com/gpu": "1"},
            "images": [{"names": ["torch@sha256:1", "torch:1"]}],
        },
    }
    node = node_view(raw)
    assert node is not None
    assert (node.ready, node.initialized, node.disrupted, node.gpus_advertised) == (True, True, True, True)
    assert (node.instance_type, node.zone, node.capacity_type, node.node_pool) == (
        "g5.xlarge", "us-east-1b", "spot", "gpu",
    )  # fmt: skip
    assert node.taint_keys == {"nvidia.com/gpu", "karpenter.sh/disrupted"}
    assert node.allocatable == Resources(3920, 14501888 * 1024, 0, 1)
    assert node.images == (("torch@sha256:1", "torch:1"),)
    assert node.images_complete
    own = node_view({"metadata": {"name": "n2"}})
    assert own is not None
    assert own.initialized, "a node that is not Karpenter's needs nobody's word"
    new = node_view({"metadata": {"name": "n3", "labels": {"karpenter.sh/nodepool": "gpu"}}})
    assert new is not None
    assert not new.initialized
    full = node_view({"metadata": {"name": "n4"}, "status": {"images": [{"names": [str(i)]} for i in range(50)]}})
    assert full is not None
    assert not full.images_complete


def test_a_node_claim_and_its_pool() -> None:
    claim = node_claim_view(
        {
            "metadata": {"name": "gpu-1", "labels": {"karpenter.sh/nodepool": "gpu", "team": "x"}},
            "spec": {
                "requirements": [{"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]}],
                "resources": {"requests": {"cpu": "1", "nvidia.com/gpu": "1"}},
            },
            "status": {"nodeName": "n1", "conditions": [{"type": "Launched", "status": "True"}]},
        }
    )
    assert claim is not None
    assert (claim.node_pool, claim.node, claim.reached("Launched"), claim.requests.gpus) == ("gpu", "n1", True, 1)
    assert Expression("team", "In", ("x",)) in claim.requirements
    pool = node_pool_view(
        {
            "metadata": {"name": "gpu"},
            "spec": {
                "weight": 10,
                "limits": {"nvidia.com/gpu": "8", "cpu": "1k"},
                "template": {
                    "metadata": {"labels": {"team": "x"}},
                    "spec": {
                        "requirements": [{"key": "a", "operator": "Exists"}],
                        "taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
                    },
                },
            },
            "status": {"resources": {"nvidia.com/gpu": "8", "memory": "1Gi"}},
        }
    )
    assert pool is not None
    assert (pool.limits, pool.used) == ({"nvidia.com/gpu": 8.0, "cpu": 1000.0}, {"nvidia.com/gpu": 8.0, "cpu": 0.0})
    assert pool.labels == {"team": "x", "karpenter.sh/nodepool": "gpu"}
    assert (pool.weight, pool.ready, pool.taint_keys) == (10, None, {"nvidia.com/gpu"})


@pytest.mark.parametrize(
    ("times", "first", "last"),
    [
        ({"firstTimestamp": AT, "lastTimestamp": "2026-11-23T10:00:09Z", "count": 3}, UNIX, UNIX + 9),
        ({"eventTime": "2026-11-23T10:00:00.000000Z"}, UNIX, UNIX),
        ({"eventTime": AT, "series": {"count": 3, "lastObservedTime": "2026-11-23T10:00:05Z"}}, UNIX, UNIX + 5),
        ({"metadata": {"creationTimestamp": AT}}, UNIX, UNIX),
        ({}, None, None),
    ],
)
def test_the_times_of_an_event(times: dict[str, Any], first: float | None, last: float | None) -> None:
    event = event_view({"involvedObject": {"kind": "Pod", "name": "a", "uid": "u"}, "reason": "Pulling", **times})
    assert event is not None
    assert (event.first_at, event.at) == (first, last)
    assert event.count == (3 if "count" in str(times) else 1)


def test_volumes() -> None:
    term = {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["us-east-1b"]}]}
    pvc = {
        "metadata": {"name": "claim-ada"},
        "spec": {"volumeName": "pv-1", "accessModes": ["ReadWriteOnce"]},
        "status": {"phase": "Bound"},
    }
    pv = {"metadata": {"name": "pv-1"}, "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}}
    source = {"persistentVolumeName": "pv-1"}
    there = {"spec": {"nodeName": "n2", "source": source}, "status": {"attached": True}}
    wanted = {"spec": {"nodeName": "n1", "source": source}, "status": {"attached": False}}
    (volume,) = volume_views([pvc, {}], [pv], [there, wanted])
    assert (volume.claim, volume.phase, volume.zones, volume.attached_to) == (
        "claim-ada", "Bound", ("us-east-1b",), ("n2",),
    )  # fmt: skip
    assert volume.one_node
    (new,) = volume_views([{"metadata": {"name": "new"}}], [], [])
    assert (new.volume, new.zones, new.attached_to, new.one_node) == ("", (), (), False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-23T10:00:00Z", UNIX),
        ("2026-11-23T10:00:00.123456Z", UNIX + 0.123456),
        ("2026-11-23T12:00:00+02:00", UNIX),
        ("2026-11-23T10:00:00", UNIX),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("soon", None),
        ("", None),
        (None, None),
        (1795428000, None),
    ],
)
def test_t7_a_time(text: object, seconds: float | None) -> None:
    found = read.moment(text)
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250m", 0.25),
        ("1Ki", 1024.0),
        ("1e3", 1000.0),
        (8, 8.0),
        ("100n", 1e-7),
        ("-1", None),
        ("x", None),
        (True, None),
    ],
)
def test_an_amount(text: object, value: float | None) -> None:
    assert read.amount(text) == (None if value is None else pytest.approx(value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
PARSERS: tuple[Callable[[object], object], ...] = (pod_view, node_view, node_claim_view, node_pool_view, event_view)


@given(JSON)
def test_a8_any_json_is_parsed_to_something_or_none(value: object) -> None:
    for parse in PARSERS:
        assert parse(value) is None
    volume_views([value], [value], [value])


def paths(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The way to every part of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, item in inner for path in paths(item, (*at, key)))]


def with_part(value: Any, path: tuple[Any, ...], part: object) -> Any:
    """A copy with one part replaced."""
    if not path:
        return part
    key, *rest = path
    if isinstance(value, dict):
        return {**value, key: with_part(value[key], tuple(rest), part)}
    return [with_part(item, tuple(rest), part) if i == key else item for i, item in enumerate(value)]


@given(st.sampled_from(paths(POD)), JSON)
def test_a8_a_pod_with_one_wrong_part_is_a_pod_without_it(path: tuple[object, ...], part: object) -> None:
    broken = with_part(POD, path, part)
    pod = pod_view(broken)
    if path not in ((), ("metadata",), ("metadata", "name")):
        assert pod is not None
        assert pod.name == "jupyter-ada"
    for parse in PARSERS:
        parse(broken)
    volume_views([broken], [broken], [broken])
