"""sdg_hub: its chat block in async mode, through litellm."""

import pandas
from job import KEY, RETRIES, TIMEOUT, read
from sdg_hub.core.blocks import LLMChatBlock


def main() -> None:
    """Ask for all rows at once."""
    job = read()
    block = LLMChatBlock(
        block_name="peer",
        input_cols="messages",
        output_cols="reply",
        model=f"openai/{job.model}",
        api_base=job.base_url,
        api_key=KEY,
        async_mode=True,
        timeout=TIMEOUT,
        num_retries=RETRIES,
        **job.settings,
    )
    rows = pandas.DataFrame({"messages": [body["messages"] for body in job.bodies]})
    found = block.generate(rows, _flow_max_concurrency=job.concurrency)
    job.write(reply[0]["content"] for reply in found["reply"])


main()
