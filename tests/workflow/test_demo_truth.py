"""What the demo's figure shows is in the simulated data: it vanishes when images are shuffled.

The demo at the size of config.yaml, one subject, through the package's functions without
Snakemake. Voxels far from the regions tested are thinned out to save time.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from nsdldm.demo.release import simulate_subject
from nsdldm.demo.stimuli import simulate_stimuli
from nsdldm.diffusion.loading import Model
from nsdldm.encoding.fits import FitSettings, fit_encoders
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
ROIS = ("cortex", "early", "ventral", "frontal")
SHUFFLES = 20
FEATURES, FORM = ("z", "c"), "zscored/averages"


def fit(data, trials, images, folder, **changes):
    """Prepare responses, fit z and c, and return their tables by feature."""
    settings = CONFIG["encoding"] | {"weights": [1], "device": "cpu"} | changes
    given = {"responses": folder / "responses.h5", "mask": data.mask}
    prepare_responses(
        betas=data.betas,
        trials=trials,
        images=images,
        output=given["responses"],
        forms=[FORM],
    )
    fit_encoders(
        spaces=FEATURES,
        kernels=[data.kernels],
        responses=given["responses"],
        form=FORM,
        images=images,
        predictions=folder / "predictions.h5",
        settings=FitSettings(**{n: settings[n] for n in FitSettings._fields}),
    )
    tables = {space: folder / f"{space}.tsv" for space in FEATURES}
    score_encoders(
        predictions=folder / "predictions.h5",
        regions={"cortex": data.mask},
        maps={space: folder / f"{space}.nii.gz" for space in FEATURES},
        tables=tables,
        sums=folder / "sums.npz",
        fdr=settings["fdr"],
        **given,
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


def prepare(folder):
    """Trials, masks, responses and kernels of the subject."""
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
    data = prepare(folder)
    inside, affine = load_volume(data.masks["cortex"])
    data.mask, data.betas = data.masks["cortex"], data.whole
    (folder / "fit").mkdir()
    data.fitted = fit(data, data.trials, data.images, folder / "fit")
    # For the shuffles: all voxels of the regions, every fourth elsewhere.
    chosen = np.zeros(inside.sum(), bool)
    chosen[::4] = True
    for roi in ROIS[1:]:
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


def test_noise_level_is_that_of_the_real_release(data):
    ncsnr = load_volume(release_file(data.folder, layout.NCSNR))[0]
    visual = load_mask(data.masks["early"]) | load_mask(data.masks["ventral"])
    assert 0.35 <= np.nanmedian(ncsnr[visual]) <= 0.55


def test_noise_ceiling_is_that_of_the_release(data):
    """As written with the betas, which were integers then; NaN for the same voxels."""
    ncsnr = load_volume(release_file(data.folder, layout.NCSNR))[0]
    found = Responses(data.folder / "fit/responses.h5", FORM).ncsnr
    np.testing.assert_allclose(found, ncsnr[load_mask(data.masks["cortex"])], atol=1e-5)


@pytest.mark.parametrize(("roi", "better"), [("early", "z"), ("ventral", "c")])
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
    """Tables of fits in which the trials' images were dealt out anew."""
    trials = pd.read_csv(data.trials, sep="\t")
    images = pd.read_csv(data.images, sep="\t")
    rng = np.random.default_rng(0)
    split = images.set_index("nsd_id").split
    results = []
    for number in range(SHUFFLES):
        folder = data.folder / f"shuffle{number}"
        folder.mkdir()
        dealt = trials.assign(nsd_id=rng.permutation(trials.nsd_id))
        dealt["split"] = split[dealt.nsd_id].to_numpy()
        dealt.to_csv(folder / "trials.tsv", sep="\t", index=False)
        results.append(
            fit(
                data,
                folder / "trials.tsv",
                data.images,
                folder,
                alphas=[10.0, 1000.0, 100000.0],
                n_folds=3,
            )
        )
    return results


@pytest.mark.parametrize("roi", ["early", "ventral"])
def test_shuffling_images_removes_the_difference(data, shuffled, roi):
    mask = load_mask(data.masks[roi])
    chosen = data.fitted["z"]
    chosen = chosen[mask[chosen.i, chosen.j, chosen.k] & (chosen.ncsnr >= 0.2)]
    voxels = pd.MultiIndex.from_frame(chosen[["i", "j", "k"]])
    differences = []
    for tables in shuffled:
        by_voxel = {n: t.set_index(["i", "j", "k"]).r.loc[voxels] for n, t in tables.items()}
        differences.append(by_voxel["z"].median() - by_voxel["c"].median())
    assert abs(np.mean(differences)) < 0.02


@pytest.mark.parametrize("feature", ["z", "c"])
def test_p_values_are_uniform_when_images_are_shuffled(shuffled, feature):
    shares = [(tables[feature].p < 0.05).mean() for tables in shuffled]
    assert 0.03 <= np.mean(shares) <= 0.07
