import base64
import json
import os
import re
import shutil
import stat
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import msgspec
import pytest

from schemas import rows
from schemas.faults import Fault
from schemas.record import Prompt
from train import export
from train import model as models
from train.generate import Sampling, generate

PLAIN = models.Source(model=None, dtype="float32", quantize="none", lora=None)
LORA = models.Lora(r=4, alpha=8, dropout=0.0, targets=["q_proj", "v_proj", "down_proj"], bias="none")
GREEDY = Sampling(
    max_new_tokens=12,
    temperature=0.0,
    top_p=1.0,
    repetition_penalty=1.0,
    no_repeat_ngram_size=0,
    batch_size=16,
    seed=1,
)
TOKEN = "hf_not_to_be_told"


@pytest.fixture(scope="session")
def tuned(project, tmp_path_factory):
    """An adapter on models/base that changes what it answers, apart from the models that other tests look for."""
    import torch

    folder = tmp_path_factory.mktemp("trained") / "tuned"
    network, tokenizer = models.load(msgspec.structs.replace(PLAIN, lora=LORA), "models/base", train=True)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "run.json").write_text('{"stage": "sft@reasoning", "start": "models/base", "params": {}}')
    (folder / "curve.jsonl").write_text("{}\n")
    (folder / "README.md").write_text(
        "---\nbase_model: models/base\ntags: [trl, sft]\n---\n# sft@reasoning\n\nTrained with care.\n"
    )
    return folder


def run(*args):
    export.main([str(arg) for arg in args], standalone_mode=False)


def chats():
    return [prompt.prompt for prompt in rows.read("data/prompts.jsonl", Prompt)]


def answers(network, tokenizer):
    found = {n: text for batch in generate(network, tokenizer, chats(), GREEDY) for n, text in batch}
    return [found[n] for n in range(len(found))]


def logits(network, tokenizer):
    import torch

    batch = tokenizer(models.asking(chats(), tokenizer), padding=True, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        return network(**batch).logits[batch["attention_mask"].bool()].float()


def names(folder):
    return {file.name for file in folder.iterdir()}


def made(out):
    return json.loads((out / "export.json").read_text())


def head(out):
    from huggingface_hub import ModelCard

    return ModelCard.load(out / "README.md").data.to_dict()


def test_a_merged_model_answers_as_the_adapter_does(tuned, tmp_path):
    run(tuned, tmp_path / "merged", "--as", "merged")

    before = models.load(PLAIN, str(tuned), train=False)
    after = models.load(PLAIN, str(tmp_path / "merged"), train=False)
    base = models.load(PLAIN, "models/base", train=False)
    assert answers(*after) == answers(*before) != answers(*base)
    far = (logits(*after) - logits(*before)).abs().max()
    assert far < 1e-4 * logits(*before).abs().max()
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def test_an_adapter_comes_along_with_its_card_and_finds_its_base(tuned, tmp_path, monkeypatch):
    before = answers(*models.load(PLAIN, str(tuned), train=False))
    prompts = chats()
    run(tuned, tmp_path / "adapter", "--as", "lora")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"{__name__}.chats", lambda: prompts)

    assert answers(*models.load(PLAIN, "adapter", train=False)) == before
    card = Path("adapter/README.md").read_text()
    assert "Trained with care." in card
    assert "models/base`, from this folder" in card
    assert "base_model" not in head(Path("adapter"))
    assert head(Path("adapter"))["tags"] == ["trl", "sft"]
    assert {"run.json", "curve.jsonl"} <= names(Path("adapter"))


def test_the_name_of_a_base_on_the_hub_goes_into_the_adapter_and_its_card(tuned, tmp_path):
    run(tuned, tmp_path / "adapter", "--as", "lora", "--base", "Qwen/Qwen2.5-7B-Instruct")

    pointer = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert pointer["base_model_name_or_path"] == "Qwen/Qwen2.5-7B-Instruct"
    assert head(tmp_path / "adapter")["base_model"] == "Qwen/Qwen2.5-7B-Instruct"
    assert head(tmp_path / "adapter")["base_model_relation"] == "adapter"


