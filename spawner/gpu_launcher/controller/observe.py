"""From what the cluster holds to the state that is published: the same facts, seen as slots."""

from __future__ import annotations

from dataclasses import replace

from gpu_launcher.controller.watch import Facts
from gpu_launcher.domain.pool_state import PublishedState
from gpu_launcher.domain.start import Shortage
from gpu_launcher.explain.prices import priced
from gpu_launcher.planning.pool_history import PoolHistory
from gpu_launcher.planning.pool_state import pool_states
from gpu_launcher.planning.pools import pools_for
from gpu_launcher.planning.served import served_pools
from gpu_launcher.settings.catalogue import load_catalogue
from gpu_launcher.settings.load import Settings


class Observer:
    """Turns facts into states. Remembers lead times and nothing that is needed after a restart."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        pools = pools_for(settings.profiles, priced(load_catalogue(), settings.prices), settings.cluster)
        self.pools = served_pools(settings.profiles, pools, settings.cluster)
        self._history = PoolHistory()

    def state(self, facts: Facts, shortages: tuple[Shortage, ...], now: float) -> PublishedState:
        """Return the state at *now* (Unix seconds); without nodes or pods no pool's state is known."""
        history = replace(self._history, shortages=shortages)
        if facts.claims is not None:
            history = history.seen(facts.claims, self.pools)
        self._history = history
        pools = {}
        if facts.nodes is not None and facts.pods is not None:
            pools = pool_states(
                facts.nodes,
                facts.pods,
                facts.claims,
                facts.node_pools,
                self.pools,
                now,
                history,
                self._settings.prices,
            )
        return PublishedState(now, self._settings.hash, pools, facts.unknown)
