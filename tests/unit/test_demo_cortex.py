import ast
import importlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from nsdldm.demo import cortex
from nsdldm.demo.anatomy import STREAMS
from nsdldm.demo.scenes import BACKGROUNDS, CATEGORIES, COLOURS, describe_scene

SIDE = 85


def random_channels(n=40, seed=0):
    return np.random.default_rng(seed).random((3, n, SIDE * SIDE), np.float32)


def pixel_degrees():
    """Degrees right of and above the centre of each pixel, row by row from the top left."""
    right = ((np.arange(SIDE) + 0.5) / SIDE - 0.5) * 8.4
    return np.tile(right, SIDE), np.repeat(-right, SIDE)


def drive(channels, field=((1.0, 1.0), (-2.0, 0.5)), radius=(0.4, 0.5)):
    rng = np.random.default_rng(1)
    return cortex.drive_locally(channels, np.array(field), np.array(radius), rng)


def test_simulation_knows_no_network():
    for name in ("anatomy", "cortex", "release", "formats", "behaviour"):
        module = importlib.import_module(f"nsdldm.demo.{name}")
        imported = set()
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)
        assert not [
            x for x in imported if x.split(".")[0] in {"torch", "diffusers", "transformers"}
        ]
        assert not [x for x in imported if x.startswith(("nsdldm.diffusion", "nsdldm.features"))]


def test_channels_are_block_averages(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 425, 425, 3), np.uint8)
    with h5py.File(tmp_path / "stimuli.hdf5", "w") as file:
        file["imgBrick"] = pictures
    luminance, red_green, blue_yellow = cortex.read_channels(tmp_path / "stimuli.hdf5", [2, 0])
    red, green, blue = pictures[2, 5:10, 10:15].reshape(-1, 3).mean(axis=0) / 255
    pixel = 1 * SIDE + 2
    # PIL rounds block averages to whole grey levels.
    assert luminance[0, pixel] == pytest.approx(0.3 * red + 0.59 * green + 0.11 * blue, abs=0.003)
    assert red_green[0, pixel] == pytest.approx(red - green, abs=0.005)
    assert blue_yellow[0, pixel] == pytest.approx(blue - (red + green) / 2, abs=0.005)
    assert luminance.shape == (2, SIDE * SIDE)


def test_signed_drive_changes_sign_with_contrast_and_energy_does_not():
    channels = random_channels()
    signed, energy = drive(channels)
    inverted_signed, inverted_energy = drive(1 - channels)
    assert np.allclose(inverted_signed, -signed, atol=1e-3)
    assert np.allclose(inverted_energy, energy, atol=1e-3)
    assert signed.std(axis=0) == pytest.approx(1, abs=1e-3)
    assert not np.allclose(np.abs(np.corrcoef(signed.T, energy.T)[:2, 2:]), 1, atol=0.3)


def test_drives_are_local():
    channels, other = random_channels(), random_channels(seed=5)
    right, up = pixel_degrees()
    near = np.hypot(right - 1, up - 1) < 4
    moved = np.where(near, channels, other)
    for before, after in zip(drive(channels), drive(moved), strict=True):
        assert np.allclose(before[:, 0], after[:, 0], atol=0.02)
    far = np.where(near, other, channels)
    for before, after in zip(drive(channels), drive(far), strict=True):
        assert abs(np.corrcoef(before[:, 0], after[:, 0])[0, 1]) < 0.6


def test_voxels_look_where_their_field_is():
    """A spot of colour drives most the voxel whose field it is in."""
    right, up = pixel_degrees()
    places = np.array([(2.0, 1.0), (-2.0, 1.0), (2.0, -1.0), (-2.0, -1.0)])
    channels = np.zeros((3, 5, SIDE * SIDE), np.float32)
    for image, (x, y) in enumerate(places):
        channels[:, image] = np.exp(-((right - x) ** 2 + (up - y) ** 2) / 0.2)
    signed, energy = drive(channels, places, np.full(4, 0.4))
    assert np.abs(signed).argmax(axis=0).tolist() == [0, 1, 2, 3]
    assert energy.argmax(axis=0).tolist() == [0, 1, 2, 3]


def test_most_early_voxels_are_signed_and_shares_sum_to_one():
    labels = np.repeat(list(STREAMS.values()), 100)
    shares = cortex.choose_mixtures(labels, np.random.default_rng(0))
    assert np.allclose(sum(shares.values()), 1)
    early = labels == STREAMS["early"]
    assert shares["signed"][early].mean() >= 0.7
    assert set(shares["signed"][early]) == {0.0, 1.0}
    assert (shares["content"][early] == 0).all()
    assert (shares["content"][labels == STREAMS["ventral"]] >= 0.9).all()
    assert set(cortex.SIGNAL_TO_NOISE) == set(STREAMS)
    assert sum(cortex.CONTENT.values()) == pytest.approx(1)


