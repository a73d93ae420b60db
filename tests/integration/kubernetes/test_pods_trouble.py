"""Pods while the API server is away, busy, forgetful or strict, and while logs break off and are turned over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kubernetes_double import IS_REAL, KubernetesDouble, Rights
from pods_bench import HANG_SECONDS, IMPATIENT, Bench, Notices, first_line, open_bench, request, run_to_end, until

from swarmq.errors import ClusterError, OptionError, PodError
from swarmq.kubernetes.cluster import Cluster
from swarmq.kubernetes.ends import PodReason
from swarmq.kubernetes.patience import Patience
from swarmq.kubernetes.pods import Pods, read_defaults
from swarmq.kubernetes.podspec import MAX_SECRET_BYTES
from swarmq.kubernetes.rights import RIGHTS
from swarmq.settings import Settings, load_settings

COUNT = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); sleep 0.005; done"
COUNTED = [f"line {number}" for number in range(300)]
GATED = "echo up; while [ ! -e $HOME/go ]; do sleep 0.02; done; echo done"


def open_gate(double: KubernetesDouble, uid: str) -> None:
    (double.kubeconfig.parent / "pods" / uid / "work" / "go").touch()


async def test_what_passes_is_tried_again(bench: Bench, double: KubernetesDouble) -> None:
    verbs = [(right.verb, right.resource) for right in RIGHTS if right.verb in ("create", "list", "watch", "patch")]
    for verb, resource in [*verbs, ("delete", "pods"), ("get", "pods/log")]:
        double.fail(verb, resource, 429, retry_after_seconds=0)
        double.fail(verb, resource, 500)
        double.fail(verb, resource, 503)
    async with await bench.pods("echo up").run(request()) as run:
        assert [line async for line in run.lines()] == ["up"]
        assert (await run.end()).reason is PodReason.COMPLETED
        await run.delete()
    await until(lambda: not double.objects("pods") and not double.objects("secrets"))
    assert not any(double.trouble.answers.values()), "all were met"


async def test_no_sooner_than_the_server_said(bench: Bench, double: KubernetesDouble) -> None:
    double.fail("create", "pods", 429, retry_after_seconds=1)
    started = asyncio.get_running_loop().time()
    async with await bench.pods("true").run(request()):
        assert asyncio.get_running_loop().time() - started >= 1


@pytest.mark.parametrize("call", ["create secrets", "create pods", "patch secrets", "delete pods"])
async def test_a_call_whose_answer_was_lost_is_not_done_twice(
    bench: Bench, double: KubernetesDouble, call: str
) -> None:
    verb, resource = call.split()
    double.lose_reply(verb, resource)
    async with await bench.pods("echo up").run(request()) as run:
        assert not run.adopted
        assert [line async for line in run.lines()] == ["up"]
        assert len(double.objects("secrets")) == len(double.objects("pods")) == 1
        assert double.objects("secrets")[0]["metadata"]["ownerReferences"][0]["uid"] == run.uid
        await run.delete()
    await until(lambda: not double.objects("pods") and not double.objects("secrets"))


async def test_a_server_that_is_away_for_a_while_costs_no_line(bench: Bench, double: KubernetesDouble) -> None:
    async with asyncio.timeout(HANG_SECONDS), await bench.pods(COUNT).run(request()) as run:
        lines = []
        async for line in run.lines():
            lines.append(line)
            if len(lines) in (50, 150):
                double.go_away()
                asyncio.get_running_loop().call_later(0.5, double.come_back)
        assert lines == COUNTED
        assert (await run.end()).reason is PodReason.COMPLETED


async def test_a_pod_is_made_when_the_server_is_back(bench: Bench, double: KubernetesDouble) -> None:
    double.go_away()
    asyncio.get_running_loop().call_later(0.5, double.come_back)
    assert (await run_to_end(bench.pods("echo up"), request()))[0] == ["up"]


async def test_a_server_that_stays_away_is_an_error(double: KubernetesDouble) -> None:
    double.go_away()
    async with open_bench(double, Patience(retry_seconds=0.3)) as bench:
        with pytest.raises(ClusterError, match=r"does not create secrets after trying for 0\.3 s"):
            await bench.pods("true").run(request())


async def test_a_log_that_is_cut_anywhere_has_each_line_once(bench: Bench, double: KubernetesDouble) -> None:
    double.trouble.cut_logs_after += [1, 17, 40, 100, -60, 333, -334, 1000, 2000, -1500]
    lines, end = await run_to_end(bench.pods(COUNT), request())
    assert lines == COUNTED
    assert (end.reason, double.trouble.cut_logs_after) == (PodReason.COMPLETED, [])


async def test_long_lines_come_whole_through_cuts(bench: Bench, double: KubernetesDouble) -> None:
    double.trouble.cut_logs_after += [20_000, 70_000, -50_000]
    command = """python -c 'for i in range(30): print(f"{i}:" + "x" * 40_000, flush=True)'; printf unended"""
    lines, _ = await run_to_end(bench.pods(command), request())
    assert lines == [*(f"{number}:" + "x" * 40_000 for number in range(30)), "unended"]


async def test_a_node_agent_that_restarts_knows_no_pod_for_a_moment_and_costs_no_line(
    bench: Bench, double: KubernetesDouble
) -> None:
    async with asyncio.timeout(HANG_SECONDS), await bench.pods(GATED).run(request()) as run:
        lines = run.lines()
        assert await anext(lines) == "up"
        double.fail("get", "pods/log", 404, times=3)
        double.go_away()
        double.come_back()
        rest = asyncio.create_task(_all(lines))
        await until(lambda: not double.trouble.answers["get", "pods/log"])
        open_gate(double, run.uid)
        assert await rest == ["done"]
        assert (await run.end()).reason is PodReason.COMPLETED


async def test_nor_does_one_that_restarts_as_the_container_ends(bench: Bench, double: KubernetesDouble) -> None:
    async with asyncio.timeout(HANG_SECONDS), await bench.pods("echo up").run(request()) as run:
        await run.end()
        double.fail("get", "pods/log", 404, times=2)
        assert await _all(run.lines()) == ["up"]


async def test_a_log_that_its_node_has_no_more_is_given_up(bench: Bench, double: KubernetesDouble) -> None:
    async with asyncio.timeout(HANG_SECONDS), await bench.pods("echo up").run(request()) as run:
        await run.end()
        double.fail("get", "pods/log", 404, times=1000)
        assert await _all(run.lines()) == []


async def _all(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines]


@pytest.mark.parametrize("deaf", [False, True], ids=["kubelet", "kubelet of old"])
async def test_a_log_that_is_turned_over_is_followed(bench: Bench, double: KubernetesDouble, deaf: bool) -> None:
    double.faults.deaf_logs = deaf
    async with asyncio.timeout(HANG_SECONDS), await bench.pods(GATED).run(request()) as run:
        lines = run.lines()
        assert await anext(lines) == "up"
        log = double.kubelet.pods[run.uid].logs["agent"]
        double.do(double.call(log.turn_over))
        open_gate(double, run.uid)
        assert [line async for line in lines] == ["done"]


async def test_a_large_log_comes_through_with_little_memory(bench: Bench, double: KubernetesDouble) -> None:
    command = """python -c 'for i in range(20_000): print(i, "x" * 90)'"""
    async with asyncio.timeout(HANG_SECONDS), await bench.pods(command).run(request()) as run:
        expected = 0
        async for line in run.lines():
            assert line.startswith(f"{expected} ")
            expected += 1
        assert expected == 20_000


async def test_ten_pods_through_a_storm(bench: Bench, double: KubernetesDouble) -> None:
    """Every fault that passes, at random: all lines of all pods come once, and no pod is made twice."""
    chance, pods = random.Random(0), bench.pods(COUNT.replace("300", "100").replace("0.005", "0.02"))

    async def storm() -> None:
        for _ in range(40):
            await asyncio.sleep(0.05)
            match chance.randrange(6):
                case 0:
                    double.go_away()
                    await asyncio.sleep(0.2)
                    double.come_back()
                case 1:
                    double.compact()
                case 2:
                    double.close_watches()
                case 3:
                    double.trouble.cut_logs_after += [chance.randrange(-3000, 3000) or 1 for _ in range(3)]
                case 4:
                    double.fail("get", "pods/log", chance.choice([429, 500, 502]), times=2)
                case 5:
                    double.lose_reply(*chance.choice([("create", "pods"), ("create", "secrets"), ("patch", "secrets")]))

    weather = asyncio.create_task(storm())
    try:
        ends = await asyncio.gather(*(run_to_end(pods, request(f"b{number}")) for number in range(10)))
    finally:
        weather.cancel()
        await asyncio.gather(weather, return_exceptions=True)
        double.come_back()
    for lines, end in ends:
        assert lines == COUNTED[:100]
        assert end.reason is PodReason.COMPLETED
    assert len(double.kubelet.pods) == len(double.objects("secrets")) == 10


@pytest.mark.skipif(IS_REAL, reason="a server forgets after minutes")
async def test_versions_that_the_server_has_forgotten_are_listed_anew(bench: Bench, double: KubernetesDouble) -> None:
    async with await bench.pods(GATED).run(request()) as run:
        await first_line(run)
        double.compact()
        open_gate(double, run.uid)
        assert (await run.end()).reason is PodReason.COMPLETED
    assert double.counted()["list pods"] >= 2


async def test_a_watch_that_broke_goes_on_where_it_was(bench: Bench, double: KubernetesDouble) -> None:
    notices = Notices()
    async with await bench.pods(GATED).run(request(), notices.hear) as run:
        await first_line(run)
        await until(lambda: notices == ["runs on node-1"])
        asked = double.counted()
        double.trouble.watch_delay_seconds = 0.05  # so that each change is seen by itself
        double.go_away()
        double.come_back()
        open_gate(double, run.uid)
        assert (await run.end()).reason is PodReason.COMPLETED
    assert notices == ["runs on node-1"], "how it was before it started is no news"
    assert double.counted()["watch pods"] > asked["watch pods"]
    assert double.counted()["list events"] == asked["list events"]


async def test_a_pod_that_vanished_while_nobody_watched_is_missed(bench: Bench, double: KubernetesDouble) -> None:
    async with await bench.pods("echo up; sleep 60").run(request()) as run:
        await first_line(run)
        double.trouble.silent_watches = True
        double.delete_pod("fix")
        double.compact()
        assert (await run.end()).reason is PodReason.VANISHED


@pytest.mark.parametrize("fault", ["closed", "silent", "slow", "short", "forbidden"])
async def test_ends_are_noticed_whatever_the_watch_does(bench: Bench, double: KubernetesDouble, fault: str) -> None:
    double.trouble.watches_end_at_once = fault == "short"
    double.trouble.watch_delay_seconds = 0.2 if fault == "slow" else 0.0
    if fault == "forbidden":
        assert double.rights.granted is not None
        double.rights.granted.discard(("watch", "pods"))
    async with asyncio.timeout(HANG_SECONDS), await bench.pods(GATED).run(request()) as run:
        await first_line(run)
        double.trouble.silent_watches = fault == "silent"
        if fault == "closed":
            double.close_watches()
        open_gate(double, run.uid)
        assert (await run.end()).reason is PodReason.COMPLETED


async def test_a_quota_is_waited_for_and_told_of(bench: Bench, double: KubernetesDouble) -> None:
    pods, notices = bench.pods(GATED), Notices()
    double.trouble.quota_pods = 1
    async with await pods.run(request("first")) as first:
        await first_line(first)
        second = asyncio.create_task(run_to_end(bench.pods("echo up"), request("second"), notices.hear))
        await until(lambda: double.counted()["create pods"] >= 4)
        assert len(notices) == 1
        assert notices[0].startswith("the quota of the namespace leaves no room: ")
        open_gate(double, first.uid)
        assert (await second)[0] == ["up"]


async def test_missing_rights_are_named_before_anything_is_made(bench: Bench, double: KubernetesDouble) -> None:
    pods = bench.pods("true")
    await pods.check()
    assert double.rights.granted is not None
    double.rights.granted -= {("get", "pods/log"), ("create", "secrets")}
    with pytest.raises(ClusterError, match=r"its role lacks get pods/log, create secrets"):
        await pods.check()
    assert not double.objects("pods")
    with pytest.raises(ClusterError, match=r'needs the verb "create" on the resource "secrets"'):
        await pods.run(request())


async def test_rights_that_are_lost_meanwhile_are_named(bench: Bench, double: KubernetesDouble) -> None:
    async with await bench.pods("echo up; sleep 60").run(request()) as run:
        await until(lambda: double.counted()["watch pods"] > 0)
        assert double.rights.granted is not None
        double.rights.granted.discard(("get", "pods/log"))
        with pytest.raises(ClusterError, match=r'the verb "get" on the resource "pods/log"'):
            await first_line(run)
        double.rights.granted.discard(("list", "pods"))
        double.compact()
        with pytest.raises(ClusterError, match=r'the verb "list" on the resource "pods"'):
            await run.end()


async def test_no_more_is_used_than_the_role_grants(double: KubernetesDouble) -> None:
    double.rights.granted = None
    async with open_bench(double) as bench:
        pods = bench.pods("true")
        await pods.check()
        await run_to_end(pods, request())
        await run_to_end(pods, request(token=2))
        async with await pods.run(request(token=3)) as run:
            await run.cluster_events()
            await run.delete()
        await pods.remove_residual("swarm-1")
        await pods.remove_aged(3600)
    used = {(right.verb, right.resource) for right in RIGHTS} | {("list", "events")}
    assert double.rights.used - used == set()
    assert used - double.rights.used <= {("delete", "secrets")}, "only where a pod was adopted or refused"


@pytest.mark.skipif(IS_REAL, reason="servers before 1.25 leave out what they do not know")
async def test_a_template_with_a_field_that_is_none_is_refused_by_name(bench: Bench, double: KubernetesDouble) -> None:
    pods = bench.pods("true", runtimeClass="gvisor")
    with pytest.raises(PodError, match=r'unknown field "spec\.runtimeClass"'):
        await pods.check()
    with pytest.raises(PodError, match=r'unknown field "spec\.runtimeClass"'):
        await pods.run(request())
    assert not double.objects("secrets"), "what was made for the pod is removed"


@pytest.mark.filterwarnings("ignore:Sending a large body")  # a megabyte holds up nobody
async def test_a_payload_that_is_too_large_is_refused_before_anything_is_made(
    bench: Bench, double: KubernetesDouble
) -> None:
    with pytest.raises(PodError, match=r"1,048,577 bytes compressed, and a Secret holds 1,048,576"):
        await bench.pods("true").run(request(payload=b"x" * (MAX_SECRET_BYTES + 1)))
    lines, _ = await run_to_end(bench.pods("wc -c < /run/swarmq/payload"), request(payload=b"x" * MAX_SECRET_BYTES))
    assert lines == [str(MAX_SECRET_BYTES)]
    assert double.counted()["create secrets"] == 1


async def test_wrong_credentials_are_an_error_at_once(double: KubernetesDouble) -> None:
    double.kubeconfig.write_text(double.kubeconfig.read_text().replace("the-token", "another-token"))
    async with open_bench(double) as bench:
        with pytest.raises(ClusterError, match="does not accept the credentials"):
            await bench.pods("true").check()


async def test_credentials_are_read_again_when_they_are_not_accepted(bench: Bench, double: KubernetesDouble) -> None:
    whole = double.kubeconfig.read_text()
    double.kubeconfig.write_text(whole.replace("the-token", "an-old-token"))
    async with open_bench(double) as other:
        double.kubeconfig.write_text(whole)
        await other.pods("true").check()


async def test_a_namespace_without_rights_in_it_is_named(double: KubernetesDouble) -> None:
    settings = load_settings(kubeconfig=double.kubeconfig, kubernetes_namespace="elsewhere", pod_image="swarmq:1")
    async with elsewhere(settings) as pods:
        with pytest.raises(ClusterError, match="does not let this process list pods in the namespace elsewhere"):
            await pods.list()


@pytest.mark.skipif(IS_REAL, reason="the worker has no rights in all namespaces there")
async def test_a_namespace_that_is_not_there_is_named(double: KubernetesDouble) -> None:
    double.rights.granted = None
    settings = load_settings(kubeconfig=double.kubeconfig, kubernetes_namespace="elsewhere", pod_image="swarmq:1")
    async with elsewhere(settings) as pods:
        assert await pods.list() == []
        with pytest.raises(ClusterError, match='namespaces "elsewhere" not found'):
            await pods.run(request())


@asynccontextmanager
async def elsewhere(settings: Settings) -> AsyncIterator[Pods]:
    cluster = await Cluster.open(settings, IMPATIENT)
    try:
        yield await Pods.open(cluster, settings)
    finally:
        await cluster.aclose()


async def test_no_cluster_is_a_clear_error(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match="does not lead to a cluster"):
        await Cluster.open(load_settings(kubeconfig="/nonexistent/config"))
    monkeypatch.setattr("kubernetes.aio.config.KUBE_CONFIG_DEFAULT_LOCATION", "/nonexistent/config")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterError, match="there is no cluster to make pods in: there is no kubeconfig"):
        await Cluster.open(load_settings())


async def test_no_client_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kubernetes.aio", None)
    with pytest.raises(ClusterError, match=r"pip install 'swarmq\[kubernetes\]'"):
        await Cluster.open(load_settings())


def test_no_image_is_a_clear_error() -> None:
    with pytest.raises(OptionError, match="pod_image"):
        read_defaults(load_settings())


def test_the_double_knows_what_it_is_not_granted() -> None:
    assert not Rights.of(("pods", ("get",))).allow("create", "pods")
