"""How fast a GPU trains: the reference's recipe (profiles/gpu24.yaml) against ours (profiles/h200.yaml), same rows.

    python benchmarks/training.py [sft] [grpo] [decode] [--shape 7b] [--set PROFILE.SECTION.KEY=VALUE ...]

Weights are random in the shape named, saved and loaded as a real checkpoint is; the tokenizer and the questions are
those of `dvc repro`. Each line is a process of its own. Trainings go through the stages' own functions; the first steps
(compiling, warming up) are left out of the figures and shown as seconds of start.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from schemas import profile

VOCABULARY = {"vocab_size": 152064, "tie_word_embeddings": False}
SHAPES = {  # of Qwen2.5: width, of the feed-forward part, layers, heads, heads of keys and values
    "7b": (3584, 18944, 28, 28, 4),
    "14b": (5120, 13824, 48, 40, 8),
    "tiny": (64, 128, 2, 4, 2),
}
FLOPS = 790e12
"""bf16 operations a second that a matrix product reaches on the H200 (8192 cubed, measured)."""
BYTES = 4.3e12
"""Bytes a second that a copy on it reads and writes."""
TOKENS = (100, 160)
"""Tokens of a row for fine-tuning, and of a prompt; the mean is 130."""
OF_A_WHOLE_RUN = ("num_train_epochs", "load_best_model_at_end", "metric_for_best_model")
REPLY = 512
"""Tokens of a reply."""
SKIPPED = {"sft": 4, "grpo": 1}
STEPS = {("sft", "gpu24"): 8, ("sft", "h200"): 24, ("grpo", "gpu24"): 2, ("grpo", "h200"): 4}


def make(folder: Path, shape: str, base: Path) -> None:
    """Save a model of random weights, with the tokenizer of the tiny base."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(base)
    width, inner, layers, heads, shared = SHAPES[shape]
    config = Qwen2Config(
        **VOCABULARY,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        max_position_embeddings=32768,
        rms_norm_eps=1e-6,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16",
    )
    torch.manual_seed(7)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="4GB")
    tokenizer.save_pretrained(folder)


def settings(name: str, changes: list[str], folder: Path) -> Path:
    """Write params.yaml with a profile and --set values merged in; return its path."""
    merged = profile.read(Path("params.yaml"))
    if name != "params":
        merged = profile.merged(merged, profile.read(Path(f"profiles/{name}.yaml")))
    for change in changes:
        key, _, value = change.partition("=")
        of, *path, last = key.split(".")
        if of in (name, "all"):
            section = merged
            for part in path:
                section = section[part]
            section[last] = YAML(typ="safe").load(value)
    path = folder / "params.yaml"
    path.write_text(profile.text(merged), encoding="utf-8")
    return path


def limit(kind: str, shape: str) -> float:
    """Return the samples a second that the chip's own limits allow.

    A token costs two operations a parameter forwards, two backwards through frozen weights, and in GRPO two more for
    the reference; each step of decoding reads all weights, for 256 replies at once.
    """
    width, inner, layers, heads, shared = SHAPES[shape]
    attention = 2 * width * width + 2 * width * width * shared // heads
    parameters = layers * (attention + 3 * width * inner) + 2 * VOCABULARY["vocab_size"] * width
    tokens = sum(TOKENS) / 2
    decoding = REPLY * 2 * parameters / BYTES / 256
    if kind == "sft":
        return FLOPS / (4 * parameters * tokens)
    if kind == "decode":
        return 1 / decoding
    return 1 / (decoding + 6 * parameters * (tokens + REPLY) / FLOPS)


def logged(place: Path) -> list[dict[str, Any]]:
    """Return the log's lines, one a step."""
    return [json.loads(line) for line in (place / "log.jsonl").read_bytes().splitlines()]


def speed(lines: list[dict[str, Any]], skipped: int) -> dict[str, Any]:
    """Return samples a second, without the first steps, and those of each step."""
    each = {line["step"]: line["samples_per_second"] for line in lines if "samples_per_second" in line}
    seen = [value for step, value in each.items() if step > skipped]
    return {"samples_per_second": len(seen) / sum(1 / value for value in seen), "each": list(each.values())}


def prepared(section: str, kind: Any, path: Path, model: str, steps: int) -> tuple[Any, Any, Any]:
    """Return a training's params, cut to so many steps, and the model and tokenizer as its stage has them."""
    import msgspec

    from schemas.params import load
    from train import model as models
    from train.compiled import compile_layers

    params = load(section, kind, path)
    trainer = {name: value for name, value in params.trainer.items() if name not in OF_A_WHOLE_RUN}
    trainer |= {"max_steps": steps, "logging_steps": 1, "save_strategy": "no", "eval_strategy": "no"}
    network, tokenizer = models.load(params, model, train=True, seed=7)
    if params.compile:
        compile_layers(network)
    return msgspec.structs.replace(params, trainer=trainer), network, tokenizer


