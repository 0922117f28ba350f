import re

import msgspec
import pytest

from datagen import asking
from datagen.budget import cost, over, spending
from datagen.settings import Budget, Limits, Price, Terms
from datagen.store import Spent
from datagen.teacher.faults import Faults
from datagen.teacher.server import create_app

PRICES = {"m": Price(1.0, 2.0, 0.5), "n": Price(10.0, 20.0, 0.25)}
NO_BOUND = Budget(None, None, None, None)


class Bill:
    """The embedded teacher, keeping count of what a provider would bill."""

    def __init__(self, latency: float = 0.0) -> None:
        self.teacher = create_app(Faults(latency=latency))
        self.calls = self.tokens = 0
        self.money = 0.0

    async def __call__(self, scope, receive, send):
        self.calls += 1

        async def noting(message):
            if message["type"] == "http.response.body" and message["body"]:
                usage = msgspec.json.decode(message["body"])["usage"]
                self.tokens += usage["total_tokens"]
                self.money += (usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1e6
            await send(message)

        await self.teacher(scope, receive, noting)


# --- what was spent --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spent", "money"),
    [
        ([], 0.0),
        ([Spent("m", "call", 1, 1_000_000, 0)], 1.0),
        ([Spent("m", "call", 1, 0, 1_000_000)], 2.0),
        ([Spent("m", "batch", 1, 0, 1_000_000)], 1.0),
        ([Spent("m", "call", 1, 500_000, 0), Spent("n", "batch", 1, 0, 100_000)], 1.0),
        ([Spent("unknown", "call", 1, 1, 0)], None),
        ([Spent("unknown", "call", 1, 0, 0)], 0.0),
    ],
)
def test_the_cost_is_by_model_and_way_and_unknown_without_a_price(spent, money):
    assert cost(spent, PRICES) == (pytest.approx(money) if money is not None else None)


@pytest.mark.parametrize(
    ("bounds", "spent", "said"),
    [
        ({"calls": 2}, [Spent("m", "call", 1, 9, 9), Spent("n", "batch", 1, 9, 9)], None),
        ({"calls": 1}, [Spent("m", "call", 1, 9, 9), Spent("n", "batch", 1, 9, 9)], "budget.calls of 1 is used up"),
        ({"tokens": 18}, [Spent("m", "call", 1, 9, 9)], None),
        ({"tokens": 17}, [Spent("m", "call", 1, 9, 9)], "budget.tokens of 17 leaves no room for one more call"),
        ({"money": 0.5}, [Spent("m", "batch", 1, 1_000_000, 0)], None),
        ({"money": 0.5}, [Spent("m", "call", 1, 1_000_000, 0)], "budget.money of 0.5 leaves no room for one more call"),
        ({"money": 0.5}, [Spent("unknown", "call", 1, 1, 0)], "budget.money of 0.5 leaves no room for one more call"),
        ({"money": 0.0}, [Spent("m", "call", 1, 0, 0)], None),
    ],
)
def test_each_bound_is_of_all_models_and_ways_together(bounds, spent, said):
    exceeded = over(msgspec.structs.replace(NO_BOUND, **bounds), PRICES)

    assert exceeded is not None
    assert exceeded(spent) == said


def test_without_a_bound_nothing_is_looked_up():
    assert over(msgspec.structs.replace(NO_BOUND, hours=1.0), PRICES) is None


def test_spending_is_said_with_what_is_left_and_without_a_price_as_unknown():
    limits = Limits(1, 1.0, None, 1, None, None)

    bounded = spending([Spent("m", "call", 1200, 10**6, 0)], Terms(limits, Budget(2000, None, 3.5, None), PRICES))
    unpriced = spending([Spent("unknown", "call", 1, 1, 2)], Terms(limits, NO_BOUND, PRICES))

    assert bounded.startswith("spent so far: 1,200 calls of 2,000, 1,000,000 tokens, cost 1.00 of 3.5; ")
    assert unpriced.startswith("spent so far: 1 calls, 3 tokens, cost unknown; ")


# --- what may be spent -----------------------------------------------------------------------------------------------

MANY = {"samples": 40, "concurrency": 80}  # 320 calls of about 1,270 tokens each, feared to come to some 5,000
BOUNDS = [("calls", 150, "is used up"), ("tokens", 150_000, "leaves no room"), ("money", 0.2, "leaves no room")]


