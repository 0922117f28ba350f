"""OpenAI's Files and Batch API over the embedded teacher: a file of requests in, a file of replies out, later.

What has become of a batch is worked out from the clock when somebody asks, from its record alone. Nothing runs in
between: a batch whose record is kept in a folder goes on while no server does, as a real one goes on without its
client. Its first tenth is validation, its last tenth the writing of the results.

https://developers.openai.com/api/docs/guides/batch and the types of the `openai` package say what it looks like; the
codes of validation errors are those that its users report.
"""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args
from urllib.parse import parse_qs
from uuid import uuid4

import msgspec
from msgspec import Raw, Struct, field

from datagen.teacher.faults import DRAWN_ROWS, Faults, drawn, error_body, reply_to
from datagen.teacher.replies import Refusal

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
STATUSES: tuple[Status, ...] = get_args(Status)

MOST_ROWS = 50_000
MOST_BYTES = 200 * 10**6
WINDOW = 24 * 3600
TENTH = 0.1
FAILED = ("bad_request", "batch_error")  # what becomes of rows that are answered, but not with 200
ENDED = ("failed", "completed", "expired", "cancelled")
UNDONE = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}


class Answer(Struct, frozen=True):
    """The body of a 200."""

    body: bytes
    kind: bytes = b"application/json"


