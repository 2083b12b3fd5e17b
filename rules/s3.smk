# A release in a bucket. Small files are fetched by the storage plugin when jobs need them; sessions
# of betas are fetched one by one as they are masked; pictures as far as a subject saw them.

import botocore


# The command line only takes names of signatures, none of which means unsigned.
storage nsd:
    provider="s3",
    endpoint_url=config["nsd"]["endpoint"],
    signature_version=None if config["nsd"]["signed"] else botocore.UNSIGNED,
    keep_local=False,


rule fetch_stimuli:
    input:
        checked="results/{subject}/release.tsv",
        images="results/{subject}/images.tsv",
        stimuli=large_source(layout.STIMULI),
    output:
        "results/{subject}/stimuli.hdf5",
    log:
        "logs/{subject}/fetch_stimuli.log",
    benchmark:
        "benchmarks/{subject}/fetch_stimuli.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(2000, 240),
    params:
        partial="results/{subject}/partial/stimuli",
        storage=RELEASE.storage,
        code=digest("workflow_scripts/fetch_stimuli.py"),
    script:
        "../workflow_scripts/fetch_stimuli.py"
