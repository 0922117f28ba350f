import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from curate.dedup import DedupParams, dedup, kept_and_rejects, main, metrics
from curate.shards import WorkersParams
from schemas.record import LETTERS, Record, Reject
from schemas.rows import write
from tests.curate.builders import a_record, many_records

PARAMS = DedupParams(ngram=5, permutations=128, question=0.8, body=0.55, seed=7)
ONE = WorkersParams(processes=1, ray=None)
LONG = (
    "根据联合国环境规划署发布的历年报告，国际社会为应对臭氧层损耗而通过的第一项具有约束力的议定书是在哪一年开放签署的？"
)
CHAIN = {
    "think": "本题考查国际社会应对臭氧层损耗的历程。先回忆维也纳公约，再回忆其后的议定书，并比较二者的性质。",
    "steps": (
        "维也纳公约只规定了合作的框架，没有规定削减消耗臭氧层物质的具体义务。",
        "其后通过的议定书才对缔约方规定了有约束力的削减时间表。",
        "因此应当选择议定书开放签署的年份。",
    ),
    "reflection": "依据公开的条约资料作答，没有对任何国家的立场作出评价，表述保持中立。",
}


class Found:
    """What a file of records comes to."""

    def __init__(self, folder: Path, records: list[Record], params: DedupParams = PARAMS) -> None:
        path = folder / "records.jsonl"
        write(path, records)
        found = dedup(path, params, ONE)
        parts = list(kept_and_rejects(path, found))
        self.lines = b"".join(lines for lines, _ in parts)
        self.kept = [json.loads(line)["id"] for line in self.lines.splitlines()]
        self.rejects: list[Reject] = [reject for _, rejects in parts for reject in rejects]
        self.metrics = metrics(found, [(reject.reason, reject.topic) for reject in self.rejects])

    @property
    def reasons(self) -> dict[str, tuple[str, str | None]]:
        return {reject.id: (reject.reason, reject.kept) for reject in self.rejects}


def run(folder: Path, *changes: dict[str, Any], params: DedupParams = PARAMS) -> Found:
    return Found(folder, [a_record(**{"id": str(n)} | fields) for n, fields in enumerate(changes)], params)


@pytest.mark.parametrize(
    "second",
    [
        {"steps": ("另一条推理。",), "think": "另想。"},
        {"options": ("2015年", "2012年", "2018年", "2016年"), "answer": "A"},
        {"question": "巴黎协定是在哪一年通过的"},
        {"options": ("２０１２年", "２０１５年", "２０１６ 年", "2018年。")},
        {"topic": "economy"},
    ],
)
def test_an_equal_question_is_dropped_and_names_the_first(tmp_path, second):
    found = run(tmp_path, {}, second)

    assert found.kept == ["0"]
    (reject,) = found.rejects
    assert (reject.id, reject.stage, reject.reason, reject.kept) == ("1", "dedup", "duplicate", "0")
    assert reject.raw.encode() == (tmp_path / "records.jsonl").read_bytes().splitlines()[1]


def test_a_question_with_two_answers_is_set_aside_with_all_its_rows(tmp_path):
    found = run(tmp_path, {}, {"answer": "C"}, {"steps": ("同前。",)}, {"question": LONG})

    assert found.kept == ["3"]
    assert found.reasons == dict.fromkeys("012", ("conflict", None))
    details = [reject.detail for reject in found.rejects]
    assert details == [
        "the same question, here answered '2015年', is answered '2016年' by 1, '2015年' by 2",
        "the same question, here answered '2016年', is answered '2015年' by 0 2",
        "the same question, here answered '2015年', is answered '2015年' by 0, '2016年' by 1",
    ]


def test_a_large_conflict_names_each_answer_and_counts_the_rest(tmp_path):
    found = run(tmp_path, *[{} for _ in range(20)], {"answer": "C"})

    assert found.kept == []
    assert all("'2016年' by 20" in reject.detail for reject in found.rejects[:-1])
    assert found.rejects[0].detail.endswith(" and by 13 more")
    assert found.rejects[19].detail.endswith(" and by 12 more")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
def test_a_near_copy_of_a_question_with_two_answers_is_set_aside_too(tmp_path, order):
    near = LONG.replace("开放签署", "开放签字")
    rows = [{"question": LONG}, {"question": LONG, "answer": "C"}, {"question": near}]

    found = run(tmp_path, *(rows[at] | {"id": str(at)} for at in order))

    assert found.kept == []
    assert {reject.reason for reject in found.rejects} == {"conflict"}
    (reject,) = [reject for reject in found.rejects if reject.id == "2"]
    assert reject.detail.startswith("similarity 0.8") and reject.detail.endswith(
        " of question and options to 0, whose question has several answers"
    )


