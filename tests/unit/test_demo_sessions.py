import json

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from nsdldm.demo import anatomy, cortex, formats, patterns, sessions
from nsdldm.demo.anatomy import STREAMS
from nsdldm.demo.categories import CATEGORIES, find_frame
from nsdldm.demo.drawing import draw_scene
from nsdldm.demo.release import simulate_subject, subject_files
from nsdldm.demo.scenes import BUILDS, Scene, describe_scene
from nsdldm.demo.scenes import CATEGORIES as THINGS
from nsdldm.nsd import layout
from nsdldm.support.errors import InputError

SUBJECT, SEED, SCENES_SEED = "subj02", 5, 6
# As in the fact sheet: first beta of each run, and the letter of each target.
ROWS = {
    **{"visA": 0, "attA": 48, "imgA_1": 144, "visB": 192, "attB": 240, "imgB_1": 336},
    **{"visC": 384, "attC": 432, "imgC_1": 528, "imgA_2": 576, "imgB_2": 624, "imgC_2": 672},
}
LETTERS = {"A": "HRVLPE", "B": "WKBCDT", "C": "YSNZFM"}
CLASSES = {
    **{"Noise": 12, "Natural scenes": 4, "Manipulated scenes": 12, "Contrast modulation": 20},
    **{"Phase-coherence modulation": 16, "Single words": 40, "Spiral gratings": 112},
    "Chromatic noise": 68,
}


def write_design(path):
    """150 images, of which 30 are shared, five times each in the first session."""
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.permutation(1000)[:30], 1000 + rng.permutation(9000)[:120]])
    shown = rng.permutation(np.repeat(numbers, 5))
    order = np.concatenate([shown, rng.integers(0, 10_000, 29_250)]) + 1
    images = np.array([rng.permutation(73_000)[:10_000] + 1 for _ in range(8)])
    images[:, :1000] = np.sort(images[0, :1000])
    design = {"masterordering": order[None], "subjectim": images, "sharedix": images[:1, :1000]}
    savemat(path, {key: value.astype(float) for key, value in design.items()})
    return images[:, order[:750] - 1] - 1


