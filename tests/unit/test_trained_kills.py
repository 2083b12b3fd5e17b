"""Each stage is killed in the middle and started again: it ends as an undisturbed one."""

import os
import signal

import diffusion_files
import pytest
import torch
from trained_files import (
    FORKS,
    alignment_inputs,
    pretraining_inputs,
    stage1,
    stage2,
    write_subject,
)

from nsdldm.trained import loop
from nsdldm.trained.alignment import align_encoder
from nsdldm.trained.diffusion import fine_tune_diffusion
from nsdldm.trained.pretraining import pretrain_encoder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("kills")
    write_subject(home / "subj01")
    (home / "diffusion").mkdir()
    diffusion_files.write_all(home / "diffusion")
    run("stage1", home, home / "first", epochs=1)
    return home


def train_apart(stage, home, out, kill, epochs):
    torch.set_num_threads(1)
    out.mkdir(exist_ok=True)
    if kill:
        rate = loop.find_rate

        def find_rate(plan, step, n_steps):
            if step == n_steps // 2 + 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return rate(plan, step, n_steps)

        loop.find_rate = find_rate
    changes = {"epochs": epochs, "keep": "best"}
    if stage == "stage1":
        pretrain_encoder(**pretraining_inputs(home, out, settings=stage1(**changes)))
    elif stage == "stage2":
        encoder = home / "first/weights.safetensors"
        align_encoder(**alignment_inputs(home, out, encoder, settings=stage2(**changes)))
    else:
        settings = diffusion_files.STAGE3 | changes
        given = diffusion_files.training_settings(home / "diffusion", out, settings=settings)
        fine_tune_diffusion(**given)


def run(stage, home, out, kill=False, epochs=15):
    process = FORKS.Process(target=train_apart, args=(stage, home, out, kill, epochs))
    process.start()
    process.join(200)
    assert process.exitcode == (-signal.SIGKILL if kill else 0)
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_killed_stage_ends_as_an_undisturbed_one(home, tmp_path, stage):
    expected = run(stage, home, tmp_path / "undisturbed")
    assert expected.keys() == {"weights.safetensors", "curve.tsv"}
    left = run(stage, home, tmp_path / "killed", kill=True)
    # Nothing bears a final name yet, and nothing is half-written.
    assert left.keys() == {"partial.safetensors"}
    _, about = loop.load_weights(tmp_path / "killed/partial.safetensors")
    n_steps = expected["curve.tsv"].count(b"\n") - 1
    assert n_steps / 3 < about["step"] <= n_steps / 2 + 1
    assert run(stage, home, tmp_path / "killed") == expected
