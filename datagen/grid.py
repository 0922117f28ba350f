"""The grid: topic × difficulty × type × sample, as a lazy stream of requests in that order.

A request has the round of its topic. One that datagen/again.jsonl lists, because curation dropped its reply, has the
round after that reply's, if that is later: another key and another seed, and the reply that was dropped stays paid for.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from datagen import prompts, settings
from datagen.settings import EMBEDDED, Teacher
from datagen.teacher.mathematics.compose import TOPICS as MATHEMATICS
from datagen.teacher.sheets import FACTS
from schemas import chain, formula, mathematics, rows
from schemas.chat import commission
from schemas.faults import Fault
from schemas.params import AuthorPrompt, Count, Params, Share, Topic, Wording, load, nearest, topics
from schemas.record import Again, Message

# What a question of the embedded teacher depends on, and what it says about one depends on beside that.
TEACHER = ("answer.py", "chains.py", "compose.py", "forms.py", "frames.py", "reasons.py", "replies.py", "sheets.py")
TEACHER_ABOUT = ("contrast.py", "improve.py", "review.py", "translate.py", "vary.py")
# The same for a topic of mathematics, which has no fact sheet.
MATHEMATICIAN = (
    "replies.py",
    *(f"mathematics/{topic}.py" for topic in MATHEMATICS),
    *(f"mathematics/{name}.py" for name in ("compose", "forms", "problems", "replies")),
)
MATHEMATICIAN_ABOUT = (*TEACHER_ABOUT, "mathematics/about.py", formula.__file__, mathematics.__file__)
AGAIN = Path("datagen/again.jsonl")  # under git; `datagen again` writes it
SAMPLES = 2**20  # a seed is round * SAMPLES + sample; the embedded teacher counts in the same way


Dropped = Mapping[tuple[str, str, str], Mapping[int, int]]
"""By topic, difficulty and type, then by sample: the round whose reply curation dropped."""


class Generate(Params, frozen=True):
    """What the teacher is asked to write."""

    teacher: str
    """A key of `teachers`."""
    prompt: Literal["write", "author"]
    """write: templates/write.j2, which says all that a question must have; author: `prompts.author`, the few words that
    an author of one's own was trained on."""
    chain: Literal["full", "short"]
    """full: the whole chain of thought; short: one sentence a part; `author` writes what it has learnt."""
    reasks: Count
    """Times a bad reply is asked again with its error."""
    min_yield: Share
    """Share of valid replies below which the run fails."""


class Axes(Struct, frozen=True):
    """What every topic is crossed with, by slug."""

    difficulties: dict[str, Wording]
    types: dict[str, Wording]

    def cells(self) -> int:
        """The number of cells of one topic."""
        return len(self.difficulties) * len(self.types)


class Body(Struct, frozen=True, omit_defaults=True):
    """What is sent: the JSON body of POST /chat/completions."""

    model: str
    messages: tuple[Message, ...]
    temperature: float
    max_tokens: int
    seed: int
    extra: dict[str, Any] = {}
    """Fields that this endpoint takes beside these."""

    def json(self) -> bytes:
        """Return it as it is sent, `extra` among the other fields."""
        if not self.extra:
            return msgspec.json.encode(self)
        return msgspec.json.encode(msgspec.to_builtins(replace(self, extra={})) | self.extra)


