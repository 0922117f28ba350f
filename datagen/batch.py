"""Ask through OpenAI's Batch API: half the price, an answer within a day, in the store and budget of every other run.

Nothing is submitted twice, wherever a run is killed: each step is in the store before the next is taken, and the next
run goes on from the last.

    begun   its rows are attempts `sent` of run -number         submitted as it stands
    file    the input file is uploaded                          created from that file
    asked   the endpoint is asked to create it: it may exist    looked for by its token in the endpoint's list
    name    its id is known                                     looked at until it has ended, then collected
    ended   every row has its outcome                           what landed before that does not land again

A batch belongs to an asking: all that is submitted from a first batch until none is out. Within it a row is tried as
often as `limits.attempts` allows, over any number of runs.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import click
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from datagen import budget
from datagen.asking import UNBILLED, Interrupted, attempted
from datagen.batch_api import ABSENT, MOST_BYTES, MOST_ROWS, URL, Api, Failed, Line, Problem, Remote, Undone
from datagen.client import HEAD, Failure, Reply, outcome, redact
from datagen.coverage import coverage, total
from datagen.dialogue import Next, replay
from datagen.grid import Request, read
from datagen.limits import PATIENCE, RETRIED
from datagen.settings import EMBEDDED, Price, Teacher, Terms, terms
from datagen.store import Attempt, Batch, Out, OverBudget, Store, Taken, place
from schemas.faults import Fault

SETTLE = 60.0  # seconds within which a batch that was created is taken to be listed
LOOK = 5.0  # seconds between two looks at the list
ENDED = ("completed", "failed", "expired", "cancelled")
UNDONE = {"batch_expired": "expired", "batch_cancelled": "cancelled", "request_timeout": "timeout"}
FREE = (*UNBILLED, "expired", "cancelled")  # of a batch that expires, only "completed requests" are charged for
TRIES = (*RETRIED, "expired")  # the verdicts that use up a try
ENQUEUED = "token_limit_exceeded"  # the code of a batch that failed because too much was out
SHOWN = 3  # errors of an input file that are told


class Row(Struct, frozen=True):
    """A line of an input file."""

    custom_id: str
    body: msgspec.Raw
    method: str = "POST"
    url: str = URL


def line(key: str, request: Request) -> bytes:
    """Return a request as a line of an input file."""
    return msgspec.json.encode(Row(key, msgspec.Raw(request.body.json()))) + b"\n"


def judged(row: Out, found: Line, now: float, secret: str) -> tuple[Attempt, Reply | None]:
    """Return the journal's line on what came of a row, and its reply if it brought one."""
    latency = now - row.at
    if found.response is not None:
        came = outcome(found.response.status_code, {}, bytes(found.response.body), secret)
        return attempted(row.request, row.at, latency, came), came if isinstance(came, Reply) else None
    error = found.error or Undone()
    detail = redact(f"{error.code}: {error.message or 'no message'}", secret)[:HEAD]
    return Attempt(row.at, latency, None, UNDONE.get(error.code or "", "server"), detail), None


def described(problems: list[Problem]) -> str:
    """Return what the endpoint has against an input file, the first few."""
    said = [
        (f"line {problem.line}: " if problem.line else "") + (problem.message or problem.code or "no message")
        for problem in problems[:SHOWN]
    ]
    if len(problems) > SHOWN:
        said.append(f"and {len(problems) - SHOWN} more")
    return "; ".join(said) or "the endpoint does not say why"


