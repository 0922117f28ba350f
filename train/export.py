"""Make a model ready to leave: its adapter, or merged in 16 or in 4 bits, or as GGUF; and push it to the Hub.

a model's folder → a folder with weights, tokenizer, a card and export.json. An adapter is merged into weights of 16
bits, never into quantized ones; 4 bits and GGUF are made of the merged model.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from schemas import rows
from schemas.faults import Fault
from train import model as models
from train.memory import GIB, free
from train.workplace import folder

Kind = Literal["lora", "merged", "merged-4bit", "gguf"]
KINDS = ("lora", "merged", "merged-4bit", "gguf")
QUANTIZATIONS = {"q4_k_m": 4.8944 / 8, "q8_0": 8.5008 / 8}
"""GGUF's, with the bytes of a weight in a model of 8 billion of them; llama.cpp, tools/quantize/README.md."""
BY_CONVERTER = "q8_0"
"""The one that llama.cpp's converter makes itself."""
CONVERTER, QUANTIZER = "convert_hf_to_gguf.py", "llama-quantize"
RECORD = "export.json"
SHARD = "5GB"
SMALL = 100_000_000
"""Weights up to which a model that is held in 32 bits stays so."""
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


class Export(msgspec.Struct, frozen=True):
    """How an export was made; every export holds one, as export.json."""

    kind: Kind
    model: str
    base: str | None
    """The model that the adapter was trained on; None: there was no adapter."""
    dtype: str | None
    """Of the weights the adapter was merged into; None: it was not merged."""
    quantization: str | None
    files: dict[str, int]
    """Bytes of each file of weights."""


# What is refused before any work.


def check_model(model: Path) -> None:
    """Fault if a folder is no finished model; of the weights only headers are read."""
    if not model.is_dir():
        raise Fault(f"{model}: is no folder; give the one that a training has written")
    if (model / "optimizer.pt").exists():
        raise Fault(f"{model}: is a checkpoint of an unfinished run; run it to its end and export what it writes")
    if not models.is_adapter(str(model)) and not (model / "config.json").is_file():
        raise Fault(f"{model}: holds neither config.json nor adapter_config.json, so no finished model")
    if not any(model.glob("*.safetensors")):
        raise Fault(f"{model}: holds no weights (*.safetensors), so no finished model")
    for place in {str(model), models.base_of(str(model))}:
        models.check_weights(place)


def check_out(out: Path, model: Path) -> None:
    """Fault if an export to `out` would lose what is no export."""
    here, there = out.resolve(), model.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise Fault(f"{out}: {model} and its export need two folders, neither within the other")
    if out.exists() and not (out / RECORD).is_file():
        raise Fault(f"{out}: exists and is no earlier export; name another folder, or move it away")


def check_room(out: Path, disk: int, held: int) -> None:
    """Fault if the disk has not so many bytes free, or the machine so many bytes of memory."""
    place = next(parent for parent in out.resolve().parents if parent.is_dir())
    left = shutil.disk_usage(place).free
    if left < disk:
        raise Fault(f"{out}: needs {amount(disk)} of disk, {amount(left)} are free in {place}; make room there")
    if (most := available()) is not None and most < held:
        raise Fault(
            f"{out}: merging needs {amount(held)} of memory, {amount(most)} are available; take a larger machine"
        )


def available() -> int | None:
    """Return the bytes of the machine's memory that can be taken without swapping; None where Linux does not say."""
    file = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", file.read_text("ascii"), re.M) if file.is_file() else None
    return int(found[1]) * 1024 if found else None


def check_push(repo: str, kind: Kind, base: str | None) -> None:
    """Fault if a repository's name cannot be one, or an adapter would point to a folder of this machine."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise Fault(f"--push: {' '.join(str(error).split())}") from None
    if kind == "lora" and base and not is_name(base):
        raise Fault(
            f"--push: the adapter's base is the folder {base}, which nobody else has; push that too and give its name "
            "as --base, or export --as merged"
        )


def token_of(environ: Mapping[str, str]) -> str:
    """Return the Hub's token; Fault if the environment has none."""
    for name in TOKENS:
        if environ.get(name):
            return environ[name]
    raise Fault(f"--push: needs a token that may write, in the environment variable {TOKENS[0]}; or add --dry-run")


# How large things are, how they are called.


def weight(size: models.Size, dtype: str) -> int:
    """Return the bytes of a whole model's weights."""
    return (size.linear + size.rest) * (4 if dtype == "float32" else 2)


def space(kind: Kind, quantization: str | None, size: models.Size, dtype: str) -> int:
    """Return the bytes of disk that an export takes until it is done, the merged model on its way counted."""
    merged = weight(size, dtype)
    if quantization:
        converted = 0 if quantization == BY_CONVERTER else merged
        return merged + converted + round(QUANTIZATIONS[quantization] * (size.linear + size.rest))
    return merged + (round(models.NF4 * size.linear) + 2 * size.rest if kind == "merged-4bit" else 0)


