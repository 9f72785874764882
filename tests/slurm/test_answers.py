"""What sbatch and squeue answer, and what is made of it: jobs, states, complaints, on which cluster."""

import os
import pwd

import pytest

from slurm.records import SubmissionFolder, submissions
from tests.slurm.fakes import FakeSlurm
from tests.slurm.place import Place


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Invalid account or account/partition combination specified", "account: found 'mine'; `sacctmgr show"),
        ("Invalid qos specification", "qos: found nothing; `sacctmgr show associations"),
        ("Invalid feature specification", "constraint: found nothing; `sinfo"),
        ("Invalid generic resource (gres) specification", "gpu_type: found nothing; `sinfo"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "walltime: found '2h'; `sinfo"),
        ("Requested reservation is invalid", "sbatch.reservation: found 'workshop'\n"),
        ("CPU count per node can not be satisfied", "cpus: found 4; null asks for none"),
        ("leave out --cpus-per-task", "cpus: found 4; null asks for none"),
        ("User's group not permitted to use this partition", "partition: found 'main'; `sinfo` lists"),
    ],
)
def test_the_key_that_sbatch_complains_of_is_named(place: Place, slurm: FakeSlurm, said: str, hint: str) -> None:
    place.site.write_text(
        "{partition: main, account: mine, gpus: 0, walltime: 2h, sbatch: {reservation: workshop}, memory: null}"
    )
    slurm.answer("sbatch", stderr=f"sbatch: error: Batch job submission failed: {said}\n", code=1)
    code, out = place.submit()
    assert code == 2
    assert f"\n  {hint}" in out
    assert out.count(": found ") == 1


def test_a_worker_in_a_state_that_nobody_knows_is_not_replaced(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    first, *others = slurm.queue()
    slurm.set(first, "EXPEDITED_BY_SLURM_30")
    assert "Nothing to submit." in place.submit()[1]
    assert "1 worker in the state EXPEDITED_BY_SLURM_30, which may mean anything" in place.on_store("status")[1]
    for task in others:
        slurm.set(task, "TIMEOUT")
    assert "submitted 2 workers" in place.submit()[1]


@pytest.mark.parametrize("workers", [1, 3])
def test_what_a_wrapper_prints_is_no_job(place: Place, slurm: FakeSlurm, workers: int) -> None:
    place.site.write_text(f"{{partition: main, gpus: 0, max_jobs: {workers}}}")
    slurm.banner("Your last job 7 took 3 h; see job 8.\nSubmitted batch job 9 for approval\n")
    assert place.submit()[0] == 0
    (folder,) = submissions(place.store)
    # A worker looks for its task under the id that SLURM tells it.
    names = {path.name for path in folder.path.glob("*_submitted.pkl")}
    assert names == ({"100_submitted.pkl"} if workers == 1 else {f"100_{index}_submitted.pkl" for index in range(3)})


@pytest.mark.parametrize("variable", [None, "SLURM_CLUSTERS", "SBATCH_CLUSTERS"])
def test_workers_on_another_cluster_are_asked_about_there(
    place: Place, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable is None:
        place.site.write_text("{partition: main, gpus: 0, max_jobs: 3, sbatch: {clusters: far}}")
    else:
        monkeypatch.setenv(variable, "far")
    assert place.submit()[0] == 0
    if variable is not None:  # what was submitted stays where it is, whatever is set later
        monkeypatch.setenv(variable, "near")
    assert "workers: 0 running, 3 queued" in place.on_store("status")[1]
    monkeypatch.setenv(variable or "OTHER", "far")
    assert "Nothing to submit." in place.submit()[1]
    assert "cancelled 3 workers" in place.on_store("cancel", "--yes")[1]
    assert set(slurm.queue().values()) == {"CANCELLED"}
    for name in ("squeue", "scancel", "scontrol"):
        assert slurm.calls(name)
        assert all("--clusters=far" in call for call in slurm.calls(name))


def test_workers_that_another_user_submitted_from_the_same_store_are_seen_and_not_submitted_twice(
    place: Place, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.submit()
    (folder,) = submissions(place.store)
    other = next(user.pw_uid for user in pwd.getpwall() if user.pw_uid != os.getuid())
    slurm.forget()
    slurm.enqueue(folder.submission.name, 3, user=other)
    slurm.enqueue("of-no-store", 2, user=other)
    monkeypatch.setattr(SubmissionFolder, "owner", other)
    assert "workers: 0 running, 3 queued" in place.on_store("status")[1]
    assert "Nothing to submit." in place.submit()[1]
    monkeypatch.setattr(SubmissionFolder, "owner", 4_000_000_000)  # nobody's, on a file system that makes numbers up
    assert place.on_store("status")[0] == 1


@pytest.mark.parametrize("named", ["near,far", "all"])
def test_one_store_is_worked_on_by_one_cluster(
    place: Place, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("SLURM_CLUSTERS", named)
    code, out = place.submit()
    assert (code, slurm.queue()) == (2, {})
    assert out.endswith(f"SLURM_CLUSTERS: found '{named}'; allowed: one cluster, where all workers of a store are\n")
    place.site.write_text(f"{{gpus: 0, sbatch: {{clusters: '{named}'}}}}")
    assert f"sbatch.clusters: found '{named}'" in place.submit()[1]
    assert submissions(place.store) == []
