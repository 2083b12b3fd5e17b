# Report what a cluster would never run before the first job is submitted. The requests of grouped
# jobs are only known once all jobs are.

from nsdldm.workflow.slurm import Asked, ask_partitions, check_job, check_jobs


def submitted():
    """Jobs that go to the cluster, a group as one."""
    needed = set(workflow.dag.needrun_jobs())
    for job in workflow.dag.get_jobs_or_groups():
        if not job.is_local and needed & set(job if job.is_group() else [job]):
            yield job


def asked_of_slurm(job, attempt):
    """What a job asks for, the first time or after failures."""
    name = job.groupid if job.is_group() else job.name
    job.attempt = attempt
    asked = {key: job.resources.get(key, 0) for key in ("runtime", "mem_mb", "_cores")}
    partition = str(job.resources.get("slurm_partition", ""))
    job.attempt = 1
    return Asked(name, partition, *asked.values())


def check_slurm():
    """Stop on jobs that Slurm would refuse or let wait for ever, and repeat none until it would."""
    allowed = ask_partitions()
    if not allowed:
        logger.warning(
            "Slurm does not say what it allows; jobs are submitted unchecked."
        )
        return
    asked = [asked_of_slurm(job, 1) for job in submitted()]
    stop_on(
        "Slurm would never run these jobs; nothing was submitted:",
        check_jobs(asked, allowed),
    )
    for n_failures in range(workflow.execution_settings.retries, 0, -1):
        jobs = {job: asked_of_slurm(job, 1 + n_failures) for job in submitted()}
        too_large = [job for job in jobs if check_job(jobs[job], allowed)]
        for job in too_large:
            for each in job if job.is_group() else [job]:
                times = min(each.rule.restart_times, n_failures - 1)
                each.rule.restart_times = times
        if too_large:
            names = ", ".join(sorted({jobs[job].job for job in too_large}))
            logger.warning(
                f"Submitted {n_failures} times at most, since their partition does not allow "
                f"{1 + n_failures} times as much: {names}."
            )


onstart:
    if workflow.executor_plugin.name == "slurm":
        check_slurm()
