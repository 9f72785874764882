"""The bytes of an image file as pixels: a plain JPEG by libjpeg-turbo, everything else by Pillow, to the same bits."""

import numpy as np
import simplejpeg
import torch
from torch import Tensor
from torch.nn import functional

from bench.data.dataset import Array
from bench.data.decode import rgb
from bench.data.streamed.windows import Window, middle_window, random_window
from bench.spec.run import ResizedCrop

JPEG = b"\xff\xd8"


def decode(data: bytes) -> Array:
    """Return the pixels of an image file, uint8 [H, W, 3]; ValueError, with the reason, for what is no whole image."""
    if data[:2] == JPEG:
        try:
            # CMYK comes out one level apart from Pillow's.
            if simplejpeg.decode_jpeg_header(data)[2] != "CMYK":
                pixels: Array = simplejpeg.decode_jpeg(data, "RGB")
                return pixels
        except ValueError:  # Pillow says better what is wrong
            pass
    return np.array(rgb(data))  # a copy, which may be written to, as torch wants it


def resized(pixels: Array, window: Window, size: tuple[int, int]) -> Tensor:
    """Return a window of uint8 [H, W, 3] resized to `size`, (height, width): bilinear, antialiased, uint8 [h, w, 3]."""
    part = pixels[window.top : window.top + window.height, window.left : window.left + window.width]
    # interpolate keeps the memory layout: channels last in, channels last out.
    image = torch.from_numpy(part).permute(2, 0, 1).unsqueeze(0)
    return functional.interpolate(image, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def augmented(data: bytes, draws: Array, flip: bool, crop: ResizedCrop, size: int) -> Tensor:
    """Return an image as an epoch sees it, uint8 [size, size, 3]; errors as decode."""
    pixels = decode(data)
    height, width, _ = pixels.shape
    image = resized(pixels, random_window(height, width, draws, crop), (size, size))
    return image.flip(1) if flip else image


def evaluated(data: bytes, size: int) -> Tensor:
    """Return an image as validation and test see it, uint8 [size, size, 3]; errors as decode."""
    pixels = decode(data)
    height, width, _ = pixels.shape
    scaled, window = middle_window(height, width, size)
    image = resized(pixels, Window(0, 0, height, width), scaled)
    return image[window.top : window.top + size, window.left : window.left + size]
