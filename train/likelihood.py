"""How likely a model finds what is said."""

from collections.abc import Sequence
from typing import Any

from schemas.record import Message
from train.model import asking, token_ids
from train.watch import AsItWas

LOGITS = 2**28
"""Numbers that one pass over a vocabulary may give: 1 GiB of them."""


def divergence(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    replies: Sequence[str],
    temperature: float,
    as_it_was: AsItWas,
) -> list[float]:
    """Return how far a model is from the one before training, a mean per token for each reply.

    At each place of a reply the Kullback-Leibler divergence of the next token's distribution, now against before,
    summed over the whole vocabulary; nothing is drawn. TRL's `kl`, which it logs with a `beta`, estimates the same from
    the tokens that it sampled.
    """
    import torch

    asked, given = token_ids(tokenizer, asking(prompts, tokenizer)), token_ids(tokenizer, replies)
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