def test_four_bits_are_made_of_the_merged_model_and_load_again(tuned, tmp_path):
    from transformers import AutoModelForCausalLM

    run(tuned, tmp_path / "merged", "--as", "merged")
    run(tuned, tmp_path / "small", "--as", "merged-4bit")

    network = AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    assert network.is_loaded_in_4bit
    nf4 = msgspec.structs.replace(PLAIN, dtype="bfloat16", quantize="nf4")
    other, tokenizer = models.load(nf4, str(tmp_path / "merged"), train=False)
    again, _ = models.load(msgspec.structs.replace(nf4, quantize="none"), str(tmp_path / "small"), train=False)
    assert (logits(again, tokenizer) == logits(other, tokenizer)).all()
    assert (
        made(tmp_path / "small")["files"]["model.safetensors"] < made(tmp_path / "merged")["files"]["model.safetensors"]
    )
    assert names(tmp_path) == {"merged", "small"}


def test_four_bits_that_would_be_read_wrongly_are_not_made(project, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    shutil.copytree("models/base", tmp_path / "odd")
    config = AutoConfig.from_pretrained("models/base")
    config.intermediate_size = 96
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "odd")

    with pytest.raises(Fault, match=r"down_proj are no multiple of 64"):
        run(tmp_path / "odd", tmp_path / "small", "--as", "merged-4bit")


def test_the_same_model_is_exported_to_the_same_bytes_over_an_earlier_export(tuned, tmp_path):
    out = tmp_path / "merged"
    run(tuned, out, "--as", "merged")
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    (out / "left.txt").write_text("of an earlier export")

    run(tuned, out, "--as", "merged")

    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_a_whole_model_is_exported_as_it_is(project, tmp_path):
    run("models/base", tmp_path / "whole", "--as", "merged")

    assert made(tmp_path / "whole")["base"] is None
    before, after = (models.load(PLAIN, model, train=False) for model in ("models/base", str(tmp_path / "whole")))
    assert (logits(*before) == logits(*after)).all()


