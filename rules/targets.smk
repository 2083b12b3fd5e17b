# What is made on request.


rule trained:
    input:
        plan.list_trained_targets(config),


rule beyond:
    input:
        BEYOND.list_targets(),


rule generalisation:
    input:
        CASES.list_targets(),
