"""A stage's work cut into chunks and spread over processes, here or on a Ray cluster.

A chunk is a piece of a JSONL file, whole lines, cut by size and never by the number of workers; what is made of one
depends on nothing else; and results come back in the order of the chunks. So the bytes a stage writes are the same with
one process, with several and on a cluster. Bytes go to a worker and come back from it: only this process reads and
writes files, and the nodes of a cluster need no disk in common. At most a few chunks are under way, so memory does not
grow with the file.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct, defstruct

from schemas.cluster import cluster, said
from schemas.faults import Fault
from schemas.params import SLUG, Params, Positive, load
from schemas.rows import decoded, opened

SIZE = 512 << 10  # bytes of a chunk; of larger ones a row costs up to a fifth more, page faults for the most part
FEW = 64  # chunks; so many are done here before other processes would be of help
AHEAD = 2  # chunks under way for each worker
MEMORY = 256 << 20  # bytes for the chunks under way on a Ray of our own

SLUGS = ("topic", "difficulty", "type")
_WORK: list[Callable[[Any], Any]] = []
"""What this process was begun for, if it is one of several."""

R = TypeVar("R", bound=Struct)
S = TypeVar("S")
T = TypeVar("T")


class WorkersParams(Params, frozen=True):
    """Where the stages of `curate` do their work; changes no data, so no stage depends on it."""

    processes: Positive | None
    """At once; null: as many as there are cores."""
    ray: str | None
    """`local` for a Ray of our own, or the address of a cluster (auto, ray://head:10001); null: processes here."""


class Chunk(Struct, frozen=True):
    """Whole lines of a JSONL file."""

    path: str
    line: int
    """The number of its first line in the file, from 1."""
    data: bytes

    def lines(self) -> list[bytes]:
        """Return the lines, without their ends."""
        lines = self.data.split(b"\n")
        return lines if lines[-1] else lines[:-1]

    def rows(self, row: type[R]) -> Iterator[R]:
        """Yield the rows; Fault `PATH:LINE: what is wrong` at the first bad one."""
        return decoded(self.path, self.line, self.lines(), row)

    def quickly(self, row: type[R]) -> list[R]:
        """Return what `rows` yields, in a fourth less time: read in one go, each slug looked at once.

        They are of a subclass of `row`, so that none equals a row that was made otherwise.
        """
        try:
            found = msgspec.json.Decoder(_unchecked(row)).decode_lines(self.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = []
        slugs = {getattr(one, name) for one in found for name in SLUGS}
        # In one go a blank line is passed over, and a row may take several.
        if len(found) == len(self.lines()) and all(map(SLUG.fullmatch, slugs)):
            return found
        return list(self.rows(row))  # names the line


@cache
def _unchecked(row: type[R]) -> type[R]:
    """Return a type of row whose slugs are still to be looked at, since their patterns take that fourth."""
    return cast(type[R], defstruct(row.__name__, [(name, str) for name in SLUGS], bases=(row,), kw_only=True))


def chunks(path: Path | str, size: int = SIZE) -> Iterator[Chunk]:
    """Yield a file as chunks of about `size` bytes, in order; a longer line is a chunk of its own."""
    number = 1
    with opened(path) as file:
        while data := file.read(size):
            if not data.endswith(b"\n"):
                data += file.readline()
            yield Chunk(str(path), number, data)
            number += data.count(b"\n")


def spread(work: Callable[[S], T], pieces: Iterable[S], workers: WorkersParams | None = None) -> Iterator[T]:
    """Yield `work(piece)` for each piece, in their order, a few at a time under way.

    `work` is a function of a module, or a `functools.partial` of one, and depends on its arguments alone. A Fault that
    it raises is raised here.
    """
    workers = workers or load("workers", WorkersParams)
    processes = workers.processes or os.cpu_count() or 1
    pieces = iter(pieces)
    if workers.ray is not None:
        return _on_ray(work, pieces, processes, workers.ray)
    first = list(islice(pieces, FEW + 1))
    pieces = chain(first, pieces)
    if processes == 1 or len(first) <= FEW:
        return map(work, pieces)
    return _here(work, pieces, processes)


def _here(work: Callable[[S], T], pieces: Iterator[S], processes: int) -> Iterator[T]:
    # spawn: a forked child of a process with threads (pyarrow's, numpy's) may hang on a lock that nobody holds.
    # The work goes to each process once, not with each piece: it may hold much, such as the questions of all tests.
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=(work,)) as pool:
        try:
            yield from _in_order(pieces, processes, lambda piece: pool.submit(_do, piece), lambda task: task.result())
        except BrokenProcessPool:
            raise Fault(
                "workers: a process died, killed from outside or for want of memory; set workers.processes lower"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(work: Callable[[S], T]) -> None:
    """Have this process do this work, and end with its parent."""
    _WORK[:] = [work]
    _end_with_parent()


def _do(piece: Any) -> Any:
    return _WORK[0](piece)


def _end_with_parent() -> None:
    """Have this process end when its parent does, even one that was killed."""
    parent = parent_process()
    assert parent is not None, "a worker is a child"

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _on_ray(work: Callable[[S], T], pieces: Iterator[S], processes: int, address: str) -> Iterator[T]:
    with cluster(None if address == "local" else address, processes, memory=MEMORY, hidden={}):
        import ray
        from ray.exceptions import RayError, RayTaskError

        task = ray.remote(num_cpus=1)(work_on)
        shared = ray.put(work)
        try:
            yield from _in_order(pieces, processes, lambda piece: task.remote(shared, piece), ray.get)
        except RayTaskError as error:
            if isinstance(error.cause, Fault):
                raise Fault(error.cause.message) from None
            raise
        except RayError as error:
            raise Fault(f"workers.ray: {said(error)}; run the stage again") from None


def work_on(work: Callable[[S], T], piece: S) -> T:
    """Return `work(piece)`: what a task on a cluster runs."""
    return work(piece)


def _in_order(pieces: Iterator[S], processes: int, begin: Callable[[S], Any], end: Callable[[Any], T]) -> Iterator[T]:
    under_way: deque[Any] = deque()
    for piece in pieces:
        under_way.append(begin(piece))
        if len(under_way) >= AHEAD * processes:
            yield end(under_way.popleft())
    while under_way:
        yield end(under_way.popleft())
