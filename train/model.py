"""Models in and out: loading a base or an adapter, turning chats into tokens, generating, checkpoints that survive.

Every stage that holds a model goes through here; the stages themselves stay thin over TRL.
"""

import ctypes
import dataclasses
import difflib
import gc
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from schemas import rows
from schemas.faults import Fault
from schemas.params import Count, Params, Positive
from schemas.record import Example, Message
from train import watch

Quantize = Literal["none", "nf4", "int8"]
GIB = 2**30
LOGITS = 2**28
"""Numbers that one pass over a vocabulary may give: 1 GiB of them."""
OF_THE_RUN = ("resumed_at", "seconds", "steps_per_second", "train_loss", "memory", "last")
"""Figures that differ from run to run of the same training; they go into the metrics only."""


class Lora(Params, frozen=True):
    """A low-rank adapter, in PEFT's words."""

    r: Positive
    alpha: Positive
    dropout: float
    targets: list[str]
    bias: Literal["none", "all", "lora_only"]


class Source(Params, frozen=True):
    """Which weights a stage starts from and how they are held."""

    model: str | None
    """A folder or a name on the Hub; null: the model that dvc.yaml hands to the stage."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """Of the weights, and of the computation where they are quantized."""
    quantize: Quantize
    lora: Lora | None
    """null: train every weight. An adapter as the model is trained on as it is, without a second one."""


class Sampling(Params, frozen=True):
    """How replies are generated."""

    max_new_tokens: Positive
    temperature: float
    """0: greedy."""
    top_p: float
    repetition_penalty: float
    no_repeat_ngram_size: Count
    batch_size: Positive
    seed: int


def quiet(local: bool) -> None:
    """Keep the libraries from the network where they need none, and from telling the Hub; before they are imported."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if local:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # bitsandbytes warns of a missing optional kernel whenever it is imported, used or not.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # TRL 1.16 itself uses names that transformers is about to drop.
    warnings.filterwarnings("ignore", message=r".* is deprecated and will be removed in v6", category=FutureWarning)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of a step's tensors for the next; given back and mapped anew, it costs a quarter."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, at its greatest
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def is_local(model: str) -> bool:
    """Whether a model name is a folder; a name of the Hub has one slash at most and no folder of that name."""
    return Path(model).is_dir()


def load(source: Source, path: str, *, train: bool, cpu: bool = False, seed: int = 0) -> tuple[Any, Any]:
    """Return a model and its tokenizer from a folder, an adapter's folder or a name of the Hub.

    A quantization that does not load steps down, 4 bit, 8 bit, weights split between GPU and CPU, each step said aloud.
    For training, an adapter found is trained on; else `source.lora` becomes a new one, its weights drawn by `seed`.
    """
    from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoTokenizer, set_seed

    adapter = Path(path) / "adapter_config.json"
    base = json.loads(adapter.read_text("utf-8"))["base_model_name_or_path"] if adapter.is_file() else path
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
        model = _stepping_down(base, source, cpu)
    except OSError as error:
        raise Fault(f"{path}: {' '.join(str(error).split())[:300]}; is it a folder or a name on the Hub?") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if train and source.quantize != "none":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # the trainer switches it on
        for part in model.modules():
            # On some CPUs bitsandbytes packs 4-bit weights when a model first answers, and cannot train on them then.
            if hasattr(part, "support_avx512bf16_for_cpu"):
                part.support_avx512bf16_for_cpu = False
    if adapter.is_file():
        model = PeftModel.from_pretrained(model, path, is_trainable=train)
        if train and source.lora:
            click.echo(f"{path} is an adapter: it is trained on, lora of params.yaml is not applied")
    elif train and source.lora:
        lora = source.lora
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.targets,
            bias=lora.bias,
        )
        set_seed(seed)
        model = get_peft_model(model, config)
    elif train and source.quantize != "none":
        raise Fault("params.yaml: lora: quantized weights cannot be trained themselves; give lora or quantize: none")
    return model, tokenizer