def broken(tuned, path):
    """The adapter with a weight that is not a number."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(tuned, path)
    weights = load_file(path / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, path / "adapter_model.safetensors", metadata={"format": "pt"})
    return path


def test_an_adapter_that_is_not_numbers_is_not_merged(tuned, tmp_path):
    with pytest.raises(Fault, match="NaNs detected in the merged weights"):
        run(broken(tuned, tmp_path / "broken"), tmp_path / "out", "--as", "merged")

    assert not (tmp_path / "out").exists()


def quantized(tuned, folder):
    run(tuned, folder / "small", "--as", "merged-4bit")
    return [folder / "small", folder / "out", "--as", "merged"]


def adapter_of_quantized(tuned, folder):
    run(tuned, folder / "small", "--as", "merged-4bit")
    shutil.copytree(tuned, folder / "adapter")
    file = folder / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "../small"}))
    return [folder / "adapter", folder / "out", "--as", "merged"]


def nowhere(tuned, folder):
    return ["models/nowhere", folder / "out", "--as", "merged"]


def no_model(tuned, folder):
    return ["data", folder / "out", "--as", "merged"]


def no_weights(tuned, folder):
    shutil.copytree(tuned, folder / "model")
    (folder / "model" / "adapter_model.safetensors").unlink()
    return [folder / "model", folder / "out", "--as", "lora"]


def cut_off(tuned, folder):
    shutil.copytree(tuned, folder / "model")
    file = folder / "model" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    return [folder / "model", folder / "out", "--as", "lora"]


def a_checkpoint(tuned, folder):
    shutil.copytree(tuned, folder / "checkpoint-4")
    (folder / "checkpoint-4" / "optimizer.pt").touch()
    return [folder / "checkpoint-4", folder / "out", "--as", "lora"]


def over_another_folder(tuned, folder):
    (folder / "out").mkdir()
    (folder / "out" / "thesis.tex").touch()
    return [tuned, folder / "out", "--as", "lora"]


def over_itself(tuned, folder):
    return [tuned, tuned, "--as", "lora"]


def into_itself(tuned, folder):
    return [tuned, tuned / "out", "--as", "lora"]


def without_an_adapter(tuned, folder):
    return ["models/base", folder / "out", "--as", "lora"]


def without_a_token(tuned, folder):
    return [tuned, folder / "out", "--as", "merged", "--push", "me/model"]


def to_no_repository(tuned, folder):
    return [tuned, folder / "out", "--as", "merged", "--push", "me/my/model", "--dry-run"]


def with_its_base_left_behind(tuned, folder):
    return [tuned, folder / "out", "--as", "lora", "--push", "me/model", "--dry-run"]


def without_llama(tuned, folder):
    return [tuned, folder / "out", "--as", "gguf"]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (quantized, "nothing is merged into them"),
        (adapter_of_quantized, "nothing is merged into them"),
        (nowhere, "models/nowhere: is no folder"),
        (no_model, "data: holds neither config.json nor adapter_config.json"),
        (no_weights, "holds no weights"),
        (cut_off, "cut off or damaged"),
        (a_checkpoint, "checkpoint of an unfinished run"),
        (over_another_folder, "exists and is no earlier export"),
        (over_itself, "two folders"),
        (into_itself, "two folders"),
        (without_an_adapter, "models/base: has no adapter"),
        (without_a_token, "HF_TOKEN"),
        (to_no_repository, "--push: Repo id must be"),
        (with_its_base_left_behind, r"base is the folder \S*models/base, which nobody else has"),
        (without_llama, r"no convert_hf_to_gguf\.py: looked in LLAMA_CPP \(not set\), PATH and \S+/llama\.cpp"),
    ],
)
def test_what_would_go_wrong_is_one_line_and_nothing_is_written(tuned, tmp_path, monkeypatch, case, said):
    for name in (*export.TOKENS, "LLAMA_CPP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    args = case(tuned, tmp_path)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(Fault, match=said) as fault:
        run(*args)

    assert "\n" not in fault.value.message
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("kind", "quantization"), [("merged", None), ("merged-4bit", None), ("gguf", "q4_k_m"), ("gguf", "q8_0")]
)
def test_too_little_disk_is_said_with_what_is_needed(tuned, tmp_path, monkeypatch, kind, quantization):
    monkeypatch.setattr(export.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1))
    monkeypatch.setenv("LLAMA_CPP", str(llama(tmp_path / "llama.cpp", "true")))
    needed = export.amount(export.space(kind, quantization, models.size("models/base", "models/base", None), "float32"))

    with pytest.raises(Fault, match=rf"needs {needed} of disk, 0\.00 MiB are free in {tmp_path}; make room there"):
        run(tuned, tmp_path / "out", "--as", kind, *(["--quantization", quantization] if quantization else []))


def test_too_little_memory_is_said_with_what_is_needed(tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "available", lambda: 1000)

    with pytest.raises(Fault, match=r"merging needs 0\.\d\d MiB of memory, 0\.00 MiB are available"):
        run(tuned, tmp_path / "out", "--as", "merged")


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--quantization", "q8_0"], "for --as gguf"), (["--private"], "for --push"), (["--dry-run"], "for --push")],
)
def test_options_that_would_do_nothing_are_refused(tuned, tmp_path, options, said):
    with pytest.raises(click.UsageError, match=said):
        run(tuned, tmp_path / "out", "--as", "lora", *options)


SEVEN = models.Size(linear=6_500_000_000, rest=1_100_000_000, adapter=None, training=0, answering=0)


@pytest.mark.parametrize(
    ("kind", "quantization", "gigabytes"),
    [
        ("merged", None, 15.2),
        ("merged-4bit", None, 15.2 + 3.35 + 2.2),
        ("gguf", "q8_0", 15.2 + 8.08),
        ("gguf", "q4_k_m", 15.2 + 15.2 + 4.65),
    ],
)
def test_the_disk_taken_is_known_beforehand(kind, quantization, gigabytes):
    assert export.space(kind, quantization, SEVEN, "bfloat16") / 1e9 == pytest.approx(gigabytes, abs=0.01)


@pytest.mark.parametrize(
    ("own", "linear", "dtype"),
    [
        ("bfloat16", 7_000_000_000, "bfloat16"),
        ("float16", 400_000, "float16"),
        ("float32", 400_000, "float32"),
        ("float32", 7_000_000_000, "bfloat16"),
    ],
)
def test_merged_weights_have_16_bits_unless_they_are_few(own, linear, dtype):
    from transformers import PretrainedConfig

    size = models.Size(linear=linear, rest=0, adapter=None, training=0, answering=0)

    assert export.merged_dtype(PretrainedConfig(dtype=own), size) == dtype


def test_a_base_is_named_so_that_others_find_it(tmp_path, monkeypatch):
    cache = tmp_path / "hub" / "models--Qwen--Qwen2.5-7B-Instruct" / "snapshots" / "a09a3545"
    for folder in (cache, tmp_path / "models" / "base"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert export.portable("Qwen/Qwen2.5-7B-Instruct", Path("out/x")) == "Qwen/Qwen2.5-7B-Instruct"
    assert export.portable(str(cache), Path("out/x")) == "Qwen/Qwen2.5-7B-Instruct"
    assert export.portable("models/base", Path("out/x")) == "../../models/base"
    assert export.portable(str(tmp_path / "models" / "base"), Path("models/x")) == "../base"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\nbase_model: /home/me/base\n---\n", "is no name on the Hub"),
        ("---\nbase_model: ../base\n---\n", "is no name on the Hub"),
        ("---\n- a list\n---\n", "mend the lines"),
    ],
)
def test_a_card_that_the_hub_would_not_take_is_a_fault(text, said):
    with pytest.raises(Fault, match=said):
        export.check_card(text, "README.md")


CONNECTIONS: list[str] = []


def watch_connections():
    """Every connection and look-up from here on; a hook cannot be taken away again."""
    if not CONNECTIONS:
        sys.addaudithook(
            lambda event, args: (
                CONNECTIONS.append(f"{event} {args}")
                if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto")
                else None
            )
        )
        CONNECTIONS.append("watching")
    return len(CONNECTIONS)


def test_a_dry_run_lists_what_would_go_and_contacts_nothing(tuned, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    seen = watch_connections()

    run(tuned, tmp_path / "out", "--as", "merged", "--push", "me/model", "--private", "--dry-run")

    assert len(CONNECTIONS) == seen
    said = capsys.readouterr().out
    listed = {line.split()[-1] for line in said.splitlines() if line.startswith("  ")}
    assert listed == names(tmp_path / "out")
    assert f"these {len(listed)} files to me/model, private; nothing was sent" in said
    assert TOKEN not in said


class Hub:
    """As much of the Hub as an upload needs, on a port of this machine: small files go into the commit itself."""

    def __init__(self, private=True, refuse=False):
        self.asked, self.files, self.tokens = [], {}, set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))) or self.chunks())

            def do_GET(self):
                self.answer(b"")

            def chunks(self):
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def answer(self, body):
                hub.asked.append((self.command, self.path.partition("?")[0]))
                hub.tokens.add(self.headers.get("Authorization"))
                status, reply = hub.reply(self.path, body)
                data = json.dumps(reply).encode()
                self.send_response(403 if refuse else status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.private = private
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def reply(self, path, body):
        if path.endswith("/repos/create"):
            return 200, {"url": f"{self.url}/me/model"}
        if "/preupload/" in path:
            files = [file["path"] for file in json.loads(body)["files"]]
            return 200, {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in files]}
        if "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return 200, {"commitUrl": f"{self.url}/me/model/commit/1", "commitOid": "1", "success": True}
        return 200, {"id": "me/model", "private": self.private, "siblings": []}

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def online(monkeypatch):
    """The Hub's client with a token, for a Hub on this machine."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return lambda hub: monkeypatch.setattr(constants, "ENDPOINT", hub.url)


