"""Models in: a base or an adapter, held as memory allows; and chats turned into their tokens."""

import ctypes
import gc
import json
import logging
import os
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from schemas.faults import Fault
from schemas.params import Params, Positive
from schemas.record import Example, Message
from train.memory import GIB, free

Quantize = Literal["none", "nf4", "int8", "auto"]

LADDERS: dict[str, tuple[str, ...]] = {
    "none": ("none", "split"),
    "int8": ("int8", "none", "split"),
    "nf4": ("nf4", "int8", "none", "split"),
    "auto": ("none", "int8", "nf4", "split"),
}
"""What is tried one after the other; `auto` begins where its measure says."""
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight: a scale of a byte for 64 of them, one of four bytes for 256 scales."""
TRAINING, ANSWERING = 4_096, 16_384
"""Tokens in flight that `auto` leaves room for: 4 rows of 1,024, 16 chats of 1,024."""


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
    """auto: the finest that the free memory of the GPU holds, of 16, 8 and 4 bits."""
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
    # An output layer that is the embeddings too lies in no checkpoint, and is not missed when a run goes on.
    tied = "missing keys in the checkpoint model loaded: ['lm_head.weight']"
    logging.getLogger("transformers.trainer").addFilter(lambda record: tied not in record.getMessage())
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of a step's tensors for the next; given back and mapped anew, it costs a quarter."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, at its greatest
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def is_local(model: str) -> bool:
    """Whether all of a model is in folders; a name of the Hub has one slash at most and no folder of that name."""
    return Path(model).is_dir() and Path(base_of(model)).is_dir()


def is_adapter(model: str) -> bool:
    """Whether a folder holds an adapter, not a whole model."""
    return (Path(model) / "adapter_config.json").is_file()


def base_of(model: str) -> str:
    """Return the folder or the name of the base of an adapter's folder; a whole model is its own.

    What the adapter says is looked for from its folder, then from the current one, else it is a name of the Hub.
    """
    if not is_adapter(model):
        return model
    base = _adapter(model).base_model_name_or_path
    if not base:
        raise Fault(f"{model}/adapter_config.json: base_model_name_or_path is empty; write there which model it adapts")
    near = Path(model) / base
    return os.path.relpath(near) if (near / "config.json").is_file() else base


class _Adapter(msgspec.Struct, frozen=True):
    """What of PEFT's file is read here; the defaults are for adapters of other kinds than LoRA."""

    base_model_name_or_path: str | None
    r: int = 0
    target_modules: list[str] | str | None = None


def _adapter(model: str) -> _Adapter:
    file = Path(model) / "adapter_config.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Adapter)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Fault(f"{file}: {error}; copy the adapter again, or train it again") from None


def check_weights(model: str) -> None:
    """Fault if a file of weights of a model's folder is missing or cut off; only their headers are read."""
    from safetensors import SafetensorError, safe_open

    folder = Path(model)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        for name in sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values())):
            if not (folder / name).is_file():
                raise Fault(f"{folder / name}: is missing, {index.name} names it; copy the model again")
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except SafetensorError as error:
            raise Fault(f"{file}: cut off or damaged ({error}); copy the model again, or train it again") from None


