"""The tickets of finished runs as networks: one for a user, or all of a run to predict the images of one batch."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.data.augment import Normalise
from bench.data.catalog import facts_of
from bench.errors import UserError
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
        model, _ = _built(spec, folder, ticket.index)
        if isinstance(model, MultiMember):
            model.members = members
        model = prepare(model, execution, device, deterministic=deterministic).eval().requires_grad_(False)
        forward = forward_function(model, execution, device)
        networks.append(Network(model, forward, members, spec.stream, ticket.index))
    return networks


def load_ticket(run: RunFolder | Path | str, index: int = 0, *, device: torch.device | str = "cpu") -> nn.Module:
    """Return a ticket of a finished run as a network in evaluation mode, its masks applied.

    run     its folder, `results/runs/RUN`, or Store(...).run(RUN)
    index   of the ticket, from 0

    It reads what normaliser(spec, device) returns, in float32, and leaves torch's global switches as they are. A
    network that holds several members predicts by member_logits (bench.models.members). UserError if the run is not
    done, has no such ticket, or a file of it is damaged.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(Path(run))
    if not folder.path.is_dir():
        raise UserError(f"{folder.path}: no such folder; a run is a folder of a store, such as results/runs/RUN")
    left = [ticket.index for ticket in folder.result().tickets]
    if index not in left:
        raise UserError(f"{folder.path}: found ticket {index}; the run left {', '.join(map(str, left)) or 'none'}")
    try:
        model, masks = _built(folder.spec(), folder, index)
    except (ValueError, TypeError, RuntimeError) as error:  # one elsewhere that is not here, or another by now
        raise UserError(f"{folder.path}: its network cannot be built: {error}") from error
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).masked_fill_(~mask, 0.0)
    return model.to(device).eval()


def _built(spec: RunSpec, folder: RunFolder, index: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return the network of a ticket on the CPU, and its masks by parameter name."""
    tensors = {name: torch.from_numpy(tensor) for name, tensor in folder.ticket(index).items()}
    model = build_model(spec.model, facts_of(spec.data).classes, spec.seed)
    model.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith(MASK_PREFIX)})
    masks = {n.removeprefix(MASK_PREFIX): tensor for n, tensor in tensors.items() if n.startswith(MASK_PREFIX)}
    return model, masks


def normaliser(spec: RunSpec, device: torch.device) -> Normalise:
    """Return what turns pixels into what the networks of a run read, on a device and in the run's memory layout."""
    facts = facts_of(spec.data)
    layout = torch.channels_last if spec.execution.channels_last else torch.contiguous_format
    return Normalise(facts.mean, facts.std, (facts.image_size, facts.image_size), device=device, layout=layout)
