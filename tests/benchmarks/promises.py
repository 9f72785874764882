"""What is promised, by the kind of processor it was measured on: a ratio of two steps differs between kinds."""

from collections.abc import Mapping

import torch


def promised(limits: Mapping[str, float]) -> float | None:
    """Return the limit for this processor, as `torch.backends.cpu.get_cpu_capability` names its kind.

    None where nothing was measured on such a processor, which is printed: the benchmark then measures, and judges not.
    """
    kind = torch.backends.cpu.get_cpu_capability()
    if kind not in limits:
        print(f"nothing is promised for a processor of kind {kind}, only for {', '.join(limits) or 'none'}")
    return limits.get(kind)
