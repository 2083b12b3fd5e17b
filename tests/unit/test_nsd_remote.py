"""Reading from a bucket, against moto on loopback."""

import logging

import h5py
import numpy as np
import pandas as pd
import pytest
from bucket import serve_bucket
from nsd_files import (
    AFFINE,
    GRID,
    make_atlas,
    make_betas,
    write_betas,
    write_nifti,
    write_stimuli,
)

from nsdldm.nsd import remote, stimuli
from nsdldm.nsd.betas import extract_betas, open_hdf5, open_nifti, read_session
from nsdldm.nsd.check import _inspect_hdf5, _inspect_nifti
from nsdldm.nsd.grids import Grid
from nsdldm.nsd.remote import fetched, find_version, has_objects, list_folder, open_ranges
from nsdldm.nsd.stimuli import fetch_stimuli, open_stimuli, read_images
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array, save_table, save_volume

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(scope="module")
def server():
    with serve_bucket() as bucket:
        yield bucket


@pytest.fixture
def bucket(server, monkeypatch):
    # Waiting between attempts would only make the tests slow.
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    remote._connect.cache_clear()
    server.requests.clear()
    return server


@pytest.fixture
def storage(bucket):
    return {"endpoint": bucket.endpoint, "signed": False}


def test_folders_are_listed_without_what_lies_deeper(bucket, storage):
    for name in ("a/x", "a/y", "a/b/z", "ab"):
        bucket.put(name, name.encode())
    assert list_folder("s3://nsd/a", storage) == {"x": 3, "y": 3}
    assert list_folder("s3://nsd/a/", storage) == {"x": 3, "y": 3}
    assert list_folder("s3://nsd/c", storage) == {}
    assert has_objects("s3://nsd/a/b", storage)
    assert not has_objects("s3://nsd/a/b/z", storage)


def test_a_copy_is_there_only_meanwhile(bucket, storage, tmp_path):
    bucket.put("f/data.bin", b"content")
    with fetched("s3://nsd/f/data.bin", tmp_path / "copies", storage) as path:
        assert path.read_bytes() == b"content"
    assert not path.exists()
    with fetched(tmp_path / "local", None, storage) as path:
        assert path == tmp_path / "local"


def test_versions_differ(bucket, storage, tmp_path):
    bucket.put("v", b"one")
    first = find_version("s3://nsd/v", storage)
    bucket.put("v", b"two")
    assert find_version("s3://nsd/v", storage) != first
    with pytest.raises(InputError, match=r"absent.*no such file"):
        find_version(tmp_path / "absent")


def test_only_what_is_read_is_transferred(bucket, storage):
    content = np.random.default_rng(0).bytes(5_000_000)
    bucket.put("large", content)
    with open_ranges("s3://nsd/large", storage) as stream:
        assert stream.seek(-3, 2) == len(content) - 3
        assert stream.read(3) == content[-3:]
        stream.seek(1_000_000)
        assert stream.read(600_000) == content[1_000_000:1_600_000]
    spans = [span for _, span in bucket.read_bytes("large")]
    assert all(spans)
    assert len(spans) <= 3


PROBLEMS = {
    "no bucket": ("s3://other/x", {}, ("s3://other", "none of that name", "`root`")),
    "no object": ("s3://nsd/none", {}, ("s3://nsd/none", "an object", "none of that name")),
    "denied": ("s3://nsd/secret", {}, ("denied to unsigned", "`storage`.signed")),
    "no server": (
        "s3://nsd/x",
        {"endpoint": "http://127.0.0.1:9"},
        ("127.0.0.1:9", "same command again"),
    ),
}


def fetch(address, storage):
    with fetched(address, "unused", storage):
        pass


def look(address, storage):
    with open_hdf5(address, storage):
        pass


# A folder without objects is an empty list.
CASES = [(fetch, name) for name in PROBLEMS] + [(look, name) for name in PROBLEMS]
CASES += [(list_folder, name) for name in ("no bucket", "no server")]


