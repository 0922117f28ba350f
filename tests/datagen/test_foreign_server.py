"""What holds against a server that is not ours: `transformers serve`, with a model that has learnt three replies."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path

import pytest

from schemas import rows
from schemas.chain import write
from schemas.record import LETTERS, Item, Response
from tests.datagen.conftest import until

START, END = "<|reply|>", "<|end|>"
TEMPLATE = "{% for message in messages %}{{ message.role }}\n{{ message.content }}\n{% endfor %}" + START
ELEMENT = re.compile(r".+?[^>]</\w+>(?:\s*</\w+>)*\s*", re.DOTALL)
"""A text with the tags before it, and those that close after it."""


def a_reply(number: int) -> str:
    """A reply that shares no element with another."""
    its = f"第{number}题的"
    options = tuple(f"{its}选项{letter}" for letter in LETTERS)
    steps = (f"{its}依据。", f"{its}结论。")
    return write(Item(f"{its}题干？", options, f"{its}思考。", steps, f"{its}检查。", None, LETTERS[number]))


REPLIES = [a_reply(number) for number in range(3)]
TOKENS = len(ELEMENT.findall(REPLIES[0])) + 1  # an element is one token, and the last is END


def learn(folder: Path) -> None:
    """Train a model from scratch that writes one of the replies, whatever the prompt: each with a third of the odds.

    Its attention is nothing and stays so: an element alone tells which one follows, and that is learnt in a second.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([START, END])
    backend.add_tokens(list(chain.from_iterable(map(ELEMENT.findall, REPLIES))))
    words = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token=END, chat_template=TEMPLATE)
    ids = words([START + reply + END for reply in REPLIES], return_tensors="pt")["input_ids"]
    assert ids.shape == (len(REPLIES), 1 + TOKENS)

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.model.layers[0].self_attn.o_proj.weight.requires_grad_(False).zero_()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model gains nothing by two, and loses much where others use them
    descent = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(80):
        descent.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        descent.step()
    torch.set_num_threads(threads)
    model.generation_config.do_sample = True
    model.generation_config.min_p = 0.1  # nothing but what was learnt
    model.save_pretrained(folder)
    words.save_pretrained(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    learn(folder)
    return str(folder)


@pytest.fixture(scope="module")
def base_url(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log"
    command = [Path(sys.executable).with_name("transformers"), "serve", model, "--host", "127.0.0.1", "--port", "0"]
    alone = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    with open(log, "wb") as file:
        server = subprocess.Popen(
            [*command, "--device", "cpu"], stdout=file, stderr=subprocess.STDOUT, env=os.environ | alone
        )
    try:
        until(lambda: server.poll() is not None or b"Uvicorn running on" in log.read_bytes(), seconds=120.0)
        where = re.search(r"Uvicorn running on (http://\S+)", log.read_text("utf-8"))
        assert where, log.read_text("utf-8")
        yield f"{where[1]}/v1"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def asking(project, model, base_url):
    """The project, asking that server; a function that changes some of its params."""

    def params(**changed: object) -> None:
        project.params(**({"base_url": base_url, "model": model, "timeout": 60.0, "samples": 1} | changed))

    params()
    return params


def test_its_replies_are_valid_and_their_tokens_counted(project, asking, model, base_url):
    asking(samples=3)

    result = project.generate()

    assert result.exit_code == 0, result.stderr
    assert result.stderr == "generate economy: 12 of 12 valid, 0 rejected, 12 asked now\n"
    found = list(rows.read(project.out, Response))
    assert {row.content for row in found} <= set(REPLIES)
    assert {row.teacher for row in found} == {f"{model}@main @ {base_url}"}  # the name that it gives the model itself
    figures = json.loads(project.metrics.read_text("utf-8"))
    assert figures["completion_tokens"] == 12 * TOKENS
    assert figures["prompt_tokens"] > 12 * 1000  # a prompt is that many bytes and more


def test_its_replies_are_in_the_journal_and_not_asked_for_again(project, asking):
    project.generate()
    journal = project.rows("SELECT verdict, status, error, completion_tokens, prompt_tokens > 1000 FROM attempts")
    assert journal == [("valid", 200, None, TOKENS, True)] * 4

    assert "4 of 4 valid, 0 rejected, 0 asked now" in project.generate().stderr
    assert project.rows("SELECT count(*) FROM attempts") == [(4,)]


def test_the_seed_reaches_it(project, asking):
    asking(samples=3, concurrency=1)  # its generator is one for all calls

    project.generate()

    found = list(rows.read(project.out, Response))
    by_seed = [{row.content for row in found if row.sample == sample} for sample in range(3)]
    assert [len(contents) for contents in by_seed] == [1, 1, 1]  # a model that sees no prompt has no other reason
    assert any(one != other for one, other in pairwise(by_seed))


def test_a_reply_that_it_cuts_off_is_cut_short_and_asked_for_again(project, asking):
    asking(max_tokens=TOKENS - 2, reasks=1)

    result = project.generate()

    assert result.exit_code == 1
    assert "0 of 4 valid, below min_yield 0.95 (cut_short 4)" in result.stderr
    journal = project.rows("SELECT verdict, status, completion_tokens, substr(error, 1, 11) FROM attempts")
    assert journal == [("bad", 200, TOKENS - 2, "cut_short: ")] * 8


def test_a_model_that_it_does_not_have_ends_the_run_with_its_words(project, asking):
    asking(model="nobody/nothing")

    result = project.generate()

    assert result.exit_code == 1
    assert "HTTP 400: " in result.stderr
    assert "requested 'nobody/nothing'" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert project.rows("SELECT DISTINCT verdict, status, completion_tokens FROM attempts") == [("rejected", 400, 0)]
    assert not project.out.exists()


def test_an_address_without_v1_ends_the_run_at_the_first_reply(project, asking, base_url):
    asking(base_url=base_url.removesuffix("/v1"))

    result = project.generate()

    assert result.exit_code == 1
    assert "HTTP 404: " in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert project.rows("SELECT DISTINCT verdict, status FROM attempts") == [("fatal", 404)]
