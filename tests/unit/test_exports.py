"""A planted subject's maps in the forms of other tools, and what is refused."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn import plotting, surface
from nsd_files import write_mgh
from test_plots_fig6 import make_ball

from nsdldm.encoding.maps import write_maps
from nsdldm.exports import brains, gifti, group, maps, pycortex
from nsdldm.nsd.surfaces import write_patch
from nsdldm.support import bids
from nsdldm.support.errors import InputError
from nsdldm.support.files import save_volume

SHAPE = (12, 12, 12)
# No vertex is half-way between two voxels.
MIDDLE = np.array([5.31, 5.42, 5.57])
# Vertices of the native hemisphere and of the average brain.
POINTS, FACES = make_ball(4)
N_NATIVE, N_AVERAGE = len(POINTS), 642
KINDS = ("white", "pial", "inflated", "sulc", "flat")
SIDES = {"lh": "L", "rh": "R"}
HEADS = {"lh": "sub-01_task-t_hemi-L", "rh": "sub-01_task-t_hemi-R"}
AVERAGE = "space-fsaverage_den-1k"


def write_hemisphere(folder, hemi, seed):
    """A ball around the middle of the volume: depths, surfaces, a flat half and an index map."""
    rng = np.random.default_rng(seed)
    own = {kind: folder / f"{hemi}.{kind}" for kind in KINDS}
    depths = [folder / f"{hemi}.{number}.mgz" for number in (1, 2, 3)]
    for path, radius in zip(depths, (5.2, 5.0, 4.8), strict=True):
        write_mgh(path, (MIDDLE + radius * POINTS + 1).reshape(-1, 1, 1, 3))
    for kind in KINDS[:3]:
        nib.freesurfer.write_geometry(own[kind], 60 * POINTS, FACES)
    nib.freesurfer.write_morph_data(own["sulc"], POINTS[:, 2].astype("f4"))
    half = np.flatnonzero(POINTS[:, 0] < 0.3)
    flat = np.stack([60 * POINTS[half, 1], 60 * POINTS[half, 2], 0 * half], axis=1)
    write_patch(own["flat"], half, flat.astype("f4"), np.zeros(len(half), bool))
    index = rng.integers(1, N_NATIVE + 1, N_AVERAGE)
    index[7] = N_NATIVE
    write_mgh(folder / f"{hemi}.index.mgz", index.reshape(-1, 1, 1).astype("f4"))
    return depths, own, folder / f"{hemi}.index.mgz"


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """Volumes of random numbers, among them a model of one space and one of two, and blocks."""
    folder, rng = tmp_path_factory.mktemp("subject"), np.random.default_rng(0)
    parts = {hemi: write_hemisphere(folder, hemi, seed) for seed, hemi in enumerate(SIDES)}
    source = brains.Source(*({hemi: part[i] for hemi, part in parts.items()} for i in range(3)))
    masks = {name: folder / f"{name}.nii.gz" for name in ("cortex", "front", "upper")}
    x, y, z = np.indices(SHAPE)
    for name, inside in zip(masks, (x >= 0, y > 7, z > 6), strict=True):
        save_volume(masks[name], inside.astype("u1"), np.eye(4))
    n = np.prod(SHAPE)
    common = {"r": rng.random(n), "r2": rng.random(n), "p": rng.random(n)}
    common |= {"significant": rng.random(n) > 0.5, "ceiling": rng.random(n), "ncsnr": rng.random(n)}
    unique = {"unique_z": rng.random(n), "p_unique_z": rng.random(n)}
    unique |= {"significant_z": rng.random(n) > 0.5, "shared": rng.random(n)}
    best = {"winner": rng.integers(0, 2, n).astype(float), "clear": rng.random(n) > 0.5}
    best |= {"significant": rng.random(n) > 0.2}
    best["winner"][~best["significant"]] = np.nan
    tables = {"zc": common, "z+zc": common | unique, "blocks-s050": best}
    tables = {name: pd.DataFrame(table).astype("f4") for name, table in tables.items()}
    written = {}
    for name, table in tables.items():
        written[name] = folder / f"{name}.nii.gz", folder / f"{name}.tsv"
        write_maps(table, masks["cortex"], *written[name])
    return {"source": source, "masks": masks, "written": written, "tables": tables}


def export(subject, output, **changed):
    given = {
        "subject": "subj01",
        "task": "t",
        "maps": {name: paths[0] for name, paths in subject["written"].items()},
        "tables": {name: paths[1] for name, paths in subject["written"].items()},
        "masks": subject["masks"],
        "layers": {"blocks-s050": ["down", "up"]},
        "source": subject["source"],
        "output": output,
    }
    maps.export_maps(**given | changed)
    return output


@pytest.fixture(scope="module")
def exported(subject, tmp_path_factory):
    return export(subject, tmp_path_factory.mktemp("exported") / "maps")


def read(folder, name):
    return {array.meta["Name"]: array.data for array in nib.load(folder / name).darrays}


def nearest(subject, hemi, name, column):
    """Voxels nearest to mid-depth, by distances to all of them."""
    places = np.asanyarray(nib.load(subject["source"].transforms[hemi][1]).dataobj)[:, 0, 0] - 1
    voxels = np.argwhere(np.ones(SHAPE))
    values = subject["tables"][name][column].to_numpy()
    return np.array([values[np.argmin(((voxels - own) ** 2).sum(axis=1))] for own in places])


@pytest.mark.parametrize("hemi", SIDES)
def test_numbers_are_those_of_an_independent_mapping(subject, exported, hemi):
    rest = "stat-unique_desc-zOfZAndZc_statmap.func.gii"
    native = read(exported, f"{HEADS[hemi]}_space-fsnative_{rest}")
    assert [*native] == ["unique of z", "unique where significant", "p"]
    np.testing.assert_array_equal(native["p"], nearest(subject, hemi, "z+zc", "p_unique_z"))
    shown = nearest(subject, hemi, "z+zc", "significant_z") == 1
    np.testing.assert_array_equal(np.isfinite(native["unique where significant"]), shown)
    index = np.asanyarray(nib.load(subject["source"].averages[hemi]).dataobj).ravel().astype(int)
    average = read(exported, f"{HEADS[hemi]}_{AVERAGE}_{rest}")
    for title, values in native.items():
        np.testing.assert_array_equal(average[title], values[index - 1])


def test_values_are_averaged_over_depths(subject, exported):
    """A ramp comes out as where the vertices are."""
    ramp = MIDDLE[0] + 5 * POINTS[:, 0]
    table = pd.DataFrame({"r": np.indices(SHAPE)[0].ravel(), "p": 0, "significant": 1})
    table = table.assign(ceiling=1, ncsnr=1).astype("f4")
    paths = exported.parent / "ramp.nii.gz", exported.parent / "ramp.tsv"
    write_maps(table, subject["masks"]["cortex"], *paths)
    given = {"maps": {"ramp": paths[0]}, "tables": {"ramp": paths[1]}}
    folder = export(subject, exported.parent / "ramp", **given)
    found = read(folder, f"{HEADS['lh']}_space-fsnative_stat-r_desc-ramp_statmap.func.gii")
    np.testing.assert_allclose(found["r of ramp"], ramp, atol=1e-5)


def test_what_programs_read_beside_values(exported):
    name = f"{HEADS['rh']}_{AVERAGE}_stat-r_desc-zc_statmap"
    image = nib.load(exported / f"{name}.func.gii")
    assert image.meta["AnatomicalStructurePrimary"] == "CortexRight"
    shown = image.darrays[1].data
    highest = [float(array.meta["cal_max"]) for array in image.darrays]
    assert highest[2] == 1 and highest[0] == highest[1] >= np.nanmax(shown) - 1e-5
    assert {(array.intent, array.data.dtype.name) for array in image.darrays} == {(0, "float32")}
    assert f"<UserScaleValues>0 0 0 {highest[0]:g}<" in image.darrays[0].meta["PaletteColorMapping"]
    sidecar = json.loads((exported / f"{name.replace('_hemi-R', '')}.json").read_text())
    assert sidecar["Maps"] == [array.meta["Name"] for array in image.darrays]
    assert sidecar["Density"].startswith("1k") and sidecar["Units"] == "arbitrary"
    assert all((exported / path).is_file() for path in [sidecar["Mask"], *sidecar["Sources"]])
    described = json.loads((exported / "dataset_description.json").read_text())
    assert described["GeneratedBy"][0]["Software"]["nibabel"] == nib.__version__


def test_every_file_has_a_sidecar_and_a_kind(exported):
    stats = {path.name.split("space-fsnative_")[1] for path in exported.glob("*hemi-L*fsnative*")}
    assert stats == {
        *("white.surf.gii", "pial.surf.gii", "inflated.surf.gii"),
        *("desc-regions_dseg.label.gii", "desc-blocksS050_dseg.label.gii"),
        *("stat-r_desc-zc_statmap.func.gii", "stat-r_desc-zAndZc_statmap.func.gii"),
        *("stat-rsquared_desc-zc_statmap.func.gii", "stat-rsquared_desc-zAndZc_statmap.func.gii"),
        *(
            "stat-unique_desc-zOfZAndZc_statmap.func.gii",
            "stat-shared_desc-zAndZc_statmap.func.gii",
        ),
        *("stat-ceiling_statmap.func.gii", "stat-ncsnr_statmap.func.gii"),
    }
    for path in exported.glob("*hemi-*.gii"):
        name = path.name.replace("_hemi-L", "").replace("_hemi-R", "").split(".")[0]
        assert ".surf." in path.name or (exported / f"{name}.json").is_file()


def test_labels_have_names_and_colours(subject, exported):
    name = f"{HEADS['lh']}_space-fsnative_desc-blocksS050_dseg.label.gii"
    labels, image = read(exported, name), nib.load(exported / name)
    assert [label.label for label in image.labeltable.labels] == ["none", "down", "up"]
    assert len({label.rgba for label in image.labeltable.labels}) == 3
    winner = np.nan_to_num(nearest(subject, "lh", "blocks-s050", "winner"), nan=-1) + 1
    clear = nearest(subject, "lh", "blocks-s050", "clear") == 1
    np.testing.assert_array_equal(labels["best"], winner)
    np.testing.assert_array_equal(labels["best where clear"], np.where(clear, winner, 0))
    assert labels["best"].dtype == np.int32 and image.darrays[0].intent == 1002


def test_a_vertex_is_in_the_first_region_that_has_it(exported):
    name = f"{HEADS['lh']}_space-fsnative_desc-regions_dseg.label.gii"
    _, y, z = np.rint(MIDDLE + 5 * POINTS).T
    expected = np.where(y > 7, 1, np.where(z > 6, 2, 0))
    np.testing.assert_array_equal(read(exported, name)["regions"], expected)
    assert nib.load(exported / name).labeltable.get_labels_as_dict()[2] == "upper"


def test_nilearn_opens_and_draws_them(exported):
    mesh, data = (
        {
            part: f"{exported / HEADS[hemi]}_space-fsnative_{name}"
            for hemi, part in (("lh", "left"), ("rh", "right"))
        }
        for name in ("inflated.surf.gii", "stat-r_desc-zc_statmap.func.gii")
    )
    image = surface.SurfaceImage(mesh=mesh, data=data, dtype=np.float32)
    assert image.shape == (2 * N_NATIVE, 3)
    np.testing.assert_allclose(image.mesh.parts["left"].coordinates, 60 * POINTS, atol=1e-4)
    shown = image.data.parts["right"][:, 1]
    np.testing.assert_array_equal(shown, nib.load(data["right"]).darrays[1].data)
    assert "vertexcolor_both" in plotting.view_surf(mesh["right"], shown).html


def test_names_have_letters_and_digits_only():
    names = ["zc-n100", "z+zc-s025-shared", "blocks-s050", "clip_image"]
    words = ["zcN100", "zAndZcS025Shared", "blocksS050", "clipImage"]
    assert [*map(bids.name_space, names)] == words


def test_unique_variance_has_its_own_significance():
    columns = ["r", "p", "significant", "unique_z", "p_unique_z", "unique_z_normalised"]
    assert [tuple(column) for column in maps.find_columns(columns)] == [
        ("r", "r", "significant", "p", ""),
        ("unique_z", "unique", "significant_z", "p_unique_z", "z"),
    ]


def test_an_index_map_of_someone_else_is_refused():
    """Also the right hemisphere's, given both hemispheres (nsdcode issue 29)."""
    index = np.arange(100)
    np.testing.assert_array_equal(brains.carry_over(np.arange(100) * 2, index, "map"), index * 2)
    for n_vertices in (90, 200):
        with pytest.raises(InputError) as error:
            brains.carry_over(np.zeros(n_vertices), index, "lh.white-to-fsaverage.mgz")
        assert f"of the {n_vertices} vertices" in str(error.value)
        assert "found vertices up to 100" in str(error.value)


