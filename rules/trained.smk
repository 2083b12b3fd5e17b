# Trained decoders: masked autoencoders of responses (Yang et al. 2025, MinD-Vis, Vis-Dec) that
# condition the diffusion model. A cohort is a subject, or all of them together ("joint").


rule join_responses:
    input:
        responses=collect(
            "results/{{subject}}/responses/{roi}.h5", roi=config["trained"]["regions"]
        ),
    output:
        train="results/{subject}/trained/train.npy",
        train_rows="results/{subject}/trained/train.tsv",
        test="results/{subject}/trained/test.npy",
        test_rows="results/{subject}/trained/test.tsv",
    log:
        "logs/{subject}/join_responses.log",
    benchmark:
        "benchmarks/{subject}/join_responses.tsv"
    conda:
        "../envs/torch.yaml"
    params:
        **choose("trained", "train_on", "validation", "seed"),
        code=digest("workflow_scripts/join_responses.py"),
    script:
        "../workflow_scripts/join_responses.py"


rule embed_clip:
    input:
        images="results/{subject}/images.tsv",
        stimuli=RELEASE.locate_stimuli(),
        captions=stored(RELEASE.list_captions()),
        model=clip_files,
    output:
        clip_image="results/{subject}/trained/clip_image.npy",
        clip_text="results/{subject}/trained/clip_text.npy",
    log:
        "logs/{subject}/embed_clip.log",
    benchmark:
        "benchmarks/{subject}/embed_clip.tsv"
    conda:
        "../envs/torch.yaml"
    threads: THREADS
    resources:
        **needs(8000, 60, gpu=GPUS),
    params:
        **choose("model", "batch_size"),
        path=lambda wildcards: config["trained"]["clip"]["path"],
        revision=config["trained"]["clip"]["revision"],
        device=DEVICE,
        code=digest("workflow_scripts/embed_clip.py"),
    script:
        "../workflow_scripts/embed_clip.py"


rule pretrain_encoder:
    input:
        responses=of_cohort("results/{subject}/trained/train.npy"),
        rows=of_cohort("results/{subject}/trained/train.tsv"),
    output:
        weights="results/{cohort}/trained/encoders/{encoder}.safetensors",
        curve="results/{cohort}/trained/encoders/{encoder}.tsv",
    log:
        "logs/{cohort}/pretrain_encoder.{encoder}.log",
    benchmark:
        "benchmarks/{cohort}/pretrain_encoder.{encoder}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: THREADS
    resources:
        **needs(32000, 1440, gpu=GPUS),
    params:
        **choose("trained", "precision", "seed"),
        subjects=lambda wildcards: TRAINING.list_cohort(wildcards.cohort),
        settings=lambda wildcards: TRAINING.encoders[wildcards.encoder],
        # Not an output: Snakemake deletes the outputs of killed jobs.
        partial="results/{cohort}/trained/partial/encoder.{encoder}.safetensors",
        device=DEVICE,
        code=digest("workflow_scripts/pretrain_encoder.py"),
    script:
        "../workflow_scripts/pretrain_encoder.py"


rule align_encoder:
    input:
        encoder=lambda w: TRAINING.find_encoder(w.cohort, w.method),
        responses=of_cohort("results/{subject}/trained/train.npy"),
        rows=of_cohort("results/{subject}/trained/train.tsv"),
        images=of_cohort("results/{subject}/images.tsv"),
        clip_image=of_cohort("results/{subject}/trained/clip_image.npy"),
        clip_text=of_cohort("results/{subject}/trained/clip_text.npy"),
        stimuli=branch(
            lambda w: TRAINING.methods[w.method]["stage2"]["align"] == "cross_mae",
            then=of_cohort(RELEASE.locate_stimuli()),
        ),
    output:
        weights="results/{cohort}/trained/aligned/{method}.safetensors",
        curve="results/{cohort}/trained/aligned/{method}.tsv",
    log:
        "logs/{cohort}/align_encoder.{method}.log",
    benchmark:
        "benchmarks/{cohort}/align_encoder.{method}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: THREADS
    resources:
        **needs(32000, 1440, gpu=GPUS),
    params:
        **choose("trained", "precision", "seed"),
        subjects=lambda wildcards: TRAINING.list_cohort(wildcards.cohort),
        settings=lambda wildcards: TRAINING.methods[wildcards.method]["stage2"],
        partial="results/{cohort}/trained/partial/aligned.{method}.safetensors",
        device=DEVICE,
        code=digest("workflow_scripts/align_encoder.py"),
    script:
        "../workflow_scripts/align_encoder.py"


