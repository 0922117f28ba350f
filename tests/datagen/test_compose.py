"""Every composed question has exactly one right option, and it is the one the chain arrives at.

The judge below shares no code with the composer. It reads the sheets' YAML itself, holds what they say as tables, and
decides for each option of a finished question whether it is right.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from datagen.teacher.compose import FORMS, JUDGEMENTS, compose
from schemas import params
from schemas.chain import parse, write
from schemas.record import LETTERS, Item

FACTS = Path(__file__).parents[2] / "datagen/teacher/facts"
TOPICS = sorted(params.topics())
Test = Callable[[str, list[str]], bool]  # (option, all options) -> is it right?


def shown(value: str | int) -> str:
    if isinstance(value, str):
        return value
    return f"公元前{abs(value)}年" if value < 0 else f"{value}年"


class Judge:
    """Knows one topic's questions by their text, and for each what makes an option right."""

    def __init__(self, topic: str) -> None:
        raw = YAML(typ="safe", pure=True).load((FACTS / f"{topic}.yaml").read_text(encoding="utf-8"))
        self.classes = raw["classes"]
        self.truths = {
            attribute["state"].replace("{e}", thing["name"]).replace("{v}", shown(thing[key]))
            for c in self.classes.values()
            for key, attribute in c["attributes"].items()
            for thing in c["entities"]
        }
        self.tests: dict[str, Test] = {}
        for c in self.classes.values():
            self.about_one(c)
            self.about_two_conditions(c)
            self.about_time(c)
            self.about_relations(c)

    def judge(self, question: str, options: list[str]) -> list[bool]:
        test = self.tests.get(question) or self.about_claims(question)
        return [test(option, options) for option in options]

    def things(self, c: dict, holds: Callable[[dict], bool]) -> Test:
        """Right are the names of the entities for which `holds`."""
        names = {thing["name"] for thing in c["entities"] if holds(thing)}
        return lambda option, _: option in names

    def about_one(self, c: dict) -> None:
        for key, a in c["attributes"].items():
            for thing in c["entities"]:
                value = shown(thing[key])
                is_value = partial(_equals, value)
                owner = self.things(c, lambda t, key=key, thing=thing: t[key] == thing[key])
                self.tests[a["ask"].replace("{e}", thing["name"])] = is_value
                self.tests[f"{thing['name']}的{a['name']}是下列哪一项？"] = is_value
                rest = a["state"].replace("{e}", "", 1).replace("{v}", value)
                self.tests[f"下列哪一项{c['noun']}{rest}？"] = owner
                self.tests[f"{a['name']}为{value}的{c['noun']}是哪一项？"] = owner
                if a["kind"] == "meaning":
                    self.tests[f"“{value}”说的是下列哪一个{c['noun']}？"] = owner
                    self.tests[f"下列哪一个{c['noun']}指的是“{value}”？"] = owner
        for key, a in c["attributes"].items():  # the last word on a text that two attributes could share
            if a["kind"] == "meaning":
                for thing in c["entities"]:
                    value = thing[key]
                    self.tests[f"下列哪一项是对“{thing['name']}”的恰当解释？"] = lambda option, _, value=value: (
                        option == value
                    )

    def about_two_conditions(self, c: dict) -> None:
        for one, first in c["attributes"].items():
            for two, second in c["attributes"].items():
                for thing in c["entities"]:
                    head = first["state"].replace("{e}", "", 1).replace("{v}", shown(thing[one]))
                    tail = second["state"].replace("{e}", "", 1).replace("{v}", shown(thing[two]))
                    tail = tail[1:] if tail.startswith("的") else tail
                    self.tests[f"下列哪一项{c['noun']}{head}，并且{tail}？"] = self.things(
                        c, lambda t, one=one, two=two, thing=thing: (t[one], t[two]) == (thing[one], thing[two])
                    )

    def about_time(self, c: dict) -> None:
        for key, a in c["attributes"].items():
            if a["kind"] != "year":
                continue
            when = {thing["name"]: thing[key] for thing in c["entities"]}

            def rank(option: str, options: list[str], place: int, when: dict[str, int] = when) -> bool:
                years = sorted(when[o] for o in options)
                return when[option] == years[place] and years.count(years[place]) == 1

            self.tests[f"下列{c['noun']}中，{a['name']}最早的是哪一项？"] = lambda o, all_, r=rank: r(o, all_, 0)
            self.tests[f"下列{c['noun']}中，{a['name']}最晚的是哪一项？"] = lambda o, all_, r=rank: r(o, all_, -1)
            in_order = f"将下列{c['noun']}按{a['name']}由早到晚排列"
            self.tests[f"{in_order}，排在第二位的是哪一项？"] = lambda o, all_, r=rank: r(o, all_, 1)
            for thing in c["entities"]:
                head = f"与{thing['name']}相比，下列哪一项{c['noun']}的{a['name']}更"
                mark = thing[key]
                self.tests[f"{head}早？"] = lambda o, _, mark=mark, when=when: when[o] < mark
                self.tests[f"{head}晚？"] = lambda o, _, mark=mark, when=when: when[o] > mark

    def about_relations(self, c: dict) -> None:
        meanings = [key for key, a in c["attributes"].items() if a["kind"] == "meaning"]
        for key, a in c["attributes"].items():
            for thing in c["entities"]:
                for meaning in meanings:
                    self.tests[f"有一个{c['noun']}指“{thing[meaning]}”，它的{a['name']}是下列哪一项？"] = partial(
                        _equals, shown(thing[key])
                    )
            if "to" not in a:
                continue
            there = self.classes[a["to"]]
            ends = {end["name"]: end for end in there["entities"]}
            for far, b in there["attributes"].items():
                for thing in c["entities"]:
                    value = ends[thing[key]][far]
                    is_end = partial(_equals, shown(value))
                    self.tests[b["ask"].replace("{e}", f"{thing['name']}的{a['name']}")] = is_end
                    for meaning in meanings:
                        head = f"有一个{c['noun']}指“{thing[meaning]}”。"
                        self.tests[head + b["ask"].replace("{e}", f"它的{a['name']}")] = is_end
                    rest = b["state"].replace("{e}", "", 1).replace("{v}", shown(value))
                    self.tests[f"下列哪一项{c['noun']}的{a['name']}{rest}？"] = self.things(
                        c, lambda t, key=key, far=far, value=value, ends=ends: ends[t[key]][far] == value
                    )

    def about_claims(self, question: str) -> Test:
        if found := re.fullmatch(r"有人说：“(.+)。”下列哪一项评价最恰当？", question):
            said = found[1]
            if said in self.truths:
                return lambda option, _: option == "这一说法有依据"
            meant = self.corrections(said)
            return lambda option, _: option in {f"这一说法有误，应为{value}" for value in meant}
        if found := re.fullmatch(r"甲说：“(.+)。”乙说：“(.+)。”对这两种说法，下列哪一项评价最恰当？", question):
            one, two = found[1] in self.truths, found[2] in self.truths
            right = {3: "两种说法都有依据", 2: "只有甲的说法有依据", 1: "只有乙的说法有依据", 0: "两种说法都没有依据"}
            return lambda option, _: option == right[2 * one + two]
        if re.fullmatch(r"下列各组.+与.+，哪一组的对应有资料依据？", question):
            return lambda option, _: self.belong(question, option)
        raise AssertionError(f"no question of this sheet reads so: {question}")

    def belong(self, question: str, pair: str) -> bool:
        """Does the value stand beside the entity in the column the question names?"""
        name, said = pair.split("：")
        return any(
            question == f"下列各组{c['noun']}与{a['name']}，哪一组的对应有资料依据？" and shown(thing[key]) == said
            for c in self.classes.values()
            for key, a in c["attributes"].items()
            for thing in c["entities"]
            if thing["name"] == name
        )

    def corrections(self, said: str) -> set[str]:
        """The values that would make a false statement true."""
        found = set()
        for c in self.classes.values():
            for key, a in c["attributes"].items():
                for thing in c["entities"]:
                    head, tail = a["state"].replace("{e}", thing["name"]).split("{v}")
                    if said.startswith(head) and said.endswith(tail):
                        middle = said[len(head) : len(said) - len(tail)]
                        if middle in {shown(t[key]) for t in c["entities"]}:
                            found.add(shown(thing[key]))
        return found


