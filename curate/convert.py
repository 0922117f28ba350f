"""Write the bank in the forms that trainers, competitions and people read.

train.jsonl, rollout.jsonl, validation.jsonl, test.jsonl, author.jsonl (Record), the user's own test (curate/paper.py) →
a folder of data sets, metrics:

    sft_reasoning/{train,validation}.jsonl               Example: question, chosen parts of the chain
    sft_plain/{train,validation}.jsonl                   Example: question, the letter alone
    rollout/train.jsonl                                  Prompt: question of the rollout side, its answer
    test/test.csv                                        id, question, option_A … option_D; no answer
    key/key.csv                                          id, answer, topic, difficulty, type
    table/bank.tsv                                       all sides: question, options, answer, whole chain
    bank/{train,rollout,validation,test,author}.parquet  every field of a record

The user's own test, if there is one, stands in test and key in place of the bank's; its key holds the questions that
have an answer, or the header alone. Each set has a dataset card, README.md, by which `datasets.load_dataset(folder)`
reads it as it was written. All of them appear together or none does.
"""

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import accumulate, chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import click
import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import astuple

from curate import card, paper, tsv
from curate.balance import orders
from curate.shards import SIZE, Chunk, WorkersParams, chunks, spread
from schemas import rows
from schemas.chain import parts_of
from schemas.chat import Ask, asking
from schemas.faults import Fault
from schemas.params import AuthorPrompt, ChatPrompt, Count, Params, load
from schemas.record import LETTERS, Example, Letter, Message, Prompt, Record, Side

if TYPE_CHECKING:
    import pyarrow as pa

Part = Literal["think", "reasoning", "reflection", "adjustment", "output"]
SIDES: tuple[Side, ...] = get_args(Side)
GROUP = 10_000  # records of a Parquet row group: some 10 MB, whatever the chunks
HANZI = re.compile(r"[\u3400-\u9fff\U00020000-\U0003134f]")
LATIN = re.compile(r"[A-Za-z]+")


class ConvertParams(Params, frozen=True):
    """What a model is trained on."""

    parts: tuple[Part, ...]
    """Of a chain."""
    orders: Annotated[int, Meta(ge=1, le=4)]
    """In how many orders of its options a training question is shown, the answer at another letter each time: a model
    that sees one learns the letter by heart instead of looking for the option."""
    seed: Count


class PromptsParams(Params, frozen=True):
    """How a question is put to the solver, for each way of training, and a cell to the author."""

    plain: ChatPrompt
    reasoning: ChatPrompt
    author: AuthorPrompt


class DataSet(Struct, frozen=True):
    """A folder that is written, and what its card says."""

    title: str
    about: str
    files: dict[str, str]
    """By split, the file."""
    sides: tuple[Side, ...]
    """Of the bank, whose records it holds: for each of `files` one, or all in one file."""
    columns: dict[str, str]
    settings: dict[str, object] = {}
    """For the loader."""
    tasks: tuple[str, ...] = ("multiple-choice", "question-answering")
    chains: bool = True
    """Whether the rows hold chains."""


class Piece(Struct, frozen=True):
    """A chunk of one side's records."""

    side: Side
    chunk: Chunk


class Tally(Struct, frozen=True):
    """What the cards count, of one side; two of them add up."""

    cells: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Records by topic, difficulty and type."""
    letters: Counter[Letter] = field(default_factory=Counter)
    shown: Counter[Letter] = field(default_factory=Counter)
    """Letters of the training examples, each order counted."""
    teachers: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    questions: Counter[int] = field(default_factory=Counter)
    """By their length in characters."""
    chains: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """Count what another has counted."""
        for name in self.__struct_fields__:
            getattr(self, name).update(getattr(other, name))


class Made(Struct, frozen=True):
    """What a piece comes to."""

    side: Side
    files: dict[str, bytes]
    """By file, what is added to it."""
    table: "pa.RecordBatch"
    """The records under every field."""
    tally: Tally


def example(record: Record, ask: Ask, reply: str) -> Example:
    """Return the chat in which the record's question is answered."""
    asked = ask(record.question, record.options)
    return Example(id=record.id, messages=(*asked, Message(role="assistant", content=reply)))


def question(record: Record, ask: Ask) -> Prompt:
    """Return the question to be answered in a rollout, with its reference."""
    return Prompt(id=record.id, prompt=ask(record.question, record.options), answer=record.answer)


