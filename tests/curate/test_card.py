import pytest
from huggingface_hub import DatasetCard

from curate import card

FILES = {"train": "train.jsonl", "test": "test.jsonl"}


def test_the_front_matter_is_a_dataset_cards():
    settings = {"sep": "\t", "keep_default_na": False, "features": [{"name": "id", "dtype": "string"}]}

    data = DatasetCard(card.text("题库: 一", "About.", FILES, {}, settings, languages=("zh", "en"), rows=999)).data

    assert data.to_dict() == {
        "pretty_name": "题库: 一",
        "language": ["zh", "en"],
        "task_categories": ["question-answering", "text-generation"],
        "size_categories": ["n<1K"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "train.jsonl"},
                    {"split": "test", "path": "test.jsonl"},
                ],
                **settings,
            }
        ],
    }


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (10**6, "1M<n<10M"),
        (10**7, "n>10M"),
        (10**9, "n>10M"),
    ],
)
def test_a_size_has_its_category(rows, category):
    assert DatasetCard(card.text("t", "a", FILES, {}, rows=rows)).data.size_categories == [category]


def test_a_license_is_left_to_whoever_publishes():
    text = card.text("t", "a", FILES, {})

    assert DatasetCard(text).data.license is None
    assert "## License\n\nNone is named here" in text


def test_numbers_become_lines_and_tables():
    numbers = {
        "Rows": 1234,
        "Share": 0.25,
        "Answer": {"A": 1, "B": 2000},
        "Teacher": {"one": {"rows": 3, "share": "75.0%"}},
        "Topic × difficulty × type": {"economy": {"basic": {"factual": 1}, "advanced": {"evaluative": 2}}},
        "Nothing": {},
    }

    text = card.text("t", "a", FILES, numbers)

    assert "\n- Rows: 1,234\n- Share: 0.25\n" in text
    assert "## Answer\n\n| Answer |  |\n| --- | ---: |\n| A | 1 |\n| B | 2,000 |\n" in text
    assert "| Teacher | rows | share |\n| --- | --- | --- |\n| one | 3 | 75.0% |\n" in text
    assert (
        "| Topic | difficulty | factual | evaluative |\n| --- | --- | ---: | ---: |\n"
        "| economy | basic | 1 | 0 |\n| economy | advanced | 0 | 2 |\n"
    ) in text
    assert "Nothing" not in text


def test_a_name_cannot_break_a_table():
    assert "| a\\|b c &lt;br> | 1 |" in card.table("Teacher", {"a|b\nc <br>": 1})


def test_the_same_set_has_the_same_card():
    assert card.text("t", "a", FILES, {"Rows": 1}) == card.text("t", "a", FILES, {"Rows": 1})
