"""What can be found wrong with settings, data and models before any of them costs hours.

Each stage yields findings of its own with these; it ends on the wrong ones before it loads a model, and `train check`
prints all. Nothing here reads more of a model than its headers, and a name of the Hub is not asked for.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from schemas import rows
from schemas.faults import Fault
from train import model as models
from train.fit import Training, config

MANY = 256
"""Rows of the fewest and of the most characters whose tokens are counted; all would take seconds."""

R = TypeVar("R", bound=Struct)


class Finding(Struct, frozen=True):
    """A line for a person."""

    text: str
    wrong: bool
    """The stage would fail, or not do what is meant; else a figure or a remark."""


class Rows(Struct, Generic[R], frozen=True):
    """The rows of a file."""

    path: Path
    rows: Sequence[R] | None
    """None: an earlier stage has not written it yet."""


class Start(Struct, frozen=True):
    """The model that a stage starts from."""

    path: str
    later: bool = False
    """An earlier stage has not made it yet."""


def wrong(text: str) -> Finding:
    """Return a finding that has to be mended."""
    return Finding(text, wrong=True)


def told(text: str) -> Finding:
    """Return a figure or a remark."""
    return Finding(text, wrong=False)


def insist(findings: Iterable[Finding]) -> None:
    """Fault with all that is wrong, a line each; nothing if all is well."""
    lines = [finding.text for finding in findings if finding.wrong]
    if lines:
        raise Fault("\n".join(lines))


def read(path: Path, row: type[R]) -> Rows[R]:
    """Return the rows of a JSONL file; Fault for the first bad one."""
    return Rows(path, list(rows.read(path, row)))


# Settings


def settings(
    kind: Any, section: str, trainer: dict[str, Any], ours: dict[str, Any], anywhere: bool
) -> tuple[Any, list[Finding]]:
    """Return TRL's config for a `trainer:` mapping, None if it refuses it, and what is wrong, every argument of it.

    `anywhere`: without a GPU, settings for one are built as for the CPU, so that they can be looked at; else they are
    refused as TRL refuses them.
    """
    import torch

    found: list[Finding] = []
    given = dict(trainer)
    if anywhere and not given.get("use_cpu") and not torch.cuda.is_available():
        given = {name: value for name, value in given.items() if name not in FOR_A_GPU} | {"use_cpu": True}
        found.append(told("no GPU here: looked at as for the CPU"))
    while True:
        try:
            args = config(kind, section, given, **ours)
            break
        except Fault as fault:
            found.append(wrong(fault.message))
            # What is named is taken out, to hear about the rest.
            named = next((n for n in given if fault.message.startswith(f"params.yaml: {section}.trainer.{n}:")), None)
            if named is None:
                return None, found
            del given[named]
    return args, [*found, *_scheduler(section, args)]


def _scheduler(section: str, args: Any) -> Iterator[Finding]:
    """The learning rate's schedule is built only when a training begins: built here, its arguments are heard of."""
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    given = dict(args.lr_scheduler_kwargs or {})
    try:
        get_scheduler(args.lr_scheduler_type, optimizer, 1, 10, scheduler_specific_kwargs=given)
    except (TypeError, ValueError) as error:
        yield wrong(f"params.yaml: {section}.trainer.lr_scheduler_kwargs: {' '.join(str(error).split())}")


def plan(section: str, args: Any, count: int | None) -> Iterator[Finding]:
    """Yield how long a training on so many rows is, and which of its settings it never comes to."""
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    if count == 0 or (count is None and args.max_steps <= 0):
        return
    epoch = math.ceil(count / batch) if count else 0
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * epoch)
    times = f" ({steps / epoch:.2g} epochs)" if epoch else ""
    yield told(f"{steps:,} steps of {batch}{times}")
    warmup = args.warmup_steps if args.warmup_steps >= 1 else args.warmup_steps * steps
    if warmup >= steps:
        yield wrong(f"params.yaml: {section}.trainer.warmup_steps: {warmup:.0f}, but there are {steps} steps in all")
    if args.save_strategy == "no" or (args.save_strategy == "steps" and args.save_steps > steps):
        yield told("no checkpoint on the way: what is interrupted begins anew")


