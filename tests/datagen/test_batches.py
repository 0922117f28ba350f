import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import pytest

from datagen.teacher import batches
from datagen.teacher.batches import Folder, form
from datagen.teacher.faults import Faults
from datagen.teacher.replies import complete
from datagen.teacher.server import Teacher, create_app

MARKED = "主题：经济发展（economy）\n难度：基础（basic）\n题型：事实性（factual）\n推理链：简短（short）\n"
SLOW = Faults(batch_seconds=100.0)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_request(seed: int = 1, **changed: object) -> dict[str, Any]:
    return {"model": "embedded", "messages": [{"role": "user", "content": MARKED}], "seed": seed} | changed


def a_row(number: int, **changed: object) -> dict[str, Any]:
    row = {"custom_id": f"row {number}", "method": "POST", "url": "/v1/chat/completions", "body": a_request(number)}
    return row | changed


def lines(*rows: dict[str, Any] | bytes) -> bytes:
    return b"".join((row if isinstance(row, bytes) else msgspec.json.encode(row)) + b"\n" for row in rows)


def read(content: bytes) -> dict[str, dict[str, Any]]:
    return {row["custom_id"]: row for row in map(msgspec.json.decode, content.splitlines())}


def drive(app: Teacher, act: Callable[[openai.AsyncOpenAI], Awaitable[Any]]) -> Any:
    """Run what a person would write with the openai package, in process."""

    async def main() -> Any:
        transport = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
        async with openai.AsyncOpenAI(
            base_url="http://teacher/v1", api_key="k", max_retries=0, http_client=transport
        ) as client:
            return await act(client)

    return asyncio.run(main())


def begin(app: Teacher, content: bytes, **more: Any) -> openai.types.Batch:
    async def act(client):
        file = await client.files.create(file=("input.jsonl", content), purpose="batch")
        return await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more
        )

    return drive(app, act)


def look(app: Teacher, id_: str) -> openai.types.Batch:
    return drive(app, lambda client: client.batches.retrieve(id_))


def cancel(app: Teacher, id_: str) -> openai.types.Batch:
    return drive(app, lambda client: client.batches.cancel(id_))


def fetch(app: Teacher, file_id: str | None) -> bytes:
    async def act(client):
        return (await client.files.content(file_id)).content

    assert file_id is not None
    return drive(app, act)


def ended(app: Teacher, content: bytes) -> openai.types.Batch:
    return look(app, begin(app, content).id)


def counts(batch: openai.types.Batch) -> tuple[int, int, int]:
    return batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed


TEN = lines(*(a_row(number) for number in range(10)))


def test_every_row_is_answered_as_a_call_would_be():
    app = create_app()

    batch = ended(app, TEN)
    output = read(fetch(app, batch.output_file_id))

    assert (batch.status, counts(batch), batch.error_file_id) == ("completed", (10, 10, 0), None)
    assert output.keys() == {f"row {number}" for number in range(10)}
    for number in range(10):
        row = output[f"row {number}"]
        assert row["id"].startswith("batch_req_")
        assert row["error"] is None
        assert row["response"]["status_code"] == 200
        assert row["response"]["request_id"]
        assert row["response"]["body"] == msgspec.json.decode(complete(msgspec.json.encode(a_request(number))))


def test_rows_come_back_in_another_order_the_same_for_the_same_seed():
    def order(seed: int) -> list[str]:
        app = create_app(Faults(seed=seed))
        return list(read(fetch(app, ended(app, TEN).output_file_id)))

    assert order(1) == order(1) != order(2)
    assert order(1) != sorted(order(1))


