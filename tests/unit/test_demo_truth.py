"""What the demo's figure shows is in the simulated data: it vanishes when images are shuffled.

The demo at the size of config.yaml, one subject, through the package's functions without
Snakemake. Voxels far from the regions tested are thinned out to save time.
"""

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest

from nsdldm import stats
from nsdldm.demo.release import simulate_subject
from nsdldm.demo.stimuli import simulate_stimuli
from nsdldm.diffusion.loading import Model
from nsdldm.encoding.fits import FitSettings, fit_encoders
from nsdldm.encoding.maps import score
from nsdldm.encoding.predictions import Predictions
from nsdldm.encoding.scores import score_encoders
from nsdldm.features.captions import embed_captions
from nsdldm.features.kernels import compute_kernels
from nsdldm.features.latents import encode_latents
from nsdldm.nsd import layout
from nsdldm.nsd.betas import extract_betas
from nsdldm.nsd.rois import make_masks
from nsdldm.nsd.trials import tabulate_trials
from nsdldm.responses import Responses, prepare_responses
from nsdldm.support.files import load_array, load_mask, load_volume, save_array, save_volume
from nsdldm.workflow.loading import load_settings

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = load_settings({})
SUBJECT = "subj01"
ROIS = ("cortex", "early", "ventral", "lateral", "parietal", "frontal")
SHUFFLES = 20
FEATURES, FORM = ("z", "c"), "zscored/averages"


def prepare(data, trials, output):
    """Prepare the responses of some trials; return their path."""
    prepare_responses(
        betas=data.betas, trials=trials, images=data.images, output=output, forms=[FORM]
    )
    return output


def fit(data, responses, output, **changes):
    """Fit z and c; return the path of their predictions."""
    settings = CONFIG["encoding"] | {"weights": [1], "device": "cpu"} | changes
    fit_encoders(
        spaces=FEATURES,
        kernels=[data.kernels],
        responses=responses,
        form=FORM,
        images=data.images,
        predictions=output,
        settings=FitSettings(**{n: settings[n] for n in FitSettings._fields}),
    )
    return output


def tabulate(data, folder):
    """Prepare responses, fit z and c, and return their tables by feature."""
    responses = prepare(data, data.trials, folder / "responses.h5")
    tables = {space: folder / f"{space}.tsv" for space in FEATURES}
    score_encoders(
        predictions=fit(data, responses, folder / "predictions.h5"),
        responses=responses,
        mask=data.mask,
        regions={"cortex": data.mask},
        maps={space: folder / f"{space}.nii.gz" for space in FEATURES},
        tables=tables,
        sums=folder / "sums.npz",
        fdr=CONFIG["encoding"]["fdr"],
    )
    return {space: pd.read_csv(path, sep="\t") for space, path in tables.items()}


def simulate(folder):
    """Write the release of one subject."""
    size = {key: CONFIG["demo"][key] for key in ("sessions", "shared_images", "unique_images")}
    shared = {
        "design": folder / layout.DESIGN,
        "stimuli": folder / layout.STIMULI,
    }
    simulate_stimuli(
        **shared,
        stim_info=folder / layout.STIM_INFO,
        captions={s: folder / layout.CAPTIONS.format(split=s) for s in layout.COCO_SPLITS},
        seed=CONFIG["demo"]["seed"],
        threads=2,
        **size,
    )
    simulate_subject(
        subject=SUBJECT,
        **shared,
        root=str(folder),
        seed=CONFIG["demo"]["seed"],
        scenes_seed=CONFIG["demo"]["seed"],
        sessions=size["sessions"],
    )


def release_file(folder, template, **values):
    known = {"subject": SUBJECT, "space": "func1pt8mm", "version": CONFIG["nsd"]["betas"]}
    return folder / template.format(**known | values)


