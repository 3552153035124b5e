"""The kinds of value in the configuration document: each parses strictly, writes canonically, and has a JSON Schema."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, StringConstraints, WithJsonSchema

from gpu_launcher.domain.duration import format_duration, parse_duration
from gpu_launcher.domain.image_reference import is_image_reference
from gpu_launcher.domain.policy import Mode
from gpu_launcher.domain.quantity import MIB, format_bytes, format_cpu, parse_bytes, parse_cpu
from gpu_launcher.settings.patterns import repeats_what_varies

_CPU_SCHEMA: dict[str, Any] = {"type": ["string", "integer"], "pattern": r"^[0-9]+(\.[0-9]+)?m?$", "minimum": 0}
_BYTES_SCHEMA: dict[str, Any] = {
    "type": ["string", "integer"],
    "pattern": r"^[0-9]+(\.[0-9]+)?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
    "minimum": 0,
}

Cpu = Annotated[int, BeforeValidator(parse_cpu), PlainSerializer(format_cpu), WithJsonSchema(_CPU_SCHEMA)]
"""CPU, millicores inside."""

Bytes = Annotated[int, BeforeValidator(parse_bytes), PlainSerializer(format_bytes), WithJsonSchema(_BYTES_SCHEMA)]
"""Memory or disk, bytes inside."""

Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$", "minLength": 2}),
]
"""A length of time, seconds inside."""


def _gpu_memory(value: object) -> int:
    if not isinstance(value, str) or not value.startswith(">="):
        raise ValueError('is not a least amount of GPU memory; write it as ">=22Gi"')
    # Labels are in whole MiB: rounding down lets ">=24G" mean the 22888 MiB that a "24 GB" GPU has.
    mib = parse_bytes(value.removeprefix(">=").strip()) // MIB
    if not 1 <= mib <= 2**31 - 1:
        raise ValueError('is out of range; write the memory of one GPU as ">=22Gi"')
    return mib


GpuMemory = Annotated[
    int,
    BeforeValidator(_gpu_memory),
    PlainSerializer(lambda mib: f">={format_bytes(mib * MIB)}"),
    WithJsonSchema({"type": "string", "pattern": r"^>= ?[0-9]+(\.[0-9]+)?(M|G|T|Mi|Gi|Ti)$"}),
]
"""The least memory of one GPU, MiB inside."""


def _mode(value: object) -> Mode:
    # YAML 1.1 reads a bare off and on as false and true.
    if value is False or value == "off":
        return Mode.OFF
    if value == "observe":
        return Mode.OBSERVE
    if value is True or value == "on":
        raise ValueError('"on" arrives with the controller and is not in this version; write "observe" or "off"')
    raise ValueError('must be "observe" or "off"')


ModeField = Annotated[Mode, BeforeValidator(_mode), WithJsonSchema({"enum": ["off", "observe", False]})]
"""How far the controller goes."""


def _matches(pattern: str, remedy: str, longest: int = 253) -> Any:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if len(value) > longest or not compiled.fullmatch(value):
            raise ValueError(f"{value[:60]!r} is not valid; {remedy}")
        return value

    return (
        StringConstraints(strict=True),
        AfterValidator(check),
        WithJsonSchema({"type": "string", "pattern": f"^({pattern})$", "maxLength": longest}),
    )


_id = _matches(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", "use up to 40 lower-case letters, digits and hyphens", 40)
Id = Annotated[str, *_id]
"""A name that users, labels and metrics carry."""

_gpu_name = _matches(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", "use the model in lower case, such as a10g or rtx-pro-4500", 30)
GpuName = Annotated[str, *_gpu_name]

_kubernetes_name = _matches(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", "use the name of the Kubernetes object")
KubernetesName = Annotated[str, *_kubernetes_name]

_instance_type = _matches(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "use the cloud's name, such as g5.xlarge", 63)
InstanceTypeName = Annotated[str, *_instance_type]

_label_key = _matches(
    r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?",
    "use a label's key, such as karpenter.k8s.aws/instance-family",
)
LabelKey = Annotated[str, *_label_key]

_label_value = _matches(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?", "use a label's value, quoted", 63)
LabelValue = Annotated[str, *_label_value]


def _words(longest: int) -> Any:
    return StringConstraints(strict=True, min_length=1, max_length=longest)


Words = Annotated[str, _words(100)]
Text = Annotated[str, StringConstraints(strict=True, max_length=2000)]
GroupName = Annotated[str, _words(255)]


def _reference(value: str) -> str:
    if not is_image_reference(value):
        raise ValueError(f"{value[:80]!r} is not an image's name; write it as quay.io/team/image:tag")
    return value


ImageReference = Annotated[str, StringConstraints(strict=True), AfterValidator(_reference)]


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, RecursionError) as error:
        raise ValueError(f"is not a regular expression ({error}); write one such as quay\\.io/team/.+") from None
    if repeats_what_varies(value):
        # It runs on users' text in the hub's event loop: 27 characters took ([a-z]+)+:b six seconds.
        raise ValueError(
            "repeats a group that itself holds a repeat, ? or |, which can take for ever to match; write it without, "
            r"such as quay\.io/team/[a-z0-9./-]+:.+"
        )
    return value


Pattern = Annotated[str, _words(500), AfterValidator(_pattern)]
