"""What may be spent: calls, tokens, money and hours of all runs on a store together, checked before each call."""

from collections.abc import Callable, Iterable

from datagen.settings import Budget, Price, Terms
from datagen.store import Spent
from schemas.faults import Fault


def cost(spent: Iterable[Spent], prices: dict[str, Price]) -> float | None:
    """Return the money that was spent, None if it was spent on a model without a price."""
    total = 0.0
    for row in spent:
        price = prices.get(row.model)
        if price is None:
            if row.prompt_tokens or row.completion_tokens:
                return None
            continue
        share = price.batch if row.way == "batch" else 1.0
        total += share * price.of(row.prompt_tokens, row.completion_tokens)
    return total


def spending(spent: list[Spent], terms: Terms) -> str:
    """Return a line on what has been spent, and what the budget leaves."""
    calls = sum(row.calls for row in spent)
    tokens = sum(row.prompt_tokens + row.completion_tokens for row in spent)
    money = cost(spent, terms.prices)
    bounds = terms.budget
    said = [
        f"{calls:,} calls" + (f" of {bounds.calls:,}" if bounds.calls is not None else ""),
        f"{tokens:,} tokens" + (f" of {bounds.tokens:,}" if bounds.tokens is not None else ""),
        ("cost unknown" if money is None else f"cost {money:.2f}")
        + (f" of {bounds.money:g}" if bounds.money is not None else ""),
    ]
    return f"spent so far: {', '.join(said)}; a call that is out counts at the most it can come to"


def over(budget: Budget, prices: dict[str, Price]) -> Callable[[list[Spent]], str | None] | None:
    """Return what says of a store's spending which bound of the budget it exceeds; None if there is no bound."""
    if budget.calls is None and budget.tokens is None and budget.money is None:
        return None

    def exceeded(spent: list[Spent]) -> str | None:
        if budget.calls is not None and sum(row.calls for row in spent) > budget.calls:
            return f"budget.calls of {budget.calls:,} is used up"
        if budget.tokens is not None:
            tokens = sum(row.prompt_tokens + row.completion_tokens for row in spent)
            if tokens > budget.tokens:
                return f"budget.tokens of {budget.tokens:,} leaves no room for one more call"
        if budget.money is not None:
            money = cost(spent, prices)
            if money is None or money > budget.money:
                return f"budget.money of {budget.money:g} leaves no room for one more call"
        return None

    return exceeded


def priced(budget: Budget, prices: dict[str, Price], models: Iterable[str]) -> None:
    """Fault if money is bounded and one of the models has no price: what cannot be counted is not zero."""
    if budget.money is None:
        return
    for model in models:
        if model not in prices:
            raise Fault(
                f"params.yaml: prices.{model}: missing, so budget.money cannot be held; "
                "add what a million tokens cost, or set budget.money to null"
            )
