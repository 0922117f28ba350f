import json
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from schemas.faults import Fault
from train import author_serve
from train import model as models
from train.author_serve import as_it_comes, check_engine, command, files, free_port, lines, main, name, show

ITEM = "<item>\n<question>几？</question>\n<think>想。</think>\n<output>A</output>\n</item>"


@pytest.fixture
def model(project, tmp_path):
    """A model's folder of the test's own."""
    return Path(shutil.copytree("models/base", tmp_path / "author"))


@pytest.fixture
def tokenizer(project):
    return models.read_tokenizer("models/base")


# --- what is refused, in a line ------------------------------------------------------------------------------------


def damaged(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "author: is no folder"),
        (lambda folder: (folder / "config.json").unlink(), "so no finished model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
        (damaged, "model.safetensors: cut off or damaged"),
        (lambda folder: (folder / "optimizer.pt").touch(), "is a checkpoint of an unfinished run"),
        (lambda folder: (folder / "chat_template.jinja").unlink(), "has no chat template"),
        (
            lambda folder: (folder / "adapter_config.json").write_text("{}"),
            "is an adapter, and servers want a whole model; `train export",
        ),
    ],
)
def test_a_folder_that_cannot_be_served_is_refused(model, spoil, message):
    spoil(model)

    done = CliRunner().invoke(main, [str(model), "--port", "0", "--engine", "transformers"])

    assert done.exit_code == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(Fault, match=rf"127\.0\.0\.1:{port}: Address already in use; choose another"):
            free_port("127.0.0.1", port)


def test_a_host_that_is_not_this_machine_is_refused():
    with pytest.raises(Fault, match=r"192\.0\.2\.1:8000: .*; choose another --host or --port"):
        free_port("192.0.2.1", 8000)


def test_port_0_is_a_free_one():
    assert free_port("127.0.0.1", 0) > 0


def test_a_server_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)

    with pytest.raises(Fault, match="vLLM is not installed"):
        check_engine("vllm")


def test_what_transformers_server_lacks_is_named(monkeypatch):
    monkeypatch.setattr(author_serve, "NEEDS", ("fastapi", "no_such_module"))

    with pytest.raises(Fault, match=r"needs no_such_module; `pip install 'question-bank\[serve\]'`"):
        check_engine("transformers")


# --- what it is called -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "another"),
    [
        *(("model.safetensors", True), ("config.json", True), ("chat_template.jinja", True), ("new.json", True)),
        *(("README.md", False), ("run.json", False), ("curve.jsonl", False)),
    ],
)
def test_the_name_follows_what_replies_depend_on_and_nothing_else(model, file, another):
    before = name(model)

    with open(model / file, "ab") as changed:
        changed.write(b" ")

    assert (name(model) != before) is another


def test_the_name_is_the_folders_with_a_hash(model):
    assert re.fullmatch(r"author@[0-9a-f]{12}", name(model))
    assert name(model.rename(model.with_name("a b@c"))).startswith("a-b-c@")


# --- what the server is shown ----------------------------------------------------------------------------------------


def test_the_server_is_shown_the_folder_and_the_folder_stays_as_it_was(model, tmp_path, tokenizer):
    before = {file.name: file.read_bytes() for file in model.iterdir()}

    show(model, tmp_path / "shown", tokenizer)

    assert {file.name: file.read_bytes() for file in model.iterdir()} == before
    links = {file.name for file in (tmp_path / "shown").iterdir() if file.is_symlink()}
    assert links == {file.name for file in files(model)} - {"generation_config.json", "tokenizer_config.json"}


@pytest.mark.parametrize(
    ("own", "shown"),
    [
        ({}, {"do_sample": True, "top_k": 0}),
        ({"do_sample": False, "top_k": 50}, {"do_sample": True, "top_k": 0}),
        ({"do_sample": True, "top_k": 20, "top_p": 0.8}, {"do_sample": True, "top_k": 20, "top_p": 0.8}),
    ],
)
def test_replies_are_sampled_as_the_model_says_or_from_all_tokens(model, tmp_path, tokenizer, own, shown):
    (model / "generation_config.json").write_text(json.dumps(own), "utf-8")

    show(model, tmp_path / "shown", tokenizer)

    assert json.loads((tmp_path / "shown/generation_config.json").read_text("utf-8")) == shown


@pytest.mark.parametrize("prompt", ["", "<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n\n</think>\n\n"])
@pytest.mark.parametrize(
    "thoughts", ["", "<think>\n想。\n</think>\n\n", "<think>\n\n</think>\n\n", "想。\n</think>\n\n"]
)
@pytest.mark.parametrize("end", ["", "<|im_end|>", "<|im_end|>\n<|endoftext|>"])
def test_a_reply_is_handed_on_whole_with_thoughts_and_the_items_own_think(tokenizer, prompt, thoughts, end):
    found = tokenizer.parse_response(thoughts + ITEM + end, as_it_comes(tokenizer), prefix=prompt)

    assert found == {"role": "assistant", "content": thoughts + ITEM}


# --- how it is started and told of -----------------------------------------------------------------------------------


def test_vllm_is_told_the_name_and_transformers_reads_it_from_the_folder_above(tmp_path):
    at = ["--host", "::1", "--port", "9", "--max-model-len", "512"]

    vllm, own = (
        command(engine, tmp_path / "author", "author@0a", "::1", 9, ["--max-model-len", "512"])
        for engine in ("vllm", "transformers")
    )

    assert vllm[1:] == ["serve", str(tmp_path / "author"), "--served-model-name", "author@0a", *at]
    assert Path(vllm[0]).name == "vllm"
    assert own == ["serve", "author@0a", "--log-level", "error", *at]


def test_the_lines_for_params_say_how_to_turn_thinking_off_where_the_template_can(tokenizer):
    assert lines("author@0a", "http://x/v1", tokenizer) == [
        "base_url: http://x/v1",
        "model: author@0a",
        "extra: {chat_template_kwargs: {enable_thinking: false}} # or true",
    ]
    tokenizer.chat_template = "{{ messages }}"
    assert lines("author@0a", "http://x/v1", tokenizer)[2] == "extra: {}"
