"""A simulated LAION-fMRI release, read without the package."""

import io
import json
import re
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import StandardScaler

from nsdldm.demo.laion import simulate_shared
from nsdldm.demo.laion_files import shared_files, subject_files
from nsdldm.demo.laion_images import list_own, list_shared
from nsdldm.demo.laion_splits import choose_distant
from nsdldm.demo.laion_subject import simulate_subject
from nsdldm.demo.laion_trials import plan_trials
from nsdldm.support.errors import InputError

SUBJECT, OTHER, PERSON = "sub-03", "sub-06", "p04"
SIZE = {"shared_images": 20, "ood_images": 4, "own_images": 140}
TINY = {"shared_images": 12, "ood_images": 4, "own_images": 10}
SESSIONS = 2
SIDES = ("lh", "rh")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("laion")
    simulate_shared(root=root, seed=0, subjects=[SUBJECT, OTHER], **SIZE)
    simulate_subject(root=root, subject=SUBJECT, sessions=SESSIONS, seed=0, **SIZE)
    return root


@pytest.fixture(scope="module")
def metadata(root):
    return pd.read_csv(root / "stimuli/task-images_metadata.csv")


@pytest.fixture(scope="module")
def pictures(root):
    with h5py.File(root / "stimuli/task-images_stimuli.h5") as file:
        return [Image.open(io.BytesIO(row.tobytes())) for row in file["images"]]


def func(root, session, ending):
    prefix = f"{SUBJECT}_ses-{session:02d}_task-images"
    folder = root / f"derivatives/glmsingle-tedana/{SUBJECT}/ses-{session:02d}/func"
    return folder / f"{prefix}_{ending}"


def overall(root, ending):
    folder = root / f"derivatives/glmsingle-tedana/{SUBJECT}"
    return nib.load(folder / f"{SUBJECT}_task-images_space-T1w_{ending}_statmap.nii.gz")


@pytest.fixture(scope="module")
def trials(root):
    paths = [func(root, n + 1, "desc-SingletrialBetas_trials.tsv") for n in range(SESSIONS)]
    return [pd.read_csv(path, sep="\t") for path in paths]


@pytest.fixture(scope="module")
def betas(root):
    ending = "space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
    return [nib.load(func(root, n + 1, ending)) for n in range(SESSIONS)]


@pytest.fixture(scope="module")
def scores(betas):
    """z-scored betas of every session in a row, shape (X, Y, Z, n_trials)."""
    parts = []
    for image in betas:
        values = image.get_fdata(dtype=np.float32)
        spread = values.std(axis=3, ddof=1, keepdims=True)
        parts.append((values - values.mean(axis=3, keepdims=True)) / np.where(spread, spread, 1))
    return np.concatenate(parts, axis=3)


def load_mask(root, category, label):
    name = f"{SUBJECT}_space-T1w_res-1pt8_label-{label}_mask.nii.gz"
    return nib.load(root / "derivatives/rois" / SUBJECT / category / name)


def test_all_files_named_are_written(root):
    named = [*shared_files(root, [SUBJECT, OTHER]).values()]
    named += subject_files(root, SUBJECT, SESSIONS).values()
    assert {*map(Path, named)} == {path for path in root.rglob("*") if path.is_file()}


def test_metadata_rows_are_the_pictures(metadata, pictures):
    assert [*metadata] == ["image_name", "dataset", "participant", "unique_or_shared", "n_reps"]
    assert len(metadata) == len(pictures) == 20 + 4 + 2 * 140
    assert metadata["image_name"].is_unique
    for name, picture in zip(metadata["image_name"], pictures, strict=True):
        assert picture.size == (1000, 1000)
        expected = ("PNG", "RGBA") if name.endswith(".png") else ("JPEG", "RGB")
        assert (picture.format, picture.mode) == expected


