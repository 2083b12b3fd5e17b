"""What a run makes, as plain lists: feature spaces, methods, training stages, targets.

Every function takes all settings, as returned by `nsdldm.workflow.loading.load_settings`, and
touches no files. No heavy imports, since every job does this.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from nsdldm.features.spaces import BEFORE, PARTS, split_control
from nsdldm.trained.presets import resolve
from nsdldm.workflow.settings import NEAREST, ROLES, Protocol, plan_trajectories

# Each figure is written as pixels and as vectors.
FORMATS = ("png", "pdf")
FEATURES = ("z", "c", "zc")
# Of ridge decoders.
PROTOCOLS = get_args(Protocol)
TABLES = ("encoding", "group", "noise", "blocks", "protocols", "metrics", "learning_curve")
# Presets whose methods the two published tables of fCAE compare.
TABLE2 = ("fcae", "fcae-base", "mind-vis", "vis-dec")
TABLE3 = ("mae-fi", "mae-f")
# Ridge methods that take each of z and c.
TAKEN = {"z": ("z", "z-coarse", "zc", "true-zc"), "c": ("c", "zc", "true-zc")}
# The function of the generator that needs no entry of its own.
STABLE_DIFFUSION = "nsdldm.generators.generator.open_stable_diffusion"
# The ridge method that takes true features.
CEILING = "true-zc"
# Decoders trained on all subjects together; and on all of whom one contributes a session only.
JOINT = "joint"
HOUR = "hour"
# Files of a subject that differ for that one.
OF_HOUR = {
    "results/{subject}/images.tsv": "results/{subject}/cases/hour/images.tsv",
    "results/{subject}/trained/train.npy": "results/{subject}/cases/hour/trained/train.npy",
    "results/{subject}/trained/train.tsv": "results/{subject}/cases/hour/trained/train.tsv",
}
# Files of a method's run, by what rules call them.
RUN_FILES = {
    "reconstructions": "results/{}/{}/reconstructions/{}.h5",
    "samples": "results/{}/{}/evaluation/{}_samples.tsv",
    "tables": "results/{}/{}/evaluation/{}.tsv",
    "summaries": "results/{}/{}/evaluation/{}_summary.tsv",
}


@dataclass(frozen=True)
class Spaces:
    """Names of the feature spaces of a run.

    Parameters
    ----------
    features : list of str
        z, c and z_c.
    added : list of str
        Those of `feature_spaces` that encoders are fitted to.
    levels, steps, blocks : list of str
        Along the reverse process: z_c by noise level, by step of one level, and activations of
        U-Net blocks at these steps.
    drawn_levels : list of str
        The levels in figure 7.
    twins : dict of str to str
        For a level that is also the last of the steps, the step's name. It is computed once, under
        that name, and judged under both.
    variants : list of str
        The steps with other noise or another seed.
    controlled, controls : list of str
        Spaces that have controls, and the spaces collected for these: z_c with other texts. Other
        seeds are compared with one another and need no controls.
    parts : list of str
        Everything compared with the controlled spaces, including their own parts.
    chains : list of str
        Further passes over the steps: names of variants, also with other texts.
    networks : dict of str to list of str
        Layers of other networks, by the network's name.
    """

    features: list
    added: list
    levels: list
    steps: list
    blocks: list
    drawn_levels: list
    twins: dict
    variants: list
    controlled: list
    controls: list
    parts: list
    chains: list
    networks: dict

    def find_computed(self, space: str) -> str:
        """The name under which a space, which may be a control, is computed."""
        whole, control = split_control(space)
        return "-".join(filter(None, [self.twins.get(whole, whole), control]))

    def _drop_twins(self, spaces):
        return [space for space in spaces if self.find_computed(space) == space]

    @property
    def noised(self) -> list[str]:
        """Levels that are computed under their own names."""
        return self._drop_twins(self.levels)

    @property
    def starts(self) -> list[str]:
        """Latents that the steps start from."""
        return [f"{BEFORE}-{step}" for step in self.step_names]

    @property
    def chain(self) -> list[str]:
        """What the reverse process leaves: z_c, and the ends and starts of its steps."""
        return ["zc", *self.steps, *self.starts]

    @property
    def latents(self) -> list[str]:
        """Levels and steps, each computed once."""
        return [*self.noised, *self.steps]

    @property
    def families(self) -> dict[str, list[str]]:
        """Spaces whose encoders are fitted together, by the name of their file."""
        families = {name: self._drop_twins(spaces) for name, spaces in self.reported.items()}
        return {name: spaces for name, spaces in families.items() if spaces}

    @property
    def reported(self) -> dict[str, list[str]]:
        """Spaces that are judged together, by the name of their family."""
        families = {
            "features": self.features,
            "added": self.added,
            "levels": self.levels,
            "steps": self.steps,
            "controls": self.parts,
            "variants": self.variants,
            "blocks": self.blocks,
            **self.layered,
        }
        return {name: spaces for name, spaces in families.items() if spaces}

    @property
    def layered(self) -> dict[str, list[str]]:
        """Layers of each network, which are fitted together."""
        return {
            f"layers-{name}": [f"{name}-{layer}" for layer in layers]
            for name, layers in self.networks.items()
        }

    @property
    def ranked(self) -> list[str]:
        """Families whose spaces are compared with one another, never fitted jointly with z."""
        return ["blocks", *self.layered]

    @property
    def fitted(self) -> dict[str, list[str]]:
        """Families whose predictions hold the spaces that are judged together."""
        found = {name: [name] * (name in self.families) for name in self.reported}
        return found | {"levels": found["levels"] + ["steps"] * bool(self.twins)}

    @property
    def scored(self) -> list[str]:
        """Families whose spaces are fitted by themselves, to be scored."""
        return [name for name in ("features", "added") if name in self.reported]

    @property
    def joint(self) -> list[str]:
        """Families whose spaces are fitted jointly with z."""
        wanted = ("levels", "steps", "controls", "variants")
        return [name for name in wanted if name in self.reported]

    def list_maps(self, family: str) -> dict[str, list[str]]:
        """Maps and tables of the spaces of a family, or of their joint models with z."""
        stem = "z+{}" if family in self.joint else "{}"
        stems = [
            f"results/{{subject}}/encoding/{stem.format(own)}" for own in self.reported[family]
        ]
        endings = {"maps": "nii.gz", "tables": "tsv"}
        return {key: [f"{own}.{ending}" for own in stems] for key, ending in endings.items()}

    @property
    def gathered(self) -> dict[str, list[str]]:
        """Spaces that passes along the reverse process leave as features, by kind of pass."""
        kinds = {"levels": self.noised, "variants": self.variants, "controls": self._controls}
        return {name: spaces for name, spaces in kinds.items() if spaces}

    @property
    def _controls(self):
        return self._drop_twins(self.controls)

    @property
    def from_features(self) -> dict[str, list[str]]:
        """Features that the kernels of each family are computed from."""
        none = {name: [] for name in self.ranked}
        return self.families | {"controls": self._controls, **none}

    @property
    def from_grams(self) -> dict[str, list[str]]:
        """Gram matrices of activations that they are computed from."""
        grams = {"blocks": self.blocks, **self.layered}
        return {name: [] for name in self.from_features} | grams

    @property
    def kernels(self) -> dict[str, list[str]]:
        """Families whose kernels the fit of each reads.

        Controls are also parts of the spaces that they control.
        """
        read = {name: ["features"] * (name in self.joint) + [name] for name in self.families}
        own = {*self.controlled, *self.controls}
        parts = [name for name in self.joint if own & {*self.from_features.get(name, ())}]
        return read | {"controls": ["features", *parts]}

    def find_family(self, space: str) -> str:
        """The family whose kernels have a space's."""
        own = self.find_computed(space)
        held = self.from_grams.items(), self.from_features.items()
        return next(name for kind in held for name, spaces in kind if own in spaces)

    @property
    def judged(self) -> list[str]:
        """Families whose scores are compared between subjects, in the order of the table."""
        names = ("features", "levels", "steps", "controls", "added", "variants")
        return [name for name in names if name in self.reported]

    @property
    def rows(self) -> dict[str, list[str]]:
        """Spaces in the rows of each cortical map; in figures 7 and 8, those fitted with z."""
        rows = {"fig6": self.features, "feature_spaces": self.added}
        return rows | {"fig7": self.drawn_levels, "fig8": self.steps}

    @property
    def pairs(self) -> dict[str, list[str]]:
        """Spaces whose joint models with z figures 7 and 8 draw: rows, and their controls."""
        rows = {name: self.rows[name] for name in ("fig7", "fig8")}
        return {
            name: [*own, *(part for part in self.parts if split_control(part)[0] in own)]
            for name, own in rows.items()
        }

    @property
    def step_names(self) -> list[str]:
        """Names of the steps without z_c."""
        return [space.removeprefix("zc-") for space in self.steps]


