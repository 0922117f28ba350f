import json
from types import SimpleNamespace

import msgspec
import pytest

from schemas.faults import Fault
from schemas.record import Message
from train import likelihood, watch
from train import model as models
from train.fit import config, fit
from train.generate import Sampling, generate
from train.likelihood import divergence
from train.workplace import folder, last_checkpoint, workplace

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


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"max_seq_length": 5}, "max_seq_length: SFTConfig has no such argument; did you mean 'max_length'"),
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"output_dir": "x"}, "output_dir: the stage sets it itself"),
        ({"eval_strategy": "sometimes"}, "sft.plain.trainer: .*sometimes"),
    ],
)
def test_a_setting_trl_does_not_take_is_named(trainer, words):
    from trl import SFTConfig

    with pytest.raises(Fault, match=words):
        config(SFTConfig, "sft.plain", trainer, output_dir="out")


def test_a_model_that_is_nowhere_is_a_fault(project):
    with pytest.raises(Fault, match="models/nothing"):
        models.load(a_source(), "models/nothing", train=False)


def test_replies_depend_neither_on_the_batch_nor_on_what_was_done_before(project):
    network, tokenizer = models.load(a_source(), "models/base", train=False)

    whole = replies(network, tokenizer)

    assert set(whole) == {0, 1, 2}
    assert replies(network, tokenizer, msgspec.structs.replace(GREEDY, batch_size=3)) == whole
    sampled = msgspec.structs.replace(GREEDY, temperature=1.0)
    rest = replies(network, tokenizer, sampled, done={1, 2})
    assert rest == {0: replies(network, tokenizer, sampled)[0]}


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


def test_a_checkpoint_that_a_kill_cut_off_is_passed_over(tmp_path):
    for step, whole in ((2, True), (10, True), (12, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if whole:
            (folder / "trainer_state.json").write_text("{}")

    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-12").exists()


def test_the_workplace_follows_params_and_inputs_under_dvcs_root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    data = tmp_path / "data.jsonl"
    data.write_text("1")

    first = workplace("sft@plain", a_source(), [data])

    assert first.is_relative_to(tmp_path / "root/.store/checkpoints/sft@plain")
    assert workplace("sft@plain", a_source(), [data]) == first
    assert workplace("sft@plain", a_source(quantize="nf4"), [data]) != first
    data.write_text("2")
    assert workplace("sft@plain", a_source(), [data]) != first


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "models" / "x"
    with folder(out) as new:
        (new / "a").write_text("1")
    with pytest.raises(KeyError), folder(out) as new:
        (new / "a").write_text("2")
        raise KeyError

    assert (out / "a").read_text() == "1"
    assert [path.name for path in out.parent.iterdir()] == ["x"]


def test_out_of_memory_the_batch_is_halved_and_the_work_goes_on(tmp_path, capsys):
    import torch

    network = torch.nn.Linear(1, 1, bias=False)
    start = network.weight.item()

    class Trainer:
        def __init__(self, settings):
            self.model = network
            self.args = SimpleNamespace(
                per_device_train_batch_size=settings["per_device_train_batch_size"],
                gradient_accumulation_steps=settings.get("gradient_accumulation_steps", 1),
            )
            self.state = SimpleNamespace(global_step=4)

        def remove_callback(self, callback): ...

        def add_callback(self, callback): ...

        def train(self, resume_from_checkpoint):
            assert network.weight.item() == start  # no checkpoint yet: what was trained is taken back
            with torch.no_grad():
                network.weight.add_(1)
            if self.args.per_device_train_batch_size > 2:
                raise torch.OutOfMemoryError
            return SimpleNamespace(training_loss=0.5)

    _, figures = fit(Trainer, {"per_device_train_batch_size": 8}, "sft@plain", tmp_path, None)

    assert figures["batch"] == [2, 4]
    assert "out of GPU memory with 8 rows" in capsys.readouterr().out
    start = network.weight.item()
    with pytest.raises(Fault, match="out of GPU memory with 3 rows"):
        fit(Trainer, {"per_device_train_batch_size": 3}, "sft@plain", tmp_path, None)
