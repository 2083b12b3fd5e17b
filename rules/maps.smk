# Cortical maps of each subject, copies of the figure subject's maps, and the group figure.

from nsdldm.features.spaces import split_control

# The spaces of each figure; for figures 7 and 8, those paired with z in each row.
ROWS = {"fig6": SPACES.features, "feature_spaces": SPACES.added}
ROWS |= {"fig7": SPACES.drawn_levels, "fig8": SPACES.steps}
# Joint models in these two figures: the spaces paired with z, and the controls of each.
DRAWN = {
    figure: [f"z+{space}" for space in ROWS[figure]]
    + [f"z+{part}" for part in SPACES.parts if split_control(part)[0] in ROWS[figure]]
    for figure in ("fig7", "fig8")
}


rule plot_fig6:
    input:
        maps=collect(
            "results/{{subject}}/encoding/{feature}.nii.gz",
            feature=lookup("{figure}", within=ROWS),
        ),
        tables=collect(
            "results/{{subject}}/encoding/{feature}.tsv",
            feature=lookup("{figure}", within=ROWS),
        ),
        masks=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"]),
        transforms=stored(RELEASE.list_transforms()),
        surfaces=stored(RELEASE.list_surfaces()),
    output:
        png=report(
            "results/{subject}/figures/{figure}.png",
            caption="../report/fig6.rst",
            category="Encoding",
            labels={"figure": "{figure}", "subject": "{subject}"},
        ),
        pdf="results/{subject}/figures/{figure}.pdf",
        html="results/{subject}/figures/{figure}.html",
        tsv="results/{subject}/figures/{figure}.tsv",
    log:
        "logs/{subject}/plot_fig6.{figure}.log",
    wildcard_constraints:
        figure="fig6|feature_spaces" if SPACES.added else "fig6",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        heading=branch(
            lookup("{figure}", within={name: name == "fig6" for name in ROWS}),
            then="Figure 6",
            otherwise="Feature spaces",
        ),
        features=lookup("{figure}", within=ROWS),
        rois=list(config["rois"]),
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_fig6.py"),
    script:
        "../workflow_scripts/plot_fig6.py"


rule decode_strip:
    input:
        images="results/{subject}/images.tsv",
        features=collect(
            "results/{{subject}}/features/{space}.npy",
            space=lookup("{figure}", within=ROWS),
        ),
        model=list_model(config),
    output:
        "results/{subject}/strips/{figure}.npy",
    log:
        "logs/{subject}/decode_strip.{figure}.log",
    wildcard_constraints:
        figure="fig[78]",
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(15),
    params:
        model=MODEL,
        n_images=3,
        code=digest("workflow_scripts/decode_strip.py"),
    script:
        "../workflow_scripts/decode_strip.py"


rule plot_unique_variance:
    input:
        tables=collect(
            "results/{{subject}}/encoding/{pair}.tsv",
            pair=lookup("{figure}", within=DRAWN),
        ),
        pictures="results/{subject}/strips/{figure}.npy",
        masks=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"]),
        transforms=stored(RELEASE.list_transforms()),
        surfaces=stored(RELEASE.list_surfaces()),
    output:
        png=report(
            "results/{subject}/figures/{figure}.png",
            caption="../report/unique_variance.rst",
            category="Encoding",
            labels={"figure": "{figure}", "subject": "{subject}"},
        ),
        pdf="results/{subject}/figures/{figure}.pdf",
        html="results/{subject}/figures/{figure}.html",
        tsv="results/{subject}/figures/{figure}.tsv",
    log:
        "logs/{subject}/plot_unique_variance.{figure}.log",
    wildcard_constraints:
        figure="fig[78]",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **choose("encoding", "drawn"),
        pairs=lookup("{figure}", within=DRAWN),
        rois=list(config["rois"]),
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_unique_variance.py"),
    script:
        "../workflow_scripts/plot_unique_variance.py"


rule plot_fig9:
    input:
        tables=collect(
            "results/{{subject}}/encoding/blocks-{step}.tsv", step=SPACES.step_names
        ),
        errors=collect(
            "results/{{subject}}/encoding/blocks-{step}-errors.tsv",
            step=SPACES.step_names,
        ),
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
        blocks=list(config["trajectories"]["blocks"]),
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
        # Of the variants, only other kinds of noise are drawn; other seeds are in the table.
        left_out=[
            name
            for name, own in config["trajectories"]["variants"].items()
            if "noise" not in own
        ],
        demo=config["dataset"] == "demo",
        code=digest("workflow_scripts/plot_group.py"),
    script:
        "../workflow_scripts/plot_group.py"


rule publish_figure:
    input:
        collect(
            "results/{subject}/figures/{{figure}}.{suffix}",
            subject=config["figure_subject"],
            suffix=[*FORMATS, "tsv"],
        ),
    output:
        collect("results/figures/{{figure}}.{suffix}", suffix=[*FORMATS, "tsv"]),
    log:
        "logs/publish_figure.{figure}.log",
    wildcard_constraints:
        figure="fig[36789]",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=digest("workflow_scripts/publish_figure.py"),
    script:
        "../workflow_scripts/publish_figure.py"


# Interactive maps.
use rule publish_figure as publish_page with:
    input:
        f"results/{config['figure_subject']}/figures/{{figure}}.html",
    output:
        "results/figures/{figure}.html",
    log:
        "logs/publish_page.{figure}.log",
    wildcard_constraints:
        figure="fig[6789]",
    localrule: True
