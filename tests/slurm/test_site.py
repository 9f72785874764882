"""Site files: what they mean, and each mistake as one line with file, key, what was found, and what is allowed."""

import re
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from bench.errors import UserError
from slurm.options import memory_limit_gb
from slurm.site import SITES, Site, expanded, load_site

DURATION = "allowed: a whole number with its unit (s, min, h, d), such as 90min, 24h or 2d"
UNITLESS = "a number without a unit can be misread; "
MEMORY = "allowed: a whole number with its unit (MB, GB, TB), such as 16GB; or auto, or null"
CLOCK = "; write a whole number with its unit (s, min, h, d), such as 90min, 24h or 2d"
SHORT = "allowed: at least 15min, since submitit takes every interruption of a job of 10 minutes or less for a timeout"
SIGNAL = "allowed: 30s, the time that a checkpoint may take, to 5min, since the shortest walltime is 15min"
OPTION = "not the long name of an option without its dashes, such as reservation"
VALUE = "allowed: text, a number, or true for an option without a value"
LINE = "allowed: text that begins with neither a blank nor a dash, and ends with no blank"
WORD = "allowed: text without blanks"
CONTROL = "allowed: text on one line, without control characters"
LOCAL = "means nothing where scheduler is local; leave it out"


def load_text(folder: Path, text: str) -> Site:
    path = folder / "site.yaml"
    path.write_text(dedent(text), encoding="utf-8")
    return load_site(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "partitoin: gpu",
            "partitoin: unknown key; did you mean 'partition'? allowed: " + ", ".join(Site.model_fields),
        ),
        ("scheduler: slrum", "scheduler: found 'slrum'; did you mean 'slurm'? allowed: slurm, local"),
        ("partition: 3", "partition: found 3; allowed: text"),
        ("account: [a]", "account: found a list; allowed: text"),
        ("qos: true", "qos: found true; allowed: text"),
        ("constraint: 8", "constraint: found 8; allowed: text"),
        ("gpus: -1", "gpus: found -1; allowed: at least 0 and at most 1,000"),
        ("gpus: '2'", "gpus: found '2'; allowed: a whole number, written without quotes"),
        ("gpu_type: 100", "gpu_type: found 100; allowed: text"),
        ("{gpus: 0, device: cuda}", "device: found 'cuda', where gpus is 0; allowed: cpu, or ask for GPUs"),
        ("{gpus: 0, gpu_type: a100}", "gpu_type: means nothing where gpus is 0; leave it out, or ask for GPUs"),
        ("cpus: 0", "cpus: found 0; allowed: at least 1 and at most 100,000"),
        ("cpus: 1.5", "cpus: found 1.5; allowed: a whole number"),
        ("memory: 64", f"memory: found 64; {UNITLESS}{MEMORY}"),
        ("memory: 64G", f"memory: found '64G'; {MEMORY}"),
        ("memory: 1.5GB", f"memory: found '1.5GB'; {MEMORY}"),
        (
            "memory: 2047MB",
            "memory: found '2047MB'; allowed: at least 2GB, since Python and torch alone take about 1GB",
        ),
        ("walltime: 90", f"walltime: found 90; {UNITLESS}{DURATION}"),
        ("walltime: null", f"walltime: found nothing; {DURATION}"),
        ("walltime: true", f"walltime: found true; {DURATION}"),
        ("walltime: 90m", f"walltime: found '90m'; {DURATION}"),
        ("walltime: 1-12:00:00", f"walltime: found '1-12:00:00'; {DURATION}"),
        ("walltime: '24:00:00'", f"walltime: found '24:00:00'; {DURATION}"),
        ("walltime: 08:00:00", f"walltime: found '08:00:00'; {DURATION}"),
        ("cpus: 2\nwalltime: 24:00:00 # a day", f"walltime: YAML reads 24:00:00 as the number 86400{CLOCK}"),
        ("walltime: 14min", f"walltime: found '14min'; {SHORT}"),
        ("walltime: 899s", f"walltime: found '899s'; {SHORT}"),
        ("max_jobs: 0", "max_jobs: found 0; allowed: at least 1 and at most 100,000"),
        ("max_jobs: null", "max_jobs: found nothing; allowed: a whole number"),
        ("requeue: 1", "requeue: found 1; allowed: true or false"),
        ("requeue: yes", "requeue: line 1: YAML reads yes as true; write true (or quote it, if a text)"),
        ("processes: 0", "processes: found 0; allowed: at least 1 and at most 10,000"),
        ("nodes: 0", "nodes: found 0; allowed: at least 1 and at most 10,000"),
        ("{processes: 3, nodes: 2}", "processes: found 3; allowed: a multiple of nodes (2), as many on each"),
        ("nodes: 2", "processes: found 1; allowed: a multiple of nodes (2), as many on each"),
        ("signal: 29s", f"signal: found '29s'; {SIGNAL}"),
        ("signal: 301s", f"signal: found '301s'; {SIGNAL}"),
        ("signal: 120", f"signal: found 120; {UNITLESS}{DURATION}"),
        ("tflops: 0", "tflops: found 0; allowed: more than 0 and at most 1,000,000,000"),
        ("tflops: fast", "tflops: found 'fast'; allowed: a number"),
        ("store: 3", "store: found 3; allowed: a path"),
        ("store: $NOT_SET/results", "store: found '$NOT_SET/results'; $NOT_SET is not set here"),
        ("data: a/${NOT_SET}b", "data: found 'a/${NOT_SET}b'; $NOT_SET is not set here"),
        (
            "data: ~no_one_of_this_name/data",
            "data: found '~no_one_of_this_name/data'; there is no user 'no_one_of_this_name' here",
        ),
        ("scratch: 3", "scratch: found 3; allowed: text"),
        ("copy_data: true", "copy_data: needs scratch, the folder on the node that images are copied to"),
        ("copy_data: 3", "copy_data: found 3; allowed: true or false"),
        ("setup: module load cuda", "setup: found 'module load cuda'; allowed: a list"),
        ("setup: [ls, 3]", "setup[1]: found 3; allowed: text"),
        ("python: 3.11", "python: found 3.11; allowed: text"),
        ("mail: me@example.org", "mail: found 'me@example.org'; allowed: a mapping (key: value)"),
        ("mail: {events: [END]}", "mail.user: missing; a value is needed"),
        ("mail: {user: me, event: [END]}", "mail.event: unknown key; did you mean 'events'? allowed: user, events"),
        (
            "mail: {user: me, events: [STOP]}",
            "mail.events[0]: found 'STOP'; allowed: BEGIN, END, FAIL, REQUEUE, ALL",
        ),
        ("mail: {user: me, events: []}", "mail.events: found an empty list; at least one value is needed"),
        ("sbatch: [exclusive]", "sbatch: found a list; allowed: a mapping (key: value)"),
        ("sbatch: {time: 60}", "sbatch.time: not set here; use walltime"),
        (
            "{memory: 8GB, sbatch: {mem-per-cpu: 4G}}",
            "sbatch.mem-per-cpu: memory: 8GB asks for the same; keep one of the two",
        ),
        (
            "sbatch: {mem-per-cpu: 4G, mem: 8G}",
            "sbatch.mem-per-cpu: sbatch.mem asks for the same; keep one of the two",
        ),
        (
            "sbatch: {mem: lots}",
            "sbatch.mem: found 'lots'; allowed: a size as sbatch takes it, such as 40G",
        ),
        ("{cpus: 4, sbatch: {cpus-per-gpu: 8}}", "sbatch.cpus-per-gpu: cpus: 4 asks for the same; keep one of the two"),
        (
            "{gpus: 0, sbatch: {mem-per-gpu: 40G}}",
            "sbatch.mem-per-gpu: means nothing where no GPU is asked for (gpus is 0)",
        ),
        (
            "{gpus: null, sbatch: {cpus-per-gpu: 8}}",
            "sbatch.cpus-per-gpu: means nothing where no GPU is asked for (gpus is nothing)",
        ),
        (
            "{gpus: 0, sbatch: {gres: 'gpu:1'}}",
            "sbatch.gres: asks for GPUs, and gpus is 0; keep one of the two",
        ),
        (
            "{processes: 4, nodes: 2, sbatch: {gres: 'gpu:a100:4'}}",
            "sbatch.gres: found 'gpu:a100:4'; gpus, processes and nodes come to 2 on a node",
        ),
        (
            "{processes: 4, sbatch: {gpus: 'a100:1'}}",
            "sbatch.gpus: found 'a100:1'; gpus, processes and nodes come to 4 of a run",
        ),
        (
            "sbatch: {gres: 'gpu:1', gpus-per-task: 1}",
            "sbatch.gpus-per-task: sbatch.gres asks for the same; keep one of the two",
        ),
        (
            "{gpu_type: a100, sbatch: {gres: 'gpu:1'}}",
            "gpu_type: means nothing where sbatch.gres asks for the GPUs; name the type there",
        ),
        (
            "{gpus: null, gpu_type: a100}",
            "gpu_type: means nothing where gpus is nothing; leave it out, or ask for GPUs",
        ),
        ("sbatch: {gpus_per_node: 1}", f"sbatch.gpus_per_node: {OPTION}"),
        ("sbatch: {--partition: gpu}", "sbatch.--partition: not set here; use partition"),
        ("sbatch: {array: 0-3}", "sbatch.array: not set here; use max_jobs"),
        ("sbatch: {ntasks: 2}", "sbatch.ntasks: not set here; use processes"),
        ("sbatch: {no-requeue: true}", "sbatch.no-requeue: not set here; use requeue: false"),
        ("sbatch: {mail-user: me}", "sbatch.mail-user: not set here; use mail"),
        ("sbatch: {dependency: singleton}", "sbatch.dependency: submit sets it itself; leave it out"),
        ("sbatch: {job-name: mine}", "sbatch.job-name: submit sets it itself; leave it out"),
        ("sbatch: {output: log}", "sbatch.output: submit sets it itself; leave it out"),
        ("sbatch: {--reservation: mine}", f"sbatch.--reservation: {OPTION}"),
        ("sbatch: {A: mine}", f"sbatch.A: {OPTION}"),
        ("sbatch: {w: node1}", f"sbatch.w: {OPTION}"),
        ("sbatch: {nice: [1]}", f"sbatch.nice: found a list; {VALUE}"),
        ("sbatch: {nice: null}", f"sbatch.nice: found nothing; {VALUE}"),
        ("sbatch: {exclusive: false}", f"sbatch.exclusive: found false; {VALUE}"),
        ("{scheduler: local, partition: gpu}", f"partition: {LOCAL}"),
        ("{scheduler: local, account: a}", f"account: {LOCAL}"),
        ("{scheduler: local, qos: a}", f"qos: {LOCAL}"),
        ("{scheduler: local, constraint: a}", f"constraint: {LOCAL}"),
        ("{scheduler: local, gpus: 1, gpu_type: a100}", f"gpu_type: {LOCAL}"),
        ("{scheduler: local, mail: {user: me}}", f"mail: {LOCAL}"),
        ("{scheduler: local, sbatch: {nice: 10}}", f"sbatch: {LOCAL}"),
        ("{scheduler: local, processes: 2, nodes: 2}", "nodes: found 2; a local site is one node"),
        ("- partition", "the site: found a list; allowed: a mapping (key: value)"),
        ("# nothing", "an empty file; sites/example.yaml is one to copy and edit"),
        ("walltime: 1001d", "walltime: found '1001d'; allowed: at most 1000d"),
        ("walltime: 9999999999d", f"walltime: found '9999999999d'; {DURATION}"),
        ("memory: 1001TB", "memory: found '1001TB'; allowed: at most 1000TB"),
        (
            f"walltime: 1{':00' * 3000}",
            f"walltime: line 1: YAML does not read '1{':00' * 26}... as a decimal number; write one",
        ),
        # what would be another line, word or option of a script
        ('qos: "a\\n#SBATCH --uid=0"', f"qos: found 'a\\n#SBATCH --uid=0'; {WORD}"),
        ("partition: gpu large", f"partition: found 'gpu large'; {WORD}"),
        ("account: -A", f"account: found '-A'; {LINE}"),
        ('constraint: ""', f"constraint: found ''; {LINE}"),
        ('gpu_type: "a\\0"', f"gpu_type: found 'a\\x00'; {CONTROL}"),
        ('mail: {user: "me\\tyou"}', f"mail.user: found 'me\\tyou'; {WORD}"),
        (f"qos: {'q' * 251}", "qos: found 251 characters; allowed: at most 250"),
        ('python: "python\\nrm x"', f"python: found 'python\\nrm x'; {CONTROL}"),
        ("scratch: ' /tmp'", f"scratch: found ' /tmp'; {LINE}"),
        ('setup: [ls, "ls\\nrm x"]', f"setup[1]: found 'ls\\nrm x'; {CONTROL}"),
        ("setup: ['']", f"setup[0]: found ''; {LINE}"),
        ('store: "/a\\nb"', f"store: found '/a\\nb'; {CONTROL}"),
        ('sbatch: {reservation: "a\\nb"}', f"sbatch.reservation: found 'a\\nb'; {CONTROL}"),
        ("sbatch: {reservation: --uid}", f"sbatch.reservation: found '--uid'; {LINE}"),
        ("gpus: 1\ngpus: 2", "gpus: given twice (lines 1 and 2); keep one of them"),
    ],
)
def test_every_mistake_is_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(UserError) as refused:
        load_text(tmp_path, text)
    assert str(refused.value) == f"{tmp_path / 'site.yaml'}: {message}"


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        load_text(tmp_path, "cpus: 0\nmemory: 8\nmail: {}")
    path = tmp_path / "site.yaml"
    keys = [line.removeprefix(f"{path}: ").split(":")[0] for line in str(refused.value).split("\n")]
    assert keys == ["cpus", "memory", "mail.user"]