def list_spaces(settings: dict) -> Spaces:
    """The feature spaces of a run, as `Spaces`."""
    own = settings["trajectories"]
    planned = plan_trajectories(settings)
    levels, steps, blocks = (
        [space for space in planned if space.startswith(prefix)]
        for prefix in ("zc-n", "zc-s", "unet-")
    )
    noises = [name for name, changed in own["variants"].items() if "noise" in changed]
    controlled = [*levels, *steps, *(f"{space}-{name}" for name in noises for space in steps)]
    return Spaces(
        features=list(FEATURES),
        added=[
            name for name, own in settings["feature_spaces"].items() if own.get("encoders", True)
        ],
        levels=levels,
        steps=steps,
        blocks=blocks,
        twins={
            level: step for level in levels for step in steps if planned[level] == planned[step]
        },
        drawn_levels=[name for name in levels if planned[name].strength in own["drawn_levels"]],
        variants=[f"{space}-{name}" for name in own["variants"] for space in steps],
        controlled=controlled,
        controls=[f"{space}-{control}" for control in own["controls"] for space in controlled],
        parts=[f"{space}-{part}" for space in controlled for part in (*own["controls"], *PARTS)],
        chains=[
            *own["variants"],
            *(f"{name}-{control}" for name in noises for control in own["controls"]),
        ],
        networks={name: list(own["layers"]) for name, own in settings["networks"].items()},
    )


