"""The command `train`: every stage of the solver and of the author, and the commands beside them."""

from schemas.cli import Commands

main = Commands(
    "Train the solver, let it answer, hand the answers in and score them; train the author of questions.",
    {
        "base": ("train.base", "make the tiny base model from scratch"),
        "sft": ("train.sft", "fine-tune on chats, with or without reasoning"),
        "dpo": ("train.dpo", "fine-tune on preference pairs"),
        "attempt": ("train.attempt", "answer the questions for reinforcement: its errors become pairs"),
        "grpo": ("train.grpo", "reinforce by named, weighted rewards"),
        "predict": ("train.predict", "answer the test questions"),
        "submission": ("train.submission", "check the answers and write submission.csv"),
        "score": ("train.score", "score every variant against the key"),
        "author_base": ("train.author_base", "make the author's tiny base model from scratch"),
        "author_sft": ("train.author_sft", "teach the author to write questions"),
        "author_grpo": ("train.author_grpo", "reinforce the author by the qualities of what it writes"),
        "author_distill": (
            "train.author_distill",
            "let a teacher judge and improve what the author writes",
        ),
        "author_report": ("train.author_report", "write what became of the author as one page"),
        "progress": ("train.progress", "write the curves and samples of the trainings as one page"),
        "check": ("train.check", "build every training's config and look at its data and models, before any is loaded"),
        "author_rewards": ("train.author_rewards", "print what each quality gives for an author's replies"),
        "rewards": ("train.rewards", "print what each reward gives for completions of your own"),
        "export": ("train.export", "merge an adapter, quantize, convert to GGUF, push to the Hub"),
        "author_serve": ("train.author_serve", "serve a trained author for datagen to ask"),
        "compare": ("train.compare", "print the table of all variants"),
    },
)

if __name__ == "__main__":
    main(prog_name="train")
