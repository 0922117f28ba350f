"""Look at every training, and at whatever answers or scores, before hours are spent: settings, data, models.

params.yaml and dvc.yaml, with the files named there as far as they are made → a line for each stage with its figures,
or every fault found in it. No model is loaded, and nothing is asked of the network.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from schemas import chat, profile
from schemas.faults import Fault
from schemas.params import ChatPrompt, load
from schemas.record import Commission, Example, Pair, Prompt, Record
from train import (
    author_distill,
    author_grpo,
    author_report,
    author_sft,
    dpo,
    grpo,
    predict,
    ready,
    score,
    sft,
    submission,
)
from train import model as models
from train.attempt import AttemptParams
from train.base import BaseParams
from train.predict import AnswerParams, PredictParams

PIPELINE = Path("dvc.yaml")
Given = Mapping[str, Any]
"""The arguments of a stage's command, by the names that its click command gives them."""


class Project(Struct, frozen=True):
    """Where params are read from, and what the stages of dvc.yaml write."""

    params: Path
    made: frozenset[Path]

    def is_made(self, path: Path) -> bool:
        """Whether some stage writes a path, or the folder it lies in."""
        return any(one in self.made for one in (path, *path.parents))

    def rows(self, path: Path, row: Any) -> tuple[ready.Rows[Any], list[ready.Finding]]:
        """Return the rows of a file, none if it is not made yet, and what is wrong with it."""
        if not path.exists() and self.is_made(path):
            return ready.Rows(path, None), []
        try:
            return ready.read(path, row), []
        except Fault as fault:
            return ready.Rows(path, None), [ready.wrong(fault.message)]

    def start(self, path: str) -> ready.Start:
        """Return a model to start from, or to answer."""
        return ready.Start(path, later=not Path(path).exists() and self.is_made(Path(path)))


class Stage(Struct, frozen=True):
    """A stage of dvc.yaml as it runs for one key."""

    name: str
    given: Given


def pipeline(document: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[list[Stage], frozenset[Path]]:
    """Return the stages that this command knows, in their order, and everything that any stage writes."""
    stages, made = [], set()
    for name, entry in document["stages"].items():
        over = str(entry.get("foreach", "")).strip("${}")
        keys = list(params.get(over) or ()) if over else [None]
        for key in keys:
            body = entry["do"] if over else entry
            made |= {Path(_filled(_path(out), key)) for kind in ("outs", "metrics") for out in body.get(kind, ())}
            if name in CHECKS:
                words = shlex.split(_filled(body["cmd"], key))
                command = import_module(words[2]).main
                given = command.make_context(name, words[3:]).params
                stages.append(Stage(f"{name}@{key}" if over else name, given))
    return stages, frozenset(made)


def _path(out: Any) -> str:
    return str(next(iter(out)) if isinstance(out, dict) else out)


def _filled(text: str, key: object) -> str:
    return text.replace("${key}", str(key))


def chosen(stages: list[Stage], names: tuple[str, ...]) -> list[Stage]:
    """Return the stages of these names, `sft` for all of sft; all without a name. Fault for a name that is none."""
    known = {stage.name for stage in stages} | {stage.name.partition("@")[0] for stage in stages}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(known))}"
            raise Fault(f"{name}: no such stage; {hint}")
    return [stage for stage in stages if not names or {stage.name, stage.name.partition("@")[0]} & set(names)]


def _base(project: Project, given: Given, section: str = "base") -> Iterator[ready.Finding]:
    load(section, BaseParams, project.params)
    for path, row in ((given["records"], Record), *((path, Example) for path in given["examples"])):
        table, found = project.rows(path, row)
        yield from (*found, *(ready.some(table, "learn the tokens of") if not found else ()))


def _author_base(project: Project, given: Given) -> Iterator[ready.Finding]:
    return _base(project, given, "author_base")


def _sft(project: Project, given: Given) -> Iterator[ready.Finding]:
    variant = given["variant"]
    params = load(f"sft.{variant}", sft.SftParams, project.params)
    start = project.start(params.model or given["base"])
    train, a = project.rows(given["train"], Example)
    validation, b = project.rows(given["validation"], Example)
    yield from (*a, *b, *_figure(train, "rows"))
    yield from sft.check(params, f"sft.{variant}", start, train, validation, anywhere=True)


def _author_sft(project: Project, given: Given) -> Iterator[ready.Finding]:
    params = load("author_sft", author_sft.AuthorSftParams, project.params)
    start = project.start(params.model or given["base"])
    train, a = project.rows(given["train"], Example)
    validation, b = project.rows(given["validation"], Example)
    commissions, c = project.rows(given["prompts"], Commission)
    yield from (*a, *b, *c, *_figure(train, "rows"))
    yield from author_sft.check(params, start, train, validation, commissions, anywhere=True)


def _author_grpo(project: Project, given: Given) -> Iterator[ready.Finding]:
    params = load("author_grpo", author_grpo.AuthorGrpoParams, project.params)
    commissions, found = project.rows(given["prompts"], Commission)
    yield from (*found, *_figure(commissions, "commissions"))
    start = project.start(params.model or given["model"])
    words = chat.words(project.params)
    yield from author_grpo.check(params, start, commissions, words, anywhere=True)


def _author_distill(project: Project, given: Given) -> Iterator[ready.Finding]:
    params = load("author_distill", author_distill.AuthorDistillParams, project.params)
    start = project.start(params.model or given["model"])
    train, a = project.rows(given["train"], Example)
    validation, b = project.rows(given["validation"], Example)
    commissions, c = project.rows(given["prompts"], Commission)
    teachers = load("teachers", dict[str, Any], project.params)
    yield from (*a, *b, *c, *_figure(commissions, "commissions"))
    yield from author_distill.check(params, start, train, validation, commissions, teachers, anywhere=True)


