"""Damaged and hostile files of weights: each is refused with one message, without h5py's traceback, and exit code 2."""

import h5py
import numpy as np
import pytest
from hostile_weights import REFUSED
from weight_files import assert_equal, mnist, values, write_ours

from jaxvision.cli import main
from jaxvision.errors import DataError
from jaxvision.weights import load_keras_weights


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_one_message(tmp_path, case, capsys):
    folder = tmp_path
    write_ours(folder)
    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = np.zeros((3, 3, 1, 32), np.float32)
    make, said = REFUSED[case]
    path = make(folder)
    before = values(fresh := mnist(seed=5))
    with pytest.raises(DataError, match=said) as error:
        load_keras_weights(fresh, path)
    assert str(path) in str(error.value)
    assert_equal(fresh, before)
    assert main(["weights", "verify", str(path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
