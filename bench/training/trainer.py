"""The training loop: phases in order, steps within epochs, topology updates where a phase asks for them.

Everything random at a step is a function of (seed, epoch, step), and between two steps the state is complete in
state_dict(), so that an interrupted run continues to the same bits. The order within a step is that of the released
code (sparselearning/core.py, Masking.step): optimiser step, masks applied, then drop and grow when the step is due.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench.data.augment import DeviceImages, draw_epoch
from bench.models.build import build_model
from bench.seeds import derived_seed
from bench.sparsity.network import SparseWeights, maskable_weights, random_masks
from bench.sparsity.schedule import drop_fraction
from bench.spec import MASK_PREFIX, Phase, RewireRule, RunSpec
from bench.training.arithmetic import forward_function, prepare
from bench.training.evaluate import predict
from bench.training.position import Position

log = logging.getLogger(__name__)

CHECK_LOSS_EVERY = 100
# A mean epoch loss of this many times that of guessing has diverged, though it is still a number.
HOPELESS = 10.0

Ticket = dict[str, Tensor]


class DivergedError(Exception):
    """The training loss is no longer a number, or far above that of guessing."""


class Trainer:
    """One run in progress: network, optimiser, masks, and where in the recipe it stands.

    on_ticket(index, tensors, metadata) keeps each ticket when its phase ends and returns a checksum of it; it
    may be called again with the same ticket after a resume, so it must overwrite.
    """

    def __init__(
        self,
        spec: RunSpec,
        train: DeviceImages,
        validation: DeviceImages,
        device: torch.device,
        on_ticket: Callable[[int, Ticket, dict[str, Any]], str],
        *,
        classes: int,
        deterministic: bool = False,
    ) -> None:
        self.spec = spec
        self.device = device
        self.at = Position()
        self._train_images, self._validation_images = train, validation
        self._on_ticket = on_ticket
        self._guessing = math.log(classes)
        model = build_model(spec.model, classes, spec.seed)
        self.model = prepare(model, spec.execution, device, deterministic=deterministic)
        self.forward = forward_function(self.model, spec.execution, device)
        self.sparse: SparseWeights | None = None
        if spec.topology is not None:
            shapes = {name: tuple(weight.shape) for name, weight in maskable_weights(self.model).items()}
            self.sparse = SparseWeights(self.model, random_masks(shapes, spec.topology, spec.seed))
        self._masked_momentum = any(rule.inactive_momentum == "masked" for rule in spec.rules)
        self._optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=spec.phases[0].lr.at(0),
            momentum=spec.optimizer.momentum,
            nesterov=spec.optimizer.nesterov,
            weight_decay=spec.optimizer.weight_decay,
            fused=True,
        )
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._dense_gradients: dict[str, Tensor] | None = None
        self._best: Ticket | None = None
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
        """Return everything a later process needs to continue; complete between two steps."""
        return {
            "run": self.spec.run_id,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "masks": dict(self.sparse.masks) if self.sparse else {},
            "at": self.at.to_dict(),
            "loss_sum": self._loss_sum,
            "correct": self._correct,
            "best": self._best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; ValueError if it belongs to another run."""
        if state["run"] != self.spec.run_id:
            raise ValueError(f"the checkpoint belongs to run {state['run']}, not {self.spec.run_id}")
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self.sparse is not None:
            self.sparse = SparseWeights(self.model, state["masks"])
        self.at = Position.from_dict(state["at"])
        self._loss_sum, self._correct = state["loss_sum"], state["correct"]
        self._best = state["best"]

    def snapshot(self) -> Ticket:
        """Return copies of all weights and buffers, and of the masks under "mask/<parameter>"."""
        tensors = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        if self.sparse is not None:
            tensors |= {MASK_PREFIX + name: mask.clone() for name, mask in self.sparse.masks.items()}
        return tensors

    # -- an epoch ------------------------------------------------------------------------------------------------------

    def train_epoch(self, between_steps: Callable[[], None]) -> dict[str, Any]:
        """Train to the end of the epoch, validate, enter the next phase if this one is over; return the history line.

        between_steps is called where the state is complete: it may save it, and may raise to end the process.
        """
        started, first = time.perf_counter(), self.at.step
        images, spec = self._train_images, self.spec
        draws = draw_epoch(len(images), spec.augmentation, spec.seed, "train", self.at.epoch).to(self.device)
        rate = self.phase.lr.at(self.at.phase_epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        for step in range(first, spec.steps_per_epoch):
            part = slice(step * spec.batch_size, (step + 1) * spec.batch_size)
            index = draws.order[part]
            self._step(images.batch(index, draws.offsets[part], draws.flips[part]), images.labels[index])
            if step + 1 < spec.steps_per_epoch:
                between_steps()
        train_loss = self._mean_loss(len(images))  # waits for the device, so that the clock is right
        trained = time.perf_counter() - started
        line = {
            "epoch": self.at.epoch + 1,
            "phase": self.phase.name,
            "lr": rate,
            "train_loss": train_loss,
            "train_accuracy": float(self._correct) / len(images),
            **self._validate(),
            "density": self.sparse.density() if self.sparse else 1.0,
            "seconds": time.perf_counter() - started,
            "images_per_second": (len(images) - first * spec.batch_size) / trained,
            "updates": self.at.updates,
        }
        self._end_epoch(line)
        return line

    def _step(self, images: Tensor, labels: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        logits = self.forward(images)
        loss = functional.cross_entropy(logits, labels)
        torch.autograd.backward(loss)
        self._loss_sum += loss.detach() * len(labels)
        self._correct += (logits.detach().argmax(dim=1) == labels).sum()
        self.at.step += 1
        self.at.steps += 1
        if self.at.step % CHECK_LOSS_EVERY == 0:
            self._mean_loss(self.at.step * self.spec.batch_size)
        self._move_weights()

    def _move_weights(self) -> None:
        """Optimiser step and topology update, in the order that the phase's rewire rule names."""
        if self.sparse is None:
            self._optimizer.step()
            return
        rewire = self.phase.rewire
        due = rewire is not None and self.at.steps % rewire.every == 0
        # Masking overwrites the gradients, and growth wants the dense ones.
        wanted = self._masked_momentum and (due or self._explores_next())
        self._dense_gradients = self.sparse.gradients() if wanted else None
        if rewire is None or not due or rewire.update_step == "after_optimizer":
            if self._masked_momentum:
                self.sparse.mask_gradients()
            self._optimizer.step()
            self.sparse.apply()
        if rewire is not None and due:
            last = self.spec.epochs * self.spec.steps_per_epoch
            fraction = drop_fraction(rewire.drop_fraction, rewire.schedule, self.at.steps, last)
            self._change_topology("rewire", fraction, rewire.rule)

    def _change_topology(self, kind: str, fraction: float, rule: RewireRule) -> None:
        if self.sparse is None:
            raise ValueError("a dense network has no topology to change")
        momenta = self._momenta(self.sparse) if self._masked_momentum else None
        seed = derived_seed(self.spec.seed, kind, self.at.steps)
        update = self.sparse.update(fraction, rule, seed, self._dense_gradients, momenta)
        self.at.updates.append(
            {
                "kind": kind,
                "step": self.at.steps,
                "fraction": fraction,
                "dropped": update.dropped,
                "grown": update.grown,
                "density": update.density,
            }
        )

    def _momenta(self, sparse: SparseWeights) -> dict[str, Tensor] | None:
        """Return momentum buffers by parameter name, None before the first optimiser step."""
        state = self._optimizer.state
        buffers = {name: state[weight].get("momentum_buffer") for name, weight in sparse.weights.items()}
        return {name: b for name, b in buffers.items() if b is not None} or None

    def _validate(self) -> dict[str, float]:
        images, spec = self._validation_images, self.spec
        draws = None
        if spec.validation_augmented:
            draws = draw_epoch(len(images), spec.augmentation, spec.seed, "validation", self.at.epoch).to(self.device)
        logits = predict(self.model, self.forward, images, draws)
        return {
            "validation_loss": float(functional.cross_entropy(logits, images.labels)),
            "validation_accuracy": float((logits.argmax(dim=1) == images.labels).double().mean()),
        }

    # -- between epochs and phases -------------------------------------------------------------------------------------

    def _end_epoch(self, line: dict[str, Any]) -> None:
        """Keep the weights if they may be the ticket, and move on; nothing interrupts before train_epoch returns."""
        if line["validation_accuracy"] > self.at.best:
            self.at.best = line["validation_accuracy"]
            if self.phase.ticket is not None and self.phase.ticket.select == "best_validation":
                self._hold(line)
        self.at.history.append(line)
        self.at.updates = []
        self.at.step = 0
        self.at.epoch += 1
        self.at.phase_epoch += 1
        self._loss_sum.zero_()
        self._correct.zero_()
        if self.at.phase_epoch == self.phase.epochs:
            if self.phase.ticket is not None and self.phase.ticket.select == "last":
                self._hold(line)
            self._end_phase()

    def _hold(self, line: Mapping[str, Any]) -> None:
        """Remember the weights of now as the ticket of this phase, unless a better epoch follows."""
        self._best = self.snapshot()
        self.at.candidate = {key: line[key] for key in ("epoch", "phase", "validation_accuracy", "density")}
        if self.sparse is not None:
            sizes = {name: mask.numel() for name, mask in self.sparse.masks.items()}
            self.at.candidate["layer_density"] = {n: count / sizes[n] for n, count in self.sparse.nonzeros().items()}

    def _end_phase(self) -> None:
        if self.phase.ticket is not None:
            index = sum(phase.ticket is not None for phase in self.spec.phases[: self.at.phase])
            if self._best is None or self.at.candidate is None:
                log.warning("phase %r leaves no ticket: no epoch beat those before it", self.phase.name)
            else:
                checksum = self._on_ticket(index, self._best, self.at.candidate)
                self.at.tickets.append({"index": index, "sha256": checksum, **self.at.candidate})
            self._best = self.at.candidate = None
        self.at.phase += 1
        self.at.phase_epoch = 0
        if not self.finished:
            self._enter_phase()

    def _enter_phase(self) -> None:
        if self.phase.ticket is not None and self.phase.ticket.reset_best:
            self.at.best = -1.0
        if self.phase.on_start is not None:
            self._change_topology(self.phase.on_start.action, self.phase.on_start.fraction, self.phase.on_start.rule)

    def _explores_next(self) -> bool:
        """Whether this step is the last before a phase that starts with a topology change."""
        last_step = self.at.step == self.spec.steps_per_epoch and self.at.phase_epoch + 1 == self.phase.epochs
        following = self.spec.phases[self.at.phase + 1 : self.at.phase + 2]
        return last_step and bool(following) and following[0].on_start is not None

    def _mean_loss(self, images: int) -> float:
        mean = float(self._loss_sum) / images
        if not math.isfinite(mean) or mean > HOPELESS * self._guessing:
            raise DivergedError(
                f"training diverged: mean loss {mean:g} in epoch {self.at.epoch + 1}, step {self.at.step} (phase "
                f"{self.phase.name!r}); lower optimizer.learning_rate, or train in precision fp32"
            )
        return mean
