"""The pairs that curation writes are what TRL trains on, as they are."""

import math
from pathlib import Path
from typing import Any

import pytest

from curate import pairs
from schemas import rows
from schemas.chain import MARKS
from schemas.record import LETTERS, Derived, Judged, Judgement, Prediction, Record

PLACE = {"topic": "economy", "difficulty": "basic", "type": "factual", "teacher": "test", "repairs": ()}
CHAIN = {"think": "本题问通过的年份。", "reflection": "只依据资料。", "adjustment": None}


def a_question(n: int) -> Record:
    years = tuple(str(1951 + n + 11 * place) for place in range(4))
    answer = LETTERS[n % 4]
    year = years[n % 4]
    steps = (f"第{n}号条约于{year}年通过", f"通过的年份为{year}（{answer}）")
    return Record(
        id=f"q{n}",
        question=f"第{n}号条约是在哪一年通过的？",
        options=years,
        steps=steps,
        answer=answer,
        **CHAIN,
        **PLACE,
    )


def derived(record: Record, how: str, steps: tuple[str, ...], answer: str) -> Derived:
    fields = {name: getattr(record, name) for name in Record.__struct_fields__}
    return Derived(**fields | {"id": f"{record.id}x", "steps": steps, "answer": answer, "of": record.id, "how": how})


@pytest.fixture
def preferences(project: Path, changed: Any) -> Path:
    """A folder with pairs of all five types."""
    changed({"pairs": {"types": {"format": 1.0}, "longer": 3.0}})
    records = [a_question(n) for n in range(12)]
    one, two, three, four = records[:4]
    marks = dict.fromkeys(MARKS, 3)
    judged = Judged(id="q2", judgement=Judgement(**marks, feedback="依据不明。"), teacher="test", fault=None)
    wrong = LETTERS[(LETTERS.index(four.answer) + 1) % 4]
    said = f"<reasoning><step>{four.steps[0]}</step></reasoning>\n<output>{wrong}</output>"
    files = {
        "train": records[:8],
        "rollout": records[8:],
        "contrast": [
            derived(one, "contrast:wrong", ("记得是第二年通过的", "通过的年份为第二个（B）"), "B"),
            derived(two, "contrast:biased", ("毫无疑问只有一种可能", f"不容置疑，{two.steps[1]}"), two.answer),
        ],
        "improve": [derived(three, "improve", (f"依据公报，{three.steps[0]}", three.steps[1]), three.answer)],
        "judge": [judged],
        "attempts": [Prediction(id="q3", response=said, answer=wrong, strategy="output_tag")],
    }
    for name, of in files.items():
        rows.write(f"preferences/{name}.jsonl", of)
    inputs = [Path(f"preferences/{name}.jsonl") for name in files]
    out = Path("preferences/pairs")
    pairs.main.callback(*inputs, out, Path("preferences/rejects.jsonl"), Path("preferences/metrics.json"))
    return project / out


def test_trl_trains_on_the_folder_and_leaves_the_other_columns_alone(preferences, tmp_path):
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    read = load_dataset(str(preferences), cache_dir=str(tmp_path / "cache"))["train"]
    settings = DPOConfig(
        output_dir=str(tmp_path / "dpo"),
        max_steps=2,
        per_device_train_batch_size=32,  # all of them, so that the second step sees what the first has learnt
        learning_rate=1e-3,
        max_length=192,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
    )
    model = AutoModelForCausalLM.from_pretrained("models/base", dtype="float32")
    trainer = DPOTrainer(
        model=model,
        args=settings,
        train_dataset=read,
        processing_class=AutoTokenizer.from_pretrained("models/base"),
    )

    trainer.train()

    logged = [line for line in trainer.state.log_history if "loss" in line]
    assert {"id", "type", "why", "prompt", "chosen", "rejected"} == set(read.column_names)
    assert set(read["type"]) == {"wrong_answer", "biased", "lower_judged", "student_error", "format"}
    assert len(logged) == trainer.state.global_step == 2
    assert logged[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)  # of a model that is its own reference
    assert logged[1]["loss"] < logged[0]["loss"]
