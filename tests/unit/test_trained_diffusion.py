import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusion_files import (
    LATENT,
    LENGTH,
    PATCH,
    STAGE3,
    SUBJECTS,
    TRAIN,
    make_encoder,
    save,
    training_settings,
    write_all,
)
from diffusion_models import TOKENS, WIDTH, save_model
from safetensors.torch import load_file

from nsdldm.support.errors import InputError
from nsdldm.trained.checkpoints import load_encoder, load_weights
from nsdldm.trained.diffusion import (
    ConditionedDiffusion,
    Mapper,
    fine_tune_diffusion,
    load_diffusion,
)

CPU = torch.device("cpu")
SETTINGS = STAGE3 | {"tokens": TOKENS}
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("diffusion")
    write_all(home)
    return home


def load(model, prediction="epsilon"):
    """U-Net and scheduler, without anything of the package."""
    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    scheduler = DDIMScheduler.from_pretrained(model, subfolder="scheduler")
    return unet, DDIMScheduler.from_config(scheduler.config, prediction_type=prediction)


def build(model, prediction="epsilon", device="cpu", **changes):
    torch.manual_seed(1)
    unet, scheduler = load(model, prediction)
    network = ConditionedDiffusion(make_encoder(), unet.to(device), scheduler, SETTINGS | changes)
    return network.to(device)


def make_batch(device="cpu", n=5):
    generator = torch.Generator().manual_seed(3)
    batch = {
        "responses": torch.randn(n, LENGTH, generator=generator),
        "z": torch.randn(n, *LATENT, generator=generator),
        "subject": torch.zeros(n, dtype=torch.int64),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


@torch.no_grad()
def expected_loss(network, model, batch, seed, prediction):
    """By another U-Net whose time embedding is shifted from outside, and numpy."""
    unet, _ = load(model)
    generator = torch.Generator().manual_seed(seed)
    timesteps = torch.randint(1000, (len(batch["z"]),), generator=generator)
    noise = torch.randn(batch["z"].shape, generator=generator).numpy()
    kept = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)[timesteps]
    signal, spread = (np.sqrt(x)[:, None, None, None] for x in (kept, 1 - kept))
    z = batch["z"].numpy()
    context, shift = map_states(network.mapper, network.encoder(batch["responses"])[:, 1:])
    handle = unet.time_embedding.register_forward_hook(lambda *given: given[2] + shift)
    noisy = torch.from_numpy(signal * z + spread * noise).float()
    predicted = unet(noisy, timesteps, context).sample.numpy()
    handle.remove()
    targets = {"epsilon": noise, "sample": z, "v_prediction": signal * noise - spread * z}
    return np.mean((predicted - targets[prediction]) ** 2)


def map_states(mapper, states):
    """MinD-Vis' two maps, as sums over tokens and over dimensions."""
    weights = {k: v.squeeze(-1) if v.ndim == 3 else v for k, v in mapper.state_dict().items()}

    def mix(values, name):
        for layer in (0, 1):
            bias = weights[f"{name}.{layer}.bias"][:, None]
            values = torch.einsum("ot,ntw->now", weights[f"{name}.{layer}.weight"], values) + bias
        return values

    context = mix(states, "tokens") @ weights["context.weight"].T + weights["context.bias"]
    single = mix(context, "time_tokens")[:, 0]
    return context, single @ weights["time.weight"].T + weights["time.bias"]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_loss_is_the_error_of_what_the_model_predicts(home, prediction):
    network, batch = build(home / "model", prediction), make_batch()
    found = network(batch, torch.Generator().manual_seed(7))
    expected = expected_loss(network, home / "model", batch, 7, prediction)
    assert found.keys() == {"loss"}
    assert found["loss"].item() == pytest.approx(expected, rel=1e-4)
    other = network(batch, torch.Generator().manual_seed(8))["loss"].item()
    assert other != pytest.approx(expected, rel=1e-3)