def _stepping_down(base: str, source: Source, cpu: bool) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    gpu = torch.cuda.is_available() and not cpu
    whole: Any = {"": int(os.environ.get("LOCAL_RANK", "0")) if gpu else "cpu"}
    rungs = {"nf4": ["nf4", "int8", "none"], "int8": ["int8", "none"], "none": ["none"]}[source.quantize]
    tries = [(rung, whole) for rung in rungs] + ([("none", "auto")] if gpu else [])
    for position, (rung, device_map) in enumerate(tries):
        try:
            return AutoModelForCausalLM.from_pretrained(
                base,
                dtype=getattr(torch, source.dtype),
                quantization_config=_quantization(rung, source.dtype),
                device_map=device_map,
            )
        except (ImportError, torch.OutOfMemoryError) as error:
            why = str(error)
        if position + 1 == len(tries):
            raise Fault(f"{base}: does not load as {rung}: {why[:200]}")
        rest, where = tries[position + 1]
        place = "split between GPU and CPU" if where == "auto" else "on one device"
        click.echo(f"{base}: does not load as {rung} ({why[:120]}); trying {rest}, {place}")
        if gpu:  # not in the handler: what was loaded lives as long as the exception does
            gc.collect()
            torch.cuda.empty_cache()
    raise AssertionError("the last try returns or raises")


def _quantization(rung: str, dtype: str) -> Any:
    from transformers import BitsAndBytesConfig

    if rung == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return BitsAndBytesConfig(load_in_8bit=True) if rung == "int8" else None


def config(kind: Any, section: str, trainer: dict[str, Any], **ours: Any) -> Any:
    """Return TRL's config for a `trainer:` mapping as it stands; Fault for an argument TRL does not know or refuses."""
    known = {field.name for field in dataclasses.fields(kind) if field.init}
    for name in trainer:
        where = f"params.yaml: {section}.trainer.{name}"
        if name in ours:
            raise Fault(f"{where}: the stage sets it itself; remove it")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else "see its documentation"
            raise Fault(f"{where}: {kind.__name__} has no such argument; {hint}")
    try:
        return kind(**trainer, **ours)
    except (ValueError, TypeError) as error:
        raise Fault(f"params.yaml: {section}.trainer: {' '.join(str(error).split())}") from None


