# Voxel-wise ridge encoders of the whole cortex. Fits write predictions, one file per family of
# feature spaces; scoring reads predictions and responses, and runs in seconds.

# Predictions of z, c and z_c, which joint models stand beside.
BASE = "results/{subject}/encoding/predictions/features.h5"
# What judges read beside predictions.
CORTEX = {
    "responses": "results/{subject}/responses/cortex.h5",
    "mask": "results/{subject}/masks/cortex.nii.gz",
    "regions": collect("results/{{subject}}/masks/{roi}.nii.gz", roi=ROIS),
}


rule compute_kernels:
    input:
        images="results/{subject}/images.tsv",
        features=of_each("results/{subject}/features/{space}.npy", SPACES.from_features),
        grams=of_each("results/{subject}/grams/{space}.npy", SPACES.from_grams),
    output:
        "results/{subject}/kernels/{family}.h5",
    log:
        "logs/{subject}/compute_kernels.{family}.log",
    benchmark:
        "benchmarks/{subject}/compute_kernels.{family}.tsv"
    priority: 1
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(16000, 15, gpu=1),
    params:
        **choose("encoding", "max_components"),
        features=lambda wildcards: SPACES.from_features[wildcards.family],
        grams=lambda wildcards: SPACES.from_grams[wildcards.family],
        device=DEVICE,
        code=digest("workflow_scripts/compute_kernels.py"),
    script:
        "../workflow_scripts/compute_kernels.py"


rule fit_encoders:
    input:
        kernels=of_each("results/{subject}/kernels/{space}.h5", SPACES.kernels),
        base=branch(lambda wildcards: wildcards.family in SPACES.joint, then=BASE),
        responses="results/{subject}/responses/cortex.h5",
        images="results/{subject}/images.tsv",
    output:
        "results/{subject}/encoding/predictions/{family}.h5",
    log:
        "logs/{subject}/fit_encoders.{family}.log",
    benchmark:
        "benchmarks/{subject}/fit_encoders.{family}.tsv"
    priority: 1
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(fit_memory("encoding"), 120, gpu=1),
    params:
        **choose("encoding", "alphas", "n_folds", "memory_gb", "seed"),
        spaces=lambda wildcards: SPACES.families[wildcards.family],
        form=plan.find_form(config["encoding"]),
        # Blocks and layers are compared with one another, never with joint models.
        weights=lambda w: [1] if w.family in SPACES.ranked else config["encoding"]["weights"],
        every=lambda w: config["encoding"]["controls_every"] if w.family == "controls" else 1,
        device=DEVICE,
        code=digest("workflow_scripts/fit_encoders.py"),
    script:
        "../workflow_scripts/fit_encoders.py"


for family in SPACES.scored:

    rule:
        name:
            f"score_encoders_{family}"
        input:
            **CORTEX,
            predictions=f"results/{{subject}}/encoding/predictions/{family}.h5",
        output:
            **SPACES.list_maps(family),
            sums=f"results/{{subject}}/sums/{family}.npz",
        log:
            f"logs/{{subject}}/score_encoders_{family}.log",
        conda:
            "../envs/analysis.yaml"
        params:
            **choose("encoding", "fdr"),
            spaces=SPACES.families[family],
            rois=ROIS,
            min_ncsnr=config["encoding"]["group_ncsnr"],
            every=config["encoding"]["controls_every"],
            code=digest("workflow_scripts/score_encoders.py"),
        script:
            "../workflow_scripts/score_encoders.py"


rule tabulate_encoding:
    input:
        tables=collect(
            "results/{subject}/encoding/{feature}.tsv",
            subject=SUBJECTS,
            feature=SPACES.features + SPACES.added,
        ),
        masks=collect("results/{subject}/masks/{roi}.nii.gz", subject=SUBJECTS, roi=ROIS),
    output:
        table("encoding"),
    log:
        "logs/tabulate_encoding.log",
    conda:
        "../envs/analysis.yaml"
    params:
        subjects=SUBJECTS,
        features=SPACES.features + SPACES.added,
        rois=ROIS,
        min_ncsnr=config["encoding"]["table_ncsnr"],
        code=digest("workflow_scripts/tabulate_encoding.py"),
    script:
        "../workflow_scripts/tabulate_encoding.py"
