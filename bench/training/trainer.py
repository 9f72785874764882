"""The training loop: phases in order, steps within epochs, tickets where a phase leaves one.

Everything random at a step is a function of (seed, epoch, step), and between two steps the state is complete in
state_dict(), so that an interrupted run continues to the same bits.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, assert_never

import torch
from torch import Tensor
from torch.nn import functional

from bench.data.augment import DeviceImages, TrainingImages
from bench.models.arithmetic import forward_function, prepare
from bench.models.build import build_model
from bench.models.catalog import NETWORKS
from bench.models.draws import seed_generators, seeded_generators
from bench.models.members import MultiMember
from bench.spec.phases import Densify, GlobalExploration, Inherit, Phase, Prune
from bench.spec.run import MASK_PREFIX, RunSpec
from bench.spec.seeds import derived_seed
from bench.training.masking import Masking
from bench.training.optimizer import Sgd
from bench.training.position import Position
from bench.training.ranks import ALONE, BatchShare, Ranks
from bench.training.remarks import check_layers, remarks
from bench.training.sync_norm import check_ghosts, synchronise
from bench.training.validation import Validation
from bench.training.weights import ParentWeights, Ticket, WeightWriter, inherited, initial_weights

log = logging.getLogger(__name__)

CHECK_LOSS_EVERY = 100
# A mean epoch loss of this many times that of guessing has diverged, though it is still a number.
HOPELESS = 10.0


class DivergedError(Exception):
    """The training loss is no longer a number, or far above that of guessing."""


class Trainer:
    """One run in progress: network, optimiser, masks, and where in the recipe it stands.

    resumes   a state will be loaded, or no more trained: nothing is taken from the parent
    ranks     the processes that train it together; all call the same methods
    """

    def __init__(
        self,
        spec: RunSpec,
        train: TrainingImages,
        validation: DeviceImages | None,
        device: torch.device,
        writer: WeightWriter,
        *,
        classes: int,
        parent: ParentWeights | None = None,
        resumes: bool = False,
        deterministic: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        self.spec = spec
        self.device = device
        self.at = Position()
        self._train_images = train
        self._validation = Validation(spec, validation, ranks)
        self._writer, self._parent = writer, parent
        self._ranks = ranks
        self._classes, self._guessing = classes, math.log(classes)
        self._may_draw = spec.model.name not in NETWORKS
        model = build_model(spec.model, classes, spec.seed)
        self.model = prepare(model, spec.execution, device, deterministic=deterministic)
        if ranks.size > 1:
            check_ghosts(spec, ranks.size)
            self.model = synchronise(self.model, device)
        self.forward = self._training_forward = forward_function(self.model, spec.execution, device)
        if ranks.size > 1:
            self._training_forward = forward_function(ranks.data_parallel(self.model), spec.execution, device)
        self._optimizer = Sgd(self.model, spec.optimizer)
        self.masking = Masking(self.model, spec, self._optimizer, ranks)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._best: Ticket | None = None
        if not resumes:
            self._enter_phase()

    @property
    def finished(self) -> bool:
        """Whether all phases are over."""
        return self.at.phase == len(self.spec.phases)

    @property
    def phase(self) -> Phase:
        """The phase in progress."""
        return self.spec.phases[self.at.phase]

    # -- state ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a later process, or several, need to continue; complete between two steps."""
        return {
            "run": self.spec.run_id,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.torch.state_dict(),
            "masks": dict(self.masking.sparse.masks) if self.masking.sparse else {},
            "at": {**self.at.to_dict(), "targets": self._targets()},
            "loss_sum": self._ranks.total(self._loss_sum),
            "correct": self._ranks.total(self._correct),
            "best": self._best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; ValueError if it belongs to another run."""
        if state["run"] != self.spec.run_id:
            raise ValueError(f"the checkpoint belongs to run {state['run']}, not {self.spec.run_id}")
        self.model.load_state_dict(state["model"])
        self._optimizer.torch.load_state_dict(state["optimizer"])
        self.masking.load(state["masks"])
        self.at = Position.from_dict(state["at"])
        self._loss_sum, self._correct = state["loss_sum"], state["correct"]
        if not self._ranks.first:  # they are of all ranks together
            self._start_counting()
        self._best = state["best"]

    def snapshot(self) -> Ticket:
        """Return copies of all weights and buffers, and of the masks under "mask/<parameter>"."""
        tensors = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        if self.masking.sparse is not None:
            tensors |= {MASK_PREFIX + name: mask.clone() for name, mask in self.masking.sparse.masks.items()}
        return tensors

    # -- an epoch ------------------------------------------------------------------------------------------------------

    def train_epoch(self, between_steps: Callable[[], None]) -> dict[str, Any]:
        """Train to the end of the epoch, validate, enter the next phase if this one is over; return the history line.

        between_steps is called where the state is complete: it may save it, and may raise to end the process.
        """
        started, first = time.perf_counter(), self.at.step
        images, spec = self._train_images, self.spec
        rate = 0.0
        self.model.train()
        parts = [self._share(step).part for step in range(first, spec.steps_per_epoch)]
        # Each step of a network of the user's own seeds them, and the caller's own draws go on as if there were none.
        generators = seeded_generators(0, self.device) if self._may_draw else nullcontext()
        with generators, images.epoch(parts, spec.stream, "train", self.at.epoch) as batches:
            for batch, labels in batches:
                rate = self.phase.lr.at(self._phase_step(), spec.steps_per_epoch, self.phase.epochs)
                self._optimizer.set_rate(rate)
                self._step(batch, labels)
                if self.at.step < spec.steps_per_epoch:
                    between_steps()
        train_loss = self._mean_loss(len(images))  # waits for the device, so that the clock is right
        trained = time.perf_counter() - started
        line: dict[str, Any] = {
            "epoch": self.at.epoch + 1,
            "phase": self.phase.name,
            "lr": rate,
            "train_loss": train_loss,
            "train_accuracy": float(self._ranks.total(self._correct)) / self._targets(),
            **self._validation.line(self.model, self.forward, self.at.epoch),
            "density": self.masking.density(),
            "seconds": time.perf_counter() - started,
            "images_per_second": (len(images) - first * spec.batch_size) / trained,
            "updates": self.at.updates,
        }
        history = [*self.at.history, line]
        if found := remarks(spec, history, self.model, self.masking.sparse, self._guessing, self.initial_weights):
            line["warnings"] = found
            for remark in found if self._ranks.first else ():
                log.warning("epoch %d: %s", self.at.epoch + 1, remark)
        self._end_epoch(line)
        return line

    def _step(self, images: Tensor, labels: Tensor) -> None:
        if self._may_draw:
            draws = derived_seed(self.spec.stream, "forward", self.at.steps, *self._ranks.own_draws)
            seed_generators(draws, self.device)
        self._optimizer.torch.zero_grad(set_to_none=True)
        share, smoothing = self._share(self.at.step), self.spec.optimizer.label_smoothing
        if isinstance(self.model, MultiMember):
            seed = derived_seed(self.spec.stream, "members", self.at.steps, *self._ranks.own_draws)
            inputs, targets = self.model.training_batch(images, labels, seed)
            logits = self._training_forward(inputs)
            loss, terms = self.model.loss(logits, targets, smoothing), self.model.loss_terms
        else:
            targets, logits = labels, self._training_forward(images)
            loss, terms = functional.cross_entropy(logits, targets, label_smoothing=smoothing), 1
        torch.autograd.backward(loss if share.weight == 1 else loss * share.weight)
        if share.counted:
            # Terms of float32 in a sum of float64 are exact up to 29 bits apart, so nothing hangs on their order.
            self._loss_sum += loss.detach() * (len(labels) / terms)
            self._correct += (logits.detach().argmax(dim=-1) == targets).sum()
            self.at.targets += targets.numel()
        self.at.step += 1
        self.at.steps += 1
        if self.at.step % CHECK_LOSS_EVERY == 0:
            self._mean_loss(self.at.step * self.spec.batch_size)
        updates = self.masking.move(self.phase, self._phase_step(), self.at.steps, explores_next=self._explores_next())
        self.at.updates += updates

    def _share(self, step: int) -> BatchShare:
        """Return which images of the epoch's order this process takes in a step."""
        start = step * self.spec.batch_size
        return self._ranks.share(start, min(start + self.spec.batch_size, len(self._train_images)))

    def _targets(self) -> int:
        """Return the labels that the epoch in progress was trained on, by all ranks."""
        return int(self._ranks.total(torch.tensor(self.at.targets, device=self.device)))

    def _start_counting(self) -> None:
        self.at.targets = 0
        self._loss_sum.zero_()
        self._correct.zero_()

    def _phase_step(self) -> int:
        return self.at.phase_epoch * self.spec.steps_per_epoch + self.at.step

    # -- between epochs and phases -------------------------------------------------------------------------------------

    def _end_epoch(self, line: dict[str, Any]) -> None:
        """Hold the weights if they may be the ticket, and move on; nothing interrupts before train_epoch returns."""
        accuracy = line["validation_accuracy"]
        improved = accuracy is not None and accuracy > self.at.best
        if improved:
            self.at.best = accuracy
        if self.phase.ticket is not None:
            match self.phase.ticket.select:
                case "best_validation":
                    chosen = improved
                case "last":
                    chosen = self.at.phase_epoch + 1 == self.phase.epochs
                case _:
                    assert_never(self.phase.ticket.select)
            if chosen:
                self._hold(line)
        self.at.history.append(line)
        self.at.updates = []
        self.at.step = 0
        self.at.epoch += 1
        self.at.phase_epoch += 1
        self._start_counting()
        if self.at.phase_epoch in self.phase.keep:
            index = len(self.at.kept)
            checksum = self._writer.write_rewind_checkpoint(index, self.snapshot())
            self.at.kept.append({"index": index, "epoch": self.at.epoch, "sha256": checksum})
        if self.at.phase_epoch == self.phase.epochs:
            self._end_phase()

    def _hold(self, line: Mapping[str, Any]) -> None:
        """Remember the weights of now as the ticket of this phase, unless a better epoch follows."""
        self._best = self.snapshot()
        self.at.candidate = {key: line[key] for key in ("epoch", "phase", "validation_accuracy", "density")}
        sparse = self.masking.sparse
        if sparse is not None:
            sizes = {name: mask.numel() for name, mask in sparse.masks.items()}
            self.at.candidate["layer_density"] = {n: count / sizes[n] for n, count in sparse.nonzeros().items()}

    def _end_phase(self) -> None:
        if self.phase.ticket is not None:
            index = sum(phase.ticket is not None for phase in self.spec.phases[: self.at.phase])
            if self._best is None or self.at.candidate is None:
                if self._ranks.first:
                    log.warning("phase %r leaves no ticket: no epoch beat those before it", self.phase.name)
            else:
                checksum = self._writer.write_ticket(index, self._best, self.at.candidate)
                self.at.tickets.append({"index": index, "sha256": checksum, **self.at.candidate})
            self._best = self.at.candidate = None
        self.at.phase += 1
        self.at.phase_epoch = 0
        if not self.finished:
            self._enter_phase()

    def _enter_phase(self) -> None:
        if self.phase.ticket is not None and self.phase.ticket.reset_best:
            self.at.best = -1.0
        for action in self.phase.on_start:
            match action:
                case GlobalExploration():
                    self.at.updates.append(self.masking.explore(action, self.at.steps))
                case Inherit():
                    self._initialise_from_parent(action)
                case Prune():
                    self.at.updates.append(self.masking.prune(self.at.steps))
                case Densify():
                    self.at.updates.append(self.masking.densify(self.at.steps))
                case _:
                    assert_never(action)
        check_layers(self.model, self.masking.sparse, self.spec)

    def initial_weights(self) -> Mapping[str, Tensor] | None:
        """Return the weights that the run began with, on any device; None if its parent's cannot be read any more."""
        return initial_weights(self.spec, self._classes, self._parent)

    @torch.no_grad()
    def _initialise_from_parent(self, action: Inherit) -> None:
        """Load weights and buffers of the parent; the masks stay as they are."""
        if self._parent is None or self.spec.parent is None:
            raise ValueError("a run without a parent has no weights to start from")
        tickets = self.spec.parent.tickets if self._ranks.first else 0
        # First, so that a parent that is made again in between is seen to be another one.
        self.at.inherited = self._parent.checksums()
        tensors = inherited(self._parent, action.weights, tickets)
        self.model.load_state_dict({n: t for n, t in tensors.items() if not n.startswith(MASK_PREFIX)})
        if self.masking.sparse is not None:
            self.masking.sparse.apply()

    def _explores_next(self) -> bool:
        """Whether this step is the last before a phase that starts with a topology change."""
        last_step = self.at.step == self.spec.steps_per_epoch and self.at.phase_epoch + 1 == self.phase.epochs
        following = self.spec.phases[self.at.phase + 1 : self.at.phase + 2]
        return last_step and any(phase.exploration_rules for phase in following)

    def _mean_loss(self, images: int) -> float:
        mean = float(self._ranks.total(self._loss_sum)) / images
        if not math.isfinite(mean) or mean > HOPELESS * self._guessing:
            raise DivergedError(
                f"training diverged: mean loss {mean:g} in epoch {self.at.epoch + 1}, step {self.at.step} (phase "
                f"{self.phase.name!r}); lower optimizer.learning_rate, or train in precision fp32"
            )
        return mean
