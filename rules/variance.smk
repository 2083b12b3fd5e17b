# Unique variance of z and of the spaces paired with it, the best block of each voxel, and the
# comparison of subjects.

for family in SPACES.joint:

    rule:
        name:
            f"partition_variance_{family}"
        input:
            **CORTEX,
            predictions=collect(
                "results/{{subject}}/encoding/predictions/{fitted}.h5",
                fitted=SPACES.fitted[family],
            ),
            base=BASE,
        output:
            **SPACES.list_maps(family),
            sums=f"results/{{subject}}/sums/{family}.npz",
        log:
            f"logs/{{subject}}/partition_variance_{family}.log",
        conda:
            "../envs/analysis.yaml"
        threads: 8
        resources:
            **needs(8000, 60),
        params:
            **choose("encoding", "fdr", "flips", "seed"),
            spaces=SPACES.reported[family],
            fitted=list(map(SPACES.find_computed, SPACES.reported[family])),
            rois=ROIS,
            min_ncsnr=config["encoding"]["group_ncsnr"],
            every=config["encoding"]["controls_every"],
            code=digest("workflow_scripts/partition_variance.py"),
        script:
            "../workflow_scripts/partition_variance.py"


rule choose_blocks:
    input:
        **CORTEX,
        predictions="results/{subject}/encoding/predictions/blocks.h5",
    output:
        maps=collect("results/{{subject}}/encoding/blocks-{step}.nii.gz", step=SPACES.step_names),
        tables=collect("results/{{subject}}/encoding/blocks-{step}.tsv", step=SPACES.step_names),
        errors=collect(
            "results/{{subject}}/encoding/blocks-{step}-errors.tsv", step=SPACES.step_names
        ),
    log:
        "logs/{subject}/choose_blocks.log",
    conda:
        "../envs/analysis.yaml"
    threads: 8
    resources:
        **needs(8000, 60),
    params:
        **choose("encoding", "fdr", "flips", "seed"),
        models={
            step: {block: f"unet-{block}-{step}" for block in config["trajectories"]["blocks"]}
            for step in SPACES.step_names
        },
        rois=ROIS,
        code=digest("workflow_scripts/choose_blocks.py"),
    script:
        "../workflow_scripts/choose_blocks.py"


rule tabulate_blocks:
    input:
        collect(
            "results/{subject}/encoding/blocks-{step}-errors.tsv",
            subject=SUBJECTS,
            step=SPACES.step_names,
        ),
    output:
        table("blocks"),
    log:
        "logs/tabulate_blocks.log",
    conda:
        "../envs/analysis.yaml"
    params:
        **choose("encoding", "bootstrap", "seed"),
        subjects=SUBJECTS,
        shares=config["trajectories"]["step_shares"],
        blocks=list(config["trajectories"]["blocks"]),
        code=digest("workflow_scripts/tabulate_blocks.py"),
    script:
        "../workflow_scripts/tabulate_blocks.py"


rule tabulate_group:
    input:
        **{
            subject: collect("results/{who}/sums/{family}.npz", who=subject, family=SPACES.judged)
            for subject in SUBJECTS
        },
    output:
        output=table("group", caption="group_table"),
        noise=table("noise"),
    log:
        "logs/tabulate_group.log",
    conda:
        "../envs/analysis.yaml"
    params:
        **choose("encoding", "bootstrap", "seed"),
        subjects=SUBJECTS,
        code=digest("workflow_scripts/tabulate_group.py"),
    script:
        "../workflow_scripts/tabulate_group.py"
