"""The response store: every request ever sent, every attempt, every reply; outside DVC's outs, paid for once.

SQLite in WAL mode. An attempt is written down before it is sent, so that after `kill -9` it is known which calls were
out; its reply is committed before anything else is done with it. A power cut may lose the last seconds, since the disk
is not waited for at each commit. Several runs may share a store: a call that one of them has out, no other sends.
"""

import fcntl
import hashlib
import os
import secrets
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from math import sqrt
from pathlib import Path
from typing import IO, Any, Self

import msgspec
from msgspec import Struct

from datagen.client import Reply
from datagen.grid import Body, Request
from schemas.faults import Fault
from schemas.record import Message

WAIT = 60.0  # seconds to wait for another process's commit, which takes a millisecond
BALLAST = 8 * 2**20  # bytes that a run holds for the replies that are still out when the disk is full
NO_SPACE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)  # the latter for a quota
TURN_BYTES = 16  # of a chat template, for each message: no tokenizer makes more tokens than there are bytes

# Each is applied once, in order; PRAGMA user_version counts those a file has seen.
MIGRATIONS = (
    """
CREATE TABLE prompts (hash TEXT PRIMARY KEY, messages TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE requests (
  key TEXT PRIMARY KEY, root TEXT NOT NULL, turn INTEGER NOT NULL, topic TEXT NOT NULL, difficulty TEXT NOT NULL,
  type TEXT NOT NULL, sample INTEGER NOT NULL, round INTEGER NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL,
  temperature REAL NOT NULL, max_tokens INTEGER NOT NULL, seed INTEGER NOT NULL, prompt TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX requests_root ON requests (root);
CREATE TABLE replies (
  key TEXT PRIMARY KEY, content TEXT NOT NULL, finish TEXT NOT NULL, model TEXT NOT NULL,
  prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, fault TEXT, created REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE attempts (
  key TEXT NOT NULL, n INTEGER NOT NULL, at REAL NOT NULL, latency REAL NOT NULL, status INTEGER, model TEXT NOT NULL,
  prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, verdict TEXT NOT NULL, error TEXT,
  PRIMARY KEY (key, n)
) WITHOUT ROWID
""",
    """
ALTER TABLE requests ADD COLUMN kind TEXT NOT NULL DEFAULT 'write';
ALTER TABLE requests ADD COLUMN subject TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN run INTEGER NOT NULL DEFAULT 0;
CREATE INDEX attempts_out ON attempts (run) WHERE verdict = 'sent';
CREATE TABLE runs (id INTEGER PRIMARY KEY, started REAL NOT NULL, seen REAL NOT NULL, command TEXT NOT NULL);
CREATE TABLE ledger (
  model TEXT, way TEXT, calls INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
  PRIMARY KEY (model, way)
) WITHOUT ROWID;
INSERT INTO ledger SELECT requests.model, 'call', count(*), sum(prompt_tokens), sum(completion_tokens)
  FROM attempts JOIN requests USING (key) GROUP BY requests.model;
CREATE TABLE endpoints (endpoint TEXT, model TEXT, known TEXT NOT NULL, PRIMARY KEY (endpoint, model)) WITHOUT ROWID
""",
    """
CREATE TABLE batches (
  id INTEGER PRIMARY KEY, token TEXT NOT NULL, since INTEGER NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL,
  file TEXT, asked REAL, name TEXT, status TEXT, ended REAL
)
""",
    "ALTER TABLE requests ADD COLUMN extra TEXT NOT NULL DEFAULT '{}'",
)

REQUEST = (  # the columns that a Request is read back from
    "topic, difficulty, type, sample, round, endpoint, kind, subject, requests.model, temperature, max_tokens, seed, "
    "messages, extra"
)
PAGE = 1000  # rows of a batch held at once


