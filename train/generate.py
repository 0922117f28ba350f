"""Replies: a model asked in batches, by whichever engine."""

import gc
import json
import os
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import msgspec

from schemas.faults import Fault
from schemas.params import Positive
from schemas.record import Message
from train import memory
from train.compiled import as_written
from train.decode import Drawing, decode
from train.model import asking, token_ids

Held = Literal["transformers", "graph"]
"""What replies with a model that is at hand."""
Engine = Literal[Held, "vllm"]
T = TypeVar("T")

NO_GPU = 64
"""Prompts a batch where there is no GPU whose memory could be measured."""
MOST = 512
"""Prompts a batch, however much memory there is: a larger one is no faster, and more is lost with it."""
PLANNED = 0.8
"""Share of the free memory that a batch is to take: what is taken and given back leaves gaps."""
VLLM = 1000
"""Prompts handed to vLLM at a time, which batches them by itself; so many are lost by a kill."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Of adapters, as vLLM takes them."""


class Sampling(Drawing, frozen=True):
    """How replies are generated."""

    batch_size: Positive | None
    """null: by the free memory of the GPU."""
    seed: int


class Batch(msgspec.Struct, frozen=True):
    """Prompts that are answered together."""

    start: int
    """How many prompts come before them, the longest first."""
    indexes: tuple[int, ...]


Speak = Callable[[Sequence[Sequence[int]], Sampling], list[str]]
"""From the tokens of prompts to the reply to each; what is drawn depends on them and on the seed of the sampling."""


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    sampling: Sampling,
    done: Container[int] = (),
    engine: Held = "transformers",
    thinking: bool | None = None,
) -> Iterator[list[tuple[int, str]]]:
    """Yield batches of (index of the prompt, reply), the longest prompts first, so that a lack of memory shows at once.

    A batch of which all is `done` is left out, and each seeds itself by its place: an interrupted run goes on to the
    same replies. Another size of batch changes replies that are drawn, greedy ones not. `thinking` as for `asking`.
    """
    if not prompts:  # of nothing tokenizers make an error
        return
    asked = token_ids(tokenizer, asking(prompts, tokenizer, thinking))
    size, _ = batch_size(model, asked, sampling)
    speak = halving(speaking(model, tokenizer, engine))
    for batch in batches(asked, size):
        if not all(n in done for n in batch.indexes):
            yield replies(speak, asked, batch, sampling)


def batches(prompts: Sequence[Sequence[int]], size: int) -> list[Batch]:
    """Return the prompts in batches of a size, the longest first."""
    order = sorted(range(len(prompts)), key=lambda n: (-len(prompts[n]), n))
    return [Batch(start, tuple(order[start : start + size])) for start in range(0, len(order), size)]


def replies(speak: Speak, prompts: Sequence[Sequence[int]], batch: Batch, sampling: Sampling) -> list[tuple[int, str]]:
    """Return (index, reply) for each prompt of a batch."""
    seeded = msgspec.structs.replace(sampling, seed=sampling.seed + batch.start)
    return list(zip(batch.indexes, speak([prompts[n] for n in batch.indexes], seeded), strict=True))


def halving(
    speak: Callable[[Sequence[Sequence[int]], Sampling], list[T]], say: Callable[[str], None] = click.echo
) -> Callable[[Sequence[Sequence[int]], Sampling], list[T]]:
    """Return the same, but out of GPU memory it goes on with half as many prompts at a time, from then on.

    Fault if one prompt by itself is too much.
    """
    most = sys.maxsize

    def spoken(prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[T]:
        import torch
        from accelerate.utils.memory import should_reduce_batch_size

        nonlocal most
        found: list[T] = []
        while len(found) < len(prompts):
            part = prompts[len(found) : len(found) + most]
            try:
                found += speak(part, msgspec.structs.replace(sampling, seed=sampling.seed + len(found)))
                continue
            except RuntimeError as error:
                if not (isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)):
                    raise
                if len(part) == 1:
                    raise Fault(
                        f"out of GPU memory with one prompt of {len(part[0]):,} tokens; quantize, or shorten "
                        f"max_new_tokens ({sampling.max_new_tokens:,})"
                    ) from None
            # Not in the handler: what the failed batch held lives as long as the exception does.
            most = len(part) // 2
            say(f"out of GPU memory with {len(part)} prompts at a time; going on with {most}")
            gc.collect()
            torch.cuda.empty_cache()
        return found

    return spoken


def batch_size(model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling) -> tuple[int, str]:
    """Return how many prompts are answered at a time, and why so many.

    Where the params leave it open it follows from the GPU's free memory: a power of two, so that a little more or less
    of it changes no draw.
    """
    if sampling.batch_size:
        return sampling.batch_size, "params.yaml says so"
    room = memory.free()
    if room is None:
        return NO_GPU, "there is no GPU to measure"
    longest = max(map(len, prompts), default=0)
    need = taken(model.config, longest, sampling.max_new_tokens, model.dtype.itemsize)
    if need is None:
        size = memory.batch_size(room)
        return size, f"{room / memory.GIB:.1f} GiB are free; the model's shape is not known, so by the table"
    fitting = max(1, int(PLANNED * room / need))
    size = min(MOST, 1 << fitting.bit_length() - 1)
    tokens = f"{longest:,} + {sampling.max_new_tokens:,} tokens"
    return size, f"{room / memory.GIB:.1f} GiB are free, a reply of {tokens} takes {need / 2**20:,.1f} MiB"


