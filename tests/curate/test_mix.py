import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from curate import mix
from schemas.chat import authored
from schemas.record import Commission, Derived, Example, Judged, Judgement, Message, Record
from schemas.rows import read, write
from tests.curate.builders import a_record, an_item, configure

ARGUMENTS = ["author.jsonl", "vary.jsonl", "improve.jsonl", "judge.jsonl", "chats.jsonl", "mix", "mix.json"]
MARKS = dict.fromkeys(("rigor", "difficulty", "innovation", "clarity", "educational_value"), 3)
TOPICS = {name: {"name": f"题{name}", "samples": 1, "round": 0} for name in ("environment", "algebra")}


def derived(record: Record, how: str, **changes: object) -> Derived:
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return Derived(**fields | {"id": f"{record.id}/{how}", "of": record.id, "how": how} | changes)


def chats(count: int) -> list[Example]:
    return [
        Example(
            id=f"chat {n}", messages=(Message(role="user", content=f"问{n}"), Message(role="assistant", content="答"))
        )
        for n in range(count)
    ]


@pytest.fixture(autouse=True)
def in_a_project(a_project, monkeypatch):
    monkeypatch.chdir(a_project)
    configure("topics", **TOPICS)
    configure("split", author=["algebra", "gone"])
    configure("mix", validation=0.0, thinking=0.5, conversations=0.25, difficulties=["basic"], types=["factual"])


def records(count: int) -> list[Record]:
    return [a_record(id=str(n), topic="algebra", question=f"方程x+{n}=9的解是多少？") for n in range(count)]


def run(author=None, vary=(), improve=(), judge=(), talk=None, code=0):
    rows = (records(40) if author is None else author, vary, improve, judge, chats(60) if talk is None else talk)
    for name, some in zip(ARGUMENTS, rows, strict=False):
        write(name, some)
    done = CliRunner().invoke(mix.main, ARGUMENTS)
    assert done.exit_code == code, done.output
    return done.output


def rows_of(name: str = "train") -> list[Example]:
    return list(read(f"mix/{name}.jsonl", Example))


def numbers() -> dict:
    return json.loads(Path("mix.json").read_bytes())


def test_a_question_is_asked_for_by_its_cell_and_answered_by_its_item():
    (record,) = records(1)
    configure("mix", thinking=0.0, conversations=0.0)

    run([record])

    (row,) = rows_of()
    assert row.messages == (
        Message(role="user", content="写一道基础的题algebra题，事实性。"),
        authored(record, thinking=False),
    )


def test_with_thinking_the_question_and_its_solution_come_first():
    item = an_item(question="问？", steps=("一步", "两步"))

    assert authored(item, thinking=True).content.startswith("<think>\n问？\n一步\n两步\n</think>\n\n<item>\n")
    assert authored(item, thinking=False).content.startswith("<item>\n")


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_conversations_are_their_share_of_all_rows(share):
    configure("mix", conversations=share)

    run(talk=chats(100))

    talk = [row for row in rows_of() if row.messages[-1].content == "答"]
    assert len(talk) / len(rows_of()) == pytest.approx(share, abs=0.01)
    assert numbers()["share_of_conversations"] == pytest.approx(share, abs=0.01)


def test_where_there_are_too_few_conversations_all_are_taken_and_it_is_said():
    said = run(talk=chats(3))

    assert numbers()["sorts"] == {"questions": 40, "variations": 0, "improvements": 0, "conversations": 3}
    assert ", 10 conversations fewer than wanted;" in said


def test_some_questions_are_written_after_thinking_and_a_row_that_comes_moves_no_other():
    run(records(400))
    before = {row.id: row.messages[-1].content for row in rows_of() if row.messages[-1].content != "答"}

    run(records(401))
    after = {row.id: row.messages[-1].content for row in rows_of()}

    assert 150 < sum(text.startswith("<think>") for text in before.values()) < 250
    assert before.items() <= after.items()


def test_a_variation_and_an_improvement_hand_over_the_original():
    (record,) = records(1)
    changed = derived(record, "vary:parameter_change", question="方程x+5=9的解是多少？")
    better = derived(record, "improve", steps=("移项，得x=9。", "因此选项B正确。"))
    said = Judged(id=record.id, judgement=Judgement(**MARKS, feedback="步骤太少"), teacher="t", fault=None)

    run([record], [changed], [better], [said], talk=[])

    _, vary, improve = rows_of()
    assert record.question in vary.messages[0].content
    assert "换一组数，结构不变" in vary.messages[0].content
    assert changed.question in vary.messages[1].content
    assert "意见：步骤太少" in improve.messages[0].content
    assert "移项，得x=9。" in improve.messages[1].content


