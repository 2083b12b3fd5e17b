from itertools import pairwise

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from features_networks import save_networks
from nesting import nest
from nsd_files import write_stimuli
from PIL import Image
from skimage.metrics import structural_similarity

from nsdldm.diffusion.pictures import ATTRIBUTES
from nsdldm.evaluation import evaluate, pixels
from nsdldm.evaluation.baselines import average_pictures
from nsdldm.evaluation.evaluate import Comparison, Score, evaluate_reconstructions, summarize
from nsdldm.evaluation.identification import correlate_rows, derange
from nsdldm.features.networks import load_extractors
from nsdldm.features.views import View
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array, load_table, save_array

CPU = torch.device("cpu")
TEST = np.array([9, 2, 5, 7, 3])
TRAIN = np.array([1, 4])
N, SAMPLES, SIDE = len(TEST), 2, 64
BATCH = {"n_way": 4, "device": "cpu", "batch_size": 4, "bootstrap": 200, "seed": 3}
DEMO = ("demo-clip", "demo-alexnet", "demo-judge")


@pytest.fixture(scope="module")
def pictures():
    """Blocks of colour; what is made is the seen picture, coarser and with noise."""
    rng = np.random.default_rng(0)
    seen = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (6, 6, 3), "u1")).resize(
                (425, 425), Image.Resampling.NEAREST
            )
        )
        for _ in TEST
    ]
    made = np.empty((N, SAMPLES, SIDE, SIDE, 3), "u1")
    for i, picture in enumerate(seen):
        small = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE))).astype(int)
        noise = rng.integers(-60, 60, (SAMPLES, SIDE, SIDE, 3))
        made[i] = np.clip(small + noise, 0, 255)
    return np.array(seen), made


@pytest.fixture(scope="module")
def training():
    """Training pictures of gradients, of which no test picture has any."""
    x, y = np.meshgrid(*[np.linspace(0, 254, 425)] * 2)
    return np.stack([np.stack(c, -1).astype("u1") for c in ((x, y, x + 1), (y, y, 255 - x))])


