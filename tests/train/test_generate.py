import re
import sys
from types import SimpleNamespace

import msgspec
import pytest

from schemas.faults import Fault
from schemas.record import Message
from train import generate, memory
from train import model as models
from train.generate import Batch, Sampling, batch_size, batches, halving, speaking, taken

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
SHAPE = SimpleNamespace(
    num_hidden_layers=28,
    hidden_size=3584,
    num_attention_heads=28,
    num_key_value_heads=4,
    intermediate_size=18944,
    vocab_size=152064,
)
QWEN_7B = SimpleNamespace(get_text_config=lambda: SHAPE)
UNKNOWN = SimpleNamespace(get_text_config=lambda: SimpleNamespace(hidden_size=8))


def sampling(**changed):
    return msgspec.structs.replace(GREEDY, **changed)


def a_model(config):
    return SimpleNamespace(config=config, dtype=SimpleNamespace(itemsize=2))


def loaded():
    source = models.Source(model=None, dtype="float32", quantize="none", lora=None)
    return models.load(source, "models/base", train=False)


def replies(network, tokenizer, how=GREEDY, done=()):
    return {n: text for batch in generate.generate(network, tokenizer, CHATS, how, done) for n, text in batch}


def test_replies_depend_neither_on_the_batch_nor_on_what_was_done_before(project):
    network, tokenizer = loaded()

    whole = replies(network, tokenizer)

    assert set(whole) == {0, 1, 2}
    assert replies(network, tokenizer, sampling(batch_size=3)) == whole
    assert replies(network, tokenizer, sampling(batch_size=None)) == whole
    drawn = sampling(temperature=1.0)
    rest = replies(network, tokenizer, drawn, done={1, 2})
    assert rest == {0: replies(network, tokenizer, drawn)[0]}


def test_another_engine_gives_the_same_greedy_replies(project):
    network, tokenizer = loaded()
    asked = models.token_ids(tokenizer, models.asking(CHATS, tokenizer))
    strict = sampling(repetition_penalty=1.3, no_repeat_ngram_size=2)

    for how in (GREEDY, strict):
        assert speaking(network, tokenizer, "graph")(asked, how) == speaking(network, tokenizer)(asked, how)


def test_a_model_in_training_is_left_in_training(project):
    network, tokenizer = loaded()
    network.train()

    replies(network, tokenizer)

    assert network.training


@pytest.mark.parametrize("engine", ["transformers", "graph"])
def test_layers_compiled_for_training_answer_as_they_were_written(project, engine):
    network, tokenizer = loaded()
    asked = models.token_ids(tokenizer, models.asking(CHATS, tokenizer))
    before = speaking(network, tokenizer, engine)(asked, GREEDY)
    compiled = []
    layer = network.get_decoder().layers[0]
    layer.compile(backend=lambda graph, inputs: compiled.append(graph) or graph.forward)

    assert speaking(network, tokenizer, engine)(asked, GREEDY) == before
    assert not compiled
    network(**generate.padded(asked, 0, "cpu"))
    assert compiled


def test_the_longest_prompts_come_first():
    assert batches([[1], [1, 2, 3], [1, 2]], 2) == [Batch(0, (1, 2)), Batch(2, (0,))]


def test_out_of_memory_half_as_many_are_asked_at_a_time_from_then_on():
    import torch

    tried, lines = [], []

    def speak(prompts, how):
        tried.append((len(prompts), how.seed))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError
        return [str(prompt[0]) for prompt in prompts]

    careful = halving(speak, lines.append)

    assert careful([[n] for n in range(8)], GREEDY) == [str(n) for n in range(8)]
    assert careful([[n] for n in range(3)], GREEDY) == ["0", "1", "2"]
    assert tried == [(8, 1), (4, 1), (2, 1), (2, 3), (2, 5), (2, 7), (2, 1), (1, 3)]
    assert lines == [
        "out of GPU memory with 8 prompts at a time; going on with 4",
        "out of GPU memory with 4 prompts at a time; going on with 2",
    ]


