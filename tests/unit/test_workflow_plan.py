"""Plain lists of what a run makes, for configurations small enough to write the lists by hand."""

import re

import pytest

from nsdldm.workflow.loading import load_settings
from nsdldm.workflow.networks import list_generator, list_space
from nsdldm.workflow.plan import (
    find_chain,
    find_chunks,
    find_taken,
    group_regions,
    list_beyond,
    list_chunks,
    list_drawn_runs,
    list_forms,
    list_parts,
    list_run_files,
    list_runs,
    list_spaces,
    list_targets,
    list_trained_targets,
    list_training,
)

CONFIG = {
    "dataset": "demo",
    "complete": True,
    "subjects": ["subj02", "subj05"],
    "figure_subject": "subj05",
    "denoising": {"num_inference_steps": 10, "strength": 0.8},
    "trajectories": {
        "noise_levels": [0.4, 1.0],
        "drawn_levels": [1.0],
        "step_shares": [0.5, 1.0],
        "blocks": {"mid": "mid_block", "up": "up_blocks.1"},
        "variants": {"shared": {"noise": "shared"}, "seed1": {"seed": 1}},
        "controls": ["empty"],
    },
    "decoding": {"protocols": ["corrected", "takagi2023"]},
    "reconstruction": {"methods": ["z", "zc"]},
    "trained": {
        "subjects": ["subj05"],
        "methods": {"mine": {"preset": "fcae"}, "vis-dec": {}, "mae-f": {}},
    },
}


def load(**changes):
    return load_settings(CONFIG | changes)


@pytest.fixture(scope="module")
def settings():
    return load()


def test_spaces_along_the_reverse_process(settings):
    spaces = list_spaces(settings)
    assert spaces.features == ["z", "c", "zc"]
    assert spaces.levels == ["zc-n040", "zc-n100"]
    assert spaces.drawn_levels == ["zc-n100"]
    assert spaces.steps == ["zc-s050", "zc-s100"]
    assert spaces.step_names == ["s050", "s100"]
    assert set(spaces.blocks) == {f"unet-{x}-s{n}" for x in ("mid", "up") for n in ("050", "100")}
    assert spaces.latents == [*spaces.levels, *spaces.steps]
    assert spaces.chain == ["zc", *spaces.steps, "before-s050", "before-s100"]
    assert spaces.twins == {}


def test_the_level_of_the_steps_is_computed_once():
    own = CONFIG["trajectories"] | {"noise_levels": [0.4, 0.8], "drawn_levels": [0.8]}
    spaces = list_spaces(load(trajectories=own))
    assert spaces.twins == {"zc-n080": "zc-s100"}
    assert spaces.levels == spaces.reported["levels"] == ["zc-n040", "zc-n080"]
    assert spaces.noised == spaces.families["levels"] == ["zc-n040"]
    assert spaces.fitted["levels"] == ["levels", "steps"]
    assert spaces.fitted["steps"] == ["steps"]
    assert spaces.find_computed("zc-n080-linear") == "zc-s100-linear"
    assert spaces.find_computed("zc-s050-shared-empty") == "zc-s050-shared-empty"
    assert {"zc-n080-empty", "zc-s100-empty"} < {*spaces.reported["controls"]}
    assert not any("n080" in space for space in spaces.families["controls"] + spaces.latents)
    assert spaces.gathered["controls"] == spaces.from_features["controls"]
    assert not any("n080" in space for space in spaces.gathered["controls"])
    # The clean latent that the last step predicts is not the latent at its end.
    assert list_spaces(load(trajectories=own | {"latent": "x0"})).twins == {}


def test_other_noise_has_controls_and_other_seeds_have_none(settings):
    spaces = list_spaces(settings)
    assert spaces.variants == [
        *("zc-s050-shared", "zc-s100-shared"),
        *("zc-s050-seed1", "zc-s100-seed1"),
    ]
    assert spaces.chains == ["shared", "seed1", "shared-empty"]
    controlled = ["zc-n040", "zc-n100", "zc-s050", "zc-s100", "zc-s050-shared", "zc-s100-shared"]
    assert spaces.controlled == controlled
    assert spaces.controls == [f"{space}-empty" for space in controlled]
    assert spaces.parts[:3] == ["zc-n040-empty", "zc-n040-linear", "zc-n040-residual"]
    assert len(spaces.parts) == 3 * len(controlled)


