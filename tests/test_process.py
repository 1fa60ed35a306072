"""What a run sets for its whole process: kept memory, kept programs."""

import os
import subprocess
import sys

import jax
import pytest

from jaxvision.nn import onednn_trial
from jaxvision.train.compilation import keep_compiled

FAULTS = """
import resource, statistics, jax, jax.numpy as jnp
from jaxvision.train.memory import keep_memory

kept = keep_memory()
x = jnp.zeros(2**24)
step = jax.jit(lambda x: jnp.cumsum(x[::2]) + x[1::2])
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def faults_of_a_step():
    before = faults()
    step(x).block_until_ready()
    return faults() - before
# The median: a heap still growing is faulted in for a step or two.
print(kept, int(statistics.median([faults_of_a_step() for _ in range(25)])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
@pytest.mark.slow
def test_kept_memory_is_not_faulted_in_again():
    told = {}
    for setting in ("0", "1"):
        environment = {**os.environ, "JAXVISION_KEEP_MEMORY": setting, "JAX_PLATFORMS": "cpu"}
        run = [sys.executable, "-c", FAULTS]
        out = subprocess.run(run, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout
        kept, faults = out.split()
        told[kept] = int(faults)
    if "True" not in told:
        pytest.skip("no glibc, or less than 8 GB of memory")
    assert told["False"] > 5000  # 32 MB and more, 4 KB at a time
    assert told["True"] < told["False"] / 20


def test_programs_are_kept_where_that_is_possible(monkeypatch, tmp_path):
    monkeypatch.setattr(onednn_trial, "available", lambda library, dtype: False)
    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        (tmp_path / "file").touch()
        monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path / "file"))
        keep_compiled()  # there can be no folder below a file
        assert jax.config.values["jax_compilation_cache_dir"] is None
        monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path))
        keep_compiled()
        assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "compiled")
        jax.config.update("jax_compilation_cache_dir", "chosen")
        keep_compiled()
        assert jax.config.values["jax_compilation_cache_dir"] == "chosen"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
