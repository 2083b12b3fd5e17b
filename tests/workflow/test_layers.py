"""The example of docs/feature_spaces.md: layers of two networks, on a finished run."""

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import MODEL, PROJECT, run_snakemake

from nsdldm.workflow.settings import DEMO_MODEL

pytestmark = pytest.mark.slow
EXAMPLE = (PROJECT / "config.layers.yaml").read_text().replace(DEMO_MODEL, MODEL)
NETWORKS = yaml.safe_load(EXAMPLE)["networks"]


def run(finished, text, *targets, **options):
    (finished / "layers.yaml").write_text(text)
    files = ["--configfile", "config.yaml", "layers.yaml"]
    return run_snakemake(finished, *targets, *files, **options)


@pytest.fixture(scope="module")
def layered(finished):
    targets = [f"results/subj01/figures/layers_{name}.png" for name in NETWORKS]
    run(finished, EXAMPLE, *targets, "results/tables/layers_alexnet.tsv")
    return finished / "results"


def test_maps_and_their_numbers(layered):
    for name, own in NETWORKS.items():
        figure = layered / f"subj01/figures/layers_{name}"
        assert figure.with_suffix(".png").stat().st_size > 50_000
        counts = pd.read_csv(figure.with_suffix(".tsv"), sep="\t")
        assert (counts["network"] == name).all()
        assert [*counts["layer"].unique()] == [*own["layers"]]
        voxels = pd.read_csv(layered / f"subj01/encoding/layers-{name}.tsv", sep="\t")
        cortex = counts[counts["roi"] == "cortex"].set_index("layer")["n_voxels"]
        won = voxels["winner"].value_counts()
        for number, layer in enumerate(own["layers"]):
            assert cortex[layer] == won.get(number, 0)
        best = voxels[[f"cv_{layer}" for layer in own["layers"]]].to_numpy().argmax(axis=1)
        known = voxels["winner"].notna()
        assert known.sum() > 20
        np.testing.assert_array_equal(voxels["winner"][known], best[known])


def test_regions(layered):
    table = pd.read_csv(layered / "tables/layers_alexnet.tsv", sep="\t")
    assert {*table["network"]} == {"alexnet"} and {*table["subject"]} == {"subj01"}
    assert {*table["layer"]} <= {*NETWORKS["alexnet"]["layers"]}
    assert {f"r2_{layer}" for layer in NETWORKS["alexnet"]["layers"]} < {*table}


def test_only_gram_matrices_are_kept(layered):
    n = len(pd.read_csv(layered / "subj01/images.tsv", sep="\t"))
    for name, own in NETWORKS.items():
        for layer in own["layers"]:
            gram = np.load(layered / f"subj01/grams/{name}-{layer}.npy")
            assert gram.shape == (n, n)
            np.testing.assert_allclose(gram, gram.T, rtol=1e-4, atol=1e-3)
    assert not [*(layered / "subj01/activations").glob("*.npy")]


def test_a_wrong_path_is_found_before_any_picture_is_looked_at(finished, layered):
    result = run(
        finished,
        EXAMPLE.replace("conv2: body.5", "conv2: body.55"),
        *("results/subj01/grams/alexnet-conv2.npy", "--forcerun", "describe_network"),
        check=False,
    )
    said = result.stdout + result.stderr
    assert result.returncode
    assert "networks: expected the path of a module of the network, such as body.5" in said
    assert "found 'body.55'" in said
    assert not (finished / "logs/subj01/collect_layers.alexnet.0.log").read_text().count("body.55")