def test_maps_of_spaces_and_of_joint_models(settings):
    spaces = list_spaces(settings)
    assert spaces.list_maps("features")["tables"][0] == "results/{subject}/encoding/z.tsv"
    maps = spaces.list_maps("levels")["maps"]
    assert maps == [f"results/{{subject}}/encoding/z+{name}.nii.gz" for name in spaces.levels]


def test_chunks_follow_one_another_in_each_space():
    settings = {"trajectories": {"chunks": 2}}
    start = "results/{subject}/trajectories"
    expected = [f"{start}/{name}.{n}.npy" for name in ("zc-n040", "zc-n100") for n in (0, 1)]
    assert list_chunks(settings, ["zc-n040", "zc-n100"]) == expected
    assert list_parts(["zc-s050"], "-{control}") == [f"{start}/zc-s050-{{control}}.{{chunk}}.npy"]


def test_chains(settings):
    chain = settings["denoising"]
    assert find_chain(settings, "shared-empty") == (chain | {"noise": "shared"}, "empty")
    assert find_chain(settings, "seed1") == (chain | {"seed": 1}, "own")


def test_spaces_without_controls_and_variants():
    own = CONFIG["trajectories"] | {"variants": {}, "controls": []}
    spaces = list_spaces(load(trajectories=own))
    assert spaces.variants == spaces.controls == spaces.chains == []
    assert spaces.parts[:2] == ["zc-n040-linear", "zc-n040-residual"]
    assert list(spaces.families) == ["features", "levels", "steps", "controls", "blocks"]
    assert spaces.families["controls"] == spaces.parts
    assert spaces.joint == ["levels", "steps", "controls"]


def test_runs(settings):
    assert list_runs(settings)[:3] == [
        ("subj02", "corrected", "z"),
        ("subj02", "corrected", "zc"),
        ("subj05", "corrected", "z"),
    ]
    assert len(list_runs(settings)) == 8
    assert list_drawn_runs(settings) == list_runs(settings)[:4]


def test_trained_decoders(settings):
    training = list_training(settings)
    assert training.subjects == ["subj05"]
    assert list(training.methods) == ["mine", "vis-dec", "mae-f"]
    assert training.table2 == ["mine", "vis-dec"]
    assert training.table3 == ["mine", "mae-f"]
    assert training.drawn == ["zc", "vis-dec", "mine"]
    assert training.transferred == ["mine-subj05", "mine-joint"]
    assert training.list_runs(["zc", "true-zc"], ["mine"]) == [
        ("subj05", "corrected", "zc"),
        ("subj05", "trained", "mine"),
    ]


def test_files_of_trained_decoders(settings):
    training = list_training(settings)
    encoder = training.methods["mine"]["encoder"]
    assert training.list_cohort("joint") == ["subj02", "subj05"]
    assert training.list_cohort("subj02") == ["subj02"]
    first = f"results/joint/trained/encoders/{encoder}.safetensors"
    assert training.find_encoder("joint", "mine") == first
    assert (
        training.find_aligned("joint", "mine") == "results/joint/trained/aligned/mine.safetensors"
    )
    assert "/encoders/" in training.find_aligned("subj05", "mae-f"), "it has no second stage"
    for name, cohort in (("mine", "subj02"), ("mine-joint", "joint"), ("mine-subj05", "subj05")):
        weights = f"results/{cohort}/trained/diffusion/mine.safetensors"
        assert training.find_weights("subj02", name) == weights
        assert re.fullmatch(training.pattern, name)
    vis = "results/subj02/trained/diffusion/vis-dec.safetensors"
    assert training.find_weights("subj02", "vis-dec") == vis
    assert training.drawn_runs[0] == ("{subject}", "corrected", "zc")
    assert training.drawn_runs[-1] == ("{subject}", "trained", "mine")


def test_stages_of_a_cohort(settings):
    """All subjects together train the first method alone; methods share an encoder once."""
    training = list_training(settings)
    assert set(training.list_stages("joint")) == {
        f"stage 1: {training.methods['mine']['encoder']}",
        "stage 2: mine",
        "stage 3: mine",
    }
    stages = training.list_stages("subj05")
    assert stages["stage 3: vis-dec"] == "results/subj05/trained/diffusion/vis-dec.tsv"
    assert [name for name in stages if name.startswith("stage 3")] == [
        "stage 3: mine",
        "stage 3: vis-dec",
        "stage 3: mae-f",
    ]


def test_targets(settings):
    targets = list_targets(settings)
    assert len(targets) == len(set(targets))
    assert {"results/figures/fig6.png", "results/figures/group.pdf"} < set(targets)
    assert "results/subj05/figures/fig9.pdf" in targets
    assert "results/tables/metrics.tsv" in targets
    assert "results/report/gallery.html" in targets
    assert not any("feature_spaces" in target for target in targets)
    assert not any("subj01" in target for target in targets)


