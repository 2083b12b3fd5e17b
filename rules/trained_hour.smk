# The first trained decoder, of all subjects jointly, of whom one contributes a single session.

HOUR_JOINT = "results/{subject}/trained@hour"


use rule join_responses as join_hour_responses with:
    input:
        responses=collect(
            f"{CASE}/responses/{{roi}}.h5",
            roi=config["trained"]["regions"],
            case=plan.HOUR,
            allow_missing=True,
        ),
    output:
        train="results/{subject}/cases/hour/trained/train.npy",
        train_rows="results/{subject}/cases/hour/trained/train.tsv",
        test="results/{subject}/cases/hour/trained/test.npy",
        test_rows="results/{subject}/cases/hour/trained/test.tsv",
    log:
        "logs/{subject}/join_hour_responses.log",
    benchmark:
        "benchmarks/{subject}/join_hour_responses.tsv"


use rule reconstruct_trained as reconstruct_hour with:
    input:
        images="results/{subject}/cases/hour/images.tsv",
        responses="results/{subject}/cases/hour/trained/test.npy",
        rows="results/{subject}/cases/hour/trained/test.tsv",
        weights="results/hour-{subject}/trained/diffusion/{method}.safetensors",
        model=list_model(config),
    output:
        temp(f"{HOUR_JOINT}/reconstructions/{{method}}.{{chunk}}.h5"),
    log:
        "logs/{subject}/reconstruct_hour.{method}.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/reconstruct_hour.{method}.{chunk}.tsv"


use rule gather_reconstructions as gather_hour with:
    input:
        images="results/{subject}/cases/hour/images.tsv",
        chunks=collect(
            f"{HOUR_JOINT}/reconstructions/{{method}}.{{chunk}}.h5",
            chunk=range(config["reconstruction"]["chunks"]),
            allow_missing=True,
        ),
    output:
        f"{HOUR_JOINT}/reconstructions/{{method}}.h5",
    log:
        "logs/{subject}/gather_hour.{method}.log",
    wildcard_constraints:
        method="|".join(TRAINING.methods) or "none",


use rule score_case as score_hour with:
    input:
        images="results/{subject}/cases/hour/images.tsv",
        stimuli=RELEASE.locate_stimuli(),
        space=f"results/{{subject}}/features/{CASES.space}.npy",
        features=[],
        decoded=[],
        known_images="results/{subject}/cases/hour/images.tsv",
        known_stimuli=RELEASE.locate_stimuli(),
        known_space=f"results/{{subject}}/features/{CASES.space}.npy",
        known_features=[],
        reconstructions=list(CASES.list_pictures(HOUR_CASE).values()),
        networks=list_judges(config),
    output:
        f"{HOUR_JOINT}/scores.tsv",
    log:
        "logs/{subject}/score_hour.log",
    benchmark:
        "benchmarks/{subject}/score_hour.tsv"
    params:
        targets=[],
        sources=list(CASES.list_pictures(HOUR_CASE)),
