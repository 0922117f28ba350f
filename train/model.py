"""Models in: a base or an adapter, held as memory allows; and chats turned into their tokens."""

import ctypes
import gc
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from schemas.faults import Fault
from schemas.params import Params, Positive
from schemas.record import Example, Message

Quantize = Literal["none", "nf4", "int8", "auto"]


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


def as_dicts(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Return messages as the dicts that transformers wants."""
    return [{"role": message.role, "content": message.content} for message in messages]


def tokens(examples: Sequence[Example], tokenizer: Any) -> list[dict[str, list[int]]]:
    """Return input_ids and labels of each chat; only the last message, and the mark that ends it, bear a loss.

    TRL does the same row by row; a batch through the fast tokenizer takes a tenth of the time.
    """
    asked = asking([example.messages[:-1] for example in examples], tokenizer)
    wholes = tokenizer.apply_chat_template([as_dicts(example.messages) for example in examples], tokenize=False)
    made = []
    for before, ids in zip(token_ids(tokenizer, asked), token_ids(tokenizer, wholes), strict=True):
        start = next((n for n, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), len(before))
        made.append({"input_ids": ids, "labels": [-100] * start + ids[start:]})
    return made


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text as it stands, no special token added."""
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return found


def asking(prompts: Sequence[Sequence[Message]], tokenizer: Any) -> list[str]:
    """Return each prompt as the text after which the model is to speak."""
    texts: list[str] = tokenizer.apply_chat_template(
        [as_dicts(prompt) for prompt in prompts], add_generation_prompt=True, tokenize=False
    )
    return texts
