# Reconstruct what people saw (Natural Scenes Dataset) with a latent diffusion model, and map that
# model's representations onto the cortex (after Takagi & Nishimoto, CVPR 2023).

import os

from snakemake.utils import min_version

from nsdldm.support.provenance import PROJECT

min_version("9.27")


here = os.path.exists("config.yaml")  # or else that of this folder


configfile: "config.yaml" if here else str(PROJECT / "config.yaml")


report: "report/workflow.rst"


include: "rules/common.smk"


if config["container"]:

    container: config["container"]


include: "rules/release.smk"
include: "rules/responses.smk"
include: "rules/features.smk"
include: "rules/decoding.smk"
include: "rules/learning.smk"
include: "rules/reconstruction.smk"
include: "rules/evaluation.smk"
include: "rules/encoding.smk"
include: "rules/variance.smk"
include: "rules/maps.smk"
include: "rules/layers.smk"
include: "rules/exports.smk"
include: "rules/figures.smk"
include: "rules/trained.smk"
include: "rules/trained_figures.smk"
include: "rules/beyond.smk"
include: "rules/case_files.smk"
include: "rules/cases.smk"
include: "rules/joint.smk"
include: "rules/generalisation.smk"
include: "rules/trained_hour.smk"
include: "rules/targets.smk"


wildcard_constraints:
    subject="|".join(SUBJECTS),
    roi="|".join(config["rois"]),
    space="|".join(config["feature_spaces"]) or "none",
    variant="|".join(SPACES.chains) or "none",
    control="|".join(config["trajectories"]["controls"]) or "none",
    protocol=f"{RIDGE}|trained",
    method="|".join(["z|z-coarse|c|zc|true-zc|nearest", *BEYOND.methods, TRAINING.pattern]),
    cohort=f"joint|(hour-)?({'|'.join(SUBJECTS)})",
    encoder="|".join(TRAINING.encoders) or "none",
    table="table[23]",
    chunk="[0-9]+",
    network="|".join(config["networks"]) or "none",
    layer="[A-Za-z0-9]+",


rule all:
    default_target: True
    input:
        plan.list_targets(config),


include: "rules/start.smk"