class Attempt(Struct, frozen=True):
    """One call as it went: a line of the journal."""

    at: float
    """When it began, seconds since 1970."""
    latency: float
    """Seconds."""
    status: int | None
    """HTTP status; None if none came."""
    verdict: str
    """`valid`, `bad` for a reply that has to be asked again, the kind of the failure, `sent` or `lost`.

    A row of a batch may also be `expired` or `cancelled`.
    """
    error: str | None


class Asked(Struct, frozen=True):
    """A request as the store knows it, with its attempts and its reply if there is one."""

    key: str
    turn: int
    """0 for the first request, n for the n-th time it was asked again."""
    request: Request
    attempts: tuple[Attempt, ...]
    reply: Reply | None
    fault: str | None
    """What was wrong with the reply when it came."""


class KindCount(Struct, frozen=True):
    """What the store holds of one kind of request to one model, all rounds and prompts together."""

    kind: str
    model: str
    """That was asked."""
    asked: int
    """First requests; re-asks belong to them."""
    valid: int
    """Of these, those that came to a valid reply."""
    calls: int
    refused: int
    failed: int
    prompt_tokens: int
    completion_tokens: int


class Usage(Struct, frozen=True):
    """What a settled request of a kind came to on average, the times it was asked again included."""

    requests: int
    prompt_tokens: float
    completion_tokens: float
    deviation: float
    """Of the tokens in all, from request to request."""
    latency: float
    """Seconds, of its calls together."""


class Spent(Struct, frozen=True):
    """What has been sent to one model, what is out counted at the most it can come to."""

    model: str
    way: str
    """`call` or `batch`."""
    calls: int
    prompt_tokens: int
    completion_tokens: int


class Batch(Struct, frozen=True):
    """A batch that is out, as it was written down before and after each step; its rows are attempts of run -number."""

    number: int
    token: str
    """Named in the metadata of the batch at the endpoint, by which it is found again."""
    since: int
    """The number of the first batch of this asking: what failed in older ones counts no more."""
    model: str
    file: str | None
    """The id of the input file at the endpoint, once it is known."""
    asked: float | None
    """When the endpoint was asked to create the batch: from then on it may exist."""
    name: str | None
    """Its id at the endpoint, once it is known."""


class Out(Struct, frozen=True):
    """A row of a batch whose outcome has not come."""

    key: str
    n: int
    """The number of the attempt."""
    at: float
    request: Request


class DiskFull(Fault):
    """The disk is full: what is out can still be kept, nothing more can be sent."""


class OverBudget(Exception):
    """The call could cost more than is left; its text says of what."""


class Taken(Exception):
    """Another run has the request out, or has had its reply since: it is not to be sent."""


def bound(body: Body) -> tuple[int, int]:
    """Return the most prompt and completion tokens that a call can come to."""
    return sum(len(m.content.encode()) + TURN_BYTES for m in body.messages), body.max_tokens


