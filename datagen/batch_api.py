"""The Files and Batch API through the openai library: what was asked for comes back, typed, or a Failed.

What may be sent twice without harm the library tries again by itself; the creation of a batch, which is paid for, it
sends once. Bodies are read here, since it passes on a 200 that holds HTML.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from datagen.client import HEAD, Failure, outcome, redact, secret
from datagen.settings import Teacher

# Of an input file, whose rows are all for one model: openai.types.BatchCreateParams, input_file_id, and
# https://developers.openai.com/api/docs/guides/batch
MOST_ROWS = 50_000
MOST_BYTES = 200 * 10**6
URL: Literal["/v1/chat/completions"] = "/v1/chat/completions"  # the API's own name for it, whatever the base_url
TOKEN = "question_bank"  # the name in a batch's metadata under which it carries the store's token
PAGE = 100  # batches listed at once, the most there may be
ABSENT = (404, 405, 501)

T = TypeVar("T")


class Failed(Exception):
    """The endpoint did not do what it was asked to, or nobody can tell whether it did."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Counts(Struct, frozen=True):
    """What has become of the rows of a batch."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Problem(Struct, frozen=True):
    """What is wrong with an input file."""

    code: str | None = None
    message: str | None = None
    line: int | None = None


class Problems(Struct, frozen=True):
    """All that is wrong with an input file."""

    data: list[Problem] | None = None


class Remote(Struct, frozen=True):
    """A batch as the endpoint describes it."""

    id: str
    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: Counts | None = None
    errors: Problems | None = None


class Response(Struct, frozen=True):
    """What a row was answered."""

    status_code: int
    body: Raw = Raw(b"")


class Undone(Struct, frozen=True):
    """Why a row was not answered."""

    code: str | None = None
    message: str | None = None


class Line(Struct, frozen=True):
    """A line of an output or error file."""

    custom_id: str
    response: Response | None = None
    error: Undone | None = None


class _Created(Struct):
    id: str


class _Listed(Struct):
    id: str
    input_file_id: str | None = None
    metadata: dict[str, Any] | None = None


class _Page(Struct):
    data: list[_Listed]
    has_more: bool = False


class Api:
    """The endpoint of a teacher."""

    def __init__(self, teacher: Teacher, timeout: float) -> None:
        """Fault, naming the variable, if the key is not in the environment; `timeout` is for each wait, in seconds."""
        from openai import OpenAI

        self.key = secret(teacher)
        self._client = OpenAI(api_key=self.key, base_url=teacher.base_url, timeout=timeout)

    def probe(self) -> bool:
        """Whether there is such an API at all."""
        try:
            self._page(1)
        except Failed as failed:
            if failed.failure.status in ABSENT:
                return False
            raise
        return True

    def upload(self, name: str, content: IO[bytes]) -> str:
        """Hand in an input file, read as it is sent; return its id."""
        with self._failures():
            raw = self._client.files.with_raw_response.create(
                file=(name, content, "application/jsonl"), purpose="batch"
            )
            return _read(raw.content, _Created).id

    def delete(self, file: str) -> None:
        """Delete an input file, so that no batch can be created from it any more."""
        try:
            with self._failures():
                self._client.files.with_raw_response.delete(file)
        except Failed as failed:
            if failed.failure.status not in ABSENT:
                raise

    def create(self, file: str, token: str) -> str:
        """Create a batch from an input file; return its id."""
        with self._failures():
            raw = self._client.with_options(max_retries=0).batches.with_raw_response.create(
                input_file_id=file, endpoint=URL, completion_window="24h", metadata={TOKEN: token}
            )
            return _read(raw.content, _Created).id

    def find(self, file: str | None, token: str) -> str | None:
        """Return the id of the batch that was created from a file or carries a token, None if there is none."""
        after: str | None = None
        while True:
            page = self._page(PAGE, after)
            for batch in page.data:
                if (batch.metadata or {}).get(TOKEN) == token or (file and batch.input_file_id == file):
                    return batch.id
            if not page.has_more or not page.data:
                return None
            after = page.data[-1].id

    def retrieve(self, name: str) -> Remote:
        """Return how a batch stands; its status in lower case, as some endpoints do not write it."""
        with self._failures():
            remote = _read(self._client.batches.with_raw_response.retrieve(name).content, Remote)
        return replace(remote, status=remote.status.lower())

    def results(self, file: str) -> Iterator[Line | None]:
        r"""Yield the lines of an output or error file as they arrive, None for one that stops in its middle.

        Failed for a line that is no result at all, such as an error page's. Lines end at b"\n" alone; the library's own
        iter_lines would also cut at U+2028 inside a text.
        """
        with self._failures(), self._client.files.with_streaming_response.content(file) as response:
            rest = b""
            for part in response.iter_bytes():
                *lines, rest = (rest + part).split(b"\n")
                yield from map(_result, filter(None, lines))
            if rest:
                yield _result(rest)

    def _page(self, limit: int, after: str | None = None) -> _Page:
        from openai import omit

        with self._failures():
            raw = self._client.batches.with_raw_response.list(limit=limit, after=after or omit)
            return _read(raw.content, _Page)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        import httpx2
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            found = outcome(error.status_code, error.response.headers, error.response.content, self.key)
            assert isinstance(found, Failure)
            raise Failed(found) from None
        except openai.APITimeoutError:
            raise Failed(Failure("timeout", None, "no answer in time")) from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            cause = error.__cause__ or error
            raise Failed(Failure("network", None, self._struck(f"{type(cause).__name__}: {cause}"))) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Failed(Failure("garbled", 200, self._struck(f"not what the API answers: {error}"))) from None

    def _struck(self, text: str) -> str:
        return redact(text, self.key)[:HEAD]


def _read(content: bytes, type_: type[T]) -> T:
    return msgspec.json.decode(content, type=type_)


def _result(line: bytes) -> Line | None:
    try:
        return _read(line, Line)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError):
        if line.startswith(b"{"):
            return None
        raise
