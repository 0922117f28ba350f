"""How fast a GPU trains: the reference's recipe (profiles/gpu24.yaml) against ours (profiles/h200.yaml), same rows.

    python benchmarks/training.py [sft] [plain] [grpo] [decode] [--shape 7b] [--set PROFILE.SECTION.KEY=VALUE ...]
    python benchmarks/training.py author_sft author_grpo --shape 8b --profiles h200
    python benchmarks/training.py sft grpo --profiles gpu24 --within 24

Weights are random in the shape named, saved and loaded as a real checkpoint is; tokenizers, questions and the author's
chats are those of `dvc repro`. Each line is a process of its own. Trainings go through the stages' own functions; the
first steps (compiling, warming up) are left out of the figures and shown as seconds of start. `--within` shows what a
smaller card bears: no more memory is to be had, and rows and prompts are as long as the profile lets them be.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from schemas import profile

VOCABULARY = {"vocab_size": 152064, "tie_word_embeddings": False}
SHAPES = {  # of Qwen2.5, and of Qwen3 (8b): width, of the feed-forward part, layers, heads, heads of keys and values
    "7b": (3584, 18944, 28, 28, 4),
    "14b": (5120, 13824, 48, 40, 8),
    "8b": (4096, 12288, 36, 32, 8),
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
"""Tokens of a reply where nothing else is measured."""
CONTEXT = 0.6e9
"""Bytes that CUDA itself takes of a card."""
SECTIONS = {"sft": "sft.reasoning", "plain": "sft.plain"}
FINE_TUNED = (*SECTIONS, "author_sft")
SKIPPED = {**dict.fromkeys(FINE_TUNED, 4), "grpo": 1, "author_grpo": 1}
STEPS = {"gpu24": dict.fromkeys(FINE_TUNED, 8), "h200": {"sft": 24, "plain": 24, "grpo": 4, "author_sft": 12}}
"""How many are made; 2 of those not named."""
IN_COLUMNS = ("samples_per_second", "tokens_per_second", "peak_gib", "held_gib", "seconds")


def make(folder: Path, shape: str, base: Path) -> None:
    """Save a model of random weights, with the tokenizer of the tiny base."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen3Config

    tokenizer = AutoTokenizer.from_pretrained(base)
    width, inner, layers, heads, shared = SHAPES[shape]
    kind = Qwen3Config if shape == "8b" else Qwen2Config
    config = kind(
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
        model = AutoModelForCausalLM.from_config(config)
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
        of, *parts, last = key.split(".")
        if of in (name, "all"):
            section = merged
            for part in parts:
                section = section[part]
            section[last] = YAML(typ="safe").load(value)
    path = folder / "params.yaml"
    path.write_text(profile.text(merged), encoding="utf-8")
    return path


def limit(kind: str, shape: str, tokens: float, reply: float) -> float:
    """Return the samples a second that the chip's own limits allow, for so many tokens of a row, or prompt, and reply.

    A token costs two operations a parameter forwards, two backwards through frozen weights, and in GRPO two more for
    the reference; each step of decoding reads all weights, for 256 replies at once.
    """
    width, inner, layers, heads, shared = SHAPES[shape]
    attention = 2 * width * width + 2 * width * width * shared // heads
    parameters = layers * (attention + 3 * width * inner) + 2 * VOCABULARY["vocab_size"] * width
    if kind in FINE_TUNED:
        return FLOPS / (4 * parameters * tokens)
    decoding = reply * 2 * parameters / BYTES / 256
    if kind == "decode":
        return 1 / decoding
    return 1 / (decoding + 6 * parameters * (tokens + reply) / FLOPS)


def logged(place: Path) -> list[dict[str, Any]]:
    """Return the log's lines, one a step."""
    return [json.loads(line) for line in (place / "log.jsonl").read_bytes().splitlines()]


def speed(lines: list[dict[str, Any]], skipped: int) -> dict[str, Any]:
    """Return samples a second, without the first steps, and those of each step."""
    each = {line["step"]: line["samples_per_second"] for line in lines if "samples_per_second" in line}
    seen = list(each.values())[min(skipped, len(each) - 1) :]
    return {"samples_per_second": len(seen) / sum(1 / value for value in seen), "each": list(each.values())}


def prepared(section: str, kind: Any, path: Path, model: str, steps: int) -> tuple[Any, Any, Any]:
    """Return a training's params, cut to so many steps, and the model and tokenizer as its stage has them."""
    import msgspec

    from schemas.params import load
    from train.fit import loaded

    params = load(section, kind, path)
    trainer = {name: value for name, value in params.trainer.items() if name not in OF_A_WHOLE_RUN}
    trainer |= {"max_steps": steps, "logging_steps": 1, "save_strategy": "no", "eval_strategy": "no"}
    network, tokenizer = loaded(params, model)
    return msgspec.structs.replace(params, trainer=trainer), network, tokenizer


def run_sft(kind: str, path: Path, model: str, steps: int, longest: bool) -> dict[str, Any]:
    """Fine-tune on rows of random tokens, the first half of each without a loss."""
    from datasets import Dataset

    from train import sft

    section = SECTIONS[kind]
    params, network, tokenizer = prepared(section, sft.SftParams, path, model, steps)
    most = params.trainer["max_length"]
    draw = random.Random(7)
    rows = []
    for _ in range(32 * steps):
        length = most if longest else draw.randint(*TOKENS)
        ids = [draw.randrange(100, 4000) for _ in range(length)]
        rows.append({"input_ids": ids, "labels": [-100] * (length // 2) + ids[length // 2 :]})
    data = Dataset.from_list(rows)
    _, figures = sft.sft(params, section, network, tokenizer, (data, data.select(range(32))), path.parent, None)
    return tuned(kind, rows, path.parent) | {"batch": figures["batch"]}


def run_author_sft(_: str, path: Path, model: str, steps: int, longest: bool) -> dict[str, Any]:
    """Teach the author by the chats of its mix; then it writes for a few commissions, with thoughts and at once."""
    from datasets import Dataset

    from schemas import rows
    from schemas.record import Commission, Example
    from train import author_sft, sft
    from train.author import writing

    params, network, tokenizer = prepared("author_sft", author_sft.AuthorSftParams, path, model, steps)
    chats = writing.tokens(list(rows.read(Path("data/mix/train.jsonl"), Example)), tokenizer)
    repeated = (chats * (32 * steps // len(chats) + 1))[: 32 * steps]
    data = Dataset.from_list(repeated)
    few = data.select(range(16))
    trainer, figures = sft.sft(params, "author_sft", network, tokenizer, (data, few), path.parent, None)
    told = list(rows.read(Path("data/mix/prompts.jsonl"), Commission))[:16]
    for thinking in params.thinking:
        began = time.monotonic()
        writing.written(trainer.model, tokenizer, told, params.sampling, thinking, "graph")
        figures["thinking" if thinking else "at once"] = round(time.monotonic() - began, 1)
    return tuned("author_sft", repeated, path.parent) | {
        name: figures[name] for name in ("batch", "thinking", "at once") if name in figures
    }


def tuned(kind: str, rows: list[dict[str, list[int]]], place: Path) -> dict[str, Any]:
    """Return the figures of a fine-tuning on such rows."""
    made = speed(logged(place), SKIPPED[kind])
    tokens = sum(len(row["input_ids"]) for row in rows) / len(rows)
    return made | {"tokens": tokens, "tokens_per_second": made["samples_per_second"] * tokens}


def run_grpo(_: str, path: Path, model: str, steps: int, longest: bool) -> dict[str, Any]:
    """Reinforce on prompts of real questions, each reply as long as it may be."""
    from schemas import rows
    from schemas.record import Message, Prompt
    from train import grpo

    params, network, tokenizer = prepared("grpo", grpo.GrpoParams, path, model, steps)
    read = list(rows.read(Path("data/sets/rollout/train.jsonl"), Prompt))
    asked: list[Prompt] = []
    for n in range(len(read)):
        lines: list[str] = []
        for more in range(len(read) if longest else 5):
            lines.append(read[(n + more) % len(read)].prompt[-1].content)
            one = Prompt(id=str(n), prompt=(Message(role="user", content="\n".join(lines)),), answer=read[n].answer)
            if longest and length([one], tokenizer) > params.max_prompt:
                break
            whole = one
        asked.append(whole)
    _, figures = grpo.grpo(params, network, tokenizer, asked, path.parent, None)
    return reinforced("grpo", length(asked, tokenizer), figures, path.parent)


def run_author_grpo(_: str, path: Path, model: str, steps: int, longest: bool) -> dict[str, Any]:
    """Reinforce the author on the commissions of its mix, with what it remembers, thoughts first."""
    from schemas import chat, rows
    from schemas.record import Commission, Example
    from train import author_grpo
    from train.author.alike import Seen, taught
    from train.author.curriculum import Curriculum

    params, network, tokenizer = prepared("author_grpo", author_grpo.AuthorGrpoParams, path, model, steps)
    told = author_grpo.fitting(list(rows.read(Path("data/mix/prompts.jsonl"), Commission)), tokenizer, params)
    known = taught(rows.read(Path("data/mix/train.jsonl"), Example))
    curriculum = Curriculum(params.mix, chat.words(), params.innovation, Seen(known), lambda _: True, params.seed)
    _, figures = author_grpo.author_grpo(params, network, tokenizer, told, curriculum, path.parent)
    return reinforced("author_grpo", length(told, tokenizer), figures, path.parent) | {"asked": figures["asked"]}


def length(asked: Sequence[Any], tokenizer: Any) -> float:
    """Return the mean tokens of prompts."""
    from train import model as models

    found = models.token_ids(tokenizer, models.asking([one.prompt for one in asked], tokenizer))
    return sum(map(len, found)) / len(found)


def reinforced(kind: str, tokens: float, figures: dict[str, Any], place: Path) -> dict[str, Any]:
    """Return the figures of a reinforcement by prompts of so many tokens."""
    lines = logged(place)
    made = speed(lines, SKIPPED[kind])
    reply = [line["completions/mean_length"] for line in lines if "completions/mean_length" in line][-1]
    return made | {
        "tokens": tokens,
        "reply": reply,
        "tokens_per_second": made["samples_per_second"] * reply,
        "batch": figures["batch"],
    }


def run_decode(_: str, path: Path, model: str, steps: int, longest: bool) -> dict[str, Any]:
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
    made: list[list[int]] = []
    for _again in range(2):
        torch.cuda.synchronize()
        began = time.monotonic()
        made = decode(network, [prompt for prompt in prompts for _ in range(8)], drawing, {2}, 0)
        seconds = time.monotonic() - began
    count = sum(map(len, made))
    return {
        "samples_per_second": 256 / seconds,
        "tokens": sum(TOKENS) / 2,
        "reply": REPLY,
        "tokens_per_second": count / seconds,
        "ms a step": 1e3 * seconds / REPLY,
    }


RUNS = {
    **dict.fromkeys(SECTIONS, run_sft),
    "grpo": run_grpo,
    "decode": run_decode,
    "author_sft": run_author_sft,
    "author_grpo": run_author_grpo,
}


def shrink(gigabytes: float) -> None:
    """Leave this process no more memory of the GPU than a card of so many GB has."""
    import torch

    whole = torch.cuda.mem_get_info()[1]
    most = int(gigabytes * 1e9 - CONTEXT)
    torch.cuda.set_per_process_memory_fraction(most / whole)
    torch.cuda.mem_get_info = lambda *_: (most - torch.cuda.memory_reserved(), most)


def one(kind: str, name: str, model: str, changes: list[str], within: float | None) -> None:
    """Run one line and print its figures as JSON."""
    import torch

    from train.memory import GIB, memory
    from train.model import quiet

    quiet(local=True)
    if within:
        shrink(within)
    with tempfile.TemporaryDirectory() as folder:
        path = settings(name, changes, Path(folder))
        began = time.monotonic()
        steps = 2 if within else STEPS.get(name, {}).get(kind, 2)
        figures = RUNS[kind](kind, path, model, steps, within is not None)
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
    parser.add_argument("what", nargs="*", default=["sft", "grpo", "decode"], metavar="|".join(RUNS))
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--profiles", nargs="*", default=["gpu24", "h200"])
    parser.add_argument("--within", type=float, metavar="GB", help="the memory of the card")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--model", help="a folder for the weights, kept and used again")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        kind, name = args.one
        one(kind, name, args.model, args.changes, args.within)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = args.model or f"{place}/model"
        if not Path(folder).is_dir():
            began = time.monotonic()
            make(Path(folder), args.shape, Path("models/author_base" if args.shape == "8b" else "models/base"))
            print(f"made and saved in {time.monotonic() - began:.0f} s", flush=True)
        print(f"{'':18}{'samples/s':>10}{'ratio':>7}{'tokens/s':>10}{'of limit':>9}{'peak GiB':>9}{'held':>7}{'s':>7}")
        for kind in args.what:
            first = 0.0
            for name in args.profiles if kind != "decode" else ["h200"]:
                words = [sys.executable, __file__, "--one", kind, name, "--model", folder]
                words += [f"--set={change}" for change in args.changes]
                words += [f"--within={args.within}"] if args.within else []
                done = subprocess.run(words, capture_output=True, text=True, check=False)
                found = [line for line in done.stdout.splitlines() if line.startswith("FIGURES ")]
                if not found:
                    print(f"{kind} {name}: failed\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}", flush=True)
                    continue
                seen = json.loads(found[0].removeprefix("FIGURES "))
                first = first or seen["samples_per_second"]
                most = limit(kind, args.shape, seen["tokens"], seen.get("reply", 0))
                print(
                    f"{kind + ' ' + name:18}{seen['samples_per_second']:>10.2f}"
                    f"{seen['samples_per_second'] / first:>7.1f}{seen['tokens_per_second']:>10.0f}"
                    f"{seen['samples_per_second'] / most:>9.1%}"
                    f"{seen['peak_gib']:>9.1f}{seen['held_gib']:>7.1f}{seen['seconds']:>7.0f}  "
                    + str({name: value for name, value in seen.items() if name not in IN_COLUMNS}),
                    flush=True,
                )


if __name__ == "__main__":
    main()