def _equals(value: str, option: str, _: list[str]) -> bool:
    return option == value


@cache
def judge_of(topic: str) -> Judge:
    return Judge(topic)


def draws(topic: str, *, full: bool, seeds: range) -> list[tuple[str, str, Item]]:
    return [
        (kind, difficulty, compose(topic, difficulty, kind, seed, full=full))
        for kind, difficulty in FORMS
        for seed in seeds
    ]


@pytest.mark.parametrize("topic", TOPICS)
def test_exactly_one_option_is_right_and_the_chain_arrives_at_it(topic: str) -> None:
    judge = judge_of(topic)

    for kind, difficulty, item in draws(topic, full=False, seeds=range(40)):
        verdicts = judge.judge(item.question, list(item.options))

        where = f"{kind}/{difficulty}: {item.question} {item.options}"
        assert verdicts.count(True) == 1, where
        assert LETTERS[verdicts.index(True)] == item.answer, where
        assert item.steps[-1].endswith(f"（{item.answer}）"), where


@pytest.mark.parametrize("topic", TOPICS)
def test_a_full_chain_asks_the_same_as_a_short_one_and_says_more(topic: str) -> None:
    short, full = (draws(topic, full=f, seeds=range(6)) for f in (False, True))

    for (_, _, brief), (_, _, whole) in zip(short, full, strict=True):
        assert (whole.question, whole.options, whole.answer) == (brief.question, brief.options, brief.answer)
        assert len(whole.steps) >= 4
        assert "中立" in whole.reflection
        assert whole.steps[-1].endswith(f"因此选{whole.answer}。")
        assert sum(map(len, whole.steps)) > sum(map(len, brief.steps))


