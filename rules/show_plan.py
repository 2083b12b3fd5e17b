"""Sum up for a person what a run would do: by subject, which rules, how often, and why.

    python rules/show_plan.py --cores 2 results/figures/fig6.png

takes whatever snakemake takes; `make plan` is this without more.
"""

import io
import logging
import sys
from collections import Counter, defaultdict
from contextlib import redirect_stdout

from snakemake.cli import main as snakemake
from snakemake_interface_logger_plugins.common import LogEvent

EVERYONE = "all subjects"


class Jobs(logging.Handler):
    """Counts the jobs that Snakemake logs, by subject, rule and reason."""

    def __init__(self):
        super().__init__()
        self.counts = defaultdict(Counter)

    def emit(self, record):
        """Take in a line of the log; of a rule without outputs, such as `all`, nothing is run."""
        if getattr(record, "event", None) == LogEvent.JOB_INFO and record.output:
            subject = (record.wildcards or {}).get("subject", EVERYONE)
            self.counts[subject][record.rule_name, record.reason.partition(":")[0]] += 1


def describe(counts):
    """Lines of the summary, subjects first."""
    if not counts:
        return ["Nothing to do: every result is up to date."]
    lines = []
    width = max(len(rule) for jobs in counts.values() for rule, _ in jobs)
    for subject in sorted(counts, key=lambda name: (name == EVERYONE, name)):
        lines.append(f"{subject}: {_number(counts[subject].total())}")
        for (rule, reason), count in sorted(counts[subject].items()):
            lines.append(f"    {rule:{width}} {count:4}  {reason}")
        lines.append("")
    return [*lines, f"{_number(sum(jobs.total() for jobs in counts.values()))} in all."]


def _number(count):
    return f"{count} job" + "s" * (count != 1)


def main():
    """Run Snakemake dry, with the arguments of this command."""
    jobs, said = Jobs(), io.StringIO()
    # Its own logger starts without handlers, and hands on what is logged to this one.
    logging.getLogger("snakemake").addHandler(jobs)
    sys.argv = ["snakemake", *sys.argv[1:], "--dry-run", "--quiet", "host", "progress", "rules"]
    status = 0
    try:
        with redirect_stdout(said):
            snakemake()
    except SystemExit as end:
        status = end.code
    print(said.getvalue() if status else "\n".join(describe(jobs.counts)))
    sys.exit(status)


if __name__ == "__main__":
    main()
