"""The response store: every request ever sent, every attempt, every reply; outside DVC's outs, paid for once.

SQLite in WAL mode. A reply is committed before anything else is done with it, so `kill -9` loses only calls in flight;
a power cut may also lose the last seconds, since the disk is not waited for at each commit.
"""

import fcntl
import hashlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from datagen.client import Reply
from datagen.grid import Body, Request
from schemas.faults import Fault
from schemas.record import Message

VERSION = 1  # of the tables below
WAIT = 60.0  # seconds to wait for another process's commit, which takes a millisecond

TABLES = """
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
) WITHOUT ROWID;
"""


class Attempt(Struct, frozen=True):
    """One call as it went: a line of the journal."""

    at: float
    """When it began, seconds since 1970."""
    latency: float
    """Seconds."""
    status: int | None
    """HTTP status; None if none came."""
    verdict: str
    """`valid`, `bad` for a reply that has to be asked again, or the kind of the failure."""
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


class TopicCount(Struct, frozen=True):
    """What the store holds of one topic, all rounds, models and prompts together."""

    topic: str
    requests: int
    valid: int
    bad: int
    attempts: int
    refused: int
    failed: int
    tokens: int


class Store:
    """An open store. Every method is one short transaction; several processes may have it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.db = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = NORMAL")
            self._create()
        except sqlite3.Error as error:
            raise Fault(f"{path}: {error}; $DATAGEN_STORE names another place") from None

    def close(self) -> None:
        """Close the store; nothing waits to be written."""
        self.db.close()

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

    def record(
        self, request: Request, root: str, turn: int, attempt: Attempt, reply: Reply | None, fault: str | None
    ) -> None:
        """Commit one attempt, with its reply if it brought one; `fault` says what is wrong with the reply."""
        key, body = request.key, request.body
        messages = msgspec.json.encode(body.messages)
        prompt = hashlib.sha256(messages).hexdigest()
        usage = (reply.prompt_tokens, reply.completion_tokens) if reply else (0, 0)
        with self._transaction():
            self.db.execute("INSERT OR IGNORE INTO prompts VALUES (?, ?)", (prompt, messages.decode()))
            self.db.execute(
                "INSERT OR IGNORE INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(key, root, turn, request.topic, request.difficulty, request.type, request.sample, request.round),
                    *(request.endpoint, body.model, body.temperature, body.max_tokens, body.seed, prompt),
                ),
            )
            self.db.execute(
                "INSERT INTO attempts SELECT ?, coalesce(max(n), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ? "
                "FROM attempts WHERE key = ?",
                (
                    *(key, attempt.at, attempt.latency, attempt.status, reply.model if reply else body.model),
                    *(*usage, attempt.verdict, attempt.error, key),
                ),
            )
            if reply:
                self.db.execute(
                    "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (key, reply.content, reply.finish, reply.model, *usage, fault, attempt.at + attempt.latency),
                )

    def find(self, prefix: str, limit: int = 10) -> list[str]:
        """Return the keys of first requests that begin so, or that a re-ask which begins so belongs to."""
        rows = self.db.execute(
            "SELECT DISTINCT root FROM requests WHERE key >= ? AND key < ? || 'g' LIMIT ?", (prefix, prefix, limit)
        )
        return [root for (root,) in rows]

    def conversation(self, root: str) -> list[Asked]:
        """Return a request and the times it was asked again, in order."""
        rows = self.db.execute(
            "SELECT key, turn, topic, difficulty, type, sample, round, endpoint, model, temperature, max_tokens, seed, "
            "messages FROM requests JOIN prompts ON prompt = hash WHERE root = ? ORDER BY turn",
            (root,),
        ).fetchall()
        found = []
        for key, turn, topic, difficulty, type_, sample, round_, endpoint, model, *numbers, messages in rows:
            body = Body(model, msgspec.json.decode(messages, type=tuple[Message, ...]), *numbers)
            attempts = self.db.execute(
                "SELECT at, latency, status, verdict, error FROM attempts WHERE key = ? ORDER BY n", (key,)
            )
            fault = self.db.execute("SELECT fault FROM replies WHERE key = ?", (key,)).fetchone()
            found.append(
                Asked(
                    key=key,
                    turn=turn,
                    request=Request(topic, difficulty, type_, sample, round_, endpoint, body),
                    attempts=tuple(Attempt(*attempt) for attempt in attempts),
                    reply=self.reply(key),
                    fault=fault[0] if fault else None,
                )
            )
        return found

    def counts(self) -> list[TopicCount]:
        """Return what is held of each topic, by slug."""
        rows = self.db.execute(
            """
            SELECT topic, count(*), total(valid), total(bad), total(tried), total(refused), total(failed), total(tokens)
            FROM (
              SELECT topic, requests.key,
                replies.key IS NOT NULL AND fault IS NULL AS valid, fault IS NOT NULL AS bad,
                (SELECT count(*) FROM attempts WHERE attempts.key = requests.key) AS tried,
                (SELECT count(*) FROM attempts WHERE attempts.key = requests.key AND verdict = 'refused') AS refused,
                (SELECT count(*) FROM attempts WHERE attempts.key = requests.key
                 AND verdict NOT IN ('valid', 'bad', 'refused')) AS failed,
                coalesce(replies.prompt_tokens + replies.completion_tokens, 0) AS tokens
              FROM requests LEFT JOIN replies ON replies.key = requests.key
            )
            GROUP BY topic ORDER BY topic
            """
        )
        return [TopicCount(row[0], *(int(number) for number in row[1:])) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            # IMMEDIATE waits for another writer here; a deferred one would fail at its first write instead.
            self.db.execute("BEGIN IMMEDIATE")
            yield
            self.db.execute("COMMIT")
        except sqlite3.OperationalError as error:  # a full disk, a lock that never ends, a folder made read-only
            raise Fault(f"{self.path}: {error}; nothing is asked that could not be kept") from None
        finally:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

    def _create(self) -> None:
        with self._transaction():
            (found,) = self.db.execute("PRAGMA user_version").fetchone()
            if found == 0:
                for statement in TABLES.split(";")[:-1]:
                    self.db.execute(statement)
                self.db.execute(f"PRAGMA user_version = {VERSION}")
            elif found != VERSION:
                raise Fault(
                    f"{self.path}: a store of version {found}, this program reads {VERSION}; update the program"
                )


def place() -> Path:
    """Return where the store is: $DATAGEN_STORE, else .store/ under $DVC_ROOT or the nearest folder with a .dvc.

    DVC sets $DVC_ROOT to the project even in the temporary copy that an experiment runs in.
    """
    if named := os.environ.get("DATAGEN_STORE"):
        return Path(named)
    here = Path.cwd()
    root = os.environ.get("DVC_ROOT") or next((p for p in (here, *here.parents) if (p / ".dvc").is_dir()), here)
    return Path(root) / ".store" / "responses.sqlite"


@contextmanager
def claim(path: Path, topic: str) -> Iterator[None]:
    """Hold a topic, so that no other process asks for it at the same time; Fault that says who has it."""
    lock = path.with_name(f"{topic}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip() or "another process"
            raise Fault(f"{topic} is being asked for by {who}; let it end, or stop it, then run this again") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} ({' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])})")
        file.flush()
        yield  # the lock ends with the file, however the process does
