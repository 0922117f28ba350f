"""A model's folder: weights, tokenizer, and what a reader of the run needs."""

import json
from pathlib import Path
from typing import Any

from schemas import rows
from schemas.params import Params
from train import watch

OF_THE_RUN = ("resumed_at", "seconds", "steps_per_second", "train_loss", "memory", "last")
"""Figures that differ from run to run of the same training; they go into the metrics only."""


def save(
    trainer: Any, tokenizer: Any, new: Path, params: Params, stage: str, start: str, figures: dict[str, Any]
) -> None:
    """Write the weights (an adapter with a pointer to its base), the tokenizer, and what a reader of the run needs.

    Nothing here tells the time or whether the run was interrupted: the same training leaves the same bytes, and what
    follows it in the pipeline is not run again.
    """
    trainer.model.save_pretrained(new)
    tokenizer.save_pretrained(new)
    adapter = new / "adapter_config.json"
    if adapter.exists():  # PEFT writes a set in the order of its hashes
        settings = json.loads(adapter.read_text("utf-8"))
        settings["target_modules"] = sorted(settings["target_modules"])
        adapter.write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
    rows.write_json(new / "run.json", {"stage": stage, "start": start, "params": params})
    curve = [line for line in trainer.state.log_history if "train_runtime" not in line]
    steady = [{k: v for k, v in line.items() if not k.endswith(("runtime", "per_second", "_time"))} for line in curve]
    (new / "curve.jsonl").write_text(
        "".join(json.dumps(line, sort_keys=True) + "\n" for line in steady), encoding="utf-8"
    )
    watch.keep(Path(trainer.args.output_dir), new)
    table = "".join(f"| {name} | {value} |\n" for name, value in figures.items() if name not in OF_THE_RUN)
    library = "peft" if adapter.exists() else "transformers"
    kind = stage.partition("@")[0]
    (new / "README.md").write_text(
        f"---\nbase_model: {start}\nlibrary_name: {library}\ntags: [trl, {kind}]\n---\n# {stage}\n\n"
        f"Trained from `{start}` by `python -m train.{kind}`. Every setting is in run.json, the curve in curve.jsonl, "
        f"replies to held-out questions in samples.jsonl, those on the way in checkpoints.jsonl.\n\n"
        f"| figure | value |\n|---|---|\n{table}",
        encoding="utf-8",
    )
