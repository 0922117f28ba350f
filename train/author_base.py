"""Make the author's tiny base model from scratch, as `base` makes the solver's: it knows the tokens of its own topics.

records and chats (JSONL) → a model folder, metrics. A real author starts from a model of the Hub (`author_sft.model`).
"""

from pathlib import Path

import click

from train import base


@click.command(help=__doc__.partition("\n")[0])
@click.argument("records", type=click.Path(path_type=Path))
@click.argument("examples", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(records: Path, examples: tuple[Path, ...], out: Path, metrics: Path) -> None:
    """Train the tokenizer on the options of RECORDS and the chats of EXAMPLES, write the model to OUT."""
    base.make("author_base", records, examples, out, metrics)


if __name__ == "__main__":
    main()
