"""Print the table that compares the trained variants, from the metrics of `score`."""

from pathlib import Path
from typing import Any

import click
import msgspec

from schemas.faults import Fault


def table(figures: dict[str, Any]) -> str:
    """Return the variants as lines of text, then every two of them compared."""
    wide = max([len("variant"), *map(len, figures["variants"])])
    lines = [f"{'variant':<{wide}}  {'accuracy':>8}  {'95 % interval':>16}  {'public':>7}  {'private':>7}  neutrality"]
    for name, one in figures["variants"].items():
        low, high = one["wilson95"]
        parts = [one["by_part"].get(part, {}).get("accuracy") for part in ("public", "private")]
        shown = [f"{part:>7.3f}" if part is not None else f"{'-':>7}" for part in parts]
        neutral = f"{one['neutrality']:>10.3f}" if one["neutrality"] is not None else f"{'-':>10}"
        interval = f"[{low:.3f}, {high:.3f}]"
        lines.append(f"{name:<{wide}}  {one['accuracy']:>8.3f}  {interval:>16}  {shown[0]}  {shown[1]}  {neutral}")
    for pair in figures["pairs"]:
        low, high = pair["interval95"]
        lines.append(
            f"{pair['to']} against {pair['from']}: {pair['difference']:+.3f} [{low:+.3f}, {high:+.3f}], "
            f"McNemar p = {pair['mcnemar_p']:.3g}"
        )
    return "\n".join(lines)


@click.command(help=__doc__)
@click.argument("score", type=click.Path(path_type=Path), default=Path("metrics/score.json"))
def main(score: Path) -> None:
    """Print SCORE as a table."""
    try:
        figures = msgspec.json.decode(score.read_bytes())
    except OSError as error:
        raise Fault(f"{score}: {error.strerror}; the stage `score` writes it, run `dvc repro`") from None
    except msgspec.DecodeError as error:
        raise Fault(f"{score}: {error}") from None
    click.echo(table(figures))


if __name__ == "__main__":
    main()
