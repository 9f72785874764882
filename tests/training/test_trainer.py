"""What one step and one phase do, against loops written out here and the slow reference of the topology update."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from bench.data.augment import DeviceImages, draw_epoch
from bench.data.catalog import DATASETS
from bench.models.build import build_model
from bench.recipes import RELEASED, STANDARD, Semantics, Setting
from bench.recipes.dynamic import edst
from bench.recipes.fixed import step_decay
from bench.recipes.setting import PRESETS
from bench.sparsity import erdos_renyi_kernel, exact_counts
from bench.sparsity.maskable import maskable_weights
from bench.spec.run import RunSpec
from bench.store.probe import decode
from bench.training.trainer import DivergedError, Trainer
from bench.training.validation import Validation
from bench.training.weights import Ticket
from tests.sparsity.reference import drop_and_grow
from tests.training.runs import (
    CPU,
    DATA,
    SPECS,
    MemoryWriter,
    dense_spec,
    edst_spec,
    make_trainer,
    noise,
    nothing,
    run_spec,
    split,
)


def plain_batches(spec: RunSpec, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return an epoch's batches cut one image at a time from zero-padded arrays, with the draws of the run."""
    facts, train = DATASETS["digits"], noise().train
    draws = draw_epoch(len(train.labels), spec.augmentation, spec.seed, "train", epoch)
    pixels, labels = [], []
    for position, image in enumerate(draws.order.tolist()):
        row, column = draws.offsets[position].tolist()
        padded = np.zeros((40, 40, 3))
        padded[4:36, 4:36] = train.images[image] / 255
        normal = (padded[row : row + 32, column : column + 32] - facts.mean) / facts.std
        pixels.append(torch.tensor(normal, dtype=torch.float32).permute(2, 0, 1))
        labels.append(int(train.labels[image]))
    size = spec.batch_size
    return [
        (torch.stack(pixels[start : start + size]), torch.tensor(labels[start : start + size]))
        for start in range(0, len(pixels), size)
    ]


def epochs(trainer: Trainer, count: int) -> None:
    for _ in range(count):
        trainer.train_epoch(nothing)


def test_dense_training_is_plain_sgd() -> None:
    spec = dense_spec(learning_rate=0.02)
    trainer = make_trainer(spec, images=noise())
    epochs(trainer, 1)  # rounding grows with every further step, without saying more
    model = build_model(spec.model, 10, spec.seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4, foreach=False)
    for images, labels in plain_batches(spec, 0):
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], expected, rtol=1e-3, atol=1e-4)


def test_the_learning_rate_falls_within_the_phase() -> None:
    trainer = make_trainer(dense_spec(epochs=4, learning_rate=0.1))
    epochs(trainer, 4)
    assert [line["lr"] for line in trainer.at.history] == [0.1, 0.1, 0.01, 0.001]
    assert trainer.finished


@pytest.mark.parametrize("preset", PRESETS)
def test_sparse_steps_follow_the_protocol(preset: str) -> None:
    """Four steps with an update at the third, then a global exploration: every order and switch as written down."""
    semantics = PRESETS[preset]
    masked = preset != "released"
    # at step 3 of 12, and of the 4 before the exploration
    fraction = {
        "standard": 0.25 * (1 + math.cos(math.pi * 3 / 12)),
        "released": 0.5,
        "released_imagenet": 0.005 + 0.2475 * (1 + math.cos(math.pi * 3 / 4)),
    }[preset]
    setting = Setting(members=2, learning_rate=0.02, semantics=semantics)
    explore, _, refine = edst(setting, exploration_epochs=1, refinement_epochs=2, update_every=3)
    spec = run_spec((explore, refine), density=0.2)
    trainer = make_trainer(spec, images=noise())
    assert trainer.masking.sparse is not None
    masks = {name: mask.clone() for name, mask in trainer.masking.sparse.masks.items()}
    epochs(trainer, 1)  # the refinement has been entered, with its global exploration

    model = build_model(spec.model, 10, spec.seed)
    weights = {name: p.data for name, p in model.named_parameters()}
    momenta = {name: torch.zeros_like(p) for name, p in weights.items()}
    rules = {
        "dense_layers": semantics.dense_layers,
        "regrow_dropped": semantics.regrow_dropped,
        "ties": semantics.ties,
    }

    def update(fraction: float, gradients: dict[str, torch.Tensor]) -> None:
        for name, mask in masks.items():
            flat = (t.flatten().tolist() for t in (weights[name], mask, gradients[name]))
            after = drop_and_grow(*flat, fraction, **rules)
            lost = torch.ones(mask.numel(), dtype=torch.bool)
            lost[[i for i, active in enumerate(mask.flatten().tolist()) if active and i not in after.dropped]] = False
            if preset == "released_imagenet":
                lost &= ~(mask.flatten() & torch.tensor(after.mask))
            weights[name][lost.view(mask.shape)] = 0
            if masked:
                momenta[name][lost.view(mask.shape)] = 0
            masks[name] = torch.tensor(after.mask).view(mask.shape)

    for name, mask in masks.items():
        weights[name][~mask] = 0
    for step, (images, labels) in enumerate(plain_batches(spec, 0), start=1):
        model.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        if preset != "standard" or step != 3:
            for name, gradient in gradients.items():
                seen = gradient * masks[name] if masked and name in masks else gradient
                momenta[name] = 0.9 * momenta[name] + seen + 5e-4 * weights[name]
                weights[name] -= 0.02 * momenta[name]
                if name in masks:
                    weights[name][~masks[name]] = 0
        if step == 3:
            update(fraction, gradients)
    update(0.8, gradients)

    for name, mask in masks.items():
        same = (trainer.masking.sparse.masks[name] == mask).float().mean()
        assert same > 0.99, f"{name}: masks agree in {same:.1%}; rounding may flip a near tie, no more"
        torch.testing.assert_close(
            trainer.masking.sparse.weights[name].data * mask,
            weights[name] * trainer.masking.sparse.masks[name],
            rtol=1e-2,
            atol=1e-3,
        )