def _author_report(project: Project, given: Given) -> Iterator[ready.Finding]:
    params = load("author_report", author_report.AuthorReportParams, project.params)
    commissions, a = project.rows(given["prompts"], Commission)
    bank, b = project.rows(given["author"], Record)
    yield from (*a, *b, *_figure(commissions, "commissions"), *_figure(bank, "questions"))
    yield from _there(project, given["distilled"])
    authors = [project.start(folder) for folder in author_report.named(given["authors"]).values()]
    yield from author_report.check(params, authors, commissions, bank, chat.words(project.params))


def _dpo(project: Project, given: Given) -> Iterator[ready.Finding]:
    params = load("dpo", dpo.DpoParams, project.params)
    pairs, found = project.rows(given["pairs"] / dpo.PAIRS, Pair)
    yield from (*found, *_figure(pairs, "pairs"))
    yield from dpo.check(params, project.start(params.model or given["model"]), pairs, anywhere=True)


def _grpo(project: Project, given: Given) -> Iterator[ready.Finding]:
    params = load("grpo", grpo.GrpoParams, project.params)
    prompts, found = project.rows(given["prompts"], Prompt)
    yield from (*found, *_figure(prompts, "prompts"))
    yield from grpo.check(params, project.start(params.model or given["model"]), prompts, anywhere=True)


def _attempt(project: Project, given: Given) -> Iterator[ready.Finding]:
    params = load("attempt", AttemptParams, project.params)
    prompts, found = project.rows(given["prompts"], Prompt)
    yield from (*found, *_figure(prompts, "prompts"), *ready.some(prompts, "answer"), *ready.once(prompts))
    yield from _answering("attempt", params, "reply")
    yield from ready.model(project.start(given["model"]))


def _predict(project: Project, given: Given) -> Iterator[ready.Finding]:
    section = f"predict.{given['variant']}"
    params = load(section, PredictParams, project.params)
    try:
        yield from ready.template(params.prompt, load(f"prompts.{params.prompt}", ChatPrompt, project.params))
    except Fault as fault:
        yield ready.wrong(f"{fault.message} (it is {section}.prompt)")
    yield from _answering(f"predict@{given['variant']}", params, params.by)
    yield from ready.model(project.start(given["model"]))
    if (test := given["test"]).exists() or not project.is_made(test):
        yield ready.told(f"{len(submission.questions(test)):,} questions")
    else:
        yield ready.told(f"{test} not made yet")


def _answering(stage: str, params: AnswerParams, by: predict.By) -> Iterator[ready.Finding]:
    try:
        predict.check(stage, params, by)
    except Fault as fault:
        yield ready.wrong(fault.message)
    if params.engine == "vllm" and find_spec("vllm") is None:
        yield ready.wrong(f"params.yaml: {stage.replace('@', '.')}.engine: vllm is not installed; take transformers")


def _score(project: Project, given: Given) -> Iterator[ready.Finding]:
    load("score", score.ScoreParams, project.params)
    keys = score.read_key(given["key"])
    yield ready.told(f"{keys}: nothing is scored" if isinstance(keys, str) else f"{len(keys):,} questions")
    for variant in given["variants"]:
        yield from _there(project, Path(variant.partition("=")[2]))


def _there(project: Project, path: Path) -> Iterator[ready.Finding]:
    if not path.exists():
        later = project.is_made(path)
        yield ready.told(f"{path} not made yet") if later else ready.wrong(f"{path}: no such file, no stage makes it")


def _figure(table: ready.Rows[Any], what: str) -> list[ready.Finding]:
    return [ready.told(f"{len(table.rows):,} {what}")] if table.rows else []


def look(project: Project, stage: Stage) -> list[ready.Finding]:
    """Return what is known of one stage, wrong or not; nothing is raised for what can be mended."""
    found: list[ready.Finding] = []
    try:
        # One by one: what was found before a Fault counts.
        for finding in CHECKS[stage.name.partition("@")[0]](project, stage.given):
            found.append(finding)
    except Fault as fault:
        found.append(ready.wrong(fault.message))
    return list(dict.fromkeys(found))


@click.command(help=__doc__.partition("\n")[0])
@click.argument("names", nargs=-1, metavar="[STAGE]...")
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"), show_default=True)
def main(names: tuple[str, ...], params: Path) -> None:
    """Look at STAGEs (sft, sft@reasoning, …), or at all; exit 1 if anything is wrong."""
    began = time.monotonic()
    models.quiet(local=True)
    stages, made = pipeline(profile.read(PIPELINE), profile.read(params))
    project = Project(params, made)
    looked = chosen(stages, names)
    faults = 0
    for stage in looked:
        found = look(project, stage)
        wrong = [finding.text.replace("params.yaml: ", f"{params}: ") for finding in found if finding.wrong]
        faults += len(wrong)
        for text in wrong:
            click.echo(f"{stage.name}: {text}")
        if not wrong:
            click.echo(f"{stage.name}: ok" + "".join(f", {finding.text}" for finding in found))
    click.echo(f"check: {len(looked)} stages, {faults} faults, in {time.monotonic() - began:.1f} s")
    if faults:
        raise SystemExit(1)


CHECKS: dict[str, Callable[[Project, Given], Iterator[ready.Finding]]] = {
    "base": _base,
    "sft": _sft,
    "attempt": _attempt,
    "dpo": _dpo,
    "grpo": _grpo,
    "predict": _predict,
    "score": _score,
    "author_base": _author_base,
    "author_sft": _author_sft,
    "author_grpo": _author_grpo,
    "author_distill": _author_distill,
    "author_report": _author_report,
}
"""By the stages of dvc.yaml."""

if __name__ == "__main__":
    main()
