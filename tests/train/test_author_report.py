import json
from pathlib import Path

import pytest

from schemas import chat, rows
from schemas.chat import authored
from schemas.faults import Fault
from schemas.params import load
from schemas.record import Record
from tests.browser import browser, look, overflows, requests_of, screenshot
from tests.train.conftest import run
from train import author_report
from train.author.quality import QUALITIES
from train.author_report import Author, Looked, Varied
from train.progress import answered
from train.watch import Reply

ARGUMENTS = ("data/mix/prompts.jsonl", "data/mix/author.jsonl", "distilled.json", "report/author.html", "plots/author")
TAUGHT = {
    "rounds": [
        {"written": 90, "sent": 40, "mean": 3.5, "approved": 0.25, "marks": {"rigor": 3.0, "clarity": 4.0}},
        {"written": 90, "sent": 45, "mean": 4.0, "approved": 0.5, "marks": {"rigor": 3.5, "clarity": 4.5}},
    ]
}


def an_author(name: str = "author_sft", confirmed: float = 0.25) -> Author:
    shares = {"confirmed": confirmed, "unchecked": 0.0, "refuted": 0.5, "malformed": 0.5 - confirmed}
    qualities = {"difficulty": 0.2, "novelty": 0.1, "rigor": 0.4, "diversity": 0.1}
    looked = Looked(
        thinking=True,
        verdicts=shares,
        confirmed95=(0.2, 0.3),
        qualities=qualities,
        total=0.2,
        by_topic={"algebra": confirmed},
        samples=(("algebra/basic/factual", "confirmed", "<think>\n求<b>x</b>\n</think>"),),
    )
    replies = [
        Reply(step=step, id="a", reply="", right=bool(step), kl=None, qualities={**qualities, "novelty": step / 10})
        for step in (0, 5)
    ]
    varied = {how: Varied(4, 1, 2) for how in author_report.VARIATIONS}
    return Author(name=name, looked=(looked,), varied=varied, way=tuple(answered(replies)))


def test_each_quality_counts_the_same_for_balance():
    assert author_report.balance({"a": 0.5, "b": 0.5}) == 1.0
    assert author_report.balance({"a": 0.1, "b": 0.4}) == 0.25
    assert author_report.balance({"a": 0.0, "b": 0.0}) == 0.0


def test_the_metrics_tell_every_author_and_the_teachers_word():
    told = author_report.figures([an_author(), an_author("author_grpo", 0.5)], TAUGHT)

    assert told["author_grpo"]["thinking"]["verdicts"]["confirmed"] == 0.5
    assert told["author_sft"]["thinking"]["balance"] == 0.25
    assert [one["mean"] for one in told["teacher"]] == [3.5, 4.0]


def test_a_variation_is_asked_for_with_the_original_and_each_way(author_project):
    originals = list(rows.read("data/mix/author.jsonl", Record))[:2]

    told = author_report.variations(originals, chat.words())

    assert told.keys() == {"context_change", "parameter_change", "practical_application"}
    for commissions in told.values():
        for commission, original in zip(commissions, originals, strict=True):
            assert original.question in commission.prompt[-1].content


@pytest.mark.parametrize(
    ("reply", "confirmed", "copied"),
    [("the original", 0, 2), ("another", 2, 0), ("nothing", 0, 0)],
)
def test_a_copy_of_the_original_is_no_variation(author_project, monkeypatch, reply, confirmed, copied):
    some = list(rows.read("data/mix/author.jsonl", Record))
    originals, others = some[:2], some[6:8]
    said = {"the original": originals, "another": others, "nothing": None}[reply]
    made = iter([authored(one, thinking=True).content for one in said] if said else ["", ""])
    monkeypatch.setattr(author_report.writing, "generate", lambda *a, **k: [[(0, next(made)), (1, next(made))]])
    params = load("author_report", author_report.AuthorReportParams)
    told = author_report.variations(originals, chat.words())
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("models/author_base")

    found = author_report.vary(None, tokenizer, params, originals, {"context_change": told["context_change"]})

    assert found["context_change"] == Varied(2, confirmed, copied)


def test_the_models_of_every_training_are_looked_at_in_the_same_way(author_trained, capsys):
    Path("distilled.json").write_text(json.dumps(TAUGHT))

    run(author_report.main, *ARGUMENTS, "metrics/report.json", "a=models/author_sft", "b=models/author_sft")

    told = json.loads(Path("metrics/report.json").read_text())
    assert told["a"] == told["b"]
    assert told["a"].keys() == {"thinking", "at_once", "variations"}
    assert told["a"]["variations"]["context_change"]["n"] == 2
    assert Path("plots/author/verdicts.csv").read_text().startswith("author,verdict,share\na,confirmed,")
    assert "author_report: a: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("named", "changes", "said"),
    [
        ("models/author_sft", {}, "models/author_sft: write NAME=MODEL"),
        ("a=models/nowhere", {}, "models/nowhere: no such folder; train it first"),
        ("a=models/author_sft", {"weights": {"beauty": 1.0}}, "weights.beauty: no such reward; there are"),
        ("a=models/author_sft", {"weights": dict.fromkeys(QUALITIES, 0.0)}, "weights: none has a weight"),
        ("a=models/author_sft", {"thinking": []}, r"author_report\.thinking: \[\]; take true, false or both"),
    ],
)
def test_what_is_wrong_is_one_line(author_trained, changed, named, changes, said):
    Path("distilled.json").write_text("{}")
    changed({"author_report": changes})

    with pytest.raises(Fault, match=said):
        run(author_report.main, *ARGUMENTS, "metrics/none.json", named)
    assert not Path("metrics/none.json").exists()


def test_a_distillation_without_metrics_is_told_before_a_model_is_loaded(author_trained, tmp_path):
    lost = (*ARGUMENTS[:2], tmp_path / "distilled.json", *ARGUMENTS[3:])

    with pytest.raises(Fault, match=r"distilled\.json: No such file"):
        run(author_report.main, *lost, "metrics/none.json", "a=models/author_sft")


def test_the_page_is_readable_in_a_browser_without_a_network(tmp_path):
    path = tmp_path / "author.html"
    path.write_text(author_report.written([an_author(), an_author("author_grpo", 0.5)], TAUGHT), encoding="utf-8")

    with browser() as driver:
        for width in (390, 1280):
            for dark in (False, True):
                look(driver, width, dark)
                driver.get(path.as_uri())
                for folded in driver.find_elements("css selector", "details"):
                    driver.execute_script("arguments[0].open = true", folded)
                screenshot(driver, f"author-{width}-{'dark' if dark else 'light'}")
                assert not overflows(driver)
        text = driver.find_element("tag name", "main").text
        assert "求<b>x</b>" in text
        assert "author_grpo" in text
        assert "Qualities on the way: author_grpo" in text
        assert set(requests_of(driver)) == {path.as_uri()}
