"""Decoded pictures on disk, so that a second run over the same files decodes none: what is kept, and under which key.

A key is a sha256 over what decides the decoded pictures: names below the part's folder, sizes and times of the files
(not their labels), image size, channels, resize, DECODER_VERSION and TensorFlow's version. Masks are kept beside their
pictures, and their files and what their numbers mean belong to the key. `store` keeps the files.
"""

import hashlib
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from jaxvision import config
from jaxvision.cachedir import cache_folder
from jaxvision.data import store
from jaxvision.data.lazy_masks import LazyMasks, MaskFiles
from jaxvision.data.parts import ArrayPart, Cache, FilePart, Rows, SequentialPart, has_masks, image_shape
from jaxvision.data.pipeline import decode_in_order
from jaxvision.data.tf_picture import tensorflow
from jaxvision.errors import DataError

DECODER_VERSION = 3
"""Goes up with every change to jaxvision.data.tf_picture (or mask) that changes decoded pixels."""

SAMPLES = 64
"""Files of which some bytes go into the key: without compression, names, sizes and times alone may agree by chance."""


def open_cache(data: config.Data, kind: str = "decoded") -> Cache | None:
    """The cache in the folder `data.cache`, or in the user's for this kind (`cachedir.cache_folder`); None: off."""
    if data.cache == "off":
        return None
    folder = cache_folder(kind) if data.cache is None else Path(data.cache).expanduser().absolute()
    if folder is None:
        store.warn_unusable(Path(kind), "no home folder is known")
        return None
    return Cache(folder, data.cache_mb * 2**20)


def cached(part: FilePart | SequentialPart) -> ArrayPart | None:
    """The part's pictures, memory-mapped from the cache; None where they must be decoded.

    An entry holds a whole part as the source has it; a validation part set aside, or a limit, reads rows of it, so no
    split or limit makes an entry of its own. What is not in the cache is put there if this part is at least half of
    the whole. For a smaller one that would decode more than is used: it is decoded alone, in each run.
    """
    whole = part.whole or part
    if part.cache is None or (key := decoded_key(whole)) is None:
        return None
    entry = store.find(part.cache, key)
    if entry is None and 2 * len(part.target) >= len(whole.target):
        try:
            entry = _keep(part.cache, key, whole)
        except DataError:
            if part is whole:
                raise
            # The picture that is no good may lie outside this part; decoding the part alone will tell.
    if entry is None:
        return None
    rows = None if part.positions is None or part is whole else part.positions
    inputs, target = entry.pictures if rows is None else Rows(entry.pictures, rows), part.target
    if entry.masks is not None:
        target = entry.masks if rows is None else Rows(entry.masks, rows)
    return ArrayPart(inputs, target, part.paths if isinstance(part, FilePart) else None)


def cached_target(cache: Cache, identity: str) -> np.ndarray | None:
    """Labels, int32 (N,), of the SequentialPart of this identity, where the cache holds it."""
    entry = store.find(cache, _key(identity))
    return None if entry is None else entry.target


def _keep(cache: Cache, key: str, part: FilePart | SequentialPart) -> store.Entry | None:
    return store.keep(
        cache,
        key,
        (pair if has_masks(part) else pair[0] for pair in decode_in_order(part)),
        shape=(len(part.target), *image_shape(part)),
        dtype=part.dtype,
        # Labels of files are their folders; those of records would cost a pass over all of them.
        target=np.asarray(part.target) if isinstance(part, SequentialPart) and not has_masks(part) else None,
        masks=part.target.shape if has_masks(part) else None,
        source=os.path.commonpath(part.paths) if isinstance(part, FilePart) else part.where,
    )


def decoded_key(part: FilePart | SequentialPart) -> str | None:
    """sha256 over what decides the part's decoded pictures; None where that is not known."""
    identity = _identity(part)
    return None if identity is None else _key(identity)


def _identity(part: FilePart | SequentialPart) -> str | None:
    masks = part.target.rule if isinstance(part.target, LazyMasks) else None
    if isinstance(part, SequentialPart):
        return part.identity if masks is None or part.identity is None else f"{part.identity} {masks}"
    identity = [f"{part.image_size} {part.channels} {part.resize}"]
    try:
        identity += _files_identity(part.paths)
        if isinstance(part.target, MaskFiles):
            identity += [str(masks), *_files_identity(part.target.paths)]
    except OSError:
        return None  # the decoder will say which file it is, and why
    return "\n".join(identity)


def _files_identity(paths: Sequence[str]) -> list[str]:
    root = os.path.commonpath({os.path.dirname(path) for path in paths})
    identity = []
    for path in paths:
        status = os.stat(path)
        identity.append(f"{path[len(root) :]!r} {status.st_size} {status.st_mtime_ns}")
    for path in paths[:: max(1, len(paths) // SAMPLES)]:
        with open(path, "rb") as file:
            file.seek(os.path.getsize(path) // 2)
            identity.append(hashlib.sha256(file.read(2**16)).hexdigest())
    return identity


def _key(identity: str) -> str:
    return hashlib.sha256(f"{DECODER_VERSION} {_tensorflow_version()} {identity}".encode()).hexdigest()


def _tensorflow_version() -> str:
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return metadata.version(name)  # importing it would take seconds
        except metadata.PackageNotFoundError:
            pass
    return tensorflow().__version__
