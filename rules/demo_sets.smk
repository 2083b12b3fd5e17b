# What the simulated release adds on request: sessions of other test sets, the objects in the images,
# and another version of the betas.

SET_BEHAVIOUR = [source(layout.IMAGERY_BEHAVIOUR, run=run) for run in layout.IMAGERY_RUNS]


rule simulate_shared_sets:
    input:
        design=source(layout.DESIGN),
        stim_info=source(layout.STIM_INFO),
    output:
        synthetic_design=source(layout.SYNTHETIC_DESIGN),
        information=source(layout.SYNTHETIC_INFORMATION),
        synthetic_stimuli=source(layout.SYNTHETIC_STIMULI),
        pairs=[source(layout.IMAGERY_PAIRS, set=name) for name in layout.IMAGERY_SETS],
        targets=RELEASE.list_imagery_targets(),
        instances=[source(layout.INSTANCES, split=split) for split in layout.COCO_SPLITS],
    log:
        "logs/demo/simulate_shared_sets.log",
    benchmark:
        "benchmarks/demo/simulate_shared_sets.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(4000, 15),
    params:
        **choose("demo", "seed", "sessions"),
        code=digest("workflow_scripts/simulate_shared_sets.py"),
    script:
        "../workflow_scripts/simulate_shared_sets.py"


rule simulate_sets:
    input:
        design=source(layout.DESIGN),
        stimuli=source(layout.STIMULI),
        synthetic_design=source(layout.SYNTHETIC_DESIGN),
        synthetic_stimuli=source(layout.SYNTHETIC_STIMULI),
        targets=RELEASE.list_imagery_targets(),
    output:
        colours=source(layout.SYNTHETIC_COLOURS),
        betas=[RELEASE.locate_session(session) for session in ("synthetic", "imagery")],
        behaviour=SET_BEHAVIOUR,
    log:
        "logs/{subject}/simulate_sets.log",
    benchmark:
        "benchmarks/{subject}/simulate_sets.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(4000, 15),
    params:
        **choose("demo", "seed", "sessions"),
        root=lambda wildcards: str(RELEASE.place.root),
        code=digest("workflow_scripts/simulate_sets.py"),
    script:
        "../workflow_scripts/simulate_sets.py"


rule simulate_other_betas:
    input:
        RELEASE.list_simulated_betas(),
    output:
        RELEASE.list_simulated_betas(layout.BETA_VERSIONS[1]),
    log:
        "logs/{subject}/simulate_other_betas.log",
    benchmark:
        "benchmarks/{subject}/simulate_other_betas.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(4000, 15),
    params:
        **choose("demo", "seed"),
        code=digest("workflow_scripts/simulate_other_betas.py"),
    script:
        "../workflow_scripts/simulate_other_betas.py"
