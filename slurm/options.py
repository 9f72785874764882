"""Options of sbatch in a site file: which pass as they are, which replace a key, and what contradicts what."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bench.errors import without_controls
from bench.spec.messages import key_path, shown

if TYPE_CHECKING:
    from slurm.site import Site

# Options that ask for what a key asks for; one of them takes its place.
MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")
CPUS = ("cpus-per-task", "cpus-per-gpu")
GPUS = ("gres", "gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket")
# They mean something only beside an option that asks for GPUs.
_PER_GPU = ("mem-per-gpu", "cpus-per-gpu")
# What only a cluster has.
_OF_SLURM = ("partition", "account", "qos", "constraint", "gpu_type", "mail", "sbatch")
# Option of sbatch -> the key to use instead; "" where submit alone decides.
_OWN_OPTIONS = {
    **{name: name for name in ("partition", "account", "qos", "constraint", "nodes", "requeue", "signal")},
    "cluster": "clusters",
    "time": "walltime",
    **dict.fromkeys(("ntasks", "ntasks-per-node", "ntasks-per-gpu"), "processes"),
    "array": "max_jobs",
    "no-requeue": "requeue: false",
    **dict.fromkeys(("mail-user", "mail-type"), "mail"),
    **dict.fromkeys(("dependency", "kill-on-invalid-dep", "job-name", "comment", "chdir"), ""),
    **dict.fromkeys(("output", "error", "input", "open-mode"), ""),
    **dict.fromkeys(("wrap", "wait", "parsable", "quiet", "test-only"), ""),
}
_KILOBYTES = {"K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}


def line(text: str) -> str:
    """Return a text that may stand in a line of a script; ValueError for one that would mean something else there."""
    if text.strip() != text or text.startswith("-") or not text:
        raise ValueError("allowed: text that begins with neither a blank nor a dash, and ends with no blank")
    return without_controls(text)


def asking(options: Mapping[str, object], names: tuple[str, ...]) -> list[str]:
    """Return which of these names are options that ask for a resource; a gres that is no GPU asks for none."""
    return [name for name in names if name in options and (name != "gres" or _gpus_of_gres(options[name]))]


def memory_limit_gb(site: "Site") -> float | None:
    """Return the memory that a process has at most, in GB of 1024 MB; None where the site does not tell."""
    if site.memory is not None:
        return site.memory_cap_gb
    asked = asking(site.sbatch, MEMORY)
    size = _size_gb(site.sbatch[asked[0]]) if asked else None
    if size is None:
        return None
    if asked[0] == "mem":
        return size / site.processes_on_node
    if asked[0] == "mem-per-gpu":
        return size * site.gpus_of_process
    per_gpu = site.sbatch.get("cpus-per-gpu")
    cores = per_gpu * site.gpus_of_process if isinstance(per_gpu, int) else site.cpus_of_process
    return None if cores is None else size * cores


def problems(site: "Site") -> Iterator[str]:
    """Yield what is wrong with keys of a site that are right each by itself."""
    if site.scheduler == "local":
        for key in _OF_SLURM:
            if getattr(site, key):
                yield f"{key}: means nothing where scheduler is local; leave it out"
        if site.nodes > 1:
            yield f"nodes: found {site.nodes}; a local site is one node"
    if site.processes % site.nodes:
        yield f"processes: found {site.processes}; allowed: a multiple of nodes ({site.nodes}), as many on each"
    by_option = asking(site.sbatch, GPUS)
    if site.gpu_type is not None and not site.gpus:
        yield f"gpu_type: means nothing where gpus is {shown(site.gpus)}; leave it out, or ask for GPUs"
    elif site.gpu_type is not None and by_option:
        yield f"gpu_type: means nothing where sbatch.{by_option[0]} asks for the GPUs; name the type there"
    if site.gpu_memory is not None and site.device == "cpu":
        yield "gpu_memory: means nothing where device is cpu; leave it out"
    if site.copy_data and site.scratch is None:
        yield "copy_data: needs scratch, the folder on the node that images are copied to"
    if site.device == "cuda" and site.gpus == 0:
        yield "device: found 'cuda', where gpus is 0; allowed: cpu, or ask for GPUs"
    for name, value in site.sbatch.items():
        problem = _option_problem(name, value) or _contradiction(name, value, site)
        if problem:
            yield f"{key_path('sbatch', name)}: {problem}"


def _option_problem(name: str, value: object) -> str | None:
    spelled = name.lstrip("-").replace("_", "-")
    if spelled in _OWN_OPTIONS:
        key = _OWN_OPTIONS[spelled]
        return f"not set here; use {key}" if key else "submit sets it itself; leave it out"
    if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name) or len(name) == 1:
        return "not the long name of an option without its dashes, such as reservation"
    if value is False or not isinstance(value, str | int | float):
        return f"found {shown(value)}; allowed: text, a number, or true for an option without a value"
    if isinstance(value, str):
        try:
            line(value)
        except ValueError as error:
            return f"found {shown(value)}; {error}"
    return None


def _contradiction(name: str, value: object, site: "Site") -> str | None:
    """Return why an option cannot stand beside the keys and options that ask for the same."""
    for key, names, given in (("memory", MEMORY, site.memory), ("cpus", CPUS, site.cpus), ("gpus", GPUS, None)):
        found = asking(site.sbatch, names)
        if name not in found:
            continue
        if given is not None:
            return f"{key}: {given} asks for the same; keep one of the two"
        if name != found[0]:
            return f"sbatch.{found[0]} asks for the same; keep one of the two"
    if name in _PER_GPU and not (site.gpus_by_key or asking(site.sbatch, GPUS)):
        return f"means nothing where no GPU is asked for (gpus is {shown(site.gpus)})"
    if name in MEMORY and _size_gb(value) is None and str(value) != "0":
        return f"found {shown(value)}; allowed: a size as sbatch takes it, such as 40G"
    return _wrong_count(name, value, site) if name in asking(site.sbatch, GPUS) else None


def _wrong_count(name: str, value: object, site: "Site") -> str | None:
    """Return how the number of GPUs of an option differs from what gpus, processes and nodes come to."""
    if site.gpus == 0:
        return "asks for GPUs, and gpus is 0; keep one of the two"
    on_a_node = site.gpus_of_process * site.processes_on_node
    expected = {
        "gres": (on_a_node, "on a node"),
        "gpus-per-node": (on_a_node, "on a node"),
        "gpus-per-task": (site.gpus_of_process, "of a process"),
        "gpus": (on_a_node * site.nodes, "of a run"),
    }
    count = _gpus_of_gres(value) if name == "gres" else _gpus_of(value)
    if name not in expected or count == expected[name][0]:
        return None
    return f"found {shown(value)}; gpus, processes and nodes come to {expected[name][0]} {expected[name][1]}"


def _gpus_of_gres(value: object) -> int:
    """Return the GPUs of such as gpu:a100:2,nvme:1."""
    parts = [part.removeprefix("gres/").removeprefix("gres:") for part in str(value).split(",")]
    return sum(_gpus_of(part) for part in parts if re.match(r"gpu(?![a-z])", part))


def _gpus_of(value: object) -> int:
    """Return the GPUs of such as 2, a100:2, or a100 alone, which is one."""
    without_sockets = re.sub(r"\(.*\)$", "", str(value))
    found = re.search(r"(?:^|[:=])(\d{1,6})$", without_sockets)
    return int(found[1]) if found else 1


def _size_gb(value: object) -> float | None:
    """Return a size as sbatch takes it, in MB unless it says otherwise; None for 0, the whole node, and for no size."""
    found = None if isinstance(value, bool) else re.fullmatch(r"(\d{1,12})([KMGT])?B?", str(value), re.IGNORECASE)
    size = int(found[1]) * _KILOBYTES[(found[2] or "M").upper()] if found else 0
    return size / 1024**2 if size else None
