# Figures and tables of the trained decoders: tables 2 and 3 and figures 2, 4 and 5 of Yang et al. 2025.

TABLE2_RUNS = TRAINING.list_runs(["zc", "true-zc"], TRAINING.table2)
TABLE3_RUNS = TRAINING.list_runs(["zc", "true-zc"], TRAINING.table3)
GALLERY_RUNS = TRAINING.list_runs(["zc"], TRAINING.methods)


rule tabulate_fcae_table2:
    input:
        summaries=of_runs(
            "results/{subject}/{protocol}/evaluation/{method}_summary.tsv", TABLE2_RUNS
        ),
        tables=of_runs(
            "results/{subject}/{protocol}/evaluation/{method}.tsv", TABLE2_RUNS
        ),
        weights=TRAINING.list_encoders(TRAINING.table2),
    output:
        report(
            "results/tables/fcae_table2.tsv",
            caption="../report/fcae_table2.rst",
            category="Tables",
            labels={"table": "trained decoders"},
        ),
    log:
        "logs/tabulate_fcae_table2.log",
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(10),
    params:
        runs=TABLE2_RUNS,
        trained=TRAINING.table2,
        alignments=TRAINING.list_alignments(TRAINING.table2),
        presets=TRAINING.presets,
        size=lookup("trained/size", within=config),
        data=lookup("dataset", within=config),
        n_bootstrap=lookup("evaluation/bootstrap", within=config),
        seed=lookup("evaluation/seed", within=config),
        code=digest("workflow_scripts/tabulate_fcae_table2.py"),
    script:
        "../workflow_scripts/tabulate_fcae_table2.py"


rule tabulate_fcae_table3:
    input:
        summaries=of_runs(
            "results/{subject}/{protocol}/evaluation/{method}_summary.tsv", TABLE3_RUNS
        ),
        tables=of_runs(
            "results/{subject}/{protocol}/evaluation/{method}.tsv", TABLE3_RUNS
        ),
        weights=TRAINING.list_encoders(TRAINING.table3),
    output:
        report(
            "results/tables/fcae_table3.tsv",
            caption="../report/fcae_table3.rst",
            category="Tables",
            labels={"table": "ablations"},
        ),
    log:
        "logs/tabulate_fcae_table3.log",
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(10),
    params:
        runs=TABLE3_RUNS,
        trained=TRAINING.table3,
        alignments=TRAINING.list_alignments(TRAINING.table3),
        presets=TRAINING.presets,
        size=lookup("trained/size", within=config),
        data=lookup("dataset", within=config),
        n_bootstrap=lookup("evaluation/bootstrap", within=config),
        seed=lookup("evaluation/seed", within=config),
        code=digest("workflow_scripts/tabulate_fcae_table3.py"),
    script:
        "../workflow_scripts/tabulate_fcae_table3.py"


rule plot_masked_responses:
    input:
        reconstructions="results/{subject}/trained/masked.h5",
        errors="results/{subject}/trained/masked.tsv",
    output:
        png=report(
            "results/{subject}/figures/trained_masked.png",
            caption="../report/trained_masked.rst",
            category="Trained decoders",
            labels={"figure": "masked responses", "subject": "{subject}"},
        ),
        pdf="results/{subject}/figures/trained_masked.pdf",
        tsv="results/{subject}/figures/trained_masked.tsv",
    log:
        "logs/{subject}/plot_masked_responses.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        encoder=list(TRAINING.encoders)[0],
        n_images=4,
        n_voxels=320,
        nsd_ids=lookup("evaluation/nsd_ids", within=config),
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_masked_responses.py"),
    script:
        "../workflow_scripts/plot_masked_responses.py"


use rule plot_fig3 as plot_trained_pictures with:
    input:
        stimuli=RELEASE.locate_stimuli(),
        images="results/{subject}/images.tsv",
        reconstructions=of_runs(
            "results/{subject}/{protocol}/reconstructions/{method}.h5",
            TRAINING.drawn_runs,
        ),
        samples=of_runs(
            "results/{subject}/{protocol}/evaluation/{method}_samples.tsv",
            TRAINING.drawn_runs,
        ),
    output:
        png=report(
            "results/{subject}/figures/trained_pictures.png",
            caption="../report/trained_pictures.rst",
            category="Trained decoders",
            labels={"figure": "reconstructions", "subject": "{subject}"},
        ),
        pdf="results/{subject}/figures/trained_pictures.pdf",
        tsv="results/{subject}/figures/trained_pictures.tsv",
    log:
        "logs/{subject}/plot_trained_pictures.log",
    params:
        methods=TRAINING.drawn,
        ranked_by=TRAINING.drawn[-1],
        words={"zc": "ridge"},


rule plot_trained_subjects:
    input:
        stimuli=all_stimuli(),
        images=collect("results/{subject}/images.tsv", subject=SUBJECTS),
        reconstructions=collect(
            "results/{subject}/trained/reconstructions/{method}.h5",
            method=TRAINING.transferred,
            subject=SUBJECTS,
        ),
        samples=collect(
            "results/{subject}/trained/evaluation/{method}_samples.tsv",
            method=TRAINING.transferred,
            subject=SUBJECTS,
        ),
    output:
        png=report(
            "results/figures/trained_subjects.png",
            caption="../report/trained_subjects.rst",
            category="Trained decoders",
            labels={"figure": "one subject and all", "subject": "all"},
        ),
        pdf="results/figures/trained_subjects.pdf",
        tsv="results/figures/trained_subjects.tsv",
    log:
        "logs/plot_trained_subjects.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        subjects=SUBJECTS,
        methods=TRAINING.transferred,
        metric=lookup("evaluation/best_by", within=config),
        n_images=4,
        nsd_ids=lookup("evaluation/nsd_ids", within=config),
        adapters=TRAINING.adapts,
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_trained_subjects.py"),
    script:
        "../workflow_scripts/plot_trained_subjects.py"


rule plot_training_curves:
    input:
        lambda wildcards: TRAINING.list_stages(wildcards.cohort).values(),
    output:
        png=report(
            "results/{cohort}/figures/training_curves.png",
            caption="../report/training_curves.rst",
            category="Trained decoders",
            labels={"figure": "training curves", "subject": "{cohort}"},
        ),
        pdf="results/{cohort}/figures/training_curves.pdf",
    log:
        "logs/{cohort}/plot_training_curves.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(10),
    params:
        names=lambda wildcards: [*TRAINING.list_stages(wildcards.cohort)],
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_training_curves.py"),
    script:
        "../workflow_scripts/plot_training_curves.py"


use rule write_gallery as write_trained_gallery with:
    input:
        stimuli=all_stimuli(),
        captions=stored(RELEASE.list_captions()),
        images=collect("results/{subject}/images.tsv", subject=TRAINING.subjects),
        reconstructions=of_runs(
            "results/{subject}/{protocol}/reconstructions/{method}.h5", GALLERY_RUNS
        ),
        samples=of_runs(
            "results/{subject}/{protocol}/evaluation/{method}_samples.tsv",
            GALLERY_RUNS,
        ),
        tables=of_runs(
            "results/{subject}/{protocol}/evaluation/{method}.tsv", GALLERY_RUNS
        ),
    output:
        "results/report/trained_gallery.html",
    log:
        "logs/write_trained_gallery.log",
    params:
        runs=GALLERY_RUNS,
        subjects=TRAINING.subjects,
        methods=["zc", *TRAINING.methods],