def merged_dtype(config: Any, size: models.Size) -> str:
    """Return the type of a merged model's weights: its base's own, but 32 bits for small models only."""
    own = str(config.dtype).removeprefix("torch.")
    if own in ("bfloat16", "float16"):
        return own
    return "float32" if size.linear + size.rest <= SMALL else "bfloat16"


def is_name(base: str) -> bool:
    """Whether a base is named as the Hub does."""
    return not Path(base).is_dir() and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", base, re.ASCII) is not None


def portable(base: str, out: Path) -> str:
    """Return how an adapter in the folder `out` names its base: by its name on the Hub, else relative to `out`."""
    if not Path(base).is_dir():
        return base
    cached = re.search(r"/models--([^/]+)/snapshots/", Path(base).resolve().as_posix())
    return cached[1].replace("--", "/") if cached else os.path.relpath(base, out)


def amount(size: float) -> str:
    """Return bytes as people read them."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.2f} MiB"


def listing(place: Path) -> dict[str, int]:
    """Return the bytes of each file of a folder, by its name there."""
    return {str(f.relative_to(place)): f.stat().st_size for f in sorted(place.rglob("*")) if f.is_file()}


# The weights.


def lora(model: Path, new: Path, base: str) -> None:
    """Write an adapter, its base named anew."""
    settings = json.loads((model / "adapter_config.json").read_text("utf-8"))
    rows.write_json(new / "adapter_config.json", {**settings, "base_model_name_or_path": base})
    shutil.copyfile(model / "adapter_model.safetensors", new / "adapter_model.safetensors")
    write_tokenizer(models.read_tokenizer(str(model)), new)


def merge(model: Path, new: Path, dtype: str, held: int) -> None:
    """Write a model whole, its adapter merged into its base; on the GPU where `held` bytes fit with room to spare."""
    source = models.Source(model=None, dtype=dtype, quantize="none", lora=None)  # type: ignore[arg-type]
    network, tokenizer = models.load(source, str(model), train=False, cpu=(free() or 0) < held + GIB)
    if models.is_adapter(str(model)):
        try:
            network = network.merge_and_unload(safe_merge=True)
        except ValueError as error:
            raise Fault(f"{model}: {error}; export one from before its training went wrong") from None
    network.save_pretrained(new, max_shard_size=SHARD)
    write_tokenizer(tokenizer, new)


def write_tokenizer(tokenizer: Any, new: Path) -> None:
    """Write a tokenizer; Fault if it comes back as another, as transformers makes some anew from the model's type."""
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(new)
    again = AutoTokenizer.from_pretrained(new)
    texts = [tokenizer.decode(range(n, min(n + 64, len(tokenizer)))) for n in range(0, len(tokenizer), 64)]
    same = models.token_ids(again, texts) == models.token_ids(tokenizer, texts)
    if not same or again.chat_template != tokenizer.chat_template:
        raise Fault(f"{new}: the tokenizer reads otherwise once it is saved; export with the training's transformers")


@contextmanager
def merged_for_a_while(model: Path, out: Path, dtype: str, held: int) -> Iterator[Path]:
    """Give the merged model in a folder beside `out` that is gone afterwards."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        merge(model, Path(place), dtype, held)
        yield Path(place)


def four_bits(merged: Path, new: Path) -> None:
    """Write a merged model in 4 bits (nf4, double quantization), as `from_pretrained` loads it again."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        network = AutoModelForCausalLM.from_pretrained(
            merged,
            dtype=torch.bfloat16,
            quantization_config=models.quantization("nf4", "bfloat16"),
            device_map={"": 0 if torch.cuda.is_available() else "cpu"},
        )
    except (ImportError, RuntimeError) as error:
        raise Fault(f"merged-4bit: bitsandbytes does not quantize here: {' '.join(str(error).split())[:300]}") from None
    if layer := models.misread(network):
        raise Fault(
            f"merged-4bit: rows of {layer} are no multiple of 64: 4 bits would be read wrongly on a CPU; take merged"
        )
    network.save_pretrained(new, max_shard_size=SHARD)
    write_tokenizer(models.read_tokenizer(str(merged)), new)


class Tools(msgspec.Struct, frozen=True):
    """llama.cpp's programs."""

    converter: list[str]
    """The command before its arguments."""
    quantizer: str


