# Joint models of several feature spaces, and representational similarity, on request.

JOINT = config["encoding"]["joint"]


rule fit_banded:
    input:
        kernels=lambda w: sorted(
            {
                f"results/{w.subject}/kernels/{SPACES.find_family(space)}.h5"
                for space in JOINT[w.model]
            }
        ),
        responses="results/{subject}/responses/cortex.h5",
        images="results/{subject}/images.tsv",
    output:
        "results/{subject}/encoding/joint/{model}.h5",
    log:
        "logs/{subject}/fit_banded.{model}.log",
    benchmark:
        "benchmarks/{subject}/fit_banded.{model}.tsv"
    wildcard_constraints:
        model="|".join(JOINT) or "none",
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(fit_memory("encoding"), 240, gpu=1),
    params:
        **choose("encoding", "alphas", "n_folds", "memory_gb", "seed", "mixes"),
        spaces=lambda wildcards: [*map(SPACES.find_computed, JOINT[wildcards.model])],
        form=plan.find_form(config["encoding"]),
        weights=[1],
        device=DEVICE,
        code=digest("workflow_scripts/fit_banded.py"),
    script:
        "../workflow_scripts/fit_banded.py"


rule divide_variance:
    input:
        **CORTEX,
        predictions="results/{subject}/encoding/joint/{model}.h5",
    output:
        map="results/{subject}/encoding/joint/{model}.nii.gz",
        table="results/{subject}/encoding/joint/{model}.tsv",
        summary="results/{subject}/encoding/joint/{model}_regions.tsv",
    log:
        "logs/{subject}/divide_variance.{model}.log",
    wildcard_constraints:
        model="|".join(JOINT) or "none",
    conda:
        "../envs/analysis.yaml"
    threads: 8
    resources:
        **needs(8000, 60),
    params:
        **choose("encoding", "fdr", "flips", "seed", "bootstrap"),
        spaces=lambda wildcards: [*map(SPACES.find_computed, JOINT[wildcards.model])],
        rois=ROIS,
        min_ncsnr=config["encoding"]["group_ncsnr"],
        code=digest("workflow_scripts/divide_variance.py"),
    script:
        "../workflow_scripts/divide_variance.py"


rule tabulate_parts:
    input:
        collect("results/{subject}/encoding/joint/{{model}}_regions.tsv", subject=SUBJECTS),
    output:
        table("joint_{model}", "joint", "joint models"),
    log:
        "logs/tabulate_parts.{model}.log",
    conda:
        "../envs/analysis.yaml"
    params:
        subjects=SUBJECTS,
        code=digest("workflow_scripts/tabulate_parts.py"),
    script:
        "../workflow_scripts/tabulate_parts.py"


rule plot_parts:
    input:
        "results/tables/joint_{model}.tsv",
    output:
        **figure("results/figures/joint_{model}", "Encoding", "joint {model}", caption="joint"),
    log:
        "logs/plot_parts.{model}.log",
    conda:
        "../envs/analysis.yaml"
    params:
        demo=DEMO,
        code=digest("workflow_scripts/plot_parts.py"),
    script:
        "../workflow_scripts/plot_parts.py"


# Test images by halves of their trials, for the noise ceiling.
rule score_rsa:
    input:
        **CORTEX,
        halves=collect("results/{{subject}}/cases/{half}/responses/cortex.h5", half=HALVES),
        kernels=collect(
            "results/{{subject}}/kernels/{family}.h5",
            family=["features", *(["added"] if SPACES.added else [])],
        ),
        images="results/{subject}/images.tsv",
    output:
        "results/{subject}/rsa.tsv",
    log:
        "logs/{subject}/score_rsa.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(8000, 60),
    params:
        **choose("encoding", "bootstrap", "seed"),
        spaces=SPACES.features + SPACES.added,
        rois=ROIS,
        form=plan.find_form(config["encoding"]),
        min_ncsnr=config["encoding"]["group_ncsnr"],
        code=digest("workflow_scripts/score_rsa.py"),
    script:
        "../workflow_scripts/score_rsa.py"


rule tabulate_rsa:
    input:
        collect("results/{subject}/rsa.tsv", subject=SUBJECTS),
    output:
        table("rsa"),
    log:
        "logs/tabulate_rsa.log",
    conda:
        "../envs/analysis.yaml"
    params:
        subjects=SUBJECTS,
        code=digest("workflow_scripts/tabulate_rsa.py"),
    script:
        "../workflow_scripts/tabulate_rsa.py"
