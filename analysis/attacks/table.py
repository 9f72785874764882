"""The tables of accuracy under attack, one an attack."""

from collections.abc import Iterator

import pandas as pd

from analysis.attacks.numbers import ENSEMBLE, FGSM, FGSM_BUDGET, Attacks
from analysis.columns import Metric
from analysis.paper.beside import with_published
from analysis.pivot import pivoted
from analysis.results import Results
from analysis.table import Table, grouped_table

METRICS = (
    Metric("ensemble", "Ensemble (%)", 2, "higher", 100),
    Metric("members", "Members (%)", 2, "higher", 100),
    Metric("transferred", "Transferred (%)", 2, "higher", 100),
    Metric("transferred_least", "Transferred, least (%)", 2, "higher", 100),
    Metric("transferred_most", "Transferred, most (%)", 2, "higher", 100),
)

PUBLISHED = {"transferred": "fgsm8_mean", "transferred_least": "fgsm8_min", "transferred_most": "fgsm8_max"}
HARMFUL = "PGD keeps of each image the most harmful point it passed, FGSM's included. "
PUBLISHED_NOTE = "Published: FGSM at 8/255 on all 10,000 test images, the ensemble on what was crafted on each member."


def tables(attacks: Attacks, results: Results) -> Iterator[Table]:
    """Yield a table an attack."""
    for attack in dict.fromkeys(attacks.accuracy["attack"]):
        yield attack_table(attacks, results, str(attack))


def attack_table(attacks: Attacks, results: Results, attack: str) -> Table:
    """Return a row a cell: by budget, accuracy of the whole and of single members, attacked or not."""
    frame = attacks.accuracy[attacks.accuracy["attack"] == attack]
    whole = frame["crafted_on"] == ENSEMBLE
    on_whole = frame["evaluated_on"] == ENSEMBLE
    keys = ["cell", "replicate", "attack", "budget"]
    parts = {
        "ensemble": frame[whole & on_whole],
        "members": frame[(frame["crafted_on"] == frame["evaluated_on"]) & ~whole],
        "transferred": frame[~whole & on_whole],
    }
    clean = attacks.clean[attacks.clean["attack"] == attack].assign(budget=0.0)
    order = pd.concat([clean[keys], frame[keys]]).drop_duplicates()
    for name, part in parts.items():
        mean = part.groupby(keys)["accuracy"].mean().rename(name).reset_index()
        order = order.merge(mean, on=keys, how="left")
    for name in ("least", "most"):
        end = parts["transferred"].groupby(keys)["accuracy"].agg("min" if name == "least" else "max")
        order = order.merge(end.rename(f"transferred_{name}").reset_index(), on=keys, how="left")
    order = order.merge(clean[[*keys, "accuracy", "member_accuracy"]], on=keys, how="left")
    # Where nothing was measured a column may be of objects, which floats are not filled from.
    order["ensemble"] = order["ensemble"].fillna(order["accuracy"].astype(float))
    # A single network has no members beside itself, attacked or not.
    several = pd.MultiIndex.from_frame(parts["members"][["cell", "replicate"]].drop_duplicates())
    unattacked = order["member_accuracy"].where(
        (order["budget"] == 0) & pd.MultiIndex.from_frame(order[["cell", "replicate"]]).isin(several)
    )
    unattacked = unattacked.astype(float)
    order["members"] = order["members"].fillna(unattacked)
    order = order.sort_values("budget", kind="stable")
    images = sorted(set(frame["images"]))
    notes = (
        "Budgets are of images in [0, 1], L-infinity, not rounded to 8 bits. Ensemble: crafted on the ensemble and met "
        "by it. Members: each on images crafted on itself, mean over members. Transferred: the ensemble on images "
        "crafted on one of its members, mean, least and most over members. "
        f"{'' if attack == FGSM else HARMFUL}On {' or '.join(f'{count:,}' for count in images)} test images.",
    )
    heads = {"cell": "Cell", "attack": "Attack", "budget": "Budget"}
    title = f"Accuracy under attack: {attack}"
    table = grouped_table(f"attacks_{attack}", title, order, heads, METRICS, notes, results)
    names = [PUBLISHED if row[1] == FGSM and float(row[2]) == FGSM_BUDGET else {} for row in table.rows]
    table = with_published(table, results, METRICS, names, [PUBLISHED_NOTE])
    return pivoted(table, 2, _place, list(results.cells["cell"]))


def _place(row: tuple[str, ...], head: str) -> tuple[str, str]:
    budget = row[1]
    return f"Budget {budget}/255" if float(budget) else "No attack", head
