"""What a diagnosis says, and the two sorts of time in its words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpu_launcher.domain.outcomes import Refusal
from gpu_launcher.domain.stage import Stage, StartKind
from gpu_launcher.domain.views import NodeClaimView, NodeView


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Where a start is at one moment.

    ``words`` is a short plain line, ``detail`` more of it for who wants to know; both may hold names from the cluster
    and are to be escaped. ``since`` is when this stage began, Unix seconds, None if unknown. ``tried`` is what the
    cloud did not give, ``unknown`` what could not be read. With a ``refusal`` the start cannot succeed;
    ``retry_elsewhere`` says that the same start has a chance on another machine. The machine's facts are "" until they
    are known.
    """

    stage: Stage
    words: str
    detail: str = ""
    since: float | None = None
    tried: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    refusal: Refusal | None = None
    retry_elsewhere: bool = False
    kind: StartKind = StartKind.UNKNOWN
    instance_type: str = ""
    zone: str = ""
    capacity_type: str = ""
    node: str = ""

    def on_claim(self, claim: NodeClaimView) -> Diagnosis:
        """Return the same with what is known of the machine that was asked for."""
        return replace(
            self,
            instance_type=claim.instance_type,
            zone=claim.zone,
            # Before the launch the label, if there is one, is a wish.
            capacity_type=claim.capacity_type if claim.reached("Launched") else "",
            node=claim.node,
        )

    def on_node(self, node: NodeView) -> Diagnosis:
        """Return the same with what is known of the node."""
        return replace(
            self,
            instance_type=node.instance_type,
            zone=node.zone,
            capacity_type=node.capacity_type,
            node=node.name,
        )


def spelled(seconds: float) -> str:
    """Return a time that has passed: ``"45 s"``, ``"4 min 10 s"``, ``"2 min"``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def listed(words: tuple[str, ...], most: int = 4) -> str:
    """Return names as one list: ``"a, b and c"``; beyond *most* as ``"a, b, c, d and 3 more"``."""
    shown = list(words[:most])
    if len(words) > most:
        shown.append(f"{len(words) - most} more")
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def one_line(text: str, most: int = 300) -> str:
    """Return the text on one line without control characters, cut to *most* characters."""
    flat = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 2 * most]).split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"
