from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from nsdldm.demo import anatomy
from nsdldm.demo.atlases import DRAWN, LABELS, STREAMS
from nsdldm.nsd.layout import HEMISPHERES, SUBJECTS

SEED = 7
TEMPLATE = {
    name: anatomy.load_fsaverage("fsaverage5")[key].parts for name, key in anatomy.MESHES.items()
}


@pytest.fixture(scope="module")
def hemispheres():
    return anatomy.build_hemispheres("subj01", SEED)


def white_of(hemi):
    return TEMPLATE["white"][anatomy.SIDES[hemi]].coordinates


@pytest.mark.parametrize("hemi", HEMISPHERES)
@pytest.mark.parametrize(
    ("region", "place"),
    [
        ("early", (-10, -88, 0)),
        ("midventral", (-30, -82, -12)),
        ("midlateral", (-34, -88, 2)),
        ("midparietal", (-24, -78, 30)),
        ("ventral", (-38, -50, -20)),
        ("lateral", (-48, -70, 4)),
        ("parietal", (-26, -62, 50)),
    ],
)
def test_regions_lie_where_they_should(hemispheres, hemi, region, place):
    mirrored = np.array(place) * [1 if hemi == "lh" else -1, 1, 1]
    vertex = np.argmin(((white_of(hemi) - mirrored) ** 2).sum(axis=1))
    assert hemispheres[hemi].labels["streams"][vertex] == anatomy.STREAMS[region]


@pytest.mark.parametrize("hemi", HEMISPHERES)
@pytest.mark.parametrize(
    ("atlas", "label", "place"),
    [
        ("floc-bodies", "EBA", (-47, -74, 4)),
        ("floc-bodies", "FBA-1", (-42, -58, -16)),
        ("floc-faces", "FFA-2", (-41, -50, -20)),
        ("floc-faces", "aTL-faces", (-34, -10, -34)),
        ("floc-places", "OPA", (-32, -84, 22)),
        ("floc-places", "PPA", (-26, -46, -10)),
        ("floc-words", "VWFA-1", (-46, -62, -12)),
    ],
)
def test_patches_lie_where_localisers_find_them(hemispheres, hemi, atlas, label, place):
    mirrored = np.array(place) * [1 if hemi == "lh" else -1, 1, 1]
    vertex = np.argmin(((white_of(hemi) - mirrored) ** 2).sum(axis=1))
    assert hemispheres[hemi].labels[atlas][vertex] == LABELS[atlas][label]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_label_is_lost_on_the_grid(subject):
    hemispheres = anatomy.build_hemispheres(subject, SEED)
    grid = anatomy.make_grid(hemispheres)
    for hemisphere in hemispheres.values():
        for atlas in DRAWN:
            volume = anatomy.label_voxels(hemisphere, grid, atlas)
            found = np.bincount(volume.clip(0).ravel())
            assert len(found) == 1 + len(LABELS[atlas])
            assert found.min() >= 3, atlas


@pytest.mark.parametrize("hemi", HEMISPHERES)
def test_visual_areas_divide_early_cortex(hemispheres, hemi):
    hemisphere = hemispheres[hemi]
    areas, streams = hemisphere.labels["prf-visualrois"], hemisphere.labels["streams"]
    assert np.array_equal(np.isin(areas, range(1, 7)), streams == STREAMS["early"])
    assert np.array_equal(areas == 7, streams == STREAMS["midventral"])
    names = {number: name for name, number in LABELS["prf-visualrois"].items()}
    up = hemisphere.field[:, 1]
    for number in range(1, 7):
        # The ventral part of each area sees the upper half of the field.
        above = up[areas == number] * (1 if names[number].endswith("v") else -1)
        assert above.min() >= 0
        assert above.max() > 0.5


@pytest.mark.parametrize("hemi", HEMISPHERES)
def test_frontal_control_is_far_from_visual_cortex(hemispheres, hemi):
    labels, white = hemispheres[hemi].labels, white_of(hemi)
    frontal, visual = labels["control"] == 1, labels["streams"] > 0
    assert not (frontal & visual).any()
    assert cKDTree(white[frontal]).query(white[visual])[0].min() > 10
    assert np.array_equal(labels["nsdgeneral"], visual)


@pytest.mark.parametrize("hemi", HEMISPHERES)
def test_each_region_is_in_one_piece(hemispheres, hemi):
    faces, streams = hemispheres[hemi].faces, hemispheres[hemi].labels["streams"]
    edges = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    edges = edges[streams[edges[:, 0]] == streams[edges[:, 1]]].T
    graph = coo_array((np.ones(edges.shape[1]), edges), shape=(len(streams), len(streams)))
    pieces = connected_components(graph, directed=False)[1]
    for label in anatomy.STREAMS.values():
        assert len(np.unique(pieces[streams == label])) == 1


@pytest.mark.parametrize("hemi", HEMISPHERES)
def test_early_cortex_sees_the_opposite_half_of_the_picture(hemispheres, hemi):
    early = hemispheres[hemi].labels["streams"] == 1
    right, up = hemispheres[hemi].field[early].T
    assert ((right if hemi == "lh" else -right) >= 0).all()
    assert np.hypot(right, up).max() <= 4.0
    # Below the calcarine lies the upper field; both halves of it are there.
    white = white_of(hemi)[early]
    below = (white[:, 2] < -3) & (white[:, 1] > -85)
    above = (white[:, 2] > 15) & (white[:, 1] > -85)
    assert below.sum() > 10
    assert above.sum() > 10
    assert (up[below] > 0).mean() > 0.9
    assert (up[above] < 0).mean() > 0.9
    # The periphery is in front.
    eccentricity = np.hypot(right, up)
    assert np.corrcoef(eccentricity, white[:, 1])[0, 1] > 0.7