def test_figure_5_needs_a_network_that_has_weights():
    networks = {"demo-judge": {"weights": "resources/demo_model"}}
    assert "results/figures/fig5.png" in list_targets(load(evaluation={"networks": networks}))
    without = {"demo-judge": {"weights": None}}
    assert "results/figures/fig5.png" not in list_targets(load(evaluation={"networks": without}))


def test_targets_of_trained_decoders(settings):
    targets = list_trained_targets(settings)
    assert "results/tables/fcae_table3.tsv" in targets
    assert "results/joint/figures/training_curves.png" in targets
    assert "results/subj05/figures/trained_masked.pdf" in targets
    assert not any("subj02" in target for target in targets)


def test_what_fits_and_judges_of_a_family_read(settings):
    spaces = list_spaces(settings)
    assert spaces.scored == ["features"]
    assert spaces.kernels["features"] == ["features"]
    assert spaces.kernels["steps"] == ["features", "steps"]
    # Controls are set beside their spaces, z_c with other noise among them.
    assert spaces.kernels["controls"] == ["features", "levels", "steps", "controls", "variants"]
    assert spaces.from_features["controls"] == spaces.controls
    assert spaces.from_features["blocks"] == spaces.from_grams["steps"] == []
    assert spaces.from_grams["blocks"] == spaces.blocks
    assert spaces.judged == ["features", "levels", "steps", "controls", "variants"]
    assert set(spaces.gathered) == {"levels", "variants", "controls"}


def test_fits_without_controls_and_with_an_added_space():
    own = CONFIG["trajectories"] | {"variants": {}, "controls": []}
    added = {"mine": {"function": "nsdldm.features.networks.embed_with_clip", "settings": {}}}
    added = load_settings({})["feature_spaces"] | added
    spaces = list_spaces(load(trajectories=own, feature_spaces=added))
    assert spaces.added == ["mine"]
    # The linear part of z_c needs no kernels of its own.
    assert spaces.kernels["controls"] == ["features", "levels", "steps"]
    assert spaces.scored == ["features", "added"]
    assert spaces.judged == ["features", "levels", "steps", "controls", "added"]
    assert list(spaces.gathered) == ["levels"]


def test_rows_of_figures(settings):
    spaces = list_spaces(settings)
    assert spaces.rows["fig6"] == ["z", "c", "zc"]
    parts = ["zc-n100-empty", "zc-n100-linear", "zc-n100-residual"]
    assert spaces.pairs["fig7"] == ["zc-n100", *parts]
    assert len(spaces.pairs["fig8"]) == 2 * (1 + 3)


def test_files_of_runs():
    runs = [("subj02", "corrected", "zc"), ("{subject}", "trained", "fcae")]
    assert list_run_files(runs, "samples", "reconstructions") == {
        "samples": [
            "results/subj02/corrected/evaluation/zc_samples.tsv",
            "results/{subject}/trained/evaluation/fcae_samples.tsv",
        ],
        "reconstructions": [
            "results/subj02/corrected/reconstructions/zc.h5",
            "results/{subject}/trained/reconstructions/fcae.h5",
        ],
    }


@pytest.mark.parametrize(
    ("method", "z", "c"),
    [
        ("z", "{protocol}/decoded", None),
        ("z-coarse", "{protocol}/decoded", None),
        ("c", None, "{protocol}/decoded"),
        ("zc", "{protocol}/decoded", "{protocol}/decoded"),
        ("true-zc", "features", "features"),
    ],
)
def test_what_a_method_takes(method, z, c):
    for target, folder in (("z", z), ("c", c)):
        expected = f"results/{{subject}}/{folder}/{target}.npy" if folder else []
        assert find_taken(target, method) == expected


def test_pictures_from_true_features_are_made_once_for_all_protocols(settings):
    own = {"subject": "subj05", "protocol": "takagi2023"}
    chunks = "results/subj05/{}/reconstructions/{}.{{chunk}}.h5".format
    assert find_chunks(settings, **own, method="true-zc") == chunks("corrected", "true-zc")
    assert find_chunks(settings, **own, method="zc") == chunks("takagi2023", "zc")


