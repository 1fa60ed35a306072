"""`jaxvision explain`: looking inside a network."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from jaxvision.errors import ConfigError

What = Literal[
    "gradcam", "gradcam++", "scorecam", "occlusion", "saliency", "integrated-gradients", "activations", "filters"
]


OUT = "explained"


@dataclass(frozen=True)
class ExplainArguments:
    """Draw what a network sees. Heat maps: where in each picture a class is seen (gradcam, gradcam++, scorecam), which
    squares (occlusion) or pixels (saliency, integrated-gradients) its score depends on. activations: what layers give
    for a picture. filters: pictures that a layer's channels respond to most; they need no IMAGE.

    `jaxvision explain RUN --html` makes a page of a run instead: mistakes, heat maps, confusion matrix."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_MODEL")]
    """A run folder, or the name of a model, which needs --weights."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")] = ()
    """Picture files."""
    what: What = "gradcam"
    """What to draw."""
    layer: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Layer to look at (`jaxvision summary` lists them); activations and filters take several, --layer A --layer B.
    Otherwise: the deepest (heat maps), every convolution and pool (activations), the last convolution of each size
    (filters)."""
    class_: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Class to explain, by name or number. None: what the network predicts."""
    region: tuple[int, int, int, int] | None = None
    """Heat maps of a segmentation run: explain the class over this box of each picture, left top right bottom in pixels
    of the file. None: the pixels predicted as the class."""
    channels: int = 64
    """filters: of how many channels, the first ones."""
    size: int = 200
    """filters: height and width of the pictures that are made, before 25 pixels are cut off on each side."""
    book: bool = False
    """filters: by the book's plain gradient ascent, without what makes shapes clearer."""
    boxes: str | None = None
    """Heat maps: a JSON file {"boxes": {"FILE NAME": [left, top, right, bottom]}}, in pixels of the file: also print
    how much of the heat is inside."""
    out: str | None = None
    """Folder to write to; nothing in it is written over. None: explained, or explained-2, ..."""
    json: bool = False
    """Print JSON."""
    weights: str | None = None
    """With a model: imagenet (published weights, fetched once) or a file of weights."""
    image_size: tuple[int, int] | None = None
    """With a model: height and width to resize to; otherwise what it is usually made for."""


def explain_command(argv: list[str]) -> None:
    """jaxvision explain RUN_OR_MODEL IMAGE... [--what gradcam] [--layer L] [--class C], or RUN --html"""
    if "--html" in argv:
        from jaxvision.cli.explain_page import page_command

        return page_command([word for word in argv if word != "--html"])
    arguments = tyro.cli(ExplainArguments, args=argv, prog="jaxvision explain")
    _require_useful(arguments)
    from jaxvision.train.ready import ready_model

    ready = ready_model(arguments.source, weights=arguments.weights, image_size=arguments.image_size)
    if arguments.what == "filters":
        from jaxvision.cli.explain_layers import draw_filters

        draw_filters(arguments, ready)
    elif arguments.what == "activations":
        from jaxvision.cli.explain_layers import draw_activations

        draw_activations(arguments, ready)
    else:
        from jaxvision.cli.explain_heat import draw_heat

        draw_heat(arguments, ready)


_OF_A_LAYER = ("gradcam", "gradcam++", "scorecam")
_HEAT = (*_OF_A_LAYER, "occlusion", "saliency", "integrated-gradients")
_ONLY_OF = {
    "channels": ("filters",),
    "size": ("filters",),
    "book": ("filters",),
    "boxes": _HEAT,
    "region": _HEAT,
    "class_": _HEAT,
    "layer": (*_OF_A_LAYER, "activations", "filters"),
}
"""Flags that mean something for some of what can be drawn only."""


def _require_useful(arguments: ExplainArguments) -> None:
    what, defaults = arguments.what, ExplainArguments("")
    for name, kinds in _ONLY_OF.items():
        value = getattr(arguments, name)
        if value != getattr(defaults, name) and what not in kinds:
            flag = name.strip("_").replace("_", "-")
            raise ConfigError(f"--{flag}: means nothing for --what {what}, only for {', '.join(kinds)}. Leave it out.")
    if what == "filters" and arguments.images:
        raise ConfigError(f"explain: --what filters makes its own pictures. Received: {' '.join(arguments.images)}")
    if what != "filters" and not arguments.images:
        raise ConfigError(f"explain: name at least one picture: jaxvision explain RUN IMAGE... --what {what}")
    if what not in ("filters", "activations") and len(arguments.layer) > 1:
        raise ConfigError(f"--layer: one for heat maps. Received: {' '.join(arguments.layer)}")
    if arguments.channels < 1:
        raise ConfigError(f"--channels: must be at least 1. Received: {arguments.channels}")
