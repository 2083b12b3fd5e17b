# From the release's files to trials, masks and matrices. Only these rules and the figures' surfaces
# touch the release; everything after them reads results/.


# All jobs of the subject wait for this check, so it only looks at what all depend on; atlases of
# other regions and ncsnr are checked where they are used, and their labels before the run.
rule check_release:
    input:
        source="results/source.tsv",
        responses=source(layout.RESPONSES),
        design=source(layout.DESIGN),
        stim_info=source(layout.STIM_INFO),
        stimuli=large_source(layout.STIMULI),
        captions=stored(RELEASE.list_captions()),
        betas=lambda w: stored(RELEASE.list_betas(w.subject), retrieve=False),
        volumes=stored(RELEASE.list_volumes("cortex")),
        tables=lambda w: stored([*RELEASE.list_tables(w.subject, "cortex").values()]),
        transforms=stored(RELEASE.list_transforms()),
        surfaces=stored(RELEASE.list_surfaces()),
    output:
        "results/{subject}/release.tsv",
    log:
        "logs/{subject}/check_release.log",
    priority: 1
    conda:
        "../envs/analysis.yaml"
    params:
        sessions=lambda wildcards: RELEASE.list_sessions(wildcards.subject),
        atlases=RELEASE.list_atlases("cortex"),
        tabled=lambda w: [*RELEASE.list_tables(w.subject, "cortex")],
        reorient=config["nsd"]["reorient"],
        rois={"cortex": config["rois"]["cortex"]},
        storage=RELEASE.storage,
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
    params:
        sessions=lambda wildcards: RELEASE.list_sessions(wildcards.subject),
        code=digest("workflow_scripts/tabulate_trials.py"),
    script:
        "../workflow_scripts/tabulate_trials.py"


# In two jobs, so that another region in the config leaves the matrices alone.
for family, rois in plan.group_regions(config).items():

    rule:
        name:
            f"make_masks_{family}"
        input:
            checked="results/{subject}/release.tsv",
            volumes=stored(RELEASE.list_volumes(*rois)),
            # All regions must match its grid.
            reference=source(layout.ROI, atlas=RELEASE.list_atlases("cortex")[0]),
            tables=lambda w, rois=rois: stored([*RELEASE.list_tables(w.subject, *rois).values()]),
            ncsnr=branch(
                lambda wildcards: own("min_ncsnr", wildcards.subject) is not None,
                then=source(layout.NCSNR),
            ),
        output:
            collect("results/{{subject}}/masks/{roi}.nii.gz", roi=rois),
        log:
            f"logs/{{subject}}/make_masks_{family}.log",
        # Find an unusable region before anything long starts.
        priority: 1
        conda:
            "../envs/analysis.yaml"
        params:
            atlases=RELEASE.list_atlases(*rois),
            tabled=lambda w, rois=rois: [*RELEASE.list_tables(w.subject, *rois)],
            reorient=config["nsd"]["reorient"],
            rois=rois,
            min_ncsnr=lambda wildcards: own("min_ncsnr", wildcards.subject),
            code=digest("workflow_scripts/make_masks.py"),
        script:
            "../workflow_scripts/make_masks.py"


# All matrices in one pass, since a real subject has 41 GB of betas.
rule extract_betas:
    input:
        checked="results/{subject}/release.tsv",
        betas=lambda w: stored(RELEASE.list_betas(w.subject), retrieve=False),
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
        **needs(4000, 60),
    params:
        # Not an output: Snakemake deletes the outputs of killed jobs.
        partial="results/{subject}/partial/betas",
        rois=config["matrices"],
        storage=RELEASE.storage,
        code=digest("workflow_scripts/extract_betas.py"),
    script:
        "../workflow_scripts/extract_betas.py"
