"""The page about scale says what its script computes."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from nsdldm.encoding.predictions import Model, create_predictions, name_pair, write_model
from nsdldm.workflow.loading import load_settings

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(PROJECT / "benchmarks/scale_table.py"))


@pytest.fixture(scope="module")
def computed():
    return SCRIPT["compose"](SCRIPT["parse_arguments"]([]))


def test_the_page_holds_what_the_script_prints(computed):
    command = "PYTHONPATH=. python benchmarks/scale_table.py > table.md"
    assert computed in (PROJECT / "docs/scale.md").read_text(), f"put {command} into docs/scale.md"


def test_rules_of_the_table_exist_and_all_networks_and_fits_are_in_it(computed):
    requests, config = SCRIPT["read_requests"](), SCRIPT["load_config"]()
    assert {row.partition(" ")[0] for row in SCRIPT["ORDER"]} <= set(requests)
    families = {f"fit_encoders {family}" for family in SCRIPT["count_kernel_fits"](config)}
    assert set(SCRIPT["NETWORK_RULES"]) | families <= set(SCRIPT["ORDER"])


def test_predictions_have_the_size_of_their_files(tmp_path):
    """A family as its fits write it, at the size of the script's."""
    config = SCRIPT["load_config"]()
    made = SCRIPT["count_bytes"](config, 100_000)
    n_test, steps = SCRIPT["TEST_IMAGES"], len(config["trajectories"]["step_shares"])
    responses = SimpleNamespace(test_ids=np.arange(n_test), form="zscored/averages")
    spaces = [f"zc-s{n}" for n in range(steps)]
    names = [*spaces, *(name_pair(("z", space)) for space in spaces)]
    with create_predictions(tmp_path / "steps.h5", names, 1000, responses, [1.0], 1) as file:
        block, ones = slice(0, 1000), np.ones(1000)
        for name in names:
            write_model(file, name, block, Model(np.ones((n_test, 1000)), ones, ones, ones))
    size = (tmp_path / "steps.h5").stat().st_size
    assert made["fit_encoders steps"] / 100 == pytest.approx(size, rel=0.01)


def test_operations_follow_the_configuration():
    config = SCRIPT["load_config"]()
    flops = {(name, side): 1.0 for name in ("unet", "decode", "encode") for side in (40, 64)}
    flops["text", 77] = 1.0
    before = SCRIPT["count_network_rules"](config, flops)
    n = SCRIPT["N_IMAGES_SEEN"]
    assert before["denoise_latents"] == n * 40 * 2
    # The level 0.8 is that of denoise_latents.
    assert before["collect_levels"] == n * (10 + 20 + 30 + 50) * 2
    assert before["collect_controls"] == n * (10 + 20 + 30 + 40 + 50) * (1 + 2)
    assert before["collect_activations"] == n * 3
    config["denoising"]["guidance_scale"] = 1
    unguided = SCRIPT["count_network_rules"](config, flops)
    assert unguided["denoise_latents"] == n * 40
    assert unguided["reconstruct_images"] == before["reconstruct_images"]
    config["reconstruction"]["samples"] *= 2
    more = SCRIPT["count_network_rules"](config, flops)
    assert 1.9 < more["reconstruct_images"] / before["reconstruct_images"] < 2


def test_the_fast_preset_takes_what_the_page_says():
    layers = [
        yaml.safe_load((PROJECT / f"config.{name}.yaml").read_text()) for name in ("nsd", "fast")
    ]
    own = layers[0] | {
        section: (layers[0].get(section) or {}) | changed for section, changed in layers[1].items()
    }
    page = (PROJECT / "docs/scale.md").read_text()
    flops = SCRIPT["count_network_operations"]([40, 64])
    for config in (layers[0], own):
        settings = load_settings(config)
        work = SCRIPT["count_network_rules"](settings, flops)
        total = len(settings["subjects"]) * sum(work.values()) / 1e15
        assert f"{total:,.0f}" in page
    assert total < 5000


def test_stable_diffusion_has_the_published_size():
    # 859,520,964 parameters, and about 400 billion multiplications at 512 px.
    networks = SCRIPT["build_networks"]("meta")
    assert networks["unet"].num_parameters() == 859_520_964
    assert networks["vae"].num_parameters() == 83_653_863
    assert 7e11 < SCRIPT["count_network_operations"]([64])["unet", 64] < 9e11
