"""Results that move to another place, or get a new clone around them, are not made again."""

import os
import shutil

import pytest
import yaml
from conftest import COPIED, PROJECT, plan, run_snakemake, write_config

pytestmark = pytest.mark.slow


def test_moved_checkout(pretended, tmp_path):
    moved = shutil.copytree(pretended, tmp_path / "moved", symlinks=True)
    assert not plan(moved)


def test_copy_without_times(pretended, tmp_path):
    """Files up to max-checksum-file-size are compared; larger ones are touched, as the docs say."""
    old, copied = tmp_path / "old", tmp_path / "copied"
    shutil.copytree(pretended, old)
    matrix, figure = (f"results/subj01/{name}" for name in ("betas/cortex.npy", "figures/fig6.png"))
    os.truncate(old / matrix, 30_000_000)
    run_snakemake(old, "--touch", "--forceall", figure)
    # The matrix is made last, after what was made of it.
    later = [path for path in old.rglob("*") if path.is_file()]
    later.sort(key=lambda path: path == old / matrix)
    for path in later:
        (copied / path.relative_to(old)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied / path.relative_to(old))
    after = ("prepare_responses", "fit_encoders", "score_encoders_features", "plot_fig6")
    assert set(plan(copied, figure)) == {(rule, "subj01") for rule in after}
    run_snakemake(copied, "--touch", figure)
    assert not plan(copied, figure)


def test_fresh_clone_beside_old_results(pretended, tmp_path):
    """Code and model have new times, as git gives them; results and .snakemake are moved in."""
    old, fresh = tmp_path / "old", tmp_path / "fresh"
    shutil.copytree(pretended, old, symlinks=True)
    text = (pretended / "config.yaml").read_text()
    model = yaml.safe_load(text)["model"]["path"]
    # As in config.yaml: a folder of the checkout, by its path in there.
    (old / "config.yaml").write_text(text.replace(model, "resources/demo_model"))
    shutil.copytree(PROJECT / "resources", old / "resources")
    run_snakemake(old, "--touch")
    assert not plan(old)

    fresh.mkdir()
    for name in (*COPIED, "config.yaml", "resources"):
        if (old / name).is_dir():
            shutil.copytree(old / name, fresh / name, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(old / name, fresh / name)
    for name in ("results", ".snakemake"):
        shutil.move(old / name, fresh / name)
    model = "resources/demo_model/unet/diffusion_pytorch_model.safetensors"
    newest = max(path.stat().st_mtime for path in (fresh / "results").rglob("*") if path.is_file())
    assert (fresh / model).stat().st_mtime > newest
    assert not plan(fresh)


def test_jobs_use_the_package_beside_the_snakefile(nsd_config, tmp_path, monkeypatch):
    """Whichever is installed in the environment, or named by PYTHONPATH."""
    other = tmp_path / "installed/nsdldm/__init__.py"
    other.parent.mkdir(parents=True)
    other.write_text("raise ImportError('the package of another project')\n")
    monkeypatch.setenv("PYTHONPATH", str(other.parents[1]))
    folder = tmp_path / "run"
    write_config(folder, **nsd_config)
    run_snakemake(folder, "results/subj01/release.tsv", project=PROJECT)
