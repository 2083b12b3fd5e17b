# Feature spaces of the images a subject saw: z, c and z_c, latents and U-Net activations along the
# reverse process, and what the configuration adds.


rule encode_latents:
    input:
        images="results/{subject}/images.tsv",
        stimuli=RELEASE.locate_stimuli(),
        model=list_model(config),
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
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(60),
    params:
        model=model_path,
        revision=lookup("model/revision", within=config),
        device=DEVICE,
        dtype=lookup("model/dtype", within=config),
        batch_size=lookup("model/batch_size", within=config),
        resolution=lookup("model/resolution", within=config),
        code=digest("workflow_scripts/encode_latents.py"),
    script:
        "../workflow_scripts/encode_latents.py"


rule embed_captions:
    input:
        images="results/{subject}/images.tsv",
        captions=stored(RELEASE.list_captions()),
        model=list_model(config),
    output:
        "results/{subject}/features/c.npy",
    log:
        "logs/{subject}/embed_captions.log",
    benchmark:
        "benchmarks/{subject}/embed_captions.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(60),
    params:
        model=model_path,
        revision=lookup("model/revision", within=config),
        device=DEVICE,
        dtype=lookup("model/dtype", within=config),
        batch_size=lookup("model/batch_size", within=config),
        code=digest("workflow_scripts/embed_captions.py"),
    script:
        "../workflow_scripts/embed_captions.py"


rule denoise_latents:
    input:
        images="results/{subject}/images.tsv",
        z="results/{subject}/features/z.npy",
        c="results/{subject}/features/c.npy",
        model=list_model(config),
    output:
        "results/{subject}/features/zc.npy",
    log:
        "logs/{subject}/denoise_latents.log",
    benchmark:
        "benchmarks/{subject}/denoise_latents.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(180),
    params:
        model=model_path,
        revision=lookup("model/revision", within=config),
        device=DEVICE,
        dtype=lookup("model/dtype", within=config),
        batch_size=lookup("model/batch_size", within=config),
        steps=lookup("denoising/num_inference_steps", within=config),
        strength=lookup("denoising/strength", within=config),
        guidance=lookup("denoising/guidance_scale", within=config),
        scheduler=lookup("denoising/scheduler", within=config),
        noise=lookup("denoising/noise", within=config),
        seed=lookup("denoising/seed", within=config),
        code=digest("workflow_scripts/denoise_latents.py"),
    script:
        "../workflow_scripts/denoise_latents.py"


rule collect_trajectories:
    input:
        images="results/{subject}/images.tsv",
        z="results/{subject}/features/z.npy",
        c="results/{subject}/features/c.npy",
        model=list_model(config),
    output:
        temp(
            collect(
                "results/{{subject}}/trajectories/{space}.{{chunk}}.npy",
                space=SPACES.path,
            )
        ),
    log:
        "logs/{subject}/collect_trajectories.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/collect_trajectories.{chunk}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(120),
    params:
        spaces=SPACES.path,
        model=model_path,
        revision=lookup("model/revision", within=config),
        device=DEVICE,
        dtype=lookup("model/dtype", within=config),
        batch_size=lookup("model/batch_size", within=config),
        steps=lookup("denoising/num_inference_steps", within=config),
        strength=lookup("denoising/strength", within=config),
        guidance=lookup("denoising/guidance_scale", within=config),
        scheduler=lookup("denoising/scheduler", within=config),
        noise=lookup("denoising/noise", within=config),
        seed=lookup("denoising/seed", within=config),
        text="own",
        strengths=lookup("trajectories/noise_levels", within=config),
        step_shares=lookup("trajectories/step_shares", within=config),
        latent=lookup("trajectories/latent", within=config),
        blocks=lookup("trajectories/blocks", within=config),
        reduction=lookup("trajectories/reduction", within=config),
        width=lookup("trajectories/width", within=config),
        n_chunks=lookup("trajectories/chunks", within=config),
        code=digest("workflow_scripts/collect_trajectories.py"),
    script:
        "../workflow_scripts/collect_trajectories.py"