def test_lengths_and_sizes_in_the_units_that_slurm_is_asked_in(tmp_path: Path) -> None:
    site = load_text(tmp_path, "{walltime: 2d, memory: 7900MB, signal: 30s}")
    assert (site.walltime_minutes, site.memory_cap_gb, site.signal_seconds) == (2880, 7, 30)
    assert load_text(tmp_path, "{memory: 2GB, walltime: 15min}").memory_cap_gb == 2
    assert load_text(tmp_path, "memory: 1 TB").memory_cap_gb == 1024


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("{}", None),
        ("memory: null", None),
        ("memory: 8GB", 8),
        ("sbatch: {mem-per-gpu: 40G}", 40),
        ("{gpus: 2, sbatch: {mem-per-gpu: 40G}}", 80),
        ("sbatch: {mem-per-cpu: 2000}", 4 * 2000 / 1024),
        ("sbatch: {mem-per-cpu: 2G, cpus-per-gpu: 12}", 24),
        ("sbatch: {mem-per-cpu: 2G, cpus-per-task: 3}", 6),
        ("{cpus: null, sbatch: {mem-per-cpu: 2G}}", None),
        ("{processes: 4, nodes: 2, sbatch: {mem: 1T}}", 512),
        ("sbatch: {mem: 0}", None),
    ],
)
def test_the_memory_of_a_process_is_what_a_key_or_an_option_gives_it(
    tmp_path: Path, text: str, limit: float | None
) -> None:
    assert memory_limit_gb(load_text(tmp_path, text)) == limit


