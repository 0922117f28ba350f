"""A version of the project: the workspace, or a git revision with what DVC keeps of it in its cache.

Files that git tracks come from git; outputs of stages from the cache, by the hash that the revision's dvc.lock holds.
DVC itself is not imported: it takes a second and 100 MB, and all that is needed of it is where a file lies.
"""

import difflib
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from configparser import Error as ConfigError
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct, field

from schemas.faults import Fault

WORKSPACE = "workspace"
LOCK = "dvc.lock"
CONFIG = ".dvc/config"
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")
"""A ref of `dvc exp`: the commit it began from, then its name. Others under refs/exps are DVC's own."""
SHORT = 7  # digits of a commit that are told
DIRECTORY = ".dir"
"""How the hash of a folder ends: what is in the cache under it is a listing."""


class Missing(Fault):
    """A file of a version that is not there, or not any more."""


class Out(Struct, frozen=True):
    """An output, or a dependency, as dvc.lock holds it."""

    path: str
    md5: str | None = None
    size: int | None = None
    hash: str | None = None
    """`md5` since DVC 3; without it the entry is in the cache's older layout."""


class Stage(Struct, frozen=True):
    """A stage as it last ran."""

    cmd: Any = None
    deps: tuple[Out, ...] = ()
    params: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By file, then by key, dotted for a part of a section."""
    outs: tuple[Out, ...] = ()


class Lock(Struct, frozen=True):
    """What is needed of a dvc.lock."""

    stages: dict[str, Stage] = field(default_factory=dict)


class Listed(Struct, frozen=True):
    """A file of an output that is a folder."""

    md5: str
    relpath: str


class Version:
    """The files of the workspace, or of a commit."""

    def __init__(self, name: str, commit: str | None, about: str = "") -> None:
        """`commit`: in full, None for the workspace; `about`: its date and title."""
        self.name = name
        self.commit = commit
        self.about = about

    def __str__(self) -> str:
        """Return the name and, where that does not say it, the commit."""
        if self.commit is None or self.commit.startswith(self.name):
            return self.name
        return f"{self.name} ({self.commit[:SHORT]})"

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """The stages as dvc.lock holds them; none if there is no such file. Fault for a file that cannot be read."""
        if not self.has(LOCK):
            return {}
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        with self.open(LOCK) as file:
            data = file.read()
        where = LOCK if self.commit is None else f"{LOCK} as of {self}"
        try:
            return msgspec.convert(YAML(typ="safe", pure=True).load(data.decode()) or {}, Lock).stages
        except (YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
            again = (
                "`git checkout dvc.lock` brings back the last one" if self.commit is None else "give another revision"
            )
            raise Fault(f"{where}: {' '.join(str(error).split())}; {again}") from None

    @cached_property
    def outs(self) -> dict[str, Out]:
        """What the stages wrote, by path, folders not opened."""
        return {out.path: out for stage in self.stages.values() for out in stage.outs}

    def open(self, path: str) -> BinaryIO:
        """Return a file of this version, open for reading; Missing, with what brings it, if it is not there."""
        if self.commit is None:
            try:
                return open(path, "rb")
            except OSError as error:
                raise Missing(f"{path}: {error.strerror} in the workspace{self._mending(path)}") from None
        if path not in self._tree:
            if path == LOCK or (found := self._out(path)) is None:
                raise Missing(f"{path}: there is no such file as of {self}{self._before()}")
            return open(self._entry(*found), "rb")
        file = tempfile.TemporaryFile()  # noqa: SIM115  # returned open
        git = ["git", "cat-file", "blob", f"{self.commit}:./{path}"]
        done = subprocess.run(git, stdout=file, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise Missing(f"{path}: git cannot read it as of {self}: {_last(done.stderr)}; `git fsck` says more")
        file.seek(0)
        return file

    def read(self, path: str) -> bytes:
        """Return what a file of this version holds; Missing if it is not there."""
        with self.open(path) as file:
            return file.read()

    def has(self, path: str) -> bool:
        """Whether this version has a file of that name, be it in the cache or not."""
        if self.commit is None:
            return Path(path).is_file()
        return path in self._tree or (path != LOCK and self._out(path) is not None)

    def under(self, folder: str) -> list[str]:
        """Return the files under a folder, by path: tracked by git, or outputs; Missing if a listing is."""
        if self.commit is None:
            there = (path for path in Path(folder).rglob("*") if path.is_file())
            return sorted(path.as_posix() for path in there)
        found = {path for path in self._tree if path.startswith(f"{folder}/")}
        for out in self.outs.values():
            if out.path.startswith(f"{folder}/") or folder == out.path or folder.startswith(f"{out.path}/"):
                found |= set(self._files(out))
        return sorted(path for path in found if path.startswith(f"{folder}/"))

    def hash(self, path: str) -> str | None:
        """Return the MD5 that DVC knows an output of a commit by; None for any other file."""
        if self.commit is None or path in self._tree:
            return None
        found = self._out(path)
        return found[0].md5 if found else None

    def tracked(self, paths: Iterable[str]) -> dict[str, str]:
        """Return git's hashes of the files at or under some paths; of the workspace those that git does not ignore."""
        wanted = tuple(paths)
        if self.commit is None:
            listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *wanted)
            there = [path for path in dict.fromkeys(listed.split("\0")) if path and Path(path).is_file()]
            there = [path for path in there if "\n" not in path]
            hashes = _git("hash-object", "--stdin-paths", given="".join(f"{path}\n" for path in there)).split()
            return dict(zip(there, hashes, strict=True))
        folders = tuple(f"{path}/" for path in wanted)
        return {path: blob for path, blob in self._tree.items() if path in wanted or path.startswith(folders)}

    def upstream(self, paths: Iterable[str]) -> set[str]:
        """Return the stages that some outputs were made by, directly or not."""
        found: set[str] = set()
        wanted = list(paths)
        while wanted:
            path = wanted.pop()
            for name, stage in self.stages.items():
                if name not in found and any(within(path, out.path) or within(out.path, path) for out in stage.outs):
                    found.add(name)
                    wanted += [dep.path for dep in stage.deps]
        return found

    def behind(self) -> set[str]:
        """Return the stages that ran on outputs which have been made anew since."""
        outs = self.outs
        return {
            name
            for name, stage in self.stages.items()
            if any(dep.path in outs and outs[dep.path].md5 != dep.md5 for dep in stage.deps)
        }

    @cached_property
    def _tree(self) -> dict[str, str]:
        """Git's hash of each file that the commit tracks."""
        lines = _git("ls-tree", "-r", "-z", f"{self.commit}").split("\0")
        split = (line.partition("\t") for line in lines if line)
        return {path: entry.split()[2] for entry, _, path in split}

    def _out(self, path: str) -> tuple[Out, str] | None:
        """Return the entry of the cache that holds a file and the output that it belongs to, if it is one."""
        if out := self.outs.get(path):
            return out, path
        for folder in map(str, PurePosixPath(path).parents):
            if out := self.outs.get(folder):
                found = self._files(out).get(path)
                return (found, out.path) if found else None
        return None

    def _files(self, out: Out) -> dict[str, Out]:
        """Return the files of an output by path: itself if it is no folder."""
        if out.md5 is None or not out.md5.endswith(DIRECTORY):
            return {out.path: out}
        entry = self._entry(out, out.path)
        try:
            listed = msgspec.json.decode(entry.read_bytes(), type=list[Listed])
        except msgspec.DecodeError as error:
            raise Missing(f"{entry}: {error}; {self._damaged(out, entry)}") from None
        files = (Out(f"{out.path}/{file.relpath}", file.md5, None, out.hash) for file in listed)
        return {file.path: file for file in files}

    def _entry(self, out: Out, of: str) -> Path:
        """Return where the cache holds an output; Missing if it does not, or not all of it."""
        if out.md5 is None:
            raise Missing(f"{out.path}: dvc.lock as of {self} has no hash of it; `dvc repro` writes one")
        cache = cache_folder()
        places = [cache / "files" / "md5", cache]
        for place in places if out.hash else reversed(places):
            entry = place / out.md5[:2] / out.md5[2:]
            try:
                size = entry.stat().st_size
            except OSError:
                continue
            folder = out.md5.endswith(DIRECTORY)  # whose size is that of its files together
            if out.size is not None and out.size != size and not folder:
                about = f"{entry} has {size:,} bytes in place of {out.size:,}"
                raise Missing(f"{out.path} as of {self}: {about}; {self._damaged(out, entry, of)}")
            return entry
        raise Missing(f"{out.path} as of {self}: not in the cache {cache}; {self._bringing(of)}")

    def _damaged(self, out: Out, entry: Path, of: str | None = None) -> str:
        return f"`rm -f {shlex.quote(str(entry))}`, then {self._bringing(of or out.path)}"

    def _bringing(self, path: str) -> str:
        """Return the commands that bring back an output of a commit."""
        remotes, default = _remotes()
        if remotes:
            name = default if default in remotes else next(iter(remotes))
            # DVC looks for the remote in the settings of the commit, and in those that are not under git.
            known, default = _remotes(self.read(CONFIG).decode(errors="replace") if self.has(CONFIG) else "")
            first = f"dvc remote add --local --default --force {shlex.quote(name)} {shlex.quote(remotes[name])}; "
            where = f" --remote {shlex.quote(name)}" if name in known and name != default else ""
            fetch = f"dvc fetch --all-commits{where} {shlex.quote(path)}"
            return f"`{'' if name in known else first}{fetch}` brings it, if it was pushed"
        # A worktree, so that nothing here changes; with this cache, and a copy of the replies that are paid for.
        commit = f"{self.commit}"[:SHORT]
        stage = next((name for name, stage in self.stages.items() if any(out.path == path for out in stage.outs)), "")
        folder = f"../{Path.cwd().name}-{commit}"
        store = f"cp -r .store {shlex.quote(folder)}; " if Path(".store").is_dir() else ""
        cache = shlex.quote(str(cache_folder().resolve()))
        return (
            "no remote is set up, so it has to be made anew: "
            f"`git worktree add --detach {shlex.quote(folder)} {commit}; {store}cd {shlex.quote(folder)}; "
            f"dvc cache dir --local {cache}; dvc repro {shlex.quote(stage)}`"
        )

    def _mending(self, path: str) -> str:
        found = next((name for name, stage in self.stages.items() if any(out.path == path for out in stage.outs)), "")
        if found:
            return f"; `dvc checkout {shlex.quote(path)}` brings it, or `dvc repro {found}`"
        return "" if path == LOCK else "; `dvc repro` writes what stages make"

    def _before(self) -> str:
        """Return why a commit may not have a file."""
        if LOCK in self._tree:
            return "; it is older than that file"
        first = _git("log", "--format=%h", "--diff-filter=A", "--reverse", "HEAD", "--", LOCK, status=None).split()
        since = f"; the first is {first[0]}" if first else ""
        return f": it has no {LOCK}, so nothing that `dvc repro` had made{since}"


