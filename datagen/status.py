"""Count what the store holds of each topic: all rounds, models and prompts together, also while a run fills it."""

import click

from datagen.store import Store, place


@click.command()
def main() -> None:
    """Print, for each topic in the store: requests, replies good and bad, attempts, tokens."""
    store = Store(place())
    counts = store.counts()
    store.close()
    click.echo(str(store.path))
    names = ("requests", "valid", "bad", "attempts", "refused", "failed", "tokens")
    click.echo(f"{'topic':<24}" + "".join(f"{name:>10}" for name in names))
    for count in counts:
        click.echo(f"{count.topic:<24}" + "".join(f"{getattr(count, name):>10}" for name in names))