def list_parts(spaces: list[str], suffix: str = "") -> list[str]:
    """Files along the reverse process of one chunk of the images."""
    return [f"results/{{subject}}/trajectories/{space}{suffix}.{{chunk}}.npy" for space in spaces]


def list_chunks(settings: dict, spaces: list[str]) -> list[str]:
    """The same of all chunks, space by space."""
    chunks = range(settings["trajectories"]["chunks"])
    return [part.replace("{chunk}", f"{n}") for part in list_parts(spaces) for n in chunks]


def find_chain(settings: dict, name: str) -> tuple[dict, str]:
    """How a chain of `Spaces.chains` is denoised, and with which text, from its name."""
    variant, control = split_control(name)
    changed = settings["trajectories"]["variants"][variant]
    return settings["denoising"] | changed, control or "own"


def group_regions(settings: dict) -> dict[str, dict[str, list[str]]]:
    """Parts of regions by region, those with matrices apart from others."""
    groups = {"matrices": {}, "regions": {}}
    for roi, parts in settings["rois"].items():
        groups["matrices" if roi in settings["matrices"] else "regions"][roi] = parts
    return {name: rois for name, rois in groups.items() if rois}


def list_runs(settings: dict, protocols: list[str] | None = None) -> list[tuple[str, str, str]]:
    """The (subject, protocol, method) of all ridge reconstructions, or of some protocols."""
    return [
        (subject, protocol, method)
        for protocol in protocols or settings["decoding"]["protocols"]
        for subject in settings["subjects"]
        for method in settings["reconstruction"]["methods"]
    ]