def test_content_counts_things_and_ignores_where_they_are():
    scenes = [describe_scene(3, number) for number in range(60)]
    tables = cortex.tabulate_content(scenes)
    for row, scene in enumerate(scenes):
        assert BACKGROUNDS[tables["background"][row].argmax()] == scene.background
        for kind, names in (("category", CATEGORIES), ("colour", tuple(COLOURS))):
            found = sorted(np.repeat(names, tables[kind][row].astype(int)).tolist())
            assert found == sorted(getattr(thing, kind) for thing in scene.objects)
    moved = [
        replace(
            scene,
            gain=(1, 1, 1),
            slope=(0, 0),
            horizon=0.5,
            objects=tuple(replace(thing, x=0.5, y=0.5, size=0.2) for thing in scene.objects),
        )
        for scene in scenes
    ]
    visual = np.ones((3, 3, 3), bool)
    drives = [cortex.drive_by_scene(s, visual, np.random.default_rng(0)) for s in (scenes, moved)]
    assert np.array_equal(*drives)


def test_fields_beyond_early_cortex_are_on_the_opposite_side():
    regions = np.zeros((10, 4, 4), int)
    regions[[1, 8]] = STREAMS["lateral"]
    regions[2] = STREAMS["early"]
    fields = np.full((10, 4, 4, 2), np.nan)
    fields[2] = (3.0, -1.0)
    field, radius = cortex.place_fields(regions, fields, np.random.default_rng(0))
    first = np.nonzero(regions)[0]
    assert (field[first == 1, 0] > 0).all()
    assert (field[first == 8, 0] < 0).all()
    assert (field[first == 2] == (3.0, -1.0)).all()
    assert radius[first == 2] == pytest.approx(0.25 + 0.12 * np.sqrt(10))


def test_signal_has_the_wanted_strength_and_its_own_numbers():
    regions = np.zeros((12, 12, 4), int)
    regions[:6], regions[6:] = STREAMS["early"], STREAMS["ventral"]
    regions[:, :, 3] = STREAMS["lateral"]
    fields = np.random.default_rng(0).uniform(-3, 3, (*regions.shape, 2))
    arguments = {
        "channels": random_channels(60),
        "scenes": [describe_scene(3, number) for number in range(60)],
        "regions": regions,
        "fields": fields,
    }
    signal, again, louder = (
        cortex.simulate_signal(**arguments, level=level, rng=np.random.default_rng(4))
        for level in (1.0, 1.0, 2.0)
    )
    assert signal.shape == (60, regions.size)
    assert np.array_equal(signal, again)
    assert np.allclose(2 * signal, louder, atol=1e-5)
    strength = signal.std(axis=0)
    for region in ("early", "ventral", "lateral"):
        median = np.median(strength[regions.ravel() == STREAMS[region]])
        assert median == pytest.approx(cortex.SIGNAL_TO_NOISE[region], rel=0.1)


def test_early_and_ventral_signals_do_not_depend_on_regions_beyond(monkeypatch):
    """Not in a bit, so that what is decoded from them stays when those regions change."""
    regions = np.repeat(list(STREAMS.values()), 20).reshape(7, 5, 4)
    arguments = {
        "channels": random_channels(30),
        "scenes": [describe_scene(3, number) for number in range(30)],
        "regions": regions,
        "fields": np.random.default_rng(0).uniform(-3, 3, (*regions.shape, 2)),
        "level": 1.0,
    }
    signal = cortex.simulate_signal(**arguments, rng=np.random.default_rng(4))
    monkeypatch.setattr(cortex, "BEYOND", {})
    silent = cortex.simulate_signal(**arguments, rng=np.random.default_rng(4))
    same = np.isin(regions.ravel(), [STREAMS["early"], STREAMS["ventral"]])
    assert np.array_equal(signal[:, same], silent[:, same])
    assert not silent[:, ~same].any()
    assert (signal[:, ~same].std(axis=0) > 0).all()


def test_constant_columns_become_zero():
    values = np.array([[1.0, 5.0], [3.0, 5.0]])
    assert cortex.standardise(values).tolist() == [[-1, 0], [1, 0]]


def test_neighbours_are_tuned_alike():
    places = np.zeros((12, 12, 12), bool)
    places[:, ::3] = True
    drawn = cortex.draw_smooth(np.random.default_rng(0), places, 30)
    assert drawn.shape == (30, places.sum())
    assert drawn.std() == pytest.approx(1, abs=0.1)
    volume = np.zeros((30, 12, 12, 12))
    volume[:, places] = drawn
    beside = np.corrcoef(volume[:, 5, ::3].ravel(), volume[:, 6, ::3].ravel())[0, 1]
    far = np.corrcoef(volume[:, 0, ::3].ravel(), volume[:, 6, ::3].ravel())[0, 1]
    assert beside > 0.7
    assert abs(far) < 0.3


def test_noise_is_nearly_white():
    noise = cortex.simulate_noise((10, 11, 12), 400, np.random.default_rng(0))
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(1, abs=0.01)
    beside = (noise[:, 1:] * noise[:, :-1]).mean()
    later = (noise[1:] * noise[:-1]).mean()
    assert 0.02 < beside < 0.2
    assert later == pytest.approx(cortex.NOISE_MEMORY, abs=0.02)
    assert abs((noise[5:] * noise[:-5]).mean()) < 0.01
