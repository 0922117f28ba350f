"""The command `datagen`: the stage and the commands beside it."""

from schemas.cli import Commands

main = Commands(
    "Ask a teacher for questions. `generate` is the DVC stage; the other commands look, prepare and repair.",
    {
        "generate": ("datagen.generate", "ask for the questions of one topic and write its responses (the DVC stage)"),
        "fetch": ("datagen.fetch", "ask for all topics at once, so that `dvc repro` has only to write them"),
        "plan": ("datagen.plan", "say what a run would ask for, and what the store already holds"),
        "status": ("datagen.status", "count what the store holds, also while a run fills it"),
        "regen": ("datagen.regen", "ask anew for one topic, then rebuild what depends on it"),
        "show": ("datagen.show", "show the request behind a row, every attempt and every reply"),
        "teacher": ("datagen.teacher.serve", "serve the embedded teacher on a port, with faults on purpose"),
    },
)

if __name__ == "__main__":
    main()
