# Figures and tables of the trained decoders: tables 2 and 3 and figures 2, 4 and 5 of Yang et al. 2025.

TRAINED = "Trained decoders"
COMPARED_RUNS = {
    name: TRAINING.list_runs(["zc", "true-zc"], own) for name, own in TRAINING.compared.items()
}
GALLERY_RUNS = TRAINING.list_runs(["zc"], TRAINING.methods)


rule tabulate_fcae:
    input:
        unpack(lambda w: plan.list_run_files(COMPARED_RUNS[w.table], "summaries", "tables")),
        weights=lambda wildcards: TRAINING.list_encoders(TRAINING.compared[wildcards.table]),
    output:
        table("fcae_{table}", caption="fcae_tables", label="trained decoders, {table}"),
    log:
        "logs/tabulate_fcae.{table}.log",
    conda:
        "../envs/torch.yaml"
    params:
        **choose("trained", "size"),
        **choose("evaluation", "bootstrap", "seed"),
        runs=lambda wildcards: COMPARED_RUNS[wildcards.table],
        methods=lambda wildcards: TRAINING.compared[wildcards.table],
        alignments=lambda w: TRAINING.list_alignments(TRAINING.compared[w.table]),
        presets=TRAINING.presets,
        dataset=config["dataset"],
        code=digest("workflow_scripts/tabulate_fcae.py"),
    script:
        "../workflow_scripts/tabulate_fcae.py"


rule plot_masked_responses:
    input:
        reconstructions="results/{subject}/trained/masked.h5",
        errors="results/{subject}/trained/masked.tsv",
    output:
        **figure("results/{subject}/figures/trained_masked", TRAINED, "masked responses"),
    log:
        "logs/{subject}/plot_masked_responses.log",
    conda:
        "../envs/analysis.yaml"
    params:
        **choose("evaluation", "nsd_ids"),
        encoder=list(TRAINING.encoders)[0],
        n_images=4,
        n_voxels=320,
        demo=DEMO,
        code=digest("workflow_scripts/plot_masked_responses.py"),
    script:
        "../workflow_scripts/plot_masked_responses.py"


use rule plot_fig3 as plot_trained_pictures with:
    input:
        **plan.list_run_files(TRAINING.drawn_runs, "reconstructions", "samples"),
        stimuli=RELEASE.locate_stimuli(),
        images="results/{subject}/images.tsv",
    output:
        **figure("results/{subject}/figures/trained_pictures", TRAINED, "reconstructions"),
    log:
        "logs/{subject}/plot_trained_pictures.log",
    params:
        methods=TRAINING.drawn,
        ranked_by=TRAINING.drawn[-1],
        words={"zc": "ridge"},


rule plot_trained_subjects:
    input:
        **plan.list_run_files(TRAINING.transferred_runs, "reconstructions", "samples"),
        stimuli=all_stimuli(),
        images=collect("results/{subject}/images.tsv", subject=SUBJECTS),
    output:
        **figure("results/figures/trained_subjects", TRAINED, "one subject and all"),
    log:
        "logs/plot_trained_subjects.log",
    conda:
        "../envs/analysis.yaml"
    params:
        subjects=SUBJECTS,
        methods=TRAINING.transferred,
        showing=SHOWING | {"shown_images": 4},
        adapters=TRAINING.adapts,
        demo=DEMO,
        code=digest("workflow_scripts/plot_trained_subjects.py"),
    script:
        "../workflow_scripts/plot_trained_subjects.py"


rule plot_training_curves:
    input:
        lambda wildcards: list(TRAINING.list_stages(wildcards.cohort).values()),
    output:
        **figure("results/{cohort}/figures/training_curves", TRAINED, "training curves", ["pdf"]),
    log:
        "logs/{cohort}/plot_training_curves.log",
    conda:
        "../envs/analysis.yaml"
    params:
        names=lambda wildcards: list(TRAINING.list_stages(wildcards.cohort)),
        demo=DEMO,
        code=digest("workflow_scripts/plot_training_curves.py"),
    script:
        "../workflow_scripts/plot_training_curves.py"


use rule write_gallery as write_trained_gallery with:
    input:
        **plan.list_run_files(GALLERY_RUNS, "reconstructions", "samples", "tables"),
        stimuli=all_stimuli(),
        captions=stored(RELEASE.list_captions()),
        images=collect("results/{subject}/images.tsv", subject=TRAINING.subjects),
    output:
        "results/report/trained_gallery.html",
    log:
        "logs/write_trained_gallery.log",
    params:
        runs=GALLERY_RUNS,
        subjects=TRAINING.subjects,
        methods=["zc", *TRAINING.methods],
