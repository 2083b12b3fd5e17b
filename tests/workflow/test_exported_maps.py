"""Maps in the forms of other tools, from a finished run."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
from conftest import run_snakemake

pytestmark = pytest.mark.slow
TRANSFORMS = "nsddata/ppdata/subj01/transforms"
NAME = re.compile(
    r"sub-01_task-nsdcore_hemi-[LR]_space-(fsnative|fsaverage_den-10k)_"
    r"((stat-[a-z]+_)?(desc-[A-Za-z0-9]+_)?(statmap|dseg)\.(func|label)|[a-z]+\.surf)\.gii"
)


@pytest.fixture(scope="module")
def maps(finished):
    return finished / "results/subj01/maps"


def read(path):
    return np.stack([array.data for array in nib.load(path).darrays])


def project(volume, transform):
    """Values of the nearest voxels, by arithmetic of its own."""
    places = np.asanyarray(nib.load(transform).dataobj)[:, 0, 0].astype(float)
    values = np.full(len(places), np.nan)
    for vertex, (x, y, z) in enumerate(places):
        if max(x, y, z) < 9999:
            values[vertex] = volume[round(x) - 1, round(y) - 1, round(z) - 1]
    return values


@pytest.mark.parametrize(("hemi", "side"), [("lh", "L"), ("rh", "R")])
def test_values_are_those_of_an_independent_mapping(finished, release, maps, hemi, side):
    stem = f"sub-01_task-nsdcore_hemi-{side}_space-"
    rest = "stat-r_desc-zc_statmap.func.gii"
    native, average = (read(maps / f"{stem}{s}_{rest}") for s in ("fsnative", "fsaverage_den-10k"))
    volumes = nib.load(finished / "results/subj01/encoding/zc.nii.gz").get_fdata(dtype=np.float32)
    # Columns r, r2, p, significant.
    transform = release / TRANSFORMS / f"{hemi}.func1pt8-to-layerB2.mgz"
    p = project(volumes[..., 2], transform).astype(np.float32)
    np.testing.assert_array_equal(native[2], p)
    shown = project(volumes[..., 3], transform) == 1
    assert shown.sum() > 50
    np.testing.assert_array_equal(np.isfinite(native[1]), shown & np.isfinite(native[0]))
    index = np.asanyarray(nib.load(release / TRANSFORMS / f"{hemi}.white-to-fsaverage.mgz").dataobj)
    picked = [int(number) - 1 for number in index.ravel()]
    np.testing.assert_array_equal(average, native[:, picked])


def test_names_sidecars_and_contents(maps):
    files = sorted(maps.glob("*.gii"))
    assert len(files) > 50
    for path in files:
        assert NAME.fullmatch(path.name), path.name
        image = nib.load(path)
        side = {"L": "CortexLeft", "R": "CortexRight"}[path.name.split("hemi-")[1][0]]
        assert image.meta["AnatomicalStructurePrimary"] == side
        kinds = {
            (nib.nifti1.intent_codes.niistring[a.intent], a.data.dtype.name) for a in image.darrays
        }
        if ".func." in path.name:
            assert kinds == {("NIFTI_INTENT_NONE", "float32")}
            assert float(image.darrays[0].meta["cal_max"]) > 0
        elif ".label." in path.name:
            assert kinds == {("NIFTI_INTENT_LABEL", "int32")}
            assert len(image.labeltable.labels) > 1
        if ".surf." not in path.name:
            sidecar = re.sub("hemi-[LR]_", "", path.name).replace(".func.gii", ".json")
            content = json.loads((maps / sidecar.replace(".label.gii", ".json")).read_text())
            assert {"Description", "Units", "SpatialReference"} <= set(content)
            assert all((maps / own).is_file() for own in [content["Mask"], *content["Sources"]])
            assert content["Maps"] == [array.meta["Name"] for array in image.darrays]
    described = json.loads((maps / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative" and described["GeneratedBy"][0]["Version"]


def test_regions_and_best_blocks_have_names(maps, finished):
    stem = "sub-01_task-nsdcore_hemi-L_space-fsnative_"
    image = nib.load(maps / f"{stem}desc-regions_dseg.label.gii")
    names = {label.key: label.label for label in image.labeltable.labels}
    assert names[0] == "none" and len(names) == 4
    found = {names[key] for key in np.unique(image.darrays[0].data)}
    assert found == {"none", "early", "ventral", "frontal"}
    (first, *_) = sorted(maps.glob(f"{stem}desc-blocks*_dseg.label.gii"))
    names = [label.label for label in nib.load(first).labeltable.labels]
    assert names == ["none", "down", "mid", "up"]


def test_the_group(finished, maps):
    (path,) = (finished / "results/maps").glob("*hemi-L*desc-z_statmap.func.gii")
    mean, count = read(path)
    (own,) = maps.glob("*hemi-L_space-fsaverage*stat-r_desc-z_statmap.func.gii")
    np.testing.assert_array_equal(mean, read(own)[0])
    np.testing.assert_array_equal(count, np.isfinite(read(own)[1]))


@pytest.fixture(scope="module")
def exported(finished):
    run_snakemake(finished, "pycortex")
    return finished / "results/subj01/pycortex"


def test_flat_maps_lie_as_those_of_fsaverage(exported):
    """Not turned: the occipital pole is at the inner side, and dorsal is up."""
    for hemi, inner in (("lh", 1), ("rh", -1)):
        folder = exported / "subj01/surfaces"
        flat, faces = (a.data for a in nib.load(folder / f"flat_{hemi}.gii").darrays)
        white = nib.load(folder / f"wm_{hemi}.gii").darrays[0].data
        used = np.unique(faces)
        assert len(flat) == len(white) > len(used) > 8_000
        pole = used[white[used, 1] < np.percentile(white[used, 1], 5)]
        middle = (flat[used].min(axis=0) + flat[used].max(axis=0)) / 2
        assert inner * (flat[pole, 0].mean() - middle[0]) > 50
        back = used[white[used, 1] < -60]
        assert np.corrcoef(flat[back, 1], white[back, 2])[0, 1] > 0.5


def test_pycortex_opens_it(exported):
    cortex = pytest.importorskip("cortex")
    cortex.db.filestore = str(exported)
    dataset = cortex.load(str(exported / "maps.hdf"))
    view = dataset["stat-r_desc-z"]
    assert view.data.shape == (20_484,) and view.vmin == 0 < view.vmax
    assert dataset.get_surf("subj01", "flat", "lh")[0].shape == (10_242, 3)