def training(section: str, params: Training, start: Start) -> Iterator[Finding]:
    """Yield what is wrong with what every training has, the model it starts from too."""
    if params.accelerate and not Path(params.accelerate).is_file():
        yield wrong(f"params.yaml: {section}.accelerate: {params.accelerate}: no such file; take one of profiles/")
    elif params.accelerate:
        yield told(f"steps as of one process, {params.accelerate} starts more")
    if params.compile and params.trainer.get("use_cpu"):
        yield told("compile is for a GPU, not done on the CPU")
    yield from model(start)
    yield from _targets(section, params, start.path)


# Data


def once(table: Rows[Any]) -> Iterator[Finding]:
    """Yield ids that come more than once."""
    twice = [id for id, count in Counter(row.id for row in table.rows or ()).items() if count > 1]
    if twice:
        yield wrong(f"{table.path}: id {twice[0]!r} comes more than once ({len(twice)} such)")


def some(table: Rows[Any], what: str) -> Iterator[Finding]:
    """Yield that a file is not made yet, or has nothing in it."""
    if table.rows is None:
        yield told(f"{table.path} not made yet")
    elif not table.rows:
        yield wrong(f"{table.path}: no rows to {what}; see why the stage that writes it kept none")


def outer(table: Sequence[R], characters: Callable[[R], int]) -> list[R]:
    """Return the shortest and the longest rows: if a limit on tokens spares these, it spares all, or none."""
    order = sorted(table, key=characters)
    return order if len(order) <= 2 * MANY else order[:MANY] + order[-MANY:]


def template(name: str, prompt: Any) -> Iterator[Finding]:
    """Yield what a prompt of params.yaml lacks: without {question} a model would be asked nothing, and answer."""
    for text, wanted in ((prompt.user, ("question", "options")), (prompt.option, ("letter", "text"))):
        field = "user" if text is prompt.user else "option"
        try:
            text.format(**dict.fromkeys(wanted, ""))
        except (KeyError, IndexError, ValueError) as error:
            yield wrong(f"params.yaml: prompts.{name}.{field}: {error!r}; it may hold {{{'}, {'.join(wanted)}}} alone")
        for one in wanted:
            if f"{{{one}}}" not in text:
                yield wrong(f"params.yaml: prompts.{name}.{field}: no {{{one}}} in it; put it where it belongs")


# Models


def model(start: Start) -> Iterator[Finding]:
    """Yield what is wrong with a model's folder: what is missing, cut off or of another model."""
    path = start.path
    if not Path(path).is_dir():
        yield _absent(start)
        return
    try:
        base = models.base_of(path)
        for folder in {base, path}:
            models.check_weights(folder)
    except Fault as fault:
        yield wrong(fault.message)
        return
    if base != path and not Path(base).is_dir():
        yield _absent(Start(base))
    for folder in dict.fromkeys((path, base)):
        lacking = _lacking(Path(folder))
        if lacking:
            yield wrong(f"{folder}: {lacking}; copy the model again, or train it again")
            return
    speaking = _speaking(path)
    if speaking is None and Path(base).is_dir():
        yield wrong(f"{path}: no tokenizer_config.json in it; copy the tokenizer of the model there")
    elif speaking and not _has_template(speaking):
        yield wrong(f"{speaking}: has no chat template; put chat_template.jinja there, or take an instruct model")
    if base != path and Path(base).is_dir():
        yield from _fits(path, base)