def run_sft(path: Path, model: str, steps: int) -> dict[str, Any]:
    """Fine-tune on rows of random tokens, the first half of each without a loss."""
    from datasets import Dataset

    from train import sft

    params, network, tokenizer = prepared("sft.reasoning", sft.SftParams, path, model, steps)
    draw = random.Random(7)
    rows = []
    for _ in range(64 * steps):
        length = draw.randint(*TOKENS)
        ids = [draw.randrange(100, 4000) for _ in range(length)]
        rows.append({"input_ids": ids, "labels": [-100] * (length // 2) + ids[length // 2 :]})
    data = Dataset.from_list(rows)
    _, figures = sft.sft(params, "sft.reasoning", network, tokenizer, (data, data.select(range(32))), path.parent, None)
    made = speed(logged(path.parent), SKIPPED["sft"])
    return made | {"tokens_per_second": made["samples_per_second"] * sum(TOKENS) / 2, "batch": figures["batch"]}


def run_grpo(path: Path, model: str, steps: int) -> dict[str, Any]:
    """Reinforce on prompts of real questions, each reply as long as it may be."""
    from schemas import rows
    from schemas.record import Message, Prompt
    from train import grpo

    params, network, tokenizer = prepared("grpo", grpo.GrpoParams, path, model, steps)
    read = list(rows.read(Path("data/sets/rollout/train.jsonl"), Prompt))
    asked = [
        Prompt(
            id=str(n),
            prompt=(Message(role="user", content="\n".join(p.prompt[-1].content for p in read[n : n + 5])),),
            answer=read[n].answer,
        )
        for n in range(0, len(read) - 5)
    ]
    _, figures = grpo.grpo(params, network, tokenizer, asked, path.parent, None)
    lines = logged(path.parent)
    made = speed(lines, SKIPPED["grpo"])
    length = [line["completions/mean_length"] for line in lines if "completions/mean_length" in line][-1]
    return made | {
        "completion": length,
        "tokens_per_second": made["samples_per_second"] * length,
        "batch": figures["batch"],
    }


def run_decode(path: Path, model: str, steps: int) -> dict[str, Any]:
    """Decode 256 prompts, eight of each, to 512 tokens."""
    import torch

    from train import model as models
    from train.decode import Drawing, decode

    source = models.Source(model=None, dtype="bfloat16", quantize="none", lora=None)
    network, _ = models.load(source, model, train=False)
    draw = random.Random(7)
    prompts = [[draw.randrange(100, 4000) for _ in range(draw.randint(*TOKENS))] for _ in range(32)]
    drawing = Drawing(max_new_tokens=REPLY, temperature=1.0, top_p=1.0, repetition_penalty=1.0, no_repeat_ngram_size=0)
    seconds = 0.0
    for _ in range(2):
        torch.cuda.synchronize()
        began = time.monotonic()
        made = decode(network, [prompt for prompt in prompts for _ in range(8)], drawing, {2}, 0)
        seconds = time.monotonic() - began
    tokens = sum(map(len, made))
    return {
        "samples_per_second": 256 / seconds,
        "tokens_per_second": tokens / seconds,
        "ms a step": 1e3 * seconds / REPLY,
    }


RUNS = {"sft": run_sft, "grpo": run_grpo, "decode": run_decode}


def one(kind: str, name: str, model: str, changes: list[str]) -> None:
    """Run one line and print its figures as JSON."""
    import torch

    from train.memory import GIB, memory
    from train.model import quiet

    quiet(local=True)
    with tempfile.TemporaryDirectory() as folder:
        path = settings(name, changes, Path(folder))
        began = time.monotonic()
        figures = RUNS[kind](path, model, STEPS.get((kind, name), 0))
    used = memory() or {}
    figures |= {
        "seconds": time.monotonic() - began,
        "peak_gib": used.get("peak_gib", 0.0),
        "held_gib": torch.cuda.max_memory_reserved() / GIB if torch.cuda.is_available() else 0.0,
    }
    print("FIGURES " + json.dumps(figures), flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["sft", "grpo", "decode"])
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--base", type=Path, default=Path("models/base"))
    parser.add_argument("--profiles", nargs="*", default=["gpu24", "h200"])
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--model", default=None)
    parser.add_argument("--one", nargs=2)
    args = parser.parse_args()
    if args.one:
        one(*args.one, args.model, args.changes)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = args.model or f"{place}/model"
        if not Path(folder).is_dir():
            began = time.monotonic()
            make(Path(folder), args.shape, args.base)
            print(f"made and saved in {time.monotonic() - began:.0f} s", flush=True)
        print(f"{'':12}{'samples/s':>10}{'ratio':>7}{'tokens/s':>10}{'of limit':>9}{'peak GiB':>9}{'held':>7}{'s':>7}")
        for kind in args.what:
            first = 0.0
            for name in args.profiles if kind != "decode" else ["h200"]:
                words = [sys.executable, __file__, "--one", kind, name, "--model", folder]
                done = subprocess.run(
                    [*words, *[f"--set={c}" for c in args.changes]], capture_output=True, text=True, check=False
                )
                found = [line for line in done.stdout.splitlines() if line.startswith("FIGURES ")]
                if not found:
                    print(f"{kind} {name}: failed\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}", flush=True)
                    continue
                seen = json.loads(found[0].removeprefix("FIGURES "))
                first = first or seen["samples_per_second"]
                more = {name: seen[name] for name in ("batch", "completion", "ms a step", "each") if name in seen}
                print(
                    f"{kind + ' ' + name:12}{seen['samples_per_second']:>10.2f}"
                    f"{seen['samples_per_second'] / first:>7.1f}{seen['tokens_per_second']:>10.0f}"
                    f"{seen['samples_per_second'] / limit(kind, args.shape):>9.1%}"
                    f"{seen['peak_gib']:>9.1f}{seen['held_gib']:>7.1f}{seen['seconds']:>7.0f}  {more}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
