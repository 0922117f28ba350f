"""The rows that cross a stage boundary, as frozen types.

`*.schema.json` beside this file is the same contract for other languages; a test holds the two together.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Letter = Literal["A", "B", "C", "D"]
LETTERS: tuple[Letter, ...] = ("A", "B", "C", "D")

Slug = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Text = Annotated[str, Meta(min_length=1)]
Options = tuple[Text, Text, Text, Text]
Mark = Annotated[int, Meta(ge=1, le=5)]

Variation = Literal["context_change", "parameter_change", "practical_application"]
Flaw = Literal["wrong", "biased"]
PairType = Literal["wrong_answer", "biased", "lower_judged", "student_error", "format"]
Side = Literal["train", "rollout", "validation", "test", "author"]
Language = Literal["en", "zh_hant", "zh_hans"]
How = Annotated[
    str,
    Meta(
        pattern=r"^(improve|vary:(context_change|parameter_change|practical_application)|contrast:(wrong|biased)"
        r"|translate:(en|zh_hant|zh_hans))$"
    ),
]


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A line of a JSONL file: frozen, closed, every field named. None holds itself, so none need be collected."""


class Response(Row, frozen=True):
    """One settled request: what the teacher finally replied, or why there is nothing."""

    id: Text
    """The first 16 hex digits of the request's key in the response store."""
    topic: Slug
    difficulty: Slug
    type: Slug
    sample: Annotated[int, Meta(ge=0)]
    round: Annotated[int, Meta(ge=0)]
    teacher: Text
    """Model and endpoint that replied."""
    content: str
    """The last reply, as it came."""
    fault: str | None
    """Why the loop gave up asking, or None for a valid reply."""


class Item(Row, frozen=True):
    """A question with its options, its chain of thought and its answer: what one reply holds."""

    question: Text
    options: Options
    """The texts of options A to D."""
    think: str
    steps: Annotated[tuple[Text, ...], Meta(min_length=1)]
    reflection: str
    adjustment: str | None
    answer: Letter


class Record(Item, frozen=True):
    """A question of the bank: an item, where it belongs and where it came from."""

    id: Text
    topic: Slug
    difficulty: Slug
    type: Slug
    teacher: Text
    repairs: tuple[str, ...]
    """What was mended in the reply, in order."""

    def text(self, letter: Letter) -> str:
        """The text of one option."""
        return self.options[LETTERS.index(letter)]


class Reject(Row, frozen=True):
    """A row that was dropped, kept with its reason."""

    id: Text
    topic: Slug
    stage: Text
    reason: Text
    """A code from a closed list of its stage."""
    detail: str
    """What a person needs to understand the reason; for a duplicate, its similarity and key."""
    kept: str | None
    """For a duplicate, the id of the row that was kept."""
    raw: str
    """The reply or row as it was."""


class Answer(Row, frozen=True):
    """How a question was answered by one who does not know the answer: what one reply holds."""

    steps: Annotated[tuple[Text, ...], Meta(min_length=1)]
    answer: Letter


class Judgement(Row, frozen=True):
    """Five marks for an item, 5 the best, and what to mend in it: what one reply holds."""

    rigor: Mark
    difficulty: Mark
    """Not how hard the question is, but how well it fits the difficulty it was written for."""
    innovation: Mark
    clarity: Mark
    educational_value: Mark
    feedback: Text

    def mean(self) -> float:
        """The mean of the five marks."""
        return (self.rigor + self.difficulty + self.innovation + self.clarity + self.educational_value) / 5


class Verification(Row, frozen=True):
    """How often a record's question, put without its answer, was answered in the same way."""

    id: Text
    """Of the record."""
    answer: Letter
    """The record's own."""
    answers: tuple[Letter, ...]
    """Those that were given, in the order of the samples; a sample without a valid reply gives none."""
    agreed: Annotated[int, Meta(ge=0)]
    """How many of them are the record's own."""
    asked: Annotated[int, Meta(ge=1)]
    """Samples."""
    teacher: Text
    """Model and endpoint that replied."""
    fault: str | None
    """Why the first of the samples without a valid reply has none."""


class Judged(Row, frozen=True):
    """How a record was judged."""

    id: Text
    """Of the record."""
    judgement: Judgement | None
    teacher: Text
    """Model and endpoint that replied."""
    fault: str | None
    """Why there is no judgement."""


class Derived(Record, frozen=True):
    """A record made from another: improved, varied, argued otherwise or translated.

    `contrast:wrong` argues for an answer that is not the right one: a row for preference pairs, not for the bank.
    """

    of: Text
    """The id of the record it was made from."""
    how: How


class Message(Row, frozen=True):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Example(Row, frozen=True):
    """A training example: a chat that ends with the assistant's reply. Loadable by `datasets` as it is."""

    id: Text
    messages: Annotated[tuple[Message, ...], Meta(min_length=2)]


class Prompt(Row, frozen=True):
    """A question to be answered in a rollout, with its reference answer."""

    id: Text
    prompt: tuple[Message, ...]
    answer: Letter


class Commission(Row, frozen=True):
    """A question to be written: what the author is told, and the cell it is for."""

    id: Text
    topic: Slug
    difficulty: Slug
    type: Slug
    prompt: tuple[Message, ...]


class Pair(Row, frozen=True):
    """A preference pair in TRL's conversational form."""

    id: Text
    type: PairType
    """What is wrong with the rejected reply."""
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    why: Text
    """Where the rejected reply came from and how it falls short, for a person."""


class Placed(Row, frozen=True):
    """Where the split put a record."""

    id: Text
    cluster: Text
    """The same for questions of one stem, which stay together."""
    side: Side | None
    """`author` for a record that the author learns from; None for one set aside, as a twin of a held-out question."""


class Again(Row, frozen=True):
    """A request whose reply curation dropped: to be asked once more."""

    id: Text
    """Of the response that was dropped."""
    topic: Slug
    difficulty: Slug
    type: Slug
    sample: Annotated[int, Meta(ge=0)]
    round: Annotated[int, Meta(ge=0)]
    """Of the dropped response; the next one asks again."""
    reason: Text
    """Why it was dropped: a code of the stage that did."""
    detail: str


class Decision(Row, frozen=True):
    """What a reviewer decided about a record as it stood before the gate."""

    id: Text
    """Of the record."""
    content: Text
    """The hash of the item that the reviewer saw: another item under this id was not reviewed."""
    by_chance: bool
    """Whether the row was drawn by chance, and not for a risk: only such rows tell how good the bank is."""
    reviewer: Text
    verdict: Literal["accept", "reject", "edit"]
    reason: str | None
    """For a reject, a code from `curate.decisions.REASONS`; None otherwise."""
    note: str
    """The reviewer's own words, for people; may be empty."""
    item: Item | None
    """For an edit, what the record is to be; None otherwise."""
    at: Text
    """When, UTC, ISO 8601."""


class Prediction(Row, frozen=True):
    """What a trained model answered to one question."""

    id: Text
    response: str
    """The model's reply as generated."""
    answer: Letter
    strategy: Text
    """The rung of the extraction ladder that found the answer."""


SCHEMAS: dict[str, type[Row]] = {
    "response": Response,
    "record": Record,
    "reject": Reject,
    "example": Example,
    "prompt": Prompt,
    "commission": Commission,
    "preference": Pair,
    "placed": Placed,
    "again": Again,
    "decision": Decision,
    "prediction": Prediction,
    "verification": Verification,
    "judged": Judged,
    "derived": Derived,
}