def test_a_gres_that_is_no_gpu_stands_beside_gpus(tmp_path: Path) -> None:
    site = load_text(tmp_path, "{gpus: 1, gpu_type: a100, sbatch: {gres: 'nvme:1,gpuless:2'}}")
    assert site.gpus_by_key == 1


def test_defaults_depend_on_the_scheduler(tmp_path: Path) -> None:
    cluster, local = (load_text(tmp_path, f"scheduler: {name}") for name in ("slurm", "local"))
    assert (cluster.gpus, cluster.max_jobs, cluster.device) == (1, 64, "cuda")
    assert (local.gpus, local.max_jobs, local.device) == (0, 1, "cpu")
    given = load_text(tmp_path, "{scheduler: local, gpus: 2, max_jobs: 3}")
    assert (given.gpus, given.max_jobs) == (2, 3)


def test_a_local_site_may_write_null_where_it_has_nothing_to_say(tmp_path: Path) -> None:
    assert load_text(tmp_path, "{scheduler: local, partition: null, memory: null, sbatch: {}}").partition is None


def test_variables_and_home_are_replaced_where_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORK", "/shared/me")
    monkeypatch.setenv("HOME", "/home/me")
    site = load_text(tmp_path, "{store: $WORK/results, data: '${WORK}/$WORK', scratch: $WORK/tmp}")
    assert (site.store, site.data) == (Path("/shared/me/results"), Path("/shared/me/shared/me"))
    assert site.scratch == "$WORK/tmp"
    assert expanded("$WORK/tmp") == Path("/shared/me/tmp")
    assert load_text(tmp_path, "store: ~/results").store == Path("/home/me/results")


