# What the diffusion model makes of the images a subject saw: z, c and z_c.


rule encode_latents:
    input:
        images="results/{subject}/images.tsv",
        stimuli=source(layout.STIMULI),
        model=model_files(),
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
        mem_mb=16000,
        runtime=60,
    params:
        model=model_path,
        revision=lookup("model/revision", within=config),
        device=lookup("model/device", within=config),
        dtype=lookup("model/dtype", within=config),
        batch_size=lookup("model/batch_size", within=config),
        resolution=lookup("model/resolution", within=config),
        code=digest("workflow_scripts/encode_latents.py"),
    script:
        "../workflow_scripts/encode_latents.py"


rule embed_captions:
    input:
        images="results/{subject}/images.tsv",
        captions=caption_files(),
        model=model_files(),
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
        mem_mb=16000,
        runtime=60,
    params:
        model=model_path,
        revision=lookup("model/revision", within=config),
        device=lookup("model/device", within=config),
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
        model=model_files(),
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
        mem_mb=16000,
        runtime=240,
    params:
        model=model_path,
        revision=lookup("model/revision", within=config),
        device=lookup("model/device", within=config),
        dtype=lookup("model/dtype", within=config),
        batch_size=lookup("model/batch_size", within=config),
        steps=lookup("denoising/steps", within=config),
        strength=lookup("denoising/strength", within=config),
        guidance=lookup("denoising/guidance", within=config),
        scheduler=lookup("denoising/scheduler", within=config),
        noise=lookup("denoising/noise", within=config),
        seed=lookup("denoising/seed", within=config),
        code=digest("workflow_scripts/denoise_latents.py"),
    script:
        "../workflow_scripts/denoise_latents.py"