@pytest.mark.parametrize("topic", TOPICS)
def test_every_statement_in_the_evidence_is_one_of_the_sheet(topic: str) -> None:
    truths = judge_of(topic).truths

    for kind, difficulty, item in draws(topic, full=True, seeds=range(10)):
        for step in item.steps:
            if step.startswith("列出依据：") and kind != "evaluative":
                assert step.removeprefix("列出依据：").rstrip("。") in truths, f"{kind}/{difficulty}: {step}"


@pytest.mark.parametrize("topic", TOPICS)
def test_a_reply_is_valid_xml_and_reads_back_as_composed(topic: str) -> None:
    for full in (False, True):
        for _, _, item in draws(topic, full=full, seeds=range(3)):
            assert parse(write(item)) == item


def test_the_same_request_has_the_same_reply() -> None:
    assert compose("economy", "basic", "factual", 3, full=True) == compose("economy", "basic", "factual", 3, full=True)


def test_the_answers_letters_are_even() -> None:
    letters = Counter(item.answer for topic in TOPICS for _, _, item in draws(topic, full=False, seeds=range(20)))

    total = sum(letters.values())
    assert all(abs(letters[letter] / total - 0.25) < 0.03 for letter in LETTERS)


@pytest.mark.parametrize(("kind", "difficulty"), FORMS)
def test_a_cell_of_one_topic_holds_many_distinct_questions(kind: str, difficulty: str) -> None:
    for topic in TOPICS:
        drawn = {
            (item.question, frozenset(item.options))
            for seed in range(60)
            for item in [compose(topic, difficulty, kind, seed, full=False)]
        }

        assert len(drawn) >= 20, topic


def test_no_judgement_is_the_likelier_one() -> None:
    found = Counter(
        compose(topic, "intermediate", "evaluative", seed, full=False).options[
            LETTERS.index(compose(topic, "intermediate", "evaluative", seed, full=False).answer)
        ]
        for topic in TOPICS
        for seed in range(60)
    )

    assert set(found) == set(JUDGEMENTS.values())
    assert all(abs(n / found.total() - 0.25) < 0.05 for n in found.values())
