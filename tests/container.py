"""A container without a container engine: an image is a folder, built as its Dockerfile says, run in a mount namespace.

As in a real one are the paths, the environment, the user, the entry point, the read-only root, the tmpfs with their
options, the secrets, the dropped capabilities and the bar on new ones. Not as in a real one: this machine's system and
Python stand in for the base image, and there are no networks or limits of memory. It needs root and Linux.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_SYSTEM = ("bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr", "etc", "dev", "proc")
_PIP_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pip"
_BUILD_S = 900
# What the build may know of this machine: how pip reaches its index.
_PASSED = re.compile(r"(PIP_(?!FIND_LINKS)|SSL_|REQUESTS_|CURL_|https?_proxy|no_proxy).*", re.IGNORECASE)


class UnavailableError(Exception):
    """This machine cannot run it: what is missing."""


def check_available() -> None:
    """Raise ``UnavailableError`` where no container can be imitated."""
    missing = [tool for tool in ("unshare", "mount", "chroot", "setpriv") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        raise UnavailableError(f"expected root with unshare, mount, chroot and setpriv, found no {missing or 'root'}")
    if sys.base_prefix == "/usr":
        raise UnavailableError("expected a Python of its own folder, found the system's")
    tried = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], check=False)
    if tried.returncode:
        raise UnavailableError("expected to be allowed a mount namespace")


@dataclass(slots=True)
class Image:
    """What a Dockerfile makes: a tree, and what is run in it, how and by whom."""

    root: Path
    workdir: str = "/"
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in _SYSTEM:
            of_host, here = Path("/", name), self.root / name
            if of_host.is_symlink():  # /bin is /usr/bin
                here.parent.mkdir(parents=True, exist_ok=True)
                here.symlink_to(of_host.readlink())
            elif of_host.is_dir():
                here.mkdir(parents=True)
        for name in ("opt", "root", "run/secrets", "tmp", "var"):
            (self.root / name).mkdir(parents=True)
        self.inside(sys.base_prefix).mkdir(parents=True, exist_ok=True)

    def inside(self, path: str) -> Path:
        """A path of the image on this machine."""
        return self.root / os.path.normpath(os.path.join(self.workdir, path)).lstrip("/")  # noqa: PTH118

    def script(self, mounts: Iterable[str] = (), *, read_only: bool) -> list[str]:
        """The lines of sh that mount the tree in a namespace of their own."""
        root = shlex.quote(str(self.root))
        option = "ro" if read_only else "rw"
        lines = ["set -e", f"mount --bind {root} {root}"]
        real = [name for name in _SYSTEM if (self.root / name).is_dir() and not (self.root / name).is_symlink()]
        lines += [f"mount --rbind /{name} {root}/{name}" for name in real]
        # Where the base image has it; and where it was built, since it may look for its own library there.
        python = [f"{root}/usr/local", shlex.quote(str(self.inside(sys.base_prefix)))]
        lines += [f"mount --bind {shlex.quote(sys.base_prefix)} {place}" for place in python]
        lines += [f"mount -o remount,bind,ro {place}" for place in (f"{root}/usr", f"{root}/etc", *python)]
        return [*lines, *mounts, f"mount -o remount,bind,{option} {root}"]


def build(context: Path, place: Path) -> Image:
    """The image of the context's Dockerfile; its last stage."""
    stages: dict[str, Image] = {}
    arguments: dict[str, str] = {}
    image: Image | None = None
    for instruction, rest in _instructions((context / "Dockerfile").read_text("utf-8")):
        if instruction == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            assert base == "${BASE}", base
            image = stages[name] = Image(place / f"stage-{len(stages)}")
        else:
            assert image is not None
            _STEPS[instruction](image, rest, context, stages)
    assert image is not None
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", arguments["BASE"]), arguments
    return image


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            instruction, _, rest = line.strip().partition(" ")
            yield instruction, " ".join(rest.split())


def _workdir(image: Image, rest: str, _context: Path, _stages: Mapping[str, Image]) -> None:
    image.workdir = rest
    image.inside(".").mkdir(parents=True, exist_ok=True)


def _copy(image: Image, rest: str, context: Path, stages: Mapping[str, Image]) -> None:
    words = rest.split()
    flags = dict(word.removeprefix("--").split("=") for word in words if word.startswith("--"))
    *sources, target = [word for word in words if not word.startswith("--")]
    for source in sources:
        to = image.inside(target)
        if "from" in flags:
            to.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-al", stages[flags["from"]].inside(source), to], check=True)
            if "chown" in flags:
                subprocess.run(["chown", "-R", flags["chown"], to], check=True)
            continue
        taken = [path for path in admitted(context) if source in (".", path) or path.startswith(source + "/")]
        assert taken, f"COPY {source}: .dockerignore leaves nothing of it"
        for path in taken:
            file = to / path if source == "." else to / Path(path).name if target.endswith("/") else to
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(context / path, file, follow_symlinks=False)
            if "chmod" in flags:
                file.chmod(int(flags["chmod"], 8))


