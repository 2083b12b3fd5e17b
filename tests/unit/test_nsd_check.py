import gzip
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nesting import nest
from nsd_files import (
    FACES,
    GRID,
    OCTAHEDRON,
    make_atlas,
    make_betas,
    write_betas,
    write_captions,
    write_checked,
    write_mgh,
    write_nifti,
    write_patch_bytes,
    write_shared,
    write_stimuli,
)

from nsdldm.nsd.check import ReleaseFiles, check_release
from nsdldm.support.errors import InputError


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The files that no test changes in place."""
    root = tmp_path_factory.mktemp("release")
    return root, write_shared(root)


@pytest.fixture
def release(shared, tmp_path):
    """A whole release of subject 1 with two sessions, as keywords of check_release."""
    return write_checked(tmp_path, *shared)


def check(release):
    """What check_release finds: (file name or key, message) of each finding."""
    with pytest.raises(InputError) as caught:
        check_release(**nest(release, files=ReleaseFiles))
    assert not release["report"].exists()
    return [(f.where.rpartition("/")[2], str(f)) for f in caught.value.findings]


def find_one(release, name, *words):
    ((where, message),) = check(release)
    assert where == name
    for word in words:
        assert word in message


def test_whole_release_is_reported_file_by_file(release):
    check_release(**nest(release, files=ReleaseFiles))
    report = pd.read_csv(release["report"], sep="\t")
    assert list(report) == ["path", "what", "value"]
    values = {
        path.rpartition("/")[2]: value
        for path, value in zip(report.path, report.value, strict=True)
    }
    assert values["betas_session02.hdf5"] == "4x5x3x750"
    assert values["streams.nii.gz"] == values["ncsnr.nii.gz"] == "4x5x3"
    assert values["responses.tsv"] == "1500"
    assert values["nsd_stimuli.hdf5"] == values["nsd_stim_info_merged.csv"] == "73000"
    assert values["lh.func1pt8-to-layerB3.mgz"] == values["rh.sulc"] == values["rh.white"] == "6"
    assert values["lh.full.flat.patch.3d"] == "4"
    assert len(values) == 27


def test_missing_session_file(release):
    release["betas"][1].unlink()
    find_one(release, "betas_session02.hdf5", "no such file")


def test_fewer_betas_than_sessions(release):
    release["betas"].pop()
    find_one(release, "betas", "2 sessions", "1 files")


def test_truncated_hdf5(release):
    path = release["betas"][0]
    path.write_bytes(path.read_bytes()[:-100])
    find_one(release, "betas_session01.hdf5", "truncated", "intact copy")


def test_wrong_grid_of_betas(release):
    write_betas(release["betas"][1], make_betas(0, (4, 6, 3)))
    find_one(release, "betas_session02.hdf5", "(4, 5, 3, 750)", "(4, 6, 3, 750)")


def test_wrong_dtype_of_betas(release):
    write_betas(release["betas"][1], make_betas(0).astype("f4"))
    find_one(release, "betas_session02.hdf5", "int16", "float32")


@pytest.fixture
def nifti(release):
    """The release with its first session as NIfTI; returns the path."""
    path = release["betas"][0].with_name("betas_session01.nii.gz")
    write_nifti(path, make_betas(1))
    release["betas"][0] = path
    return path


def test_nifti_betas_pass(release, nifti):
    check_release(**nest(release, files=ReleaseFiles))
    # A file of several gzip members notes the length of its last one only.
    content = gzip.decompress(nifti.read_bytes())
    nifti.write_bytes(gzip.compress(content[:9000]) + gzip.compress(content[9000:]))
    check_release(**nest(release, files=ReleaseFiles))


def test_truncated_nifti(release, nifti):
    nifti.write_bytes(nifti.read_bytes()[:-5000])
    find_one(release, nifti.name, "intact copy")


def test_short_but_well_formed_nifti(release, nifti):
    content = gzip.decompress(nifti.read_bytes())
    nifti.write_bytes(gzip.compress(content[:-2]))
    find_one(release, nifti.name, f"{len(content)} bytes in all", "found ")
    plain = nifti.with_suffix("")
    plain.write_bytes(content[:-2])
    release["betas"][0] = plain
    find_one(release, plain.name, f"{len(content)} bytes", f"{len(content) - 2}")


def test_wrong_grid_of_ncsnr_and_damaged_atlas(release):
    write_nifti(release["ncsnr"], np.ones((4, 5, 4), "f4"))
    find_one(release, "ncsnr.nii.gz", "(4, 5, 3)", "(4, 5, 4)")
    write_nifti(release["ncsnr"], np.ones(GRID, "f4"))
    path = release["atlases"]["streams"]
    path.write_bytes(path.read_bytes()[:-10])
    find_one(release, "streams.nii.gz", "cannot be read")


def test_label_that_the_table_lacks(release):
    release["rois"]["lateral"] = ["streams:lateral"]
    find_one(release, "streams.mgz.ctab", "'lateral'", "`rois`.lateral", "1 early")


def test_fewer_responses_than_betas(release):
    lines = release["responses"].read_text().splitlines(keepends=True)
    release["responses"].write_text("".join(lines[:1000]))
    find_one(release, "responses.tsv", "750 trials per session", "249 in session 2")


def test_image_outside_the_stimuli(release, tmp_path):
    write_stimuli(tmp_path / "nsd_stimuli.hdf5", {}, 72_000)
    release["stimuli"] = tmp_path / "nsd_stimuli.hdf5"
    find_one(release, "nsd_stimuli.hdf5", "0 to 71999", "such as 72")


def test_missing_caption(release, tmp_path):
    table = pd.read_csv(release["responses"], sep="\t")
    number = 5 * (table["73KID"][10] - 1) + 11
    captions = [(5 * n + 11, "a picture") for n in range(73_000) if 5 * n + 11 != number]
    write_captions(tmp_path / "captions.json", captions)
    release["captions"] = [tmp_path / "captions.json"]
    find_one(release, "captions.json", "none for 1 of ", f"COCO number {number}")


def test_transform_and_surface_of_another_brain(release):
    write_mgh(release["transforms"]["rh"][1], np.ones((7, 1, 1, 3)))
    nib.freesurfer.write_morph_data(release["surfaces"]["lh"]["sulc"], np.zeros(5))
    patch = [0, 1, 6], OCTAHEDRON[:3], [False] * 3
    write_patch_bytes(release["surfaces"]["rh"]["flat"], *patch)
    findings = dict(check(release))
    assert set(findings) == {"rh.func1pt8-to-layerB2.mgz", "lh.sulc", "rh.full.flat.patch.3d"}
    assert "expected 6 vertices" in findings["lh.sulc"]
    assert "found 5" in findings["lh.sulc"]
    assert "found 7" in findings["rh.func1pt8-to-layerB2.mgz"]
    assert "vertex 6" in findings["rh.full.flat.patch.3d"]


def test_subject_without_surfaces(release):
    shutil.rmtree(release["surfaces"]["lh"]["white"].parent)
    findings = check(release)
    assert len(findings) == 10
    assert all("no such file" in message for _, message in findings)


def test_transform_of_another_shape(release):
    write_mgh(release["transforms"]["lh"][0], np.ones((6, 1, 1)))
    find_one(release, "lh.func1pt8-to-layerB1.mgz", "(n, 1, 1, 3)", "(6, 1, 1)")


def test_volume_whose_axes_run_the_other_way(release):
    """As another program stores the same voxels: from right to left, the affine saying so."""
    path = release["ncsnr"]
    turned = np.diag([-1.8, 1.8, 1.8, 1.0])
    turned[:3, 3] = 2.7, -3.6, -1.8
    image = nib.Nifti1Image(np.full(GRID, 0.4, "f4"), turned)
    nib.save(image, path)
    find_one(release, "ncsnr.nii.gz", "axes R-A-S", "axes L-A-S", "`reorient`")
    check_release(**nest(release | {"reorient": True}, files=ReleaseFiles))
    release["report"].unlink()
    image = nib.Nifti1Image(make_atlas()[::-1], turned)
    nib.save(image, release["atlases"]["streams"])
    find_one(release, "streams.nii.gz", "R-A-S", "betas_session01.hdf5", "`reorient`")
    check_release(**nest(release | {"reorient": True}, files=ReleaseFiles))


def test_nifti_betas_whose_axes_run_the_other_way(release, nifti):
    image = nib.load(nifti)
    affine = image.affine.copy()
    affine[0] *= -1
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[::-1], affine), nifti)
    find_one(release, nifti.name, "axes R-A-S", "axes L-A-S")


def place(release, ribbon, left, right):
    """A ribbon, and the voxel (from 0) that all vertices of a hemisphere lie in."""
    grid = (12, 10, 8)
    write_nifti(release["atlases"]["streams"], np.where(ribbon(np.indices(grid)), 1.0, -1.0))
    write_nifti(release["ncsnr"], np.ones(grid, "f4"))
    for number, path in enumerate(release["betas"]):
        write_betas(path, make_betas(number, grid))
    release["rois"] = {"cortex": ["streams:ribbon"]}
    for hemi, voxel in (("lh", left), ("rh", right)):
        for path in release["transforms"][hemi]:
            write_mgh(path, np.tile(np.add(voxel, 1.0), (6, 1))[:, None, None])


def test_transforms_to_another_grid(release):
    place(release, lambda places: places[1] > 4, (3, 6, 4), (9, 6, 4))
    check_release(**nest(release, files=ReleaseFiles))
    release["report"].unlink()
    place(release, lambda places: places[1] > 4, (3, 16, 4), (9, 6, 4))
    findings = check(release)
    assert [where for where, _ in findings] == [f"lh.func1pt8-to-layerB{n}.mgz" for n in (1, 2, 3)]
    assert "found 0% of the vertices there" in findings[0][1]
    place(release, lambda places: places[1] > 4, (3, 3, 4), (9, 6, 4))
    find_one(release, "lh.func1pt8-to-layerB2.mgz", "0% of the vertices in its cortical ribbon")
    place(release, lambda places: places[1] > 4, (9, 6, 4), (3, 6, 4))
    find_one(release, "lh.func1pt8-to-layerB1.mgz", "left of the right one", "right of the other")


def test_everything_wrong_is_reported_at_once(release):
    release["betas"][0].unlink()
    release["rois"]["lateral"] = ["streams:lateral"]
    release["design"] = release["report"].with_name("absent.mat")
    nib.freesurfer.write_geometry(release["surfaces"]["lh"]["pial"], OCTAHEDRON[:5], FACES[:1])
    where = {where for where, _ in check(release)}
    assert where == {"betas_session01.hdf5", "streams.mgz.ctab", "absent.mat", "lh.pial"}
