"""Serve the embedded teacher on a port of this machine: for a demonstration, or to see a client meet faults."""

import click
import msgspec

from datagen.teacher.server import DRAWN, Faults, create_app

SHARE = click.FloatRange(0, 1)


@click.command()
@click.option("--port", default=8000, show_default=True)
@click.option("--refuse", type=SHARE, default=0.0, help="Share of calls refused with 429 and Retry-After.")
@click.option("--error", type=SHARE, default=0.0, help="Share answered 500.")
@click.option("--hang", type=SHARE, default=0.0, help="Share never answered.")
@click.option("--drip", type=SHARE, default=0.0, help="Share answered a byte at a time, too slowly to wait for.")
@click.option("--truncate", type=SHARE, default=0.0, help="Share cut off in the middle.")
@click.option("--html", type=SHARE, default=0.0, help="Share answered by an HTML page.")
@click.option("--empty", type=SHARE, default=0.0, help="Share answered by nothing.")
@click.option("--choiceless", type=SHARE, default=0.0, help="Share answered without choices.")
@click.option("--malformed", type=SHARE, default=0.0, help="Share whose XML is broken.")
@click.option("--stubborn", is_flag=True, help="What is broken stays so when asked again.")
@click.option("--capacity", type=click.IntRange(0), default=0, help="Calls served at once, 429 above; 0: no limit.")
@click.option("--latency", type=click.FloatRange(0), default=0.0, help="Seconds a call takes.")
@click.option("--retry-after", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds a 429 asks for.")
@click.option("--seed", default=0, show_default=True, help="Of the faults: the same seed, the same faults.")
def main(port: int, **faults: float) -> None:
    """Serve the embedded teacher at http://127.0.0.1:PORT/v1 until Ctrl-C."""
    import uvicorn

    if sum(faults[name] for name in DRAWN) > 1:
        raise click.UsageError(f"the shares of {', '.join(DRAWN)} must not exceed 1 together")
    app = create_app(msgspec.convert(faults, Faults, strict=False))
    click.echo(f"teacher: http://127.0.0.1:{port}/v1; any key will do", err=True)
    uvicorn.run(app, host="127.0.0.1", port=port, lifespan="off", log_level="warning", access_log=False)