rule fine_tune_diffusion:
    input:
        encoder=lambda w: TRAINING.find_aligned(w.cohort, w.method),
        responses=of_cohort("results/{subject}/trained/train.npy"),
        rows=of_cohort("results/{subject}/trained/train.tsv"),
        images=of_cohort("results/{subject}/images.tsv"),
        z=of_cohort("results/{subject}/features/z.npy"),
        model=list_model(config),
    output:
        weights="results/{cohort}/trained/diffusion/{method}.safetensors",
        curve="results/{cohort}/trained/diffusion/{method}.tsv",
    log:
        "logs/{cohort}/fine_tune_diffusion.{method}.log",
    benchmark:
        "benchmarks/{cohort}/fine_tune_diffusion.{method}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: THREADS
    resources:
        **needs(32000, 1440, gpu=GPUS),
    params:
        **choose("trained", "precision", "seed"),
        subjects=lambda wildcards: TRAINING.list_cohort(wildcards.cohort),
        settings=lambda wildcards: TRAINING.methods[wildcards.method]["stage3"],
        model=lambda wildcards: config["model"]["path"],
        revision=config["model"]["revision"],
        partial="results/{cohort}/trained/partial/diffusion.{method}.safetensors",
        device=DEVICE,
        code=digest("workflow_scripts/fine_tune_diffusion.py"),
    script:
        "../workflow_scripts/fine_tune_diffusion.py"


rule reconstruct_trained:
    input:
        images="results/{subject}/images.tsv",
        responses="results/{subject}/trained/test.npy",
        rows="results/{subject}/trained/test.tsv",
        weights=lambda w: TRAINING.find_weights(w.subject, w.method),
        model=list_model(config),
    output:
        temp("results/{subject}/trained/reconstructions/{method}.{chunk}.h5"),
    log:
        "logs/{subject}/reconstruct_trained.{method}.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/reconstruct_trained.{method}.{chunk}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: THREADS
    resources:
        **needs(16000, 120, gpu=GPUS),
    params:
        model=MODEL,
        resolution=config["model"]["resolution"],
        sampling=config["trained"]["sampling"] | choose("reconstruction", "seed"),
        n_chunks=config["reconstruction"]["chunks"],
        code=digest("workflow_scripts/reconstruct_trained.py"),
    script:
        "../workflow_scripts/reconstruct_trained.py"


rule evaluate_encoders:
    input:
        train="results/{subject}/trained/train.npy",
        train_rows="results/{subject}/trained/train.tsv",
        test="results/{subject}/trained/test.npy",
        test_rows="results/{subject}/trained/test.tsv",
        images="results/{subject}/images.tsv",
        clip_image="results/{subject}/trained/clip_image.npy",
        clip_text="results/{subject}/trained/clip_text.npy",
        encoders=collect(
            "results/{{subject}}/trained/encoders/{encoder}.safetensors",
            encoder=[*TRAINING.encoders],
        ),
        aligned=collect(
            "results/{{subject}}/trained/aligned/{method}.safetensors", method=TRAINING.aligned
        ),
    output:
        masked="results/{subject}/trained/masked.tsv",
        completed="results/{subject}/trained/masked.h5",
        retrieval="results/{subject}/trained/retrieval.tsv",
    log:
        "logs/{subject}/evaluate_encoders.log",
    benchmark:
        "benchmarks/{subject}/evaluate_encoders.tsv"
    conda:
        "../envs/torch.yaml"
    threads: THREADS
    resources:
        **needs(16000, 120, gpu=GPUS),
    params:
        **choose("evaluation", "bootstrap", "seed"),
        encoders=[*TRAINING.encoders],
        before={method: TRAINING.methods[method]["encoder"] for method in TRAINING.aligned},
        device=DEVICE,
        code=digest("workflow_scripts/evaluate_encoders.py"),
    script:
        "../workflow_scripts/evaluate_encoders.py"


rule tabulate_encoders:
    input:
        masked=collect("results/{subject}/trained/masked.tsv", subject=TRAINING.subjects),
        retrieval=collect("results/{subject}/trained/retrieval.tsv", subject=TRAINING.subjects),
    output:
        masked="results/tables/fcae_masked.tsv",
        retrieval="results/tables/fcae_retrieval.tsv",
    log:
        "logs/tabulate_encoders.log",
    conda:
        "../envs/analysis.yaml"
    params:
        subjects=TRAINING.subjects,
        dataset=config["dataset"],
        code=digest("workflow_scripts/tabulate_encoders.py"),
    script:
        "../workflow_scripts/tabulate_encoders.py"
