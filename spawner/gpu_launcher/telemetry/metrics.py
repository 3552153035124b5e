"""Every metric of the hub's side, in one place. Labels are closed: profile ids of the configuration, and enums."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from gpu_launcher.domain.outcomes import RefusalReason
from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.domain.start import StartRecord

UNKNOWN_PROFILE = "unknown"

# Each bound costs a series per profile, kind and outcome: few, and dense where a start becomes annoying.
_START_BUCKETS_S = (5, 10, 20, 40, 60, 90, 120, 180, 300, 600, 900)
_STAGE_BUCKETS_S = (1, 2, 5, 10, 20, 40, 60, 120, 300, 600)
_ERROR_BUCKETS_S = (-300, -120, -60, -30, -10, -3, 0, 3, 10, 30, 60, 120, 300)

# On the registry itself: a module that is loaded anew must find what its predecessor registered.
_ATTRIBUTE = "_gpu_launcher_start_metrics"


class StartMetrics:
    """The metrics of starts in one registry; ``metrics()`` returns the one that is there."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._profiles: frozenset[str] | None = None
        self.duration = Histogram(
            "gpu_launcher_spawn_duration_seconds",
            "From the user's click to the end of the start, in seconds, however it ended",
            ["profile", "start", "outcome"],
            buckets=_START_BUCKETS_S,
            registry=registry,
        )
        self.stage = Histogram(
            "gpu_launcher_spawn_stage_seconds",
            "What one stage of a start took, in seconds; the last one of a start that failed counts as far as it came",
            ["profile", "stage"],
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        self.refusals = Counter(
            "gpu_launcher_start_refusals",
            "Starts that ended with a reason instead of a server",
            ["profile", "reason"],
            registry=registry,
        )
        self.eta_error = Histogram(
            "gpu_launcher_eta_error_seconds",
            "What a start took less what was first expected (p50), in seconds; above 0 it took longer",
            ["profile"],
            buckets=_ERROR_BUCKETS_S,
            registry=registry,
        )
        self.eta_starts = Counter(
            "gpu_launcher_eta_starts",
            "Starts that became ready, by what was first stated: before its p50, before its p90, or later than that",
            ["ended"],
            registry=registry,
        )
        self.pods_lost = Counter(
            "gpu_launcher_pods_lost",
            "Servers whose pod went away without the hub having stopped it",
            ["profile"],
            registry=registry,
        )
        self.ignored_keys = Counter(
            "gpu_launcher_ignored_option_keys",
            "Keys of submitted options that the launcher does not know and left out",
            registry=registry,
        )
        for ended in ("before_p50", "before_p90", "later"):
            self.eta_starts.labels(ended)

    def know(self, profiles: Iterable[str]) -> None:
        """Take these profile ids as labels and create all their series at 0; any other profile is ``unknown``."""
        known = frozenset(profiles)
        if known == self._profiles:
            # Every start asks, and a hundred profiles have thousands of series.
            return
        self._profiles = known
        for profile in (*sorted(self._profiles), UNKNOWN_PROFILE):
            for kind in StartKind:
                for outcome in StartOutcome:
                    self.duration.labels(profile, kind.value, outcome.value)
            for stage in Stage:
                self.stage.labels(profile, stage.value)
            for reason in RefusalReason:
                self.refusals.labels(profile, reason.value)
            self.eta_error.labels(profile)
            self.pods_lost.labels(profile)

    def start_ended(self, record: StartRecord) -> None:
        """Count a start that ended: its time, its stages, why it was refused, how good the estimate was."""
        profile = self._label(record.profile_id)
        self.duration.labels(profile, record.kind.value, record.outcome.value).observe(record.seconds)
        for time in record.stages:
            self.stage.labels(profile, time.stage.value).observe(time.seconds)
        if record.outcome is StartOutcome.REFUSED and record.reason in set(RefusalReason):
            self.refusals.labels(profile, record.reason).inc()
        if record.outcome is StartOutcome.READY and record.eta_p50_s is not None:
            self.eta_error.labels(profile).observe(record.seconds - record.eta_p50_s)
            self.eta_starts.labels(_ended(record.seconds, record.eta_p50_s, record.eta_p90_s)).inc()

    def start_refused(self, profile_id: str, reason: RefusalReason) -> None:
        """Count a refusal before any start began: options, entitlement, limits."""
        self.refusals.labels(self._label(profile_id), reason.value).inc()

    def pod_lost(self, profile_id: str) -> None:
        """Count a server whose pod is gone."""
        self.pods_lost.labels(self._label(profile_id)).inc()

    def keys_ignored(self, count: int) -> None:
        """Count keys that were left out of submitted options."""
        self.ignored_keys.inc(max(0, count))

    def _label(self, profile_id: str) -> str:
        return profile_id if profile_id in (self._profiles or ()) else UNKNOWN_PROFILE


def metrics(profiles: Iterable[str] = (), registry: CollectorRegistry = REGISTRY) -> StartMetrics:
    """Return the registry's metrics, registered at the first call, with the series of these profiles there."""
    found: StartMetrics | None = getattr(registry, _ATTRIBUTE, None)
    if found is None:
        found = StartMetrics(registry)
        setattr(registry, _ATTRIBUTE, found)
    found.know(profiles)
    return found


def _ended(seconds: float, p50_s: float, p90_s: float | None) -> str:
    if seconds <= p50_s:
        return "before_p50"
    return "before_p90" if p90_s is not None and seconds <= p90_s else "later"
