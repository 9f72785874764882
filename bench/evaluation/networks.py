"""The tickets of finished runs as networks that predict, several of them on the images of one batch."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.data.augment import Normalise
from bench.data.catalog import facts_of
from bench.models.arithmetic import Forward, forward_function, prepare
from bench.models.build import build_model
from bench.models.members import MultiMember
from bench.models.predict import member_logits
from bench.spec.run import MASK_PREFIX, McDropout, RunSpec
from bench.spec.seeds import derived_seed
from bench.store.run_folder import RunFolder


@dataclass(frozen=True)
class Network:
    """One ticket in evaluation mode; `members` predictions of an image, of which some networks draw each anew."""

    model: nn.Module
    forward: Forward
    members: int
    stream: int
    index: int

    def logits(self, batch: Tensor, *names: str | int) -> Tensor:
        """Return float32 logits [members, B, classes] of normalised images; differentiable.

        Where members are drawn, the draws depend on the run, the ticket and the names alone.
        """
        seed = derived_seed(self.stream, "sampling", *names, self.index)
        return member_logits(self.model, self.forward, batch, seed)


def load_networks(
    spec: RunSpec, folder: RunFolder, device: torch.device, *, deterministic: bool, samples: int | None = None
) -> list[Network]:
    """Return the tickets of a finished run on a device, in order; UserError that names a damaged file.

    They compute as the run did, but never compiled: a graph for each ticket would take longer than it saves. Of
    networks that draw their members, `samples` takes the first ones only.
    """
    members = spec.model.members
    if samples is not None and isinstance(spec.model.ensemble, McDropout):
        members = min(members, samples)
    execution = spec.execution.model_copy(update={"compile": False})
    networks = []
    for ticket in folder.result().tickets:
        tensors = folder.ticket(ticket.index)
        model = build_model(spec.model, facts_of(spec.data).classes, spec.seed)
        weights = {name: torch.from_numpy(t) for name, t in tensors.items() if not name.startswith(MASK_PREFIX)}
        model.load_state_dict(weights)
        if isinstance(model, MultiMember):
            model.members = members
        model = prepare(model, execution, device, deterministic=deterministic).eval().requires_grad_(False)
        forward = forward_function(model, execution, device)
        networks.append(Network(model, forward, members, spec.stream, ticket.index))
    return networks


def normaliser(spec: RunSpec, device: torch.device) -> Normalise:
    """Return what turns pixels into what the networks of a run read, on a device and in the run's memory layout."""
    facts = facts_of(spec.data)
    layout = torch.channels_last if spec.execution.channels_last else torch.contiguous_format
    return Normalise(facts.mean, facts.std, (facts.image_size, facts.image_size), device=device, layout=layout)
