"""What exports refuse, and how they name things."""

import nibabel as nib
import numpy as np
import pytest

from nsdldm.exports import gifti, maps
from nsdldm.support.errors import InputError


def test_names_have_letters_and_digits_only():
    names = ["zc-n100", "z+zc-s025-shared", "blocks-s050", "clip_image"]
    assert [*map(maps.name_space, names)] == [
        "zcN100",
        "zAndZcS025Shared",
        "blocksS050",
        "clipImage",
    ]


def test_an_index_map_of_someone_else_is_refused():
    """Also the right hemisphere's, given both hemispheres (nsdcode issue 29)."""
    index = np.arange(100)
    np.testing.assert_array_equal(maps.carry_over(np.arange(100) * 2, index, "map"), index * 2)
    for n_vertices, found in ((90, "up to 100"), (210, "up to 100")):
        with pytest.raises(InputError) as error:
            maps.carry_over(np.zeros(n_vertices), index, "lh.white-to-fsaverage.mgz")
        assert f"of the {n_vertices} vertices" in str(error.value) and found in str(error.value)


def test_unique_variance_has_its_own_significance():
    columns = ["r", "p", "significant", "unique_z", "p_unique_z", "unique_z_normalised"]
    assert list(maps.find_columns(columns)) == [
        ("r", "significant", "p", ""),
        ("unique_z", "significant_z", "p_unique_z", "z"),
    ]


def write_group(folder, n_vertices, r):
    folder.mkdir()
    for hemi, side in (("lh", "L"), ("rh", "R")):
        path = (
            folder
            / f"sub-1_task-t_hemi-{side}_space-fsaverage_den-9_stat-r_desc-z_statmap.func.gii"
        )
        values = {
            "r": np.full(n_vertices, r),
            "shown": np.full(n_vertices, r if r > 0.2 else np.nan),
        }
        gifti.write_values(path, hemi, values, (0, 1))
    return folder


def average(folders, output):
    subjects = [folder.name for folder in folders]
    maps.average_maps(subjects=subjects, folders=folders, task="t", spaces=["z"], output=output)


def test_a_group_map_is_a_mean_and_a_count(tmp_path):
    folders = [write_group(tmp_path / name, 9, r) for name, r in (("a", 0.1), ("b", 0.5))]
    average(folders, tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*hemi-R*.gii")
    mean, count = (array.data for array in nib.load(path).darrays)
    assert np.allclose(mean, 0.3) and (count == 1).all()


def test_subjects_on_other_densities_are_refused(tmp_path):
    folders = [write_group(tmp_path / name, n, 0.3) for name, n in (("a", 9), ("b", 12))]
    with pytest.raises(InputError, match="subjects with one density of fsaverage"):
        average(folders, tmp_path / "out")
    for path in folders[1].glob("*hemi-R*"):
        path.unlink()
    with pytest.raises(InputError, match="Export its maps again"):
        average([folders[1]], tmp_path / "out")