def test_a_batch_goes_through_the_documented_statuses_as_time_passes():
    clock = Clock()
    app = create_app(SLOW, now=clock)
    batch = begin(app, TEN, metadata={"topic": "economy"})
    seen = [(0, batch.status, counts(batch))]

    for second in (5, 10, 50, 95, 100):
        clock.now = 1000 + second
        batch = look(app, batch.id)
        seen.append((second, batch.status, counts(batch)))

    assert seen == [
        (0, "validating", (0, 0, 0)),
        (5, "validating", (0, 0, 0)),
        (10, "in_progress", (10, 0, 0)),
        (50, "in_progress", (10, 5, 0)),
        (95, "finalizing", (10, 10, 0)),
        (100, "completed", (10, 10, 0)),
    ]
    assert (batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at) == (1000, 1010, 1090, 1100)
    assert batch.failed_at is batch.expired_at is batch.cancelling_at is batch.cancelled_at is None
    assert batch.expires_at == 1000 + 24 * 3600
    assert (batch.endpoint, batch.completion_window) == ("/v1/chat/completions", "24h")
    assert (batch.model, batch.metadata) == ("embedded", {"topic": "economy"})


def test_usage_is_the_sum_of_the_rows():
    app = create_app()

    batch = ended(app, TEN)
    bodies = [row["response"]["body"] for row in read(fetch(app, batch.output_file_id)).values()]

    assert batch.usage.input_tokens == sum(body["usage"]["prompt_tokens"] for body in bodies)
    assert batch.usage.output_tokens == sum(body["usage"]["completion_tokens"] for body in bodies)
    assert batch.usage.total_tokens == batch.usage.input_tokens + batch.usage.output_tokens


def test_while_one_call_does_the_rows_another_is_told_that_the_batch_is_finalizing():
    app = create_app()
    batch = begin(app, TEN)

    async def act(client):
        found = await asyncio.gather(*(client.batches.retrieve(batch.id) for _ in range(3)))
        return [batch.status for batch in found]

    assert sorted(drive(app, act)) == ["completed", "finalizing", "finalizing"]
    assert app.batches.rows == {"ok": 10}


def test_rows_in_error_are_in_the_error_file():
    app = create_app(Faults(batch_error=0.3, seed=3))

    batch = ended(app, lines(*(a_row(number) for number in range(100))))
    output, errors = fetch(app, batch.output_file_id), fetch(app, batch.error_file_id)

    assert batch.status == "completed"
    assert counts(batch) == (100, len(read(output)), len(read(errors)))
    assert 15 < len(read(errors)) < 45
    for row in read(errors).values():
        assert (row["error"], row["response"]["status_code"]) == (None, 500)
        assert row["response"]["body"]["error"]["code"] == "server_error"


def test_the_same_rows_handed_in_again_fail_elsewhere():
    app = create_app(Faults(batch_error=0.5))

    first, second = (read(fetch(app, ended(app, TEN).error_file_id)).keys() for _ in range(2))

    assert first != second


def test_a_batch_without_a_good_row_has_no_output_file():
    batch = ended(create_app(Faults(batch_error=1)), TEN)

    assert (batch.status, counts(batch)) == ("completed", (10, 0, 10))
    assert batch.output_file_id is None


def test_a_row_that_the_teacher_cannot_answer_is_an_error_of_its_own():
    app = create_app()

    batch = ended(app, lines(a_row(1), a_row(2, body=a_request(stream=True))))
    (error,) = read(fetch(app, batch.error_file_id)).values()

    assert (batch.status, counts(batch)) == ("completed", (2, 1, 1))
    assert (error["custom_id"], error["response"]["status_code"]) == ("row 2", 400)
    assert "does not stream" in error["response"]["body"]["error"]["message"]


def test_rows_that_a_batch_expires_without_are_in_the_error_file_and_did_not_fail():
    clock = Clock()
    app = create_app(Faults(batch_seconds=100, batch_expire=0.4), now=clock)
    batch = begin(app, TEN)
    clock.now += 100

    batch = look(app, batch.id)
    output, errors = read(fetch(app, batch.output_file_id)), read(fetch(app, batch.error_file_id))

    assert (batch.status, counts(batch)) == ("expired", (10, 6, 0))
    assert (batch.expired_at, batch.completed_at) == (1100, None)
    assert (len(output), len(errors), len(output | errors)) == (6, 4, 10)
    for row in errors.values():
        assert (row["response"], row["error"]["code"]) == (None, "batch_expired")