def test_a_prompt_that_alone_is_too_much_is_one_line():
    import torch

    def speak(prompts, how):
        raise torch.OutOfMemoryError

    with pytest.raises(Fault, match=r"^out of GPU memory with one prompt of 5 tokens; quantize"):
        halving(speak)([[1] * 5], GREEDY)


@pytest.mark.parametrize(
    ("config", "free_gib", "size", "why"),
    [
        (QWEN_7B, None, 64, "there is no GPU to measure"),
        (QWEN_7B, 100, 512, r"100\.0 GiB are free, a reply of 300 \+ 1,024 tokens takes 126\.0 MiB"),
        (QWEN_7B, 24, 128, r"24\.0 GiB are free"),
        (QWEN_7B, 0.01, 1, r"0\.0 GiB are free"),
        (UNKNOWN, 24, 8, r"24\.0 GiB are free; the model's shape is not known, so by the table"),
        (UNKNOWN, 13, 4, "by the table"),
    ],
)
def test_a_batch_is_as_large_as_the_free_memory_bears(monkeypatch, config, free_gib, size, why):
    monkeypatch.setattr(memory, "free", lambda: None if free_gib is None else int(free_gib * memory.GIB))

    found = batch_size(a_model(config), [[0] * 300], sampling(batch_size=None, max_new_tokens=1024))

    assert found[0] == size
    assert re.search(why, found[1])


def test_what_params_say_is_not_measured():
    assert batch_size(None, [], GREEDY) == (2, "params.yaml says so")


def test_a_reply_takes_its_cache_the_prompts_activations_and_the_next_tokens_distribution():
    cache = 28 * 2 * 4 * 128 * (300 + 1024) * 2
    activations = (3 * 18944 + 8 * 3584) * 300 * 2

    assert taken(QWEN_7B, 300, 1024, 2) == cache + activations + 32 * 152064


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "vllm is not installed; pip install vllm"),
        ({"quantize": "int8"}, "quantize: int8: with engine: vllm it is none or nf4"),
        ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size: vLLM has none; set it to 0"),
    ],
)
def test_what_vllm_cannot_do_is_one_line(monkeypatch, given, words):
    monkeypatch.setitem(sys.modules, "vllm", None)
    how = sampling(no_repeat_ngram_size=given.get("no_repeat_ngram_size", 0))

    with pytest.raises(Fault, match=words):
        generate.vllm("models/base", "bfloat16", given.get("quantize", "none"), how, 10)


def test_vllm_is_handed_tokens_seeds_and_the_adapter(monkeypatch, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2.5-7B", "r": 24}')
    handed = {}

    class LLM:
        def __init__(self, **settings):
            handed.update(settings)

        def generate(self, prompts, params, **rest):
            handed.update(rest, prompts=prompts, params=params)
            return [SimpleNamespace(outputs=[SimpleNamespace(text=f"{p['prompt_token_ids']}")]) for p in prompts]

    library = {
        "vllm": SimpleNamespace(LLM=LLM, SamplingParams=dict),
        "vllm.inputs": SimpleNamespace(TokensPrompt=dict),
        "vllm.lora.request": SimpleNamespace(LoRARequest=lambda *given: given),
    }
    for name, module in library.items():
        monkeypatch.setitem(sys.modules, name, module)

    speak = generate.vllm(str(tmp_path), "bfloat16", "nf4", sampling(temperature=0.7), 100)

    assert speak([[1, 2], [3]], sampling(temperature=0.7, seed=5)) == ["[1, 2]", "[3]"]
    assert [one["seed"] for one in handed["params"]] == [5, 6]
    assert {one["max_tokens"] for one in handed["params"]} == {6}
    assert (handed["model"], handed["tokenizer"]) == ("Qwen/Qwen2.5-7B", str(tmp_path))
    assert (handed["max_lora_rank"], handed["max_model_len"], handed["quantization"]) == (32, 106, "bitsandbytes")
    assert handed["lora_request"] == ("adapter", 1, str(tmp_path))
