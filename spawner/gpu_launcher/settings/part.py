"""What all parts of the configuration document have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Limit = Annotated[int, Field(ge=0, le=100_000, strict=True)]
"""A limit on GPUs; 0 allows none."""


class Part(BaseModel):
    """A part of the document: strict, closed, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)
