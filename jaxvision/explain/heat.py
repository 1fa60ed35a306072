"""Heat maps: where in a picture a model sees a class."""

from dataclasses import dataclass

import numpy as np

from jaxvision.data.picture import resize_bilinear


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """One a picture. coarse: float32 (B, h, w), 0 or more, with the method's own resolution and scale. classes: int32
    (B,), what was explained. size: height and width of the pictures. layer: that was looked at; None: the pixels.
    """

    coarse: np.ndarray
    classes: np.ndarray
    size: tuple[int, int]
    layer: str | None = None

    @property
    def values(self) -> np.ndarray:
        """float32 (B, H, W): resized (bilinear) to the pictures, the hottest place of each 1; 0 where nothing is."""
        return normalized(resize_bilinear(self.coarse[..., None], self.size)[..., 0])


def normalized(maps: np.ndarray) -> np.ndarray:
    """float32 (B, H, W), each over its largest value."""
    largest = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)


def share_inside(heat: np.ndarray, box: tuple[float, float, float, float]) -> tuple[float, float]:
    """(share of the heat inside a box, the box's share of the picture): how well a map finds a thing, and what a map
    that is the same everywhere would get (the energy-based pointing game, Wang et al. 2020).

    Args:
      heat: float32 (H, W), 0 or more; without any heat the share is 0.
      box: left, top, right, bottom as shares of the picture's width and height; pixels it cuts count in part.
    """
    height, width = heat.shape
    columns, rows = covered(box[0], box[2], width), covered(box[1], box[3], height)
    total = float(heat.sum())
    inside = float(rows @ heat.astype(np.float64) @ columns)
    return inside / total if total > 0 else 0.0, float(rows.mean() * columns.mean())


def covered(low: float, high: float, count: int) -> np.ndarray:
    """float64 (count,): the share of each of `count` pixels in a row that lies between low and high of the row."""
    edges = np.arange(count + 1) / count
    return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * count