def test_what_is_decoded_on_request():
    """The demo's: other targets, methods with generators and protocols, and what is scored."""
    settings = load_settings({"beyond": {"methods": {"mine": {"text": "c", "strength": 0.5}}}})
    beyond = list_beyond(settings)
    assert list(beyond.targets) == ["clip-vision", "clip-text", "alexnet", "depth"]
    assert beyond.shown[:4] == ["z", "c", "zc", "zci"]
    assert beyond.shown[-3:] == ["mine", "nearest", "true-zc"]
    assert ("subj02", "rescaled", "zci-rescaled") in beyond.runs
    assert ("subj02", "corrected", "zci") in beyond.runs
    decoded = "results/{subject}/{protocol}/decoded/"
    assert beyond.list_given("zci") == {
        "from": f"{decoded}z.npy",
        "text": f"{decoded}c.npy",
        "image": f"{decoded}clip-vision.npy",
    }
    assert beyond.list_given("true-zci")["image"] == "results/{subject}/features/clip-vision.npy"
    assert beyond.find_generator("zci")["function"].endswith("open_ip_adapter")
    assert beyond.find_generator("mine")["function"].endswith("open_stable_diffusion")
    # Pure noise needs all steps, whatever is asked for.
    pictures = settings["reconstruction"]
    assert beyond.find_settings("mine", pictures)["strength"] == 1
    assert beyond.find_settings("zci", pictures)["strength"] == 0.8
    assert beyond.scored == ["retrieval", "captions", "depth"]
    same = dict.fromkeys(("zci", "zci-rescaled", "true-zci"), "true-zci")
    assert beyond.ceilings == same
    # Embeddings are centred on the training mean, which predictions without an intercept lack.
    published = load_settings(
        {"decoding": {"protocols": ["takagi2023"]}, "reconstruction": {"methods": ["z", "zc"]}}
    )
    assert list_beyond(published).protocol == "corrected"
    assert list_beyond(published).shown[-1] == "nearest"
    assert {method for *_, method in beyond.captioned} == {"z-captions"}
    # Nothing of it is made by a usual run, and encoders do not see its feature spaces.
    assert not {*list_targets(settings)} & {*beyond.list_targets()}
    assert list_spaces(settings).added == []


def test_weights_in_a_part_of_a_folder_are_inputs_of_jobs(tmp_path):
    """Only that part: another adapter beside it changes nothing."""
    for name in ("models/one.safetensors", "models/two.safetensors", "encoder/model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    settings = {"weights": str(tmp_path), "subfolder": "encoder"}
    space = {"feature_spaces": {"a": {"settings": settings}}}
    assert list_space(space, "a") == [str(tmp_path / "encoder/model.safetensors")]
    adapter = {"weights": str(tmp_path), "subfolder": "models", "weight_name": "two.safetensors"}
    generator = {"path": str(tmp_path / "none"), "settings": adapter}
    assert list_generator({}, generator) == [str(tmp_path / "models/two.safetensors")]


def test_forms_of_responses():
    """Encoders read the cortex, ridge decoders their regions, trained ones theirs."""
    regions = {name: ["streams:early"] for name in ("cortex", "early", "ventral", "nsdgeneral")}
    settings = load(
        rois=regions,
        matrices=list(regions),
        encoding={"train_on": "trials", "zscore": False},
        trained={"regions": ["early", "nsdgeneral"]},
    )
    trained = ["zscored/averages", "zscored/trials"]
    assert list_forms(settings, "cortex") == ["centred/trials", "zscored/averages"]
    assert list_forms(settings, "early") == ["scaled/trials", *trained]
    assert list_forms(settings, "nsdgeneral") == list_forms(settings, "early")


def test_regions_with_matrices_are_made_apart():
    rois = {name: [f"streams:{name}"] for name in ("early", "ventral", "lateral")}
    rois["cortex"] = ["streams:ribbon"]
    settings = load(rois=rois, matrices=["cortex", "early", "ventral"])
    groups = group_regions(settings)
    assert set(groups["matrices"]) == {"cortex", "early", "ventral"}
    assert groups["regions"]["lateral"] == ["streams:lateral"]
    whole = load(rois=rois, matrices=["cortex", "early", "ventral"])
    whole["rois"] = {name: rois[name] for name in whole["matrices"]}
    assert list(group_regions(whole)) == ["matrices"]


def test_runs_of_trained_decoders_that_figures_show(settings):
    training = list_training(settings)
    assert training.compared == {"table2": ["mine", "vis-dec"], "table3": ["mine", "mae-f"]}
    assert training.transferred_runs == [
        (who, "trained", name)
        for name in ("mine-subj05", "mine-joint")
        for who in ("subj02", "subj05")
    ]