def load(source: Source, path: str, *, train: bool, cpu: bool = False, seed: int = 0) -> tuple[Any, Any]:
    """Return a model and its tokenizer from a folder, an adapter's folder or a name of the Hub.

    What does not load, base and adapter together, steps down: 4 bit, 8 bit, weights split between GPU and CPU, each
    step said aloud; `auto` begins where the measured free memory says. For training, an adapter found is trained on;
    else `source.lora` becomes a new one, its weights drawn by `seed`.
    """
    import torch

    every = train and not source.lora and not is_adapter(path)
    if every and source.quantize in ("nf4", "int8"):
        raise Fault("params.yaml: lora: quantized weights cannot be trained themselves; give lora or quantize: none")
    base = base_of(path)
    for folder in {base, path}:
        check_weights(folder)
    tokenizer = read_tokenizer(path)
    gpu = torch.cuda.is_available() and not cpu
    if gpu:
        torch.cuda.set_device(_rank())
    splits = gpu and os.environ.get("WORLD_SIZE", "1") == "1"  # several processes cannot train what is split
    possible = {"none"} | ({"split"} if splits else set()) | (set() if every else {"int8", "nf4"})
    rungs = [rung for rung in LADDERS[source.quantize] if rung in possible]
    if source.quantize == "auto":
        first = measured(base, path, source, train, gpu)
        rungs = rungs[rungs.index(first) :] if first in rungs else rungs[-1:]
    for rung, below in zip(rungs, [*rungs[1:], None], strict=True):
        try:
            model = _assembled(base, path, source, train, rung, gpu, seed)
            break
        except (ImportError, RuntimeError) as error:  # bitsandbytes knows no other error than RuntimeError
            if rung in ("none", "split") and not isinstance(error, ImportError | torch.OutOfMemoryError):
                raise
            why = " ".join(str(error).split())
        if below is None:
            raise Fault(f"{path}: does not load as {_named(rung, source.dtype)}: {why[:200]}")
        click.echo(
            f"{path}: does not load as {_named(rung, source.dtype)} ({why[:120]}); trying {_named(below, source.dtype)}"
        )
        if gpu:  # not in the handler: what was loaded lives as long as the exception does
            gc.collect()
            torch.cuda.empty_cache()
    if gpu:
        held = _named(rung, source.dtype)
        click.echo(f"{path}: loaded as {held}, attention by {model.config._attn_implementation}")
    known = model.config.get_text_config().vocab_size
    if len(tokenizer) > known:
        raise Fault(f"{path}: its tokenizer has {len(tokenizer)} tokens, the model {known}; they are not of one model")
    return model, tokenizer


def _named(rung: str, dtype: str) -> str:
    return {"none": dtype, "split": f"{dtype}, split between GPU and CPU"}.get(rung, rung)


def _quantized(config: Any) -> bool:
    return getattr(config, "quantization_config", None) is not None


