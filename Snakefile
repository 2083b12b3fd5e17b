# What people saw, decoded from the Natural Scenes Dataset through a latent diffusion model,
# and that model's inside mapped onto the cortex (after Takagi & Nishimoto, CVPR 2023).

import os

from snakemake.utils import min_version

min_version("9.27")


# Of the working directory, or of this folder where that has none.
own = os.path.exists("config.yaml")


configfile: "config.yaml" if own else workflow.source_path("config.yaml")


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/nsd.smk"
include: "rules/responses.smk"
include: "rules/features.smk"
include: "rules/decoding.smk"
include: "rules/reconstruction.smk"
include: "rules/evaluation.smk"
include: "rules/encoding.smk"
include: "rules/variance.smk"
include: "rules/maps.smk"
include: "rules/figures.smk"
include: "rules/trained.smk"


wildcard_constraints:
    subject="|".join(SUBJECTS),
    roi="|".join(config["rois"]),
    feature="|".join(FEATURES + ADDED),
    space="|".join(ADDED) or "none",
    variant="|".join(VARIANT_RUNS) or "none",
    control="|".join(CONTROLS) or "none",
    figure="fig[78]",
    target="|".join(TARGETS),
    protocol="corrected|takagi2023|trained",
    method=f"z|z-coarse|c|zc|true-zc|{TRAINED_METHODS}",
    cohort="|".join(["joint", *SUBJECTS]),
    chunk="[0-9]+",


rule all:
    default_target: True
    input:
        collect("results/figures/{figure}.{suffix}", figure=FIGURES, suffix=FORMATS),
        collect("results/tables/{table}.tsv", table=TABLES),
        "results/report/gallery.html",
        SUBJECT_FIGURES,


rule trained:
    input:
        TRAINED_TARGETS,


stop_on_missing_inputs()
