"""Every way in which a pod can end without having done its work, and what is told of it."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from kubernetes_double import KubernetesDouble
from pods_bench import (
    HANG_SECONDS,
    IMAGE,
    IMPATIENT,
    Bench,
    Notices,
    first_line,
    open_bench,
    request,
    run_to_end,
    until,
)

from swarmq.kubernetes import names
from swarmq.kubernetes.ends import PodReason
from swarmq.models.pods import PodNews

SLEEP = "echo up; sleep 60"


async def test_an_agent_that_fails_is_told_by_its_exit_code(bench: Bench) -> None:
    lines, end = await run_to_end(bench.pods("echo oh dear; exit 3"), request())
    assert lines == ["oh dear"]
    assert (end.reason, end.exit_code, end.detail, end.lost) == (PodReason.FAILED, 3, "the agent exited with 3", False)


async def test_a_command_that_is_not_in_the_image_cannot_start(bench: Bench) -> None:
    pods = bench.pods("")
    pods.defaults.template["spec"]["containers"][0]["command"] = ["no-such-program"]
    lines, end = await run_to_end(pods, request())
    assert (lines, end.reason, end.started) == ([], PodReason.CANNOT_START, False)
    assert "no-such-program" in end.detail


async def test_an_init_container_that_fails_cannot_start(bench: Bench) -> None:
    lines, end = await run_to_end(bench.pods("", initContainers=[{"name": "payload", "command": ["false"]}]), request())
    assert (lines, end.reason) == ([], PodReason.CANNOT_START)
    assert "the init container payload exited with 1" in end.detail


@pytest.mark.parametrize(
    ("break_it", "reason", "told"),
    [
        (lambda double: double.delete_pod("fix"), PodReason.VANISHED, "not by swarmq"),
        (lambda double: double.delete_pod("fix", at_once=False), PodReason.VANISHED, "not by swarmq"),
        (lambda double: double.evict("fix"), PodReason.EVICTED, "EvictionByEvictionAPI: drained"),
        (lambda double: double.kill("fix", "OOMKilled"), PodReason.OOM_KILLED, "more memory"),
    ],
    ids=["deleted by force", "deleted", "drained", "out of memory"],
)
async def test_a_pod_that_is_taken_away(
    bench: Bench, double: KubernetesDouble, break_it: object, reason: PodReason, told: str
) -> None:
    async with await bench.pods(SLEEP).run(request()) as run:
        await first_line(run)
        assert callable(break_it)
        break_it(double)
        end = await run.end()
        assert [line async for line in run.lines()] in (["up"], [])
    assert (end.reason, end.started, end.lost) == (reason, True, reason is not PodReason.OOM_KILLED)
    assert told in end.detail


async def test_a_pod_that_vanished_is_made_anew(bench: Bench, double: KubernetesDouble) -> None:
    pods = bench.pods(SLEEP)
    async with await pods.run(request()) as run:
        await first_line(run)
        double.delete_pod("fix")
        assert (await run.end()).lost
        async with await pods.run(request()) as second:
            assert (second.adopted, second.uid == run.uid) == (False, False)
            assert await first_line(second) == "up"


async def test_a_node_that_is_lost_is_not_waited_for(bench: Bench, double: KubernetesDouble) -> None:
    async with await bench.pods(SLEEP).run(request()) as run:
        await first_line(run)
        double.faults.lost = True
        double.delete_pod("fix", at_once=False)  # by what watches nodes; nobody is there to end it
        end = await run.end()
        assert (end.reason, end.lost) == (PodReason.NODE_LOST, True)
        await until(lambda: not double.objects("pods"))
        assert [line async for line in run.lines()] == []


async def test_a_pod_whose_time_is_up_is_deleted(bench: Bench, double: KubernetesDouble) -> None:
    lines, end = await run_to_end(bench.pods(SLEEP), request(deadline_seconds=0.5))
    assert (lines, end.reason, end.detail) == (["up"], PodReason.TIMED_OUT, "the agent did not end within 0.5 s")
    await until(lambda: not double.objects("pods") and not double.processes())


async def test_the_deadline_of_the_pod_itself_counts_too(bench: Bench) -> None:
    _, end = await run_to_end(bench.pods(SLEEP, activeDeadlineSeconds=1), request())
    assert (end.reason, end.lost) == (PodReason.TIMED_OUT, False)


def age(double: KubernetesDouble, minutes: float, deadline: str | None = None) -> None:
    """Have the pod worked that long, and its deadline be told so."""
    pod = double.objects("pods")[0]
    if deadline is not None:
        annotations = pod["metadata"]["annotations"] | {names.DEADLINE: deadline}
        metadata = pod["metadata"] | {"annotations": annotations}
        double.do(double.state.update("pods", pod["metadata"]["name"], metadata=metadata))
    status = copy.deepcopy(pod["status"])
    long_ago = datetime.now(UTC) - timedelta(minutes=minutes)
    status["containerStatuses"][0]["state"]["running"]["startedAt"] = f"{long_ago:%Y-%m-%dT%H:%M:%SZ}"
    double.do(double.state.update("pods", pod["metadata"]["name"], status=status))


async def test_time_before_an_adoption_counts(bench: Bench, double: KubernetesDouble) -> None:
    pods = bench.pods(SLEEP)
    async with await pods.run(request(deadline_seconds=240)) as run:
        await first_line(run)
        age(double, minutes=5)
    async with await pods.run(request(token=2, deadline_seconds=3600)) as adopted:
        end = await adopted.end()
    assert (end.reason, end.detail) == (PodReason.TIMED_OUT, "the agent did not end within 240 s")


@pytest.mark.parametrize("deadline", [None, "soon", "-1", ""], ids=["as it was made", "no number", "negative", "none"])
async def test_time_before_an_adoption_counts_once(
    deadline: str | None, bench: Bench, double: KubernetesDouble
) -> None:
    """The adopter's request leaves out what was recorded before: it is not for a pod that has worked already."""
    pods = bench.pods("echo up; while [ ! -e $HOME/go ]; do sleep 0.02; done")
    async with await pods.run(request(deadline_seconds=600)) as run:
        await first_line(run)
        age(double, minutes=5, deadline=deadline)
    async with asyncio.timeout(HANG_SECONDS), await pods.run(request(token=2, deadline_seconds=300)) as adopted:
        assert await first_line(adopted) == "up"
        (double.kubeconfig.parent / "pods" / run.uid / "work" / "go").touch()
        assert (await adopted.end()).reason is PodReason.COMPLETED


