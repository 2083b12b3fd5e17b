# Scores of decoders and encoders in all cases, and what they say about generalisation; on request.

SCORED = [(subject, case) for subject in SUBJECTS for case in CASES.kinds]


rule score_case:
    input:
        images=of_case(CASES.find_table),
        stimuli=of_case(pictures_of),
        space=lambda w: CASES.find_features(w.case, CASES.space),
        features=lambda w: [CASES.find_features(w.case, t) for t in CASES.list_scored(w.case)],
        decoded=lambda w: [CASES.find_decoded(w.case, t) for t in CASES.list_scored(w.case)],
        known_images=lambda w: CASES.find_table(CASES.find_known(w.case)),
        known_stimuli=RELEASE.locate_stimuli(),
        known_space=f"results/{{subject}}/features/{CASES.space}.npy",
        known_features=lambda w: [
            CASES.find_features(SHARED, target) for target in CASES.list_scored(w.case)
        ],
        reconstructions=lambda w: list(CASES.list_pictures(w.case).values()),
        networks=list_judges(config),
    output:
        f"{OF_CASE}/scores.tsv",
    log:
        "logs/{subject}/score_case.{protocol}.{case}.log",
    benchmark:
        "benchmarks/{subject}/score_case.{protocol}.{case}.tsv"
    wildcard_constraints:
        protocol=CASES.protocol,
        case=any_of(CASES.kinds),
    conda:
        "../envs/torch.yaml"
    threads: THREADS
    resources:
        **needs(16000, 60, gpu=GPUS),
    params:
        **choose("model", "batch_size"),
        **choose("generalisation", "similar", "samples", "seed"),
        targets=lambda wildcards: list(CASES.list_scored(wildcards.case)),
        sources=lambda wildcards: list(CASES.list_pictures(wildcards.case)),
        network=choose("generalisation", "network", "layer")
        | {"settings": config["evaluation"]["networks"].get(GENERAL["network"])},
        device=DEVICE,
        code=digest("workflow_scripts/score_case.py"),
    script:
        "../workflow_scripts/score_case.py"


rule predict_case:
    input:
        images=lambda w: CASES.find_table(CASES.find_known(w.case)),
        features=lambda w: [CASES.find_features(SHARED, s) for s in CASES.list_encoded(w.case)],
        responses=lambda w: CASES.find_responses(CASES.find_known(w.case), "cortex"),
        test_images=of_case(CASES.find_table),
        test_features=lambda w: [CASES.find_features(w.case, s) for s in CASES.list_encoded(w.case)],
        tested=lambda w: CASES.find_responses(w.case, "cortex"),
    output:
        f"{ENCODED}.h5",
    log:
        "logs/{subject}/predict_case.{case}.log",
    benchmark:
        "benchmarks/{subject}/predict_case.{case}.tsv"
    wildcard_constraints:
        case=any_of(CASES.encoded),
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(fit_memory("encoding"), 120, gpu=1),
    params:
        **choose("encoding", "alphas", "n_folds", "memory_gb", "seed", "weights", "max_components"),
        spaces=lambda wildcards: CASES.list_encoded(wildcards.case),
        device=DEVICE,
        code=digest("workflow_scripts/predict_case.py"),
    script:
        "../workflow_scripts/predict_case.py"


rule score_case_encoders:
    input:
        predictions=f"{ENCODED}.h5",
        responses=lambda w: CASES.find_responses(w.case, "cortex"),
        ncsnr=CORTEX["responses"],
        images=of_case(CASES.find_table),
        mask=CORTEX["mask"],
        regions=CORTEX["regions"],
    output:
        f"{ENCODED}.tsv",
    log:
        "logs/{subject}/score_case_encoders.{case}.log",
    conda:
        "../envs/analysis.yaml"
    params:
        **choose("generalisation", "min_ncsnr"),
        rois=ROIS,
        # Classes of images are those of other test sets.
        by_group=lambda wildcards: wildcards.case in CASES.sets,
        code=digest("workflow_scripts/score_case_encoders.py"),
    script:
        "../workflow_scripts/score_case_encoders.py"


