# Trials, masks and matrices from a dataset's files, by its form: everything after these rules only
# reads results/, but for the figures' surfaces.

if DEMO:

    include: f"demo_{RELEASE.form}.smk"

elif RELEASE.remote:

    include: "s3.smk"


# So that results of one dataset never overwrite those of another.
rule note_source:
    output:
        "results/source.tsv",
    log:
        "logs/note_source.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        source=RELEASE.source,
        code=digest("workflow_scripts/note_source.py"),
    script:
        "../workflow_scripts/note_source.py"


include: f"{RELEASE.form}.smk"
