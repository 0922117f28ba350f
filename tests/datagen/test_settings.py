import pytest

from datagen.settings import Price, teacher, terms
from schemas.faults import Fault


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"base_url": "https://user:secret@host/v1"}, "teachers.*.base_url"),
        ({"base_url": "embeded"}, "teachers.*.base_url"),
        ({"base_url": "ftp://host/v1"}, "teachers.*.base_url"),
        ({"max_tokens": 0}, "teachers.*.max_tokens"),
        ({"extra": "null"}, "teachers.*.extra"),
        ({"extra": "{seed: 1}"}, "teachers.*: `extra` may not hold 'seed'"),
        ({"extra": "{stream: true}"}, "teachers.*: `extra` may not hold 'stream'"),
        ({"concurrency": 0}, "limits.concurrency"),
        ({"timeout": 0}, "limits.timeout"),
        ({"hung": 1.5}, "limits.hung"),
        ({"attempts": 0}, "limits.attempts"),
        ({"rpm": 0}, "limits.rpm"),
        ({"tpm": 0.5}, "limits.tpm"),
        ({"calls": 0}, "budget.calls"),
        ({"tokens": -1}, "budget.tokens"),
        ({"money": -0.01}, "budget.money"),
        ({"hours": 0}, "budget.hours"),
        ({"prices": "{m: {input: -1.0, output: 0.0, batch: 1.0}}"}, "prices.*.input"),
        ({"prices": "{m: {input: 1.0, output: 0.0, batch: 1.5}}"}, "prices.*.batch"),
        ({"prices": "{m: {input: 1.0}}"}, "prices.*"),
    ],
)
def test_a_wrong_setting_is_a_fault_that_names_it(project, changed, message):
    project.params(**changed)

    with pytest.raises(Fault) as fault:
        teacher("main")
        terms()

    assert message in fault.value.message


def test_a_key_put_into_params_is_refused_and_not_repeated(project):
    text = (project.folder / "params.yaml").read_text()
    (project.folder / "params.yaml").write_text(text.replace("DATAGEN_TEST_KEY", "sk-secret-1234"))

    with pytest.raises(Fault, match=r"teachers\.\*\.api_key_env") as fault:
        teacher("main")

    assert "secret" not in fault.value.message


def test_an_unknown_teacher_is_answered_by_the_nearest(project):
    with pytest.raises(Fault, match=r"params\.yaml: teachers\.man: no such teacher; did you mean main\?"):
        teacher("man")


def test_all_bounds_may_be_absent(project):
    found = terms()

    assert (found.limits.hung, found.limits.rpm, found.limits.tpm) == (None, None, None)
    assert (found.budget.calls, found.budget.tokens, found.budget.money, found.budget.hours) == (None,) * 4


def test_prices_are_by_the_million():
    price = Price(input=3.0, output=15.0, batch=0.5)

    assert price.of(1_000_000, 0) == 3.0
    assert price.of(2_000, 1_000) == pytest.approx(0.021)
