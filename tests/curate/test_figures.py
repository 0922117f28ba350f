import csv
import io
from pathlib import Path

import pytest
from msgspec.structs import replace
from ruamel.yaml import YAML

from curate.reporting.figures import EDGES, FIGURES, Figure, figures
from tests.curate.qualities import a_bank, a_quality, a_variant

DVC = YAML(typ="safe", pure=True).load(Path("dvc.yaml").read_text("utf-8"))
PLOTS = {name: of for entry in DVC["plots"] for name, of in entry.items()}


def rows_of(figure: Figure) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(figure.csv().decode("utf-8"))))


@pytest.mark.parametrize("name", list(figures(a_quality())))
def test_a_figure_is_a_plot_of_dvcs_under_the_same_title(name):
    figure = figures(a_quality())[name]
    plot = PLOTS[f"plots/report/{name}.csv"]

    assert plot["title"] == figure.title
    assert plot["x"] == ("best" if figure.name.startswith("accuracy_") else figure.shown[0])
    assert plot["x"] in figure.columns
    assert plot["y"] == figure.label
    assert Path(f".dvc/plots/{plot['template']}.json").is_file()
    assert f"plots/report/{name}.csv" in DVC["stages"]["report"]["outs"]


def test_every_file_that_dvc_plots_is_an_out_of_a_stage():
    outs = {out for stage in DVC["stages"].values() for out in stage.get("do", stage).get("outs", ())}
    files = {name for name in PLOTS if name.endswith(".csv")} | {
        name for plot in PLOTS.values() if isinstance(plot["y"], dict) for name in plot["y"]
    }

    assert "plots/progress/grpo.csv" in files
    assert {name for name in files if not {name, name.rpartition("/")[0]} & outs} == set()


def test_dvc_plots_no_other_file_of_this_stage():
    outs = {out for out in DVC["stages"]["report"]["outs"] if out.endswith(".csv")}

    assert outs == {f"plots/report/{name}.csv" for name in figures(a_quality())}
    assert outs == {name for name in PLOTS if name.startswith("plots/report/")}


@pytest.mark.parametrize("make", FIGURES)
def test_a_figure_without_rows_is_a_table_without_rows(make):
    quality = a_quality([], pairs=None, score=None)
    figure = make(quality)

    assert figure.csv().startswith(f"{figure.label},{figure.columns[0]}".encode())
    assert figure.bars().labels == tuple(figure.rows)


def test_shares_are_drawn_in_percent_and_kept_as_they_are():
    figure = figures(a_quality())["letters"]

    assert figure.bars().series["bank"] == (25.0, 25.0, 25.0, 25.0)
    assert figure.bars().unit == "%"
    assert [row["bank"] for row in rows_of(figure)] == ["0.25"] * 4


def test_a_number_that_is_not_known_is_no_zero():
    quality = a_quality()
    variants = {"plain": a_variant(), "other": a_variant(by_topic={})}
    figure = figures(replace(quality, score=replace(quality.score, variants=variants)))["accuracy_topic"]

    assert rows_of(figure)[0] == {"topic": "economy", "best": "0.9", "plain": "0.9", "other": "NaN"}
    assert figure.bars().series["other"] == (None, None)


def test_lengths_fall_into_bins_that_are_the_same_in_every_version():
    short, long = (figures(a_quality(a_bank(4, question="字" * size)))["questions"] for size in (4, EDGES[-1]))

    assert short.rows == {"0–4": (1.0,)}
    assert list(long.rows)[:2] == ["0–4", "5–9"]
    assert list(long.rows.items())[-1] == (f"{EDGES[-1]}–", (1.0,))
