import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from datagen.grid import Axes, Generate, endpoint, only, read, requests
from datagen.teacher.sheets import FACTS
from schemas.faults import Fault
from schemas.params import Topic, Wording


def an_axes() -> Axes:
    return Axes(
        {"basic": Wording("基础", "一步"), "advanced": Wording("高级", "多步")},
        {"factual": Wording("事实性", "事实"), "evaluative": Wording("评估性", "判断")},
    )


def a_generate(**changed: object) -> Generate:
    usual = Generate(
        base_url="embedded",
        model="embedded",
        api_key_env="KEY",
        chain="short",
        concurrency=4,
        timeout=10.0,
        attempts=3,
        reasks=2,
        temperature=1.0,
        max_tokens=2048,
        min_yield=0.95,
    )
    return replace(usual, **changed)


def the_requests(samples: int = 2, round_: int = 0, answers: str = "here", **changed: object) -> list:
    topics = {"economy": Topic("经济发展", samples, round_), "education": Topic("教育体系", samples, round_)}
    return list(requests(topics, an_axes(), a_generate(**changed), lambda topic: answers))


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

    stream = requests(topics, an_axes(), a_generate(), lambda topic: "here")

    assert next(stream).sample == 0


def test_a_round_has_seeds_of_its_own():
    assert [r.body.seed for r in the_requests(round_=0)[:2]] == [0, 1]
    assert [r.body.seed for r in the_requests(round_=3)[:2]] == [3 * 2**20, 3 * 2**20 + 1]


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
    ],
)
def test_the_key_follows_what_is_asked_and_whom(changed):
    assert the_requests(**changed)[0].key != the_requests()[0].key


@pytest.mark.parametrize(
    "changed",
    [{"concurrency": 9}, {"timeout": 9.0}, {"attempts": 9}, {"reasks": 0}, {"min_yield": 0.0}, {"samples": 9}],
)
def test_the_key_does_not_follow_how_it_is_asked(changed):
    assert the_requests(**changed)[0].key == the_requests()[0].key


def test_a_real_endpoint_is_named_by_its_url():
    assert endpoint(a_generate(base_url="https://x/v1"))("economy") == "https://x/v1"


@pytest.mark.parametrize(
    ("file", "changes"),
    [("compose.py", True), ("sheets.py", True), ("facts/economy.yaml", True), ("facts/education.yaml", False)],
)
def test_the_embedded_teacher_is_named_by_what_it_knows_of_the_topic(tmp_path: Path, file, changes):
    teacher = tmp_path / "teacher"
    shutil.copytree(FACTS.parent, teacher)
    before = endpoint(a_generate(), teacher / "facts")("economy")

    with open(teacher / file, "a", encoding="utf-8") as changed:
        changed.write("\n# changed\n")

    assert (endpoint(a_generate(), teacher / "facts")("economy") != before) is changes


def test_an_unknown_topic_is_answered_by_the_nearest():
    with pytest.raises(Fault, match=r"topics\.econmy: no such topic; did you mean economy\?"):
        only("econmy", {"economy": Topic("经济发展", 1, 0), "education": Topic("教育体系", 1, 0)})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"base_url": "https://user:secret@host/v1"}, "generate.base_url"),
        ({"base_url": "embeded"}, "generate.base_url"),
        ({"concurrency": 0}, "generate.concurrency"),
        ({"min_yield": 1.5}, "generate.min_yield"),
        ({"chain": "long"}, "generate.chain"),
    ],
)
def test_a_wrong_setting_is_a_fault_that_names_it(project, changed, message):
    project.params(**changed)

    with pytest.raises(Fault, match=message):
        read(project.folder / "params.yaml")


def test_a_key_put_into_params_is_refused_and_not_repeated(project):
    text = (project.folder / "params.yaml").read_text()
    (project.folder / "params.yaml").write_text(text.replace("DATAGEN_TEST_KEY", "sk-secret-1234"))

    with pytest.raises(Fault, match=r"generate\.api_key_env") as fault:
        read(project.folder / "params.yaml")

    assert "secret" not in fault.value.message
