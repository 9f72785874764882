"""What of a store belongs into an archive of a grid: all that its report needs of runs that are done."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from bench.errors import UserError, counted, did_you_mean
from bench.evaluation.sets import OwnSet
from bench.plan.records import Plan, RunPlan
from bench.store.archive import LeftOut, stored_file
from bench.store.files import regular_bytes
from bench.store.latency import latency_file, read_latencies
from bench.store.logits import RECORDS, Ensemble, StoredLogits, ensemble_folder, ensemble_logits, records_as_json
from bench.store.records import NotExported, StoredFile
from bench.store.run_folder import NOT_EXPORTED
from bench.store.samples import read_samples
from bench.store.store import DataRecord, Store

WEIGHTS = ("tickets/", "kept/")


def family_of(name: str) -> str:
    """Return the family of an evaluation set: "local-c" of "local-c-120-images/fog/3"."""
    return re.sub(r"-[0-9]+-images$", "", name.split("/")[0])


@dataclass
class Export:
    """What to write, by name: the file it is in, or its content; the runs that are in it; what is not, and why."""

    store: Store
    weights: bool
    without: tuple[str, ...]
    contents: dict[str, Path | bytes] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def files(self) -> dict[str, StoredFile]:
        """Return size and SHA-256 of everything by name."""
        return {
            name: stored_file(content if isinstance(content, bytes) else regular_bytes(content))
            for name, content in sorted(self.contents.items())
        }

    def leave(self, what: str, why: str) -> None:
        self.left_out.append(LeftOut(what=what, why=why))

    def take(self, path: Path, content: bytes | None = None) -> None:
        self.contents[path.relative_to(self.store.root).as_posix()] = path if content is None else content

    def take_run(self, run: RunPlan) -> None:
        """Take the files of a run that is done, and its sets, every one against its checksum."""
        folder = self.store.run(run.id)
        if run.status != "done" or (damaged := folder.damaged_files(deep=True)):
            reason = run.reason if run.status != "done" else f"damaged: {', '.join(map(str, damaged))}"
            self.leave(f"run {run.id} of {run.cells[0]}", reason or run.status)
            return
        before = folder.not_exported()
        files = [name for name in folder.result().files if not name.startswith("logits/")]
        absent = [
            name for name in files if name.startswith(WEIGHTS) and (not self.weights or name in folder.absent_weights())
        ]
        self.runs.append(run.id)
        for name in ["result.json", *(name for name in files if name not in absent)]:
            self.take(folder.path / name)
        families = tuple(sorted({*before.families, *self.without}))
        if absent or families:
            record = NotExported(files=tuple(absent), families=families)
            self.take(folder.path / NOT_EXPORTED, _json(record.model_dump(mode="json")))
        self._take_sets(f"run {run.id}", StoredLogits.of_run(folder))

    def take_ensemble(self, ensemble: Ensemble) -> None:
        """Take what an ensemble was attacked with, if anything is there."""
        logits = ensemble_logits(self.store, ensemble)
        if self._take_sets(f"ensemble {ensemble.id}", logits):
            about = {"runs": list(ensemble.runs), "members": ensemble.members}
            self.take(ensemble_folder(self.store, ensemble) / "ensemble.json", _json(about))

    def _take_sets(self, owner: str, logits: StoredLogits) -> bool:
        try:
            records = logits.records()
        except UserError as damage:
            self.leave(f"the evaluation sets of {owner}", str(damage))
            return False
        taken = {}
        for name, record in records.items():
            if family_of(name) in self.without:
                continue
            if logits.has(name, deep=True):
                taken[name] = record
                self.take(logits.file(name))
            else:
                self.leave(f"{name} of {owner}", "damaged, or made with other tickets")
        if taken:
            self.take(logits.path / RECORDS, _json(records_as_json(taken)))
        return bool(taken)

    def take_samples(self, dataset: str) -> None:
        """Take the samples of a data set."""
        for path in sorted((self.store.root / "samples" / dataset).glob("*.safetensors")):
            if path.stem not in self.without:
                try:
                    read_samples(self.store, dataset, path.stem)
                    self.take(path)
                except UserError as damage:
                    self.leave(f"samples of {dataset}", str(damage))

    def take_latencies(self) -> None:
        """Take what predicting cost with ensembles whose runs are all taken, by device."""
        measured, problems = read_latencies(self.store.root)
        for problem in problems:
            self.leave("what predicting costs", problem)
        for latencies in measured:
            kept = tuple(found for found in latencies.ensembles if set(self.runs).issuperset(found.runs))
            if kept:
                path = latency_file(self.store.root, latencies.device_name)
                self.take(path, _json(latencies.model_copy(update={"ensembles": kept}).model_dump(mode="json")))


def make_export(plan: Plan, store: Store, *, weights: bool, without: Sequence[str]) -> Export:
    """Return what to export of a plan's runs; UserError if none is done, or for a family that they do not have.

    without   families of evaluation sets to leave out, such as "cifar-10-c"
    """
    _check_families(plan, store, without)
    export = Export(store, weights, tuple(sorted(set(without))))
    for run in plan.runs:
        export.take_run(run)
    if not export.runs:
        runs = counted(len(plan.runs), "run")
        raise UserError(f"{store.root}: none of the {runs} of grid {plan.grid} at scale {plan.scale} is done")
    for planned in plan.ensembles:
        if set(export.runs).issuperset(planned.ensemble.runs):
            export.take_ensemble(planned.ensemble)
    export.take_latencies()
    known = store.data_records()
    records = {}
    for data in {cell.data.name: cell.data for cell in plan.cells}.values():
        export.take_samples(data.name)
        # Where the images were says nothing elsewhere.
        records[data.name] = asdict(replace(known.get(data.name, DataRecord(data.variant, None, "")), location=None))
    export.take(store.root / "data.json", _json(records))
    if not weights:
        export.leave("the weights of all runs", "not asked for: --weights")
    for family in export.without:
        export.leave(f"the evaluation sets {family}", "not wanted: --without")
    return export


def _check_families(plan: Plan, store: Store, without: Sequence[str]) -> None:
    names = {asked.name for run in plan.runs for asked in run.evaluations if not isinstance(asked, OwnSet)}
    names |= {asked.name for attacked in plan.ensembles for asked in attacked.evaluations}
    for run in plan.runs:
        with suppress(UserError):  # it is not done, or damaged
            names |= StoredLogits.of_run(store.run(run.id)).records().keys()
    known = sorted({family_of(name) for name in names} - {"test", "validation"})
    for family in without:
        if family not in known:
            allowed = did_you_mean(family, known) if known else ", for there is no set but test and validation"
            raise UserError(f"--without: no family of evaluation sets {family!r}{allowed}")


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
