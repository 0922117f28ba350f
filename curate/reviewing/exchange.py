"""The sample of `curate review` in the JSON of Argilla and of Label Studio, and what was decided there back from it.

    argilla         what `rg.Dataset.records.to_json` writes and `from_json` reads, in Argilla 2 ("Importing and
                    exporting datasets and records" and "rg.Record" in its documentation); beside it what
                    `rg.Settings.from_json` reads ("rg.Settings")
    label-studio    tasks with predictions and, back, its export "JSON" ("Label Studio Task Format", "Import
                    pre-annotated data into Label Studio", "Choices" and "TextArea" in its documentation); beside it
                    the labeling interface

Both show question, options and chain and ask for the verdict, a reason, a note and, each in a field of its own that
holds it as it is, what an edit may change. Nobody is shown what others decided.

Brought back is a decision of each user of the tool about each record, under the name that the tool gives them, or the
one that `--as` gives. What was decided about a record that has changed since is stale: it is counted, not taken. What
the file of decisions holds already, or something newer of the same reviewer, is counted too. If anything else is wrong,
nothing is taken.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import click
import msgspec
from msgspec import Struct, field
from msgspec.structs import asdict, replace

from curate import decisions
from curate.checks import ValidateParams, reject_reason
from curate.decisions import REASONS
from curate.reviewing.sample import RISKS, ReviewParams, Shown, named, sample
from schemas.faults import Fault
from schemas.params import load
from schemas.record import LETTERS, Decision, Item, Record
from schemas.rows import whole

VERDICTS = {
    "accept": "right as it is",
    "reject": "out of the bank, for the reason chosen",
    "edit": "right once it is changed as below",
}
FIELDS = {
    "question": "question",
    **{letter.lower(): f"option {letter}" for letter in LETTERS},
    "think": "first thoughts",
    "steps": "reasoning, a line each step",
    "reflection": "reflection",
    "adjustment": "adjustment",
    "answer": "answer",
}
"""What an edit may change: a name for it, and how it is shown."""
NEW = "new_"
"""Begins the name of a field for an edit."""
GUIDELINES = "\n".join(
    (
        "Is the question fit to train on?",
        *(f"{verdict}: {means}" for verdict, means in VERDICTS.items()),
        "Reasons for a reject:",
        *(f"{reason}: {means}" for reason, means in REASONS.items()),
    )
)
EMAIL = re.compile(r"(\S+@\S+), \d+$")


class Answer(Struct, frozen=True):
    """What a user of a tool said about a record, as the tool has it."""

    id: str
    content: str
    by_chance: bool
    user: str
    """As the tool names them."""
    name: str
    """The reviewer's, where `--as` gives no other."""
    said: dict[str, str]
    """By the name of what was asked: verdict, reason, note and what an edit changes."""
    at: str | None
    """When, if the tool tells."""


class Answers(Struct):
    """What a file of a tool holds."""

    found: list[Answer] = field(default_factory=list)
    open: int = 0
    """Records, and users' answers, without a verdict that was submitted."""


class Taken(Struct, frozen=True):
    """What is made of answers."""

    decisions: list[Decision]
    """Those to be added."""
    left: Counter[str]
    """How many were not taken, by why."""


class Form(Struct, frozen=True):
    """How a tool writes and reads."""

    write: Callable[[Sequence[Shown]], object]
    """The document that the tool imports."""
    beside: Callable[[], bytes]
    """What tells the tool how to show it."""
    suffix: str
    """Of the file for that."""
    then: str
    """What to do with both, and with what the tool exports."""
    read: Callable[[bytes, str], Answers]
    """What a file that the tool exported says, under its name; Fault for another file."""


# --- out -----------------------------------------------------------------------------------------------------------


def texts(item: Item) -> dict[str, str]:
    """Return what an edit may change, each as one text; steps are a line each."""
    options = {letter.lower(): text for letter, text in zip(LETTERS, item.options, strict=True)}
    found = {"question": item.question, **options, "think": item.think, "steps": "\n".join(item.steps)}
    return found | {"reflection": item.reflection, "adjustment": item.adjustment or "", "answer": item.answer}


