import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from curate.decontaminate import TELLING, DecontaminateParams, hold, main, matches
from curate.exams import Question
from curate.fold import fold
from schemas.params import load
from schemas.record import Record
from schemas.rows import write
from tests.curate.builders import a_record, many_records

PARAMS = DecontaminateParams(held="", ngram=5, permutations=128, threshold=0.7, seed=7)
LONG = "国际社会为应对臭氧层损耗而通过的第一项具有约束力的议定书是在哪一年开放签署的？"
ENGLISH = "Which international agreement was the first to set binding limits on ozone-depleting substances?"
OPTIONS = ("2012年", "2015年", "2016年", "2018年")
AGREEMENTS = ("The Montreal Protocol", "The Kyoto Protocol", "The Basel Convention", "The Vienna Convention")
TESTS = [
    Question("a.csv", 2, LONG, ("1985年", "1987年", "1992年", "1997年")),
    Question("a.csv", 3, "《巴黎协定》是在哪一年通过的？", OPTIONS),
    Question("b.csv", 7, ENGLISH, AGREEMENTS),
    Question("b.csv", 9, "下列说法正确的是", ("地球绕着太阳转", "太阳绕着地球转", "月球不绕地球转", "地球是平的")),
]


def found(*records: dict[str, Any], tests: list[Question] = TESTS) -> dict[int, tuple[int, float | None]]:
    made = matches([a_record(**fields) for fields in records], hold(tests, PARAMS.near()), PARAMS.near())
    return {row: (match.held, match.similarity) for row, match in made.items()}


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"answer": "C", "steps": ("别的推理。",)},
        {"options": OPTIONS[::-1]},
        {"question": "巴黎协定 是在哪一年通过的?", "options": tuple(f"{option}。" for option in OPTIONS)},
        {"question": "《巴黎协定》是在哪一年通过的", "options": ("２０１２年", *OPTIONS[1:])},
    ],
)
def test_a_row_that_asks_the_same_is_contaminated(row):
    assert found(row) == {0: (1, 1.0)}


@pytest.mark.parametrize(
    ("row", "test"),
    [
        ({"question": LONG.replace("通过", "达成"), "options": TESTS[0].options}, 0),
        ({"question": LONG, "options": ("1985年", "1987年", "1992年", "1998年")}, 0),
        ({"question": ENGLISH.replace("limits", "targets"), "options": AGREEMENTS}, 2),
        ({"question": ENGLISH.replace("was the first", "was not the first"), "options": AGREEMENTS}, 2),
    ],
)
def test_a_row_that_asks_nearly_the_same_is_contaminated(row, test):
    ((held, similarity),) = found(row).values()

    assert held == test
    assert 0.7 <= similarity < 1


@pytest.mark.parametrize(
    ("question", "test"),
    [
        (LONG, 0),
        (f"据联合国环境规划署的资料，{LONG}请选择。", 0),
        (f"Read carefully. {ENGLISH.upper().capitalize()} {ENGLISH}", 2),
    ],
)
def test_a_row_whose_stem_holds_a_telling_stem_is_contaminated_whatever_its_options(question, test):
    options = ("甲说得对", "乙说得对", "两人说得都对", "两人说得都不对")

    assert found({"question": question, "options": options}) == {0: (test, None)}


