"""Who may start what: groups first, then GPU limits, always at the start itself and not only on the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.domain.policy import Limits
from gpu_launcher.domain.profile import Profile
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.domain.usage import Person, RunningServer, Usage


def entitled(profile: Profile, person: Person) -> bool:
    """Return whether the person may use the profile: it names no groups, or one of theirs."""
    return not profile.groups or not person.groups.isdisjoint(profile.groups)


def admit(
    profile: Profile, request: StartRequest, person: Person, usage: Usage, limits: Limits | None = None
) -> Refusal | None:
    """Return why this start is refused, None if it may go on.

    *usage* leaves out the server that is about to start. *limits* hold over all profiles; None is no such limit.
    """
    if not entitled(profile, person):
        message = (
            f'"{profile.display_name}" is reserved for other groups. Pick another profile, or ask an admin for access.'
        )
        return Refusal(RefusalReason.NOT_ENTITLED, message, {"profile": profile.id})
    if request.gpus == 0:
        return None
    for limit, in_use, whose in _limits(profile, person, usage, limits or Limits()):
        if in_use + request.gpus > limit:
            return _over(limit, in_use, whose, request, usage)
    return None


def _limits(profile: Profile, person: Person, usage: Usage, limits: Limits) -> Iterator[tuple[int, int, str]]:
    """Each limit that holds for this start: the limit, GPUs that already count against it, and its words."""
    mine = profile.limits
    everybody = (*usage.own, *usage.others)
    here = [server for server in everybody if server.profile_id == profile.id]
    own_here = [server for server in usage.own if server.profile_id == profile.id]
    name = f'"{profile.display_name}"'
    if limits.gpus_per_user is not None:
        yield limits.gpus_per_user, _sum(usage.own), "a person"
    if mine.gpus_per_user is not None:
        yield mine.gpus_per_user, _sum(own_here), f"a person on {name}"
    for group in sorted(person.groups):
        general = limits.groups.get(group, limits.gpus_per_group)
        if general is not None:
            yield general, _sum(_of(group, everybody)), f'the group "{group}"'
        # Where a profile is given to some groups, the person's other groups have no share in it to limit.
        if mine.gpus_per_group is not None and (not profile.groups or group in profile.groups):
            yield mine.gpus_per_group, _sum(_of(group, here)), f'the group "{group}" on {name}'
    if mine.gpus_total is not None:
        yield mine.gpus_total, _sum(here), f"all users of {name} together"


def _of(group: str, servers: Iterable[RunningServer]) -> Iterator[RunningServer]:
    return (server for server in servers if group in server.groups)


def _sum(servers: Iterable[RunningServer]) -> int:
    return sum(server.gpus for server in servers)


def _over(limit: int, in_use: int, whose: str, request: StartRequest, usage: Usage) -> Refusal:
    own = [{"name": server.name, "gpus": server.gpus} for server in usage.own if server.gpus]
    own_gpus = _sum(usage.own)
    message = f"The limit for {whose} is {_gpus(limit)}; {in_use} in use and this start asks for {request.gpus}."
    if own:
        names = ", ".join(f"{_called(server.name)} ({_gpus(server.gpus)})" for server in usage.own if server.gpus)
        message += f" You hold {_gpus(own_gpus)}: {names}. Stop a server on the hub's home page to free its GPUs."
    # What others hold is a number and never a name.
    others = max(0, in_use - own_gpus)
    if others:
        message += f" {_gpus(others)} {'is' if others == 1 else 'are'} held by others."
    if request.gpus > limit:
        message += f" Ask for {_gpus(limit)} or fewer." if limit else " Pick another profile."
    detail = {"limit": limit, "in_use": in_use, "asked": request.gpus, "own": own, "others": others}
    return Refusal(RefusalReason.GPU_LIMIT, message, detail)


def _called(name: str) -> str:
    return f'"{name}"' if name else "your default server"


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"
