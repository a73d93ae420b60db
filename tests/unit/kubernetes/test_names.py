"""Names and labels that Kubernetes takes, whatever branches are called."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kubernetes_double.schema import DNS_LABEL, LABEL_VALUE
from kubernetes_double.state import parse_selector

from swarmq.kubernetes import names

TEXT = st.text(max_size=200)


@given(TEXT, TEXT)
def test_any_branch_has_a_dns_name_with_room_for_an_attempt(swarm: str, branch: str) -> None:
    name = names.pod_name(swarm, branch)
    assert DNS_LABEL.fullmatch(name)
    secret = names.secret_name(name, "0a1b2c3d")
    assert DNS_LABEL.fullmatch(secret)
    assert len(secret) <= names.MAX_NAME


@given(TEXT, TEXT, TEXT, TEXT)
def test_different_branches_have_different_names(swarm: str, branch: str, other_swarm: str, other: str) -> None:
    same = (swarm, branch) == (other_swarm, other)
    assert (names.pod_name(swarm, branch) == names.pod_name(other_swarm, other)) is same


def test_a_name_tells_the_branch() -> None:
    assert names.pod_name("s1", "Fix imports.2").startswith("swarmq-fix-imports-2-")
    assert names.pod_name("s1", "修正").startswith("swarmq-")


@given(TEXT)
def test_any_text_makes_a_label(text: str) -> None:
    value = names.label_value(text)
    assert LABEL_VALUE.fullmatch(value)
    assert len(value) <= names.MAX_LABEL


@given(st.from_regex(LABEL_VALUE, fullmatch=True))
def test_what_may_be_a_label_is_one_as_it_is(text: str) -> None:
    assert names.label_value(text) == text


def test_a_branch_is_found_by_its_labels() -> None:
    labels = names.branch_labels("swarm", "fix it", 3, "fix it.2")
    assert parse_selector(names.selector(labels)).matches({**labels, "more": "is fine"})
    assert not parse_selector(names.selector(labels)).matches({**labels, names.STAGE: "4"})
