"""The table of accuracy under attack."""

from collections.abc import Iterator

import pandas as pd

from analysis.attacks.numbers import ENSEMBLE, FGSM, FGSM_BUDGET, Attacks
from analysis.columns import Metric
from analysis.paper.beside import with_published
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
PUBLISHED_NOTE = "Published: FGSM at 8/255 on all 10,000 test images, the ensemble on what was crafted on each member."


def tables(attacks: Attacks, results: Results) -> Iterator[Table]:
    """Yield the table of accuracy under attack, if there was any."""
    if not attacks.accuracy.empty:
        yield attacks_table(attacks, results)


def attacks_table(attacks: Attacks, results: Results) -> Table:
    """Return a row a cell, attack and budget: accuracy of the whole and of single members, attacked or not."""
    frame = attacks.accuracy
    whole = frame["crafted_on"] == ENSEMBLE
    on_whole = frame["evaluated_on"] == ENSEMBLE
    keys = ["cell", "replicate", "attack", "budget"]
    parts = {
        "ensemble": frame[whole & on_whole],
        "members": frame[(frame["crafted_on"] == frame["evaluated_on"]) & ~whole],
        "transferred": frame[~whole & on_whole],
    }
    clean = attacks.clean.assign(budget=0.0)
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
    order = order.sort_values(["attack", "budget"], kind="stable")
    images = sorted(set(frame["images"]))
    notes = (
        "Budgets are in 1/255 of images in [0, 1], L-infinity, not rounded to 8 bits; 0 is no attack. Ensemble: "
        "crafted on the ensemble and met by it. Members: each on images crafted on itself, mean over members. "
        "Transferred: the ensemble on images crafted on one of its members, mean, least and most over members. PGD "
        "keeps of each image the most harmful point it passed, FGSM's included. On "
        f"{' or '.join(f'{count:,}' for count in images)} test images.",
    )
    heads = {"cell": "Cell", "attack": "Attack", "budget": "Budget"}
    table = grouped_table("attacks", "Accuracy under attack", order, heads, METRICS, notes, results)
    names = [PUBLISHED if row[1] == FGSM and float(row[2]) == FGSM_BUDGET else {} for row in table.rows]
    return with_published(table, results, METRICS, names, [PUBLISHED_NOTE])