def test_further_options_of_sbatch_pass_as_they_are(tmp_path: Path) -> None:
    options = {"reservation": "mine", "nice": 100, "exclusive": True, "gres-flags": "enforce-binding"}
    assert load_text(tmp_path, yaml.safe_dump({"sbatch": options})).sbatch == options


def test_a_site_is_found_by_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_site("cpu") == load_site(str(SITES / "cpu.yaml"))
    (tmp_path / "mine.yaml").write_text("cpus: 3")
    assert load_site("mine.yaml").cpus == 3
    for name, message in {
        "locl": "no such site; did you mean 'local'? allowed: cpu, example, local, or the path of a site file (*.yaml)",
        "sites/mine": "no such file; allowed: the path of a site file, or one of cpu, example, local",
        "cpu.yaml": "no such file; allowed: the path of a site file, or one of cpu, example, local",
    }.items():
        with pytest.raises(UserError) as refused:
            load_site(name)
        assert str(refused.value) == f"--site {name}: {message}"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8 text, so not a site file"):
        load_site(str(path))


def test_the_example_has_every_key_and_marks_those_that_are_not_defaults() -> None:
    lines = (SITES / "example.yaml").read_text(encoding="utf-8").splitlines()
    given = {line.split(":")[0]: "# <-" in line for line in lines if line and line[0] not in "# "}
    assert given.keys() == Site.model_fields.keys()
    example, default = load_site("example"), Site()
    assert [key for key, marked in given.items() if not marked and getattr(example, key) != getattr(default, key)] == []
    assert sum(given.values()) == 6


@pytest.mark.parametrize(("name", "scheduler", "device"), [("cpu", "slurm", "cpu"), ("local", "local", "cpu")])
def test_the_other_sites_are_what_their_names_say(name: str, scheduler: str, device: str) -> None:
    site = load_site(name)
    assert (site.scheduler, site.device) == (scheduler, device)


def test_every_site_begins_with_what_it_is_for() -> None:
    for path in SITES.glob("*.yaml"):
        assert path.read_text(encoding="utf-8").startswith("# ")


def test_every_key_is_documented() -> None:
    columns = re.findall(r"^    ([a-z_]+(?:, [a-z_]+)*)  ", str(Site.__doc__), re.MULTILINE)
    assert [key for column in columns for key in column.split(", ")] == list(Site.model_fields)
