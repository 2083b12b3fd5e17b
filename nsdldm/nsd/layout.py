"""Layout of the release: path templates relative to its root, and its constants.

Every path of the release is defined here and nowhere else. `{subject}` is subj01 to subj08,
`{session}` counts from 1, `{space}` is func1pt8mm or func1mm and `{version}` a set of betas.
Standard library only, since the Snakefile imports it.
"""

from __future__ import annotations

PARTS = ("nsddata", "nsddata_betas", "nsddata_stimuli")
SUBJECTS = tuple(f"subj{number:02d}" for number in range(1, 9))
SESSIONS = dict(zip(SUBJECTS, (40, 40, 32, 30, 40, 32, 40, 30), strict=True))
SPACES = ("func1pt8mm", "func1mm")
BETA_VERSIONS = ("betas_assumehrf", "betas_fithrf", "betas_fithrf_GLMdenoise_RR")
TRIALS_PER_SESSION = 750
N_IMAGES = 73_000
IMAGE_PIXELS = 425
HEMISPHERES = ("lh", "rh")

# Shared by all subjects.
DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
STIM_INFO = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
ANNOTATIONS = "nsddata_stimuli/stimuli/nsd/annotations"
CAPTIONS = ANNOTATIONS + "/captions_{split}.json"
INSTANCES = ANNOTATIONS + "/instances_{split}.json"
COCO_SPLITS = ("train2017", "val2017")

# One subject.
RESPONSES = "nsddata/ppdata/{subject}/behav/responses.tsv"
FUNC = "nsddata/ppdata/{subject}/{space}"
BRAINMASK = FUNC + "/brainmask.nii.gz"
VALID = FUNC + "/valid_session{session:02d}.nii.gz"
ROI = FUNC + "/roi/{atlas}.nii.gz"
HEMISPHERE_ROI = FUNC + "/roi/{hemi}.{atlas}.nii.gz"
FREESURFER = "nsddata/freesurfer/{subject}"
LABEL_TABLE = FREESURFER + "/label/{atlas}.mgz.ctab"
# Where an atlas' names can be: with the subject, with the average brain on which it was drawn, or
# with the release's templates, for atlases drawn in the volume.
AVERAGE = "fsaverage"
LABEL_TABLES = (
    LABEL_TABLE,
    LABEL_TABLE.replace("{subject}", AVERAGE),
    "nsddata/templates/{atlas}.ctab",
)
SURFACE_LABELS = FREESURFER + "/label/{hemi}.{atlas}.mgz"
SURFACE = FREESURFER + "/surf/{hemi}.{name}"
FLAT_PATCH = FREESURFER + "/surf/{hemi}.full.flat.patch.3d"
# The files of a hemisphere that figures need.
DRAWN_SURFACES = (
    (SURFACE, "white"),
    (SURFACE, "pial"),
    (SURFACE, "inflated"),
    (SURFACE, "sulc"),
    (FLAT_PATCH, "flat"),
)
TRANSFORM = "nsddata/ppdata/{subject}/transforms/{hemi}.{source}-to-{target}.mgz"
BETAS_FOLDER = "nsddata_betas/ppdata/{subject}/{space}/{version}"
BETAS = BETAS_FOLDER + "/betas_session{session:02d}.{suffix}"
NCSNR = BETAS_FOLDER + "/ncsnr.nii.gz"
MEAN_BETA = BETAS_FOLDER + "/meanbeta_session{session:02d}.nii.gz"
SURFACE_BETAS = (
    "nsddata_betas/ppdata/{subject}/fsaverage/{version}/{hemi}.betas_session{session:02d}.mgh"
)

# NSD-synthetic: one more session, with the same trials for all subjects. The last images are
# coloured for each subject.
SYNTHETIC_BETAS = (
    "nsddata_betas/ppdata/{subject}/{space}/nsdsynthetic{version}/betas_nsdsynthetic.{suffix}"
)
SYNTHETIC_DESIGN = "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat"
SYNTHETIC_INFORMATION = "nsddata/experiments/nsdsynthetic/nsdsyntheticimageinformation.csv"
SYNTHETIC_STIMULI = "nsddata_stimuli/stimuli/nsdsynthetic/nsdsynthetic_stimuli.hdf5"
SYNTHETIC_COLOURS = "nsddata_stimuli/stimuli/nsdsynthetic/nsdsynthetic_colorstimuli_{subject}.hdf5"
SYNTHETIC_FILES = (
    *(SYNTHETIC_BETAS, SYNTHETIC_DESIGN, SYNTHETIC_INFORMATION, SYNTHETIC_STIMULI),
    SYNTHETIC_COLOURS,
)
SYNTHETIC_TRIALS = 744
N_SYNTHETIC = 284
N_SYNTHETIC_SHARED = 220

