# Cases: what decoders are fitted to and tested on beside the shared split, as in corrected@cluster.
# Everything here is made on request.


rule split_images:
    input:
        trials="results/{subject}/trials.tsv",
        images="results/{subject}/images.tsv",
        features=branch(
            lambda wildcards: wildcards.case == "cluster",
            then=f"results/{{subject}}/features/{CASES.space}.npy",
        ),
        instances=stored(RELEASE.list_instances()),
        listing=lambda w: stored(RELEASE.find_listing(w.case, w.subject)),
    output:
        trials=f"{CASE}/trials.tsv",
        images=f"{CASE}/images.tsv",
    log:
        "logs/{subject}/split_images.{case}.log",
    wildcard_constraints:
        case=any_of(CASES.divided),
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(8000, 30),
    params:
        # A setting redoes the cases that it concerns.
        **{name: of_split(name) for name in ("share", "clusters", "seed")},
        code=digest("workflow_scripts/split_images.py"),
    script:
        "../workflow_scripts/split_images.py"


use rule prepare_responses as prepare_case_responses with:
    input:
        betas=lambda wildcards: CASES.find_betas(wildcards.case),
        trials=lambda wildcards: CASES.find_table(wildcards.case, "trials"),
        images=of_case(CASES.find_table),
    output:
        f"{CASE}/responses/{{roi}}.h5",
    log:
        "logs/{subject}/prepare_case_responses.{case}.{roi}.log",
    benchmark:
        "benchmarks/{subject}/prepare_case_responses.{case}.{roi}.tsv"
    wildcard_constraints:
        case=any_of([*CASES.fitted, *CASES.sets]),
    params:
        forms=lambda wildcards: CASES.list_forms(wildcards.case, wildcards.roi),


use rule fit_decoders as fit_case_decoders with:
    input:
        responses=of_case(CASES.find_responses, *REGIONS),
        images=of_case(CASES.find_table),
        features=of_targets("results/{subject}/features/{target}.npy"),
        z_logvar="results/{subject}/features/z_logvar.npy",
    output:
        decoded=of_targets(f"{OF_CASE}/decoded/{{target}}.npy"),
        dimensions=of_targets(f"{OF_CASE}/decoded/{{target}}.tsv"),
        by_image=of_targets(f"{OF_CASE}/decoded/{{target}}_images.tsv"),
        weights=[],
    log:
        "logs/{subject}/fit_case_decoders.{protocol}.{case}.log",
    benchmark:
        "benchmarks/{subject}/fit_case_decoders.{protocol}.{case}.tsv"
    wildcard_constraints:
        protocol=CASES.protocol,
        case=any_of(CASES.fitted),
    params:
        regions=CASES.targets,


# What decoders of the shared split are fitted to.
CORE = {
    "responses": [f"results/{{subject}}/responses/{roi}.h5" for roi in REGIONS],
    "images": "results/{subject}/images.tsv",
    "features": of_targets("results/{subject}/features/{target}.npy"),
    "z_logvar": "results/{subject}/features/z_logvar.npy",
}


rule apply_decoders:
    input:
        **CORE,
        tested=of_case(CASES.find_responses, *REGIONS),
    output:
        of_targets(f"{OF_CASE}/decoded/{{target}}.npy"),
    log:
        "logs/{subject}/apply_decoders.{protocol}.{case}.log",
    wildcard_constraints:
        protocol=CASES.protocol,
        case=any_of(CASES.sets),
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(fit_memory("decoding"), 120, gpu=1),
    params:
        **choose("decoding", "alphas", "n_folds", "memory_gb", "seed", "solver"),
        regions=CASES.targets,
        device=DEVICE,
        code=digest("workflow_scripts/apply_decoders.py"),
    script:
        "../workflow_scripts/apply_decoders.py"


rule restrict_decoders:
    input:
        **CORE,
    output:
        [
            f"results/{{subject}}/{{protocol}}@rank-{rank}/decoded/{target}.npy"
            for rank in CASES.ranks
            for target in CASES.targets
        ],
    log:
        "logs/{subject}/restrict_decoders.{protocol}.log",
    wildcard_constraints:
        protocol=CASES.protocol,
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(fit_memory("decoding"), 120, gpu=1),
    params:
        **choose("decoding", "alphas", "n_folds", "memory_gb", "seed", "solver"),
        regions=CASES.targets,
        ranks=CASES.ranks,
        noise=None,
        device=DEVICE,
        code=digest("workflow_scripts/restrict_decoders.py"),
    script:
        "../workflow_scripts/restrict_decoders.py"


