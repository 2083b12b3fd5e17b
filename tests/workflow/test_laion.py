"""LAION-fMRI: the same figures from another release, and its own divisions of images."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT, plan, run_snakemake, write_config

from nsdldm.workflow.loading import load_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tiny_demo):
    """One line more than the demo of tests, apart from what depends on names of people."""
    laion = load_settings({"dataset": "laion-demo"})
    rois = {name: laion["rois"][name] for name in ("cortex", "early", "ventral")}
    general = tiny_demo["generalisation"] | {"categories": False, "betas": None, "trained": False}
    return tiny_demo | {
        "dataset": "laion-demo",
        "subjects": ["sub-01"],
        "figure_subject": "sub-01",
        "rois": rois,
        "nsd": {"test_sets": ["shared"]},
        "trained": tiny_demo["trained"] | {"subjects": ["sub-01"]},
        "reconstruction": tiny_demo["reconstruction"] | {"chunks": 1},
        "generalisation": general
        | {"splits": ["tau", "ood", "cluster_k5_1"], "ranks": [2], "permutations": 99},
        "demo": {"sessions": 2, "shared_images": 30, "unique_images": 130},
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("laion")
    write_config(folder, **config)
    figures = [f"results/figures/fig{number}.png" for number in (3, 4, 5, 6)]
    run_snakemake(folder, *figures, "results/tables/generalisation.tsv", project=PROJECT)
    return folder


def test_figures_are_made(made):
    for number in (3, 4, 5, 6):
        assert (made / f"results/figures/fig{number}.png").stat().st_size > 10_000


def test_each_region_prefers_its_features(made):
    mask = np.asanyarray(nib.load(made / "results/sub-01/masks/cortex.nii.gz").dataobj) > 0
    medians = {}
    for space in ("z", "c"):
        table = pd.read_csv(made / f"results/sub-01/encoding/{space}.tsv", sep="\t")
        assert len(table) == mask.sum()
        for roi in ("early", "ventral"):
            own = np.asanyarray(nib.load(made / f"results/sub-01/masks/{roi}.nii.gz").dataobj) > 0
            chosen = own[table["i"], table["j"], table["k"]]
            medians[roi, space] = table["r"][chosen].median()
    assert medians["early", "z"] > medians["early", "c"] > 0
    assert medians["ventral", "c"] > medians["ventral", "z"]


def test_its_own_divisions_are_cases(made):
    table = pd.read_csv(made / "results/tables/generalisation.tsv", sep="\t")
    seen = table[(table["source"] == "decoded") & (table["score"] == "z")].set_index("case")
    for case in ("tau", "ood", "cluster_k5_1"):
        assert set(seen.loc[[case], "chance"]) == {0.5}
        images = pd.read_csv(made / f"results/sub-01/cases/{case}/images.tsv", sep="\t")
        listing = made / f"results/demo/splits/sub-01/{case}.json"
        (variant,) = json.loads(listing.read_text())["variants"]
        for side in ("train", "test"):
            own = images[images["split"] == side]
            assert set(own["name"]) == set(variant[f"{side}_ids"])
    ood = pd.read_csv(made / "results/sub-01/images.tsv", sep="\t").query("source == 'OOD'")
    assert set(ood["split"]) == {"unused"} and len(ood) >= 4


def test_nothing_is_made_twice(made):
    targets = ("results/figures/fig6.png", "results/tables/generalisation.tsv")
    assert not plan(made, *targets, project=PROJECT)


def test_what_is_missing_is_said_before_the_first_job(tmp_path, config, made):
    real = {"root": str(made / "results/demo"), "splits": str(made / "results/demo/splits")}
    # With the demo's sizes also where it says nothing.
    own = load_settings(config) | {"dataset": "laion-fmri", "laion": real | {"sessions": 3}}
    own["rois"] = config["rois"] | {"face": ["face:FFA9"]}
    write_config(tmp_path, **own)
    run = run_snakemake(tmp_path, "results/figures/fig6.png", check=False, project=PROJECT)
    assert "ses-03" in run.stderr and "Copy it from s3://laion-fmri/derivatives" in run.stderr
    assert "a mask of FFA9" in run.stderr and "FFA1" in run.stderr
    own["laion"]["sessions"], own["rois"] = "available", config["rois"]
    write_config(tmp_path, **own)
    jobs = plan(tmp_path, "results/figures/fig6.png", project=PROJECT)
    assert jobs["extract_matrices", "sub-01"] == 1
