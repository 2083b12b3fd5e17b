"""`nsdldm.load`, on a small simulated run that the package's own functions have written."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from decoding_files import SETTINGS, write_subject

import nsdldm
from nsdldm.decoding.decoders import PROTOCOLS, decode_features
from nsdldm.encoding.fits import FitSettings, fit_encoders
from nsdldm.encoding.predictions import Predictions
from nsdldm.encoding.scores import score_encoders
from nsdldm.features.kernels import compute_kernels
from nsdldm.responses import prepare_responses
from nsdldm.results import RegionResponses
from nsdldm.support.errors import InputError
from nsdldm.support.files import create_hdf5, save_array, save_volume

PROJECT = Path(__file__).resolve().parents[2]
N, N_TEST, N_VOXELS = 90, 30, {"early": 12, "ventral": 9}
AFFINE = np.diag([5.0, 5.0, 5.0, 1.0])
COMPONENTS = 20


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Results of a subject: z in early voxels and c in ventral ones, and encoders of both."""
    results = tmp_path_factory.mktemp("run") / "results"
    own = results / "subj01"
    rng = np.random.default_rng(0)
    own.mkdir(parents=True)
    features = {"z": rng.normal(size=(N, 2, 3)), "c": rng.normal(size=(N, 40))}
    signals = {
        "early": features["z"].reshape(N, -1) @ rng.normal(size=(6, N_VOXELS["early"])),
        "ventral": features["c"] @ rng.normal(size=(40, N_VOXELS["ventral"])) / 3,
    }
    regions = {"z": "early", "c": "ventral"}
    given = write_subject(own, features, signals, regions, N_TEST)
    betas = np.concatenate([np.load(own / f"{roi}.npy") for roi in N_VOXELS], axis=1)
    save_array(own / "cortex.npy", betas)
    for folder in ("features", "responses", "masks", "encoding"):
        (own / folder).mkdir()
    for target in features:
        shutil.move(own / f"features-{target}.npy", own / f"features/{target}.npy")
    shutil.move(own / "z_logvar.npy", own / "features/z_logvar.npy")
    given["features"] = {name: own / f"features/{name}.npy" for name in features}
    given["z_logvar"] = own / "features/z_logvar.npy"
    for roi in N_VOXELS:
        shutil.move(own / f"{roi}.h5", own / f"responses/{roi}.h5")
        given["responses"][roi] = own / f"responses/{roi}.h5"
    _decode(own, given)
    _encode(own)
    return results


def _decode(own, given):
    """Decode by every protocol; keep the weights of one."""
    for protocol in PROTOCOLS:
        folder = own / protocol / "decoded"
        files = {"decoded": ".npy", "dimensions": ".tsv", "by_image": "_images.tsv"}
        if protocol == "takagi2023":
            files["weights"] = "_weights.npy"
        outputs = {
            name: {target: folder / f"{target}{end}" for target in given["features"]}
            for name, end in files.items()
        }
        decode_features(**given, protocol=protocol, settings=SETTINGS, **outputs)
    (own / "corrected/reconstructions").mkdir()
    with create_hdf5(own / "corrected/reconstructions/z.h5", 1000) as file:
        file["images"] = np.arange(N_TEST, dtype=np.uint8).reshape(-1, 1, 1, 1, 1).repeat(3, 4)


def _encode(own):
    """Encoders of the cortex; c has more dimensions than components are kept."""
    tables = {name: own / f"{name}.tsv" for name in ("trials", "images")}
    cortex, kernels = own / "responses/cortex.h5", own / "kernels/features.h5"
    prepare_responses(**tables, betas=own / "cortex.npy", output=cortex, forms=["zscored/averages"])
    mask = np.zeros((3, 4, 5), bool)
    mask.flat[: sum(N_VOXELS.values())] = True
    save_volume(own / "masks/cortex.nii.gz", mask, AFFINE)
    paths = {name: own / f"features/{name}.npy" for name in ("z", "c")}
    compute_kernels(
        images=tables["images"], output=kernels, max_components=COMPONENTS, features=paths
    )
    predictions = own / "encoding/predictions/features.h5"
    fit_encoders(
        spaces=["z", "c"],
        kernels=[kernels],
        responses=cortex,
        form="zscored/averages",
        images=tables["images"],
        predictions=predictions,
        settings=FitSettings([0.1, 1.0, 10.0], [1], 3, 2.0, 0, "cpu"),
    )
    score_encoders(
        predictions=predictions,
        responses=cortex,
        mask=own / "masks/cortex.nii.gz",
        regions={"cortex": own / "masks/cortex.nii.gz"},
        maps={name: own / f"encoding/{name}.nii.gz" for name in ("z", "c")},
        tables={name: own / f"encoding/{name}.tsv" for name in ("z", "c")},
        sums=own / "sums.npz",
        fdr=0.05,
        min_ncsnr=0,
    )


