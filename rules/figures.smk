# Figures and the page of the decoding half.

# The methods in the paper's figure.
SHOWN = [name for name in ("z", "c", "zc") if name in config["reconstruction"]["methods"]]
SHOWING = choose("evaluation", "best_by", "shown_images", "nsd_ids")


rule plot_fig3:
    input:
        **plan.list_run_files(
            [("{subject}", PROTOCOLS[0], name) for name in SHOWN], *("reconstructions", "samples")
        ),
        stimuli=RELEASE.locate_stimuli(),
        images="results/{subject}/images.tsv",
    output:
        **figure("results/{subject}/figures/fig3", "Decoding", "3"),
    log:
        "logs/{subject}/plot_fig3.log",
    conda:
        "../envs/analysis.yaml"
    params:
        methods=SHOWN,
        ranked_by="zc",
        words={},
        showing=SHOWING,
        demo=DEMO,
        code=digest("workflow_scripts/plot_fig3.py"),
    script:
        "../workflow_scripts/plot_fig3.py"


rule plot_fig4:
    input:
        **plan.list_run_files(
            [(subject, PROTOCOLS[0], "zc") for subject in SUBJECTS],
            *("reconstructions", "samples"),
        ),
        stimuli=all_stimuli(),
        images=collect("results/{subject}/images.tsv", subject=SUBJECTS),
    output:
        **figure("results/figures/fig4", "Decoding", "4"),
    log:
        "logs/plot_fig4.log",
    conda:
        "../envs/analysis.yaml"
    params:
        subjects=SUBJECTS,
        showing=SHOWING,
        demo=DEMO,
        code=digest("workflow_scripts/plot_fig4.py"),
    script:
        "../workflow_scripts/plot_fig4.py"


rule plot_fig5:
    input:
        **plan.list_run_files(DRAWN_RUNS, "summaries", "tables"),
    output:
        **figure("results/figures/fig5", "Decoding", "5"),
    log:
        "logs/plot_fig5.log",
    conda:
        "../envs/analysis.yaml"
    params:
        **choose("evaluation", "bootstrap", "seed"),
        runs=DRAWN_RUNS,
        protocol=PROTOCOLS[0],
        demo=DEMO,
        code=digest("workflow_scripts/plot_fig5.py"),
    script:
        "../workflow_scripts/plot_fig5.py"


rule write_gallery:
    input:
        **plan.list_run_files(DRAWN_RUNS, "reconstructions", "samples", "tables"),
        stimuli=all_stimuli(),
        captions=stored(RELEASE.list_captions()),
        images=collect("results/{subject}/images.tsv", subject=SUBJECTS),
    output:
        "results/report/gallery.html",
    log:
        "logs/write_gallery.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(8000, 60),
    params:
        runs=DRAWN_RUNS,
        subjects=SUBJECTS,
        methods=config["reconstruction"]["methods"],
        best_by=config["evaluation"]["best_by"],
        page=config["gallery"],
        captioned=[],
        demo=DEMO,
        # By content: as an input, its path would change with the location of the checkout.
        template=digest_file("nsdldm/plots/gallery_template.html"),
        code=digest("workflow_scripts/write_gallery.py"),
    script:
        "../workflow_scripts/write_gallery.py"