def test_a_cancelled_batch_hands_out_what_was_done():
    clock = Clock()
    app = create_app(SLOW, now=clock)
    batch = begin(app, TEN)
    clock.now += 50

    cancelling = cancel(app, batch.id)
    clock.now += 5
    again = cancel(app, batch.id)
    clock.now += 5
    cancelled = look(app, batch.id)

    assert (cancelling.status, cancelling.cancelling_at, cancelling.output_file_id) == ("cancelling", 1050, None)
    assert (again.status, again.cancelling_at) == ("cancelling", 1050)
    assert (cancelled.status, cancelled.cancelled_at, counts(cancelled)) == ("cancelled", 1060, (10, 5, 0))
    assert (cancelled.in_progress_at, cancelled.finalizing_at, cancelled.completed_at) == (1010, None, None)
    assert len(read(fetch(app, cancelled.output_file_id))) == 5
    errors = read(fetch(app, cancelled.error_file_id)).values()
    assert Counter(row["error"]["code"] for row in errors) == {"batch_cancelled": 5}


@pytest.mark.parametrize("content", [TEN, b"{\n"])
def test_a_batch_cancelled_before_it_was_validated_has_no_rows_done(content):
    clock = Clock()
    app = create_app(SLOW, now=clock)
    batch = begin(app, content)

    cancel(app, batch.id)
    clock.now += 10

    assert look(app, batch.id).status == "cancelled"
    assert look(app, batch.id).output_file_id is None


def test_a_batch_that_ended_cannot_be_cancelled():
    app = create_app()
    batch = ended(app, TEN)

    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'completed'"):
        cancel(app, batch.id)


@pytest.mark.parametrize(("fault", "seen"), [("length", b'"finish_reason":"length"'), ("choiceless", b'"choices":[]')])
def test_replies_in_rows_can_be_spoiled_as_those_to_calls(fault, seen):
    app = create_app(Faults(**{fault: 1.0}))

    batch = ended(app, lines(a_row(1)))

    assert counts(batch) == (1, 1, 0)
    assert app.batches.rows == {fault: 1}
    assert seen in fetch(app, batch.output_file_id)


def test_the_xml_in_rows_can_be_broken():
    app = create_app(Faults(malformed=1))

    (row,) = read(fetch(app, ended(app, lines(a_row(1))).output_file_id)).values()

    broken = complete(msgspec.json.encode(a_request(1)), spoil=True)
    assert row["response"]["body"] == msgspec.json.decode(broken)


def test_a_truncated_row_is_a_line_that_stops_in_the_middle():
    app = create_app(Faults(truncate=0.5, seed=1))

    found = fetch(app, ended(app, TEN).output_file_id).splitlines()

    whole = [line for line in found if line.endswith(b"}")]
    assert len(found) == 10
    assert len(whole) == app.batches.rows["ok"] == 10 - app.batches.rows["truncate"]
    assert 0 < len(whole) < 10


@pytest.mark.parametrize(
    ("content", "code", "line", "message"),
    [
        (b"", "empty_file", None, "is empty"),
        (lines(a_row(1), b'{"custom_id":'), "invalid_json_line", 2, "not parseable as valid JSON"),
        (lines(a_row(1), b"", a_row(2)), "invalid_json_line", 2, "not parseable as valid JSON"),
        (lines(b"\xff"), "invalid_json_line", 1, "not parseable as valid JSON"),
        (lines(b"[]"), "invalid_request", 1, "not a request"),
        (lines({"custom_id": "a"}), "missing_required_parameter", 1, "'method'"),
        (lines(a_row(1, body={})), "missing_required_parameter", 1, "'body.model'"),
        (lines(a_row(1), a_row(2), a_row(1)), "duplicate_custom_id", 3, "'row 1'"),
        (lines(a_row(1, method="GET")), "invalid_method", 1, "'GET'"),
        (lines(a_row(1, url="/v1/completions")), "invalid_url", 1, "does not match the batch endpoint"),
        (lines(a_row(1), a_row(2, body=a_request(model="other"))), "mismatched_model", 2, "'other'"),
    ],
)
def test_a_file_that_breaks_the_rules_fails_as_a_whole(content, code, line, message):
    app = create_app()

    begun = begin(app, content)
    batch = look(app, begun.id)

    assert begun.status == "validating"
    assert (batch.status, counts(batch), batch.output_file_id) == ("failed", (0, 0, 0), None)
    assert batch.failed_at
    (error,) = batch.errors.data
    assert (error.code, error.line) == (code, line)
    assert message in error.message
    with pytest.raises(openai.ConflictError):
        cancel(app, batch.id)