def as_dicts(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Return messages as the dicts that transformers wants."""
    return [{"role": message.role, "content": message.content} for message in messages]


def tokens(examples: Sequence[Example], tokenizer: Any) -> list[dict[str, list[int]]]:
    """Return input_ids and labels of each chat; only the last message, and the mark that ends it, bear a loss.

    TRL does the same row by row; a batch through the fast tokenizer takes a tenth of the time.
    """
    prompts = [as_dicts(example.messages[:-1]) for example in examples]
    asked = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False)
    wholes = tokenizer.apply_chat_template([as_dicts(example.messages) for example in examples], tokenize=False)
    made = []
    for before, ids in zip(_ids(tokenizer, asked), _ids(tokenizer, wholes), strict=True):
        start = next((n for n, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), len(before))
        made.append({"input_ids": ids, "labels": [-100] * start + ids[start:]})
    return made


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    sampling: Sampling,
    done: Container[int] = (),
) -> Iterator[list[tuple[int, str]]]:
    """Yield batches of (index of the prompt, reply), the longest prompts first, so that a lack of memory shows at once.

    A batch of which all is `done` is left out, and each seeds itself: an interrupted run goes on to the same replies.
    """
    import torch
    from transformers import GenerationConfig

    texts = [tokenizer.apply_chat_template(as_dicts(p), add_generation_prompt=True, tokenize=False) for p in prompts]
    lengths = [len(ids) for ids in _ids(tokenizer, texts)] if texts else []
    order = sorted(range(len(texts)), key=lambda n: (-lengths[n], n))
    how = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=sampling.temperature > 0,
        temperature=sampling.temperature or None,
        top_p=sampling.top_p if sampling.temperature > 0 else None,
        top_k=0 if sampling.temperature > 0 else None,
        repetition_penalty=sampling.repetition_penalty,
        no_repeat_ngram_size=sampling.no_repeat_ngram_size,
        eos_token_id=model.generation_config.eos_token_id or tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    training = model.training
    model.eval()
    for start in range(0, len(order), sampling.batch_size):
        chosen = order[start : start + sampling.batch_size]
        if all(n in done for n in chosen):
            continue
        torch.manual_seed(sampling.seed + start)
        batch = tokenizer([texts[n] for n in chosen], padding=True, add_special_tokens=False, return_tensors="pt")
        batch = batch.to(model.device)
        # Not inference_mode: models answer while they are trained too, and what bitsandbytes converts on a first pass
        # under that mode could not be trained with.
        with torch.no_grad():
            out = model.generate(**batch, generation_config=how)
        replies = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        yield list(zip(chosen, replies, strict=True))
    model.train(training)


def divergence(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    replies: Sequence[str],
    temperature: float,
    as_it_was: watch.AsItWas,
) -> list[float]:
    """Return how far a model is from the one before training, a mean per token for each reply.

    At each place of a reply the Kullback-Leibler divergence of the next token's distribution, now against before,
    summed over the whole vocabulary; nothing is drawn. TRL's `kl`, which it logs with a `beta`, estimates the same from
    the tokens that it sampled.
    """
    import torch

    texts = [tokenizer.apply_chat_template(as_dicts(p), add_generation_prompt=True, tokenize=False) for p in prompts]
    asked, given = _ids(tokenizer, texts), _ids(tokenizer, list(replies))
    longest = max(len(a) + len(b) for a, b in zip(asked, given, strict=True))
    batch = max(1, LOGITS // (longest * model.get_output_embeddings().weight.shape[0]))

    def seen(part: slice) -> list[Any]:
        whole = [torch.tensor(a + b) for a, b in zip(asked[part], given[part], strict=True)]
        ids = torch.nn.utils.rnn.pad_sequence(whole, batch_first=True).to(model.device)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in whole], batch_first=True)
        logits = model(input_ids=ids, attention_mask=mask.to(model.device), use_cache=False).logits
        starts = [len(a) - 1 for a in asked[part]]
        return [
            torch.log_softmax(row[start : len(one)].float() / temperature, dim=-1)
            for row, start, one in zip(logits, starts, whole, strict=True)
        ]

    model.eval()
    found: list[float] = []
    with torch.no_grad():
        for first in range(0, len(asked), batch):
            part = slice(first, first + batch)
            now = seen(part)
            with as_it_was():
                before = seen(part)
            found += [float((a.exp() * (a - b)).sum(-1).mean()) for a, b in zip(now, before, strict=True)]
    return [max(0.0, round(value, 6)) for value in found]


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Give a new folder that replaces `path` only if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield new
        new.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        new.rename(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def workplace(stage: str, params: Any, inputs: Iterable[Path]) -> Path:
    """Return the folder where an unfinished run keeps its state, found again only by the same params and inputs.

    It lies outside the outs, which DVC deletes before a run, and under the root that DVC names, so that `dvc exp run`
    in another folder finds it too.
    """
    key = hashlib.sha256(msgspec.json.encode(params))
    for path in inputs:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                key.update(f"\0{file.relative_to(path)}\0".encode())
                key.update(file.read_bytes() if file.stat().st_size < GIB else str(file.stat().st_mtime_ns).encode())
    place = Path(os.environ.get("DVC_ROOT", ".")) / ".store" / "checkpoints" / stage / key.hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    return place


def last_checkpoint(place: Path) -> Path | None:
    """Return the newest whole checkpoint; one that a kill cut off, known by its missing state, is removed."""
    found: list[tuple[int, Path]] = []
    for path in place.glob("checkpoint-*"):
        if (path / "trainer_state.json").is_file():
            found.append((int(path.name.partition("-")[2]), path))
        else:
            shutil.rmtree(path)
    return max(found)[1] if found else None


def save(
    trainer: Any, tokenizer: Any, new: Path, params: Params, stage: str, start: str, figures: dict[str, Any]
) -> None:
    """Write the weights (an adapter with a pointer to its base), the tokenizer, and what a reader of the run needs.

    Nothing here tells the time or whether the run was interrupted: the same training leaves the same bytes, and what
    follows it in the pipeline is not run again.
    """
    trainer.model.save_pretrained(new)
    tokenizer.save_pretrained(new)
    adapter = new / "adapter_config.json"
    if adapter.exists():  # PEFT writes a set in the order of its hashes
        settings = json.loads(adapter.read_text("utf-8"))
        settings["target_modules"] = sorted(settings["target_modules"])
        adapter.write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
    rows.write_json(new / "run.json", {"stage": stage, "start": start, "params": params})
    curve = [line for line in trainer.state.log_history if "train_runtime" not in line]
    steady = [{k: v for k, v in line.items() if not k.endswith(("runtime", "per_second", "_time"))} for line in curve]
    (new / "curve.jsonl").write_text(
        "".join(json.dumps(line, sort_keys=True) + "\n" for line in steady), encoding="utf-8"
    )
    watch.keep(Path(trainer.args.output_dir), new)
    table = "".join(f"| {name} | {value} |\n" for name, value in figures.items() if name not in OF_THE_RUN)
    library = "peft" if adapter.exists() else "transformers"
    kind = stage.partition("@")[0]
    (new / "README.md").write_text(
        f"---\nbase_model: {start}\nlibrary_name: {library}\ntags: [trl, {kind}]\n---\n# {stage}\n\n"
        f"Trained from `{start}` by `python -m train.{kind}`. Every setting is in run.json, the curve in curve.jsonl, "
        f"replies to held-out questions in samples.jsonl, those on the way in checkpoints.jsonl.\n\n"
        f"| figure | value |\n|---|---|\n{table}",
        encoding="utf-8",
    )


def memory() -> dict[str, float] | None:
    """Return GiB of GPU memory allocated, reserved and at the peak; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    return {
        "allocated_gib": round(torch.cuda.memory_allocated() / GIB, 2),
        "reserved_gib": round(torch.cuda.memory_reserved() / GIB, 2),
        "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
    }


def fit(
    make: Callable[[dict[str, Any]], Any],
    settings: dict[str, Any],
    stage: str,
    place: Path,
    watching: watch.Watching | None,
) -> tuple[Any, dict[str, Any]]:
    """Train from the last whole checkpoint, if there is one; return the trainer and how it went.

    `make` builds TRL's trainer from the `trainer:` mapping. Out of GPU memory, the batch is halved and accumulation
    doubled, and training goes on from the last checkpoint, or from the start if there is none yet: the optimizer sees
    the same batches, GRPO's groups stay whole.
    """
    import torch

    before = time.monotonic()
    if watching:
        rows.write(place / watch.QUESTIONS, watching.questions)
    trainer = make(settings)
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    start = [weight.detach().to("cpu", copy=True) for weight in weights]
    while True:
        found = last_checkpoint(place)
        resumed = int(found.name.partition("-")[2]) if found else 0
        if found:
            click.echo(f"{stage}: goes on from {found.name}")
        watch.rewind(place, resumed if found else None)
        try:
            result = _trained(trainer, watch.callback(stage, place, watching, start, memory), found)
            break
        except torch.OutOfMemoryError:
            settings = halved(trainer.args, settings, stage)
        # Not in the handler: what the failed step held lives as long as the exception does.
        del trainer
        gc.collect()
        torch.cuda.empty_cache()
        with torch.no_grad():
            for weight, value in zip(weights, start, strict=True):
                weight.copy_(value)
        trainer = make(settings)
    seconds = time.monotonic() - before
    steps = trainer.state.global_step
    return trainer, {
        "steps": steps,
        "resumed_at": resumed,
        "batch": [trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps],
        "seconds": round(seconds, 1),
        "steps_per_second": round((steps - resumed) / seconds, 3),
        "train_loss": round(result.training_loss, 4),
        "memory": memory(),
    }


def halved(args: Any, settings: dict[str, Any], stage: str) -> dict[str, Any]:
    """Return a `trainer:` mapping with half the batch and twice the accumulation; Fault if one row is too much."""
    batch, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
    if batch % 2:
        raise Fault(f"{stage}: out of GPU memory with {batch} rows a step; quantize, shorten max_length or take lora")
    click.echo(
        f"{stage}: out of GPU memory with {batch} rows a step; {batch // 2} rows, {accumulation * 2} accumulated"
    )
    made = {
        **settings,
        "per_device_train_batch_size": batch // 2,
        "gradient_accumulation_steps": accumulation * 2,
    }
    if "steps_per_generation" in settings:
        made["steps_per_generation"] = settings["steps_per_generation"] * 2
    return made


def _trained(trainer: Any, progress: Any, found: Path | None) -> Any:
    from transformers import PrinterCallback, ProgressCallback

    for unwanted in () if sys.stderr.isatty() else (PrinterCallback, ProgressCallback):
        trainer.remove_callback(unwanted)
    trainer.add_callback(progress)
    if hasattr(trainer.model, "peft_config"):
        # TRL holds an adapter on quantized weights in bfloat16, where the steps of a small learning rate round to
        # nothing; one read from a checkpoint is float32, and a run that goes on would not be the same training.
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
    return trainer.train(resume_from_checkpoint=str(found) if found else None)