@pytest.mark.parametrize(
    ("part", "n_vertices", "message"),
    [
        (
            "transforms",
            N_NATIVE + 1,
            f"{N_NATIVE} vertices, as in .*lh.white, found {N_NATIVE + 1}",
        ),
        ("surfaces", 642, f"lh.pial.*{N_NATIVE} vertices, as in .*lh.white, found 642"),
        ("averages", 641, "vertices of a hemisphere of fsaverage, 163842 in full, found 641"),
    ],
)
def test_wrong_numbers_of_vertices_are_refused(subject, tmp_path, part, n_vertices, message):
    path = tmp_path / ("lh.pial" if part == "surfaces" else "lh.mgz")
    own = subject["source"]._asdict()[part]
    if part == "surfaces":
        nib.freesurfer.write_geometry(path, *make_ball(3))
        changed = own | {"lh": own["lh"] | {"pial": path}}
    elif part == "transforms":
        write_mgh(path, np.full((n_vertices, 1, 1, 3), 2.0))
        changed = own | {"lh": [*own["lh"][:2], path]}
    else:
        write_mgh(path, np.full((n_vertices, 1, 1), float(N_NATIVE)))
        changed = own | {"lh": path}
    with pytest.raises(InputError, match=message):
        export(subject, tmp_path / "out", source=subject["source"]._replace(**{part: changed}))