def tools(environ: Mapping[str, str], home: Path, quantization: str) -> Tools:
    """Return where llama.cpp is: in $LLAMA_CPP, in PATH, in ~/llama.cpp; Fault if what is needed is in none of them."""
    given = environ.get("LLAMA_CPP", "")
    folders = [given, *environ.get("PATH", "").split(os.pathsep), str(home / "llama.cpp")]
    places = [Path(place) / part for place in folders if place for part in ("", "build/bin", "bin")]
    script, quantizer = (
        next((place / name for place in places if (place / name).is_file()), None) for name in (CONVERTER, QUANTIZER)
    )
    looked = f"looked in LLAMA_CPP ({given or 'not set'}), PATH and {home / 'llama.cpp'}"
    if script is None:
        raise Fault(f"gguf: no {CONVERTER}: {looked}; clone github.com/ggml-org/llama.cpp, set LLAMA_CPP to its folder")
    if quantizer is None and quantization != BY_CONVERTER:
        raise Fault(f"gguf: no {QUANTIZER}: {looked}; build it (llama.cpp, docs/build.md), or take {BY_CONVERTER}")
    # Beside its own library it is a clone's, for this Python; else it was installed, with a Python of its own.
    clone = (script.parent / "gguf-py").is_dir() or not os.access(script, os.X_OK)
    return Tools([sys.executable, str(script)] if clone else [str(script)], str(quantizer))


def gguf(merged: Path, file: Path, quantization: str, using: Tools) -> None:
    """Convert a merged model by llama.cpp's own programs."""
    if quantization == BY_CONVERTER:
        _call([*using.converter, str(merged), "--outfile", str(file), "--outtype", quantization])
        return
    whole = merged / "whole.gguf"
    _call([*using.converter, str(merged), "--outfile", str(whole), "--outtype", "auto"])
    _call([using.quantizer, str(whole), str(file), quantization.upper()])


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise Fault(f"gguf: {refusal(said or [f'exit status {done.returncode}'], command[0])}")


def refusal(said: Sequence[str], program: str) -> str:
    """Return what llama.cpp's program complains of in its output, and what to do."""
    last = next((line for line in reversed(said) if re.match(r"\w*(Error|error)\b", line)), said[-1])
    hint = next((hint for sign, hint in REFUSALS.items() if sign in last), f"see {Path(program).name} --help")
    return f"{last[:300]}; {hint}"


REFUSALS = {
    "pre-tokenizer was not recognized": "llama.cpp knows tokenizers of published models only, and the tiny model's is "
    "none; export one that was fine-tuned from a published model",
    "No module named": "install it for the converter (llama.cpp, requirements.txt)",
    "is not supported": "take a newer llama.cpp",
}


# The card, and the Hub.


def card(made: Export, trained: str | None) -> str:
    """Return the card of an export, ending with that of the training, if there is one."""
    from huggingface_hub import ModelCard, ModelCardData

    training = ModelCard(trained, ignore_metadata_errors=True) if trained else None
    base = made.base if made.base and is_name(made.base) else None
    head = ModelCardData(
        base_model=base,
        base_model_relation={"lora": "adapter", "merged": "finetune"}.get(made.kind, "quantized") if base else None,
        library_name={"lora": "peft", "gguf": "gguf"}.get(made.kind, "transformers"),
        pipeline_tag="text-generation",
        tags=training.data.tags if training else None,
    )
    sizes = "".join(f"| {name} | {amount(size)} |\n" for name, size in made.files.items())
    text = f"# {Path(made.model).name}\n\n{told(made)}\n\n| file | size |\n|---|---|\n{sizes}"
    if training:
        text += "\n## Training\n\n" + re.sub(r"\A\s*# .*\n\s*", "", training.text)
    return f"---\n{head.to_yaml()}\n---\n{text}"


def told(made: Export) -> str:
    """Return how an export was made, and what it needs."""
    if made.kind == "lora":
        near = "" if made.base and is_name(made.base) else ", from this folder, and has to come along"
        return f"A LoRA adapter. Its base is `{made.base}`{near}."
    merged = f"the adapter merged into `{made.base}` in {made.dtype}" if made.base else f"the model in {made.dtype}"
    if made.kind == "merged":
        return f"A whole model: {merged}."
    if made.kind == "merged-4bit":
        return f"A whole model: {merged}, then quantized by bitsandbytes to nf4 with double quantization."
    return f"For llama.cpp: {merged}, then converted to GGUF and quantized to {made.quantization}."


def check_card(text: str, where: str) -> None:
    """Fault if the Hub would refuse a card's head, or could not link the model that this one was made from."""
    from huggingface_hub import ModelCard

    try:
        base = ModelCard(text).data.to_dict().get("base_model")
    except ValueError as error:
        raise Fault(f"{where}: {' '.join(str(error).split())}; mend the lines between the two ---") from None
    if base and not is_name(base):
        raise Fault(f"{where}: base_model: {base} is no name on the Hub; give the one it has there")


