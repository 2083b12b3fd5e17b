import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nsd_files import make_atlas, make_design, write_nifti, write_subject

from nsdldm.nsd.places import Folder, find_place
from nsdldm.workflow.preflight import find_sessions, find_table, preflight

PROJECT = Path(__file__).resolve().parents[2]
BETAS = "nsddata_betas/ppdata/subj{0:02d}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
SHARED = (
    "nsddata/experiments/nsd/nsd_expdesign.mat",
    "nsddata/experiments/nsd/nsd_stim_info_merged.csv",
    "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5",
    "nsddata_stimuli/stimuli/nsd/annotations/captions_train2017.json",
    "nsddata_stimuli/stimuli/nsd/annotations/captions_val2017.json",
)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("release")
    for name in SHARED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("not looked into")
    for number in (1, 3):
        write_subject(root, make_design(), number, n_sessions=3)
    return root


@pytest.fixture
def root(template, tmp_path):
    return shutil.copytree(template, tmp_path / "nsd")


@pytest.fixture
def config():
    return {
        "nsd": {
            "captions": None,
            "betas": "betas_fithrf_GLMdenoise_RR",
            "format": "hdf5",
            "space": "func1pt8mm",
            "endpoint": None,
            "signed": False,
            "test_sets": ["shared"],
            "imagery_order": "chronological",
        },
        "generalisation": {"categories": False, "betas": None},
        "rois": {"cortex": ["streams:ribbon"], "early": ["streams:early", "streams:5"]},
        "min_ncsnr": None,
        "overrides": {},
    }


def find(config, root, **sessions):
    sessions = sessions or {"subj01": [1, 2, 3], "subj03": [1, 2]}
    return preflight(config, Folder(root), sessions, sessions.get)


def test_parts_on_other_disks(root, config, tmp_path):
    disks = {part: str(tmp_path / f"disk of {part}") for part in ("nsddata_betas", "nsddata")}
    for part, disk in disks.items():
        shutil.move(root / part, disk)

    def look():
        return preflight(config, find_place(root, {}, disks), ["subj01"], lambda _: [1])

    assert look() == []
    shutil.rmtree(f"{disks['nsddata_betas']}/ppdata/subj01")
    (found,) = look()
    assert found.where.startswith(disks["nsddata_betas"])
    shutil.rmtree(disks["nsddata"])
    shutil.rmtree(disks["nsddata_betas"])
    wheres = {found.where: found.remedy for found in look()}
    assert wheres == {
        f"nsd.roots.{part} {disk}": f"Set nsd.roots.{part} to what holds the files of {part}"
        for part, disk in disks.items()
    }


def find_one(findings, where, *words):
    (finding,) = findings
    assert finding.where.endswith(where)
    for word in words:
        assert word in str(finding)


def test_whole_release_has_no_findings(config, root):
    assert find(config, root) == []


def test_missing_root_is_the_only_finding(config, root):
    find_one(find(config, root / "absent"), "nsd/absent", "nsd.root", "found nothing")
    find_one(find(config, root / SHARED[0]), SHARED[0], "nsd.root", "found a file")


@pytest.mark.parametrize("name", SHARED)
def test_missing_shared_file(config, root, name):
    (root / name).unlink()
    find_one(find(config, root), name, "found nothing")


def test_objects_of_images_are_only_needed_for_categories(config, root):
    config["generalisation"]["categories"] = True
    findings = find(config, root)
    assert [finding.where.rpartition("/")[2] for finding in findings] == [
        *("instances_train2017.json", "instances_val2017.json")
    ]
    assert "set generalisation.categories to false" in str(findings[0])


def test_files_of_other_test_sets_and_betas(config, root):
    config["nsd"]["test_sets"] = ["shared", "synthetic", "imagery"]
    config["generalisation"]["betas"] = "betas_fithrf"
    findings = [str(finding) for finding in find(config, root, subj01=[1, 2, 3])]
    for name in (
        *("nsdsyntheticbetas_fithrf_GLMdenoise_RR/betas_nsdsynthetic.hdf5",),
        *("nsdsynthetic_colorstimuli_subj01.hdf5", "nsdsyntheticimageinformation.csv"),
        *("betas_nsdimagery.hdf5", "nsdimagery_subj01_imgC_2.tsv", "C_pair_list.mat"),
        *("setB/shared0385_nsd28752.png", "betas_fithrf/betas_session01.hdf5"),
    ):
        assert any(name in finding for finding in findings), name
    # 5 of NSD-synthetic; betas, 12 runs, 3 lists and 12 targets of NSD-Imagery; other betas.
    assert len(findings) == 5 + 1 + 12 + 3 + 12 + 1


def test_captions_in_a_folder_of_their_own(config, root, tmp_path):
    config["nsd"]["captions"] = str(tmp_path / "coco")
    assert len(find(config, root)) == 2
    shutil.move(root / "nsddata_stimuli/stimuli/nsd/annotations", tmp_path / "coco")
    assert find(config, root) == []