def write_group(folder, n_vertices, r):
    folder.mkdir()
    for hemi, side in SIDES.items():
        name = f"sub-1_task-t_hemi-{side}_space-fsaverage_den-9_stat-r_desc-z_statmap.func.gii"
        shown = np.full(n_vertices, r if r > 0.2 else np.nan)
        values = {"r": np.full(n_vertices, r), "shown": shown}
        gifti.write_values(folder / name, hemi, values, {"r": (0, 1), "shown": (0, 1)})
    return folder


def average(folders, output):
    subjects = [folder.name for folder in folders]
    group.average_maps(subjects=subjects, folders=folders, task="t", spaces=["z"], output=output)


def test_a_group_map_is_a_mean_and_a_count(tmp_path):
    names = ("subj01", 0.1), ("sub-02", 0.5)
    folders = [write_group(tmp_path / name, 9, r) for name, r in names]
    average(folders, tmp_path / "out")
    people = (tmp_path / "out/participants.tsv").read_text().split()
    assert people == ["participant_id", "sub-01", "sub-02"]
    (path,) = (tmp_path / "out").glob("*hemi-R*.gii")
    image = nib.load(path)
    mean, count = (array.data for array in image.darrays)
    assert np.allclose(mean, 0.3) and (count == 1).all()
    assert [array.meta["cal_max"] for array in image.darrays] == ["0.3", "2"]
    (sidecar,) = (tmp_path / "out").glob("task-t_space-fsaverage*.json")
    content = json.loads(sidecar.read_text())
    assert content["Maps"] == ["mean r of z", "subjects of 2"] and len(content["Sources"]) == 4
    assert all((tmp_path / "out" / path).is_file() for path in content["Sources"])


