import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from trained_files import (
    LENGTH,
    draw,
    make_encoder,
    make_pretraining,
    one_thread,  # noqa: F401
    stage1,
)

from nsdldm.support.errors import InputError
from nsdldm.trained.checkpoints import (
    insert_weights,
    load_encoder,
    load_weights,
    read_metadata,
    save_weights,
)

ABOUT = {"encoder": stage1(), "length": LENGTH, "n_voxels": None, "subjects": ["subj01"]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new/folder/weights.safetensors"


def test_weights_come_back_with_what_they_are_of(path):
    state = {"b": draw(3, 4).T, "a": torch.arange(3), "half": draw(2).bfloat16()}
    about = {"z": 1, "a": [1.5, None, "ü"], "curve": [{"step": 1, "loss": 0.1}]}
    save_weights(path, state, about)
    found, metadata = load_weights(path)
    assert metadata == about == read_metadata(path)
    # In their order, too: columns of curves are made of them.
    assert json.dumps(metadata) == json.dumps(about)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
    # Anyone can read them.
    with safe_open(path, "pt") as file:
        assert torch.equal(file.get_tensor("b"), state["b"])
    assert os.listdir(path.parent) == ["weights.safetensors"]


def test_the_same_weights_make_the_same_bytes(path):
    save_weights(path, make_encoder().state_dict(), ABOUT)
    first = path.read_bytes()
    save_weights(path, make_encoder().state_dict(), ABOUT)
    assert path.read_bytes() == first


def test_numbers_that_are_none_survive(path):
    save_weights(path, {"a": torch.zeros(1)}, {"validation": float("nan"), "lowest": float("inf")})
    metadata = read_metadata(path)
    assert metadata["validation"] != metadata["validation"] and metadata["lowest"] == float("inf")


@pytest.mark.parametrize("kind", ["cae", "mae"])
def test_encoder_of_any_stage(path, kind):
    network = make_pretraining(kind=kind)
    about = ABOUT | {"encoder": network.settings, "stage": 2, "more": 1}
    save_weights(path, network.state_dict(), about)
    encoder, metadata = load_encoder(path)
    assert metadata == about
    responses = draw(3, LENGTH)
    assert torch.equal(encoder(responses), network.encoder(responses))


def test_encoder_with_adapters(path):
    expected = make_encoder(n_voxels=[7, 5])
    state = {f"encoder.{name}": tensor for name, tensor in expected.state_dict().items()}
    save_weights(path, state, ABOUT | {"n_voxels": [7, 5]})
    encoder, _ = load_encoder(path)
    responses, subject = draw(3, 8), torch.tensor([0, 1, 1])
    assert torch.equal(encoder(responses, subject=subject), expected(responses, subject=subject))


def damage(path, kind):
    save_weights(path, make_pretraining().state_dict(), ABOUT)
    if kind == "absent":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    elif kind == "text":
        path.write_text("no weights")
    elif kind == "others'":
        save_file({"encoder.start": torch.zeros(1)}, path)


@pytest.mark.parametrize("kind", ["absent", "truncated", "text", "others'"])
def test_files_that_hold_no_weights_of_ours(path, kind):
    damage(path, kind)
    with pytest.raises(InputError) as raised:
        load_encoder(path)
    message = str(raised.value)
    expected = "found no such file" if kind == "absent" else "Delete it and train again"
    assert str(path) in message and expected in message and "\n" not in message


def test_weights_of_another_network(path):
    state = {f"encoder.{name}": t for name, t in make_encoder().state_dict().items()}
    short = {name: tensor for name, tensor in state.items() if "norm.bias" not in name}
    other = state | {"encoder.extra": torch.zeros(1)}
    for wrong, expected in (
        (short, "expected the weights of encoder, found none for norm.bias"),
        (other, "expected the weights of encoder, found others, such as extra"),
        (
            state | {"encoder.norm.bias": torch.zeros(3)},
            "expected weights of this network's shapes",
        ),
    ):
        with pytest.raises(InputError, match=expected):
            insert_weights(make_encoder(), wrong, path, "encoder.")
    encoder = make_encoder(seed=1)
    insert_weights(encoder, state | {"decoder.head": torch.zeros(1)}, path, "encoder.")
    assert torch.equal(encoder.start, make_encoder().start)