@pytest.mark.parametrize(
    "name",
    [
        "nsddata/ppdata/subj03/behav/responses.tsv",
        "nsddata/ppdata/subj03/transforms/rh.func1pt8-to-layerB2.mgz",
        "nsddata/freesurfer/subj03/surf/lh.inflated",
        "nsddata/freesurfer/subj03/surf/lh.sulc",
        "nsddata/freesurfer/subj03/surf/rh.white",
        "nsddata/freesurfer/subj03/surf/rh.pial",
        "nsddata/freesurfer/subj03/surf/rh.full.flat.patch.3d",
        "nsddata/freesurfer/subj03/label/streams.mgz.ctab",
    ],
)
def test_missing_or_empty_file_of_a_subject(config, root, name):
    (root / name).unlink()
    find_one(find(config, root), name, "found nothing", f"s3://natural-scenes-dataset/{name}")
    (root / name).touch()
    find_one(find(config, root), name, "found an empty file")
    assert find(config, root, subj01=[1]) == []


def test_missing_sessions_of_a_subject_are_one_finding(config, root):
    for session in (2, 3):
        (root / BETAS.format(1) / f"betas_session{session:02d}.hdf5").unlink()
    find_one(find(config, root), "betas_session02.hdf5", "2 sessions of 3", "lower nsd.sessions")
    find_one(find(config, root, subj01=[1, 2]), "betas_session02.hdf5", "found nothing.")
    assert find(config, root, subj01=[1]) == []


def test_the_other_format_is_pointed_out(config, root):
    config["nsd"]["format"] = "nifti"
    find_one(find(config, root, subj01=[1]), "session01.nii.gz", "nsd.format to hdf5")


def test_sessions_that_a_subject_never_had(config, root):
    where = "sessions of subj03"
    find_one(find(config, root, subj03=[1, 2, 33, 40]), where, "1 to 32", "session 33")


def test_atlas_that_the_release_lacks(config, root):
    roi = root / "nsddata/ppdata/subj01/func1pt8mm/roi"
    write_nifti(roi / "lh.streams.nii.gz", [[[0.0]]])
    config["rois"]["frontal"] = ["control:frontal"]
    findings = find(config, root, subj01=[1])
    find_one(findings, "control.nii.gz", "the atlas control", "(there are: streams)")


def test_label_that_the_table_lacks(config, root):
    config["rois"]["lateral"] = ["streams:lateral"]
    findings = find(config, root)
    assert [Path(finding.where).name for finding in findings] == ["streams.mgz.ctab"] * 2
    assert "'lateral'" in str(findings[0])
    assert "subj03" in findings[1].where


@pytest.fixture
def tables(root):
    """Where the names of streams may be: the subject's own, fsaverage's, the templates'."""
    names = "freesurfer/subj01/label/streams.mgz", "freesurfer/fsaverage/label/streams.mgz"
    paths = [root / f"nsddata/{name}.ctab" for name in (*names, "templates/streams")]
    paths[0].unlink()
    for path in paths[1:]:
        path.parent.mkdir(parents=True, exist_ok=True)
    return paths


@pytest.mark.parametrize("place", [0, 1, 2])
def test_names_come_from_the_first_table_that_is_there(config, root, tables, place):
    config["rois"]["early"] = ["streams:early"]
    for path in tables[place:]:
        path.write_text("0 Unknown\n1 other\n")
    tables[place].write_text("0 Unknown\n1 early\n")
    assert find(config, root, subj01=[1]) == []
    assert find_table(Folder(root), "subj01", "streams") == str(tables[place].relative_to(root))


def test_numbers_and_all_labels_need_no_table(config, root, tables):
    """Such as nsdgeneral, a mask of 0 and 1."""
    write_nifti(root / "nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz", make_atlas())
    config["rois"] = {"cortex": ["streams:ribbon"], "early": ["streams:1", "streams:5"]}
    config["rois"]["nsdgeneral"] = ["nsdgeneral:all", "nsdgeneral:1"]
    assert find(config, root, subj01=[1]) == []
    config["rois"]["ventral"] = ["streams:ventral", "streams:1"]
    words = (
        "found nothing",
        "fsaverage/label/streams.mgz.ctab",
        "numbers for ventral",
        "streams:all",
    )
    find_one(find(config, root, subj01=[1]), "subj01/label/streams.mgz.ctab", *words)
    tables[0].touch()
    find_one(find(config, root, subj01=[1]), "streams.mgz.ctab", "found an empty file")


def test_region_of_another_form_is_found_once(config, root):
    config["rois"]["lateral"] = ["streams:a:b"]
    find_one(find(config, root), "rois.lateral", "'streams:a:b'")


@pytest.mark.parametrize("where", ["min_ncsnr", "overrides"])
def test_ncsnr_is_needed_only_where_it_is_used(config, root, where):
    (root / BETAS.format(1) / "ncsnr.nii.gz").unlink()
    assert find(config, root) == []
    config[where] = 0.1 if where == "min_ncsnr" else {"subj01": {"min_ncsnr": 0.1}}
    find_one(find(config, root), "subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/ncsnr.nii.gz")
    config["overrides"] = {"subj01": {"min_ncsnr": None}}
    assert find(config, root) == []


