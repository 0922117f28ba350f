"""Parse, repair, check and convert replies in one go: RESPONSES (a folder) → OUT, a chat with reasoning a line.

What `validate` and `convert` do for one of the seven data sets, without the files between them; run by curation.py in a
folder with a params.yaml.
"""

import sys
from pathlib import Path

import msgspec

from curate.convert import ConvertParams, PromptsParams, example
from curate.shards import chunks
from curate.validate import ValidateParams, judge
from schemas.chain import render
from schemas.chat import asking
from schemas.params import load
from schemas.record import Record, Response

if __name__ == "__main__":
    responses, out = map(Path, sys.argv[1:])
    checks, parts = load("validate", ValidateParams), load("convert", ConvertParams).parts
    ask = asking(load("prompts", PromptsParams).reasoning)
    encode = msgspec.json.Encoder().encode_lines
    with open(out, "wb") as file:
        for path in sorted(responses.iterdir()):
            for chunk in chunks(path):
                verdicts = (judge(response, checks) for response in chunk.quickly(Response))
                records = [verdict for verdict in verdicts if isinstance(verdict, Record)]
                file.write(encode([example(record, ask, render(record, parts)) for record in records]))