use rule restrict_decoders as decode_noise with:
    output:
        [
            f"results/{{subject}}/{{protocol}}@noise-rank-{rank}/decoded/{target}.npy"
            for rank in CASES.ranks
            for target in CASES.targets
        ],
    log:
        "logs/{subject}/decode_noise.{protocol}.log",
    wildcard_constraints:
        protocol=CASES.protocol,
    params:
        noise=GENERAL["seed"],


# What a generator makes of nothing.
rule average_features:
    input:
        images="results/{subject}/images.tsv",
        features=of_targets("results/{subject}/features/{target}.npy"),
    output:
        of_targets("results/{subject}/{protocol}@mean/decoded/{target}.npy"),
    log:
        "logs/{subject}/average_features.{protocol}.log",
    wildcard_constraints:
        protocol=CASES.protocol,
    conda:
        "../envs/torch.yaml"
    params:
        targets=list(CASES.targets),
        code=digest("workflow_scripts/average_features.py"),
    script:
        "../workflow_scripts/average_features.py"


rule decode_by_others:
    input:
        responses=of_case(CASES.find_aligned, *REGIONS),
        images=of_case(CASES.find_table),
        features=of_targets("results/{subject}/features/{target}.npy"),
        reference_responses=of_others("results/{subject}/responses/{roi}.h5", roi=REGIONS),
        reference_images=of_others("results/{subject}/images.tsv"),
        reference_features=of_others(
            "results/{subject}/features/{target}.npy", target=CASES.targets
        ),
    output:
        decoded=of_targets(f"{OF_CASE}/decoded/{{target}}.npy"),
        table=f"{OF_CASE}/alignment.tsv",
    log:
        "logs/{subject}/decode_by_others.{protocol}.{case}.log",
    benchmark:
        "benchmarks/{subject}/decode_by_others.{protocol}.{case}.tsv"
    wildcard_constraints:
        protocol=CASES.protocol,
        case=any_of(ALIGNED),
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(fit_memory("decoding"), 240, gpu=1),
    params:
        **choose("decoding", "alphas", "n_folds", "memory_gb", "seed", "solver"),
        **choose("generalisation", "components"),
        others=lambda wildcards: [name for name in SUBJECTS if name != wildcards.subject],
        tune=lambda wildcards: wildcards.case == "hour-tuned",
        regions=CASES.targets,
        device=DEVICE,
        code=digest("workflow_scripts/decode_by_others.py"),
    script:
        "../workflow_scripts/decode_by_others.py"


use rule reconstruct_images as reconstruct_case with:
    input:
        images=of_case(CASES.find_table),
        z=of_method("z"),
        c=of_method("c"),
        files=list_model(config),
    output:
        temp(f"{OF_CASE}/reconstructions/{{method}}.{{chunk}}.h5"),
    log:
        "logs/{subject}/reconstruct_case.{protocol}.{case}.{method}.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/reconstruct_case.{protocol}.{case}.{method}.{chunk}.tsv"
    wildcard_constraints:
        protocol=CASES.protocol,
        case=CASES.pattern,
        method="z|c|zc",
    params:
        settings=PICTURES | choose("generalisation", "samples"),
        true=lambda wildcards: wildcards.case.endswith(TRUE),


use rule gather_reconstructions as gather_case with:
    input:
        images=of_case(CASES.find_table),
        chunks=collect(
            f"{OF_CASE}/reconstructions/{{method}}.{{chunk}}.h5",
            chunk=range(config["reconstruction"]["chunks"]),
            allow_missing=True,
        ),
    output:
        f"{OF_CASE}/reconstructions/{{method}}.h5",
    log:
        "logs/{subject}/gather_case.{protocol}.{case}.{method}.log",
    wildcard_constraints:
        protocol=CASES.protocol,
        case=CASES.pattern,


if RELEASE.form == "nsd":

    include: "test_sets.smk"
