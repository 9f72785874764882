"""A SLURM of small executables on a PATH of their own: what they are asked is written down, what they answer is set."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """#!/bin/sh
''':' ; exec "{python}" -IS "$0" "$@" # a first line can not name an interpreter in "a folder" '''
import json, os, re, sys, time
from pathlib import Path

folder, name, arguments = Path({folder!r}), Path(sys.argv[0]).name, sys.argv[1:]
with (folder / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps([name, *arguments]) + "\\n")
state = json.loads((folder / "state.json").read_text())
answer = state["answers"].get(name)
if answer is not None:
    time.sleep(answer["seconds"])
    sys.stdout.write(answer["stdout"])
    sys.stderr.write(answer["stderr"])
    sys.exit(answer["code"])
names = [n for a in arguments if a.startswith("--name=") for n in a.partition("=")[2].split(",")]
on = [a.partition("=")[2] for a in arguments if a.startswith("--clusters=")]
cluster = on[0] if on else os.environ.get("SLURM_CLUSTERS")
users = [a.partition("=")[2].split(",") for a in arguments if a.startswith("--user=")] or [[str(os.getuid())]]
form = next((a.partition("=")[2] for a in arguments if a.startswith("--format=")), "")
if name == "squeue":
    for job in state["queue"]:
        if job["cluster"] == cluster and (not names or job["%j"] in names) and str(job["user"]) in users[0]:
            print(re.sub("%[a-zA-Z]", lambda code: job[code[0]], form))
elif name == "scancel":
    for job in state["queue"]:
        if job["cluster"] == cluster and job["%i"] in arguments:
            job["%T"] = "CANCELLED"
elif name == "scontrol":
    print("MaxArraySize            = %d" % state["max_array_size"])
elif name == "sinfo":
    print("main\\nshort\\nmain")
elif name == "sbatch":
    script = Path(arguments[-1]).read_text()
    option = dict(re.findall("^#SBATCH --([a-z-]+)=(.*)$", script, re.MULTILINE))
    if option.get("partition") in state["refused"]:
        sys.exit("sbatch: error: invalid partition specified: " + option["partition"])
    on = option.get("clusters", os.environ.get("SBATCH_CLUSTERS", os.environ.get("SLURM_CLUSTERS")))
    job = state["next"]
    state["next"] += 1
    last = re.match(r"0-(\\d+)", option.get("array", ""))
    indices = range(int(last[1]) + 1) if last else [None]
    for index in indices:
        state["queue"].append({{
            "%i": str(job) if index is None else "%d_%d" % (job, index),
            "%K": "N/A" if index is None else str(index),
            "%T": "PENDING",
            "%r": "Priority",
            "%N": "",
            "%j": option["job-name"].strip("'"),
            "cluster": on,
            "user": os.getuid(),
        }})
    print(state["banner"] + "Submitted batch job %d" % job + (" on cluster " + on if on else ""))
(folder / "state.json").write_text(json.dumps(state))
"""
PROGRAMS = ("squeue", "scancel", "scontrol", "sinfo", "sbatch", "srun")


class FakeSlurm:
    """Puts the programs of SLURM on a PATH with nothing else but ps; `calls` tells what was asked of them."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._programs = folder / "bin"
        self._programs.mkdir(parents=True)
        (folder / "calls.jsonl").touch()
        self._write({"queue": [], "answers": {}, "max_array_size": 1001, "next": 100, "banner": "", "refused": []})
        for name in PROGRAMS:
            program = self._programs / name
            program.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)))
            program.chmod(0o755)
        (self._programs / "ps").symlink_to(str(shutil.which("ps")))
        for name in [*os.environ]:
            if name.startswith(("SLURM", "SBATCH", "SQUEUE", "SACCT", "SCANCEL")):
                patch.delenv(name)
        patch.setenv("PATH", str(self._programs))

    def calls(self, *names: str) -> list[list[str]]:
        """Return the command lines so far, of these programs."""
        lines = [json.loads(line) for line in (self._folder / "calls.jsonl").read_text().splitlines()]
        return [line for line in lines if not names or line[0] in names]

    def script(self, name: str, text: str) -> None:
        """Let a program be a shell script."""
        (self._programs / name).write_text(f"#!/bin/sh\n{text}\n")

    def remove(self, *names: str) -> None:
        """Take programs away."""
        for name in names:
            (self._programs / name).unlink()

    def answer(self, name: str, stdout: str = "", stderr: str = "", code: int = 0, seconds: float = 0.0) -> None:
        """Let a program always answer so."""
        state = self._read()
        state["answers"][name] = {"stdout": stdout, "stderr": stderr, "code": code, "seconds": seconds}
        self._write(state)

    def set(self, element: str, state: str, reason: str = "None", node: str = "") -> None:
        """Change how an element that squeue knows stands."""
        content = self._read()
        [job] = [job for job in content["queue"] if job["%i"] == element]
        job.update({"%T": state, "%r": reason, "%N": node})
        self._write(content)

    def enqueue(self, name: str, workers: int, user: int | None = None) -> None:
        """Let squeue know an array of this name, of another user if one is given."""
        state = self._read()
        for index in range(workers):
            task = {"%i": f"900_{index}", "%K": str(index), "%T": "PENDING", "%r": "Priority", "%N": "", "%j": name}
            state["queue"].append({**task, "cluster": None, "user": os.getuid() if user is None else user})
        self._write(state)

    def forget(self) -> None:
        """Let squeue know nothing any more."""
        self._write({**self._read(), "queue": []})

    def queue(self) -> dict[str, str]:
        """Return the state of each element that squeue knows."""
        return {job["%i"]: job["%T"] for job in self._read()["queue"]}

    def banner(self, text: str) -> None:
        """Let a wrapper print this before sbatch does."""
        self._write({**self._read(), "banner": text})

    def refuse(self, *partitions: str) -> None:
        """Let sbatch refuse these partitions, and no other."""
        self._write({**self._read(), "refused": partitions})

    def max_array_size(self, size: int) -> None:
        """Set what scontrol says."""
        self._write({**self._read(), "max_array_size": size})

    def _read(self) -> dict[str, Any]:
        return dict(json.loads((self._folder / "state.json").read_text()))

    def _write(self, state: dict[str, Any]) -> None:
        (self._folder / "state.json").write_text(json.dumps(state))