rule infer_encoders:
    input:
        predictions=[
            f"results/{{subject}}/encoding/predictions/{family}.h5"
            for family in ("features", "steps")
            if family in SPACES.families
        ],
        responses=CORTEX["responses"],
        halves=[CASES.find_responses(half, "cortex") for half in HALVES],
        mask=CORTEX["mask"],
        regions=CORTEX["regions"],
    output:
        table="results/{subject}/encoding/inference.tsv",
        maps=collect("results/{{subject}}/encoding/inference/{space}.nii.gz", space=SPACES.features),
    log:
        "logs/{subject}/infer_encoders.log",
    benchmark:
        "benchmarks/{subject}/infer_encoders.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 8
    resources:
        **needs(16000, 120),
    params:
        **choose("encoding", "fdr", "flips"),
        **choose("generalisation", "alpha", "permutations", "seed"),
        spaces=SPACES.features,
        rois=ROIS,
        code=digest("workflow_scripts/infer_encoders.py"),
    script:
        "../workflow_scripts/infer_encoders.py"


rule tabulate_generalisation:
    input:
        scores=[CASES.find_scores(case).format(subject=subject) for subject, case in SCORED],
        encoders=collect(f"{ENCODED}.tsv", subject=SUBJECTS, case=CASES.encoded),
        inference=collect("results/{subject}/encoding/inference.tsv", subject=SUBJECTS),
    output:
        table("generalisation"),
    log:
        "logs/tabulate_generalisation.log",
    conda:
        "../envs/analysis.yaml"
    params:
        **choose("evaluation", "bootstrap"),
        **choose("generalisation", "seed"),
        scored=SCORED,
        encoded=[(subject, case) for subject in SUBJECTS for case in CASES.encoded],
        subjects=SUBJECTS,
        kinds=CASES.kinds,
        ceilings={case: CASES.find_ceiling(case) for case in CASES.kinds},
        dataset=config["dataset"],
        code=digest("workflow_scripts/tabulate_generalisation.py"),
    script:
        "../workflow_scripts/tabulate_generalisation.py"


rule plot_fig11:
    input:
        "results/tables/generalisation.tsv",
    output:
        **figure("results/figures/fig11", "Generalisation", "11"),
    log:
        "logs/plot_fig11.log",
    conda:
        "../envs/analysis.yaml"
    params:
        demo=DEMO,
        code=digest("workflow_scripts/plot_fig11.py"),
    script:
        "../workflow_scripts/plot_fig11.py"


rule plot_fig12:
    input:
        "results/tables/generalisation.tsv",
    output:
        **figure("results/figures/fig12", "Generalisation", "12"),
    log:
        "logs/plot_fig12.log",
    conda:
        "../envs/analysis.yaml"
    params:
        demo=DEMO,
        code=digest("workflow_scripts/plot_fig12.py"),
    script:
        "../workflow_scripts/plot_fig12.py"


rule plot_fig13:
    input:
        [CASES.find_scores(case).format(subject=subject) for subject, case in CASES.compared],
    output:
        **figure("results/figures/fig13", "Generalisation", "13"),
    log:
        "logs/plot_fig13.log",
    conda:
        "../envs/analysis.yaml"
    params:
        scored=CASES.compared,
        demo=DEMO,
        code=digest("workflow_scripts/plot_fig13.py"),
    script:
        "../workflow_scripts/plot_fig13.py"


rule plot_test_set:
    input:
        images=lambda w: CASES.find_table(SESSIONS[w.session][0]),
        stimuli=lambda w: pictures_of(SESSIONS[w.session][0]),
        pictures=lambda w: [CASES.list_pictures(c)[s] for c, s in CASES.list_rows(w.session)],
        scores=lambda w: [CASES.find_scores(case) for case, _ in CASES.list_rows(w.session)],
    output:
        **figure(
            "results/{subject}/figures/nsd_{session}",
            "Generalisation",
            "NSD-{session}",
            caption="nsd_session",
        ),
    log:
        "logs/{subject}/plot_test_set.{session}.log",
    wildcard_constraints:
        session=any_of(SETS),
    conda:
        "../envs/analysis.yaml"
    params:
        rows=lambda wildcards: CASES.list_rows(wildcards.session),
        demo=DEMO,
        code=digest("workflow_scripts/plot_test_set.py"),
    script:
        "../workflow_scripts/plot_test_set.py"


rule write_generalisation_page:
    input:
        table="results/tables/generalisation.tsv",
        figures=[f"results/figures/fig{number}.png" for number in (11, 12, 13)]
        + collect("results/{subject}/figures/nsd_{session}.png", subject=SUBJECTS, session=SETS),
    output:
        "results/report/generalisation.html",
    log:
        "logs/write_generalisation_page.log",
    conda:
        "../envs/analysis.yaml"
    params:
        demo=DEMO,
        code=digest("workflow_scripts/write_generalisation_page.py"),
    script:
        "../workflow_scripts/write_generalisation_page.py"
