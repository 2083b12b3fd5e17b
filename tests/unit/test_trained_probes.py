from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from trained_files import (
    LENGTH,
    N_TEST,
    N_TOKENS,
    alignment_inputs,
    draw,
    make_encoder,
    make_pretraining,
    one_thread,  # noqa: F401
    pretraining_inputs,
    seeded,
    stage1,
    stage2,
    write_subject,
)

from nsdldm import ridge
from nsdldm.trained.alignment import align_encoder
from nsdldm.trained.data import TestSet
from nsdldm.trained.networks import draw_mask
from nsdldm.trained.pretraining import pretrain_encoder
from nsdldm.trained.probes import (
    SubjectFiles,
    complete_responses,
    evaluate_encoders,
    find_images,
    pool_states,
    predict_neighbour,
    probe,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def on_cpu():
    ridge.set_device("cpu")


def test_images_are_found_by_the_nearest_vector():
    aims = np.eye(4, dtype=np.float32)
    predicted = 3 * aims
    assert find_images(predicted, aims).all()
    # Length does not matter, the angle does.
    predicted[1] = [0.9, 1, 0, 0]
    predicted[2] = [0, 0, 1, 1.1]
    predicted[3] = 0
    assert find_images(predicted, aims).tolist() == [True, True, False, False]
    # Over several tokens the mean of their cosines counts.
    tokens = np.stack([aims, np.roll(aims, 1, axis=0)], axis=1)
    given = tokens.copy()
    given[0, 0] = aims[1]
    assert find_images(tokens, tokens).all()
    cosines = np.einsum("itd,jtd->ij", given, tokens) / 2
    expected = [row[i] > np.delete(row, i).max() for i, row in enumerate(cosines)]
    assert find_images(given, tokens).tolist() == expected
    assert not expected[0]


def test_neighbours_predict_by_simple_regression():
    train, responses = (draw(n, 7, seed=n).numpy() for n in (40, 3))
    visible = np.array([0, 1, 0, 0, 0, 1, 0], bool)
    found = predict_neighbour(train, responses, visible)
    # The nearest of the two visible voxels, the lower one of two as near.
    for column, (hidden, nearest) in enumerate(((0, 1), (2, 1), (3, 1), (4, 5), (6, 5))):
        slope = np.linalg.lstsq(train[:, [nearest]], train[:, hidden], rcond=None)[0]
        np.testing.assert_allclose(found[:, column], responses[:, nearest] * slope, rtol=1e-5)


@pytest.mark.parametrize("kind", ["cae", "mae"])
def test_what_is_visible_stays_as_it_was(kind):
    network = make_pretraining(encoder=kind, target="mse").eval()
    responses = draw(70, LENGTH, seed=3)
    kept, masked = draw_mask(seeded(), 1, N_TOKENS, 0.5)
    completed = complete_responses(network, responses, (kept, masked), CPU)
    shape = 70, N_TOKENS, LENGTH // N_TOKENS
    before, after = responses.numpy().reshape(shape), completed.reshape(shape)
    np.testing.assert_array_equal(after[:, kept[0]], before[:, kept[0]])
    outputs, _ = network.predict(responses, kept.expand(70, -1), masked.expand(70, -1))
    np.testing.assert_allclose(after[:, masked[0]], outputs.detach().numpy(), atol=1e-5)
    # What was masked has no part in it.
    hidden = responses.reshape(shape).clone()
    hidden[:, masked[0]] = 9
    again = complete_responses(network, hidden.flatten(1), (kept, masked), CPU)
    np.testing.assert_array_equal(again, completed)


def test_pooled_states_are_the_mean_and_the_class_token():
    encoder, responses = make_encoder(), draw(70, LENGTH, seed=3)

    def batch(rows):
        return {"responses": responses[rows], "subject": torch.zeros(len(rows), dtype=torch.int64)}

    pooled = pool_states(encoder, SimpleNamespace(batch=batch), np.arange(70), CPU)
    states = encoder(responses).detach().numpy()
    expected = np.concatenate([states[:, 1:].mean(axis=1), states[:, 0]], axis=1)
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


def test_probe_reads_out_what_is_linear():
    X, map_ = draw(60, 6).numpy(), draw(6, 4, seed=1).numpy()
    aims = X @ map_ + 5
    found = probe(X[:40], X[40:], np.arange(40), aims[:40], aims[40:])
    assert found.all()
    other = draw(20, 6, seed=2).numpy()
    assert not probe(X[:40], other, np.arange(40), aims[:40], aims[40:]).all()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One subject, with an encoder and its alignment."""
    home = tmp_path_factory.mktemp("probes")
    write_subject(home / "subj01")
    pretrain_encoder(**pretraining_inputs(home, home / "cae", settings=stage1(epochs=2)))
    given = alignment_inputs(home, home / "both", home / "cae/weights.safetensors")
    align_encoder(**given | {"settings": stage2(epochs=2)})
    given = alignment_inputs(home, home / "text", home / "cae/weights.safetensors")
    align_encoder(**given | {"settings": stage2("text", epochs=2)})
    return home


def evaluate(home, out, **changes):
    folder, encoder = home / "subj01", "cae/weights.safetensors"
    names = {"train": "train.npy", "train_rows": "train.tsv", "images": "images.tsv"}
    names |= {"test": "test.npy", "test_rows": "test.tsv"}
    names |= {"clip_image": "clip_image.npy", "clip_text": "clip_text.npy"}
    made = {"masked": "m.tsv", "completed": "c.h5", "retrieval": "r.tsv"}
    given = {"subject": SubjectFiles(**{key: folder / name for key, name in names.items()})}
    given |= {key: out / name for key, name in made.items()}
    given |= {"encoders": {"cae": home / encoder}, "before": {"both": "cae", "text": "cae"}}
    given["aligned"] = {name: home / name / "weights.safetensors" for name in ("both", "text")}
    given |= {"seed": 1, "bootstrap": 50, "device": "cpu"}
    evaluate_encoders(**given | changes)
    tables = [pd.read_csv(out / made[name], sep="\t") for name in ("masked", "retrieval")]
    return *tables, out / made["completed"]


def test_all_stages_are_scored(home, tmp_path):
    masked, retrieval, completed = evaluate(home, tmp_path)
    assert masked["predictor"].tolist() == ["model", "mean", "neighbour"]
    assert masked["gain"][0] == 0
    gains = masked["mse"] - masked["mse"][0]
    np.testing.assert_allclose(masked["gain"], gains, atol=1e-5)
    assert (masked["n_images"] == N_TEST).all()
    rows = list(zip(retrieval["name"], retrieval["stage"], retrieval["readout"], strict=True))
    assert rows == [
        ("responses", 0, "probe"),
        ("cae", 1, "probe"),
        ("both", 2, "probe"),
        ("text", 2, "probe"),
        ("both", 2, "image"),
        ("both", 2, "text"),
        ("text", 2, "text"),
    ]
    assert (retrieval["chance"] == 1 / N_TEST).all()
    later = retrieval[(retrieval["stage"] == 2) & (retrieval["readout"] == "probe")]
    gains = later["top1"] - retrieval["top1"][1]
    np.testing.assert_allclose(later["gain"], gains, atol=1e-5)
    assert retrieval["gain"].notna().sum() == len(later) == 2
    assert (retrieval["ci_low"] <= retrieval["top1"]).all()
    assert (retrieval["top1"] <= retrieval["ci_high"]).all()
    with h5py.File(completed) as file:
        true, visible = file["true"][:], file["visible"][:].astype(bool)
        tested = TestSet(home / "subj01/test.npy", home / "subj01/test.tsv", LENGTH)
        assert file["nsd_id"][:].tolist() == list(tested.nsd_ids)
        np.testing.assert_array_equal(true, np.load(home / "subj01/test.npy"))
        for name in ("model", "mean", "neighbour"):
            np.testing.assert_array_equal(file[name][:][visible], true[visible])
            assert (file[name][:][~visible] != true[~visible]).all()
        assert not file["mean"][:][~visible].any()


def test_a_network_that_knows_the_rest_makes_no_error(home, tmp_path, monkeypatch):
    """Errors are those of hidden voxels, and only the model's follow from the model."""
    first, *_ = evaluate(home, tmp_path)

    def know(network, responses, masks, device):
        return responses.numpy()

    monkeypatch.setattr("nsdldm.trained.probes.complete_responses", know)
    second, *_ = evaluate(home, tmp_path)
    assert second["mse"][0] == 0 < first["mse"][0]
    assert second["mse"][1:].tolist() == first["mse"][1:].tolist()
    # Zero for hidden voxels is wrong by their mean square, about 1 where they are standardised.
    assert second["mse"][1] == pytest.approx(1, abs=0.4)
