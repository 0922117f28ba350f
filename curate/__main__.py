"""The command `curate`: every stage, and the commands beside the stages."""

from schemas.cli import Commands

main = Commands(
    "Keep what is good of a question bank.",
    {
        "validate": ("curate.validate", "Parse, mend and check the replies of the configured topics."),
        "dedup": ("curate.dedup", "Drop questions that are asked twice, exactly or nearly."),
        "decontaminate": ("curate.decontaminate", "Drop questions of known test files."),
        "gate": ("curate.gate", "Drop what verify and judge did not think good enough."),
        "balance": ("curate.balance", "Shuffle the options so that every answer letter is equally frequent."),
        "split": ("curate.split", "Part the bank into train, rollout, validation and test, twins on one side."),
        "convert": ("curate.convert", "Write the bank in the forms that trainers, competitions and people read."),
        "pairs": ("curate.pairs", "Make preference pairs of five types, each with its reason."),
        "audit": (
            "curate.audit",
            "Compare two versions of the bank, record by record: what changed, why, to what effect.",
        ),
        "report": ("curate.report", "Write the quality of the bank as one page, and the figures behind it."),
        "review": ("curate.review", "Spot-check the bank in a browser: accept, reject or edit, by keyboard."),
        "explain": ("curate.explain", "Tell a row's life: request, attempts, repairs, checks, twins, where it ended."),
        "worklist": ("curate.worklist", "List the replies that were dropped, for `datagen again` to ask once more."),
        "import": ("curate.import_", "Bring your own questions into the pipeline: TSV, CSV, JSONL or Parquet."),
    },
)

if __name__ == "__main__":
    main(prog_name="curate")
