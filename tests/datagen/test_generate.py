import json

import msgspec

from schemas import rows
from schemas.chain import parse
from schemas.record import Item, Response
from tests.datagen.builders import scripted
from tests.datagen.conftest import CALLS


def the_rows(project) -> list[Response]:
    return list(rows.read(project.out, Response))


def the_metrics(project) -> dict[str, int]:
    return json.loads(project.metrics.read_text())


def test_a_run_writes_every_cell_in_grid_order_and_its_figures(project):
    result = project.generate()

    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr == "generate economy: 12 of 12 valid, 0 rejected, 12 asked now\n"
    found = the_rows(project)
    assert [(r.difficulty, r.type, r.sample) for r in found] == [
        (difficulty, type_, sample)
        for difficulty in ("basic", "advanced")
        for type_ in ("factual", "evaluative")
        for sample in range(3)
    ]
    assert {r.topic for r in found} == {"economy"}
    assert {r.fault for r in found} == {None}
    assert len({r.id for r in found}) == CALLS
    assert all(r.teacher.startswith("embedded @ embedded:") for r in found)
    assert all(isinstance(parse(r.content), Item) for r in found)
    metrics = the_metrics(project)
    assert list(metrics) == [
        *("requests", "valid", "mended", "reasked", "rejected", "faults", "prompt_tokens", "completion_tokens")
    ]
    assert (metrics["requests"], metrics["valid"], metrics["reasked"]) == (CALLS, CALLS, 0)
    assert metrics["completion_tokens"] == sum(len(r.content) for r in found)


def test_a_second_run_asks_nothing_and_writes_the_same_bytes(project):
    project.generate()
    before = project.out.read_bytes(), project.metrics.read_bytes()
    project.out.unlink()

    result = project.generate()

    assert "12 of 12 valid, 0 rejected, 0 asked now" in result.stderr
    assert (project.out.read_bytes(), project.metrics.read_bytes()) == before


def test_what_an_endpoint_takes_beside_reaches_it_with_every_request_and_its_reask(project, serve):
    bodies = []

    async def app(scope, receive, send):
        async def listened():
            message = await receive()
            bodies.append(message["body"])
            return message

        await scripted(lambda first, again: "答案是B")(scope, listened, send)

    _, base_url = serve(app)
    project.params(base_url=base_url, reasks=1, extra="{chat_template_kwargs: {enable_thinking: false}}")

    project.generate()

    asked = list(map(json.loads, bodies))
    assert len(asked) == 2 * CALLS
    assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for body in asked)
    assert all("extra" not in body for body in asked)


def test_a_topic_without_samples_asks_nobody_and_writes_no_row(project):
    project.params(samples=0, base_url="http://127.0.0.1:9/v1")  # nobody answers there

    result = project.generate()

    assert result.stderr == "generate economy: 0 of 0 valid, 0 rejected, 0 asked now\n"
    assert project.out.read_bytes() == b""
    assert the_metrics(project)["requests"] == 0


def test_both_kinds_of_chain_are_asked_for_and_parse(project):
    lengths = {}
    for chain in ("short", "full"):
        project.params(chain=chain)
        assert project.generate().exit_code == 0
        lengths[chain] = sum(len(r.content) for r in the_rows(project))

    assert lengths["full"] > 1.5 * lengths["short"]


def test_what_was_paid_for_is_never_paid_for_again(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    project.generate()
    first = project.out.read_bytes()

    project.params(base_url=base_url, max_tokens=2047)  # other requests
    project.generate()
    assert teacher.calls.total() == 2 * CALLS

    project.params(base_url=base_url, samples=4, concurrency=1)  # the same requests, and one more a cell
    assert "16 of 16 valid, 0 rejected, 4 asked now" in project.generate().stderr
    assert teacher.calls.total() == 2 * CALLS + 4

    project.params(base_url=base_url)  # all as at first
    project.generate()
    assert teacher.calls.total() == 2 * CALLS + 4
    assert project.out.read_bytes() == first


def test_a_malformed_reply_is_asked_again_and_counted(project, serve):
    teacher, base_url = serve(malformed=1)
    project.params(base_url=base_url)

    result = project.generate()

    assert "12 of 12 valid, 0 rejected, 12 asked now" in result.stderr
    assert teacher.calls.total() == 2 * CALLS
    assert the_metrics(project)["reasked"] == CALLS
    assert the_metrics(project)["valid"] == CALLS


def test_a_reply_that_stays_malformed_is_kept_with_its_fault_when_enough_others_are_good(project, serve):
    _teacher, base_url = serve(malformed=0.4, stubborn=True, seed=1)
    project.params(base_url=base_url, min_yield=0.2, reasks=0)

    result = project.generate()

    assert result.exit_code == 0, result.stderr
    rejected = [r for r in the_rows(project) if r.fault]
    assert 0 < len(rejected) < CALLS
    assert the_metrics(project)["rejected"] == len(rejected)
    assert the_metrics(project)["faults"] == {"wrong_shape": len(rejected)}
    assert all(r.fault.startswith("wrong_shape: ") and "<answer>" in r.content for r in rejected)


def test_below_min_yield_nothing_is_written_and_all_is_kept(project, serve):
    teacher, base_url = serve(malformed=1, stubborn=True)
    project.params(base_url=base_url)

    result = project.generate()

    assert result.exit_code == 1
    assert (
        "generate economy: 0 of 12 valid, below min_yield 0.95 (wrong_shape 12); one of them, see `datagen show "
        in result.stderr
    )
    assert result.stderr.count("\n") == 1
    assert not project.out.exists()
    assert not project.metrics.exists()
    assert teacher.calls.total() == 3 * CALLS
    project.generate()
    assert teacher.calls.total() == 3 * CALLS


def test_a_reply_cut_off_at_max_tokens_says_so(project):
    project.params(max_tokens=50)

    result = project.generate()

    assert result.exit_code == 1
    assert "cut_short 12" in result.stderr


def test_a_call_without_a_reply_is_asked_for_by_the_next_run(project, serve):
    teacher, base_url = serve(error=0.3, seed=5)
    project.params(base_url=base_url, attempts=1, min_yield=0.1)
    first = project.generate()
    assert first.exit_code == 0, first.stderr
    unanswered = [r for r in the_rows(project) if r.fault]
    assert unanswered
    assert {r.fault for r in unanswered} == {"no_reply: HTTP 500: internal error, on purpose"}
    assert {r.content for r in unanswered} == {""}

    teacher.faults = msgspec.structs.replace(teacher.faults, error=0.0)
    second = project.generate()

    assert f"12 of 12 valid, 0 rejected, {len(unanswered)} asked now" in second.stderr


def test_a_topic_without_facts_is_a_fault_of_the_teacher_that_reaches_the_person(project):
    text = (project.folder / "params.yaml").read_text().replace("  education:", "  astrology:")
    (project.folder / "params.yaml").write_text(text)

    result = project.invoke("generate", "astrology", "out.jsonl", "metrics.json")

    assert result.exit_code == 1
    assert "no fact sheet for topic 'astrology'" in result.stderr
    assert result.stderr.count("\n") == 1
