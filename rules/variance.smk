# Joint encoders of two feature spaces with unique variance, the best block of each voxel, and the
# comparison of subjects.


rule fit_pairs:
    input:
        kernels=collect(
            "results/{{subject}}/kernels/{space}.npy", space=["z", *LEVEL_SPACES]
        ),
        betas="results/{subject}/betas/cortex.npy",
        trials="results/{subject}/trials.tsv",
        images="results/{subject}/images.tsv",
        mask="results/{subject}/masks/cortex.nii.gz",
        regions=region_masks(),
    output:
        maps=collect(
            "results/{{subject}}/encoding/z+{space}.nii.gz", space=LEVEL_SPACES
        ),
        tables=collect("results/{{subject}}/encoding/z+{space}.tsv", space=LEVEL_SPACES),
        sums="results/{subject}/sums/fit_pairs.npz",
    log:
        "logs/{subject}/fit_pairs.log",
    benchmark:
        "benchmarks/{subject}/fit_pairs.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=fit_memory("encoding"),
        runtime=growing(120),
    params:
        alphas=lookup("encoding/alphas", within=config),
        weights=lookup("encoding/weights", within=config),
        n_folds=lookup("encoding/n_folds", within=config),
        fdr=lookup("encoding/fdr", within=config),
        flips=lookup("encoding/flips", within=config),
        train_on=lookup("encoding/train_on", within=config),
        zscore=lookup("encoding/zscore", within=config),
        rois=list(config["rois"]),
        min_ncsnr=lookup("encoding/group_ncsnr", within=config),
        every=lookup("encoding/controls_every", within=config),
        only_every=False,
        memory_gb=lookup("encoding/memory_gb", within=config),
        seed=lookup("encoding/seed", within=config),
        device=DEVICE,
        code=digest("workflow_scripts/fit_pairs.py"),
    script:
        "../workflow_scripts/fit_pairs.py"


use rule fit_pairs as fit_step_pairs with:
    input:
        kernels=collect(
            "results/{{subject}}/kernels/{space}.npy", space=["z", *STEP_SPACES]
        ),
        betas="results/{subject}/betas/cortex.npy",
        trials="results/{subject}/trials.tsv",
        images="results/{subject}/images.tsv",
        mask="results/{subject}/masks/cortex.nii.gz",
        regions=region_masks(),
    output:
        maps=collect("results/{{subject}}/encoding/z+{space}.nii.gz", space=STEP_SPACES),
        tables=collect("results/{{subject}}/encoding/z+{space}.tsv", space=STEP_SPACES),
        sums="results/{subject}/sums/fit_step_pairs.npz",
    log:
        "logs/{subject}/fit_step_pairs.log",
    benchmark:
        "benchmarks/{subject}/fit_step_pairs.tsv"


if VARIANTS:

    use rule fit_pairs as fit_variant_pairs with:
        input:
            kernels=collect(
                "results/{{subject}}/kernels/{space}.npy", space=["z", *VARIANT_SPACES]
            ),
            betas="results/{subject}/betas/cortex.npy",
            trials="results/{subject}/trials.tsv",
            images="results/{subject}/images.tsv",
            mask="results/{subject}/masks/cortex.nii.gz",
            regions=region_masks(),
        output:
            maps=collect(
                "results/{{subject}}/encoding/z+{space}.nii.gz", space=VARIANT_SPACES
            ),
            tables=collect(
                "results/{{subject}}/encoding/z+{space}.tsv", space=VARIANT_SPACES
            ),
            sums="results/{subject}/sums/fit_variant_pairs.npz",
        log:
            "logs/{subject}/fit_variant_pairs.log",
        benchmark:
            "benchmarks/{subject}/fit_variant_pairs.tsv"


use rule fit_pairs as fit_control_pairs with:
    input:
        kernels=collect(
            "results/{{subject}}/kernels/{space}.npy",
            space=["z", *CONTROLLED_SPACES, *CONTROL_SPACES],
        ),
        betas="results/{subject}/betas/cortex.npy",
        trials="results/{subject}/trials.tsv",
        images="results/{subject}/images.tsv",
        mask="results/{subject}/masks/cortex.nii.gz",
        regions=region_masks(),
    output:
        maps=collect("results/{{subject}}/encoding/{pair}.nii.gz", pair=CONTROL_PAIRS),
        tables=collect("results/{{subject}}/encoding/{pair}.tsv", pair=CONTROL_PAIRS),
        sums="results/{subject}/sums/fit_control_pairs.npz",
    log:
        "logs/{subject}/fit_control_pairs.log",
    benchmark:
        "benchmarks/{subject}/fit_control_pairs.tsv"
    params:
        only_every=True,


rule choose_blocks:
    input:
        kernels=collect(
            "results/{{subject}}/kernels/unet-{block}-{step}.npy",
            step=STEP_NAMES,
            block=BLOCKS,
        ),
        betas="results/{subject}/betas/cortex.npy",
        trials="results/{subject}/trials.tsv",
        images="results/{subject}/images.tsv",
        mask="results/{subject}/masks/cortex.nii.gz",
    output:
        maps=collect(
            "results/{{subject}}/encoding/blocks-{step}.nii.gz", step=STEP_NAMES
        ),
        tables=collect(
            "results/{{subject}}/encoding/blocks-{step}.tsv", step=STEP_NAMES
        ),
        errors=collect(
            "results/{{subject}}/encoding/blocks-{step}-errors.npy", step=STEP_NAMES
        ),
    log:
        "logs/{subject}/choose_blocks.log",
    benchmark:
        "benchmarks/{subject}/choose_blocks.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=fit_memory("encoding"),
        runtime=growing(120),
    params:
        blocks=BLOCKS,
        alphas=lookup("encoding/alphas", within=config),
        n_folds=lookup("encoding/n_folds", within=config),
        fdr=lookup("encoding/fdr", within=config),
        flips=lookup("encoding/flips", within=config),
        train_on=lookup("encoding/train_on", within=config),
        zscore=lookup("encoding/zscore", within=config),
        memory_gb=lookup("encoding/memory_gb", within=config),
        seed=lookup("encoding/seed", within=config),
        device=DEVICE,
        code=digest("workflow_scripts/choose_blocks.py"),
    script:
        "../workflow_scripts/choose_blocks.py"


rule tabulate_blocks:
    input:
        errors=collect(
            "results/{subject}/encoding/blocks-{step}-errors.npy",
            subject=SUBJECTS,
            step=STEP_NAMES,
        ),
        tables=collect(
            "results/{subject}/encoding/blocks-{step}.tsv",
            subject=SUBJECTS,
            step=STEP_NAMES,
        ),
        images=collect("results/{subject}/images.tsv", subject=SUBJECTS),
        masks=collect(
            "results/{subject}/masks/{roi}.nii.gz",
            subject=SUBJECTS,
            roi=config["rois"],
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
        shares=lookup("trajectories/step_shares", within=config),
        rois=list(config["rois"]),
        blocks=BLOCKS,
        repeats=lookup("encoding/bootstrap", within=config),
        seed=lookup("encoding/seed", within=config),
        code=digest("workflow_scripts/tabulate_blocks.py"),
    script:
        "../workflow_scripts/tabulate_blocks.py"


rule tabulate_group:
    input:
        collect("results/{subject}/sums/{fit}.npz", subject=SUBJECTS, fit=SUMMED),
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
        repeats=lookup("encoding/bootstrap", within=config),
        seed=lookup("encoding/seed", within=config),
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
