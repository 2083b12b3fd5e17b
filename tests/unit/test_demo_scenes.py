import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer

from nsdldm.demo import captions as captions_module
from nsdldm.demo.backgrounds import PLACES
from nsdldm.demo.captions import write_captions
from nsdldm.demo.drawing import draw_scene
from nsdldm.demo.scenes import (
    BACKGROUNDS,
    BACKGROUNDS_OF,
    BUILDS,
    CATEGORIES,
    COLOURS,
    COLOURS_OF,
    describe_scene,
)
from nsdldm.demo.shapes import Spot, box, ellipse, line, paint
from nsdldm.demo.things import THINGS

TOKENIZER = Path(__file__).parents[2] / "resources/demo_model/tokenizer/tokenizer.json"
SCENES = [describe_scene(42, nsd_id) for nsd_id in range(3000)]


def first_scene(condition):
    return next(scene for scene in SCENES if condition(scene))


def in_even_light(scene):
    return replace(scene, gain=(1, 1, 1), slope=(0, 0))


def explained(values, groups):
    """Share of the variance between groups."""
    values, codes = np.asarray(values), np.unique(groups, return_inverse=True)[1]
    means = np.bincount(codes, values) / np.bincount(codes)
    return np.var(means[codes]) / np.var(values)


def test_scene_depends_on_both_numbers_and_nothing_else():
    assert describe_scene(42, 7) == SCENES[7]
    assert describe_scene(42, 8) != SCENES[7]
    assert describe_scene(43, 7) != SCENES[7]
    assert len({scene.seed for scene in SCENES}) == len(SCENES)


def test_there_are_twelve_categories_and_seven_backgrounds_with_all_tables_complete():
    assert len(CATEGORIES) == 12
    assert len(BACKGROUNDS) == 7
    assert set(BACKGROUNDS_OF) == set(BUILDS) == set(COLOURS_OF) == set(THINGS) == set(CATEGORIES)
    assert set(PLACES) == set(BACKGROUNDS)
    assert {name for names in BACKGROUNDS_OF.values() for name in names.split()} == set(BACKGROUNDS)
    assert {name for names in COLOURS_OF.values() for name in names.split()} == set(COLOURS)


def test_every_category_and_background_occurs_about_as_often_as_meant():
    first = [scene.objects[0].category for scene in SCENES]
    assert set(first) == set(CATEGORIES)
    assert min(first.count(category) for category in CATEGORIES) > 0.7 * len(SCENES) / 12
    assert {scene.background for scene in SCENES} == set(BACKGROUNDS)
    assert 0.16 < np.mean([len(scene.objects) == 2 for scene in SCENES]) < 0.24


def test_things_fit_their_background_and_the_picture():
    for scene in SCENES:
        for thing in scene.objects:
            assert scene.background in BACKGROUNDS_OF[thing.category].split()
            assert thing.colour in COLOURS_OF[thing.category].split()
            assert 0.1 < thing.x < 0.9
            assert thing.foot <= 0.98 + 1e-9
            assert thing.foot == thing.y + thing.size * BUILDS[thing.category].height
            if scene.background != "sky" and BUILDS[thing.category].place == "ground":
                assert thing.foot >= scene.horizon


def test_two_of_a_category_share_the_name_of_their_colour():
    pairs = [s.objects for s in SCENES if len({t.category for t in s.objects}) < len(s.objects)]
    assert len(pairs) > 100
    assert all(a.colour == b.colour for a, b in pairs)
    assert np.mean([a.rgb != b.rgb for a, b in pairs]) > 0.95


@pytest.mark.parametrize(
    "measure",
    [
        lambda scene: scene.gain[0],
        lambda scene: scene.gain[0] / scene.gain[2],
        lambda scene: scene.slope[0],
        lambda scene: scene.slope[1],
        lambda scene: scene.objects[0].x,
        lambda scene: scene.objects[0].flip,
    ],
    ids=["brightness", "cast", "left-right", "top-down", "x", "flip"],
)
def test_light_and_position_do_not_follow_from_what_captions_tell(measure):
    values = [measure(scene) for scene in SCENES]
    contents = [f"{s.background} {sorted(t.category for t in s.objects)[0]}" for s in SCENES]
    # By chance (groups - 1) / (scenes - 1) is about 0.03.
    assert explained(values, contents) < 0.06
    assert np.std(values) > 0.05


