import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb
from PIL import Image

from nsdldm.encoding.summary import MAPS
from nsdldm.nsd.surfaces import write_patch
from nsdldm.plots import cortex, fig6
from nsdldm.support.files import load_table, save_table, save_volume

SHAPE = (24, 30, 20)
FEATURES = ("z", "c", "zc")
TITLES = ("Image latent $z$", "Caption embedding $c$", "Denoised latent $z_c$")


def make_ball(levels=3):
    """A ball of 20 * 4 ** levels triangles that turn outwards."""
    golden = (1 + 5**0.5) / 2
    corners = np.array([(0, y, z) for y in (-1, 1) for z in (-golden, golden)])
    coords = np.concatenate([np.roll(corners, axis, axis=1) for axis in range(3)])
    gaps = np.linalg.norm(coords[:, None] - coords, axis=2)
    near = np.isclose(gaps, 2)
    faces = [
        (i, j, k)
        for i in range(12)
        for j in range(i)
        for k in range(j)
        if near[i, j] and near[j, k] and near[i, k]
    ]
    faces = np.array(faces)
    for _ in range(levels):
        edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        edges, number = np.unique(edges, axis=0, return_inverse=True)
        ab, bc, ca = (len(coords) + number.reshape(-1, 3)).T
        coords = np.concatenate([coords, coords[edges].mean(axis=1)])
        a, b, c = faces.T
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        faces = np.concatenate([np.column_stack(part) for part in parts])
    coords /= np.linalg.norm(coords, axis=1, keepdims=True)
    p, q, r = (coords[faces[:, corner]] for corner in range(3))
    inwards = np.einsum("ij,ij->i", np.cross(q - p, r - p), p) < 0
    faces[inwards] = faces[inwards][:, ::-1]
    return coords, faces


def write_hemisphere(folder, hemi):
    """Surfaces and transforms of a hemisphere that is an ellipsoid in a grid of 5 mm voxels."""
    ball, faces = make_ball()
    outward = -1 if hemi == "lh" else 1
    white = ball * [22, 60, 40] + [outward * 28, 0, 0]
    paths = {name: folder / f"{hemi}.{name}" for name in ("white", "inflated", "sulc", "flat")}
    nib.freesurfer.write_geometry(paths["white"], white, faces)
    nib.freesurfer.write_geometry(paths["inflated"], ball * [30, 80, 55], faces)
    nib.freesurfer.write_morph_data(paths["sulc"], np.sin(8 * ball[:, 2]).astype(np.float32))
    # Flattened around its lateral pole, without what lies near the midline.
    kept = np.nonzero(ball[:, 0] * outward > -0.5)[0]
    y, z = ball[kept, 1], ball[kept, 2]
    reach = np.arccos(np.clip(ball[kept, 0] * outward, -1, 1)) / np.maximum(np.hypot(y, z), 1e-9)
    flat = np.column_stack([outward * y * reach, z * reach, 0 * y]) * 50
    write_patch(paths["flat"], kept, flat, np.zeros(len(kept), bool))
    transforms = []
    for layer, depth in (("B1", 1.04), ("B2", 1.0), ("B3", 0.96)):
        places = ball * depth * [22, 60, 40] + [outward * 28, 0, 0]
        voxels = places / 5 + (np.array(SHAPE) - 1) / 2 + 1
        path = folder / f"{hemi}.func1pt8-to-layer{layer}.mgz"
        nib.save(nib.MGHImage(voxels.astype(np.float32)[:, None, None], np.eye(4)), path)
        transforms.append(path)
    return paths, transforms


def write_encoding(folder, feature, r, significant, cortex):
    maps = {name: np.full(SHAPE, np.nan) for name in MAPS}
    maps["r"][cortex], maps["significant"][cortex] = r[cortex], significant[cortex]
    maps["ceiling"][cortex], maps["ncsnr"][cortex] = 0.5, 0.4
    stacked = np.stack([maps[name] for name in MAPS], axis=-1).astype(np.float32)
    save_volume(folder / f"{feature}.nii.gz", stacked, np.eye(4))
    table = dict(zip("ijk", np.nonzero(cortex), strict=True))
    table |= {name: values[cortex] for name, values in maps.items()}
    save_table(folder / f"{feature}.tsv", pd.DataFrame(table))


