import pytest

from schemas.record import Message
from train import likelihood, watch
from train import model as models
from train.likelihood import divergence

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
