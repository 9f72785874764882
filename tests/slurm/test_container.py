"""A container's program before `python` in a site, on the private cluster, with shell scripts that stand for it.

As Apptainer does, the first keeps the environment but for the paths to programs and libraries, which are those of the
image, and ends with code 255 where it cannot open the image. As enroot does, the second hands over no variable but
those that its configuration prints, and starts in /. Neither changes files: the image's Python is that of the tests.
"""

import shlex
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.work import LONG, Work, done, recipe, same_as_uninterrupted

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("installed", "cluster")]

# Its options are as of Apptainer: --nv has no value, --bind has one.
APPTAINER = """#!/bin/sh
called=$*
[ "$1" = exec ] || { echo "FATAL:   expected exec, called with: $called" >&2; exit 1; }
shift
while :; do
  case $1 in
    --nv) shift ;;
    --bind) shift 2 ;;
    -*) echo "Error for command \\"exec\\": unknown flag: $1" >&2; exit 1 ;;
    *) break ;;
  esac
done
image=$1
shift
if ! [ -r "$image" ]; then
  reason="failed to retrieve path for $image: lstat $image: no such file or directory"
  echo "FATAL:   could not open image $image: $reason" >&2
  exit 255
fi
echo "$called" >> "$(dirname "$0")/calls"
APPTAINER_CONTAINER=$image PATH=$(dirname "$0")/inside LD_LIBRARY_PATH=/.singularity.d/libs
export APPTAINER_CONTAINER PATH LD_LIBRARY_PATH
exec "$@"
"""
ENROOT = """#!/bin/bash
[ "$1" = start ] || { echo "[ERROR] Invalid argument: $1" >&2; exit 1; }
shift
environ() { :; }
while :; do
  case $1 in
    --conf) . "$2"; shift 2 ;;
    --mount) shift 2 ;;
    *) break ;;
  esac
done
image=$1
shift
[ -e "$image" ] || { echo "[ERROR] No such file or directory: $image" >&2; exit 1; }
readarray -t variables < <(environ)
inside=$(dirname "$0")/inside
cd /
exec env -i "${variables[@]}" PATH="$inside" "$@"
"""


@pytest.fixture
def image(work: Work, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image, and the program that runs what is in it: a Python, and no program of SLURM."""
    programs = work.folder / "programs"
    (programs / "inside").mkdir(parents=True)
    python = programs / "inside" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (programs / "apptainer").write_text(APPTAINER)
    (programs / "enroot").write_text(ENROOT)
    for program in (python, programs / "apptainer", programs / "enroot"):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    image = work.folder / "freetickets.sif"
    image.touch()
    return image


def in_container(image: Path) -> dict[str, str]:
    return {"python": f"apptainer exec --nv --bind /scratch {shlex.quote(str(image))} python"}


def test_in_a_container_a_grid_gives_the_same_bits_over_a_time_limit(work: Work, cluster: Cluster, image: Path) -> None:
    work.write({**LONG, **recipe(12)}, site=in_container(image))
    code, out = work.call("check", "--site", str(work.folder / "site.yaml"), *work.at_store, "--minutes", "0.05")
    assert code == 0, out
    assert "scontrol is on the node" in " ".join(out.split())  # outside of the container
    with work.slower():
        work.submit()
        cluster.wait(lambda: work.status()[0]["epoch"] > 0, 60, "an epoch")
        (task,) = work.tasks(cluster)
        cluster.run("scancel", "--signal=USR2", f"{task}.0")  # as ahead of the limit
        cluster.wait(lambda: "back to the queue: the next worker continues" in work.log(), 60, "it goes back")
        assert len(work.checkpoints()) == 1
        code, out = work.call("status", *work.at_store)
        assert code == 0
        assert "goes on by itself" in out
    cluster.wait(done(work), 240, "done")
    assert list(work.tasks(cluster)) == [task]
    assert work.sessions(work.status()[0]["id"])[1]["resumed_from"] is not None
    same_as_uninterrupted(work, cluster, sessions=[2])
    calls = (work.folder / "programs" / "calls").read_text().splitlines()
    assert len(calls) == 3
    assert all(call.startswith(f"exec --nv --bind /scratch {image} python -u -m submitit") for call in calls)


def test_two_processes_in_containers_train_one_run(work: Work, cluster: Cluster, image: Path) -> None:
    work.write({**LONG, **recipe(3)}, site={**in_container(image), "processes": 2, "gpus": 0})
    work.submit()
    cluster.wait(done(work), 120, "done")
    assert work.sessions(work.status()[0]["id"])[0]["processes"] == 2


@pytest.mark.parametrize("processes", [1, 2])
def test_an_image_that_is_not_there_is_what_status_and_logs_tell(
    work: Work, cluster: Cluster, image: Path, processes: int
) -> None:
    image.unlink()
    site = {**in_container(image), "processes": processes, "gpus": 0}
    work.write({**LONG, **recipe(3), "members": 2}, site=site)
    work.submit()
    cluster.wait(lambda: set(work.tasks(cluster).values()) == {"FAILED"}, 60, "both failed, and stay so")
    assert "back to the queue" not in work.log()
    ended = dict.fromkeys(work.tasks(cluster), ("FAILED", "127:0"))  # sacct keeps seven bits of the code, 255
    cluster.wait(lambda: cluster.accounted(*ended) == ended, 60, "sacct says that they failed")
    said = f"_0_log.out ends: FATAL:   could not open image {image}: failed to retrieve path"
    code, out = work.call("status", *work.at_store)
    assert code == 1
    assert said in out
    assert out.splitlines()[-1].startswith("Work is left and no worker is queued or running")
    code, out = work.call("logs", work.status()[0]["id"][:8], *work.at_store)
    assert code == 2
    assert said in out
    code, out = work.call("check", "--site", str(work.folder / "site.yaml"), *work.at_store)
    assert code == 1
    assert "the job has ended before it wrote anything" in out
    assert f"FATAL:   could not open image {image}" in out
    image.touch()
    work.submit()
    cluster.wait(done(work), 120, "done")
    assert "ends:" not in work.call("status", *work.at_store)[1]


def test_enroot_needs_its_configuration_to_hand_variables_over(work: Work, cluster: Cluster, image: Path) -> None:
    container = f"--mount /shared:/shared {shlex.quote(str(image))} python"
    work.write({**LONG, **recipe(12)}, site={"python": f"enroot start {container}"})
    work.submit()
    cluster.wait(lambda: set(work.tasks(cluster).values()) == {"FAILED"}, 60, "failed")
    code, out = work.call("status", *work.at_store)
    assert code == 1
    assert "_0_log.out ends: RuntimeError: Could not figure out which environment the job is run" in out
    work.write({**LONG, **recipe(12)}, site={"python": f"enroot start --conf slurm/enroot.conf {container}"})
    work.submit()
    cluster.wait(done(work), 120, "done")
    same_as_uninterrupted(work, cluster, sessions=[1])