def test_subjects_on_other_densities_are_refused(tmp_path):
    folders = [write_group(tmp_path / name, n, 0.3) for name, n in (("a", 9), ("b", 12))]
    with pytest.raises(
        InputError, match=r"subjects with one density of fsaverage, found \[9, 12\]"
    ):
        average(folders, tmp_path / "out")
    for path in folders[1].glob("*hemi-R*"):
        path.unlink()
    with pytest.raises(InputError, match="Export its maps again"):
        average([folders[1]], tmp_path / "out")


def for_pycortex(subject, exported, output, **changed):
    surfaces = {hemi: own | changed for hemi, own in subject["source"].surfaces.items()}
    pycortex.export_pycortex(subject="subj01", maps=exported, surfaces=surfaces, output=output)
    return output


@pytest.fixture(scope="module")
def database(subject, exported, tmp_path_factory):
    return for_pycortex(subject, exported, tmp_path_factory.mktemp("pycortex"))


def test_flat_maps_are_not_turned(database):
    """As the patch has them; vertices outside it are at 0, and in no triangle."""
    for hemi in SIDES:
        path = database / f"subj01/surfaces/flat_{hemi}.gii"
        flat, faces = (array.data for array in nib.load(path).darrays)
        inside = POINTS[:, 0] < 0.3
        expected = np.stack([60 * POINTS[:, 1], 60 * POINTS[:, 2], 0 * POINTS[:, 0]], axis=1)
        np.testing.assert_allclose(flat, expected * inside[:, None], atol=1e-4)
        kept = {tuple(face) for face in faces}
        assert kept and kept <= {tuple(face) for face in FACES[inside[FACES].all(axis=1)]}


def test_pycortex_opens_it(database):
    cortex = pytest.importorskip("cortex")
    cortex.db.filestore = str(database)
    dataset = cortex.load(str(database / "maps.hdf"))
    view = dataset["stat-r_desc-zc"]
    assert view.data.shape == (2 * N_NATIVE,) and view.vmin == 0 < view.vmax
    assert dataset.get_surf("subj01", "flat", "lh")[0].shape == (N_NATIVE, 3)


def test_files_of_another_hemisphere_are_refused(subject, exported, tmp_path):
    path = tmp_path / "lh.sulc"
    nib.freesurfer.write_morph_data(path, np.zeros(9, "f4"))
    with pytest.raises(InputError, match=f"{N_NATIVE} vertices, as in .*white, found 9"):
        for_pycortex(subject, exported, tmp_path / "a", sulc=path)
    path = tmp_path / "lh.flat"
    write_patch(path, [0, 1, N_NATIVE], np.zeros((3, 3), "f4"), np.zeros(3, bool))
    with pytest.raises(InputError, match=f"vertices below {N_NATIVE}, found {N_NATIVE}"):
        for_pycortex(subject, exported, tmp_path / "b", flat=path)
