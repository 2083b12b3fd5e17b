# From arrays and tables of one's own to trials, masks and matrices, as those of NSD.

PICTURES = "results/release/stimuli.hdf5"


rule check_arrays:
    input:
        source="results/source.tsv",
        images=RELEASE.locate_table("images"),
        trials=RELEASE.locate_table("trials", "{subject}"),
        captions=RELEASE.locate_table("captions"),
        stimuli=RELEASE.list_pictures(),
        betas=lambda w: [RELEASE.find_betas(w.subject, roi) for roi in RELEASE.list_own(w.subject)],
        masks=lambda w: RELEASE.list_masks(w.subject),
    output:
        "results/{subject}/release.tsv",
    log:
        "logs/{subject}/check_arrays.log",
    priority: 1
    conda:
        "../envs/analysis.yaml"
    params:
        code=digest("workflow_scripts/check_arrays.py"),
    script:
        "../workflow_scripts/check_arrays.py"


rule tabulate_arrays:
    input:
        checked="results/{subject}/release.tsv",
        images=RELEASE.locate_table("images"),
        trials=RELEASE.locate_table("trials", "{subject}"),
    output:
        trials="results/{subject}/trials.tsv",
        images="results/{subject}/images.tsv",
    log:
        "logs/{subject}/tabulate_arrays.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=digest("workflow_scripts/tabulate_arrays.py"),
    script:
        "../workflow_scripts/tabulate_arrays.py"


if RELEASE.locate_stimuli() == PICTURES:

    rule gather_stimuli:
        input:
            images=RELEASE.locate_table("images"),
            pictures=RELEASE.list_pictures(),
        output:
            PICTURES,
        log:
            "logs/gather_stimuli.log",
        conda:
            "../envs/analysis.yaml"
        resources:
            **needs(4000, 120),
        params:
            code=digest("workflow_scripts/gather_stimuli.py"),
        script:
            "../workflow_scripts/gather_stimuli.py"


rule write_captions:
    input:
        images=RELEASE.locate_table("images"),
        captions=RELEASE.locate_table("captions"),
    output:
        RELEASE.list_captions(),
    log:
        "logs/write_captions.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=digest("workflow_scripts/write_captions.py"),
    script:
        "../workflow_scripts/write_captions.py"


rule copy_betas:
    input:
        checked="results/{subject}/release.tsv",
        betas=lambda wildcards: RELEASE.find_betas(wildcards.subject, wildcards.roi),
        trials="results/{subject}/trials.tsv",
    output:
        "results/{subject}/betas/{roi}.npy",
    log:
        "logs/{subject}/copy_betas.{roi}.log",
    benchmark:
        "benchmarks/{subject}/copy_betas.{roi}.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(4000, 60),
    params:
        code=digest("workflow_scripts/copy_betas.py"),
    script:
        "../workflow_scripts/copy_betas.py"


rule copy_mask:
    input:
        checked="results/{subject}/release.tsv",
        mask=RELEASE.locate_mask("{roi}"),
        reference=RELEASE.locate_mask("cortex"),
    output:
        "results/{subject}/masks/{roi}.nii.gz",
    log:
        "logs/{subject}/copy_mask.{roi}.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=digest("workflow_scripts/copy_mask.py"),
    script:
        "../workflow_scripts/copy_mask.py"


include: "surfaces.smk"
