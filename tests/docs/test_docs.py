"""What README, CONTRIBUTING, slurm/README and docs/ say is so: code runs, commands parse, files and modules exist.

How a block is marked: `python FILE` quotes a file of the repository, or is a module of the reader's (my_*); `python` is
executed beside a small store, in which RUN is a run id; `yaml` is a grid, or a part of one; `yaml my_cluster.yaml` is a
site file, of whose resources sbatch gets what the table before it says; `shell` holds commands; `text` after `shell` is
what its last command prints, `...` for lines left out.
"""

import importlib
import json
import re
import shlex
from configparser import ConfigParser
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import dedent, indent

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.main import get_command

import analysis.__main__
import bench.__main__
import freetickets
import reproduce
import slurm.__main__
from analysis.paper.claims import read_claims
from analysis.topics import TOPICS
from bench.grid import grid_files, load_grid
from bench.plan import Together, make_plan
from bench.work.items import Work
from slurm.dispatch import make_submission, slurm_parameters
from slurm.site import load_site
from tests.grid_text import PAPER_CONFIGS, REPOSITORY

PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "slurm/README.md")]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
APPS = {"bench": bench.__main__, "analysis": analysis.__main__, "slurm": slurm.__main__, "reproduce": reproduce}
APPS["freetickets"] = freetickets
# A block that is a site file; and what sbatch is asked for by keys of submitit, where the keys of the site ask.
SITE = "my_cluster.yaml"
OPTIONS = {"cpus-per-task": "cpus_per_task", "mem": "mem", "gpus-per-node": "gpus_per_node"}
BLOCK = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.file or self.text.split(maxsplit=1)[0]}"


def blocks() -> list[Block]:
    return [
        Block(page.name, *f"{info} ".split(" ", 1), dedent(text))
        for page in PAGES
        for _, info, text in BLOCK.findall(page.read_text(encoding="utf-8"))
    ]


