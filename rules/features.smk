# Feature spaces of the images a subject saw: z, c and z_c, latents and U-Net activations along the
# reverse process, and user-defined spaces.


rule encode_latents:
    input:
        images="results/{subject}/images.tsv",
        stimuli=RELEASE.locate_stimuli(),
        files=list_model(config),
    output:
        z="results/{subject}/features/z.npy",
        z_logvar="results/{subject}/features/z_logvar.npy",
    log:
        "logs/{subject}/encode_latents.log",
    benchmark:
        "benchmarks/{subject}/encode_latents.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(16000, 60, gpu=1),
    params:
        **choose("model", "resolution"),
        model=MODEL,
        code=digest("workflow_scripts/encode_latents.py"),
    script:
        "../workflow_scripts/encode_latents.py"


rule embed_captions:
    input:
        images="results/{subject}/images.tsv",
        captions=stored(RELEASE.list_captions()),
        files=list_model(config),
    output:
        c="results/{subject}/features/c.npy",
    log:
        "logs/{subject}/embed_captions.log",
    benchmark:
        "benchmarks/{subject}/embed_captions.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(16000, 60, gpu=1),
    params:
        model=MODEL,
        code=digest("workflow_scripts/embed_captions.py"),
    script:
        "../workflow_scripts/embed_captions.py"


rule denoise_latents:
    input:
        images="results/{subject}/images.tsv",
        z="results/{subject}/features/z.npy",
        c="results/{subject}/features/c.npy",
        files=list_model(config),
    output:
        collect("results/{{subject}}/features/{space}.npy", space=SPACES.chain),
    log:
        "logs/{subject}/denoise_latents.log",
    benchmark:
        "benchmarks/{subject}/denoise_latents.tsv"
    priority: 1  # the longest chain
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(16000, 180, gpu=1),
    params:
        spaces=SPACES.chain,
        model=MODEL,
        denoising=config["denoising"],
        trajectories=choose("trajectories", "step_shares", "latent"),
        text="own",
        n_chunks=1,
        code=digest("workflow_scripts/denoise_latents.py"),
    script:
        "../workflow_scripts/denoise_latents.py"


use rule denoise_latents as collect_levels with:
    output:
        temp(plan.list_parts(SPACES.noised)),
    log:
        "logs/{subject}/collect_levels.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/collect_levels.{chunk}.tsv"
    params:
        spaces=SPACES.noised,
        trajectories=choose("trajectories", "step_shares", "latent", "noise_levels"),
        n_chunks=config["trajectories"]["chunks"],


use rule collect_levels as collect_variants with:
    output:
        temp(plan.list_parts(SPACES.steps, "-{variant}")),
    log:
        "logs/{subject}/collect_variants.{variant}.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/collect_variants.{variant}.{chunk}.tsv"
    params:
        spaces=SPACES.steps,
        denoising=lambda wildcards: plan.find_chain(config, wildcards.variant)[0],
        text=lambda wildcards: plan.find_chain(config, wildcards.variant)[1],


use rule collect_levels as collect_controls with:
    output:
        temp(plan.list_parts(SPACES.latents, "-{control}")),
    log:
        "logs/{subject}/collect_controls.{control}.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/collect_controls.{control}.{chunk}.tsv"
    params:
        spaces=SPACES.latents,
        text="{control}",


rule collect_activations:
    input:
        images="results/{subject}/images.tsv",
        before=collect("results/{{subject}}/features/{space}.npy", space=SPACES.starts),
        c="results/{subject}/features/c.npy",
        files=list_model(config),
    output:
        temp(plan.list_parts(SPACES.blocks)),
    log:
        "logs/{subject}/collect_activations.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/collect_activations.{chunk}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(16000, 60, gpu=1),
    params:
        spaces=SPACES.blocks,
        starts=SPACES.starts,
        model=MODEL,
        denoising=config["denoising"],
        activations=choose("trajectories", "step_shares", "blocks", "reduction", "width"),
        n_chunks=config["trajectories"]["chunks"],
        code=digest("workflow_scripts/collect_activations.py"),
    script:
        "../workflow_scripts/collect_activations.py"


for family, spaces in SPACES.gathered.items():

    rule:
        name:
            f"gather_features_{family}"
        input:
            images="results/{subject}/images.tsv",
            chunks=plan.list_chunks(config, spaces),
        output:
            collect("results/{{subject}}/features/{space}.npy", space=spaces),
        log:
            f"logs/{{subject}}/gather_features_{family}.log",
        priority: 1
        conda:
            "../envs/torch.yaml"
        resources:
            **needs(4000, 60),
        params:
            spaces=spaces,
            code=digest("workflow_scripts/gather_features.py"),
        script:
            "../workflow_scripts/gather_features.py"


# Activations are never gathered; only their Gram matrices are kept.
rule compute_grams:
    input:
        images="results/{subject}/images.tsv",
        chunks=plan.list_chunks(config, SPACES.blocks),
    output:
        collect("results/{{subject}}/grams/{space}.npy", space=SPACES.blocks),
    log:
        "logs/{subject}/compute_grams.log",
    benchmark:
        "benchmarks/{subject}/compute_grams.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(16000, 30, gpu=1),
    params:
        spaces=SPACES.blocks,
        device=DEVICE,
        code=digest("workflow_scripts/compute_grams.py"),
    script:
        "../workflow_scripts/compute_grams.py"


rule compute_features:
    input:
        images="results/{subject}/images.tsv",
        stimuli=RELEASE.locate_stimuli(),
        captions=stored(RELEASE.list_captions()),
        weights=lambda wildcards: list_space(config, wildcards.space),
    output:
        "results/{subject}/features/{space}.npy",
    log:
        "logs/{subject}/compute_features.{space}.log",
    benchmark:
        "benchmarks/{subject}/compute_features.{space}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(16000, 120, gpu=1),
    params:
        **choose("model", "batch_size"),
        function=lookup("feature_spaces/{space}/function", within=config),
        settings=lookup("feature_spaces/{space}/settings", within=config),
        device=DEVICE,
        function_code=lambda wildcards: digest_function(
            config["feature_spaces"][wildcards.space]["function"]
        ),
        code=digest("workflow_scripts/compute_features.py"),
    script:
        "../workflow_scripts/compute_features.py"
