"""Colours of classes: the same class has the same colour in every mask, overlay and legend."""

from functools import cache

import numpy as np

from jaxvision.types import IGNORE

# Okabe and Ito's seven, then 17 chosen one by one from a grid of colours, each as far as could be (in Oklab) from those
# chosen and from the grey of IGNORE, as seen with full colour vision and without one kind of cones (Machado et al.
# 2009): no two of the 24 come nearer than 0.07 to anyone, where black and white are 1 apart. The darkest come last:
# over a picture they darken it more than they colour it.
COLOURS = (
    "0072B2 E69F00 009E73 CC79A7 56B4E9 D55E00 F0E442 78FFFF 4B00C3 A569FF A5D2A5 B40F0F"
    " 781E87 9600F0 F0FFC3 87001E C31E96 87B478 87D2FF F0C369 000F69 5A0000 4B2D4B 3C0F2D"
)
GREY = (96, 96, 96)


@cache
def palette() -> np.ndarray:
    """uint8 (256, 3): red, green, blue of each class number; the first 24 are easily told apart, 255 is a grey.

    From 24 on, colours are those of PASCAL VOC's palette: the bits of the number, spread over the three channels.
    """
    colours = np.zeros((256, 3), np.uint8)
    for number in range(256):
        for bit in range(8):
            colours[number, bit % 3] |= (number >> bit & 1) << (7 - bit // 3)
    chosen = np.frombuffer(bytes.fromhex(COLOURS), np.uint8).reshape(-1, 3)
    colours[: len(chosen)] = chosen
    colours[IGNORE] = GREY
    colours.flags.writeable = False
    return colours