class Batches:
    """The batches of an asking at one endpoint."""

    def __init__(
        self,
        api: Api,
        store: Store,
        stream: Callable[[], Iterable[Request]],
        teacher: Teacher,
        reasks: int,
        terms: Terms,
        rows: int,
    ) -> None:
        """`stream` yields the requests, all to one model, anew each time; `rows` is the most that go into a batch."""
        self.api = api
        self.store = store
        self.stream = stream
        self.model = teacher.model
        self.where = teacher.base_url
        self.reasks = reasks
        self.tries = terms.limits.attempts
        self.over = budget.over(terms.budget, terms.prices)
        self.rows = rows
        self.since = store.asking_since(self.where)
        self.short: str | None = None
        """Which bound of the budget keeps requests out."""
        self.prompt_tokens = self.completion_tokens = 0
        """Of the replies collected now."""
        self._more = True  # there may be something to submit
        self._full = False  # the endpoint takes no more until a batch has ended
        self._failing: float | None = None  # since when it does not say how a batch stands
        self._said: dict[int, str] = {}

    def run(self, poll: float | None) -> None:
        """Collect and submit until nothing is out, looking every `poll` seconds, or once.

        Fault if a person has to mend something first.
        """
        while True:
            for batch in self.store.batches(self.where):
                if known := self._submitted(batch):
                    self._look(known, poll)
            if self._more:
                self._submit_rest()
            if poll is None or not self.store.batches(self.where):
                return
            time.sleep(poll)

    def out(self) -> str:
        """Return what is out, in words; nothing if nothing is."""
        return ", ".join(
            f"{self.store.out_in(batch):,} rows in number {batch.number} ({batch.name or 'not known to exist yet'})"
            for batch in self.store.batches(self.where)
        )

    def cost(self, price: Price | None) -> str:
        """Return what the replies collected now have cost: money, or tokens where there is no price."""
        if price is None:
            return f"{self.prompt_tokens + self.completion_tokens:,} tokens"
        return f"cost {price.batch * price.of(self.prompt_tokens, self.completion_tokens):.2f}"

    # --- submitting ----------------------------------------------------------------------------------------------

    def _submit_rest(self) -> None:
        """Submit what is left to ask and not out, as far as the budget and the endpoint allow."""
        self._more = self._full = False
        self.short = None
        todo = self._open()
        while not self._full and self.short is None and (first := next(todo, None)):
            batch = self.store.begin_batch(self.where, self.model, self.since)
            todo = self._fill(batch, chain((first,), todo))
            self._submitted(batch)

    def _open(self) -> Iterator[Next]:
        for request in self.stream():
            state = replay(request, self.reasks, self.store.reply)
            if isinstance(state, Next) and not self.store.out(state.key) and self._may(state.key):
                yield state

    def _may(self, key: str) -> bool:
        """Whether a request may be tried once more in this asking."""
        met = self.store.verdicts(key, self.since)
        return "rejected" not in met and sum(met.get(verdict, 0) for verdict in TRIES) < self.tries

    def _fill(self, batch: Batch, todo: Iterator[Next]) -> Iterator[Next]:
        """Write down the rows of a batch until it or the budget is full; return those that are left."""
        rows = size = 0
        for state in todo:
            size += len(line(state.key, state.request))
            if rows and (rows == self.rows or size > MOST_BYTES):
                return chain((state,), todo)
            try:
                self.store.send(state.request, state.key, state.root, state.turn, time.time(), self.over, batch)
            except Taken:
                continue
            except OverBudget as reason:
                self.short = str(reason)
                break
            rows += 1
        return todo

    def _submitted(self, batch: Batch) -> Batch | None:
        """Bring a batch to where its id is known, from wherever it stands; None if it did not come to be."""
        if batch.name is not None:
            return batch
        if batch.asked is not None:
            batch = self._found(batch)
        rows = self.store.out_in(batch)
        if not rows:
            self.store.end_batch(batch.number, "empty")
            return None
        if batch.name is None:
            try:
                batch = self._created(batch)
            except Failed as failed:
                self._give_back(batch, failed.failure)
                return None
        click.echo(f"batch: number {batch.number} ({batch.name}): {rows:,} rows are out", err=True)
        return batch

    def _created(self, batch: Batch) -> Batch:
        """Have the endpoint create a batch; Failed if it certainly did not."""
        file = batch.file or self._uploaded(batch)
        batch = self._kept(replace(batch, file=file))
        batch = self._kept(replace(batch, asked=time.time()))
        try:
            return self._kept(replace(batch, name=self.api.create(file, batch.token)))
        except Failed as failed:
            if failed.failure.kind not in RETRIED:
                raise
            found = self._found(batch)
            if found.name is None:
                raise
            return found

    def _uploaded(self, batch: Batch) -> str:
        folder = self.store.path.parent
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                for row in self.store.rows(batch):
                    file.write(line(row.key, row.request))
                file.seek(0)
                return self.api.upload(f"batch-{batch.number}.jsonl", file)
        except OSError as error:
            raise Fault(f"{folder}: {error.strerror}; an input file needs up to {MOST_BYTES:,} bytes there") from None

    def _found(self, batch: Batch) -> Batch:
        """Return a batch that the endpoint was asked to create: with its id if it exists, else free to be created.

        Fault if that cannot be told. A batch that the list does not show in time may have been created all the same, or
        be created yet: its input file is deleted first, without which it comes to nothing.
        """
        assert batch.asked is not None
        until = time.monotonic() + min(SETTLE, batch.asked + SETTLE - time.time())
        try:
            while not (name := self.api.find(batch.file, batch.token)) and (left := until - time.monotonic()) > 0:
                self._say(batch, f"whether it was created is not known; looking for it, {SETTLE:.0f} s at most")
                time.sleep(min(LOOK, left))
            if not name:
                if batch.file:
                    self.api.delete(batch.file)
                name = self.api.find(batch.file, batch.token)
        except Failed as failed:
            raise Fault(
                f"batch: whether number {batch.number} was created at {self.where} cannot be told: "
                f"{failed.failure.detail}; nothing is submitted before; the same command finds out"
            ) from None
        return self._kept(replace(batch, name=name) if name else replace(batch, file=None, asked=None))

    def _kept(self, batch: Batch) -> Batch:
        self.store.keep_batch(batch)
        return batch

    # --- collecting ----------------------------------------------------------------------------------------------

    def _look(self, batch: Batch, poll: float | None) -> None:
        """Say how a batch stands, and collect it if it has ended; what may pass is borne for a while."""
        assert batch.name is not None
        try:
            remote = self.api.retrieve(batch.name)
            if remote.status in ENDED:
                self._collect(batch, remote)
            else:
                self._tell(batch, remote)
            self._failing = None
        except Failed as failed:
            failure, now = failed.failure, time.monotonic()
            self._failing = self._failing or now
            passing = failure.kind in (*RETRIED, "refused") and now - self._failing < PATIENCE
            if poll is None or not passing:
                raise Fault(
                    f"batch: number {batch.number} ({batch.name}) at {self.where}: {failure.detail}; the same command "
                    f"goes on, or if it is gone for good, `datagen batch --forget {batch.number}` has its rows paid "
                    "for again"
                ) from None
            self._say(batch, f"{failure.detail}; looking again")

    def _tell(self, batch: Batch, remote: Remote) -> None:
        counts = remote.request_counts
        done = f", {counts.completed:,} of {counts.total:,} done, {counts.failed:,} failed" if counts else ""
        self._say(batch, f"{remote.status}{done}")

    def _say(self, batch: Batch, said: str) -> None:
        """Print a line on a batch if it is not the last one again."""
        if self._said.get(batch.number) != said:
            self._said[batch.number] = said
            click.echo(f"batch: number {batch.number} ({batch.name or batch.token}): {said}", err=True)

    def _collect(self, batch: Batch, remote: Remote) -> None:
        """Land all rows of a batch that has ended; Fault if it ended as none should."""
        if remote.status == "failed":
            problems = (remote.errors and remote.errors.data) or []
            waits = any(problem.code == ENQUEUED for problem in problems)
            self._give_back(batch, Failure("refused" if waits else "rejected", None, described(problems)))
            return
        answered = unread = 0
        for file in (remote.output_file_id, remote.error_file_id):
            for found in self.api.results(file) if file else ():
                answered += found is None or found.response is not None
                unread += found is None
                if found is not None and (row := self.store.row(batch, found.custom_id)):
                    self._land(row, *judged(row, found, time.time(), self.api.key))
        completed = remote.request_counts.completed if remote.request_counts else 0
        if answered < completed:  # or the rest would be paid for again
            raise Failed(Failure("garbled", 200, f"{completed:,} rows are completed, its files hold {answered:,}"))
        # A line that cannot be read may be any row's, and was paid for.
        verdict = "garbled" if unread or remote.status == "completed" else remote.status
        self._land_rest(batch, verdict, f"its batch is {remote.status}, without a line on it that can be read")
        self._end(batch, remote.status)

    def _end(self, batch: Batch, status: str) -> None:
        """End a collected batch and say what came of it; Fault if asking on would bring nothing."""
        outcomes = self.store.outcomes(batch)
        self.store.end_batch(batch.number, status)
        self._more = True
        said = ", ".join(
            f"{count:,} {verdict}" + (f" ({error})" if error and verdict != "bad" else "")
            for verdict, (count, error) in outcomes.items()
        )
        name = f"batch: number {batch.number} ({batch.name})"
        click.echo(f"{name}: {status}: {said}", err=True)
        if status == "cancelled":
            raise Fault(f"{name} was cancelled at {self.where}; the same command asks for what it left undone")
        if "fatal" in outcomes or outcomes.keys() == {"refused"}:
            raise Fault(f"{name}: {self.where} answers no more; the same command goes on")

    def _give_back(self, batch: Batch, failure: Failure) -> None:
        """End a batch that did not run, so that its rows can be asked for; Fault unless others need only end first."""
        self._land_rest(batch, "refused", f"its batch was not taken: {failure.detail}", failure.status)
        self.store.end_batch(batch.number, "not taken")
        if failure.kind == "refused" and (self._more or self.store.batches(self.where)):
            self._full = True
            self._say(batch, f"not taken, waits for others to end: {failure.detail}")
            return
        if failure.status in ABSENT:
            raise Fault(absent(self.where))
        raise Fault(
            f"batch: {self.where} did not take number {batch.number}: {failure.detail}; its rows are not out any more"
        )

    def _land(self, row: Out, attempt: Attempt, reply: Reply | None) -> None:
        billed = attempt.verdict not in FREE
        self.store.land(row.request, row.key, row.n, attempt, reply, billed=billed, way="batch")
        if reply:
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens

    def _land_rest(self, batch: Batch, verdict: str, why: str, status: int | None = None) -> None:
        for row in self.store.rows(batch):
            self._land(row, Attempt(row.at, time.time() - row.at, status, verdict, why), None)


