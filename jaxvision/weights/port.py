"""Weights from a file into a model: all of them, or one error that lists all that does not fit."""

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.errors import DataError
from jaxvision.weights.contents import FileLayer, FileTensor, Rank, WeightsFile, comes_before
from jaxvision.weights.match import Match, Pair, match_layers, out_of_order
from jaxvision.weights.names import ModelTensor, model_layers
from jaxvision.weights.open import open_weights
from jaxvision.weights.published import looks_like

MIN_CONVOLUTIONS = 8
"""Fewer convolutions may well have biases of 0 by themselves."""


class OtherHeadError(DataError):
    """Weights that fit but for the head. outputs: of the file's last layer and of the model's, where these differ.

    The message without an advice, as what can be done depends on what the weights are for, is `start` and `faults`.
    """

    def __init__(self, start: str, faults: str, outputs: tuple[int, int] | None):
        super().__init__(
            f"{start}. Only the head differs: reinit_head=True loads the base and leaves the head as it is.\n{faults}"
        )
        self.start, self.faults, self.outputs = start, faults, outputs

    def advising(self, advice: str) -> DataError:
        """The same error with what to do about it."""
        return DataError(f"{self.start}. Only the head differs. {advice}\n{self.faults}")


NO_BIASES = (
    "torchvision's ResNet, for one, has none; it also strides in the 3x3 convolution of a block where Keras' strides in"
    " the first 1x1, and takes images normalized in another way. No tensor shows that: such weights compute something"
    " else here."
)


class Fault(NamedTuple):
    """What does not fit, in words, and whether only the head is concerned."""

    text: str
    in_head: bool


def load_keras_weights(model: nnx.Module, path: str | os.PathLike[str], *, reinit_head: bool = False) -> None:
    """Fills every tensor of `model` from a file, in place: legacy Keras `.h5` (the published files, whole models too),
    Keras 3 `.weights.h5`, a `.keras` archive, or `.safetensors` as `jaxvision weights convert` writes it.

    Which layer is which: by Keras' names; layers whose names Keras made up (conv2d_7) by their kind and shapes, and
    those of equal shapes by their order; layers of other names than ours so too, if number and shapes of all that is
    left fit. Where that order is not known, the file is refused: legacy `.h5` files list a model inside the model (the
    book's conv_base) with its trainable tensors first, unless they hold the whole model. The order is also a check: a
    file that names our layers but lists them in an order in which our chain does not run is of another network, and
    refused; branches inside one block may come in any order. In a model of your own class, a layer's name is its path,
    joined by "_".

    `model` may be abstract (`abstract_model`): it then holds the file's numbers, and no time is lost on random ones.
    Numbers go into the tensor's own type. float16 and bfloat16 become float32 exactly; float64 is rounded to float32,
    and refused where that is too large for it. NaN and infinity are refused. Nothing in a file is run or unpickled.

    reinit_head: the model's `head` keeps its initial values, and whatever head the file has (layers after those of the
      base), or none, is no fault. The base must fit whole.

    Raises: DataError: the file is damaged, refused or no file of weights; or tensors are missing, too many or of
      another shape, all of them listed in one error; or which layer is which is not certain. The model is then
      unchanged.
    """
    ours = model_layers(model)
    with open_weights(path) as file:
        match = match_layers(ours, file.layers)
        faults = [fault for fault in find_faults(match, file) if not (reinit_head and fault.in_head)]
        if faults:
            raise _fault_error(faults, match, file, type(model).__name__)
        uncertain = [
            group for group in match.uncertain if not (reinit_head and all(pair.ours.in_head for pair in group))
        ]
        for group in uncertain:
            if not _is_published_order(group):
                raise DataError(_uncertain_message(group, file))
        pairs = [pair for pair in match.pairs if not (reinit_head and pair.ours.in_head)]
        tensors = [(our, their, pair) for pair in pairs for our, their in pair.tensors if our and their]
        values = [_value(our, their) for our, their, _ in tensors]
        bad = [
            f"{pair.theirs.name}/{our.name}: {int((~np.isfinite(value)).sum()):,} of {value.size:,} numbers"
            for (our, _, pair), value in zip(tensors, values, strict=True)
            if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all()
        ]
        if bad:
            raise DataError(
                f"{file.path}: numbers that are not finite (NaN, infinite, or too large for the model's type), such as"
                f" a training that went wrong leaves behind:\n{_listed(bad)}"
            )
    for (our, _, _), value in zip(tensors, values, strict=True):
        our.variable.set_value(jnp.array(value))
    named = {(pair.ours.name, our.name): value for (our, _, pair), value in zip(tensors, values, strict=True)}
    doubts = [*_doubts(pairs, named)]
    if uncertain:
        names = ", ".join(pair.ours.name for group in uncertain for pair in group)
        doubts.append(f"the file has no layer names. Taken as listed in Keras' published model: {names}.")
    for doubt in doubts:
        warnings.warn(f"{file.path}: {doubt}", stacklevel=2)


