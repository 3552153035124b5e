"""Errors of the API server: what is told, and to whom."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from kubernetes_asyncio.client import models

from gpu_launcher.domain.outcomes import RefusalReason
from gpu_launcher.hub.creation import refusal_of, secrets_of, told_by


def error(message: str) -> SimpleNamespace:
    return SimpleNamespace(body=json.dumps({"kind": "Status", "message": message}), reason="Forbidden")


def test_w7_what_is_told_is_short_in_one_line_and_without_secrets() -> None:
    told = told_by(error("Invalid value:\n canary-token " + "x" * 5000), ("canary-token", ""))
    assert told.startswith("Invalid value: [hidden] xxx")
    assert len(told) <= 300


def test_w7_values_of_the_environment_and_of_secrets_are_not_told() -> None:
    env = [models.V1EnvVar("PASSWORD", "canary-in-env"), models.V1EnvVar("DEBUG", "yes")]
    pod = models.V1Pod(spec=models.V1PodSpec(containers=[models.V1Container(name="notebook", env=env)]))
    told = told_by(error("env PASSWORD: canary-in-env, DEBUG: yes"), secrets_of(pod))
    assert told == "env PASSWORD: [hidden], DEBUG: yes"
    secret = models.V1Secret(data={"key": "canary-in-data"}, string_data={"other": "canary-in-text"})
    assert set(secrets_of(secret)) == {"canary-in-data", "canary-in-text"}
    service = models.V1Service(spec=models.V1ServiceSpec(ports=[]))
    assert secrets_of(service) == ()


@pytest.mark.parametrize("body", [None, "", "<html>", "[]", "{}", "1"])
def test_w7_a_body_of_any_shape_is_survived(body: object) -> None:
    assert told_by(SimpleNamespace(body=body, reason="Bad Gateway"), ()) == "Bad Gateway"


@pytest.mark.parametrize(
    ("status", "told", "reason"),
    [
        (403, 'pods "x" is forbidden: exceeded quota: gpus, requested: 1', RefusalReason.QUOTA),
        (403, 'pods "x" is forbidden: violates PodSecurity "restricted"', RefusalReason.POD_REJECTED),
        (403, 'pods is forbidden: User "hub" cannot create resource "pods" in API group ""', RefusalReason.PERMISSION),
        (422, 'Pod "x" is invalid', RefusalReason.POD_REJECTED),
        (400, "admission webhook denied", RefusalReason.POD_REJECTED),
        (401, "Unauthorized", None),
    ],
)
def test_answers_are_told_from_failures(status: int, told: str, reason: RefusalReason | None) -> None:
    refusal = refusal_of(status, told)
    assert (refusal.reason if refusal else None) == reason
    assert refusal is None or (refusal.status < 500 and told not in refusal.message)
