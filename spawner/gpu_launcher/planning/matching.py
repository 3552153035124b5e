"""Which machines match a profile's wishes, and which wish is the one that none fulfils."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches

from gpu_launcher.domain.instance_type import InstanceType
from gpu_launcher.domain.policy import Dialect
from gpu_launcher.domain.pool import NoPool, NoPoolReason
from gpu_launcher.domain.profile import GpuRequest, Profile
from gpu_launcher.planning.dialects import ARCH, LABELS, checkable, known_labels, labels_of, misspelt

Types = tuple[InstanceType, ...]

DEFAULT_ARCH = "amd64"


def matching_types(profile: Profile, catalogue: Types, dialect: Dialect) -> Types | NoPool:
    """Return the types that match everything but size and host count, or the first wish that leaves none.

    Machines with a slice of a GPU count none and are never among them.
    """
    left = catalogue
    for keep, explain in _wishes(profile, dialect):
        kept = tuple(kind for kind in left if keep(kind))
        if not kept:
            return explain(left)
        left = kept
    return left


Wish = tuple[Callable[[InstanceType], bool], Callable[[Types], NoPool]]


def _wishes(profile: Profile, dialect: Dialect) -> Iterator[Wish]:
    arch = profile.node_selector.get(ARCH, DEFAULT_ARCH)
    if profile.gpu is None:
        yield lambda kind: kind.gpu is None, lambda _: _no("the table of machines holds none without a GPU")
    else:
        yield from _gpu_wishes(profile.gpu)
    yield lambda kind: kind.arch == arch, lambda left: _no_arch(arch, left)
    if profile.instance_types:
        yield lambda kind: kind.name in profile.instance_types, lambda left: _no_listed(profile, left)
    for key, value in sorted(profile.node_selector.items()):
        if misspelt(key, dialect):
            yield lambda _: False, _no_label(key, dialect)
        yield _selects(key, value, dialect), _no_selected(key, value, profile, dialect)


def _gpu_wishes(gpu: GpuRequest) -> Iterator[Wish]:
    yield lambda kind: kind.gpus > 0, lambda _: _no("the table of machines holds none with a whole GPU")
    if gpu.name is not None:
        yield lambda kind: kind.gpu is not None and kind.gpu.name == gpu.name, lambda left: _no_name(gpu, left)
    least = gpu.memory_mib_at_least
    if least is not None:
        yield lambda kind: kind.gpu is not None and kind.gpu.memory_mib >= least, lambda left: _no_memory(gpu, left)


def _no(message: str) -> NoPool:
    return NoPool(NoPoolReason.INSTANCE_TYPES, message)


def _no_name(gpu: GpuRequest, left: Types) -> NoPool:
    names = sorted({kind.gpu.name for kind in left if kind.gpu})
    close = get_close_matches(gpu.name or "", names, n=1, cutoff=0.4)
    message = f"no type has gpu name {gpu.name}"
    if not close:
        return NoPool(NoPoolReason.GPU_NAME, f"{message}; known names: {', '.join(names)}")
    nearest = cheapest([kind for kind in left if kind.gpu and kind.gpu.name == close[0]])
    return NoPool(NoPoolReason.GPU_NAME, f"{message}; nearest: {close[0]} {nearest.name}", nearest.name)


def _no_memory(gpu: GpuRequest, left: Types) -> NoPool:
    most = max(kind.gpu.memory_mib for kind in left if kind.gpu)
    nearest = cheapest([kind for kind in left if kind.gpu and kind.gpu.memory_mib == most])
    wanted = gib(gpu.memory_mib_at_least or 0)
    named = f"gpu name {gpu.name} and {wanted}" if gpu.name else f"a GPU with {wanted}"
    nearest_gpu = nearest.gpu.name if nearest.gpu else ""
    message = f"no type has {named}; nearest: {nearest_gpu} {gib(most)} {nearest.name}"
    return NoPool(NoPoolReason.GPU_MEMORY, message, nearest.name)


def _no_arch(arch: str, left: Types) -> NoPool:
    nearest = cheapest(left)
    message = (
        f"no type has architecture {arch}; nearest: {nearest.name}, which is {nearest.arch}. A profile whose images "
        f"are built for {nearest.arch} says so with node_selector {ARCH}: {nearest.arch}"
    )
    return NoPool(NoPoolReason.ARCH, message, nearest.name)


def _no_listed(profile: Profile, left: Types) -> NoPool:
    message = f"no matching type is in instance_types ({', '.join(profile.instance_types)})"
    nearest = cheapest(left).name
    return NoPool(NoPoolReason.INSTANCE_TYPES, f"{message}; nearest: {nearest}", nearest)


def _selects(key: str, value: str, dialect: Dialect) -> Callable[[InstanceType], bool]:
    # A label that the catalogue does not hold (a team, a zone) cannot rule a type out.
    return lambda kind: labels_of(kind, dialect).get(key, value) == value


def _no_selected(key: str, value: str, profile: Profile, dialect: Dialect) -> Callable[[Types], NoPool]:
    def explain(left: Types) -> NoPool:
        has = sorted({labels_of(kind, dialect)[key] for kind in left if checkable(key, (kind,), dialect)}, key=_natural)
        nearest = cheapest(left)
        name = wanted_name(profile, dialect)
        what = f"gpu name {name} and " if name and key != LABELS[dialect].gpu_name else ""
        message = f"no type has {what}{key}: {value}; nearest: {nearest.name} with {labels_of(nearest, dialect)[key]}"
        if len(has) > 1:
            message += f" (there are {', '.join(has[:8])})"
        return NoPool(NoPoolReason.NODE_SELECTOR, message, nearest.name)

    return explain


def _no_label(key: str, dialect: Dialect) -> Callable[[Types], NoPool]:
    def explain(left: Types) -> NoPool:
        close = get_close_matches(key, known_labels(left, dialect), n=1)
        nearest = f"; nearest: {close[0]}" if close else ""
        return NoPool(NoPoolReason.NODE_SELECTOR, f"nodes have no label {key}{nearest}")

    return explain


def wanted_name(profile: Profile, dialect: Dialect) -> str | None:
    """Return the GPU's name that the profile asks for, be it as a wish or as a label; None for any."""
    if profile.gpu is None:
        return None
    return profile.gpu.name or profile.node_selector.get(LABELS[dialect].gpu_name)


def _natural(text: str) -> tuple[bool, int, str]:
    return (not text.isdecimal(), int(text) if text.isdecimal() else 0, text)


def cheapest(types: Sequence[InstanceType]) -> InstanceType:
    """Return the type with the lowest price; types without a price come last, names decide between equals."""
    return min(types, key=by_price)


def by_price(kind: InstanceType, slots: int = 1) -> tuple[bool, float, str]:
    """Return a sort key: the price of one of *slots* slots, then the name; unknown prices last."""
    return (kind.usd_per_hour is None, (kind.usd_per_hour or 0.0) / slots, kind.name)


def gib(mib: int) -> str:
    """Return MiB in words: ``"80 GiB"``, ``"22.4 GiB"``."""
    return f"{mib / 1024:.1f}".removesuffix(".0") + " GiB"
