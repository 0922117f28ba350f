import pickle

import pytest

from train.rewards import REWARDS, ZScore


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
