# Voxel-wise ridge encoders of the whole cortex, and their statistics.


rule compute_kernel:
    input:
        images="results/{subject}/images.tsv",
        features=["results/{subject}/features/{feature}.npy"],
    output:
        "results/{subject}/kernels/{feature}.npy",
    log:
        "logs/{subject}/compute_kernel.{feature}.log",
    benchmark:
        "benchmarks/{subject}/compute_kernel.{feature}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(15),
    params:
        max_components=lookup("encoding/max_components", within=config),
        device=DEVICE,
        code=digest("workflow_scripts/compute_kernel.py"),
    script:
        "../workflow_scripts/compute_kernel.py"


use rule compute_kernel as compute_path_kernels with:
    input:
        images="results/{subject}/images.tsv",
        features=collect(
            "results/{{subject}}/features/{space}.npy",
            space=LEVEL_SPACES + STEP_SPACES,
        ),
        grams=collect("results/{{subject}}/grams/{space}.npy", space=BLOCK_SPACES),
    output:
        collect(
            "results/{{subject}}/kernels/{space}.npy",
            space=LEVEL_SPACES + STEP_SPACES + BLOCK_SPACES,
        ),
    log:
        "logs/{subject}/compute_path_kernels.log",
    benchmark:
        "benchmarks/{subject}/compute_path_kernels.tsv"


if VARIANTS:

    use rule compute_kernel as compute_variant_kernels with:
        input:
            images="results/{subject}/images.tsv",
            features=collect(
                "results/{{subject}}/features/{space}.npy", space=VARIANT_SPACES
            ),
        output:
            collect("results/{{subject}}/kernels/{space}.npy", space=VARIANT_SPACES),
        log:
            "logs/{subject}/compute_variant_kernels.log",
        benchmark:
            "benchmarks/{subject}/compute_variant_kernels.tsv"


if CONTROLS:

    use rule compute_kernel as compute_control_kernels with:
        input:
            images="results/{subject}/images.tsv",
            features=collect(
                "results/{{subject}}/features/{space}.npy", space=CONTROL_SPACES
            ),
        output:
            collect("results/{{subject}}/kernels/{space}.npy", space=CONTROL_SPACES),
        log:
            "logs/{subject}/compute_control_kernels.log",
        benchmark:
            "benchmarks/{subject}/compute_control_kernels.tsv"


rule fit_encoders:
    input:
        kernels=collect("results/{{subject}}/kernels/{feature}.npy", feature=FEATURES),
        betas="results/{subject}/betas/cortex.npy",
        trials="results/{subject}/trials.tsv",
        images="results/{subject}/images.tsv",
        mask="results/{subject}/masks/cortex.nii.gz",
        regions=region_masks(),
    output:
        maps=collect("results/{{subject}}/encoding/{feature}.nii.gz", feature=FEATURES),
        tables=collect("results/{{subject}}/encoding/{feature}.tsv", feature=FEATURES),
        sums="results/{subject}/sums/fit_encoders.npz",
    log:
        "logs/{subject}/fit_encoders.log",
    benchmark:
        "benchmarks/{subject}/fit_encoders.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=fit_memory("encoding"),
        runtime=growing(120),
    params:
        features=FEATURES,
        alphas=lookup("encoding/alphas", within=config),
        weights=lookup("encoding/weights", within=config),
        n_folds=lookup("encoding/n_folds", within=config),
        fdr=lookup("encoding/fdr", within=config),
        train_on=lookup("encoding/train_on", within=config),
        zscore=lookup("encoding/zscore", within=config),
        rois=list(config["rois"]),
        min_ncsnr=lookup("encoding/group_ncsnr", within=config),
        every=lookup("encoding/controls_every", within=config),
        memory_gb=lookup("encoding/memory_gb", within=config),
        seed=lookup("encoding/seed", within=config),
        device=DEVICE,
        code=digest("workflow_scripts/fit_encoders.py"),
    script:
        "../workflow_scripts/fit_encoders.py"


if ADDED:

    use rule fit_encoders as fit_more_encoders with:
        input:
            kernels=collect("results/{{subject}}/kernels/{feature}.npy", feature=ADDED),
            betas="results/{subject}/betas/cortex.npy",
            trials="results/{subject}/trials.tsv",
            images="results/{subject}/images.tsv",
            mask="results/{subject}/masks/cortex.nii.gz",
            regions=region_masks(),
        output:
            maps=collect("results/{{subject}}/encoding/{feature}.nii.gz", feature=ADDED),
            tables=collect("results/{{subject}}/encoding/{feature}.tsv", feature=ADDED),
            sums="results/{subject}/sums/fit_more_encoders.npz",
        log:
            "logs/{subject}/fit_more_encoders.log",
        benchmark:
            "benchmarks/{subject}/fit_more_encoders.tsv"
        params:
            features=ADDED,


rule tabulate_encoding:
    input:
        tables=collect(
            "results/{subject}/encoding/{feature}.tsv",
            subject=SUBJECTS,
            feature=FEATURES + ADDED,
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
        features=FEATURES + ADDED,
        rois=list(config["rois"]),
        min_ncsnr=lookup("encoding/table_ncsnr", within=config),
        code=digest("workflow_scripts/tabulate_encoding.py"),
    script:
        "../workflow_scripts/tabulate_encoding.py"
