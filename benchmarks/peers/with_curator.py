"""bespokelabs-curator through its OpenAI backend, its rate limits out of the way, failed rows left out at the end."""

import os
from importlib.util import find_spec
from pathlib import Path

from job import AMPLE, KEY, RETRIES, TIMEOUT, read

os.environ |= {
    "CURATOR_CACHE_DIR": str(Path.cwd()),
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "TELEMETRY_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "OPENAI_API_KEY": KEY,
}
litellm = find_spec("litellm")
if litellm and litellm.origin:  # it brings the table that tiktoken would download
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.origin).with_name("litellm_core_utils") / "tokenizers")

from bespokelabs import curator  # noqa: E402  it reads the environment when imported


class Writer(curator.LLM):
    """Sends a row's messages, keeps the text."""

    def prompt(self, input: dict) -> list[dict]:
        """Return the messages."""
        return input["messages"]

    def parse(self, input: dict, response: str) -> list[dict]:
        """Return one row."""
        return [{"text": response}]


def main() -> None:
    """Ask for all rows at once."""
    job = read()
    writer = Writer(
        model_name=job.model,
        backend="openai",
        generation_params=job.settings,
        backend_params={
            "base_url": job.base_url,
            "max_requests_per_minute": AMPLE,
            "max_tokens_per_minute": AMPLE,
            "max_concurrent_requests": job.concurrency,
            "max_retries": RETRIES,
            "request_timeout": TIMEOUT,
            "require_all_responses": False,
        },
    )
    found = writer([{"messages": body["messages"]} for body in job.bodies])
    job.write(found.dataset["text"])


main()