def about(shown: Shown) -> dict[str, str]:
    """Return what a person reads of a record: question, options with the answer, chain, why it is shown."""
    record = shown.record
    options = (f"{letter}. {text}" for letter, text in zip(LETTERS, record.options, strict=True))
    chain = [f"{number}. {step}" for number, step in enumerate(record.steps, 1)]
    parts = (record.think, "\n".join(chain), record.reflection, record.adjustment)
    return {
        "question": record.question,
        "options": "\n".join((*options, f"→ {record.answer}")),
        "chain": "\n\n".join(part for part in parts if part),
        "risks": "\n".join(f"{risk}: {RISKS[risk]}" for risk in shown.risks) or "none known",
    }


def _of(shown: Shown) -> dict[str, str]:
    """Return what leads back to a record, and what it may be filtered by."""
    record = shown.record
    place = {"topic": record.topic, "difficulty": record.difficulty, "type": record.type, "teacher": record.teacher}
    return {"content": shown.content, "drawn": "chance" if shown.by_chance else "risk", **place}


def argilla(sample: Sequence[Shown]) -> list[dict[str, object]]:
    """Return the records as Argilla's `Record.to_dict` gives them; what they hold is suggested for an edit."""
    return [
        {
            "id": shown.record.id,
            "fields": about(shown),
            "metadata": _of(shown),
            "suggestions": {
                NEW + name: {"value": text, "score": None, "agent": shown.record.teacher}
                for name, text in texts(shown.record).items()
                if text
            },
            "responses": {},
            "vectors": {},
            "status": "pending",
            "_server_id": None,
        }
        for shown in sample
    ]


