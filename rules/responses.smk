# The responses of a region, standardised and averaged once, that models are fitted to and tested
# on.

# Forms of the training responses that a region's readers need (see nsdldm/responses.py): both kinds
# of rows for all decoders, so that one can change without affecting the others.
ENCODED_FORM = (
    f"{'zscored' if config['encoding']['zscore'] else 'centred'}/"
    f"{config['encoding']['train_on']}"
)
FORMS = {roi: set() for roi in config["matrices"]}
FORMS["cortex"].add(ENCODED_FORM)
for roi in {*DECODED_ROIS, *config["trained"]["regions"]}:
    FORMS[roi] |= {"zscored/averages", "zscored/trials"}
for roi in DECODED_ROIS:
    FORMS[roi].add("scaled/trials")


rule prepare_responses:
    input:
        betas="results/{subject}/betas/{roi}.npy",
        trials="results/{subject}/trials.tsv",
        images="results/{subject}/images.tsv",
    output:
        "results/{subject}/responses/{roi}.h5",
    log:
        "logs/{subject}/prepare_responses.{roi}.log",
    benchmark:
        "benchmarks/{subject}/prepare_responses.{roi}.tsv"
    wildcard_constraints:
        roi="|".join(config["matrices"]),
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        forms=lambda wildcards: sorted(FORMS[wildcards.roi]),
        code=digest("workflow_scripts/prepare_responses.py"),
    script:
        "../workflow_scripts/prepare_responses.py"
