from collections import Counter

import pytest

from train.decode import Drawing, decode, merged

GREEDY = Drawing(max_new_tokens=40, temperature=0.0, top_p=1.0, repetition_penalty=1.0, no_repeat_ngram_size=0)
PROMPTS = [[5, 6, 7, 8], [9, 5], [11, 12, 13, 14, 15, 16, 17], [9, 5], [30, 31, 32]]
PAD, END = 0, 3
SHAPE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": PAD,
    "eos_token_id": END,
    "initializer_range": 0.6,
}


def a_model(name="Qwen2", **shape):
    import torch
    import transformers

    torch.manual_seed(1)
    config = getattr(transformers, f"{name}Config")(**SHAPE | shape)
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


def an_adapted(model):
    import torch
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    return adapted.eval()


def by_transformers(model, prompts, drawing, stop=END):
    """What transformers answers, one prompt at a time: nothing is padded."""
    import torch
    from transformers import GenerationConfig

    made = []
    for prompt in prompts:
        config = GenerationConfig(
            max_new_tokens=drawing.max_new_tokens,
            do_sample=False,
            repetition_penalty=drawing.repetition_penalty,
            no_repeat_ngram_size=drawing.no_repeat_ngram_size,
            eos_token_id=stop,
            pad_token_id=PAD,
        )
        out = model.generate(torch.tensor([prompt]), generation_config=config)
        made.append(out[0, len(prompt) :].tolist())
    return made


def changed(**fields):
    import msgspec

    return msgspec.structs.replace(GREEDY, **fields)


@pytest.mark.parametrize("name", ["Qwen2", "Qwen3", "Llama", "Mistral"])
def test_greedy_replies_are_those_of_transformers(name):
    model = a_model(name, **{"sliding_window": None} if name == "Mistral" else {})

    replies = decode(model, PROMPTS, GREEDY, {END}, PAD)

    assert replies == by_transformers(model, PROMPTS, GREEDY)


@pytest.mark.parametrize(
    "drawing",
    [
        changed(repetition_penalty=1.3),
        changed(no_repeat_ngram_size=3),
        changed(no_repeat_ngram_size=1),
        changed(repetition_penalty=1.1, no_repeat_ngram_size=2),
        changed(max_new_tokens=1),
    ],
)
def test_penalties_are_those_of_transformers(drawing):
    model = a_model()

    assert decode(model, PROMPTS, drawing, {END}, PAD) == by_transformers(model, PROMPTS, drawing)


def test_replies_longer_than_a_segment_are_those_of_transformers(monkeypatch):
    from train import decode as module

    monkeypatch.setattr(module, "SEGMENT", 8)
    monkeypatch.setattr(module, "FEWEST", 1)
    monkeypatch.setattr(module, "PREFILL", 10)
    model, long = a_model(), changed(max_new_tokens=60)

    assert decode(model, PROMPTS, long, {END}, PAD) == by_transformers(model, PROMPTS, long)


def test_a_reply_may_end_in_one_of_several_ways():
    model = a_model()
    free = decode(model, PROMPTS, GREEDY, set(), PAD)
    stop = {free[0][5], free[2][3]}

    replies = decode(model, PROMPTS, GREEDY, stop, PAD)

    assert replies == by_transformers(model, PROMPTS, GREEDY, sorted(stop))
    assert [len(reply) for reply in free] == [40] * 5
    assert len({len(reply) for reply in replies}) > 1


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_words_are_drawn_with_their_chances(top_p):
    import torch

    model, count = a_model(initializer_range=0.2), 4000
    one = changed(max_new_tokens=1, temperature=0.8, top_p=top_p)
    with torch.no_grad():
        chances = torch.softmax(model(torch.tensor([PROMPTS[0]])).logits[0, -1] / 0.8, -1)
    ordered, places = chances.sort(descending=True)
    kept = ordered.cumsum(0) - ordered < top_p
    wanted = dict(zip(places[kept].tolist(), (ordered[kept] / ordered[kept].sum()).tolist(), strict=True))

    torch.manual_seed(7)
    drawn = Counter(reply[0] for reply in decode(model, [PROMPTS[0]] * count, one, set(), PAD))

    assert drawn.keys() <= wanted.keys()
    squares = sum((drawn[word] - count * share) ** 2 / (count * share) for word, share in wanted.items())
    assert squares < 1.6 * len(wanted) + 20  # chi-square: a mean of its degrees of freedom


def test_the_seed_decides():
    import torch

    model, free = a_model(), changed(temperature=1.0)
    made = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        made.append(decode(model, PROMPTS, free, {END}, PAD))

    assert made[0] == made[1] != made[2]


def test_an_adapter_answers_merged_as_it_does_beside_the_weights_and_both_come_back():
    import torch

    model = an_adapted(a_model())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = torch.tensor([PROMPTS[2]])
    with torch.no_grad():
        beside = model(ids).logits
        with merged(model):
            inside = model(ids).logits
            weight = model.base_model.model.model.layers[0].self_attn.q_proj.base_layer.weight
            assert not torch.equal(weight, before[q_proj(before)])
        again = model(ids).logits
    with model.disable_adapter(), torch.no_grad():
        bare = model(ids).logits

    assert torch.allclose(beside, inside, atol=1e-4)
    assert not torch.allclose(bare, inside, atol=1e-2)
    assert torch.equal(beside, again)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert decode(model, PROMPTS, GREEDY, {END}, PAD) == by_transformers(model, PROMPTS, GREEDY)


def q_proj(names):
    return next(name for name in names if "layers.0" in name and name.endswith("q_proj.base_layer.weight"))


def test_the_model_is_left_as_it_was():
    model = an_adapted(a_model(attn_implementation="eager")).train()
    model.base_model.model.model.layers[0].compile()

    decode(model, PROMPTS, GREEDY, {END}, PAD)

    assert model.training
    assert model.config._attn_implementation == "eager"
    assert model.base_model.model.model.layers[0]._compiled_call_impl is not None
    assert [name for name, weight in model.named_parameters() if weight.requires_grad]