def make(params: ConvertParams, prompts: PromptsParams, piece: Piece) -> Made:
    """Return what a piece of one side adds to each file."""
    records = piece.chunk.quickly(Record)
    side = piece.side
    jsonl = msgspec.json.Encoder().encode_lines
    plain, reasoning = asking(prompts.plain), asking(prompts.reasoning)
    told = [parts_of(record) for record in records]
    chains = ("\n".join(parts.values()) for parts in told)
    files = {"table/bank.tsv": tsv.encode(map(tsv.row, records, chains), "\t")}
    shown: list[Record] = []
    if side in ("train", "validation"):
        with_reasoning: list[Example] = []
        for record, own in zip(records, told, strict=True):
            for one in orders(record, params.orders, params.seed) if side == "train" else (record,):
                parts = own if one is record else parts_of(one)
                reply = "\n".join([text for part, text in parts.items() if part in params.parts])
                with_reasoning.append(example(one, reasoning, reply))
                shown.append(one)
        files[f"sft_reasoning/{side}.jsonl"] = jsonl(with_reasoning)
        files[f"sft_plain/{side}.jsonl"] = jsonl([example(one, plain, one.answer) for one in shown])
    elif side == "rollout":
        files["rollout/train.jsonl"] = jsonl([question(r, reasoning) for r in records])
    elif side == "test":
        files["test/test.csv"] = tsv.encode([(r.id, r.question, *r.options) for r in records], ",")
        files["key/key.csv"] = tsv.encode([(r.id, r.answer, r.topic, r.difficulty, r.type) for r in records], ",")
    return Made(side, files, _arrow(records), tally(records, shown))


def tally(records: list[Record], shown: Iterable[Record] = ()) -> Tally:
    """Return what the cards count of records, and of those shown in training."""
    return Tally(
        cells=Counter([(r.topic, r.difficulty, r.type) for r in records]),
        letters=Counter([r.answer for r in records]),
        shown=Counter([r.answer for r in shown]),
        # Model @ endpoint: where the endpoint stands is nobody's business.
        teachers=Counter([r.teacher.partition(" @ ")[0] for r in records]),
        repairs=Counter([name for r in records for name in r.repairs]),
        languages=Counter([language for r in records if (language := language_of(r))]),
        questions=Counter([len(r.question) for r in records]),
        chains=Counter([sum(map(len, (r.think, *r.steps, r.reflection, r.adjustment or ""))) for r in records]),
    )


def tally_own(questions: Sequence[paper.Question]) -> Tally:
    """Return what the cards count of the user's own test."""
    return Tally(
        cells=Counter([(q.topic or "-", q.difficulty or "-", q.type or "-") for q in questions]),
        letters=Counter([q.answer for q in questions if q.answer]),
        languages=Counter([language for q in questions if (language := _language(q.question))]),
        questions=Counter([len(q.question) for q in questions]),
    )


def language_of(record: Record) -> str | None:
    """Return zh for a question with at least as many Chinese characters as Latin words, else en.

    A question that has neither (2 + 2 = ?) is of the language of its reasoning, or of none.
    """
    return _language(record.question) or _language("".join(record.steps))


def _language(text: str) -> str | None:
    if not HANZI.search(text):
        return "en" if LATIN.search(text) else None
    return "zh" if not LATIN.search(text) or len(HANZI.findall(text)) >= len(LATIN.findall(text)) else "en"


def _schema() -> "pa.Schema":
    import pyarrow as pa

    texts = pa.list_(pa.string())
    types = {"options": texts, "steps": texts, "repairs": texts}
    return pa.schema([(name, types.get(name, pa.string())) for name in _columns()])


def _columns() -> list[str]:
    return ["id", *(name for name in Record.__struct_fields__ if name != "id")]


def _arrow(records: list[Record]) -> "pa.RecordBatch":
    import pyarrow as pa

    schema = _schema()
    columns = dict(zip(records[0].__struct_fields__, zip(*map(astuple, records), strict=True), strict=True))
    arrays = []
    for name, type_ in zip(schema.names, schema.types, strict=True):
        values = columns[name]
        if pa.types.is_list(type_):
            # Three times as fast as pa.array of tuples.
            texts = pa.array(list(chain.from_iterable(values)), pa.string())
            ends = pa.array([0, *accumulate(map(len, values))], pa.int32())
            arrays.append(pa.ListArray.from_arrays(ends, texts))
        else:
            arrays.append(pa.array(values, type_))
    return pa.record_batch(arrays, schema=schema)


