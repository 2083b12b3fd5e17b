import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nsd_files import GRID, STREAMS, make_atlas, write_nifti

from nsdldm.nsd.labels import find_labels, parse_roi, read_label_table
from nsdldm.nsd.rois import make_masks
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_volume

WORDS = st.text(st.characters(codec="ascii", exclude_categories=["C", "Z"]), min_size=1)


@pytest.fixture
def release(tmp_path):
    """Two atlases on one grid, as keywords of make_masks."""
    write_nifti(tmp_path / "streams.nii.gz", make_atlas())
    (tmp_path / "streams.mgz.ctab").write_text(STREAMS)
    volume = np.zeros(GRID, "i2")
    volume[1, 1, 1] = 2
    write_nifti(tmp_path / "thalamus.nii.gz", volume)
    (tmp_path / "thalamus.mgz.ctab").write_text("0 Unknown\n1 dLGN\n2 pulvinar\n")
    names = "streams", "thalamus"
    return {
        "atlases": {name: tmp_path / f"{name}.nii.gz" for name in names},
        "tables": {name: tmp_path / f"{name}.mgz.ctab" for name in names},
    }


def make(release, tmp_path, parts, **options):
    """The mask of one region as stored."""
    output = tmp_path / "masks/region.nii.gz"
    make_masks(**release, rois={"region": parts}, outputs={"region": output}, **options)
    return load_volume(output)


def test_label_table_with_tabs_blanks_colours_and_comments(tmp_path):
    table = "# Kastner\n0 Unknown\n1 V1v\t    \n\n 25\tFEF  10 20 30 0\n"
    (tmp_path / "a.ctab").write_text(table)
    assert read_label_table(tmp_path / "a.ctab") == {0: "Unknown", 1: "V1v", 25: "FEF"}


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 400), WORDS, min_size=1), st.sampled_from([" ", "\t", "  "]))
def test_label_table_round_trip(tmp_path_factory, labels, blank):
    path = tmp_path_factory.mktemp("labels") / "a.ctab"
    path.write_text("".join(f"{number}{blank}{name}{blank}\n" for number, name in labels.items()))
    assert read_label_table(path) == labels


@pytest.mark.parametrize("text", ["early 1\n", "1\n", "1 early\n1 late\n"])
def test_damaged_label_table_is_named(tmp_path, text):
    (tmp_path / "a.ctab").write_text(text)
    with pytest.raises(InputError, match=r"a\.ctab: expected a label table.*in line [12]\."):
        read_label_table(tmp_path / "a.ctab")
    with pytest.raises(InputError, match=r"b\.ctab.*no such file"):
        read_label_table(tmp_path / "b.ctab")


def test_region_is_taken_apart():
    parts = ["streams:early", "prf-visualrois:V1v", "HCP_MMP1:72"]
    pairs = [("streams", "early"), ("prf-visualrois", "V1v"), ("HCP_MMP1", "72")]
    assert parse_roi("region", parts) == pairs


@pytest.mark.parametrize("parts", [["early"], ["streams:"], [":early"], ["a:b:c"], []])
def test_region_of_another_form_is_refused(parts):
    with pytest.raises(InputError, match=r"`rois`\.region: expected atlas:label"):
        parse_roi("region", parts)


def test_label_by_name_number_and_ribbon():
    labels = {0: "Unknown", 7: "early", 72: "10d"}
    found = [find_labels(each, labels, "region", "a.ctab") for each in ("early", "72", "ribbon")]
    assert found == [[7], [72], None]


@pytest.mark.parametrize("label", ["earli", "9", "Early"])
def test_label_that_the_table_lacks_is_named_with_those_it_has(release, tmp_path, label):
    with pytest.raises(InputError) as caught:
        make(release, tmp_path, [f"streams:{label}"])
    message = str(caught.value)
    assert "streams.mgz.ctab" in message
    assert repr(label) in message
    assert "0 Unknown, 1 early, 2 midventral" in message
    assert not (tmp_path / "masks/region.nii.gz").exists()


@pytest.mark.parametrize(
    "parts, expected",
    [
        (["streams:early"], lambda atlas: atlas == 1),
        (["streams:5"], lambda atlas: atlas == 5),
        (["streams:early", "streams:ventral"], lambda atlas: (atlas == 1) | (atlas == 5)),
        (["streams:ribbon"], lambda atlas: atlas != -1),
        (["streams:Unknown"], lambda atlas: atlas == 0),
    ],
)
def test_mask_is_where_the_atlas_says(release, tmp_path, parts, expected):
    mask, affine = make(release, tmp_path, parts)
    np.testing.assert_array_equal(mask, expected(make_atlas()))
    assert mask.dtype == np.uint8
    np.testing.assert_allclose(np.diag(affine), [1.8, 1.8, 1.8, 1], rtol=1e-6)
    np.testing.assert_allclose(affine[:3, 3], [-2.7, -3.6, -1.8], rtol=1e-6)


