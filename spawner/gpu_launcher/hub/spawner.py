"""The spawner: a profile becomes a pod, on every path by the same decision."""

from __future__ import annotations

import asyncio
import copy
import os
import re
import time
from collections.abc import AsyncGenerator, Mapping, MutableMapping
from contextlib import aclosing
from dataclasses import replace
from html import escape
from typing import Any, ClassVar, TypeVar

import jupyterhub
import kubespawner
from jupyterhub.spawner import Spawner
from traitlets import Any as AnyTrait
from traitlets import Dict, TraitError, Unicode, default, validate

import gpu_launcher
from gpu_launcher.domain.identity import SessionIdentity, label_hash
from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.domain.plan import PodPlan
from gpu_launcher.domain.pool import NoPool, SlotPool
from gpu_launcher.domain.profile import Profile
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.domain.usage import Person, RunningServer, Usage
from gpu_launcher.explain.alternatives import Alternative, alternatives
from gpu_launcher.hub import form, profile_list
from gpu_launcher.hub.adoption import AdoptedStarts
from gpu_launcher.hub.conflicts import refuse_second_list
from gpu_launcher.hub.manifest import OWNED_TRAITS, finish_pod, planned_traits, required_terms
from gpu_launcher.hub.offers import Offers, offers_of
from gpu_launcher.hub.options import options_from_fields, query_fields
from gpu_launcher.hub.records import metrics_of
from gpu_launcher.hub.refusal import StartRefused, compensate
from gpu_launcher.hub.state import PLAN, dump_plan, load_plan
from gpu_launcher.hub.usage import Holder, Reservations
from gpu_launcher.planning.admission import admit
from gpu_launcher.planning.dialects import HOSTNAME
from gpu_launcher.planning.fallback import ZONE_LABELS, Choices, next_rung
from gpu_launcher.planning.options import parse_options
from gpu_launcher.planning.placement import place

if not hasattr(Spawner, "_run_apply_user_options"):
    # Without this step nothing would authorise a start: it is where every path comes together.
    raise ImportError("gpu_launcher needs JupyterHub 5.3 or later, whose spawners have an option step")

_Outcome = TypeVar("_Outcome")

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)

VERSIONS = {
    "gpu-launcher": gpu_launcher.__version__,
    "jupyterhub": jupyterhub.__version__,
    "kubespawner": kubespawner.__version__,
}
"""The software that decides, noted on each pod."""


class _Handler(AnyTrait):
    """The request's handler; a validator would not see None, with which the hub's own starts come."""

    def set(self, obj: Any, value: Any) -> None:
        obj._look_at_saved_options(value)
        super().set(obj, value)