def list_drawn_runs(settings: dict) -> list[tuple[str, str, str]]:
    """The same for the protocol that figures show, the first."""
    return list_runs(settings, settings["decoding"]["protocols"][:1])


def list_run_files(runs: list[tuple[str, str, str]], *kinds: str) -> dict[str, list[str]]:
    """Files of runs by kind, which is one of `RUN_FILES`."""
    return {kind: [RUN_FILES[kind].format(*run) for run in runs] for kind in kinds}


def find_taken(target: str, method: str) -> str | list:
    """The file of z or c that a ridge method takes: decoded, the images' own, or none."""
    if method not in TAKEN[target]:
        return []
    folder = "features" if method == CEILING else "{protocol}/decoded"
    return f"results/{{subject}}/{folder}/{target}.npy"


def find_chunks(settings: dict, subject: str, protocol: str, method: str) -> str:
    """Pictures of a subject by a method in chunks, as settings and protocol say; those from true
    features are made once for all protocols."""
    if method == CEILING:
        protocol = settings["decoding"]["protocols"][0]
    return f"results/{subject}/{protocol}/reconstructions/{method}.{{chunk}}.h5"


@dataclass(frozen=True)
class Beyond:
    """What is decoded on request, and what is made of it.

    Parameters
    ----------
    targets : dict of str to str
        Feature spaces beside z, c and z_c that are decoded, and the region of each.
    methods : dict of str to dict
        Settings of methods of reconstruction.
    generators : dict of str to dict
        Settings of the generators that they use.
    subjects : list of str
    protocol : str
        That of whatever names none: the first that fits an intercept.
    compared : list of str
        Ridge methods in tables and figures, without those of the ceiling.
    ceiling : list of str
        The ridge method of true features, if there is one.
    parts : dict of str to str or None
        The target that captions, retrieval, the prior and scores of depth are made of.
    """

    targets: dict
    methods: dict
    generators: dict
    subjects: list
    protocol: str
    compared: list
    ceiling: list
    parts: dict

    @property
    def shown(self) -> list[str]:
        """Methods in the order of tables and figures."""
        nearest = [NEAREST] * bool(self.parts["retrieval"])
        return [*self.compared, *self.methods, *nearest, *self.ceiling]

    @property
    def runs(self) -> list[tuple[str, str, str]]:
        """The (subject, protocol, method) of all methods shown."""
        return [(s, self.find_protocol(name), name) for s in self.subjects for name in self.shown]

    @property
    def words(self) -> dict[str, str]:
        """What each method is given, for small print: z and c by name, others by role."""
        words = {
            name: " + ".join(
                own[role] if role in ("from", "text") else role for role in ROLES if own.get(role)
            )
            for name, own in self.methods.items()
        }
        return words | {NEAREST: "training image"}

    @property
    def ceilings(self) -> dict[str, str]:
        """The method that is given the true features of what another one is given."""
        given = ("generator", *ROLES)
        keys = {name: tuple(map(own.get, given)) for name, own in self.methods.items()}
        true = {keys[name]: name for name, own in self.methods.items() if own.get("ceiling")}
        return {name: true[key] for name, key in keys.items() if key in true}

    @property
    def captioned(self) -> list[tuple[str, str, str]]:
        """Those whose pictures are made of decoded captions."""
        return [run for run in self.runs if self.methods.get(run[2], {}).get("text") == "captions"]

    @property
    def scored(self) -> list[str]:
        """Tables of scores of each subject: of retrieval, captions and depth."""
        return [name for name in ("retrieval", "captions", "depth") if self.parts[name]]

    def find_protocol(self, method: str) -> str:
        """The decoding protocol of a method."""
        return self.methods.get(method, {}).get("protocol") or self.protocol

    def list_given(self, method: str) -> dict[str, str]:
        """Files of the features that a method is given, by role."""
        own = self.methods[method]
        folder = "features" if own.get("ceiling") else "{protocol}/decoded"
        return {
            role: f"results/{{subject}}/{folder}/{own[role]}.npy" for role in ROLES if own.get(role)
        }

    def find_part(self, part: str, truth: bool = True) -> dict[str, str]:
        """What one of the parts is made of: predictions, the images, and true features."""
        target = self.parts[part]
        own = {"decoded": f"results/{{subject}}/{{protocol}}/decoded/{target}.npy"}
        own |= {"features": f"results/{{subject}}/features/{target}.npy"} if truth else {}
        return own | {"images": "results/{subject}/images.tsv"}

    def find_generator(self, method: str) -> dict:
        """The settings of a method's generator."""
        own = self.generators.get(self.methods[method].get("generator"), {})
        plain = {"function": STABLE_DIFFUSION, "path": None, "revision": None, "settings": {}}
        return plain | own

    def find_settings(self, method: str, reconstruction: dict) -> dict:
        """Settings of a method's pictures: those of reconstruction, and its own."""
        own = self.methods[method]
        changed = ("strength", "guidance_scale")
        given = {key: own[key] for key in changed if own.get(key) is not None}
        # Pure noise needs all steps.
        return reconstruction | given | ({} if own.get("from") else {"strength": 1.0})

    def list_targets(self) -> list[str]:
        """Files that a run on request ends in."""
        return [
            "results/tables/beyond.tsv",
            *(f"results/figures/fig10.{suffix}" for suffix in FORMATS),
            "results/report/beyond_gallery.html",
            *(
                f"results/{subject}/figures/beyond_pictures.{suffix}"
                for subject in self.subjects
                for suffix in FORMATS
            ),
        ]


