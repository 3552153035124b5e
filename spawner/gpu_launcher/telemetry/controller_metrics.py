"""Every metric of the controller's side, in one place: slot pools, and what the hub told of starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gpu_launcher.domain.pool_state import PublishedState
from gpu_launcher.domain.stage import StartOutcome


def start_records(registry: CollectorRegistry) -> Counter:
    """Return the counter of received records, with the series of every outcome at 0."""
    counter = Counter(
        "gpu_launcher_start_records", "Records of starts that the hub sent, by how they ended", ["outcome"],
        registry=registry,
    )  # fmt: skip
    for outcome in StartOutcome:
        counter.labels(outcome.value)
    return counter


class PoolCollector(Collector):
    """Gauges of every configured pool, computed at each scrape from the state that was published.

    A pool whose state is unknown has no series, rather than a wrong one.
    """

    def __init__(self, state: Callable[[], PublishedState | None]) -> None:
        self._state = state

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the metrics of the last published state; before the first there are families without series."""
        state = self._state()
        slots = GaugeMetricFamily(
            "gpu_launcher_pool_slots", "Slots of a pool: ready, starting or in use", labels=["pool", "state"]
        )
        price = GaugeMetricFamily(
            "gpu_launcher_pool_slot_usd_per_hour", "On-demand price of one slot, dollars an hour", labels=["pool"]
        )
        observed = GaugeMetricFamily(
            "gpu_launcher_pool_state_observed_timestamp_seconds", "When the published state was observed"
        )
        if state is not None:
            observed.add_metric([], state.observed_at)
            for pool in state.pools.values():
                for name, count in (
                    ("ready", pool.ready.get("", 0)),
                    ("starting", pool.starting),
                    ("in_use", pool.in_use),
                ):
                    slots.add_metric([pool.pool_id, name], count)
                if pool.usd_per_hour is not None:
                    price.add_metric([pool.pool_id], pool.usd_per_hour)
        return (slots, price, observed)
