import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from datagen.grid import AGAIN, Axes, Body, Dropped, Generate, Request, endpoint, read, requests
from datagen.settings import Teacher
from datagen.teacher.sheets import FACTS
from schemas.faults import Fault
from schemas.params import AuthorPrompt, Topic, Wording
from schemas.record import Message

NOTHING: Dropped = {}
AN_AUTHOR = AuthorPrompt("出题。", "{difficulty}{topic}题，{type}", "", {}, "")


def an_axes() -> Axes:
    return Axes(
        {"basic": Wording("基础", "一步"), "advanced": Wording("高级", "多步")},
        {"factual": Wording("事实性", "事实"), "evaluative": Wording("评估性", "判断")},
    )


def a_teacher(**changed: object) -> Teacher:
    usual = Teacher(
        base_url="embedded", model="embedded", api_key_env="KEY", temperature=1.0, max_tokens=2048, extra={}
    )
    return replace(usual, **changed)


def the_requests(
    samples: int = 2,
    round_: int = 0,
    answers: str = "here",
    chain: str = "short",
    dropped: Dropped = NOTHING,
    author: AuthorPrompt | None = None,
    **changed: object,
) -> list[Request]:
    topics = {"economy": Topic("经济发展", samples, round_), "education": Topic("教育体系", samples, round_)}
    params = Generate(teacher="main", prompt="write", chain=chain, reasks=2, min_yield=0.95)
    return list(requests(topics, an_axes(), params, a_teacher(**changed), lambda topic: answers, dropped, author))


def test_requests_come_in_grid_order():
    found = [(r.topic, r.difficulty, r.type, r.sample) for r in the_requests()]

    assert found[:5] == [
        ("economy", "basic", "factual", 0),
        ("economy", "basic", "factual", 1),
        ("economy", "basic", "evaluative", 0),
        ("economy", "basic", "evaluative", 1),
        ("economy", "advanced", "factual", 0),
    ]
    assert len(found) == 16
    assert found[8][0] == "education"


def test_the_stream_is_lazy():
    topics = {"economy": Topic("经济发展", 10**12, 0)}

    stream = requests(
        topics, an_axes(), Generate("main", "write", "short", 2, 0.95), a_teacher(), lambda topic: "here", NOTHING
    )

    assert next(stream).sample == 0


def test_a_round_has_seeds_of_its_own():
    assert [r.body.seed for r in the_requests(round_=0)[:2]] == [0, 1]
    assert [r.body.seed for r in the_requests(round_=3)[:2]] == [3 * 2**20, 3 * 2**20 + 1]


@pytest.mark.parametrize(
    ("topic_round", "dropped_round", "asked_in"),
    [(0, 0, 1), (0, 4, 5), (3, 3, 4), (3, 2, 3), (3, 1, 3)],
    ids=["dropped", "dropped often", "dropped since the round was raised", "the round was raised", "and raised"],
)
def test_a_request_whose_reply_was_dropped_is_asked_in_the_next_round(topic_round, dropped_round, asked_in):
    usual = the_requests(round_=topic_round)

    found = the_requests(round_=topic_round, dropped={("economy", "basic", "evaluative"): {1: dropped_round}})

    assert (found[3].round, found[3].body.seed) == (asked_in, asked_in * 2**20 + 1)
    assert found[:3] + found[4:] == usual[:3] + usual[4:]
    assert (found[3].key != usual[3].key) is (asked_in != topic_round)


@pytest.mark.parametrize(
    "place", [("elsewhere", "basic", "factual"), ("economy", "absurd", "factual"), ("economy", "basic", "odd")]
)
def test_what_is_listed_but_not_in_the_grid_is_passed_over(place):
    assert the_requests(dropped={place: {0: 0}, ("economy", "basic", "factual"): {2: 0}}) == the_requests()


def test_all_keys_differ():
    keys = {request.key for request in the_requests()}

    assert len(keys) == 16


@pytest.mark.parametrize(
    "changed",
    [
        {"round_": 1},
        {"answers": "elsewhere"},
        {"model": "another"},
        {"chain": "full"},
        {"temperature": 0.5},
        {"max_tokens": 9},
        {"extra": {"chat_template_kwargs": {"enable_thinking": False}}},
        {"author": AN_AUTHOR},
    ],
)
def test_the_key_follows_what_is_asked_and_whom(changed):
    assert the_requests(**changed)[0].key != the_requests()[0].key


@pytest.mark.parametrize(
    "changed",
    [
        *({"concurrency": 9}, {"timeout": 9.0}, {"hung": 5.0}, {"attempts": 9}, {"rpm": 9}, {"tpm": 9}),
        *({"calls": 9}, {"tokens": 9}, {"money": 9}, {"hours": 9}, {"prices": "{}"}),
        *({"reasks": 0}, {"min_yield": 0.0}, {"samples": 9}),
    ],
)
def test_the_key_does_not_follow_how_it_is_asked(project, changed):
    usual = next(read().requests()).key

    project.params(**changed)

    assert next(read().requests()).key == usual


def test_the_name_of_the_teacher_is_not_part_of_the_key(project):
    usual = next(read().requests()).key
    path = project.folder / "params.yaml"

    path.write_text(path.read_text().replace("  main:", "  other:").replace("teacher: main", "teacher: other"))

    assert next(read().requests()).key == usual


def test_a_key_stays_what_it_was_when_requests_learn_new_fields():
    body = Body("m", (Message(role="user", content="问"),), 1.0, 9, 0)

    key = Request("economy", "basic", "factual", 0, 0, "https://x/v1", body).key

    assert key == "3d07610650ac5f935a46954a37e134f52ceed84e424cad294a35e0ff53a1e7e9"


