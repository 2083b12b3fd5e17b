# Where a release has no transforms and flat maps of its own: both computed from FreeSurfer's
# surfaces.


rule prepare_surfaces:
    input:
        reference=stored(RELEASE.locate_reference()),
        white=stored([RELEASE.locate_surface(hemi, "white") for hemi in layout.HEMISPHERES]),
        pial=stored([RELEASE.locate_surface(hemi, "pial") for hemi in layout.HEMISPHERES]),
        spheres=stored([RELEASE.locate_surface(hemi, "sphere.reg") for hemi in layout.HEMISPHERES]),
    output:
        transforms=RELEASE.list_transforms(),
        flats=RELEASE.list_flats(),
        averages=RELEASE.list_averages(),
    log:
        "logs/{subject}/prepare_surfaces.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(4000, 30),
    params:
        code=digest("workflow_scripts/prepare_surfaces.py"),
    script:
        "../workflow_scripts/prepare_surfaces.py"