def _run(image: Image, rest: str, _context: Path, _stages: Mapping[str, Image]) -> None:
    mounts = []
    while mount := re.match(r"--mount=type=cache,target=(\S+) ", rest):
        _PIP_CACHE.mkdir(parents=True, exist_ok=True)
        image.inside(mount[1]).mkdir(parents=True, exist_ok=True)
        mounts.append(f"mount --bind {shlex.quote(str(_PIP_CACHE))} {shlex.quote(str(image.inside(mount[1])))}")
        rest = rest[mount.end() :]
    environment = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)} | image.environment
    command = ["env", "-i", "HOME=/root", *(f"{name}={value}" for name, value in environment.items())]
    inner = shlex.join([*command, "sh", "-ec", f"cd {image.workdir}; {rest}"])
    script = [*image.script(mounts, read_only=False), f"exec chroot {shlex.quote(str(image.root))} {inner}"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "\n".join(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_BUILD_S,
    )
    assert done.returncode == 0, f"RUN {rest}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"


def _env(image: Image, rest: str, _context: Path, _stages: Mapping[str, Image]) -> None:
    for word in shlex.split(rest):
        name, _, value = word.partition("=")
        image.environment[name] = re.sub(r"\$(\w+)", lambda match: image.environment[match[1]], value)


def _user(image: Image, rest: str, _context: Path, _stages: Mapping[str, Image]) -> None:
    image.user = rest


def _entrypoint(image: Image, rest: str, _context: Path, _stages: Mapping[str, Image]) -> None:
    image.entrypoint = json.loads(rest)


def _command(image: Image, rest: str, _context: Path, _stages: Mapping[str, Image]) -> None:
    image.command = json.loads(rest)


def _expose(image: Image, rest: str, _context: Path, _stages: Mapping[str, Image]) -> None:
    assert rest.isdigit()


_STEPS = {
    "WORKDIR": _workdir,
    "COPY": _copy,
    "RUN": _run,
    "ENV": _env,
    "USER": _user,
    "EXPOSE": _expose,
    "ENTRYPOINT": _entrypoint,
    "CMD": _command,
}


def admitted(context: Path) -> list[str]:
    """The files that .dockerignore lets into the build: the last pattern that fits a path, or a folder above it, counts."""
    text = (context / ".dockerignore").read_text("utf-8")
    patterns = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    paths = []
    for folder, folders, files in os.walk(context):
        here = Path(folder).relative_to(context)
        if here == Path():  # nothing under what is not named at the top can come in
            folders[:] = [name for name in folders if f"!{name}" in patterns]
        paths += [(here / name).as_posix() for name in files]
        paths += [(here / name).as_posix() for name in folders if (Path(folder) / name).is_symlink()]
    return sorted(path for path in paths if not _ignored(path, patterns))


def _ignored(path: str, patterns: Iterable[str]) -> bool:
    parts = path.split("/")
    above = ["/".join(parts[: k + 1]) for k in range(len(parts))]
    verdict = False
    for pattern in patterns:
        plain = pattern.removeprefix("!")
        if any(_fits(name, plain) for name in above):
            verdict = not pattern.startswith("!")
    return verdict


def _fits(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return _fits(path.rpartition("/")[2], pattern.removeprefix("**/"))
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)


def start(
    image: Image,
    service: Mapping[str, Any],
    *,
    secrets: Mapping[str, Path],
    environment: Mapping[str, str],
    arguments: Iterable[str] = (),
    log: Path,
) -> subprocess.Popen[bytes]:
    """Run a service of a compose file; its process is the one that comes back. ``environment`` overrides the file's."""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    mounts = []
    for name in service.get("secrets", []):
        (image.root / "run/secrets" / name).touch()
        mounts += _bind(secrets[name], image.root / "run/secrets" / name)
    for entry in service.get("tmpfs", []):
        path, _, options = entry.partition(":")
        target = image.root / path.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        # The first three are Docker's own, whatever else is asked for.
        mounts.append(f"mount -t tmpfs -o noexec,nosuid,nodev,{options} tmpfs {shlex.quote(str(target))}")
    for entry in service.get("volumes", []):
        source, _, path = entry.partition(":")
        volume, target = image.root.parent / f"volume-{source}", image.root / path.lstrip("/")
        if not volume.exists():  # a new one is what the image has there, with its owner
            shutil.copytree(target, volume)
            os.chown(volume, target.stat().st_uid, target.stat().st_gid)
        mounts.append(f"mount --bind {shlex.quote(str(volume))} {shlex.quote(str(target))}")
    user, _, group = str(service.get("user", image.user)).partition(":")
    known = image.environment | {"HOME": "/"} | dict(service.get("environment", {})) | dict(environment)
    command = ["chroot", str(image.root), "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    command += ["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    command += ["env", "-i", *(f"{name}={value}" for name, value in known.items())]
    command += service.get("entrypoint", image.entrypoint)
    command += service.get("command", image.command)
    script = [*image.script(mounts, read_only=True), f"exec {shlex.join([*command, *arguments])}"]
    with log.open("ab") as output:
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", "\n".join(script)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _bind(source: Path, target: Path) -> list[str]:
    quoted = shlex.quote(str(target))
    return [f"mount --bind {shlex.quote(str(source))} {quoted}", f"mount -o remount,bind,ro {quoted}"]
