"""litellm's acompletion, with its own retries."""

import asyncio
import sys

import litellm
import openai
from job import KEY, RETRIES, TIMEOUT, read

litellm.suppress_debug_info = True


async def main() -> None:
    """Ask with as many workers as calls may be in flight."""
    job = read()
    todo = iter(job.bodies)
    replies: list[str | None] = []

    async def work() -> None:
        for body in todo:
            known = {**body, "model": f"openai/{body['model']}", "api_base": job.base_url, "api_key": KEY}
            try:
                response = await litellm.acompletion(**known, num_retries=RETRIES, timeout=TIMEOUT)
                replies.append(response.choices[0].message.content)
            except openai.OpenAIError as error:  # litellm's errors are subclasses of it
                print(repr(error), file=sys.stderr)

    await asyncio.gather(*(work() for _ in range(job.concurrency)))
    job.write(replies)


asyncio.run(main())
