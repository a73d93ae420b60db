"""A pod from its making to its removal, where nothing goes wrong, and where somebody else was there before."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from kubernetes_double import IS_REAL, KubernetesDouble
from pods_bench import HANG_SECONDS, IMPATIENT, Bench, Notices, first_line, open_bench, request, run_to_end, until

from swarmq.errors import PodError
from swarmq.kubernetes import names
from swarmq.kubernetes.ends import PodReason

SHOW = "cat /run/swarmq/payload; echo; pwd; echo $HOME; ls -A /run/swarmq; rm /run/swarmq/payload; printf last"


async def test_the_agent_finds_its_payload_and_its_lines_come_whole(bench: Bench, double: KubernetesDouble) -> None:
    lines, end = await run_to_end(bench.pods(SHOW), request())
    assert (lines[0], lines[3], lines[4]) == ("the payload", "payload", "last")
    assert lines[1] == lines[2], "the agent works in its home"
    assert (end.reason, end.exit_code, end.started) == (PodReason.COMPLETED, 0, True)


async def test_a_pod_and_its_secret_go_together(bench: Bench, double: KubernetesDouble) -> None:
    async with await bench.pods("true").run(request()) as run:
        await run.end()
        assert double.objects("secrets")[0]["metadata"]["ownerReferences"][0]["uid"] == run.uid
        await run.delete()
        await until(lambda: not double.objects("pods"))
    await until(lambda: not double.objects("secrets"))


async def test_a_pod_takes_six_calls_and_the_watch_two_for_all(double: KubernetesDouble) -> None:
    patience = replace(IMPATIENT, quiet_log_seconds=HANG_SECONDS, quiet_watch_seconds=HANG_SECONDS, watch_seconds=60)
    async with open_bench(double, patience) as bench:
        await _take_six_calls(bench, double)


async def _take_six_calls(bench: Bench, double: KubernetesDouble) -> None:
    pods = bench.pods("echo working")

    async def whole(branch: str) -> None:
        async with await pods.run(request(branch)) as run:
            assert [line async for line in run.lines()] == ["working"]
            await run.end()
            await run.delete()

    await asyncio.gather(*(whole(f"branch-{number}") for number in range(20)))
    each = {"create secrets": 20, "create pods": 20, "patch secrets": 20, "delete pods": 20}
    counted = double.counted()
    assert {call: counted[call] for call in each} == each
    assert counted["get pods/log"] <= 2 * 20, "one follows, and one makes sure of the end where no result was seen"
    assert counted["list pods"] + counted["watch pods"] <= 6
    assert all(bench.cluster.calls[call] == counted[call] for call in each), "what is counted is what is sent"


async def test_whoever_reads_the_result_need_not_read_to_the_end(bench: Bench, double: KubernetesDouble) -> None:
    async with await bench.pods("echo result; sleep 60").run(request()) as run:
        assert await first_line(run) == "result"
        await run.delete()
        end = await run.end()
    assert (end.lost, end.detail) == (True, "the pod was deleted by swarmq")
    assert double.counted()["get pods/log"] == 1
    await until(lambda: not double.processes())


async def test_another_worker_adopts_the_pod_of_one_that_died(bench: Bench, double: KubernetesDouble) -> None:
    command = "echo begun; while [ ! -e $HOME/go ]; do sleep 0.02; done; echo done"
    async with await bench.pods(command).run(request(nonce="first")) as run:
        assert await first_line(run) == "begun"
    async with open_bench(double) as other, await other.pods(command).run(request(token=2, nonce="second")) as adopted:
        assert (adopted.adopted, adopted.uid, adopted.token, adopted.nonce) == (True, run.uid, 1, "first")
        (double.kubeconfig.parent / "pods" / run.uid / "work" / "go").touch()
        assert [line async for line in adopted.lines()] == ["begun", "done"]
        assert (await adopted.end()).reason is PodReason.COMPLETED
    assert double.counted()["create pods"] == 1


async def test_a_running_pod_is_adopted_by_who_did_not_know_of_it(bench: Bench, double: KubernetesDouble) -> None:
    pods = bench.pods("echo hello; sleep 60")
    async with await pods.run(request()) as run, await pods.run(request(nonce="other")) as same:
        assert (same.adopted, same.uid, same.nonce) == (True, run.uid, "n0nce")
        assert len(double.objects("secrets")) == 1, "what the second one brought along is removed"


async def test_a_pod_that_has_ended_is_replaced(bench: Bench, double: KubernetesDouble) -> None:
    pods = bench.pods("cat /run/swarmq/payload")
    assert (await run_to_end(pods, request(payload=b"one")))[0] == ["one"]
    assert (await run_to_end(pods, request(payload=b"two", token=2)))[0] == ["two"]
    assert (await run_to_end(pods, request(payload=b"three")))[0] == ["three"]
    assert len(double.objects("pods")) == 1
    await until(lambda: len(double.objects("secrets")) == 1)  # a server collects what went with its owner in its time


async def test_a_pod_that_ends_before_it_is_known_to_be_made_is_not_made_again(
    bench: Bench, double: KubernetesDouble
) -> None:
    double.lose_reply("create", "pods")
    running = asyncio.create_task(run_to_end(bench.pods("cat /run/swarmq/payload"), request(payload=b"one")))
    await until(lambda: bool(double.objects("pods")))
    double.go_away()
    await until(lambda: double.objects("pods")[0]["status"].get("phase") == "Succeeded")
    double.come_back()
    assert (await running)[0] == ["one"]
    assert len(double.kubelet.pods) == 1


async def test_a_pod_that_is_being_deleted_is_waited_for(bench: Bench, double: KubernetesDouble) -> None:
    pods = bench.pods("trap 'sleep 0.3; exit 1' TERM; echo up; sleep 60 & wait", terminationGracePeriodSeconds=5)
    async with await pods.run(request()) as run:
        await first_line(run)
        await run.delete()
        async with await pods.run(request(token=2)) as second:
            assert not second.adopted
            assert second.uid != run.uid


async def test_the_name_of_somebody_elses_pod_is_not_taken(bench: Bench, double: KubernetesDouble) -> None:
    pods = bench.pods("sleep 60")
    async with await pods.run(request()):
        pod = double.objects("pods")[0]
        metadata = pod["metadata"] | {"annotations": {names.SWARM: "another", names.BRANCH: "fix"}}
        double.do(double.state.update("pods", pod["metadata"]["name"], metadata=metadata))
        with pytest.raises(PodError, match="is not one of this branch"):
            await pods.run(request(token=2))


async def test_residual_pods_of_a_stage_and_a_swarm_are_removed(bench: Bench, double: KubernetesDouble) -> None:
    pods = bench.pods("true")
    for branch, stage in (("a", 0), ("b", 0), ("c", 1)):
        await run_to_end(pods, request(branch, stage=stage))
    await run_to_end(pods, request("d", swarm_id="swarm-2"))
    await pods.remove_residual("swarm-1", 0)
    assert sorted((sight.swarm_id, sight.branch_id) for sight in await pods.list()) == [
        ("swarm-1", "c"),
        ("swarm-2", "d"),
    ]
    await pods.remove_residual("swarm-1")
    assert [(sight.swarm_id, sight.token, sight.over) for sight in await pods.list()] == [("swarm-2", 1, True)]
    assert len(double.objects("secrets")) == 1
    await pods.delete_branch("swarm-2", "d")
    await pods.delete_branch("swarm-2", "d")
    assert not double.objects("pods")


@pytest.mark.skipif(IS_REAL, reason="a server says itself when something was made")
async def test_what_is_too_old_is_removed_without_reading_secrets(bench: Bench, double: KubernetesDouble) -> None:
    pods = bench.pods("true")
    await run_to_end(pods, request("old"))
    await run_to_end(pods, request("new"))
    long_ago = datetime.now(UTC) - timedelta(days=3)
    for resource in ("pods", "secrets"):
        for thing in double.objects(resource):
            if thing["metadata"]["labels"][names.BRANCH] == "old":
                labels = thing["metadata"]["labels"] | {names.DAY: str(long_ago.date())}
                aged = {"labels": labels, "creationTimestamp": f"{long_ago:%Y-%m-%dT%H:%M:%SZ}", "ownerReferences": []}
                double.do(double.state.update(resource, thing["metadata"]["name"], metadata=thing["metadata"] | aged))
    assert await pods.remove_aged(86_400) == 1
    for resource in ("pods", "secrets"):
        assert [thing["metadata"]["labels"][names.BRANCH] for thing in double.objects(resource)] == ["new"]


async def test_named_secrets_are_given_as_files_and_no_others(bench: Bench, double: KubernetesDouble) -> None:
    secret = {"metadata": {"name": "model.keys"}, "data": {"API_KEY": "c2VjcmV0"}}
    double.do(double.state.create("secrets", secret))
    pods = bench.pods("cat /run/swarmq/secrets/model.keys/API_KEY; echo; ls -A /run/swarmq/secrets/model.keys; env")
    pods.defaults = pods.defaults.__class__(pods.defaults.image, pods.defaults.template, ("model.keys",))
    lines, _ = await run_to_end(pods, request())
    assert lines[:2] == ["secret", "API_KEY"]
    assert not [line for line in lines[2:] if line.endswith("=secret")], "nothing is in the environment"


async def test_events_of_a_pod_tell_why_it_does_not_start(bench: Bench, double: KubernetesDouble) -> None:
    notices = Notices()
    missing = {"name": "gone", "secret": {"secretName": "not-there"}}
    async with await bench.pods("true", volumes=[missing]).run(request(), notices.hear) as run:
        await until(lambda: bool(double.objects("events")))
        assert [str(event) for event in await run.cluster_events()] == [
            'Warning FailedMount: MountVolume.SetUp failed: secret "not-there" not found'
        ]
        await run.delete()
