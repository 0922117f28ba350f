import json

import jsonschema
import msgspec
import pytest

from schemas.export import FOLDER, document, main
from schemas.record import (
    SCHEMAS,
    Again,
    Commission,
    Decision,
    Derived,
    Example,
    Judged,
    Judgement,
    Message,
    Pair,
    Placed,
    Prediction,
    Prompt,
    Reject,
    Verification,
)
from tests.curate.builders import a_record, a_response, an_item

MARKS = {"rigor": 4, "difficulty": 3, "innovation": 3, "clarity": 5, "educational_value": 4}
RECORD = a_record()
MESSAGES = (Message(role="user", content="问"), Message(role="assistant", content="B"))
ROWS = {
    "response": a_response(),
    "record": a_record(adjustment="改"),
    "reject": Reject(id="1", topic="economy", stage="dedup", reason="conflict", detail="", kept="2", raw=""),
    "example": Example(id="1", messages=MESSAGES),
    "prompt": Prompt(id="1", prompt=MESSAGES[:1], answer="B"),
    "commission": Commission(id="1", topic="algebra", difficulty="basic", type="factual", prompt=MESSAGES[:1]),
    "preference": Pair(id="1", type="biased", prompt=MESSAGES[:1], chosen=MESSAGES[1:], rejected=MESSAGES[1:], why="x"),
    "placed": Placed(id="1", cluster="ff", side="rollout"),
    "again": Again(
        id="1", topic="economy", difficulty="basic", type="factual", sample=0, round=1, reason="x", detail=""
    ),
    "decision": Decision(
        id="1",
        content="0",
        by_chance=True,
        reviewer="x",
        verdict="edit",
        reason=None,
        note="",
        item=an_item(),
        at="2026",
    ),
    "prediction": Prediction(id="1", response="", answer="D", strategy="output"),
    "verification": Verification(
        id="1", answer="B", answers=("B", "C"), agreed=1, asked=3, teacher="m @ x", fault="not_xml: x"
    ),
    "judged": Judged(id="1", judgement=Judgement(**MARKS, feedback="好"), teacher="m @ x", fault=None),
    "derived": Derived(
        **{name: getattr(RECORD, name) for name in RECORD.__struct_fields__}, of="2", how="vary:context_change"
    ),
}
VALUES = (
    None,
    "",
    "x",
    "E",
    "B",
    "economy",
    "../x",
    -1,
    0,
    1.5,
    True,
    [],
    ["x"],
    ["a", "b", "c", "d"],
    ["a"] * 5,
    ["A", "B"],
    "improve",
    "improved",
    "translate:fr",
    {},
    MARKS,
    MARKS | {"feedback": "好", "rigor": 6},
    [{"role": "user", "content": ""}],
    [{"role": "boss", "content": ""}],
    [{"role": "user"}] * 2,
)


def test_the_files_are_what_the_types_make(tmp_path):
    main(tmp_path)

    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in FOLDER.glob("*.schema.json")}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_file_accepts_what_its_type_accepts(name):
    schema = document(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    row = json.loads(msgspec.json.encode(ROWS[name]))
    changed = [row | {field: value} for field in row for value in VALUES]
    changed += [{k: v for k, v in row.items() if k != field} for field in row]
    changed += [row, row | {"more": 1}, [], None, "x"]

    verdicts = [(validator.is_valid(value), _fits(value, SCHEMAS[name])) for value in changed]

    assert [value for value, (file, type_) in zip(changed, verdicts, strict=True) if file != type_] == []
    assert {file for file, _ in verdicts} == {True, False}


def _fits(value, type_):
    try:
        msgspec.json.decode(json.dumps(value), type=type_)
    except msgspec.ValidationError:
        return False
    return True
