"""Sessions that share hosts are packed by the stock scheduler, so that hosts come free."""

from __future__ import annotations

import pytest

from churn import churn
from gpu_launcher.lab.handle import Lab

pytestmark = [pytest.mark.lab, pytest.mark.machines]

STEPS = 120


async def test_every_arrival_goes_to_the_fullest_host_with_room(lab: Lab) -> None:
    async with lab.api() as api:
        packed = await churn(api, "packed", packed=True, seed=1, steps=STEPS)
        spread = await churn(api, "spread", packed=False, seed=1, steps=STEPS)
    print(
        f"\nhost-hours over {STEPS} steps: packed {packed.host_hours}, without packing {spread.host_hours}, "
        f"ceil(n/8) {packed.ideal_host_hours}"
    )
    assert packed.strays == []
    assert packed.ideal_host_hours <= packed.host_hours < spread.host_hours