def read_release(folder):
    """Trials, masks, betas and kernels of the subject."""
    numbers = range(1, CONFIG["demo"]["sessions"] + 1)
    data = SimpleNamespace(trials=folder / "trials.tsv", images=folder / "images.tsv")
    tabulate_trials(
        responses=release_file(folder, layout.RESPONSES),
        design=folder / layout.DESIGN,
        stim_info=folder / layout.STIM_INFO,
        trials=data.trials,
        images=data.images,
        subject=SUBJECT,
        sessions=list(numbers),
    )
    atlases = ("streams", "control")
    data.masks = {roi: folder / f"{roi}.nii.gz" for roi in ROIS}
    make_masks(
        atlases={a: release_file(folder, layout.ROI, atlas=a) for a in atlases},
        tables={a: release_file(folder, layout.LABEL_TABLE, atlas=a) for a in atlases},
        rois={roi: CONFIG["rois"][roi] for roi in ROIS},
        outputs=data.masks,
    )
    data.whole = folder / "cortex.npy"
    extract_betas(
        sessions=[release_file(folder, layout.BETAS, session=n, suffix="hdf5") for n in numbers],
        masks={"cortex": data.masks["cortex"]},
        outputs={"cortex": data.whole},
        partial=folder / "partial",
    )
    batch_size = CONFIG["model"]["batch_size"]
    model = {"model": Model(PROJECT / "resources/demo_model", None, "cpu", "auto", batch_size)}
    features = {"z": folder / "z.npy", "c": folder / "c.npy"}
    encode_latents(
        images=data.images,
        stimuli=folder / layout.STIMULI,
        resolution=CONFIG["model"]["resolution"],
        z=features["z"],
        z_logvar=folder / "z_logvar.npy",
        **model,
    )
    captions = [folder / layout.CAPTIONS.format(split=s) for s in layout.COCO_SPLITS]
    embed_captions(images=data.images, captions=captions, c=features["c"], **model)
    data.kernels = folder / "kernels.h5"
    compute_kernels(features=features, images=data.images, output=data.kernels, max_components=6400)
    return data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    simulate(folder)
    data = read_release(folder)
    inside, affine = load_volume(data.masks["cortex"])
    data.mask, data.betas = data.masks["cortex"], data.whole
    (folder / "fit").mkdir()
    data.fitted = tabulate(data, folder / "fit")
    # For the shuffles: all voxels of early and ventral cortex, every eighth elsewhere.
    chosen = np.zeros(inside.sum(), bool)
    chosen[::8] = True
    for roi in ("early", "ventral"):
        chosen |= load_mask(data.masks[roi])[inside > 0]
    thinned = np.zeros(inside.shape, bool)
    thinned[inside > 0] = chosen
    data.mask, data.betas = folder / "thinned.nii.gz", folder / "thinned.npy"
    save_volume(data.mask, thinned, affine)
    save_array(data.betas, np.array(load_array(data.whole)[:, chosen]))
    data.folder = folder
    return data


def medians(data, tables, min_ncsnr, roi):
    """Median r of z and c, and of the ceiling, in a region."""
    mask = load_mask(data.masks[roi])
    chosen = {
        name: table[mask[table.i, table.j, table.k] & (table.ncsnr >= min_ncsnr)]
        for name, table in tables.items()
    }
    assert len(chosen["z"]) >= 50
    return chosen["z"].r.median(), chosen["c"].r.median(), chosen["z"].ceiling.median()


@pytest.mark.parametrize("roi", ["early", "ventral", "lateral", "parietal"])
def test_noise_level_is_that_of_the_real_release(data, roi):
    ncsnr = load_volume(release_file(data.folder, layout.NCSNR))[0]
    assert 0.35 <= np.nanmedian(ncsnr[load_mask(data.masks[roi])]) <= 0.55


def test_noise_ceiling_is_that_of_the_release(data):
    """As written with the betas, which were integers then; NaN for the same voxels."""
    ncsnr = load_volume(release_file(data.folder, layout.NCSNR))[0]
    found = Responses(data.folder / "fit/responses.h5", FORM).ncsnr
    np.testing.assert_allclose(found, ncsnr[load_mask(data.masks["cortex"])], atol=1e-5)


