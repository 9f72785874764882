"""The trajectories of runs in function space: what each predicted after every epoch, to be embedded together."""

from analysis.embedding import Prediction
from analysis.trajectories import trajectories_of
from bench.data.catalog import DATASETS
from bench.errors import UserError
from bench.plan import Plan, RunPlan
from bench.store.folders import Store
from bench.store.probe import decode


def load_paths(plan: Plan, store: Store) -> tuple[list[Prediction], tuple[str, ...]]:
    """Return the predictions of all runs that recorded any, and a sentence for each history altered since.

    Runs that validate on other images than the first of the plan can not be compared with it, and are left out.
    """
    predictions: list[Prediction] = []
    problems: list[str] = []
    watched = None
    for name, runs in trajectories_of(plan).items():
        for run in runs:
            images = (run.like.data.name, run.like.data.variant, run.like.data.validation_images)
            if images[2] == 0 or images != (watched or images):
                continue
            try:
                own = _predictions(name, run, store)
            except (ValueError, KeyError, TypeError) as error:
                problems.append(
                    f"{store.run(run.id).path / 'history.jsonl'}: altered, its predictions do not fit ({error})"
                )
                continue
            if own:
                watched = images
                predictions += own
    shapes = {one.probabilities.shape for one in predictions}
    if len(shapes) > 1:
        problems.append(f"{store.root}: histories record predictions on different numbers of images; none are drawn")
        predictions = []
    return predictions, tuple(problems)


def _predictions(name: str, run: RunPlan, store: Store) -> list[Prediction]:
    folder = store.run(run.id)
    try:
        tickets = {ticket["epoch"] for ticket in folder.result()["tickets"]}
    except (UserError, KeyError, TypeError):  # not done, or altered, which others say
        tickets = set()
    classes = DATASETS[run.like.data.name].classes
    return [
        Prediction(name, run.id, line["epoch"], line["phase"], line["epoch"] in tickets, decode(text, classes))
        for line in folder.history()
        if (text := line.get("predictions")) is not None
    ]
