"""The 19 corruptions of one image, from the released generator's recipe, with SciPy, Pillow and loops; obviously right.

The hook: `numbers` is the image's stream of draws, so that both sides see the same random numbers in the documented
order; nothing else is shared with bench.data.corruptions but the table of parameters.
"""

import colorsys
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, stats

from bench.data.corruptions.catalog import PARAMETERS
from bench.data.corruptions.draws import Draws
from bench.spec.seeds import derived_seed

Pixels = NDArray[np.uint8]
# float64; SciPy's functions have no types.
Doubles = Any


class Numbers:
    """The draws of one image as NumPy arrays."""

    def __init__(self, seed: int, type: str, severity: int, index: int) -> None:
        self._draws = Draws(derived_seed(seed, type, severity), torch.tensor([index]))

    def uniform(self, *shape: int) -> Doubles:
        return self._draws.uniform(*shape)[0].numpy()

    def normal(self, *shape: int) -> Doubles:
        return self._draws.normal(*shape)[0].numpy()


def corrupt(image: Pixels, type: str, severity: int, index: int, seed: int) -> Pixels:
    function: Callable[..., Any] = globals()[type]
    levels = function(image, Numbers(seed, type, severity, index), *PARAMETERS[type][severity - 1])
    return np.clip(np.asarray(levels, dtype=np.float64), 0, 255).astype(np.uint8)


def blurred(image: Doubles, sigma: float) -> Doubles:
    """skimage.filters.gaussian of the channels."""
    return np.stack(
        [ndimage.gaussian_filter(c, sigma, mode="nearest", truncate=4) for c in np.moveaxis(image, 2, 0)], 2
    )


def gaussian_noise(image: Pixels, numbers: Numbers, scale: float) -> Doubles:
    return (image / 255 + scale * numbers.normal(3, *image.shape[:2]).transpose(1, 2, 0)) * 255


def shot_noise(image: Pixels, numbers: Numbers, photons: float) -> Doubles:
    uniform = numbers.uniform(3, *image.shape[:2]).transpose(1, 2, 0)
    return stats.poisson.ppf(uniform, image / 255 * photons).clip(0) / photons * 255


def impulse_noise(image: Pixels, numbers: Numbers, amount: float) -> Pixels:
    uniform = numbers.uniform(3, *image.shape[:2]).transpose(1, 2, 0)
    result = image.copy()
    for place in np.ndindex(image.shape):
        if uniform[place] < amount:
            result[place] = 255 if uniform[place] < amount / 2 else 0
    return result


def speckle_noise(image: Pixels, numbers: Numbers, scale: float) -> Doubles:
    value = image / 255
    return (value + value * scale * numbers.normal(3, *image.shape[:2]).transpose(1, 2, 0)) * 255


def gaussian_blur(image: Pixels, _: Numbers, sigma: float) -> Doubles:
    return blurred(image / 255, sigma) * 255


def glass_blur(image: Pixels, numbers: Numbers, sigma: float, iterations: float) -> Doubles:
    """The released loop with its tuple assignment as it stands."""
    size = len(image)
    x = np.asarray(blurred(image / 255, sigma) * 255 + 1e-9).astype(np.uint8)
    for _ in range(int(iterations)):
        steps = -(numbers.uniform(2, size - 2, size - 2) < 0.5).astype(int)
        for h in range(size - 1, 1, -1):
            for w in range(size - 1, 1, -1):
                dy, dx = steps[:, h - 2, w - 2]
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
    return blurred(x / 255, sigma) * 255


def defocus_blur(image: Pixels, _: Numbers, radius: float, alias_sigma: float) -> Doubles:
    y, x = np.mgrid[-8:9, -8:9]
    disk = (x**2 + y**2 <= radius**2).astype(float)
    edge = stats.norm.pdf([-1, 0, 1], scale=alias_sigma)
    kernel = ndimage.correlate(disk / disk.sum(), np.outer(edge, edge) / edge.sum() ** 2)
    return np.stack([ndimage.correlate(image[..., c].astype(float), kernel, mode="mirror") for c in range(3)], 2)


def moved(image: Doubles, angle: float, radius: float, sigma: float) -> Doubles:
    """MotionBlurImage of ImageMagick; levels [H, W]."""
    height, width = image.shape
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(2 * math.ceil(radius) + 1)]
    result = np.zeros_like(image)
    for i, weight in enumerate(weights):
        dx = math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        dy = math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        rows, columns = np.clip(np.arange(height) + dy, 0, height - 1), np.clip(np.arange(width) + dx, 0, width - 1)
        result += weight / sum(weights) * image[np.ix_(rows, columns)]
    return np.floor(result + 0.5)


def motion_blur(image: Pixels, numbers: Numbers, radius: float, sigma: float) -> Doubles:
    angle = -45 + 90 * float(numbers.uniform())
    return np.stack([moved(image[..., c].astype(float), angle, radius, sigma) for c in range(3)], 2)


