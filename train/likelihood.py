"""How likely a model finds what is said."""

from collections.abc import Callable, Sequence
from math import exp
from typing import Any

from schemas.faults import Fault
from schemas.record import LETTERS, Letter, Message
from train.generate import Sampling, Speak, padded
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

    def before(part: Chats) -> list[Any]:
        with as_it_was():
            return _seen(model, part, temperature)

    model.eval()
    chats = list(zip(token_ids(tokenizer, asking(prompts, tokenizer)), token_ids(tokenizer, replies), strict=True))
    return _far(model, chats, lambda part: _seen(model, part, temperature), before)


def apart(model: Any, other: Any, tokenizer: Any, asked: Sequence[str], replies: Sequence[str]) -> list[float]:
    """Return how far a model is from another of the same tokens, in the same way; `asked` are prompts as text."""
    model.eval()
    other.eval()
    chats = list(zip(token_ids(tokenizer, asked), token_ids(tokenizer, replies), strict=True))
    return _far(model, chats, lambda part: _seen(model, part, 1.0), lambda part: _seen(other, part, 1.0))


Chats = Sequence[tuple[list[int], list[int]]]
"""Prompts and replies, as tokens."""
Seen = Callable[[Chats], list[Any]]
"""From chats to the logarithm of the next token's distribution at each place of a reply, (C + 1, V) for each."""


def _seen(model: Any, chats: Chats, temperature: float) -> list[Any]:
    import torch

    whole = [torch.tensor(a + b) for a, b in chats]
    ids = torch.nn.utils.rnn.pad_sequence(whole, batch_first=True).to(model.device)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in whole], batch_first=True)
    logits = model(input_ids=ids, attention_mask=mask.to(model.device), use_cache=False).logits
    return [
        torch.log_softmax(row[len(a) - 1 : len(one)].float() / temperature, dim=-1)
        for row, (a, _), one in zip(logits, chats, whole, strict=True)
    ]


def _far(model: Any, chats: Chats, now: Seen, before: Seen) -> list[float]:
    import torch

    longest = max(len(a) + len(b) for a, b in chats)
    batch = max(1, LOGITS // (longest * model.get_output_embeddings().weight.shape[0]))
    found: list[float] = []
    with torch.no_grad():
        for first in range(0, len(chats), batch):
            part = chats[first : first + batch]
            pairs = zip(now(part), before(part), strict=True)
            found += [float((a.exp() * (a - b)).sum(-1).mean()) for a, b in pairs]
    return [max(0.0, round(value, 6)) for value in found]


def letter_tokens(tokenizer: Any) -> dict[Letter, int]:
    """Return the token that each letter is where a reply begins with it; Fault if one is not a token by itself there.

    A tokenizer may spell a letter in several ways (after a space, as part of a longer token); what counts is what it
    makes of the letter after the mark that lets the model speak.
    """
    (before,) = asking([(Message(role="user", content="?"),)], tokenizer)
    asked, *replied = token_ids(tokenizer, [before, *(before + letter for letter in LETTERS)])
    found: dict[Letter, int] = {}
    for letter, ids in zip(LETTERS, replied, strict=True):
        if ids[:-1] != asked:
            raise Fault(
                f"params.yaml: by: likelihood: for this tokenizer {letter} is not one token where a reply begins; "
                "set by: reply"
            )
        found[letter] = ids[-1]
    return found


def letters(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]]) -> list[tuple[Letter, dict[Letter, float]]]:
    """Return for each prompt, given as its tokens, the likeliest letter to begin the reply, and all four's log-probs.

    One pass for all prompts; of equals the first letter. The probabilities are of the whole vocabulary: if those of
    the four are small together, the model begins with something else.
    """
    import torch
    from transformers import GenerationConfig

    tokens = letter_tokens(tokenizer)
    pad = tokenizer.pad_token_id
    how = GenerationConfig(max_new_tokens=1, output_logits=True, return_dict_in_generate=True, pad_token_id=pad)
    with torch.no_grad():
        logits = model.generate(**padded(prompts, pad, model.device), generation_config=how).logits[0]
    logs = torch.log_softmax(logits.float(), dim=-1)[:, list(tokens.values())].tolist()
    named = [dict(zip(tokens, row, strict=True)) for row in logs]
    return [(max(LETTERS, key=row.__getitem__), row) for row in named]


def spelling(model: Any, tokenizer: Any) -> Speak:
    """Return how a model that is asked for letters alone replies: `B -0.05, A -3.21, …`, the likeliest first."""

    def speak(prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[str]:
        return [
            ", ".join(f"{letter} {row[letter]:.2f}" for letter in sorted(LETTERS, key=lambda name: -row[name]))
            for _, row in letters(model, tokenizer, prompts)
        ]

    return speak


def mass(spelt: str) -> float:
    """Return the probability of the four letters together, from what `spelling` wrote."""
    return sum(exp(float(one.split()[1])) for one in spelt.split(", "))
