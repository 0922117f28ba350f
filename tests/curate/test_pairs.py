import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from curate.balance import reorder
from curate.checks import ValidateParams
from curate.pairs import (
    BREAKS,
    BROKEN,
    TYPES,
    UNREAD,
    Made,
    Making,
    PairsParams,
    Refused,
    Shares,
    Sources,
    Undrawn,
    main,
    make_pairs,
)
from schemas import chain
from schemas.faults import Fault
from schemas.params import ChatPrompt, load
from schemas.record import Derived, Judged, Judgement, Pair, Prediction, Record, Reject
from schemas.rows import read, write
from tests.curate.builders import a_record, many_records

PROMPT = ChatPrompt(system="请作答。", user="{question}\n{options}", option="{text}（{letter}）")
JUDGEMENT = Judgement(
    rigor=3, difficulty=4, innovation=2, clarity=4, educational_value=3, feedback="没有说明其余选项为何不成立。"
)


LONG = (
    "《巴黎协定》在第二十一次缔约方会议上通过，会议的决定载明了日期；各方代表随后在纽约签署，"
    "又过了一年达到生效所要的份额，所以二〇一六年是生效的年份，而二〇一八年谈妥的是实施细则。"
)


def a_making(longer: float = 2.0, parts: tuple[str, ...] = ("reasoning", "output"), **shares: float) -> Making:
    types = dict.fromkeys(TYPES, 0.0) | (shares or dict.fromkeys(TYPES, 1.0))
    params = PairsParams(types=Shares(**types), longer=longer, seed=7)
    return Making(params, PROMPT, parts, load("validate", ValidateParams))


def derived(how: str, **changes: Any) -> Derived:
    """A row made of the record of `a_record`, before its options were shuffled."""
    record = a_record()
    fields = {name: getattr(record, name) for name in Record.__struct_fields__}
    return Derived(**fields | {"id": "d", "of": record.id, "how": how} | changes)


def wrong(**changes: Any) -> Derived:
    steps = ("《巴黎协定》于2016年通过。", "因此选项C正确。")
    return derived("contrast:wrong", **{"steps": steps, "answer": "C"} | changes)


def biased(**changes: Any) -> Derived:
    return derived("contrast:biased", **{"steps": ("毫无疑问是2015年。", "因此选项B正确。")} | changes)


def improved(**changes: Any) -> Derived:
    steps = ("会议的决定载明《巴黎协定》于2015年通过。", "其余年份不符，因此选项B正确。")
    return derived("improve", **{"steps": steps} | changes)


def replied(response: str, answer: str, strategy: str = "output_tag") -> Prediction:
    return Prediction(id=a_record().id, response=response, answer=answer, strategy=strategy)


def found(
    records: list[Record],
    making: Making,
    *rows: Derived,
    attempts: tuple[Prediction, ...] = (),
    judgements: dict[str, Judgement] | None = None,
) -> list[Made | Refused | Undrawn]:
    by_id: dict[str, list[Derived]] = {}
    for row in rows:
        by_id.setdefault(row.of, []).append(row)
    marks = {records[0].id: JUDGEMENT} if judgements is None else judgements
    return list(make_pairs(records, Sources(by_id, marks, {row.id: row for row in attempts}), making))


def rewritten(path: Path, old: str, new: str) -> None:
    before = path.read_text("utf-8")
    assert before.count(old) == 1
    path.write_text(before.replace(old, new), "utf-8")


def made(*args: Any, **kwargs: Any) -> list[Pair]:
    return [each.pair for each in found(*args, **kwargs) if isinstance(each, Made)]


def reasons(*args: Any, **kwargs: Any) -> list[str]:
    return [each.reject.reason for each in found(*args, **kwargs) if isinstance(each, Refused)]


def test_a_record_without_a_contrast_is_argued_to_one_wrong_option():
    records = many_records(30)

    pairs = made(records, a_making(wrong_answer=1.0))

    assert [pair.id.partition(".")[0] for pair in pairs] == [record.id for record in records]
    assert all(pair.rejected[0].content.endswith(f"<output>{pair.id[-1]}</output>") for pair in pairs)
    assert {pair.id[-1] for pair in pairs} == {"B", "C", "D"}