def clipped_zoom(image: Doubles, factor: float) -> Doubles:
    size = len(image)
    cut = math.ceil(size / factor)
    top = (size - cut) // 2
    zoomed = ndimage.zoom(image[top : top + cut, top : top + cut], (factor, factor, 1), order=1)
    trim = (len(zoomed) - size) // 2
    return zoomed[trim : trim + size, trim : trim + size]


def zoom_blur(image: Pixels, _: Numbers, largest: float) -> Doubles:
    factors = np.arange(1, largest, 0.01)
    return (image + sum(clipped_zoom(image.astype(float), factor) for factor in factors)) / (len(factors) + 1)


def plasma(numbers: Numbers, size: int, decay: float) -> Doubles:
    """Diamond-square point by point, on a torus; centres of a step first, then the two kinds of edges."""
    side = 2 ** math.ceil(math.log2(size))
    wobbles = iter(2 * numbers.uniform(side * side - 1) - 1)
    height = np.zeros((side, side))
    step, amplitude = side, 100.0**2
    while step > 1:
        half = step // 2
        corners = [(-half, -half), (-half, half), (half, -half), (half, half)]
        crosses = [(-half, 0), (half, 0), (0, -half), (0, half)]
        for offset, around in (((half, half), corners), ((0, half), crosses), ((half, 0), crosses)):
            for y in range(offset[0], side, step):
                for x in range(offset[1], side, step):
                    mean = sum(height[(y + i) % side, (x + j) % side] for i, j in around) / 4
                    height[y, x] = mean + amplitude * next(wobbles)
        step, amplitude = half, amplitude / decay**2
    return ((height - height.min()) / np.ptp(height))[:size, :size]


def fog(image: Pixels, numbers: Numbers, amount: float, decay: float) -> Doubles:
    value = image / 255
    foggy = value + amount * plasma(numbers, len(image), decay)[..., None]
    return foggy * value.max() / (value.max() + amount) * 255


def frost(image: Pixels, numbers: Numbers, keep: float, amount: float) -> Doubles:
    size = len(image)
    sheet = plasma(numbers, size, 2.0)
    ridges = 1 - abs(2 * plasma(numbers, size, 1.6) - 1)
    specks = (numbers.uniform(size, size) < 0.12) * 255.0
    streaks = moved(specks, 360 * float(numbers.uniform()), 8, 3) / 255
    white = np.minimum(0.75 * ridges**3 + 0.9 * streaks, 1)
    ice = [(1 - white) * (0.15 + 0.6 * sheet) * tint + white for tint in (0.80, 0.92, 1.0)]
    return keep * image + amount * 255 * np.stack(ice, 2)


def snow(image: Pixels, numbers: Numbers, mean: float, sd: float, zoom: float, least: float, *rest: float) -> Doubles:
    radius, sigma, keep = rest
    size = len(image)
    layer = clipped_zoom((mean + sd * numbers.normal(size, size))[..., None], zoom)[..., 0]
    layer[layer < least] = 0
    layer = moved(np.floor(np.clip(layer, 0, 1) * 255), -135 + 90 * float(numbers.uniform()), radius, sigma) / 255
    x = image / 255
    grey = x @ [0.299, 0.587, 0.114]
    x = keep * x + (1 - keep) * np.maximum(x, grey[..., None] * 1.5 + 0.5)
    return (x + (layer + np.rot90(layer, k=2))[..., None]) * 255


def spatter(
    image: Pixels, numbers: Numbers, mean: float, sd: float, sigma: float, least: float, last: float, mud: float
) -> Doubles:
    size = len(image)
    liquid = ndimage.gaussian_filter(mean + sd * numbers.normal(size, size), sigma, mode="nearest", truncate=4)
    liquid[liquid < least] = 0
    if mud:
        m = ndimage.gaussian_filter((liquid > least).astype(float), last, mode="nearest", truncate=4)[..., None]
        m[m < 0.8] = 0
        return image * (1 - m) + np.array([63, 42, 20]) * m
    levels = np.floor(np.minimum(liquid, 1) * 255)
    m = levels * relief(levels)
    m = last * m / max(m.max(), 1)
    return image + np.array([175, 238, 238]) * m[..., None]


def relief(levels: Doubles) -> Doubles:
    box = np.ones((3, 3))
    distance = np.minimum(chamfer(canny(levels)), 20)
    near = np.floor(ndimage.correlate(distance, box, mode="mirror") / 9 + 1e-9)
    light = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=float)
    lit = np.clip(ndimage.correlate(equalized(near), light, mode="mirror"), 0, 255)
    return np.floor(ndimage.correlate(lit, box, mode="mirror") / 9 + 0.5)