# NSD-Imagery: one more session; set C is words, of which there are no pictures.
IMAGERY_BETAS = (
    "nsddata_betas/ppdata/{subject}/{space}/nsdimagery{version}/betas_nsdimagery.{suffix}"
)
IMAGERY_BEHAVIOUR = "nsddata/bdata/nsdimagery/nsdimagery_{subject}_{run}.tsv"
IMAGERY_PAIRS = "nsddata/experiments/nsdimagery/{set}_pair_list.mat"
IMAGERY_TARGETS = "nsddata/experiments/nsdimagery/rawtargetimages/set{set}/{name}.png"
# Needed only if betas are ordered by condition.
IMAGERY_DESIGN = "nsddata/experiments/nsdimagery/designmatrixGLMsingle.mat"
IMAGERY_SETS = ("A", "B", "C")
IMAGERY_ORDERS = ("chronological", "by-condition")
# In the order of the session.
IMAGERY_RUNS = (
    *("visA", "attA", "imgA_1", "visB", "attB", "imgB_1"),
    *("visC", "attC", "imgC_1", "imgA_2", "imgB_2", "imgC_2"),
)
IMAGERY_TRIALS = 720
TASKS = ("vision", "imagery", "attention")
# Names of the pictures, by set.
IMAGERY_NAMES = {
    "A": (
        *(f"bar_{angle}deg_450L_43W" for angle in ("000.0", "045.0", "090.0", "135.0")),
        *(f"crs_{angle}deg_450L_43W" for angle in ("000.0", "045.0")),
    ),
    "B": (
        *("shared0385_nsd28752", "shared0413_nsd30857", "shared0741_nsd53882"),
        *("shared0842_nsd61178", "shared0907_nsd65873", "shared0000_nsd00000"),
    ),
}

# Names of the functional spaces in the transforms, which lack the unit.
TRANSFORM_SPACES = {"func1pt8mm": "func1pt8", "func1mm": "func1pt0"}
LAYERS = ("layerB1", "layerB2", "layerB3")
SUFFIXES = {"hdf5": "hdf5", "nifti": "nii.gz"}


def resolve_sessions(setting: str | int | list[int], available: int) -> list[int]:
    """Turn the config's `sessions` into session numbers.

    Parameters
    ----------
    setting : "all", int or list of int
        All sessions, the first n, or these.
    available : int
        Number of sessions the subject has.

    Returns
    -------
    list of int
        Ascending, from 1; may exceed `available`, which the preflight reports.
    """
    if setting == "all":
        return list(range(1, available + 1))
    if isinstance(setting, int):
        return list(range(1, setting + 1))
    return sorted(setting)


def _hemisphere_files(paths):
    """Pair each file with its hemisphere and the rest of its name."""
    for path in paths:
        hemi, _, rest = path.rsplit("/", 1)[-1].partition(".")
        yield hemi, rest, path


def group_surfaces(paths: list[str]) -> dict[str, dict[str, str]]:
    """Sort FreeSurfer files by hemisphere and name.

    Parameters
    ----------
    paths : list of str
        Files named by `SURFACE` or `FLAT_PATCH`.

    Returns
    -------
    dict of dict of str
        ``{"lh": {"inflated": path, ..., "flat": path}, "rh": ...}``.
    """
    groups = {hemi: {} for hemi in HEMISPHERES}
    for hemi, rest, path in _hemisphere_files(paths):
        groups[hemi]["flat" if rest == "full.flat.patch.3d" else rest] = path
    return groups


def group_transforms(paths: list[str]) -> dict[str, list[str]]:
    """Sort transforms by hemisphere, keeping the order of the depths.

    Parameters
    ----------
    paths : list of str
        Files named by `TRANSFORM`.

    Returns
    -------
    dict of list of str
    """
    groups = {hemi: [] for hemi in HEMISPHERES}
    for hemi, _, path in _hemisphere_files(paths):
        groups[hemi].append(path)
    return groups
