"""A private SLURM cluster of one node: own configuration, state, logs, ports and munge, below one temporary folder.

Nothing of the machine's own SLURM is read or touched, and any user can start one. The clients (sbatch, squeue,
scontrol, scancel, srun) find it through SLURM_CONF. Its processes are known by that variable or by the folder they
work in, and no other is ever ended.
"""

import atexit
import contextlib
import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
# What stands for GPUs: character devices that every machine has and every user may name.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
# A requeued job waits cred_expire + 1 seconds before it starts again (121 unless set; SLURM takes no less than 5).
CONFIGURATION = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
MailProg=/bin/true
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PriorityType=priority/basic
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
GresTypes=gpu
SlurmdParameters=config_overrides
MaxArraySize={max_array_size}
MinJobAge=300
JobRequeue=1
BatchStartTimeout=1
DefMemPerCPU=500
KillWait={kill_wait}
InactiveLimit=0
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout={slurmd_timeout}
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} Gres=gpu:fake:{gpus}
PartitionName=main Nodes=localhost Default=YES MaxTime=7-00:00:00 DefaultTime=60
PartitionName=short Nodes=localhost MaxTime=30 DefaultTime=5
"""
START_SECONDS = 30.0
LAST_LINES = 40


def missing_programs() -> str | None:
    """Return what a cluster can not start without and what installs it, None if all is here."""
    missing = [program for program in (*DAEMONS, *CLIENTS) if _program(program) is None]
    return f"no {', '.join(missing)} on this machine: apt-get install slurm-wlm munge" if missing else None


class Cluster:
    """Context manager that starts a cluster of one node, and ends it with all its jobs.

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
        self._devices = DEVICES[:gpus]
        self._settings = {
            "cpus": cpus,
            "memory_mb": memory_mb,
            "gpus": gpus,
            "max_array_size": max_array_size,
            "kill_wait": kill_wait,
            "slurmd_timeout": slurmd_timeout,
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        atexit.register(self._end)
        try:
            self._configure()
            self._start_munged()
            self._start("slurmctld", "-D")
            self.start_slurmd()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def attempt(self, *command: str | Path, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Return how a command ended on the cluster, well or not."""
        words = [str(word) for word in command]
        environment = os.environ | self.env
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=timeout, check=False)

    def run(self, *command: str | Path, timeout: float = 30.0) -> str:
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

    def output(self, job_id: str) -> str:
        """Return what a job or array element has printed so far."""
        path = Path(self.job(job_id)["StdOut"])
        return path.read_text() if path.exists() else ""

    def queue(self) -> dict[str, str]:
        """Return the state of every job and array element SLURM remembers: {"7_0": "RUNNING", "8": "PENDING"}."""
        lines = self.run("squeue", "--all", "--array", "--noheader", "--states=all", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait(self, predicate: Callable[[], object], timeout: float, what: str) -> None:
        """Return once the predicate holds; AssertionError with what did not happen, the queue and the logs."""
        deadline = time.monotonic() + timeout
        while not predicate():
            if time.monotonic() > deadline:
                raise AssertionError(f"after {timeout:g} s still not: {what}\n{self.queue()}\n{self.logs()}")
            time.sleep(0.1)

    def wait_for(self, state: str, *job_ids: str, timeout: float = 30.0) -> None:
        """Return once all these jobs or array elements are in a state; AssertionError as of `wait`."""
        self.wait(
            lambda: {self.queue().get(job_id) for job_id in job_ids} == {state},
            timeout,
            f"{state}: {', '.join(job_ids)}",
        )

    def logs(self) -> str:
        """Return the last lines of the daemons' logs."""
        return "\n".join(f"--- {name}\n{self._last_lines(name)}" for name in DAEMONS)

    def stop_slurmd(self) -> None:
        """Kill the node's daemon as a crash of it would (SIGKILL); jobs on the node go on."""
        daemon = self._daemons.pop("slurmd")
        daemon.kill()
        daemon.wait()

    def crash_node(self) -> None:
        """Kill the node's daemon and all that runs on the node, as a power cut would.

        SLURM requeues jobs that began more than 12 s ago (BatchStartTimeout and MessageTimeout) as soon as the daemon
        is back, and all jobs once the node has been away for `slurmd_timeout`, which takes it some 25 s to see.
        """
        self.stop_slurmd()
        daemons = {daemon.pid for daemon in self._daemons.values()}
        _kill_all(lambda: [pid for pid in self.processes() if _session(pid) not in daemons])

    def start_slurmd(self) -> None:
        """Start the node's daemon; returns once it answers and the node takes jobs."""
        self._start("slurmd", "-D")
        self._until_up(self._node_is_up, "the node")

    def processes(self) -> list[int]:
        """Return the pids of the cluster: its daemons, and whatever runs for its jobs."""
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and self._owns(path)]

    def _end(self) -> None:
        """Cancel the jobs, end all processes, remove the folder."""
        atexit.unregister(self._end)
        if "slurmctld" in self._daemons:
            self._cancel_jobs()
        for name in reversed(DAEMONS):
            if daemon := self._daemons.pop(name, None):
                daemon.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    daemon.wait(10)
                daemon.kill()
                daemon.wait()
        _kill_all(self.processes)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _configure(self) -> None:
        self.folder.chmod(0o755)  # munged refuses a socket that others can not reach
        (self.folder / "state").mkdir()
        (self.folder / "spool").mkdir()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        controller_port, node_port = _free_ports(2)
        text = CONFIGURATION.format(
            name=self.folder.name,
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            folder=self.folder,
            controller_port=controller_port,
            node_port=node_port,
            **self._settings,
        )
        (self.folder / "slurm.conf").write_text(text)
        gres = "".join(f"Name=gpu Type=fake File={device}\n" for device in self._devices)
        (self.folder / "gres.conf").write_text(gres)

    def _start_munged(self) -> None:
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        self._start("munged", "--foreground", *(f"--{option}={self.folder / file}" for option, file in files.items()))
        self._until_up((self.folder / "munge.socket").exists, "munged")

    def _start(self, name: str, *options: str) -> None:
        with (self.folder / f"{name}.messages").open("ab") as messages:
            self._daemons[name] = subprocess.Popen(
                # Daemons end with the tests, even where these are killed (SIGKILL) and end nothing themselves.
                ["setpriv", "--pdeathsig", "TERM", _program(name) or name, *options],
                cwd=self.folder,
                env=os.environ | self.env,
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                start_new_session=True,  # Ctrl-C is for the tests, which then end the daemons in order
            )

    def _until_up(self, is_up: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_up():
            ended = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                why = f"{', '.join(ended)} ended" if ended else f"not up in {START_SECONDS:g} s"
                raise RuntimeError(f"the private SLURM cluster did not start: {what}: {why}\n{self.logs()}")
            time.sleep(0.05)

    def _node_is_up(self) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            pid = re.search(r"Slurmd PID += (\d+)", self.attempt("scontrol", "show", "slurmd", timeout=5).stdout)
            state = self.attempt("sinfo", "--noheader", "--partition=main", "--format=%T", timeout=5).stdout.strip()
            answers = pid is not None and int(pid[1]) == self._daemons["slurmd"].pid
            return answers and state in ("idle", "mixed", "allocated")
        return False

    def _cancel_jobs(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired, AssertionError, RuntimeError):
            self.run("scancel", "--user", getpass.getuser(), timeout=5)
            self.wait(lambda: not self.run("squeue", "--noheader"), 5, "no job left")

    def _last_lines(self, name: str) -> str:
        """Return the end of a daemon's log, or of what it said before it opened one."""
        files = (self.folder / f"{name}.log", self.folder / f"{name}.messages")
        text = next((file.read_text(errors="replace") for file in files if file.exists()), "")
        return "\n".join(text.splitlines()[-LAST_LINES:])

    def _owns(self, process: Path) -> bool:
        """Return whether a folder of /proc is of a process of this cluster."""
        try:
            # slurmstepd overwrites its environment, but works in the daemons' folder.
            if (process / "cwd").readlink() == self.folder and (process / "comm").read_text().startswith("slurm"):
                return True
            return f"SLURM_CONF={self.folder}/slurm.conf".encode() in (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is another user's
            return False


def _program(name: str) -> str | None:
    """Return the path of a program; daemons are where only root's PATH leads."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))


def _kill_all(processes: Callable[[], list[int]]) -> None:
    """Kill processes until there are none: one may start another before its turn comes."""
    while pids := processes():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _session(pid: int) -> int | None:
    """Return the session of a process: of a daemon and its helpers, the daemon's pid. None if it has ended."""
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return None


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
