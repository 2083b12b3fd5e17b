# Layers of any network, and which of them predicts each voxel best. As for U-Net blocks, only their
# Gram matrices are kept.

from nsdldm.workflow.networks import list_layered

NETWORKS = config["networks"]
SOURCE = ("network", "function", "options", "weights", "revision", "sha256", "pixels", "colours")
KEPT = ("layers", "reduction", "width")


# A wrong layer is found here, before any picture is looked at.
rule describe_network:
    input:
        lambda wildcards: list_layered(config, wildcards.network),
    output:
        "results/networks/{network}.tsv",
    log:
        "logs/describe_network.{network}.log",
    priority: 1
    conda:
        "../envs/torch.yaml"
    params:
        source=lambda w: {key: NETWORKS[w.network][key] for key in SOURCE},
        kept=lambda w: {key: NETWORKS[w.network][key] for key in KEPT},
        code=digest("workflow_scripts/describe_network.py"),
    script:
        "../workflow_scripts/describe_network.py"


rule collect_layers:
    input:
        images="results/{subject}/images.tsv",
        stimuli=RELEASE.locate_stimuli(),
        weights=lambda wildcards: list_layered(config, wildcards.network),
        layers="results/networks/{network}.tsv",
    output:
        temp("results/{subject}/activations/{network}.{chunk}.npy"),
    log:
        "logs/{subject}/collect_layers.{network}.{chunk}.log",
    benchmark:
        "benchmarks/{subject}/collect_layers.{network}.{chunk}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(16000, 60, gpu=1),
    params:
        **choose("model", "batch_size"),
        source=lambda w: {key: NETWORKS[w.network][key] for key in SOURCE},
        kept=lambda w: {key: NETWORKS[w.network][key] for key in KEPT},
        n_chunks=config["trajectories"]["chunks"],
        device=DEVICE,
        code=digest("workflow_scripts/collect_layers.py"),
    script:
        "../workflow_scripts/collect_layers.py"


rule compute_layer_gram:
    input:
        images="results/{subject}/images.tsv",
        chunks=collect(
            "results/{{subject}}/activations/{{network}}.{chunk}.npy",
            chunk=range(config["trajectories"]["chunks"]),
        ),
    output:
        "results/{subject}/grams/{network}-{layer}.npy",
    log:
        "logs/{subject}/compute_layer_gram.{network}-{layer}.log",
    benchmark:
        "benchmarks/{subject}/compute_layer_gram.{network}-{layer}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **needs(16000, 15, gpu=1),
    params:
        device=DEVICE,
        code=digest("workflow_scripts/compute_layer_gram.py"),
    script:
        "../workflow_scripts/compute_layer_gram.py"


use rule choose_blocks as choose_layers with:
    input:
        **CORTEX,
        predictions="results/{subject}/encoding/predictions/layers-{network}.h5",
    output:
        maps=["results/{subject}/encoding/layers-{network}.nii.gz"],
        tables=["results/{subject}/encoding/layers-{network}.tsv"],
        errors=["results/{subject}/encoding/layers-{network}-errors.tsv"],
    log:
        "logs/{subject}/choose_layers.{network}.log",
    params:
        models=lambda w: {
            w.network: {layer: f"{w.network}-{layer}" for layer in SPACES.networks[w.network]}
        },


use rule tabulate_blocks as tabulate_layers with:
    input:
        collect("results/{subject}/encoding/layers-{{network}}-errors.tsv", subject=SUBJECTS),
    output:
        table("layers_{network}", "layers", "layers of {network}"),
    log:
        "logs/tabulate_layers.{network}.log",
    params:
        shares=lambda wildcards: [wildcards.network],
        blocks=lambda wildcards: SPACES.networks[wildcards.network],
        names={"share": "network", "block": "layer"},


rule plot_best_layer:
    input:
        **SURFACES,
        table="results/{subject}/encoding/layers-{network}.tsv",
        errors="results/{subject}/encoding/layers-{network}-errors.tsv",
    output:
        **figure(
            "results/{subject}/figures/layers_{network}",
            "Encoding",
            "layers of {network}",
            caption="best_layer",
        ),
    log:
        "logs/{subject}/plot_best_layer.{network}.log",
    conda:
        "../envs/analysis.yaml"
    params:
        **choose("encoding", "bootstrap", "seed"),
        layers=lambda wildcards: SPACES.networks[wildcards.network],
        rois=ROIS,
        demo=DEMO,
        code=digest("workflow_scripts/plot_best_layer.py"),
    script:
        "../workflow_scripts/plot_best_layer.py"