def argilla_settings() -> bytes:
    """Return what `rg.Settings.from_json` reads."""
    text = {"type": "text", "use_markdown": False}

    def labels(names: Mapping[str, str]) -> dict[str, object]:
        options = [
            {"value": name, "text": name} | ({"description": means} if means else {}) for name, means in names.items()
        ]
        return {"type": "label_selection", "options": options, "visible_options": max(3, len(options))}

    asked: dict[str, tuple[str, Mapping[str, object]]] = {
        "verdict": ("Verdict", labels(VERDICTS)),
        "reason": ("Reason, for a reject", labels(REASONS)),
        "note": ("Note", text),
        **{NEW + name: (f"For an edit: {title}", text) for name, title in FIELDS.items() if name != "answer"},
        f"{NEW}answer": ("For an edit: answer", labels(dict.fromkeys(LETTERS, ""))),
    }
    terms = {"type": "terms", "values": None, "visible_for_annotators": True}
    document = {
        "guidelines": GUIDELINES,
        "questions": [
            {"name": name, "title": title, "required": name == "verdict", "settings": settings}
            for name, (title, settings) in asked.items()
        ],
        "fields": [
            {"name": name, "title": name, "required": True, "settings": text}
            for name in ("question", "options", "chain", "risks")
        ],
        "vectors": [],
        "metadata": [{"name": name, "title": name, "settings": terms} for name in ("topic", "difficulty", "type")],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def label_studio(sample: Sequence[Shown]) -> list[dict[str, object]]:
    """Return the records as tasks, what they hold as a prediction, from which an annotation is begun."""
    return [
        {
            "data": {"id": shown.record.id, **_of(shown), **about(shown)},
            "predictions": [
                {
                    "model_version": shown.record.teacher,
                    "result": [_result(NEW + name, text) for name, text in texts(shown.record).items() if text],
                }
            ],
        }
        for shown in sample
    ]


def _result(name: str, text: str) -> dict[str, object]:
    kind, value = ("choices", {"choices": [text]}) if name == f"{NEW}answer" else ("textarea", {"text": [text]})
    return {"id": name, "from_name": name, "to_name": "question", "type": kind, "value": value}


def label_studio_interface() -> bytes:
    """Return the labeling interface, for the project's settings."""

    def choices(name: str, of: Mapping[str, str], more: str = "") -> list[str]:
        hints = {value: f" hint={quoteattr(means)}" if means else "" for value, means in of.items()}
        lines = [f'<Choice value="{value}"{hint}/>' for value, hint in hints.items()]
        return [
            f'<Choices name="{name}" toName="question" choice="single" showInline="true"{more}>',
            *lines,
            "</Choices>",
        ]

    def shown_for(verdict: str) -> str:
        return f'<View visibleWhen="choice-selected" whenTagName="verdict" whenChoiceValue="{verdict}">'

    def area(name: str) -> str:
        more = 'editable="true" maxSubmissions="1"'
        return f'<TextArea name="{name}" toName="question" rows="3" {more}/>'

    lines = ["<View>", "<Style>.htx-text { white-space: pre-wrap; }</Style>"]
    for name in ("question", "options", "chain", "risks"):
        lines += [f'<Header value="{name}"/>', f'<Text name="{name}" value="${name}"/>']
    lines += ['<Header value="verdict"/>', *choices("verdict", VERDICTS, ' required="true"')]
    lines += [shown_for("reject"), '<Header value="reason"/>', *choices("reason", REASONS), "</View>"]
    lines += ['<Header value="note"/>', area("note"), shown_for("edit")]
    for name, title in FIELDS.items():
        lines.append(f'<Header value="{title}"/>')
        lines += choices(f"{NEW}answer", dict.fromkeys(LETTERS, "")) if name == "answer" else [area(NEW + name)]
    return "\n".join((*lines, "</View>", "</View>", "")).encode()


# --- back ----------------------------------------------------------------------------------------------------------


class ArgillaResponse(Struct):
    """What a user answered to one question."""

    value: Any
    user_id: str


class ArgillaRecord(Struct):
    """What of an exported record is needed."""

    id: str
    metadata: dict[str, Any] | None = None
    responses: dict[str, list[ArgillaResponse]] | None = None
    status: str = "completed"


def read_argilla(data: bytes, name: str) -> Answers:
    """Return what an export of Argilla says; Fault if it is none, or of other records."""
    answers = Answers()
    for row in _decoded(data, list[ArgillaRecord], name, "`dataset.records.to_json(PATH)`"):
        seen = _seen(row.metadata or {}, row.id, name, "metadata")
        of: dict[str, dict[str, str]] = {}
        for asked, responses in (row.responses or {}).items():
            for response in responses:
                of.setdefault(response.user_id, {})[asked] = _text(response.value)
        # A draft is written as what was submitted is: only the record's status tells.
        submitted = {user: said for user, said in of.items() if row.status == "completed" and said.get("verdict")}
        answers.open += len(of) - len(submitted) if of else 1
        answers.found += [Answer(row.id, *seen, user, user, said, None) for user, said in submitted.items()]
    return answers


class StudioResult(Struct):
    """One answer of an annotation."""

    value: dict[str, Any] = field(default_factory=dict)
    from_name: str = ""


class StudioAnnotation(Struct):
    """What of an annotation is needed."""

    result: list[StudioResult]
    completed_by: int | dict[str, Any] | None = None
    created_username: str = ""
    was_cancelled: bool = False
    created_at: str | None = None
    updated_at: str | None = None


class StudioTask(Struct):
    """What of an exported task is needed."""

    data: dict[str, Any]
    annotations: list[StudioAnnotation] = field(default_factory=list)


def read_label_studio(data: bytes, name: str) -> Answers:
    """Return what an export of Label Studio says; Fault if it is none, or of other records."""
    answers = Answers()
    for task in _decoded(data, list[StudioTask], name, "the format JSON, not JSON-MIN"):
        id_ = _text(task.data.get("id"))
        seen = _seen(task.data, id_, name, "data")
        answers.open += not task.annotations
        for annotation in task.annotations:
            said = {one.from_name: _text(one.value.get("choices", one.value.get("text"))) for one in annotation.result}
            if annotation.was_cancelled or not said.get("verdict"):
                answers.open += 1
                continue
            user, known = _who(annotation)
            at = annotation.updated_at or annotation.created_at
            answers.found.append(Answer(id_, *seen, user, known, said, _utc(at, id_, name)))
    return answers


def _who(annotation: StudioAnnotation) -> tuple[str, str]:
    """Return a user's number and name: the address, where there is one."""
    by = annotation.completed_by
    if isinstance(by, dict):
        number, email = _text(by.get("id")), _text(by.get("email"))
        return number or email, email or f"label-studio {number}"
    email = found[1] if (found := EMAIL.search(annotation.created_username)) else ""
    return str(by), email or f"label-studio {by}"


def _utc(at: str | None, id_: str, name: str) -> str | None:
    if at is None:
        return None
    try:
        return decisions.stamp(datetime.fromisoformat(at))
    except ValueError:
        raise Fault(f"{name}: '{id_}': '{at}' is not a time; export it from the tool again") from None


def _decoded(data: bytes, type_: Any, name: str, how: str) -> Any:
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Fault(f"{name}: {' '.join(str(error).split())}; export it from the tool again: {how}") from None


def _seen(of: Mapping[str, Any], id_: str, name: str, where: str) -> tuple[str, bool]:
    """Return the content that was shown, and whether it was drawn by chance."""
    content, drawn = of.get("content"), of.get("drawn")
    if not id_ or not isinstance(content, str) or drawn not in ("chance", "risk"):
        raise Fault(
            f"{name}: '{id_}' has no content in its {where}; only what `curate review export` wrote can come back"
        )
    return content, drawn == "chance"


def _text(value: Any) -> str:
    """Return a value of a tool as one text: Label Studio keeps lists, with a text for each submission."""
    if isinstance(value, list):
        return "\n".join(map(_text, value))
    return "" if value is None else str(value)


def take(
    answers: Iterable[Answer],
    records: Mapping[str, Record],
    held: Iterable[Decision],
    names: Mapping[str, str],
    now: str,
    params: ValidateParams,
) -> Taken:
    """Return the decisions that answers come to, and how many are not taken; Fault that names the first bad one.

    `records` are those before the gate, by id; `held` is decided already; `now` stands where a tool tells no time.
    """
    left: Counter[str] = Counter()
    before: dict[tuple[str, str, str], list[Decision]] = defaultdict(list)
    for decision in held:
        before[decision.id, decision.reviewer, decision.content].append(decision)
    latest: dict[tuple[str, str], Decision] = {}
    wrong: list[str] = []
    for answer in sorted(answers, key=lambda answer: answer.at or now):
        record = records.get(answer.id)
        if record is None or decisions.content(record) != answer.content:
            left["no such record" if record is None else "stale"] += 1
            continue
        reviewer = names.get(answer.user, names.get(answer.name, answer.name))
        made = _decision(answer, record, reviewer, answer.at or now, params)
        if isinstance(made, str):
            wrong.append(f"'{answer.id}' by {reviewer}: {made}")
        elif _known(made, before[made.id, made.reviewer, made.content], timed=answer.at is not None):
            left["there already"] += 1
        else:
            left["taken back later"] += (answer.id, reviewer) in latest
            latest[answer.id, reviewer] = made
    if wrong:
        more = f" ({len(wrong) - 1:,} more like it)" if len(wrong) > 1 else ""
        raise Fault(f"{wrong[0]}{more}; mend it in the tool and export again, nothing was taken")
    return Taken(list(latest.values()), +left)


def _known(made: Decision, before: Sequence[Decision], timed: bool) -> bool:
    """Whether a decision is held, or one that is newer; without a time of its own, any that is the same."""
    if not before:
        return False
    if timed and decisions.moment(made.at) <= decisions.moment(before[-1].at):
        return True
    return any(replace(held, at=made.at) == made for held in (before[-1:] if timed else before))


def _decision(answer: Answer, record: Record, reviewer: str, at: str, params: ValidateParams) -> Decision | str:
    """Return the decision that an answer comes to, or what is wrong with it."""
    said = {name: text.strip() for name, text in answer.said.items()}
    verdict, reason = said["verdict"], said.get("reason") or None
    if verdict not in VERDICTS:
        return f"the verdict '{verdict}' is none of {', '.join(VERDICTS)}"
    item = edited(record, {name: said[NEW + name] for name in FIELDS if NEW + name in said})
    if isinstance(item, str):
        return item
    changed = decisions.content(item) != decisions.content(record)
    if verdict == "edit":
        if not changed:
            return "an edit that changes nothing"
        against = reject_reason(replace(record, **asdict(item)), params)
        if against is not None:
            return f"as edited it does not pass: {against[0]}, {against[1]}"
    elif verdict == "accept" and changed:
        return "accepted, but changed; choose edit"
    made = Decision(
        id=record.id,
        content=answer.content,
        by_chance=answer.by_chance,
        reviewer=reviewer,
        verdict=verdict,  # type: ignore[arg-type]  # one of VERDICTS
        reason=reason if verdict == "reject" else None,
        note=said.get("note", ""),
        item=item if verdict == "edit" else None,
        at=at,
    )
    return decisions.wrong(made) or made


def edited(item: Item, said: Mapping[str, str]) -> Item | str:
    """Return an item with the texts that differ from its own in their place, or what is wrong with them."""
    before = texts(item)
    new = {name: text for name, text in said.items() if text != before[name].strip()}
    fields: dict[str, object] = {name: getattr(item, name) for name in Item.__struct_fields__}
    fields["options"] = [new.get(letter.lower(), text) for letter, text in zip(LETTERS, item.options, strict=True)]
    fields |= {name: new[name] for name in ("question", "think", "reflection", "answer") if name in new}
    if "steps" in new:
        fields["steps"] = [line.strip() for line in new["steps"].split("\n") if line.strip()]
    if "adjustment" in new:
        fields["adjustment"] = new["adjustment"] or None
    try:
        return msgspec.convert(fields, Item)
    except msgspec.ValidationError as error:
        return f"as edited it is no question: {error}"


FORMS = {
    "argilla": Form(
        write=argilla,
        beside=argilla_settings,
        suffix=".settings.json",
        then="`rg.Settings.from_json` and `dataset.records.from_json` read them; `dataset.records.to_json` gives back",
        read=read_argilla,
    ),
    "label-studio": Form(
        write=label_studio,
        beside=label_studio_interface,
        suffix=".xml",
        then="paste the XML as the labeling interface, import the JSON, use predictions to prelabel; export as JSON",
        read=read_label_studio,
    ),
}


# --- commands ------------------------------------------------------------------------------------------------------

DATA = click.option(
    "--data", type=click.Path(path_type=Path), default=Path("data"), help="The folder of the stages' files."
)


@click.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(list(FORMS)))
@click.argument("out", type=click.Path(path_type=Path))
@DATA
def export(form: str, out: Path, data: Path) -> None:
    """Write the sample for Argilla or Label Studio, and beside it how it is to be shown there."""
    tool = FORMS[form]
    beside = out.with_name(out.name + tool.suffix)
    for path in (out, beside):
        if path.exists():
            raise Fault(f"{path}: is there already, and may hold decisions; name another file or move it away")
    shown = sample(
        data / "decontaminated.jsonl",
        data / "asked/verify.jsonl",
        data / "asked/judge.jsonl",
        load("review", ReviewParams),
    )
    with whole(out) as file, whole(beside) as settings:
        file.write(msgspec.json.format(msgspec.json.encode(tool.write(shown)), indent=2) + b"\n")
        settings.write(tool.beside())
    click.echo(f"review: {len(shown):,} records in {out}, {beside.name} beside it: {tool.then}")