def test_a_wrong_contrast_takes_the_place_of_an_argued_chain():
    (pair,) = made([a_record()], a_making(wrong_answer=1.0), wrong())

    assert (pair.id, pair.type) == ("0000000000000001.d", "wrong_answer")
    assert pair.chosen[0].content.endswith("<step>因此选项B正确。</step></reasoning>\n<output>B</output>")
    assert pair.rejected[0].content == (
        "<reasoning><step>《巴黎协定》于2016年通过。</step><step>因此选项C正确。</step></reasoning>\n<output>C</output>"
    )
    assert pair.why == "embedded argued for C; the answer is B"


@pytest.mark.parametrize("row", [wrong(), biased(), improved()])
def test_a_row_made_before_the_shuffle_follows_the_options_of_the_record(row):
    shuffled = reorder(a_record(), ("C", "D", "A", "B"))

    (pair,) = [pair for pair in made([shuffled], a_making(), row) if pair.id.endswith(".d")]

    side = pair.chosen if row.how == "improve" else pair.rejected
    there = {"A": "C", "B": "D", "C": "A", "D": "B"}[row.answer]
    assert f"选项{there}正确" in side[0].content
    assert side[0].content.endswith(f"<output>{there}</output>")
    assert "2016年（A）" in pair.prompt[-1].content


def test_options_are_matched_as_a_reader_would():
    row = wrong(options=("２０１２年", "2015 年", "2016年。", "2018年"), question="《巴黎协定》是在哪一年通过的?")

    assert [pair.id for pair in made([a_record()], a_making(wrong_answer=1.0), row)] == ["0000000000000001.d"]


def test_the_right_answer_argued_from_one_side_is_rejected():
    (pair,) = made([a_record()], a_making(biased=1.0), biased())

    assert pair.type == "biased"
    assert chain.output(pair.chosen[0].content) == chain.output(pair.rejected[0].content) == "B"
    assert "毫无疑问" in pair.rejected[0].content


def test_an_improved_chain_is_chosen_and_the_marks_of_the_other_are_told():
    (pair,) = made([a_record()], a_making(lower_judged=1.0), improved())

    assert pair.type == "lower_judged"
    assert "会议的决定载明" in pair.chosen[0].content
    assert "会议的决定载明" not in pair.rejected[0].content
    assert pair.why == (
        "marked 3.2 of 5 (rigor 3, difficulty 4, innovation 2, clarity 4, educational_value 3): "
        "没有说明其余选项为何不成立。 The chosen chain was rewritten after that"
    )


def test_an_improvement_that_words_the_question_otherwise_answers_the_record_as_it_is():
    row = improved(question="《巴黎协定》在何年获得通过？")

    (one,) = [each for each in found([a_record()], a_making(lower_judged=1.0), row) if isinstance(each, Made)]

    assert one.how == "reworded"
    assert one.pair.prompt[-1].content.startswith("《巴黎协定》是在哪一年通过的？")
    assert one.pair.why.endswith("and whose question it words otherwise")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (wrong(question="《京都议定书》是在哪一年通过的？"), "not_same_question"),
        (wrong(options=("2012年", "2015年", "2016年", "1997年")), "not_same_question"),
        (wrong(answer="B"), "same_answer"),
        (biased(answer="C"), "other_answer"),
        (improved(answer="C"), "other_answer"),
        (improved(options=("2012年", "2015年", "2016年", "2020年")), "not_same_question"),
        (improved(steps=("绝对正确的是2015年。", "因此选项B正确。")), "not_neutral"),
        (improved(steps=("毫无根据。", "故选C。")), "reasoning_disagrees"),
        (improved(steps=(LONG, "因此选项B正确。")), "too_long"),
        (derived("contrast:biased"), "same_reply"),
        (derived("contrast:biased", think="毫无疑问。"), "same_reply"),
        (biased(of="held_out"), "elsewhere"),
    ],
)
def test_a_row_that_makes_no_pair_is_refused_with_its_reason(row, reason):
    making = a_making(longer=1.5, wrong_answer=1.0, biased=1.0, lower_judged=1.0)

    assert reasons([a_record()], making, row) == [reason]