def write_subject(folder, reach=4):
    """A subject whose voxels in the posterior `reach` planes are significant, r rising with i."""
    written = {hemi: write_hemisphere(folder, hemi) for hemi in ("lh", "rh")}
    i, j, k = np.indices(SHAPE)
    ribbon = (i > 0) & (i < SHAPE[0] - 1)
    regions = {"cortex": ribbon, "early": ribbon & (j < 9), "high": ribbon & (k > 13) & (j > 9)}
    for name, region in regions.items():
        save_volume(folder / f"mask_{name}.nii.gz", region, np.eye(4))
    for feature in FEATURES:
        write_encoding(folder, feature, i / 100, j < reach, ribbon)
    return {
        "subject": "subj01",
        "maps": {name: folder / f"{name}.nii.gz" for name in FEATURES},
        "tables": {name: folder / f"{name}.tsv" for name in FEATURES},
        "anatomy": cortex.Anatomy(
            masks={name: folder / f"mask_{name}.nii.gz" for name in regions},
            transforms={hemi: transforms for hemi, (_, transforms) in written.items()},
            surfaces={hemi: paths for hemi, (paths, _) in written.items()},
        ),
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Folder of the outputs of one run, and its figure."""
    folder = tmp_path_factory.mktemp("fig6")
    figures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cortex, "SUPERSAMPLING", 1)  # for speed
        save = fig6.save_figure
        patch.setattr(fig6, "save_figure", lambda p, f: figures.append(f) or save(p, f))
        outputs = {suffix: folder / f"fig6.{suffix}" for suffix in ("png", "pdf", "tsv")}
        fig6.plot_fig6(**write_subject(folder, reach=9), demo=True, **outputs)
    return folder, figures[0]


def all_texts(figure):
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    labels = [label for axes in figure.axes for label in axes.get_xticklabels() if axes.axison]
    return texts + labels + [axes.xaxis.label for axes in figure.axes]


def test_the_figure_is_a_journal_figure(drawn):
    folder, figure = drawn
    with Image.open(folder / "fig6.png") as image:
        assert image.size[0] == 2126
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    texts = [text for text in all_texts(figure) if text.get_text()]
    assert min(text.get_size() for text in texts) >= 6
    figure.canvas.draw()  # at its own resolution, after the PDF at another
    width, height = figure.canvas.get_width_height()
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height


def test_the_figure_says_what_it_shows(drawn):
    _, figure = drawn
    words = [text.get_text() for text in all_texts(figure)]
    for wanted in ("subj01 – simulated data (demo)", "L", "R", "early", "high", *TITLES):
        assert words.count(wanted) == 1, wanted
    cortex, significant = 22 * 30 * 20, 22 * 9 * 20
    assert words.count(f"{significant:,} of {cortex:,} voxels significant") == len(FEATURES)
    # Three rows of six panels, and one colour bar for all.
    assert len(figure.axes) == 19


def test_colours_are_where_voxels_are_significant(drawn):
    _, figure = drawn
    images = [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]
    assert len(images) == 18
    for number in range(3):
        flat = images[number].astype(int)
        coloured = (np.ptp(flat[..., :3], axis=2) > 20) & (flat[..., 3] == 255)
        known = np.nonzero(flat[..., 3].any(axis=0))[0]
        # Posterior, the significant third, is at the inner edge of the left hemisphere's map.
        middle = (known[0] + known[-1]) // 2
        assert coloured[:, middle:].any() and not coloured[:, :middle].any()


def lightness(colour):
    """L* of the CIE, from sRGB."""
    light = np.array(to_rgb(colour))
    light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    luminance = light @ [0.2126, 0.7152, 0.0722]
    small = luminance <= 216 / 24389
    return luminance * 24389 / 27 if small else 116 * np.cbrt(luminance) - 16


def test_outlines_are_darker_than_every_colour_of_the_scale(drawn):
    _, figure = drawn
    (bar,) = (each for each in figure.axes[-1].collections if isinstance(each, QuadMesh))
    colours = bar.cmap(np.linspace(0, 1, 20))
    lines = [each for axes in figure.axes[:18] for each in axes.collections]
    outline = lightness(lines[0].get_color()[0][:3])
    values = [lightness(colour[:3]) for colour in colours]
    assert (np.diff(values) > 0).all() and min(values) > outline + 15


def test_values_of_vertices_are_r_and_only_where_significant(tmp_path):
    given = write_subject(tmp_path)
    transforms = given["anatomy"].transforms
    values = fig6._project_map(given["maps"]["z"], transforms)
    for hemi, layers in transforms.items():
        place = nib.load(layers[1]).get_fdata().reshape(-1, 3) - 1
        nearest = np.rint(place).astype(int)
        inside = (nearest[:, 0] > 1) & (nearest[:, 0] < SHAPE[0] - 2)
        shown = np.isfinite(values[hemi])
        np.testing.assert_array_equal(shown[inside], nearest[inside, 1] < 4)
        some = inside & shown
        assert some.sum() > 20
        # r is linear in i, and the three depths lie evenly around the middle one.
        np.testing.assert_allclose(values[hemi][some], place[some, 0] / 100, atol=1e-5)


def test_the_table_has_a_row_a_feature_and_region(drawn):
    table = load_table(drawn[0] / "fig6.tsv")
    columns = "subject feature roi median_r median_ceiling n_voxels share_significant"
    assert list(table.columns) == columns.split()
    assert len(table) == 9
    early = table.set_index(["feature", "roi"]).loc[("c", "early")]
    assert early["n_voxels"] == 22 * 9 * 20 and early["share_significant"] == 1
    assert early["median_r"] == pytest.approx(0.115)


def test_a_subject_without_significant_voxels_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(cortex, "SUPERSAMPLING", 1)
    given = write_subject(tmp_path, reach=0)
    given["maps"] = {"z": given["maps"]["z"]}
    outputs = {suffix: tmp_path / f"fig6.{suffix}" for suffix in ("png", "pdf", "tsv")}
    fig6.plot_fig6(**given, demo=False, **outputs)
    assert all(path.stat().st_size for path in outputs.values())
