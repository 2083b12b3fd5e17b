"""For the Snakefile alone: settings, what to run, and what must hold before a run."""
