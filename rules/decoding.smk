# Ridge decoders: predict features of the test images from the responses to them.

# What decoders are fitted to and compared with.
DECODED = {
    "responses": collect(
        "results/{{subject}}/responses/{roi}.h5", roi=sorted(set(TARGETS.values()))
    ),
    "images": "results/{subject}/images.tsv",
    "features": collect("results/{{subject}}/features/{target}.npy", target=TARGETS),
    "z_logvar": "results/{subject}/features/z_logvar.npy",
}


rule fit_decoders:
    input:
        **DECODED,
    output:
        decoded=collect("results/{{subject}}/{{protocol}}/decoded/{target}.npy", target=TARGETS),
        dimensions=collect("results/{{subject}}/{{protocol}}/decoded/{target}.tsv", target=TARGETS),
        by_image=collect(
            "results/{{subject}}/{{protocol}}/decoded/{target}_images.tsv", target=TARGETS
        ),
        weights=collect(
            "results/{{subject}}/{{protocol}}/decoded/{target}_weights.npy",
            target=TARGETS if config["decoding"]["weights"] else [],
        ),
    log:
        "logs/{subject}/fit_decoders.{protocol}.log",
    benchmark:
        "benchmarks/{subject}/fit_decoders.{protocol}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(fit_memory("decoding"), 120, gpu=1),
    params:
        **choose("decoding", "alphas", "n_folds", "memory_gb", "seed", "solver"),
        regions=TARGETS,
        device=DEVICE,
        code=digest("workflow_scripts/fit_decoders.py"),
    script:
        "../workflow_scripts/fit_decoders.py"


rule compare_protocols:
    input:
        **DECODED,
    output:
        "results/{subject}/protocols.tsv",
    log:
        "logs/{subject}/compare_protocols.log",
    benchmark:
        "benchmarks/{subject}/compare_protocols.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(fit_memory("decoding"), 180, gpu=1),
    params:
        **choose("decoding", "alphas", "n_folds", "memory_gb", "seed", "solver"),
        regions=TARGETS,
        device=DEVICE,
        code=digest("workflow_scripts/compare_protocols.py"),
    script:
        "../workflow_scripts/compare_protocols.py"


rule tabulate_protocols:
    input:
        collect("results/{subject}/protocols.tsv", subject=SUBJECTS),
    output:
        table("protocols"),
    log:
        "logs/tabulate_protocols.log",
    conda:
        "../envs/analysis.yaml"
    params:
        subjects=SUBJECTS,
        demo=DEMO,
        code=digest("workflow_scripts/tabulate_protocols.py"),
    script:
        "../workflow_scripts/tabulate_protocols.py"