@pytest.fixture
def subject(run):
    return nsdldm.load(run, "subj01")


@pytest.fixture
def tested(subject):
    """Which images are test images."""
    return (subject.images["split"] == "test").to_numpy()


def test_opening_a_run_says_what_there_is(subject, run):
    text = repr(subject)
    assert f"subj01 in {run}: 90 images (60 train, 30 test)" in text
    assert "regions: cortex" in text
    assert "features: c, z, z_logvar" in text
    assert "maps: c, z" in text
    assert "corrected: c, z, and pictures from z" in text
    assert subject.encoders == {"z": "features", "c": "features"}


def test_nothing_is_read_or_imported_before_it_is_asked_for():
    code = "import sys, nsdldm; print({'numpy', 'pandas', 'torch'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_tables_and_arrays_are_those_of_the_files(subject, run):
    assert len(subject.trials) == 3 * N
    assert list(subject.images) == ["nsd_id", "split", "n_trials"]
    features = subject.features("c")
    assert isinstance(features, np.memmap)
    assert features.shape == (N, 40)
    assert subject.decoded("z").shape == (N_TEST, 2, 3)
    assert subject.reconstructions("z").shape == (N_TEST, 1, 1, 1, 3)
    assert subject.reconstructions("z", rows=slice(4, 6))[..., 0].ravel().tolist() == [4, 5]


def test_responses_come_with_ids_and_ceiling(subject, tested):
    found = subject.responses("cortex")
    assert isinstance(found, RegionResponses)
    assert found.form == "zscored/averages"
    assert found.train.shape == (N - N_TEST, 21)
    assert found.test.shape == (N_TEST, 21)
    assert (found.test_ids == subject.images.loc[tested, "nsd_id"]).all()
    assert found.ceiling.shape == found.ncsnr.shape == (21,)
    assert "60 train, 30 test, 21 voxels" in repr(found)
    assert subject.responses("early").form == "zscored/trials"
    assert len(subject.responses("early", "scaled/trials").train) == 3 * (N - N_TEST)


def test_a_map_is_a_column_of_the_scores(subject):
    inside = np.asanyarray(subject.mask("cortex").dataobj) > 0
    volume = subject.map("z", "r")
    assert volume.shape == inside.shape
    assert (volume.affine == AFFINE).all()
    np.testing.assert_allclose(volume.get_fdata()[inside], subject.scores("z")["r"], atol=1e-5)
    assert np.isnan(volume.get_fdata()[~inside]).all()


@pytest.mark.parametrize("space", ["z", "c"])
def test_predictions_of_test_images_are_those_of_the_run(subject, tested, run, space):
    """Also where the kernel has only some components."""
    stored = Predictions(run / "subj01/encoding/predictions/features.h5").read(space).predictions
    found = subject.predict_responses(subject.features(space)[tested], space)
    assert found.dtype == np.float32
    assert stored.std() > 0.1
    np.testing.assert_allclose(found, stored, atol=1e-4)
    # One image at a time, as well.
    one = subject.predict_responses(subject.features(space)[tested][7:8], space)
    np.testing.assert_allclose(one[0], stored[7], atol=1e-4)


def test_predictions_of_other_images_follow_what_voxels_see(subject):
    """Features twice as far from the mean evoke twice the deviation."""
    train = (subject.images["split"] == "train").to_numpy()
    features = subject.features("z")
    mean = features[train].mean(axis=0)
    other = np.random.default_rng(5).normal(size=(1, 2, 3)).astype(np.float32)
    at_mean, once, twice = subject.predict_responses(
        np.concatenate([mean[None], mean + other, mean + 2 * other]), "z"
    )
    assert np.abs(once - at_mean).max() > 0.1
    np.testing.assert_allclose(twice - at_mean, 2 * (once - at_mean), atol=1e-5)


