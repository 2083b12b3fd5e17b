# Figures of each subject, and the configured subject's as the project's.


rule plot_fig6:
    input:
        maps=collect("results/{{subject}}/encoding/{feature}.nii.gz", feature=FEATURES),
        tables=collect("results/{{subject}}/encoding/{feature}.tsv", feature=FEATURES),
        masks=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"]),
        transforms=transforms(),
        surfaces=surfaces(),
    output:
        png="results/{subject}/figures/fig6.png",
        html="results/{subject}/figures/fig6.html",
        tsv="results/{subject}/figures/fig6.tsv",
    log:
        "logs/{subject}/plot_fig6.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        features=FEATURES,
        rois=list(config["rois"]),
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_fig6.py"),
    script:
        "../workflow_scripts/plot_fig6.py"


rule plot_fig3:
    input:
        stimuli=source(layout.STIMULI),
        images="results/{subject}/images.tsv",
        reconstructions=collect(
            "results/{{subject}}/{protocol}/reconstructions/{method}.h5",
            protocol=PROTOCOLS[0],
            method=DRAWN_METHODS,
        ),
        samples=collect(
            "results/{{subject}}/{protocol}/evaluation/{method}_samples.tsv",
            protocol=PROTOCOLS[0],
            method=DRAWN_METHODS,
        ),
    output:
        png="results/{subject}/figures/fig3.png",
        tsv="results/{subject}/figures/fig3.tsv",
    log:
        "logs/{subject}/plot_fig3.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=4000,
        runtime=15,
    params:
        methods=DRAWN_METHODS,
        metric=lookup("evaluation/best_by", within=config),
        n_images=lookup("evaluation/shown_images", within=config),
        nsd_ids=lookup("evaluation/nsd_ids", within=config),
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_fig3.py"),
    script:
        "../workflow_scripts/plot_fig3.py"


rule plot_fig4:
    input:
        stimuli=source(layout.STIMULI),
        images=collect("results/{subject}/images.tsv", subject=SUBJECTS),
        reconstructions=collect(
            "results/{subject}/{protocol}/reconstructions/zc.h5",
            subject=SUBJECTS,
            protocol=PROTOCOLS[0],
        ),
        samples=collect(
            "results/{subject}/{protocol}/evaluation/zc_samples.tsv",
            subject=SUBJECTS,
            protocol=PROTOCOLS[0],
        ),
    output:
        png="results/figures/fig4.png",
        tsv="results/figures/fig4.tsv",
    log:
        "logs/plot_fig4.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=4000,
        runtime=15,
    params:
        subjects=SUBJECTS,
        metric=lookup("evaluation/best_by", within=config),
        n_images=lookup("evaluation/shown_images", within=config),
        nsd_ids=lookup("evaluation/nsd_ids", within=config),
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_fig4.py"),
    script:
        "../workflow_scripts/plot_fig4.py"


rule plot_fig5:
    input:
        summaries=scores("_summary", DRAWN_RUNS),
        tables=scores(runs=DRAWN_RUNS),
    output:
        png="results/figures/fig5.png",
        tsv="results/figures/fig5.tsv",
    log:
        "logs/plot_fig5.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=4000,
        runtime=15,
    params:
        runs=DRAWN_RUNS,
        protocol=PROTOCOLS[0],
        repeats=lookup("evaluation/bootstrap", within=config),
        seed=lookup("evaluation/seed", within=config),
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_fig5.py"),
    script:
        "../workflow_scripts/plot_fig5.py"


rule write_gallery:
    input:
        stimuli=source(layout.STIMULI),
        captions=caption_files(),
        template=str(Path(workflow.basedir) / "nsdldm/gallery_template.html"),
        images=collect("results/{subject}/images.tsv", subject=SUBJECTS),
        reconstructions=reconstructions(DRAWN_RUNS),
        samples=scores("_samples", DRAWN_RUNS),
        tables=scores(runs=DRAWN_RUNS),
    output:
        "results/report/gallery.html",
    log:
        "logs/write_gallery.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        runs=DRAWN_RUNS,
        subjects=SUBJECTS,
        methods=METHODS,
        best_by=lookup("evaluation/best_by", within=config),
        max_samples=lookup("gallery/samples", within=config),
        pixels=lookup("gallery/pixels", within=config),
        quality=lookup("gallery/quality", within=config),
        max_megabytes=lookup("gallery/max_megabytes", within=config),
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/write_gallery.py"),
    script:
        "../workflow_scripts/write_gallery.py"


rule publish_fig6:
    input:
        collect(
            "results/{subject}/figures/fig6.{suffix}",
            subject=config["figure_subject"],
            suffix=["png", "html", "tsv"],
        ),
    output:
        collect("results/figures/fig6.{suffix}", suffix=["png", "html", "tsv"]),
    log:
        "logs/publish_fig6.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=digest("workflow_scripts/publish_fig6.py"),
    script:
        "../workflow_scripts/publish_fig6.py"


use rule publish_fig6 as publish_fig3 with:
    input:
        collect(
            "results/{subject}/figures/fig3.{suffix}",
            subject=config["figure_subject"],
            suffix=["png", "tsv"],
        ),
    output:
        collect("results/figures/fig3.{suffix}", suffix=["png", "tsv"]),
    log:
        "logs/publish_fig3.log",
