import ast
import errno
import fcntl
import gzip
import logging
import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import (
    copy_file,
    create_array,
    create_hdf5,
    load_array,
    load_mask,
    load_table,
    load_volume,
    open_hdf5,
    replacing,
    save_array,
    save_table,
    save_volume,
)
from nsdldm.support.logs import logged, progress


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


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"mounting is not permitted here: {result.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def map_array(path):
    with create_array(path, (1000, 1000), np.float32) as array:
        array[:] = 1


def write_pictures(path):
    with create_hdf5(path, 4_000_000) as file:
        file["pictures"] = np.ones(1_000_000, np.float32)


WRITERS = {
    "a.npy": lambda path: save_array(path, np.ones((1000, 1000))),
    "map.npy": map_array,
    "t.tsv": lambda path: save_table(path, pd.DataFrame(np.ones((100_000, 20)))),
    "v.nii": lambda path: save_volume(path, np.ones((100, 100, 100)), np.eye(4)),
    "p.h5": write_pictures,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_nothing_is_left(small_disk, name):
    """Also where the library gives no number of the error, or the process would be ended."""
    path = small_disk / name
    with pytest.raises(InputError, match=rf"{name}: expected space .* {small_disk}, found"):
        WRITERS[name](path)
    assert list(small_disk.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    WRITERS[name](path)
    assert [p.name for p in small_disk.iterdir()] == [name]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_is_named(tmp_path, number):
    with (
        pytest.raises(InputError, match=r"a.npy: expected a folder that can be written"),
        replacing(tmp_path / "a.npy"),
    ):
        raise OSError(number, os.strerror(number))


def test_what_a_writer_cannot_read_is_not_said_of_its_output(tmp_path):
    with pytest.raises(PermissionError), replacing(tmp_path / "a.npy"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/elsewhere/betas.hdf5")


def test_other_errors_of_a_writer_stay_what_they_are(tmp_path):
    with pytest.raises(OSError, match="no such device"), replacing(tmp_path / "a.npy"):
        raise OSError("no such device")


def test_reserved_space_leaves_no_trace(tmp_path):
    with create_hdf5(tmp_path / "p.h5", 4_000_000) as file:
        file["number"] = 7
    assert (tmp_path / "p.h5").stat().st_size < 10_000


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in (".part-123-a.npy", ".part-123-b-a.npy"):
        (tmp_path / name).write_bytes(b"half")
    save_array(tmp_path / "a.npy", np.arange(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".part-123-b-a.npy", "a.npy"]


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("name", "damage", "load"),
    [
        ("a.npy", cut, load_array),
        ("a.npy", lambda content: content[1:], load_array),
        ("t.tsv", cut, load_table),
        ("v.nii.gz", cut, load_volume),
        ("v.nii.gz", flip, load_volume),
        ("v.nii.gz", lambda content: content[:-1], load_volume),
        ("v.nii.gz", lambda content: gzip.compress(cut(gzip.decompress(content))), load_volume),
    ],
)
def test_damaged_files_are_named_with_what_to_do(tmp_path, name, damage, load):
    rng, path = np.random.default_rng(0), tmp_path / name
    save_array(tmp_path / "a.npy", rng.random(100))
    save_table(tmp_path / "t.tsv", pd.DataFrame(rng.random((10, 3))))
    save_volume(tmp_path / "v.nii.gz", rng.random((9, 9, 9)), np.eye(4))
    load(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=rf"{name}: expected .* Delete it and run the same"):
        load(path)


def test_what_is_wrong_with_inputs_is_said_without_a_traceback(tmp_path, capsys):
    finding = Finding("betas.hdf5", "a file", "none", "Copy it")
    with pytest.raises(SystemExit), logged(tmp_path / "rule.log"):
        raise InputError(finding)
    assert capsys.readouterr().err.rstrip().endswith(str(finding))
    assert [p.name for p in tmp_path.iterdir()] == ["rule.log"]


def test_tracebacks_are_shown_where_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NSDLDM_VERBOSE", "1")
    with pytest.raises(SystemExit), logged(tmp_path / "rule.log"):
        raise KeyError("x")
    assert "Traceback" in capsys.readouterr().err
    assert "Traceback" in (tmp_path / "rule.log").read_text()


def test_a_success_removes_the_traceback_of_before(tmp_path):
    path = tmp_path / "rule.log"
    with pytest.raises(SystemExit), logged(path):
        raise KeyError("x")
    assert "KeyError" in path.with_suffix(".traceback").read_text()
    with logged(path):
        pass
    assert not path.with_suffix(".traceback").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass(tmp_path, error):
    with pytest.raises(error), logged(tmp_path / "rule.log"):
        raise error


def test_hdf5_is_opened_in_one_place_and_without_a_lock():
    """Every other call could ask for a lock, which NFS and Lustre refuse."""
    package = Path(__file__).resolve().parents[2] / "nsdldm"
    calls = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("h5py.File"):
                calls.append((path.relative_to(package).as_posix(), ast.unparse(node)))
    assert calls == [("support/files.py", "h5py.File(path, mode, locking=False, **options)")]


def test_hdf5_is_read_and_written_where_a_lock_is_refused(tmp_path):
    """Refused here because somebody else holds it; the library asks in the same way."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = [1, 2]
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="unable to lock"), h5py.File(path):
            pass
        with open_hdf5(path) as file:
            np.testing.assert_array_equal(file["x"][:], [1, 2])
        with open_hdf5(path, "a") as file:
            file["y"] = 3


@pytest.mark.parametrize("number", [errno.ENOLCK, 524, errno.EOPNOTSUPP, errno.EIO, errno.ESTALE])
def test_a_file_system_that_fails_is_not_called_a_damaged_file(tmp_path, number):
    with pytest.raises(InputError) as caught, reading(tmp_path / "a.h5", "an HDF5 file"):
        raise OSError(number, f"unable to open file (errno = {number})")
    assert "intact copy" not in str(caught.value)
    assert os.strerror(number).lower() in str(caught.value)
    assert "file system" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [(PermissionError(errno.EACCES, "no"), "readable"), (IsADirectoryError(21, "no"), "the path")],
)
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, error, words):
    with pytest.raises(InputError, match=words) as caught, reading(tmp_path / "a", "a file"):
        raise error
    assert "intact copy" not in str(caught.value)


def test_only_damage_asks_for_an_intact_copy(tmp_path):
    """Files as a library sees them: cut off, or whole and of another kind."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(100)
    whole = path.read_bytes()
    said = {}
    for kind, content in {"cut": whole[:-50], "web page": b"<html>" * 100}.items():
        path.write_bytes(content)
        with pytest.raises(InputError) as caught, reading(path, "an HDF5 file"):
            open_hdf5(path)
        said[kind] = str(caught.value)
    path.write_bytes(whole)
    with pytest.raises(InputError) as caught, reading(path, "x"), open_hdf5(path) as file:
        file["betas"]
    assert "intact copy" in said["cut"]
    assert "intact copy" not in said["web page"] + str(caught.value)
    assert "right file" in said["web page"] and "right file" in str(caught.value)
