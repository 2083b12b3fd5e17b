# A simulated release in the format of the real one. The files that all subjects share are written
# once for all eight, whatever is configured, so that adding a subject changes nothing elsewhere.

from nsdldm.demo.atlases import AVERAGED, LABELS

ATLASES = sorted(LABELS)


rule simulate_stimuli:
    output:
        design=source(layout.DESIGN),
        stim_info=source(layout.STIM_INFO),
        stimuli=source(layout.STIMULI),
        captions=RELEASE.list_captions(),
        # Public tools look for an atlas' names there, whichever atlas it is.
        tables=[
            source(layout.LABEL_TABLE, subject=layout.AVERAGE, atlas=atlas) for atlas in AVERAGED
        ],
    log:
        "logs/demo/simulate_stimuli.log",
    benchmark:
        "benchmarks/demo/simulate_stimuli.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 8
    resources:
        **needs(4000, 15),
    params:
        **config["demo"],
        code=digest("workflow_scripts/simulate_stimuli.py"),
    script:
        "../workflow_scripts/simulate_stimuli.py"


rule simulate_subject:
    input:
        design=source(layout.DESIGN),
        stimuli=source(layout.STIMULI),
    output:
        responses=source(layout.RESPONSES),
        betas=RELEASE.list_simulated_betas(),
        volumes=[source(layout.ROI, atlas=atlas) for atlas in ATLASES],
        tables=[source(layout.LABEL_TABLE, atlas=atlas) for atlas in ATLASES],
        ncsnr=source(layout.NCSNR),
        transforms=RELEASE.list_transforms(),
        averages=RELEASE.list_averages(),
        surfaces=RELEASE.list_surfaces(),
    log:
        "logs/{subject}/simulate_subject.log",
    benchmark:
        "benchmarks/{subject}/simulate_subject.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(4000, 15),
    params:
        **choose("demo", "seed", "sessions"),
        root=lambda wildcards: str(RELEASE.place.root),
        code=digest("workflow_scripts/simulate_subject.py"),
    script:
        "../workflow_scripts/simulate_subject.py"


include: "demo_sets.smk"
