"""Records to be asked about, and the stages that ask, for tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from datagen.teacher.compose import compose
from schemas import rows
from schemas.chain import parse
from schemas.record import Item, Record

SECTIONS: dict[str, dict[str, Any]] = {
    "verify": {"samples": 1},
    "judge": {},
    "improve": {"below": 4.0, "chain": "full"},
    "vary": {"variations": ["context_change", "parameter_change", "practical_application"], "chain": "short"},
    "contrast": {"flaws": ["wrong", "biased"], "chain": "short"},
    "translate": {"to": "zh_hant"},
}
SHARED = {"teacher": "main", "rows": None, "reasks": 1, "min_yield": 0.9}


def sections(project: Any, stage: str, **changed: Any) -> None:
    """Add a stage's section to the project's params.yaml, some of its values changed."""
    path = project.folder / "params.yaml"
    section = json.dumps(SECTIONS[stage] | SHARED | changed)
    path.write_text(f"{path.read_text('utf-8')}{stage}: {section}\n", encoding="utf-8")


def a_bank(count: int = 8) -> list[Record]:
    """Records of two topics in turn, as the embedded teacher writes them."""
    found = []
    for number in range(count):
        topic, type_ = ("economy", "education")[number % 2], ("factual", "evaluative")[number // 2 % 2]
        item = compose(topic, "basic", type_, number, full=False)
        place = {"id": f"{number:016x}", "topic": topic, "difficulty": "basic", "type": type_}
        fields = msgspec.structs.asdict(item) | place | {"teacher": "embedded", "repairs": ()}
        found.append(Record(**fields))
    return found


def run(project: Any, stage: str, records: list[Record], *more: Path, **changed: Any) -> Any:
    """Run a stage over records and return click's result; its rows lie in out.jsonl, its figures in out.json."""
    if f"\n{stage}:" not in (project.folder / "params.yaml").read_text("utf-8"):
        sections(project, stage, **changed)
    rows.write(project.folder / "records.jsonl", records)
    return project.invoke(stage, "records.jsonl", *map(str, more), "out.jsonl", "out.json")


def the_rows(project: Any, row: type[Any]) -> list[Any]:
    return list(rows.read(project.folder / "out.jsonl", row))


def the_figures(project: Any) -> dict[str, Any]:
    return json.loads((project.folder / "out.json").read_text("utf-8"))


def handed_over(first: str) -> Item:
    """The item in a first user message."""
    item = parse(first[first.index("<item>") : first.index("</item>") + len("</item>")])
    assert isinstance(item, Item)
    return item


def scripted(say: Callable[[str, int], str]) -> Callable[..., Any]:
    """An endpoint that replies with what `say` makes of the first user message and of how often it was asked again."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        messages = json.loads(body)["messages"]
        first = next(message["content"] for message in messages if message["role"] == "user")
        again = sum(message["role"] == "assistant" for message in messages)
        choice = {"message": {"role": "assistant", "content": say(first, again)}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 2, "completion_tokens": 1}
        reply = json.dumps({"model": "scripted", "choices": [choice], "usage": usage}).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    return app
