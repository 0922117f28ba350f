"""Serve a trained model at an OpenAI-compatible endpoint, so that datagen can have it write the next round.

a whole model's folder → an endpoint, until Ctrl-C. The server is vLLM's where that is installed, else that of
transformers. It is shown the folder through links, with two settings of ours: replies are sampled, and they come whole.
For a model of Qwen's type transformers' server would cut out what stands between <think> and </think>, and all before
it; and an item has a <think> of its own.

The model is called by the folder's name and a hash of what is in it, so that a reply of an older author is never taken
for one of this. What holds for a seed: transformers draws from one generator for all calls, so the same seed brings the
same reply only where `limits.concurrency` is 1; it answers one call after the other anyway. vLLM has a generator for
each call and answers many at once, whose rounding may still differ from run to run.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import sysconfig
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import click

from schemas.faults import Fault
from schemas.rows import write_json
from train import model as models
from train.export import check_model
from train.workplace import root

Engine = Literal["vllm", "transformers"]
ENGINES = ("vllm", "transformers")
LOOPBACK = "127.0.0.1"
NEEDS = ("fastapi", "uvicorn", "openai", "pydantic")
"""What transformers' server imports."""
READ = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
"""Files of a model's folder that a server may read."""
OURS = ("run.json", "export.json")
"""Files among these that tell of a training, and change no reply."""
SAID = "<think>\n一\n</think>\n\n<item><think>二</think></item>"


def check_whole(model: Path) -> None:
    """Fault if a folder is no finished model, or an adapter."""
    if models.is_adapter(str(model)):
        merged = model.with_name(f"{model.name}-merged")
        raise Fault(
            f"{model}: is an adapter, and servers want a whole model; `train export {model} {merged} --as merged` "
            f"makes one, then `train author_serve {merged}`"
        )
    check_model(model)


def check_engine(engine: Engine) -> None:
    """Fault if a server, or what it needs, is not installed."""
    if engine == "vllm" and not find_spec("vllm"):
        raise Fault("--engine vllm: vLLM is not installed; `pip install vllm`, or leave the option out")
    if engine == "transformers" and (absent := [name for name in NEEDS if not find_spec(name)]):
        raise Fault(f"transformers' server needs {', '.join(absent)}; `pip install 'question-bank[serve]'`")


def files(model: Path) -> list[Path]:
    """Return the files of a model's folder that its replies depend on, by name."""
    return sorted({file for pattern in READ for file in model.glob(pattern) if file.name not in OURS})


def name(model: Path) -> str:
    """Return what a model is called: its folder's name and a hash of its files, in the way of `NAME@REVISION`."""
    key = hashlib.sha256()
    for file in files(model):
        key.update(f"\0{file.name}\0".encode())
        with open(file, "rb") as data:
            key.update(hashlib.file_digest(data, "sha256").digest())
    return f"{re.sub(r'[^0-9A-Za-z_.-]', '-', model.resolve().name)}@{key.hexdigest()[:12]}"


def show(model: Path, place: Path, tokenizer: Any) -> None:
    """Make the folder `place` show a model: links to its files, but for the two settings that are ours."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for file in files(model):
        (place / file.name).symlink_to(file.resolve())
    sampled = _read(place / "generation_config.json")
    if not sampled.get("do_sample"):  # without it, transformers takes no notice of a temperature
        sampled |= {"do_sample": True, "top_k": 0}
    whole = _read(place / "tokenizer_config.json") | {"response_template": as_it_comes(tokenizer)}
    for changed, settings in (("generation_config.json", sampled), ("tokenizer_config.json", whole)):
        (place / changed).unlink(missing_ok=True)
        write_json(place / changed, settings)


def as_it_comes(tokenizer: Any) -> dict[str, Any]:
    """Return how transformers is to read a reply: all of it is content, up to the token that ends it."""
    ends = "|".join(re.escape(token) for token in {tokenizer.eos_token: 0, tokenizer.pad_token: 0} if token)
    return {
        "start_anchor_pattern": r"(?s).+\Z",  # nothing of the prompt
        "defaults": {"role": "assistant"},
        "fields": {"content": {"content": "text", "close_pattern": rf"(?s)(?:{ends}).*\Z"}},
    }


def check_shown(place: Path) -> None:
    """Fault if transformers would not hand on a reply as it was written."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place)
    found = tokenizer.parse_response(SAID + (tokenizer.eos_token or ""), prefix="<think>\n")
    if found != {"role": "assistant", "content": SAID}:
        raise Fault(
            f"transformers {version('transformers')} reads a reply in a way that this version does not know; install "
            "another, or serve by vLLM"
        )


def free_port(host: str, port: int) -> int:
    """Return the port, or for 0 a free one; Fault if nothing can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as bound:
            return int(bound.getsockname()[1])
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (")[0]  # what follows says the address again
        raise Fault(f"{host}:{port}: {why}; choose another --host or --port, 0 for a free port") from None


def command(engine: Engine, folder: Path, called: str, host: str, port: int, options: Sequence[str]) -> list[str]:
    """Return the words that start a server; transformers' are to be read in the folder above `folder`."""
    at = ["--host", host, "--port", str(port), *options]
    if engine == "vllm":
        program = str(Path(sysconfig.get_path("scripts")) / "vllm")
        return [program, "serve", str(folder.resolve()), "--served-model-name", called, *at]
    return ["serve", called, "--log-level", "error", *at]


def lines(called: str, url: str, tokenizer: Any) -> list[str]:
    """Return the lines of a teacher in params.yaml that are this server's."""
    thinks = "enable_thinking" in json.dumps(tokenizer.chat_template)
    extra = "{chat_template_kwargs: {enable_thinking: false}} # or true" if thinks else "{}"
    return [f"base_url: {url}", f"model: {called}", f"extra: {extra}"]


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}


def _run(words: list[str]) -> None:
    """Run transformers' server in this process, as its command line does, until it ends."""
    from transformers.cli.transformers import app

    try:
        app(words, standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        click.echo("author_serve: stopped", err=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise Fault(f"author_serve: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from None


@click.command(help=__doc__.partition("\n")[0], context_settings={"ignore_unknown_options": True})
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS OF THE SERVER]")
@click.option("--host", default=LOOPBACK, show_default=True, help="Any other lets other machines in.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one.")
@click.option("--engine", type=click.Choice(ENGINES), help="vllm where it is installed, else transformers.")
def main(model: Path, options: tuple[str, ...], host: str, port: int, engine: Engine | None) -> None:
    """Serve the folder MODEL."""
    chosen: Engine = engine or ("vllm" if find_spec("vllm") else "transformers")
    check_whole(model)
    check_engine(chosen)
    port = free_port(host, port)
    models.quiet(local=True)
    tokenizer = models.read_tokenizer(str(model))
    called = name(model)
    slug, _, hash_ = called.partition("@")
    place = root() / ".store" / "serve" / hash_ / slug
    show(model, place, tokenizer)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    if chosen == "transformers":
        check_shown(place)
    click.echo(
        f"author_serve: {model} by {chosen} {version(chosen)}; in params.yaml, under `teachers: author:`", err=True
    )
    for line in lines(called, url, tokenizer):
        click.echo(f"    {line}", err=True)
    if host not in (LOOPBACK, "localhost", "::1"):
        click.echo(f"author_serve: at {host} other machines can use it too, and no key is asked for", err=True)
    words = command(chosen, place, called, host, port, options)
    if chosen == "vllm":
        os.execv(words[0], words)
    os.chdir(place.parent)
    _run(words)


if __name__ == "__main__":
    main()
