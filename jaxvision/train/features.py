"""What a frozen base makes of the pictures: computed once, kept on disk, and trained on in their place."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.progress import track

from jaxvision.config import PARTS, Run
from jaxvision.data import Dataset, Feed, open_feed, store
from jaxvision.data.cache import cached, decoded_key, open_cache
from jaxvision.data.parts import ArrayPart, FilePart, Part
from jaxvision.errors import ConfigError
from jaxvision.models import Classifier
from jaxvision.train.step import compiler_options

HASHED_AT_ONCE = 256


def with_features(dataset: Dataset, model: Any, run: Run, *, progress: bool = True) -> Dataset:
    """The dataset with `model.base(model.preprocessing(pictures))` in place of the pictures, float32 (N, h, w, c), in
    the parts that `run.cache_features` names.

    Kept in the cache (`run.data.cache`) under a key over the base's weights, the program compiled from it and the
    pictures, so that heads can be tried without computing anything anew. `image_shape` stays that of the pictures.

    Raises:
      ConfigError: the model is not of the kind that has a base, and a head that sees the base's last layer only.
    """
    if run.cache_features == "off":
        return dataset
    if not isinstance(model, Classifier):
        raise ConfigError(
            "cache_features: needs a model that is a jaxvision.models.Classifier: preprocessing, base and head."
            f" Received: model.name={run.model.name!r}"
        )
    if model.skips:
        raise ConfigError(
            "cache_features: needs a head that sees the base's last layer only; this one's sees more of them."
            f" Received: model.name={run.model.name!r}"
        )
    base = CompiledBase(model, dataset.image_shape, deterministic=run.deterministic)
    program = base.digest()
    parts: dict[str, Any] = {}
    for name in PARTS:
        part = getattr(dataset, name)
        if part is not None and (name != "train" or run.cache_features == "all"):
            parts[name] = _features_of(part, name, base, run, program, progress)
    return replace(dataset, **parts)


class CompiledBase:
    """A model's preprocessing and base, compiled."""

    def __init__(self, model: Classifier, image_shape: tuple[int, ...], *, deterministic: bool = False):
        graph, self.variables = nnx.split((model.preprocessing, model.base))

        def forward(variables: nnx.State, images: jax.Array) -> jax.Array:
            preprocessing, base = nnx.merge(graph, variables)
            return base(preprocessing(images)).astype(jnp.float32)

        self._forward = jax.jit(forward, compiler_options=compiler_options(deterministic))
        self._lowered = self._forward.lower(self.variables, jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8))

    def digest(self) -> str:
        """sha256 of the program and of all weights."""
        digest = hashlib.sha256(self._lowered.as_text().encode())
        for leaf in jax.tree.leaves(nnx.filter_state(self.variables, nnx.Not(nnx.RngState))):
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()

    def shape(self) -> tuple[int, ...]:
        """Of one picture's features."""
        return self._lowered.out_info.shape[1:]

    def batches(self, feed: Feed, said: str, progress: bool) -> Iterator[np.ndarray]:
        """The features of a feed's examples, padding left out."""
        for batch in track(feed.batches(0), said, total=feed.steps_per_epoch, disable=not progress):
            yield np.asarray(self._forward(self.variables, batch.inputs))[: int(np.sum(batch.valid))]


def _features_of(part: Part, name: str, base: CompiledBase, run: Run, program: str, progress: bool) -> ArrayPart:
    shape = (len(part.target), *base.shape())
    names = part.names if isinstance(part, ArrayPart) else getattr(part, "paths", None)
    identity = _identity(part)
    # Where nobody can tell whether the pictures are the same as last time, nothing is kept.
    cache = None if identity is None else open_cache(run.data, "features")
    key = hashlib.sha256(f"{program} {identity}".encode()).hexdigest()
    entry = cache and store.find(cache, key, "features")
    if not entry:
        pictures = part if isinstance(part, ArrayPart) else cached(part) or part
        feed = open_feed(
            pictures,
            batch_size=run.evaluation.batch_size or run.data.batch_size,
            seed=None,
            residence="stream",
            resident_mb=run.data.resident_mb,
        )
        said = f"features of the {name} part"
        if cache:
            entry = store.keep(
                cache,
                key,
                base.batches(feed, said, progress),
                shape=shape,
                dtype=np.dtype(np.float32),
                target=None,
                source=f"{name} part",
                what="features",
            )
        if not entry:  # no cache, or no room in it
            return ArrayPart(np.concatenate(list(base.batches(feed, said, progress))), part.target, names)
    return ArrayPart(entry.pictures, part.target, names)


def _identity(part: Part) -> str | None:
    """What decides the part's decoded pictures; None where that is not known."""
    if isinstance(part, ArrayPart):
        digest = hashlib.sha256(f"{part.inputs.shape} {part.inputs.dtype}".encode())
        for begin in range(0, len(part.inputs), HASHED_AT_ONCE):
            digest.update(np.ascontiguousarray(part.inputs[begin : begin + HASHED_AT_ONCE]).data)
        return digest.hexdigest()
    key = decoded_key(part)
    if key is None or isinstance(part, FilePart):
        return key
    return f"{key} {hashlib.sha256(part.positions.tobytes()).hexdigest()}"
