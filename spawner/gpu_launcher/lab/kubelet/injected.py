"""The kubelet's share of the faults that tests switch on and off, read again whenever their file was replaced."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from gpu_launcher.lab.faults import Faults, FaultSet, PodFaultKind
from gpu_launcher.lab.paths import LabError

log = logging.getLogger(__name__)


class Injected:
    """The faults in force."""

    def __init__(self, path: Path) -> None:
        self._faults = Faults(path)
        self._stamp: tuple[int, int] | None = None
        self._current = FaultSet()

    def refresh(self) -> bool:
        """True if the file changed since the last look."""
        try:
            found = self._faults.path.stat()
            stamp = (found.st_ino, found.st_mtime_ns)
        except FileNotFoundError:
            stamp = None
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._current = self._faults.current()
        except LabError as error:
            log.warning("faults not understood, keeping the last ones: %s", error)
        return True

    def pod(self, kind: PodFaultKind, name: str, images: Iterable[str]) -> bool:
        """True if this fault is in force for the pod `name` with these images."""
        self.refresh()
        wanted = list(images)
        return any(
            fault.kind is kind and any(fault.matches(name, image) for image in wanted) for fault in self._current.pods
        )

    def advertises_gpus(self, instance_type: str) -> bool:
        """True unless nodes of this type have a device plugin that stays silent."""
        self.refresh()
        return self._current.advertises_gpus(instance_type)

    def pull_s(self, image: str) -> float:
        """How many seconds a pull of this image takes at least, 0 without a fault."""
        self.refresh()
        return self._current.pull_s(image)
