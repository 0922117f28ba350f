"""Replies, fast: a model's step captured once as a CUDA graph and replayed, over a cache that does not move.

A step of a 7B model reads its weights in 4 ms on an H200 and takes 30 from Python, launch by launch. Here it is the
model's own forward pass, so whatever transformers can run with `sdpa` is decoded; what the graph leaves out is Python.
Adapters are merged into copies of the weights meanwhile. On a CPU the same steps run uncaptured.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from schemas.params import Count, Params, Positive
from train.compiled import as_written
from train.memory import GIB

SEGMENT = 128
"""Positions for which one graph serves: it reads the cache up to its own end, not to that of the longest reply."""
PREFILL = 2**15
"""Tokens of prompts read at once."""
FEWEST = 16
"""Rows below which finished ones are not sorted out: a step of so few takes no longer than one of fewer."""


class Drawing(Params, frozen=True):
    """How the next token is drawn, and how many are."""

    max_new_tokens: Positive
    temperature: float
    """0: greedy."""
    top_p: float
    repetition_penalty: float
    no_repeat_ngram_size: Count


def decode(
    model: Any, prompts: Sequence[Sequence[int]], drawing: Drawing, stop: Collection[int], pad: int
) -> list[list[int]]:
    """Return the new tokens of each prompt, the one that stops it included, drawn from torch's generator.

    The model needs attention over all positions in every layer. All prompts are answered at once; equal ones are read
    once. Raises torch.OutOfMemoryError if their cache does not fit.
    """
    import torch

    with torch.no_grad(), _answering(model), merged(model):
        batch = _read(model, prompts, drawing, stop, pad)
        replies: list[list[int]] = [[] for _ in prompts]
        rows = torch.arange(len(prompts))
        until = batch.width - drawing.max_new_tokens
        begin = until
        while until < batch.width and len(rows):
            until = min(batch.width, (until // SEGMENT + 1) * SEGMENT)
            _run(model, batch, drawing, until)
            ended = batch.ended.cpu()
            last = until == batch.width or bool(ended.all())
            if last or len(rows) - int(ended.sum()) <= len(rows) // 2 >= FEWEST:
                written = batch.ids[:, begin:until].cpu()
                for row in range(len(rows)) if last else ended.nonzero().flatten().tolist():
                    replies[int(rows[row])] = _cut(written[row].tolist(), stop)
                if last:
                    break
                going = (~ended).nonzero().flatten()
                batch, rows = batch.only(going), rows[going]
    return replies


def _cut(tokens: list[int], stop: Collection[int]) -> list[int]:
    return tokens[: next((n for n, token in enumerate(tokens, 1) if token in stop), len(tokens))]


class _Batch(NamedTuple):
    """Rows on their way. B rows, T positions in all, V words."""

    layers: list[Any]
    ids: Any
    """(B, T) what was said so far, prompts padded on the left."""
    visible: Any
    """(B, 1, 1, T) which positions are attended to."""
    tokens: Any
    """(B, 1) the token that the next step reads."""
    positions: Any
    """(B, 1) its place in its row, padding not counted."""
    at: Any
    """(1,) its place in the cache."""
    ended: Any
    """(B,) whether the row has come to its end."""
    seen: Any
    """(B, V) words said so far; None if nothing is penalized."""
    stop: Any
    pad: int

    @property
    def width(self) -> int:
        """T."""
        return int(self.ids.shape[1])

    def only(self, rows: Any) -> "_Batch":
        """Return some of the rows as a batch of their own."""
        chosen = rows.to(self.ids.device)
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[chosen], layer.values[chosen]
        return self._replace(
            ids=self.ids[chosen],
            visible=self.visible[chosen],
            tokens=self.tokens[chosen],
            positions=self.positions[chosen],
            ended=self.ended[chosen],
            seen=None if self.seen is None else self.seen[chosen],
        )


def _cache_layer() -> Any:
    from transformers.cache_utils import DynamicLayer

    class Held(DynamicLayer):  # type: ignore[misc]
        """Keys and values in one place: a prompt writes its own, a step writes at `at` and reads up to `until`."""

        at: Any = None
        until = 0

        def update(self, keys: Any, values: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if self.at is None:
                self.keys, self.values = keys, values
                return keys, values
            self.keys.index_copy_(2, self.at, keys)
            self.values.index_copy_(2, self.at, values)
            return self.keys[:, :, : self.until], self.values[:, :, : self.until]

    return Held


def _read(model: Any, prompts: Sequence[Sequence[int]], drawing: Drawing, stop: Collection[int], pad: int) -> _Batch:
    """Return the prompts read, and the first token of each reply drawn."""
    import torch
    from torch.nn.functional import pad as padded

    device = model.device
    distinct = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
    place = {prompt: n for n, prompt in enumerate(distinct)}
    of = torch.tensor([place[tuple(prompt)] for prompt in prompts], device=device)
    long = max(map(len, distinct))
    lengths = torch.tensor([len(prompt) for prompt in distinct], device=device)
    read = torch.tensor([[pad] * (long - len(prompt)) + list(prompt) for prompt in distinct], device=device)
    real = torch.arange(long, device=device) >= long - lengths[:, None]
    places = (torch.arange(long, device=device) - (long - lengths[:, None])).clamp(min=0)
    triangle = torch.ones(long, long, dtype=torch.bool, device=device).tril()
    # A row of padding attends to itself, or softmax would be over nothing.
    itself = torch.eye(long, dtype=torch.bool, device=device)
    kind, count = _cache_layer(), model.config.get_text_config().num_hidden_layers
    parts, logits = [], []
    for rows in torch.arange(len(distinct), device=device).split(max(1, PREFILL // long)):
        layers = [kind() for _ in range(count)]
        mask = ((triangle & real[rows, None, :]) | itself)[:, None]
        logits.append(_forward(model, read[rows], mask, places[rows], layers))
        parts.append(layers)
    held = [kind() for _ in range(count)]
    for n, layer in enumerate(held):  # one layer after the other, so that no more than one is there twice
        for name in ("keys", "values"):
            whole = torch.cat([getattr(part[n], name) for part in parts])
            setattr(layer, name, padded(whole, (0, 0, 0, drawing.max_new_tokens))[of])
        for part in parts:
            part[n] = None
    ids = padded(read, (0, drawing.max_new_tokens), value=pad)[of]
    visible = padded(real, (0, drawing.max_new_tokens))[of][:, None, None]
    words = logits[0].shape[-1]
    seen = None
    if drawing.repetition_penalty != 1:
        # padding goes into a column of its own
        seen = torch.zeros(len(prompts), words + 1, dtype=torch.bool, device=device)
        seen = seen.scatter_(1, torch.where(visible[:, 0, 0], ids, words), True)[:, :words]
    batch = _Batch(
        layers=held,
        ids=ids,
        visible=visible,
        tokens=torch.zeros(len(prompts), 1, dtype=torch.long, device=device),
        positions=lengths[of][:, None] - 1,
        at=torch.tensor([long - 1], device=device),
        ended=torch.zeros(len(prompts), dtype=torch.bool, device=device),
        seen=seen,
        stop=torch.tensor(sorted(stop), device=device),
        pad=pad,
    )
    _say(batch, _drawn(torch.cat(logits)[of], batch, drawing, long))
    return batch


def _forward(model: Any, ids: Any, mask: Any, positions: Any, layers: list[Any]) -> Any:
    """Return the logits of the last position, (B, V) in float32."""
    from transformers import Cache

    seen = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=Cache(layers=layers),
        use_cache=True,
        logits_to_keep=1,
    )
    return seen.logits[:, -1].float()


def _say(batch: _Batch, tokens: Any) -> None:
    """Write the tokens drawn into the batch, in place: a graph knows its tensors by their addresses."""
    tokens = tokens.masked_fill(batch.ended, batch.pad)
    batch.at.add_(1)
    batch.positions.add_(1)
    batch.tokens.copy_(tokens[:, None])
    batch.ids.index_copy_(1, batch.at, tokens[:, None])
    batch.visible.index_fill_(3, batch.at, True)
    batch.ended.logical_or_((tokens[:, None] == batch.stop).any(1))
    if batch.seen is not None:
        batch.seen.scatter_(1, tokens[:, None], True)


def _drawn(logits: Any, batch: _Batch, drawing: Drawing, until: int) -> Any:
    """Return the next token of each row; the penalties are transformers' own, in its order."""
    import torch

    if batch.seen is not None:
        penalty = drawing.repetition_penalty
        logits = torch.where(batch.seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    if drawing.no_repeat_ngram_size:
        logits = _without_repeats(logits, batch, drawing.no_repeat_ngram_size, until)
    if drawing.temperature == 0:
        return logits.argmax(-1)
    chances = torch.softmax(logits / drawing.temperature, -1)
    if drawing.top_p < 1:
        ordered, places = chances.sort(-1, descending=True)
        cut = ordered.cumsum(-1) - ordered >= drawing.top_p
        chances = torch.empty_like(chances).scatter_(1, places, ordered.masked_fill(cut, 0))
    if chances.is_cuda:
        # The largest of chance over exponential noise falls on a word with its chance; torch.multinomial would wait.
        return (chances / torch.empty_like(chances).exponential_()).argmax(-1)
    # On a CPU noise for every word would take as long as the model: one number a row, looked up in the summed chances.
    reached = chances.cumsum(-1, dtype=torch.float64)
    drawn = torch.rand_like(reached[:, :1]) * reached[:, -1:]
    # A word without a chance adds nothing, and is passed over.
    return torch.searchsorted(reached, drawn, right=True).clamp(max=chances.shape[-1] - 1)[:, 0]


def _without_repeats(logits: Any, batch: _Batch, size: int, until: int) -> Any:
    """Forbid the words that would end a run of `size` tokens that stands in the row already."""
    import torch

    ids, shown = batch.ids[:, :until], batch.visible[:, 0, 0, :until]
    starts = until - size + 1
    if starts < 1:
        return logits
    found = shown[:, :starts] & shown[:, size - 1 :]
    for n in range(size - 1):
        last = ids.index_select(1, (batch.at - (size - 2 - n)).clamp(min=0))
        found = found & (ids[:, n : n + starts] == last)
    words = logits.shape[-1]
    banned = torch.zeros(len(logits), words + 1, dtype=torch.bool, device=logits.device)
    banned.scatter_(1, torch.where(found, ids[:, size - 1 :], words), True)
    return logits.masked_fill(banned[:, :words], -torch.inf)


def _run(model: Any, batch: _Batch, drawing: Drawing, until: int) -> None:
    """Take steps up to a position of the cache, or until every row has ended."""
    import torch

    for layer in batch.layers:
        layer.at, layer.until = batch.at, until

    def step() -> None:
        mask = batch.visible[..., :until]
        logits = _forward(model, batch.tokens, mask, batch.positions, batch.layers)
        _say(batch, _drawn(logits, batch, drawing, until))

    left = until - int(batch.at) - 1
    if not batch.tokens.is_cuda:
        for _ in range(left):
            if batch.ended.all():
                return
            step()
        return
    run: Callable[[], None] = step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    for n in range(left):
        if n == 2:  # the first steps warm up what a graph may not: libraries' workspaces, lazily loaded kernels
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            run = graph.replay
        if n < 2:
            with torch.cuda.stream(stream):
                run()
        else:
            run()
        if n % 16 == 15 and batch.ended.all():
            break
    torch.cuda.current_stream().wait_stream(stream)


@contextmanager
def _answering(model: Any) -> Iterator[None]:
    """Lend a model the modes that answering needs: no dropout, attention by torch, layers as they were written."""
    training, attention = model.training, model.config._attn_implementation
    model.eval()
    model.config._attn_implementation = "sdpa"
    try:
        with as_written(model):
            yield
    finally:
        model.config._attn_implementation = attention
        model.train(training)


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """Lend a model weights into which its adapter is merged; those of now come back, bit for bit.

    Left as it is: a model without an adapter, one whose weights are quantized or split, an adapter with a bias or on
    an embedding, and one for whose copies the GPU has no room.
    """
    if not hasattr(model, "peft_config"):
        yield
        return
    import torch
    from peft.tuners.lora import Linear

    layers = [part for part in model.modules() if isinstance(part, Linear)]
    plain = layers and all(
        type(layer.base_layer) is torch.nn.Linear
        and layer.base_layer.weight.is_floating_point()
        and not any(layer.use_dora.values())
        and not any(layer.lora_bias.values())
        for layer in layers
    )
    if not plain or len(layers) != sum(hasattr(part, "lora_A") for part in model.modules()):
        yield
        return
    weights = [layer.base_layer.weight for layer in layers]
    taken = sum(weight.nbytes for weight in weights)
    if weights[0].is_cuda and torch.cuda.mem_get_info()[0] < taken + 4 * GIB:
        yield
        return
    before = [weight.data for weight in weights]
    try:
        for layer, weight in zip(layers, weights, strict=True):
            made = weight.data.to(torch.float32, copy=True)
            for adapter in layer.active_adapters:
                made += layer.get_delta_weight(adapter).float()
            weight.data = made.to(weight.dtype)
        with model.disable_adapter():
            yield
    finally:
        for weight, value in zip(weights, before, strict=True):
            weight.data = value
