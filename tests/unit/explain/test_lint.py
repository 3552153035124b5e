"""Lint: what a configuration will do, and the mistakes that it names (rows C4, K16, K17)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gpu_launcher.domain.policy import ClusterPolicy, Dialect, Limits, Prices
from gpu_launcher.domain.profile import Capacity, Fallback, GpuRequest, Image, Profile, ProfileLimits, Size
from gpu_launcher.domain.quantity import GIB
from gpu_launcher.explain.findings import Level
from gpu_launcher.explain.lint import ProfileReport, document_findings, lint
from gpu_launcher.explain.report import as_data, as_text
from machines import CATALOGUE, TORCH, cpu_profile, gpu_profile

POLICY = ClusterPolicy()


def _report(profile: Profile, policy: ClusterPolicy = POLICY, **more: Any) -> ProfileReport:
    (report,) = lint([profile], CATALOGUE, policy, **more)
    return report


def _codes(report: ProfileReport) -> list[str]:
    return [finding.code for finding in report.findings]


def test_a_profile_says_its_machines_and_prices() -> None:
    report = _report(gpu_profile(images=(TORCH,)), prices=Prices(discount=0.5, spot_ratio=0.3))
    assert [(machine.name, machine.slots) for machine in report.machines] == [("g5.xlarge", 1), ("g5.2xlarge", 1)]
    assert report.machines[0].price.on_demand == pytest.approx(0.503)
    assert report.machines[0].price.spot == pytest.approx(0.503 * 0.3)
    assert report.findings == ()
    assert not report.failed


@pytest.mark.parametrize(
    ("other", "code"),
    [
        (gpu_profile("t4"), None),
        (gpu_profile("t4", groups=("vision",)), None),
        (gpu_profile("t4", groups=("language",)), "fallback_not_open"),
        (gpu_profile("t4", name="t5"), "fallback_impossible"),
        (gpu_profile("t4", name="a10g"), "fallback_same_machines"),
        (gpu_profile("t4", name="a10g", capacity=Capacity.SPOT), None),
        (gpu_profile("t4", name="a10g", fallback=Fallback(Capacity.SPOT)), None),
    ],
)
def test_a_fallback_that_leads_nowhere_is_named(other: Profile, code: str | None) -> None:
    asked = gpu_profile(images=(TORCH,), groups=("vision",), fallback=Fallback(profiles=("t4", "gone")))
    report, _ = lint([asked, other], CATALOGUE, POLICY)
    assert _codes(report) == ([code] if code else [])
    assert not report.failed


def test_a_fallback_to_spot_is_told_what_spot_does() -> None:
    asked = gpu_profile(images=(replace(TORCH, session_extension=False),), fallback=Fallback(Capacity.SPOT))
    assert _codes(_report(asked)) == ["spot_without_extension"]


def test_c4_gpu_name_and_host_memory_are_explained_as_in_the_article() -> None:
    report = _report(gpu_profile("a100", node_selector={"karpenter.k8s.aws/instance-memory": "81920"}))
    assert report.failed
    assert report.pool is None
    (text,) = [finding.text for finding in report.findings if finding.level is Level.ERROR]
    assert text == (
        "no type has gpu name a100 and karpenter.k8s.aws/instance-memory: 81920; nearest: p4d.24xlarge with 1179648. "
        "karpenter.k8s.aws/instance-memory is the memory of the whole host in MiB, and a selector matches it exactly: "
        'no such host exists. "At least 80 GiB of host memory" is a request (size.memory: 80Gi); "a GPU with 80 GiB" '
        'is karpenter.k8s.aws/instance-gpu-memory (gpu.memory: ">=80Gi", as p4de.24xlarge has)'
    )


def test_c4_the_same_is_explained_where_gpu_and_memory_are_both_selectors() -> None:
    aws = "karpenter.k8s.aws/instance"
    selector = {f"{aws}-gpu-name": "a100", f"{aws}-memory": "81920"}
    (text,) = [
        finding.text
        for finding in _report(gpu_profile("p", gpu=GpuRequest(), node_selector=selector)).findings
        if finding.level is Level.ERROR
    ]
    assert text.startswith("no type has gpu name a100 and karpenter.k8s.aws/instance-memory: 81920; nearest: p4d")
    assert "no such host exists" in text
    assert '(gpu.memory: ">=80Gi", as p4de.24xlarge has)' in text


def test_c4_one_impossible_profile_leaves_the_others_alone() -> None:
    reports = lint([cpu_profile(), gpu_profile("a10"), gpu_profile("a10g")], CATALOGUE, POLICY)
    assert [report.failed for report in reports] == [False, True, False]


def test_k16_a_label_that_no_node_has_is_an_error() -> None:
    report = _report(gpu_profile(node_selector={"karpenter.k8s.aws/instance-gpu-nam": "a10g"}))
    assert report.failed
    assert "nearest: karpenter.k8s.aws/instance-gpu-name" in report.findings[0].text


def test_k17_an_image_and_scratch_larger_than_the_disk() -> None:
    image = Image("huge", "Huge", "quay.io/team/huge:1", 100 * GIB, session_extension=True)
    report = _report(gpu_profile(images=(image,), scratch=100 * GIB))
    assert report.failed
    assert "leaves 74 GiB for a session, which wants 100 GiB; raise cluster.disk" in report.findings[0].text
    assert not _report(gpu_profile(images=(image,), scratch=100 * GIB), replace(POLICY, disk_bytes=400 * GIB)).failed


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({"capacity": Capacity.SPOT}, True),
        ({"capacity": Capacity.SPOT_FIRST}, True),
        ({"spot_choice": True}, True),
        ({}, False),
        ({"capacity": Capacity.RESERVED}, False),
    ],
)
def test_k17_spot_without_the_session_extension_is_warned_of(changes: dict[str, Any], warned: bool) -> None:
    plain = replace(TORCH, session_extension=False)
    report = _report(gpu_profile(images=(plain,), **changes))
    found = [finding for finding in report.findings if finding.code == "spot_without_extension"]
    assert [finding.level for finding in found] == ([Level.WARNING] if warned else [])
    assert all("nothing saves work before an interruption in this version" in finding.text for finding in found)
    assert not report.failed
    assert "spot_without_extension" not in _codes(_report(gpu_profile(images=(TORCH,), **changes)))


@pytest.mark.parametrize(
    ("profile", "code", "level", "words"),
    [
        (gpu_profile(), "image_size_unknown", Level.NOTE, "the hub's image"),
        (gpu_profile(images=(replace(TORCH, bytes=None),)), "image_size_unknown", Level.NOTE, "image torch"),
        (gpu_profile(node_selector={"team": "x"}), "unchecked_label", Level.WARNING, "node_selector team"),
        (gpu_profile(instance_types=("g5.xlarge", "g5.2xlrge")), "unknown_type", Level.WARNING, "nearest: g5.2xlarge"),
        (gpu_profile("h200"), "price_unknown", Level.WARNING, "prices.overrides: {p5e.48xlarge"),
        (
            gpu_profile(limits=ProfileLimits(gpus_per_user=0)),
            "limit_too_low",
            Level.ERROR,
            "its gpus_per_user is 0, below the 1 of one session: nobody",
        ),
        (
            gpu_profile(images=(replace(TORCH, bytes=90 * GIB),), start_timeout_s=300),
            "start_timeout_too_short",
            Level.WARNING,
            "longer than start_timeout (5 min)",
        ),
        (gpu_profile(default=True, groups=("vision",)), "default_not_open", Level.WARNING, "open to vision only"),
        (gpu_profile(size=Size(shm=100 * GIB)), "shm_too_large", Level.WARNING, "is cut to it"),
        (
            gpu_profile("a100", gpu=GpuRequest("a100", count=3, max_count=3)),
            "stranded_gpus",
            Level.WARNING,
            "2 of the GPUs of p4d.24xlarge",
        ),
        (
            gpu_profile("p", gpu=GpuRequest(), instance_types=("g9.big",), size=Size(4000, 8 * GIB)),
            "unchecked_types",
            Level.WARNING,
            "no table of these machines",
        ),
    ],
)
def test_findings(profile: Profile, code: str, level: Level, words: str) -> None:
    (finding,) = [finding for finding in _report(profile).findings if finding.code == code]
    assert finding.level is level
    assert words in finding.text


def test_images_of_other_profiles_on_the_same_disk_are_named() -> None:
    huge = Image("huge", "Huge", "quay.io/team/huge:1", 40 * GIB)
    one, other = gpu_profile(images=(TORCH,)), gpu_profile("other", "a10g", images=(TORCH, huge))
    reports = lint([one, other, gpu_profile("t4", images=(huge,))], CATALOGUE, POLICY)
    notes = [[finding for finding in report.findings if finding.code == "shared_disk"] for report in reports]
    assert [len(found) for found in notes] == [1, 0, 0]
    assert notes[0][0].level is Level.NOTE
    assert notes[0][0].text.endswith("which leaves 40 GiB less disk on each: huge (other)")
    sized = replace(one, size=Size(ephemeral=GIB))
    assert "shared_disk" not in _codes(lint([sized, replace(other, size=sized.size)], CATALOGUE, POLICY)[0])


def test_a_price_of_a_type_that_nobody_knows_is_warned_of() -> None:
    prices = Prices(overrides={"g5.xlarge": 0.5, "g5.2xlrge": 0.6})
    (finding,) = document_findings(CATALOGUE, POLICY, prices)
    assert finding.level is Level.WARNING
    assert finding.text == (
        "prices.overrides: g5.2xlrge is not in the table of machines and changes nothing; nearest: g5.2xlarge"
    )
    assert document_findings(CATALOGUE, ClusterPolicy(dialect=Dialect.GKE), prices) == ()
    text = as_text(lint([gpu_profile(images=(TORCH,))], CATALOGUE, POLICY), [finding])
    assert "document\n  WARNING     prices.overrides: g5.2xlrge" in text
    assert text.endswith("1 profile, 0 errors, 1 warning")


LIMIT = "limit_too_low"


def test_a_limit_over_all_profiles_that_nobody_can_meet() -> None:
    report = _report(gpu_profile(), limits=Limits(gpus_per_user=0))
    assert "limit_too_low" in _codes(report)


def test_clouds_without_a_table_are_said_to_be_unchecked() -> None:
    profile = gpu_profile("l4", size=Size(7000, 28 * GIB))
    assert "unchecked_types" in _codes(_report(profile, ClusterPolicy(dialect=Dialect.GKE)))
    assert "unchecked_label" not in _codes(_report(profile, ClusterPolicy(dialect=Dialect.GKE)))


def test_the_text_names_machines_prices_wait_and_mistakes() -> None:
    text = as_text(lint([gpu_profile(images=(TORCH,)), gpu_profile("a10")], CATALOGUE, POLICY))
    assert "a10g  A10G" in text
    assert "  session     3.59 CPU · 13 GiB memory · 165.6 GiB disk · 1 GPU, on-demand" in text
    assert "  g5.xlarge                 1        1.01              0.40" in text
    assert "  cold start  about 3.5 min (boot 45 s, GPU driver 15 s, image 150 s, server 5 s)" in text
    assert "  ERROR       no type has gpu name a10; nearest: a10g g5.xlarge" in text
    assert text.endswith("2 profiles, 1 error, 0 warnings")


def test_the_data_is_json_with_the_same_words() -> None:
    reports = lint([gpu_profile(images=(TORCH,)), gpu_profile("a10")], CATALOGUE, POLICY)
    good, bad = json.loads(json.dumps(as_data(reports)))
    assert good["available"]
    assert good["machines"][0]["on_demand_usd_per_hour"] == 1.006
    assert good["session"]["gpus"] == 1
    assert not bad["available"]
    assert bad["findings"][0] == {
        "level": "error",
        "code": "gpu_name",
        "text": "no type has gpu name a10; nearest: a10g g5.xlarge",
    }


@pytest.mark.parametrize(
    ("groups", "limits", "level"),
    [
        ((), Limits(gpus_per_group=0), Level.WARNING),
        (("vision",), Limits(gpus_per_group=0), Level.ERROR),
        (("vision",), Limits(gpus_per_group=0, groups={"vision": 4}), None),
        ((), Limits(gpus_per_group=1), None),
    ],
)
def test_a_limit_that_the_members_of_a_group_cannot_meet(
    groups: tuple[str, ...], limits: Limits, level: Level | None
) -> None:
    found = [one.level for one in _report(gpu_profile(groups=groups), limits=limits).findings if one.code == LIMIT]
    assert found == ([level] if level else [])