def test_the_second_row_of_an_id_is_dropped_and_takes_no_part(tmp_path):
    found = run(tmp_path, {}, {"id": "0", "answer": "C"}, {"id": "0", "question": LONG}, {"question": LONG})

    assert found.kept == ["0", "3"]
    assert [(reject.id, reject.reason, reject.kept, reject.detail) for reject in found.rejects] == [
        ("0", "duplicate_id", None, "line 1 has this id too")
    ] * 2


@pytest.mark.parametrize(
    "second",
    [
        {"question": "《京都议定书》是在哪一年通过的？"},
        {"options": ("1992年", "2015年", "1997年", "2018年")},
    ],
)
def test_the_same_chain_under_another_question_is_kept(tmp_path, second):
    assert run(tmp_path, {}, second).kept == ["0", "1"]


def test_a_nearly_equal_question_is_dropped_with_its_similarity(tmp_path):
    found = run(tmp_path, {"question": LONG}, {"question": LONG.replace("开放签署", "开放签字"), "steps": ("另想。",)})

    assert found.reasons == {"1": ("near_duplicate", "0")}
    assert found.rejects[0].detail.startswith("similarity 0.8")
    assert found.rejects[0].detail.endswith(" of question and options")


def test_an_edited_copy_is_dropped_though_its_question_is_too_short_to_tell(tmp_path):
    edited = CHAIN | {"think": CHAIN["think"].replace("历程", "过程")}

    found = run(tmp_path, CHAIN, edited | {"question": "《巴黎协定》是在哪一年达成的？"})

    assert found.reasons == {"1": ("near_duplicate_body", "0")}
    assert found.rejects[0].detail.endswith(" of the whole row")


@pytest.mark.parametrize(
    ("old", "new"), [("第一项", "第二项"), ("具有", "不具有"), ("议定书", "2号议定书"), ("通过的", "未通过的")]
)
@pytest.mark.parametrize("answer", ["B", "C"])
def test_a_number_or_a_negation_makes_another_question(tmp_path, old, new, answer):
    found = run(tmp_path, CHAIN | {"question": LONG}, CHAIN | {"question": LONG.replace(old, new), "answer": answer})

    assert found.kept == ["0", "1"]
    assert found.metrics["near_other_answer"] == 1


def test_a_row_is_compared_with_kept_rows_only(tmp_path):
    near, nearer = LONG.replace("历年", "各年"), LONG.replace("历年", "各年").replace("开放签署", "开放签字")
    params = DedupParams(ngram=5, permutations=128, question=0.8, body=0.95, seed=7)

    found = run(tmp_path, {"question": LONG}, *({"question": q} for q in (near, nearer, near)), params=params)

    assert found.kept == ["0", "2"]
    assert found.reasons == {"1": ("near_duplicate", "0"), "3": ("near_duplicate", "0")}
    assert found.rejects[1].detail.startswith("question and options are those of 1; similarity ")


def planted(kind: str, count: int = 300) -> tuple[list[Record], list[str]]:
    """Rows of a few hundred characters and a copy of each of some kind; and the ids of the copies."""
    draw = random.Random(7)
    letters = [chr(draw.randrange(0x5200, 0x8F00)) for _ in range(600)]

    def text(size: int) -> str:
        return "".join(draw.choices(letters, k=size))

    def edited(texts: list[str], share: float, least: int) -> list[str]:
        at = [(row, place) for row, text in enumerate(texts) for place in range(len(text))]
        changed = [list(text) for text in texts]
        for row, place in draw.sample(at, max(least, round(share * len(at)))):
            changed[row][place] = draw.choice(letters)
        return ["".join(text) for text in changed]

    rows, copies = [], []
    for number in range(count):
        texts = [text(30), *(text(draw.randint(4, 12)) for _ in range(4)), text(120), text(80), text(80), text(60)]
        rows.append((f"{number}", texts, draw.randrange(4)))
    for number, texts, answer in rows:
        made = {
            "light": lambda t: edited(t, 0, draw.randint(1, 2)),
            "three": lambda t: edited(t, 0.03, 1),
            "five": lambda t: edited(t, 0.05, 1),
            "width": lambda t: [f" {part[:3]}，{part[3:]} 。" for part in t],
            "shuffled": lambda t: [t[0], t[3], t[1], t[4], t[2], *t[5:]],
        }[kind](texts)
        place = (1, 3, 0, 2)[answer] if kind == "shuffled" else answer
        copies.append((f"{number}-copy", made, place))
    return [
        a_record(
            id=id_,
            question=texts[0],
            options=tuple(texts[1:5]),
            think=texts[5],
            steps=(texts[6], texts[7]),
            reflection=texts[8],
            answer=LETTERS[answer],
        )
        for id_, texts, answer in rows + copies
    ], [id_ for id_, _, _ in copies]


