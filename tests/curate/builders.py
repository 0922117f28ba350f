"""Rows for tests: valid as they are, each changed by what its test is about."""

from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from ruamel.yaml import YAML

from schemas.chain import write
from schemas.record import Item, Record, Response


def an_item(**changes: Any) -> Item:
    fields: dict[str, Any] = {
        "question": "《巴黎协定》是在哪一年通过的？",
        "options": ("2012年", "2015年", "2016年", "2018年"),
        "think": "先回忆《巴黎协定》的背景。",
        "steps": ("《巴黎协定》于2015年通过。", "因此选项B正确。"),
        "reflection": "依据公开资料，表述中立。",
        "adjustment": None,
        "answer": "B",
    }
    return Item(**(fields | changes))


def items_of(text: st.SearchStrategy[str]) -> st.SearchStrategy[Item]:
    """Items whose texts are drawn; a user's own may lack think and reflection."""
    return st.builds(
        an_item,
        question=text,
        options=st.tuples(text, text, text, text),
        think=text | st.just(""),
        steps=st.lists(text, min_size=1, max_size=3).map(tuple),
        reflection=text | st.just(""),
        adjustment=st.none() | text,
        answer=st.sampled_from("ABCD"),
    )


def a_record(**changes: Any) -> Record:
    item = an_item()
    fields: dict[str, Any] = {name: getattr(item, name) for name in item.__struct_fields__}
    fields |= {
        "id": "0000000000000001",
        "topic": "environment",
        "difficulty": "basic",
        "type": "factual",
        "teacher": "embedded",
        "repairs": (),
    }
    return Record(**(fields | changes))


def a_response(item: Item | None = None, **changes: Any) -> Response:
    fields: dict[str, Any] = {
        "id": "0000000000000001",
        "topic": "environment",
        "difficulty": "basic",
        "type": "factual",
        "sample": 0,
        "round": 0,
        "teacher": "embedded",
        "content": write(item or an_item()),
        "fault": None,
    }
    return Response(**(fields | changes))


def configure(section: str, **values: object) -> None:
    """Change a section of the params.yaml of the folder that the test is in."""
    yaml = YAML(typ="safe", pure=True)
    document = yaml.load(Path("params.yaml").read_text("utf-8"))
    document[section] |= values
    with open("params.yaml", "w", encoding="utf-8") as file:
        yaml.dump(document, file)


def many_records(count: int, topics: int = 3) -> list[Record]:
    """Records of several topics and types, each stem asked twice with other distractors."""
    kinds = ("factual", "conceptual", "analytical")
    return [
        a_record(
            id=f"{number:016x}",
            question=f"{NAMES[number // 2 % len(NAMES)]}第{number // 2}号决议是在哪一年通过的？",
            options=tuple(
                f"{1900 + number // 2 + shift}年" for shift in ((0, 7, 13, 29) if number % 2 else (0, 3, 11, 17))
            ),
            steps=(f"该决议于{1900 + number // 2}年通过。", "因此选项A正确。"),
            answer="A",
            topic=f"topic_{number % topics}",
            type=kinds[number // topics % 3],
        )
        for number in range(count)
    ]


NAMES = ("联合国环境大会", "国际海洋法法庭", "世界卫生大会", "亚太经合组织会议", "非洲联盟首脑会议", "北极理事会")