def test_what_was_made_of_a_held_out_question_is_held_out_with_it():
    configure("mix", validation=0.5)
    some = records(30)

    run(some, [derived(record, "vary:context_change", question=f"换个场合：{record.question}") for record in some])

    held = {row.id.partition("/")[0] for row in rows_of("validation")}
    assert 5 < len(held) < 25
    assert len(rows_of("validation")) == 2 * len(held)
    assert not held & {row.id.partition("/")[0] for row in rows_of()}


def test_what_the_banks_checks_would_drop_is_not_learned():
    (record,) = records(1)

    run([record], [derived(record, "vary:context_change", options=("1", "1", "2", "3"))], talk=[])

    assert len(rows_of()) == 1
    assert numbers()["refused"] == 1


def test_only_the_chosen_cells_are_learned_and_each_has_its_commission():
    configure("mix", difficulties=["basic", "advanced"], types=["factual"])
    others = [a_record(id=f"x{n}", topic="algebra", type="evaluative", question=f"评{n}？") for n in range(5)]

    run([*records(20), *others], talk=[])

    found = list(read("mix/prompts.jsonl", Commission))
    assert [row.id for row in found] == [
        f"algebra/{level}/factual/{n}" for level in ("basic", "advanced") for n in range(8)
    ]
    assert len(rows_of()) == 20


def test_a_cell_that_is_not_in_the_grid_is_a_fault():
    configure("mix", types=["poetic"])

    assert run(code=1).startswith("params.yaml: types.poetic: no such key; the types are ")


def questions_elsewhere(**changes: object) -> dict[str, object]:
    fields = {"name": "sums.jsonl", "config": None, "split": "train", "revision": None, "question": "problem"}
    place = {"solution": "worked", "topic": "algebra", "difficulty": "basic", "type": "factual", "rows": 5}
    return fields | place | changes


def test_a_set_of_questions_with_solutions_can_be_added():
    Path("sums.jsonl").write_text('{"problem": "1+1=?", "worked": "1+1=2"}\n' * 7)
    configure("mix", questions=questions_elsewhere(), thinking=1.0)

    run(records(1), talk=[])

    assert numbers()["sorts"]["elsewhere"] == 5
    assert rows_of()[-1].messages[-1].content == "<think>\n1+1=2\n</think>\n\n1+1=?"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "owner/set"}, "params.yaml: mix.questions.revision: null; name the commit of owner/set"),
        ({"question": "text"}, "params.yaml: mix.questions: sums.jsonl has no column 'text'; it has problem, worked"),
        ({"split": "cot"}, "params.yaml: mix.questions: sums.jsonl cannot be had: Unknown split"),
        ({"name": "nowhere/at", "revision": "0" * 40}, "params.yaml: mix.questions: nowhere/at cannot be had: "),
        ({"topic": "physics"}, "params.yaml: topics.physics: no such key; "),
    ],
)
def test_a_set_that_cannot_be_had_is_a_fault_and_nothing_takes_its_place(changes, said, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    Path("sums.jsonl").write_text('{"problem": "1+1=?", "worked": "1+1=2"}\n')
    configure("mix", questions=questions_elsewhere(**changes))

    assert run(code=1).startswith(said)
    assert not Path("mix").exists()


def test_a_bank_without_the_authors_topics_is_a_fault():
    assert run([], code=1) == (
        "author.jsonl: no question for the author to learn from; see split.author, mix and topics in params.yaml\n"
    )


def test_a_prompt_that_cannot_be_filled_in_is_a_fault():
    configure("prompts", author={"system": "", "write": "{topc}", "vary": "", "variations": {}, "improve": ""})

    assert run(code=1).startswith("params.yaml: prompts.author.write: 'topc'; it takes {topic}, {difficulty}, {type}")


def test_the_folder_loads_as_it_is(tmp_path):
    import datasets

    run()

    found = datasets.load_dataset("mix", cache_dir=str(tmp_path / "cache"))
    assert found["train"].num_rows == len(rows_of())
