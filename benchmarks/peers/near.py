"""Near-duplicates as other tools find them, for benchmarks/curation.py.

PYTHON near.py TOOL TEXTS THRESHOLD REMOVED FOLDER: TEXTS holds {"id", "text"} a line, REMOVED gets the id of each row
that the tool drops, a line each. All compare sets of 5 characters by 128 permutations, in one process; a tool whose
grams are of words is handed characters as words.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

NGRAM = 5
PERMUTATIONS = 128

Texts = list[str]


def grams(text: str) -> set[str]:
    """Return the grams of a text."""
    return {text[at : at + NGRAM] for at in range(max(1, len(text) - NGRAM + 1))}


def datasketch(texts: Texts, threshold: float, folder: Path) -> Iterable[int]:
    """Ask the index about each row, and put it in if nothing is like it."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
    for row, sketch in enumerate(
        MinHash.generator(([gram.encode() for gram in grams(text)] for text in texts), num_perm=PERMUTATIONS)
    ):
        if index.query(sketch):
            yield row
        else:
            index.insert(str(row), sketch)


def rensa(texts: Texts, threshold: float, folder: Path) -> Iterable[int]:
    """Do the same; what the index proposes is compared by its sketch."""
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, num_bands=32)
    kept: dict[int, RMinHash] = {}
    for row, text in enumerate(texts):
        sketch = RMinHash(num_perm=PERMUTATIONS, seed=7)
        sketch.update(list(grams(text)))
        if any(index.is_similar(sketch, kept[other]) for other in index.query(sketch)):
            yield row
        else:
            kept[row] = sketch
            index.insert(row, sketch)


def distilabel(texts: Texts, threshold: float, folder: Path) -> Iterable[int]:
    """Run its step, without a pipeline and its processes around it."""
    from distilabel.steps import MinHashDedup

    step = MinHashDedup(tokenizer="ngrams", n=NGRAM, threshold=threshold, num_perm=PERMUTATIONS)
    step.load()
    for found in step.process([{"text": text, "row": row} for row, text in enumerate(texts)]):
        yield from (line["row"] for line in found if not line["keep_row_after_minhash_filtering"])


def data_juicer(texts: Texts, threshold: float, folder: Path) -> Iterable[int]:
    """Run its operator."""
    from data_juicer.core.data import NestedDataset
    from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator

    operator = DocumentMinhashDeduplicator(
        tokenization="character",
        window_size=NGRAM,
        num_permutations=PERMUTATIONS,
        jaccard_threshold=threshold,
        num_proc=1,
    )
    rows = NestedDataset.from_list([{"text": text, "row": row} for row, text in enumerate(texts)])
    found, _ = operator.process(rows.map(operator.compute_hash, num_proc=1))
    return sorted(set(range(len(texts))) - set(found["row"]))


def datatrove(texts: Texts, threshold: float, folder: Path) -> Iterable[int]:
    """Run its four steps, each a pipeline of one task."""
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Characters(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return list(text)

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    rows = [Document(text=text, id=str(row)) for row, text in enumerate(texts)]
    config = MinhashConfig(n_grams=NGRAM, num_buckets=25, hashes_per_bucket=5)  # half of the pairs at 0.53 are found
    steps: list[list[object]] = [
        [rows, MinhashDedupSignature(str(folder / "signatures"), config, language=Characters())],
        [MinhashDedupBuckets(str(folder / "signatures"), str(folder / "buckets"), config=config)],
        [MinhashDedupCluster(str(folder / "buckets"), str(folder / "twins"), config=config)],
    ]
    for at, step in enumerate(steps):
        tasks = config.num_buckets if at == 1 else 1
        LocalPipelineExecutor(step, tasks=tasks, workers=1, logging_dir=str(folder / f"logs{at}")).run()
    found = set(range(len(texts)))

    def count(data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterable[Document]:
        for document in data:
            found.discard(int(document.id))
            yield document

    last: list[object] = [rows, MinhashDedupFilter(str(folder / "twins")), count]
    LocalPipelineExecutor(last, tasks=1, workers=1, logging_dir=str(folder / "logs3")).run()
    return sorted(found)


def text_dedup(texts: Texts, threshold: float, folder: Path) -> Iterable[int]:
    """Run its command; its words are what stands between spaces and punctuation."""
    given, out = folder / "given.jsonl", folder / "out"
    with open(given, "w", encoding="utf-8") as file:
        for row, text in enumerate(texts):
            spaced = " ".join(character for character in text if character.isalnum())
            file.write(json.dumps({"row": row, "text": spaced}, ensure_ascii=False) + "\n")
    options = {
        "path": "json",
        "data_files": given,
        "split": "train",
        "cache_dir": folder / "cache",
        "output": out,
        "column": "text",
        "ngram": NGRAM,
        "num_perm": PERMUTATIONS,
        "threshold": threshold,
        "num_proc": 1,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    subprocess.run([sys.executable, "-m", "text_dedup.minhash", *words], check=True)
    from datasets import load_from_disk

    return sorted(set(range(len(texts))) - set(load_from_disk(str(out))["row"]))


TOOLS: dict[str, Callable[[Texts, float, Path], Iterable[int]]] = {
    "datasketch": datasketch,
    "rensa": rensa,
    "distilabel": distilabel,
    "data-juicer": data_juicer,
    "datatrove": datatrove,
    "text-dedup": text_dedup,
}


def main() -> None:
    """Do one job."""
    tool, given, threshold, removed, folder = sys.argv[1:]
    with open(given, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    found = TOOLS[tool]([row["text"] for row in rows], float(threshold), Path(folder))
    ids = [rows[row]["id"] for row in found]
    Path(removed).write_text("".join(f"{id_}\n" for id_ in ids), encoding="utf-8")


if __name__ == "__main__":
    main()
