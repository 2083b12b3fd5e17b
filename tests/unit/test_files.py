import logging

import numpy as np
import pandas as pd
import pytest

from nsdldm.files import (
    copy_file,
    create_array,
    load_array,
    load_mask,
    load_table,
    load_volume,
    replacing,
    save_array,
    save_table,
    save_volume,
)
from nsdldm.logs import logged, progress


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "a.npy"
    save_array(path, np.arange(3))
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_bytes(b"half")
        raise RuntimeError
    assert [p.name for p in path.parent.iterdir()] == ["a.npy"]
    np.testing.assert_array_equal(load_array(path), np.arange(3))


def test_created_array_appears_when_complete(tmp_path):
    path = tmp_path / "a.npy"
    with create_array(path, (2, 3), np.float32) as array:
        array[:] = 7
        assert not path.exists()
    assert isinstance(load_array(path), np.memmap)
    np.testing.assert_array_equal(load_array(path), np.full((2, 3), 7, np.float32))


def test_objects_are_never_pickled(tmp_path):
    with pytest.raises(ValueError, match="pickle"):
        save_array(tmp_path / "a.npy", np.array([{}]))
    assert list(tmp_path.iterdir()) == []


def test_tables_volumes_and_copies(tmp_path):
    table = pd.DataFrame({"voxel": [1, 2], "r": [0.5, np.nan]})
    save_table(tmp_path / "t.tsv", table)
    pd.testing.assert_frame_equal(load_table(tmp_path / "t.tsv"), table)
    copy_file(tmp_path / "t.tsv", tmp_path / "new" / "t.tsv")
    assert (tmp_path / "new/t.tsv").read_bytes() == (tmp_path / "t.tsv").read_bytes()
    mask = np.zeros((2, 3, 4), bool)
    mask[1, 2, 3] = True
    save_volume(tmp_path / "m.nii.gz", mask, np.diag([2.0, 2, 2, 1]))
    np.testing.assert_array_equal(load_mask(tmp_path / "m.nii.gz"), mask)
    data, affine = load_volume(tmp_path / "m.nii.gz")
    assert data.dtype == np.uint8
    np.testing.assert_array_equal(affine, np.diag([2.0, 2, 2, 1]))


def test_log_has_lines_and_tracebacks(tmp_path, capsys):
    path = tmp_path / "logs" / "rule.log"
    with pytest.raises(SystemExit) as ended, logged(path):
        logging.getLogger("nsdldm.x").info("session 1")
        _ = 1 / 0
    assert ended.value.code == 1
    text = path.read_text()
    assert "session 1" in text
    assert "ZeroDivisionError: division by zero. " in text
    left = [getattr(handler, "baseFilename", "") for handler in logging.getLogger().handlers]
    assert str(path) not in left


def test_progress_off_a_terminal_says_the_end(tmp_path):
    path = tmp_path / "rule.log"
    with logged(path):
        assert list(progress(range(4), 4, "images")) == [0, 1, 2, 3]
    assert "images: 4 of 4" in path.read_text()
