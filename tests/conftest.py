"""Settings of the whole test run: no silent promotion of types or ranks."""

import fcntl
import os
import pathlib
from collections.abc import Iterator

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxvision.nn import onednn_trial

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What runs keep for later ones goes into a folder of this test run's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXVISION_CACHE", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture(scope="module")
def kept_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs compiled once serve all tests that ask for this: most of the time of a small run is compilation.

    Without oneDNN, since JAX cannot keep programs that call it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"  # one for all workers
    settings = {"jax_compilation_cache_dir": str(folder), "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: jax.config.values[name] for name in settings}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onednn_trial, "available", lambda library, dtype: False)
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(params=["oneDNN", "without"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways in which a CPU may compute. Compiled programs of one must not serve the other."""
    if request.param == "without":
        monkeypatch.setattr(onednn_trial, "available", lambda library, dtype: False)
    elif not onednn_trial.available("jaxlib", "float32"):
        pytest.skip("this jaxlib or processor has no oneDNN")
    jax.clear_caches()
    yield request.param
    jax.clear_caches()


@pytest.fixture
def package() -> None:
    """For what only the extra onednn does."""
    if not onednn_trial.available("package", "float32"):
        pytest.skip("the extra onednn is not installed, or cannot be used here")


@pytest.fixture
def only_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests that start Ray take turns: at its end `ray symmetric-run` stops every Ray process of the machine."""
    with (tmp_path_factory.getbasetemp().parent / "ray.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real datasets, from JAXVISION_SHARED_DATA or beside the repository; skips where there is none."""
    default = pathlib.Path(__file__).parents[1] / ".." / "shared" / "data"
    folder = pathlib.Path(os.environ.get("JAXVISION_SHARED_DATA", default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"needs the real datasets; {folder} is absent (JAXVISION_SHARED_DATA names another place)")
    return folder