def test_letters_that_cannot_be_led_to_the_new_order_are_refused_and_the_record_is_argued():
    shuffled = reorder(a_record(), ("C", "D", "A", "B"))
    making = a_making(wrong_answer=1.0)

    assert reasons([shuffled], making, wrong(steps=("A国先加入，故选C。",))) == ["letters_unclear"]
    (pair,) = made([shuffled], making, wrong(steps=("A国先加入，故选C。",)))
    assert pair.id.split(".")[1] in "ABC"  # the letter it is argued to; the answer is D


def test_an_improvement_without_marks_is_refused():
    assert reasons([a_record()], a_making(lower_judged=1.0), improved(), judgements={}) == ["not_judged"]


def test_a_refused_row_is_kept_as_it_was():
    (refused,) = [
        each for each in found([a_record()], a_making(biased=1.0), biased(answer="C")) if isinstance(each, Refused)
    ]

    assert refused.reject.id == a_record().id
    assert refused.reject.detail == "biased: C, the record's is B"
    assert msgspec.json.decode(refused.reject.raw, type=Derived) == biased(answer="C")


@pytest.mark.parametrize(
    ("attempt", "type_", "why"),
    [
        (replied("<reasoning><step>《巴黎协定》于2018年通过。</step></reasoning>\n<output>D</output>", "D"),
         "student_error", "the model's own reply answers D (output_tag); the answer is B"),
        (replied("《巴黎协定》于2018年通过，应当选择的是最后的那一个，答案是D", "D", "answer_phrase"),
         "student_error", "the model's own reply answers D (answer_phrase); the answer is B"),
        (replied("<reasoning><step>《巴黎协定》于2015年通过。《巴黎协定》于", "B", UNREAD),
         "format", "the model's own reply, in which no answer was found; the answer is B"),
        (replied("<reasoning><step>《巴黎协定》于2015年通过。</step></reasoning>\n<output>B</output>", "B"), None, ""),
    ],
)  # fmt: skip
def test_an_error_of_the_model_is_rejected_as_it_came(attempt, type_, why):
    pairs = [
        pair for pair in made([a_record()], a_making(longer=4.0), attempts=(attempt,)) if pair.id.endswith("attempt")
    ]

    assert [(pair.type, pair.why) for pair in pairs] == ([(type_, why)] if type_ else [])
    assert [pair.rejected[0].content for pair in pairs] == ([attempt.response] if type_ else [])


def test_an_empty_reply_is_a_fault_of_form_too_short_to_be_a_pair():
    making = a_making(student_error=1.0, format=1.0)

    (refused,) = [
        each for each in found([a_record()], making, attempts=(replied("", "D", UNREAD),)) if isinstance(each, Refused)
    ]

    assert (refused.type, refused.reject.reason) == ("format", "too_long")


def test_an_attempt_at_a_question_of_no_record_is_a_fault():
    with pytest.raises(Fault, match="an attempt at 0000000000000001, which is not on the train or rollout side"):
        made(many_records(1), a_making(), attempts=(replied("B", "B"),))


@pytest.mark.parametrize("way", BREAKS)
def test_a_broken_form_keeps_the_words(way):
    whole = chain.render(a_record())
    words = [*a_record().steps, a_record().think, a_record().reflection]

    broken = BREAKS[way](whole)

    assert broken != whole
    assert all(word in broken for word in words)
    assert way in BROKEN


def test_forms_are_broken_in_every_way_and_none_in_one_that_changes_nothing():
    records = many_records(120)

    everything = found(records, a_making(format=1.0))
    letters_alone = found(records, a_making(parts=(), format=1.0, longer=9.0))

    assert {each.how for each in everything if isinstance(each, Made)} == BREAKS.keys() - {"no_tags"}
    assert {each.how for each in letters_alone if isinstance(each, Made)} == set()


