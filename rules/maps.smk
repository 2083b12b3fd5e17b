# Cortical maps of each subject, the configured subject's as the project's, and the group's figure.


rule plot_fig6:
    input:
        maps=collect("results/{{subject}}/encoding/{feature}.nii.gz", feature=FEATURES),
        tables=collect("results/{{subject}}/encoding/{feature}.tsv", feature=FEATURES),
        masks=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"]),
        transforms=stored(RELEASE.list_transforms()),
        surfaces=stored(RELEASE.list_surfaces()),
    output:
        png=report(
            "results/{subject}/figures/fig6.png",
            caption="../report/fig6.rst",
            category="Encoding",
            labels={"figure": "6", "subject": "{subject}"},
        ),
        pdf="results/{subject}/figures/fig6.pdf",
        html="results/{subject}/figures/fig6.html",
        tsv="results/{subject}/figures/fig6.tsv",
    log:
        "logs/{subject}/plot_fig6.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        heading="Figure 6",
        features=FEATURES,
        rois=list(config["rois"]),
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_fig6.py"),
    script:
        "../workflow_scripts/plot_fig6.py"


if ADDED:

    use rule plot_fig6 as plot_more_encoders with:
        input:
            maps=collect("results/{{subject}}/encoding/{feature}.nii.gz", feature=ADDED),
            tables=collect("results/{{subject}}/encoding/{feature}.tsv", feature=ADDED),
            masks=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"]),
            transforms=stored(RELEASE.list_transforms()),
            surfaces=stored(RELEASE.list_surfaces()),
        output:
            png=report(
                "results/{subject}/figures/feature_spaces.png",
                caption="../report/feature_spaces.rst",
                category="Encoding",
                labels={"figure": "feature spaces", "subject": "{subject}"},
            ),
            pdf="results/{subject}/figures/feature_spaces.pdf",
            html="results/{subject}/figures/feature_spaces.html",
            tsv="results/{subject}/figures/feature_spaces.tsv",
        log:
            "logs/{subject}/plot_more_encoders.log",
        params:
            heading="Feature spaces",
            features=ADDED,


rule decode_strip:
    input:
        images="results/{subject}/images.tsv",
        features=strip_features,
        model=list_model(config),
    output:
        "results/{subject}/strips/{figure}.npy",
    log:
        "logs/{subject}/decode_strip.{figure}.log",
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(15),
    params:
        model=model_path,
        revision=lookup("model/revision", within=config),
        device=DEVICE,
        dtype=lookup("model/dtype", within=config),
        n_images=3,
        code=digest("workflow_scripts/decode_strip.py"),
    script:
        "../workflow_scripts/decode_strip.py"


rule plot_fig7:
    input:
        tables=collect(
            "results/{{subject}}/encoding/{pair}.tsv", pair=with_controls(DRAWN_LEVELS)
        ),
        pictures="results/{subject}/strips/fig7.npy",
        masks=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"]),
        transforms=stored(RELEASE.list_transforms()),
        surfaces=stored(RELEASE.list_surfaces()),
    output:
        png=report(
            "results/{subject}/figures/fig7.png",
            caption="../report/fig7.rst",
            category="Encoding",
            labels={"figure": "7", "subject": "{subject}"},
        ),
        pdf="results/{subject}/figures/fig7.pdf",
        html="results/{subject}/figures/fig7.html",
        tsv="results/{subject}/figures/fig7.tsv",
    log:
        "logs/{subject}/plot_fig7.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        figure=7,
        pairs=with_controls(DRAWN_LEVELS),
        drawn=lookup("encoding/drawn", within=config),
        rois=list(config["rois"]),
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_fig7.py"),
    script:
        "../workflow_scripts/plot_fig7.py"


