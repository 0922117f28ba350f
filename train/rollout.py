"""Replies to learn from: made by `decode`, trained on side by side with those of like length."""

from collections.abc import Sequence
from typing import Any

from train.compiled import as_written
from train.decode import decode
from train.generate import Sampling, batch_size, halving


def faster(trainer: Any, engine: str) -> Any:
    """Return TRL's trainer with replies from `decode`, where asked for, and rows of like length trained side by side.

    Replies come from the same distribution: the adapter is merged into the weights, and no dropout is drawn, as TRL
    does. The order of rows within one step of the optimizer changes nothing but the padding that is computed.
    """

    class Faster(trainer):  # type: ignore[misc]
        _buffered_inputs: Any

        def _generate_single_turn(self, prompt_ids: Any, *rest: Any, **more: Any) -> Any:
            model = self.accelerator.unwrap_model(self.model_wrapped)
            if engine != "graph":
                with as_written(model):
                    return super()._generate_single_turn(prompt_ids, *rest, **more)
            sampling = Sampling(
                max_new_tokens=self.max_completion_length,
                temperature=self.temperature,
                top_p=self.top_p,
                repetition_penalty=self.repetition_penalty,
                no_repeat_ngram_size=0,
                batch_size=None if model.device.type == "cuda" else len(prompt_ids),
                seed=0,  # drawn from torch's generator, which TRL has seeded
            )
            stop, pad = set(self.eos_token_ids), self._tokenizer.pad_token_id
            size, _ = batch_size(model, prompt_ids, sampling)
            made = halving(lambda prompts, drawing: decode(model, prompts, drawing, stop, pad))
            parts = (prompt_ids[start : start + size] for start in range(0, len(prompt_ids), size))
            return [tokens for part in parts for tokens in made(part, sampling)], None

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            # TRL's draws each epoch's order after that of the one before it: a run that goes on in the third epoch
            # would ask what it asked in the first.
            sampler = super()._get_train_sampler(dataset)
            if sampler.shuffle:
                sampler.set_epoch = lambda epoch: sampler.generator.manual_seed(sampler.seed + epoch)
            return sampler

        def _prepare_inputs(self, generation_batch: Any) -> Any:
            before = self._buffered_inputs
            inputs = super()._prepare_inputs(generation_batch)
            one_step = self.args.steps_per_generation == self.args.gradient_accumulation_steps
            # bnpo divides each batch's loss by that batch's own tokens: there the rows of a batch matter.
            if self._buffered_inputs is not before and one_step and self.loss_type != "bnpo":
                self._buffered_inputs = by_length(self._buffered_inputs)
                inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]
            return inputs

    return Faster


def by_length(batches: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the same rows in batches of the same sizes, sorted by length, each padded no further than it needs.

    A batch has prompts of (B, P), padded on the left, completions of (B, C), padded on the right, and whatever else has
    a row each; values without rows are the same in all batches.
    """
    import torch

    sizes = [len(batch["prompt_ids"]) for batch in batches]
    columns = [name for name, value in batches[0].items() if isinstance(value, torch.Tensor) and value.dim()]
    whole = {name: torch.cat([batch[name] for batch in batches]) for name in columns}
    lengths = whole["completion_mask"].sum(1)
    prompts, completions = whole["prompt_ids"].shape[1], whole["completion_ids"].shape[1]
    made = []
    for batch, chosen in zip(batches, lengths.argsort(stable=True).split(sizes), strict=True):
        prompt = int(whole["prompt_mask"][chosen].sum(1).max())
        completion = max(1, int(lengths[chosen].max()))
        cut = {}
        for name in columns:
            value = whole[name][chosen]
            if name in ("prompt_ids", "prompt_mask"):
                value = value[:, prompts - prompt :]
            elif value.dim() == 2 and value.shape[1] == completions:
                value = value[:, :completion]
            cut[name] = value
        made.append({**batch, **cut})
    return made