@pytest.fixture(scope="module")
def mean(training):
    """Their mean."""
    return np.round((training[0].astype(float) + training[1]) / 2).astype("u1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pictures, training, mean):
    folder = tmp_path_factory.mktemp("evaluation")
    shown = dict(zip([*TEST, *TRAIN], [*pictures[0], *training], strict=True))
    write_stimuli(folder / "stimuli.hdf5", shown, 12)
    save_array(folder / "mean.npy", mean)
    table = {"nsd_id": [*TRAIN, *TEST], "split": ["train"] * len(TRAIN) + ["test"] * N}
    pd.DataFrame(table).iloc[[2, 0, 3, 4, 5, 1, 6]].to_csv(
        folder / "images.tsv", sep="\t", index=False
    )
    save_networks(folder / "model")
    return folder


def write_made(path, made, nsd_ids=TEST):
    with h5py.File(path, "w") as file:
        chunks = (1, 1, *made.shape[2:])
        file.create_dataset("images", data=made, chunks=chunks, compression="gzip")
        file["nsd_id"] = np.asarray(nsd_ids, "i8")
        file.attrs.update(dict.fromkeys(ATTRIBUTES, "made up"))
    return path


def run(folder, output, made, networks=(), absent=(), **changes):
    files = {name: output / f"{name}.tsv" for name in ("table", "samples", "summary")}
    inputs = {
        "reconstructions": write_made(output / "made.h5", made),
        "images": folder / "images.tsv",
        "stimuli": folder / "stimuli.hdf5",
        "mean_picture": folder / "mean.npy",
        "networks": {name: {"weights": folder / "model"} for name in networks} | dict(absent),
    }
    evaluate_reconstructions(**nest(inputs | BATCH | files | changes, comparison=Comparison))
    tables = {name: load_table(path) for name, path in files.items()}
    for name in ("table", "samples"):
        assert np.isfinite(tables[name]["value"]).all()
    assert "nan" not in files["summary"].read_text().split()
    tables["summary"] = tables["summary"].set_index("metric")
    return tables


@pytest.fixture(scope="module")
def tables(folder, pictures, tmp_path_factory):
    output = tmp_path_factory.mktemp("tables")
    return run(folder, output, pictures[1], DEMO, absent={"alexnet": None})


def by_image(tables, metric):
    table = tables["table"]
    part = table[table["metric"] == metric]
    np.testing.assert_array_equal(part["nsd_id"], TEST)
    return part["value"].to_numpy()


def by_sample(tables, metric):
    table = tables["samples"]
    part = table[table["metric"] == metric]
    np.testing.assert_array_equal(part["nsd_id"], np.repeat(TEST, SAMPLES))
    np.testing.assert_array_equal(part["sample"], np.tile(range(SAMPLES), N))
    return part["value"].to_numpy().reshape(N, SAMPLES)


def features_of(folder, name, layer, pictures):
    look = load_extractors(name, {"weights": folder / "model"}, CPU)[0][1]
    return look(list(pictures))[layer]


def test_columns_of_the_three_tables(tables):
    assert list(tables["table"]) == ["nsd_id", "metric", "value"]
    assert list(tables["samples"]) == ["nsd_id", "sample", "metric", "value"]
    assert tables["summary"].reset_index().columns.tolist() == [
        *("metric", "value", "ci_low", "ci_high", "ties_missed", "chance_random", "chance_mean"),
        *("chance_shuffled", "n_images", "n_samples", "note"),
    ]
    assert (tables["summary"]["n_images"] == N).all()
    assert (tables["summary"]["n_samples"] == SAMPLES).all()


def test_pixel_metrics_are_means_over_samples(tables, pictures):
    seen, made = pictures
    for metric, function in (
        ("pixcorr", lambda a, b: np.corrcoef(a.ravel(), b.ravel())[0, 1]),
        ("mse", lambda a, b: np.square(a - b).mean()),
    ):
        expected = [
            [function(picture / 255, np.asarray(Image.fromarray(m).resize((425, 425))) / 255)]
            for picture, group in zip(seen, made, strict=True)
            for m in group
        ]
        expected = np.array(expected).reshape(N, SAMPLES)
        np.testing.assert_allclose(by_image(tables, metric), expected.mean(1), rtol=1e-5)
        if metric == "pixcorr":
            np.testing.assert_allclose(by_sample(tables, metric), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "name, layer",
    [("demo-clip", "image_embeds"), ("demo-alexnet", "conv2"), ("demo-judge", "features")],
)
def test_psm_and_identification_equal_the_published_loop(folder, tables, pictures, name, layer):
    seen, made = pictures
    original = features_of(folder, name, layer, seen)
    generated = features_of(folder, name, layer, made.reshape(-1, SIDE, SIDE, 3))
    generated = generated.reshape(N, SAMPLES, -1)
    r = np.array([[np.corrcoef(o, g)[0, 1:] for g in generated] for o in original])
    psm = r[np.arange(N), np.arange(N)]
    np.testing.assert_allclose(by_sample(tables, f"psm:{name}:{layer}"), psm, atol=2e-5)
    np.testing.assert_allclose(by_image(tables, f"psm:{name}:{layer}"), psm.mean(1), atol=2e-5)
    mean = r.mean(2)
    row = [(mean[i, i] > np.delete(mean[i], i)).mean() for i in range(N)]
    column = [(mean[i, i] > np.delete(mean[:, i], i)).mean() for i in range(N)]
    np.testing.assert_allclose(by_image(tables, f"2way:{name}:{layer}"), row, rtol=1e-5)
    np.testing.assert_allclose(
        by_image(tables, f"2way-reconstruction:{name}:{layer}"), column, rtol=1e-5
    )


def test_judge_scores_follow_its_logits(folder, tables, pictures):
    seen, made = pictures
    logits = features_of(folder, "demo-judge", "logits", seen)
    found = features_of(folder, "demo-judge", "logits", made.reshape(-1, SIDE, SIDE, 3))
    found = found.reshape(N, SAMPLES, -1)
    right = np.empty((3, N, SAMPLES))
    for i, s in np.ndindex(N, SAMPLES):
        label = logits[i, :12].argmax()
        own = found[i, s, :12]
        worse = (own < own[label]).sum()
        right[0, i, s] = np.prod([(worse - k) / (11 - k) for k in range(3)])
        right[1, i, s] = logits[i, own.argmax()] > 0 or own.argmax() == label
        right[2, i, s] = found[i, s, 12:].argmax() == logits[i, 12:].argmax()
    for kind, values in zip(("nway", "category", "background"), right, strict=True):
        expected = pytest.approx(values.mean(1), abs=1e-5)
        assert by_image(tables, f"{kind}:demo-judge") == expected
        if kind != "nway":
            np.testing.assert_array_equal(by_sample(tables, f"{kind}:demo-judge"), values)


def test_clip_score_is_the_cosine_of_embeddings(folder, tables, pictures):
    seen, made = pictures
    original = features_of(folder, "demo-clip", "image_embeds", seen)
    generated = features_of(folder, "demo-clip", "image_embeds", made.reshape(-1, SIDE, SIDE, 3))
    original, generated = (torch.from_numpy(values) for values in (original, generated))
    expected = torch.cosine_similarity(original[:, None], generated.view(N, SAMPLES, -1), dim=2)
    np.testing.assert_allclose(by_sample(tables, "clipscore:demo-clip"), expected, atol=2e-5)
    np.testing.assert_allclose(by_image(tables, "clipscore:demo-clip"), expected.mean(1), atol=2e-5)
    row = tables["summary"].loc["clipscore:demo-clip"]
    partners = derange(N, BATCH["seed"])
    level = torch.cosine_similarity(original, original[partners]).mean()
    assert row["chance_random"] == pytest.approx(level.item(), abs=2e-5)


def test_cosine_of_opposite_and_of_zero_embeddings():
    seen = np.array([[3.0, 1, 0], [4, 0, 0]])[..., None]
    made = np.array([[-6.0, 1, 1], [-8, 1, 1]])[..., None]
    cosines = evaluate.PAIRS["clipscore"](made, seen=seen, n_way=None)
    np.testing.assert_allclose(cosines[:, 0], [-1, np.sqrt(0.5), 0])


def test_several_numbers_of_classes(folder, tables, pictures, tmp_path, no_pixels):
    found = run(
        folder, tmp_path, pictures[1], ["demo-judge"], n_way=[2, 4], absent={"vit-h-14": None}
    )
    single = by_image(tables, "nway:demo-judge")
    np.testing.assert_array_equal(by_image(found, "nway-4:demo-judge"), single)
    np.testing.assert_array_equal(by_image(tables, "nway-4:demo-judge"), single)
    pairs = by_image(found, "nway:demo-judge")
    np.testing.assert_array_equal(by_image(found, "nway-2:demo-judge"), pairs)
    logits = features_of(folder, "demo-judge", "logits", pictures[0])[:, :12]
    logits_made = features_of(
        folder, "demo-judge", "logits", pictures[1].reshape(-1, SIDE, SIDE, 3)
    )[:, :12].reshape(N, SAMPLES, 12)
    own = np.take_along_axis(logits_made, logits.argmax(1)[:, None, None], 2)
    # One other class of eleven, each as likely.
    np.testing.assert_allclose(pairs, (logits_made < own).sum(2).mean(1) / 11, rtol=1e-5)
    missing = found["summary"].filter(like="vit-h-14", axis=0)
    assert missing.index.tolist() == ["nway:vit-h-14", "nway-2:vit-h-14", "nway-4:vit-h-14"]
    with pytest.raises(InputError, match="from 2 to 12 classes, found 13"):
        run(folder, tmp_path, pictures[1], ["demo-judge"], n_way=[4, 13])


@pytest.fixture
def no_pixels(monkeypatch):
    """Leave out what takes long, where it is not what is tested."""
    zeros = dict.fromkeys(pixels.METRICS, 0.0)
    monkeypatch.setattr(pixels, "compare_pictures", lambda seen, made: zeros)


@pytest.mark.parametrize("level", evaluate.CHANCE)
def test_chance_levels_are_the_scores_of_what_knows_nothing(
    folder, tables, pictures, mean, tmp_path, no_pixels, level
):
    seen, made = pictures
    partners = derange(N, BATCH["seed"])
    pretended = {
        "chance_random": seen[partners][:, None],
        "chance_mean": np.broadcast_to(mean, seen.shape)[:, None],
        "chance_shuffled": made[partners],
    }
    found = run(folder, tmp_path, pretended[level], DEMO)["summary"]["value"]
    chance = tables["summary"][level]
    for metric in found.index.difference(pixels.METRICS):
        assert chance[metric] == pytest.approx(found[metric], rel=1e-4, abs=1e-5), metric


def test_chance_levels_of_metrics_by_pixel(tables, pictures, mean):
    seen, made = pictures
    partners = derange(N, BATCH["seed"])
    pretended = (seen[partners], [mean] * N, made[partners, 0])
    for level, others in zip(evaluate.CHANCE, pretended, strict=True):
        values = [
            pixels.compare_pictures(
                pixels.prepare_picture(own), pixels.prepare_picture(other, own.shape[:2])
            )
            for own, other in zip(seen, others, strict=True)
        ]
        for metric, value in pd.DataFrame(values).mean().items():
            found = tables["summary"].loc[metric, level]
            assert found == pytest.approx(value, rel=1e-4, abs=1e-5), metric


def test_mean_picture_of_the_training_images_ties(folder, tables, mean, tmp_path):
    average_pictures(
        images=folder / "images.tsv", stimuli=folder / "stimuli.hdf5", output=tmp_path / "mean.npy"
    )
    np.testing.assert_array_equal(load_array(tmp_path / "mean.npy"), mean)
    chance = tables["summary"]["chance_mean"]
    for layer in ("image_embeds", "hidden_1"):
        assert chance[f"2way:demo-clip:{layer}"] == 0.5
        assert chance[f"2way-reconstruction:demo-clip:{layer}"] == 0.5


def test_a_mean_of_no_training_picture_is_refused(folder, tmp_path):
    table = load_table(folder / "images.tsv").assign(split="test")
    table.to_csv(tmp_path / "images.tsv", sep="\t", index=False)
    with pytest.raises(InputError, match="expected training images, found none"):
        average_pictures(
            images=tmp_path / "images.tsv", stimuli=folder / "stimuli.hdf5", output=tmp_path / "x"
        )


def test_summary_is_the_mean_with_an_interval(tables):
    summary = tables["summary"].dropna(subset="value")
    for metric, row in summary.iterrows():
        values = by_image(tables, metric)
        assert row["value"] == pytest.approx(values.mean(), rel=1e-4, abs=1e-6)
        assert values.min() - 1e-6 <= row["ci_low"] <= row["value"] + 1e-6
        assert row["value"] - 1e-6 <= row["ci_high"] <= values.max() + 1e-6
    assert summary.loc["pixcorr", "ci_low"] < summary.loc["pixcorr", "ci_high"]


def test_what_cannot_be_computed_says_so(tables):
    rows = tables["summary"].loc[["alexnet2", "2way:alexnet:features.5"]]
    assert rows["ties_missed"].isna().all()
    assert (rows["note"] == "not computed: no weights are given").all()
    assert rows[["value", "ci_low", "chance_mean"]].isna().all().all()
    assert "alexnet2" not in set(tables["table"]["metric"])


def test_equal_pictures_tie_whatever_batch_they_fall_into(folder, tmp_path, pictures, no_pixels):
    made = np.repeat(pictures[1][:1, :1], N, axis=0)
    summary = run(folder, tmp_path, made, DEMO, batch_size=1)["summary"]
    ties = summary.filter(regex="^2way:", axis=0)
    assert (ties["value"] == 0.5).all() and (ties["ties_missed"] == 0).all()
    others = summary.filter(regex="^2way-rec", axis=0)
    assert (others["value"] == 0.5).all() and (others["ties_missed"] == 0.5).all()
    assert summary.filter(regex="^(?!2way)", axis=0)["ties_missed"].isna().all()


def test_constant_reconstructions_have_defined_scores(folder, tmp_path, pictures):
    made = pictures[1].copy()
    made[2], made[3] = 0, 200
    found = run(folder, tmp_path, made, DEMO)
    for metric in ("pixcorr", "corr16"):
        np.testing.assert_array_equal(by_image(found, metric)[[2, 3]], 0)
    numbers = found["summary"].drop(columns=["note", "ties_missed"])
    assert np.isfinite(numbers.to_numpy(float)).all()


def test_reconstructions_that_are_all_black_have_defined_scores(
    folder, tmp_path, pictures, no_pixels
):
    found = run(folder, tmp_path, np.zeros_like(pictures[1]), DEMO)["summary"]
    assert np.isfinite(found.drop(columns=["note", "ties_missed"]).to_numpy(float)).all()
    # Their features are equal, and in these networks not constant.
    assert (found.filter(regex="^2way:", axis=0)["value"] == 0.5).all()


def test_results_do_not_depend_on_the_batch(folder, tmp_path, pictures, tables, no_pixels):
    found = run(folder, tmp_path, pictures[1], DEMO, batch_size=1)
    networks = ~found["table"]["metric"].isin(pixels.METRICS)
    for metric in found["table"].loc[networks, "metric"].unique():
        values = by_image(tables, metric)
        np.testing.assert_allclose(by_image(found, metric), values, rtol=1e-4, atol=1e-5)


def test_seeded_and_reproducible(folder, tmp_path, pictures, tables):
    first, again = (run(folder, tmp_path, pictures[1])["summary"] for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    other = run(folder, tmp_path, pictures[1], seed=4)["summary"]
    assert (other["value"] == first["value"]).all()
    assert (other["chance_random"] != first["chance_random"]).any()


def test_community_scores_take_one_sample_at_a_time():
    rng = np.random.default_rng(0)
    made = rng.standard_normal((5, 5, 3)) + 0.8 * np.eye(5)[..., None]
    parts = {"made": made} | dict.fromkeys(evaluate.CHANCE, made[..., :1])
    community = {"inception": ("a", "2way"), "swav": ("a", "distance")}
    view = View(None, None, None, {"a": "a"}, community=community)
    scores = evaluate.score_view("x", view, {"a": parts}, {}, [2])
    success = made < np.einsum("iis->is", made)
    expected = success.sum(0).mean(1) / 4  # Brain-Diffuser's formula, column by column
    np.testing.assert_allclose(scores["inception"].values, expected)
    distance = 1 - np.einsum("iis->is", made).mean(1)
    np.testing.assert_allclose(scores["swav"].values, distance)


def test_identification_with_constant_features_is_lost_and_their_correlation_is_zero():
    """A network that sees nothing in picture 1, and the published loop in numpy."""
    rng = np.random.default_rng(0)
    seen = rng.standard_normal((4, 50))
    made = -0.3 * seen[:, None] + rng.standard_normal((4, 2, 50))
    made[1] = 0.25
    with np.errstate(invalid="ignore"):
        r = np.array([[np.corrcoef(o, g)[0, 1:] for g in made] for o in seen])
    mean = r.mean(axis=2)
    published = [np.mean([mean[i, i] > mean[i, j] for j in range(4) if j != i]) for i in range(4)]
    parts = {"made": correlate_rows(seen, made.reshape(8, 50)).reshape(4, 4, 2)}
    parts |= dict.fromkeys(evaluate.CHANCE, parts["made"])
    view = View(None, None, None, {"a": "a"}, psm=("a",))
    scores = evaluate.score_view("x", view, {"a": parts}, {}, [2])
    np.testing.assert_array_equal(scores["2way:x:a"].values, published)
    assert published[1] == 0 and scores["2way:x:a"].ties_missed == np.mean(published)
    assert scores["psm:x:a"].values[1] == 0
    assert np.isfinite(scores["psm:x:a"].values).all()


def test_summary_keeps_the_order_of_the_metrics():
    score = Score(np.array([0.0, 1.0]), (0.1, 0.2, 0.3), None, "how")
    missing = Score(np.array([]), (), None, "not computed: why")
    table = summarize({"a": score, "b": missing, "c": score}, 1, 10, 0)
    assert table["metric"].tolist() == ["a", "b", "c"]
    assert table.loc[1, "note"] == "not computed: why" and table.loc[1, "value"] == ""


@pytest.mark.parametrize("n_way", [1, 13])
def test_impossible_number_of_classes_is_refused(folder, tmp_path, pictures, n_way, no_pixels):
    with pytest.raises(InputError, match="from 2 to 12 classes"):
        run(folder, tmp_path, pictures[1], ["demo-judge"], n_way=n_way)


def test_reconstructions_of_other_images_or_shapes_are_refused(folder, tmp_path, pictures):
    made = pictures[1]
    output = tmp_path / "x.h5"
    shape, images = r"uint8 images of shape \(n_images, n_samples", "pictures of the 5 test images"
    for values, nsd_ids, expected in (
        (made, TEST[::-1], images),
        (made[:-1], TEST[:-1], images),
        (made[:, :, ..., :2], TEST, shape),
        (made.astype("f4"), TEST, shape),
        (made[:-1], TEST, shape),
    ):
        write_made(output, values, nsd_ids)
        with pytest.raises(InputError, match=rf"x\.h5: expected {expected}"):
            run(folder, tmp_path, made, reconstructions=output)
    output.write_bytes(b"no HDF5")
    with pytest.raises(InputError, match=r"x\.h5: expected an HDF5 file of reconstructions"):
        run(folder, tmp_path, made, reconstructions=output)


def test_one_test_image_is_too_few(tmp_path, pictures):
    table = pd.DataFrame({"nsd_id": [9], "split": ["test"]})
    table.to_csv(tmp_path / "images.tsv", sep="\t", index=False)
    write_made(tmp_path / "made.h5", pictures[1][:1], [9])
    with pytest.raises(InputError, match="at least 2 test images, found 1"):
        run(tmp_path, tmp_path, pictures[1], images=tmp_path / "images.tsv")


def test_ssim_chance_of_the_mean_picture_is_scikit_images(tables, pictures, mean):
    seen, _ = pictures
    grey = [pixels.prepare_picture(p).grey for p in (*seen, mean)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    values = [structural_similarity(g, grey[-1], data_range=1, **options) for g in grey[:-1]]
    assert tables["summary"].loc["ssim", "chance_mean"] == pytest.approx(np.mean(values), rel=1e-4)


@pytest.mark.parametrize("partners", [derange(9, 3), [1, 0, 3, 2], [2, 0, 1, 3]])
def test_images_follow_their_partners(partners):
    order = evaluate.follow_partners(np.array(partners))
    assert sorted(order) == list(range(len(partners)))
    n_cycles = len(order) - sum(partners[now] == before for before, now in pairwise(order))
    assert n_cycles == {9: 1, 4: 2}[len(partners)]