def test_mapper_has_the_published_layers():
    mapper = Mapper(12, 8, TOKENS, WIDTH, 16)
    shapes = {name: tuple(p.shape) for name, p in mapper.named_parameters() if "weight" in name}
    assert shapes == {
        "tokens.0.weight": (6, 12, 1),
        "tokens.1.weight": (TOKENS, 6, 1),
        "context.weight": (WIDTH, 8),
        "time_tokens.0.weight": (TOKENS // 2, TOKENS, 1),
        "time_tokens.1.weight": (1, TOKENS // 2, 1),
        "time.weight": (16, WIDTH),
    }
    states = torch.randn(3, 12, 8)
    for found, expected in zip(mapper(states), map_states(mapper, states), strict=True):
        torch.testing.assert_close(found, expected)


def test_time_embedding_can_be_left_as_it_is(home):
    network = build(home / "model", time_condition=False)
    context, shift = network.condition(make_batch()["responses"])
    assert context.shape == (5, TOKENS, WIDTH)
    assert shift is None
    assert network.unet.class_embedding is None
    assert torch.isfinite(network(make_batch(), torch.Generator())["loss"])


@pytest.mark.parametrize("device", DEVICES)
def test_only_encoder_mapper_and_cross_attention_are_trained(home, device):
    network, batch = build(home / "model", device=device), make_batch(device)
    before = {name: p.clone() for name, p in network.unet.named_parameters()}
    own = {name: p.clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    network(batch, torch.Generator().manual_seed(0))["loss"].backward()
    optimizer.step()
    after = dict(network.unet.named_parameters())
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    trained = {name for name in after if ".attn2." in name or "transformer_blocks.0.norm2" in name}
    assert {name for name, p in after.items() if p.grad is not None} == trained
    assert {name for name, p in after.items() if p.requires_grad} == trained
    # Queries and keys of a single head's few tokens may get next to nothing.
    assert changed <= trained
    assert {name for name in trained if "to_v" in name} <= changed
    # Residual blocks have a norm2 as well.
    assert any(name.endswith("resnets.0.norm2.weight") for name in set(after) - trained)
    assert {f"unet_parts.{name}" for name in trained} == {k for k in own if "unet_parts" in k}
    for name, parameter in network.named_parameters():
        if name.startswith(("encoder.blocks", "mapper")) and "weight" in name:
            assert not torch.equal(own[name], parameter), name


def test_other_parts_can_be_trained(home):
    network = build(home / "model", trained=["attn1", "ff"])
    names = {name for name, p in network.unet.named_parameters() if p.requires_grad}
    assert {name.split("transformer_blocks.0.")[1].split(".")[0] for name in names} == {
        "attn1",
        "ff",
    }
    for parts in (["attn3"], []):
        with pytest.raises(InputError, match=r"trained: expected parts of transformer blocks"):
            build(home / "model", trained=parts)


def test_a_network_conditioned_on_classes_is_refused(home):
    unet, scheduler = load(home / "model")
    other = UNet2DConditionModel.from_config(unet.config, num_class_embeds=3)
    with pytest.raises(InputError, match=r"`model`: expected a U-Net conditioned on .* one text"):
        ConditionedDiffusion(make_encoder(), other, scheduler, SETTINGS)
    _, other = load(home / "model", "flow")
    with pytest.raises(InputError, match=r"prediction_type .*: expected one of .*, found 'flow'"):
        ConditionedDiffusion(make_encoder(), unet, other, SETTINGS)


@pytest.fixture(scope="module")
def trained(home, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    fine_tune_diffusion(**training_settings(home, out))
    return out


def test_what_is_written(home, trained):
    state, about = load_weights(trained / "weights.safetensors")
    before, _ = load_weights(home / "encoder.safetensors")
    frozen = load_file(home / "model/unet/diffusion_pytorch_model.safetensors")
    kinds = {name.split(".")[0] for name in state}
    assert kinds == {"encoder", "mapper", "unet_parts"}
    parts = {k.removeprefix("unet_parts."): v for k, v in state.items() if "unet_parts" in k}
    assert all("attn2" in name or "norm2" in name for name in parts)
    assert any(not torch.equal(tensor, frozen[name]) for name, tensor in parts.items())
    assert not torch.equal(state["encoder.norm.weight"], before["encoder.norm.weight"])
    sizes = {
        kind: sum(t.numel() for name, t in state.items() if name.startswith(kind + "."))
        for kind in kinds
    }
    assert about["parameters"] == sizes | {
        "trained": sum(sizes.values()),
        "unet_rest": sum(t.numel() for t in frozen.values()) - sizes["unet_parts"],
    }
    assert about["settings"]["tokens"] == TOKENS
    assert about["latent"] == list(LATENT)
    assert about["subjects"] == list(SUBJECTS)
    assert about["model"] == str(home / "model")
    table = pd.read_csv(trained / "curve.tsv", sep="\t")
    # 5 of 7 rows of each subject, 4 a batch.
    assert table["step"].iloc[-1] == round(2 * (len(TRAIN) - 2) / 4)
    assert np.isfinite(table["loss"]).all()
    assert table["validation"].notna().any()
    assert sorted(p.name for p in trained.iterdir()) == ["curve.tsv", "weights.safetensors"]


def test_training_is_deterministic_and_follows_the_seed(home, trained, tmp_path):
    expected = (trained / "weights.safetensors").read_bytes()
    fine_tune_diffusion(**training_settings(home, tmp_path))
    assert (tmp_path / "weights.safetensors").read_bytes() == expected
    fine_tune_diffusion(**training_settings(home, tmp_path, seed=2))
    assert (tmp_path / "weights.safetensors").read_bytes() != expected


def test_parts_have_learning_rates_of_their_own(home, tmp_path):
    changed = {}
    before, _ = load_weights(home / "encoder.safetensors")
    for name, factors in (("still", {"encoder": 0.0}), ("fast", {"mapper": 30.0})):
        (tmp_path / name).mkdir()
        settings = STAGE3 | {"factors": factors, "decay": 0.0, "keep": "last"}
        fine_tune_diffusion(**training_settings(home, tmp_path / name, settings=settings))
        changed[name], _ = load_weights(tmp_path / name / "weights.safetensors")
    for name, tensor in before.items():
        assert torch.equal(changed["still"][name], tensor), name
        if name.endswith("weight"):
            assert not torch.equal(changed["fast"][name], tensor), name
    weight, encoder = "mapper.context.weight", make_encoder()
    torch.manual_seed(1)
    start = ConditionedDiffusion(encoder, *load(home / "model"), SETTINGS).state_dict()[weight]
    still, fast = ((changed[name][weight] - start).abs().mean() for name in ("still", "fast"))
    assert fast > 5 * still > 0


@pytest.fixture
def fresh_process():
    """accelerate keeps device and precision for as long as a process lasts."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_process")
@pytest.mark.parametrize("device", DEVICES)
def test_mixed_precision_comes_near(home, trained, tmp_path, device):
    fine_tune_diffusion(**training_settings(home, tmp_path, device=device, precision="bf16"))
    full, half = (
        pd.read_csv(folder / "curve.tsv", sep="\t")["loss"] for folder in (trained, tmp_path)
    )
    np.testing.assert_allclose(half, full, rtol=0.02)
    assert not np.array_equal(half, full)
    state, _ = load_weights(tmp_path / "weights.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_what_was_trained_loads_again(home, trained):
    network, _, _ = load_diffusion(
        trained / "weights.safetensors", home / "model", None, CPU, torch.float32, "ddim"
    )
    state, _ = load_weights(trained / "weights.safetensors")
    inside = network.unet.state_dict()
    for name, tensor in state.items():
        torch.testing.assert_close(network.state_dict()[name], tensor)
        if name.startswith("unet_parts."):
            torch.testing.assert_close(inside[name.removeprefix("unet_parts.")], tensor)
    encoder, _ = load_encoder(trained / "weights.safetensors")
    responses = torch.randn(2, LENGTH)
    torch.testing.assert_close(encoder(responses), network.encoder(responses))
    assert encoder.n_tokens == LENGTH // PATCH


def test_inputs_that_do_not_fit_are_refused(home, trained, tmp_path):
    settings = training_settings(home, tmp_path)
    alone = {
        key: {"subj01": value["subj01"]} if isinstance(value, dict) and key != "settings" else value
        for key, value in settings.items()
    }
    with pytest.raises(InputError, match=r"encoder.safetensors: .*on subj01, found one of subj01"):
        fine_tune_diffusion(**alone)
    save_model(tmp_path / "other", quantised=True)
    with pytest.raises(InputError, match=r"unet: expected 4 input channels, .* found 3"):
        fine_tune_diffusion(**settings | {"model": tmp_path / "other"})
    with pytest.raises(InputError, match=r"expected weights of stage 3, found those of 1"):
        load_diffusion(
            home / "encoder.safetensors", home / "model", None, CPU, torch.float32, "ddim"
        )


def test_labels_and_responses_of_the_test_set_change_no_trained_weight(home, tmp_path):
    for name in ("expected", "found"):
        (tmp_path / name).mkdir()
    fine_tune_diffusion(**training_settings(home, tmp_path / "expected"))
    for subject in SUBJECTS:
        shutil.copytree(home / subject, tmp_path / subject)
        images = pd.read_csv(home / subject / "images.tsv", sep="\t")
        tested = np.flatnonzero(images["split"] == "test")
        images.loc[tested, "nsd_id"] = np.roll(images.loc[tested, "nsd_id"], 1)
        save(tmp_path / subject / "images.tsv", images)
        z = np.load(home / subject / "z.npy")
        z[tested] *= -3
        np.save(tmp_path / subject / "z.npy", z)
        np.save(tmp_path / subject / "test.npy", 5 + np.load(home / subject / "test.npy"))
    given = training_settings(home, tmp_path / "found")
    for key in ("responses", "rows", "images", "z"):
        given[key] = {s: tmp_path / s / path.name for s, path in given[key].items()}
    fine_tune_diffusion(**given)
    for name in ("weights.safetensors", "curve.tsv"):
        found = (tmp_path / "found" / name).read_bytes()
        assert found == (tmp_path / "expected" / name).read_bytes(), name