use rule collect_trajectories as collect_variants with:
    output:
        temp(
            collect(
                "results/{{subject}}/trajectories/{space}-{{variant}}.{{chunk}}.npy",
                space=STEP_SPACES,
            )
        ),
    log:
        "logs/{subject}/collect_variants.{variant}.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/collect_variants.{variant}.{chunk}.tsv"
    params:
        spaces=STEP_SPACES,
        noise=lambda wildcards: find_chain(config, wildcards.variant)["noise"],
        seed=lambda wildcards: find_chain(config, wildcards.variant)["seed"],
        text=lambda wildcards: find_chain(config, wildcards.variant)["text"],


use rule collect_trajectories as collect_controls with:
    output:
        temp(
            collect(
                "results/{{subject}}/trajectories/{space}-{{control}}.{{chunk}}.npy",
                space=LEVEL_SPACES + STEP_SPACES,
            )
        ),
    log:
        "logs/{subject}/collect_controls.{control}.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/collect_controls.{control}.{chunk}.tsv"
    params:
        spaces=LEVEL_SPACES + STEP_SPACES,
        text="{control}",


rule gather_features:
    input:
        images="results/{subject}/images.tsv",
        chunks=collect(
            "results/{{subject}}/trajectories/{space}.{chunk}.npy",
            space=LEVEL_SPACES + STEP_SPACES,
            chunk=range(config["trajectories"]["chunks"]),
        ),
    output:
        collect(
            "results/{{subject}}/features/{space}.npy",
            space=LEVEL_SPACES + STEP_SPACES,
        ),
    log:
        "logs/{subject}/gather_features.log",
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        spaces=LEVEL_SPACES + STEP_SPACES,
        n_chunks=lookup("trajectories/chunks", within=config),
        code=digest("workflow_scripts/gather_features.py"),
    script:
        "../workflow_scripts/gather_features.py"


if VARIANTS:

    use rule gather_features as gather_variants with:
        input:
            images="results/{subject}/images.tsv",
            chunks=collect(
                "results/{{subject}}/trajectories/{space}.{chunk}.npy",
                space=VARIANT_SPACES,
                chunk=range(config["trajectories"]["chunks"]),
            ),
        output:
            collect("results/{{subject}}/features/{space}.npy", space=VARIANT_SPACES),
        log:
            "logs/{subject}/gather_variants.log",
        params:
            spaces=VARIANT_SPACES,


if CONTROLS:

    use rule gather_features as gather_controls with:
        input:
            images="results/{subject}/images.tsv",
            chunks=collect(
                "results/{{subject}}/trajectories/{space}.{chunk}.npy",
                space=CONTROL_SPACES,
                chunk=range(config["trajectories"]["chunks"]),
            ),
        output:
            collect("results/{{subject}}/features/{space}.npy", space=CONTROL_SPACES),
        log:
            "logs/{subject}/gather_controls.log",
        params:
            spaces=CONTROL_SPACES,


# Activations are never gathered: of their chunks only this is kept.
rule compute_grams:
    input:
        images="results/{subject}/images.tsv",
        chunks=collect(
            "results/{{subject}}/trajectories/{space}.{chunk}.npy",
            space=BLOCK_SPACES,
            chunk=range(config["trajectories"]["chunks"]),
        ),
    output:
        collect("results/{{subject}}/grams/{space}.npy", space=BLOCK_SPACES),
    log:
        "logs/{subject}/compute_grams.log",
    benchmark:
        "benchmarks/{subject}/compute_grams.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(30),
    params:
        spaces=BLOCK_SPACES,
        n_chunks=lookup("trajectories/chunks", within=config),
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
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(120),
    params:
        function=lookup("feature_spaces/{space}/function", within=config),
        settings=lookup("feature_spaces/{space}/settings", within=config),
        device=DEVICE,
        batch_size=lookup("model/batch_size", within=config),
        function_code=lambda wildcards: digest_function(
            config["feature_spaces"][wildcards.space]["function"]
        ),
        code=digest("workflow_scripts/compute_features.py"),
    script:
        "../workflow_scripts/compute_features.py"
