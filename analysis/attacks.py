"""Robust accuracy: of each member and of the ensemble, on images crafted on each member and on the ensemble."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.members import Replicate, replicates_of, tidy
from bench import metrics
from bench.errors import UserError
from bench.evaluation.sets import AttackSet
from bench.metrics.probabilities import Doubles, Labels
from bench.plan import Plan
from bench.spec.run import McDropout
from bench.store.folders import Store
from bench.store.logits import Ensemble

ATTACKS = "cell replicate attack budget images crafted_on evaluated_on accuracy"
CLEAN = "cell replicate attack images accuracy member_accuracy"
WHOLE = "ensemble"
# On a GPU the same step is not the same bits twice; so much accuracy may that cost on either side.
ROUNDING = 0.005


@dataclass(frozen=True)
class Attacks:
    """Accuracy under attack, as tidy DataFrames (shares).

    accuracy   one row a replicate, attack, budget (in 1/255), what it was crafted on and what it met: "ensemble", or
               "member 1" and so on
    clean      one row a replicate and attack: accuracy of the ensemble and mean of its members on the same images
    problems   a sentence for each file that can not be used, and where PGD was weaker than FGSM
    """

    accuracy: pd.DataFrame
    clean: pd.DataFrame
    problems: tuple[str, ...]


def load_attacks(plan: Plan, store: Store) -> Attacks:
    """Return the accuracy under every attack that the plan asks for and the store holds."""
    asked = {one.ensemble: one for one in plan.ensembles}
    rows: list[dict[str, Any]] = []
    clean: list[dict[str, Any]] = []
    problems: list[str] = []
    for replicate in replicates_of(plan, store):
        ensemble = asked.get(Ensemble(replicate.runs, replicate.count))
        own: list[dict[str, Any]] = []
        there: dict[str, AttackSet] = {}
        for one in ensemble.evaluations if ensemble else ():
            try:
                if one.name in replicate.attacked.receipts():
                    own += _rows(replicate, one)
                    there.setdefault(one.attack, one)
            except UserError as error:
                problems.append(str(error))
        try:
            clean += [_clean(replicate, one) for one in there.values()]
        except UserError as error:
            problems.append(str(error))
        rows += own
        # The draws of networks that draw their members depend on how many images there are, so either may be ahead.
        if ensemble and not isinstance(ensemble.specs[0].model.ensemble, McDropout):
            problems += _weaker(own)
    return Attacks(tidy(rows, ATTACKS), tidy(clean, CLEAN), tuple(dict.fromkeys(problems)))


def _rows(replicate: Replicate, one: AttackSet) -> list[dict[str, Any]]:
    logits, labels = replicate.attacked.logits(one.name)
    names = [f"member {number}" for number in range(1, len(logits))]
    rows = []
    for crafted_on, own in zip([*names, WHOLE], logits, strict=True):
        head = {"cell": replicate.cell, "replicate": replicate.number, "attack": one.attack, "budget": one.budget}
        rows += _accuracies({**head, "crafted_on": crafted_on}, metrics.softmax(own), labels)
    return rows


def _clean(replicate: Replicate, one: AttackSet) -> dict[str, Any]:
    members, labels = replicate.members("test")
    members, labels = members[:, : one.images], labels[: one.images]
    return {
        "cell": replicate.cell,
        "replicate": replicate.number,
        "attack": one.attack,
        "images": len(labels),
        "accuracy": metrics.accuracy(metrics.ensemble_mean(members), labels),
        "member_accuracy": float(np.mean(members.argmax(axis=2) == labels)),
    }


def _accuracies(head: dict[str, Any], members: Doubles, labels: Labels) -> list[dict[str, Any]]:
    head = {**head, "images": len(labels)}
    rows = [{**head, "evaluated_on": WHOLE, "accuracy": metrics.accuracy(metrics.ensemble_mean(members), labels)}]
    if len(members) > 1:
        shares = np.mean(members.argmax(axis=2) == labels, axis=1)
        rows += [
            {**head, "evaluated_on": f"member {number}", "accuracy": float(share)}
            for number, share in enumerate(shares, start=1)
        ]
    return rows


def _weaker(rows: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for each budget at which PGD left more accuracy than FGSM where it was crafted."""
    own = {
        (row["attack"], row["budget"], row["crafted_on"]): row
        for row in rows
        if row["crafted_on"] == row["evaluated_on"]
    }
    found = []
    for (attack, budget, crafted_on), row in own.items():
        simple = own.get(("fgsm", budget, crafted_on))
        if simple is None or simple["images"] != row["images"]:
            continue
        if row["accuracy"] > simple["accuracy"] + ROUNDING:
            attacked = "the ensemble" if crafted_on == WHOLE else crafted_on
            found.append(
                f"{row['cell']}, replicate {row['replicate']}: {attack} at {budget:g}/255 on {attacked} leaves more "
                "accuracy than fgsm, which it contains: one of the two is wrong"
            )
    return found