def find_faults(match: Match, file: WeightsFile) -> list[Fault]:
    """All that is missing, too much, of another shape or type, computes otherwise, or is out of order."""
    faults = [
        Fault(f"missing: {layer.name}/{tensor.name} {tensor.shape}", layer.in_head)
        for layer in match.missing
        for tensor in layer.tensors
    ]
    for pair in match.pairs:
        faults += [Fault(text, pair.ours.in_head) for text in (*_tensor_faults(pair), *_setting_faults(pair))]
    for layer in match.extra:
        after = _is_after_base(layer, match)
        faults += [Fault(f"extra: {layer.name}/{tensor.name} {tensor.shape}", after) for tensor in layer.tensors]
    if all(fault.in_head for fault in faults) and (crossed := out_of_order(match.pairs, file.layers)):
        one, other = (pair.theirs.name for pair in crossed)
        faults.append(Fault(f"order: the file's model has {one} before {other}, ours after it", in_head=False))
    return faults


def _tensor_faults(pair: Pair) -> list[str]:
    texts = []
    for our, their in pair.tensors:
        name = f"{pair.ours.name}/{our.name}" if our else f"{pair.theirs.name}/{their.name if their else ''}"
        if our and pair.theirs.name != pair.ours.name:
            name += f" (the file's {pair.theirs.name})"
        if their is None:
            texts.append(f"missing: {name} {our.shape if our else ''}")
        elif our is None:
            texts.append(f"extra: {name} {their.shape}")
        elif our.shape != their.shape:
            texts.append(f"shape: {name} must be {our.shape}. Received: {their.shape}")
        elif jnp.issubdtype(our.variable.dtype, jnp.floating) and not jnp.issubdtype(their.dtype, jnp.floating):
            texts.append(f"type: {name} must be floating-point. Received: {their.dtype}")
    return texts


def _setting_faults(pair: Pair) -> list[str]:
    ours, theirs = pair.ours.settings, pair.theirs.settings
    return [
        f"setting: {pair.ours.name} has {key} {ours[key]}. Received: {theirs[key]}"
        for key in ("strides", "dilation_rate")
        if key in ours and key in theirs and ours[key] != theirs[key]
    ]


def _is_after_base(layer: FileLayer, match: Match) -> bool:
    """Whether the file's layer follows all that are of our base; where its rank does not tell, whether the base has
    none of its kind."""
    base = [pair.theirs for pair in match.pairs if not pair.ours.in_head]
    order = [(one.kind, comes_before(one.rank, layer.rank)) for one in base]
    return all(kind != layer.kind if follows is None else follows for kind, follows in order)


def _doubts(pairs: Sequence[Pair], values: Mapping[tuple[str, str], np.ndarray]) -> Iterator[str]:
    """Why weights that fit may compute something else in the model than where they come from."""
    epsilons = {(pair.theirs.settings.get("epsilon"), pair.ours.settings.get("epsilon")) for pair in pairs}
    for theirs, ours in epsilons:
        if theirs and ours and not math.isclose(theirs, ours, rel_tol=0.01):
            yield f"the file's model normalizes with epsilon {theirs:g}, this one with {ours:g}: outputs will differ."
    convs = [pair.ours.name for pair in pairs if pair.ours.kind == "conv2d" and (pair.ours.name, "bias") in values]
    means = [value for (_, tensor), value in values.items() if tensor == "moving_mean"]
    is_trained = any(mean.any() for mean in means)
    if is_trained and len(convs) >= MIN_CONVOLUTIONS and not any(values[name, "bias"].any() for name in convs):
        yield (
            f"all biases of its {len(convs)} convolutions are 0, as where weights of a network without them were"
            f" renamed. {NO_BIASES}"
        )