def _absent(start: Start) -> Finding:
    """What it means that there is no such folder."""
    if start.later:
        return told(f"{start.path} not made yet")
    folder = Path(start.path)
    # A name of the Hub has one slash, and its owner is no folder here.
    if (
        start.path.startswith((".", "/", "~"))
        or start.path.count("/") > 1
        or (folder.parent.name and folder.parent.is_dir())
    ):
        near = get_close_matches(
            folder.name, [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else [], 1
        )
        hint = f"did you mean '{folder.parent / near[0]}'?" if near else "train it first, or mend the path"
        return wrong(f"{start.path}: no such folder; {hint}")
    return told(f"{start.path} on the Hub, not looked at")


def _lacking(folder: Path) -> str | None:
    if not folder.is_dir() or models.is_adapter(str(folder)):
        weights = folder / "adapter_model.safetensors"
        return None if not folder.is_dir() or weights.is_file() else "an adapter without weights"
    if not (folder / "config.json").is_file():
        return "no config.json and no adapter_config.json in it, so no model"
    return None if any((*folder.glob("*.safetensors"), *folder.glob("*.bin"))) else "no weights in it"


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in a folder's safetensors files, by its name."""
    from safetensors import safe_open

    found: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as opened:
            found |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    return found


def _fits(adapter: str, base: str) -> Iterator[Finding]:
    """A LoRA's A takes what its layer takes, its B gives what the layer gives."""
    known = shapes(Path(base))
    unfit = f"{adapter}: a wrong adapter for its base {base}"
    for name, shape in shapes(Path(adapter)).items():
        layer, _, part = name.removeprefix("base_model.model.").partition(".lora_")
        side = {"A.weight": 1, "B.weight": 0}.get(part)
        if side is None:
            continue
        held = known.get(f"{layer}.weight")
        if held is None:
            yield wrong(f"{unfit}: it has no {layer}")
            return
        if len(held) == 2 and 1 not in held and held[side] != shape[side]:  # quantized ones are packed: [n, 1]
            yield wrong(f"{unfit}: {layer} is {held[0]} × {held[1]} there, {shape[side]} for the adapter")
            return


def _targets(section: str, params: Training, start: str) -> Iterator[Finding]:
    """Yield what is wrong with a new adapter's place: layers that the base has not, weights that cannot be trained."""
    where = f"params.yaml: {section}.lora"
    if params.lora is None:
        if params.quantize in ("nf4", "int8") and not models.is_adapter(start):
            yield wrong(f"{where}: quantized weights cannot be trained themselves; give lora or quantize: none")
        return
    if not Path(start).is_dir() or models.is_adapter(start):
        return
    layers = {name.removesuffix(".weight").rpartition(".")[2] for name in shapes(Path(start))}
    for target in params.lora.targets if layers else ():
        if target.rpartition(".")[2] not in layers:
            near = get_close_matches(target, layers, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(sorted(layers))}"
            yield wrong(f"{where}.targets: {start} has no layer '{target}'; {hint}")


def positions(start: str) -> int | None:
    """Return the most tokens that a local model was made for; None where it is not known."""
    if not Path(start).is_dir():
        return None
    file = Path(models.base_of(start)) / "config.json"
    if not file.is_file():
        return None
    found = msgspec.json.decode(file.read_bytes()).get("max_position_embeddings")
    return found if isinstance(found, int) else None


def tokenizer(start: str) -> Any:
    """Return a local model's tokenizer; None for a model that is not here or has none that can put a chat."""
    folder = _speaking(start)
    if folder is None:
        return None
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return found if found.chat_template else None


def _speaking(start: str) -> Path | None:
    """Return the folder that has a model's tokenizer: its own, else its base's; None where neither has."""
    if not Path(start).is_dir():
        return None
    return next(
        (Path(f) for f in (start, models.base_of(start)) if (Path(f) / "tokenizer_config.json").is_file()), None
    )


def _has_template(folder: Path) -> bool:
    settings = (folder / "tokenizer_config.json").read_bytes()
    return (folder / "chat_template.jinja").is_file() or b'"chat_template"' in settings


FOR_A_GPU = ("bf16", "fp16", "tf32", "bf16_full_eval", "fp16_full_eval", "use_vllm")
"""Settings that TRL refuses where there is no GPU."""
