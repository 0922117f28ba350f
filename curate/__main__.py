"""The command `curate`: every stage, and the commands beside the stages."""

from schemas.cli import Commands

main = Commands(
    "Keep what is good of a question bank.",
    {
        "validate": ("curate.validate", "Parse, mend and check the replies of the configured topics."),
        "dedup": ("curate.dedup", "Drop questions that are asked twice, exactly or nearly."),
        "balance": ("curate.balance", "Shuffle the options so that every answer letter is equally frequent."),
        "split": ("curate.split", "Part the bank into train, validation and test, twins on one side."),
        "convert": ("curate.convert", "Write the bank in the forms that trainers, competitions and people read."),
        "pairs": ("curate.pairs", "Make preference pairs: the right chain, and one argued to a wrong option."),
        "explain": ("curate.explain", "Say where a row is, or which stage dropped it, why, and for which other row."),
        "import": ("curate.import_", "Bring your own TSV or JSONL questions into the pipeline."),
    },
)

if __name__ == "__main__":
    main(prog_name="curate")
