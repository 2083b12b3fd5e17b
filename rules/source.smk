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