def canny(levels: Doubles, low: int = 50, high: int = 150) -> NDArray[np.bool_]:
    """cv2.Canny: Sobel, L1 magnitude, the four directions, hysteresis over connected components."""
    dx, dy = (ndimage.sobel(levels, axis=axis, mode="nearest") for axis in (1, 0))
    strength = np.pad(abs(dx) + abs(dy), 1)
    peaks = np.zeros(levels.shape, dtype=bool)
    for y, x in np.ndindex(levels.shape):
        here = strength[y + 1, x + 1]
        slope = abs(dy[y, x]) / abs(dx[y, x]) if dx[y, x] else math.inf
        if slope < math.tan(math.pi / 8):
            peaks[y, x] = here > strength[y + 1, x] and here >= strength[y + 1, x + 2]
        elif slope > math.tan(3 * math.pi / 8):
            peaks[y, x] = here > strength[y, x + 1] and here >= strength[y + 2, x + 1]
        else:
            side = -1 if dx[y, x] * dy[y, x] < 0 else 1
            peaks[y, x] = here > max(strength[y, x + 1 - side], strength[y + 2, x + 1 + side])
    inner = strength[1:-1, 1:-1]
    components, _ = ndimage.label(peaks & (inner > low), structure=np.ones((3, 3)))
    strong = np.unique(components[peaks & (inner > high)])
    return np.isin(components, strong[strong > 0])


def chamfer(edges: NDArray[np.bool_]) -> Doubles:
    """The 5x5 chamfer distance to the next edge: the closed form of its norm, over all edges."""
    result = np.full(edges.shape, np.inf)
    y, x = np.indices(edges.shape)
    for row, column in np.argwhere(edges):
        a, b = abs(y - row), abs(x - column)
        long, short = np.maximum(a, b), np.minimum(a, b)
        # Knight's moves fill the cone between straight and diagonal ones; costs are OpenCV's 1, 1.4 and 2.1969.
        straight = (long - 2 * short) * 1.0 + short * 2.1969
        diagonal = (2 * short - long) * 1.4 + (long - short) * 2.1969
        result = np.minimum(result, np.where(long >= 2 * short, straight, diagonal))
    return result


def equalized(values: Doubles) -> Doubles:
    present, counts = np.unique(values, return_counts=True)
    if len(present) == 1:
        return values
    table = np.round(255 * (counts.cumsum() - counts[0]) / (counts.sum() - counts[0]))
    return table[np.searchsorted(present, values)]


def contrast(image: Pixels, _: Numbers, factor: float) -> Doubles:
    value = image / 255
    mean = value.mean(axis=(0, 1), keepdims=True)
    return ((value - mean) * factor + mean) * 255


def in_hsv(image: Pixels, change: Callable[[float, float, float], tuple[float, float, float]]) -> Doubles:
    result = np.zeros(image.shape)
    for y, x in np.ndindex(image.shape[:2]):
        result[y, x] = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*(image[y, x] / 255).tolist())))
    return result * 255


def brightness(image: Pixels, _: Numbers, shift: float) -> Doubles:
    return in_hsv(image, lambda h, s, v: (h, s, min(v + shift, 1)))


def saturate(image: Pixels, _: Numbers, factor: float, shift: float) -> Doubles:
    return in_hsv(image, lambda h, s, v: (h, min(s * factor + shift, 1), v))


def jpeg_compression(image: Pixels, _: Numbers, quality: float) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=int(quality))
    return np.asarray(Image.open(buffer))


def pixelate(image: Pixels, _: Numbers, factor: float) -> Pixels:
    size = len(image)
    small = Image.fromarray(image).resize((int(size * factor),) * 2, Image.Resampling.BOX)
    return np.asarray(small.resize((size, size), Image.Resampling.BOX))


def elastic_transform(image: Pixels, numbers: Numbers, alpha: float, sigma: float, affine: float) -> Doubles:
    size = len(image)
    middle, reach = size // 2, size // 3
    corners = np.array([[1, 1], [1, -1], [-1, -1]]) * reach + middle
    ends = corners + (2 * numbers.uniform(3, 2) - 1) * affine * size
    # The affine map (x, y, 1) -> (x, y) that takes the ends back to the corners.
    back = np.linalg.solve(np.hstack([ends, np.ones((3, 1))]), corners)
    y, x = np.indices((size, size), dtype=float)
    source = np.stack([x, y, np.ones_like(x)], 2) @ back
    source = np.round(source * 32) / 32
    levels = [
        ndimage.map_coordinates(image[..., c].astype(float), [source[..., 1], source[..., 0]], order=1, mode="mirror")
        for c in range(3)
    ]
    if alpha:
        field = 2 * numbers.uniform(2, size, size) - 1
        dx, dy = (ndimage.gaussian_filter(f, sigma * size, mode="reflect", truncate=3) * alpha * size for f in field)
        levels = [ndimage.map_coordinates(c, [y + dy, x + dx], order=1, mode="reflect") for c in levels]
    return np.stack(levels, 2)