def test_patch_has_no_face_across_a_cut():
    # Two strips side by side, cut along the middle: vertices 2 and 3 keep their faces on the left.
    coords = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [9, 0, 0], [9, 1, 0]], float)
    whole = np.array([[0, 2, 1], [1, 2, 3], [2, 4, 3], [3, 4, 5]])
    vertices, places, border = anatomy.cut_patch(coords, whole[[0, 1, 3]][:, ::-1], whole)
    assert not {2, 3, 4} <= set(vertices.tolist())
    assert np.array_equal(places, coords[vertices])
    assert border.all()


@pytest.mark.parametrize("hemi", HEMISPHERES)
def test_flattened_cortex_is_whole_and_unfolded(hemispheres, hemi):
    vertices, coords, border = hemispheres[hemi].patch
    position = np.full(len(hemispheres[hemi].field), -1)
    position[vertices] = np.arange(len(vertices))
    faces = position[hemispheres[hemi].faces]
    faces = faces[(faces >= 0).all(axis=1)]
    assert len(faces) > 18_500
    assert np.array_equal(np.unique(faces), np.arange(len(vertices)))
    first, second = (coords[faces[:, k], :2] - coords[faces[:, 0], :2] for k in (1, 2))
    areas = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    assert (np.sign(areas) == np.sign(areas[0])).all()
    flat = anatomy.load_fsaverage("fsaverage5")["flat"].parts[anatomy.SIDES[hemi]].faces
    known = set(map(tuple, np.sort(flat, axis=1).tolist()))
    assert set(map(tuple, np.sort(vertices[faces], axis=1).tolist())) <= known
    assert 200 < border.sum() < 600
    assert (coords[:, 2] == 0).all()


def test_grid_holds_the_brain_and_differs_between_subjects():
    shapes = set()
    for subject in SUBJECTS[::2]:
        hemispheres = anatomy.build_hemispheres(subject, SEED)
        grid = anatomy.make_grid(hemispheres)
        shapes.add(grid.shape)
        assert np.prod(grid.shape) <= 40_000
        for hemisphere in hemispheres.values():
            places = grid.locate(hemisphere.surfaces["pial"])
            assert (places >= 0.5).all()
            assert (places <= np.array(grid.shape) - 1.5).all()
    assert len(shapes) >= 3


def test_grid_is_centred():
    grid = anatomy.Grid((5, 4, 3), 2.0, np.array([10.0, 20.0, 30.0]))
    assert np.array_equal(grid.locate(np.array([10.0, 20.0, 30.0])), [2.0, 1.5, 1.0])
    assert np.array_equal(grid.locate(np.array([12.0, 17.0, 30.0])), [3.0, 0.0, 1.0])


def test_depths_lie_between_pial_and_white(hemispheres):
    surfaces = hemispheres["lh"].surfaces
    thickness = np.linalg.norm(surfaces["pial"] - surfaces["white"], axis=1)
    for layer, depth in (("layerB1", 0.25), ("layerB2", 0.5), ("layerB3", 0.75)):
        below = np.linalg.norm(surfaces["pial"] - surfaces[layer], axis=1)
        assert np.allclose(below, depth * thickness, atol=1e-4)


def tiny_hemisphere(places, labels, field):
    layers = dict.fromkeys(("layerB1", "layerB2", "layerB3"), np.array(places, float))
    return SimpleNamespace(
        surfaces=layers, labels={"streams": np.array(labels)}, field=np.array(field, float)
    )


def test_voxels_take_the_commonest_label_and_the_mean_position():
    grid = anatomy.Grid((3, 1, 1), 1.0, np.zeros(3))
    hemisphere = tiny_hemisphere(
        [(-1, 0, 0), (-0.9, 0, 0), (-1.1, 0.1, 0), (0, 0, 0.2)],
        [1, 1, 2, 0],
        [(1, 2), (3, 4), (50, 50), (60, 60)],
    )
    assert anatomy.label_voxels(hemisphere, grid, "streams").ravel().tolist() == [1, 0, -1]
    nothing = tiny_hemisphere([(0, 0, 0)], [0], [(0, 0)])
    fields = anatomy.locate_fields({"lh": hemisphere, "rh": nothing}, grid)
    assert np.array_equal(fields[0, 0, 0], [2, 3])
    assert np.isnan(fields[1:]).all()


def test_left_hemisphere_has_priority():
    left, right = np.array([-1, -1, 0, 2]), np.array([-1, 3, 4, 5])
    assert anatomy.combine_hemispheres(left, right).tolist() == [-1, 3, 0, 2]


def test_brainmask_encloses_the_cortex():
    ribbon = np.zeros((9, 9, 9), bool)
    ribbon[2:7, 2:7, 2:7] = True
    hollow = ribbon.copy()
    hollow[3:6, 3:6, 3:6] = False
    mask = anatomy.draw_brainmask(hollow)
    assert mask[ribbon].all()
    assert mask[1, 4, 4]
    assert not mask[0].any()


def test_random_numbers_depend_on_seed_subject_and_purpose_alone():
    def draw(*keys):
        return anatomy.subject_generator(*keys).random()

    assert draw(1, "subj01", "noise") == draw(1, "subj01", "noise")
    others = {draw(*keys) for keys in [(2, "subj01", "noise"), (1, "subj02", "noise")]}
    assert len(others | {draw(1, "subj01", "noise"), draw(1, "subj01", "shift")}) == 4
