"""Weights from a file into a model: all of them, or one error that lists all that does not fit."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.errors import DataError
from jaxvision.weights.contents import FileLayer, FileTensor, WeightsFile
from jaxvision.weights.match import Match, Pair, match_layers, out_of_order
from jaxvision.weights.names import ModelTensor, model_layers
from jaxvision.weights.open import open_weights
from jaxvision.weights.published import looks_like


class Fault(NamedTuple):
    """What does not fit, in words, and whether only the head is concerned."""

    text: str
    in_head: bool


def load_keras_weights(model: nnx.Module, path: str | os.PathLike[str], *, reinit_head: bool = False) -> None:
    """Fills every tensor of `model` from a file, in place: legacy Keras `.h5` (the published files, whole models too),
    Keras 3 `.weights.h5`, a `.keras` archive, or `.safetensors` as `jaxvision weights convert` writes it.

    Which layer is which: by Keras' names; layers whose names Keras made up (conv2d_7), in their order among those of
    their kind; layers that bear another name than ours so too, if number and shapes of all that is left fit. A model
    inside the file's model (the book's conv_base) is taken apart. The order is then a check: a file that names our
    layers but lists them in an order in which our chain does not run is of another network, and refused; branches
    inside one block may come in any order. Models of one's own: a layer's name is its path, joined by "_".

    `model` may be abstract (`abstract_model`): it then holds the file's numbers, and no time is lost on random ones.
    Numbers go into the tensor's own type. float16 and bfloat16 become float32 exactly; float64 is rounded to float32,
    and refused where that is too large for it. NaN and infinity are refused. Nothing in a file is run or unpickled.

    reinit_head: the model's `head` keeps its initial values, and whatever head the file has (layers after those of the
      base), or none, is no fault. The base must fit whole.

    Raises: DataError: the file is damaged, refused or no file of weights; or tensors are missing, too many or of
      another shape, all of them listed in one error. The model is then unchanged.
    """
    ours = model_layers(model)
    with open_weights(path) as file:
        match = match_layers(ours, file.layers)
        faults = [fault for fault in find_faults(match, file) if not (reinit_head and fault.in_head)]
        if faults:
            raise DataError(fault_message(faults, file, type(model).__name__))
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


def find_faults(match: Match, file: WeightsFile) -> list[Fault]:
    """All that is missing, too much, of another shape or type, or out of order."""
    faults = [
        Fault(f"missing: {layer.name}/{tensor.name} {tensor.shape}", layer.in_head)
        for layer in match.missing
        for tensor in layer.tensors
    ]
    for pair in match.pairs:
        faults += [Fault(text, pair.ours.in_head) for text in _tensor_faults(pair)]
    for layer in match.extra:
        after = _is_after_base(layer, match, file.layers)
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


def _is_after_base(layer: FileLayer, match: Match, layers: Sequence[FileLayer]) -> bool:
    """Whether the file lists a layer after all that are of our base, as far as it tells an order."""
    place = {id(one): number for number, one in enumerate(layers)}
    base = [pair.theirs for pair in match.pairs if not pair.ours.in_head]
    return layer.sequence is None or all(
        place[id(one)] < place[id(layer)] for one in base if one.sequence == layer.sequence
    )


def fault_message(faults: Sequence[Fault], file: WeightsFile, model: str) -> str:
    """The one error: what does not fit, and what to do about it."""
    texts = [fault.text for fault in faults]
    kinds = [text.partition(":")[0] for text in texts]
    words = {"missing": "missing", "extra": "extra", "shape": "of another shape", "type": "of another type"}
    counts = [f"{kinds.count(kind)} {word}" for kind, word in words.items() if kind in kinds]
    head = f"{file.path}: these weights ({file.format}) are not those of the model {model}"
    likely = looks_like(file)
    if all(fault.in_head for fault in faults):
        advice = (
            "Only the head differs: reinit_head=True (--model.reinit-head True) loads the base and leaves the head as"
            " it is."
        )
    elif not file.layers:
        advice = "There are no tensors of layers in the file."
    elif likely:
        advice = f"By its layers the file is of {likely!r}."
    else:
        advice = "Make the model with the architecture, options and number of classes of the file's."
    tensors = f" (tensors: {', '.join(counts)})" if counts else ""
    return f"{head}{tensors}. {advice}\n{_listed(texts)}"


def _listed(texts: Sequence[str]) -> str:
    return "\n".join(f"  {text}" for text in texts)


def _value(our: ModelTensor, their: FileTensor) -> np.ndarray:
    """The file's numbers in the shape and type of our variable."""
    with np.errstate(over="ignore"):
        return their.read().astype(our.variable.dtype).reshape(our.variable.shape)