@pytest.mark.parametrize(
    "row",
    [
        {"question": "下列说法正确的是", "options": ("甲说得对", "乙说得对", "两人说得都对", "两人说得都不对")},
        {"question": "《京都议定书》是在哪一年通过的？", "options": ("1992年", "1995年", "1997年", "2005年")},
        {"question": "《巴黎协定》是在哪一年通过的？", "options": ("甲年", "乙年", "丙年", "丁年")},
        {"question": "Which?", "options": AGREEMENTS},
        {"question": LONG[: len(LONG) // 2], "options": ("甲", "乙", "丙", "丁")},
    ],
)
def test_a_row_that_asks_something_else_is_kept(row):
    assert found(row) == {}


@pytest.mark.parametrize(("length", "contaminated"), [(TELLING // 3, True), (TELLING // 3 - 1, False)])
def test_a_stem_is_telling_from_sixteen_chinese_characters(length, contaminated):
    stem = fold(LONG)[:length]
    row = {"question": f"请问{stem}", "options": ("甲说得对", "乙说得对", "两人说得都对", "两人说得都不对")}

    assert bool(found(row, tests=[Question("a.csv", 2, stem, OPTIONS)])) is contaminated


def test_the_most_similar_question_is_named_and_of_equals_the_first():
    near = LONG.replace("通过", "达成")
    tests = [Question("a.csv", at, text, OPTIONS) for at, text in enumerate((near, LONG, LONG))]

    assert found({"question": LONG}, tests=tests) == {0: (1, 1.0)}


def test_the_longest_stem_is_named_and_of_equals_the_first():
    tests = [Question("a.csv", at, text, ("1", "2")) for at, text in enumerate((LONG[:20], LONG[:30], LONG[:30]))]

    assert found({"question": f"请问{LONG}"}, tests=tests) == {0: (1, None)}


def test_no_tests_and_no_rows_match_nothing():
    assert found({}, tests=[]) == {}
    assert found() == {}


@pytest.mark.parametrize("question", ["是", "👩\u200d🚀", "e\u0301"])
def test_a_question_shorter_than_an_ngram_is_found(question):
    row = {"question": question, "options": ("1", "2", "3", "4")}

    assert found(row, row | {"question": "否"}, tests=[Question("a.csv", 2, question, tuple("4321"))]) == {0: (0, 1.0)}


def test_nearly_all_edited_copies_are_found_among_thousands_of_alike_questions():
    draw = random.Random(7)
    names = ["".join(chr(draw.randrange(0x5200, 0x8F00)) for _ in range(8)) for _ in range(3000)]
    tests = [
        Question(
            "a.csv", at, f"关于{name}的下列各项说法之中，符合历史事实的是哪一项？", (name[:4], "正确", "错误", "都不是")
        )
        for at, name in enumerate(names)
    ]
    rows = [{"question": test.question.replace("说法", "表述"), "options": test.options} for test in tests[::10]]

    hits = found(*rows, tests=tests)

    assert sum(hits.get(row, (None,))[0] == 10 * row for row in range(300)) >= 297


def invoke(folder: Path, records: list[Record], processes: int = 1, more: Sequence[str] = ()) -> Result:
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load((folder / "params.yaml").read_text(encoding="utf-8"))
    params["workers"] = {"processes": processes, "ray": None}
    with open(folder / "params.yaml", "w", encoding="utf-8") as file:
        yaml.dump(params, file)
    write(folder / "in.jsonl", records)
    return CliRunner().invoke(main, ["in.jsonl", "held", "out.jsonl", "rejects.jsonl", "metrics.json", *more])


def a_test(folder: Path, *records: Record) -> None:
    (folder / "held").mkdir()
    (folder / "held" / "README.md").write_text("About the tests.", encoding="utf-8")
    rows = "".join(f"{n},{','.join((r.question, *r.options))},{r.answer}\n" for n, r in enumerate(records))
    (folder / "held" / "cmmlu.csv").write_text(f",Question,A,B,C,D,Answer\n{rows}", encoding="utf-8")


@pytest.mark.parametrize("processes", [1, 2])
def test_the_stage_names_file_line_and_question_with_any_number_of_workers(a_project, monkeypatch, processes):
    monkeypatch.chdir(a_project)
    # Enough for several chunks; the chain is no part of what is compared.
    records = [
        a_record(**{name: getattr(record, name) for name in record.__struct_fields__} | {"think": "想" * 60_000})
        for record in many_records(160)
    ]
    a_test(a_project, records[7], a_record(), records[150])

    result = invoke(a_project, records, processes)

    assert result.exit_code == 0, result.output
    assert result.output == "decontaminate: 156 of 160 kept; 3 questions of tests\n"
    lines = Path("in.jsonl").read_bytes().splitlines(keepends=True)
    gone = (6, 7, 150, 151)
    assert Path("out.jsonl").read_bytes() == b"".join(line for at, line in enumerate(lines) if at not in gone)
    rejects = [json.loads(line) for line in Path("rejects.jsonl").read_bytes().splitlines()]
    assert [(r["id"], r["stage"], r["reason"], r["kept"]) for r in rejects] == [
        (records[at].id, "decontaminate", "contaminated", None) for at in gone
    ]
    assert [reject["detail"] for reject in rejects] == [
        f"holds the stem of held/cmmlu.csv:2 '{records[7].question}'",
        f"similarity 1.00 to held/cmmlu.csv:2 '{records[7].question}'",
        f"similarity 1.00 to held/cmmlu.csv:4 '{records[150].question}'",
        f"holds the stem of held/cmmlu.csv:4 '{records[150].question}'",
    ]
    assert [reject["raw"].encode() + b"\n" for reject in rejects] == [lines[at] for at in gone]
    numbers = json.loads(Path("metrics.json").read_bytes())
    assert numbers["rejected"] == {"contaminated": 4}
    assert numbers["tests"] == {"held/cmmlu.csv": {"questions": 3, "rejected": 4}}
    assert sum(numbers["topics"].values()) == numbers["kept"] == 156


def test_a_long_question_is_cut_in_the_reason(a_project, monkeypatch):
    monkeypatch.chdir(a_project)
    record = a_record(question=LONG * 3)
    a_test(a_project, record)

    assert invoke(a_project, [record]).exit_code == 0

    assert json.loads(Path("rejects.jsonl").read_bytes())["detail"].endswith(f":2 '{(LONG * 3)[:60]}…'")


@pytest.mark.parametrize("count", [0, 1])
def test_without_tests_everything_stays(a_project, monkeypatch, count):
    monkeypatch.chdir(a_project)
    (a_project / "held").mkdir()

    result = invoke(a_project, [a_record()] * count)

    assert result.output == f"decontaminate: {count} of {count} kept; 0 questions of tests\n"
    assert Path("out.jsonl").read_bytes() == Path("in.jsonl").read_bytes()
    assert Path("rejects.jsonl").read_bytes() == b""
    assert json.loads(Path("metrics.json").read_bytes())["rejected"] == {}


OWN = "id,question,option_A,option_B,option_C,option_D\n"


def test_the_users_own_test_is_kept_out_of_the_bank_too(a_project, monkeypatch):
    monkeypatch.chdir(a_project)
    records = many_records(8)
    a_test(a_project, records[2])
    Path("exam").mkdir()
    Path("exam/my.csv").write_text(f"{OWN}x,{','.join((records[5].question, *records[5].options))}\n", "utf-8")

    result = invoke(a_project, records, more=["--exam", "exam"])

    assert result.output == "decontaminate: 4 of 8 kept; 2 questions of tests\n"
    numbers = json.loads(Path("metrics.json").read_bytes())
    assert numbers["tests"] == {
        "exam/my.csv": {"questions": 1, "rejected": 2},
        "held/cmmlu.csv": {"questions": 1, "rejected": 2},
    }


def test_an_own_test_that_cannot_be_used_is_a_fault_before_anything_is_paid_for(a_project, monkeypatch):
    monkeypatch.chdir(a_project)
    (a_project / "held").mkdir()
    Path("exam").mkdir()
    Path("exam/my.csv").write_text(f"{OWN}x,哪一年？,1,2,3,3\n", "utf-8")

    result = invoke(a_project, [a_record()], more=["--exam", "exam"])

    assert result.exit_code == 1
    assert result.output == "exam/my.csv:2: option_C and option_D are both '3'; make them differ\n"
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize("bad", ["in.jsonl", "held/cmmlu.csv"])
def test_bad_input_is_a_fault_and_nothing_is_written(a_project, monkeypatch, bad):
    monkeypatch.chdir(a_project)
    a_test(a_project, a_record())
    write("in.jsonl", [a_record()])
    Path(bad).write_bytes(b"\xff\n")

    result = CliRunner().invoke(main, ["in.jsonl", "held", "out.jsonl", "rejects.jsonl", "metrics.json"])

    assert result.exit_code == 1
    assert result.output.startswith(f"{bad}:1: ")
    assert sorted(path.name for path in Path().iterdir()) == ["held", "in.jsonl", "params.yaml"]


def test_the_project_names_a_folder_of_tests_that_can_be_read():
    assert Path(load("decontaminate", DecontaminateParams).held).is_dir()
