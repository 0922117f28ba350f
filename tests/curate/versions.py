"""Projects with a history for tests: git repositories with a dvc.lock and a cache as `dvc repro` leaves them."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

SIDES = ("train", "rollout", "validation", "test", "author")
Content = str | bytes | Mapping[str, bytes]
"""Of a file, or of the files of a folder."""


def git(folder: Path, *words: str) -> str:
    """Run git as nobody in particular, with no settings but the repository's."""
    env = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, *words], cwd=folder, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def jsonl(rows: Iterable[msgspec.Struct]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class Project:
    """A project under git, made commit by commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".dvc").mkdir(parents=True)
        (folder / ".dvc/config").touch()
        (folder / ".gitignore").write_text("/.dvc/cache\n/data/\n/metrics/\n/submissions/\n")
        git(folder, "init", "--quiet")

    def entry(self, md5_: str) -> Path:
        return self.folder / ".dvc/cache/files/md5" / md5_[:2] / md5_[2:]

    def cached(self, data: bytes, suffix: str = "") -> dict[str, Any]:
        name = md5(data) + suffix
        self.entry(name).parent.mkdir(parents=True, exist_ok=True)
        self.entry(name).write_bytes(data)
        return {"hash": "md5", "md5": name, "size": len(data)}

    def out(self, path: str, content: Content) -> dict[str, Any]:
        """An output as dvc.lock holds it, in the cache and in the workspace."""
        if isinstance(content, Mapping):
            listed = [
                {"md5": self.out(f"{path}/{name}", data)["md5"], "relpath": name} for name, data in content.items()
            ]
            return {"path": path, **self.cached(json.dumps(listed).encode(), ".dir"), "nfiles": len(listed)}
        data = content.encode() if isinstance(content, str) else content
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(data)
        return {"path": path, **self.cached(data)}

    def commit(
        self,
        tag: str,
        outs: Mapping[str, Content],
        tracked: Mapping[str, str] | None = None,
        deps: Iterable[str] = (),
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Write and tag a commit: tracked files, and what one stage, `split`, wrote and depends on."""
        for path, text in (tracked or {}).items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text, encoding="utf-8")
        stage: dict[str, Any] = {"cmd": "split"}
        stage["deps"] = [{"path": path, "hash": "md5", "md5": self.hash(path)} for path in deps]
        if params is not None:
            stage["params"] = {"params.yaml": params}
        stage["outs"] = [self.out(path, content) for path, content in outs.items()]
        # JSON is YAML.
        (self.folder / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"split": stage}}, indent=1))
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", "--message", f"Made {tag}")
        git(self.folder, "tag", tag)

    def hash(self, path: str) -> str:
        """What changes when a file, or any file of a folder, does."""
        place = self.folder / path
        if place.is_file():
            return md5(place.read_bytes())
        files = sorted(file for file in place.rglob("*") if file.is_file())
        return md5(b"".join(file.name.encode() + file.read_bytes() for file in files)) + ".dir"


def a_bank(rows: Mapping[str, Iterable[msgspec.Struct]]) -> dict[str, Content]:
    """The bank's files, those that are not given empty."""
    return {f"data/{side}.jsonl": jsonl(rows.get(side, ())) for side in SIDES}
