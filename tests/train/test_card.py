import json

import pytest
from huggingface_hub import ModelCard

from train import card


def test_the_card_is_one_that_the_hub_reads(trained):
    found = ModelCard.load(trained / "models/reasoning/README.md")

    assert found.data.to_dict() == {
        "library_name": "transformers",
        "license": "unknown",
        "pipeline_tag": "text-generation",
        "tags": ["trl", "sft"],
    }
    assert "| rows | 48 |" in found.text
    assert "| validation.n | 8 |" in found.text
    assert "seconds" not in found.text


@pytest.mark.parametrize(
    ("readme", "base"),
    [
        ("---\nbase_model: Qwen/Qwen2.5-7B-Instruct\n---\n# sft\n", "Qwen/Qwen2.5-7B-Instruct"),
        ("---\nlicense: unknown\n---\n# sft\n", None),
        (None, None),
    ],
)
def test_the_base_of_a_model_trained_here_is_that_of_what_it_came_from(tmp_path, readme, base):
    if readme:
        (tmp_path / "README.md").write_text(readme)

    assert card.base(str(tmp_path)) == base


def test_a_model_of_the_hub_is_its_own_base():
    text = card.card("grpo", "Qwen/Qwen2.5-7B-Instruct", "peft", {"prompts": 8, "seconds": 1.0})

    found = ModelCard(text)
    assert found.data.base_model == "Qwen/Qwen2.5-7B-Instruct"
    assert found.data.library_name == "peft"
    assert found.text.endswith("|---|---|\n| prompts | 8 |\n")


def test_a_run_leaves_every_argument_of_trl_and_the_versions_it_ran_with(trained):
    import torch
    import trl

    run = json.loads((trained / "models/reasoning/run.json").read_text())
    args = json.loads((trained / "models/reasoning/training_args.json").read_text())

    assert run["environment"]["torch"] == torch.__version__
    assert run["environment"]["trl"] == trl.__version__
    assert run["params"]["trainer"]["learning_rate"] == args["learning_rate"] == 2e-3
    assert args["optim"].startswith("adamw")
    assert "output_dir" not in args