def list_beyond(settings: dict) -> Beyond:
    """What a run decodes on request, as `Beyond`."""
    own, methods = settings["beyond"], settings["reconstruction"]["methods"]
    protocols = settings["decoding"]["protocols"]
    return Beyond(
        targets={
            name: roi
            for name, roi in settings["decoding"]["targets"].items()
            if name not in FEATURES
        },
        methods=own["methods"],
        generators=own["generators"],
        subjects=settings["subjects"],
        # Without an intercept, predictions lack the training mean, by which embeddings are centred.
        protocol=next((name for name in protocols if name != "takagi2023"), "corrected"),
        compared=[name for name in ("z", "c", "zc") if name in methods],
        ceiling=[CEILING] * (CEILING in methods),
        parts={key: own[key]["target"] for key in ("retrieval", "captions", "prior")}
        | {"depth": own["depth"]},
    )


def find_form(encoding: dict) -> str:
    """The form of the training responses that encoders are fitted to, by their settings."""
    return f"{'zscored' if encoding['zscore'] else 'centred'}/{encoding['train_on']}"


def list_forms(settings: dict, roi: str) -> list[str]:
    """Forms of a region's training responses that are prepared (see `nsdldm.responses`).

    Decoders of either kind get both kinds of rows, so that these can change without the others.
    """
    decoded = settings["decoding"]["targets"].values()
    # The latter are those of other cases.
    forms = {find_form(settings["encoding"]), "zscored/averages"} if roi == "cortex" else set()
    # All of them, so that a further target or trained decoder changes nothing for those there are.
    if roi in {*decoded, *settings["trained"]["regions"]}:
        forms |= {"zscored/averages", "zscored/trials", "scaled/trials"}
    return sorted(forms)