def test_names_have_the_forms_of_the_release(metadata):
    forms = {
        r"shared_12rep_LAION_cluster_\d+_i\d+\.jpg": ("LAION", "shared", 12),
        r"shared_12rep_THINGS\+_kmeans_\d+_[a-z]+\.jpg": ("THINGS+", "shared", 12),
        r"shared_4rep_NSD_special1000_\d+\.jpg": ("NSD", "shared", 4),
        r"shared_4rep_OOD_[a-z]+_.+\.(jpg|png)": ("OOD", "shared", 4),
        r"unique_LAION_initial_cluster_\d+_i\d+_p0[24]\.jpg": ("LAION", "unique", 4),
        r"unique_THINGS\+_[a-z]+\d+_p0[24]\.jpg": ("THINGS+", "unique", 4),
    }
    found = set()
    for row in metadata.itertuples():
        (known,) = [form for form in forms if re.fullmatch(form, row.image_name)]
        assert (row.dataset, row.unique_or_shared, row.n_reps) == forms[known]
        found.add(known)
    assert found == {*forms}
    own = metadata[metadata["unique_or_shared"] == "unique"]
    assert (own["participant"] == own["image_name"].str[-7:-4]).all()
    odd = metadata[metadata["dataset"] == "OOD"]["image_name"]
    assert odd.str.contains(" ").sum() == odd.str.endswith(".png").sum() == 1


def test_png_is_an_object_on_a_transparent_ground(metadata, pictures):
    row = metadata.index[metadata["image_name"].str.endswith(".png")][0]
    alpha = np.asarray(pictures[row])[..., 3]
    assert {0, 255} <= {*np.unique(alpha)}
    assert 0.02 < (alpha > 128).mean() < 0.6


def test_captions(root, metadata):
    table = pd.read_csv(root / "stimuli/task-images_desc-captions.csv")
    assert [*table] == [
        *("image_name", "caption_idx", "source", "caption"),
        *("origin_collection", "participant_id", "ai_model"),
    ]
    assert {*table["image_name"]} == {*metadata["image_name"]}
    merged = table.merge(metadata, on="image_name")
    for _, group in merged.groupby("image_name"):
        assert [*group["caption_idx"]] == [*range(len(group))]
        first, sources = group.iloc[0], [*group["source"]]
        if first["dataset"] == "OOD":
            assert sources == ["ai"]
        elif first["unique_or_shared"] == "shared":
            assert sources == ["ai"] + 5 * ["human"]
        else:
            assert sources == 3 * ["human"]
    by_model = table["source"] == "ai"
    assert (table["ai_model"].notna() == by_model).all()
    assert (table["participant_id"].isna() == by_model).all()


def read_split(root, pool, name):
    content = json.loads((root / f"splits/{pool}/{name}.json").read_text())
    (variant,) = content["variants"]
    train, test = variant["train_ids"], variant["test_ids"]
    assert (content["name"], content["n_train"], content["n_test"]) == (name, len(train), len(test))
    assert variant["variant_id"] == 0
    assert train == sorted(train)
    assert test == sorted(test)
    return {*train}, {*test}


