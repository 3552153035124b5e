"""Label requirements against labels, and against each other (Karpenter's rule)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.views import Expression
from gpu_launcher.planning.requirements import fulfilled, overlap

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
    ],
)
def test_labels(expression: Expression, labels: dict[str, str], expected: bool) -> None:
    assert fulfilled([expression], labels) is expected


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
    ],
)
def test_overlap(wanted: list[Expression], offered: list[Expression], expected: bool) -> None:
    assert overlap(wanted, offered) is expected


operators = st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Near"])
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
    if fulfilled(wanted, labels) and fulfilled(offered, labels):
        assert overlap(wanted, offered)
