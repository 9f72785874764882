"""A private SLURM cluster of two nodes: own configuration, state, logs, ports, munge and database, in one folder.

For root each node has a UTS and a mount namespace: a host name, an /etc/hosts and a scratch folder of its own. Other
users have two nodes of one name. Accounts are real: slurmdbd writes to a MariaDB that only its socket leads to.
Nothing of the machine's own SLURM is read or touched. The clients (sbatch, squeue, sacct, ...) find the cluster through
SLURM_CONF. Its processes are known by that variable or by the folder they work in, and no other is ever ended.
"""

import atexit
import contextlib
import getpass
import os
import random
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from tests.slurm.configuration import JOB_SUBMIT, SLURM, SLURMDBD
from tests.slurm.daemons import Daemons, kill_all, program

DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")
PACKAGES = "slurm-wlm slurmdbd munge mariadb-server-core"
CLIENTS = ("sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
# What stands for GPUs: character devices that every machine has and every user may name.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
NODES = ("n1", "n2")
# So many times as long as on an idle machine may everything take: others work on it too.
PATIENCE = 4
# What mariadb-install-db runs, which wants a package more; slurmdbd needs its tables for stored procedures.
SYSTEM_TABLES = Path("/usr/share/mysql/mysql_system_tables.sql")


def missing_programs() -> str | None:
    """Return what a cluster can not start without and what installs it, None if all is here."""
    missing = [name for name in (*DAEMONS, *CLIENTS) if program(name) is None]
    return f"no {', '.join(missing)} on this machine: apt-get install {PACKAGES}" if missing else None


class Cluster:
    """Context manager that starts a cluster of two nodes, and ends it with all its jobs.

    `env` is what a process needs to talk to it; times are in seconds; at most four GPUs. RuntimeError with the ends of
    the daemons' logs if it does not come up.
    """

    def __init__(
        self,
        *,
        cpus: int = 8,
        memory_mb: int = 32_000,
        gpus: int = 2,
        max_array_size: int = 21,
        kill_wait: int = 5,
        slurmd_timeout: int = 10,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.env = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self.small_disk: Path | None = None  # of 16 MB, that all nodes see; for root
        self._devices = DEVICES[:gpus]
        self._holders: dict[str, int] = {}  # of a node's namespaces, by pid
        self._starts: dict[str, int] = {}  # of a node's daemon, so far
        self._settings = {
            "cpus": cpus,
            "memory_mb": memory_mb,
            "gpus": gpus,
            "max_array_size": max_array_size,
            "kill_wait": kill_wait,
            "slurmd_timeout": slurmd_timeout,
        }
        database = {"MYSQL_UNIX_PORT": str(self.folder / "database.socket")}
        self._daemons = Daemons(self.folder, self.env | database)

    def __enter__(self) -> Self:
        atexit.register(self._end)
        try:
            self._configure()
            self._start_munged()
            self._start_database()
            self.start_slurmctld()
            for node in NODES:
                self._separate(node)
            for node in NODES:
                self._launch_slurmd(node)
            for node in NODES:
                self._daemons.until_up(lambda node=node: self._is_up(node), node)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def attempt(self, *command: str | Path, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Return how a command ended on the cluster, well or not."""
        words = [str(word) for word in command]
        environment = os.environ | self.env
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=timeout, check=False)

    def run(self, *command: str | Path, timeout: float = 120.0) -> str:
        """Return what a command prints on the cluster; RuntimeError with its messages and the logs if it fails."""
        done = self.attempt(*command, timeout=timeout)
        if done.returncode:
            raise RuntimeError(f"{' '.join(done.args)}: exit code {done.returncode}\n{done.stderr}\n{self.logs()}")
        return done.stdout

    def submit(self, script: str, *options: str | Path) -> str:
        """Return the id of a job that runs the lines of a shell script; options are those of sbatch."""
        output = f"--output={self.folder}/%j.out"
        return self.run("sbatch", "--parsable", output, *options, f"--wrap={script}").strip()

    def job(self, job_id: str) -> dict[str, str]:
        """Return what SLURM knows of a job or array element ("7", "7_0"), by the names of `scontrol show job`."""
        line = self.run("scontrol", "show", "job", "--oneliner", job_id).splitlines()[0]
        return dict(re.findall(r"(\S+?)=(.*?)(?= [A-Z]\S*=|\s*$)", line))

    def seconds(self, job_id: str) -> int:
        """Return for how long a job or array element has run since it last started, less than a day."""
        hours, minutes, seconds = map(int, self.job(job_id)["RunTime"].split(":"))
        return 3600 * hours + 60 * minutes + seconds

    def output(self, job_id: str) -> str:
        """Return what a job or array element has printed so far."""
        path = Path(self.job(job_id)["StdOut"])
        return path.read_text() if path.exists() else ""

    def queue(self) -> dict[str, str]:
        """Return the state of every job and array element SLURM remembers: {"7_0": "RUNNING", "8": "PENDING"}."""
        lines = self.run("squeue", "--all", "--array", "--noheader", "--states=all", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait(self, predicate: Callable[[], object], timeout: float, what: str) -> None:
        """Return once the predicate holds; AssertionError with what did not happen, the queue and the logs.

        `timeout` is generous on an idle machine; PATIENCE times as long is waited.
        """
        timeout *= PATIENCE
        deadline = time.monotonic() + timeout
        while not self._holds(predicate):
            if time.monotonic() > deadline:
                raise AssertionError(f"after {timeout:g} s still not: {what}\n{self.queue()}\n{self.logs()}")

    @staticmethod
    def _holds(predicate: Callable[[], object]) -> bool:
        """Look, and rest for three times as long if it does not hold: jobs need the processor that looking takes."""
        began = time.monotonic()
        if holds := bool(predicate()):
            return holds
        time.sleep(min(max(0.1, 3 * (time.monotonic() - began)), 2.0))
        return False

    def wait_for(self, state: str, *job_ids: str, timeout: float = 30.0) -> None:
        """Return once all these jobs or array elements are in a state; AssertionError as of `wait`."""
        self.wait(
            lambda: {self.queue().get(job_id) for job_id in job_ids} == {state},
            timeout,
            f"{state}: {', '.join(job_ids)}",
        )

    def logs(self) -> str:
        """Return the last lines of the daemons' logs."""
        return self._daemons.logs()

    def stop_slurmd(self, node: str = "n1") -> None:
        """Kill a node's daemon as a crash of it would (SIGKILL); jobs on the node go on."""
        self._daemons.kill(node)

    def crash_node(self, node: str = "n1") -> None:
        """Kill a node's daemon and all that runs on the node, as a power cut would.

        SLURM requeues jobs that began more than 12 s ago (BatchStartTimeout and MessageTimeout) as soon as the daemon
        is back, and all jobs once the node has been away for `slurmd_timeout`, which takes it some 25 s to see.
        """
        self.stop_slurmd(node)
        kill_all(lambda: self._jobs_on(node))

    def start_slurmd(self, node: str = "n1", *, resume: bool = False) -> None:
        """Start a node's daemon, and resume a node that was set down; returns once it answers and takes jobs."""
        self._launch_slurmd(node)
        if resume:
            self.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
        self._daemons.until_up(lambda: self._is_up(node), node)

    def stop_slurmctld(self) -> None:
        """End the controller as a restart of it does (SIGTERM); nodes and jobs go on."""
        self._daemons.end("slurmctld")

    def start_slurmctld(self) -> None:
        """Start the controller; returns once it answers."""
        self._daemons.start("slurmctld", "slurmctld", "-D")
        self._daemons.until_up(self._controller_answers, "slurmctld")

    def stop_slurmdbd(self) -> None:
        """Kill the daemon of accounts as a crash of it would (SIGKILL); the controller goes on with what it knows."""
        self._daemons.kill("slurmdbd")

    def start_slurmdbd(self) -> None:
        """Start the daemon of accounts; returns once it answers."""
        self._daemons.start("slurmdbd", "slurmdbd", "-D")
        self._daemons.until_up(lambda: self.attempt("sacctmgr", "show", "cluster").returncode == 0, "slurmdbd")

    @contextlib.contextmanager
    def covered(self, node: str, place: Path, *options: str) -> Iterator[None]:
        """Mount something over a folder that this node alone then sees; options are those of mount."""
        inside = ("nsenter", f"--target={self._holders[node]}", "--mount", "--wd")
        subprocess.run([*inside, "mount", *options, place], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run([*inside, "umount", "--lazy", place], check=True, capture_output=True)

    def limit(self, **limits: int | str) -> None:
        """Set limits of the account, MaxSubmitJobs=3 or GrpTRES="cpu=2", -1 for none; returns once they hold."""
        self.run("sacctmgr", "-i", "modify", "account", "lab", "set", *(f"{key}={at}" for key, at in limits.items()))

    def accounted(self, *job_ids: str) -> dict[str, tuple[str, str]]:
        """Return state and exit code of jobs and array elements as sacct has them: {"7_0": ("FAILED", "3:0")}."""
        asked = ["sacct", "-X", "-P", "--noheader", "--format=JobID,State,ExitCode", f"--jobs={','.join(job_ids)}"]
        rows = (line.split("|") for line in self.run(*asked).splitlines())
        return {job: (state.split()[0], code) for job, state, code in rows}

    def processes(self) -> list[int]:
        """Return the pids of the cluster: its daemons, and whatever runs for its jobs."""
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and self._owns(path)]

    def _end(self) -> None:
        """Cancel the jobs, end all processes, remove the folder."""
        atexit.unregister(self._end)
        if "slurmctld" in self._daemons.running:
            self._cancel_jobs()
        self._daemons.end(*reversed(self._daemons.running))
        kill_all(self.processes)
        if self.small_disk is not None:
            subprocess.run(["umount", "--lazy", self.small_disk], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _configure(self) -> None:
        self.folder.chmod(0o755)  # munged refuses a socket that others can not reach
        (self.folder / "state").mkdir()
        (self.folder / "database").mkdir()
        (self.folder / "scratch").mkdir()  # on each node another one, where nodes are separate
        small = self.folder / "small"  # before nodes have mounts of their own, which then have it too
        small.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=16M", "none", small]
        if subprocess.run(mount, check=False, capture_output=True).returncode == 0:
            self.small_disk = small
        (self.folder / "hosts").write_text("127.0.0.1 localhost n1 n2\n")
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        ports = dict(zip(("controller_port", "database_port", "n1_port", "n2_port"), _free_ports(4), strict=True))
        host = socket.gethostname().partition(".")[0]
        facts = {"host": host, "user": getpass.getuser(), "folder": self.folder, **ports, **self._settings}
        (self.folder / "slurm.conf").write_text(SLURM.format(**facts))
        accounts = self.folder / "slurmdbd.conf"
        accounts.touch(mode=0o600)
        accounts.write_text(SLURMDBD.format(**facts))
        (self.folder / "job_submit.lua").write_text(JOB_SUBMIT)
        gres = "".join(f"Name=gpu Type=fake File={device}\n" for device in self._devices)
        (self.folder / "gres.conf").write_text(gres)

    def _start_munged(self) -> None:
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        options = (f"--{option}={self.folder / file}" for option, file in files.items())
        self._daemons.start("munged", "munged", "--foreground", *options)
        self._daemons.until_up((self.folder / "munge.socket").exists, "munged")

    def _start_database(self) -> None:
        """Start MariaDB without users or network, slurmdbd on it, and make the account `lab` of this user."""
        data = ["--no-defaults", f"--datadir={self.folder}/database", "--skip-networking", "--innodb-log-file-size=8M"]
        data += ["--user=root"] if os.getuid() == 0 else []
        subprocess.run(
            [program("mariadbd") or "mariadbd", *data, "--bootstrap"],
            input=f"CREATE DATABASE mysql;\nUSE mysql;\n{SYSTEM_TABLES.read_text()}",
            cwd=self.folder,
            text=True,
            capture_output=True,
            check=True,
        )
        place = self.folder / "database.socket"
        self._daemons.start("mariadbd", "mariadbd", *data, f"--socket={place}", "--skip-grant-tables")
        self._daemons.until_up(place.exists, "mariadbd")
        self.start_slurmdbd()
        self.run("sacctmgr", "-i", "add", "cluster", "private")
        self.run("sacctmgr", "-i", "add", "account", "lab")
        self.run("sacctmgr", "-i", "add", "user", getpass.getuser(), "account=lab", "defaultaccount=lab")

    def _separate(self, node: str) -> None:
        """Give a node its namespaces, held by a process that sleeps, and wait until they are as they should be."""
        if separate_nodes_refused() is not None:
            return
        scratch = self.folder / f"scratch-{node}"
        scratch.mkdir()
        lines = (
            'hostname "$1" && mount --bind "$2/hosts" /etc/hosts && mount --bind "$2/scratch-$1" "$2/scratch"'
            ' && touch "$2/$1.ready" && exec sleep infinity'
        )
        command = ("unshare", "--uts", "--mount", "sh", "-c", lines, "sh", node, self.folder)
        self._holders[node] = self._daemons.start(f"namespaces-{node}", *command)
        self._daemons.until_up((self.folder / f"{node}.ready").exists, f"the namespaces of {node}")

    def _launch_slurmd(self, node: str) -> None:
        self._starts[node] = self._starts.get(node, 0) + 1
        holder = self._holders.get(node)
        inside = () if holder is None else ("nsenter", f"--target={holder}", "--uts", "--mount", "--wd")
        self._daemons.start(node, *inside, program("slurmd") or "slurmd", "-D", "-N", node)

    def _is_up(self, node: str) -> bool:
        log = self.folder / f"{node}.log"
        if not log.exists() or log.read_text(errors="replace").count("slurmd started on") < self._starts[node]:
            return False
        shown = self.attempt("sinfo", "--noheader", f"--nodes={node}", "--format=%T").stdout.split()
        return shown[:1] in (["idle"], ["mixed"], ["allocated"])

    def _controller_answers(self) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return "is UP" in self.attempt("scontrol", "ping", timeout=5).stdout
        return False

    def _jobs_on(self, node: str) -> list[int]:
        """Return the pids of what runs on a node but for the daemons: all there is, where nodes are not separate."""
        daemons = {daemon.pid for daemon in self._daemons.running.values()}
        holder = self._holders.get(node)
        place = None if holder is None else _namespace(holder)
        return [
            pid
            for pid in self.processes()
            if _session(pid) not in daemons and (place is None or _namespace(pid) == place)
        ]

    def _cancel_jobs(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired, AssertionError, RuntimeError):
            self.run("scancel", "--user", getpass.getuser(), timeout=5)
            self.wait(lambda: not self.run("squeue", "--noheader"), 5, "no job left")

    def _owns(self, process: Path) -> bool:
        """Return whether a folder of /proc is of a process of this cluster."""
        try:
            # slurmstepd overwrites its environment, but works in the daemons' folder.
            if (process / "cwd").readlink() == self.folder and (process / "comm").read_text().startswith("slurm"):
                return True
            return f"SLURM_CONF={self.folder}/slurm.conf".encode() in (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is another user's
            return False


def separate_nodes_refused() -> str | None:
    """Return why nodes cannot have a host name and mounts of their own here, None if they can."""
    done = subprocess.run(
        ["unshare", "--uts", "--mount", "sh", "-c", "hostname n1 && mount --bind /tmp /mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else f"two separate nodes need root's namespaces: {done.stderr.strip()}"


def _namespace(pid: int) -> str | None:
    """Return the UTS namespace of a process, None if it has ended."""
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/uts").readlink())
    return None


def _session(pid: int) -> int | None:
    """Return the session of a process: of a daemon and its helpers, the daemon's pid. None if it has ended."""
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return None


def _free_ports(count: int) -> list[int]:
    """Return ports that are free, and that no client gets for its own end while a daemon is away (from 32768 on)."""
    free: list[int] = []
    for port in random.SystemRandom().sample(range(20_000, 32_000), 1_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            break
    return free