def version(name: str | None) -> Version:
    """Return the workspace (None or `workspace`) or a revision; Fault for an unknown one, or outside of a project."""
    if not Path(".dvc").is_dir():
        above = next((folder for folder in Path.cwd().parents if (folder / ".dvc").is_dir()), None)
        where = f"{above}" if above else "where .dvc is"
        raise Fault(f"{Path.cwd()}: not the root of a project; run the command from {where}")
    _git("rev-parse", "--git-dir")
    if name is None or name == WORKSPACE:
        return Version(WORKSPACE, None)
    commit = _commit(name) or _experiment(name)
    if commit is None:
        raise Fault(f"{name!r}: no such revision, tag, branch or experiment; {_hint(name)}")
    return Version(name, commit, _git("show", "-s", "--format=%cs %s", commit).strip())


def cache_folder() -> Path:
    """Return the folder of DVC's cache, as its settings have it."""
    found = Path(".dvc/cache")
    for path, config in _configs():
        if folder := config.get("cache", "dir", fallback=None):
            found = path.parent / Path(folder).expanduser()
    return Path(os.path.normpath(found))


def within(path: str, folder: str) -> bool:
    """Whether a path is a folder or under it."""
    return path == folder or path.startswith(f"{folder}/")


def _remotes(own: str | None = None) -> tuple[dict[str, str], str | None]:
    """Return DVC's remotes with where they are, and the name of that which it uses by default.

    `own`: other settings in place of those under git.
    """
    found: dict[str, str] = {}
    default = None
    for _, config in _configs(own):
        for section in config.sections():
            if match := re.fullmatch(r"""'remote "(.*)"'""", section):
                url = config.get(section, "url", fallback="")
                is_path = url and "://" not in url and not Path(url).is_absolute()
                found[match[1]] = os.path.normpath(f".dvc/{url}") if is_path else url
        default = config.get("core", "remote", fallback=default)
    return found, default


