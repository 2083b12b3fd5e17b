# A simulated release of LAION-fMRI. The files that all subjects share are written once for all of
# them, whatever is configured.

from nsdldm.demo import laion_files
from nsdldm.laion.layout import METADATA, STIMULI
from nsdldm.laion.layout import SUBJECTS as EVERYONE

SIZES = {
    **choose("demo", "seed", "shared_images"),
    "own_images": config["demo"]["unique_images"],
    "ood_images": max(4, config["demo"]["shared_images"] // 5),
}
FILES = laion_files.subject_files("results/demo", "{subject}", config["demo"]["sessions"])


rule simulate_laion_stimuli:
    output:
        [*laion_files.shared_files("results/demo", EVERYONE).values()],
    log:
        "logs/demo/simulate_laion_stimuli.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(4000, 15),
    params:
        sizes=SIZES,
        root=str(RELEASE.place.root),
        subjects=list(EVERYONE),
        code=digest("workflow_scripts/simulate_laion_stimuli.py"),
    script:
        "../workflow_scripts/simulate_laion_stimuli.py"


# Without masks that only some subjects have.
rule simulate_laion_subject:
    input:
        metadata=source(METADATA),
        stimuli=source(STIMULI),
    output:
        [FILES[name] for name in laion_files.list_common(FILES)],
    log:
        "logs/{subject}/simulate_laion_subject.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(4000, 15),
    params:
        sessions=config["demo"]["sessions"],
        sizes=SIZES,
        root=str(RELEASE.place.root),
        code=digest("workflow_scripts/simulate_laion_subject.py"),
    script:
        "../workflow_scripts/simulate_laion_subject.py"
