# The responses of a region, standardised and averaged once, that models are fitted to and tested
# on.


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
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(4000, 60),
    params:
        forms=lambda wildcards: plan.list_forms(config, wildcards.roi),
        code=digest("workflow_scripts/prepare_responses.py"),
    script:
        "../workflow_scripts/prepare_responses.py"
