# Voxel-wise ridge encoders of the whole cortex. Fits write predictions, one file per family of
# feature spaces; scoring reads predictions and responses, and runs in seconds.

# Kernels are computed from features, or from the Gram matrices of activations.
FROM_FEATURES = SPACES.families | {"controls": SPACES.controls, "blocks": []}
FROM_GRAMS = dict.fromkeys(SPACES.families, []) | {"blocks": SPACES.blocks}
# Families whose kernels a fit reads; controls include parts of the spaces that they control.
READ = {
    name: ["features", name] if name in SPACES.joint else [name]
    for name in SPACES.families
}
READ["controls"] = ["features"] + [
    name
    for name in SPACES.joint
    if {*SPACES.controlled, *SPACES.controls} & {*FROM_FEATURES[name]}
]


rule compute_kernels:
    input:
        images="results/{subject}/images.tsv",
        features=collect(
            "results/{{subject}}/features/{space}.npy",
            space=lookup("{family}", within=FROM_FEATURES),
        ),
        grams=collect(
            "results/{{subject}}/grams/{space}.npy",
            space=lookup("{family}", within=FROM_GRAMS),
        ),
    output:
        "results/{subject}/kernels/{family}.h5",
    log:
        "logs/{subject}/compute_kernels.{family}.log",
    benchmark:
        "benchmarks/{subject}/compute_kernels.{family}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(15),
    params:
        **choose("encoding", "max_components"),
        features=lookup("{family}", within=FROM_FEATURES),
        grams=lookup("{family}", within=FROM_GRAMS),
        device=DEVICE,
        code=digest("workflow_scripts/compute_kernels.py"),
    script:
        "../workflow_scripts/compute_kernels.py"


rule fit_encoders:
    input:
        kernels=collect(
            "results/{{subject}}/kernels/{read}.h5",
            read=lookup("{family}", within=READ),
        ),
        base=branch(
            lookup(
                "{family}",
                within={name: name in SPACES.joint for name in SPACES.families},
            ),
            then="results/{subject}/encoding/predictions/features.h5",
        ),
        responses="results/{subject}/responses/cortex.h5",
        images="results/{subject}/images.tsv",
    output:
        "results/{subject}/encoding/predictions/{family}.h5",
    log:
        "logs/{subject}/fit_encoders.{family}.log",
    benchmark:
        "benchmarks/{subject}/fit_encoders.{family}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=fit_memory("encoding"),
        runtime=growing(120),
    params:
        **choose("encoding", "alphas", "n_folds", "memory_gb", "seed"),
        spaces=lookup("{family}", within=SPACES.families),
        form=ENCODED_FORM,
        # Blocks are compared with one another, never with joint models.
        weights=branch(
            lookup(
                "{family}", within={name: name == "blocks" for name in SPACES.families}
            ),
            then=[1],
            otherwise=config["encoding"]["weights"],
        ),
        every=branch(
            lookup(
                "{family}",
                within={name: name == "controls" for name in SPACES.families},
            ),
            then=config["encoding"]["controls_every"],
            otherwise=1,
        ),
        device=DEVICE,
        code=digest("workflow_scripts/fit_encoders.py"),
    script:
        "../workflow_scripts/fit_encoders.py"


rule score_encoders:
    input:
        predictions=branch(
            lookup(
                "{feature}",
                within={
                    name: name in SPACES.added
                    for name in SPACES.features + SPACES.added
                },
            ),
            then="results/{subject}/encoding/predictions/added.h5",
            otherwise="results/{subject}/encoding/predictions/features.h5",
        ),
        responses="results/{subject}/responses/cortex.h5",
        mask="results/{subject}/masks/cortex.nii.gz",
        regions=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"]),
    output:
        map="results/{subject}/encoding/{feature}.nii.gz",
        table="results/{subject}/encoding/{feature}.tsv",
        sums="results/{subject}/sums/r-{feature}.npz",
    log:
        "logs/{subject}/score_encoders.{feature}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        **choose("encoding", "fdr"),
        rois=list(config["rois"]),
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
        masks=collect(
            "results/{subject}/masks/{roi}.nii.gz",
            subject=SUBJECTS,
            roi=config["rois"],
        ),
    output:
        report(
            "results/tables/encoding.tsv",
            caption="../report/encoding.rst",
            category="Tables",
            labels={"table": "encoding"},
        ),
    log:
        "logs/tabulate_encoding.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(10),
    params:
        subjects=SUBJECTS,
        features=SPACES.features + SPACES.added,
        rois=list(config["rois"]),
        min_ncsnr=config["encoding"]["table_ncsnr"],
        code=digest("workflow_scripts/tabulate_encoding.py"),
    script:
        "../workflow_scripts/tabulate_encoding.py"
