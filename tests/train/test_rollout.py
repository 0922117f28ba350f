import pytest

from train.rollout import by_length

PAD = 0


def batches(lengths, size, prompts=None):
    """Rows as TRL hands them over: row n holds n everywhere, padded to the longest of all."""
    import torch

    prompts = prompts or [2] * len(lengths)
    long, wide = max(lengths), max(prompts)
    rows = [
        {
            "prompt_ids": torch.tensor([PAD] * (wide - p) + [n] * p),
            "prompt_mask": torch.tensor([0] * (wide - p) + [1] * p),
            "completion_ids": torch.tensor([n] * c + [PAD] * (long - c)),
            "completion_mask": torch.tensor([1] * c + [0] * (long - c)),
            "ref_per_token_logps": torch.full((long,), float(n)),
            "advantages": torch.tensor(float(n)),
        }
        for n, (c, p) in enumerate(zip(lengths, prompts, strict=True), 1)
    ]
    made = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        made.append({name: torch.stack([row[name] for row in part]) for name in rows[0]})
        made[-1] |= {"num_items_in_batch": torch.tensor(sum(lengths)), "old_per_token_logps": None}
    return made


def rows_of(made):
    """(row, its prompt, its completion) of every row, without padding."""
    found = []
    for batch in made:
        for n in range(len(batch["advantages"])):
            prompt = batch["prompt_ids"][n][batch["prompt_mask"][n] == 1].tolist()
            completion = batch["completion_ids"][n][batch["completion_mask"][n] == 1].tolist()
            found.append((int(batch["advantages"][n]), prompt, completion))
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_every_row_stays_itself(size):
    before = batches([5, 1, 7, 2, 6, 3], size, [4, 2, 1, 4, 3, 2])

    after = by_length(before)

    assert sorted(rows_of(after)) == sorted(rows_of(before))
    assert [len(batch["advantages"]) for batch in after] == [len(batch["advantages"]) for batch in before]
    assert all((batch["ref_per_token_logps"] == batch["advantages"][:, None]).all() for batch in after)


def test_rows_of_like_length_come_together_and_are_padded_no_further():
    after = by_length(batches([5, 1, 7, 2], 2, [4, 2, 1, 3]))

    assert [batch["completion_ids"].shape[1] for batch in after] == [2, 7]
    assert [batch["ref_per_token_logps"].shape[1] for batch in after] == [2, 7]
    assert [batch["prompt_ids"].shape[1] for batch in after] == [3, 4]


def test_what_has_no_rows_is_kept():
    after = by_length(batches([5, 1], 1))

    assert [int(batch["num_items_in_batch"]) for batch in after] == [6, 6]
    assert [batch["old_per_token_logps"] for batch in after] == [None, None]


def test_a_batch_of_replies_that_are_masked_out_is_kept():
    after = by_length(batches([0, 0, 3, 4], 2))

    assert [batch["completion_ids"].shape[1] for batch in after] == [1, 4]
