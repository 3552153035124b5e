"""The profiles of a site that configured none: the GPUs that most clouds have, on-demand, one each."""

from __future__ import annotations

from typing import Any


def profiles() -> list[dict[str, Any]]:
    """Return the default profiles as an admin would write them."""
    return [
        {
            "id": "cpu",
            "display_name": "CPU",
            "description": "Two cores, no GPU: for reading, plotting and editing.",
            "default": True,
            "size": {"cpu": "2", "memory": "6Gi"},
        },
        {
            "id": "t4",
            "display_name": "T4 · 16 GB",
            "description": "The least expensive GPU, for small models and teaching.",
            "gpu": {"name": "t4"},
        },
        {
            "id": "l4",
            "display_name": "L4 · 24 GB",
            "description": "For inference and fine-tuning of small models.",
            "gpu": {"name": "l4"},
        },
        {
            "id": "a10g",
            "display_name": "A10G · 24 GB",
            "description": "For training of medium models.",
            "gpu": {"name": "a10g"},
        },
    ]