def test_replies_of_unlike_length_are_no_pair():
    long = biased(steps=("毫无疑问，" * 20 + "是2015年。", "因此选项B正确。"))

    assert reasons([a_record()], a_making(longer=1.5, biased=1.0), long) == ["too_long"]
    assert reasons([a_record()], a_making(longer=9.0, biased=1.0), long) == []


def test_a_share_of_the_records_gives_a_type_the_same_whatever_else_there_is():
    records = many_records(400)

    half = {pair.id for pair in made(records, a_making(wrong_answer=0.5))}
    fewer_records = {pair.id for pair in made(records[::3], a_making(wrong_answer=0.5))}
    more = {pair.id for pair in made(records, a_making(wrong_answer=0.8, format=1.0)) if pair.type == "wrong_answer"}

    assert 160 < len(half) < 240
    assert fewer_records == half & {pair.id for pair in made(records[::3], a_making(wrong_answer=1.0))}
    assert half < more
    assert made(records, a_making(wrong_answer=0.0)) == []


def test_no_two_pairs_say_the_same():
    twice = [a_record(), a_record(id="0000000000000002")]
    making = a_making(biased=1.0)
    rows = [biased(), biased(of="0000000000000002")]

    assert len(made(twice, making, *rows)) == 1
    assert reasons(twice, making, *rows) == ["duplicate"]


def test_every_side_of_a_pair_is_a_turn_of_the_assistant_and_the_two_differ():
    records = many_records(60)

    for pair in made(records, a_making()):
        assert [message.role for message in pair.prompt] == ["system", "user"]
        assert [message.role for message in (*pair.chosen, *pair.rejected)] == ["assistant", "assistant"]
        assert pair.chosen != pair.rejected
        assert pair.why


def test_an_unknown_type_of_params_is_a_fault(a_project):
    path = a_project / "params.yaml"
    rewritten(path, "student_error: 1.0", "student_error: 1.0, students_error: 1.0")

    with pytest.raises(Fault, match=r"pairs\.types: Object contains unknown field `students_error`"):
        load("pairs", PairsParams, path)


@pytest.fixture
def written(a_project, monkeypatch):
    """A project after the stage: eight records of train, four of rollout, a contrast, a judged improvement, errors."""
    monkeypatch.chdir(a_project)
    rewritten(a_project / "params.yaml", "biased: 1.0, format: 0.1", "biased: 1.0, format: 1.0")
    records = [a_record(), *many_records(24)[::2]]
    error = replied("<reasoning><step>《巴黎协定》于2018年通过。</step></reasoning>\n<output>D</output>", "D")
    files = {
        "train": records[1:],
        "rollout": records[:1],
        "contrast": [wrong(), biased(id="e"), biased(id="f", of="held_out")],
        "improve": [improved(id="g")],
        "judge": [Judged(id=a_record().id, judgement=JUDGEMENT, teacher="embedded", fault=None)],
        "attempts": [error],
    }
    for name, rows in files.items():
        write(f"{name}.jsonl", rows)
    run(files)
    return a_project


def run(names: Any) -> None:
    main([*(f"{name}.jsonl" for name in names), "pairs", "rejects.jsonl", "metrics.json"], standalone_mode=False)