def taken(config: Any, prompt: int, new: int, width: int) -> int | None:
    """Return the bytes of GPU memory that one reply takes; None if the config does not tell the model's shape.

    Keys and values of every layer for all tokens; the widest layer's activations for the prompt, which is read in one
    go; the next token's distribution, some eight times in float32 while it is sorted and drawn from.
    """
    text = config.get_text_config()
    try:
        layers, hidden, heads = text.num_hidden_layers, text.hidden_size, text.num_attention_heads
        vocabulary = text.vocab_size
    except AttributeError:
        return None
    dim = getattr(text, "head_dim", None) or hidden // heads
    pairs = getattr(text, "num_key_value_heads", None) or heads
    wide = getattr(text, "intermediate_size", None) or 4 * hidden
    cache = layers * 2 * pairs * dim * (prompt + new) * width
    activations = (3 * wide + 8 * hidden) * prompt * width
    return int(cache + activations + 8 * 4 * vocabulary)


def speaking(model: Any, tokenizer: Any, engine: Held = "transformers") -> Speak:
    """Return how a model that is at hand replies; it may be in training, and is left as it was."""
    stop = model.generation_config.eos_token_id or tokenizer.eos_token_id
    pad = tokenizer.pad_token_id

    def generated(prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[int]]:
        from transformers import GenerationConfig

        drawn = sampling.temperature > 0
        how = GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            do_sample=drawn,
            temperature=sampling.temperature or None,
            top_p=sampling.top_p if drawn else None,
            top_k=0 if drawn else None,
            repetition_penalty=sampling.repetition_penalty,
            no_repeat_ngram_size=sampling.no_repeat_ngram_size,
            eos_token_id=stop,
            pad_token_id=pad,
            use_cache=True,
        )
        batch = padded(prompts, pad, model.device)
        with as_written(model):
            found: list[list[int]] = model.generate(**batch, generation_config=how)[:, batch["input_ids"].shape[1] :]
        return found

    def captured(prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[int]]:
        return decode(model, prompts, sampling, {stop} if isinstance(stop, int) else set(stop), pad)

    next_tokens = captured if engine == "graph" else generated

    def speak(prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[str]:
        import torch

        training = model.training
        model.eval()
        torch.manual_seed(sampling.seed)
        try:
            # Not inference_mode: models answer while they are trained too, and what bitsandbytes converts on a first
            # pass under that mode could not be trained with.
            with torch.no_grad():
                found = next_tokens(prompts, sampling)
        finally:
            model.train(training)
        texts: list[str] = tokenizer.batch_decode(found, skip_special_tokens=True)
        return texts

    return speak


def padded(prompts: Iterable[Sequence[int]], pad: int, device: Any) -> dict[str, Any]:
    """Return prompts as the input of a model, the shorter ones filled up on the left."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = [torch.tensor(prompt) for prompt in prompts]
    ids = pad_sequence(rows, batch_first=True, padding_value=pad, padding_side="left")
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left")
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def vllm(path: str, dtype: str, quantize: str, sampling: Sampling, longest: int) -> Speak:
    """Return how vLLM replies with a model, or an adapter on its base, to prompts of at most so many tokens.

    Fault if vLLM is not installed, or does not do what is asked for. Each prompt has a seed of its own.
    """
    if sampling.no_repeat_ngram_size:
        raise Fault("params.yaml: no_repeat_ngram_size: vLLM has none; set it to 0, or engine: transformers")
    if quantize not in ("none", "nf4"):
        raise Fault(f"params.yaml: quantize: {quantize}: with engine: vllm it is none or nf4")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        from vllm import LLM, SamplingParams
        from vllm.inputs import TokensPrompt
        from vllm.lora.request import LoRARequest
    except ImportError:
        raise Fault(
            "params.yaml: engine: vllm is not installed; pip install vllm, in an environment of its own as it brings "
            "its own torch, or set engine: transformers"
        ) from None
    adapter = Path(path) / "adapter_config.json"
    settings = json.loads(adapter.read_text("utf-8")) if adapter.is_file() else None
    llm = LLM(
        model=settings["base_model_name_or_path"] if settings else path,
        tokenizer=path,
        dtype=dtype,
        quantization="bitsandbytes" if quantize == "nf4" else None,
        max_model_len=longest
        + sampling.max_new_tokens,  # or room is kept for the longest that the model could read, up to a million tokens
        enable_lora=settings is not None,
        max_lora_rank=next(rank for rank in RANKS if rank >= settings["r"]) if settings else RANKS[0],
    )
    lora = LoRARequest("adapter", 1, path) if settings else None

    def speak(prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[str]:
        found = llm.generate(
            [TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts],
            [
                SamplingParams(
                    max_tokens=sampling.max_new_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p if sampling.temperature else 1.0,
                    repetition_penalty=sampling.repetition_penalty,
                    seed=sampling.seed + n,
                )
                for n in range(len(prompts))
            ],
            lora_request=lora,
            use_tqdm=False,
        )
        return [reply.outputs[0].text for reply in found]

    return speak