def _configs(own: str | None = None) -> Iterator[tuple[Path, ConfigParser]]:
    """Yield DVC's settings, the weightier later; `own`: in place of those under git."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    for path in (Path("/etc/xdg/dvc/config"), home / "dvc" / "config", Path(CONFIG), Path(f"{CONFIG}.local")):
        config = ConfigParser(interpolation=None, strict=False)
        try:
            if own is not None and path == Path(CONFIG):
                config.read_string(own)
            else:
                config.read(path, encoding="utf-8")
        except (ConfigError, UnicodeDecodeError) as error:
            raise Fault(f"{path}: {' '.join(str(error).split())}; mend it") from None
        yield path, config


def _commit(name: str) -> str | None:
    """Return the commit that git knows by a name."""
    if name.startswith("-") or not name:  # no name of git's begins so; an option does
        return None
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", status=None).strip()
    return found or None


def _experiments() -> dict[str, dict[str, str]]:
    """Return the experiments of DVC: by name, by ref, their commits."""
    found: dict[str, dict[str, str]] = {}
    for line in _git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines():
        commit, _, ref = line.partition(" ")
        if match := EXPERIMENT.fullmatch(ref):
            found.setdefault(match[1], {})[ref] = commit
    return found


def _experiment(name: str) -> str | None:
    refs = _experiments().get(name, {})
    if len(set(refs.values())) > 1:
        raise Fault(f"{name!r}: {len(refs)} experiments have this name; give one of {', '.join(sorted(refs))}")
    return next(iter(refs.values()), None)


def _hint(name: str) -> str:
    """Return what may have been meant."""
    if _git("rev-parse", "--is-shallow-repository").strip() == "true":
        return "this clone has but a part of the history; `git fetch --unshallow` brings the rest"
    refs = _git("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes").splitlines()
    near = difflib.get_close_matches(name, [WORKSPACE, *refs, *_experiments()], 3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{meant}`git log --oneline --all` and `dvc exp list` show what there is"


def _git(*words: str, status: int | None = 0, given: str = "") -> str:
    """Return what git prints; Fault if it does not end with a status, where one is given."""
    try:
        done = subprocess.run(["git", *words], input=given.encode(), capture_output=True, check=False)
    except FileNotFoundError:
        raise Fault("git: not found; install it, versions are compared by its commits") from None
    if status is not None and done.returncode != status:
        raise Fault(f"git {words[0]}: {_last(done.stderr)}; run the command from a project under git")
    return os.fsdecode(done.stdout)


def _last(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[0] if lines else "failed"
