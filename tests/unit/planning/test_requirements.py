"""Label requirements against labels, and against each other (Karpenter's rule)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.views import Expression
from gpu_launcher.planning.requirements import Requirements, fulfilled, number, overlap

GPU = "karpenter.k8s.aws/instance-gpu-name"
COUNT = "karpenter.k8s.aws/instance-gpu-count"
TEAM = "example.org/team"


def need(key: str, operator: str, *values: str) -> Expression:
    return Expression(key, operator, values)


@pytest.mark.parametrize(
    ("expression", "labels", "expected"),
    [
        (need(GPU, "In", "a10g", "l4"), {GPU: "l4"}, True),
        (need(GPU, "In", "a10g"), {GPU: "l4"}, False),
        (need(GPU, "In", "a10g"), {}, False),
        (need(GPU, "NotIn", "a10g"), {}, True),
        (need(GPU, "NotIn", "a10g"), {GPU: "a10g"}, False),
        (need(GPU, "Exists"), {GPU: ""}, True),
        (need(GPU, "Exists"), {}, False),
        (need(GPU, "DoesNotExist"), {}, True),
        (need(GPU, "DoesNotExist"), {GPU: "a10g"}, False),
        (need(COUNT, "Gt", "3"), {COUNT: "4"}, True),
        (need(COUNT, "Gt", "4"), {COUNT: "4"}, False),
        (need(COUNT, "Lt", "5"), {COUNT: "4"}, True),
        (need(COUNT, "Gt", "3"), {COUNT: "four"}, False),
        (need(COUNT, "Gt", "3"), {}, False),
        (need(COUNT, "Gte", "4"), {COUNT: "4"}, True),
        (need(COUNT, "Gte", "5"), {COUNT: "4"}, False),
        (need(COUNT, "Lte", "4"), {COUNT: "4"}, True),
        (need(COUNT, "Lte", "3"), {COUNT: "4"}, False),
        (need(COUNT, "Gt", "-1"), {COUNT: "0"}, True),
        (need(COUNT, "Lt", "-1"), {COUNT: "0"}, False),
        # A comparison with something that is no number matches no node.
        (need(COUNT, "Gt", "many"), {COUNT: "4"}, False),
        (need(COUNT, "Lt", "9" * 5000), {COUNT: "4"}, False),
        (need(COUNT, "Lt"), {COUNT: "4"}, False),
    ],
)
def test_labels(expression: Expression, labels: dict[str, str], expected: bool) -> None:
    assert fulfilled([expression], labels) is expected
    assert Requirements([expression]).fulfilled(labels) is expected


@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        ([need(GPU, "In", "a10g")], [need(GPU, "In", "a10g", "l4")], True),
        ([need(GPU, "In", "a10g")], [need(GPU, "In", "l4")], False),
        ([need(GPU, "In", "a10g")], [need(GPU, "NotIn", "a10g")], False),
        ([need(GPU, "In", "a10g")], [need(GPU, "Exists")], True),
        ([need(GPU, "In", "a10g")], [need(GPU, "DoesNotExist")], False),
        ([need(GPU, "DoesNotExist")], [need(GPU, "DoesNotExist")], True),
        ([need(GPU, "DoesNotExist")], [need(GPU, "In", "a10g")], False),
        # Nobody narrowed it: the cloud may give any.
        ([need(GPU, "In", "a10g")], [], True),
        # The site's own label exists only where a NodePool names it.
        ([need(TEAM, "In", "vision")], [], False),
        ([need(TEAM, "NotIn", "vision")], [], True),
        ([need(TEAM, "In", "vision")], [need(TEAM, "In", "vision")], True),
        ([need(COUNT, "Gt", "3"), need(COUNT, "Lt", "5")], [need(COUNT, "In", "4", "8")], True),
        ([need(COUNT, "Gt", "4"), need(COUNT, "Lt", "5")], [need(COUNT, "Exists")], False),
        ([need(COUNT, "Gt", "8")], [need(COUNT, "In", "4", "8")], False),
        ([need(COUNT, "Gte", "4")], [need(COUNT, "Lte", "4")], True),
        ([need(COUNT, "Gte", "5")], [need(COUNT, "Lt", "5")], False),
        ([need(COUNT, "Gt", "-1")], [need(COUNT, "In", "0")], True),
        # Wishes for one label hold together, whether or not it is offered.
        ([need(GPU, "In", "a10g"), need(GPU, "In", "l4")], [need(GPU, "Exists")], False),
        ([need(GPU, "In", "a10g"), need(GPU, "In", "l4")], [], False),
        ([need(GPU, "In", "a10g", "l4"), need(GPU, "NotIn", "l4")], [need(GPU, "In", "l4")], False),
        ([need(COUNT, "Gt", "4"), need(COUNT, "Lt", "5")], [], False),
        ([need(TEAM, "NotIn", "vision"), need(TEAM, "Exists")], [], False),
        ([need(COUNT, "Gt", "many")], [need(COUNT, "Exists")], False),
        ([need(COUNT, "Exists")], [need(COUNT, "Lt")], False),
    ],
)
def test_overlap(wanted: list[Expression], offered: list[Expression], expected: bool) -> None:
    assert overlap(wanted, offered) is expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (GPU, True),
        ("karpenter.k8s.aws/instance-gpu-nam", False),
        ("eks.amazonaws.com/instance-gpu-nam", False),
        ("karpenter.kwok.sh/instance-family", True),
        ("beta.kubernetes.io/arch", True),
        ("failure-domain.beta.kubernetes.io/zone", True),
        ("oci.oraclecloud.com/shape", True),
        ("compute.cloud.google.com/gpu", True),
        ("notkubernetes.io/arch", False),
        ("karpenter.sh", False),
        # Kubernetes keeps these for labels of the site's own, and Karpenter gives them to no machine.
        ("node-restriction.kubernetes.io/team", False),
        ("vision.node-restriction.kubernetes.io/team", False),
        ("node-role.kubernetes.io/gpu", False),
    ],
)
def test_labels_that_come_with_the_machine(key: str, expected: bool) -> None:
    assert overlap([need(key, "In", "x")], []) is expected
    assert overlap([need(key, "In", "x")], [need(key, "In", "x")])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8", 8), ("007", 7), ("", None), ("x", None), ("-8", None), ("\u0663", None), ("\u00b2", None), ("9" * 19, None)],
)
def test_the_number_in_a_label(text: str, expected: int | None) -> None:
    assert number(text) == expected


operators = st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Gte", "Lte", "Near"])
expressions = st.lists(
    st.builds(
        Expression,
        st.sampled_from([GPU, COUNT]),
        operators,
        st.lists(st.sampled_from(["1", "4", "8", "a10g"]), max_size=3).map(tuple),
    ),
    max_size=4,
)


@given(expressions, expressions, st.dictionaries(st.sampled_from([GPU, COUNT]), st.sampled_from(["1", "4", "a10g"])))
def test_what_one_machine_fulfils_overlaps(
    wanted: list[Expression], offered: list[Expression], labels: dict[str, str]
) -> None:
    assert Requirements(wanted).fulfilled(labels) is fulfilled(wanted, labels)
    if fulfilled(wanted, labels) and fulfilled(offered, labels):
        assert overlap(wanted, offered)
