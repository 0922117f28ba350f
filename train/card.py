"""A model's folder: weights, tokenizer, and what a reader of the run needs."""

import json
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from schemas import rows
from schemas.params import Params
from train import watch

OF_THE_RUN = ("resumed_at", "seconds", "steps_per_second", "train_loss", "memory", "memory_at", "last")
"""Figures that differ from run to run of the same training; they go into the metrics only."""
ARGS_OF_THE_RUN = ("output_dir", "eval_on_start")
"""TRL's arguments of which the same holds."""
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "tokenizers")


def save(
    trainer: Any, tokenizer: Any, new: Path, params: Params, stage: str, start: str, figures: dict[str, Any]
) -> None:
    """Write the weights (an adapter with a pointer to its base), the tokenizer, and what a reader of the run needs.

    Nothing here tells the time or whether the run was interrupted: the same training on the same machine leaves the
    same bytes, and what follows it in the pipeline is not run again.
    """
    trainer.model.save_pretrained(new)
    tokenizer.save_pretrained(new)
    adapter = new / "adapter_config.json"
    if adapter.exists():  # PEFT writes a set in the order of its hashes
        settings = json.loads(adapter.read_text("utf-8"))
        settings["target_modules"] = sorted(settings["target_modules"])
        adapter.write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
    rows.write_json(new / "run.json", {"stage": stage, "start": start, "params": params, "environment": environment()})
    args = {name: value for name, value in trainer.args.to_dict().items() if name not in ARGS_OF_THE_RUN}
    (new / "training_args.json").write_text(json.dumps(args, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    curve = [line for line in trainer.state.log_history if "train_runtime" not in line]
    steady = [{k: v for k, v in line.items() if not k.endswith(("runtime", "per_second", "_time"))} for line in curve]
    (new / "curve.jsonl").write_text(
        "".join(json.dumps(line, sort_keys=True) + "\n" for line in steady), encoding="utf-8"
    )
    watch.keep(Path(trainer.args.output_dir), new)
    text = card(stage, start, "peft" if adapter.exists() else "transformers", figures)
    (new / "README.md").write_text(text, encoding="utf-8")


def card(stage: str, start: str, library: str, figures: dict[str, Any]) -> str:
    """Return a model card as the Hub reads it: what was trained from what, on how much, and how it came out."""
    from huggingface_hub import ModelCardData

    kind = stage.partition("@")[0]
    data = ModelCardData(
        base_model=base(start),
        library_name=library,
        license="unknown",
        pipeline_tag="text-generation",
        tags=["trl", kind],
    )
    table = "".join(f"| {name} | {value} |\n" for name, value in _flat(figures) if name not in OF_THE_RUN)
    return (
        f"---\n{data.to_yaml()}\n---\n\n# {stage}\n\n"
        f"Trained from `{start}` by `python -m train.{kind}`. The settings and the versions of the libraries are in "
        f"run.json, TRL's arguments in training_args.json, the curve in curve.jsonl, replies to held-out questions in "
        f"samples.jsonl, those on the way in checkpoints.jsonl.\n\n"
        f"The licence of what it was trained from holds for it too; name it above before you pass the model on.\n\n"
        f"| figure | value |\n|---|---|\n{table}"
    )


def base(start: str) -> str | None:
    """Return the model of the Hub that a training goes back to; None if there is none that is known."""
    from huggingface_hub import ModelCard

    if not Path(start).is_dir():
        return start
    readme = Path(start) / "README.md"
    found = ModelCard.load(readme).data.base_model if readme.is_file() else None
    return found if isinstance(found, str) else None


def environment() -> dict[str, Any]:
    """Return the versions and GPUs that a training depends on."""
    import torch

    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in LIBRARIES},
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
    }


def _flat(figures: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, dict) and above + name not in OF_THE_RUN:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value
