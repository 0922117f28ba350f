import json
import shutil
from pathlib import Path

import msgspec
import pytest

from schemas.faults import Fault
from schemas.record import Message
from train import model as models
from train.generate import Sampling, generate
from train.memory import GIB

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


def an_adapter(path, lora=LORA, **changes):
    """A new adapter of models/base, its settings changed."""
    network, tokenizer = models.load(a_source(lora=lora), "models/base", train=True)
    network.save_pretrained(path)
    tokenizer.save_pretrained(path)
    file = path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return path


def a_size(linear=0, rest=0, adapter=None):
    return models.Size(linear=linear, rest=rest, adapter=adapter, training=0, answering=0)


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


SEVEN = models.Size(  # Qwen2.5-7B, with the reference's adapter
    linear=6_525_288_448, rest=1_090_328_064, adapter=40_370_176, training=1_417_216, answering=57_344
)


@pytest.mark.parametrize(
    ("free", "train", "rung", "why"),
    [
        (131, True, "none", "16-bit weights need 21.2 GiB, 131.0 GiB are free: bfloat16"),
        (23.2, True, "none", "16-bit weights need 21.2 GiB, 23.2 GiB are free: bfloat16"),
        (20, True, "int8", "16-bit weights need 21.2 GiB, 8-bit weights need 17.1 GiB, 20.0 GiB are free: int8"),
        (12, True, "nf4", "4-bit weights need 10.1 GiB, 12.0 GiB are free: nf4"),
        (8, True, "split", "4-bit weights need 10.1 GiB, 8.0 GiB are free: bfloat16, split between GPU and CPU"),
        (8, False, "nf4", "4-bit weights need 6.5 GiB, 8.0 GiB are free: nf4"),
        (15, False, "int8", "8-bit weights need 10.1 GiB, 15.0 GiB are free: int8"),
        (16.3, False, "none", "16-bit weights need 16.2 GiB, 16.3 GiB are free: bfloat16"),
    ],
)
def test_auto_takes_the_finest_that_the_free_memory_holds(free, train, rung, why):
    found, said = models.chosen(models.needs(SEVEN, "bfloat16", train), int(free * GIB), "bfloat16")

    assert found == rung
    assert said.endswith(why)


@pytest.mark.parametrize(
    ("size", "dtype", "train", "needed"),
    [
        (a_size(linear=GIB), "bfloat16", False, {"none": 3, "int8": 2, "nf4": 1.516}),
        (a_size(rest=GIB), "bfloat16", False, {"none": 3, "int8": 3, "nf4": 3}),
        (a_size(rest=GIB, adapter=0), "bfloat16", True, {"none": 3, "int8": 5, "nf4": 5}),
        (a_size(adapter=GIB), "bfloat16", True, {"none": 17, "int8": 17, "nf4": 17}),
        (a_size(adapter=GIB), "bfloat16", False, {"none": 5, "int8": 5, "nf4": 5}),
        (a_size(linear=GIB), "bfloat16", True, {"none": 9}),
        (a_size(linear=GIB), "float32", True, {"none": 17}),
    ],
)
def test_what_a_model_needs_depends_on_what_is_held_and_what_is_trained(size, dtype, train, needed):
    found = models.needs(size, dtype, train)

    assert {rung: round(need / GIB, 3) for rung, need in found.items()} == needed


def test_a_model_all_of_whose_weights_are_trained_is_never_split():
    needed = models.needs(a_size(linear=GIB), "bfloat16", train=True)

    assert models.chosen(needed, GIB, "bfloat16")[0] == "none"


def test_a_size_is_that_of_the_model_which_loads(project, tmp_path):
    network, _ = models.load(a_source(lora=LORA), "models/base", train=True)
    weights = {name: weight.numel() for name, weight in network.named_parameters()}
    adapter = sum(count for name, count in weights.items() if "lora_" in name)

    found = models.size("models/base", "models/base", LORA)

    assert found.adapter == adapter
    assert found.linear + found.rest + adapter == sum(weights.values())
    saved = an_adapter(tmp_path / "adapter")
    assert models.size("models/base", str(saved), None) == found


