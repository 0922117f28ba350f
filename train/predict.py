"""Let a trained model answer the test questions, in batches, going on where an interrupted run stopped.

model folder (or a name on the Hub), test file (CSV) → predictions (JSONL), metrics.

With `workers.ray` set the batches are dealt out to one worker for each GPU of the cluster, or on one without GPUs to
`workers.processes` of them. The replies are the same. A model in a folder has to lie under the same path on every node.
"""

import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from schemas import rows
from schemas.chat import ask
from schemas.cluster import cluster, said
from schemas.faults import Fault
from schemas.params import ChatPrompt, Params, Positive, load
from schemas.record import LETTERS, Letter, Message, Prediction
from train import generate, submission
from train import model as models
from train.answers import NONE, answer
from train.generate import Batch, Engine, Sampling
from train.likelihood import mass, spelling
from train.memory import memory
from train.workplace import running, workplace

LIKELIHOOD = "likelihood"
"""The strategy of an answer for which nothing was generated."""
MEMORY = 256 << 20
"""Bytes for what is under way on a Ray of our own."""
By = Literal["reply", "likelihood"]


class AnswerParams(Sampling, frozen=True):
    """How a model answers."""

    votes: Positive
    """Replies per question; the letter most of them give wins, the first of its replies stands for it."""
    engine: Engine
    dtype: Literal["float32", "bfloat16", "float16"]
    quantize: models.Quantize


class PredictParams(AnswerParams, frozen=True):
    """How one variant answers."""

    prompt: str
    """The key of the section `prompts` that the variant was trained with."""
    by: By
    """What makes the answer: the letter found in a reply, or the likeliest of the four as its first token."""


class Workers(Params, frozen=True):
    """Where batches are answered; changes no data, so no stage depends on it."""

    processes: Positive | None
    """On a cluster without GPUs; null: as many as this machine has cores."""
    ray: str | None
    """`local` for a Ray of our own, or the address of a cluster (auto, ray://head:10001); null: this process alone."""


class Reply(msgspec.Struct, frozen=True):
    """One reply as generated, on its way."""

    vote: int
    index: int
    text: str


class Task(msgspec.Struct, frozen=True):
    """A batch to be answered, for the first time or for another vote."""

    vote: int
    batch: Batch


class Done(msgspec.Struct, frozen=True):
    """What became of a task."""

    replies: list[Reply]
    notes: list[str]
    """What a person should know of it."""
    memory: dict[str, float] | None


class Plan(msgspec.Struct, frozen=True):
    """How the questions are put."""

    batches: list[Batch]
    size: int
    why: str
    """Why batches are of this size."""


class Answerer:
    """A model and the chats that it is to answer, here or as an actor of Ray's; it loads when it is first asked."""

    def __init__(self, params: AnswerParams, by: By, model: str, chats: Sequence[Sequence[Message]]) -> None:
        self.params, self.by, self.model, self.chats = params, by, model, chats
        self.notes: list[str] = []

    @cached_property
    def loaded(self) -> tuple[generate.Speak, list[list[int]], int, str]:
        """How the model replies, the tokens of the prompts, how many of them are answered at a time, and why."""
        params, path = self.params, self.model
        models.quiet(local=models.is_local(path))
        if params.engine == "vllm":
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(path)
            asked = models.token_ids(tokenizer, models.asking(self.chats, tokenizer))
            speak = generate.vllm(path, params.dtype, params.quantize, params, max(map(len, asked), default=0))
            return speak, asked, params.batch_size or generate.VLLM, "vLLM makes batches of its own"
        source = models.Source(model=None, dtype=params.dtype, quantize=params.quantize, lora=None)
        network, tokenizer = models.load(source, path, train=False)
        asked = models.token_ids(tokenizer, models.asking(self.chats, tokenizer))
        if self.by == LIKELIHOOD:
            speak = spelling(network, tokenizer)
        else:
            speak = generate.speaking(network, tokenizer, params.engine)
        return generate.halving(speak, self.notes.append), asked, *generate.batch_size(network, asked, params)

    def plan(self) -> Plan:
        """Return how the chats are divided."""
        _, asked, size, why = self.loaded
        return Plan(generate.batches(asked, size), size, why)

    def answer(self, task: Task) -> Done:
        """Reply to a batch of the chats."""
        speak, asked, _, _ = self.loaded
        sampling = msgspec.structs.replace(self.params, seed=self.params.seed + 1_000_003 * task.vote)
        found = [Reply(task.vote, *pair) for pair in generate.replies(speak, asked, task.batch, sampling)]
        notes = self.notes.copy()
        self.notes.clear()
        return Done(found, notes, None if self.params.engine == "vllm" else memory())


Answer = Callable[[Iterable[Task]], Iterator[Done]]