def test_what_is_asked_about_a_record_is_part_of_the_key():
    first = the_requests()[0]

    keys = {first.key, replace(first, kind="judge").key, replace(first, kind="judge", subject="0" * 16).key}

    assert len(keys) == 3


def test_an_author_is_told_the_names_of_a_cell_and_no_more():
    told = the_requests(author=AN_AUTHOR)[5].body.messages

    assert told == (Message(role="system", content="出题。"), Message(role="user", content="高级经济发展题，事实性"))


def test_the_embedded_teacher_is_no_author(project):
    project.params(prompt="author")
    path = project.folder / "params.yaml"
    author = {name: getattr(AN_AUTHOR, name) for name in AN_AUTHOR.__struct_fields__}
    path.write_text(f"{path.read_text('utf-8')}prompts: {json.dumps({'author': author})}\n", encoding="utf-8")

    with pytest.raises(Fault, match="main is the embedded teacher; put 'write', or name another teacher"):
        read()


def test_what_an_endpoint_takes_beside_is_sent_among_the_other_fields():
    bare, more = (the_requests(extra=extra)[0].body for extra in ({}, {"top_k": 20}))

    assert json.loads(more.json()) == json.loads(bare.json()) | {"top_k": 20}
    assert list(json.loads(bare.json())) == ["model", "messages", "temperature", "max_tokens", "seed"]


def test_a_real_endpoint_is_named_by_its_url():
    assert endpoint(a_teacher(base_url="https://x/v1"))("economy") == "https://x/v1"


@pytest.mark.parametrize(
    ("file", "kind", "changes"),
    [
        ("compose.py", "write", True),
        ("sheets.py", "write", True),
        ("review.py", "write", False),
        ("review.py", "judge", True),
        ("compose.py", "judge", True),
        ("server.py", "write", False),
        ("facts/economy.yaml", "write", True),
        ("facts/education.yaml", "write", False),
        ("mathematics/algebra.py", "write", False),
        ("mathematics/about.py", "judge", False),
    ],
)
def test_the_embedded_teacher_is_named_by_what_it_knows_of_the_topic(tmp_path: Path, file, kind, changes):
    assert renamed(tmp_path, file, kind, "economy") is changes


@pytest.mark.parametrize(
    ("file", "kind", "changes"),
    [
        ("mathematics/algebra.py", "write", True),
        ("mathematics/forms.py", "write", True),
        ("mathematics/about.py", "write", False),
        ("mathematics/about.py", "judge", True),
        ("replies.py", "write", True),
        ("compose.py", "write", False),
        ("facts/economy.yaml", "judge", False),
    ],
)
def test_it_is_named_by_its_mathematics_for_a_topic_of_mathematics(tmp_path: Path, file, kind, changes):
    assert renamed(tmp_path, file, kind, "algebra") is changes


def renamed(tmp_path: Path, file: str, kind: str, topic: str) -> bool:
    """Whether the teacher has another name for a topic after a change of a file."""
    teacher = tmp_path / "teacher"
    shutil.copytree(FACTS.parent, teacher)
    before = endpoint(a_teacher(), kind, teacher / "facts")(topic)

    with open(teacher / file, "a", encoding="utf-8") as changed:
        changed.write("\n# changed\n")

    return endpoint(a_teacher(), kind, teacher / "facts")(topic) != before


def test_an_unknown_topic_is_answered_by_the_nearest(project):
    with pytest.raises(Fault, match=r"params\.yaml: topics\.econmy: no such topic; did you mean economy\?"):
        read(["econmy"])


def test_named_topics_come_in_the_order_they_were_named(project):
    assert list(read(["education", "economy"]).sizes().items()) == [("education", 12), ("economy", 12)]


def test_the_sizes_are_those_of_the_stream(project):
    grid = read()

    assert grid.sizes() == Counter(request.topic for request in grid.requests()) == {"economy": 12, "education": 12}


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"min_yield": 1.5}, "generate.min_yield"), ({"chain": "long"}, "generate.chain"), ({"reasks": -1}, "reasks")],
)
def test_a_wrong_setting_is_a_fault_that_names_it(project, changed, message):
    project.params(**changed)

    with pytest.raises(Fault, match=message):
        read()


LISTED = (
    '{{"id":"1","topic":"{}","difficulty":"basic","type":"factual","sample":0,"round":0,"reason":"r","detail":""}}\n'
)


def listed(*lines: str) -> None:
    AGAIN.parent.mkdir(exist_ok=True)
    AGAIN.write_text("".join(lines), encoding="utf-8")


def test_the_grid_reads_what_is_to_be_asked_again(project):
    listed(LISTED.format("economy"), LISTED.format("a_topic_that_was_removed"))

    assert [request.round for request in read().requests()] == [1] + [0] * 23


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LISTED.format("economy"), "sample 0 of economy / basic / factual is there twice; keep the later round"),
        ("<<<<<<< HEAD\n", "JSON is malformed"),
        (LISTED.format("education").replace(',"reason":"r"', ""), "missing required field `reason`"),
        (LISTED.format("education").replace('"sample":0', '"sample":-1'), "Expected `int` >= 0"),
        ("\n", "the line is empty"),
    ],
)
def test_a_broken_line_of_it_is_a_fault_with_its_number(project, line, message):
    listed(LISTED.format("economy"), line)

    with pytest.raises(Fault, match=rf"^datagen/again\.jsonl:2: .*{message}"):
        read()
