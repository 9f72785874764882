"""Dynamic sparse training of a network of one's own, in a training loop of one's own.

Settings have the names and the meaning of a grid's keys, and every step is one of SparseSteps, as in the suite's
trainer: the same settings, batches and learning rates give the same bits.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.utils.flop_counter import FlopCounterMode

from bench.errors import UserError
from bench.recipes.dynamic import rewiring
from bench.recipes.setting import Count, DropFraction, Growth, SemanticsChoice
from bench.sparsity.distribution import density_of
from bench.sparsity.maskable import Products, check_shapes, maskable_weights, unmaskable
from bench.sparsity.network import SparseWeights, random_masks
from bench.sparsity.problems import topology_problem
from bench.sparsity.steps import Change, SparseSteps
from bench.spec.messages import key_path, validated
from bench.spec.phases import Rewire, Schedule
from bench.spec.record import Record
from bench.spec.run import Topology

STATE = ("steps", "masks")


class _Settings(Record):
    sparsity: float = Field(gt=0, lt=1)
    distribution: Literal["erk", "uniform"]
    dense: list[str]
    growth: Growth
    drop_fraction: DropFraction
    drop_schedule: Schedule | None
    update_every: Count
    total_steps: int | None = Field(ge=1)
    explorations: list[Annotated[int, Field(ge=1)]]
    semantics: SemanticsChoice
    seed: int = Field(ge=0, le=2**53)


class DynamicSparsity:
    """Masks a network, and drops and grows its weights while an optimiser of torch trains it.

    Call step() where the loop called optimizer.step(). A call of explore() is the large change of the topology between
    two tickets of EDST. Wrong settings, and weights that cannot be masked, are UserErrors that say what is allowed.

    sparsity       share of inactive weights, of all that are masked
    distribution   "erk" or "uniform": how their density is divided over layers
    dense          names or patterns (`encoder.*`) of parameters and modules without masks
    growth         "gradient" (RigL) or "random" (SET)
    drop_fraction  share of each layer's active weights that an update replaces, at first
    drop_schedule  "constant", "cosine" or "cosine_restarts"; unless given, that of the semantics
    update_every   optimiser steps from one update to the next
    total_steps    after these the topology stays; cosines fall until then
    explorations   the steps after which explore() will be called; only "cosine_restarts" has to know them
    semantics      "standard", "released", "released_imagenet", or a mapping of `preset` and of the switches that differ
    seed           of masks and of random growth; no global generator is used
    example        an input of the network, or a tuple of them: one pass in evaluation mode shows which weights it
                   multiplies with as they are. Without it, a weight that it changes before that is not noticed
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        sparsity: float,
        distribution: Literal["erk", "uniform"] = "erk",
        dense: Iterable[str] = (),
        growth: Literal["gradient", "random"] = "gradient",
        drop_fraction: float = 0.5,
        drop_schedule: Schedule | None = None,
        update_every: int = 1000,
        total_steps: int | None = None,
        explorations: Sequence[int] = (),
        semantics: str | Mapping[str, Any] = "standard",
        seed: int = 18,
        example: Tensor | tuple[Any, ...] | None = None,
    ) -> None:
        given = {
            "sparsity": sparsity,
            "distribution": distribution,
            "dense": [dense] if isinstance(dense, str) else list(dense),
            "growth": growth,
            "drop_fraction": drop_fraction,
            "drop_schedule": drop_schedule,
            "update_every": update_every,
            "total_steps": total_steps,
            "explorations": list(explorations),
            "semantics": {"preset": semantics} if isinstance(semantics, str) else semantics,
            "seed": seed,
        }
        settings = validated(_Settings, given, _place)
        switches = settings.semantics.resolved(lambda *keys: _place("semantics", *keys))
        if settings.drop_schedule is not None:
            switches = switches.model_copy(update={"drop_schedule": settings.drop_schedule})
        topology = Topology(
            density=density_of(settings.sparsity),
            distribution=settings.distribution,
            sampling=switches.mask_sampling,
            dense=tuple(sorted(set(settings.dense))),
        )
        self._rewire = rewiring(switches, settings.update_every, settings.drop_fraction, settings.growth)
        self._total_steps, self._explorations = settings.total_steps, settings.explorations
        _check_schedule(self._rewire, settings)
        _check_network(model, optimizer, topology, example)
        shapes = {name: tuple(weight.shape) for name, weight in maskable_weights(model, topology).items()}
        self._weights = SparseWeights(model, random_masks(shapes, topology, settings.seed), topology)
        self._steps = SparseSteps(
            self._weights,
            optimizer,
            masked_momentum=switches.inactive_momentum == "masked",
            seed=settings.seed,
            turns=(0, *self._explorations, self._total_steps or 0),
        )
        self.steps = 0

    @property
    def masks(self) -> dict[str, Tensor]:
        """The boolean mask of each masked weight, by parameter name; an update makes new ones."""
        return dict(self._weights.masks)

    def density(self) -> float:
        """Return the share of active weights, of all that are masked."""
        return self._weights.density()

    def step(self) -> Change | None:
        """Take the optimiser step, or the update of the topology in its place; return what an update changed.

        Inactive weights are exactly zero afterwards; gradients are as the backward pass left them wherever an
        exploration may want them. An update by numbers that are not finite is a UserError, and nothing has changed.
        """
        self._check_gradients()
        rewire = self._rewire if self._total_steps is None or self.steps < self._total_steps else None
        if rewire is not None and (self.steps + 1) % rewire.every == 0:
            self._check_finite()
        self._weights.refit()
        self.steps += 1
        return self._steps.step(rewire, self.steps, keep_gradients=self._rewire.rule.growth == "gradient")

    def explore(self, fraction: float = 0.8) -> Change:
        """Drop `fraction` of every layer at once and regrow, by the gradients of the last step; return what changed."""
        if not 0 < fraction <= 1:
            raise UserError(f"{_place('explore')}: found {fraction}; allowed: more than 0 and at most 1")
        if self._rewire.schedule == "cosine_restarts" and self.steps not in self._explorations:
            raise UserError(
                f"{_place('explore')}: found step {self.steps}; allowed: the steps of explorations "
                f"({', '.join(map(str, self._explorations)) or 'none'}), which drop_schedule cosine_restarts falls to"
            )
        if self._rewire.rule.growth == "gradient":
            self._check_gradients()
            if not any(bool(weight.grad.any()) for weight in self._weights.weights.values() if weight.grad is not None):
                raise UserError(
                    f"{_place('explore')}: all gradients are zero; call it after step() and before zero_grad()"
                )
        self._check_finite()
        self._weights.refit()
        return self._steps.explore(fraction, self._rewire.rule, self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Return what a later process needs beside the states of model and optimiser: masks, and steps so far."""
        return {"steps": self.steps, "masks": self.masks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; UserError if its masks are of another network."""
        if missing := [key for key in STATE if not isinstance(state, Mapping) or key not in state]:
            raise UserError(f"{_place('load_state_dict')}: no state of DynamicSparsity; {missing[0]} is missing")
        if not isinstance(state["masks"], Mapping) or int(state["steps"]) < 0:
            raise UserError(f"{_place('load_state_dict')}: no state of DynamicSparsity")
        found = {name: tuple(mask.shape) for name, mask in state["masks"].items()}
        wanted = {name: tuple(weight.shape) for name, weight in self._weights.weights.items()}
        if differing := sorted(name for name in found | wanted if found.get(name) != wanted.get(name)):
            shapes = f"found {found.get(differing[0])}, needed {wanted.get(differing[0])}"
            raise UserError(f"{_place('load_state_dict')}: masks of another network; {differing[0]}: {shapes}")
        self._weights.load(state["masks"])
        self.steps = int(state["steps"])

    def _check_gradients(self) -> None:
        for name, weight in self._weights.weights.items():
            if weight.grad is None:
                raise UserError(
                    f"DynamicSparsity: {name} has no gradient; call step() after backward(), and explore() after "
                    "step() and before zero_grad(). A weight that takes no part in the loss has to stay dense: "
                    f'dense=["{name}"]. If the model has another parameter of this name by now (a new layer, or '
                    "load_state_dict(assign=True)), make optimizer and DynamicSparsity anew"
                )

    def _check_finite(self) -> None:
        for name, weight in self._weights.weights.items():
            for tensor, what in ((weight.data, name), (weight.grad, f"the gradient of {name}")):
                if tensor is not None and not bool(tensor.isfinite().all()):
                    raise UserError(
                        f"DynamicSparsity: {what} is not finite, and the topology would change by it; leave out a step "
                        "whose gradients are not finite, as a GradScaler does"
                    )


def _place(*keys: str | int) -> str:
    return f"DynamicSparsity: {key_path(*keys)}"


def _check_schedule(rewire: Rewire, settings: _Settings) -> None:
    total, explorations = settings.total_steps, settings.explorations
    if rewire.schedule != "constant" and total is None:
        raise UserError(
            f"{_place('total_steps')}: missing; drop_schedule {rewire.schedule} falls until the last step. Give "
            'total_steps, or drop_schedule="constant"'
        )
    if explorations != sorted(set(explorations)) or (total is not None and explorations and explorations[-1] >= total):
        raise UserError(f"{_place('explorations')}: found {explorations}; allowed: rising steps below total_steps")
    # At the last step of a cosine nothing is dropped.
    last = None if total is None else total - (rewire.schedule == "cosine")
    if last is not None and rewire.every > last:
        raise UserError(
            f"{_place('update_every')}: found {rewire.every}, so the topology would never change in {total} steps; "
            f"allowed: at most {max(1, last)}"
        )
    if rewire.every == 1 and rewire.update_step == "instead_of_optimizer":
        raise UserError(
            f"{_place('update_every')}: found 1; updates would take the place of all optimiser steps. Allowed: at "
            'least 2, or semantics with update_step "after_optimizer"'
        )


def _check_network(model: nn.Module, optimizer: Optimizer, topology: Topology, example: Any) -> None:
    try:
        check_shapes(model)
    except ValueError as error:
        raise UserError(f"DynamicSparsity: {error}") from None
    others = unmaskable(model, None if example is None else _read(model, example))
    shapes = {name: tuple(w.shape) for name, w in maskable_weights(model).items() if name not in others}
    if problem := topology_problem(type(model).__name__, shapes, others, topology, "dense=[{}]"):
        keys, message = problem
        raise UserError(f"{_place(keys[-1])}: {message}")
    if isinstance(optimizer, LBFGS):
        raise UserError("DynamicSparsity: LBFGS takes a closure, and several steps of it; allowed: any other of torch")
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, weight in maskable_weights(model, topology).items():
        if id(weight) not in trained:
            raise UserError(
                f"DynamicSparsity: {name} is no parameter of the optimizer, which would never train it. What another "
                f'optimizer trains has to stay dense here, and may have a DynamicSparsity of its own: dense=["{name}"]'
            )


def _read(model: nn.Module, example: Tensor | tuple[Any, ...]) -> set[str]:
    """Return the parameters that a forward pass multiplies with as they are; the modes of all modules stay."""
    modes = {module: module.training for module in model.modules()}
    products = Products(model)
    try:
        model.eval()
        # Without gradients attention takes a path of its own, which the counter does not know.
        with torch.enable_grad(), FlopCounterMode(display=False, custom_mapping=products.formulas()):
            model(*example) if isinstance(example, tuple) else model(example)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return products.read
