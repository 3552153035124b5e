"""Faults of the lab's cloud and of its kubelets, switched while it runs: one JSON file, replaced as a whole.

Karpenter's binary and the stand-in kubelet read the file at every use, so a fault holds from the next use on.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from gpu_launcher.lab.paths import LabError, read_json, write_json

CAPACITY_TYPES = ("on-demand", "spot", "reserved")


class CapacityKind(StrEnum):
    """Why the cloud refuses a launch."""

    ICE = "ice"
    """It has no such machine left (InsufficientInstanceCapacity)."""
    QUOTA = "quota"
    """The account may not have more (VcpuLimitExceeded, MaxSpotInstanceCountExceeded)."""


class PodFaultKind(StrEnum):
    """What goes wrong with a pod that the stand-in kubelet runs."""

    IMAGE_NOT_FOUND = "image_not_found"
    CRASH_BEFORE_READY = "crash_before_ready"
    CRASH_AFTER_READY = "crash_after_ready"
    ADMISSION_ERROR = "admission_error"
    EVICT = "evict"


@dataclass(frozen=True, slots=True)
class CapacityFault:
    """The offerings that match all three globs cannot be launched."""

    instance_type: str = "*"
    zone: str = "*"
    capacity_type: str = "*"
    kind: CapacityKind = CapacityKind.ICE

    def __post_init__(self) -> None:
        _check_globs("capacity fault", self.instance_type, self.zone, self.capacity_type)
        if not any(fnmatch.fnmatchcase(name, self.capacity_type) for name in CAPACITY_TYPES):
            raise LabError(f"capacity fault: capacity_type {self.capacity_type!r}; one of {', '.join(CAPACITY_TYPES)}")


@dataclass(frozen=True, slots=True)
class PodFault:
    """Pods whose name and one of whose images match fail in the way of *kind*."""

    kind: PodFaultKind
    image: str = "*"
    pod: str = "*"

    def __post_init__(self) -> None:
        _check_globs("pod fault", self.image, self.pod)

    def matches(self, pod: str, image: str) -> bool:
        """Return whether this fault is meant for a container of *image* in the pod named *pod*."""
        return fnmatch.fnmatchcase(pod, self.pod) and fnmatch.fnmatchcase(image, self.image)


@dataclass(frozen=True, slots=True)
class SlowPull:
    """Pulls of the matching images take at least so many seconds: alive, but slow, as of an image of 40 GB."""

    image: str
    seconds: float

    def __post_init__(self) -> None:
        _check_globs("slow pull", self.image)
        if not 0 < self.seconds < math.inf:
            raise LabError(f"slow pull: {self.seconds!r} seconds; more than 0, and an end")


@dataclass(frozen=True, slots=True)
class FaultSet:
    """Everything that is switched on; the empty set is a lab without faults."""

    capacity: tuple[CapacityFault, ...] = ()
    never_register: tuple[str, ...] = ()
    """Globs of instance types whose machines launch and never become nodes."""
    gpu_never_advertised: tuple[str, ...] = ()
    """Globs of instance types whose device plugin stays silent."""
    pods: tuple[PodFault, ...] = ()
    slow_pulls: tuple[SlowPull, ...] = ()

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> FaultSet:
        """Return the faults of a JSON object; raises LabError for a key, a kind or a form that is not known."""
        try:
            return cls(
                capacity=tuple(
                    CapacityFault(**entry | {"kind": CapacityKind(entry.get("kind", "ice"))})
                    for entry in document.get("capacity", ())
                ),
                never_register=tuple(document.get("never_register", ())),
                gpu_never_advertised=tuple(document.get("gpu_never_advertised", ())),
                pods=tuple(
                    PodFault(**entry | {"kind": PodFaultKind(entry["kind"])}) for entry in document.get("pods", ())
                ),
                slow_pulls=tuple(SlowPull(**entry) for entry in document.get("slow_pulls", ())),
            )
        except (TypeError, KeyError, ValueError) as error:
            raise LabError(f"faults: {error!r}; switch faults with lab.faults") from error

    def document(self) -> dict[str, Any]:
        """Return the JSON object of these faults; ``from_document`` reads it back."""
        return dataclasses.asdict(self)

    def advertises_gpus(self, instance_type: str) -> bool:
        """Return whether nodes of this type get their device plugin to work."""
        return not any(fnmatch.fnmatchcase(instance_type, glob) for glob in self.gpu_never_advertised)

    def pod_fault(self, pod: str, image: str) -> PodFault | None:
        """Return the first fault meant for this pod and image, None if it may live."""
        return next((fault for fault in self.pods if fault.matches(pod, image)), None)

    def pull_s(self, image: str) -> float:
        """Return how many seconds a pull of this image takes at least, 0 without a fault."""
        return max((fault.seconds for fault in self.slow_pulls if fnmatch.fnmatchcase(image, fault.image)), default=0.0)


@dataclass(frozen=True, slots=True)
class Faults:
    """The switches of one lab: every method writes its faults file and holds from the next use on."""

    path: Path

    def current(self) -> FaultSet:
        """Return what is switched on; nothing if the file is not there yet."""
        document = read_json(self.path)
        return FaultSet.from_document(document) if document else FaultSet()

    def ice(self, instance_type: str = "*", zone: str = "*", capacity_type: str = "*") -> None:
        """Let the cloud run out of the matching offerings."""
        self._add_capacity(CapacityFault(instance_type, zone, capacity_type, CapacityKind.ICE))

    def quota(self, instance_type: str = "*", zone: str = "*", capacity_type: str = "*") -> None:
        """Let the account's limit refuse the matching offerings."""
        self._add_capacity(CapacityFault(instance_type, zone, capacity_type, CapacityKind.QUOTA))

    def never_register(self, instance_type: str = "*") -> None:
        """Let machines of the matching types launch and never become nodes; decided when a machine has booted."""
        _check_globs("never_register", instance_type)
        now = self.current()
        self._write(dataclasses.replace(now, never_register=(*now.never_register, instance_type)))

    def gpu_never_advertised(self, instance_type: str = "*") -> None:
        """Let the device plugin of the matching types stay silent; nodes that have GPUs already keep them."""
        _check_globs("gpu_never_advertised", instance_type)
        now = self.current()
        self._write(dataclasses.replace(now, gpu_never_advertised=(*now.gpu_never_advertised, instance_type)))

    def pod(self, kind: str, *, image: str = "*", pod: str = "*") -> None:
        """Let the matching pods fail in the way of *kind* (a PodFaultKind); raises LabError for another word."""
        try:
            fault = PodFault(PodFaultKind(kind), image, pod)
        except ValueError as error:
            raise LabError(f"pod fault {kind!r}: one of {', '.join(PodFaultKind)}") from error
        now = self.current()
        self._write(dataclasses.replace(now, pods=(*now.pods, fault)))

    def slow_pull(self, image: str, seconds: float) -> None:
        """Let later pulls of the matching images take at least *seconds*, whatever their size and the lab's rate."""
        now = self.current()
        self._write(dataclasses.replace(now, slow_pulls=(*now.slow_pulls, SlowPull(image, seconds))))

    def clear(self) -> None:
        """Switch all faults off. Karpenter still avoids refused offerings for the lab's ``ice_memory_s``."""
        self._write(FaultSet())

    def _add_capacity(self, fault: CapacityFault) -> None:
        now = self.current()
        self._write(dataclasses.replace(now, capacity=(*now.capacity, fault)))

    def _write(self, faults: FaultSet) -> None:
        write_json(self.path, faults.document())


def _check_globs(what: str, *globs: str) -> None:
    # Python's globs and Go's differ inside brackets, and both programs must see the same fault.
    for glob in globs:
        if not glob or any(letter in glob for letter in "[]\\"):
            raise LabError(f"{what}: {glob!r} is no glob of names, * and ?")