@pytest.mark.parametrize(
    ("kind", "recall"), [("width", 1.0), ("shuffled", 1.0), ("light", 0.99), ("three", 0.95), ("five", 0.95)]
)
def test_copies_are_found(tmp_path, kind, recall):
    records, copies = planted(kind)

    found = Found(tmp_path, records, DedupParams(ngram=5, permutations=128, question=0.9, body=0.55, seed=7))

    assert len(found.reasons) >= recall * len(copies)
    assert found.reasons.keys() <= set(copies)
    assert all(kept == id_.removesuffix("-copy") for id_, (_, kept) in found.reasons.items())


def test_every_row_named_is_kept_and_every_row_is_somewhere(tmp_path):
    draw = random.Random(7)
    records = []
    for number in range(400):
        question = "".join(draw.choice("历各") if character == "历" else character for character in LONG)
        question = question.replace("签署", draw.choice(("签署", "签字", "加入"))).replace(
            "约束", draw.choice("约管") + "束"
        )
        records.append(a_record(id=str(number), question=question, answer="B" if draw.random() < 0.999 else "C"))

    found = Found(tmp_path, records)

    assert sorted([*found.kept, *found.reasons], key=int) == [str(number) for number in range(400)]
    assert {kept for _, kept in found.reasons.values() if kept} <= set(found.kept)


def test_lines_that_stay_are_those_that_came(tmp_path):
    records = [
        a_record(id=str(n), question=f"第{n}号决议在哪一年通过？", think="👩\u200d🚀 e\u0301 \u2028") for n in range(9)
    ]

    found = Found(tmp_path, records)

    assert found.lines == (tmp_path / "records.jsonl").read_bytes()


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows_are_few_rows(tmp_path, count):
    found = Found(tmp_path, [a_record()] * count)

    assert len(found.kept) == count
    assert found.metrics == {
        "records": count,
        "kept": count,
        "rejected": {},
        "near_other_answer": 0,
        "topics": {"environment": 1} if count else {},
    }


def test_texts_shorter_than_an_ngram_are_texts(tmp_path):
    tiny = {"options": ("甲", "乙", "丙", "丁"), "think": "", "steps": ("想",), "reflection": "", "answer": "A"}

    found = run(tmp_path, tiny | {"question": "？"}, tiny | {"question": "是"}, tiny | {"question": "！"})

    assert found.kept == ["0", "1"]
    assert found.reasons == {"2": ("duplicate", "0")}


@pytest.mark.parametrize("processes", [1, 2])
def test_the_stage_writes_the_same_bytes_with_any_number_of_workers(a_project: Path, monkeypatch, processes):
    monkeypatch.chdir(a_project)
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load(Path("params.yaml").read_text(encoding="utf-8"))
    params["workers"] = {"processes": processes, "ray": None}
    with open("params.yaml", "w", encoding="utf-8") as file:
        yaml.dump(params, file)
    # Enough for several chunks: a comment of 120 kB in each row, different for each question.
    records = [
        a_record(
            **{name: getattr(record, name) for name in record.__struct_fields__} | {"think": f"第{n % 90}想" * 20_000}
        )
        for n, record in enumerate(many_records(120))
    ]
    copies = [
        a_record(**{name: getattr(r, name) for name in r.__struct_fields__} | {"id": f"{r.id}x"}) for r in records[:9]
    ]
    write("in.jsonl", [*records, *copies])

    result = CliRunner().invoke(main, ["in.jsonl", "out.jsonl", "rejects.jsonl", "metrics.json"])

    assert result.exit_code == 0, result.output
    assert result.output == "dedup: 120 of 129 kept\n"
    lines = Path("in.jsonl").read_bytes().splitlines(keepends=True)
    assert Path("out.jsonl").read_bytes() == b"".join(lines[:120])
    rejects = [json.loads(line) for line in Path("rejects.jsonl").read_bytes().splitlines()]
    assert [(reject["reason"], reject["kept"] + "x") for reject in rejects] == [
        ("duplicate", copy.id) for copy in copies
    ]
    assert json.loads(Path("metrics.json").read_bytes())["rejected"] == {"duplicate": 9}


def test_a_bad_row_is_a_fault_and_nothing_is_written(a_project: Path, monkeypatch):
    monkeypatch.chdir(a_project)
    Path("in.jsonl").write_bytes(b'{"id": 1}\n')

    result = CliRunner().invoke(main, ["in.jsonl", "out.jsonl", "rejects.jsonl", "metrics.json"])

    assert result.exit_code == 1
    assert result.output.startswith("in.jsonl:1: ")
    assert sorted(path.name for path in Path().iterdir()) == ["in.jsonl", "params.yaml"]
