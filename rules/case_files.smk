# What rules of cases share: which cases there are, and where the files of each are.

from nsdldm.workflow.cases import ALIGNED, HALVES, HOUR_CASE, SESSIONS, SHARED, TRUE, list_cases

CASES = list_cases(config)
CASE = "results/{subject}/cases/{case}"
OF_CASE = "results/{subject}/{protocol}@{case}"
# Trials of the sessions of other test sets.
SETS = {"synthetic": layout.SYNTHETIC_TRIALS, "imagery": layout.IMAGERY_TRIALS}
SETS = {name: n for name, n in SETS.items() if name in config["nsd"]["test_sets"]}
GENERAL = config["generalisation"]
REGIONS = sorted(set(CASES.targets.values()))


def any_of(names):
    """A pattern of a wildcard that is one of these names."""
    return "|".join(names) or "none"


def of_case(find, *names):
    """An input function: what a method of `Cases` finds for a job's case and each name."""
    return lambda w: [find(w.case, name) for name in names] if names else find(w.case)


def of_split(key):
    """A setting of those divisions that it concerns, as a param."""
    concerned = {"clusters": ("cluster",), "share": ("random", "cluster", "category")}
    held = concerned.get(key, ("random", "cluster", "category", *CASES.drawn))
    return lambda wildcards: GENERAL[key] if wildcards.case in held else None


def of_targets(template):
    """Files of all decoded targets."""
    return [template.replace("{target}", target) for target in CASES.targets]


def of_others(template, **names):
    """An input function: files of the other subjects, subject by subject."""

    def files(wildcards):
        others = [name for name in SUBJECTS if name != wildcards.subject]
        return [file for name in others for file in collect(template, subject=name, **names)]

    return files


def of_method(target):
    """An input function: the file of z or c that pictures of a case are made of."""
    return lambda w: CASES.find_given(w.case, w.method, target)


ENCODED = "results/{subject}/encoding/cases/{case}"


def pictures_of(case):
    """The file with the pictures of a case's images."""
    own = CASES.find_tables(case)
    if own in CASES.sets:
        return f"results/{{subject}}/cases/{own}/pictures.hdf5"
    return RELEASE.locate_stimuli()
