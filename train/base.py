"""Make the tiny base model from scratch: a tokenizer trained on the bank, a Qwen2 model that knows nothing yet.

records and chats (JSONL) → a model folder, metrics. It exists so that the whole pipeline runs without a download: about
half a million parameters that learn the fact sheets in minutes on two cores. What made it learn, all of it measured:
names, values, labels and tags are single tokens, an option's label follows its text, and an induction head is there
from the start, as it is in any pre-trained model (`look_up`). Without the head the same training stays at chance.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from schemas import rows
from schemas.chain import PARTS
from schemas.faults import Fault
from schemas.params import Params, Positive, load
from schemas.record import LETTERS, Example, Message, Record
from train.model import as_dicts, quiet
from train.workplace import folder

# Qwen3's chat format: the assistant's turn marked for losses on it alone, empty thoughts where thinking is turned off.
TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{- message.content + '<|im_end|>' }}{% endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ROLES = ("system", "user", "assistant")
NUMBER = re.compile(r"(?:公元前)?[0-9]+年|[0-9]+")
NAME = re.compile(r"[《“]?[\w·—、]+[》”]?")
"""A name or a value; what holds other punctuation is a phrase, and is better read word by word."""

PREVIOUS = 6.0  # attends to the token before with 0.98 at the start
MATCH = 12.0  # logit of a match; that of other tokens is about 0 ± 2
SLOW = 0.005  # radians a position: a turn of half a radian in a hundred
COPY = 0.3
CHECKED = 2_000
"""Chats of which the saved tokenizer is asked whether it cuts them as the one that was trained does."""
TAG = re.compile(r"</?[A-Za-z]+(?: n=\"[0-9]\")?>")
TAGS = tuple(f"<{end}{part}>" for part in (*PARTS, "step") for end in ("", "/"))


class BaseParams(Params, frozen=True):
    """The shape of the tiny model."""

    vocabulary: Positive
    """Byte pairs to learn, the 256 bytes included; tags, letters, numbers and names come on top."""
    names: Positive
    """Most frequent option texts (a name or a value, no phrase) that become one token each: a fact is then a relation
    between two tokens, and finding a value among the options a match of one."""
    numbers: Positive
    """Most frequent numbers of the corpus, years with their 年, that become one token each."""
    label: str
    """How a prompt writes the {letter} of an option: one token for each, which a model copies in one step."""
    layers: Positive
    hidden: Positive
    heads: Positive
    intermediate: Positive
    positions: Positive
    """Longest chat, in tokens."""
    tied: bool
    """Input and output embeddings are one matrix."""
    initializer_range: float
    seed: int


def tokenizer(chats: Iterable[tuple[Message, ...]], options: Iterable[str], params: BaseParams) -> Any:
    """Return a Qwen2 tokenizer trained on the chats, padding left, for training and generation alike.

    It is Qwen's to the letter (normaliser, regex, byte level), because AutoTokenizer rebuilds those from the model type
    and ignores what a tokenizer file says; what differs are vocabulary, merges and added tokens, which it does read.
    """
    from tokenizers import AddedToken, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    texts = [message.content for chat in chats for message in chat]
    numbers = _frequent((number for text in texts for number in NUMBER.findall(text)), params.numbers)
    names = _frequent((option for option in options if NAME.fullmatch(option)), params.names)
    labels = [params.label.format(letter=letter) for letter in LETTERS]
    tags = sorted({tag for text in texts for tag in TAG.findall(text)})
    added = list(dict.fromkeys([*TAGS, *tags, *ROLES, *LETTERS, *labels, *numbers, *names]))
    # Merges across an added token could never be used: it is cut out before byte pairs are joined.
    apart = re.compile("|".join(re.escape(token) for token in sorted(added, key=len, reverse=True)))
    learner = trainers.BpeTrainer(
        vocab_size=params.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend = Qwen2Tokenizer().backend_tokenizer
    backend.train_from_iterator((piece for text in texts for piece in apart.split(text) if piece), learner)
    learned = json.loads(backend.to_str())["model"]
    made = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
        padding_side="left",
        chat_template=TEMPLATE,
        model_max_length=params.positions,
    )
    made.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    return made


def _frequent(texts: Iterable[str], most: int) -> list[str]:
    counted = sorted(Counter(texts).items(), key=lambda item: (-item[1], item[0]))
    return sorted(text for text, _ in counted[:most])


def network(words: Any, params: BaseParams) -> Any:
    """Return a Qwen2 model for a tokenizer: random weights, and a head that looks up."""
    from transformers import Qwen2Config, Qwen2ForCausalLM, set_seed

    set_seed(params.seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(words),
            hidden_size=params.hidden,
            intermediate_size=params.intermediate,
            num_hidden_layers=params.layers,
            num_attention_heads=params.heads,
            num_key_value_heads=params.heads,
            max_position_embeddings=params.positions,
            tie_word_embeddings=params.tied,
            initializer_range=params.initializer_range,
            bos_token_id=None,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )
    look_up(model)
    return model


def look_up(model: Any) -> None:
    """Set one head of the first layer to see the token before, one of the second to match it: an induction head.

    After `… 1972年（B）… 1972年` the model then leans to `（B）`: what followed the same token before. Olsson et al.,
    In-context Learning and Induction Heads, 2022, find this pair of heads in every language model they look at; it
    forms in pre-training, which the tiny model does not have. The other outputs into the residual stream start at
    zero, so that nothing drowns the pair. Needs two layers; nothing here knows a question or a fact.
    """
    import torch

    config = model.config
    hidden, heads = config.hidden_size, config.num_attention_heads
    size = hidden // heads
    speeds = config.rope_parameters["rope_theta"] ** -(torch.arange(0, size, 2) / size)  # radians a position
    draw = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(hidden, hidden, generator=draw))[0]
    narrow, copied = (torch.linalg.qr(torch.randn(hidden, size, generator=draw))[0].T for _ in range(2))
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        before, match = (layer.self_attn for layer in model.model.layers[:2])

        # Query and key are constants, the key turned by one position: their product peaks at the token before. The
        # fast rotations alone tell neighbours apart.
        fast = (torch.arange(size // 2) < size // 6).float()
        for projection in (before.q_proj, before.k_proj):
            projection.weight[:size] = 0
        before.q_proj.bias[:size] = PREVIOUS * torch.cat([fast, 0 * fast])
        before.k_proj.bias[:size] = PREVIOUS * torch.cat([fast * speeds.cos(), fast * speeds.sin()])
        # Its output is the token before, turned out of the way of the token itself.
        before.v_proj.weight[:size] = narrow
        before.o_proj.weight[:, :size] = 2**0.5 * config.initializer_range * turn @ narrow.T

        # The query is the token itself, the key the token before; slow rotations, so that distance does not count.
        slow = (speeds < SLOW).float().repeat(2)
        scale = (MATCH * size**0.5 / (slow.sum() * 0.5**0.5)) ** 0.5
        match.q_proj.weight[:size] = scale * slow[:, None] * narrow
        match.k_proj.weight[:size] = scale * slow[:, None] * narrow @ turn.T
        match.v_proj.weight[:size] = copied
        match.o_proj.weight[:, :size] = COPY * copied.T


def check_saved(path: Path, texts: list[str], ids: list[list[int]]) -> None:
    """Fault if the saved tokenizer, loaded as every later stage loads it, cuts any of the texts otherwise."""
    from transformers import AutoTokenizer

    again = AutoTokenizer.from_pretrained(path)(texts)["input_ids"]
    for text, before, after in zip(texts, ids, again, strict=True):
        if before != after:
            raise Fault(
                f"{path}: the saved tokenizer reads {text[:40]!r} as other tokens than the one that was trained; "
                "transformers rebuilds a qwen2 tokenizer in a way this version of train/base.py does not know"
            )


def make(section: str, records: Path, examples: Iterable[Path], out: Path, metrics: Path) -> None:
    """Train the tokenizer on the records' options and the chats, write the model that a section describes."""
    params = load(section, BaseParams)
    if params.hidden % params.heads:
        raise Fault(f"params.yaml: {section}.hidden: {params.hidden} is not a multiple of heads, {params.heads}")
    if params.layers < 2 or params.hidden // params.heads % 2:
        raise Fault(f"params.yaml: {section}: needs two layers and an even width per head (hidden / heads)")
    quiet(local=True)
    chats = [example.messages for path in examples for example in rows.read(path, Example)]
    options = (option for record in rows.read(records, Record) for option in record.options)
    words = tokenizer(chats, options, params)
    model = network(words, params)
    texts = words.apply_chat_template([as_dicts(chat) for chat in chats], tokenize=False)
    ids = words(texts)["input_ids"]
    with folder(out) as new:
        words.save_pretrained(new)
        model.save_pretrained(new)
        some = slice(None, None, max(1, len(texts) // CHECKED))
        check_saved(new, texts[some], ids[some])
    lengths = sorted(map(len, ids))
    count = sum(weight.numel() for weight in model.parameters())
    longest = lengths[-1]
    rows.write_json(
        metrics,
        {
            "parameters": count,
            "vocabulary": len(words),
            "chats": len(chats),
            "tokens_median": lengths[len(lengths) // 2],
            "tokens_longest": longest,
            "chats_over_positions": sum(length > params.positions for length in lengths),
        },
    )
    click.echo(
        f"{section}: {count:,} parameters, {len(words):,} tokens, longest of {len(chats):,} chats {longest} tokens"
    )


@click.command(help=__doc__.partition("\n")[0])
@click.argument("records", type=click.Path(path_type=Path))
@click.argument("examples", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(records: Path, examples: tuple[Path, ...], out: Path, metrics: Path) -> None:
    """Train the tokenizer on the options of RECORDS and the chats of EXAMPLES, write the model to OUT."""
    make("base", records, examples, out, metrics)


if __name__ == "__main__":
    main()
