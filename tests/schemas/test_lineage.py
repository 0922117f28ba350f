import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.lineage import lineage

ROOT = Path(__file__).parents[2]
SAY = f"{sys.executable} -c 'from schemas.lineage import lineage; print(*lineage())'"


@pytest.mark.parametrize("command", [SAY, f"{SAY}; true"], ids=["a shell that may give way", "a shell that stays"])
def test_who_started_a_run_is_known_behind_its_shell(command):
    process = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)

    assert int(process.stdout.split()[-1]) == os.getpid()


def test_who_started_this_process_stays_the_same():
    assert lineage() == lineage()
    assert lineage()[0] == os.getppid()


def test_who_started_another_process_is_known_too():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    found = lineage(child.pid)
    child.communicate(b"\n")

    assert found[0] == os.getpid()
