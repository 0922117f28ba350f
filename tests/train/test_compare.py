import json

import pytest
from click.testing import CliRunner

from train.compare import cells, cut, lasting, main, markdown, table, variants, wide

RIGHT = {"n": 10, "wilson95": [0.3, 0.8], "answers": {}, "by_topic": {}}
SCORE = {
    "n": 10,
    "variants": {
        "reasoning": {**RIGHT, "accuracy": 0.6, "neutrality": 0.5, "by_part": {"private": {"accuracy": 0.55}}},
        "plain": {**RIGHT, "accuracy": 0.25, "neutrality": None, "by_part": {}},
    },
    "pairs": [
        {
            "from": "plain",
            "to": "reasoning",
            "difference": 0.35,
            "interval95": [0.1, 0.6],
            "mcnemar_p": 0.01,
            "holm_p": 0.02,
        }
    ],
}
TRAINED = {"rows": 40520, "steps": 500, "batch": [32, 2], "seconds": 7384.0, "steps_per_second": 0.5}


def write(root, name, value):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def a_project(root):
    """One variant trained on a GPU, asked and scored; one scored alone; one trained and no more."""
    write(root, "metrics/score.json", SCORE)
    write(root, "metrics/sft/reasoning.json", {**TRAINED, "memory": {"peak_gib": 41.85, "reserved_gib": 50.0}})
    write(root, "metrics/predict/reasoning.json", {"seconds": 131.2, "unanswered": 3, "memory": None})
    write(root, "models/reasoning/run.json", {"stage": "sft@reasoning", "start": "Qwen/Qwen2.5-7B", "params": {}})
    write(root, "models/reasoning/adapter_config.json", {})
    (root / "models/reasoning/adapter_model.safetensors").write_bytes(bytes(3 * 2**20))
    write(root, "models/grpo/run.json", {"stage": "grpo", "start": "models/reasoning", "params": {}})
    write(root, "models/base/config.json", {})
    return root


def shown(root, *options):
    return CliRunner().invoke(main, [str(root), *options])


def test_all_that_is_known_of_each_variant_stands_side_by_side(tmp_path):
    lines = shown(a_project(tmp_path)).output.splitlines()

    rows = {line[:16].strip(): line[16:].split("  ") for line in lines}
    told = {label: [cell.strip() for cell in row if cell.strip()] for label, row in rows.items()}
    assert lines[0].split() == ["reasoning", "plain", "grpo"]
    assert told["stage"] == ["sft@reasoning", "-", "grpo"]
    assert told["trained from"] == ["Qwen/Qwen2.5-7B", "-", "models/reasoning"]
    assert told["steps"] == ["500", "-", "-"]
    assert told["samples"] == ["40,520", "-", "-"]
    assert told["training time"] == ["2 h 03 min", "-", "-"]
    assert told["samples/s"] == ["32.0", "-", "-"]
    assert told["peak memory, GiB"] == ["41.85", "-", "-"]
    assert told["size"] == ["3.0 MiB (adapter)", "-", "-"]
    assert told["predict time"] == ["2 min 11 s", "-", "-"]
    assert told["unanswered"] == ["3", "-", "-"]
    assert told["accuracy"] == ["0.600", "0.250", "-"]
    assert told["95 % interval"] == ["[0.300, 0.800]", "[0.300, 0.800]", "-"]
    assert told["private"] == ["0.550", "-", "-"]
    assert lines[-1] == "reasoning against plain: +0.350 [+0.100, +0.600], McNemar p = 0.01, Holm 0.02"


def test_the_figures_are_there_for_programs_too(tmp_path):
    found = json.loads(shown(a_project(tmp_path), "--json").output)

    assert [one["name"] for one in found] == ["reasoning", "plain", "grpo"]
    assert (found[0]["samples_per_second"], found[0]["bytes"], found[0]["adapter"]) == (32.0, 3 * 2**20, True)


def test_the_table_can_go_into_a_text(tmp_path):
    lines = shown(a_project(tmp_path), "--markdown").output.splitlines()

    assert lines[:3] == [
        "|  | reasoning | plain | grpo |",
        "|---|---:|---:|---:|",
        "| stage | sft@reasoning | - | grpo |",
    ]
    assert markdown([["", "a|b"], ["x", "1"]]).splitlines()[0] == "|  | a\\|b |"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no variant is trained, asked or scored; run `dvc repro` first"),
        ({"metrics/score.json": {"n": 1}}, "metrics/score.json: Object missing required field `variants`; its stage"),
        ({"metrics/predict/plain.json": {}}, "metrics/predict/plain.json: Object missing required field"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, files, words):
    for name, value in files.items():
        write(tmp_path, name, value)

    done = shown(tmp_path)

    assert done.exit_code == 1
    assert words in done.output
    assert len(done.output.splitlines()) == 1


def test_without_a_key_the_table_says_so(tmp_path):
    write(tmp_path, "metrics/score.json", {"variants": {}, "pairs": [], "no_key": "key.csv is not there"})
    write(tmp_path, "metrics/predict/plain.json", {"seconds": 1.0, "unanswered": 0})

    assert shown(tmp_path).output.splitlines()[-1] == "nothing is scored: key.csv is not there"


def test_no_line_is_wider_than_the_terminal_in_chinese_too(tmp_path):
    for n in range(9):
        start = f"/数据/模型/通义千问/指令微调/第{n}版/Qwen2.5-14B-Instruct-1M-very-long-name-of-a-model"
        write(tmp_path, f"models/变体{n}/run.json", {"stage": "sft@plain", "start": start, "params": {}})
    found = variants(tmp_path, None)

    lines = table(cells(found), 120).splitlines()

    assert max(map(wide, lines)) <= 120
    assert all(any(f"变体{n}" in line for line in lines) for n in range(9))
    assert all(sum(f"第{n}版" in line for line in lines) == 1 for n in range(9))


def test_columns_line_up_by_what_a_terminal_shows():
    lines = table([["", "中文", "b"], ["x", "1", "中"]]).splitlines()

    assert lines == ["   中文   b", "x     1  中"]


@pytest.mark.parametrize(("text", "most", "left"), [("abc", 3, "abc"), ("abcd", 3, "…cd"), ("中文字", 4, "…字")])
def test_a_long_name_keeps_its_end(text, most, left):
    assert cut(text, most) == left


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.84, "0.8 s"), (119.9, "119.9 s"), (131.2, "2 min 11 s"), (7384, "2 h 03 min")]
)
def test_a_time_is_told_as_a_person_reads_it(seconds, told):
    assert lasting(seconds) == told