class Problem(Struct, frozen=True):
    """What is wrong with an input file, as OpenAI says it."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Checked(Struct, frozen=True):
    """What validation found; a file with problems has no rows that run."""

    problems: list[Problem]
    model: str | None
    total: int


class Result(Struct, frozen=True):
    """What is known of a batch when its rows are done."""

    output_file_id: str | None
    error_file_id: str | None
    completed: int
    failed: int
    input_tokens: int
    output_tokens: int


class Batch(Struct, frozen=True, kw_only=True):
    """A batch as it is kept."""

    id: str
    number: int
    """The first batch of a server or folder is 1; with the seed it says which rows fail, and their order."""
    created: float
    endpoint: str
    completion_window: str
    input_file_id: str
    metadata: dict[str, str] | None
    faults: Faults
    """Those of the server that took it."""
    checked: Checked
    cancelled: float | None = None
    result: Result | None = None


class Done(Struct, frozen=True):
    """The rows of a batch: two files of lines, what became of the rows, and the tokens they took."""

    output: bytes
    errors: bytes
    rows: Counter[str]
    input_tokens: int
    output_tokens: int


class _File(Struct):
    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    object: str = "file"
    status: str = "processed"
    status_details: None = None
    expires_at: None = None


class _Create(Struct):
    input_file_id: str
    endpoint: Literal["/v1/chat/completions"]
    completion_window: Literal["24h"]
    metadata: dict[str, str] | None = None


class _Body(Struct):
    model: str


class _Line(Struct):
    custom_id: str
    method: str
    url: str
    body: _Body


class _Row(Struct):
    custom_id: str
    body: Raw


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(Struct):
    usage: _Usage = field(default_factory=_Usage)


class Folder(MutableMapping[str, bytes]):
    """Files and batches by name, in a folder that outlives the process; one process at a time writes."""

    NAME = re.compile(r"(file-|batch_)[0-9a-f]{32}\.jsonl?")

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path

    def __getitem__(self, name: str) -> bytes:
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            raise KeyError(name) from None

    def __setitem__(self, name: str, content: bytes) -> None:
        path = self._path(name)
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.replace(path)

    def __delitem__(self, name: str) -> None:
        self._path(name).unlink()

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in self.path.iterdir() if self.NAME.fullmatch(path.name))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _path(self, name: str) -> Path:
        if not self.NAME.fullmatch(name):
            raise KeyError(name)
        return self.path / name


class Batches:
    """The routes under /v1/files and /v1/batches. `rows` counts what became of the rows of the batches that ended.

    `store` holds a file's record and content as ID.json and ID.jsonl, a batch's record and copy of its input likewise.
    """

    def __init__(self, store: MutableMapping[str, bytes], now: Callable[[], float]) -> None:
        self.store = store
        self.now = now
        self.rows: Counter[str] = Counter()
        self.working: set[str] = set()

    async def respond(
        self, method: str, path: str, query: str, kind: str, body: bytes, faults: Faults
    ) -> Answer | Refusal:
        """Answer one request; `kind` is its content type, `faults` are for the batches that it creates."""
        match method, path.removeprefix("/v1/").split("/"):
            case "POST", ["files"]:
                return self._upload(kind, body)
            case "GET", ["files", id_]:
                return self._file(id_)
            case "GET", ["files", id_, "content"]:
                return self._content(id_)
            case "DELETE", ["files", id_]:
                return self._delete(id_)
            case "POST", ["batches"]:
                return self._create(body, faults)
            case "GET", ["batches"]:
                return await self._list(parse_qs(query))
            case "GET", ["batches", id_]:
                return await self._retrieve(id_)
            case "POST", ["batches", id_, "cancel"]:
                return await self._cancel(id_)
        return Refusal(404, f"no such route: {method} {path}")

    def _upload(self, kind: str, body: bytes) -> Answer | Refusal:
        parts = form(kind, body)
        if parts.get("purpose", ("", b""))[1] != b"batch":
            return Refusal(400, "the embedded teacher takes files with the purpose 'batch' alone")
        if "file" not in parts:
            return Refusal(400, "Missing required parameter: 'file'.", "missing_required_parameter")
        filename, content = parts["file"]
        if len(content) > MOST_BYTES:
            return Refusal(413, f"a batch's file can be up to {MOST_BYTES // 10**6} MB in size")
        file = self._kept(filename, "batch", content)
        return Answer(msgspec.json.encode(file))

    def _file(self, id_: str) -> Answer | Refusal:
        found = self._found("file-", id_)
        return found if isinstance(found, Refusal) else Answer(found)

    def _content(self, id_: str) -> Answer | Refusal:
        found = self._found("file-", id_)
        return found if isinstance(found, Refusal) else Answer(self.store[f"{id_}.jsonl"], b"application/octet-stream")

    def _delete(self, id_: str) -> Answer | Refusal:
        found = self._found("file-", id_)
        if isinstance(found, Refusal):
            return found
        del self.store[f"{id_}.json"], self.store[f"{id_}.jsonl"]
        return Answer(msgspec.json.encode({"id": id_, "object": "file", "deleted": True}))

    def _create(self, body: bytes, faults: Faults) -> Answer | Refusal:
        try:
            wanted = msgspec.json.decode(body, type=_Create)
        except msgspec.DecodeError as error:
            return Refusal(400, f"not a batch: {error}")
        found = self._found("file-", wanted.input_file_id)
        if isinstance(found, Refusal):
            return Refusal(400, found.message)
        if msgspec.json.decode(found, type=_File).purpose != "batch":
            return Refusal(400, f"{wanted.input_file_id} was not uploaded with the purpose 'batch'")
        content = self.store[f"{wanted.input_file_id}.jsonl"]
        batch = Batch(
            id=f"batch_{uuid4().hex}",
            number=1 + len(self._batches()),
            created=self.now(),
            faults=faults,
            checked=check(content, wanted.endpoint),
            **msgspec.structs.asdict(wanted),
        )
        self.store[f"{batch.id}.jsonl"] = content  # the batch goes on when its input file is deleted
        self._save(batch)
        return Answer(msgspec.json.encode(view(batch, batch.created, "validating")))

    async def _retrieve(self, id_: str) -> Answer | Refusal:
        batch = await self._settled(id_)
        if isinstance(batch, Refusal):
            return batch
        return Answer(msgspec.json.encode(view(batch, self.now())))

    async def _list(self, query: dict[str, list[str]]) -> Answer | Refusal:
        limit, after = query.get("limit", ["20"])[0], query.get("after", [""])[0]
        if not limit.isdecimal() or not 1 <= int(limit) <= 100:
            return Refusal(400, f"'limit' must be from 1 to 100, not '{limit}'")
        ids = sorted(self._batches(), key=lambda id_: self._batch(id_).number, reverse=True)
        if after and after not in ids:
            return Refusal(404, f"No batch found with id '{after}'.")
        begin = ids.index(after) + 1 if after else 0
        page = [await self._settled(id_) for id_ in ids[begin : begin + int(limit)]]
        data = [view(batch, self.now()) for batch in page if isinstance(batch, Batch)]
        more = len(ids) > begin + len(data)
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return Answer(msgspec.json.encode({"object": "list", "data": data, "has_more": more} | ends))

    async def _cancel(self, id_: str) -> Answer | Refusal:
        batch = await self._settled(id_)
        if isinstance(batch, Refusal):
            return batch
        now = self.now()
        state = status(batch, now)
        if state in ENDED:
            return Refusal(409, f"Cannot cancel a batch with status '{state}'.")
        if batch.cancelled is None:
            batch = msgspec.structs.replace(batch, cancelled=now)
            self._save(batch)
        return Answer(msgspec.json.encode(view(batch, now)))

    async def _settled(self, id_: str) -> Batch | Refusal:
        """Return a batch; if its time is up and it is no other call that does so, with its rows done."""
        found = self._found("batch_", id_)
        if isinstance(found, Refusal):
            return found
        batch = self._batch(id_)
        if batch.result or not due(batch, self.now()) or id_ in self.working:
            return batch
        self.working.add(id_)
        try:
            done = await asyncio.to_thread(work, batch, self.store[f"{id_}.jsonl"], finished(batch, self.now()))
        finally:
            self.working.discard(id_)
        current = self._batch(id_)
        if current.result or current.cancelled != batch.cancelled:
            return current  # cancelled while its rows were being done: later they are done again, fewer of them
        batch = msgspec.structs.replace(batch, result=self._result(id_, done))
        self._save(batch)
        del self.store[f"{id_}.jsonl"]
        self.rows.update(done.rows)
        return batch

    def _result(self, id_: str, done: Done) -> Result:
        failed = sum(done.rows[name] for name in FAILED)
        undone = sum(done.rows[name] for name in UNDONE)
        return Result(
            output_file_id=self._kept(f"{id_}_output.jsonl", "batch_output", done.output).id if done.output else None,
            error_file_id=self._kept(f"{id_}_error.jsonl", "batch_output", done.errors).id if done.errors else None,
            completed=done.rows.total() - failed - undone,
            failed=failed,
            input_tokens=done.input_tokens,
            output_tokens=done.output_tokens,
        )

    def _found(self, prefix: str, id_: str) -> bytes | Refusal:
        record = self.store.get(f"{id_}.json") if id_.startswith(prefix) else None
        if record is not None:
            return record
        return Refusal(404, f"No such File object: {id_}" if prefix == "file-" else f"No batch found with id '{id_}'.")

    def _batch(self, id_: str) -> Batch:
        return msgspec.json.decode(self.store[f"{id_}.json"], type=Batch)

    def _batches(self) -> list[str]:
        return [name[:-5] for name in self.store if name.startswith("batch_") and name.endswith(".json")]

    def _save(self, batch: Batch) -> None:
        self.store[f"{batch.id}.json"] = msgspec.json.encode(batch)

    def _kept(self, filename: str, purpose: str, content: bytes) -> _File:
        file = _File(f"file-{uuid4().hex}", len(content), int(self.now()), filename, purpose)
        self.store[f"{file.id}.jsonl"] = content
        self.store[f"{file.id}.json"] = msgspec.json.encode(file)
        return file


def form(kind: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """Return a multipart form's parts by name, each with its file name and content; nothing of any other body.

    The standard library's parser goes line by line; 50 MB take it seconds.
    """
    boundary = _headed(f"content-type: {kind}".encode()).get_boundary()
    if boundary is None:
        return {}
    parts = {}
    for section in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, content = section.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        header = _headed(head)
        name = header.get_param("name", header="content-disposition")
        parts[str(name)] = (header.get_filename(""), content)
    return parts


def check(content: bytes, endpoint: str) -> Checked:
    """Validate an input file as OpenAI does: every line that is wrong, with what is wrong first."""
    lines = _lines(content)
    if not lines:
        return Checked([Problem("empty_file", "The batch input file is empty.")], None, 0)
    if len(lines) > MOST_ROWS:
        message = f"The batch input file contains {len(lines)} requests, more than {MOST_ROWS}."
        return Checked([Problem("too_many_tasks", message)], None, 0)
    problems: list[Problem] = []
    seen: set[str] = set()
    model: str | None = None
    for number, line in enumerate(lines, start=1):
        found = _parsed(line)
        if isinstance(found, _Line):
            model = model or found.body.model
            problem = _problem(found, endpoint, model, seen)
            seen.add(found.custom_id)
        else:
            problem = found
        if problem is not None:
            problems.append(msgspec.structs.replace(problem, line=number))
    return Checked(problems, model, 0 if problems else len(lines))


def due(batch: Batch, now: float) -> bool:
    """Whether nothing more happens to a batch, but for its results being written."""
    seconds = batch.faults.batch_seconds
    if batch.cancelled is not None:
        return now >= batch.cancelled + TENTH * seconds
    return not batch.checked.problems and now >= batch.created + seconds


def finished(batch: Batch, now: float) -> int:
    """Return how many rows have been done; all at the end, but for those that the batch expires without."""
    last = batch.checked.total - _left(batch)
    now = now if batch.cancelled is None else batch.cancelled
    begun, seconds = batch.created + TENTH * batch.faults.batch_seconds, (1 - 2 * TENTH) * batch.faults.batch_seconds
    if now >= begun + seconds:
        return last
    return int(last * max(0.0, now - begun) / seconds)


def status(batch: Batch, now: float) -> Status:
    """Return what a batch's status is, in OpenAI's words."""
    age, seconds = now - batch.created, batch.faults.batch_seconds
    if batch.cancelled is not None:
        return "cancelled" if batch.result else "cancelling"
    if age < TENTH * seconds:
        return "validating"
    if batch.checked.problems:
        return "failed"
    if batch.result:
        return "expired" if _left(batch) else "completed"
    return "in_progress" if age < (1 - TENTH) * seconds else "finalizing"


def view(batch: Batch, now: float, state: Status | None = None) -> dict[str, Any]:
    """Return the protocol's object for a batch; `state` says its status where the clock does not."""
    state = state or status(batch, now)
    result, times = batch.result, _times(batch, state)
    counts = {"total": 0, "completed": 0, "failed": 0}
    if result:
        counts = {"total": batch.checked.total, "completed": result.completed, "failed": result.failed}
    elif state not in ("validating", "failed"):
        counts = {"total": batch.checked.total, "completed": finished(batch, now), "failed": 0}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.checked.model,
        "errors": {"object": "list", "data": batch.checked.problems} if state == "failed" else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": state,
        "output_file_id": result and result.output_file_id,
        "error_file_id": result and result.error_file_id,
        "created_at": int(batch.created),
        "expires_at": int(batch.created) + WINDOW,
        **{f"{name}_at": int(times[name]) if name in times else None for name in STATUSES[1:]},
        "request_counts": counts,
        "usage": result and _usage(result),
        "metadata": batch.metadata,
    }


