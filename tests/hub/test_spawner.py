"""A profile becomes a pod: the manifest, whole, without a hub or a cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from traitlets import TraitError

from spawners import Build, manifest


async def test_o5_form_rest_query_and_saved_options_give_the_same_pod(build: Build) -> None:
    fields = {"profile": ["a10g"], "profile-option-a10g--image": ["jax"], "profile-option-a10g--spot": ["true"]}
    body = {"profile": "a10g", "image": "jax", "spot": True}
    query = {"opt-profile": ["a10g"], "opt-image": ["jax"], "opt-spot": ["true"]}
    by_form = await manifest(build(), build().options_from_form(fields))
    assert by_form == await manifest(build(), body)
    assert by_form == await manifest(build(), build().options_from_query(query))
    saved = build()
    saved.orm_spawner.user_options = body
    saved.handler = None
    saved.user_options = body
    assert by_form == await manifest(saved, saved.user_options)


async def test_amounts_are_exact_and_the_environment_knows_them(build: Build) -> None:
    pod = await manifest(build(), {"profile": "a10g"})
    notebook = pod["spec"]["containers"][0]
    assert notebook["resources"]["requests"] == notebook["resources"]["limits"]
    assert notebook["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert notebook["resources"]["limits"]["cpu"].endswith("m")
    assert notebook["resources"]["limits"]["memory"].endswith("Mi")
    env = {entry["name"]: entry.get("value") for entry in notebook["env"]}
    assert env["MEM_LIMIT"] == env["MEM_GUARANTEE"]
    assert int(env["MEM_LIMIT"]) == int(notebook["resources"]["limits"]["memory"][:-2]) * 1024**2


async def test_the_pod_repeats_the_decision(build: Build) -> None:
    pod = await manifest(build(groups=("research",)), {"profile": "a100"})
    labels, annotations = pod["metadata"]["labels"], pod["metadata"]["annotations"]
    assert labels["gpu-launcher/profile"] == "a100"
    assert labels["gpu-launcher/instance"] == "jupyter.test"
    assert json.loads(annotations["gpu-launcher/groups"]) == ["research"]
    assert json.loads(annotations["gpu-launcher/plan"])["request"]["profile"] == "a100"
    assert annotations["karpenter.sh/do-not-disrupt"]


OURS = ("profile", "image", "image_unlisted", "image--unlisted-choice", "gpus", "spot")

SITE: dict[str, Any] = {
    "image_pull_policy": "Always",
    "extra_labels": {"team": "{username}"},
    "extra_annotations": {"site": "yes"},
    "node_selector": {"hub.jupyter.org/node-purpose": "user"},
    "tolerations": [{"key": "site", "operator": "Exists"}],
    "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "claim-{username}"}}],
    "volume_mounts": [{"name": "home", "mountPath": "/home/jovyan"}],
    "environment": {"SITE": "yes"},
    "extra_resource_limits": {"github.com/fuse": "1"},
    "node_affinity_required": [
        {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["us-east-1a"]}]}
    ],
}


async def test_c12_the_sites_kubespawner_configuration_stays(build: Build) -> None:
    pod = await manifest(build(KubeSpawner=SITE), {"profile": "a10g"})
    spec, notebook = pod["spec"], pod["spec"]["containers"][0]
    assert pod["metadata"]["labels"]["team"] == "ada"
    assert pod["metadata"]["annotations"]["site"] == "yes"
    assert notebook["imagePullPolicy"] == "Always"
    assert spec["nodeSelector"]["hub.jupyter.org/node-purpose"] == "user"
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["site", "nvidia.com/gpu"]
    assert spec["volumes"][0]["persistentVolumeClaim"] == {"claimName": "claim-ada"}
    assert {"name": "SITE", "value": "yes"} in notebook["env"]
    assert notebook["resources"]["limits"]["github.com/fuse"] == "1"
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    keys = [expression["key"] for expression in term["matchExpressions"]]
    assert keys[0] == "topology.kubernetes.io/zone"
    assert "karpenter.sh/capacity-type" in keys


async def test_nothing_of_one_attempt_is_left_in_the_next(build: Build) -> None:
    spawner = build(KubeSpawner=SITE)
    first = await manifest(spawner, {"profile": "cpu"})
    await manifest(spawner, {"profile": "a10g", "image": "jax", "spot": True})
    assert await manifest(spawner, {"profile": "cpu"}) == first
    spawner.clear_state()
    spawner.api_token = "canary-token"
    assert await manifest(spawner, {"profile": "cpu"}) == first


async def test_what_a_hook_changes_counts_but_cannot_lose_the_machines(build: Build) -> None:
    def hook(spawner: Any) -> None:
        spawner.node_affinity_required = [{"matchExpressions": [{"key": "mine", "operator": "Exists"}]}]
        spawner.mem_limit = "1G"

    spawner = build(KubeSpawner={"pre_spawn_hook": hook})
    await spawner._run_apply_user_options({"profile": "a10g"})
    spawner.run_pre_spawn_hook()
    pod = await spawner.get_pod_manifest()
    (term,) = pod.spec.affinity.node_affinity.required_during_scheduling_ignored_during_execution.node_selector_terms
    assert next(e["key"] if isinstance(e, dict) else e.key for e in term.match_expressions) == "mine"
    assert len(term.match_expressions) > 1
    assert pod.spec.containers[0].resources.limits["memory"] == 1024**3


async def test_c12_modify_pod_hook_sees_the_finished_pod(build: Build) -> None:
    seen: list[str] = []

    def hook(spawner: Any, pod: Any) -> Any:
        seen.append(pod.metadata.labels["gpu-launcher/profile"])
        pod.metadata.labels["hooked"] = "yes"
        return pod

    pod = await manifest(build(KubeSpawner={"modify_pod_hook": hook}), {"profile": "a10g"})
    assert seen == ["a10g"]
    assert pod["metadata"]["labels"]["hooked"] == "yes"


async def test_c12_the_sites_own_option_hook_runs_after_ours(build: Build) -> None:
    seen: list[Any] = []

    async def hook(spawner: Any, options: Any) -> None:
        seen.append((spawner.plan.profile_id, options))
        spawner.environment = {"FROM_HOOK": "yes"}

    options = {"profile": "a10g", "site_field": "x"}
    pod = await manifest(build(KubeSpawner={"apply_user_options": hook}), options)
    assert seen == [("a10g", options)]
    assert {"name": "FROM_HOOK", "value": "yes"} in pod["spec"]["containers"][0]["env"]


async def test_c12_the_sites_option_hook_does_not_run_for_a_refused_start(build: Build) -> None:
    def hook(spawner: Any, options: Any) -> None:
        raise AssertionError("must not run")

    with pytest.raises(Exception, match=r"must be an object|invalid_options"):
        await build(KubeSpawner={"apply_user_options": hook})._run_apply_user_options(["a10g"])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    extra=st.dictionaries(
        st.sampled_from(["node_selector", "environment", "kubespawner_override", "cpu_limit"]) | st.text(max_size=20),
        st.recursive(st.none() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=2), max_leaves=3),
        max_size=4,
    ).map(lambda extra: {key: value for key, value in extra.items() if key not in OURS})
)
async def test_o3_other_keys_never_reach_the_pod(build: Build, extra: dict[str, Any]) -> None:
    assert await manifest(build(), {"profile": "a10g", **extra}) == await manifest(build(), {"profile": "a10g"})


async def test_o6_a_start_from_options_that_are_gone_says_so_on_the_pending_page(build: Build) -> None:
    spawner = build(KubeSpawner={"events_enabled": False})
    spawner.orm_spawner.user_options = {"profile": "gone"}
    spawner.handler = None
    spawner.user_options = {"profile": "gone"}
    await spawner._run_apply_user_options(spawner.user_options)
    events = [event async for event in spawner.progress()]
    assert "not available any more" in events[0]["message"]
    spawner.clear_state()
    assert [event async for event in spawner.progress()] == []


async def test_start_timeout_is_set_where_the_hub_still_reads_it(build: Build) -> None:
    spawner = build(KubeSpawner={"start_timeout": 60})
    await spawner._run_apply_user_options({"profile": "a10g"})
    assert spawner.start_timeout == 900


async def test_a_start_without_the_option_step_decides_all_the_same(build: Build) -> None:
    spawner = build()
    await spawner.load_user_options()
    assert spawner.plan is not None
    assert spawner.plan.profile_id == "cpu"
    decided = spawner.plan
    await spawner.load_user_options()
    assert spawner.plan is decided


@pytest.mark.parametrize("user", ["x" * 200, "ADA", "ada@example.org", "ада 🚀", "-", "a.b_c"])
async def test_o10_names_of_any_kind_make_valid_labels(build: Build, user: str) -> None:
    pod = await manifest(build(user=user, server="n" * 200), {"profile": "a10g"})
    for key, value in pod["metadata"]["labels"].items():
        assert len(value) <= 63, key
        if key.startswith("gpu-launcher/"):
            assert value.isascii()
            assert user not in value or len(user) == 1


async def test_h9_the_plan_survives_a_restart_of_the_hub(build: Build) -> None:
    spawner = build()
    await spawner._run_apply_user_options({"profile": "a10g"})
    restarted = build()
    restarted.load_state(json.loads(json.dumps(spawner.get_state())))
    assert restarted.plan is not None
    assert spawner.plan is not None
    assert (restarted.plan.profile_id, restarted.plan.resources) == ("a10g", spawner.plan.resources)
    spawner.clear_state()
    assert "gpu_launcher" not in spawner.get_state()


@pytest.mark.parametrize("state", [None, [], {}, {"version": 2}, {"version": 1}, {"version": 1, "resources": "x"}])
async def test_h9_a_state_of_another_version_leaves_the_plan_unknown(build: Build, state: object) -> None:
    spawner = build()
    spawner.load_state({"kubespawner_version": "7.0.0", "gpu_launcher": state})
    assert spawner.plan is None


async def test_no_secret_is_in_the_state(build: Build) -> None:
    spawner = build()
    await manifest(spawner, {"profile": "a10g"})
    assert "canary-token" not in json.dumps(spawner.get_state())


@pytest.mark.parametrize("instance", ["a b", "x" * 64, "-x", "ünï"])
def test_an_instance_that_is_no_label_value_is_refused_at_once(build: Build, instance: str) -> None:
    with pytest.raises(TraitError, match=r"c\.GpuSpawner\.instance"):
        build().instance = instance