class Request(Struct, frozen=True, omit_defaults=True):
    """One call: its place in the grid, whom it goes to, and what is sent."""

    topic: str
    difficulty: str
    type: str
    sample: int
    round: int
    endpoint: str
    """The URL, or for the embedded teacher its fingerprint: what the same body was answered by."""
    body: Body
    kind: str = "write"
    """What is asked for, a key of `kinds.KINDS`."""
    subject: str = ""
    """The id of the record that is asked about; none for `write`."""

    @property
    def key(self) -> str:
        """The SHA-256 of all of the above as canonical JSON: equal requests are paid for once."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def requests(
    chosen: dict[str, Topic],
    axes: Axes,
    params: Generate,
    teacher: Teacher,
    answers: Callable[[str], str],
    dropped: Dropped,
    author: AuthorPrompt | None = None,
) -> Iterator[Request]:
    """Yield the requests of the chosen topics in grid order; `answers` names what replies for a topic.

    `author`: what an author of one's own is told, in place of the template.
    """
    full = params.chain == "full"
    for topic in chosen.items():
        slug, wanted = topic
        endpoint_ = answers(slug)
        for difficulty in axes.difficulties.items():
            for type_ in axes.types.items():
                if author:
                    messages = commission(author, wanted.name, difficulty[1].name, type_[1].name)
                else:
                    messages = prompts.write(topic, difficulty, type_, full=full)
                again = dropped.get((slug, difficulty[0], type_[0]), {})
                for sample in range(wanted.samples):
                    round_ = max(wanted.round, again.get(sample, -1) + 1)
                    body = Body(
                        model=teacher.model,
                        messages=messages,
                        temperature=teacher.temperature,
                        max_tokens=teacher.max_tokens,
                        seed=round_ * SAMPLES + sample,
                        extra=teacher.extra,
                    )
                    yield Request(slug, difficulty[0], type_[0], sample, round_, endpoint_, body)


def listed(path: Path = AGAIN) -> list[Again]:
    """Return the replies that curation dropped and that are to be asked for again, none if there is no such file.

    Fault `PATH:LINE: what is wrong`, also for a request that is there twice.
    """
    found: dict[tuple[str, str, str, int], Again] = {}
    for number, row in enumerate(rows.read(path, Again) if path.exists() else (), 1):
        place = (row.topic, row.difficulty, row.type, row.sample)
        if found.setdefault(place, row) is not row:
            cell = " / ".join(place[:3])
            raise Fault(f"{path}:{number}: sample {row.sample} of {cell} is there twice; keep the later round")
    return list(found.values())


def rounds(dropped: Iterable[Again]) -> Dropped:
    """Return the rounds of dropped replies by their place in the grid."""
    found: dict[tuple[str, str, str], dict[int, int]] = {}
    for row in dropped:
        found.setdefault((row.topic, row.difficulty, row.type), {})[row.sample] = row.round
    return found


def endpoint(teacher: Teacher, kind: str = "write", facts: Path = FACTS) -> Callable[[str], str]:
    """Return what names the answering endpoint of a topic: the URL, or `embedded:` and a hash of what it knows.

    The hash covers the teacher's sources, the way a chain is written and the topic's fact sheet, so that a reply from
    an older teacher is never taken for one from this. The sources are those that the topic is answered by: mathematics
    knows nothing of fact sheets, nor they of it.
    """
    if teacher.base_url != EMBEDDED:
        return lambda topic: teacher.base_url

    def known_by(names: tuple[str, ...], about: tuple[str, ...]) -> bytes:
        files = [facts.parent / name for name in (names if kind == "write" else names + about)]
        return b"\0".join(path.read_bytes() for path in (*files, Path(chain.__file__)))

    of_facts, of_mathematics = known_by(TEACHER, TEACHER_ABOUT), known_by(MATHEMATICIAN, MATHEMATICIAN_ABOUT)

    def fingerprint(topic: str) -> str:
        known = hashlib.sha256(of_mathematics if topic in MATHEMATICS else of_facts)
        sheet = facts / f"{topic}.yaml"
        if sheet.exists():
            known.update(sheet.read_bytes())
        return f"{EMBEDDED}:{known.hexdigest()[:16]}"

    return fingerprint


class Grid(Struct, frozen=True):
    """All that params.yaml says of the questions to write."""

    topics: dict[str, Topic]
    axes: Axes
    params: Generate
    teacher: Teacher
    answers: Callable[[str], str]
    dropped: Dropped
    """What is asked again; a place that is no longer in the grid is passed over."""
    author: AuthorPrompt | None
    """What an author of one's own is told; None: the teacher is told what templates/write.j2 says."""

    def requests(self) -> Iterator[Request]:
        """Yield every request, in grid order."""
        return requests(self.topics, self.axes, self.params, self.teacher, self.answers, self.dropped, self.author)

    def round(self, row: Again) -> int | None:
        """Return the round in which the request of a row is asked, None if the grid has no such request."""
        topic = self.topics.get(row.topic)
        known = row.difficulty in self.axes.difficulties and row.type in self.axes.types
        if topic is None or not known or row.sample >= topic.samples:
            return None
        return max(topic.round, self.dropped.get((row.topic, row.difficulty, row.type), {}).get(row.sample, -1) + 1)

    def sizes(self) -> dict[str, int]:
        """The number of requests of each topic."""
        return {slug: self.axes.cells() * topic.samples for slug, topic in self.topics.items()}


def read(only: Iterable[str] = (), path: Path | str = "params.yaml") -> Grid:
    """Return the grid of params.yaml, and of AGAIN beside it, or of the named topics alone.

    Fault for an unknown topic, which gives the nearest, and where the embedded teacher is to be told what an author is.
    """
    known = topics(path)
    chosen = {name: known.get(name) or _unknown(name, known, path) for name in only} or known
    axes = Axes(load("difficulties", dict[str, Wording], path), load("types", dict[str, Wording], path))
    params = load("generate", Generate, path)
    asked = settings.teacher(params.teacher, path)
    author = load("prompts.author", AuthorPrompt, path) if params.prompt == "author" else None
    if author and asked.base_url == EMBEDDED:
        raise Fault(
            f"{path}: generate.prompt: 'author' is for a model trained on `prompts.author`; {params.teacher} is the "
            "embedded teacher; put 'write', or name another teacher"
        )
    return Grid(chosen, axes, params, asked, endpoint(asked), rounds(listed(Path(path).parent / AGAIN)), author)


def _unknown(name: str, known: Iterable[str], path: Path | str) -> NoReturn:
    raise Fault(f"{path}: topics.{name}: no such topic; {nearest(name, known, 'topics')}")
