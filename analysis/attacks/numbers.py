"""Robust accuracy: of each member and of the ensemble, on images crafted on each member and on the ensemble."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import Metric
from analysis.reading import Replicate, StoreView, tidy
from bench import metrics
from bench.evaluation.sets import AttackSet
from bench.metrics.probabilities import Doubles, Labels
from bench.spec.run import McDropout

ACCURACIES = "cell replicate attack budget images crafted_on evaluated_on accuracy"
CLEAN = "cell replicate attack images accuracy member_accuracy"
ENSEMBLE = "ensemble"
# On a GPU the same step is not the same bits twice; so much accuracy may that cost on either side.
ROUNDING = 0.005


# What FGSM at 8/255 leaves the whole ensemble, crafted on each of its members in turn (Liu et al. 2022, appendix).
FGSM, FGSM_BUDGET = "fgsm", 8.0
FGSM_METRICS = tuple(
    Metric(f"fgsm8_{key}", f"FGSM 8/255, {word} over members (%)", 2, "higher", 100)
    for key, word in {"min": "least", "mean": "mean", "max": "most"}.items()
)


@dataclass(frozen=True)
class Attacks:
    """Accuracy under attack, as tidy DataFrames (shares).

    accuracy   one row a replicate, attack, budget (in 1/255), what it was crafted on and what it met: "ensemble", or
               "member 1" and so on
    clean      one row a replicate and attack: accuracy of the ensemble and mean of its members on the same images
    """

    accuracy: pd.DataFrame
    clean: pd.DataFrame

    @property
    def scores(self) -> pd.DataFrame:
        """The FGSM_METRICS by cell and replicate; a single network is its own only member."""
        frame = self.accuracy
        frame = frame[
            (frame["attack"] == FGSM) & (frame["budget"] == FGSM_BUDGET) & (frame["evaluated_on"] == ENSEMBLE)
        ]
        single = ~frame.duplicated(["cell", "replicate"], keep=False)
        met = frame[single | (frame["crafted_on"] != ENSEMBLE)].astype({"accuracy": float})
        found = met.groupby(["cell", "replicate"], sort=False)["accuracy"].agg(["min", "mean", "max"])
        return found.add_prefix("fgsm8_").reset_index()


def load_attacks(view: StoreView) -> Attacks:
    """Return the accuracy under every attack that the plan asks for and the store holds.

    Where PGD was weaker than FGSM, that is noted as a problem.
    """
    accuracy: list[dict[str, Any]] = []
    clean: list[dict[str, Any]] = []
    for replicate in view.replicates():
        rows: list[dict[str, Any]] = []
        attacks: dict[str, AttackSet] = {}
        for attack_set in view.attacks(replicate):
            with view.noting():
                rows += _rows(replicate, attack_set)
                attacks.setdefault(attack_set.attack, attack_set)
        for attack_set in attacks.values():
            with view.noting():
                clean.append(_clean(replicate, attack_set))
        accuracy += rows
        # The draws of networks that draw their members depend on how many images there are, so either may be ahead.
        if not isinstance(replicate.cell.model.ensemble, McDropout):
            _note_weaker(view, rows)
    return Attacks(tidy(accuracy, ACCURACIES), tidy(clean, CLEAN))


def _rows(replicate: Replicate, attack_set: AttackSet) -> list[dict[str, Any]]:
    logits, labels = replicate.attacked_logits(attack_set.name)
    names = [*(f"member {number}" for number in range(1, len(logits))), ENSEMBLE]
    rows = []
    for crafted_on, met in zip(names, logits, strict=True):
        head = {**replicate.key, "attack": attack_set.attack, "budget": attack_set.budget, "crafted_on": crafted_on}
        rows += _accuracies(head, metrics.softmax(met), labels)
    return rows


def _clean(replicate: Replicate, attack_set: AttackSet) -> dict[str, Any]:
    members, labels = replicate.members("test")
    members, labels = members[:, : attack_set.images], labels[: attack_set.images]
    return {
        **replicate.key,
        "attack": attack_set.attack,
        "images": len(labels),
        "accuracy": metrics.accuracy(metrics.ensemble_mean(members), labels),
        "member_accuracy": float(np.mean(members.argmax(axis=2) == labels)),
    }


def _accuracies(head: dict[str, Any], members: Doubles, labels: Labels) -> list[dict[str, Any]]:
    head = {**head, "images": len(labels)}
    rows = [{**head, "evaluated_on": ENSEMBLE, "accuracy": metrics.accuracy(metrics.ensemble_mean(members), labels)}]
    if len(members) > 1:
        shares = np.mean(members.argmax(axis=2) == labels, axis=1)
        rows += [
            {**head, "evaluated_on": f"member {number}", "accuracy": float(share)}
            for number, share in enumerate(shares, start=1)
        ]
    return rows


def _note_weaker(view: StoreView, rows: list[dict[str, Any]]) -> None:
    """Note each budget at which PGD left more accuracy than FGSM where it was crafted."""
    where_crafted = {
        (row["attack"], row["budget"], row["crafted_on"]): row
        for row in rows
        if row["crafted_on"] == row["evaluated_on"]
    }
    for (attack, budget, crafted_on), row in where_crafted.items():
        fgsm = where_crafted.get(("fgsm", budget, crafted_on))
        if fgsm is None or fgsm["images"] != row["images"]:
            continue
        if row["accuracy"] > fgsm["accuracy"] + ROUNDING:
            attacked = "the ensemble" if crafted_on == ENSEMBLE else crafted_on
            view.note(
                f"{row['cell']}, replicate {row['replicate']}: {attack} at {budget:g}/255 on {attacked} leaves more "
                "accuracy than fgsm, which it contains: one of the two is wrong"
            )