def work(batch: Batch, content: bytes, done: int) -> Done:
    """Do so many rows of a batch, in an order of its own, and say of the others that they were left undone."""
    lines = _lines(content)[: batch.checked.total]
    random = Random(f"{batch.faults.seed}/batch {batch.number}")
    random.shuffle(lines)
    output: list[bytes] = []
    errors: list[bytes] = []
    rows: Counter[str] = Counter()
    tokens = _Usage()
    for place, line in enumerate(lines):
        row = msgspec.json.decode(line, type=_Row)
        if place >= done:
            became = "expired" if batch.cancelled is None else "cancelled"
            errors.append(_undone(batch, row, became))
        else:
            became, reply = reply_to(bytes(row.body), batch.faults, drawn(batch.faults, DRAWN_ROWS, random.random()))
            if isinstance(reply, Refusal):
                errors.append(_replied(batch, row, reply.status, error_body(reply)))
            else:
                replied = _replied(batch, row, 200, reply)
                output.append(replied[: len(replied) // 2] if became == "truncate" else replied)
                usage = msgspec.json.decode(reply, type=_Completion).usage
                tokens.prompt_tokens += usage.prompt_tokens
                tokens.completion_tokens += usage.completion_tokens
        rows[became] += 1
    return Done(_joined(output), _joined(errors), rows, tokens.prompt_tokens, tokens.completion_tokens)


def _headed(head: bytes) -> Message:
    return BytesHeaderParser().parsebytes(head + b"\r\n\r\n")


def _lines(content: bytes) -> list[bytes]:
    return content.removesuffix(b"\n").split(b"\n") if content else []


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _parsed(line: bytes) -> _Line | Problem:
    try:
        return msgspec.json.decode(line, type=_Line)
    except msgspec.ValidationError as error:
        missing = re.match(r"Object missing required field `(\w+)`(?: - at `\$\.(\w+)`)?", str(error))
        if missing is None:
            return Problem("invalid_request", f"This line is not a request: {error}.")
        param = f"{missing[2]}.{missing[1]}" if missing[2] else missing[1]
        return Problem("missing_required_parameter", f"Missing required parameter: '{param}'.", param)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Problem("invalid_json_line", "This line is not parseable as valid JSON.")


def _problem(line: _Line, endpoint: str, model: str, seen: set[str]) -> Problem | None:
    if line.custom_id in seen:
        message = f"The custom_id '{line.custom_id}' for this request is a duplicate of another request. "
        message += "The custom_id parameter must be unique for each request in a batch."
        return Problem("duplicate_custom_id", message, "custom_id")
    if line.method != "POST":
        return Problem("invalid_method", f"The method '{line.method}' is not supported; it must be 'POST'.", "method")
    if line.url != endpoint:
        return Problem("invalid_url", "The URL provided for this request does not match the batch endpoint.", "url")
    if line.body.model != model:
        message = f"The model '{line.body.model}' for this request does not match the rest of the batch. "
        message += "Each batch must contain requests for a single model."
        return Problem("mismatched_model", message, "body.model")
    return None


def _left(batch: Batch) -> int:
    return round(batch.checked.total * batch.faults.batch_expire)


def _times(batch: Batch, state: Status) -> dict[str, float]:
    """Return when a batch came to each status that it has had, this one included."""
    tenth = TENTH * batch.faults.batch_seconds
    begun, ended = batch.created + tenth, batch.created + batch.faults.batch_seconds
    if state == "validating":
        return {}
    if state == "failed":
        return {state: begun}
    times = {"in_progress": begun, "finalizing": ended - tenth}
    if batch.cancelled is not None:
        times = {name: time for name, time in times.items() if time <= batch.cancelled}
        times |= {"cancelling": batch.cancelled, "cancelled": batch.cancelled + tenth}
    elif state in ENDED:
        times[state] = ended
    names = list(times)
    return {name: times[name] for name in names[: names.index(state) + 1]}


def _usage(result: Result) -> dict[str, Any]:
    return {
        "input_tokens": result.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": result.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": result.input_tokens + result.output_tokens,
    }


def _named(batch: Batch, row: _Row) -> str:
    return hashlib.sha256(f"{batch.id}/{row.custom_id}".encode()).hexdigest()[:32]


def _replied(batch: Batch, row: _Row, code: int, body: bytes) -> bytes:
    name = _named(batch, row)
    response = {"status_code": code, "request_id": f"req_{name}", "body": Raw(body)}
    line = {"id": f"batch_req_{name}", "custom_id": row.custom_id, "response": response, "error": None}
    return msgspec.json.encode(line)


def _undone(batch: Batch, row: _Row, became: str) -> bytes:
    code, message = UNDONE[became]
    error = {"code": code, "message": message}
    line = {"id": f"batch_req_{_named(batch, row)}", "custom_id": row.custom_id, "response": None, "error": error}
    return msgspec.json.encode(line)
