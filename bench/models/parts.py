"""A backbone as an ordered list of parts, so that it can be cut in two without knowing which network it is.

A part names the submodules that it owns and computes with them; the backbone's forward pass is its parts in order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor, nn

Run = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Part:
    """A step of a forward pass: dotted names of its submodules, and run(whoever holds them by these names, x)."""

    modules: tuple[str, ...]
    run: Run


class Divisible(Protocol):
    """A backbone that can be cut: its stem, one part a residual block, its classifier."""

    def parts(self) -> tuple[Part, ...]:
        """Return the parts in the order in which they run."""

    def get_submodule(self, target: str) -> nn.Module:
        """As of every torch.nn.Module."""


class Segment(nn.Module):
    """Some consecutive parts of a backbone, with its modules under its names."""

    def __init__(self, backbone: Divisible, parts: Sequence[Part]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        for name in (name for part in parts for name in part.modules):
            *groups, last = name.split(".")
            holder: nn.Module = self
            for group in groups:
                if not hasattr(holder, group):
                    holder.add_module(group, nn.Module())
                holder = holder.get_submodule(group)
            holder.add_module(last, backbone.get_submodule(name))

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part.run(self, x)
        return x


def chain(*names: str) -> Part:
    """Return the part that runs these submodules one after another."""

    def run(owner: nn.Module, x: Tensor) -> Tensor:
        for name in names:
            x = cast(Tensor, owner.get_submodule(name)(x))
        return x

    return Part(names, run)
