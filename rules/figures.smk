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
