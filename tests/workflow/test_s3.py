"""The same rules on a release in a bucket: moto on loopback, the real storage plugin."""

import re

import numpy as np
import pytest
from bucket import serve_bucket
from conftest import PROJECT, plan, run_snakemake, write_config

from nsdldm.support.files import load_array

pytestmark = [
    pytest.mark.slow,
    # Answers are cut on purpose.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

FIGURE = "results/figures/fig6.png"
# Of the second subject only what is made from the bucket.
SECOND = ("results/subj02/betas/cortex.npy", "results/subj02/stimuli.hdf5")
RESPONSES = "nsddata/ppdata/{}/behav/responses.tsv"
BETAS = "nsddata_betas/ppdata/{}/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session01.hdf5"


@pytest.fixture(scope="module")
def bucket(release):
    with serve_bucket() as bucket:
        bucket.put_folder("release", release)
        yield bucket


@pytest.fixture(scope="module")
def s3_config(bucket, nsd_config):
    nsd = nsd_config["nsd"] | {"root": "s3://nsd/release", "endpoint": bucket.endpoint}
    return nsd_config | {"nsd": nsd}


def run(folder, *arguments, **options):
    return run_snakemake(folder, *arguments, project=PROJECT, **options)


def refuse(folder, *arguments):
    """Text of a run that fails without a traceback."""
    result = run(folder, *arguments, check=False)
    assert result.returncode != 0
    text = result.stdout + result.stderr
    assert "Traceback" not in text
    return text


@pytest.fixture(scope="module")
def read(tmp_path_factory, bucket, s3_config):
    """A folder with figure 6 made from the bucket, and the requests that took."""
    folder = tmp_path_factory.mktemp("s3")
    write_config(folder, **s3_config)
    bucket.requests.clear()
    run(folder, FIGURE, *SECOND)
    return folder, list(bucket.requests)


def test_figure_is_that_of_the_folder(read, finished):
    folder, _ = read
    table = "results/subj01/figures/fig6.tsv"
    assert (folder / table).read_bytes() == (finished / table).read_bytes()
    assert (folder / FIGURE).read_bytes() == (finished / FIGURE).read_bytes()
    name = "results/subj01/betas/cortex.npy"
    np.testing.assert_array_equal(load_array(folder / name), load_array(finished / name))


def test_each_object_is_read_once(read, bucket):
    """Whole, that is: of pictures those seen, of betas headers besides, of tables a first look."""
    _, requests = read
    spans = {}
    for method, path, span in requests:
        if method == "GET" and path != "/nsd":
            spans.setdefault(path.removeprefix("/nsd/"), []).append(span)
    for path, asked in spans.items():
        n_whole = sum(
            span in ("", "bytes=0-") or span.startswith("bytes=0-8388607") for span in asked
        )
        once = 0 if path.endswith("nsd_stimuli.hdf5") else 2 if path.endswith(".ctab") else 1
        assert n_whole <= once, (path, asked)
    own = RESPONSES.format("subj01")
    assert len(spans[f"release/{own}"]) == 1
    # Nothing of a subject that is not run.
    assert not [path for path in spans if "subj03" in path]


def test_no_session_is_left_on_disk(read):
    folder, _ = read
    assert not list(folder.rglob("betas_session*"))
    assert not [path for path in (folder / ".snakemake/storage").rglob("*") if path.is_file()]


def test_nothing_to_do_afterwards(read):
    folder, _ = read
    assert plan(folder, FIGURE, *SECOND, project=PROJECT) == {}


def test_a_changed_object_reruns_its_subject(read, bucket, release):
    folder, _ = read
    own = RESPONSES.format("subj02")
    bucket.put(f"release/{own}", release / own)
    jobs = plan(folder, FIGURE, *SECOND, project=PROJECT)
    assert jobs[("check_release", "subj02")] == 1
    assert {subject for _, subject in jobs} == {"subj02"}
    run(folder, FIGURE, *SECOND)


def test_the_rerun_table(read, s3_config):
    """A setting of one subject, and one of the encoders."""
    folder, _ = read
    try:
        write_config(folder, **s3_config | {"overrides": {"subj02": {"min_ncsnr": 0.05}}})
        jobs = plan(folder, FIGURE, *SECOND, project=PROJECT)
        # Regions that only figures outline are not needed of the second subject here.
        assert jobs == {("make_masks_matrices", "subj02"): 1, ("extract_betas", "subj02"): 1}
        encoding = s3_config["encoding"] | {"alphas": [1.0, 100.0]}
        write_config(folder, **s3_config | {"encoding": encoding})
        jobs = plan(folder, FIGURE, *SECOND, project=PROJECT)
        assert jobs == {
            ("fit_encoders", "subj01"): 1,
            ("score_encoders_features", "subj01"): 1,
            ("plot_fig6", "subj01"): 1,
            ("publish_figure_fig6", ""): 1,
        }
    finally:
        write_config(folder, **s3_config)


def test_missing_bucket(tmp_path, s3_config):
    nsd = s3_config["nsd"] | {"root": "s3://another/release"}
    write_config(tmp_path, **s3_config | {"nsd": nsd})
    text = refuse(tmp_path)
    assert "s3://another/release: expected a bucket, found none of that name" in text
    assert text.count("s3://another") == 1


def test_denied_access(tmp_path, bucket, s3_config, release):
    """Objects that may be listed and not read are found before the first job."""
    own = BETAS.format("subj01")
    bucket.put(f"release/{own}", release / own, public=False)
    write_config(tmp_path, **s3_config)
    try:
        text = refuse(tmp_path, "results/subj01/betas/cortex.npy")
    finally:
        bucket.put(f"release/{own}", release / own)
    assert f"s3://nsd/release/{own}" in text
    assert "denied to unsigned requests" in text
    assert "jobid" not in text


def test_unreachable_service(tmp_path, s3_config):
    nsd = s3_config["nsd"] | {"endpoint": "http://127.0.0.1:9"}
    write_config(tmp_path, **s3_config | {"nsd": nsd})
    text = refuse(tmp_path)
    assert "expected an answer from http://127.0.0.1:9" in text
    assert "Run the same command again" in text


@pytest.mark.parametrize("what", ["small file", "pictures"])
def test_a_connection_lost_in_the_middle(tmp_path, bucket, s3_config, what):
    """One message; the same command then goes on, with what was done kept."""
    target = "results/subj01/stimuli.hdf5"
    write_config(tmp_path, **s3_config)
    pattern, after = {"small file": ("stim_info", 0), "pictures": ("nsd_stimuli", 150)}[what]
    with bucket.breaking(pattern, after):
        text = refuse(tmp_path, target)
    assert re.search(rf"s3://nsd/release/\S*{pattern}", text)
    assert not (tmp_path / target).exists()
    assert (tmp_path / "results/subj01/images.tsv").exists() == (what == "pictures")
    bucket.requests.clear()
    run(tmp_path, target)
    assert (tmp_path / target).exists()
    if what == "pictures":
        done = re.search(
            r"pictures: (\d+) of \1", (tmp_path / "logs/subj01/fetch_stimuli.log").read_text()
        )
        assert int(done.group(1)) <= 160
