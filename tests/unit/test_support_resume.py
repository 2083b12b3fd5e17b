import numpy as np

from nsdldm.support import resume
from nsdldm.support.resume import open_parts


def test_a_damaged_ledger_is_discarded(tmp_path, caplog):
    shapes = {"a": (3, 2)}
    files, done = open_parts(tmp_path / "p", shapes, "key")
    assert done == 0
    np.save(files["a"], np.ones((3, 2), np.float32))
    resume.record_done(tmp_path / "p", "key", 2)
    assert open_parts(tmp_path / "p", shapes, "key")[1] == 2
    assert open_parts(tmp_path / "p", {"a": (3, 1)}, "key")[1] == 0
    (tmp_path / "p/ledger.json").write_text("{")
    assert open_parts(tmp_path / "p", shapes, "key")[1] == 0
    assert "cannot be read" in caplog.text
    assert np.load(files["a"]).max() == 0
