from pathlib import Path

import numpy as np

from curate.lines import Lines


def test_lines_are_read_where_they_lie(tmp_path: Path):
    lines = ["甲", "", "bc", "\u2028"]
    (tmp_path / "lines").write_bytes("\n".join(lines).encode())
    found = Lines(tmp_path / "lines", np.array([len(line.encode()) + 1 for line in lines]))

    assert [line.decode() for line in found.read([3, 0, 2])] == ["\u2028", "甲", "bc"]