def test_light_horizon_and_size_vary_widely():
    outdoors = [s for s in SCENES if s.background in ("sea", "grass", "street", "snow", "night")]
    assert np.ptp([scene.horizon for scene in outdoors]) > 0.3
    brightness = [np.mean(scene.gain) for scene in SCENES]
    assert max(brightness) / min(brightness) > 1.5
    sizes = [s.objects[0].size for s in SCENES if s.objects[0].category == "cat"]
    assert max(sizes) / min(sizes) > 1.6


def test_picture_is_reproducible_and_of_the_asked_size():
    picture = draw_scene(SCENES[0])
    assert picture.shape == (425, 425, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, draw_scene(describe_scene(42, 0)))
    small = draw_scene(SCENES[0], 128)
    assert small.shape == (128, 128, 3)
    reduced = np.asarray(Image.fromarray(picture).resize((128, 128), Image.Resampling.LANCZOS))
    assert np.abs(small.astype(float) - reduced).mean() < 3


@pytest.mark.parametrize("category", CATEGORIES)
def test_things_are_drawn_where_the_scene_says(category):
    scene = first_scene(lambda s: [t.category for t in s.objects] == [category])
    thing = scene.objects[0]
    with_thing, without = draw_scene(scene, 128), draw_scene(replace(scene, objects=()), 128)
    rows, columns = np.nonzero((with_thing != without).any(axis=2))
    # Some reach a little beyond their frame: tails, wing tips, shadows.
    reach = 1.3 * thing.size * 128 + 2
    assert np.abs(columns - thing.x * 128).max() < reach
    assert np.abs(rows - thing.y * 128).max() < reach
    left, right = max(thing.x - thing.size, 0), min(thing.x + thing.size, 1)
    assert np.ptp(columns) > 0.6 * (right - left) * 128
    assert len(rows) > 0.2 * (2 * thing.size * 128) ** 2 * (right - left) / (2 * thing.size)


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_backgrounds_cover_the_picture_and_show_their_horizon(background):
    scene = in_even_light(first_scene(lambda s: s.background == background))
    scene = replace(scene, objects=())
    picture = draw_scene(scene, 128).astype(float)
    assert (picture.max(axis=2) > 0).all()
    if background != "sky":
        rows = np.median(picture, axis=1)
        edge = round(scene.horizon * 128)
        jumps = np.abs(np.diff(rows, axis=0)).sum(axis=1)
        assert jumps[max(edge - 5, 0) : edge + 5].max() > 5 * np.median(jumps) + 5


def test_things_have_their_colour():
    scene = first_scene(
        lambda s: [t.category for t in s.objects] == ["bus"] and s.background != "night"
    )
    picture = draw_scene(in_even_light(scene), 128)
    share = (picture == scene.objects[0].rgb).all(axis=2).mean()
    assert share > 0.3 * scene.objects[0].size ** 2


def test_light_multiplies_the_picture():
    scene = SCENES[3]
    plain = draw_scene(in_even_light(scene), 64).astype(float)
    gain, slope = (0.5, 0.75, 1.5), (0.2, -0.4)
    ramp = np.linspace(-0.5, 0.5, 64)
    field = (1 + slope[0] * ramp[None, :] + slope[1] * ramp[:, None])[..., None] * gain
    lit = draw_scene(replace(scene, gain=gain, slope=slope), 64)
    np.testing.assert_allclose(lit, np.minimum(plain * field, 255), atol=0.51)


def test_shadow_darkens_the_ground_it_falls_on():
    scene = in_even_light(first_scene(lambda s: s.background == "street" and len(s.objects) == 1))
    thing = replace(scene.objects[0], category="car", x=0.5, y=0.8, size=0.15, tilt=0.0)
    ground = draw_scene(replace(scene, objects=()), 200).astype(float)
    picture = draw_scene(replace(scene, objects=(thing,)), 200).astype(float)
    row = round(thing.foot * 200) + 1
    np.testing.assert_allclose(picture[row, 85:115] / ground[row, 85:115], 0.78, atol=0.02)
    np.testing.assert_array_equal(picture[row, :70], ground[row, :70])


