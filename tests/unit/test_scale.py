"""The page about scale says what its script computes."""

import runpy
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(PROJECT / "benchmarks/scale_table.py"))


@pytest.fixture(scope="module")
def computed():
    return SCRIPT["compose"](SCRIPT["parse_arguments"]([]))


def test_the_page_holds_what_the_script_prints(computed):
    command = "PYTHONPATH=. python benchmarks/scale_table.py > table.md"
    assert computed in (PROJECT / "docs/scale.md").read_text(), f"put {command} into docs/scale.md"


def test_rules_of_the_table_exist_and_all_networks_and_fits_are_in_it(computed):
    requests = SCRIPT["read_requests"]()
    assert set(SCRIPT["ORDER"]) <= set(requests)
    config = SCRIPT["load_config"]()
    assert set(SCRIPT["NETWORK_RULES"]) | set(SCRIPT["count_kernel_fits"](config)) <= set(
        SCRIPT["ORDER"]
    )


def test_operations_follow_the_configuration():
    config = SCRIPT["load_config"]()
    flops = {(name, side): 1.0 for name in ("unet", "decode", "encode") for side in (40, 64)}
    flops["text", 77] = 1.0
    before = SCRIPT["count_network_rules"](config, flops)
    n = SCRIPT["N_IMAGES_SEEN"]
    assert before["denoise_latents"] == n * 40 * 2
    assert before["collect_trajectories"] == n * (10 + 20 + 30 + 40 + 50) * 2
    config["denoising"]["guidance_scale"] = 1
    unguided = SCRIPT["count_network_rules"](config, flops)
    assert unguided["denoise_latents"] == n * 40
    assert unguided["reconstruct_images"] == before["reconstruct_images"]
    config["reconstruction"]["samples"] *= 2
    more = SCRIPT["count_network_rules"](config, flops)
    assert 1.9 < more["reconstruct_images"] / before["reconstruct_images"] < 2


def test_stable_diffusion_has_the_published_size():
    # 859,520,964 parameters, and about 400 billion multiplications at 512 px.
    networks = SCRIPT["build_networks"]("meta")
    assert networks["unet"].num_parameters() == 859_520_964
    assert networks["vae"].num_parameters() == 83_653_863
    assert 7e11 < SCRIPT["count_network_operations"]([64])["unet", 64] < 9e11