def push(place: Path, repo: str, private: bool, token: str) -> str:
    """Upload an export's folder to the Hub, into a new repository or one there is; return its address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # of whichever client the library is built on

    api = HfApi(token=token)
    try:
        made = api.create_repo(repo, private=private, exist_ok=True)
        if private and not api.repo_info(made.repo_id).private:
            raise Fault(f"--push: {repo} is there already and public; make it private on the Hub, or drop --private")
        api.upload_folder(repo_id=made.repo_id, folder_path=place, commit_message=f"Export {place.name}")
    except (HTTPError, OSError) as error:
        why = " ".join(str(error).split()).replace(token, "…")
        raise Fault(f"--push: {repo}: {why[:300]}; the export is whole, in {place}") from None
    return str(made)


def export(kind: Kind, model: Path, out: Path, base: str | None, quantization: str | None, using: Tools | None) -> None:
    """Write an export's folder, whole or not at all; `base` is how its card and its adapter name the base."""
    dtype, held, disk = None, 0, sum(file.stat().st_size for file in model.glob("*.safetensors"))
    if kind != "lora":
        dtype, size = whole(model)
        held, disk = weight(size, dtype), space(kind, quantization, size, dtype)
    check_room(out, disk, held)
    with folder(out) as new:
        if dtype is None:
            lora(model, new, base or "")
        elif kind == "merged":
            merge(model, new, dtype, held)
        else:
            with merged_for_a_while(model, out, dtype, held) as merged:
                if using and quantization:
                    gguf(merged, new / f"{model.name}-{quantization}.gguf", quantization, using)
                else:
                    four_bits(merged, new)
        weights = {name: bytes for name, bytes in listing(new).items() if name.endswith((".safetensors", ".gguf"))}
        made = Export(kind, str(model), base, dtype, quantization, weights)
        trained = None
        if (model / "run.json").is_file():  # one of our trainings: its card goes along, and what that speaks of
            for told in (model / "run.json", *model.glob("*.jsonl")):
                shutil.copyfile(told, new / told.name)
            trained = (model / "README.md").read_text("utf-8")
        (new / "README.md").write_text(card(made, trained), encoding="utf-8")
        rows.write_json(new / RECORD, made)


def whole(model: Path) -> tuple[str, models.Size]:
    """Return the type of the weights that a model has once merged, and its size; Fault where they are quantized."""
    from transformers import AutoConfig

    base = models.base_of(str(model))
    size = models.size(base, str(model), None)
    if size is None:
        raise Fault(f"{base}: its weights are quantized, nothing is merged into them; export from their original")
    return merged_dtype(AutoConfig.from_pretrained(base), size), size


@click.command(help=__doc__.partition("\n")[0])
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--as", "kind", type=click.Choice(KINDS), required=True, help="What OUT is to hold.")
@click.option("--quantization", type=click.Choice(list(QUANTIZATIONS)), help="Of GGUF; q4_k_m unless given.")
@click.option("--base", help="The base's name on the Hub, where the adapter was trained on a folder.")
@click.option("--push", "repo", help="The Hub's repository to upload OUT to, NAME or OWNER/NAME.")
@click.option("--private", is_flag=True, help="A repository that only its owner sees.")
@click.option("--dry-run", is_flag=True, help="Say what --push would upload; contact nothing.")
def main(
    model: Path,
    out: Path,
    kind: Kind,
    quantization: str | None,
    base: str | None,
    repo: str | None,
    private: bool,
    dry_run: bool,
) -> None:
    """Export the folder MODEL to the folder OUT."""
    if quantization and kind != "gguf":
        raise click.UsageError("--quantization is for --as gguf")
    if (private or dry_run) and not repo:
        raise click.UsageError("--private and --dry-run are for --push")
    check_model(model)
    check_out(out, model)
    adapter = models.is_adapter(str(model))
    if not adapter and (kind == "lora" or base):
        raise Fault(f"{model}: has no adapter; export it --as merged, without --base")
    token = token_of(os.environ) if repo and not dry_run else None
    models.quiet(local=models.is_local(str(model)) and token is None)
    named = base or portable(models.base_of(str(model)), out) if adapter else None
    if repo:
        check_push(repo, kind, named)
    if kind == "gguf":
        quantization = quantization or "q4_k_m"
    using = tools(os.environ, Path.home(), quantization) if quantization else None
    export(kind, model, out, named, quantization, using)
    files = listing(out)
    click.echo(f"export: {model} as {quantization or kind}, {amount(sum(files.values()))}: {out}")
    if not repo:
        return
    check_card((out / "README.md").read_text("utf-8"), str(out / "README.md"))
    if token:
        click.echo(f"export: pushed to {push(out, repo, private, token)}")
        return
    for name, size in files.items():
        click.echo(f"  {amount(size):>12}  {name}")
    seen = "private" if private else "public"
    click.echo(f"export: --push would upload these {len(files)} files to {repo}, {seen}; nothing was sent")


if __name__ == "__main__":
    main()
