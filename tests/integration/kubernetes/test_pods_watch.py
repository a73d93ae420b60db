"""The one watch of all pods: who has a seat at it is told, whoever left before and whatever is said in between."""

from __future__ import annotations

import asyncio

import pytest
from kubernetes_double import KubernetesDouble
from pods_bench import HANG_SECONDS, Bench, first_line, request, until

from swarmq.errors import ClusterError
from swarmq.kubernetes.ends import PodReason, is_terminated
from swarmq.kubernetes.watching import PodWatch

GATED = "echo up; while [ ! -e $HOME/go ]; do sleep 0.02; done; echo done"
PORTAL = "<html>\n<h1>Please sign in</h1>\n</html>\n"


def open_gate(double: KubernetesDouble, uid: str) -> None:
    (double.kubeconfig.parent / "pods" / uid / "work" / "go").touch()


@pytest.mark.parametrize("leaving", [1, 3])
async def test_a_seat_that_is_taken_as_the_last_one_leaves_is_told(
    leaving: int, bench: Bench, double: KubernetesDouble
) -> None:
    watch = PodWatch(bench.cluster)
    async with asyncio.timeout(HANG_SECONDS), await bench.pods(GATED).run(request()) as run:
        await first_line(run)
        watched = double.counted()["watch pods"]
        pod = double.objects("pods")[0]
        with watch.seat(pod):
            await until(lambda: double.counted()["watch pods"] > watched)
        for _ in range(leaving):
            with watch.seat(pod):
                pass
        with watch.seat(pod) as seat:
            open_gate(double, run.uid)
            await seat.until(lambda: is_terminated(seat.pod))
        await watch.aclose()


@pytest.mark.parametrize(
    "said",
    [PORTAL, "null\n", '{"type": "MODIFIED"}\n', '{"type": "MODIFIED", "object": {"kind": "Page"}}\n'],
    ids=["a page", "null", "no object", "no pod"],
)
async def test_a_watch_that_something_else_answers_is_opened_again(
    said: str, bench: Bench, double: KubernetesDouble
) -> None:
    async with asyncio.timeout(HANG_SECONDS), await bench.pods(GATED).run(request()) as run:
        await first_line(run)
        double.trouble.said_between["watch", "pods"] = [said] * 2
        double.close_watches()
        await until(lambda: not double.trouble.said_between["watch", "pods"])
        open_gate(double, run.uid)
        assert (await run.end()).reason is PodReason.COMPLETED


async def test_news_come_by_lists_where_something_else_answers_each_watch(
    bench: Bench, double: KubernetesDouble
) -> None:
    double.trouble.said_between["watch", "pods"] = [PORTAL] * 10_000
    async with asyncio.timeout(HANG_SECONDS), await bench.pods(GATED).run(request()) as run:
        await first_line(run)
        open_gate(double, run.uid)
        assert (await run.end()).reason is PodReason.COMPLETED


async def test_who_has_a_seat_is_told_that_no_more_news_will_come(bench: Bench, double: KubernetesDouble) -> None:
    async with asyncio.timeout(HANG_SECONDS), await bench.pods(GATED).run(request()) as run:
        await first_line(run)
        double.fail("watch", "pods", 401, times=2)  # also with the credentials that are read again
        double.close_watches()
        with pytest.raises(ClusterError, match="does not accept the credentials"):
            await run.end()


async def test_a_call_that_something_else_answers_is_made_again(bench: Bench, double: KubernetesDouble) -> None:
    calls = [("create", "secrets"), ("create", "pods"), ("patch", "secrets"), ("list", "pods"), ("delete", "pods")]
    for call in calls:
        double.trouble.said_between[call] = [PORTAL, "[]"]
    double.trouble.said_between["list", "pods"] += ['{"kind": "Page"}']
    async with asyncio.timeout(HANG_SECONDS), await bench.pods("echo up").run(request()) as run:
        assert (await first_line(run), (await run.end()).reason) == ("up", PodReason.COMPLETED)
        await run.delete()
    assert not any(double.trouble.said_between.values()), "all were met"
    await until(lambda: not double.objects("pods") and not double.objects("secrets"))
