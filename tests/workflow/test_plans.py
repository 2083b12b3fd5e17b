"""What a fresh run would do, and how it refuses to start."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest
from conftest import (
    PROJECT,
    SMALL,
    TINY_DEMO,
    copy_project,
    plan,
    run_snakemake,
    write_config,
)

from nsdldm.workflow.loading import load_settings


def test_fresh_demo(tmp_path, tiny_demo):
    write_config(tmp_path, **tiny_demo)
    once = (
        *("note_source", "simulate_stimuli", "tabulate_encoding", "tabulate_protocols"),
        *("tabulate_metrics", "plot_fig4", "plot_fig5", "write_gallery"),
        *("tabulate_learning_curve", "plot_learning_curve"),
        *("tabulate_group", "tabulate_blocks", "plot_group"),
        *("average_maps", "redirect_pages"),
        *(f"publish_figure_fig{number}" for number in (3, 6, 7, 8, 9)),
    )
    chain = {
        "simulate_subject": 1,
        "check_release": 1,
        "tabulate_trials": 1,
        "average_pictures": 1,
        "make_masks_matrices": 1,
        "make_masks_regions": 1,
        "extract_betas": 1,
        "prepare_responses": 3,
        "encode_latents": 1,
        "embed_captions": 1,
        "denoise_latents": 1,
        "compute_kernels": 6,
        "fit_encoders": 6,
        "score_encoders_features": 1,
        "partition_variance_levels": 1,
        "partition_variance_steps": 1,
        "partition_variance_controls": 1,
        "partition_variance_variants": 1,
        "choose_blocks": 1,
        "plot_fig6": 1,
        "fit_decoders": 1,
        "compare_protocols": 1,
        "fit_learning_curve": 1,
        "score_learning_curve": 1,
        "reconstruct_images": 2 * 2,
        "gather_reconstructions": 2,
        "evaluate_reconstructions": 2,
        "plot_fig3": 1,
        "collect_levels": 1,
        "collect_activations": 1,
        "gather_features_levels": 1,
        "compute_grams": 1,
        "collect_variants": 1 + 2,
        "collect_controls": 2,
        "gather_features_controls": 1,
        "gather_features_variants": 1,
        "decode_strip": 1,
        "plot_unique_variance": 2,
        "plot_fig9": 1,
        "export_maps": 1,
        "write_cortex_page": 1,
    }
    each = {(rule, s): n for s in ("subj01", "subj02") for rule, n in chain.items()}
    assert plan(tmp_path, project=PROJECT) == {(rule, ""): 1 for rule in once} | each


def test_without_controls_the_linear_part_is_compared_alone(tmp_path, tiny_demo):
    changed = {"trajectories": tiny_demo["trajectories"] | {"controls": []}}
    write_config(tmp_path, **tiny_demo | changed)
    jobs = plan(tmp_path, project=PROJECT)
    assert jobs["partition_variance_controls", "subj01"] == 1
    assert jobs["collect_variants", "subj01"] == 1 and jobs["compute_kernels", "subj01"] == 5
    for rule in ("collect_controls", "gather_features_controls"):
        assert (rule, "subj01") not in jobs


def test_one_figure_needs_one_subject(tmp_path, tiny_demo):
    write_config(tmp_path, **tiny_demo)
    jobs = plan(tmp_path, "results/figures/fig6.png", project=PROJECT)
    assert {subject for _, subject in jobs} == {"", "subj01"}
    assert ("tabulate_encoding", "") not in jobs
    assert ("fit_decoders", "subj01") not in jobs
    assert ("collect_levels", "subj01") not in jobs
    jobs = plan(tmp_path, "results/figures/fig3.png", project=PROJECT)
    assert {subject for _, subject in jobs} == {"", "subj01"}
    assert ("fit_encoders", "subj01") not in jobs


def test_no_figure_5_without_networks(tmp_path, tiny_demo):
    networks = {"demo-judge": {}, "inception": {"weights": None}}
    changed = {"evaluation": tiny_demo["evaluation"] | {"networks": networks}}
    write_config(tmp_path, **tiny_demo | changed)
    jobs = plan(tmp_path, project=PROJECT)
    assert ("plot_fig5", "") not in jobs
    assert jobs["plot_fig4", ""] == 1


def test_a_region_that_decoders_need_must_have_a_matrix(tmp_path, tiny_demo):
    write_config(
        tmp_path, **tiny_demo | {"decoding": {"targets": {"z": "lateral", "c": "ventral"}}}
    )
    found = "decoding.targets.z must name one of matrices (cortex, early, ventral), not lateral"
    assert found in refuse(tmp_path)


def test_shipped_configuration_plans(tmp_path):
    """Without options, since the profile beside the Snakefile says how many cores."""
    shutil.copy(PROJECT / "config.yaml", tmp_path)
    (tmp_path / "resources").symlink_to(PROJECT / "resources")
    command = [sys.executable, "-m", "snakemake", "-s", PROJECT / "Snakefile", "--dry-run"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r"total +\d\d", result.stdout + result.stderr)


def show_plan(folder, *arguments):
    """What `make plan` prints."""
    command = [sys.executable, str(PROJECT / "rules/show_plan.py"), "--cores", "2"]
    command += ["-s", str(PROJECT / "Snakefile"), "--directory", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_plan_by_subject(tmp_path, tiny_demo):
    write_config(tmp_path, **tiny_demo)
    text = show_plan(tmp_path).stdout
    *parts, total = text.split("\n\n")
    parts = [part.splitlines() for part in parts]
    counts, columns = Counter(), set()
    for heading, *lines in parts:
        subject, n_jobs = re.fullmatch(r"(.*): (\d+) jobs?", heading).groups()
        columns |= {line.index("Missing output files") for line in lines}
        jobs = {line.split()[0]: int(line.split()[1]) for line in lines}
        assert sum(jobs.values()) == int(n_jobs)
        subject = subject.replace("all subjects", "")
        counts |= Counter({(rule, subject): n for rule, n in jobs.items()})
    assert [part[0].split(":")[0] for part in parts] == ["subj01", "subj02", "all subjects"]
    assert len(columns) == 1
    assert counts == plan(tmp_path, project=PROJECT)
    assert total == f"{sum(counts.values())} jobs in all.\n"


def test_a_plan_that_cannot_be_made_says_why(tmp_path, tiny_demo):
    write_config(tmp_path, **tiny_demo)
    result = show_plan(tmp_path, "results/nothing")
    assert result.returncode == 1
    assert "target results/nothing: expected a rule" in result.stdout


def test_nothing_to_plan(pretended):
    assert show_plan(pretended).stdout == "Nothing to do: every result is up to date.\n"


def refuse(folder, *arguments):
    """Text of a run that must end before its first job."""
    result = run_snakemake(folder, *arguments, check=False, project=PROJECT)
    assert result.returncode != 0
    text = result.stdout + result.stderr
    assert "Traceback" not in text
    assert "jobid" not in text
    assert not (folder / "results").exists()
    return text


def test_unknown_key(tmp_path, tiny_demo):
    write_config(tmp_path, **tiny_demo, encodng={})
    text = refuse(tmp_path)
    assert (
        "Unknown key encodng: did you mean encoding? The allowed keys are arrays, beyond, " in text
    )


def test_several_bad_values_in_one_report(tmp_path, tiny_demo):
    write_config(tmp_path, **tiny_demo | {"dataset": "nsdd", "min_ncsnr": "much"})
    text = refuse(tmp_path)
    assert "dataset must be" in text
    assert "min_ncsnr must be a number" in text


def test_a_subject_that_the_dataset_does_not_have(tmp_path, tiny_demo):
    write_config(tmp_path, **tiny_demo | {"subjects": ["subj9"]})
    text = refuse(tmp_path)
    assert "subjects must be of subj01, subj02" in text
    assert "when dataset is demo, not subj9" in text


def test_what_settings_name_is_there_before_the_first_job(tmp_path, tiny_demo):
    """With the demo as with real data, and on the command line as in a file."""
    write_config(tmp_path, **tiny_demo)
    named = ("trajectories={blocks: {up: up_blocks.7}}", "reconstruction={resolution: 100}")
    text = refuse(tmp_path, "--config", *named, "evaluation={best_by: psm:clip:image_embeds}")
    assert "reconstruction.resolution: expected a multiple of 8 pixels" in text
    assert "trajectories.blocks.up: expected the path of a module" in text
    assert "evaluation.best_by: expected a score that every sample has" in text
    # Who decodes by ridge alone needs no CLIP model.
    clip = ("--config", "trained={clip: {path: nowhere}}")
    assert plan(tmp_path, "results/figures/fig6.png", *clip, project=PROJECT)
    text = refuse(tmp_path, "results/tables/fcae_table2.tsv", *clip)
    assert "trained.clip.path nowhere: expected a folder, or a hub id with a revision" in text


def test_targets_that_no_rule_makes(tmp_path, tiny_demo):
    """Whether as a target or among other options; what exists may be asked for."""
    write_config(tmp_path, **tiny_demo)
    targets = ("resulsts/figures/fig6.png", "results/subj05/figures/fig6.png", "fit_decoders")
    text = refuse(tmp_path, *targets, "--until", "plot_fig66", "--forcerun", "fit_decoders")
    assert "target resulsts/figures/fig6.png: expected a rule, or a file that a rule makes" in text
    assert "results/SUBJECT/figures/ fig3.p" in text
    assert "found subj05, who is not among subjects (subj01, subj02)" in text
    assert "target plot_fig66: expected a rule" in text
    assert text.count("target fit_decoders: expected a rule") == 1


def test_region_of_an_atlas_that_the_demo_lacks(tmp_path, tiny_demo):
    """A region that nothing needs yet would otherwise pass without a word."""
    rois = tiny_demo["rois"] | {"V1": ["Kastner2015:V1v"]}
    write_config(tmp_path, **tiny_demo | {"rois": rois})
    assert "rois.V1: expected an atlas of the simulated release" in refuse(tmp_path)


def test_results_on_a_disk_that_is_not_mounted(tmp_path, tiny_demo):
    write_config(tmp_path, **tiny_demo)
    (tmp_path / "results").symlink_to(tmp_path / "mnt/disk")
    text = refuse(tmp_path)
    assert f"results: expected a folder that can be written, found a link to {tmp_path}/mnt" in text


def test_a_model_ahead_of_the_clock(tmp_path, tiny_demo):
    model = shutil.copytree(PROJECT / "resources/demo_model", tmp_path / "model")
    late = time.time() + 3 * 3600 + 60
    os.utime(model / "unet/config.json", (late, late))
    # What a copy from a Mac brings along is none of the model's files, whatever its time.
    (model / "unet/._config.json").touch()
    os.utime(model / "unet/._config.json", (late + 3600, late + 3600))
    write_config(tmp_path, **tiny_demo | {"model": {"path": str(model)}})
    text = refuse(tmp_path, "--dry-run")
    assert f"found {model}/unet/config.json by 3 h. Wait 3 h, or" in text


def test_a_project_in_a_folder_of_any_name(tmp_path, tiny_demo):
    """With a Python of its own there, whose path Snakemake gives to the shell. The job starts, and
    ends at once for another reason: it does not take these numbers."""
    folder = tmp_path / """My project [x] & y's "z"; (1)"""
    too_few = {"demo": tiny_demo["demo"] | {"unique_images": 210}}
    write_config(folder, **tiny_demo | too_few)
    copy_project(folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    links = next((folder / ".venv/lib").glob("python*/site-packages")) / "ours.pth"
    links.write_text(packages)
    command = [folder / ".venv/bin/python", "-m", "snakemake", "--cores", "1"]
    target = "results/demo/nsddata/experiments/nsd/nsd_expdesign.mat"
    result = subprocess.run([*command, target], capture_output=True, text=True, cwd=folder)
    assert (result.stdout + result.stderr).count("demo.unique_images: expected 214 to") == 1


def test_root_that_does_not_exist(tmp_path, tiny_demo):
    nsd = {"dataset": "nsd", "nsd": {"root": str(tmp_path / "nowhere")}}
    write_config(tmp_path, **load_settings(tiny_demo) | nsd)
    text = refuse(tmp_path)
    assert str(tmp_path / "nowhere") in text
    assert "nsd.root" in text


def test_model_without_unet(tmp_path, tiny_demo):
    model = shutil.copytree(PROJECT / "resources/demo_model", tmp_path / "model")
    shutil.rmtree(model / "unet")
    write_config(tmp_path, **tiny_demo | {"model": {"path": str(model)}})
    assert f"{model}/unet" in refuse(tmp_path)


@pytest.mark.slow
def test_two_subjects_broken_in_two_ways(tmp_path, release, nsd_config):
    """One report with both; links stand for the release, which stays whole."""
    root = tmp_path / "nsd"
    shutil.copytree(release, root, copy_function=lambda a, b: __import__("os").symlink(a, b))
    session = next((root / "nsddata_betas/ppdata/subj01").rglob("betas_session01.hdf5"))
    session.unlink()
    shutil.rmtree(root / "nsddata/freesurfer/subj02/surf")
    folder = tmp_path / "run"
    write_config(folder, **nsd_config | {"nsd": {"root": str(root), "sessions": [1]}})
    text = refuse(folder)
    assert str(session.relative_to(tmp_path)) in text
    assert "freesurfer/subj02/surf" in text


@pytest.mark.slow
def test_broken_content_stops_before_anything_heavy(tmp_path, release, nsd_config):
    """Both subjects' content is wrong: each gets its report, and no matrix is made."""
    root = tmp_path / "nsd"
    shutil.copytree(release, root, copy_function=lambda a, b: __import__("os").symlink(a, b))
    short = root / "nsddata/ppdata/subj01/behav/responses.tsv"
    lines = short.read_text().splitlines()[:-5]
    short.unlink()
    short.write_text("\n".join(lines) + "\n")
    session = next((root / "nsddata_betas/ppdata/subj02").rglob("betas_session01.hdf5"))
    content = session.read_bytes()
    session.unlink()
    session.write_bytes(content[: len(content) // 2])
    folder = tmp_path / "run"
    write_config(folder, **nsd_config | {"nsd": {"root": str(root), "sessions": [1]}})
    result = run_snakemake(folder, "--keep-going", check=False, project=PROJECT)
    text = result.stdout + result.stderr
    assert result.returncode != 0
    assert "responses.tsv" in text
    assert "745" in text
    assert "betas_session01.hdf5" in text
    assert not list(folder.glob("results/*/betas"))


@pytest.mark.parametrize("tests_own", [TINY_DEMO, SMALL], ids=["tiny", "small"])
def test_configurations_of_tests_are_accepted(tests_own):
    """Also those of tests that only run where Slurm may be installed."""
    assert load_settings(tests_own)["rois"] == tests_own["rois"]


def test_a_run_on_slurm_is_few_jobs(tmp_path):
    """One for each group and subject, and two for all subjects."""
    write_config(tmp_path, **SMALL)
    profile = ("--workflow-profile", PROJECT / "profiles/slurm")
    result = run_snakemake(tmp_path, "--dry-run", *profile, project=PROJECT)
    found = Counter(re.findall(r"Group job (\w+)", result.stdout + result.stderr))
    each = ("prepare", "features", "diffusion", "gather", "fits", "judges", "figures")
    groups = {f"{group}_{subject}" for group in each for subject in SMALL["subjects"]}
    assert found == dict.fromkeys(groups | {"encoding", "decoding"}, 1)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Start the command through the Slurm profile, on a cluster that only says what it allows."""
    tools = tmp_path / "bin"
    tools.mkdir()

    def start(minutes, *arguments):
        limits = "".join(
            f"PartitionName={name} Default=NO MaxTime={minutes // 60}:{minutes % 60:02d}:00\n"
            for name in ("cpu", "gpu")
        )
        texts = {"scontrol": limits, "sinfo": "cpu|256000|64\ngpu|256000|64\n"}
        texts["sacctmgr"] = "lab\n"  # the account that the profile names
        for name in ("scontrol", "sinfo", "sbatch", "sacct", "squeue", "sacctmgr"):
            note = f"echo >> {tmp_path}/{name}.called"
            answer = f"cat <<'END'\n{texts[name]}END" if name in texts else "exit 1"
            (tools / name).write_text(f"#!/bin/sh\n{note}\n{answer}\n")
            (tools / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        command = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile")]
        command += ["--directory", str(tmp_path), "--keep-going"]
        command += ["--workflow-profile", str(PROJECT / "profiles/slurm"), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        called = tmp_path / "sbatch.called"
        return result.stderr, len(called.read_text()) if called.exists() else 0

    return start


def test_slurm_is_not_asked_for_more_than_its_partitions_allow(tmp_path, tiny_demo, cluster):
    """In the profile times of a group add up: no rule of `prepare` asks for more than an hour."""
    write_config(tmp_path, **tiny_demo)
    text, n_submitted = cluster(minutes=60)
    assert n_submitted == 0
    _, _, told = text.partition("Slurm would never run these jobs; nothing was submitted:\n")
    lines = {line.partition(":")[0].lstrip(" -"): line for line in told.splitlines()}
    assert "at most 60 minutes in partition cpu" in lines["prepare_subj01, prepare_subj02"]
    assert "at most 60 minutes in partition gpu" in lines["fits_subj01, fits_subj02"]
    assert "Times of the rules of a job add up" in lines["fits_subj01, fits_subj02"]


def test_slurm_is_not_asked_again_for_more_than_its_partitions_allow(tmp_path, tiny_demo, cluster):
    """Pictures of the demo ask for 15 minutes, then for 30, then for 45."""
    write_config(tmp_path, **tiny_demo)
    text, n_submitted = cluster(40, "--until", "simulate_stimuli")
    assert n_submitted == 2, text
    assert "Submitted 2 times at most" in text
    assert "SLURM sbatch failed" in text
