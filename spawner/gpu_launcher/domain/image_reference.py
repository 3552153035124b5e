"""Names of container images, as registries write them."""

from __future__ import annotations

import re

_LONGEST = 512

# [host[:port]/]path[:tag][@digest]. ASCII only, so no look-alikes; no "..", no white space. Every repetition begins
# with a separator that its elements cannot hold, so that no input makes the match slow.
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?"
_TAG = r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"@sha256:[0-9a-f]{64}"
_REFERENCE = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?:{_TAG})?(?:{_DIGEST})?", re.ASCII)


def is_image_reference(text: str) -> bool:
    """Return whether the whole text is an image's name such as ``quay.io/team/image:tag``; tag and digest optional."""
    return len(text) <= _LONGEST and _REFERENCE.fullmatch(text) is not None


def normalised(reference: str) -> str:
    """Return the name by which a node lists the image: ``python`` is ``docker.io/library/python:latest``.

    With a digest the tag says nothing more and is left out.
    """
    name, _, digest = reference.partition("@")
    tag = "latest"
    if ":" in name.rpartition("/")[2]:
        name, _, tag = name.rpartition(":")
    host, slash, path = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, path = "docker.io", name
    if host in ("docker.io", "index.docker.io"):
        host, path = "docker.io", path if "/" in path else f"library/{path}"
    return f"{host}/{path}@{digest}" if digest else f"{host}/{path}:{tag}"
