"""aiohttp as it is, with orjson and uvloop where they are installed: the least that asking costs in Python."""

import asyncio
import json
from random import random

import aiohttp
from job import KEY, RETRIES, TIMEOUT, read

try:
    from orjson import dumps
    from uvloop import run
except ImportError:
    from asyncio import run

    def dumps(value: object) -> bytes:
        """Return JSON, as orjson does."""
        return json.dumps(value).encode()


async def ask(session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> str | None:
    """Return the text of a reply; None after so many tries. A refusal costs a try and waits as long as it says."""
    for attempt in range(RETRIES):
        wait = min(2.0**attempt, 60.0)
        try:
            async with session.post(url, data=dumps(body)) as response:
                if response.status == 200:
                    return str((await response.json())["choices"][0]["message"]["content"])
                wait = float(response.headers.get("retry-after", wait))
        except (aiohttp.ClientError, TimeoutError):
            pass
        await asyncio.sleep(wait * (1 + 0.25 * random()))
    return None


async def main() -> None:
    """Ask with as many workers as calls may be in flight."""
    job = read()
    todo = iter(job.bodies)
    replies: list[str | None] = []
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    connector = aiohttp.TCPConnector(limit=job.concurrency)

    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:

        async def work() -> None:
            for body in todo:
                replies.append(await ask(session, f"{job.base_url}/chat/completions", body))

        await asyncio.gather(*(work() for _ in range(job.concurrency)))
    job.write(replies)


run(main())
