# Figures and the page of the decoding half.

# Of the methods, those that the paper's figure shows.
SHOWN = [
    name for name in ("z", "c", "zc") if name in config["reconstruction"]["methods"]
]


rule plot_fig3:
    input:
        stimuli=RELEASE.locate_stimuli(),
        images="results/{subject}/images.tsv",
        reconstructions=collect(
            "results/{{subject}}/{protocol}/reconstructions/{method}.h5",
            protocol=PROTOCOLS[0],
            method=SHOWN,
        ),
        samples=collect(
            "results/{{subject}}/{protocol}/evaluation/{method}_samples.tsv",
            protocol=PROTOCOLS[0],
            method=SHOWN,
        ),
    output:
        png=report(
            "results/{subject}/figures/fig3.png",
            caption="../report/fig3.rst",
            category="Decoding",
            labels={"figure": "3", "subject": "{subject}"},
        ),
        pdf="results/{subject}/figures/fig3.pdf",
        tsv="results/{subject}/figures/fig3.tsv",
    log:
        "logs/{subject}/plot_fig3.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        methods=SHOWN,
        ranked_by="zc",
        metric=lookup("evaluation/best_by", within=config),
        n_images=lookup("evaluation/shown_images", within=config),
        nsd_ids=lookup("evaluation/nsd_ids", within=config),
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_fig3.py"),
    script:
        "../workflow_scripts/plot_fig3.py"


rule plot_fig4:
    input:
        stimuli=all_stimuli(),
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
        png=report(
            "results/figures/fig4.png",
            caption="../report/fig4.rst",
            category="Decoding",
            labels={"figure": "4", "subject": "all"},
        ),
        pdf="results/figures/fig4.pdf",
        tsv="results/figures/fig4.tsv",
    log:
        "logs/plot_fig4.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
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
        summaries=of_runs(
            "results/{subject}/{protocol}/evaluation/{method}_summary.tsv", DRAWN_RUNS
        ),
        tables=of_runs(
            "results/{subject}/{protocol}/evaluation/{method}.tsv", DRAWN_RUNS
        ),
    output:
        png=report(
            "results/figures/fig5.png",
            caption="../report/fig5.rst",
            category="Decoding",
            labels={"figure": "5", "subject": "all"},
        ),
        pdf="results/figures/fig5.pdf",
        tsv="results/figures/fig5.tsv",
    log:
        "logs/plot_fig5.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
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
        stimuli=all_stimuli(),
        captions=stored(RELEASE.list_captions()),
        images=collect("results/{subject}/images.tsv", subject=SUBJECTS),
        reconstructions=of_runs(
            "results/{subject}/{protocol}/reconstructions/{method}.h5", DRAWN_RUNS
        ),
        samples=of_runs(
            "results/{subject}/{protocol}/evaluation/{method}_samples.tsv", DRAWN_RUNS
        ),
        tables=of_runs(
            "results/{subject}/{protocol}/evaluation/{method}.tsv", DRAWN_RUNS
        ),
    output:
        "results/report/gallery.html",
    log:
        "logs/write_gallery.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        runs=DRAWN_RUNS,
        subjects=SUBJECTS,
        methods=config["reconstruction"]["methods"],
        best_by=lookup("evaluation/best_by", within=config),
        max_samples=lookup("gallery/samples", within=config),
        pixels=lookup("gallery/pixels", within=config),
        quality=lookup("gallery/quality", within=config),
        max_megabytes=lookup("gallery/max_megabytes", within=config),
        demo=config["dataset"] == "demo",
        # By content: its path as an input would change with the place of the checkout.
        template=digest_file("nsdldm/plots/gallery_template.html"),
        code=digest("workflow_scripts/write_gallery.py"),
    script:
        "../workflow_scripts/write_gallery.py"