@pytest.mark.parametrize("target", ["z", "c"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_decoding_the_test_responses_repeats_the_run(subject, protocol, target):
    roi = {"z": "early", "c": "ventral"}[target]
    form = "scaled/trials" if protocol == "takagi2023" else "zscored/trials"
    responses, stored = subject.responses(roi, form), subject.decoded(target, protocol)
    assert stored.std() > 0.1
    found = subject.decode(responses.test, target, protocol)
    np.testing.assert_allclose(found, stored, atol=1e-4)
    # A response by itself is decoded as among others.
    one = subject.decode(responses.test[3:4], target, protocol, roi)
    np.testing.assert_allclose(one[0], stored[3], atol=1e-4)


def test_published_decoders_need_their_weights_for_sampled_latents(run, tmp_path):
    """Which noise was drawn with the latents is a setting of the run."""
    shutil.copytree(run, tmp_path / "results")
    subject = nsdldm.load(tmp_path / "results", "subj01")
    responses = subject.responses("ventral", "scaled/trials").test
    (subject.folder / "takagi2023/decoded/c_weights.npy").unlink()
    found = subject.decode(responses, "c", "takagi2023")
    np.testing.assert_allclose(found, subject.decoded("c", "takagi2023"), atol=1e-3)
    # Other features than the decoders were fitted to.
    other = np.random.default_rng(3).normal(size=(N, 2, 3)).astype(np.float32)
    save_array(subject.folder / "features/z.npy", other)
    (subject.folder / "takagi2023/decoded/z_weights.npy").unlink()
    with pytest.raises(
        InputError, match=r"responses of early decode, found something else. Give resp"
    ):
        subject.decode(subject.responses("early", "scaled/trials").test, "z", "takagi2023")


def test_features_that_the_kernel_is_not_of_are_found_out(run, tmp_path):
    shutil.copytree(run, tmp_path / "results")
    subject = nsdldm.load(tmp_path / "results", "subj01")
    other = np.random.default_rng(3).normal(size=(N, 2, 3)).astype(np.float32)
    save_array(subject.folder / "features/z.npy", other)
    with pytest.raises(InputError, match=r"features\.h5: expected the kernel of .*z\.npy, found"):
        subject.predict_responses(other[:2], "z")


MESSAGES = {
    "features": (
        lambda subject: subject.features("clip"),
        r"clip\.npy: .* found only c, z, z_logvar. Choose one of these, or make it, in the folder "
        r"of the run: snakemake --cores 2 -- results/subj01/features/clip\.npy\.$",
    ),
    "nothing": (
        lambda subject: subject.reconstructions("zc", "rescaled"),
        r"no such file\. Make it, .* results/subj01/rescaled/reconstructions/zc\.h5",
    ),
    "column": (lambda subject: subject.map("z", "rr"), r"its columns, r, r2, p.*found rr"),
    "form": (
        lambda subject: subject.responses("cortex", "zscored/trials"),
        r"one of its forms, zscored/averages, found zscored/trials",
    ),
    "space": (
        lambda subject: subject.predict_responses(np.zeros((1, 2, 3)), "z_logvar"),
        r"encoders from z_logvar alone, whose features are kept, found those from z, c",
    ),
    "shape": (
        lambda subject: subject.predict_responses(np.zeros((1, 5)), "z"),
        r"`features`: expected shape \(n, 2, 3\) as in .*z\.npy, found \(1, 5\)",
    ),
    "voxels": (
        lambda subject: subject.decode(np.zeros((1, 5)), "z"),
        r"one of the regions \(early 12, ventral 9\), found shape \(1, 5\). Name the region",
    ),
    "roi": (
        lambda subject: subject.decode(np.zeros((1, 9)), "z", roi="cortex"),
        r"`roi`: expected a region that is decoded from \(early, ventral\), found 'cortex'",
    ),
    "rows": (
        lambda subject: subject.reconstructions("zc", rows=[3, 1]),
        r"`rows`: expected a slice of test images, found \[3, 1\]",
    ),
    "case": (
        lambda subject: subject.decoded("z", "nope"),
        r"`protocol`: expected one of the protocols \(.*corrected.*\), found 'nope'",
    ),
    "empty": (
        lambda subject: subject.predict_responses(np.zeros((0, 2, 3)), "z"),
        r"`features`: expected finite numbers.* found float64 of shape \(0, 2, 3\)",
    ),
    "infinite": (
        lambda subject: subject.predict_responses(np.full((1, 2, 3), np.inf), "z"),
        r"`features`: .* shape \(1, 2, 3\), some not finite",
    ),
    "object": (
        lambda subject: subject.decode(subject.responses("early"), "z"),
        r"`responses`: expected finite numbers.* Give an array; of responses, their \.train",
    ),
    "joint": (
        lambda subject: subject.predict_responses(np.zeros((1, 2, 3)), "z+zc"),
        r"expected encoders from z\+zc alone, whose features are kept, found those from",
    ),
    "region": (
        lambda subject: subject.decode(np.zeros((1, 9)), "z", roi="early"),
        r"`values`: expected shape \(n, 12\) .* found \(1, 9\)",
    ),
    "target": (
        lambda subject: subject.decode(np.zeros((1, 9)), "z", "corrected"),
        r"corrected/decoded/z\.npy: expected what these .* found something else",
    ),
    "protocol": (
        lambda subject: subject.decode(np.zeros((1, 9)), "z", "corrected@vision"),
        r"a protocol without a case, found corrected@vision. Use corrected",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_errors_say_what_to_do(subject, name):
    call, message = MESSAGES[name]
    with pytest.raises(InputError, match=message):
        call(subject)


def test_a_subject_without_results(run):
    with pytest.raises(InputError, match=r"found results of subj01\. Choose one of these"):
        nsdldm.load(run, "subj04")
    with pytest.raises(InputError, match=r"expected images\.tsv, of results of subj01, found none"):
        nsdldm.load(run / "subj01", "subj01")
