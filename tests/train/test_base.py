import json
import random

import pytest

from schemas import rows
from schemas.faults import Fault
from schemas.record import Example
from train import base
from train.model import as_dicts, tokens


@pytest.fixture
def tokenizer(project):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained("models/base")


@pytest.mark.parametrize("text", ["1973", "<step>", "</reasoning>", "<output>", "（A）", "B", "assistant"])
def test_what_is_looked_up_whole_is_one_token(tokenizer, text):
    assert len(tokenizer.tokenize(text)) == 1


def test_text_survives_the_tokenizer(tokenizer):
    text = "<reasoning><step>第3号条约于1973通过</step></reasoning>\n<output>B</output> and English, 1234 too"

    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_saved_tokenizer_that_reads_otherwise_is_refused(project, tokenizer):
    ids = tokenizer(["第1号条约"])["input_ids"]

    base.check_saved(project / "models/base", ["第1号条约"], ids)
    with pytest.raises(Fault, match="第1号条约"):
        base.check_saved(project / "models/base", ["第1号条约"], [ids[0][:-1]])


def test_only_the_reply_and_its_end_bear_a_loss(project, tokenizer):
    example = next(rows.read("data/sft.plain.train.jsonl", Example))

    (row,) = tokens([example], tokenizer)
    learned = [id for id in row["labels"] if id != -100]

    assert tokenizer.decode(learned) == f"{example.messages[-1].content}<|im_end|>\n"
    assert [b for a, b in zip(row["labels"], row["input_ids"], strict=True) if a != -100] == learned


def test_the_template_marks_the_assistants_turn_as_trl_reads_it(project, tokenizer):
    example = next(rows.read("data/sft.reasoning.train.jsonl", Example))

    marked = tokenizer.apply_chat_template(
        as_dicts(example.messages), return_assistant_tokens_mask=True, return_dict=True
    )
    reply = [id for id, bit in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if bit]

    assert tokenizer.decode(reply) == f"{example.messages[-1].content}<|im_end|>"


def test_the_base_looks_up_what_followed_a_token_before_it_has_learned_anything(project, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained("models/base", attn_implementation="eager")
    labels = tokenizer.convert_tokens_to_ids(["（A）", "（B）", "（C）", "（D）"])
    draw = random.Random(0)
    hits = 0
    for _ in range(100):
        words = draw.sample(range(300, 400), 4)
        asked = draw.randrange(4)
        ids = [id for word, label in zip(words, labels, strict=True) for id in (word, label)] + [words[asked]]
        with torch.no_grad():
            out = model(input_ids=torch.tensor([ids]), output_attentions=True)
        assert all(out.attentions[0][0, 0, at, at - 1] > 0.9 for at in range(1, len(ids)))
        hits += int(out.logits[0, -1, labels].argmax()) == asked

    assert hits > 50  # chance is 25; in this small a model the match is blurred


def test_the_same_seed_makes_the_same_model(project):
    from click.testing import CliRunner

    data = ["data/train.jsonl", "data/sft.reasoning.train.jsonl", "data/sft.plain.train.jsonl"]
    made = CliRunner().invoke(base.main, [*data, "models/again", "metrics/again.json"], catch_exceptions=False)

    assert made.exit_code == 0
    assert (project / "models/again/model.safetensors").read_bytes() == (
        project / "models/base/model.safetensors"
    ).read_bytes()
    assert json.loads((project / "metrics/again.json").read_text())["chats_over_positions"] == 0
