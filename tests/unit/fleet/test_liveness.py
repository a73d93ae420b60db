from __future__ import annotations

import threading
from pathlib import Path

from swarmq.fleet.liveness import SILENT_SECONDS, Probes


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def seen(directory: Path) -> set[str]:
    """Which files were touched since the last look."""
    found = {path.name for path in directory.glob("*")}
    for name in found:
        (directory / name).unlink()
    return found


def test_a_worker_is_alive_and_ready_while_its_thread_speaks_and_redis_answers(tmp_path: Path) -> None:
    clock = Clock()
    probes = Probes(tmp_path, 5, clock)
    probes.alive()
    assert seen(tmp_path) == {"alive"}
    probes.ready()
    assert seen(tmp_path) == {"ready"}


def test_an_outage_of_redis_leaves_it_alive_for_as_long_as_it_lasts(tmp_path: Path) -> None:
    clock = Clock()
    probes = Probes(tmp_path, 5, clock)
    probes.ready()
    seen(tmp_path)
    probes.cut_off()
    clock.now += 10 * SILENT_SECONDS
    probes.alive()
    assert seen(tmp_path) == {"alive"}


def test_a_thread_that_hangs_while_redis_answers_makes_it_not_ready_and_later_dead(tmp_path: Path) -> None:
    clock = Clock()
    probes = Probes(tmp_path, 5, clock)
    probes.ready()
    seen(tmp_path)
    clock.now += 60
    probes.alive()
    probes.ready()
    assert seen(tmp_path) == {"alive"}
    clock.now += SILENT_SECONDS
    probes.alive()
    probes.ready()
    assert seen(tmp_path) == set()
    probes.heard()
    probes.alive()
    probes.ready()
    assert seen(tmp_path) == {"alive", "ready"}
    probes.alive()
    probes.gone()
    assert seen(tmp_path) == set()


def test_a_process_that_starts_forgets_what_another_left_and_lives_until_its_own_loop_says_so(tmp_path: Path) -> None:
    for name in ("alive", "ready"):
        (tmp_path / name).touch()
    probes = Probes(tmp_path, 0.01)
    probes.starting()
    (saying,) = [thread for thread in threading.enumerate() if thread.name == "probes"]
    for _ in range(3):
        while "alive" not in (found := seen(tmp_path)):
            assert "ready" not in found
    probes.started()
    saying.join(20)
    assert not saying.is_alive()
    seen(tmp_path)
    probes.alive()
    assert seen(tmp_path) == {"alive"}


def test_a_start_that_hangs_though_redis_has_answered_makes_it_dead_later(tmp_path: Path) -> None:
    clock = Clock()
    probes = Probes(tmp_path, 5, clock)
    clock.now += 10 * SILENT_SECONDS
    probes.alive()
    assert seen(tmp_path) == {"alive"}
    probes.answered()
    clock.now += SILENT_SECONDS - 1
    probes.alive()
    assert seen(tmp_path) == {"alive"}
    clock.now += 1
    probes.alive()
    assert seen(tmp_path) == set()


def test_without_a_directory_nothing_is_written(tmp_path: Path) -> None:
    probes = Probes(None, 5)
    probes.starting()
    probes.alive()
    probes.ready()
    probes.gone()
    assert not list(tmp_path.iterdir())
