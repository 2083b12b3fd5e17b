# Other test sets: NSD-synthetic and NSD-Imagery, one session of each subject, on request.


rule extract_session:
    input:
        checked="results/{subject}/release.tsv",
        betas=lambda w: stored([RELEASE.locate_session(w.session)], retrieve=False),
        masks=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["matrices"]),
    output:
        collect("results/{{subject}}/sessions/{{session}}/{roi}.npy", roi=config["matrices"]),
    log:
        "logs/{subject}/extract_session.{session}.log",
    benchmark:
        "benchmarks/{subject}/extract_session.{session}.tsv"
    wildcard_constraints:
        session=any_of(SETS),
    conda:
        "../envs/analysis.yaml"
    threads: 2
    resources:
        **needs(4000, 60),
    params:
        partial="results/{subject}/partial/{session}",
        n_trials=lambda wildcards: SETS[wildcards.session],
        rois=config["matrices"],
        storage=RELEASE.storage,
        code=digest("workflow_scripts/extract_session.py"),
    script:
        "../workflow_scripts/extract_session.py"


# The same sessions in another version of the betas.
use rule extract_betas as extract_other_betas with:
    input:
        checked="results/{subject}/release.tsv",
        betas=lambda w: stored(RELEASE.list_betas(w.subject, CASES.betas), retrieve=False),
        masks=collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["matrices"]),
    output:
        collect("results/{{subject}}/sessions/betas/{roi}.npy", roi=config["matrices"]),
    log:
        "logs/{subject}/extract_other_betas.log",
    benchmark:
        "benchmarks/{subject}/extract_other_betas.tsv"
    params:
        partial="results/{subject}/partial/other_betas",


rule prepare_synthetic:
    input:
        design=source(layout.SYNTHETIC_DESIGN),
        information=source(layout.SYNTHETIC_INFORMATION),
        stimuli=source(layout.SYNTHETIC_STIMULI),
        colours=source(layout.SYNTHETIC_COLOURS),
    output:
        trials="results/{subject}/cases/synthetic/trials.tsv",
        images="results/{subject}/cases/synthetic/images.tsv",
        pictures="results/{subject}/cases/synthetic/pictures.hdf5",
    log:
        "logs/{subject}/prepare_synthetic.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(4000, 30),
    params:
        code=digest("workflow_scripts/prepare_synthetic.py"),
    script:
        "../workflow_scripts/prepare_synthetic.py"


# Which trial each beta is of.
IMAGERY = {
    "behaviour": [source(layout.IMAGERY_BEHAVIOUR, run=run) for run in layout.IMAGERY_RUNS],
    "pairs": [source(layout.IMAGERY_PAIRS, set=name) for name in layout.IMAGERY_SETS],
}


rule check_imagery_order:
    input:
        **IMAGERY,
        betas=f"results/{{subject}}/sessions/imagery/{config['decoding']['targets'].get('z', 'cortex')}.npy",
    output:
        "results/{subject}/cases/imagery_order.tsv",
    log:
        "logs/{subject}/check_imagery_order.log",
    conda:
        "../envs/analysis.yaml"
    params:
        order=config["nsd"]["imagery_order"],
        code=digest("workflow_scripts/check_imagery_order.py"),
    script:
        "../workflow_scripts/check_imagery_order.py"


rule prepare_imagery:
    input:
        **IMAGERY,
        checked="results/{subject}/cases/imagery_order.tsv",
        targets=stored(RELEASE.list_imagery_targets()),
        design=branch(
            config["nsd"]["imagery_order"] == "by-condition", then=source(layout.IMAGERY_DESIGN)
        ),
    output:
        trials=f"{CASE}/trials.tsv",
        images=f"{CASE}/images.tsv",
        pictures=f"{CASE}/pictures.hdf5",
    log:
        "logs/{subject}/prepare_imagery.{case}.log",
    wildcard_constraints:
        case="|".join(layout.TASKS),
    conda:
        "../envs/analysis.yaml"
    params:
        order=config["nsd"]["imagery_order"],
        code=digest("workflow_scripts/prepare_imagery.py"),
    script:
        "../workflow_scripts/prepare_imagery.py"


use rule encode_latents as encode_case_latents with:
    input:
        images=f"{CASE}/images.tsv",
        stimuli=f"{CASE}/pictures.hdf5",
        files=list_model(config),
    output:
        z=f"{CASE}/features/z.npy",
        z_logvar=f"{CASE}/features/z_logvar.npy",
    log:
        "logs/{subject}/encode_case_latents.{case}.log",
    benchmark:
        "benchmarks/{subject}/encode_case_latents.{case}.tsv"
    wildcard_constraints:
        case=any_of(CASES.sets),


use rule compute_features as compute_case_features with:
    input:
        images=f"{CASE}/images.tsv",
        stimuli=f"{CASE}/pictures.hdf5",
        captions=[],
        weights=lambda wildcards: list_space(config, wildcards.space),
    output:
        f"{CASE}/features/{{space}}.npy",
    log:
        "logs/{subject}/compute_case_features.{case}.{space}.log",
    benchmark:
        "benchmarks/{subject}/compute_case_features.{case}.{space}.tsv"
    wildcard_constraints:
        case=any_of(CASES.sets),
