import shutil
from types import SimpleNamespace

import pytest

from schemas import rows
from schemas.record import Commission, Example, Message
from tests.train.author.written import GOOD, a_reply, an_item
from train import ready
from train.author import writing
from train.author.alike import Seen, text_of
from train.author.quality import QUALITIES
from train.generate import Sampling
from train.watch import Watch

SAMPLING = Sampling(
    max_new_tokens=8,
    temperature=0.0,
    top_p=1.0,
    repetition_penalty=1.0,
    no_repeat_ngram_size=0,
    batch_size=8,
    seed=1,
)
QWEN3 = """\
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + message.content.split('</think>')[-1] + '<|im_end|>\\n' }}
{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""


@pytest.fixture
def tokenizer(author_project):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained("models/author_base")


@pytest.fixture
def chats(author_project):
    return list(rows.read("data/mix/train.jsonl", Example))


@pytest.mark.parametrize("template", [None, QWEN3], ids=["as made", "one that cuts replies at thoughts"])
def test_only_the_reply_and_its_end_bear_a_loss_and_no_word_of_an_item_is_lost(tokenizer, chats, template):
    tokenizer.chat_template = template or tokenizer.chat_template

    made = writing.tokens(chats, tokenizer)

    for chat, row in zip(chats, made, strict=True):
        learned = [label for label in row["labels"] if label != -100]
        assert tokenizer.decode(learned) == chat.messages[-1].content + "<|im_end|>"
        assert row["input_ids"][-len(learned) :] == learned


def test_thoughts_are_learned_where_they_stand_and_turned_off_in_the_prompt_elsewhere(tokenizer, chats):
    thoughtful, at_once = writing.tokens(chats[:2], tokenizer)

    asked = tokenizer.decode([id for id, label in zip(*at_once.values(), strict=True) if label == -100])
    assert asked.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    asked = tokenizer.decode([id for id, label in zip(*thoughtful.values(), strict=True) if label == -100])
    assert asked.endswith("<|im_start|>assistant\n")


def test_a_template_without_the_switch_is_found_out(tokenizer):
    assert writing.switches(tokenizer)
    assert not list(writing.modes(tokenizer, (True, False), "x"))

    tokenizer.chat_template = tokenizer.chat_template.replace("enable_thinking", "thinking_enabled")

    assert not writing.switches(tokenizer)
    (found,) = writing.modes(tokenizer, (True, False), "params.yaml: author_sft.thinking")
    assert found.wrong
    assert found.text.startswith("params.yaml: author_sft.thinking: both, but the model's chat template knows no")
    assert not list(writing.modes(tokenizer, (True,), "x"))


def test_the_end_of_a_turn_is_the_templates_own(tokenizer):
    assert writing.closing(tokenizer) == "<|im_end|>"


def test_each_commission_gets_a_reply_and_its_verdict(author_project, tokenizer):
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained("models/author_base")
    asked = Message(role="user", content="写一道基础的代数题，事实性。")
    told = [
        Commission(id=str(n), topic="algebra", difficulty="basic", type="factual", prompt=(asked,)) for n in range(3)
    ]

    found = writing.written(network, tokenizer, told, SAMPLING, thinking=False)

    assert [one.id for one in found] == ["0", "1", "2"]
    assert writing.shares(found) == {"confirmed": 0.0, "unchecked": 0.0, "refuted": 0.0, "malformed": 1.0}


@pytest.mark.parametrize(("thinking", "faults"), [((), 1), ((True,), 0), ((True, False), 1)])
def test_an_author_writes_in_some_way_that_its_template_knows(author_project, tmp_path, thinking, faults):
    shutil.copytree("models/author_base", tmp_path / "deaf")
    template = tmp_path / "deaf/chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("enable_thinking", "x"), "utf-8")

    found = list(writing.ways(ready.Start(str(tmp_path / "deaf")), thinking, "params.yaml: author_report.thinking"))

    assert len(found) == faults


def test_what_is_watched_is_measured_commission_by_commission_and_way_by_way(monkeypatch, tokenizer):
    asked = (Message(role="user", content="写一道题。"),)
    told = Commission(id="c", topic="algebra", difficulty="basic", type="factual", prompt=asked)
    other = an_item(question="方程4x+6=26的解是多少？", steps=("移项，4x=26-6=20。", "x=20/4=5。"))
    said = {True: [a_reply(), a_reply()], False: [a_reply(other, thinking=False), "好的。"]}
    monkeypatch.setattr(writing, "generate", lambda *a, thinking, **k: [enumerate(said[thinking])])
    seen = Seen([text_of(GOOD)])
    given = {way: {f"{way}/{n}": told for n in range(2)} for way in (True, False)}
    params = SimpleNamespace(watch=Watch(questions=2, every=5), engine="transformers")

    watching = writing.watching(params, given, SAMPLING, tokenizer, seen)
    found = {one.id: one for one in watching.ask(None, 10, None)}

    assert list(found) == ["True/0", "True/1", "False/0", "False/1"]
    assert [one.id for one in watching.questions] == ["True/0", "False/0", "True/1", "False/1"]
    assert [one.right for one in found.values()] == [True, True, True, False]
    copy, fresh, none = (found[id].qualities for id in ("True/0", "False/0", "False/1"))
    assert (copy["novelty"], copy["diversity"]) == (0.0, 0.0)
    assert 0 < fresh["novelty"] < fresh["diversity"] == 1.0  # what else was said to it in this way is no question
    assert none == dict.fromkeys(QUALITIES, 0.0)
    assert not seen.own
