import json
import pickle
import random
from unicodedata import east_asian_width

import pytest
from click.testing import CliRunner

from train import rewards
from train.rewards import REWARDS, Windows, ZScore


def worth(name, text, **columns):
    ids = columns.pop("ids", list(range(len(text))))
    return REWARDS[name](completions=[[{"role": "assistant", "content": text}]], completion_ids=[ids], **columns)[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("答案：A\n理由：根據相關資料分析…", 1.0),
        ("答案：A\n理由：根据相关资料分析…", 1.0),
        ("選擇B，因為這是唯一正確的答案", 0.7),
        ("选择B，因为这是唯一正确的答案", 0.7),
        ("A", 0.7),
        ("這個問題很複雜，需要考慮多個觀點…", 0.5),
        ("这个问题很复杂，需要考虑多个观点…", 0.5),
        ("", 0.5),
        ("可能有不同观点，需要平衡", 0.6),
    ],
)
def test_the_preset_gives_what_its_reference_gave(text, value):
    assert worth("preset", text) == value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("format", "答案：B", 1.0),
        ("format", "Answer: B", 1.0),
        ("format", "<output>B</output>", 1.0),
        ("format", "<output>E</output>", 0.0),
        ("format", "选B", 0.0),
        ("reasoning", "<reasoning><step>成立于1973</step>", 1.0),
        ("reasoning", "因為總部在此", 1.0),
        ("reasoning", "根據憲章，步驟如下", 1.0),
        ("reasoning", "Step 1: 24 - 7 = 17", 1.0),
        ("reasoning", "B", 0.0),
        ("neutrality", "B", 0.5),
        ("neutrality", "绝对错误，必须反对", 0.0),
        ("neutrality", "相對而言可能如此，不同觀點各有依據", 1.0),
        ("neutrality", "事实陈述" * 50 + "可能", 0.5495),
        ("valid", "应选B", 1.0),
        ("valid", "不知道", 0.0),
    ],
)
def test_each_reward_sees_its_own_aspect(name, text, value):
    assert worth(name, text) == pytest.approx(value, abs=1e-4)


def test_correct_needs_the_reference_letter():
    assert worth("correct", "<output>B</output>", answer=["B"]) == 1.0
    assert worth("correct", "<output>B</output>", answer=["C"]) == 0.0
    assert worth("correct", "不知道", answer=["C"]) == 0.0


@pytest.mark.parametrize(("tokens", "value"), [(0, 0.0), (1, 1.0), (256, 1.0), (384, 0.5), (512, 0.0), (900, 0.0)])
def test_length_falls_beyond_what_a_reply_needs(tokens, value):
    assert worth("length", "x", ids=[1] * tokens) == value


def test_repetition_is_the_share_of_distinct_runs():
    assert worth("repetition", "x", ids=[1, 2, 3, 4]) == 1.0
    assert worth("repetition", "x", ids=[1, 1, 1, 1, 1]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", REWARDS)
def test_rewards_stay_within_bounds_read_plain_text_and_pickle(name):
    given = ["", "A", "可能" * 40, "绝对" * 40]

    values = pickle.loads(pickle.dumps(REWARDS[name]))(
        completions=given, completion_ids=[[n] * 3 for n in range(4)], answer=["A"] * 4
    )

    assert len(values) == 4
    assert all(0 <= value <= 1 for value in values)


def test_a_z_score_is_measured_against_the_last_thousand():
    score = pickle.loads(pickle.dumps(ZScore(REWARDS["valid"])))

    assert score(["A", "A"]) == [0.0, 0.0]
    values = score(["A", "不知道", "A", "不知道"])

    assert score.__name__ == "valid"
    assert values[0] > 0 > values[1]
    score(["A"] * 1000)
    assert score(["A"]) == [0.0]


def test_a_z_score_logs_the_raw_mean_under_its_own_name():
    logged = []

    ZScore(REWARDS["valid"])(["A", "不知道"], log_metric=lambda *line: logged.append(line))

    assert logged == [("rewards/valid/raw", 0.5)]


def test_a_resumed_run_scores_as_one_that_was_never_stopped():
    draw = random.Random(5)
    batches = [[draw.choice(["A", "不知道", "绝对错误", "可能"]) for _ in range(300)] for _ in range(6)]
    whole = [ZScore(REWARDS[name]) for name in ("valid", "neutrality")]
    first = [ZScore(REWARDS[name]) for name in ("valid", "neutrality")]

    expected = [[score(batch) for score in whole] for batch in batches]
    found = [[score(batch) for score in first] for batch in batches[:4]]
    kept = json.loads(json.dumps(Windows([*first, REWARDS["correct"]]).kept()))
    resumed = [ZScore(REWARDS[name]) for name in ("valid", "neutrality")]
    Windows([*resumed, REWARDS["correct"]]).look_back(kept)
    found += [[score(batch) for score in resumed] for batch in batches[4:]]

    assert set(kept) == {"valid", "neutrality"}
    assert len(kept["valid"]) == rewards.WINDOW
    assert found == expected


def test_without_the_window_the_scores_would_differ():
    score, resumed = ZScore(REWARDS["valid"]), ZScore(REWARDS["valid"])
    score(["A"] * 50 + [""] * 20)

    assert score(["A", ""]) != resumed(["A", ""])


# --- train rewards ---------------------------------------------------------------------------------------------------

NAMES = ["correct", "format", "reasoning", "valid", "neutrality"]
PARAMS = "grpo: {rewards: {correct: 0.65, format: 0.1, reasoning: 0.1, valid: 0.1, neutrality: 0.05}}\n"


def run(folder, *lines, options=(), stdin=None, params=PARAMS):
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    file = folder / "given.jsonl"
    file.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines), "utf-8")
    return CliRunner().invoke(rewards.main, ["-" if stdin is not None else str(file), *options], input=stdin)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_completion_has_a_line_with_its_letter_its_rewards_and_their_weighted_total(folder):
    out = run(
        folder,
        {"id": "q1", "response": "答案：B\n理由：总部设在日内瓦", "answer": "B"},
        {"id": "q2", "completion": [{"role": "assistant", "content": "选C"}], "answer": "B"},
    ).output.splitlines()

    assert [line.split()[:9] for line in out[:4]] == [
        ["id", "letter", "found", "by", *NAMES],
        ["q1", "B", "answer_phrase", "1.000", "1.000", "1.000", "1.000", "0.500", "0.975"],
        ["q2", "C", "expression", "0.000", "0.000", "0.000", "1.000", "0.500", "0.125"],
        ["mean", "0.500", "0.500", "0.500", "1.000", "0.500", "0.550"],
    ]
    assert out[4].startswith("weights: correct 0.65, format 0.1,")


