"""The true depth of simulated pictures, and the demo's network that estimates it."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import AutoImageProcessor, DPTForDepthEstimation

from nsdldm.demo.depth import AIR, WALL, draw_depth
from nsdldm.demo.drawing import draw_scene
from nsdldm.demo.scenes import BUILDS, Scene, Thing
from nsdldm.demo.training.classifiers import prepare
from nsdldm.demo.training.depth import measure_depth
from nsdldm.demo.training.scenes import number_scene

CPU = torch.device("cpu")
MODEL = Path(__file__).parents[2] / "resources/demo_model"
RED = (214, 40, 40)


def put(category, x, y, size, tilt=0.0):
    return Thing(category, "red", RED, x, y, size, 1, tilt, 3)


def place(*things, background="grass", horizon=0.4):
    return Scene(things, background, horizon, (1.0, 1.0, 1.0), (0.0, 0.0), 5)


@pytest.mark.parametrize(
    ("background", "horizon", "far"),
    [("grass", 0.4, 0.0), ("indoor", 0.6, WALL), ("street", 0.5, 0.0)],
)
def test_ground_is_a_plane_below_the_horizon(background, horizon, far):
    depth = draw_depth(place(background=background, horizon=horizon), 100)
    assert depth.shape == (100, 100)
    assert depth.dtype == np.float32
    above = round(horizon * 100)
    assert (depth[:above] == np.float32(far)).all()
    assert (depth == depth[:, :1]).all()
    steps = np.diff(depth[above:, 0])
    assert steps == pytest.approx((1 - far) / (100 - above), rel=1e-3)
    assert depth[-1, 0] == pytest.approx(1, abs=0.02)


def test_sky_has_no_ground():
    thing = put("bird", 0.5, 0.5, BUILDS["bird"].largest)
    depth = draw_depth(place(thing, background="sky", horizon=0.0), 64)
    assert set(np.unique(depth)) == {0, np.float32(AIR)}


def test_standing_things_are_as_near_as_the_ground_under_their_foot():
    thing = put("bus", 0.5, 0.5, 0.3)
    depth = draw_depth(place(thing), 100)
    expected = (thing.foot - 0.4) / 0.6
    assert depth[50, 50] == pytest.approx(expected, abs=0.01)
    assert depth[35, 50] == depth[50, 50]
    beside = depth[int(thing.foot * 100), 2]
    assert beside == pytest.approx(expected, abs=0.02)


def test_things_cover_what_they_cover_in_the_picture():
    thing = replace(put("house", 0.4, 0.55, 0.25, tilt=0.1), flip=-1)
    with_thing, without = place(thing), place()
    pixels = 128
    changed = (draw_scene(with_thing, pixels) != draw_scene(without, pixels)).any(-1)
    nearer = draw_depth(with_thing, pixels) != draw_depth(without, pixels)
    # Above the foot, where the picture has no shadow.
    top = int((thing.foot - 0.06) * pixels)
    assert (changed[:top] != nearer[:top]).mean() < 0.02
    assert nearer.sum() > 500


def test_nearer_things_are_in_front_and_have_larger_values():
    far, near = put("car", 0.45, 0.45, 0.3), put("person", 0.5, 0.6, 0.35)
    depth = draw_depth(place(near, far), 96)
    alone = {thing: draw_depth(place(thing), 96) for thing in (far, near)}
    both = (alone[far] != draw_depth(place(), 96)) & (alone[near] != draw_depth(place(), 96))
    assert both.sum() > 50
    assert (depth[both] == alone[near][both]).all()
    assert (depth[both] > alone[far][both]).all()


def test_nothing_is_farther_than_what_it_hides():
    for row in range(60):
        scene = number_scene(11, "test", row)
        things = sorted(scene.objects, key=lambda thing: thing.foot)
        layers = [draw_depth(replace(scene, objects=tuple(things[:k])), 48) for k in range(3)]
        for behind, before in pairwise(layers):
            assert (before >= behind).all()
        assert 0 <= layers[-1].min() <= layers[-1].max() <= 1


def test_in_the_air_larger_is_nearer():
    depths = [
        draw_depth(place(put("airplane", 0.5, 0.15, size)), 64)[9:11, 30:34].max()
        for size in (0.3, 0.4)
    ]
    assert depths[0] == pytest.approx(AIR * 0.3 / BUILDS["airplane"].largest)
    assert depths[1] > depths[0]


@pytest.fixture(scope="module")
def new():
    scenes = [number_scene(11, "test", row) for row in range(40)]
    pictures = np.stack([draw_scene(scene, 96) for scene in scenes])
    return pictures, np.stack([draw_depth(scene, 96) for scene in scenes])


def test_shipped_network_estimates_the_depth_of_new_scenes(new):
    pictures, depths = new
    ((_, value),) = measure_depth(MODEL, pictures, depths, CPU)
    # The mean map is a strong rival: ground below, far above.
    mean = depths.mean(0).ravel()
    rival = np.median([spearmanr(mean, depth.ravel()).statistic for depth in depths])
    assert value > 0.9
    assert value > rival + 0.1


def test_shipped_network_with_its_preprocessor_is_that_network(new):
    pictures, _ = new
    network = DPTForDepthEstimation.from_pretrained(MODEL / "depth").eval()
    assert network.dtype == torch.float32
    processor = AutoImageProcessor.from_pretrained(MODEL / "depth", backend="pil")
    inputs = processor(list(pictures[:3]), return_tensors="pt")
    assert torch.allclose(inputs["pixel_values"], prepare(pictures[:3], CPU), atol=1e-5)
    with torch.no_grad():
        assert network(**inputs).predicted_depth.shape == (3, 96, 96)
    assert (MODEL / "depth/model.safetensors").stat().st_size <= 1e6


def test_a_constant_estimate_counts_as_no_correlation(new, tmp_path):
    pictures, depths = new
    network = DPTForDepthEstimation.from_pretrained(MODEL / "depth")
    torch.nn.init.zeros_(network.head.head[-2].weight)
    network.save_pretrained(tmp_path / "depth")
    ((_, value),) = measure_depth(tmp_path, pictures[:3], depths[:3], CPU)
    assert value == 0