async def test_an_adopted_pod_that_tells_no_deadline_has_the_adopters_from_then_on(
    bench: Bench, double: KubernetesDouble
) -> None:
    pods = bench.pods(SLEEP)
    async with await pods.run(request(deadline_seconds=600)) as run:
        await first_line(run)
        age(double, minutes=5, deadline="soon")
    async with await pods.run(request(token=2, deadline_seconds=0.5)) as adopted:
        assert (await adopted.end()).reason is PodReason.TIMED_OUT


@pytest.mark.parametrize("said", ["not found", "pull access denied", "429 Too Many Requests"])
async def test_an_image_that_cannot_be_pulled_fails_fast_and_says_why(
    bench: Bench, double: KubernetesDouble, said: str
) -> None:
    double.faults.image_errors[IMAGE] = said
    notices = Notices()
    lines, end = await run_to_end(bench.pods("true", start_seconds=3600), request(), notices.hear)
    assert (lines, end.reason, end.started) == ([], PodReason.IMAGE_UNPULLABLE, False)
    assert IMAGE in end.detail
    assert said in end.detail, "also where only the back-off after it was seen"
    await until(lambda: not double.objects("pods"))


async def test_a_registry_that_recovers_is_waited_for(double: KubernetesDouble) -> None:
    double.faults.image_errors[IMAGE] = "503 Service Unavailable"
    notices = Notices()

    async def hear(news: PodNews) -> None:
        await notices.hear(news)
        double.faults.image_errors.clear()

    async with open_bench(double, replace(IMPATIENT, start_failure_seconds=HANG_SECONDS)) as bench:
        lines, end = await run_to_end(bench.pods("echo up", start_seconds=HANG_SECONDS), request(), hear)
    assert (lines, end.reason) == (["up"], PodReason.COMPLETED)
    assert notices[0].startswith(("the pod does not start: ErrImagePull", "the pod does not start: ImagePullBackOff"))


async def test_a_pod_that_no_node_takes_is_told_of_and_given_up_in_time(bench: Bench, double: KubernetesDouble) -> None:
    double.faults.unschedulable = "0/3 nodes are available: 3 Insufficient memory."
    notices = Notices()
    _, end = await run_to_end(bench.pods("true", start_seconds=0.5), request(), notices.hear)
    assert (end.reason, end.started) == (PodReason.NEVER_STARTED, False)
    assert "Insufficient memory" in end.detail
    assert notices[0] == f"no node takes the pod: {double.faults.unschedulable}"
    assert notices[1] == f"Warning FailedScheduling: {double.faults.unschedulable}"
    assert notices[-1] == f"ended: {end.detail}"
    counts = [news.count for news in notices.news if news.reason == "FailedScheduling"]
    assert all(later >= 2 * before for before, later in pairwise(counts)), "told again only when it has doubled"
    assert {(news.pod, news.node, news.phase) for news in notices.news} == {(notices.news[0].pod, "", "Pending")}
    await until(lambda: not double.objects("pods"))


async def test_a_pod_that_starts_in_time_costs_no_look_at_its_events(bench: Bench, double: KubernetesDouble) -> None:
    bench.cluster.patience = replace(IMPATIENT, events_seconds=HANG_SECONDS)
    notices = Notices()
    _, end = await run_to_end(bench.pods("true"), request(), notices.hear)
    assert end.reason is PodReason.COMPLETED
    assert {news.reason for news in notices.news} <= {""}
    assert double.counted()["list events"] == 0


async def test_who_may_not_list_events_is_told_the_end_all_the_same(bench: Bench, double: KubernetesDouble) -> None:
    assert double.rights.granted is not None
    double.rights.granted.discard(("list", "events"))
    notices = Notices()
    async with await bench.pods(SLEEP).run(request(), notices.hear) as run:
        await first_line(run)
        double.kill("fix", "OOMKilled")
        end = await run.end()
    assert notices == ["runs on node-1", f"ended: {end.detail}"]
    told = notices.news[-1]
    assert (told.reason, told.node, told.uid) == ("oom_killed", "node-1", run.uid)


async def test_a_secret_that_is_not_there_keeps_a_pod_from_starting(bench: Bench) -> None:
    missing = {"name": "gone", "secret": {"secretName": "not-there"}}
    _, end = await run_to_end(bench.pods("true", volumes=[missing], start_seconds=0.5), request())
    assert end.reason is PodReason.NEVER_STARTED