def test_every_line_that_is_wrong_is_named():
    batch = ended(create_app(), lines(b"{", a_row(1), a_row(1), b"}"))

    assert [(error.line, error.code) for error in batch.errors.data] == [
        (1, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "invalid_json_line"),
    ]


def test_a_file_may_hold_so_many_rows(monkeypatch):
    monkeypatch.setattr(batches, "MOST_ROWS", 3)

    good, bad = (ended(create_app(), lines(*(a_row(number) for number in range(count)))) for count in (3, 4))

    assert good.status == "completed"
    assert (bad.status, bad.errors.data[0].code) == ("failed", "too_many_tasks")


def test_a_file_may_be_so_large(monkeypatch):
    monkeypatch.setattr(batches, "MOST_BYTES", len(TEN) - 1)

    with pytest.raises(openai.APIStatusError) as caught:
        begin(create_app(), TEN)

    assert caught.value.status_code == 413


def test_files_are_kept_until_they_are_deleted():
    async def act(client):
        file = await client.files.create(file=("my rows.jsonl", TEN), purpose="batch")
        assert await client.files.retrieve(file.id) == file
        assert (await client.files.content(file.id)).content == TEN
        deleted = await client.files.delete(file.id)
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            await client.files.retrieve(file.id)
        with pytest.raises(openai.NotFoundError):
            await client.files.content(file.id)
        with pytest.raises(openai.NotFoundError):
            await client.files.delete(file.id)
        return file, deleted

    file, deleted = drive(create_app(now=Clock()), act)

    assert (file.filename, file.bytes, file.purpose, file.created_at) == ("my rows.jsonl", len(TEN), "batch", 1000)
    assert deleted.deleted


def test_a_batch_goes_on_when_its_input_is_deleted():
    app = create_app()
    batch = begin(app, TEN)

    drive(app, lambda client: client.files.delete(batch.input_file_id))

    assert look(app, batch.id).status == "completed"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input_file_id": "file-nowhere"}, "No such File object: file-nowhere"),
        ({"endpoint": "/v1/embeddings"}, "Invalid enum value '/v1/embeddings'"),
        ({"completion_window": "1h"}, "Invalid enum value '1h'"),
    ],
)
def test_a_batch_that_cannot_be_made_is_refused(changed, message):
    async def act(client):
        file = await client.files.create(file=("input.jsonl", TEN), purpose="batch")
        usual = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        with pytest.raises(openai.BadRequestError, match=message):
            await client.batches.create(**usual | changed)

    drive(create_app(), act)