def test_an_export_is_uploaded_whole(tuned, tmp_path, online, capsys):
    with Hub() as hub:
        online(hub)
        run(tuned, tmp_path / "out", "--as", "lora", "--base", "Qwen/Qwen2.5-7B", "--push", "me/model", "--private")

    assert hub.files == {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert hub.tokens == {f"Bearer {TOKEN}"}
    said = capsys.readouterr()
    assert "pushed to" in said.out
    assert TOKEN not in said.out + said.err


@pytest.mark.parametrize(
    ("how", "said"),
    [({"private": False}, "is there already and public"), ({"refuse": True}, "403.*; the export is whole, in")],
)
def test_an_upload_that_must_not_or_cannot_be_is_one_line(tuned, tmp_path, online, how, said):
    with Hub(**how) as hub, pytest.raises(Fault, match=said) as fault:
        online(hub)
        run(tuned, tmp_path / "out", "--as", "merged", "--push", "me/model", "--private")

    assert not hub.files
    assert "\n" not in fault.value.message
    assert TOKEN not in fault.value.message
    assert (tmp_path / "out" / "export.json").exists()


def llama(folder, body):
    """A folder as llama.cpp's, whose programs do what `body` says."""
    for name in (export.CONVERTER, "build/bin/" + export.QUANTIZER):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return folder


def test_llama_is_looked_for_where_it_is_named_then_in_path_then_at_home(tmp_path):
    named, path, home = (llama(tmp_path / name, "true") for name in ("named", "path", "home/llama.cpp"))
    environ = {"LLAMA_CPP": str(named), "PATH": f"/nowhere:{path}"}

    def found(environ):
        return export.tools(environ, tmp_path / "home", "q4_k_m")

    assert found(environ) == export.Tools([str(named / export.CONVERTER)], str(named / "build/bin" / export.QUANTIZER))
    assert found({**environ, "LLAMA_CPP": ""}).converter == [str(path / export.CONVERTER)]
    assert found({}).converter == [str(home / export.CONVERTER)]
    (home / "gguf-py").mkdir()
    assert found({}).converter == [sys.executable, str(home / export.CONVERTER)]


def test_a_quantizer_is_needed_for_what_the_converter_does_not_make(tmp_path):
    folder = llama(tmp_path, "true")
    (folder / "build" / "bin" / export.QUANTIZER).unlink()
    environ = {"LLAMA_CPP": str(folder)}

    assert export.tools(environ, tmp_path, "q8_0").converter
    with pytest.raises(Fault, match=r"no llama-quantize: .* or take q8_0"):
        export.tools(environ, tmp_path, "q4_k_m")


def test_gguf_is_made_of_the_merged_model_by_llamas_programs(tuned, tmp_path, monkeypatch):
    # Each writes down how it was called, and what it found there, in place of its output.
    body = f'echo "$@" >> {tmp_path}/calls; for a in "$@"; do case $a in *.gguf) out=$a;; esac; done; ls "$1" > "$out"'
    monkeypatch.setenv("LLAMA_CPP", str(llama(tmp_path / "llama.cpp", body)))

    run(tuned, tmp_path / "out", "--as", "gguf")

    converted, quantized = (line.split() for line in (tmp_path / "calls").read_text().splitlines())
    assert converted[1:] == ["--outfile", f"{converted[0]}/whole.gguf", "--outtype", "auto"]
    assert quantized[0] == f"{converted[0]}/whole.gguf"
    assert quantized[2] == "Q4_K_M"
    assert made(tmp_path / "out")["files"] == {"tuned-q4_k_m.gguf": len(quantized[0]) + 1}
    assert not Path(converted[0]).exists()


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            ["NotImplementedError: BPE pre-tokenizer was not recognized - update it"],
            "tokenizers of published models only",
        ),
        (["ModuleNotFoundError: No module named 'sentencepiece'"], "install it for the converter"),
        (["ERROR:hf-to-gguf:Model XForCausalLM is not supported"], "take a newer llama.cpp"),
        (["INFO: fine", "ValueError: odd", "see above"], "^ValueError: odd; see convert --help$"),
    ],
)
def test_what_llama_refuses_is_told_with_what_to_do(output, said):
    assert re.search(said, export.refusal(output, "/somewhere/convert"))


def test_llamas_own_converter_knows_no_tokenizer_made_from_scratch(tuned, tmp_path):
    pytest.importorskip("sentencepiece")  # which the converter imports for every Qwen2 model
    try:
        export.tools(os.environ, Path.home(), "q8_0")
    except Fault as missing:
        pytest.skip(missing.message)

    with pytest.raises(Fault, match="tokenizers of published models only"):
        run(tuned, tmp_path / "out", "--as", "gguf", "--quantization", "q8_0")
