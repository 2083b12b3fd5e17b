import nibabel as nib
import numpy as np
import pytest
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from nsdldm.nsd.surfaces import write_patch
from nsdldm.plots.cortex import (
    Hemisphere,
    drop_bridges,
    face_inflated,
    look,
    orient_flat,
    paint,
    read_hemisphere,
    show_field,
    smooth_regions,
    sulcal_grey,
)
from nsdldm.support.errors import InputError


def make_sheet(n=21, hemi="lh", spacing=2.0):
    """A flat cortex of n x n vertices in the plane of the anterior and superior axes."""
    columns, rows = np.meshgrid(np.arange(n), np.arange(n))
    place = spacing * np.column_stack([columns.ravel(), rows.ravel()]).astype(float)
    start = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    a, b, c, d = start, start + 1, start + n, start + n + 1
    faces = np.concatenate([np.column_stack([a, b, d]), np.column_stack([a, d, c])])
    outward = -1 if hemi == "lh" else 1
    # Seen from outside, right is posterior in the left hemisphere.
    white = np.column_stack([np.full(n * n, outward * 50.0), outward * place[:, 0], place[:, 1]])
    vertices = np.arange(n * n)
    sulc = np.linspace(-1, 1, n * n)
    return Hemisphere(hemi, white, white, faces, sulc, place, faces, vertices)


@pytest.mark.parametrize("hemi", ["lh", "rh"])
@pytest.mark.parametrize("mirror", [1, -1])
@pytest.mark.parametrize("angle", [0.3, 2.0, -2.9])
def test_flat_maps_are_turned_to_anterior_outwards(hemi, mirror, angle):
    sheet = make_sheet(hemi=hemi)
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    given = (sheet.flat * [mirror, 1]) @ turn + 7
    turned = orient_flat(given, sheet.faces, sheet.white, hemi)
    np.testing.assert_allclose(turned, sheet.flat - sheet.flat.mean(axis=0), atol=1e-9)


@pytest.mark.parametrize(
    ("hemi", "side", "right", "near"),
    [
        ("lh", "lateral", "posterior", "left"),
        ("lh", "medial", "anterior", "right"),
        ("rh", "lateral", "anterior", "right"),
        ("rh", "medial", "posterior", "left"),
    ],
)
def test_inflated_views_are_those_of_the_textbook(hemi, side, right, near):
    places = {"left": [-1, 0, 0], "right": [1, 0, 0], "anterior": [0, 1, 0]}
    places |= {"posterior": [0, -1, 0], "superior": [0, 0, 1]}
    turned = face_inflated(np.array(list(places.values())), hemi, side)
    turned = dict(zip(places, turned, strict=True))
    np.testing.assert_array_equal(turned[right], [1, 0, 0])
    np.testing.assert_array_equal(turned["superior"], [0, 1, 0])
    np.testing.assert_array_equal(turned[near], [0, 0, 1])


def test_only_triangles_across_a_cut_are_dropped():
    white = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0.0]])
    flat = white[:, :2] * 1.5
    flat[3] += 20
    faces = np.array([[0, 1, 2], [1, 3, 2]])
    np.testing.assert_array_equal(drop_bridges(flat, faces, white), [[0, 1, 2]])


def test_paint_gives_the_colours_of_the_scale_and_greys_elsewhere():
    sheet = make_sheet()
    view = look(sheet, "flat", (60, 80), 1.0)
    values = np.where(sheet.flat[:, 0] > 20, 0.25, np.nan)
    colours = ScalarMappable(Normalize(0, 0.5), "inferno")
    image = paint(view, sheet.sulc, values, colours)
    assert image.shape == (60, 80, 4)
    assert (image[0, :, 3] == 0).all() and (image[:, 0, 3] == 0).all()
    wanted = np.rint(np.array(colours.to_rgba(0.25)[:3]) * 255)
    assert (np.abs(image[30, 45:58, :3] - wanted) <= 1).all()
    grey = image[30, 22:36, :3].astype(int)
    assert (np.ptp(grey, axis=1) == 0).all() and (grey > 150).all()
    # The edge lies half way between the last vertex without and the first with a value.
    assert set(np.unique(image[30, 22:40, :3].std(axis=1) == 0)) == {True}
    assert image[30, 41:58, :3].std(axis=1).min() > 20