@click.command(name="import")
@click.argument("form", metavar="FORMAT", type=click.Choice(list(FORMS)))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "names", multiple=True, metavar="USER=NAME", help="Whom the tool calls USER; may be given again.")
@DATA
@click.option(
    "--decisions",
    "decided",
    type=click.Path(path_type=Path),
    default=Path("curate/decisions.jsonl"),
    help="The file that they are added to.",
)
def import_(form: str, file: Path, names: tuple[str, ...], data: Path, decided: Path) -> None:
    """Add what was decided in Argilla or Label Studio to the decisions."""
    try:
        answers = FORMS[form].read(file.read_bytes(), str(file))
    except OSError as error:
        raise Fault(f"{file}: {error.strerror}; name the file that the tool exported") from None
    records = named(data / "decontaminated.jsonl", {answer.id for answer in answers.found})
    held = decisions.read(decided) if decided.exists() else []
    known, now, params = dict(_named(names)), decisions.stamp(datetime.now(UTC)), load("validate", ValidateParams)
    try:
        taken = take(answers.found, records, held, known, now, params)
    except Fault as fault:
        raise Fault(f"{file}: {fault.message}") from None
    count = decisions.extend(decided, taken.decisions)
    kinds = Counter(decision.verdict for decision in taken.decisions)
    said = ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items()))
    left = taken.left + Counter({"without a verdict": answers.open})
    click.echo(f"review: {count:,} decisions added to {decided}" + (f": {said}" if said else ""))
    if left:
        click.echo(f"review: not taken: {', '.join(f'{number:,} {why}' for why, number in sorted(left.items()))}")


def _named(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for pair in names:
        user, is_there, name = pair.partition("=")
        if not is_there or not name.strip():
            raise Fault(f"--as {pair}: write it as USER=NAME")
        yield user, name.strip()
