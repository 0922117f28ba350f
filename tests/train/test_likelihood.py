import math

import pytest

from schemas.faults import Fault
from schemas.record import Message
from train import likelihood, watch
from train import model as models
from train.likelihood import divergence, letter_tokens, letters, mass, spelling

LORA = models.Lora(r=4, alpha=8, dropout=0.0, targets=["q_proj", "v_proj"], bias="none")
CHATS = [(Message(role="user", content="第1号条约" * n),) for n in (1, 3, 2)]


def a_source(quantize="none", lora=None, dtype="float32"):
    return models.Source(model=None, dtype=dtype, quantize=quantize, lora=lora)


def test_the_distance_from_the_start_is_exact_whatever_the_batch(project, monkeypatch):
    import torch

    network, tokenizer = models.load(a_source(lora=LORA), "models/base", train=True)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    start = [weight.detach().clone() for weight in weights]
    texts = ["第1号", "第1号条约", ""]

    def far():
        return divergence(network, tokenizer, CHATS, texts, 0.5, lambda: watch.as_it_was(weights, start))

    unchanged = far()
    with torch.no_grad():
        torch.manual_seed(1)
        for weight in weights:
            weight.add_(torch.randn_like(weight) * 0.1)
    found = far()
    monkeypatch.setattr(likelihood, "LOGITS", 1)
    one_by_one = far()

    asked = tokenizer.apply_chat_template(models.as_dicts(CHATS[0]), add_generation_prompt=True, tokenize=False)
    prompt, whole = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (asked, asked + texts[0]))
    with torch.no_grad():
        now = torch.log_softmax(network(torch.tensor([whole])).logits[0] / 0.5, -1)
        with watch.as_it_was(weights, start):
            before = torch.log_softmax(network(torch.tensor([whole])).logits[0] / 0.5, -1)
    by_hand = torch.nn.functional.kl_div(before, now, log_target=True, reduction="none").sum(-1)[len(prompt) - 1 :]
    assert unchanged == [0.0, 0.0, 0.0]
    assert found[0] == pytest.approx(by_hand.mean().item(), rel=1e-3)
    assert one_by_one == pytest.approx(found, rel=1e-3)
    assert min(found) > 0


def test_the_likeliest_letter_is_that_of_the_next_token(project):
    import torch

    network, tokenizer = models.load(a_source(), "models/base", train=False)
    texts = models.asking(CHATS, tokenizer)
    asked = models.token_ids(tokenizer, texts)

    found = letters(network, tokenizer, asked)

    for text, prompt, (letter, logs) in zip(texts, asked, found, strict=True):
        with torch.no_grad():
            whole = torch.log_softmax(network(torch.tensor([prompt])).logits[0, -1], -1)
        by_hand = {name: float(whole[tokenizer(text + name)["input_ids"][-1]]) for name in "ABCD"}
        assert logs == pytest.approx(by_hand, abs=1e-4)
        assert letter == max("ABCD", key=by_hand.__getitem__)


def test_letters_are_spelt_the_likeliest_first_and_read_again(project):
    network, tokenizer = models.load(a_source(), "models/base", train=False)
    asked = models.token_ids(tokenizer, models.asking(CHATS[:1], tokenizer))
    ((letter, logs),) = letters(network, tokenizer, asked)

    (spelt,) = spelling(network, tokenizer)(asked, None)

    assert spelt.startswith(f"{letter} {logs[letter]:.2f}, ")
    assert sorted(part[0] for part in spelt.split(", ")) == ["A", "B", "C", "D"]
    assert mass(spelt) == pytest.approx(sum(math.exp(log) for log in logs.values()), rel=0.02)


def test_a_letter_that_is_no_token_by_itself_is_one_line(project):
    _, tokenizer = models.load(a_source(), "models/base", train=False)

    class Split:
        """A tokenizer that has no C."""

        apply_chat_template = tokenizer.apply_chat_template

        def __call__(self, texts, **rest):
            given = tokenizer(texts, **rest)["input_ids"]
            return {"input_ids": [[*ids[:-1], 1, 2] if n == 3 else ids for n, ids in enumerate(given)]}

    with pytest.raises(Fault, match=r"likelihood: for this tokenizer C is not one token where a reply begins; "):
        letter_tokens(Split())
