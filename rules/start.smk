# Checks before the first job runs or is submitted.

import sys

from nsdldm.workflow.slurm import check_run
from nsdldm.workflow.start import look_before
from nsdldm.workflow.status import watch_run
from nsdldm.workflow.targets import find_asked
from nsdldm.workflow.workfolder import describe_lock

if workflow.is_main_process and "--unlock" not in sys.argv:
    if warning := describe_lock(".snakemake"):
        logger.warning(warning)
    unknown = find_asked(workflow, sys.argv, SUBJECTS)
    dry = workflow.output_settings.dryrun
    # With environments of their own, jobs may have what is missing here.
    alike = not workflow.deployment_settings.deployment_method
    for title, findings in look_before(config, RELEASE, unknown, dry, alike):
        stop_on(title, findings)


# What `make status` tells, of the run that begins below.
WATCHES = []


# Report what a cluster would never run before the first job is submitted. The requests of grouped
# jobs are only known once all jobs are.
onstart:
    if workflow.executor_plugin.name == "slurm":
        wrong, warnings = check_run(workflow.dag, workflow.execution_settings.retries)
        stop_on("Slurm would never run these jobs; nothing was submitted:", wrong)
        for warning in warnings:
            logger.warning(warning)
    WATCHES.append(watch_run(workflow.dag))


onsuccess:
    for watch in WATCHES:
        watch.write(ended=True)


onerror:
    for watch in WATCHES:
        watch.write(ended=True)
