"""Paths of the Kubernetes API."""

from __future__ import annotations


def core(resource: str, *, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
    """The path of a core/v1 resource: ``core("pods", namespace="a", name="b", sub="status")``."""
    return _path("/api/v1", resource, namespace, name, sub)


def group(
    version: str, resource: str, *, namespace: str | None = None, name: str | None = None, sub: str | None = None
) -> str:
    """The path of a named group's resource: ``group("karpenter.sh/v1", "nodepools", name="gpu")``."""
    return _path(f"/apis/{version}", resource, namespace, name, sub)


def _path(root: str, resource: str, namespace: str | None, name: str | None, sub: str | None) -> str:
    parts = [root]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts.append(resource)
    if name is not None:
        parts.append(name)
    if sub is not None:
        parts.append(sub)
    return "/".join(parts)