def test_columns_stand_under_one_another_whatever_the_width_of_the_characters(folder):
    long = "答案：B，因为" + "很长" * 60
    out = run(folder, {"id": "第一题", "response": long}, {"id": "2", "response": "B\u001b[31m\nx"}).output.splitlines()

    def place(line, text):
        return sum(2 if east_asian_width(c) in "WF" else 1 for c in line[: line.index(text)])

    assert place(out[1], "答案") == place(out[2], "B [31m x") == place(out[0], "reply")
    assert out[1].endswith("…")
    assert place(out[1] + "|", "|") - place(out[1], "答案") <= rewards.SHOWN


def test_without_a_right_answer_correct_shows_a_dash_and_the_total_says_so(folder):
    out = run(folder, {"response": "B"}).output

    assert out.splitlines()[1].split()[:5] == ["1", "B", "first_character", "-", "0.000"]
    assert "1 of 1 have no right answer to compare with" in out


def test_the_answer_in_a_prediction_is_no_right_answer_but_a_key_is(folder):
    row = {"id": "q", "response": "B", "answer": "B", "strategy": "first_character"}
    (folder / "key.csv").write_text("id,answer\nq,C\n", encoding="utf-8")
    (folder / "key.jsonl").write_text('{"id": "q", "answer": "B", "prompt": []}\n', encoding="utf-8")

    assert run(folder, row).output.splitlines()[1].split()[3] == "-"
    assert run(folder, row, options=["--key", "key.csv"]).output.splitlines()[1].split()[3] == "0.000"
    assert run(folder, row, options=["--key", "key.jsonl"]).output.splitlines()[1].split()[3] == "1.000"


def test_a_models_samples_are_compared_with_their_reference(folder):
    out = run(folder, {"id": "q", "prompt": "…", "reference": "<output>C</output>", "response": "C"}).output

    assert out.splitlines()[1].split()[3] == "1.000"


def test_all_gives_every_reward_and_says_what_it_counted(folder):
    out = run(folder, {"response": "总部 设在 Geneva", "answer": "A"}, options=["--all"]).output

    assert set(REWARDS) <= set(out.splitlines()[0].split())
    assert "counted Chinese characters, words and marks, not tokens" in out


def test_groups_without_spread_are_told(folder):
    same = [{"id": "same", "response": "B", "answer": "B"}] * 3
    out = run(folder, *same, {"id": "other", "response": "B", "answer": "B"}, {"id": "other", "response": "C"}).output

    assert "1 of 2 ids have no spread, GRPO learns nothing from equal rewards: same" in out


def test_json_is_one_object_a_completion(folder):
    out = run(folder, {"id": 7, "response": "答案：B", "answer": "B"}, {"response": "?"}, options=["--json"]).output
    first, second = map(json.loads, out.splitlines())

    assert (first["id"], first["letter"], first["strategy"], first["total"]) == ("7", "B", "answer_phrase", 0.875)
    assert (second["id"], second["letter"], second["rewards"]["correct"]) == ("2", None, None)


def test_standard_input_is_read_as_a_file_is(folder):
    out = run(folder, stdin='{"response": "答案：B"}\n').output

    assert out.splitlines()[1].split()[:3] == ["1", "B", "answer_phrase"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"response": "B"}\n', '{"response": \n'], "given.jsonl:2: "),
        (['{"id": "q"}\n'], "given.jsonl:1: no text; put the reply under 'response' or 'completion'"),
        (['{"completion": []}\n'], "given.jsonl:1: no text"),
        (['{"response": "B", "answer": "E"}\n'], "given.jsonl:1: answer 'E' is not one of A, B, C, D"),
        ([], "given.jsonl: empty; it needs a line for each reply"),
    ],
)
def test_a_bad_file_is_named_with_its_line(folder, lines, said):
    out = run(folder, *lines)

    assert out.exit_code == 1
    assert said in out.output
    assert len(out.output.splitlines()) == 1


def test_a_missing_file_folder_or_reward_is_told(folder):
    (folder / "params.yaml").write_text(PARAMS.replace("format", "fromat"), encoding="utf-8")
    missing = CliRunner().invoke(rewards.main, ["--all", "nowhere.jsonl"])
    unknown = CliRunner().invoke(rewards.main, ["nowhere.jsonl"])
    tokenizer = run(folder, {"response": "B"}, options=["--tokenizer", "nowhere"])

    assert "nowhere.jsonl: No such file or directory; give a JSONL file" in missing.output
    assert "grpo.rewards.fromat: no such reward; did you mean format?" in unknown.output
    assert "nowhere: no such folder" in tokenizer.output
    assert {missing.exit_code, unknown.exit_code, tokenizer.exit_code} == {1}
