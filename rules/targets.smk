# What is made on request.


rule joint:
    input:
        collect("results/figures/joint_{model}.png", model=config["encoding"]["joint"]),
        "results/tables/rsa.tsv",
        collect("results/{subject}/joint_maps", subject=SUBJECTS if JOINED_MODELS else []),


rule pycortex:
    input:
        collect("results/{subject}/pycortex", subject=SUBJECTS),


rule trained:
    input:
        plan.list_trained_targets(config),


rule beyond:
    input:
        BEYOND.list_targets(),


rule generalisation:
    input:
        CASES.list_targets(),
