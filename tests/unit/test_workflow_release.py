"""Where files of the release are, by the settings."""

import pytest

from nsdldm.nsd.layout import PARTS
from nsdldm.workflow.loading import SettingsError, load_settings
from nsdldm.workflow.release import Release

BETAS = "nsddata_betas/ppdata/{}/func1mm/betas_assumehrf/betas_session{:02d}.nii.gz"
NSD = {
    "dataset": "nsd",
    "nsd": {
        "root": "/data/nsd/",
        "space": "func1mm",
        "betas": "betas_assumehrf",
        "format": "nifti",
        "sessions": 2,
    },
    "rois": {"early": ["streams:early", "prf-visualrois:V1v", "streams:midventral"]},
    "overrides": {"subj02": {"sessions": [3, 1]}},
}


@pytest.fixture(scope="module")
def real():
    return Release(load_settings(NSD))


def test_sessions_of_a_subject_are_its_own_or_everyones(real):
    assert real.list_sessions("subj01") == [1, 2]
    assert real.list_betas("subj02") == [f"/data/nsd/{BETAS.format('subj02', n)}" for n in (1, 3)]


def test_atlases_of_a_region(real):
    assert real.list_atlases("early") == ["prf-visualrois", "streams"]
    folder = "/data/nsd/nsddata/ppdata/{subject}/func1mm/roi"
    assert real.list_volumes("early") == [
        f"{folder}/prf-visualrois.nii.gz",
        f"{folder}/streams.nii.gz",
    ]
    assert real.list_tables("subj01", "early") == {}, "nothing is there"


def test_hemispheres(real):
    assert len(real.list_transforms()) == 6
    assert real.list_transforms()[0].endswith("/{subject}/transforms/lh.func1pt0-to-layerB1.mgz")
    assert real.list_surfaces()[0] == "/data/nsd/nsddata/freesurfer/{subject}/surf/lh.white"
    assert len(real.list_surfaces()) == 10


def test_files_of_all_subjects(real):
    stimuli = "/data/nsd/nsddata_stimuli/stimuli/nsd"
    assert real.locate_stimuli("subj01") == f"{stimuli}/nsd_stimuli.hdf5"
    assert real.list_captions()[1] == f"{stimuli}/annotations/captions_val2017.json"
    assert not real.remote
    assert real.source == {
        "dataset": "nsd",
        "root": "/data/nsd",
        "space": "func1mm",
        "betas": "betas_assumehrf",
    }


def test_label_tables_that_the_release_has(tmp_path):
    table = tmp_path / "nsddata/freesurfer/subj01/label/streams.mgz.ctab"
    table.parent.mkdir(parents=True)
    table.write_text("1 early\n")
    release = Release(load_settings(NSD | {"nsd": NSD["nsd"] | {"root": str(tmp_path)}}))
    assert release.list_tables("subj01", "early") == {"streams": str(table)}
    assert release.list_tables("subj02", "early") == {}


def test_a_bucket_gives_copies_of_pictures():
    captions = {"captions": "/data/coco"}
    release = Release(load_settings({"dataset": "nsd", "nsd": {"root": "s3://nsd"} | captions}))
    assert release.remote
    assert release.locate_stimuli() == "results/{subject}/stimuli.hdf5"
    assert release.list_captions()[0] == "/data/coco/captions_train2017.json"
    assert release.storage["signed"] in (True, False)


def test_parts_on_other_disks():
    roots = {"nsddata_betas": "/scratch/betas", "nsddata_stimuli": "s3://nsd/stimuli"}
    nsd = NSD["nsd"] | {"root": "/data/nsd", "roots": roots}
    release = Release(load_settings(NSD | {"nsd": nsd}))
    assert release.list_betas("subj02")[0] == f"/scratch/betas/{BETAS.format('subj02', 1)}".replace(
        "betas/nsddata_betas", "betas"
    )
    assert release.list_surfaces()[0].startswith("/data/nsd/nsddata/freesurfer/")
    assert release.locate_stimuli() == "results/{subject}/stimuli.hdf5"
    assert release.list_captions()[0].startswith("s3://nsd/stimuli/stimuli/nsd/annotations/")
    assert release.remote
    assert release.source["root"] == "/data/nsd, /scratch/betas, s3://nsd/stimuli"


def test_a_release_may_have_no_root_of_its_own():
    roots = {part: f"/disks/{part}" for part in PARTS}
    release = Release(load_settings({"dataset": "nsd", "nsd": {"roots": roots}}))
    assert release.locate_stimuli() == "/disks/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
    del roots["nsddata"]
    with pytest.raises(SettingsError, match=r"nsd\.root must be the release's folder"):
        load_settings({"dataset": "nsd", "nsd": {"roots": roots}})


def test_the_simulated_release():
    config = {"dataset": "demo", "demo": {"sessions": 3}, "nsd": {"sessions": "available"}}
    release = Release(load_settings(config))
    assert str(release.place.root) == "results/demo"
    assert release.list_sessions("subj01") == [1, 2, 3]
    names = [path.rpartition("/")[2] for path in release.list_simulated_betas()]
    assert names == [f"betas_session0{number}.hdf5" for number in (1, 2, 3)]
    table = "results/demo/nsddata/freesurfer/subj02/label/streams.mgz.ctab"
    assert release.list_tables("subj02", "cortex") == {"streams": table}
