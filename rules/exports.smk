# Maps in the forms of other tools: GIFTI on each subject's surfaces and on fsaverage, with names of
# BIDS derivatives, and pycortex.

# Every map but those of controls, which have every n-th voxel only.
JOINED = [f"z+{name}" for name in SPACES.levels + SPACES.steps + SPACES.variants]
BEST = {f"blocks-{step}": list(config["trajectories"]["blocks"]) for step in SPACES.step_names}
BEST |= {f"layers-{network}": layers for network, layers in SPACES.networks.items()}
JOINED_MODELS = [*config["encoding"]["joint"]]
EXPORTED = [*SPACES.features, *SPACES.added, *JOINED, *BEST]


rule export_maps:
    input:
        **SURFACES,
        maps=collect("results/{{subject}}/encoding/{space}.nii.gz", space=EXPORTED),
        tables=collect("results/{{subject}}/encoding/{space}.tsv", space=EXPORTED),
        averages=stored(RELEASE.list_averages()),
    output:
        directory("results/{subject}/maps"),
    log:
        "logs/{subject}/export_maps.log",
    benchmark:
        "benchmarks/{subject}/export_maps.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(8000, 60),
    params:
        names=EXPORTED,
        rois=ROIS,
        layers=BEST,
        task=RELEASE.task,
        code=digest("workflow_scripts/export_maps.py"),
    script:
        "../workflow_scripts/export_maps.py"


# Joint models are fitted on request, and so are their maps written.
use rule export_maps as export_joint with:
    input:
        **SURFACES,
        maps=collect("results/{{subject}}/encoding/joint/{model}.nii.gz", model=JOINED_MODELS),
        tables=collect("results/{{subject}}/encoding/joint/{model}.tsv", model=JOINED_MODELS),
        averages=stored(RELEASE.list_averages()),
    output:
        directory("results/{subject}/joint_maps"),
    log:
        "logs/{subject}/export_joint.log",
    benchmark:
        "benchmarks/{subject}/export_joint.tsv"
    params:
        names=[f"joint-{model}" for model in JOINED_MODELS],


rule average_maps:
    input:
        collect("results/{subject}/maps", subject=SUBJECTS),
    output:
        directory("results/maps"),
    log:
        "logs/average_maps.log",
    conda:
        "../envs/analysis.yaml"
    params:
        subjects=SUBJECTS,
        task=RELEASE.task,
        spaces=SPACES.features + SPACES.added,
        code=digest("workflow_scripts/average_maps.py"),
    script:
        "../workflow_scripts/average_maps.py"


rule export_pycortex:
    input:
        maps="results/{subject}/maps",
        surfaces=stored(RELEASE.list_surfaces()),
    output:
        directory("results/{subject}/pycortex"),
    log:
        "logs/{subject}/export_pycortex.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=digest("workflow_scripts/export_pycortex.py"),
    script:
        "../workflow_scripts/export_pycortex.py"
