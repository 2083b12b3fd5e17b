# How similar reconstructions are to the images shown.


rule average_pictures:
    input:
        images="results/{subject}/images.tsv",
        stimuli=RELEASE.locate_stimuli(),
    output:
        "results/{subject}/mean_picture.npy",
    log:
        "logs/{subject}/average_pictures.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=digest("workflow_scripts/average_pictures.py"),
    script:
        "../workflow_scripts/average_pictures.py"


rule evaluate_reconstructions:
    input:
        reconstructions="results/{subject}/{protocol}/reconstructions/{method}.h5",
        images="results/{subject}/images.tsv",
        stimuli=RELEASE.locate_stimuli(),
        mean_picture="results/{subject}/mean_picture.npy",
        networks=list_judges(config),
    output:
        table="results/{subject}/{protocol}/evaluation/{method}.tsv",
        samples="results/{subject}/{protocol}/evaluation/{method}_samples.tsv",
        summary="results/{subject}/{protocol}/evaluation/{method}_summary.tsv",
    log:
        "logs/{subject}/evaluate_reconstructions.{protocol}.{method}.log",
    benchmark:
        "benchmarks/{subject}/evaluate_reconstructions.{protocol}.{method}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: THREADS
    resources:
        **needs(16000, 30, gpu=GPUS),
    params:
        **choose("model", "batch_size"),
        comparison=choose("evaluation", "networks", "n_way", "bootstrap", "seed"),
        device=DEVICE,
        code=digest("workflow_scripts/evaluate_reconstructions.py"),
    script:
        "../workflow_scripts/evaluate_reconstructions.py"


rule tabulate_metrics:
    input:
        **plan.list_run_files(RUNS, "summaries", "tables"),
    output:
        table("metrics"),
    log:
        "logs/tabulate_metrics.log",
    conda:
        "../envs/analysis.yaml"
    params:
        **choose("evaluation", "bootstrap", "seed"),
        runs=RUNS,
        dataset=config["dataset"],
        code=digest("workflow_scripts/tabulate_metrics.py"),
    script:
        "../workflow_scripts/tabulate_metrics.py"
