"""Replies: a model asked in batches."""

from collections.abc import Container, Iterator, Sequence
from typing import Any, Literal

from schemas.params import Count, Params, Positive
from schemas.record import Message
from train.model import asking, token_ids

Engine = Literal["transformers", "graph", "vllm"]


class Sampling(Params, frozen=True):
    """How replies are generated."""

    max_new_tokens: Positive
    temperature: float
    """0: greedy."""
    top_p: float
    repetition_penalty: float
    no_repeat_ngram_size: Count
    batch_size: Positive | None
    """null: by the free memory of the GPU."""
    seed: int


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

    texts = asking(prompts, tokenizer)
    lengths = [len(ids) for ids in token_ids(tokenizer, texts)]
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
