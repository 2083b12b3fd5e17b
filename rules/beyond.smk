# What is decoded besides z and c, and what is made of it: pictures by other generators, captions,
# retrieval, depth and an image prior. Made on request: snakemake beyond.

from nsdldm.support.listing import list_weights
from nsdldm.workflow.networks import list_generator

BEYOND_FOLDER = "results/{subject}/{protocol}/beyond"
CHOSEN = f"{BEYOND_FOLDER}/chosen_captions.tsv"


# Settings of the prior's optimisation.
INVERSION = {
    key: value for key, value in config["beyond"]["prior"].items() if key not in ("target", "start")
}


# One job per target: another one is fitted without those that are there.
use rule fit_decoders as fit_added_decoders with:
    input:
        responses=lambda wildcards: [
            f"results/{{subject}}/responses/{BEYOND.targets[wildcards.target]}.h5"
        ],
        images="results/{subject}/images.tsv",
        features=["results/{subject}/features/{target}.npy"],
        z_logvar="results/{subject}/features/z_logvar.npy",
    output:
        decoded=["results/{subject}/{protocol}/decoded/{target}.npy"],
        dimensions=["results/{subject}/{protocol}/decoded/{target}.tsv"],
        by_image=["results/{subject}/{protocol}/decoded/{target}_images.tsv"],
        weights=(
            ["results/{subject}/{protocol}/decoded/{target}_weights.npy"]
            * config["decoding"]["weights"]
        ),
    log:
        "logs/{subject}/fit_added_decoders.{protocol}.{target}.log",
    benchmark:
        "benchmarks/{subject}/fit_added_decoders.{protocol}.{target}.tsv"
    wildcard_constraints:
        target="|".join(BEYOND.targets) or "none",
    params:
        regions=lambda wildcards: {wildcards.target: BEYOND.targets[wildcards.target]},


rule generate_images:
    input:
        images="results/{subject}/images.tsv",
        features=lambda wildcards: list(BEYOND.list_given(wildcards.method).values()),
        model=list_model(config),
        generator=lambda wildcards: list_generator(config, BEYOND.find_generator(wildcards.method)),
    output:
        temp("results/{subject}/{protocol}/reconstructions/{method}.{chunk}.h5"),
    log:
        "logs/{subject}/generate_images.{protocol}.{method}.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/generate_images.{protocol}.{method}.{chunk}.tsv"
    wildcard_constraints:
        protocol=RIDGE,
        method="|".join(BEYOND.methods) or "none",
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(24000, 240, gpu=1),
    params:
        roles=lambda wildcards: list(BEYOND.list_given(wildcards.method)),
        true=lambda wildcards: BEYOND.methods[wildcards.method].get("ceiling", False),
        generator=lambda wildcards: BEYOND.find_generator(wildcards.method),
        model=MODEL,
        latent_resolution=config["model"]["resolution"],
        settings=lambda wildcards: BEYOND.find_settings(wildcards.method, PICTURES),
        n_chunks=config["reconstruction"]["chunks"],
        function_code=lambda wildcards: digest_function(
            BEYOND.find_generator(wildcards.method)["function"]
        ),
        code=digest("workflow_scripts/generate_images.py"),
    script:
        "../workflow_scripts/generate_images.py"


rule score_retrieval:
    input:
        **BEYOND.find_part("retrieval"),
    output:
        f"{BEYOND_FOLDER}/retrieval.tsv",
    log:
        "logs/{subject}/score_retrieval.{protocol}.log",
    conda:
        "../envs/torch.yaml"
    resources:
        **needs(8000, 60),
    params:
        **choose("evaluation", "bootstrap", "seed"),
        candidates=config["beyond"]["retrieval"]["candidates"],
        code=digest("workflow_scripts/score_retrieval.py"),
    script:
        "../workflow_scripts/score_retrieval.py"


