# Pictures from decoded features, in chunks that a cluster computes in parallel.

PICTURES = choose(
    *("reconstruction", "resolution", "samples", "num_inference_steps", "strength"),
    *("guidance_scale", "scheduler", "seed", "compile"),
)


rule reconstruct_images:
    input:
        images="results/{subject}/images.tsv",
        z=lambda wildcards: plan.find_taken("z", wildcards.method),
        c=lambda wildcards: plan.find_taken("c", wildcards.method),
        files=list_model(config),
    output:
        temp("results/{subject}/{protocol}/reconstructions/{method}.{chunk}.h5"),
    log:
        "logs/{subject}/reconstruct_images.{protocol}.{method}.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/reconstruct_images.{protocol}.{method}.{chunk}.tsv"
    wildcard_constraints:
        protocol=RIDGE,
        method="|".join(config["reconstruction"]["methods"]),
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(16000, 120, gpu=1),
    params:
        model=MODEL,
        latent_resolution=config["model"]["resolution"],
        settings=PICTURES,
        n_chunks=config["reconstruction"]["chunks"],
        true=False,
        code=digest("workflow_scripts/reconstruct_images.py"),
    script:
        "../workflow_scripts/reconstruct_images.py"


rule gather_reconstructions:
    input:
        images="results/{subject}/images.tsv",
        chunks=lambda wildcards: collect(
            plan.find_chunks(config, **wildcards), chunk=range(config["reconstruction"]["chunks"])
        ),
    output:
        "results/{subject}/{protocol}/reconstructions/{method}.h5",
    log:
        "logs/{subject}/gather_reconstructions.{protocol}.{method}.log",
    conda:
        "../envs/torch.yaml"
    resources:
        **needs(4000, 30),
    params:
        code=digest("workflow_scripts/gather_reconstructions.py"),
    script:
        "../workflow_scripts/gather_reconstructions.py"