class _Parquet:
    """A Parquet file in the making: row groups of GROUP rows, however the rows come."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.schema = _schema()
        self.few = [name for name in ("topic", "difficulty", "type", "teacher", "answer") if name in self.schema.names]
        self.file = pq.ParquetWriter(
            path, self.schema, compression="zstd", compression_level=3, use_dictionary=self.few
        )
        self.waiting: list[pa.Table] = []

    def add(self, batch: "pa.RecordBatch") -> None:
        import pyarrow as pa

        self.waiting.append(pa.Table.from_batches([batch]))
        if sum(len(some) for some in self.waiting) >= GROUP:
            ready = pa.concat_tables(self.waiting)
            full = len(ready) // GROUP * GROUP
            self.file.write_table(ready.slice(0, full), row_group_size=GROUP)
            self.waiting = [ready.slice(full)]

    def close(self) -> None:
        import pyarrow as pa

        if self.waiting:
            self.file.write_table(pa.concat_tables(self.waiting), row_group_size=GROUP)
        self.file.close()


def convert(
    sources: Mapping[Side, Path],
    folder: Path,
    params: ConvertParams,
    prompts: PromptsParams,
    workers: WorkersParams | None = None,
    size: int = SIZE,
    own: Sequence[paper.Question] = (),
) -> dict[str, int]:
    """Write the data sets of the records into a folder, all or none; return the rows of each file.

    The questions of the user's `own` test stand in place of those of the test side.
    """
    pieces = (Piece(side, chunk) for side, path in sources.items() for chunk in chunks(path, size))
    tallies = {side: Tally() for side in SIDES}
    counted: dict[str, Mapping[Side, Tally]] = dict.fromkeys(SETS, tallies)
    given: dict[str, bytes] = {}
    if own:
        answered = [(q, q.answer) for q in own if q.answer]
        given["test/test.csv"] = tsv.encode([(q.id, q.question, *q.options) for q in own], ",")
        given["key/key.csv"] = tsv.encode([(q.id, a, q.topic, q.difficulty, q.type) for q, a in answered], ",")
        counted["test"], counted["key"] = {"test": tally_own(own)}, {"test": tally_own([q for q, _ in answered])}
    with whole_folder(folder, SETS) as made:
        with ExitStack() as stack:
            parquet: dict[str, _Parquet] = {}
            out: dict[str, Any] = {}
            for name, form in SETS.items():
                (made / name).mkdir()
                for file in form.files.values():
                    if file.endswith(".parquet"):
                        parquet[file.removesuffix(".parquet")] = _Parquet(made / name / file)
                    else:
                        out[f"{name}/{file}"] = stack.enter_context(open(made / name / file, "wb"))
            for name, separator in (("test/test.csv", ","), ("key/key.csv", ","), ("table/bank.tsv", "\t")):
                out[name].write(tsv.encode([SETS[name.partition("/")[0]].columns], separator) + given.get(name, b""))
            for found in spread(partial(make, params, prompts), pieces, workers):
                for name, data in found.files.items():
                    if name not in given:
                        out[name].write(data)
                parquet[found.side].add(found.table)
                tallies[found.side].add(found.tally)
            for side in SIDES:
                parquet[side].close()
        for name in SETS:
            (made / name / "README.md").write_text(readme(name, counted[name]), encoding="utf-8")
    return {f"{name}/{file}": n for name in SETS for file, n in sizes(name, counted[name]).items()}


def sizes(name: str, tallies: Mapping[Side, Tally]) -> dict[str, int]:
    """Return the rows of each file of a set."""
    form = SETS[name]
    of = {side: (some.shown if name.startswith("sft") else some.cells).total() for side, some in tallies.items()}
    if len(form.files) == 1:
        return {file: sum(of[side] for side in form.sides) for file in form.files.values()}
    return {file: of[side] for file, side in zip(form.files.values(), form.sides, strict=True)}


def readme(name: str, tallies: Mapping[Side, Tally]) -> str:
    """Return the card of a set."""
    form = SETS[name]
    every = Tally()
    for side in form.sides:
        every.add(tallies[side])
    in_file = sizes(name, tallies)
    records = every.cells.total()
    lengths = {"question": every.questions, **({"chain": every.chains} if form.chains else {})}
    cells: dict[str, dict[str, dict[str, int]]] = {}
    for (topic, difficulty, kind), count in sorted(every.cells.items()):
        cells.setdefault(topic, {}).setdefault(difficulty, {})[kind] = count
    kinds = sorted({kind for _, _, kind in every.cells})
    letters = every.shown if name.startswith("sft") else every.letters
    return card.text(
        form.title,
        form.about,
        # A split without rows cannot be loaded.
        {split: file for split, file in form.files.items() if in_file[file]} or form.files,
        {
            "Rows": sum(in_file.values()),
            "Questions": records,
            "Columns": form.columns,
            "Rows by file": {file: {"rows": count} for file, count in in_file.items()},
            "Questions by side": {side: {"questions": tallies[side].cells.total()} for side in form.sides},
            "Teachers": {
                teacher: {"questions": count, "share": f"{count / records:.1%}"}
                for teacher, count in sorted(every.teachers.items())
            },
            "Languages": dict(sorted(every.languages.items())),
            "Topic × difficulty × type (questions)": {
                topic: {level: {kind: row.get(kind, 0) for kind in kinds} for level, row in levels.items()}
                for topic, levels in cells.items()
            },
            "Answers": {letter: {"rows": letters[letter]} for letter in LETTERS},
            "Characters": {what: quantiles(counts) for what, counts in lengths.items() if counts},
            "Repairs of replies": dict(sorted(every.repairs.items())),
        },
        form.settings,
        languages=sorted(every.languages, key=lambda language: (-every.languages[language], language)),
        tasks=form.tasks,
        rows=sum(in_file.values()),
    )


def quantiles(lengths: Mapping[int, int]) -> dict[str, int]:
    """Return the least, the most and what lies between, of lengths and how often each occurs."""
    total, seen = sum(lengths.values()), 0
    found: dict[str, int] = {}
    marks = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}
    for length in sorted(lengths):
        seen += lengths[length]
        for name, share in marks.items():
            if name not in found and seen >= max(1.0, share * total):
                found[name] = length
    return found


@contextmanager
def whole_folder(path: Path, ours: Collection[str]) -> Iterator[Path]:
    """Give an empty folder that takes the path's place if the block ends well, and is gone otherwise.

    A folder that is there already is replaced if it holds nothing but what `ours` names; Fault if it holds more.
    """
    if path.exists() and not path.is_dir():
        raise Fault(f"{path}: a file; name a folder")
    if path.exists() and (foreign := sorted({inside.name for inside in path.iterdir()} - set(ours))):
        raise Fault(f"{path}: holds '{foreign[0]}', which this stage does not write; move it, or name a new folder")
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield made
        made.chmod(0o755)
        before = made.with_name(f"{made.name}.before")
        if path.exists():
            path.rename(before)
        made.rename(path)
        shutil.rmtree(before, ignore_errors=True)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _check(prompts: PromptsParams) -> None:
    """Fault for a prompt that cannot be filled in."""
    for name in ("plain", "reasoning"):
        try:
            asking(getattr(prompts, name))("", ("", "", "", ""))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise Fault(
                f"params.yaml: prompts.{name}: {error}; `user` takes {{question}} and {{options}}, `option` {{letter}} "
                "and {text}, and any other brace is doubled"
            ) from None


@click.command()
@click.argument("train", type=click.Path(path_type=Path))
@click.argument("rollout", type=click.Path(path_type=Path))
@click.argument("validation", type=click.Path(path_type=Path))
@click.argument("test", type=click.Path(path_type=Path))
@click.argument("author", type=click.Path(path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
@click.option("--exam", type=click.Path(path_type=Path), help="The folder of your own test file, which may be empty.")
def main(out_dir: Path, metrics_file: Path, exam: Path | None, **sides: Path) -> None:
    """Write the bank in the forms that trainers, competitions and people read."""
    params = load("convert", ConvertParams)
    prompts = load("prompts", PromptsParams)
    _check(prompts)
    sources = {side: sides[side] for side in SIDES}
    found = paper.find(exam)
    numbers = convert(sources, out_dir, params, prompts, own=paper.read(found) if found else ())
    rows.write_json(metrics_file, numbers)
    tested = f"; the test is {found}, {numbers['key/key.csv']:,} of {numbers['test/test.csv']:,} with an answer"
    click.echo(
        f"convert: {numbers['table/bank.tsv']:,} records in {len(SETS)} data sets of {out_dir}"
        + (tested if found else "")
    )


def _features(columns: Iterable[str]) -> list[dict[str, object]]:
    return [{"name": name, "dtype": "string"} for name in columns]


def _chat(column: str) -> dict[str, object]:
    return {"name": column, "list": _features(("role", "content"))}


# pandas, which reads a table for `datasets`, would make NA of "NA" and 7 of "007".
TABLE = {"keep_default_na": False, "na_filter": False}
SAFELY = """
Read it with every column as text: `pandas.read_csv("{file}"{sep}, dtype=str, keep_default_na=False)`. In a spreadsheet,
import it from text (Excel: Data, From Text/CSV) as UTF-8 with every column of type Text, and do not open it by a double
click: a cell such as `=1+1`, `+1`, `-1` or `@x` is text, is written as it is, and would be run as a formula; `007`
would become 7."""
RECORD = {
    "id": "the same in every set",
    "question": "the stem",
    "options": "four texts, A to D",
    "think": "first thoughts; may be empty",
    "steps": "the reasoning, step by step",
    "reflection": "the chain's check of itself; may be empty",
    "adjustment": "what the reflection changed, or null",
    "answer": "A to D",
    "topic": "a key of params.yaml",
    "difficulty": "a key of params.yaml",
    "type": "a key of params.yaml",
    "teacher": "model and endpoint that wrote it, or the file it was imported from",
    "repairs": "what was mended in the reply, in order",
}
MESSAGES = {"id": "of the question", "messages": "a chat: role and content of each turn; the last is the reply"}
TEST = {"id": "of the question", "question": "the stem"} | {f"option_{a}": f"the text of option {a}" for a in LETTERS}
KEY = {
    "id": "of the question",
    "answer": "A to D",
    "topic": "a key of params.yaml, or what your own test says, if anything",
    "difficulty": "the same",
    "type": "the same",
}
BANK = {name: text for name, text in TEST.items() if name != "id"} | {
    "correct_answer": "A to D",
    "reasoning": "the chain in its XML: think, reasoning (steps), reflection, adjustment, output; no empty part",
}

SETS: dict[str, DataSet] = {
    "sft_reasoning": DataSet(
        title="Multiple-choice questions answered with reasoning",
        about="Chats for supervised fine-tuning: a question with four options, answered by a chain in XML that ends "
        "with the letter. Where the answer's place can be changed safely, a training question is shown in several "
        "orders of its options, the letters in the chain rewritten with them.",
        files={"train": "train.jsonl", "validation": "validation.jsonl"},
        sides=("train", "validation"),
        columns=MESSAGES,
        settings={"features": [*_features(["id"]), _chat("messages")]},
        tasks=("question-answering", "text-generation"),
    ),
    "sft_plain": DataSet(
        title="Multiple-choice questions answered by a letter",
        about="Chats for supervised fine-tuning: a question with four options, answered by the letter alone. The "
        "questions and orders of options are those of the set with reasoning.",
        files={"train": "train.jsonl", "validation": "validation.jsonl"},
        sides=("train", "validation"),
        columns=MESSAGES,
        settings={"features": [*_features(["id"]), _chat("messages")]},
        tasks=("question-answering", "text-generation"),
        chains=False,
    ),
    "rollout": DataSet(
        title="Multiple-choice questions for reinforcement learning",
        about="Questions put as prompts, each with its reference answer. No other set for training holds them.",
        files={"train": "train.jsonl"},
        sides=("rollout",),
        columns={
            "id": "of the question",
            "prompt": "the chat so far: role and content of each turn",
            "answer": "A to D",
        },
        settings={"features": [*_features(["id"]), _chat("prompt"), *_features(["answer"])]},
        tasks=("question-answering", "text-generation"),
        chains=False,
    ),
    "test": DataSet(
        title="Multiple-choice questions: the test file",
        about="Questions as a competition hands them out, without answers; the key is a set of its own.\n"
        + SAFELY.format(file="test.csv", sep=""),
        files={"test": "test.csv"},
        sides=("test",),
        columns=TEST,
        settings=TABLE | {"features": _features(TEST)},
        chains=False,
    ),
    "key": DataSet(
        title="Multiple-choice questions: the key to the test file",
        about="The answer to each question of the test file, and what a score is broken down by.",
        files={"test": "key.csv"},
        sides=("test",),
        columns=KEY,
        settings=TABLE | {"features": _features(KEY)},
        chains=False,
    ),
    "table": DataSet(
        title="Multiple-choice questions with reasoning: the whole bank as a table",
        about="Every question of the bank, those held out for a test too, with its whole chain, for people and "
        "spreadsheets: csv rules, tabs between the columns, LF at line ends. For training take a set that holds one "
        "side.\n" + SAFELY.format(file="bank.tsv", sep=', sep="\\t"'),
        files={"bank": "bank.tsv"},
        sides=SIDES,
        columns=BANK,
        settings={"sep": "\t"} | TABLE | {"features": _features(BANK)},
    ),
    "bank": DataSet(
        title="Multiple-choice questions with reasoning: the whole bank",
        about="Every question of the bank with every field it has. A split is a side of the bank; questions that are "
        "much alike are all on one side.",
        files={side: f"{side}.parquet" for side in SIDES},
        sides=SIDES,
        columns=RECORD,
    ),
}

if __name__ == "__main__":
    from curate.convert import main as run  # workers find its functions under the module's own name

    run()
