# From the release's files to trials, masks and matrices. Only these rules and the figures' surfaces
# touch the release; everything after them reads results/.

if config["dataset"] == "demo":

    include: "demo.smk"

elif REMOTE:

    include: "s3.smk"


# So that results of another dataset are never written over these.
rule note_source:
    output:
        "results/source.tsv",
    log:
        "logs/note_source.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        source=SOURCE,
        code=digest("workflow_scripts/note_source.py"),
    script:
        "../workflow_scripts/note_source.py"


# Everything of the subject waits for this check, so it looks only at what everything depends on;
# other regions' atlases and ncsnr are checked where they are used, their labels before the run.
rule check_release:
    input:
        source=ancient("results/source.tsv"),
        responses=source(layout.RESPONSES),
        design=source(layout.DESIGN),
        stim_info=source(layout.STIM_INFO),
        stimuli=large_source(layout.STIMULI),
        captions=caption_files(),
        betas=beta_files,
        volumes=[source(layout.ROI, atlas=atlas) for atlas in CORTEX_ATLASES],
        tables=cortex_tables,
        transforms=transforms(),
        surfaces=surfaces(),
    output:
        "results/{subject}/release.tsv",
    log:
        "logs/{subject}/check_release.log",
    priority: 1
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        sessions=sessions,
        atlases=CORTEX_ATLASES,
        tabled=cortex_tabled,
        reorient=lookup("nsd/reorient", within=config),
        cortex=lookup("rois/cortex", within=config),
        storage=STORAGE,
        code=digest("workflow_scripts/check_release.py"),
    script:
        "../workflow_scripts/check_release.py"


rule tabulate_trials:
    input:
        checked="results/{subject}/release.tsv",
        responses=source(layout.RESPONSES),
        design=source(layout.DESIGN),
        stim_info=source(layout.STIM_INFO),
    output:
        trials="results/{subject}/trials.tsv",
        images="results/{subject}/images.tsv",
    log:
        "logs/{subject}/tabulate_trials.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        sessions=sessions,
        code=digest("workflow_scripts/tabulate_trials.py"),
    script:
        "../workflow_scripts/tabulate_trials.py"


# One region a job, so that another region in the config leaves the matrices alone.
rule make_mask:
    input:
        checked="results/{subject}/release.tsv",
        volumes=roi_volumes,
        # Whose grid all regions must be on.
        reference=source(layout.ROI, atlas=CORTEX_ATLASES[0]),
        tables=roi_tables,
        ncsnr=ncsnr_file,
    output:
        "results/{subject}/masks/{roi}.nii.gz",
    log:
        "logs/{subject}/make_mask.{roi}.log",
    # A region that cannot be used is found before anything long begins, whoever needs it.
    priority: 1
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        atlases=roi_atlases,
        tabled=roi_tabled,
        reorient=lookup("nsd/reorient", within=config),
        parts=roi_parts,
        min_ncsnr=min_ncsnr,
        code=digest("workflow_scripts/make_mask.py"),
    script:
        "../workflow_scripts/make_mask.py"


# All matrices in one pass, since a real subject's betas are 41 GB to read.
rule extract_betas:
    input:
        checked="results/{subject}/release.tsv",
        betas=beta_files,
        masks=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["matrices"]),
    output:
        collect("results/{{subject}}/betas/{roi}.npy", roi=config["matrices"]),
    log:
        "logs/{subject}/extract_betas.log",
    benchmark:
        "benchmarks/{subject}/extract_betas.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        # Not an output: Snakemake clears those of a job that was killed.
        partial="results/{subject}/partial/betas",
        rois=lookup("matrices", within=config),
        storage=STORAGE,
        code=digest("workflow_scripts/extract_betas.py"),
    script:
        "../workflow_scripts/extract_betas.py"
