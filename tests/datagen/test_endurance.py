"""What a run must bear: being killed at any moment, a second run beside it, a disk that is full."""

import asyncio
import re
from collections import Counter
from random import Random

from datagen.teacher.faults import Faults
from datagen.teacher.server import create_app

CALLS = 300
JOB = {"samples": 75, "concurrency": 16}  # 4 cells
LATENCY = 0.03
KILLS = 20


class Counting:
    """The embedded teacher, keeping count of every body it was sent, from its arrival on; it can be held up."""

    def __init__(self) -> None:
        self.teacher = create_app(Faults(latency=LATENCY))
        self.bodies: Counter[bytes] = Counter()
        self.held = False

    async def __call__(self, scope, receive, send):
        async def noting():
            message = await receive()
            if message.get("body"):
                self.bodies[message["body"]] += 1
            while self.held:
                await asyncio.sleep(LATENCY)
            return message

        await self.teacher(scope, noting, send)

    @property
    def calls(self) -> int:
        return self.bodies.total()


def undisturbed(project, teacher: Counting) -> bytes:
    """What a run writes that nothing disturbs; the teacher has forgotten it."""
    with project.monkeypatch.context() as patch:
        patch.setenv("DATAGEN_STORE", str(project.folder / "undisturbed.sqlite"))
        project.generate()
    teacher.bodies.clear()
    found = project.out.read_bytes()
    project.out.unlink()
    return found


def out_at_a_kill(project) -> int:
    """The calls that dead runs left out, which the next run is yet to find."""
    if not project.store.exists():
        return 0
    return project.rows("SELECT count(*) FROM attempts WHERE verdict = 'sent'")[0][0]


def test_killed_at_any_moments_it_keeps_what_it_was_answered_and_asks_again_only_what_was_out(project, serve, until):
    teacher, base_url = serve(Counting())
    project.params(base_url=base_url, **JOB)
    expected = undisturbed(project, teacher)
    random = Random(7)
    out = 0

    for _ in range(KILLS):
        moment = teacher.calls + random.randrange(2 * CALLS // KILLS)
        run = project.start("generate", "economy", str(project.out), str(project.metrics))
        until(lambda: teacher.calls >= moment or run.poll() is not None)  # noqa: B023
        run.kill()
        run.communicate()
        left = out_at_a_kill(project)
        out += left
        assert left <= JOB["concurrency"]
        if project.store.exists():
            (kept,) = project.rows("SELECT count(*) FROM replies")[0]
            assert teacher.calls - kept <= out  # whatever arrived is kept, or was out at a kill
    result = project.generate()

    assert result.exit_code == 0, result.stderr
    assert project.out.read_bytes() == expected
    assert len(teacher.bodies) == CALLS
    assert 0 < teacher.calls - CALLS <= out
    verdicts = dict(project.rows("SELECT verdict, count(*) FROM attempts GROUP BY verdict"))
    assert verdicts == {"valid": CALLS, "lost": out}
    said = f"{left} calls were out when a run was killed; they may have been billed, and are asked again"
    assert (said in result.stderr) is (left > 0)


def both_out(project, teacher: Counting) -> bool:
    """Whether two runs have calls out."""
    return teacher.calls > 0 and len(project.rows("SELECT DISTINCT run FROM attempts WHERE verdict = 'sent'")) == 2


def test_two_runs_at_once_ask_for_everything_once_and_write_the_same(project, serve, until):
    teacher, base_url = serve(Counting())
    project.params(base_url=base_url, **JOB)
    expected = undisturbed(project, teacher)
    outs = [project.folder / name for name in ("one.jsonl", "other.jsonl")]

    teacher.held = True
    runs = [project.start("generate", "economy", str(out), str(out) + ".json") for out in outs]
    until(lambda: both_out(project, teacher))
    teacher.held = False
    said = [run.communicate()[1] for run in runs]

    assert [run.returncode for run in runs] == [0, 0], said
    assert [out.read_bytes() for out in outs] == [expected, expected]
    assert set(teacher.bodies.values()) == {1}
    assert len(teacher.bodies) == CALLS


def test_of_two_runs_one_is_killed_and_the_other_takes_over_what_it_had_out(project, serve, until):
    teacher, base_url = serve(Counting())
    project.params(base_url=base_url, **JOB)
    teacher.held = True
    killed, other = (project.start("fetch", "economy") for _ in range(2))
    until(lambda: both_out(project, teacher))

    killed.kill()
    killed.communicate()
    teacher.held = False
    _, said = other.communicate()

    assert other.returncode == 0, said
    assert "300 of 300 valid" in said
    assert len(teacher.bodies) == CALLS
    out = out_at_a_kill(project)
    assert 0 < out <= JOB["concurrency"]
    assert teacher.calls - CALLS <= out
    assert "0 asked now" in project.invoke("fetch", "economy").stderr


def test_a_full_disk_ends_a_run_with_one_line_and_nothing_that_was_answered_is_lost(project, serve, until, disk):
    teacher, base_url = serve(Counting())
    store = disk(20) / "responses.sqlite"
    project.monkeypatch.setenv("DATAGEN_STORE", str(store))
    project.store = store
    project.params(base_url=base_url, **JOB)
    run = project.start("fetch", "economy")
    until(lambda: teacher.calls >= CALLS // 3)

    disk.fill()
    _, said = run.communicate()

    assert run.returncode == 1
    answered = teacher.calls
    assert answered < CALLS
    assert re.fullmatch(
        rf"fetch: {store}: .*disk is full; nothing is asked that could not be kept; "
        rf"{answered} of 300 are in the store, {CALLS - answered} are left; the same command goes on from there\n",
        said,
    )
    disk.clear()
    assert project.rows("SELECT count(*) FROM replies") == [(answered,)]
    assert "300 of 300 valid" in project.invoke("fetch", "economy").stderr
    assert teacher.calls == CALLS
