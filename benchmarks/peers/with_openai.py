"""The openai SDK, which retries by itself; a fifth argument `aiohttp` chooses that transport over its default."""

import asyncio
import sys
from typing import Any

import openai
from job import KEY, RETRIES, TIMEOUT, read


async def main() -> None:
    """Ask with as many workers as calls may be in flight."""
    job = read()
    todo = iter(job.bodies)
    replies: list[str | None] = []
    transport = openai.DefaultAioHttpClient() if sys.argv[5:] == ["aiohttp"] else openai.DefaultAsyncHttpxClient()

    async def work() -> None:
        body: dict[str, Any]
        for body in todo:
            try:
                replies.append((await client.chat.completions.create(**body)).choices[0].message.content)
            except openai.APIError as error:
                print(repr(error), file=sys.stderr)

    async with openai.AsyncOpenAI(
        base_url=job.base_url, api_key=KEY, max_retries=RETRIES, timeout=TIMEOUT, http_client=transport
    ) as client:
        await asyncio.gather(*(work() for _ in range(job.concurrency)))
    job.write(replies)


asyncio.run(main())