@pytest.mark.parametrize("way, problem", CASES)
def test_what_goes_wrong_is_said_once(bucket, storage, tmp_path, monkeypatch, way, problem):
    monkeypatch.chdir(tmp_path)
    address, changes, words = PROBLEMS[problem]
    bucket.put("secret", b"x", public=False)
    with pytest.raises(InputError) as caught:
        way(address, storage | changes)
    (finding,) = caught.value.findings
    for word in words:
        assert word in str(finding)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_signed_requests_need_credentials(bucket, storage, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    bucket.put("secret", b"x", public=False)
    signed = storage | {"signed": True}
    with pytest.raises(InputError, match=r"no credentials.*`storage`\.signed"):
        list_folder("s3://nsd", signed)
    remote._connect.cache_clear()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "owner")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    with fetched("s3://nsd/secret", tmp_path, signed) as path:
        assert path.read_bytes() == b"x"


@pytest.mark.parametrize("suffix", ["hdf5", "nii.gz", "nii"])
def test_headers_are_read_without_the_rest(bucket, storage, tmp_path, suffix):
    betas = make_betas(0)
    path = tmp_path / f"b.{suffix}"
    (write_betas if suffix == "hdf5" else write_nifti)(path, betas)
    bucket.put(path.name, path)
    inspect = _inspect_hdf5 if suffix == "hdf5" else _inspect_nifti
    assert inspect(f"s3://nsd/{path.name}", Grid("streams", GRID), storage) == (*GRID, 750)
    opened = open_hdf5 if suffix == "hdf5" else open_nifti
    with opened(f"s3://nsd/{path.name}", storage) as data:
        assert 750 in data.shape


@pytest.fixture
def sessions(bucket, tmp_path):
    files = [tmp_path / f"s{number}.hdf5" for number in range(3)]
    for number, path in enumerate(files):
        write_betas(path, make_betas(number))
        bucket.put(f"betas/{path.name}", path)
    save_volume(tmp_path / "early.nii.gz", make_atlas() == 1, AFFINE)
    bucket.requests.clear()
    return files


def extract(folder, names, storage):
    extract_betas(
        sessions=[f"s3://nsd/betas/{name}" for name in names],
        masks={"early": folder / "early.nii.gz"},
        outputs={"early": folder / "out.npy"},
        partial=folder / "partial",
        storage=storage,
    )


def test_sessions_are_fetched_one_at_a_time(sessions, bucket, storage, tmp_path, monkeypatch):
    present = []

    def look(path, mask, *others):
        present.append(sorted(each.name for each in (tmp_path / "partial").glob("*.hdf5")))
        return read_session(path, mask)

    monkeypatch.setattr("nsdldm.nsd.betas.read_session", look)
    extract(tmp_path, [path.name for path in sessions], storage)
    assert present == [["s0.hdf5"], ["s1.hdf5"], ["s2.hdf5"]]
    assert not (tmp_path / "partial").exists()
    assert [path for path, _ in bucket.read_bytes("betas")] == [
        f"/nsd/betas/s{number}.hdf5" for number in range(3)
    ]
    expected = np.vstack([read_session(path, make_atlas() == 1)[0] for path in sessions])
    np.testing.assert_array_equal(load_array(tmp_path / "out.npy"), expected)


def test_a_connection_lost_between_sessions(sessions, bucket, storage, tmp_path):
    names = [path.name for path in sessions]
    with bucket.breaking("s1.hdf5"), pytest.raises(InputError, match=r"s1\.hdf5.*no whole one"):
        extract(tmp_path, names, storage)
    assert not list((tmp_path / "partial").glob("*.hdf5"))
    assert not (tmp_path / "out.npy").exists()
    bucket.requests.clear()
    extract(tmp_path, names, storage)
    assert [path[-7:] for path, _ in bucket.read_bytes("betas")] == ["s1.hdf5", "s2.hdf5"]
    expected = np.vstack([read_session(path, make_atlas() == 1)[0] for path in sessions])
    np.testing.assert_array_equal(load_array(tmp_path / "out.npy"), expected)