def test_nearer_things_hide_farther_ones():
    scene = in_even_light(first_scene(lambda s: s.background == "grass" and len(s.objects) == 2))
    far, near = (replace(t, category="pizza", x=0.5, size=0.2) for t in scene.objects)
    far, near = replace(far, y=0.7), replace(near, y=0.75)
    expected = draw_scene(replace(scene, objects=(far, near)), 64)
    np.testing.assert_array_equal(draw_scene(replace(scene, objects=(near, far)), 64), expected)
    alone = draw_scene(replace(scene, objects=(near,)), 64)
    np.testing.assert_array_equal(expected[48], alone[48])


@pytest.mark.parametrize(
    ("spot", "rows", "columns"),
    [
        (Spot(20, 10, 8), slice(10, 15), slice(20, 29)),
        (Spot(20, 10, 8, flip=-1), slice(10, 15), slice(12, 21)),
        (Spot(20, 10, 8, tilt=np.pi / 2), slice(10, 19), slice(16, 21)),
        (Spot(20, 10, 8, flip=-1, tilt=np.pi / 2), slice(10, 19), slice(20, 25)),
    ],
    ids=["plain", "mirrored", "turned clockwise", "turned, then mirrored"],
)
def test_shapes_are_placed(spot, rows, columns):
    canvas = Image.new("RGB", (40, 30))
    paint(canvas, [box(0, 0, 1, 0.5, (255, 0, 0))], spot)
    expected = np.zeros((30, 40), dtype=bool)
    expected[rows, columns] = True
    np.testing.assert_array_equal(np.asarray(canvas)[..., 0] > 0, expected)


def test_ellipses_and_lines_have_their_area():
    canvas = Image.new("RGB", (200, 200))
    paint(canvas, [ellipse(0, 0, 0.8, 0.4, (9, 9, 9), 0.5)], Spot(100, 100, 100))
    assert (np.asarray(canvas)[..., 0] > 0).sum() == pytest.approx(np.pi * 80 * 40, rel=0.03)
    canvas = Image.new("RGB", (200, 200))
    paint(canvas, [line([(-0.5, 0), (0.5, 0)], 0.1, (9, 9, 9))], Spot(100, 100, 100))
    assert (np.asarray(canvas)[..., 0] > 0).sum() == pytest.approx(100 * 10, rel=0.05)


def test_captions_hold_only_words_that_the_demo_tokenizer_knows():
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    captions = {caption for scene in SCENES for caption in write_captions(scene)}
    for word in {word for caption in captions for word in caption.split()}:
        start, *pieces, end = tokenizer.encode(word).tokens
        assert (start, pieces, end) == ("<|startoftext|>", [f"{word}</w>"], "<|endoftext|>")
    assert max(len(caption.split()) for caption in captions) + 2 <= 24


def test_captions_name_things_colours_and_place():
    for scene in SCENES[:300]:
        colours = {t.colour for t in scene.objects if len(COLOURS_OF[t.category].split()) > 1}
        captions = write_captions(scene)
        assert len(captions) == 5
        for i, caption in enumerate(captions):
            place = next(p for p in captions_module.PLACES[scene.background] if caption.endswith(p))
            words = set(caption.removesuffix(place).split())
            assert words & set(COLOURS) == (colours if i < 3 else set())
            for thing in scene.objects:
                names = captions_module.NAMES.get(thing.category, (thing.category,))
                plurals = {captions_module.PLURALS.get(name, name + "s") for name in names}
                assert words & {*names, *plurals}


def test_captions_do_not_change_with_light_and_position():
    scene = SCENES[0]
    moved = replace(scene.objects[0], x=0.1, y=0.6, size=0.2, flip=-1, tilt=0.0, rgb=(1, 2, 3))
    other = replace(scene, objects=(moved,), gain=(1, 1, 1), slope=(0, 0), horizon=0.4)
    assert write_captions(other) == write_captions(scene)


def test_captions_are_grammatical():
    captions = [caption for scene in SCENES for caption in write_captions(scene)]
    assert not [c for c in captions if re.search(r"\ba [aeiou]|\ban [^aeiou]|  |^ | $", c)]
    two = [caption for caption in captions if re.search(r"\btwo\b", caption)]
    plural = r"\btwo (\w+ )?(people|men|buses|puppies|\w+s)\b"
    assert len(two) > 500
    assert all(re.search(plural, caption) for caption in two)
    assert not [caption for caption in two if "there is" in caption]
    assert any(caption.startswith("there are two") for caption in two)