def test_a_name_that_a_table_lists_twice_means_both_numbers(release, tmp_path):
    """As where left and right are numbered apart; by number each alone can be had."""
    release["tables"]["streams"].write_text("0 Unknown\n1 V1\n2 V2\n3 V1\n4 V2\n5 V3\n")
    atlas = make_atlas()
    mask, _ = make(release, tmp_path, ["streams:V1"])
    np.testing.assert_array_equal(mask, (atlas == 1) | (atlas == 3))
    mask, _ = make(release, tmp_path, ["streams:3"])
    np.testing.assert_array_equal(mask, atlas == 3)


def test_numbers_ribbon_and_all_without_any_table(release, tmp_path):
    release["tables"] = {}
    atlas = make_atlas()
    for label, expected in {"1": atlas == 1, "all": atlas > 0, "ribbon": atlas >= 0}.items():
        mask, _ = make(release, tmp_path, [f"streams:{label}"])
        np.testing.assert_array_equal(mask, expected)
    with pytest.raises(InputError, match=r"`rois`\.region: expected the number.*found 'early'"):
        make(release, tmp_path, ["streams:early"])


def test_union_over_atlases(release, tmp_path):
    mask, _ = make(release, tmp_path, ["streams:early", "thalamus:pulvinar"])
    expected = make_atlas() == 1
    expected[1, 1, 1] = True
    np.testing.assert_array_equal(mask, expected)


def test_part_without_voxels_is_logged(release, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        mask, _ = make(release, tmp_path, ["thalamus:dLGN", "streams:early"])
    assert "no voxel of thalamus:dLGN" in caplog.text
    np.testing.assert_array_equal(mask, make_atlas() == 1)


def test_empty_region_is_refused(release, tmp_path):
    with pytest.raises(InputError, match=r"thalamus\.nii\.gz: expected voxels of thalamus:dLGN"):
        make(release, tmp_path, ["thalamus:dLGN"])


def test_atlas_without_ribbon_is_refused(release, tmp_path):
    with pytest.raises(InputError, match=r"thalamus\.nii\.gz: expected a cortical ribbon"):
        make(release, tmp_path, ["thalamus:ribbon"])


def test_voxels_below_the_least_ncsnr_or_without_one_are_left_out(release, tmp_path):
    ncsnr = np.random.default_rng(0).uniform(0, 1, GRID).astype("f4")
    ncsnr[make_atlas() == 1] = np.nan
    write_nifti(tmp_path / "ncsnr.nii.gz", ncsnr)
    options = {"ncsnr": tmp_path / "ncsnr.nii.gz", "min_ncsnr": 0.5}
    mask, _ = make(release, tmp_path, ["streams:ribbon"], **options)
    atlas = make_atlas()
    expected = (atlas >= 0) & (atlas != 1) & (np.nan_to_num(ncsnr) >= 0.5)
    assert 0 < expected.sum() < (atlas >= 0).sum()
    np.testing.assert_array_equal(mask, expected)
    with pytest.raises(InputError, match=r"ncsnr\.nii\.gz.*of at least 0.5.*Lower `min_ncsnr`"):
        make(release, tmp_path, ["streams:early"], **options)


def test_volumes_on_other_grids_are_all_named(release, tmp_path):
    write_nifti(tmp_path / "thalamus.nii.gz", np.zeros((4, 5, 4), "i2"))
    write_nifti(tmp_path / "ncsnr.nii.gz", np.ones((5, 5, 3), "f4"))
    with pytest.raises(InputError) as caught:
        make(release, tmp_path, ["streams:1"], ncsnr=tmp_path / "ncsnr.nii.gz", min_ncsnr=0.1)
    wrong = [finding.where.rpartition("/")[2] for finding in caught.value.findings]
    assert wrong == ["thalamus.nii.gz", "ncsnr.nii.gz"]
    assert "(4, 5, 3)" in str(caught.value)
    assert "(5, 5, 3)" in str(caught.value)


def test_damaged_and_missing_atlases_are_named(release, tmp_path):
    path = release["atlases"]["streams"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"streams\.nii\.gz.*cannot be read"):
        make(release, tmp_path, ["streams:early"])
    path.unlink()
    with pytest.raises(InputError, match=r"streams\.nii\.gz.*no such file"):
        make(release, tmp_path, ["streams:early"])
    write_nifti(path, np.zeros((*GRID, 2), "i2"))
    with pytest.raises(InputError, match=r"streams\.nii\.gz: expected three dimensions"):
        make(release, tmp_path, ["streams:early"])