@pytest.mark.parametrize(("name", "bound", "said"), BOUNDS)
def test_a_bound_is_never_exceeded_and_nearly_all_of_it_is_used(project, serve, name, bound, said):
    bill, base_url = serve(Bill(latency=0.01))
    project.params(base_url=base_url, **MANY, **{name: bound})

    result = project.invoke("fetch")

    assert result.exit_code == 1
    assert 0.9 * bound <= getattr(bill, name) <= bound
    valid = project.rows("SELECT count(*) FROM replies")[0][0]
    assert re.fullmatch(
        rf"fetch: budget\.{name} of [\d,.]+ {said}[a-z ]*; raise it in params\.yaml to go on; "
        rf"{valid} of 320 are in the store, {320 - valid} are left; the same command goes on from there\n",
        result.stderr,
    )


@pytest.mark.parametrize(("name", "bound", "said"), BOUNDS)
def test_a_bound_holds_for_all_runs_together_until_it_is_raised(project, serve, name, bound, said):
    bill, base_url = serve(Bill())
    project.params(base_url=base_url, **MANY, **{name: bound})
    project.invoke("fetch")

    again = project.invoke("fetch")
    stage = project.generate()

    assert (again.exit_code, stage.exit_code) == (1, 1)
    assert said in again.stderr
    assert said in stage.stderr
    assert getattr(bill, name) <= bound
    asked = bill.calls

    project.params(base_url=base_url, **MANY, **{name: 10 * bound})
    assert f"320 of 320 valid, 0 rejected, 0 without a reply, {320 - asked} asked now" in project.invoke("fetch").stderr
    assert bill.calls == 320


def test_bounds_hold_though_two_runs_spend_at_once_and_are_killed(project, serve, until):
    bill, base_url = serve(Bill(latency=0.02))
    project.params(base_url=base_url, **MANY, calls=200, tokens=300_000)
    runs = [project.start("fetch"), project.start("fetch")]
    until(lambda: bill.calls >= 40)
    for run in runs:
        run.kill()
        run.communicate()

    result = project.invoke("fetch")

    assert result.exit_code == 1
    (lost,) = project.rows("SELECT count(*) FROM attempts WHERE verdict = 'lost'")[0]
    assert lost > 0
    assert bill.calls <= 200
    assert bill.tokens <= 300_000
    feared = project.rows("SELECT sum(calls), sum(prompt_tokens + completion_tokens) FROM ledger")[0]
    assert bill.calls <= feared[0] <= 200
    assert bill.tokens <= feared[1] <= 300_000


@pytest.mark.parametrize("command", ["fetch", "generate"])
def test_money_is_not_bounded_by_a_price_that_is_not_known(project, serve, command):
    bill, base_url = serve(Bill())
    project.params(base_url=base_url, model="gpt-x", money=1)

    result = project.invoke("fetch") if command == "fetch" else project.generate()

    assert result.exit_code == 1
    assert result.stderr == (
        "params.yaml: prices.gpt-x: missing, so budget.money cannot be held; "
        "add what a million tokens cost, or set budget.money to null\n"
    )
    assert bill.calls == 0


def test_nor_where_the_store_was_filled_by_a_model_without_a_price(project, serve):
    bill, base_url = serve(Bill())
    project.params(base_url=base_url, model="gpt-x")
    project.generate()
    project.params(base_url=base_url, money=1)

    result = project.generate()

    assert result.stderr.startswith("params.yaml: prices.gpt-x: missing")
    assert bill.calls == 12


def test_hours_of_running_are_bounded_for_all_runs_together(project, serve):
    bill, base_url = serve(Bill(latency=0.02))
    project.monkeypatch.setattr(asking, "BEAT", 0.02)
    project.params(base_url=base_url, samples=500, concurrency=1, hours=0.3 / 3600)

    first = project.generate()
    asked = bill.calls
    second = project.generate()

    assert first.exit_code == second.exit_code == 1
    assert 1 < asked <= 0.5 / 0.02
    assert re.match(
        r"generate economy: budget\.hours of 8\S+ is used up; raise it in params\.yaml to go on; \d", first.stderr
    )
    assert bill.calls <= asked + 1
    project.params(base_url=base_url, samples=5, concurrency=4, hours=1)
    assert project.generate().exit_code == 0


def test_a_reply_that_does_not_say_what_it_used_counts_at_the_most_it_can_have_used(project, serve):
    teacher = create_app()

    async def silent(scope, receive, send):
        async def without(message):
            if message["type"] == "http.response.body":
                completion = msgspec.json.decode(message["body"])
                del completion["usage"]
                message = message | {"body": msgspec.json.encode(completion)}
            elif message["type"] == "http.response.start":
                message = message | {"headers": [(b"content-type", b"application/json")]}
            await send(message)

        await teacher(scope, receive, without)

    project.params(base_url=serve(silent)[1], samples=10, tokens=50_000)

    result = project.generate()

    assert "budget.tokens of 50,000 leaves no room for one more call" in result.stderr
    assert 5 <= teacher.calls.total() <= 25
