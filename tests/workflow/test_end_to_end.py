"""The whole workflow on a tiny release read as if it were the real one."""

import re
import struct
import subprocess
import sys

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT, SMALL, plan, run_snakemake, write_config

pytestmark = pytest.mark.slow


@pytest.fixture
def subject():
    return "subj01"


def test_trials_and_images(finished, subject):
    trials = pd.read_csv(finished / f"results/{subject}/trials.tsv", sep="\t")
    images = pd.read_csv(finished / f"results/{subject}/images.tsv", sep="\t")
    assert list(trials.columns) == ["session", "trial", "nsd_id", "repetition", "split"]
    assert len(trials) == 750
    assert set(trials.nsd_id) == set(images.nsd_id)
    assert (images.split == "test").sum() == 40
    counted = trials.nsd_id.value_counts()
    assert (counted[images.nsd_id].to_numpy() == images.n_trials).all()


def test_matrix_is_the_file_in_nifti_order(finished, release, subject):
    """A handful of voxels through h5py, by their NIfTI coordinates."""
    mask = nib.load(finished / f"results/{subject}/masks/early.nii.gz")
    voxels = np.argwhere(np.asanyarray(mask.dataobj) > 0)
    betas = np.load(finished / f"results/{subject}/betas/early.npy", mmap_mode="r")
    assert betas.shape == (750, len(voxels))
    assert betas.dtype == np.float32
    folder = release / f"nsddata_betas/ppdata/{subject}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    with h5py.File(folder / "betas_session01.hdf5") as file:
        for column in range(0, len(voxels), max(1, len(voxels) // 7)):
            x, y, z = voxels[column]
            raw = file["betas"][:, z, y, x]
            expected = raw / 300 if raw.any() else np.full(750, np.nan)
            np.testing.assert_allclose(betas[:, column], expected, rtol=1e-6)


def test_features_cover_the_images(finished, subject):
    n = len(pd.read_csv(finished / f"results/{subject}/images.tsv", sep="\t"))
    for name, shape in {"z": (4, 8, 8), "zc": (4, 8, 8), "c": (24, 96)}.items():
        feature = np.load(finished / f"results/{subject}/features/{name}.npy")
        assert feature.shape == (n, *shape)
        assert np.isfinite(feature).all()
        assert feature.std(0).max() > 0
        with h5py.File(finished / f"results/{subject}/kernels/features.h5") as kernels:
            assert kernels[name].shape == (n, n)


def test_maps_and_tables_agree(finished, subject):
    mask = np.asanyarray(
        nib.load(finished / f"results/{subject}/masks/cortex.nii.gz").dataobj
    ).astype(bool)
    for feature in ("z", "c", "zc"):
        table = pd.read_csv(finished / f"results/{subject}/encoding/{feature}.tsv", sep="\t")
        maps = nib.load(finished / f"results/{subject}/encoding/{feature}.nii.gz").get_fdata()
        assert len(table) == mask.sum()
        np.testing.assert_allclose(maps[mask][:, 0], table.r, rtol=1e-4, atol=1e-5)
        assert np.isnan(maps[~mask]).all()
        assert table.r.abs().max() <= 1


def test_figure_html_and_table(finished, subject):
    folder = finished / f"results/{subject}/figures"
    head = (folder / "fig6.png").read_bytes()[:24]
    width, _ = struct.unpack(">II", head[16:24])
    assert width >= 180 / 25.4 * 300 * 0.95
    page = (finished / f"results/{subject}/report/cortex.html").read_text()
    assert subject in page and len(page) < 6_000_000
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?https?:", page)
    table = pd.read_csv(folder / "fig6.tsv", sep="\t")
    assert set(table.columns) >= {
        "subject",
        "feature",
        "roi",
        "median_r",
        "median_ceiling",
        "n_voxels",
        "share_significant",
    }
    assert set(table.feature) == {"z", "c", "zc"}


def test_unique_variance_and_blocks(finished, subject):
    folder = finished / f"results/{subject}/encoding"
    spaces = ["zc-n040", "zc-n070", "zc-n100", "zc-s050", "zc-s100"]
    for space in [*spaces, "zc-s050-shared", "zc-s100-shared"]:
        table = pd.read_csv(folder / f"z+{space}.tsv", sep="\t")
        unique = table["r2"] - table["r2_z"]
        np.testing.assert_allclose(table[f"unique_{space}"], unique, atol=1e-6)
        assert table[f"p_unique_{space}"].dropna().between(1 / 501, 1).all()
    # The last step of the level of figure 6 is that level's z_c.
    features = finished / f"results/{subject}/features"
    whole = np.load(features / "zc.npy")
    np.testing.assert_allclose(np.load(features / "zc-s100.npy"), whole, atol=1e-4)
    # Of activations only Gram matrices stay.
    assert not list(features.glob("unet-*"))
    gram = np.load(finished / f"results/{subject}/grams/unet-mid-s050.npy")
    assert gram.shape == (len(whole), len(whole))
    shared = np.load(features / "zc-s100-shared.npy")
    assert np.abs(shared - whole).mean() > 0.01
    for percent in ("050", "100"):
        table = pd.read_csv(folder / f"blocks-s{percent}.tsv", sep="\t")
        assert set(table["winner"].dropna()) <= {0, 1, 2}
        assert {"r_down", "cv_mid", "r_up", "clear"} <= set(table)
        errors = pd.read_csv(folder / f"blocks-s{percent}-errors.tsv", sep="\t")
        assert set(errors["roi"]) <= {"cortex", "early", "ventral", "frontal"}
    assert not (finished / f"results/{subject}/trajectories").exists() or not list(
        (finished / f"results/{subject}/trajectories").iterdir()
    )


def test_figures_of_the_encoding_half(finished, subject):
    folder = finished / f"results/{subject}/figures"
    unique = pd.read_csv(folder / "fig7.tsv", sep="\t")
    ends = ["", "-empty", "-other-caption", "-linear", "-residual"]
    assert set(unique["pair"]) == {
        f"z+zc-n{level}{end}" for level in ("040", "100") for end in ends
    }
    steps = pd.read_csv(folder / "fig8.tsv", sep="\t")
    spaces = {f"zc-s{share}{end}" for share in ("050", "100") for end in ends}
    assert set(steps["space"]) == {"z", *spaces}
    blocks = pd.read_csv(folder / "fig9.tsv", sep="\t")
    assert set(blocks["block"]) == {"down", "mid", "up"}
    assert set(blocks["share"]) == {0.5, 1.0}
    for figure in ("fig7", "fig8", "fig9"):
        assert (folder / f"{figure}.png").stat().st_size > 50_000
        assert (folder / f"{figure}.pdf").read_bytes().startswith(b"%PDF-")
        assert f"../report/cortex.html#{figure}" in (folder / f"{figure}.html").read_text()
    strip = np.load(finished / f"results/{subject}/strips/zc-n040.npy")
    assert strip.shape == (3, 64, 64, 3)


def test_figure_7_is_redrawn_from_its_tables(finished, release, tmp_path):
    """By the example in the documentation; its summary does not depend on what is coloured."""
    example = PROJECT / "docs/examples/redraw_fig7.py"
    inputs = [finished / "results", release, "subj01", tmp_path / "mine"]
    subprocess.run([sys.executable, example, *map(str, inputs)], cwd=PROJECT, check=True)
    keys = ["pair", "space", "roi"]
    paths = tmp_path / "mine.tsv", finished / "results/subj01/figures/fig7.tsv"
    made, shipped = (pd.read_csv(path, sep="\t").sort_values(keys) for path in paths)
    pd.testing.assert_frame_equal(made.reset_index(drop=True), shipped.reset_index(drop=True))
    assert (tmp_path / "mine.png").stat().st_size > 50_000


def test_report(finished):
    """Every figure of the run is in the report, with its caption."""
    run_snakemake(finished, "--report", finished / "report.html")
    page = (finished / "report.html").read_text()
    for name in ("fig3", "fig4", "fig5", "fig6", "fig7", "fig8", "fig9", "group"):
        assert f"{name}.png" in page
    for words in ("Decoding", "Encoding", "Group", "Tables"):
        assert words in page
    # It opens on a figure that it holds, not on the diagram of jobs.
    opening = re.search(r"const figure = results\['([^']+)'\]", page).group(1)
    assert f'"{opening}": {{"name": "fig3.png"' in page
    assert "app.setView({content: 'metadata'})" in page


def test_a_feature_space_by_a_config_block(finished, nsd_config):
    """It appears in a map and in the tables, and the other encoders stay as they are."""
    space = {
        "function": "nsdldm.features.pictures.embed_pictures",
        "settings": {
            "network": "demo-clip",
            "layer": "image_embeds",
            "weights": nsd_config["model"]["path"],
        },
    }
    target = "results/subj01/figures/feature_spaces.png"
    own = nsd_config | {"subjects": ["subj01"]}
    spaces = nsd_config["feature_spaces"] | {"clip-image": space}
    write_config(finished, **own | {"feature_spaces": spaces})
    try:
        jobs = plan(finished, target)
        run_snakemake(finished, target)
    finally:
        write_config(finished, **own)
    new = ("compute_features", "compute_kernels", "fit_encoders", "score_encoders_added")
    assert jobs == {(rule, "subj01"): 1 for rule in (*new, "plot_fig6")}
    table = pd.read_csv(finished / target.replace(".png", ".tsv"), sep="\t")
    assert set(table["feature"]) == {"clip-image"}
    assert (finished / target).stat().st_size > 50_000


MINE = """
from nsdldm.diffusion.denoising import Conditions
from nsdldm.generators.generator import open_stable_diffusion


def average_colours(device):
    \"\"\"Mean colour of a picture.\"\"\"
    return lambda pictures, captions: [picture.mean((0, 1)) / 255 for picture in pictures]


def open_tinted(model, scheduler, *, strength):
    \"\"\"Stable Diffusion whose text embedding is moved by a colour.\"\"\"
    opened = open_stable_diffusion(model, scheduler)

    def condition(given, n):
        empty, text = opened.condition({}, n).context
        return Conditions((empty, text + strength * given["image"].mean(1)[:, None, None]))

    return opened._replace(shapes={"image": (3,)}, condition=condition)
"""


def test_a_target_and_a_generator_by_a_config_block(finished, nsd_config):
    """Decoded, turned into pictures and scored, while everything else stays as it is."""
    (finished / "nsdldm/mine.py").write_text(MINE)
    own = nsd_config | {"subjects": ["subj01"]}
    colour = {"function": "nsdldm.mine.average_colours", "settings": {}, "encoders": False}
    tinted = {"function": "nsdldm.mine.open_tinted", "settings": {"strength": 0.1}}
    method = {"generator": "tinted", "from": "z", "image": "colour"}
    changes = {
        "feature_spaces": {"colour": colour},
        "decoding": own["decoding"]
        | {"targets": {"z": "early", "c": "ventral", "colour": "early"}},
        "beyond": SMALL["beyond"] | {"generators": {"tinted": tinted}, "methods": {"mine": method}},
    }
    targets = [
        "results/subj01/corrected/evaluation/mine_summary.tsv",
        "results/subj01/corrected/evaluation/zc_summary.tsv",
    ]
    write_config(finished, **own | changes)
    try:
        jobs = plan(finished, *targets)
        run_snakemake(finished, *targets)
    finally:
        write_config(finished, **own)
        (finished / "nsdldm/mine.py").unlink()
    once = ("compute_features", "fit_added_decoders", "gather_reconstructions")
    expected = {(rule, "subj01"): 1 for rule in (*once, "evaluate_reconstructions")}
    assert jobs == expected | {("generate_images", "subj01"): 2}
    with h5py.File(finished / "results/subj01/corrected/reconstructions/mine.h5") as file:
        assert file["images"].shape == (40, 2, 64, 64, 3)
        assert file.attrs["generator"] == "nsdldm.mine.open_tinted"
        assert (file.attrs["from"], file.attrs["image"]) == ("z", "colour")
    table = pd.read_csv(finished / targets[0], sep="\t").set_index("metric")
    assert table.loc["corr16", "ci_low"] <= table.loc["corr16", "value"]


def test_decoded_features_and_pictures(finished, subject):
    folder = finished / f"results/{subject}/corrected"
    for target, shape in {"z": (4, 8, 8), "c": (24, 96)}.items():
        decoded = np.load(folder / f"decoded/{target}.npy")
        assert decoded.shape == (40, *shape)
        assert np.isfinite(decoded).all()
        assert len(pd.read_csv(folder / f"decoded/{target}.tsv", sep="\t")) == np.prod(shape)
    images = pd.read_csv(finished / f"results/{subject}/images.tsv", sep="\t")
    with h5py.File(folder / "reconstructions/zc.h5") as file:
        assert file["images"].shape == (40, 2, 64, 64, 3)
        assert file["nsd_id"][:].tolist() == images.nsd_id[images.split == "test"].tolist()
        assert np.ptp(file["images"][0, 0]) > 0
        assert file.attrs["guidance_scale"] == 5
    assert not (folder / "partial").exists() or not list((folder / "partial").iterdir())
    summary = pd.read_csv(folder / "evaluation/zc_summary.tsv", sep="\t").set_index("metric")
    assert summary.loc["corr16", "ci_low"] <= summary.loc["corr16", "value"]
    assert summary.loc["inception", "note"] == "not computed: no weights are given"


def test_decoding_tables_and_gallery(finished):
    metrics = pd.read_csv(finished / "results/tables/metrics.tsv", sep="\t")
    ours = metrics[metrics["data"] == "nsd"]
    assert set(ours["method"]) == {"z", "zc"}
    assert set(ours["subject"]) == {"subj01", "mean"}
    assert (metrics["data"] == "published").any()
    protocols = pd.read_csv(finished / "results/tables/protocols.tsv", sep="\t")
    assert protocols["variant"].nunique() == 10
    for figure in ("fig3", "fig4", "fig5"):
        assert (finished / f"results/figures/{figure}.png").stat().st_size > 20_000
    page = (finished / "results/report/gallery.html").read_text()
    assert "data:image/webp" in page or "webp" in page


def test_group_products(finished):
    page = (finished / "results/figures/fig6.html").read_text()
    assert "../subj01/report/cortex.html#fig6" in page
    for suffix in ("png", "pdf", "tsv"):
        copy = (finished / f"results/figures/fig6.{suffix}").read_bytes()
        assert copy == (finished / f"results/subj01/figures/fig6.{suffix}").read_bytes()
    table = pd.read_csv(finished / "results/tables/encoding.tsv", sep="\t")
    assert set(table.subject) == {"subj01"}
    assert set(table.roi) >= {"cortex", "early", "ventral", "frontal"}


def test_logs_and_no_leftovers(finished):
    assert (finished / "logs/subj01/fit_encoders.features.log").read_text()
    assert not list(finished.rglob(".part-*"))


def test_second_run_does_nothing(finished):
    result = run_snakemake(finished)
    assert "Nothing to be done" in result.stdout + result.stderr