@dataclass(frozen=True)
class Training:
    """Decoders that are trained end to end.

    Parameters
    ----------
    subjects : list of str
        Subjects whose pictures are reconstructed.
    everyone : list of str
        All subjects of the run, on whom the joint decoder is trained.
    methods : dict of str to dict
        Settings of each method's stages.
    presets : dict of str to str
        The preset that each method is based on.
    encoders : dict of str to dict
        Settings of each encoder's pretraining.
    aligned : list of str
        Methods that have a second stage.
    ridge : tuple of str, list of str
        The protocol and methods of the ridge decoders that they are compared with.
    transferred : list of str
        The first method, trained on the figure's subject and on all subjects, and tested on every
        subject.
    """

    subjects: list
    everyone: list
    methods: dict
    presets: dict
    encoders: dict
    aligned: list
    ridge: tuple
    transferred: list

    @property
    def table2(self) -> list[str]:
        """Methods of that table, fCAE first."""
        return [name for name, preset in self.presets.items() if preset in TABLE2]

    @property
    def table3(self) -> list[str]:
        """Methods of that table: ablations of fCAE, one component at a time."""
        return [
            name
            for name, preset in self.presets.items()
            if preset.startswith("fcae") or preset in TABLE3
        ]

    @property
    def compared(self) -> dict[str, list[str]]:
        """Methods of both tables."""
        return {"table2": self.table2, "table3": self.table3}

    @property
    def drawn(self) -> list[str]:
        """Methods in the order of pictures: ridge first, fCAE last."""
        return ["zc", *self.table2[1:], *self.table2[:1]]

    @property
    def drawn_runs(self) -> list[tuple[str, str, str]]:
        """Their runs, for any subject."""
        protocols = ("trained" if name in self.methods else self.ridge[0] for name in self.drawn)
        return [("{subject}", *run) for run in zip(protocols, self.drawn, strict=True)]

    @property
    def pattern(self) -> str:
        """Pattern of a method: trained on the subject itself, on all subjects, or on another
        subject."""
        return f"({'|'.join(self.methods) or 'none'})(-{JOINT}|-{'|-'.join(self.everyone)})?"

    @property
    def adapts(self) -> bool:
        """Whether the joint model has adapters."""
        return any(own["adapter"] == "linear" for own in self.encoders.values())

    def list_runs(self, ridge: Iterable[str], methods: Iterable[str]) -> list[tuple[str, str, str]]:
        """Runs of ridge methods, as far as configured, followed by those of trained methods."""
        protocol, configured = self.ridge
        runs = [(protocol, name) for name in ridge if name in configured]
        runs += [("trained", name) for name in methods]
        return [(subject, *run) for subject in self.subjects for run in runs]

    @property
    def transferred_runs(self) -> list[tuple[str, str, str]]:
        """Runs of the methods that every subject tests."""
        return [(who, "trained", name) for name in self.transferred for who in self.everyone]

    def list_cohort(self, cohort: str) -> list[str]:
        """Subjects that a decoder is trained on."""
        return self.everyone if cohort == JOINT or cohort.startswith(HOUR) else [cohort]

    def list_files(self, cohort: str, template: str) -> list[str]:
        """A file of each of them; of a subject who contributes one session, that session's."""
        templates = {
            subject: OF_HOUR.get(template, template) if cohort == f"{HOUR}-{subject}" else template
            for subject in self.list_cohort(cohort)
        }
        return list(
            dict.fromkeys(own.replace("{subject}", name) for name, own in templates.items())
        )

    def find_encoder(self, cohort: str, method: str) -> str:
        """The encoder that a method's second stage starts from."""
        encoder = self.methods[method]["encoder"]
        return f"results/{cohort}/trained/encoders/{encoder}.safetensors"

    def find_aligned(self, cohort: str, method: str) -> str:
        """The encoder that its third stage starts from."""
        if method in self.aligned:
            return f"results/{cohort}/trained/aligned/{method}.safetensors"
        return self.find_encoder(cohort, method)

    def find_weights(self, subject: str, method: str) -> str:
        """Weights that a method reconstructs with: its own subject's, all subjects' or
        another's."""
        name, _, cohort = method.rpartition("-")
        if cohort != JOINT and cohort not in self.everyone:
            name, cohort = method, subject
        return f"results/{cohort}/trained/diffusion/{name}.safetensors"

    def list_encoders(self, methods: Iterable[str]) -> list[str]:
        """The first subject's encoder of each method, for its size."""
        return [self.find_encoder(self.subjects[0], name) for name in methods]

    def list_alignments(self, methods: Iterable[str]) -> dict[str, str]:
        """What the second stage of each method aligns."""
        return {name: self.methods[name]["stage2"]["align"] for name in methods}

    def list_stages(self, cohort: str) -> dict[str, str]:
        """Stages that a cohort trains, with the files of their losses.

        Parameters
        ----------
        cohort : str
            A subject, or all together, on whom only the first method is trained.

        Returns
        -------
        dict of str to str
            Files by names such as ``stage 1: fcae``.
        """
        methods = list(self.methods)[: 1 if cohort == JOINT else None]
        encoders = dict.fromkeys(self.methods[name]["encoder"] for name in methods)
        aligned = [name for name in self.aligned if name in methods]
        return {
            f"stage {number}: {name}": f"results/{cohort}/trained/{folder}/{name}.tsv"
            for number, folder, names in (
                (1, "encoders", encoders),
                (2, "aligned", aligned),
                (3, "diffusion", methods),
            )
            for name in names
        }


