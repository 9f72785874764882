"""Dockerfile and slurm/apptainer.def without a registry: what they copy is there, what they call works."""

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from slurm.site import load_site
from tests.fresh import fresh_environment, output_of
from tests.grid_text import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
APPTAINER = (REPOSITORY / "slurm" / "apptainer.def").read_text(encoding="utf-8")
KNOWN = {"FROM", "RUN", "ENV", "COPY", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}


@dataclass(frozen=True)
class Image:
    """base: name and tag; copies: what of the repository goes where; commands: what is run, in order."""

    base: str
    copies: dict[str, str]
    commands: list[list[str]]


def of_docker(text: str) -> Image:
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line.strip()]
    assert {name for name, _ in steps} <= KNOWN
    copies: dict[str, str] = {}
    for name, rest in steps:
        if name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                copies[source] = target + Path(source).name if target.endswith("/") else target
    runs = [re.sub(r"--mount=\S+", "", rest) for name, rest in steps if name == "RUN"]
    commands = [shlex.split(part) for run in runs for part in run.split("&&")]
    (base,) = (rest for name, rest in steps if name == "FROM")
    return Image(base, copies, commands)


def of_apptainer(text: str) -> Image:
    head, *sections = re.split(r"^%", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
    body = {name: lines for name, *lines in (section.splitlines() for section in sections)}
    header = dict(line.split(": ") for line in head.splitlines() if line)
    assert header.keys() == {"Bootstrap", "From"}
    assert header["Bootstrap"] == "docker"
    assert body.keys() == {"files", "post", "environment", "runscript"}
    copies = dict(line.split() for line in body["files"] if line)
    return Image(header["From"], copies, [shlex.split(line) for line in body["post"] if line])


IMAGES = {"Dockerfile": of_docker(DOCKERFILE), "apptainer.def": of_apptainer(APPTAINER)}
for_both = pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)


@for_both
def test_the_base_is_a_cuda_image_by_name_and_tag(image: Image) -> None:
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu24\.04", image.base)


def test_both_are_made_of_the_same() -> None:
    docker, apptainer = IMAGES.values()
    assert (docker.base, docker.copies) == (apptainer.base, apptainer.copies)
    packages = [[command for command in image.commands if "apt-get" in command] for image in (docker, apptainer)]
    assert packages[0] == packages[1]


def test_what_docker_copies_is_sent_to_it() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == set(IMAGES["Dockerfile"].copies)


@for_both
def test_its_commands_install_the_suite_in_a_scratch_root(image: Image, tmp_path: Path) -> None:
    for source, target in image.copies.items():
        place = tmp_path / target.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / source).is_dir():
            shutil.copytree(REPOSITORY / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / source, place)
    for command in image.commands:
        run(command, tmp_path)
    environment = tmp_path / "opt" / "venv"
    planned = output_of(environment / "bin" / "freetickets", "bench", "plan", "digits", cwd=tmp_path)
    assert "48 distinct runs" in planned
    code = "import bench; print(bench.__file__)"
    assert output_of(environment / "bin" / "python", "-c", code, cwd=tmp_path).startswith(str(environment))


def run(command: list[str], root: Path) -> None:
    """Run a command of an image below `root`, or try it as far as one can outside of the image."""
    match [Path(command[0]).name, *command[1:]]:
        case ["apt-get", "update"] | ["rm", "-rf", "/var/lib/apt/lists/*"]:
            pass
        case ["apt-get", "install", *words]:
            if (
                shutil.which("apt-get")
                and not subprocess.run(["apt-cache", "show", words[-1]], capture_output=True).returncode
            ):
                output_of("apt-get", "install", "--simulate", "-o", "Debug::NoLocking=true", *words, cwd=root)
        case ["useradd", *words]:
            if os.geteuid() == 0 and shutil.which("useradd"):
                for name in ("passwd", "shadow", "group", "gshadow"):
                    (root / "etc").mkdir(exist_ok=True)
                    (root / "etc" / name).touch()
                output_of("useradd", "--prefix", root, *words, cwd=root)
                assert (root / "home" / words[-1]).is_dir()
        case ["python3", "-m", "venv", place]:
            fresh_environment(root / place.removeprefix("/"))
        case ["pip", "install", *words, file] if file.endswith(".txt"):
            assert {"--require-hashes", "-r"} <= set(words)
            check_locked(root / file.removeprefix("/"))
        case ["pip", *words, folder]:
            python = root / "opt" / "venv" / "bin" / "python"
            output_of(python, "-m", "pip", *words, "--no-index", root / folder.removeprefix("/"), cwd=root)
        case _:
            raise AssertionError(f"say how to try {shlex.join(command)}")


def check_locked(path: Path) -> None:
    """Check that pip may install a lock file: hashes of each requirement, and with them what builds the suite."""
    text = re.sub(r"^ *#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    entries = [entry for entry in text.splitlines() if entry]
    assert all(re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    versions = {found[1]: Version(found[2]) for entry in entries if (found := re.match(r"([\w.-]+)==(\S+)", entry))}
    build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    for requirement in map(Requirement, build):
        assert versions[requirement.name] in requirement.specifier


def test_a_site_names_the_image_in_one_line(tmp_path: Path) -> None:
    text = (REPOSITORY / "slurm" / "sites" / "example.yaml").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("python:"))
    assert "slurm/apptainer.def" in line
    (value,) = re.findall(r"such as (apptainer exec --nv \S+\.sif python)", line)
    site = tmp_path / "site.yaml"
    site.write_text(text.replace(line, f"python: {value}"), encoding="utf-8")
    assert load_site(str(site)).python == value
