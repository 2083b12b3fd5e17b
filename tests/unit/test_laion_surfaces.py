"""Cortex in a volume, from surfaces and their footers."""

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_fsaverage

from nsdldm.laion.surfaces import find_scanner, prepare_surfaces
from nsdldm.nsd.surfaces import read_index_map, read_patch, read_transform
from nsdldm.support.errors import InputError

# A volume that is oblique and not centred, as a scanner's.
TURN = np.array([[0.995, -0.0998, 0], [0.0998, 0.995, 0], [0, 0, 1]])
AFFINE = nib.affines.from_matvec(TURN @ np.diag([1.8, 1.8, 1.8]), [-90, -118, -60])
SHAPE = (100, 130, 55)
# FreeSurfer's conformed volume: left, inferior, anterior.
ORIG = nib.affines.from_matvec([[-1, 0, 0], [0, 0, 1], [0, -1, 0]], [131, -120, 126])


def footer():
    middle = nib.affines.apply_affine(ORIG, [128, 128, 128])
    axes = {key: ORIG[:3, column] for column, key in enumerate(("xras", "yras", "zras"))}
    known = {"head": [2, 0, 20], "valid": "1  # volume info valid", "filename": "orig.mgz"}
    return known | {"volume": [256] * 3, "voxelsize": [1, 1, 1]} | axes | {"cras": middle}


@pytest.fixture
def files(tmp_path):
    meshes, paths = load_fsaverage("fsaverage5"), {}
    for hemi, side in (("lh", "left"), ("rh", "right")):
        for name, mesh in (("white", "white_matter"), ("pial", "pial"), ("sphere.reg", "sphere")):
            part = meshes[mesh].parts[side]
            # fsaverage's coordinates are those of the scanner; its own are shifted and the same
            # way round.
            coords = part.coordinates - (footer()["cras"] if name != "sphere.reg" else 0)
            paths[hemi, name] = tmp_path / f"{hemi}.{name}"
            nib.freesurfer.write_geometry(
                paths[hemi, name], coords, part.faces, volume_info=footer()
            )
    return paths


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "reference.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), AFFINE), path)
    return path


def prepare(files, volume, folder):
    given = {
        key: [files[hemi, name] for hemi in ("lh", "rh")]
        for key, name in (("white", "white"), ("pial", "pial"), ("spheres", "sphere.reg"))
    }
    transforms = [folder / f"{hemi}.{n}.mgz" for hemi in ("lh", "rh") for n in (1, 2, 3)]
    flats = [folder / f"{hemi}.flat" for hemi in ("lh", "rh")]
    averages = [folder / f"{hemi}.white-to-fsaverage.mgz" for hemi in ("lh", "rh")]
    prepare_surfaces(
        reference=volume, **given, transforms=transforms, flats=flats, averages=averages
    )
    return transforms, flats


def test_own_coordinates_are_shifted_to_the_scanner(files):
    expected = nib.affines.from_matvec(np.eye(3), footer()["cras"])
    np.testing.assert_allclose(find_scanner(files["lh", "white"]), expected, atol=1e-9)


def test_depths_by_another_route(files, volume, tmp_path):
    """fsaverage's coordinates in the scanner, through the volume's affine alone."""
    transforms, flats = prepare(files, volume, tmp_path)
    mesh = load_fsaverage("fsaverage5")
    for transform, share in zip(transforms[3:], (0.25, 0.5, 0.75), strict=True):
        white = mesh["white_matter"].parts["right"].coordinates
        pial = mesh["pial"].parts["right"].coordinates
        wanted = np.linalg.solve(
            AFFINE, np.c_[pial * (1 - share) + white * share, np.ones(10242)].T
        )
        wanted = wanted[:3].T
        found = read_transform(transform)
        inside = ((wanted >= 0) & (wanted <= np.array(SHAPE) - 1)).all(axis=1)
        assert 0.5 < inside.mean() < 1
        np.testing.assert_allclose(found[inside], wanted[inside], atol=1e-3)
        assert np.isnan(found[~inside]).all()
    vertices, _, _ = read_patch(flats[0])
    assert 5_000 < len(vertices) < 10_242
    # Its own sphere is that of the average.
    index = read_index_map(tmp_path / "rh.white-to-fsaverage.mgz")
    assert np.array_equal(index, np.arange(10_242))


def test_surfaces_without_a_footer(files, volume, tmp_path):
    coords, faces = nib.freesurfer.read_geometry(files["lh", "white"])
    nib.freesurfer.write_geometry(files["lh", "white"], coords, faces)
    with pytest.raises(InputError, match="with the geometry of its volume, found none"):
        prepare(files, volume, tmp_path)


def test_surfaces_of_someone_else(files, volume, tmp_path):
    coords, faces = nib.freesurfer.read_geometry(files["rh", "pial"])
    nib.freesurfer.write_geometry(
        files["rh", "pial"], coords[:-1], faces[(faces < 10241).all(axis=1)], volume_info=footer()
    )
    with pytest.raises(InputError, match=r"the 10242 vertices of .*rh.white, found 10241"):
        prepare(files, volume, tmp_path)


def test_a_volume_elsewhere(files, tmp_path):
    path = tmp_path / "far.nii.gz"
    far = nib.affines.from_matvec(np.eye(3), [500, 500, 500])
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.float32), far), path)
    with pytest.raises(InputError, match="expected cortex in the volume, found none"):
        prepare(files, path, tmp_path)
