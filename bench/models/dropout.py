"""MC dropout (Gal & Ghahramani 2016): dropout while training and at test, where each mask is a sample of the network.

As in uncertainty-baselines, baselines/cifar/dropout.py with residual_dropout: element by element, once in each residual
branch, between its first convolution and the batch norm that follows; batch norm itself is in evaluation mode at test.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.models.members import Forward, SameNames
from bench.spec.run import McDropout
from bench.spec.seeds import derived_seed

# The name of the submodule that a backbone holds wherever residual dropout acts.
PLACE = "dropout"


class MaskDraws:
    """The generator that all dropout of a network draws from, one on each device; torch's global ones are not used.

    Without `on` there is no dropout: the mean network, of which the draws are samples.
    """

    def __init__(self) -> None:
        self.on = True
        self._generators: dict[torch.device, torch.Generator] = {}

    def reseed(self, device: torch.device, seed: int) -> None:
        """Start over: masks from here on depend on the seed, and on the shapes and device they are drawn for."""
        self._at(device).manual_seed(seed)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a compiled graph cannot hold a generator
    def keep(self, x: Tensor, rate: float) -> Tensor:
        """Return a mask as x in shape, layout and dtype: 0 with probability `rate` (rounded to 1/65536), else 1."""
        # 16 bits an element, drawn as whole 64-bit words: on a CPU 5 times as fast as bernoulli_.
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
        words.random_(-(2**63), None, generator=self._at(x.device))
        dense = torch.empty_like(x, device="meta").stride()
        bits = words.view(torch.int16).as_strided(x.shape, dense)
        return (bits >= round(rate * 2**16) - 2**15).to(x.dtype)

    def _at(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device)
        return self._generators[device]


class Dropout(nn.Module):
    """Sets elements to 0 with probability `rate` and scales the others to keep the mean, in either mode."""

    def __init__(self, rate: float, draws: MaskDraws) -> None:
        super().__init__()
        self.rate = rate
        self.draws = draws

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0 or not self.draws.on:
            return x
        mask: Tensor = self.draws.keep(x, self.rate)
        return x * mask.div_(1 - self.rate)


class McDropoutNetwork(SameNames):
    """images float32 [N, 3, H, W] -> logits [N, classes] under one draw of masks; a member is a sample."""

    def __init__(self, backbone: nn.Module, spec: McDropout) -> None:
        super().__init__(backbone, spec.samples)
        self.draws = MaskDraws()
        places = [module for module in backbone.modules() if PLACE in module._modules]
        if not places:
            raise ValueError(f"{type(backbone).__name__} has no residual branch with a submodule {PLACE!r}")
        for module in places:
            module.add_module(PLACE, Dropout(spec.rate, self.draws))

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.backbone(inputs)
        return logits

    def training_batch(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return the batch as it is, after reseeding the masks of the step."""
        self.draws.reseed(images.device, derived_seed(seed, "dropout"))
        return images, labels

    def member_logits(self, forward: Forward, images: Tensor, seed: int | None) -> Tensor:
        """Predict once a sample; sample k draws its masks from (seed, k)."""
        if seed is None:
            self.draws.on = False
            try:
                return forward(images).unsqueeze(0)
            finally:
                self.draws.on = True
        samples = []
        for sample in range(self.members):
            self.draws.reseed(images.device, derived_seed(seed, "sample", sample))
            samples.append(forward(images))
        return torch.stack(samples)


def build_mc_dropout(factory: Callable[..., nn.Module], classes: int, spec: McDropout) -> McDropoutNetwork:
    """Return the network of a factory(classes) with dropout in its residual branches."""
    return McDropoutNetwork(factory(classes=classes), spec)
