"""The shape of the tree: which way imports point, how long a file may be, and that nothing stored can run code.

`python -m tests.test_architecture` prints the rooms, their size, and what each imports.
"""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from bench.recipes import METHODS, RecipeWithParent
from bench.spec.phases import Phase

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for room in ("bench", "analysis", "slurm") for path in (ROOT / room).rglob("*.py"))
# The rooms of bench from low to high. A module imports from its own room and from rooms that come before it.
ROOMS = (
    "bench.errors",
    "bench.spec",
    "bench.store",
    "bench.recipes",
    "bench.sparsity",
    "bench.data",
    "bench.metrics",
    "bench.models",
    "bench.evaluation",
    "bench.training",
    "bench.work",
    "bench.grid",
    "bench.plan",
    "bench.check",
    "bench.commands",
    "bench.__main__",
)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
for_each_module = pytest.mark.parametrize("name", MODULES)


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the modules a tree imports, in functions too; `from package import module` yields the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                yield member if member in MODULES else str(node.module)


def imports_from(name: str, *packages: str) -> list[str]:
    return [found for found in imports(MODULES[name]) if any(within(found, package) for package in packages)]


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def room(name: str) -> int:
    """Return where the room of a module stands among ROOMS."""
    found = [place for place, entry in enumerate(ROOMS) if within(name, entry)]
    assert found, f"{name} lies loose in bench/: every module but errors and __main__ belongs into a room"
    return found[0]


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    return ((ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call))


@pytest.mark.parametrize("name", [name for name in MODULES if within(name, "bench") and name != "bench"])
def test_imports_inside_bench_point_down(name: str) -> None:
    for found in set(imports_from(name, "bench")) - {"bench"}:
        assert room(found) <= room(name), f"{name} imports {found}"


@for_each_module
def test_rooms_know_only_the_rooms_below_them(name: str) -> None:
    rooms = {"bench", "analysis", "slurm", "reproduce"}
    own = name.partition(".")[0]
    above = rooms - {own} if own == "bench" else rooms - {own, "bench"}
    if name == "bench.commands.schema":  # which prints the schema of a site file; see the test below
        above -= {"slurm"}
    assert not imports_from(name, *above)
    if own != "bench" and name != "slurm.array_task":  # which is what runs on the node
        assert not imports_from(name, "torch", "torchvision", "bench.training", "bench.work.worker")


@for_each_module
def test_a_file_is_one_concern(name: str) -> None:
    assert MODULES[name].body, "an empty module documents nothing"
    assert max(getattr(node, "end_lineno", 0) for node in MODULES[name].body) <= 400


@for_each_module
def test_a_store_copied_from_a_stranger_cannot_run_code(name: str) -> None:
    tree = MODULES[name]
    assert not imports_from(name, "pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
    for function, call in calls(tree):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert function not in {"eval", "exec", "yaml.load", "yaml.unsafe_load", "pd.read_pickle"}
        assert keywords.get("allow_pickle", "False") == "False"
        if function == "torch.load":
            assert keywords.get("weights_only") == "True"


def test_every_recipe_is_a_method() -> None:
    recipes = {
        function
        for path in (ROOT / "bench" / "recipes").glob("*.py")
        for name, function in inspect.getmembers(import_module(name_of(path)), inspect.isfunction)
        if inspect.signature(function).return_annotation in (tuple[Phase, ...], RecipeWithParent)
        and not name.startswith("_")
    }
    assert recipes == {method.recipe for method in METHODS.values()}


def test_bench_loads_slurm_only_when_the_schema_of_a_site_is_asked_for() -> None:
    program = "import sys, bench.__main__, bench.commands.schema; sys.exit('slurm' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_plans_analysis_and_submission_start_without_torch() -> None:
    rooms = [name for name in MODULES if within(name, "analysis") or within(name, "slurm")]
    light = ["bench.__main__", "bench.plan", "bench.store", *rooms]
    program = f"import sys, {', '.join(light)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def print_rooms() -> None:
    """Print modules and lines of each room, and the rooms it imports from."""
    entries = (*ROOMS, "analysis", "slurm")
    members = {entry: [name for name in MODULES if within(name, entry)] for entry in entries}
    for entry, names in members.items():
        lines = sum(len((ROOT / path).read_text().splitlines()) for path in SOURCES if name_of(path) in names)
        found = {module for name in names for module in imports(MODULES[name])}
        uses = [
            other.removeprefix("bench.")
            for other in entries
            if other != entry
            for module in found
            if within(module, other)
        ]
        print(f"{entry:17} {len(names):3} modules {lines:6,} lines   {' '.join(dict.fromkeys(uses))}")
    print(f"{'all':17} {len(SOURCES):3} modules {sum(len(path.read_text().splitlines()) for path in SOURCES):6,} lines")


if __name__ == "__main__":
    print_rooms()