def list_training(settings: dict) -> Training:
    """The decoders that a run trains, as `Training`."""
    own = settings["trained"]
    methods = {name: resolve(name, given, own["size"]) for name, given in own["methods"].items()}
    return Training(
        subjects=own["subjects"],
        everyone=settings["subjects"],
        methods=methods,
        presets={name: given.get("preset", name) for name, given in own["methods"].items()},
        encoders={each["encoder"]: each["stage1"] for each in methods.values()},
        aligned=[name for name, each in methods.items() if each["stage2"]["align"] != "none"],
        ridge=(settings["decoding"]["protocols"][0], settings["reconstruction"]["methods"]),
        transferred=[
            f"{name}-{cohort}"
            for name in list(methods)[:1]
            for cohort in (settings["figure_subject"], JOINT)
        ],
    )


def list_targets(settings: dict) -> list[str]:
    """Files that a full run makes: all figures, tables and pages except those of trained
    decoders."""
    figures = ["fig3", "fig4", "fig6", "fig7", "fig8", "fig9", "group", "learning_curve"]
    # Figure 5 compares by networks only.
    if any(own.get("weights") for own in settings["evaluation"]["networks"].values()):
        figures.append("fig5")
    of_subjects = ["fig3", "fig6", "fig7", "fig8", "fig9"]
    of_subjects += ["feature_spaces"] * bool(list_spaces(settings).added)
    layered = [f"layers_{name}" for name in settings["networks"]]
    of_subjects += layered
    return [
        *(f"results/figures/{name}.{suffix}" for name in figures for suffix in FORMATS),
        *(f"results/figures/fig{number}.html" for number in range(6, 10)),
        *(f"results/tables/{name}.tsv" for name in (*TABLES, *layered)),
        "results/report/gallery.html",
        "results/maps",
        *(
            f"results/{subject}/{name}"
            for subject in settings["subjects"]
            for name in ("maps", "report/cortex.html")
        ),
        *(
            f"results/{subject}/figures/{name}.{suffix}"
            for subject in settings["subjects"]
            for name in of_subjects
            for suffix in FORMATS
        ),
    ]


def list_trained_targets(settings: dict) -> list[str]:
    """Files that trained decoders end in."""
    folders = [
        *(
            f"results/{subject}/figures/{name}"
            for subject in settings["trained"]["subjects"]
            for name in ("trained_masked", "trained_pictures", "training_curves")
        ),
        f"results/{JOINT}/figures/training_curves",
        "results/figures/trained_subjects",
    ]
    names = ("table2", "table3", "masked", "retrieval")
    return [
        *(f"results/tables/fcae_{name}.tsv" for name in names),
        *(f"{path}.{suffix}" for path in folders for suffix in FORMATS),
        "results/report/trained_gallery.html",
    ]
