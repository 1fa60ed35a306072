"""`jaxvision ablate-weights`: what a finished run's result owes to each block of its network."""

import dataclasses
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from jaxvision.cli.predict import print_columns
from jaxvision.cli.use import DataArguments, parse_run_data
from jaxvision.errors import ConfigError
from jaxvision.outputs import output_folder, require_absent, require_writable, write_output
from jaxvision.train.folder import write_json

if TYPE_CHECKING:
    from jaxvision.explain.ablate_weights import BlockAblation

NAME = "ablate-weights"


@dataclass(frozen=True)
class AblateWeightsArguments(DataArguments):
    """Evaluate a run's best checkpoint again and again, each time without what one block of its network has learned: a
    table, and ablate-weights.json and ablate-weights.png in a folder. On the run's own data, or on other data."""

    how: Literal["zero", "random"] = "zero"
    """What becomes of a block's parameters: 0, or drawn anew as before training (its BatchNorm statistics too)."""
    block: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Blocks: patterns as in phase.trainable, all that one matches taken together (head, block1_*, base[-4:]); A+B is
    two of them at once. None: each child of base and head."""
    part: Literal["train", "validation", "test"] | None = None
    """Which part. None: validation, or test where there is no validation part."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Evaluate on this many examples, drawn at random by data.split_seed. None: all."""
    seeds: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """With --how random: how often each block is drawn anew, for a mean and a standard deviation. None: 3."""
    out: str | None = None
    """Folder to write to; nothing in it is written over. None: ablate-weights, or ablate-weights-2, ..."""
    json: bool = False
    """Print JSON."""


def ablate_weights_command(argv: list[str]) -> None:
    """jaxvision ablate-weights RUN [--how random] [--block PATTERN ...] [--part PART] [--limit N] [--out DIR]"""
    run_dir, arguments = parse_run_data("ablate-weights", AblateWeightsArguments, argv)
    if arguments.seeds is not None and arguments.how == "zero":
        raise ConfigError(f"--seeds: goes with --how random. Received: {arguments.seeds} without it.")
    folder = output_folder(arguments.out, NAME)
    figure, document = folder / f"{NAME}.png", folder / f"{NAME}.json"
    for file in (figure, document):
        require_absent(file)
    require_writable(folder)
    from jaxvision.explain.ablate_weights import ablate_weights

    found = ablate_weights(
        run_dir,
        how=arguments.how,
        blocks=tuple(itertools.chain.from_iterable(arguments.block)),
        part=arguments.part,
        data=arguments.data,
        limit=arguments.limit,
        seeds=3 if arguments.seeds is None else arguments.seeds,
        progress=Console(stderr=True).is_terminal,
    )
    values = dataclasses.asdict(found)
    # First told, then written, so that a full disk does not take away minutes of work.
    if arguments.json:
        print(json.dumps(values, indent=2))
    else:
        print(_heading(found))
        print_columns(_rows(found))
    write_output(figure, _figure(found))
    write_json(document, values)
    if not arguments.json:
        print(f"in {folder}: {document.name}, {figure.name}")


def _heading(found: "BlockAblation") -> str:
    """mnist-0, each block drawn anew 3 times: test, 10,000 examples"""
    how = "set to 0" if found.how == "zero" else f"drawn anew {len(found.seeds)} time{'s' * (len(found.seeds) > 1)}"
    name = Path(found.run).resolve().name
    return f"{name}, each block {how}: {found.part}, {found.examples:,} examples"


def _rows(found: "BlockAblation") -> list[tuple[str, ...]]:
    """The table's cells, numbers to the right of their columns."""
    rows = [
        ("block", "parameters", found.headline, "difference"),
        ("intact", "", f"{found.intact[found.headline]:.4f}", ""),
    ]
    for block in found.blocks:
        spread = "" if block.std is None else f" ± {block.std:.4f}"
        rows.append((block.name, f"{block.parameters:,}", f"{block.mean:.4f}{spread}", f"{block.difference:+.4f}"))
    rows.append(("chance level", "", f"{found.chance:.4f}", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [(row[0], *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))) for row in rows]


def _figure(found: "BlockAblation") -> bytes:
    from jaxvision.figures.ablation import plot_ablation
    from jaxvision.figures.panels import figure_png

    values = {block.name: [metrics[found.headline] for metrics in block.metrics] for block in found.blocks}
    intact = found.intact[found.headline]
    return figure_png(plot_ablation(values, _heading(found), metric=found.headline, intact=intact, chance=found.chance))