def _rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def read_tokenizer(path: str) -> Any:
    """Return the tokenizer of a model, of its base where an adapter's folder has none; Fault without chat template."""
    from transformers import AutoTokenizer

    if is_adapter(path) and not (Path(path) / "tokenizer_config.json").is_file():
        path = base_of(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if tokenizer.chat_template is None:
        raise Fault(
            f"{path}: has no chat template; take the model's instruct version, or put chat_template.jinja there"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _unreadable(path: str, error: Exception) -> Fault:
    hint = "is the folder a whole model?" if Path(path).is_dir() else "is it a folder or a name on the Hub?"
    return Fault(f"{path}: {' '.join(str(error).split())[:300]}; {hint}")


def _assembled(base: str, path: str, source: Source, train: bool, rung: str, gpu: bool, seed: int) -> Any:
    model = _base(base, source.dtype, rung, gpu)
    if train and getattr(model, "is_quantized", False):
        if not source.lora and not is_adapter(path):
            raise Fault(f"{base}: its weights are quantized and cannot be trained themselves; give lora")
        model = _held_still(model)
    if is_adapter(path):
        if train and source.lora:
            click.echo(f"{path} is an adapter: it is trained on, lora of params.yaml is not applied")
        return _with_adapter(model, path, base, train)
    return _with_new_adapter(model, source.lora, seed) if train and source.lora else model


# PEFT takes two seconds to import, so it is where there is an adapter alone.


def _held_still(model: Any) -> Any:
    """Return a quantized model as one of which an adapter alone is trained."""
    from peft import prepare_model_for_kbit_training

    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # the trainer switches it on
    for part in model.modules():
        # On some CPUs bitsandbytes packs 4-bit weights when a model first answers, and cannot train on them then.
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False
    return model


def _with_new_adapter(model: Any, lora: Lora, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        bias=lora.bias,
    )
    set_seed(seed)
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise Fault(f"params.yaml: lora: {' '.join(str(error).split())[:300]}") from None


def _with_adapter(model: Any, path: str, base: str, train: bool) -> Any:
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    unfit = f"{path}: this adapter was made for another model than {base}"
    hint = "set base_model_name_or_path in its adapter_config.json"
    try:
        made = PeftModel.from_pretrained(model, path, is_trainable=train)
    except ValueError as error:
        raise Fault(f"{unfit}: {' '.join(str(error).split())[:200]}; {hint}") from None
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        line = next(line for line in str(error).splitlines() if "size mismatch" in line)
        raise Fault(f"{unfit}: {line.strip()[:200]}; {hint}") from None
    # PEFT passes over what the adapter lacks or has too much, as where the base has another number of layers.
    wanted = set(get_peft_model_state_dict(made, save_embedding_layers=False))
    file = Path(path) / "adapter_model.safetensors"
    if file.is_file():
        with safe_open(file, framework="pt") as saved:
            odd = sorted(name for name in wanted ^ set(saved.keys()) if "lora_" in name)
        if odd:
            raise Fault(f"{unfit}: {odd[0]} is in one of them only; {hint}")
    return made


def _base(base: str, dtype: str, rung: str, gpu: bool) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    where: Any = {"": _rank() if gpu else "cpu"}
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "device_map": "auto" if rung == "split" else where}
    try:
        config = AutoConfig.from_pretrained(base)
        # Weights that are quantized on disk stay as they are: even None in this place would be taken for a wish.
        if rung in ("nf4", "int8") and not _quantized(config):
            options["quantization_config"] = quantization(rung, dtype)
        if gpu and (kernel := _flash(config, dtype)):
            options["attn_implementation"] = kernel
        model, found = AutoModelForCausalLM.from_pretrained(base, output_loading_info=True, **options)
    except (OSError, ValueError) as error:
        raise _unreadable(base, error) from None
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise Fault(f"{base}: its weights have other sizes than its config.json says; copy the model again") from None
    if missing := sorted(found["missing_keys"]):
        raise Fault(
            f"{base}: {len(missing)} of its weights are missing, {missing[0]} among them; copy the model "
            "again, or take one that generates text"
        )
    if not gpu and (layer := misread(model)):
        why = f"bitsandbytes reads 4-bit rows that are no multiple of 64, as those of {layer}, wrongly on a CPU"
        if "quantization_config" in options:
            raise RuntimeError(why)
        raise Fault(f"{base}: {why}; use a GPU")
    return model


def misread(model: Any) -> str | None:
    """Return a layer in 4 bits of which bitsandbytes 0.50 makes other weights on a CPU than on a GPU; None: no such.

    Its CPU code takes each row for a whole number of blocks of 64, the quantization runs on over the ends of rows.
    """
    if not getattr(model, "is_loaded_in_4bit", False):
        return None
    from bitsandbytes.nn import Linear4bit

    odd = (name for name, part in model.named_modules() if isinstance(part, Linear4bit) and part.in_features % 64)
    return next(odd, None)


def attention(dtype: str, major: int, installed: Collection[int]) -> str | None:
    """Return which FlashAttention to use of those installed, by the GPU's major compute capability; None: PyTorch's.

    Its third version is for Hopper alone, none of them is for 32-bit numbers or a GPU older than Ampere.
    """
    if dtype == "float32" or major < 8:
        return None
    if 3 in installed and major == 9:
        return "flash_attention_3"
    return "flash_attention_2" if 2 in installed else None


def _flash(config: Any, dtype: str) -> str | None:
    """Return FlashAttention's name in transformers if it is installed and GPU and model bear it."""
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

    # Without an argument these look for packages only; a kernel of the Hub would be code from the network.
    found = [n for n, there in ((2, is_flash_attn_2_available), (3, is_flash_attn_3_available)) if there()]
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if not found or not getattr(kind, "_supports_flash_attn", False):
        return None
    return attention(dtype, torch.cuda.get_device_capability()[0], found)


class Size(msgspec.Struct, frozen=True):
    """How large a model is."""

    linear: int
    """Weights of its linear layers, the output's apart: those that are quantized."""
    rest: int
    """All other weights."""
    adapter: int | None
    """Weights of the adapter; None: there is none."""
    training: int
    """Bytes for a token that is trained on: each layer's input, the rest being computed anew, and the logits with their
    gradient in 32 bits."""
    answering: int
    """Bytes for a token in the cache of keys and values."""


def needs(size: Size, dtype: str, train: bool) -> dict[str, int]:
    """Return the bytes that a model takes as each rung that it can be held as.

    Beside the weights: to train, the gradient and AdamW's two moments of each weight that is trained, an adapter's all
    in 32 bits, as PEFT holds the weights that are not quantized beside quantized ones; `TRAINING` or `ANSWERING` tokens
    in flight; 1 GiB for the kernels' workspaces and for what falls between allocations. Four bits, below which weights
    can only be split, are content with a quarter of the tokens: a batch that is too large is halved.
    """
    plain = 4 if dtype == "float32" else 2
    tokens = TRAINING * size.training if train else ANSWERING * size.answering
    whole = (size.linear + size.rest) * plain
    if train and size.adapter is None:
        return {"none": 4 * whole + tokens + GIB}
    more = (size.adapter or 0) * (16 if train else 4) + GIB
    rest = size.rest * (4 if train else plain) + more
    return {
        "none": whole + more + tokens,
        "int8": size.linear + rest + tokens,
        "nf4": round(NF4 * size.linear) + rest + tokens // 4,
    }


def chosen(needed: Mapping[str, int], free: int, dtype: str) -> tuple[str, str]:
    """Return the first rung that fits into the free bytes, else the split one, and why.

    Where there is nothing to choose from, as where every weight is trained, the one there is.
    """
    fits = [rung for rung, size in needed.items() if size <= free]
    rung = fits[0] if fits else "split" if len(needed) > 1 else next(iter(needed))
    bits = {"none": "32-bit" if dtype == "float32" else "16-bit", "int8": "8-bit", "nf4": "4-bit"}
    looked = list(needed)[: list(needed).index(rung) + 1] if fits else list(needed)
    told = ", ".join(f"{bits[name]} weights need {needed[name] / GIB:.1f} GiB" for name in looked)
    return rung, f"{told}, {free / GIB:.1f} GiB are free: {_named(rung, dtype)}"


def measured(base: str, path: str, source: Source, train: bool, gpu: bool) -> str:
    """Return the rung that `auto` begins with, after saying why."""
    available = free() if gpu else None
    if available is None:
        rung, why = "none", f"no GPU: {source.dtype}"
    elif found := size(base, path, source.lora if train else None):
        rung, why = chosen(needs(found, source.dtype, train), available, source.dtype)
        why = f"to {'train' if train else 'answer'}, {why}"
    else:
        rung, why = "none", "its weights are quantized already"
    click.echo(f"{path}: {why}")
    return rung


def size(base: str, path: str, lora: Lora | None) -> Size | None:
    """Return how large a model is, its adapter or the new one `lora` counted; None where its weights are quantized.

    It is built without any memory for its weights, from the config alone.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(base)
        if _quantized(config):
            return None
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError) as error:
        raise _unreadable(base, error) from None
    output = model.get_output_embeddings()
    layers = {
        name: part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and part is not output
    }
    linear = sum(part.weight.numel() for part in layers.values())
    adapter = None
    if is_adapter(path) or lora:
        r, targets = (lora.r, lora.targets) if lora and not is_adapter(path) else _targets(path)
        adapter = sum(
            r * (part.in_features + part.out_features)
            for name, part in layers.items()
            if targets is None or name.rpartition(".")[2] in targets
        )
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Size(
        linear=linear,
        rest=sum(weight.numel() for weight in model.parameters()) - linear,
        adapter=adapter,
        training=2 * text.num_hidden_layers * text.hidden_size + 8 * text.vocab_size,
        answering=2 * 2 * text.num_hidden_layers * heads * width,
    )


def _targets(path: str) -> tuple[int, list[str] | None]:
    """Return an adapter's rank and the last names of the layers it is on; None, all, where they are a pattern."""
    found = _adapter(path)
    names = found.target_modules
    return found.r, [name.rpartition(".")[2] for name in names] if isinstance(names, list) else None


def quantization(rung: str, dtype: str) -> Any:
    """Return how bitsandbytes is to quantize: nf4 with double quantization, computing in `dtype`, or int8."""
    from transformers import BitsAndBytesConfig

    if rung == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return BitsAndBytesConfig(load_in_8bit=True)


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


def asking(prompts: Sequence[Sequence[Message]], tokenizer: Any, thinking: bool | None = None) -> list[str]:
    """Return each prompt as the text after which the model is to speak; None: as its template does by itself."""
    switch = {} if thinking is None else {"enable_thinking": thinking}
    texts: list[str] = tokenizer.apply_chat_template(
        [as_dicts(prompt) for prompt in prompts], add_generation_prompt=True, tokenize=False, **switch
    )
    return texts