@pytest.mark.parametrize(("free", "rung"), [(GIB * 2, "none"), (2**20, "split")])
def test_auto_measures_before_it_loads_and_says_why(project, monkeypatch, capsys, free, rung):
    monkeypatch.setattr(models, "free", lambda: free)

    assert models.measured("models/base", "models/base", a_source("auto"), train=False, gpu=True) == rung
    said = capsys.readouterr().out
    assert said.startswith("models/base: to answer, 32-bit weights need 1.0 GiB")
    assert said.count("\n") == 1


def test_auto_trains_every_weight_only_as_it_is(project, monkeypatch):
    from transformers import AutoModelForCausalLM

    def refuse(*args, **kwargs):
        raise ImportError("no memory here")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)

    with pytest.raises(Fault, match="does not load as float32: no memory here"):
        models.load(a_source("auto"), "models/base", train=True)


def test_auto_without_a_gpu_loads_as_it_is(project, capsys):
    network, _ = models.load(a_source("auto"), "models/base", train=False, cpu=True)

    assert str(network.dtype) == "torch.float32"
    assert capsys.readouterr().out == "models/base: no GPU: float32\n"


@pytest.mark.parametrize(
    ("dtype", "major", "installed", "kernel"),
    [
        ("bfloat16", 9, [2, 3], "flash_attention_3"),
        ("bfloat16", 9, [2], "flash_attention_2"),
        ("float16", 8, [2, 3], "flash_attention_2"),
        ("bfloat16", 8, [3], None),
        ("bfloat16", 7, [2], None),
        ("float32", 9, [2, 3], None),
        ("bfloat16", 9, [], None),
    ],
)
def test_attention_is_by_what_is_installed_and_the_gpu_bears(dtype, major, installed, kernel):
    assert models.attention(dtype, major, installed) == kernel


def test_an_adapter_for_which_there_is_no_memory_steps_down_with_its_base(project, monkeypatch, capsys):
    import peft
    import torch

    real, tried = peft.get_peft_model, []

    def full(network, config):
        tried.append(network)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(network, config)

    monkeypatch.setattr(peft, "get_peft_model", full)

    network, _ = models.load(a_source("nf4", LORA, "bfloat16"), "models/base", train=True)

    assert network.is_loaded_in_8bit
    assert "does not load as nf4 (CUDA out of memory. Tried to allocate 2 GiB); trying int8" in capsys.readouterr().out