@pytest.mark.parametrize("preset", [RELEASED, STANDARD], ids=["released", "standard"])
def test_inactive_weights_are_exactly_zero_after_every_step(preset: Semantics) -> None:
    trainer = make_trainer(edst_spec(preset))
    seen = 0

    def check() -> None:
        nonlocal seen
        assert trainer.masking.sparse is not None
        for name, weight in trainer.masking.sparse.weights.items():
            assert not weight[~trainer.masking.sparse.masks[name]].any()
        seen += 1

    while not trainer.finished:
        trainer.train_epoch(check)
    assert seen == 7 * 3


def test_density_is_exact_at_every_update_and_stored() -> None:
    spec = edst_spec(STANDARD)
    trainer = make_trainer(spec)
    shapes = {name: tuple(weight.shape) for name, weight in maskable_weights(trainer.model).items()}
    counts = exact_counts(shapes, erdos_renyi_kernel(shapes, 0.2))
    while not trainer.finished:
        trainer.train_epoch(nothing)
        assert trainer.masking.sparse is not None
        assert trainer.masking.sparse.nonzeros() == counts
    updates = [update for line in trainer.at.history for update in line["updates"]]
    assert [(u["kind"], u["step"]) for u in updates] == [
        *(("rewire", step) for step in (3, 6, 9, 12, 15, 18)),
        ("global_exploration", 20),
        *(("rewire", step) for step in (21, 24, 27)),
    ]
    expected = sum(counts.values()) / sum(math.prod(shape) for shape in shapes.values())
    assert {update["density"] for update in updates} == {expected}
    assert all(update["dropped"] == update["grown"] > 0 for update in updates)


def test_momentum_of_inactive_weights() -> None:
    for preset, masked in ((STANDARD, True), (RELEASED, False)):
        trainer = make_trainer(edst_spec(preset))
        epochs(trainer, 2)
        assert trainer.masking.sparse is not None
        state, sparse = trainer._optimizer.torch.state, trainer.masking.sparse
        inactive = [state[sparse.weights[name]]["momentum_buffer"][~mask] for name, mask in sparse.masks.items()]
        assert any(momentum.any() for momentum in inactive) is not masked


def test_the_ticket_is_the_best_validation_epoch_of_its_phase() -> None:
    tickets: dict[int, Ticket] = {}
    trainer = make_trainer(edst_spec(STANDARD), tickets)
    states = {}
    while not trainer.finished:
        sparse = trainer.masking.sparse
        assert sparse is not None
        line = trainer.train_epoch(nothing)
        if line["epoch"] != 5:  # after epoch 5 the second refinement has already changed the topology
            states[line["epoch"]] = {n: w.detach().clone() for n, w in sparse.weights.items()}
    for index, phase in enumerate(("refine 1", "refine 2")):
        lines = [line for line in trainer.at.history if line["phase"] == phase]
        best = max(lines, key=lambda line: (line["validation_accuracy"], -line["epoch"]))
        described = trainer.at.tickets[index]
        assert (described["index"], described["phase"], described["epoch"]) == (index, phase, best["epoch"])
        if best["epoch"] in states:
            for name, weight in states[best["epoch"]].items():
                assert torch.equal(tickets[index][name], weight)
                assert torch.equal(tickets[index][f"mask/{name}"], weight != 0) or (weight == 0).any()


def test_a_first_ticket_not_reset_can_be_missing() -> None:
    for preset, expected in ((RELEASED, [1]), (STANDARD, [0, 1])):
        tickets: dict[int, Ticket] = {}
        trainer = make_trainer(edst_spec(preset), tickets)
        trainer.at.best = 2.0  # an exploration better than any refinement
        while not trainer.finished:
            trainer.train_epoch(nothing)
        assert sorted(tickets) == expected == [ticket["index"] for ticket in trainer.at.tickets]