use rule plot_fig7 as plot_fig8 with:
    input:
        tables=collect(
            "results/{{subject}}/encoding/{pair}.tsv", pair=with_controls(STEP_SPACES)
        ),
        pictures="results/{subject}/strips/fig8.npy",
        masks=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"]),
        transforms=stored(RELEASE.list_transforms()),
        surfaces=stored(RELEASE.list_surfaces()),
    output:
        png=report(
            "results/{subject}/figures/fig8.png",
            caption="../report/fig8.rst",
            category="Encoding",
            labels={"figure": "8", "subject": "{subject}"},
        ),
        pdf="results/{subject}/figures/fig8.pdf",
        html="results/{subject}/figures/fig8.html",
        tsv="results/{subject}/figures/fig8.tsv",
    log:
        "logs/{subject}/plot_fig8.log",
    params:
        figure=8,
        pairs=with_controls(STEP_SPACES),


rule plot_fig9:
    input:
        tables=collect(
            "results/{{subject}}/encoding/blocks-{step}.tsv", step=STEP_NAMES
        ),
        errors=collect(
            "results/{{subject}}/encoding/blocks-{step}-errors.npy", step=STEP_NAMES
        ),
        images="results/{subject}/images.tsv",
        masks=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"]),
        transforms=stored(RELEASE.list_transforms()),
        surfaces=stored(RELEASE.list_surfaces()),
    output:
        png=report(
            "results/{subject}/figures/fig9.png",
            caption="../report/fig9.rst",
            category="Encoding",
            labels={"figure": "9", "subject": "{subject}"},
        ),
        pdf="results/{subject}/figures/fig9.pdf",
        html="results/{subject}/figures/fig9.html",
        tsv="results/{subject}/figures/fig9.tsv",
    log:
        "logs/{subject}/plot_fig9.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        blocks=BLOCKS,
        shares=lookup("trajectories/step_shares", within=config),
        rois=list(config["rois"]),
        repeats=lookup("encoding/bootstrap", within=config),
        seed=lookup("encoding/seed", within=config),
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_fig9.py"),
    script:
        "../workflow_scripts/plot_fig9.py"


rule plot_group:
    input:
        "results/tables/group.tsv",
    output:
        png=report(
            "results/figures/group.png",
            caption="../report/group.rst",
            category="Group",
            labels={"figure": "group", "subject": "all"},
        ),
        pdf="results/figures/group.pdf",
        tsv="results/figures/group.tsv",
    log:
        "logs/plot_group.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        # Of the variants only other kinds of noise are drawn; other seeds are in the table.
        left_out=[name for name in VARIANTS if "noise" not in VARIANTS[name]],
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_group.py"),
    script:
        "../workflow_scripts/plot_group.py"


rule publish_fig6:
    input:
        collect(
            "results/{subject}/figures/fig6.{suffix}",
            subject=config["figure_subject"],
            suffix=[*FORMATS, "html", "tsv"],
        ),
    output:
        collect("results/figures/fig6.{suffix}", suffix=[*FORMATS, "html", "tsv"]),
    log:
        "logs/publish_fig6.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=digest("workflow_scripts/publish_fig6.py"),
    script:
        "../workflow_scripts/publish_fig6.py"


use rule publish_fig6 as publish_fig7 with:
    input:
        collect(
            "results/{subject}/figures/fig7.{suffix}",
            subject=config["figure_subject"],
            suffix=[*FORMATS, "html", "tsv"],
        ),
    output:
        collect("results/figures/fig7.{suffix}", suffix=[*FORMATS, "html", "tsv"]),
    log:
        "logs/publish_fig7.log",
    localrule: True


use rule publish_fig6 as publish_fig8 with:
    input:
        collect(
            "results/{subject}/figures/fig8.{suffix}",
            subject=config["figure_subject"],
            suffix=[*FORMATS, "html", "tsv"],
        ),
    output:
        collect("results/figures/fig8.{suffix}", suffix=[*FORMATS, "html", "tsv"]),
    log:
        "logs/publish_fig8.log",
    localrule: True


use rule publish_fig6 as publish_fig9 with:
    input:
        collect(
            "results/{subject}/figures/fig9.{suffix}",
            subject=config["figure_subject"],
            suffix=[*FORMATS, "html", "tsv"],
        ),
    output:
        collect("results/figures/fig9.{suffix}", suffix=[*FORMATS, "html", "tsv"]),
    log:
        "logs/publish_fig9.log",
    localrule: True