def _is_published_order(group: Sequence[Pair]) -> bool:
    """Whether only our parallel branches make the order uncertain, and the file, which has no names, may well be of the
    published model, where it is known."""

    def listed(rank: Rank) -> Rank:
        return tuple(("", number) if label == "side" else (label, number) for label, number in rank)

    return all(
        not one.theirs.is_named
        and comes_before(one.theirs.rank, other.theirs.rank)
        and comes_before(listed(one.ours.rank), listed(other.ours.rank))
        for one, other in pairwise(group)
    )


def _uncertain_message(group: Sequence[Pair], file: WeightsFile) -> str:
    """Why the layers of one group cannot be told apart, and what to do."""
    known = all(comes_before(one.ours.rank, other.ours.rank) for one, other in pairwise(group))
    within = next((pair.theirs.within for pair in group if pair.theirs.within), None)
    ours = ", ".join(pair.ours.name for pair in group)
    save = ""
    if not known:
        why = "the model does not tell in which order it uses them, or has them on parallel branches"
    elif within and file.format.startswith("legacy"):
        why = (
            f"this format lists the layers inside {within!r} with the trainable ones first, so their order depends on"
            " which were frozen"
        )
        save = (
            " Load the file in Keras, into the model it was saved from and with the same layers frozen, and save that"
            " as NAME.keras or NAME.weights.h5. Or"
        )
    else:
        why = "the file does not tell their order"
    return (
        f"{file.path}: which layer is which is not certain, so nothing is loaded: they have equal shapes, names other"
        f" than the model's, and {why}.{save} {'g' if save else 'G'}ive them the model's names in Keras:"
        f" {ours}. Received ({file.format}): {', '.join(pair.theirs.name for pair in group)}"
    )


def _fault_error(faults: Sequence[Fault], match: Match, file: WeightsFile, model: str) -> DataError:
    """The one error: what does not fit, and what to do about it."""
    texts = [fault.text for fault in faults]
    kinds = [text.partition(":")[0] for text in texts]
    words = {"missing": "missing", "extra": "extra", "shape": "of another shape", "type": "of another type"}
    words |= {"setting": "of another setting"}
    counts = [f"{kinds.count(kind)} {word}" for kind, word in words.items() if kind in kinds]
    head = f"{file.path}: these weights ({file.format}) are not those of the model {model}"
    likely = looks_like(file)
    tensors = f" (tensors: {', '.join(counts)})" if counts else ""
    if all(fault.in_head for fault in faults):
        return OtherHeadError(f"{head}{tensors}", _listed(texts), _outputs(match))
    if not file.layers:
        advice = "There are no tensors of layers in the file."
    elif all(fault.text.startswith("missing:") and "/bias " in fault.text for fault in faults):
        advice = f"The file has no such biases. {NO_BIASES}"
    elif likely:
        advice = f"By its layers the file is of {likely!r}."
    else:
        advice = "Make the model with the architecture, options and number of classes of the file's."
    return DataError(f"{head}{tensors}. {advice}\n{_listed(texts)}")


def _outputs(match: Match) -> tuple[int, int] | None:
    """The number of outputs of the file's last layer and of the model's, where nothing else of the two differs."""
    misfits = [pair for pair in match.pairs if not pair.fits]
    if match.missing or match.extra or len(misfits) != 1 or misfits[0] is not match.pairs[-1]:
        return None
    shapes = [(their.shape, our.shape) for our, their in misfits[0].tensors if our and their]
    if any(theirs[:-1] != ours[:-1] for theirs, ours in shapes) or len(shapes) != len(misfits[0].tensors):
        return None
    return shapes[0][0][-1], shapes[0][1][-1]


def _listed(texts: Sequence[str]) -> str:
    return "\n".join(f"  {text}" for text in texts)


def _value(our: ModelTensor, their: FileTensor) -> np.ndarray:
    """The file's numbers in the shape and type of our variable."""
    with np.errstate(over="ignore"):
        return their.read().astype(our.variable.dtype).reshape(our.variable.shape)