def test_the_stage_writes_pairs_rejects_and_what_it_counted(written):
    pairs = list(read("pairs/train.jsonl", Pair))
    rejects = list(read("rejects.jsonl", Reject))
    metrics = json.loads((written / "metrics.json").read_text("utf-8"))

    assert metrics["records"] == 13
    assert metrics["pairs"] == len(pairs)
    for type_, kind in metrics["types"].items():
        of = [pair for pair in pairs if pair.type == type_]
        chosen, rejected = ([len(getattr(pair, side)[0].content) for pair in of] for side in ("chosen", "rejected"))
        longer = sum(a > b for a, b in zip(chosen, rejected, strict=True))
        assert kind["pairs"] == sum(kind["how"].values()) == len(of) > 0
        assert kind["chosen_characters"] == (round(sum(chosen) / len(of), 1) if of else None)
        assert kind["rejected_characters"] == (round(sum(rejected) / len(of), 1) if of else None)
        assert kind["chosen_longer"] == (round(longer / len(of), 4) if of else None)
    assert sum(metrics["letters"]["chosen"].values()) == sum(metrics["letters"]["rejected"].values()) == len(pairs)
    assert metrics["letters"]["chosen"]["A"] >= 12
    assert [(reject.stage, reject.reason, reject.id) for reject in rejects] == [("pairs", "elsewhere", "held_out")]
    assert metrics["types"]["biased"]["dropped"] == {"elsewhere": 1}


def test_the_folder_loads_as_a_data_set_and_its_card_tells_why(written, tmp_path):
    from datasets import load_dataset

    loaded = load_dataset(str(written / "pairs"), cache_dir=str(tmp_path / "cache"))
    card = (written / "pairs/README.md").read_text("utf-8")

    assert list(loaded) == ["train"]
    assert [msgspec.convert(row, Pair) for row in loaded["train"]] == list(read("pairs/train.jsonl", Pair))
    assert "embedded argued for C; the answer is B" in card
    assert "marked 3.2 of 5" in card


def test_llama_factory_finds_and_reads_the_same_pairs(written):
    """By the rules of its `get_dataset_list`, `SharegptDatasetConverter` and `PairwiseDatasetProcessor` (0.9.5)."""
    folder = written / "pairs/llamafactory"
    info = json.loads((folder / "dataset_info.json").read_text("utf-8"))["pairs"]
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"} | info.get(
        "tags", {}
    )
    role, content = tags["role_tag"], tags["content_tag"]
    columns = info["columns"]
    rows = json.loads((folder / info["file_name"]).read_text("utf-8"))

    assert (info["formatting"], info["ranking"]) == ("sharegpt", True)
    for row, pair in zip(rows, read("pairs/train.jsonl", Pair), strict=True):
        turns = row[columns["messages"]]
        system = [turn for turn in turns if turn[role] == "system"]
        assert turns[: len(system)] == system
        assert [turn[role] for turn in turns[len(system) :]] == [tags["user_tag"]]  # an odd count, the last the user's
        for side in ("chosen", "rejected"):
            assert row[columns[side]] == {role: tags["assistant_tag"], content: getattr(pair, side)[0].content}
        assert [turn[content] for turn in turns] == [message.content for message in pair.prompt]


def test_the_same_files_give_the_same_bytes(written):
    files = ["train", "rollout", "contrast", "improve", "judge", "attempts"]
    outputs = [*(written / "pairs").rglob("*.*"), written / "rejects.jsonl", written / "metrics.json"]
    before = [path.read_bytes() for path in outputs]

    run(files)

    assert len(outputs) == 6
    assert [path.read_bytes() for path in outputs] == before


def test_a_file_of_other_rows_is_a_fault_and_nothing_is_written(written):
    files = ["train", "rollout", "contrast", "improve", "judge", "attempts"]
    before = (written / "pairs/train.jsonl").read_bytes()
    write("improve.jsonl", [derived("vary:context_change")])

    with pytest.raises(Fault, match=r"^improve\.jsonl:1: 'vary:context_change' makes no pair"):
        run(files)

    assert (written / "pairs/train.jsonl").read_bytes() == before


def test_without_a_pair_the_files_are_still_whole(written):
    for name in ("train", "rollout", "contrast", "improve", "judge", "attempts"):
        write(f"{name}.jsonl", [])

    run(["train", "rollout", "contrast", "improve", "judge", "attempts"])

    assert json.loads((written / "pairs/llamafactory/pairs.json").read_text()) == []
    assert (written / "pairs/train.jsonl").read_bytes() == b""
