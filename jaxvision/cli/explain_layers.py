"""What `jaxvision explain` writes of layers: their activations for a picture, and their filters."""

import json
from collections.abc import Sequence

import numpy as np

from jaxvision.cli.explain import OUT, ExplainArguments
from jaxvision.cli.predict import print_columns
from jaxvision.data.picture import read_picture
from jaxvision.errors import ConfigError
from jaxvision.explain.activations import activations
from jaxvision.explain.filters import BOOK, READABLE, filters, require_room
from jaxvision.explain.program import output_shape
from jaxvision.figures.channels import channel_grid, filter_picture, tile_pictures
from jaxvision.figures.masks import png
from jaxvision.figures.panels import figure_png, plot_panels
from jaxvision.models.layers import find_layer, layer_name, layer_outputs
from jaxvision.outputs import different_names, output_folder, require_absent, require_writable, write_output
from jaxvision.train.ready import ReadyModel

COLUMNS, GAP, SMALLEST = 8, 5, 60
STRIP = 8.0
"""Inches of a row of filters."""
MARGIN = 25
"""Pixels cut off on each side of a filter's picture: at its borders a network sees what it pads with."""


def draw_activations(arguments: ExplainArguments, ready: ReadyModel) -> None:
    """Writes OUT/NAME/NUMBER-LAYER.png: every channel of each layer, 16 in a row."""
    out = output_folder(arguments.out, OUT)
    folders = [out / name for name in different_names(arguments.images)]
    for folder in folders:
        require_absent(folder)
    require_writable(out)
    height, width, channels = ready.image_shape
    images = [
        read_picture(path, image_size=(height, width), channels=channels, resize=ready.resize)
        for path in arguments.images
    ]
    for name in arguments.layer:
        output_shape(ready.model, find_layer(ready.model, name), ready.image_shape)  # which must have places to draw
    rows = []
    for path, folder, image in zip(arguments.images, folders, images, strict=True):
        outputs = activations(ready.model, image[None], arguments.layer)
        for number, (name, values) in enumerate(outputs.items(), start=1):
            file = folder / f"{number:0{len(str(len(outputs)))}}-{name.replace('/', '-')}.png"
            write_output(file, png(channel_grid(values[0])))
            rows.append((path, name, tuple(values.shape[1:]), str(file)))
    _print(arguments, rows)


def draw_filters(arguments: ExplainArguments, ready: ReadyModel) -> None:
    """Writes OUT/LAYER-filters.png: the pictures that the first channels of each layer respond to most, 8 in a row.

    Of several layers also OUT/filters.png, the first row of each.
    """
    out = output_folder(arguments.out, OUT)
    size, channels = (arguments.size, arguments.size), ready.image_shape[2]
    if arguments.size < SMALLEST:
        raise ConfigError(
            f"--size: must be at least {SMALLEST}, of which {2 * MARGIN} are cut off. Received: {arguments.size}"
        )
    layers = [layer_name(find_layer(ready.model, name)) for name in arguments.layer] or last_convolutions(ready)
    together = out / "filters.png"
    files = [out / f"{name.replace('/', '-')}-filters.png" for name in layers]
    for file in (*files, together):
        require_absent(file)
    require_writable(out)
    shapes = [output_shape(ready.model, find_layer(ready.model, name), (*size, channels)) for name in layers]
    ascent = BOOK if arguments.book else READABLE
    for name, shape in zip(layers, shapes, strict=True):
        require_room(name, shape, size, ascent)
    rows, strips = [], []
    for name, file, shape in zip(layers, files, shapes, strict=True):
        count = min(arguments.channels, shape[2])
        pictures = filters(ready.model, name, range(count), size=size, picture_channels=channels, ascent=ascent)
        shown = np.stack([filter_picture(picture, margin=MARGIN) for picture in pictures])
        shown = np.broadcast_to(shown, (*shown.shape[:3], 3))
        write_output(file, png(tile_pictures(shown, columns=COLUMNS, gap=GAP)))
        strips.append(tile_pictures(shown[:COLUMNS], columns=COLUMNS, gap=GAP))
        rows.append((name, f"channels 0 to {count - 1}", str(file)))
        if not arguments.json:
            print_columns(rows[-1:])
    if len({strip.shape for strip in strips}) == 1 < len(strips):
        heading = f"filters of {ready.name}"
        figure = plot_panels(strips, columns=1, side=STRIP, titles=layers, heading=heading, narrowest=0.0)
        write_output(together, figure_png(figure))
    if arguments.json:
        _print(arguments, rows)


def last_convolutions(ready: ReadyModel) -> list[str]:
    """Of each size that the picture has on its way through the base, the last convolution."""
    last: dict[tuple[int, ...], str] = {}
    for layer in layer_outputs(ready.model, ready.image_shape):
        is_conv = "Conv" in layer.kind.__name__ and not layer.is_block and layer.reachable
        if is_conv and len(layer.shape) == 3 and layer.shape[0] > 1:
            last[layer.shape[:2]] = layer.name
    if not last:
        raise ConfigError("--layer: the model has no convolution; name a layer that gives height, width and channels.")
    return list(dict.fromkeys(last.values()))


def _print(arguments: ExplainArguments, rows: Sequence[Sequence[object]]) -> None:
    if arguments.json:
        names = ("path", "layer", "shape", "figure") if arguments.images else ("layer", "channels", "figure")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
    else:
        print_columns([tuple(map(str, row)) for row in rows])