@pytest.mark.parametrize(
    ("roi", "better"), [("early", "z"), ("ventral", "c"), ("lateral", "c"), ("parietal", "z")]
)
def test_each_region_prefers_its_features(data, roi, better):
    z, c, ceiling = medians(data, data.fitted, 0.2, roi)
    gain = z - c if better == "z" else c - z
    assert gain >= 0.05
    assert 0.3 <= max(z, c) / ceiling <= 1.0


def test_control_region_has_no_more_than_false_discoveries(data):
    """Over both feature spaces, since one alone makes only a handful of false discoveries."""
    mask = load_mask(data.masks["frontal"])
    tables = pd.concat(data.fitted.values())
    frontal = tables[mask[tables.i, tables.j, tables.k]]
    assert len(frontal) > 1000
    share = CONFIG["encoding"]["fdr"] * tables.significant.mean()
    assert frontal.significant.mean() <= 1.5 * share


@pytest.fixture(scope="module")
def shuffled(data):
    """r of each feature space, of shape (SHUFFLES, n_voxels), with the trials' images dealt anew.

    The voxels of all shuffles are targets of one fit.
    """
    trials = pd.read_csv(data.trials, sep="\t")
    split = pd.read_csv(data.images, sep="\t").set_index("nsd_id").split
    rng = np.random.default_rng(0)
    stacked, parts = data.folder / "shuffled.h5", []
    for number in range(SHUFFLES):
        dealt = trials.assign(nsd_id=rng.permutation(trials.nsd_id))
        dealt["split"] = split[dealt.nsd_id].to_numpy()
        path = data.folder / f"trials{number}.tsv"
        dealt.to_csv(path, sep="\t", index=False)
        parts.append(prepare(data, path, data.folder / f"responses{number}.h5"))
    with ExitStack() as opened, h5py.File(stacked, "w") as file:
        sources = [opened.enter_context(h5py.File(part)) for part in parts]
        for name in (FORM, "zscored/test", "ncsnr", "ceiling"):
            file[name] = np.concatenate([source[name][()] for source in sources], axis=-1)
        for name in ("nsd_ids/averages", "nsd_ids/test"):
            file[name] = sources[0][name][()]
    changed = {"alphas": [10.0, 1000.0, 100000.0], "n_folds": 3}
    fitted = Predictions(fit(data, stacked, data.folder / "shuffled_fits.h5", **changed))
    observed = Responses(stacked, FORM).read_test()
    n_voxels = load_mask(data.mask).sum()
    models = {space: fitted.read(space, slice(None)).predictions for space in FEATURES}
    return {s: score(observed, m)["r"].reshape(SHUFFLES, n_voxels) for s, m in models.items()}


@pytest.mark.parametrize("roi", ["early", "ventral"])
def test_shuffling_images_removes_the_difference(data, shuffled, roi):
    table = data.fitted["z"]
    chosen = np.zeros(load_mask(data.mask).shape, bool)
    chosen[table.i, table.j, table.k] = table.ncsnr >= 0.2
    chosen &= load_mask(data.masks[roi])
    voxels = chosen[load_mask(data.mask)]
    assert voxels.sum() == chosen.sum() >= 50
    z, c = (np.nanmedian(shuffled[space][:, voxels], axis=1) for space in FEATURES)
    assert abs(np.mean(z - c)) < 0.02


@pytest.mark.parametrize("feature", ["z", "c"])
def test_p_values_are_uniform_when_images_are_shuffled(data, shuffled, feature):
    n_test = (pd.read_csv(data.images, sep="\t").split == "test").sum()
    p = stats.p_values(shuffled[feature], n_test)
    assert 0.03 <= (p < 0.05).mean() <= 0.07
