"""Layout of the LAION-fMRI release: path templates relative to its root, and its constants.

As described in September 2026. `{subject}` is sub-01 to sub-07, `{session}` counts from 1. Standard
library only, since the Snakefile imports it.
"""

from __future__ import annotations

SUBJECTS = ("sub-01", "sub-03", "sub-05", "sub-06", "sub-07")
# Public ones.
SESSIONS = 30
# Whose own images have which number in their names: these are not the subjects' numbers.
PERSONS = {"sub-01": 1, "sub-06": 2, "sub-05": 3, "sub-03": 4, "sub-07": 5}
# Divisions of the images that come with the release.
SPLITS = (
    "tau",
    "ood",
    *(f"cluster_k5_{number}" for number in range(5)),
    *(f"random_{number}" for number in range(5)),
)
SPLIT = "{pool}/{name}.json"
SHARED_POOL = "shared"

DESCRIPTION = "dataset_description.json"
PARTICIPANTS = "participants.tsv"
GLM = "derivatives/glmsingle-tedana"
SESSION = GLM + "/{subject}/ses-{session:02d}/func/{subject}_ses-{session:02d}_task-images"
TRIALS = SESSION + "_desc-SingletrialBetas_trials.tsv"
TRIALS_SIDECAR = SESSION + "_desc-SingletrialBetas_trials.json"
BETAS = SESSION + "_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
SESSION_R2 = SESSION + "_space-T1w_stat-rsquare_desc-R2_statmap.nii.gz"
SESSION_CEILING = SESSION + "_space-T1w_desc-Noiseceiling_statmap.nii.gz"
OVERALL = GLM + "/{subject}/{subject}_task-images_space-T1w"
CEILING = OVERALL + "_desc-Noiseceiling{repeats}_statmap.nii.gz"
R2 = OVERALL + "_stat-rsquare_desc-R2mean_statmap.nii.gz"
ROIS = "derivatives/rois/{subject}/{category}"
ROI = ROIS + "/{subject}_space-T1w_res-1pt8_label-{label}_mask.nii.gz"
SURFACE = "derivatives/freesurfer/{subject}/surf/{hemi}.{name}"
# Of a hemisphere, in addition to what is computed.
SURFACES = ("white", "pial", "inflated", "sulc")
REGISTERED = "sphere.reg"
STIMULI = "stimuli/task-images_stimuli.h5"
METADATA = "stimuli/task-images_metadata.csv"
CAPTIONS = "stimuli/task-images_desc-captions.csv"
# Parts of a region that are not files: the voxels that the cortex passes through.
ANATOMY, RIBBON = "anatomy", "ribbon"
EVERY = "all"