class Store:
    """An open store. Every method is one short transaction; several processes may have it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = 0
        """The number of this process's run, once it has begun one."""
        self.full = False
        """Whether the disk was full when a reply came, so that the ballast is gone."""
        self._lock: IO[bytes] | None = None
        self._known_prompts = lru_cache(maxsize=4096)(self._keep_prompt)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = NORMAL")
            self._migrate()
        except (sqlite3.Error, OSError) as error:
            raise Fault(f"{path}: {error}; $DATAGEN_STORE names another place") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the run if there is one, and close the store; nothing waits to be written."""
        if self._lock is not None:
            with suppress(DiskFull):
                self.beat()
            self._lock_of(self.run).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None
        self.db.close()

    # --- runs ----------------------------------------------------------------------------------------------------

    def begin_run(self) -> int:
        """Begin a run, mark what dead runs left out as lost, and return how many calls that were.

        A run holds a lock on a file of its own while it lives: the end of the process is the end of the lock. The file
        is also its ballast, given up when the disk is full.
        """
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        now = time.time()
        with self._transaction():
            cursor = self.db.execute("INSERT INTO runs (started, seen, command) VALUES (?, ?, ?)", (now, now, command))
            self.run = cursor.lastrowid or 0
        lock = self._lock_of(self.run)
        try:
            lock.parent.mkdir(exist_ok=True)
            self._lock = open(lock.with_suffix(".new"), "wb")  # noqa: SIM115  # held until the run ends
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._lock.write(os.urandom(2**20) * (BALLAST >> 20))  # a disk that compresses makes nothing of zeros
            self._lock.flush()
            lock.with_suffix(".new").rename(lock)  # never there without its lock
        except OSError as error:
            lock.with_suffix(".new").unlink(missing_ok=True)
            raise Fault(f"{lock}: {error.strerror}; a run needs {BALLAST >> 20} MB beside the store to begin") from None
        return self.lose_dead()

    def lose_dead(self) -> int:
        """Mark what dead runs left out as lost, and return how many calls that were."""
        lost = 0
        for (run,) in self.db.execute("SELECT DISTINCT run FROM attempts WHERE verdict = 'sent'").fetchall():
            if not self.alive(run):
                lost += self._lose(run)
        return lost

    def alive(self, run: int) -> bool:
        """Whether a run, or the batch that a negative number stands for, has not ended."""
        if run == self.run:
            return True
        if run < 0:
            return bool(self.db.execute("SELECT 1 FROM batches WHERE id = ? AND ended IS NULL", (-run,)).fetchone())
        try:
            with open(self._lock_of(run)) as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        self._lock_of(run).unlink(missing_ok=True)
        return False

    def living(self) -> int:
        """The number of runs on this store now."""
        folder = self._lock_of(0).parent
        return sum(self.alive(int(lock.name)) for lock in folder.glob("*[0-9]")) if folder.is_dir() else 0

    def beat(self) -> None:
        """Note that the run is still going."""
        with self._transaction():
            self.db.execute("UPDATE runs SET seen = ? WHERE id = ?", (time.time(), self.run))

    def ran(self) -> float:
        """Return the seconds that all runs together have taken."""
        (seconds,) = self.db.execute("SELECT total(seen - started) FROM runs").fetchone()
        return float(seconds)

    def _lock_of(self, run: int) -> Path:
        return self.path.with_name(f"{self.path.name}-runs") / str(run)

    def _lose(self, run: int, why: str = "its run was killed; it may have been billed") -> int:
        with self._transaction():
            return self.db.execute(
                "UPDATE attempts SET verdict = 'lost', error = ? WHERE run = ? AND verdict = 'sent'", (why, run)
            ).rowcount

    # --- calls ---------------------------------------------------------------------------------------------------

    def reply(self, key: str) -> Reply | None:
        """Return the reply to a request, None if it has none yet."""
        row = self.db.execute(
            "SELECT content, finish, model, prompt_tokens, completion_tokens FROM replies WHERE key = ?", (key,)
        ).fetchone()
        return Reply(*row) if row else None

    def last_error(self, key: str) -> str:
        """Return why the last attempt at a request brought nothing, `not asked yet` if there was none."""
        row = self.db.execute("SELECT error FROM attempts WHERE key = ? ORDER BY n DESC LIMIT 1", (key,)).fetchone()
        return row[0] if row and row[0] else "not asked yet"

    def out(self, key: str) -> bool:
        """Whether another living run, or a batch, has a request out."""
        rows = self.db.execute("SELECT run FROM attempts WHERE key = ? AND verdict = 'sent'", (key,)).fetchall()
        return any(run != self.run and self.alive(run) for (run,) in rows)

    def batched(self, key: str) -> bool:
        """Whether a request is out in a batch."""
        query = "SELECT 1 FROM attempts WHERE key = ? AND verdict = 'sent' AND run < 0"
        return bool(self.db.execute(query, (key,)).fetchone())

    def send(
        self,
        request: Request,
        key: str,
        root: str,
        turn: int,
        at: float,
        over: Callable[[list[Spent]], str | None] | None = None,
        batch: Batch | None = None,
    ) -> int:
        """Commit that a request is about to be sent, at the most it can cost; return the number of the attempt.

        `over` is given what all runs will then have spent and says what of it is too much, which raises OverBudget.
        Taken if another run asks, or has asked, the same.
        """
        if self.full:
            raise DiskFull(f"{self.path}: the disk is full; nothing is asked that could not be kept")
        body = request.body
        with self._transaction():
            if self.out(key) or self.db.execute("SELECT 1 FROM replies WHERE key = ?", (key,)).fetchone():
                raise Taken
            self.db.execute(
                "INSERT OR IGNORE INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(key, root, turn, request.topic, request.difficulty, request.type, request.sample, request.round),
                    *(request.endpoint, body.model, body.temperature, body.max_tokens, body.seed),
                    *(self._known_prompts(body.messages), request.kind, request.subject),
                    msgspec.json.encode(body.extra).decode(),
                ),
            )
            (n,) = self.db.execute(
                "INSERT INTO attempts SELECT ?, coalesce(max(n), 0) + 1, ?, 0, NULL, ?, 0, 0, 'sent', NULL, ? "
                "FROM attempts WHERE key = ? RETURNING n",
                (key, at, body.model, -batch.number if batch else self.run, key),
            ).fetchone()
            self._charge(body.model, 1, *bound(body), "batch" if batch else "call")
            if over and (reason := over(self.spent())):
                raise OverBudget(reason)
        return int(n)

    def land(
        self,
        request: Request,
        key: str,
        n: int,
        attempt: Attempt,
        reply: Reply | None,
        *,
        billed: bool,
        way: str = "call",
    ) -> None:
        """Commit what became of an attempt that was sent, with its reply if it brought one.

        `billed` says of a call without a reply that it may be paid for all the same: it stays in the ledger as sent.
        """
        try:
            self._land(request, key, n, attempt, reply, billed, way)
        except DiskFull:
            if self._lock is None or self.full:
                raise
            self.full = True
            self._lock.truncate(0)
            self._land(request, key, n, attempt, reply, billed, way)

    def _land(
        self, request: Request, key: str, n: int, attempt: Attempt, reply: Reply | None, billed: bool, way: str
    ) -> None:
        prompt, completion = bound(request.body)
        usage = (reply.prompt_tokens, reply.completion_tokens) if reply else (0, 0)
        with self._transaction():
            self.db.execute(
                "UPDATE attempts SET latency = ?, status = ?, model = ?, prompt_tokens = ?, completion_tokens = ?, "
                "verdict = ?, error = ? WHERE key = ? AND n = ?",
                (
                    *(attempt.latency, attempt.status, reply.model if reply else request.body.model, *usage),
                    *(attempt.verdict, attempt.error, key, n),
                ),
            )
            if reply:
                self.db.execute(
                    "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        key,
                        reply.content,
                        reply.finish,
                        reply.model,
                        *usage,
                        attempt.error,
                        attempt.at + attempt.latency,
                    ),
                )
            if any(usage) or not (reply or billed):  # a reply that does not say what it used counts as sent
                self._charge(request.body.model, 0, usage[0] - prompt, usage[1] - completion, way)

    def _charge(self, model: str, calls: int, prompt_tokens: int, completion_tokens: int, way: str = "call") -> None:
        self.db.execute(
            "INSERT INTO ledger VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + excluded.calls, "
            "prompt_tokens = prompt_tokens + excluded.prompt_tokens, "
            "completion_tokens = completion_tokens + excluded.completion_tokens",
            (model, way, calls, prompt_tokens, completion_tokens),
        )

    def _keep_prompt(self, messages: tuple[Message, ...]) -> str:
        text = msgspec.json.encode(messages)
        prompt = hashlib.sha256(text).hexdigest()
        self.db.execute("INSERT OR IGNORE INTO prompts VALUES (?, ?)", (prompt, text.decode()))
        return prompt

    # --- batches -------------------------------------------------------------------------------------------------

    @contextmanager
    def batching(self) -> Iterator[None]:
        """Keep every other process from doing anything about batches; Fault if one is at it."""
        path = self._lock_of(0).with_name("batch")
        try:
            path.parent.mkdir(exist_ok=True)
            with open(path, "wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield
        except BlockingIOError:
            raise Fault(f"{self.path}: another `datagen batch` is at work on this store; wait for it") from None

    def begin_batch(self, endpoint: str, model: str, since: int) -> Batch:
        """Write down a batch, empty as yet, before anything of it is sent."""
        token = secrets.token_hex(16)
        with self._transaction():
            cursor = self.db.execute(
                "INSERT INTO batches (token, since, endpoint, model) VALUES (?, ?, ?, ?)",
                (token, since, endpoint, model),
            )
        return Batch(cursor.lastrowid or 0, token, since, model, None, None, None)

    def keep_batch(self, batch: Batch) -> None:
        """Commit what has become known of a batch: its file, that its creation was asked for, its id."""
        with self._transaction():
            self.db.execute(
                "UPDATE batches SET file = ?, asked = ?, name = ? WHERE id = ?",
                (batch.file, batch.asked, batch.name, batch.number),
            )

    def end_batch(self, number: int, status: str) -> int:
        """End a batch: rows without an outcome are lost, at the most they can cost; return how many those were."""
        lost = self._lose(-number, f"its batch is {status}; it may have been billed")
        with self._transaction():
            self.db.execute("UPDATE batches SET status = ?, ended = ? WHERE id = ?", (status, time.time(), number))
        return lost

    def batches(self, endpoint: str) -> list[Batch]:
        """Return the batches that are out at an endpoint, the oldest first."""
        rows = self.db.execute(
            "SELECT id, token, since, model, file, asked, name FROM batches "
            "WHERE endpoint = ? AND ended IS NULL ORDER BY id",
            (endpoint,),
        )
        return [Batch(*row) for row in rows]

    def batches_elsewhere(self, endpoint: str) -> list[tuple[int, str]]:
        """Return the number and the endpoint of each batch that is out at another endpoint."""
        return self.db.execute(
            "SELECT id, endpoint FROM batches WHERE endpoint != ? AND ended IS NULL ORDER BY id", (endpoint,)
        ).fetchall()

    def asking_since(self, endpoint: str) -> int:
        """Return the number of the first batch of the asking that is going on, or that begins with the next one."""
        since, last = self.db.execute(
            "SELECT min(since) FILTER (WHERE endpoint = ? AND ended IS NULL), coalesce(max(id), 0) FROM batches",
            (endpoint,),
        ).fetchone()
        return int(since or last + 1)

    def verdicts(self, key: str, since: int) -> dict[str, int]:
        """Return how often a request came to each verdict in the batches from this number on."""
        return dict(
            self.db.execute(
                "SELECT verdict, count(*) FROM attempts WHERE key = ? AND run <= ? GROUP BY verdict", (key, -since)
            ).fetchall()
        )

    def outcomes(self, batch: Batch) -> dict[str, tuple[int, str | None]]:
        """Return how many rows of a batch came to each verdict, with the error of one of them."""
        rows = self.db.execute(
            "SELECT verdict, count(*), max(error) FROM attempts WHERE run = ? GROUP BY verdict ORDER BY count(*) DESC",
            (-batch.number,),
        )
        return {verdict: (number, error) for verdict, number, error in rows}

    def out_in(self, batch: Batch) -> int:
        """Return how many rows of a batch have no outcome."""
        query = "SELECT count(*) FROM attempts WHERE run = ? AND verdict = 'sent'"
        return int(self.db.execute(query, (-batch.number,)).fetchone()[0])

    def rows(self, batch: Batch) -> Iterator[Out]:
        """Yield the rows of a batch that have no outcome, by key; they may get one meanwhile."""
        last = ""
        while page := self._rows(batch, "attempts.key > ?", last):
            yield from page
            last = page[-1].key

    def row(self, batch: Batch, key: str) -> Out | None:
        """Return a row of a batch, None if it has none of that key or it has an outcome."""
        return next(iter(self._rows(batch, "attempts.key = ?", key)), None)

    def _rows(self, batch: Batch, which: str, key: str) -> list[Out]:
        rows = self.db.execute(
            f"SELECT key, n, at, {REQUEST} FROM attempts JOIN requests USING (key) JOIN prompts ON prompt = hash "
            f"WHERE run = ? AND verdict = 'sent' AND {which} ORDER BY attempts.key LIMIT {PAGE}",
            (-batch.number, key),
        )
        return [Out(key, n, at, _request(*sent)) for key, n, at, *sent in rows]

    # --- what is held ----------------------------------------------------------------------------------------------

    def spent(self) -> list[Spent]:
        """Return what has been sent so far, by model and way."""
        return [Spent(*row) for row in self.db.execute("SELECT * FROM ledger ORDER BY model, way")]

    def usage(self, kind: str, model: str) -> Usage | None:
        """Return what requests of a kind to a model came to, None if there are none."""
        row = self.db.execute(
            """
            SELECT count(*), avg(prompt), avg(completion), avg((prompt + completion) * (prompt + completion)),
              coalesce(avg(latency), 0)
            FROM (
              SELECT total(attempts.prompt_tokens) AS prompt, total(attempts.completion_tokens) AS completion,
                sum(latency) FILTER (WHERE run >= 0) AS latency
              FROM requests JOIN attempts USING (key)
              WHERE kind = ? AND requests.model = ? AND verdict IN ('valid', 'bad') GROUP BY root
            )
            """,
            (kind, model),
        ).fetchone()
        if not row[0]:
            return None
        requests, prompt, completion, square, latency = row
        return Usage(requests, prompt, completion, sqrt(max(0.0, square - (prompt + completion) ** 2)), latency)

    def runs(self) -> tuple[int, int, int]:
        """Return the runs that are going on, the calls that they or batches have out, and those that dead runs lost."""
        (lost,) = self.db.execute("SELECT count(*) FROM attempts WHERE verdict = 'lost'").fetchone()
        out = 0
        for run, calls in self.db.execute("SELECT run, count(*) FROM attempts WHERE verdict = 'sent' GROUP BY run"):
            if self.alive(run):
                out += calls
            else:
                lost += calls  # the next run to begin writes that down
        return self.living(), out, lost

    def remember(self, endpoint: str, model: str, known: bytes) -> None:
        """Keep what an endpoint bore."""
        with self._transaction():
            self.db.execute("INSERT OR REPLACE INTO endpoints VALUES (?, ?, ?)", (endpoint, model, known.decode()))

    def remembered(self, endpoint: str, model: str) -> bytes | None:
        """Return what an endpoint bore, None if it is new."""
        row = self.db.execute(
            "SELECT known FROM endpoints WHERE endpoint = ? AND model = ?", (endpoint, model)
        ).fetchone()
        return row[0].encode() if row else None

    def find(self, prefix: str, limit: int = 10) -> list[str]:
        """Return the keys of first requests that begin so, or that a re-ask which begins so belongs to."""
        rows = self.db.execute(
            "SELECT DISTINCT root FROM requests WHERE key >= ? AND key < ? || 'g' LIMIT ?", (prefix, prefix, limit)
        )
        return [root for (root,) in rows]

    def about(self, id: str) -> list[tuple[str, str]]:
        """Return the kinds and keys of the first requests that ask about a record."""
        return self.db.execute(
            "SELECT kind, key FROM requests WHERE subject = ? AND turn = 0 ORDER BY kind, sample", (id,)
        ).fetchall()

    def conversation(self, root: str) -> list[Asked]:
        """Return a request and the times it was asked again, in order."""
        rows = self.db.execute(
            f"SELECT key, turn, {REQUEST} FROM requests JOIN prompts ON prompt = hash WHERE root = ? ORDER BY turn",
            (root,),
        ).fetchall()
        found = []
        for key, turn, *sent in rows:
            attempts = self.db.execute(
                "SELECT at, latency, status, verdict, error FROM attempts WHERE key = ? ORDER BY n", (key,)
            )
            fault = self.db.execute("SELECT fault FROM replies WHERE key = ?", (key,)).fetchone()
            found.append(
                Asked(
                    key=key,
                    turn=turn,
                    request=_request(*sent),
                    attempts=tuple(Attempt(*attempt) for attempt in attempts),
                    reply=self.reply(key),
                    fault=fault[0] if fault else None,
                )
            )
        return found

    def counts(self) -> list[KindCount]:
        """Return what is held of each kind and model."""
        rows = self.db.execute(
            """
            SELECT kind, requests.model, count(DISTINCT root), count(replies.key) - count(replies.fault), total(tried),
              total(refused), total(failed), total(replies.prompt_tokens), total(replies.completion_tokens)
            FROM requests
            LEFT JOIN replies ON replies.key = requests.key
            LEFT JOIN (
              SELECT key, count(*) AS tried, sum(verdict = 'refused') AS refused,
                sum(verdict NOT IN ('valid', 'bad', 'refused', 'sent')) AS failed
              FROM attempts GROUP BY key
            ) AS tries ON tries.key = requests.key
            GROUP BY kind, requests.model ORDER BY kind, requests.model
            """
        )
        return [KindCount(*row[:2], *(int(number) for number in row[2:])) for row in rows]

    # --- the file --------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            # IMMEDIATE waits for another writer here; a deferred one would fail at its first write instead.
            self.db.execute("BEGIN IMMEDIATE")
            yield
            self.db.execute("COMMIT")
        except sqlite3.OperationalError as error:  # a full disk, a lock that never ends, a folder made read-only
            kind = DiskFull if error.sqlite_errorcode & 0xFF in NO_SPACE else Fault
            raise kind(f"{self.path}: {error}; nothing is asked that could not be kept") from None
        finally:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
                self._known_prompts.cache_clear()

    def _migrate(self) -> None:
        if self._version() == len(MIGRATIONS):
            return  # as nearly always: whoever only reads, writes nothing
        with self._transaction():
            found = self._version()
            if found > len(MIGRATIONS):
                raise Fault(
                    f"{self.path}: a store of version {found}, this program reads {len(MIGRATIONS)}; update the program"
                )
            for migration in MIGRATIONS[found:]:
                for statement in migration.split(";"):
                    self.db.execute(statement)
            self.db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _version(self) -> int:
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        return int(version)


def _request(*columns: Any) -> Request:
    """Return the request that REQUEST names the columns of."""
    topic, difficulty, type_, sample, round_, endpoint, kind, subject, *sent = columns
    model, temperature, max_tokens, seed, messages, extra = sent
    told = msgspec.json.decode(messages, type=tuple[Message, ...])
    body = Body(model, told, temperature, max_tokens, seed, msgspec.json.decode(extra))
    return Request(topic, difficulty, type_, sample, round_, endpoint, body, kind, subject)


def look(path: Path) -> Store:
    """Return the store for reading: an empty one in memory, and nothing on the disk, if there is none."""
    return Store(path if path.exists() else Path(":memory:"))


def place() -> Path:
    """Return where the store is: $DATAGEN_STORE, else .store/ under $DVC_ROOT or the nearest folder with a .dvc.

    DVC sets $DVC_ROOT to the project even in the temporary copy that an experiment runs in.
    """
    if named := os.environ.get("DATAGEN_STORE"):
        return Path(named)
    here = Path.cwd()
    root = os.environ.get("DVC_ROOT") or next((p for p in (here, *here.parents) if (p / ".dvc").is_dir()), here)
    return Path(root) / ".store" / "responses.sqlite"
