import json

import pytest

from schemas.faults import Fault
from schemas.record import Message
from train import model as models
from train.generate import Sampling, generate

LORA = models.Lora(r=4, alpha=8, dropout=0.0, targets=["q_proj", "v_proj"], bias="none")
GREEDY = Sampling(
    max_new_tokens=6,
    temperature=0.0,
    top_p=1.0,
    repetition_penalty=1.0,
    no_repeat_ngram_size=0,
    batch_size=2,
    seed=1,
)
CHATS = [(Message(role="user", content="第1号条约" * n),) for n in (1, 3, 2)]


def a_source(quantize="none", lora=None, dtype="float32"):
    return models.Source(model=None, dtype=dtype, quantize=quantize, lora=lora)


def replies(network, tokenizer, sampling=GREEDY, done=()):
    return {n: text for batch in generate(network, tokenizer, CHATS, sampling, done) for n, text in batch}


def test_a_model_that_is_nowhere_is_a_fault(project):
    with pytest.raises(Fault, match="models/nothing"):
        models.load(a_source(), "models/nothing", train=False)


def test_an_adapter_points_to_its_base_and_comes_back_as_it_was(project, tmp_path):
    import torch

    network, tokenizer = models.load(a_source(lora=LORA), "models/base", train=True)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    before = replies(network, tokenizer)
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)

    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "models/base"
    again, words = models.load(a_source(), str(tmp_path), train=False)
    assert replies(again, words) == before
    plain, words = models.load(a_source(), "models/base", train=False)
    assert replies(plain, words) != before


def test_an_adapter_is_trained_on(project, tmp_path):
    network, tokenizer = models.load(a_source(lora=LORA), "models/base", train=True)
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)

    again, _ = models.load(a_source(), str(tmp_path), train=True)

    trained = [name for name, weight in again.named_parameters() if weight.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)


def test_four_bits_load_and_answer_without_a_gpu(project):
    network, tokenizer = models.load(a_source(quantize="nf4", dtype="bfloat16"), "models/base", train=False)

    assert network.is_loaded_in_4bit
    assert set(replies(network, tokenizer)) == {0, 1, 2}


def test_quantized_weights_need_an_adapter_to_train(project):
    with pytest.raises(Fault, match="quantized weights cannot be trained"):
        models.load(a_source(quantize="nf4"), "models/base", train=True)


def test_a_quantization_that_does_not_load_steps_down_aloud(project, monkeypatch, capsys):
    from transformers import AutoModelForCausalLM

    real = AutoModelForCausalLM.from_pretrained

    def refuse(*args, quantization_config=None, **kwargs):
        if quantization_config is not None:
            raise ImportError("no kernels here")
        return real(*args, **kwargs)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)

    network, _ = models.load(a_source(quantize="nf4"), "models/base", train=False)

    assert network is not None
    said = capsys.readouterr().out
    assert "does not load as nf4" in said
    assert "does not load as int8" in said
