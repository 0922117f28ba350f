from types import SimpleNamespace

import pytest

from schemas.faults import Fault
from train.fit import config, fit


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"max_seq_length": 5}, "max_seq_length: SFTConfig has no such argument; did you mean 'max_length'"),
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"output_dir": "x"}, "output_dir: the stage sets it itself"),
        ({"eval_strategy": "sometimes"}, "sft.plain.trainer: .*sometimes"),
    ],
)
def test_a_setting_trl_does_not_take_is_named(trainer, words):
    from trl import SFTConfig

    with pytest.raises(Fault, match=words):
        config(SFTConfig, "sft.plain", trainer, output_dir="out")


def test_out_of_memory_the_batch_is_halved_and_the_work_goes_on(tmp_path, capsys):
    import torch

    network = torch.nn.Linear(1, 1, bias=False)
    start = network.weight.item()

    class Trainer:
        def __init__(self, settings):
            self.model = network
            self.args = SimpleNamespace(
                per_device_train_batch_size=settings["per_device_train_batch_size"],
                gradient_accumulation_steps=settings.get("gradient_accumulation_steps", 1),
            )
            self.state = SimpleNamespace(global_step=4)

        def remove_callback(self, callback): ...

        def add_callback(self, callback): ...

        def train(self, resume_from_checkpoint):
            assert network.weight.item() == start  # no checkpoint yet: what was trained is taken back
            with torch.no_grad():
                network.weight.add_(1)
            if self.args.per_device_train_batch_size > 2:
                raise torch.OutOfMemoryError
            return SimpleNamespace(training_loss=0.5)

    _, figures = fit(Trainer, {"per_device_train_batch_size": 8}, "sft@plain", tmp_path, None)

    assert figures["batch"] == [2, 4]
    assert "out of GPU memory with 8 rows" in capsys.readouterr().out
    start = network.weight.item()
    with pytest.raises(Fault, match="out of GPU memory with 3 rows"):
        fit(Trainer, {"per_device_train_batch_size": 3}, "sft@plain", tmp_path, None)
