"""The source `shapes`: generated pictures of one circle, square or triangle each, with its class and its mask.

What is drawn is a pure function of the seed and the picture's number, and colour gives nothing away: the colours,
stripes and noise of the shape and of what lies behind it come from the same distribution, so a single pixel does
not tell which of the two it belongs to, and shapes of the three classes have the same distribution of area and place.
"""

import numpy as np

from jaxvision import config
from jaxvision.data.mask import rule_of
from jaxvision.data.parts import ArrayPart, Dataset, fingerprint
from jaxvision.errors import ConfigError

CLASS_NAMES = ("circle", "square", "triangle")
MASK_NAMES = ("background", "shape", "contour")
COUNTS = {"train": 2000, "validation": 500, "test": 500}
SMALLEST = 24
"""Below this many pixels a side, the three shapes look alike."""


def shapes(data: config.Data) -> Dataset:
    """2,000 / 500 / 500 pictures to train, validate and test, uint8 (N, 64, 64, 3).

    target, by `data.target`: label (or None), the shape, int32 (N,); mask, uint8 (N, 64, 64) of MASK_NAMES.
    `data.image_size` and `data.channels` change what is drawn (nothing is resized).
    """
    if data.target not in (None, "label", "mask"):
        raise ConfigError(f"data.target: shapes have a label and a mask. Received: {data.target!r}.")
    masked = data.target == "mask"
    rule = rule_of(data, len(MASK_NAMES))
    image_size = data.image_size or (64, 64)
    channels = data.channels or 3
    parts, start = {}, 0
    for name, count in COUNTS.items():
        pictures, labels, masks = draw_shapes(start, count, image_size=image_size, channels=channels)
        parts[name] = ArrayPart(pictures, rule.class_numbers(masks) if masked else labels)
        start += count
    return Dataset(
        parts["train"],
        parts["validation"],
        parts["test"],
        class_names=MASK_NAMES if masked else CLASS_NAMES,
        image_shape=(*image_size, channels),
        fingerprint=fingerprint(parts),
    )