BLOCKS = [Block(block.page, block.language, block.file.strip(), block.text) for block in blocks()]


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def commands() -> list[tuple[str, str]]:
    lines = [(block.page, line) for block in of("shell") for line in block.text.splitlines()]
    for page in PAGES:
        prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
        lines += [(page.name, code) for code in re.findall(r"`((?:python -m|tox -e|freetickets) [^`]+)`", prose)]
    return [(page, part.strip()) for page, line in lines for part in line.partition(" #")[0].split("&&")]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory):
    """A folder with the README's module, its images, its grid, and the store that its commands make."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "paper_configs").symlink_to(PAPER_CONFIGS)
    for block in BLOCKS:
        if block.file.startswith("my_"):
            (folder / block.file).write_text(block.text, encoding="utf-8")
    for number in range(60):
        for part in ("train", "test"):
            path = folder / "my_images" / part / f"shade{number % 3}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((32, 32, 3), 80 * (number % 3) + number, np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setenv("FREETICKETS_DATA", str(folder / "data"))
        assert call("bench", "run", "my_grid.yaml", "--device", "cpu") == 0
        assert call("analysis", "tables", "my_grid.yaml", "--topic", "my_lab:SURE") == 0
        yield folder


def call(program: str, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        APPS[program].main(arguments)
    return int(ended.value.code or 0)


def test_what_the_readme_writes_in_a_few_lines_is_trained_and_reported(here: Path) -> None:
    table = (here / "report" / "my_grid-paper" / "my_grid_replicates.csv").read_text(encoding="utf-8")
    assert "mean_confidence_percent" in table
    assert table.count("mine") == 3


def test_blocks_are_of_a_language_that_is_tested() -> None:
    assert not [str(block) for block in BLOCKS if block.language not in ("python", "yaml", "shell", "text")]
    assert all(of(language) for language in ("python", "yaml", "shell", "text"))


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_runs_or_is_quoted_as_it_is(block: Block, here: Path) -> None:
    if block.file and not block.file.startswith("my_"):
        source = (REPOSITORY / block.file).read_text(encoding="utf-8")
        assert any(indent(block.text, " " * depth) in source for depth in range(0, 32, 4))
    elif not block.file:
        run = next((here / "results" / "runs").iterdir()).name
        text = block.text.replace("RUN", run).replace("local-c/fog/3", "test")
        exec(compile(text, str(block), "exec"), {"__name__": "block"})


def test_a_site_file_asks_sbatch_for_what_the_table_says(tmp_path: Path) -> None:
    (block,) = (block for block in of("yaml") if block.file == SITE)
    page = (REPOSITORY / "docs" / block.page).read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `((?:cpus|memory|gpus|sbatch): .*?)` \| (.*) \|$", page, re.MULTILINE))
    assert len(rows) == 5
    for text in [block.text, *rows]:
        (tmp_path / SITE).write_text(text, encoding="utf-8")
        site = load_site(str(tmp_path / SITE))
        work = Work(runs=())
        made = make_submission(
            site, SITE, ["a grid"], work, 1, data=None, deterministic=False, checkpoint_seconds=120.0
        )
        parameters = slurm_parameters(made, site)
        own = {option: parameters.get(key) is not None for option, key in OPTIONS.items()}
        further = parameters["additional_parameters"]
        if text in rows:
            found = set(re.findall(r"`--([a-z-]+)(?:=[^`]*)?`", rows[text]))
            assert all(option in further for option in found & set(site.sbatch))
            assert not any(own[option] for option in found - set(site.sbatch))
        else:
            assert not any(own.values())
            assert site.sbatch.items() <= further.items()


@pytest.mark.parametrize("block", [block for block in of("yaml") if block.file != SITE], ids=str)
@pytest.mark.usefixtures("here")
def test_yaml_is_a_grid_or_completes_one(block: Block, tmp_path: Path) -> None:
    part = yaml.safe_load(block.text)
    if isinstance(part.get("claims"), list):
        (tmp_path / "claims.yaml").write_text(block.text, encoding="utf-8")
        metrics = {metric.key: metric for topic in TOPICS for metric in topic.metrics}
        assert read_claims(tmp_path / "claims.yaml", metrics)
        return
    if "claims" in part:
        part["claims"] = str(PAPER_CONFIGS / part["claims"])
    if "data" in part:
        part = {"base": part}
    base = {"data": "cifar10", "method": "dense", **part.get("base", {})}
    whole = {**part, "base": base, **({} if "cells" in part or "axes" in part else {"cells": [{"name": "a"}]})}
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    if base["data"] == {"folder": "my_images", "image_size": 32}:
        path = Path("my_grid.yaml")
    assert make_plan(load_grid(path), "paper", None).runs


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_are_accepted(page: str, command: str) -> None:
    check_command(command, page)


def check_command(command: str, page: str) -> None:
    words = shlex.split(command)
    words[0] = words[0].removeprefix("my_env/bin/")
    if words[0] == "freetickets":
        parse(words[0], words[1:])
    elif words[:2] == ["python", "-m"] and words[2] in APPS:
        parse(words[2], words[3:])
    elif words[0] == "tox" or words[1:3] == ["-m", "tox"]:
        tox = ConfigParser(interpolation=None)
        tox.read(REPOSITORY / "tox.ini")
        arguments = words[words.index("-e") + 1 :] if "-e" in words else []
        known = {name for section in tox.sections() for name in environments(section)}
        assert not arguments or arguments[0] in known | {"reproduce-..."}, f"{page}: {command}"
        if arguments[1:2] == ["--"] and arguments[0] == "slurm-submit":
            parse("slurm", ["submit", *arguments[2:]])
        elif arguments[1:2] == ["--"] and arguments[0].startswith("reproduce-"):
            parse("reproduce", ["paper_configs/digits.yaml", *arguments[2:]])
    elif words[0] in ("docker", "apptainer"):
        assert words[1] in ("build", "run", "exec")
        assert all((REPOSITORY / word).exists() for word in words if word.endswith(".def"))
        image = next(place for place, word in enumerate(words) if word.endswith(("freetickets", ".sif")))
        assert words[1] != "run" or parse("freetickets", words[image + 1 :]) is None
    elif words[0] == "cp":
        assert (REPOSITORY / words[1]).is_file()
    else:
        assert words[1:4] == ["-m", "pip", "install"] or words[:3] in (
            ["python", "-m", "mypy"],
            ["python3", "-m", "venv"],
            ["python", "-m", "tests.test_architecture"],
        ), f"{page}: {command}"


def environments(section: str) -> list[str]:
    name = section.removeprefix("testenv:")
    head, brace, rest = name.partition("{")
    return [f"{head}{part}" for part in rest.rstrip("}").split(",")] if brace else [name]


def parse(program: str, words: list[str]) -> None:
    """Parse a command line as the program would, and execute nothing."""
    command = get_command(APPS[program].app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    if hasattr(command, "commands") or not words:
        options = {option for parameter in command.params for option in parameter.opts}
        assert options.issuperset(words) or words == ["..."], f"{program} has no command {words}"
        return
    for word in words:
        assert not word.startswith("paper_configs/") or (REPOSITORY / word).exists()
    command.make_context(program, [word for word in words if word != "..."])


def test_text_after_a_command_is_what_it_prints(here: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    checked = 0
    for before, block in pairwise(BLOCKS):
        if (before.page, before.language, block.language) != (block.page, "shell", "text"):
            continue
        _, _, program, *arguments = shlex.split(before.text.splitlines()[-1])
        assert call(program, *arguments, "--store", str(here / "none")) == 0
        printed = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert [line for line in block.text.splitlines() if line != "..." and line.split() not in printed] == []
        checked += 1
    assert checked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_files_and_modules_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in link:
            target, _, anchor = link.partition("#")
            file = page.parent / target if target else page
            assert file.exists(), link
            heads = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE) if anchor else [""]
            assert anchor in [re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads], link
    for path in re.findall(
        r"(?<![\w/.(-])((?:bench|analysis|slurm|tests|docs|paper_configs|requirements)/[\w/.-]+)", text
    ):
        assert (REPOSITORY / path.rstrip(".")).exists(), path
    for name in re.findall(r"\b((?:bench|analysis|slurm)(?:\.[a-zA-Z_]\w*)+)", re.sub(r"\S*/\S*|\w+\.md", "", text)):
        module, _, member = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), member), name


def test_help_works_and_names_every_option() -> None:
    open_commands = [get_command(program.app) for program in APPS.values()]
    for command in open_commands:
        open_commands += getattr(command, "commands", {}).values()
        context = command.make_context("x", [], resilient_parsing=True)
        text = command.get_help(context)
        assert all(option in text for parameter in command.params for option in parameter.opts if "--" in option)


def test_the_pages_say_what_all_of_cifar_comes_to() -> None:
    grids = grid_files(PAPER_CONFIGS / name for name in ("cifar10.yaml", "cifar100.yaml", "ablations"))
    together = Together.of([make_plan(load_grid(grid), "paper", None) for grid in grids])
    unshared = sum(plan.unshared_hours for plan in together.plans)
    assert round(10 * (1 - together.hours / unshared)) == 3  # "three tenths"
    texts = [" ".join(page.read_text(encoding="utf-8").split()) for page in PAGES]
    found = [said for text in texts for said in re.findall(r"(\d+) cells are (\d+) distinct runs", text)]
    assert len(found) >= 2
    assert set(found) == {(str(together.cells), str(len(together.runs)))}


def test_an_archive_of_the_suite_is_described_as_its_citation_is() -> None:
    deposit = json.loads((REPOSITORY / ".zenodo.json").read_text(encoding="utf-8"))
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    for key in ("title", "version", "license"):
        assert deposit[key] == citation[key]
    assert deposit["creators"] == citation["authors"]
    (paper,) = citation["references"]
    assert paper["title"] in deposit["description"]
    assert [entry["identifier"] for entry in deposit["related_identifiers"]] == [
        entry["value"] for entry in paper["identifiers"]
    ]
