# Cortical maps of each subject, copies of the figure subject's maps, and the group figure.

# What all maps are drawn with.
SURFACES = {
    "masks": collect("results/{{subject}}/masks/{roi}.nii.gz", roi=ROIS),
    "transforms": stored(RELEASE.list_transforms()),
    "surfaces": stored(RELEASE.list_surfaces()),
}
# Figures of maps; their old pages lead to the one with all maps.
MAPPED = ("fig6", "fig7", "fig8", "fig9")
PUBLISHED = {name: ("png", "pdf", "tsv") for name in ("fig3", *MAPPED)}


rule plot_fig6:
    input:
        **SURFACES,
        maps=of_each("results/{subject}/encoding/{space}.nii.gz", SPACES.rows),
        tables=of_each("results/{subject}/encoding/{space}.tsv", SPACES.rows),
    output:
        **figure("results/{subject}/figures/{figure}", "Encoding", "{figure}", caption="fig6"),
    log:
        "logs/{subject}/plot_fig6.{figure}.log",
    wildcard_constraints:
        figure="fig6|feature_spaces" if SPACES.added else "fig6",
    conda:
        "../envs/analysis.yaml"
    params:
        features=lambda wildcards: SPACES.rows[wildcards.figure],
        rois=ROIS,
        demo=DEMO,
        code=digest("workflow_scripts/plot_fig6.py"),
    script:
        "../workflow_scripts/plot_fig6.py"


rule decode_strip:
    input:
        images="results/{subject}/images.tsv",
        features=collect(
            "results/{{subject}}/features/{space}.npy",
            space=map(SPACES.find_computed, SPACES.levels + SPACES.steps),
        ),
        model=list_model(config),
    output:
        collect("results/{{subject}}/strips/{space}.npy", space=SPACES.levels + SPACES.steps),
    log:
        "logs/{subject}/decode_strip.log",
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(8000, 15, gpu=1),
    params:
        spaces=SPACES.levels + SPACES.steps,
        model=MODEL,
        n_images=3,
        code=digest("workflow_scripts/decode_strip.py"),
    script:
        "../workflow_scripts/decode_strip.py"


rule plot_unique_variance:
    input:
        **SURFACES,
        tables=of_each("results/{subject}/encoding/z+{space}.tsv", SPACES.pairs),
        pictures=of_each("results/{subject}/strips/{space}.npy", SPACES.rows),
    output:
        **figure("results/{subject}/figures/{figure}", "Encoding", "{figure}", caption="fig7"),
    log:
        "logs/{subject}/plot_unique_variance.{figure}.log",
    wildcard_constraints:
        figure="fig[78]",
    conda:
        "../envs/analysis.yaml"
    params:
        **choose("encoding", "drawn"),
        spaces=lambda wildcards: SPACES.pairs[wildcards.figure],
        rois=ROIS,
        demo=DEMO,
        code=digest("workflow_scripts/plot_unique_variance.py"),
    script:
        "../workflow_scripts/plot_unique_variance.py"


rule plot_fig9:
    input:
        **SURFACES,
        tables=collect("results/{{subject}}/encoding/blocks-{step}.tsv", step=SPACES.step_names),
        errors=collect(
            "results/{{subject}}/encoding/blocks-{step}-errors.tsv", step=SPACES.step_names
        ),
    output:
        **figure("results/{subject}/figures/fig9", "Encoding", "9"),
    log:
        "logs/{subject}/plot_fig9.log",
    conda:
        "../envs/analysis.yaml"
    params:
        **choose("encoding", "bootstrap", "seed"),
        blocks=list(config["trajectories"]["blocks"]),
        shares=config["trajectories"]["step_shares"],
        rois=ROIS,
        demo=DEMO,
        code=digest("workflow_scripts/plot_fig9.py"),
    script:
        "../workflow_scripts/plot_fig9.py"


rule write_cortex_page:
    input:
        maps="results/{subject}/maps",
        surfaces=stored(RELEASE.list_surfaces()),
    output:
        page="results/{subject}/report/cortex.html",
        redirects=collect("results/{{subject}}/figures/{name}.html", name=MAPPED),
    log:
        "logs/{subject}/write_cortex_page.log",
    conda:
        "../envs/analysis.yaml"
    params:
        spaces={
            "fig6": SPACES.features,
            "added": SPACES.added,
            "fig7": SPACES.levels,
            "fig8": SPACES.steps + SPACES.variants,
            "fig9": [f"blocks-{step}" for step in SPACES.step_names],
            "layers": [f"layers-{network}" for network in SPACES.networks],
        },
        demo=DEMO,
        # By content, as in write_gallery.
        template=[
            digest_file(f"nsdldm/plots/page_files/{name}")
            for name in ("page.html", "page.js", "three.min.js")
        ],
        code=digest("workflow_scripts/write_cortex_page.py"),
    script:
        "../workflow_scripts/write_cortex_page.py"


rule redirect_pages:
    input:
        collect("results/{subject}/report/cortex.html", subject=config["figure_subject"]),
    output:
        collect("results/figures/{name}.html", name=MAPPED),
    log:
        "logs/redirect_pages.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        subject=config["figure_subject"],
        code=digest("workflow_scripts/redirect_pages.py"),
    script:
        "../workflow_scripts/redirect_pages.py"


rule plot_group:
    input:
        "results/tables/group.tsv",
    output:
        **figure("results/figures/group", "Group", "group"),
    log:
        "logs/plot_group.log",
    conda:
        "../envs/analysis.yaml"
    params:
        # Of the variants, only other kinds of noise are drawn; other seeds are in the table.
        left_out=[
            name for name, own in config["trajectories"]["variants"].items() if "noise" not in own
        ],
        demo=DEMO,
        code=digest("workflow_scripts/plot_group.py"),
    script:
        "../workflow_scripts/plot_group.py"


for drawn, suffixes in PUBLISHED.items():

    rule:
        name:
            f"publish_figure_{drawn}"
        input:
            collect(
                "results/{subject}/figures/{figure}.{suffix}",
                subject=config["figure_subject"],
                figure=drawn,
                suffix=suffixes,
            ),
        output:
            collect("results/figures/{figure}.{suffix}", figure=drawn, suffix=suffixes),
        log:
            f"logs/publish_figure_{drawn}.log",
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            code=digest("workflow_scripts/publish_figure.py"),
        script:
            "../workflow_scripts/publish_figure.py"
