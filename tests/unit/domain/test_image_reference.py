"""Names of images, as nodes list them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.image_reference import is_image_reference, normalised

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("python", "docker.io/library/python:latest"),
        ("docker.io/python:3", "docker.io/library/python:3"),
        ("index.docker.io/library/python:3", "docker.io/library/python:3"),
        ("jupyter/minimal:1", "docker.io/jupyter/minimal:1"),
        ("quay.io/team/torch:1", "quay.io/team/torch:1"),
        ("quay.io/team/torch", "quay.io/team/torch:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("registry:5000/x", "registry:5000/x:latest"),
        (f"quay.io/team/torch:1@{DIGEST}", f"quay.io/team/torch@{DIGEST}"),
        (f"torch@{DIGEST}", f"docker.io/library/torch@{DIGEST}"),
    ],
)
def test_normalised(reference: str, name: str) -> None:
    assert normalised(reference) == name


references = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "docker.io/", "quay.io/", "registry:5000/", "localhost/"]),
    st.sampled_from(["a", "a/b", "a/b/c"]),
    st.sampled_from(["", ":1", ":v1.2"]),
    st.sampled_from(["", f"@{DIGEST}"]),
)


@given(references)
def test_a_normalised_name_stays_as_it_is(reference: str) -> None:
    once = normalised(reference)
    assert is_image_reference(once)
    assert normalised(once) == once