@pytest.mark.parametrize(
    ("key", "asked", "there"),
    [
        ("betas", "betas_fithrf", "found only betas_fithrf_GLMdenoise_RR. Set nsd.betas to what"),
        ("space", "func1mm", "found only func1pt8mm. Set nsd.space to what is there"),
    ],
)
def test_other_versions_and_spaces_of_the_betas_are_told_once(config, root, key, asked, there):
    """A space that is missing takes regions, transforms and betas with it: one reason."""
    config["nsd"][key] = asked
    findings = find(config, root)
    where = [finding.where.removeprefix(f"{root}/") for finding in findings]
    assert where == ["nsddata_betas/ppdata/subj01", "nsddata_betas/ppdata/subj03"]
    assert all(there in str(finding) and asked in finding.expected for finding in findings)


def test_two_versions_that_are_there_are_both_told(config, root):
    config["nsd"]["betas"] = "betas_fithrf"
    shutil.copytree(root / BETAS.format(1), (root / BETAS.format(1)).with_name("betas_assumehrf"))
    (finding,) = find(config, root, subj01=[1])
    assert finding.found == "only betas_assumehrf, betas_fithrf_GLMdenoise_RR"


@pytest.mark.parametrize("name", [SHARED[2], SHARED[4], BETAS.format(3) + "/betas_session02.hdf5"])
def test_time_stamps_ahead_of_the_clock(config, root, name, tmp_path):
    os.utime(root / name, (time.time() + 10_803,) * 2)
    find_one(find(config, root), "time stamps of inputs", f"{root / name} by 3 h. Wait 3 h, or")
    # Files that lie elsewhere are in the same report.
    (tmp_path / "weights").touch()
    os.utime(tmp_path / "weights", (time.time() + 3605,) * 2)
    findings = preflight(config, Folder(root), ["subj03"], lambda _: [1, 2], [tmp_path / "weights"])
    find_one(findings, "time stamps of inputs", f"{root / name} by 3 h, {tmp_path}/weights by 60")
    # What docs/faults.md says of a release that cannot be written: cp -rs.
    links = tmp_path / "links"
    shutil.copytree(root, links, copy_function=lambda a, b: os.symlink(a, b))
    assert find(config, links) == []


def test_sessions_that_are_there(config, root):
    place, nsd = Folder(root), config["nsd"]
    assert find_sessions(place, "subj03", nsd) == [1, 2, 3]
    (root / BETAS.format(3) / "betas_session02.hdf5").unlink()
    (root / BETAS.format(3) / "betas_session03.hdf5").write_text("")
    assert find_sessions(place, "subj03", nsd) == [1]
    assert find_sessions(place, "subj03", nsd | {"format": "nifti"}) == []
    assert find_sessions(place, "subj05", nsd) == []
    found = preflight(config, Folder(root), ["subj03"], lambda _: [])
    find_one(found, BETAS.format(3), "at least one session", "correct nsd.format")


def test_strays_are_no_atlases(config, root):
    roi = root / "nsddata/ppdata/subj01/func1pt8mm/roi"
    for name in ("._streams.nii.gz", "Icon\r", ".AppleDouble.nii.gz"):
        (roi / name).write_text("stray")
    config["rois"]["frontal"] = ["control:frontal"]
    find_one(find(config, root, subj01=[1]), "control.nii.gz", "(there are: streams)")


def test_subject_that_is_not_there_is_one_finding(config, root):
    find_one(find(config, root, subj01=[1], subj02=[1, 2]), "subj02 in " + str(root))


def test_subject_without_surfaces_is_one_finding(config, root):
    shutil.rmtree(root / "nsddata/freesurfer/subj01/surf")
    find_one(find(config, root), "nsddata/freesurfer/subj01/surf", "a folder", "nothing")


def test_two_subjects_broken_in_two_ways_are_in_one_report(config, root):
    (root / BETAS.format(1) / "betas_session02.hdf5").unlink()
    shutil.rmtree(root / "nsddata/ppdata/subj03/transforms")
    where = [finding.where.removeprefix(str(root) + "/") for finding in find(config, root)]
    expected = ["nsddata/ppdata/subj03/transforms"]
    assert where == [BETAS.format(1) + "/betas_session02.hdf5", *expected]


def test_needs_the_standard_library_only():
    code = (
        "import sys; import nsdldm.diffusion.check, nsdldm.workflow.preflight; print(*sys.modules)"
    )
    # -I -S: neither site-packages nor the environment's paths.
    command = f"import sys; sys.path.append({str(PROJECT)!r}); {code}"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", command], capture_output=True, text=True, check=True
    )
    first = {name.partition(".")[0] for name in run.stdout.split()}
    assert first - sys.stdlib_module_names <= {"__main__", "nsdldm"}
