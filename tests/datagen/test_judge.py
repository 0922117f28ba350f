import json

from datagen.asking import Tally
from datagen.judge import metrics
from schemas import rows
from schemas.record import Judged, Judgement
from tests.curate.builders import a_record
from tests.datagen.builders import a_bank, run, scripted, the_figures, the_rows


def a_judgement(mark: int = 4, feedback: str = "好", **marks: int) -> Judgement:
    five = dict.fromkeys(("rigor", "difficulty", "innovation", "clarity", "educational_value"), mark)
    return Judgement(**(five | marks), feedback=feedback)


def test_the_embedded_teacher_marks_every_record_and_says_why(project):
    result = run(project, "judge", a_bank(4))

    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("judge: 4 of 4 judged, mean ")
    found = the_rows(project, Judged)
    assert [row.id for row in found] == [record.id for record in a_bank(4)]
    assert all(row.judgement and row.judgement.feedback and row.fault is None for row in found)


def test_a_record_without_a_judgement_is_a_row_with_its_fault(project, serve):
    records = a_bank(4)
    marks = "".join(f"<{name}>5</{name}>" for name in ("rigor", "difficulty", "innovation", "clarity"))
    good = f"<judgement>{marks}<educational_value>5</educational_value><feedback>好</feedback></judgement>"
    bad = good.replace(">5<", ">7<", 1)
    _, base_url = serve(scripted(lambda first, again: bad if records[2].question in first else good))
    project.params(base_url=base_url)

    result = run(project, "judge", records, min_yield=0.5)

    assert result.stderr == "judge: 3 of 4 judged, mean 5.00, 4 asked now\n"
    row = the_rows(project, Judged)[2]
    assert row.judgement is None
    assert row.fault is not None
    assert row.fault.startswith("wrong_shape: ")
    assert the_figures(project)["faults"] == {"wrong_shape": 1}


def test_the_figures_give_the_mean_of_each_mark_and_the_lowest_place_first():
    records = [a_record(id=str(n), topic=f"topic_{n}") for n in range(3)]
    judgements = (a_judgement(4, rigor=2), a_judgement(2), None)
    found = [
        (record, Judged(id=record.id, judgement=judgement, teacher="m @ x", fault=None))
        for record, judgement in zip(records, judgements, strict=True)
    ]

    figures = metrics(found, Tally())

    assert figures["mean"] == 2.8
    assert figures["marks"] == {"rigor": 2, "difficulty": 3, "innovation": 3, "clarity": 3, "educational_value": 3}
    assert list(figures["by"]["topic"].items()) == [("topic_1", 2.0), ("topic_0", 3.6)]


def test_nothing_judged_has_no_mean():
    assert metrics([], Tally())["mean"] is None


def test_another_stage_has_its_records_judged_by_a_section_of_its_own(project):
    path = project.folder / "params.yaml"
    own = "{teacher: main, rows: 2, reasks: 1, min_yield: 0.9}"
    path.write_text(f"{path.read_text('utf-8')}author_distill: {{judge: {own}}}\n", encoding="utf-8")
    rows.write(project.folder / "records.jsonl", a_bank(4))
    words = (
        "judge",
        "records.jsonl",
        "out.jsonl",
        "out.json",
        "--section",
        "author_distill.judge",
        "--now",
        "now.json",
    )

    first = project.invoke(*words)
    now = json.loads((project.folder / "now.json").read_text("utf-8"))
    project.invoke(*words)

    assert first.exit_code == 0, first.stderr
    assert len(the_rows(project, Judged)) == 2
    assert now == {"asked": 2}
    assert json.loads((project.folder / "now.json").read_text("utf-8")) == {"asked": 0}
