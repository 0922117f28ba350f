"""The command `datagen`: the stages and the commands beside them."""

from schemas.cli import Commands

main = Commands(
    "Ask a teacher for questions, and about them: the DVC stages, and commands that look, prepare and repair.",
    {
        "generate": ("datagen.generate", "ask for the questions of one topic and write its responses"),
        "verify": ("datagen.verify", "have questions answered without their answers"),
        "judge": ("datagen.judge", "have records marked from 1 to 5 in five respects, with feedback"),
        "improve": ("datagen.improve", "have the records that were marked low rewritten"),
        "vary": ("datagen.vary", "have variations of records written"),
        "contrast": ("datagen.contrast", "have flawed chains written to the same questions"),
        "translate": ("datagen.translate", "put records into another language or script"),
        "fetch": ("datagen.fetch", "ask for all topics at once, so that `dvc repro` has only to write them"),
        "batch": ("datagen.batch", "ask through the Batch API: half the price, an answer within a day"),
        "plan": ("datagen.plan", "say what a run would ask for, and what the store already holds"),
        "status": ("datagen.status", "count what the store holds, also while a run fills it"),
        "regen": ("datagen.regen", "ask anew for one topic, then rebuild what depends on it"),
        "again": ("datagen.again", "ask again for what curation dropped, by the work list of `curate worklist`"),
        "show": ("datagen.show", "show the request behind a row, every attempt and every reply"),
        "teacher": ("datagen.teacher.serve", "serve the embedded teacher on a port, with faults on purpose"),
    },
)

if __name__ == "__main__":
    main()
