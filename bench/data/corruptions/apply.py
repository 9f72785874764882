"""One corruption of a batch of images, the same bytes for an image whatever the batch it is in.

Semantics of make_cifar_c.py (hendrycks/robustness): values clipped to the range and truncated to 8 bits. Sets made so
are local-c, never CIFAR-10-C: the random draws and the frost are others, and where a value is a whole grey level in
exact arithmetic, rounding may have taken the released one a level down. Everything is float64, one rounding an
operation, so that the device doesn't matter either.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.data.corruptions import blur, digital, noise, spatter, weather
from bench.data.corruptions.catalog import CORRUPTIONS, PARAMETERS, SEVERITIES
from bench.data.corruptions.draws import Draws
from bench.spec.seeds import derived_seed

# Each takes levels float64 [B, 3, H, W] in 0..255 and its row of PARAMETERS; RANDOM ones take draws between them.
FIXED: dict[str, Callable[..., Tensor]] = {
    "brightness": digital.brightness,
    "contrast": digital.contrast,
    "defocus_blur": blur.defocus_blur,
    "gaussian_blur": blur.gaussian_blur,
    "jpeg_compression": digital.jpeg_compression,
    "pixelate": digital.pixelate,
    "saturate": digital.saturate,
    "zoom_blur": blur.zoom_blur,
}
RANDOM: dict[str, Callable[..., Tensor]] = {
    "elastic_transform": digital.elastic_transform,
    "fog": weather.fog,
    "frost": weather.frost,
    "gaussian_noise": noise.gaussian_noise,
    "glass_blur": blur.glass_blur,
    "impulse_noise": noise.impulse_noise,
    "motion_blur": blur.motion_blur,
    "shot_noise": noise.shot_noise,
    "snow": weather.snow,
    "spatter": spatter.spatter,
    "speckle_noise": noise.speckle_noise,
}
SMALLEST = 8
# So many at a time on a CPU: what they need stays in its cache.
CHUNK = 32


def corrupt(images: Tensor, type: str, severity: int, index: Tensor, seed: int) -> Tensor:
    """Return corrupted images, uint8 [B, H, H, 3] on the same device, each a function of its pixels and index alone.

    images uint8 [B, H, H, 3] of at least 8 pixels; type of CORRUPTIONS; severity 1 to 5; index int64 [B], each image's
    index in its data set; seed names the data set's draws. ValueError otherwise.
    """
    _check(images, type, severity, index)
    key = derived_seed(seed, type, severity)
    chunk = CHUNK if images.device.type == "cpu" else len(images)
    result = torch.empty_like(images, memory_format=torch.contiguous_format)
    for start in range(0, len(images), max(chunk, 1)):
        part = slice(start, start + chunk)
        levels = images[part].permute(0, 3, 1, 2).to(torch.float64, memory_format=torch.contiguous_format)
        row = PARAMETERS[type][severity - 1]
        changed = RANDOM[type](levels, Draws(key, index[part]), *row) if type in RANDOM else FIXED[type](levels, *row)
        # Conversion to uint8 truncates, as NumPy's does.
        result[part] = changed.clamp(0, 255).permute(0, 2, 3, 1)
    return result


def _check(images: Tensor, type: str, severity: int, index: Tensor) -> None:
    if type not in CORRUPTIONS:
        raise ValueError(f"type must be one of {', '.join(CORRUPTIONS)}, not {type!r}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be one of {SEVERITIES}, not {severity!r}")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[1] != images.shape[2]:
        raise ValueError(f"images must be uint8 [B, H, H, 3], not {images.dtype} {list(images.shape)}")
    if images.shape[1] < SMALLEST:
        raise ValueError(f"images must have at least {SMALLEST} pixels a side, not {images.shape[1]}")
    if index.dtype != torch.int64 or index.shape != images.shape[:1] or index.device != images.device:
        raise ValueError(f"index must be int64 [{len(images)}] on {images.device}")
