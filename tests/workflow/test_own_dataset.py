"""The worked example of docs/datasets.md: one's own GLMsingle output, from arrays to pictures."""

import shutil
import subprocess
import sys

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT, SMALL, plan, run_snakemake, write_config
from PIL import Image

from nsdldm.nsd.captions import read_captions
from nsdldm.nsd.rois import read_labels

BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session01.hdf5"
ROI = "nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz"


@pytest.fixture(scope="module")
def shown(release):
    """The trials of the simulated release, with names of images."""
    folder = release / "nsddata/ppdata/subj01/behav/responses.tsv"
    trials = pd.read_csv(folder, sep="\t")
    names = [f"picture {number}.png" for number in trials["73KID"] - 1]
    return pd.DataFrame({"session": trials["SESSION"].astype(int), "image": names}).iloc[:750]


@pytest.fixture(scope="module")
def glmsingle(tmp_path_factory, release, shown):
    """What GLMsingle leaves, and one's own masks and tables."""
    folder = tmp_path_factory.mktemp("glmsingle")
    with h5py.File(release / BETAS) as file:
        betas = file["betas"][:].transpose(3, 2, 1, 0).astype(np.float32) / 300
    np.save(folder / "TYPED_FITHRF_GLMDENOISE_RR.npy", {"betasmd": betas}, allow_pickle=True)
    labels, grid = read_labels(release / ROI)
    for name, mask in (("cortex", labels >= 0), ("early", labels == 1), ("ventral", labels == 5)):
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), grid.affine), folder / f"{name}.nii.gz")
    shown.to_csv(folder / "trials.tsv", sep="\t", index=False)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, release, shown, glmsingle):
    """The folder that the example makes, with pictures and their tables."""
    root = tmp_path_factory.mktemp("own dataset")
    script = PROJECT / "docs/examples/own_dataset.py"
    subprocess.run([sys.executable, script, glmsingle, root, "maria"], check=True)
    stimuli = release / "nsddata_stimuli/stimuli/nsd"
    numbers = sorted({int(name.split()[1].removesuffix(".png")) for name in shown["image"]})
    info = pd.read_csv(release / "nsddata/experiments/nsd/nsd_stim_info_merged.csv", index_col=0)
    info = info.set_index("nsdId").loc[numbers]
    cocos = dict(zip(info["cocoId"], numbers, strict=True))
    files = sorted((stimuli / "annotations").glob("captions_*.json"))
    captions = [
        (f"picture {cocos[coco]}.png", text)
        for coco, texts in read_captions(files, cocos).items()
        for text in texts
    ]
    pd.DataFrame(captions, columns=["image", "caption"]).to_csv(
        root / "captions.tsv", sep="\t", index=False
    )
    (root / "pictures").mkdir()
    with h5py.File(stimuli / "nsd_stimuli.hdf5") as file:
        for number in numbers:
            Image.fromarray(file["imgBrick"][number]).save(root / f"pictures/picture {number}.png")
    names = [f"picture {number}.png" for number in numbers]
    splits = np.where(info["shared1000"], "test", "train")
    table = pd.DataFrame({"image": names, "split": splits})
    table.to_csv(root / "images.tsv", sep="\t", index=False)
    return root


@pytest.fixture(scope="module")
def config(tiny_demo, dataset):
    own = {
        "dataset": "arrays",
        "arrays": {"root": str(dataset)},
        "subjects": ["maria"],
        "figure_subject": "maria",
        "rois": {name: [f"arrays:{name}"] for name in ("cortex", "early", "ventral")},
        "nsd": {},
        "trained": tiny_demo["trained"] | {"subjects": ["maria"]},
        "decoding": tiny_demo["decoding"] | {"targets": {"z": "early", "c": "ventral"}},
    }
    unchanged = ("feature_spaces", "generalisation", "beyond")
    return tiny_demo | own | {key: SMALL[key] for key in unchanged}


@pytest.fixture(scope="module")
def made(tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("run")
    write_config(folder, **config)
    run_snakemake(folder, "results/tables/metrics.tsv", "results/figures/fig3.png", project=PROJECT)
    return folder


def test_matrices_are_those_of_the_release(made, release):
    copied = np.load(made / "results/maria/betas/early.npy")
    labels, _ = read_labels(release / ROI)
    with h5py.File(release / BETAS) as file:
        betas = file["betas"][:].transpose(3, 2, 1, 0)[labels == 1].T / np.float32(300)
    seen = np.isfinite(copied)
    np.testing.assert_allclose(copied[seen], betas[seen], rtol=1e-6)
    assert not betas[~seen].any()


def test_decoders_find_what_was_seen(made):
    table = pd.read_csv(made / "results/tables/metrics.tsv", sep="\t")
    assert "maria" in set(table["subject"])
    scores = pd.read_csv(made / "results/maria/corrected/decoded/z.tsv", sep="\t")
    assert scores["r"].median() > 0.1
    assert (made / "results/figures/fig3.png").stat().st_size > 10_000


def test_nothing_is_made_twice_and_a_new_table_is_noticed(made, dataset):
    targets = ("results/tables/metrics.tsv",)
    assert not plan(made, *targets, project=PROJECT)
    table = dataset / "captions.tsv"
    table.write_text(table.read_text() + "picture 0.png\tanother one\n")
    jobs = {rule for rule, _ in plan(made, *targets, project=PROJECT)}
    assert {"check_arrays", "write_captions", "embed_captions"} <= jobs


def test_what_is_missing_is_said_before_the_first_job(tmp_path, config, dataset):
    write_config(tmp_path, **config | {"arrays": {"root": str(dataset / "nowhere")}})
    run = run_snakemake(tmp_path, "results/tables/metrics.tsv", check=False, project=PROJECT)
    assert "arrays.root" in run.stderr and "Set arrays.root to the dataset's folder" in run.stderr


def test_averaged_responses_have_no_ceiling_and_are_decoded(tmp_path, config, dataset):
    """As the Algonauts challenge gives them: one row for each image."""
    root = tmp_path / "averaged"
    shutil.copytree(dataset, root)
    trials = pd.read_csv(root / "maria/trials.tsv", sep="\t")
    first = ~trials["image"].duplicated()
    trials[first].to_csv(root / "maria/trials.tsv", sep="\t", index=False)
    for path in sorted((root / "maria/betas").iterdir()):
        np.save(path, np.load(path)[first])
    write_config(tmp_path, **config | {"arrays": {"root": str(root)}})
    run_snakemake(tmp_path, "results/maria/corrected/decoded/z.tsv", project=PROJECT)
    with h5py.File(tmp_path / "results/maria/responses/early.h5") as file:
        assert np.isnan(file["ncsnr"][:]).all()
    scores = pd.read_csv(tmp_path / "results/maria/corrected/decoded/z.tsv", sep="\t")
    assert scores["r"].median() > 0.05
