"""Keeping compiled programs for the next run."""

import os

import jax

from jaxvision.cachedir import cache_folder
from jaxvision.nn import onednn_trial


def keep_compiled() -> None:
    """Lets JAX keep the programs it compiles in the user's cache folder, unless a place was chosen already
    (JAX_COMPILATION_CACHE_DIR, `jax_compilation_cache_dir`).

    Not on a CPU with oneDNN: JAX 0.10 cannot write down programs that call it, and warns of each.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    if jax.default_backend() == "cpu" and any(
        onednn_trial.available(library, "float32") for library in ("jaxlib", "package")
    ):
        return
    folder = cache_folder("compiled")
    if folder is None:
        return
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:  # a home that cannot be written: compiled anew each time
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
