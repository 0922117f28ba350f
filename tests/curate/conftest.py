from pathlib import Path

import pytest
from ruamel.yaml import YAML


@pytest.fixture
def a_project(tmp_path: Path) -> Path:
    """A folder with the repository's params.yaml, cut down to one topic."""
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load(Path("params.yaml").read_text(encoding="utf-8"))
    params["topics"] = {"environment": {"name": "环境保护", "samples": 1, "round": 0}}
    with open(tmp_path / "params.yaml", "w", encoding="utf-8") as file:
        yaml.dump(params, file)
    return tmp_path