@contextmanager
def at_hand(
    workers: Workers, params: AnswerParams, by: By, model: str, chats: Sequence[Sequence[Message]]
) -> Iterator[tuple[Plan, Answer]]:
    """Give the plan of what is asked, and how tasks are answered, in whichever order: here, or on a cluster."""
    if workers.ray is None:
        one = Answerer(params, by, model, chats)
        yield one.plan(), lambda tasks: map(one.answer, tasks)
        return
    processes = workers.processes or os.cpu_count() or 1
    with cluster(None if workers.ray == "local" else workers.ray, processes, memory=MEMORY, hidden={}):
        import ray
        from ray.exceptions import RayError, RayTaskError

        free = ray.available_resources()
        on_gpus = "GPU" in ray.cluster_resources()
        count = int(free.get("GPU", 0)) if on_gpus else min(processes, int(free.get("CPU", 0)))
        if count < 1:
            click.echo(f"workers.ray: no {'GPU' if on_gpus else 'CPU'} of the cluster is free; waiting for one")
        start = ray.remote(num_cpus=1, num_gpus=int(on_gpus))(Answerer).remote
        given = (params, by, model, ray.put(chats))
        first = start(*given)
        try:
            plan = ray.get(first.plan.remote())
            most = min(count, len(plan.batches) * params.votes)
            team = [first, *(start(*given) for _ in range(most - 1))]
            yield plan, lambda tasks: dealt(tasks, team)
        except RayTaskError as error:
            if isinstance(error.cause, Fault):
                raise Fault(error.cause.message) from None
            raise
        except RayError as error:
            raise Fault(f"workers.ray: {said(error)}; run the command again") from None


def dealt(tasks: Iterable[Task], team: Iterable[Any]) -> Iterator[Done]:
    """Yield what comes of the tasks, as it comes; each worker has one at a time.

    A task whose worker died is given to another, once; Fault if that one dies too, or if none is left.
    """
    import ray
    from ray.exceptions import RayActorError

    left, idle = deque(tasks), list(team)
    lost: set[Task] = set()
    under_way: dict[Any, tuple[Any, Task]] = {}
    why = "none was given"
    while left or under_way:
        while left and idle:
            worker, task = idle.pop(), left.popleft()
            under_way[worker.answer.remote(task)] = worker, task
        if not under_way:
            raise Fault(f"workers.ray: every worker has died ({why}); the same command goes on from here")
        (ready,), _ = ray.wait(list(under_way), num_returns=1)
        worker, task = under_way.pop(ready)
        try:
            yield ray.get(ready)
        except RayActorError as error:
            if task in lost:
                raise Fault(f"workers.ray: two workers died of one batch: {said(error)}") from None
            lost.add(task)
            why = said(error)
            left.appendleft(task)
            click.echo(f"a worker died; its batch of {len(task.batch.indexes)} goes to another")
            continue
        idle.append(worker)


def predictions(ids: Sequence[str], replies: Iterable[Reply], by: By = "reply") -> list[tuple[Prediction, float]]:
    """Return one prediction per question, in order, by majority, and the share of the votes that are for it.

    Of letters with equal votes the first given wins. A reply without a letter is a vote for none: it outvotes nobody,
    but counts among the votes.
    """
    by_question: list[list[Prediction]] = [[] for _ in ids]
    for reply in sorted(replies, key=lambda r: (r.index, r.vote)):
        id = ids[reply.index]
        letter, strategy = read(reply.text) if by == LIKELIHOOD else answer(reply.text, id)
        by_question[reply.index].append(Prediction(id=id, response=reply.text, answer=letter, strategy=strategy))
    made = []
    for given in by_question:
        found = [p for p in given if p.strategy != NONE]
        ((most, votes),) = Counter(p.answer for p in found or given).most_common(1)
        winner = next(p for p in found or given if p.answer == most)
        made.append((winner, votes / len(given) if found else 0.0))
    return made


def read(text: str) -> tuple[Letter, str]:
    """Return the likeliest letter of what `spelling` wrote, and the strategy."""
    return LETTERS["ABCD".index(text[0])], LIKELIHOOD


