from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.fleet.shown import shown, without_logins

SECRET = "migrate everything, the password is hunter2"


@pytest.mark.parametrize(
    ("name", "arguments", "options", "expected"),
    [
        ("swarmq.run_branch", ["k3x9qm2p4t", "port-a"], {}, ("(port-a of k3x9qm2p4t)", "{}")),
        ("swarmq.finish_stage", ["k3x9qm2p4t", 1], {}, ("(stage 1 of k3x9qm2p4t)", "{}")),
        ("swarmq.plan", ["k3x9qm2p4t"], {}, ("(k3x9qm2p4t)", "{}")),
        ("swarmq.swarm", [], {"task": SECRET}, ("()", "{…}")),
        ("swarmq.swarm", [SECRET], {}, ("()", "{…}")),
        ("swarmq.swarm", [], {"swarm_id": "k3x9qm2p4t"}, ("(k3x9qm2p4t)", "{…}")),
        ("swarmq.revoked", [["a", "b"]], {}, ("(2 tasks)", "{}")),
        ("swarmq.reconcile", [], {}, ("()", "{}")),
        ("swarmq.run_branch", ["one"], {"x": 1}, ("(one)", "{}")),
        ("swarmq.run_branch", [1, 2, 3], {"x": SECRET}, ("(…)", "{…}")),
    ],
)
def test_what_is_shown(name: str, arguments: list[Any], options: dict[str, Any], expected: tuple[str, str]) -> None:
    assert shown(name, arguments, options) == expected


@given(st.lists(st.one_of(st.text(), st.integers(), st.lists(st.text()))), st.dictionaries(st.text(), st.text()))
def test_a_swarms_message_shows_nothing_of_what_it_asks_for(arguments: list[Any], options: dict[str, str]) -> None:
    options.pop("swarm_id", None)
    assert shown("swarmq.swarm", arguments, options) == ("()", "{…}")


@pytest.mark.parametrize(
    "hostname",
    [
        "redis+socket://:s3cret@/run/x.sock?virtual_host=0",
        "sentinel://me:s3cret@a:26379/2;sentinel://me:s3cret@b:26379/2",
        "redis.example.com",
    ],
)
def test_a_broker_is_shown_without_its_password(hostname: str) -> None:
    told = without_logins({"hostname": hostname, "alternates": [hostname], "port": 6379, "login_method": None})
    assert "s3cret" not in str(told)
    assert (told["port"], told["login_method"]) == (6379, None)
    assert hostname.rpartition("@")[2].partition("?")[0] in told["hostname"]
