"""Cases: what decoders and encoders are fitted to and tested on, and where the files of each are.

Everything that takes a decoding protocol takes a case behind it, as in ``corrected@cluster``; the
plain protocol is the shared split. No heavy imports, since every job does this.
"""

from __future__ import annotations

from dataclasses import dataclass

from nsdldm.workflow.plan import FORMATS, find_form, list_beyond

SHARED = "shared"
HALVES = ("half-1", "half-2")
# The sessions of other test sets, and the tasks in each that are cases.
SESSIONS = {"synthetic": ("synthetic",), "imagery": ("vision", "imagery", "attention")}
# Cases of the one-hour protocol whose decoders are those of other subjects, and the case whose
# images each has. The latter are fitted to the subject's own trials.
ALIGNED = {"hour-aligned": "hour", "hour-tuned": "hour", "others": "hour-all"}
HOURS = ("hour", "hour-all")
# The trained decoder of all subjects jointly, of whom this one contributes the hour.
HOUR_CASE = "hour-joint"
# True features instead of decoded ones.
TRUE = "-true"
CAPTION = "true-caption"


@dataclass(frozen=True)
class Cases:
    """The cases of a run.

    Parameters
    ----------
    protocol : str
        Of all decoders: the first that fits an intercept.
    subjects : list of str
    splits : list of str
        Divisions of the images beside the shared one.
    sets : list of str
        Cases of other test sets.
    ranks : list of int
        Sizes of the bottleneck.
    targets : dict of str to str
        Features that are decoded, and the region of each.
    space : str or None
        The feature space by which images are similar.
    encoders : list of str
        Spaces whose encoders are tested.
    betas : str or None
        The version of the betas that is compared.
    form : str
        Of the responses that encoders of the core are fitted to.
    joint : str or None
        The trained decoder whose joint training is tested with an hour.
    """

    protocol: str
    subjects: list
    splits: list
    sets: list
    ranks: list
    targets: dict
    space: str | None
    encoders: list
    betas: str | None
    form: str
    joint: str | None

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of every case that is scored, in the order of tables and figures."""
        aligned = [*ALIGNED] * (len(self.subjects) > 1)
        aligned += [HOUR_CASE] * bool(self.joint)
        kinds = {"split": [SHARED, *self.splits], "test set": self.sets}
        kinds |= {"little data": [*HOURS, *aligned], "bottleneck": [*self.narrow, *self.noise]}
        kinds |= {"baseline": ["mean", CAPTION], "betas": ["betas"] * bool(self.betas)}
        kinds |= {"half": HALVES}
        return {case: kind for kind, cases in kinds.items() for case in cases}

    @property
    def narrow(self) -> list[str]:
        """Decoders that pass few numbers on."""
        return [f"rank-{rank}" for rank in self.ranks]

    @property
    def noise(self) -> list[str]:
        """The same decoders, fitted to noise."""
        return [f"noise-rank-{rank}" for rank in self.ranks]

    @property
    def divided(self) -> list[str]:
        """Cases that divide the images of the core experiment."""
        return [SHARED, *self.splits, *HALVES, *HOURS]

    @property
    def drawn(self) -> list[str]:
        """Cases whose images are drawn with a seed, besides those held out."""
        return [*HOURS, *(name for name in self.splits if name.startswith("unique"))]

    @property
    def fitted(self) -> list[str]:
        """Cases with decoders of their own, fitted to trials of the subject."""
        return [*self.divided[1:], "betas"]

    @property
    def encoded(self) -> list[str]:
        """Cases that encoders are tested in."""
        cases = [SHARED, *self.splits, *self.sets]
        return [case for case in cases if self.list_encoded(case)]

    @property
    def compared(self) -> list[tuple[str, str]]:
        """Cases whose scores are compared by the similarity of their images to the training's."""
        wanted = (SHARED, "random", "cluster", "category")
        cases = [case for case in wanted if case in (SHARED, *self.splits)]
        return [(subject, case) for case in cases for subject in self.subjects]

    def list_encoded(self, case: str) -> list[str]:
        """Spaces of encoders that a case's images have features of."""
        return [name for name in self.encoders if name != "c" or case not in self.sets]

    def find_session(self, case: str) -> str | None:
        """The session of another test set that a case is of."""
        return next((name for name, tasks in SESSIONS.items() if case in tasks), None)

    def find_tables(self, case: str) -> str:
        """The case whose tables of trials and images apply to another one."""
        case = case.removesuffix(TRUE)
        if case in {*self.divided, *self.sets}:
            return case
        return "hour" if case == HOUR_CASE else ALIGNED.get(case, SHARED)

    def find_table(self, case: str, name: str = "images") -> str:
        """A case's table of images or trials."""
        return f"results/{{subject}}/cases/{self.find_tables(case)}/{name}.tsv"

    def find_known(self, case: str) -> str:
        """The case whose training images its decoders are fitted to."""
        return SHARED if case in self.sets else case

    def find_protocol(self, case: str) -> str:
        """A case behind the protocol, in paths."""
        if case == HOUR_CASE:
            return "trained@hour"
        return self.protocol if case == SHARED else f"{self.protocol}@{case}"

    def find_decoded(self, case: str, target: str) -> str:
        """Decoded features of a case."""
        return f"results/{{subject}}/{self.find_protocol(case)}/decoded/{target}.npy"

    def find_features(self, case: str, target: str) -> str:
        """True features of the images in a case's table."""
        session = self.find_session(self.find_tables(case))
        # The tasks of a session have the same pictures.
        folder = f"cases/{SESSIONS[session][0]}/features" if session else "features"
        return f"results/{{subject}}/{folder}/{target}.npy"

    def list_scored(self, case: str) -> dict[str, str]:
        """Targets of which a case's images have true features, and their region.

        Images of other test sets have no captions.
        """
        if case in (CAPTION, HOUR_CASE):
            return {}
        return {
            name: roi for name, roi in self.targets.items() if name != "c" or case not in self.sets
        }

    def list_rows(self, session: str) -> list[tuple[str, str]]:
        """Cases and sources in the rows of a test set's figure, true features last."""
        cases = SESSIONS[session]
        return [*((case, "zc") for case in cases), (cases[0], "true-z")]

    @property
    def pattern(self) -> str:
        """Pattern of a case that pictures are made in, perhaps of true features."""
        return f"({'|'.join(self.kinds)})({TRUE})?"

    def find_betas(self, case: str) -> str:
        """Single-trial betas of a region that responses of a case are made of."""
        session = "betas" if case == "betas" else self.find_session(case)
        return f"results/{{subject}}/{f'sessions/{session}' if session else 'betas'}/{{roi}}.npy"

    def list_forms(self, case: str, roi: str) -> list[str]:
        """Forms of the training responses (see `nsdldm.responses`); a test set has none."""
        trials, averages = roi in self.targets.values(), roi == "cortex"
        if self.joint and case == "hour":
            trials = averages = True
        if case in self.sets:
            trials, averages = False, True
        rows = ["trials"] * trials + ["averages"] * averages
        forms = {f"zscored/{name}" for name in rows}
        # Reliability of the encoders is that of the responses that they were fitted to.
        return sorted(forms | ({self.form} if roi == "cortex" and case in HALVES else set()))

    def find_aligned(self, case: str, roi: str) -> str:
        """Responses of a case whose decoders are those of other subjects."""
        return self.find_responses(self.find_tables(case), roi)

    def find_given(self, case: str, method: str, target: str) -> str | list:
        """The file of z or c that a case's pictures are made of, if the method takes it."""
        if target not in method:
            return []
        find = self.find_features if case.endswith(TRUE) else self.find_decoded
        return find(case, target)

    def find_responses(self, case: str, roi: str) -> str:
        """Responses that a case's models are tested on, and fitted to unless it is a test set."""
        if case == SHARED:
            return f"results/{{subject}}/responses/{roi}.h5"
        return f"results/{{subject}}/cases/{case}/responses/{roi}.h5"

    def list_pictures(self, case: str) -> dict[str, str]:
        """Reconstructions of a case that are scored, by what they are called."""
        path = "results/{{subject}}/{}/reconstructions/{}.h5"
        # Without captions there is no ceiling, only what the generator makes of z.
        name, method = ("true-z", "z") if case in self.sets else ("ceiling", "zc")
        true = path.format(self.find_protocol(f"{self.find_tables(case)}{TRUE}"), method)
        if case == CAPTION:
            return {"c": path.format(self.find_protocol(f"{SHARED}{TRUE}"), "c")}
        if case == HOUR_CASE:
            return {self.joint: path.format(self.find_protocol(case), self.joint)}
        own = {"zc": path.format(self.find_protocol(case), "zc")}
        return own | ({name: true} if self.find_ceiling(case) == case else {})

    def find_ceiling(self, case: str) -> str:
        """The case whose ceiling applies: one with the same test images."""
        if session := self.find_session(case):
            return SESSIONS[session][0]
        if case in self.splits:
            return case
        return "hour-all" if self.find_tables(case) in HOURS else SHARED

    def find_scores(self, case: str) -> str:
        """Scores of every image of a case."""
        own = f"{self.protocol}@{SHARED}" if case == SHARED else self.find_protocol(case)
        return f"results/{{subject}}/{own}/scores.tsv"

    def list_targets(self) -> list[str]:
        """Files that a run on request ends in."""
        if self.space is None:
            return []
        figures = [f"results/figures/{name}" for name in ("fig11", "fig12", "fig13")]
        figures += [
            f"results/{subject}/figures/nsd_{session}"
            for subject in self.subjects
            for session in dict.fromkeys(map(self.find_session, self.sets))
        ]
        return [
            "results/tables/generalisation.tsv",
            "results/report/generalisation.html",
            *(f"{path}.{suffix}" for path in figures for suffix in FORMATS),
        ]


def list_cases(settings: dict) -> Cases:
    """The cases of a run, as `Cases`."""
    own = settings["generalisation"]
    targets, trained = settings["decoding"]["targets"], settings["trained"]
    sets = [name for name in settings["nsd"]["test_sets"] if name != SHARED]
    return Cases(
        protocol=list_beyond(settings).protocol,
        subjects=settings["subjects"],
        splits=own["splits"],
        sets=[task for name in sets for task in SESSIONS[name]],
        ranks=own["ranks"],
        targets={name: targets[name] for name in ("z", "c", own["space"]) if name in targets},
        space=own["space"],
        encoders=own["encoders"],
        betas=own["betas"],
        form=find_form(settings["encoding"]),
        joint=next(iter(trained["methods"]), None)
        if own["trained"] and len(settings["subjects"]) > 1
        else None,
    )