def test_augmented_validation_changes_what_is_measured_not_what_is_trained() -> None:
    plain, augmented = (make_trainer(dense_spec(validation_augmented=flag)) for flag in (False, True))
    for trainer in (plain, augmented):
        epochs(trainer, 1)
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), augmented.model.parameters(), strict=True))
    assert plain.at.history[0]["validation_loss"] != augmented.at.history[0]["validation_loss"]


def test_the_seed_decides_everything() -> None:
    def weights(seed: int) -> torch.Tensor:
        trainer = make_trainer(edst_spec(RELEASED, seed=seed))
        epochs(trainer, 1)
        return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])

    torch.manual_seed(5)
    first = weights(18)
    torch.manual_seed(6)
    assert torch.equal(first, weights(18))
    assert not torch.equal(first, weights(19))


def test_divergence_ends_the_run_with_what_to_change() -> None:
    trainer = make_trainer(dense_spec(learning_rate=1e4))
    with pytest.raises(DivergedError, match=r"epoch \d, step \d.*optimizer\.learning_rate"):
        epochs(trainer, 4)


def test_a_checkpoint_of_another_run_is_refused() -> None:
    state = make_trainer(dense_spec()).state_dict()
    with pytest.raises(ValueError, match="belongs to run"):
        make_trainer(dense_spec(seed=19)).load_state_dict(state)


def member_probabilities(trainer: Trainer, images: torch.Tensor) -> torch.Tensor:
    """Return softmax [members, images, classes] of plain forward passes; dropout, where there is any, left out."""
    trainer.model.eval()
    kind = trainer.spec.model.ensemble.kind if trainer.spec.model.ensemble else None
    with torch.no_grad():
        match kind:
            case "mimo":
                logits = trainer.model(torch.cat([images, images], dim=1)).transpose(0, 1)
            case "batch_ensemble":
                logits = trainer.model(torch.cat([images, images])).view(2, len(images), 10)
            case "mc_dropout":
                trainer.model.draws.on = False  # type: ignore[union-attr]
                logits = trainer.model(images).unsqueeze(0)
                trainer.model.draws.on = True  # type: ignore[union-attr]
            case _:
                logits = trainer.model(images).unsqueeze(0)
    return torch.softmax(logits, dim=-1)


@pytest.mark.parametrize(
    "name", ["dense", "edst released", "edst standard", "mc dropout", "mimo snapshots", "batch ensemble"]
)
def test_every_epoch_records_what_the_ensemble_predicts_of_the_first_validation_images(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not augmented, of which "edst released" has its validation images; half precision."""
    monkeypatch.setattr("bench.store.probe.MOST_IMAGES", 13)
    spec, facts = SPECS[name](), DATASETS["digits"]
    trainer = make_trainer(spec, images=noise(spec.data))
    levels = torch.from_numpy(noise(spec.data).validation.images[:13]) / 255
    images = ((levels - torch.tensor(facts.mean)) / torch.tensor(facts.std)).permute(0, 3, 1, 2)
    seen = []
    for _ in range(2):
        line = trainer.train_epoch(nothing)
        assert trainer.at.history[-1]["predictions"] == line["predictions"]
        recorded = decode(line["predictions"], 10)
        expected = member_probabilities(trainer, images).mean(dim=0)
        np.testing.assert_allclose(recorded, expected, rtol=2e-3, atol=2e-4)
        seen.append(recorded)
    assert not np.allclose(seen[0], seen[1], rtol=2e-3, atol=2e-4)


def test_of_few_validation_images_all_are_recorded() -> None:
    trainer = make_trainer(dense_spec())
    assert decode(trainer.train_epoch(nothing)["predictions"], 10).shape == (60, 10)


def test_without_validation_images_no_prediction_is_recorded() -> None:
    data = DATA.model_copy(update={"validation_images": 0})
    spec = run_spec(step_decay(Setting(members=1, learning_rate=0.1), epochs=3, select="last"), density=None, data=data)
    facts, train = DATASETS["digits"], split(data).train
    images = DeviceImages(train, facts.mean, facts.std, augmentation=spec.augmentation, channels_last=False)
    trainer = Trainer(spec, images, None, CPU, MemoryWriter({}), classes=10)
    line = trainer.train_epoch(nothing)
    assert line["predictions"] is line["validation_loss"] is line["validation_accuracy"] is None


@pytest.mark.parametrize("name", ["edst released", "mc dropout", "mimo snapshots"])
def test_recording_predictions_changes_no_weight(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def state() -> dict[str, torch.Tensor]:
        trainer = make_trainer(SPECS[name](), images=noise())
        epochs(trainer, 2)
        return trainer.snapshot()

    recorded = state()

    def line(*_: object) -> dict[str, object]:
        return {"validation_loss": 1.0, "validation_accuracy": 0.5, "predictions": None}

    monkeypatch.setattr(Validation, "line", line)
    unrecorded = state()
    assert recorded.keys() == unrecorded.keys()
    assert all(torch.equal(tensor, unrecorded[name]) for name, tensor in recorded.items())
