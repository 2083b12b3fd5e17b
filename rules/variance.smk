# Unique variance of z and of the spaces paired with it, the best block of each voxel, and the
# comparison of subjects.

# Sums that scoring keeps for the intervals of means over regions.
SUMS = [
    *(f"r-{feature}" for feature in SPACES.features),
    *(f"unique-{name}" for name in SPACES.joint if name != "variants"),
    *(f"r-{feature}" for feature in SPACES.added),
    *["unique-variants"] * bool(SPACES.variants),
]

for family in SPACES.joint:

    rule:
        name:
            f"partition_variance_{family}"
        input:
            predictions=f"results/{{subject}}/encoding/predictions/{family}.h5",
            base="results/{subject}/encoding/predictions/features.h5",
            responses="results/{subject}/responses/cortex.h5",
            mask="results/{subject}/masks/cortex.nii.gz",
            regions=collect(
                "results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"]
            ),
        output:
            maps=collect(
                "results/{{subject}}/encoding/z+{space}.nii.gz",
                space=SPACES.families[family],
            ),
            tables=collect(
                "results/{{subject}}/encoding/z+{space}.tsv",
                space=SPACES.families[family],
            ),
            sums=f"results/{{subject}}/sums/unique-{family}.npz",
        log:
            f"logs/{{subject}}/partition_variance_{family}.log",
        conda:
            "../envs/analysis.yaml"
        threads: 8
        resources:
            mem_mb=growing(8000),
            runtime=growing(60),
        params:
            **choose("encoding", "fdr", "flips", "seed"),
            spaces=SPACES.families[family],
            rois=list(config["rois"]),
            min_ncsnr=config["encoding"]["group_ncsnr"],
            every=config["encoding"]["controls_every"],
            code=digest("workflow_scripts/partition_variance.py"),
        script:
            "../workflow_scripts/partition_variance.py"


rule choose_blocks:
    input:
        predictions="results/{subject}/encoding/predictions/blocks.h5",
        responses="results/{subject}/responses/cortex.h5",
        mask="results/{subject}/masks/cortex.nii.gz",
        regions=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"]),
    output:
        map="results/{subject}/encoding/blocks-{step}.nii.gz",
        table="results/{subject}/encoding/blocks-{step}.tsv",
        errors="results/{subject}/encoding/blocks-{step}-errors.tsv",
    log:
        "logs/{subject}/choose_blocks.{step}.log",
    wildcard_constraints:
        step="|".join(SPACES.step_names),
    conda:
        "../envs/analysis.yaml"
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **choose("encoding", "fdr", "flips", "seed"),
        blocks=list(config["trajectories"]["blocks"]),
        rois=list(config["rois"]),
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
        report(
            "results/tables/blocks.tsv",
            caption="../report/blocks.rst",
            category="Tables",
            labels={"table": "blocks"},
        ),
    log:
        "logs/tabulate_blocks.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(10),
    params:
        subjects=SUBJECTS,
        shares=config["trajectories"]["step_shares"],
        blocks=list(config["trajectories"]["blocks"]),
        repeats=config["encoding"]["bootstrap"],
        seed=config["encoding"]["seed"],
        code=digest("workflow_scripts/tabulate_blocks.py"),
    script:
        "../workflow_scripts/tabulate_blocks.py"


rule tabulate_group:
    input:
        **{
            subject: collect("results/{who}/sums/{name}.npz", who=subject, name=SUMS)
            for subject in SUBJECTS
        },
    output:
        report(
            "results/tables/group.tsv",
            caption="../report/group_table.rst",
            category="Tables",
            labels={"table": "group"},
        ),
    log:
        "logs/tabulate_group.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        subjects=SUBJECTS,
        repeats=config["encoding"]["bootstrap"],
        seed=config["encoding"]["seed"],
        code=digest("workflow_scripts/tabulate_group.py"),
    script:
        "../workflow_scripts/tabulate_group.py"


rule tabulate_noise:
    input:
        "results/tables/group.tsv",
    output:
        report(
            "results/tables/noise.tsv",
            caption="../report/noise.rst",
            category="Tables",
            labels={"table": "noise"},
        ),
    log:
        "logs/tabulate_noise.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(5),
    params:
        code=digest("workflow_scripts/tabulate_noise.py"),
    script:
        "../workflow_scripts/tabulate_noise.py"
