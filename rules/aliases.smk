# Names that rules of encoders go by until they are rewritten.

from nsdldm.features.spaces import PARTS, split_control

FEATURES = SPACES.features
ADDED = SPACES.added
BLOCKS = list(config["trajectories"]["blocks"])
VARIANTS = config["trajectories"]["variants"]
PATH_SPACES = SPACES.path
LEVEL_SPACES = SPACES.levels
STEP_SPACES = SPACES.steps
BLOCK_SPACES = SPACES.blocks
STEP_NAMES = SPACES.step_names
VARIANT_SPACES = SPACES.variants
PAIRS = [f"z+{space}" for space in LEVEL_SPACES + STEP_SPACES + VARIANT_SPACES]
CONTROLS = config["trajectories"]["controls"]
CONTROLLED_NOISE = [name for name in VARIANTS if "noise" in VARIANTS[name]]
CONTROLLED_SPACES = SPACES.controlled
CONTROL_SPACES = SPACES.controls
SUMMED = ["fit_encoders", "fit_pairs", "fit_step_pairs", "fit_control_pairs"]
SUMMED += ["fit_more_encoders"] if ADDED else []
SUMMED += ["fit_variant_pairs"] if VARIANTS else []
CONTROL_PAIRS = [f"z+{space}" for space in SPACES.parts]
DRAWN_LEVELS = SPACES.drawn_levels


def with_controls(spaces):
    """Pairs of z with feature spaces, and with the controls of each."""
    return [f"z+{space}" for space in spaces] + [
        pair
        for pair in CONTROL_PAIRS
        if split_control(pair.removeprefix("z+"))[0] in spaces
    ]


def region_masks():
    """Masks of all regions, of which fits keep sums for the intervals of their means."""
    return collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"])


def strip_features(wildcards):
    """Latents that are drawn as pictures beside the maps of a figure."""
    spaces = DRAWN_LEVELS if wildcards.figure == "fig7" else STEP_SPACES
    template = "results/{subject}/features/{space}.npy"
    return collect(template, subject=wildcards.subject, space=spaces)