# The baseline that needs no generator.
rule take_nearest:
    input:
        **BEYOND.find_part("retrieval"),
        stimuli=RELEASE.locate_stimuli(),
    output:
        nearest=f"{BEYOND_FOLDER}/nearest.tsv",
        pictures="results/{subject}/{protocol}/reconstructions/nearest.h5",
    log:
        "logs/{subject}/take_nearest.{protocol}.log",
    conda:
        "../envs/torch.yaml"
    resources:
        **needs(8000, 60),
    params:
        **choose("reconstruction", "resolution"),
        code=digest("workflow_scripts/take_nearest.py"),
    script:
        "../workflow_scripts/take_nearest.py"


CAPTIONER = config["beyond"]["captions"]["captioner"]


if CAPTIONER["path"]:

    rule caption_features:
        input:
            **BEYOND.find_part("captions", truth=False),
            files=list_weights(CAPTIONER["path"]),
        output:
            CHOSEN,
        log:
            "logs/{subject}/caption_features.{protocol}.log",
        conda:
            "../envs/torch.yaml"
        threads: 8
        resources:
            **needs(16000, 60, gpu=1),
        params:
            captioner=MODEL | {key: CAPTIONER[key] for key in ("path", "revision")},
            writing={k: own for k, own in CAPTIONER.items() if k not in ("path", "revision")},
            code=digest("workflow_scripts/caption_features.py"),
        script:
            "../workflow_scripts/caption_features.py"

else:

    rule choose_captions:
        input:
            **BEYOND.find_part("captions"),
            captions=stored(RELEASE.list_captions()),
        output:
            CHOSEN,
        log:
            "logs/{subject}/choose_captions.{protocol}.log",
        conda:
            "../envs/torch.yaml"
        resources:
            **needs(8000, 60),
        params:
            k=config["beyond"]["captions"]["neighbours"],
            code=digest("workflow_scripts/choose_captions.py"),
        script:
            "../workflow_scripts/choose_captions.py"


rule embed_chosen_captions:
    input:
        captions=CHOSEN,
        files=list_model(config),
    output:
        "results/{subject}/{protocol}/decoded/captions.npy",
    log:
        "logs/{subject}/embed_chosen_captions.{protocol}.log",
    conda:
        "../envs/torch.yaml"
    threads: THREADS
    resources:
        **needs(8000, 60, gpu=GPUS),
    params:
        model=MODEL,
        code=digest("workflow_scripts/embed_chosen_captions.py"),
    script:
        "../workflow_scripts/embed_chosen_captions.py"


rule score_captions:
    input:
        chosen=CHOSEN,
        images="results/{subject}/images.tsv",
        stimuli=RELEASE.locate_stimuli(),
        captions=stored(RELEASE.list_captions()),
        files=list_weights(config["beyond"]["captions"]["clip"]),
    output:
        table=f"{BEYOND_FOLDER}/captions.tsv",
        by_image=f"{BEYOND_FOLDER}/captions_images.tsv",
    log:
        "logs/{subject}/score_captions.{protocol}.log",
    conda:
        "../envs/torch.yaml"
    threads: THREADS
    resources:
        **needs(8000, 60, gpu=GPUS),
    params:
        **choose("evaluation", "bootstrap", "seed"),
        **choose("model", "batch_size"),
        settings=config["beyond"]["captions"],
        device=DEVICE,
        code=digest("workflow_scripts/score_captions.py"),
    script:
        "../workflow_scripts/score_captions.py"


rule invert_features:
    input:
        **BEYOND.find_part("prior"),
        z="results/{subject}/features/z.npy",
        start=["results/{subject}/{protocol}/decoded/z.npy"]
        * bool(config["beyond"]["prior"]["start"]),
        files=list_model(config),
        weights=list_space(config, BEYOND.parts["prior"]),
    output:
        temp("results/{subject}/{protocol}/beyond/prior.{chunk}.npy"),
    log:
        "logs/{subject}/invert_features.{protocol}.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/invert_features.{protocol}.{chunk}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(16000, 240, gpu=1),
    params:
        network=config["feature_spaces"].get(BEYOND.parts["prior"], {}).get("settings"),
        settings=INVERSION,
        model=MODEL,
        n_chunks=config["reconstruction"]["chunks"],
        code=digest("workflow_scripts/invert_features.py"),
    script:
        "../workflow_scripts/invert_features.py"


