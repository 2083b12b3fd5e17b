# How well features are decoded with the first sessions, and with more of them.


rule fit_learning_curve:
    input:
        responses=DECODED["responses"],
        trials="results/{subject}/trials.tsv",
        images="results/{subject}/images.tsv",
        features=DECODED["features"],
    output:
        "results/{subject}/learning/predictions.h5",
    log:
        "logs/{subject}/fit_learning_curve.log",
    benchmark:
        "benchmarks/{subject}/fit_learning_curve.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(fit_memory("decoding"), 180, gpu=1),
    params:
        **choose("decoding", "alphas", "n_folds", "memory_gb", "seed"),
        points=config["decoding"]["learning_curve"],
        regions=TARGETS,
        device=DEVICE,
        code=digest("workflow_scripts/fit_learning_curve.py"),
    script:
        "../workflow_scripts/fit_learning_curve.py"


rule score_learning_curve:
    input:
        predictions="results/{subject}/learning/predictions.h5",
        features=DECODED["features"],
        images="results/{subject}/images.tsv",
        stimuli=RELEASE.locate_stimuli(),
        files=list_model(config),
    output:
        "results/{subject}/learning/scores.tsv",
    log:
        "logs/{subject}/score_learning_curve.log",
    conda:
        "../envs/torch.yaml"
    threads: THREADS
    resources:
        **needs(16000, 60, gpu=GPUS),
    params:
        **choose("evaluation", "bootstrap", "seed"),
        targets=list(TARGETS),
        model=MODEL,
        code=digest("workflow_scripts/score_learning_curve.py"),
    script:
        "../workflow_scripts/score_learning_curve.py"


rule tabulate_learning_curve:
    input:
        collect("results/{subject}/learning/scores.tsv", subject=SUBJECTS),
    output:
        table("learning_curve"),
    log:
        "logs/tabulate_learning_curve.log",
    conda:
        "../envs/analysis.yaml"
    params:
        subjects=SUBJECTS,
        demo=DEMO,
        code=digest("workflow_scripts/tabulate_learning_curve.py"),
    script:
        "../workflow_scripts/tabulate_learning_curve.py"


rule plot_learning_curve:
    input:
        "results/tables/learning_curve.tsv",
    output:
        **figure("results/figures/learning_curve", "Decoding", "learning curve"),
    log:
        "logs/plot_learning_curve.log",
    conda:
        "../envs/analysis.yaml"
    params:
        demo=DEMO,
        code=digest("workflow_scripts/plot_learning_curve.py"),
    script:
        "../workflow_scripts/plot_learning_curve.py"
