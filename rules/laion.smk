# From LAION-fMRI's files to trials, masks and matrices, as those of NSD.

from nsdldm.laion import layout as laion

OF_ALL = {
    "metadata": source(laion.METADATA),
    "captions": source(laion.CAPTIONS),
}


rule check_laion:
    input:
        **OF_ALL,
        source="results/source.tsv",
        stimuli=large_source(laion.STIMULI),
        tables=lambda w: stored(RELEASE.list_of_sessions(laion.TRIALS, w.subject)),
        betas=lambda w: stored(RELEASE.list_of_sessions(laion.BETAS, w.subject), retrieve=False),
        reference=stored(RELEASE.locate_reference()),
        masks=lambda w: stored([*RELEASE.list_masks(w.subject).values()]),
        surfaces=stored(
            [
                RELEASE.locate_surface(hemi, name)
                for hemi in layout.HEMISPHERES
                for name in (*laion.SURFACES, laion.REGISTERED)
            ]
        ),
    output:
        "results/{subject}/release.tsv",
    log:
        "logs/{subject}/check_laion.log",
    priority: 1
    conda:
        "../envs/analysis.yaml"
    params:
        storage=RELEASE.storage,
        code=digest("workflow_scripts/check_laion.py"),
    script:
        "../workflow_scripts/check_laion.py"


rule tabulate_laion:
    input:
        checked="results/{subject}/release.tsv",
        metadata=source(laion.METADATA),
        tables=lambda w: stored(RELEASE.list_of_sessions(laion.TRIALS, w.subject)),
    output:
        trials="results/{subject}/trials.tsv",
        images="results/{subject}/images.tsv",
    log:
        "logs/{subject}/tabulate_laion.log",
    conda:
        "../envs/analysis.yaml"
    params:
        sessions=lambda wildcards: RELEASE.list_sessions(wildcards.subject),
        code=digest("workflow_scripts/tabulate_laion.py"),
    script:
        "../workflow_scripts/tabulate_laion.py"


rule copy_stimuli:
    input:
        checked="results/{subject}/release.tsv",
        images="results/{subject}/images.tsv",
        stimuli=large_source(laion.STIMULI),
    output:
        "results/{subject}/stimuli.hdf5",
    log:
        "logs/{subject}/copy_stimuli.log",
    benchmark:
        "benchmarks/{subject}/copy_stimuli.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(4000, 120),
    params:
        storage=RELEASE.storage,
        code=digest("workflow_scripts/copy_stimuli.py"),
    script:
        "../workflow_scripts/copy_stimuli.py"


rule translate_captions:
    input:
        **OF_ALL,
    output:
        RELEASE.list_captions(),
    log:
        "logs/translate_captions.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=digest("workflow_scripts/translate_captions.py"),
    script:
        "../workflow_scripts/translate_captions.py"


rule mark_regions:
    input:
        checked="results/{subject}/release.tsv",
        volumes=lambda w: stored([*RELEASE.list_masks(w.subject).values()]),
        transforms=RELEASE.list_transforms(),
        reference=stored(RELEASE.locate_reference()),
        metadata=source(laion.METADATA),
    output:
        collect("results/{{subject}}/masks/{roi}.nii.gz", roi=ROIS),
    log:
        "logs/{subject}/mark_regions.log",
    priority: 1
    conda:
        "../envs/analysis.yaml"
    params:
        parts=lambda wildcards: [*RELEASE.list_masks(wildcards.subject)],
        rois=config["rois"],
        min_ncsnr=lambda wildcards: own("min_ncsnr", wildcards.subject),
        code=digest("workflow_scripts/mark_regions.py"),
    script:
        "../workflow_scripts/mark_regions.py"


# All matrices in one pass: a session has 12 GB.
rule extract_matrices:
    input:
        checked="results/{subject}/release.tsv",
        betas=lambda w: stored(RELEASE.list_of_sessions(laion.BETAS, w.subject), retrieve=False),
        tables=lambda w: stored(RELEASE.list_of_sessions(laion.TRIALS, w.subject)),
        masks=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["matrices"]),
    output:
        collect("results/{{subject}}/betas/{roi}.npy", roi=config["matrices"]),
    log:
        "logs/{subject}/extract_matrices.log",
    benchmark:
        "benchmarks/{subject}/extract_matrices.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 2
    resources:
        **needs(12000, 240),
    params:
        # Not an output: Snakemake deletes the outputs of killed jobs.
        partial="results/{subject}/partial/betas",
        rois=config["matrices"],
        storage=RELEASE.storage,
        code=digest("workflow_scripts/extract_matrices.py"),
    script:
        "../workflow_scripts/extract_matrices.py"


include: "surfaces.smk"