rule gather_priors:
    input:
        images="results/{subject}/images.tsv",
        chunks=collect(
            "results/{{subject}}/{{protocol}}/beyond/prior.{chunk}.npy",
            chunk=range(config["reconstruction"]["chunks"]),
        ),
    output:
        "results/{subject}/{protocol}/decoded/prior.npy",
    log:
        "logs/{subject}/gather_priors.{protocol}.log",
    conda:
        "../envs/torch.yaml"
    resources:
        **needs(4000, 30),
    params:
        code=digest("workflow_scripts/gather_priors.py"),
    script:
        "../workflow_scripts/gather_priors.py"


rule score_depth:
    input:
        **BEYOND.find_part("depth"),
    output:
        f"{BEYOND_FOLDER}/depth.tsv",
    log:
        "logs/{subject}/score_depth.{protocol}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(8000, 60),
    params:
        **choose("evaluation", "bootstrap", "seed"),
        code=digest("workflow_scripts/score_depth.py"),
    script:
        "../workflow_scripts/score_depth.py"


rule tabulate_beyond:
    input:
        **plan.list_run_files(BEYOND.runs, "summaries"),
        scores=collect(
            f"results/{{subject}}/{BEYOND.protocol}/beyond/{{score}}.tsv",
            subject=SUBJECTS,
            score=BEYOND.scored,
        ),
    output:
        table("beyond"),
    log:
        "logs/tabulate_beyond.log",
    conda:
        "../envs/analysis.yaml"
    params:
        runs=BEYOND.runs,
        scored=[(subject, BEYOND.protocol, name) for subject in SUBJECTS for name in BEYOND.scored],
        targets=BEYOND.parts,
        ceilings=BEYOND.ceilings,
        dataset=config["dataset"],
        code=digest("workflow_scripts/tabulate_beyond.py"),
    script:
        "../workflow_scripts/tabulate_beyond.py"


rule plot_fig10:
    input:
        "results/tables/beyond.tsv",
    output:
        **figure("results/figures/fig10", "Decoding", "10"),
    log:
        "logs/plot_fig10.log",
    conda:
        "../envs/analysis.yaml"
    params:
        methods=BEYOND.shown,
        metrics=config["beyond"]["metrics"],
        given=BEYOND.methods,
        demo=DEMO,
        code=digest("workflow_scripts/plot_fig10.py"),
    script:
        "../workflow_scripts/plot_fig10.py"


use rule write_gallery as write_beyond_gallery with:
    input:
        **plan.list_run_files(BEYOND.runs, "reconstructions", "samples", "tables"),
        stimuli=all_stimuli(),
        captions=stored(RELEASE.list_captions()),
        images=collect("results/{subject}/images.tsv", subject=SUBJECTS),
        chosen=[CHOSEN.format(subject=s, protocol=p) for s, p, _ in BEYOND.captioned],
    output:
        "results/report/beyond_gallery.html",
    log:
        "logs/write_beyond_gallery.log",
    params:
        runs=BEYOND.runs,
        methods=BEYOND.shown,
        captioned=[(subject, method) for subject, _, method in BEYOND.captioned],


use rule plot_fig3 as plot_beyond_pictures with:
    input:
        **plan.list_run_files(
            [("{subject}", BEYOND.find_protocol(name), name) for name in BEYOND.shown],
            *("reconstructions", "samples"),
        ),
        stimuli=RELEASE.locate_stimuli(),
        images="results/{subject}/images.tsv",
    output:
        **figure("results/{subject}/figures/beyond_pictures", "Decoding", "beyond z and c"),
    log:
        "logs/{subject}/plot_beyond_pictures.log",
    params:
        methods=BEYOND.shown,
        words=BEYOND.words,