def test_a_damaged_object_is_named_by_its_address(sessions, bucket, storage, tmp_path):
    bucket.put("betas/cut.hdf5", sessions[0].read_bytes()[:3000])
    with pytest.raises(InputError, match=r"s3://nsd/betas/cut\.hdf5: expected an HDF5 file"):
        extract(tmp_path, ["cut.hdf5"], storage)


@pytest.fixture
def seen(bucket, tmp_path):
    """Address of a file of pictures, the pictures and a table of some of them."""
    rng = np.random.default_rng(0)
    pictures = {number: rng.integers(0, 256, (425, 425, 3), "u1") for number in (0, 2, 3, 7)}
    write_stimuli(tmp_path / "all.hdf5", pictures, 9)
    bucket.put("stimuli.hdf5", tmp_path / "all.hdf5")
    save_table(tmp_path / "images.tsv", pd.DataFrame({"nsd_id": [2, 3, 7]}))
    bucket.requests.clear()
    return {
        "stimuli": "s3://nsd/stimuli.hdf5",
        "images": tmp_path / "images.tsv",
        "output": tmp_path / "seen.hdf5",
        "partial": tmp_path / "partial",
    }, pictures


def test_seen_pictures_are_copied(seen, storage):
    settings, pictures = seen
    fetch_stimuli(**settings, storage=storage)
    assert not settings["partial"].exists()
    copies = list(read_images(settings["output"], [7, 2, 2]))
    for number, picture in zip([7, 2, 2], copies, strict=True):
        np.testing.assert_array_equal(picture, pictures[number])
    with open_stimuli(settings["output"]) as dataset:
        assert dataset.shape == (3, 425, 425, 3)
    with pytest.raises(InputError, match=r"seen\.hdf5.*such as 0"):
        next(read_images(settings["output"], [2, 0]))


def test_of_several_files_the_first_that_has_a_picture_is_read(seen, storage, tmp_path):
    settings, pictures = seen
    fetch_stimuli(**settings, storage=storage)
    with h5py.File(tmp_path / "zero.hdf5", "w") as file:
        file["imgBrick"] = pictures[0][None]
        file["nsd_id"] = [0]
    both = [settings["output"], tmp_path / "zero.hdf5"]
    first, second = read_images(both, [0, 3])
    np.testing.assert_array_equal(first, pictures[0])
    np.testing.assert_array_equal(second, pictures[3])
    with pytest.raises(InputError, match="such as 8"):
        next(read_images(both, [8]))


def test_a_connection_lost_between_pictures(seen, bucket, storage, monkeypatch, caplog):
    settings, pictures = seen
    monkeypatch.setattr(stimuli, "NOTED", 1)
    monkeypatch.setattr(remote, "RANGE", 2**16)
    taken = []

    def read_two(*arguments):
        for picture in read_images(*arguments):
            taken.append(picture)
            if len(taken) == 2:
                bucket.broken = "stimuli"
            yield picture

    monkeypatch.setattr(stimuli, "read_images", read_two)
    with pytest.raises(InputError, match=r"s3://nsd/stimuli.hdf5"), bucket.breaking("nothing"):
        fetch_stimuli(**settings, storage=storage)
    assert not settings["output"].exists()
    done = len(taken)
    assert done == 2
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(stimuli, "read_images", read_images)
    fetch_stimuli(**settings, storage=storage)
    assert f"pictures: {3 - done} of {3 - done}" in caplog.text
    for number, picture in zip([2, 3, 7], read_images(settings["output"], [2, 3, 7]), strict=True):
        np.testing.assert_array_equal(picture, pictures[number])
