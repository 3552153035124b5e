from __future__ import annotations

import json

import pytest

from gpu_launcher.cluster import errors, paths


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid),
        (401, errors.Forbidden),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.Gone),
        (418, errors.KubeError),
        (422, errors.Invalid),
        (429, errors.TooManyRequests),
        (500, errors.Unavailable),
        (503, errors.Unavailable),
    ],
)
def test_each_status_has_its_kind(status: int, kind: type[errors.KubeError]) -> None:
    body = json.dumps({"kind": "Status", "reason": "Because", "message": "so it is", "code": status})
    error = errors.error_from(status, body.encode())
    assert type(error) is kind
    assert (error.status, error.reason, error.message) == (status, "Because", "so it is")
    assert error.retry_after is None


@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"[1]", b"null", b"\xff\xfe"])
def test_a_body_that_is_no_status_object_is_kept_as_text(body: bytes) -> None:
    error = errors.error_from(502, body)
    assert isinstance(error, errors.Unavailable)
    assert error.reason == ""


def test_a_long_body_is_cut() -> None:
    assert len(errors.error_from(500, "x" * 10_000).message) == 300


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0", 0.0), ("-3", 0.0), ("soon", None), (None, None)])
def test_retry_after_is_seconds_or_nothing(header: str | None, seconds: float | None) -> None:
    assert errors.error_from(429, b"", header).retry_after == seconds


def test_an_error_event_becomes_the_error_of_its_code() -> None:
    assert isinstance(errors.error_from_status_object({"code": 410, "reason": "Expired"}), errors.Gone)
    assert errors.error_from_status_object({}).status == 0


def test_paths() -> None:
    assert paths.core("nodes") == "/api/v1/nodes"
    assert paths.core("pods", namespace="a", name="b", sub="status") == "/api/v1/namespaces/a/pods/b/status"
    assert paths.group("karpenter.sh/v1", "nodepools", name="gpu") == "/apis/karpenter.sh/v1/nodepools/gpu"
