"""What unit tests share; ``machines`` beside it holds the builders."""

from __future__ import annotations

from hypothesis import settings

# Many small properties: sixty examples each find what six hundred do, and the suite stays quick.
settings.register_profile("unit", max_examples=60, deadline=None)
settings.load_profile("unit")