def absent(where: str) -> str:
    """Return what to say of an endpoint that offers no batches."""
    return f"batch: {where} has no Batch API; use `datagen fetch`"


def _run(batches: Batches, poll: float | None) -> None:
    try:
        if not batches.api.probe():
            raise Fault(absent(batches.where))
        batches.run(poll)
    except Failed as failed:
        raise Fault(f"batch: {batches.where}: {failed.failure.detail}") from None
    except KeyboardInterrupt:
        out = batches.out()
        left = f"{out}; the same command collects them" if out else "nothing is out; the same command goes on"
        raise Interrupted(f"batch: interrupted; {left}") from None


def _forget(store: Store, number: int) -> None:
    if not store.alive(-number):
        raise Fault(f"batch: number {number} is not out")
    lost = store.end_batch(number, "forgotten")
    click.echo(f"batch: number {number} is forgotten; its {lost:,} rows count as paid for, and can be asked", err=True)


@click.command()
@click.argument("topic", nargs=-1)
@click.option("--rows", type=click.IntRange(1, MOST_ROWS), default=MOST_ROWS, show_default=True, help="Most a batch.")
@click.option(
    "--poll",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("--no-wait", is_flag=True, help="Collect what has ended, submit what is left, and leave.")
@click.option("--forget", type=click.IntRange(1), metavar="NUMBER", help="Give up a batch that the endpoint has lost.")
def main(topic: tuple[str, ...], rows: int, poll: float, no_wait: bool, forget: int | None) -> None:
    """Ask for what the store lacks of each TOPIC, of all of them if none is named, through the Batch API."""
    grid, setting = read(topic), terms()
    teacher, reasks = grid.teacher, grid.params.reasks
    if teacher.base_url == EMBEDDED:
        raise Fault("batch: the embedded teacher costs nothing and answers at once; use `datagen fetch`")
    with Store(place()) as store, store.batching():
        if forget is not None:
            _forget(store, forget)
            return
        for number, where in store.batches_elsewhere(teacher.base_url):
            click.echo(f"batch: number {number} is out at {where}; with that base_url this collects it", err=True)
        before = after = total(coverage(grid.requests(), reasks, store).values())
        cost, short = "cost 0.00", None
        if before.open or store.batches(teacher.base_url):
            budget.priced(setting.budget, setting.prices, {teacher.model, *(spent.model for spent in store.spent())})
            api = Api(teacher, setting.limits.timeout)
            batches = Batches(api, store, grid.requests, teacher, reasks, setting, rows)
            if lost := store.lose_dead():
                click.echo(f"batch: {lost} calls were out when a run was killed; they may have been billed", err=True)
            _run(batches, None if no_wait else poll)
            after, short = total(coverage(grid.requests(), reasks, store).values()), batches.short
            if out := batches.out():
                left = f"{short}, so that others stay out; " if short else ""
                click.echo(f"batch: {out}; {left}the same command collects them", err=True)
                return
            cost = batches.cost(setting.prices.get(teacher.model))
    click.echo(
        f"batch: {after.valid:,} of {after.wanted:,} valid, {after.rejected:,} rejected, "
        f"{after.open:,} without a reply, {after.done - before.done:,} asked now, {cost}",
        err=True,
    )
    if short:
        raise Fault(f"batch: {short}; raise it in params.yaml to go on; {after.open:,} of {after.wanted:,} are left")