def test_what_is_not_shown_lends_nothing():
    sheet = make_sheet()
    view = look(sheet, "flat", (60, 80), 1.0)
    colours = ScalarMappable(Normalize(0, 0.5), "inferno")
    nothing = paint(view, sheet.sulc, np.full(441, np.nan), colours)
    assert np.ptp(nothing[..., :3].astype(int), axis=2).max() == 0


def test_gyri_are_lighter_than_sulci_in_any_unit():
    depth = np.array([-2, -1, 0, 1, 2.0])
    grey = sulcal_grey(depth)
    assert (np.diff(grey) < 0).all() and grey.min() > 0.7 and grey.max() < 0.95
    np.testing.assert_allclose(sulcal_grey(10 * depth), grey)


@pytest.mark.parametrize("panel", ["flat", "lateral", "medial"])
def test_every_panel_shows_the_field_where_it_is(panel):
    sheet = make_sheet()
    image = show_field(look(sheet, panel, (60, 80), 1.0), sheet.white[:, 1])
    known = np.isfinite(image)
    assert np.isclose(known.sum(), 40 * 40, rtol=0.06)
    steps = np.diff(image[30, known[30]])
    # Anterior, the field's upper end, is on the left unless seen from the midline.
    np.testing.assert_allclose(steps, 1 if panel == "medial" else -1, atol=1e-3)


def test_smoothing_keeps_regions_and_drops_crumbs_and_holes():
    sheet = make_sheet(n=41, spacing=1.0)
    x, y = sheet.flat.T
    disc = np.hypot(x - 20, y - 20) < 12
    region = disc & ~((x == 20) & (y == 20)) | ((x > 36) & (y > 37))
    region |= (x == 2) & (y == 2)
    smooth = smooth_regions(sheet, {"a": region, "none": np.zeros(len(x), bool)})
    drawn = smooth["a"] > 0.5
    assert not (smooth["none"] > 0.5).any()
    assert np.mean(drawn == disc) > 0.97
    assert drawn[(x == 20) & (y == 20)].all() and not drawn[x > 36].any()


def write_surfaces(folder, sheet):
    paths = {name: folder / f"{sheet.name}.{name}" for name in ("white", "inflated", "sulc")}
    nib.freesurfer.write_geometry(paths["white"], sheet.white, sheet.faces)
    nib.freesurfer.write_geometry(paths["inflated"], sheet.inflated, sheet.faces)
    nib.freesurfer.write_morph_data(paths["sulc"], sheet.sulc)
    paths["flat"] = folder / f"{sheet.name}.full.flat.patch.3d"
    flat = np.column_stack([sheet.flat, np.zeros(len(sheet.flat))])
    write_patch(paths["flat"], sheet.flat_vertices, flat, np.zeros(len(flat), bool))
    return paths


def test_surfaces_are_read_from_files(tmp_path):
    sheet = make_sheet()
    found = read_hemisphere("lh", write_surfaces(tmp_path, sheet))
    np.testing.assert_allclose(found.flat, sheet.flat - sheet.flat.mean(axis=0), atol=1e-4)
    np.testing.assert_array_equal(found.flat_faces, sheet.faces)
    np.testing.assert_allclose(found.sulc, sheet.sulc, atol=1e-6)


def test_files_of_different_subjects_are_refused(tmp_path):
    paths = write_surfaces(tmp_path, make_sheet())
    nib.freesurfer.write_morph_data(paths["sulc"], np.zeros(10))
    with pytest.raises(InputError, match="441 vertices"):
        read_hemisphere("lh", paths)
