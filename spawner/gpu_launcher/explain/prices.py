"""What a slot costs: list prices made the site's own, and spot as an estimate that says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gpu_launcher.domain.instance_type import InstanceType
from gpu_launcher.domain.policy import Prices
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.profile import Capacity


@dataclass(frozen=True, slots=True)
class SlotPrice:
    """Dollars per hour of one slot: on-demand, and spot as estimated; None where no price is known."""

    on_demand: float | None
    spot: float | None

    def of(self, capacity: Capacity) -> float | None:
        """Return what a session bought that way costs; for spot-first what it costs while there is spot."""
        return self.spot if capacity.interruptible else self.on_demand


def priced(catalogue: Iterable[InstanceType], prices: Prices) -> tuple[InstanceType, ...]:
    """Return the types with the site's on-demand prices: an override as it is, else the list price less discount."""
    return tuple(replace(kind, usd_per_hour=_price(kind, prices)) for kind in catalogue)


def slot_price(kind: InstanceType, slots: int, prices: Prices) -> SlotPrice:
    """Return the price of one of *slots* slots on a type that already carries the site's price."""
    if kind.usd_per_hour is None or slots < 1:
        return SlotPrice(None, None)
    on_demand = kind.usd_per_hour / slots
    return SlotPrice(on_demand, on_demand * prices.spot_ratio)


def pool_price(pool: SlotPool, prices: Prices) -> SlotPrice:
    """Return the price of a slot on the pool's cheapest type."""
    if not pool.instance_types:
        return SlotPrice(None, None)
    cheapest = pool.instance_types[0]
    return slot_price(cheapest, pool.slots_per_host[cheapest.name], prices)


def dollars(amount: float | None) -> str:
    """Return a price in words: ``"$1.01"``, ``"price unknown"``."""
    return "price unknown" if amount is None else f"${amount:,.2f}"


def _price(kind: InstanceType, prices: Prices) -> float | None:
    override = prices.overrides.get(kind.name)
    if override is not None:
        return override
    return None if kind.usd_per_hour is None else kind.usd_per_hour * (1 - prices.discount)