def kept(path: Path) -> list[Reply]:
    """Return the replies of an interrupted run; a last line that a kill cut off is dropped."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    path.write_bytes(whole)
    return [msgspec.json.decode(line, type=Reply) for line in whole.splitlines()]


class Answered(msgspec.Struct, frozen=True):
    """What a model answered, and what it took."""

    predictions: list[Prediction]
    """One a question, in order."""
    agreement: list[float]
    """The share of its votes that each is given by."""
    votes: int
    reused: int
    """Replies of an interrupted run."""
    batch: int
    """Questions answered at a time."""
    load_seconds: float
    seconds: float
    memory: dict[str, float] | None
    """Of the worker that took most."""

    def strategies(self) -> dict[str, int]:
        """Return how often each rung of the ladder found the answer."""
        return dict(sorted(Counter(made.strategy for made in self.predictions).items()))

    def letters(self) -> float | None:
        """Return the mean probability that a reply begins with a letter; None where replies were generated."""
        found = [mass(made.response) for made in self.predictions if made.strategy == LIKELIHOOD]
        return round(sum(found) / len(found), 4) if found else None

    def metrics(self) -> dict[str, Any]:
        """Return the figures that every metrics file about answers holds."""
        strategies = self.strategies()
        count = max(1, len(self.predictions))
        characters = sum(len(made.response) for made in self.predictions)
        return {
            "n": len(self.predictions),
            "strategies": strategies,
            "unanswered": strategies.get(NONE, 0),
            "agreement": round(sum(self.agreement) / count, 4) if self.votes > 1 else None,
            "letters": self.letters(),
            "characters_mean": round(characters / count, 1),
            "reused": self.reused,
            "batch": self.batch,
            "load_seconds": round(self.load_seconds, 1),
            "seconds": round(self.seconds, 1),
            "memory": self.memory,
        }


def check(stage: str, params: AnswerParams, by: By) -> None:
    """Fault for params that would do nothing, or not what they say."""
    where = f"params.yaml: {stage.replace('@', '.')}"
    if params.votes > 1 and not params.temperature:
        raise Fault(f"{where}.votes: {params.votes} greedy replies are the same; raise temperature, or set votes: 1")
    if by == LIKELIHOOD and (params.votes > 1 or params.engine == "vllm"):
        raise Fault(f"{where}.by: likelihood takes votes: 1 and engine: transformers")


@contextmanager
def answered(
    stage: str,
    params: AnswerParams,
    model: str,
    ids: Sequence[str],
    chats: Sequence[Sequence[Message]],
    by: By = "reply",
) -> Iterator[Answered]:
    """Give the model's answers to the chats, going on where a run with the same params, chats and model was stopped.

    Its replies are kept until the block ends well.
    """
    check(stage, params, by)
    place = workplace(stage, (params, chats, model), [Path(model)])
    where = str(Path(model).resolve()) if models.is_local(model) else model
    with running(place):
        began = time.monotonic()
        replies = kept(file := place / "replies.jsonl")
        reused = len(replies)
        greatest: dict[str, float] | None = None
        with at_hand(load("workers", Workers), params, by, where, chats) as (plan, answers):
            if params.batch_size is None:
                click.echo(f"{stage}: {plan.size} questions at a time: {plan.why}")
            done = {(reply.vote, reply.index) for reply in replies}
            left = [
                Task(vote, batch)
                for vote in range(params.votes)
                for batch in plan.batches
                if not all((vote, n) in done for n in batch.indexes)
            ]
            loaded = time.monotonic()
            with open(file, "ab") as log:
                for made in answers(left):
                    for note in made.notes:
                        click.echo(f"{stage}: {note}")
                    _keep(made.replies, log, file)
                    replies += made.replies
                    greatest = max(filter(None, (greatest, made.memory)), key=lambda m: m["peak_gib"], default=None)
            seconds = time.monotonic() - loaded
        found = predictions(ids, {(r.vote, r.index): r for r in replies}.values(), by)
        yield Answered(
            predictions=[made for made, _ in found],
            agreement=[share for _, share in found],
            votes=params.votes,
            reused=reused,
            batch=plan.size,
            load_seconds=loaded - began,
            seconds=seconds,
            memory=greatest,
        )
        shutil.rmtree(place)


def _keep(replies: Iterable[Reply], log: Any, path: Path) -> None:
    try:
        log.write(b"".join(msgspec.json.encode(reply) + b"\n" for reply in replies))
        log.flush()
        os.fsync(log.fileno())
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; make room, and the same command goes on from here") from None


@click.command(help=__doc__.partition("\n")[0])
@click.argument("variant")
@click.argument("model")
@click.argument("test", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(variant: str, model: str, test: Path, out: Path, metrics: Path) -> None:
    """Answer TEST with MODEL as the section predict.VARIANT says."""
    params = load(f"predict.{variant}", PredictParams)
    prompt = load(f"prompts.{params.prompt}", ChatPrompt)
    asked = submission.questions(test)
    chats = [ask(prompt, question.question, question.options) for question in asked]
    ids = [question.id for question in asked]
    with answered(f"predict@{variant}", params, model, ids, chats, params.by) as found:
        rows.write(out, found.predictions)
        rows.write_json(metrics, found.metrics())
    click.echo(
        f"predict@{variant}: {len(ids):,} answers in {found.seconds:.1f} s ({found.reused} kept), "
        f"found by {found.strategies()}"
    )
    if (letters := found.letters()) is not None and letters < 0.5:
        click.echo(f"predict@{variant}: a reply begins with a letter {letters:.1%} of the time; set by: reply")


if __name__ == "__main__":
    main()
