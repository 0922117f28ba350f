import pytest

from tests.train.author.written import an_item
from train.author.structure import Structure, structure


@pytest.mark.parametrize(
    ("why", "steps", "found"),
    [
        ("each needs the one before it", ("3x=20-5=15", "x=15/3=5"), Structure(2, 2, 3)),
        ("clauses of a step count as steps do", ("3x=20-5=15，x=15/3=5。",), Structure(2, 2, 3)),
        ("what is said twice is said once", ("3x=20-5=15", "3x=20-5=15", "x=15/3=5"), Structure(2, 2, 3)),
        ("what leads nowhere is no step", ("3x=20-5=15", "x=15/3=5", "5+1=6", "6+1=7", "7+1=8"), Structure(2, 5, 3)),
        ("what goes round leads nowhere", ("3x=20-5=15", "x=15/3=5", "5+1=6", "6-1=5"), Structure(2, 4, 3)),
        ("findings that need no other are one step", ("20-5=15", "20/5=4", "3+5=8"), Structure(1, 3, 3)),
        ("a long sum of ones is a short one", ("+".join("1" * 40) + "=40",), Structure(1, 4, 0)),
        ("words are nothing to do", ("显然成立。", "因此选B。"), Structure(0, 0, 0)),
        ("numbers by themselves are nothing", ("20和5和3", "15"), Structure(0, 0, 0)),
    ],
)
def test_what_there_is_to_do_is_what_hangs_together(why, steps, found):
    assert structure(an_item(steps=steps)) == found, why


def test_a_level_is_between_nothing_and_all():
    assert Structure(0, 0, 0).level() == 0
    assert Structure(9, 90, 9).level() == 1