def with_odd_rows(path):
    """A model with rows of 96 weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    a_copy(path)
    config = AutoConfig.from_pretrained(path)
    config.intermediate_size = 96
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


def test_rows_that_bitsandbytes_would_read_wrongly_are_not_held_in_four_bits(project, tmp_path, capsys):
    import torch

    odd = str(with_odd_rows(tmp_path / "odd"))

    network, _ = models.load(a_source("nf4", dtype="bfloat16"), odd, train=False, cpu=True)

    assert network.is_loaded_in_8bit
    assert r"4-bit rows that are no multiple of 64" in capsys.readouterr().out
    plain, _ = models.load(a_source(), odd, train=False, cpu=True)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        near, right = network(ids).logits.float(), plain(ids).logits
    assert (near - right).norm() < 0.05 * right.norm()


def test_four_bits_are_the_weights_but_for_their_rounding(project):
    import torch

    ids = torch.arange(20)[None]
    small, _ = models.load(a_source("nf4"), "models/base", train=False, cpu=True)
    plain, _ = models.load(a_source(), "models/base", train=False, cpu=True)

    with torch.no_grad():
        near, right = small(ids).logits, plain(ids).logits

    assert (near - right).norm() < 0.3 * right.norm()


def test_where_nothing_is_left_to_try_it_is_a_fault(project, monkeypatch):
    import torch
    from transformers import AutoModelForCausalLM

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)

    with pytest.raises(Fault, match=r"models/base: does not load as float32: CUDA out of memory\."):
        models.load(a_source(), "models/base", train=False)


def a_copy(path):
    shutil.copytree("models/base", path)
    return path


def cut(path):
    file = a_copy(path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-64])


def without_a_shard(path):
    index = a_copy(path) / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))


def without_weights(path):
    (a_copy(path) / "model.safetensors").unlink()


def with_a_layer_too_many(path):
    file = a_copy(path) / "config.json"
    config = json.loads(file.read_text())
    config["num_hidden_layers"] += 1
    file.write_text(json.dumps({**config, "layer_types": [*config["layer_types"], "full_attention"]}))


def with_other_sizes(path):
    file = a_copy(path) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "intermediate_size": 256}))


def without_a_template(path):
    (a_copy(path) / "chat_template.jinja").unlink()


def without_a_type(path):
    (a_copy(path) / "config.json").write_text("{}")
    (path / "tokenizer_config.json").unlink()


def with_another_tokenizer(path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("models/base")
    tokenizer.add_tokens([f"word{n}" for n in range(9)])
    tokenizer.save_pretrained(a_copy(path))


def without_a_base(path):
    an_adapter(path, base_model_name_or_path=None)


def with_its_base_elsewhere(path):
    an_adapter(path, base_model_name_or_path="models/gone")


def for_a_wider_model(path):
    from safetensors.torch import load_file, save_file

    file = an_adapter(path) / "adapter_model.safetensors"
    save_file({name: weight.repeat(2, 2) for name, weight in load_file(file).items()}, file)


def for_a_deeper_model(path):
    from safetensors.torch import load_file, save_file

    file = an_adapter(path) / "adapter_model.safetensors"
    more = {name.replace("layers.1", "layers.2"): weight + 0 for name, weight in load_file(file).items()}
    save_file({**load_file(file), **more}, file)


def for_another_architecture(path):
    an_adapter(path, target_modules=["c_attn"])


def with_its_settings_cut(path):
    file = an_adapter(path) / "adapter_config.json"
    file.write_text(file.read_text()[:50])


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (cut, r"model\.safetensors: cut off or damaged"),
        (without_a_shard, r"model-00001-of-00002\.safetensors: is missing"),
        (without_weights, "is the folder a whole model"),
        (with_a_layer_too_many, r"12 of its weights are missing, model\.layers\.2"),
        (with_other_sizes, r"other sizes than its config\.json"),
        (without_a_template, "has no chat template"),
        (without_a_type, "is the folder a whole model"),
        (with_another_tokenizer, "they are not of one model"),
        (without_a_base, "base_model_name_or_path is empty"),
        (with_its_base_elsewhere, "models/gone"),
        (for_a_wider_model, "made for another model than models/base: size mismatch"),
        (for_a_deeper_model, r"made for another model than models/base: \S*layers\.2\S* is in one of them only"),
        (for_another_architecture, "made for another model than models/base: Target modules"),
        (with_its_settings_cut, r"adapter_config\.json: Input data was truncated"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_one_line(project, tmp_path, spoilt, said):
    spoilt(tmp_path / "model")

    with pytest.raises(Fault, match=said) as fault:
        models.load(a_source(), str(tmp_path / "model"), train=False)

    assert "\n" not in fault.value.message


def test_layers_that_a_model_has_not_are_a_fault_of_params(project):
    lora = msgspec.structs.replace(LORA, targets=["c_attn"])

    with pytest.raises(Fault, match=r"params\.yaml: lora: Target modules"):
        models.load(a_source(lora=lora), "models/base", train=True)


def test_an_adapter_finds_its_base_from_its_own_folder(project, tmp_path, monkeypatch):
    a_copy(tmp_path / "base")
    an_adapter(tmp_path / "adapter", base_model_name_or_path="../base")
    monkeypatch.chdir("/")

    assert Path(models.base_of(str(tmp_path / "adapter"))).resolve() == (tmp_path / "base").resolve()
    assert models.is_local(str(tmp_path / "adapter"))
    network, tokenizer = models.load(a_source(), str(tmp_path / "adapter"), train=False)
    assert set(replies(network, tokenizer)) == {0, 1, 2}


def test_an_adapter_of_a_base_on_the_hub_is_not_all_here(project, tmp_path):
    an_adapter(tmp_path, base_model_name_or_path="Qwen/Qwen2.5-7B-Instruct")

    assert not models.is_local(str(tmp_path))
    assert not models.is_local("Qwen/Qwen2.5-7B-Instruct")
    assert models.is_local("models/base")


def test_an_adapter_without_a_tokenizer_takes_its_bases(project, tmp_path):
    for file in an_adapter(tmp_path / "adapter").glob("*token*"):
        file.unlink()

    network, tokenizer = models.load(a_source(), str(tmp_path / "adapter"), train=False)

    assert set(replies(network, tokenizer)) == {0, 1, 2}