@pytest.mark.parametrize("pool", ["shared", SUBJECT, OTHER])
def test_divisions(root, metadata, pool):
    names = metadata["image_name"]
    odd = {*names[metadata["dataset"] == "OOD"]}
    shared = {*names[metadata["unique_or_shared"] == "shared"]} - odd
    ending = {SUBJECT: "_p04.jpg", OTHER: "_p02.jpg", "shared": "none"}[pool]
    whole = shared | {*names[names.str.endswith(ending)]}
    folds = [
        [read_split(root, pool, f"{way}_{n}") for n in range(5)] for way in ("cluster_k5", "random")
    ]
    for train, test in [read_split(root, pool, "tau"), *folds[0], *folds[1]]:
        assert not train & test
        assert train | test == whole
        assert test
    for way in folds:
        assert sum(len(test) for _, test in way) == len(whole)
    assert len(read_split(root, pool, "tau")[1]) == round(len(whole) / 5)
    assert {len(test) for _, test in folds[1]} <= {len(whole) // 5, len(whole) // 5 + 1}
    assert read_split(root, pool, "ood") == (whole, odd)


def test_distant_images_are_chosen():
    """Two rows far from all others, and from each other."""
    features = np.concatenate([np.random.default_rng(0).normal(size=(8, 3)), [[50] * 3, [99] * 3]])
    assert {*choose_distant(features, 0.2)} == {8, 9}


def test_trials(trials, metadata):
    repeats = metadata.set_index("image_name")["n_reps"]
    for number, table in enumerate(trials, 1):
        assert [*table] == ["session", "run", "beta_index", "label"]
        assert {*table["session"]} == {f"ses-{number:02d}"}
        assert [*table["beta_index"]] == [*range(len(table))]
        assert table["run"].is_monotonic_increasing
        sizes = table["run"].value_counts()
        assert {*sizes.index} == {*range(1, 13)}
        assert np.ptp(sizes) <= 1
        assert table["label"].value_counts().min() >= 2
    shown = pd.concat(trials)["label"].value_counts()
    own = metadata["participant"].isin(["all", PERSON])
    assert {*shown.index} == {*metadata["image_name"][own]}
    lacking = repeats[shown.index] - shown
    assert lacking.sum() == lacking.max() == 1
    assert lacking.idxmax().startswith("unique")
    assert repeats[lacking.idxmax()] == 4
    assert len(trials[0]) != len(trials[1])


@pytest.mark.parametrize("sessions", [1, 3, 5])
def test_trials_of_other_numbers_of_sessions(sessions):
    pictures = list_shared(0, 20, 4) + list_own(0, SUBJECT, 50)
    table = plan_trials(pictures, sessions, np.random.default_rng(0))
    assert table["session"].nunique() == sessions
    assert len(table) == sum(picture.repeats for picture in pictures) - 1
    counts = table.groupby(["session", "label"]).size()
    assert counts.min() >= 2
    # Repeats are apart, and sessions about as long as each other.
    assert (table["label"] == table["label"].shift()).mean() < 0.05
    assert table.groupby("session").size().agg(np.ptp) <= 12


def test_columns_of_trials_are_described(root):
    path = func(root, 1, "desc-SingletrialBetas_trials.json")
    assert [*json.loads(path.read_text())] == ["session", "run", "beta_index", "label"]


def test_betas_match_trials_and_are_missing_in_few_voxels(betas, trials, root):
    missing = []
    for image, table in zip(betas, trials, strict=True):
        assert image.get_data_dtype() == np.float32
        assert image.shape[3] == len(table)
        values = image.get_fdata(dtype=np.float32)
        lost = np.isnan(values)
        assert (lost.all(axis=3) == lost.any(axis=3)).all()
        missing.append(lost.any(axis=3))
        brain = overall(root, "stat-rsquare_desc-R2mean").get_fdata() > 0
        assert not values[~brain & ~missing[-1]].any()
    both, either = missing[0] & missing[1], missing[0] | missing[1]
    assert 0 < both.sum() < either.sum() <= 20


@pytest.mark.parametrize(("name", "fewest"), [("4rep", 4), ("12rep", 12), ("Allrep", 2)])
def test_noise_ceilings_from_the_betas(root, scores, trials, name, fewest):
    ceiling = overall(root, f"desc-Noiseceiling{name}").get_fdata()
    chosen = load_mask(root, "laion", "laiongeneral").get_fdata() > 0
    table = pd.DataFrame(scores[chosen].T)
    images = pd.concat(trials)["label"].to_numpy()
    groups = table.groupby(images)
    counts = groups.size()
    kept = counts[counts >= fewest]
    noise = groups.var().loc[kept.index].mean()
    signal = (1 - noise).clip(lower=0)
    expected = 100 * signal / (signal + noise * (1 / kept).mean())
    whole = ~table.isna().any().to_numpy()
    np.testing.assert_allclose(ceiling[chosen][whole], expected[whole], atol=0.01)
    assert 0 <= ceiling.min() < 20 < ceiling.max() <= 100
    assert ceiling[tuple(np.zeros(3, int))] == 0


def test_session_maps(root, scores, trials):
    """The share of the variance that means of images explain, from one session's betas."""
    n = len(trials[0])
    found = nib.load(func(root, 1, "space-T1w_stat-rsquare_desc-R2_statmap.nii.gz")).get_fdata()
    ceiling = nib.load(func(root, 1, "space-T1w_desc-Noiseceiling_statmap.nii.gz")).get_fdata()
    chosen = load_mask(root, "retinotopy", "V1v").get_fdata() > 0
    table = pd.DataFrame(scores[chosen][:, :n].T)
    means = table.groupby(trials[0]["label"].to_numpy()).transform("mean")
    expected = 100 * means.var(ddof=1)
    whole = ~table.isna().any().to_numpy()
    np.testing.assert_allclose(found[chosen][whole], expected[whole], atol=0.01)
    assert 0 <= ceiling.min() < ceiling.max() <= 100


def test_regions(root):
    folder = root / "derivatives/rois" / SUBJECT
    grid = overall(root, "desc-NoiseceilingAllrep")
    assert {path.name for path in folder.iterdir()} == {
        *("body", "character", "face", "laion", "place", "retinotopy")
    }
    whole = load_mask(root, "laion", "laiongeneral").get_fdata() > 0
    for path in folder.rglob("*.nii.gz"):
        mask = nib.load(path)
        assert mask.shape == grid.shape
        np.testing.assert_array_equal(mask.affine, grid.affine)
        assert {*np.unique(mask.get_fdata())} == {0, 1}, path
    early = sum(
        load_mask(root, "retinotopy", f"V{area}{part}").get_fdata()
        for area in (1, 2, 3)
        for part in "vd"
    )
    assert early.max() == 1
    # Voxels on a border have the most frequent label.
    both = early + load_mask(root, "laion", "laionEVC").get_fdata()
    assert (both == 2).sum() > 0.98 * (both > 0).sum()
    for label in ("laionEVC", "laionventral", "laionlateral", "laiondorsal"):
        assert whole[load_mask(root, "laion", label).get_fdata() > 0].all()


def test_one_subject_lacks_a_label(root):
    assert {path.name.split("label-")[1] for path in root.rglob("face/*")} == {
        *("FFA1_mask.nii.gz", "OFA_mask.nii.gz")
    }
    assert "face/FFA2" in subject_files(root, "sub-01", 1)


def test_surfaces_lie_in_the_volume(root):
    """Surfaces, in the scanner by their footers, are where the masks are."""
    folder = root / f"derivatives/freesurfer/{SUBJECT}/surf"
    mask = load_mask(root, "laion", "laiongeneral")
    ribbon = mask.get_fdata() > 0
    hit = np.zeros(ribbon.shape, bool)
    for hemi in SIDES:
        inner, outer = (
            nib.freesurfer.read_geometry(folder / f"{hemi}.{s}")[0] for s in ("white", "pial")
        )
        *_, info = nib.freesurfer.read_geometry(folder / f"{hemi}.white", read_metadata=True)
        assert info["valid"].startswith("1")
        # FreeSurfer's conformed volume is only shifted.
        for depth in (0.25, 0.5, 0.75):
            places = outer + depth * (inner - outer) + info["cras"]
            voxels = nib.affines.apply_affine(np.linalg.inv(mask.affine), places)
            hit[tuple(np.rint(voxels).astype(int).T)] = True
        assert len(nib.freesurfer.read_morph_data(folder / f"{hemi}.sulc")) == len(inner)
    assert hit[ribbon].mean() > 0.999
    assert not np.allclose(info["cras"], 0)


def test_spheres_are_those_of_fsaverage(root):
    folder = root / f"derivatives/freesurfer/{SUBJECT}/surf"
    for hemi in SIDES:
        coords, _ = nib.freesurfer.read_geometry(folder / f"{hemi}.sphere.reg")
        np.testing.assert_allclose(np.linalg.norm(coords, axis=1), 100, rtol=1e-3)


def test_described_as_bids(root):
    raw = json.loads((root / "dataset_description.json").read_text())
    made = json.loads((root / "derivatives/glmsingle-tedana/dataset_description.json").read_text())
    assert (raw["DatasetType"], made["DatasetType"]) == ("raw", "derivative")
    assert made["GeneratedBy"]
    people = pd.read_csv(root / "participants.tsv", sep="\t")
    assert [*people["participant_id"]] == [SUBJECT, OTHER]


@pytest.fixture(scope="module")
def correlations(root, scores, trials, metadata, pictures):
    """Median correlation, over images left out, of regions with layouts and with content."""
    images = pd.concat(trials)["label"].to_numpy()
    captions = pd.read_csv(root / "stimuli/task-images_desc-captions.csv")
    texts = captions.groupby("image_name")["caption"].agg(" ".join)
    names = sorted({*images} - {*metadata["image_name"][metadata["dataset"] == "OOD"]})
    rows = pd.Index(metadata["image_name"]).get_indexer(names)
    layouts = [np.asarray(pictures[row].resize((12, 12), Image.Resampling.BOX)) for row in rows]
    features = {
        "layout": np.reshape(layouts, (len(names), -1)).astype(float),
        "content": CountVectorizer(binary=True).fit_transform(texts[names]).toarray().astype(float),
    }
    found = {}
    for region in ("laionEVC", "laionventral"):
        chosen = load_mask(root, "laion", region).get_fdata() > 0
        table = pd.DataFrame(scores[chosen].T).dropna(axis=1)
        wanted = table.groupby(images).mean().loc[names].to_numpy()
        for name, known in features.items():
            model = RidgeCV(np.logspace(1, 5, 9))
            predicted = cross_val_predict(
                model, StandardScaler().fit_transform(known), wanted, cv=5
            )
            r = [np.corrcoef(p, w)[0, 1] for p, w in zip(predicted.T, wanted.T, strict=True)]
            found[region, name] = np.nanmedian(r)
    return found


@pytest.mark.parametrize(
    ("region", "better", "worse"),
    [("laionEVC", "layout", "content"), ("laionventral", "content", "layout")],
)
def test_regions_prefer_their_features(correlations, region, better, worse):
    assert correlations[region, better] > 0.15
    assert correlations[region, better] > correlations[region, worse] + 0.05


def test_nothing_depends_on_other_subjects(tmp_path):
    for name, subjects in (("both", ["sub-01", SUBJECT]), ("one", [SUBJECT])):
        simulate_shared(root=tmp_path / name, seed=1, subjects=subjects, **TINY)
        simulate_subject(root=tmp_path / name, subject=SUBJECT, sessions=1, seed=1, **TINY)
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file() and path.parent.name != "stimuli" and path.name != "participants.tsv":
            other = tmp_path / "both" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == other.read_bytes(), path


def test_other_seeds_give_other_scenes():
    first, second = (list_own(seed, SUBJECT, 20) for seed in (0, 1))
    assert [p.scene for p in first] != [p.scene for p in second]


@pytest.mark.parametrize("changed", [{"shared_images": 9}, {"ood_images": 3}, {"own_images": 9}])
def test_too_few_images(tmp_path, changed):
    (where,) = changed
    with pytest.raises(InputError, match=f"`{where}`: expected at least"):
        simulate_shared(root=tmp_path, seed=0, subjects=[SUBJECT], **TINY | changed)


def test_unknown_subject():
    with pytest.raises(InputError, match=r"`subject`: expected one of sub-01, .*, found sub-02"):
        list_own(0, "sub-02", 20)