def write_stim_info(path):
    rng = np.random.default_rng(2)
    crops = rng.choice(["(0, 0, 0.125, 0.125)", "(0.0, 0.25, 0, 0)", "(0, 0, 0, 0)"], 73_000)
    splits = rng.choice(["train2017", "val2017"], 73_000)
    columns = {"cocoId": rng.permutation(73_000) + 1, "cocoSplit": splits, "cropBox": crops}
    table = pd.DataFrame(columns)
    table.to_csv(path)
    return table


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A release in which trials have no noise: root, inputs, table of stimuli, shown images."""
    root = tmp_path_factory.mktemp("release")
    seen = write_design(root / "design.mat")
    table = write_stim_info(root / "stim_info.csv")
    with h5py.File(root / "stimuli.hdf5", "w") as file:
        shape = (73_000, 425, 425, 3)
        pictures = file.create_dataset("imgBrick", shape, "u1", chunks=(1, *shape[1:]))
        for number in np.unique(seen[1]):
            pictures[number] = draw_scene(describe_scene(SCENES_SEED, int(number)))
    given = {"design": root / "design.mat", "sessions": 1, "scenes_seed": SCENES_SEED, "seed": SEED}
    targets = {
        name: root / layout.IMAGERY_TARGETS.format(set=group, name=name)
        for group, names in layout.IMAGERY_NAMES.items()
        for name in names
    }
    shared = {
        "synthetic_design": root / "synthetic.mat",
        "synthetic_stimuli": root / "synthetic.hdf5",
        "targets": targets,
    }
    sessions.simulate_shared_sets(
        **given,
        **shared,
        stim_info=root / "stim_info.csv",
        information=root / "information.csv",
        pairs={name: root / f"{name}_pair_list.mat" for name in "ABC"},
        instances={split: root / f"instances_{split}.json" for split in layout.COCO_SPLITS},
    )
    own = {**given, "subject": SUBJECT, "root": root, "stimuli": root / "stimuli.hdf5"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cortex, "simulate_noise", lambda shape, n, rng: np.zeros((n, *shape), "f4"))
        simulate_subject(**own)
        sessions.simulate_sets(**own, **shared)
    return root, targets, table, seen


@pytest.fixture(scope="module")
def scenes(made):
    """The nine images of the core that both sets show."""
    shared = sessions.find_images(made[0] / "design.mat", 1)[1]
    return sessions.choose_scenes(shared, SCENES_SEED)


def read_betas(path):
    """Percent signal change, of shape (n_trials, X, Y, Z)."""
    with h5py.File(path) as file:
        return file["betas"][:].transpose(0, 3, 2, 1) / 300


@pytest.fixture(scope="module")
def responses(made):
    """Betas by session, and regions of their voxels."""
    root = made[0]
    hemispheres = anatomy.build_hemispheres(SUBJECT, SEED)
    grid = anatomy.make_grid(hemispheres)
    sides = [anatomy.label_voxels(hemispheres[h], grid, "streams") for h in ("lh", "rh")]
    regions = anatomy.combine_hemispheres(*sides)
    core = subject_files(root, SUBJECT, 1)["betas_session01"]
    files = {"core": core, **sessions.set_files(root, SUBJECT)}
    betas = {name: read_betas(files[name]) for name in ("core", "synthetic", "imagery")}
    # Of the core, the edge that it does not measure is left out.
    regions = np.where((betas["core"] != 0).any(axis=0), regions, -1)
    known = {name: values[:, regions > 0] for name, values in betas.items()}
    return known, regions[regions > 0]


def read_order(root):
    return loadmat(root / "synthetic.mat")["masterordering"].ravel().astype(int) - 1


def read_run(root, run):
    """Targets of a run by CUE and CONDITION, and its rows among the betas."""
    path = sessions.set_files(root, SUBJECT)[run]
    table = pd.read_csv(path, sep="\t")
    step = 2 if run.startswith("att") else 1
    first = ROWS[run] + step - 1
    rows = first + step * np.arange(48)
    columns = [table[name].map(LETTERS[run[3]].index).to_numpy() for name in ("CUE", "CONDITION")]
    return table, *columns, rows


def mean_of(values, run, root):
    """Mean response to each target that was on screen, imagined or attended to."""
    _, cue, condition, rows = read_run(root, run)
    target = condition if run.startswith("vis") else cue
    return np.stack([values[rows][target == number].mean(axis=0) for number in range(6)])


def test_betas_have_the_documented_form(made):
    for name, n in (("synthetic", 744), ("imagery", 720)):
        path = sessions.set_files(made[0], SUBJECT)[name]
        folder = f"nsd{name}betas_fithrf_GLMdenoise_RR"
        assert path.endswith(f"/{SUBJECT}/func1pt8mm/{folder}/betas_nsd{name}.hdf5")
        with (
            h5py.File(path) as file,
            h5py.File(subject_files(made[0], SUBJECT, 1)["betas_session01"]) as core,
        ):
            assert list(file) == ["betas"]
            assert file["betas"].dtype == np.int16
            assert file["betas"].shape == (n, *core["betas"].shape[1:])
            assert file["betas"].chunks == (n, 1, 1, 1)


def test_design_of_nsd_synthetic(made):
    stored = loadmat(made[0] / "synthetic.mat")
    assert stored["masterordering"].shape == (1, 744)
    assert stored["stimpattern"].shape == (1, 8, 107)
    assert (stored["stimpattern"].sum(axis=2) == 93).all()
    order = stored["masterordering"].ravel()
    assert set(order) == set(range(1, 285))
    again = order[1:] == order[:-1]
    assert again.sum() == 80
    assert [again[93 * run : 93 * run + 92].sum() for run in range(8)] == [10] * 8
    ordinary = np.delete(order, np.flatnonzero(again) + 1)
    assert np.unique(ordinary, return_counts=True)[1].min() == 2


def test_table_of_pictures(made):
    table = pd.read_csv(made[0] / "information.csv")
    assert list(table) == [
        *("Image number", "Image", "Image subclass number"),
        *("Image subclass", "Image class number", "Image class"),
    ]
    assert table["Image number"].tolist() == list(range(1, 285))
    assert table.groupby("Image class", sort=False).size().to_dict() == CLASSES
    assert (table.groupby("Image subclass").size() == 4).all()
    assert table["Image subclass number"].tolist() == np.repeat(range(1, 72), 4).tolist()
    assert table["Image class number"].nunique() == 8
    assert table["Image"].is_unique
    assert {"natscene_1", "spiral_A_sf1_1", "word4_pos1_1"} <= {*table["Image"]}


def test_pictures_are_stored_in_linear_light(made, scenes):
    with h5py.File(made[0] / "synthetic.hdf5") as file:
        pictures = file["imgBrick"]
        assert pictures.shape == (220, 714, 1360, 3)
        assert pictures.dtype == np.uint8
        shown = np.sqrt(pictures[12, :, 323:1037] / 255) * 255
        assert np.abs(shown - draw_scene(describe_scene(SCENES_SEED, scenes[0]), 714)).max() < 9
        assert np.array_equal(pictures[16], pictures[12][::-1, ::-1])
        for number in (64, 80, 84, 100):  # first and last place, four and six letters
            assert (pictures[number, :, 323:1037] == 128).all()
            assert (pictures[number] != 128).any()
    with h5py.File(sessions.set_files(made[0], SUBJECT)["colours"]) as file:
        assert file["imgBrick"].shape == (64, 714, 1360, 3)


def test_contrast_and_coherence_are_graded():
    rng = np.random.default_rng(0)
    scene = rng.integers(60, 200, (714, 714, 3), np.uint8)
    kinds = [kind.name for kind in patterns.KINDS]

    def draw(name):
        number = 4 * kinds.index(name)
        return patterns.draw_picture(number, [scene] * 4, 0)[:, 323:1037].astype(float)

    natural = draw("natscene")
    for level in (100, 50, 10):
        weakened = draw(f"contrast{level}")
        assert np.abs(weakened - 127.5 - (natural - 127.5) * level / 100).max() < 1.1
    for level in (75, 50, 25, 0):
        mixed = draw(f"coherence{level}")
        r = np.corrcoef(mixed.ravel(), natural.ravel())[0, 1]
        assert r == pytest.approx(level / 100, abs=0.05)
        assert mixed.std() == pytest.approx(natural.std(), rel=0.1)


def test_phases_of_gratings_are_a_quarter_apart():
    number = 4 * [kind.name for kind in patterns.KINDS].index("spiral_A_sf1")
    first, second, third = (
        patterns.draw_picture(number + k, [], 0)[..., 0].astype(float) - 127.5 for k in range(3)
    )
    assert np.abs(first + third).max() <= 1
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_hues_are_isoluminant_for_each_person():
    luminance = (0.25, 0.65, 0.1)
    hues = [patterns.draw_picture(220 + 4 * k, [], 0, luminance)[:, 323:1037] for k in range(16)]
    for picture in hues:
        assert np.ptp(picture @ np.array(luminance)) < 2
        assert np.ptp(picture, axis=(0, 1)).max() > 20
    means = np.array([picture.mean(axis=(0, 1)) for picture in hues])
    assert (means[0] - 127.5) @ (means[8] - 127.5) < 0
    other = patterns.draw_picture(220, [], 0)[:, 323:1037]
    assert np.ptp(other @ np.array(luminance)) > 2


def test_imagery_has_the_documented_files(made):
    for run in layout.IMAGERY_RUNS:
        table, cue, condition, _ = read_run(made[0], run)
        assert list(table) == ["SUBJECT", "RUN", "TRIAL", "CONDITION", "CUE", "FRAMEFILE"]
        assert table["TRIAL"].tolist() == list(range(1, 49))
        assert np.bincount(condition, minlength=6).tolist() == [8] * 6
        same = cue == condition
        assert same.sum() == (24 if run.startswith("vis") else 48)
    for group, letters in LETTERS.items():
        cells = loadmat(made[0] / f"{group}_pair_list.mat")["pair_list"]
        assert cells.shape == (6, 3)
        assert [int(row[0].item()) for row in cells] == [1, 2, 3, 4, 5, 6]
        assert "".join(row[2].item() for row in cells) == letters
        names = [row[1].item() for row in cells]
        assert names == list(layout.IMAGERY_NAMES.get(group, sessions.WORDS))


def test_targets_are_what_their_names_say(made, scenes):
    pictures = {name: np.asarray(Image.open(path)) for name, path in made[1].items()}
    # Darkness in pixels: edges between two pixels are grey.
    flat = 1 - pictures["bar_000.0deg_450L_43W"][..., 0] / 128
    assert flat.sum(axis=0).max() == 43
    assert flat.sum(axis=1).max() == 450
    assert np.array_equal(flat.T, 1 - pictures["bar_090.0deg_450L_43W"][..., 0] / 128)
    # Anticlockwise: from the lower left to the upper right.
    rising = pictures["bar_045.0deg_450L_43W"][..., 0]
    assert rising[257, 457] == 0
    assert rising[257, 257] == 128
    cross = pictures["crs_045.0deg_450L_43W"][..., 0]
    assert cross[257, 457] == cross[257, 257] == 0
    for name, number in zip(layout.IMAGERY_NAMES["B"], [*scenes[4:], 73_000], strict=True):
        expected = draw_scene(describe_scene(SCENES_SEED, int(number)))
        assert np.array_equal(pictures[name], expected)


def test_scenes_are_shared_images_of_different_things(made, scenes):
    shared = set(made[3][0]).intersection(*made[3][1:])
    assert len(set(scenes)) == 9
    assert set(scenes) <= shared
    things = [describe_scene(SCENES_SEED, int(n)).objects for n in scenes]
    assert all(len(each) == 1 for each in things[:4])
    assert len({each[0].category for each in things[:4]}) == 4


def test_the_brain_answers_to_a_picture_as_in_the_core(made, responses, scenes):
    """Differences between pictures, in which the mean of a session cancels."""
    values, regions = responses
    order, seen = read_order(made[0]), made[3][1]
    core = np.stack([values["core"][seen == n].mean(axis=0) for n in scenes[:4]])
    natural = np.stack([values["synthetic"][order == 12 + k].mean(axis=0) for k in range(4)])
    core, natural = core[1:] - core[0], natural[1:] - natural[0]
    for label in STREAMS.values():
        inside = regions == label
        assert np.corrcoef(core[:, inside].ravel(), natural[:, inside].ravel())[0, 1] > 0.98
        ratio = natural[:, inside].std() / core[:, inside].std()
        # Gains differ from session to session.
        assert ratio == pytest.approx(1, abs=0.2)


def test_content_fades_with_contrast_and_patterns_have_none(made, responses):
    values, regions = responses
    order = read_order(made[0])
    ventral = values["synthetic"][:, regions == STREAMS["ventral"]]
    kinds = [kind.name for kind in patterns.KINDS]

    def spread(name):
        """Differences between the four pictures of a kind."""
        numbers = 4 * kinds.index(name) + np.arange(4)
        return np.stack([ventral[order == n].mean(axis=0) for n in numbers]).std(axis=0).mean()

    natural = spread("natscene")
    assert spread("contrast100") == pytest.approx(natural, rel=0.05)
    assert spread("contrast50") == pytest.approx(natural / 2, rel=0.3)
    assert spread("contrast4") < 0.15 * natural
    assert spread("word4_pos3") < 0.2 * natural
    assert spread("coherence75") > spread("coherence25")


def test_imagery_is_weaker_than_vision_above_all_in_early_cortex(made, responses):
    values, regions = responses
    early, ventral = (regions == STREAMS[name] for name in ("early", "ventral"))
    for group in "AB":
        runs = {task: f"{task}{group}" for task in ("vis", "att")} | {"img": f"img{group}_2"}
        means = {task: mean_of(values["imagery"], run, made[0]) for task, run in runs.items()}
        # Gains of early and ventral cortex, as wanted.
        for task, gains in {"vis": (1, 1), "img": (0.25, 0.5), "att": (0.1, 0.3)}.items():
            for inside, gain in zip((early, ventral), gains, strict=True):
                seen, found = (
                    means[each][1:, inside] - means[each][0, inside] for each in ("vis", task)
                )
                if group == "A" and inside is ventral:
                    continue  # no content
                slope = (seen * found).sum() / (seen**2).sum()
                assert slope == pytest.approx(gain, abs=0.02)


def test_cues_of_attention_and_the_look_of_words_drive_nothing(made, responses):
    values, regions = responses
    for group in "ABC":
        cues = values["imagery"][ROWS[f"att{group}"] : ROWS[f"att{group}"] + 96 : 2]
        assert np.ptp(cues, axis=0).max() < 0.01
    words = mean_of(values["imagery"], "visC", made[0])
    assert np.ptp(words[:, regions == STREAMS["early"]], axis=0).max() < 0.01
    # Of the six words, the simulated cortex knows only a colour.
    ventral = words[:, regions == STREAMS["ventral"]]
    assert np.ptp(ventral[1:], axis=0).max() < 0.01
    assert np.abs(ventral[0] - ventral[1]).max() > 0.05


def test_instances_agree_with_scenes(made):
    root, _, table, seen = made
    shown = np.unique(seen)
    found = 0
    for split in layout.COCO_SPLITS:
        content = json.loads((root / f"instances_{split}.json").read_text())
        names = {entry["id"]: entry["name"] for entry in content["categories"]}
        assert all(entry["supercategory"] for entry in content["categories"])
        own = table.loc[shown][table.loc[shown, "cocoSplit"] == split]
        assert [entry["id"] for entry in content["images"]] == own["cocoId"].tolist()
        sizes = {entry["id"]: (entry["width"], entry["height"]) for entry in content["images"]}
        listed = {}
        for entry in content["annotations"]:
            listed.setdefault(entry["image_id"], []).append(entry)
            left, top, width, height = entry["bbox"]
            assert 0 < entry["area"] < width * height
            assert left + width <= sizes[entry["image_id"]][0] + 0.02
            assert top + height <= sizes[entry["image_id"]][1] + 0.02
            assert entry["iscrowd"] == 0
        for nsd_id, row in own.iterrows():
            things = [thing.category for thing in describe_scene(SCENES_SEED, nsd_id).objects]
            assert [names[entry["category_id"]] for entry in listed[row["cocoId"]]] == things
            found += len(things)
        numbers = [entry["id"] for entry in content["annotations"]]
        assert len(set(numbers)) == len(numbers)
    assert found > len(shown)
    assert set(CATEGORIES) == set(THINGS)


def test_boxes_lie_in_the_square_that_is_shown(made):
    _, _, table, seen = made
    nsd_id = int(np.unique(seen)[0])
    row, thing = table.loc[nsd_id], describe_scene(SCENES_SEED, nsd_id).objects[0]
    content = json.loads((made[0] / f"instances_{row['cocoSplit']}.json").read_text())
    entry = next(each for each in content["annotations"] if each["image_id"] == row["cocoId"])
    frame = find_frame(row["cropBox"])
    left, top, width, height = entry["bbox"]
    tall = thing.size * BUILDS[thing.category].height
    low, high = (np.clip(thing.x + sign * thing.size, -1, 2) for sign in (-1, 1))
    assert left == pytest.approx(max(frame["left"] + low * frame["side"], 0), abs=0.01)
    right = min(frame["left"] + high * frame["side"], frame["width"])
    assert left + width == pytest.approx(right, abs=0.02)
    bottom = min(frame["top"] + (thing.y + tall) * frame["side"], frame["height"])
    assert top + height == pytest.approx(bottom, abs=0.02)
    assert find_frame("(0, 0, 0.125, 0.125)") == {
        **{"width": 640, "height": 480},
        **{"left": 80.0, "top": 0, "side": 480.0},
    }


def test_other_betas_have_more_noise(tmp_path):
    rng = np.random.default_rng(0)
    true = rng.integers(-300, 300, (200, 6, 5, 4)).astype(np.int16)
    true[:, 0] = 0
    formats.write_betas_hdf5(tmp_path / "b3.hdf5", true)
    arguments = {"betas": [tmp_path / "b3.hdf5"], "subject": SUBJECT, "seed": SEED}
    for name in ("b2.hdf5", "again.hdf5"):
        sessions.simulate_other_betas(**arguments, outputs=[tmp_path / name])
    with h5py.File(tmp_path / "b2.hdf5") as file:
        assert file["betas"].dtype == np.int16
        assert file["betas"].shape == (200, 4, 5, 6)
        assert file["betas"].chunks == (200, 1, 1, 1)
    added = read_betas(tmp_path / "b2.hdf5") - true / 300
    assert not added[:, 0].any()
    level = anatomy.subject_generator(SEED, SUBJECT, "voxels").standard_normal((6, 5, 4), "f4")
    expected = 0.5 * 1.5 * np.exp(0.3 * level)
    assert added[:, 1:].std(axis=0) / expected[1:] == pytest.approx(1, abs=0.2)
    assert np.array_equal(*(read_betas(tmp_path / name) for name in ("b2.hdf5", "again.hdf5")))


def test_images_beside_the_core_change_nothing_in_it():
    """Of the core, responses are the same with others after it, and those are on its scale."""
    rng = np.random.default_rng(0)
    regions = np.zeros((6, 6, 4), int)
    regions[:3], regions[3:] = STREAMS["early"], STREAMS["ventral"]
    scenes = [describe_scene(3, number) for number in range(50)]
    channels = rng.random((3, 50, 85 * 85), np.float32)
    given = {"regions": regions, "fields": rng.uniform(-3, 3, (*regions.shape, 2)), "level": 1.0}

    def respond(n, **more):
        rng = np.random.default_rng(4)
        return cortex.simulate_signal(
            **given, channels=channels[:, :n], scenes=scenes[:n], rng=rng, **more
        )

    alone = respond(40)
    assert np.array_equal(alone, respond(40, reference=40, strength=np.ones(40)))
    together = respond(50, reference=40)
    assert together[:40] == pytest.approx(alone, abs=1e-4)
    assert not np.allclose(respond(50)[:40], alone, atol=1e-2)
    weak = np.ones(50)
    weak[40:] = 0
    ventral = respond(50, reference=40, strength=weak)[40:, regions.ravel() == STREAMS["ventral"]]
    full = together[40:, regions.ravel() == STREAMS["ventral"]]
    assert ventral.std(axis=0).mean() < 0.4 * full.std(axis=0).mean()


def test_a_picture_without_content_counts_nothing():
    tables = cortex.tabulate_content([Scene((), "", 0, (1, 1, 1), (0, 0), 0)])
    assert not any(table.any() for table in tables.values())


def test_too_few_shared_images_are_refused():
    with pytest.raises(InputError, match="at least 9 shared images"):
        sessions.choose_scenes(np.arange(8), 0)
    assert len(set(sessions.choose_scenes(np.arange(9), 0))) == 9


def test_targets_are_twelve(made, tmp_path):
    root, targets, *_ = made
    with pytest.raises(InputError, match="12 targets"):
        sessions.simulate_shared_sets(
            design=root / "design.mat",
            stim_info=root / "stim_info.csv",
            sessions=1,
            scenes_seed=SCENES_SEED,
            seed=SEED,
            synthetic_design=tmp_path / "synthetic.mat",
            information=tmp_path / "information.csv",
            synthetic_stimuli=tmp_path / "synthetic.hdf5",
            pairs={},
            targets=dict(list(targets.items())[:5]),
            instances={},
        )
    assert not (tmp_path / "synthetic.hdf5").exists()