def test_results_are_no_input():
    app = create_app()
    batch = ended(app, TEN)

    async def act(client):
        with pytest.raises(openai.BadRequestError, match="purpose"):
            await client.batches.create(
                input_file_id=batch.output_file_id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        return await client.files.retrieve(batch.output_file_id)

    file = drive(app, act)

    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")


def test_files_for_other_purposes_are_refused():
    async def act(client):
        with pytest.raises(openai.BadRequestError, match="purpose 'batch' alone"):
            await client.files.create(file=("input.jsonl", TEN), purpose="fine-tune")

    drive(create_app(), act)


@pytest.mark.parametrize("act", ["retrieve", "cancel"])
@pytest.mark.parametrize("id_", ["batch_nowhere", "file-nowhere", "a/../b"])
def test_a_batch_that_is_not_there_is_not_found(act, id_, tmp_path):
    with pytest.raises(openai.NotFoundError):
        drive(create_app(keep=tmp_path), lambda client: getattr(client.batches, act)(id_))


def test_batches_are_listed_from_the_newest_page_by_page():
    app = create_app()
    ids = [begin(app, TEN).id for _ in range(5)]

    async def act(client):
        first = await client.batches.list(limit=2)
        return first, [batch async for batch in first]

    first, found = drive(app, act)

    assert [batch.id for batch in first.data] == ids[:2:-1]
    assert first.has_more
    assert [batch.id for batch in found] == ids[::-1]
    assert {batch.status for batch in found} == {"completed"}


def test_an_empty_list_has_no_more():
    page = drive(create_app(), lambda client: client.batches.list())

    assert (page.data, page.has_more) == ([], False)


@pytest.mark.parametrize(("query", "error"), [({"limit": 101}, 400), ({"after": "batch_nowhere"}, 404)])
def test_a_list_of_nothing_sensible_is_refused(query, error):
    with pytest.raises(openai.APIStatusError) as caught:
        drive(create_app(), lambda client: client.batches.list(**query))

    assert caught.value.status_code == error


def test_a_kept_batch_goes_on_under_the_next_server_as_the_first_would_have_had_it(tmp_path):
    clock = Clock()
    faults = Faults(batch_seconds=100, batch_error=0.5, seed=7)
    batch = begin(create_app(faults, tmp_path / "kept", clock), TEN, metadata={"a": "b"})
    clock.now += 100

    next_ = create_app(Faults(batch_error=0.0, seed=8), tmp_path / "kept", clock)
    found = look(next_, batch.id)

    same = create_app(faults, now=clock)
    other = begin(same, TEN)
    clock.now += 100
    assert (found.status, found.metadata, found.created_at) == ("completed", {"a": "b"}, 1000)
    assert list(read(fetch(next_, found.output_file_id))) == list(
        read(fetch(same, look(same, other.id).output_file_id))
    )
    assert drive(next_, lambda client: client.files.retrieve(batch.input_file_id)).bytes == len(TEN)
    assert begin(next_, TEN).id != batch.id


def test_a_batch_that_is_not_kept_ends_with_its_server():
    batch = begin(create_app(), TEN)

    with pytest.raises(openai.NotFoundError):
        look(create_app(), batch.id)


def test_a_folder_holds_files_and_batches_and_nothing_else(tmp_path: Path):
    folder = Folder(tmp_path / "kept")
    name = f"file-{'0' * 32}.json"
    folder[name] = b"{}"
    (tmp_path / "kept" / "notes.txt").touch()

    assert (list(folder), len(folder), folder[name]) == ([name], 1, b"{}")
    del folder[name]
    assert name not in folder
    for other in ("../outside.json", "notes.txt", ""):
        assert other not in folder
        with pytest.raises(KeyError):
            folder[other] = b""


def test_a_form_is_read_whatever_is_in_its_files():
    content = b'\r\n--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nother\r\n\x00\xff'
    body = b'--xyz\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    body += b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a b.jsonl"\r\n'
    body += b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n--xyz--\r\n"

    assert form("multipart/form-data; boundary=xyz", body) == {
        "purpose": ("", b"batch"),
        "file": ("a b.jsonl", content),
    }
    assert form("application/json", body) == {}


def test_all_of_it_works_over_a_port(serve):
    app, base_url = serve()
    rows = lines(*(a_row(number, body=a_request(number, user="长" * 200)) for number in range(500)))

    async def act():
        async with openai.AsyncOpenAI(base_url=base_url, api_key="k", max_retries=0) as client:
            file = await client.files.create(file=("input.jsonl", rows), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            batch = await client.batches.retrieve(batch.id)
            return (await client.files.content(batch.output_file_id)).content

    assert len(read(asyncio.run(act()))) == 500
    assert app.batches.rows == {"ok": 500}
    assert app.calls.total() == 0
