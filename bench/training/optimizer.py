"""SGD with the parameter groups of a run: which weights decay, and which learn at another rate."""

from collections import defaultdict

import torch
from torch import nn

from bench.models.members import MultiMember
from bench.spec.run import Optimizer

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


class Sgd:
    """torch's fused SGD; the rate of a group is that of the schedule times the group's own factor."""

    def __init__(self, model: nn.Module, settings: Optimizer) -> None:
        groups: defaultdict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
        factors = model.learning_rate_factors() if isinstance(model, MultiMember) else {}
        exempt = set(model.undecayed()) if isinstance(model, MultiMember) else set()
        if settings.decay == "not_norm":
            exempt |= _norm_parameters(model)
        for name, parameter in model.named_parameters():
            decay = 0.0 if name in exempt else settings.weight_decay
            groups[factors.get(name, 1.0), decay].append(parameter)
        self.torch = torch.optim.SGD(
            [{"params": group, "factor": factor, "weight_decay": decay} for (factor, decay), group in groups.items()],
            lr=0.0,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            fused=True,
        )

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the coming step."""
        for group in self.torch.param_groups:
            group["lr"] = rate * group["factor"]


def _norm_parameters(model: nn.Module) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, NORMS)
        for name, _ in module.named_parameters(recurse=False)
    }