def draw_shapes(
    start: int, count: int, *, image_size: tuple[int, int] = (64, 64), channels: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures number `start` to `start + count`: uint8 (N, H, W, C), labels int32 (N,), masks uint8 (N, H, W).

    Labels index CLASS_NAMES and take turns. Masks hold 0 background, 1 shape, 2 contour: a band of 3 pixels (at 64
    pixels a side; in proportion elsewhere) along the edge, half of it on either side.
    """
    if min(image_size) < SMALLEST:
        raise ConfigError(
            f"data.image_size: shapes are drawn at {SMALLEST} or more pixels a side. Received: {image_size}."
        )
    labels = (np.arange(start, start + count) % len(CLASS_NAMES)).astype(np.int32)
    pictures = np.empty((count, *image_size, channels), np.uint8)
    masks = np.empty((count, *image_size), np.uint8)
    for first in range(0, count, 100):  # in blocks that fit the processor's cache
        block = slice(first, min(first + 100, count))
        size = block.stop - block.start
        geometry = _uniform(seed, 0, start + first, size, 32)
        grain = _bytes(seed, 1, start + first, size, image_size[0] * image_size[1] * channels)
        distance = _distance(geometry[:, :4], labels[block], image_size)
        grounds = _grounds(geometry[:, 4:], image_size, channels)
        # Half-way over the one pixel that the edge crosses, as a camera would see it.
        inside = np.clip(0.5 - distance, 0, 1)[..., None]
        mixed = grounds[0] + inside * (grounds[1] - grounds[0])
        noise = (grain.reshape(mixed.shape).astype(np.float32) - 127.5) * np.float32(20 / 127.5)
        pictures[block] = np.rint(np.clip(mixed + noise, 0, 255))
        masks[block] = np.where(np.abs(distance) <= _half_band(image_size), 2, distance < 0)
    return pictures, labels, masks


def _words(seed: int, stream: int, start: int, count: int, words: int) -> np.ndarray:
    """Random 64-bit words (count, words); row i belongs to picture start + i whatever the start and count are."""
    # Philox counts in blocks of four words, so a picture takes a whole number of blocks: skipping is exact.
    blocks = -(-words // 4)
    generator = np.random.Philox(key=[seed, stream])
    generator.advance(start * blocks)
    return generator.random_raw(count * blocks * 4).reshape(count, blocks * 4)[:, :words]


def _uniform(seed: int, stream: int, start: int, count: int, numbers: int) -> np.ndarray:
    """Random float32 (count, numbers) in [0, 1)."""
    return ((_words(seed, stream, start, count, numbers) >> np.uint64(40)) / 2**24).astype(np.float32)


def _bytes(seed: int, stream: int, start: int, count: int, numbers: int) -> np.ndarray:
    """Random uint8 (count, numbers)."""
    words = _words(seed, stream, start, count, -(-numbers // 8))
    return np.ascontiguousarray(words).astype("<u8").view(np.uint8)[:, :numbers]


def _distance(random: np.ndarray, labels: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Pixels from each pixel's centre to the edge of the shape, negative inside, float32 (N, H, W)."""
    side = min(image_size)
    # `radius` is that of the circle of the same area, so that area does not tell the class.
    radius = side * (0.15 + 0.09 * random[:, 0])
    corner = np.float32(1.5552)  # from a triangle's centre to its corner, in such radii: the widest of the three
    margin = corner * radius + 2 * _half_band(image_size) + 1  # twice: bands meet beyond the corner
    centre = [margin + random[:, i + 1] * (image_size[i] - 2 * margin) for i in (0, 1)]
    angle = (random[:, 3].astype(np.float64) - 0.5) * (np.pi / 6)  # tilted by up to 15 degrees either way
    y = np.arange(image_size[0], dtype=np.float32)[:, None] + 0.5 - centre[0][:, None, None]
    x = np.arange(image_size[1], dtype=np.float32) + 0.5 - centre[1][:, None, None]

    def beyond(turn: float, apothem: float) -> np.ndarray:
        """Pixels beyond the side whose normal is turned by `turn` and whose distance is `apothem` radii."""
        cos, sin = (f(angle + turn).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
        return cos * x + sin * y - np.float32(apothem) * radius[:, None, None]

    third, quarter = 2 * np.pi / 3, np.pi / 2
    half_side = np.sqrt(np.pi) / 2
    circle = np.sqrt(x * x + y * y) - radius[:, None, None]
    square = np.maximum.reduce([beyond(k * quarter, half_side) for k in range(4)])
    triangle = np.maximum.reduce([beyond(quarter + k * third, float(corner) / 2) for k in range(3)])
    return np.choose(labels[:, None, None], [circle, square, triangle])


def _half_band(image_size: tuple[int, int]) -> float:
    """Pixels of contour on either side of the edge."""
    return max(1.0, 1.5 / 64 * min(image_size))


def _grounds(random: np.ndarray, image_size: tuple[int, int], channels: int) -> list[np.ndarray]:
    """What lies behind and within the shape before noise: two striped float32 (N, H, W, C) of unlike colour."""
    middle = 90 + 75 * random[:, :channels]
    towards = random[:, 3 : 3 + channels] - 0.5
    towards /= np.maximum(np.sqrt(np.square(towards).sum(-1, keepdims=True)), 1e-6)
    # The two colours lie at the same distance on either side of the middle: swapping them is as likely.
    towards *= (30 + 25 * random[:, 6:7]) * np.float32(np.sqrt(channels / 3) * 1.3)
    y = np.arange(image_size[0], dtype=np.float32)[:, None] + 0.5
    x = np.arange(image_size[1], dtype=np.float32) + 0.5
    grounds = []
    for sign, own in ((-1, random[:, 7:12]), (1, random[:, 12:17])):
        angle = own[:, 0].astype(np.float64) * np.pi
        cos, sin = (f(angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
        period = ((0.12 + 0.2 * own[:, 1]) * min(image_size))[:, None, None]
        phase = (cos * x + sin * y) / period + own[:, 2, None, None]
        # Triangle waves: unlike sines, they are the same number on every machine.
        wave = np.abs(phase - np.floor(phase) - 0.5) * 4 - 1
        strength = (12 * own[:, 3])[:, None, None]
        colour = middle + sign * towards
        grounds.append(colour[:, None, None, :] + (wave * strength)[..., None])
    return grounds