class GpuSpawner(AdoptedStarts):
    """KubeSpawner whose profiles name GPUs.

    ``c.KubeSpawner`` configuration and hooks keep working; the order is: group overrides, the launcher's decision,
    the site's ``apply_user_options``, ``pre_spawn_hook``, the pod, ``modify_pod_hook``.
    """

    settings = Dict(
        config=True,
        help="""
        The launcher's configuration document (``version: 1``), as ``gpu_launcher.configure`` writes it. Data only.

        Default: empty, which offers the built-in profiles.
        """,
    )

    instance = Unicode(
        config=True,
        help="""
        The name that tells this launcher's pods from those of others: at most 63 characters of a label value.

        Default: the namespace and the Helm release, so that two hubs in one namespace do not count each other's pods.
        """,
    )

    handler = _Handler(help="The handler of the request that starts the server, None afterwards.")

    # A Dict in the base class, where a list or a number raises before any of our code and JupyterHub 5 counts that as a
    # failure of the hub. Here everything reaches the parser, which refuses it.
    user_options = AnyTrait(help="What the user asked for: untrusted JSON of any shape.")

    reservations: ClassVar[Reservations] = Reservations()

    node_affinity_required: Any

    notice: str | None = None
    """What the user should know about the last decision, such as a saved profile that no longer exists."""

    _offers: tuple[Any, Offers] | None = None
    _asked: tuple[Profile, StartRequest] | None = None
    _rungs: tuple[str, ...] = ()
    _options_before: Any = None
    _options_given = False
    _hub_settings: MutableMapping[str, Any] | None = None
    _pristine: Mapping[str, Any] | None = None
    _site: Mapping[str, Any] | None = None
    _future: asyncio.Future[Any] | None = None
    _interrupted = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_second_list(self.config)

    @default("user_options")
    def _no_options(self) -> dict[str, Any]:
        return {}

    @default("instance")
    def _instance_of_release(self) -> str:
        parts = (self._namespace_default(), os.environ.get("HELM_RELEASE_NAME", ""))
        return ".".join(filter(None, parts))[:63].strip("-._")

    @validate("instance")
    def _instance_is_a_label(self, proposal: Any) -> str:
        if not _LABEL_VALUE.fullmatch(proposal.value):
            # Without this every pod would be refused by the API server, one start after the other.
            raise TraitError(
                f"c.GpuSpawner.instance is {proposal.value!r}, which is no label's value; use at most 63 letters, "
                "digits, hyphens, underscores and dots, the first and the last a letter or digit"
            )
        return str(proposal.value)

    @property
    def offers(self) -> Offers:
        """What the settings offer; compiled once for all spawners."""
        # Asked for many times in every start, and the document is written out to find what was compiled of it.
        if self._offers is None or self._offers[0] is not self.settings:
            self._offers = self.settings, offers_of(self.settings)
        return self._offers[1]

    @property
    def person(self) -> Person:
        """The server's owner with the groups of this moment."""
        return Person(self.user.name, frozenset(group.name for group in self.user.groups))

    @property
    def _pod_key(self) -> str:
        return f"{self.namespace}/{self.pod_name}"

    # What the request carried. User.spawn sets `handler`, then either writes the request's options to the database or
    # takes the saved ones from there, then sets `user_options`, without a pause between the three.

    def _look_at_saved_options(self, handler: Any) -> None:
        self._options_before = getattr(self.orm_spawner, "user_options", None)
        if handler is not None:
            self._hub_settings = handler.settings

    @validate("user_options")
    def _see_who_gave_options(self, proposal: Any) -> Any:
        # Identity, not equality: a request may repeat what is saved, and it is then answered as a request.
        self._options_given = getattr(self.orm_spawner, "user_options", None) is not self._options_before
        return proposal.value

    def _restore_saved_options(self) -> None:
        """Put back what was saved before a refused request: the hub commits options before anything reads them."""
        if self._options_given:
            self.orm_spawner.user_options = self._options_before
            self.user.db.commit()
        self.user_options = self._options_before if isinstance(self._options_before, dict) else {}

    # The decision.

    async def _run_apply_user_options(self, user_options: Any) -> None:
        """Decide, write the decision to the traits, then run the site's own ``apply_user_options``."""
        request = self._accepted(parse_options(
            user_options,
            self.offers.settings.profiles,
            from_saved=not self._options_given,
            listed=self.offers.possible_for(self.person),
        ))  # fmt: skip
        await self._start_watching_pods()
        plan = self._accepted(self._decide(request))
        self.notice = request.notice
        metrics_of(self).keys_ignored(request.ignored_keys)
        self._write(plan)
        self.log.info(
            "start admitted server=%r profile=%s pool=%s gpus=%d ignored_keys=%d",
            self._log_name, plan.profile_id, plan.pool_id, plan.resources.gpus, request.ignored_keys,
        )  # fmt: skip
        if self.apply_user_options:
            await super()._run_apply_user_options(user_options or {})

    def _decide(self, request: StartRequest) -> PodPlan | Refusal:
        """Return the plan, with its GPUs held from here on, or why there is none.

        Nothing in here awaits: between looking at who holds what and holding more, no second tab can pass.
        """
        offers, person = self.offers, self.person
        offer = offers.by_id[request.profile_id]
        refusal = admit(offer.profile, request, person, self.usage(self._pod_key), offers.settings.limits)
        if refusal:
            return refusal
        if isinstance(offer.pool, NoPool):
            return Refusal(RefusalReason.UNAVAILABLE, form.unavailable(offer.profile, offer.pool))
        self._asked, self._rungs = (offer.profile, request), ()
        return self._placed(offer.profile, request, offer.pool)

    def _placed(self, profile: Profile, request: StartRequest, pool: SlotPool) -> PodPlan:
        """Return the plan of an admitted request; its GPUs are held from here on."""
        person = self.person
        plan = place(profile, request, pool, self.offers.settings.cluster, self._identity(person), VERSIONS)
        server = RunningServer(self.name, plan.resources.gpus, plan.profile_id, person.groups)
        self.reservations.hold(self._pod_key, Holder(label_hash(person.name), server))
        return plan

    def usage(self, without: str = "") -> Usage:
        """Return the GPUs in use as this person sees them, without the pod *without*."""
        user = label_hash(self.user.name)
        pods = self.pod_reflector.pods if self.pod_reflector else {}
        return self.reservations.usage(pods, user=user, instance=self.instance, without=without)

    def choices(self) -> Choices:
        """Return what the person may start in place of this server."""
        offers, person = self.offers, self.person
        return Choices(
            profiles={offer.profile.id: offer.profile for offer in offers.open_to(person)},
            pools={key: offer.pool for key, offer in offers.by_id.items() if isinstance(offer.pool, SlotPool)},
            person=person,
            usage=self.usage(self._pod_key),
            limits=offers.settings.limits,
        )

    # The ladder: what a start becomes when there is no machine for it.

    def take_next_rung(self, refusal: Refusal) -> str:
        """Plan the next attempt that admin and user agreed to, and return it in words; "" if there is none left."""
        if self._asked is None or self._site is None:
            return ""
        rung = next_rung(
            *self._asked,
            self._rungs,
            refusal.reason,
            self.choices(),
            site_selector=self._site["node_selector"],
            volumes=self._volumes(),
        )
        if rung is None:
            return ""
        self._rungs = (*self._rungs, rung.key)
        self._write(self._placed(rung.profile, rung.request, rung.pool), any_zone=rung.any_zone)
        self.log.info("start falls back server=%r reason=%s to=%s", self._log_name, refusal.reason, rung.key)
        return rung.words

    def avoid_node(self, node: str) -> None:
        """Keep the next attempt away from a node that did not accept the pod."""
        if self.plan is not None and node:
            elsewhere = {"key": HOSTNAME, "operator": "NotIn", "values": [node]}
            self._write(replace(self.plan, node_affinity=(*self.plan.node_affinity, elsewhere)))

    def alternatives(self) -> tuple[Alternative, ...]:
        """Return what could be started instead, the best first."""
        if self._asked is None or self._site is None:
            return ()
        return alternatives(
            self.choices(), self.published, self._asked[0].id, time.time(), tried=self._rungs,
            eta=self.whole_start, prices=self.offers.settings.prices, hub_image=self.any_image(self._site["image"]),
        )  # fmt: skip

    def _accepted(self, outcome: _Outcome | Refusal) -> _Outcome:
        """Return the outcome unless it is a refusal, which is logged in one line and raised."""
        if not isinstance(outcome, Refusal):
            return outcome
        asked = self.user_options.get("profile") if isinstance(self.user_options, dict) else None
        metrics_of(self).start_refused(str(asked), outcome.reason)
        self._restore_saved_options()
        self.log.warning("start refused server=%r reason=%s status=%d", self._log_name, outcome.reason, outcome.status)
        raise StartRefused(outcome)

    def _identity(self, person: Person) -> SessionIdentity:
        return SessionIdentity(
            instance=self.instance,
            user_hash=label_hash(person.name),
            server_hash=label_hash(f"{person.name}/{self.name}"),
            config_hash=self.offers.settings.hash,
            groups=tuple(sorted(person.groups)),
        )

    # Whole values from a baseline: nothing of one attempt is left in the next.

    def _write(self, plan: PodPlan, *, any_zone: bool = False) -> None:
        if self._site is None:
            self._site = self._owned()
        site = dict(self._site)
        if any_zone:
            site["node_selector"] = {
                key: value for key, value in site["node_selector"].items() if key not in ZONE_LABELS
            }
        for name, value in planned_traits(site, plan).items():
            setattr(self, name, value)
        self.plan = plan

    def _owned(self) -> dict[str, Any]:
        return {name: copy.deepcopy(getattr(self, name)) for name in OWNED_TRAITS}

    async def load_user_options(self) -> None:
        """Do nothing if the option step has decided; decide now if somebody calls ``start`` without it."""
        if self.plan is None:
            await self._run_apply_user_options(self.user_options)

    async def get_pod_manifest(self) -> Any:
        """Return KubeSpawner's pod with what no trait can carry."""
        if self.plan is None:
            return await super().get_pod_manifest()
        # A hook may have added terms of its own; each of them must still ask for the profile's machines.
        self.node_affinity_required = required_terms(
            self._sorted_dict_values(self.node_affinity_required), self.plan.node_affinity
        )
        return self.noted(finish_pod(await super().get_pod_manifest(), self.plan))

    # State.

    def get_state(self) -> dict[str, Any]:
        """Return KubeSpawner's state and the plan."""
        state: dict[str, Any] = super().get_state()
        if self.plan is not None:
            state[PLAN] = dump_plan(self.plan)
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore KubeSpawner's state and the plan; a state without one leaves it unknown."""
        super().load_state(state)
        self.plan = load_plan(state.get(PLAN))

    def clear_state(self) -> None:
        """Forget the plan, its reservation and what it wrote; the hub calls this before a start and after a stop."""
        self.reservations.release(self._pod_key)
        super().clear_state()
        self.plan = None
        self.notice = None
        self._asked, self._rungs = None, ()
        self._interrupted = False
        self._site = None
        if self._pristine is None:
            self._pristine = self._owned()
        else:
            for name, value in copy.deepcopy(dict(self._pristine)).items():
                setattr(self, name, value)

    # Ends of a start.

    @property
    def ready(self) -> bool:
        """Whether the server can be used.

        One that was stopped while it started is not: the hub gives up waiting for it a second before it stops it.
        """
        return bool(super().ready) and not self._interrupted

    @property
    def _spawn_future(self) -> asyncio.Future[Any] | None:
        return self._future

    @_spawn_future.setter
    def _spawn_future(self, future: asyncio.Future[Any] | None) -> None:
        # The hub sets this before it adds the callback that counts failures, so ours runs just before that one.
        self._future = future
        if future is not None and not future.done():
            self.expect_start()
            future.add_done_callback(self._start_ended)

    def _start_ended(self, future: asyncio.Future[Any]) -> None:
        self.reservations.release(self._pod_key)
        self._interrupted = future.cancelled()
        if not future.cancelled():
            compensate(future.exception(), self._hub_settings)

    # What the user sees and posts.

    @default("options_form")
    def _options_form_default(self) -> Any:
        return form.options_form

    @default("profile_list")
    def _profile_list_default(self) -> list[dict[str, Any]]:
        return profile_list.published(self.offers.open_to(self.person))

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what the user should know about the decision, then what is told of the start."""
        if self.notice:
            yield {"progress": 0, "message": self.notice, "html_message": escape(self.notice)}
        async with aclosing(super().progress()) as told:
            async for event in told:
                yield event

    def _options_from_form(self, formdata: Mapping[str, Any]) -> dict[str, object]:
        return options_from_fields(formdata)

    def options_from_query(self, query_data: Mapping[str, Any]) -> Any:
        """Return the options of a query: the form's fields, with or without ``opt-``."""
        return self.options_from_form(query_fields(query_data))
