"""Say in one sentence what is wrong with a configuration. No heavy imports: the Snakefile's."""

import re
from itertools import islice

import jsonschema
import yaml

from nsdldm.features.spaces import CONTROLS, PARTS, plan_spaces
from nsdldm.support.errors import InputError, suggest_number
from nsdldm.trained.presets import check_methods

TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing (null)",
}

# More than any configuration means. YAML's references make much, or no end, of a few lines.
LARGEST = 1e15
DEEPEST = 20
MOST_VALUES = 100_000
MOST_PROBLEMS = 10
# Characters of a value that a sentence quotes.
LONGEST = 100

DEMO_WRITES = {
    "betas": "betas_fithrf_GLMdenoise_RR",
    "format": "hdf5",
    "space": "func1pt8mm",
}


def _key(path):
    """Dotted name of a config key, list positions in brackets."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_name(part)}" for part in path)
    return text.lstrip(".") or "the configuration"


def _types(names):
    return " or ".join(TYPES[name] for name in _listed(names))


def _allowed(schema):
    """Describe the values a schema admits."""
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    for word in ("oneOf", "anyOf"):
        if word in schema:
            return " or ".join(_allowed(part) for part in schema[word])
    text = _types(schema["type"])
    if "items" in schema:
        text += f", each {_allowed(schema['items'])}"
    if "pattern" in schema:
        text += " " + schema.get("title", f"of the form {schema['pattern']}")
    bounds = (
        ("minimum", "at least {}"),
        ("exclusiveMinimum", "above {}"),
        ("maximum", "at most {}"),
        ("maxLength", "of at most {} characters"),
        ("minProperties", "with at least {} keys"),
    )
    return text + "".join(
        f", {words.format(schema[key])}" for key, words in bounds if key in schema
    )


def _show(value):
    """A value of the configuration, for a sentence."""
    text = repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _sentence(error):
    """One sentence for one violation of the schema."""
    key = _key(error.absolute_path)
    if error.validator == "additionalProperties":
        known = sorted(error.schema["properties"])
        unknown = ", ".join(map(_name, sorted(set(error.instance) - set(known))[:3]))
        where = "" if key == "the configuration" else f" in {key}"
        return f"Unknown key {unknown}{where}: the allowed keys are {', '.join(known)}."
    if "propertyNames" in error.absolute_schema_path:
        return f"Unknown key {_name(error.instance)} in {key}: it must be {_allowed(error.schema)}."
    if error.validator == "required":
        missing = ", ".join(sorted(set(error.validator_value) - set(error.instance)))
        return f"{key} must have {missing}, not only {', '.join(map(_name, error.instance))}."
    if error.validator == "contains":
        missing = error.validator_value["const"]
        return f"{key} must have {missing} among its values, not only {_show(error.instance)}."
    allowed = _allowed(error.schema)
    if error.validator in ("uniqueItems", "minItems"):
        allowed = "a list of at least one value without repeats"
    return f"{key} must be {allowed}, not {_show(error.instance)}{_suggest(error)}."


def _suggest(error):
    """How to write a number that YAML takes for text, where the schema wants one."""
    parts = [error.schema, *error.schema.get("oneOf", ())]
    kinds = {kind for part in parts for kind in _listed(part.get("type"))}
    if not kinds & {"number", "integer"} or "string" in kinds:
        return ""
    return suggest_number(error.instance, "number" not in kinds)


def _listed(value):
    """A value of a schema that may be one or several, as a list."""
    return value if isinstance(value, list) else [value]


def _once(errors):
    """One violation of each problem."""
    deep = {tuple(error.absolute_path)[:-1] for error in errors}
    told = set()
    for error in errors:
        path = tuple(error.absolute_path)
        # A list lacks a value that is misspelt in it; the same value is as wrong in each place.
        if error.validator == "contains" and path in deep:
            continue
        listed = path and isinstance(path[-1], int)
        problem = (path[:-1], repr(error.instance)) if listed else path
        if problem not in told or error.validator == "additionalProperties":
            told.add(problem)
            yield error


def _name(key):
    """A key for a sentence: as it is, or where it is odd as Python writes it."""
    return key if re.fullmatch(r"[\w.-]{1,40}", key) else _show(key)


def _find_unusable(config):
    """Yield a sentence for each part that is no plain data, which a schema cannot describe."""
    waiting = [((), config)]
    for _ in range(MOST_VALUES):
        if not waiting:
            return
        path, value = waiting.pop()
        parts = ()
        if isinstance(value, dict):
            parts = list(value.items())
        elif isinstance(value, list):
            parts = list(enumerate(value))
        elif isinstance(value, int | float) and not -LARGEST <= value <= LARGEST:
            found = _show(value) if isinstance(value, float) else "one of more digits"
            yield f"{_key(path)} must be a number from {-LARGEST:g} to {LARGEST:g}, not {found}."
        if len(path) >= DEEPEST and parts:
            yield f"{_key(path[:3])} must be nested less deeply."
            continue
        for key, part in reversed(parts):
            if isinstance(key, str) or isinstance(value, list):
                waiting.append(((*path, key), part))
            else:
                yield f"{_key(path)} must have texts as keys, not {_show(key)}."
    yield f"The configuration must have fewer than {MOST_VALUES} values."


def _match_whole(validator, pattern, text, schema):
    """The keyword pattern; in Python's reading of it, a final $ ignores a newline at the end."""
    if isinstance(text, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), text):
        yield jsonschema.ValidationError(f"{_show(text)} does not match {pattern}")


Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _match_whole})


def check_schema(config, schema):
    """List what a configuration has that its schema does not allow.

    Parameters
    ----------
    config : dict
    schema : str or Path
        A JSON Schema (draft 2020-12) in YAML; the title of a part with a pattern says it in words.

    Returns
    -------
    list of str
        One sentence a violation, naming the key and the allowed values.
    """
    problems = list(islice(_find_unusable(config), MOST_PROBLEMS))
    if problems:
        return problems
    with open(schema, encoding="utf-8") as stream:
        validator = Validator(yaml.safe_load(stream))
    errors = sorted(validator.iter_errors(config), key=lambda error: list(map(str, error.path)))
    return [_sentence(error) for error in _once(errors)]


def check_consistency(config):
    """List keys of a valid, complete configuration that contradict one another.

    Parameters
    ----------
    config : dict
        With the defaults filled in.

    Returns
    -------
    list of str
    """
    problems = []
    subjects = ", ".join(config["subjects"])
    if config["figure_subject"] not in config["subjects"]:
        problems.append(
            f"figure_subject must be one of subjects ({subjects}), not {config['figure_subject']}."
        )
    if config["dataset"] == "nsd" and not config["nsd"]["root"]:
        problems.append("nsd.root must be the release's folder when dataset is nsd, not empty.")
    # That cortex is missing is said below.
    unknown = sorted(set(config["matrices"]) - set(config["rois"]) - {"cortex"})
    if unknown:
        problems.append(
            f"matrices must name keys of rois ({', '.join(config['rois'])}), "
            f"not {', '.join(unknown)}."
        )
    for needed, key in (("cortex", "rois"), ("cortex", "matrices")):
        if needed not in config[key]:
            problems.append(f"{key} must have {needed}, the voxels that the encoders predict.")
    for target, roi in config["decoding"]["targets"].items():
        if roi not in config["matrices"]:
            problems.append(
                f"decoding.targets.{target} must name one of matrices "
                f"({', '.join(config['matrices'])}), not {roi}."
            )
    return problems + _check_spaces(config) + _check_demo(config) + _check_trained(config)


def plan_trajectories(config):
    """Name the feature spaces along the reverse process that a configuration asks for.

    Parameters
    ----------
    config : dict
        Complete.

    Returns
    -------
    dict
        As `nsdldm.features.spaces.plan_spaces`.

    Raises
    ------
    InputError
        Noise levels or steps that cannot be run.
    """
    chain, settings = config["denoising"], config["trajectories"]
    return plan_spaces(
        steps=chain["steps"],
        strength=chain["strength"],
        strengths=settings["noise_levels"],
        **{key: settings[key] for key in ("step_shares", "latent", "blocks")},
    )


def _check_spaces(config):
    """Contradictions among the feature spaces."""
    settings = config["trajectories"]
    try:
        planned = plan_trajectories(config)
    except InputError as error:
        return [str(finding) for finding in error.findings]
    problems = []
    unknown = sorted(set(settings["drawn_levels"]) - set(settings["noise_levels"]))
    if unknown:
        levels = ", ".join(map(str, settings["noise_levels"]))
        found = ", ".join(map(str, unknown))
        problems.append(
            f"trajectories.drawn_levels must be of trajectories.noise_levels ({levels}), "
            f"not {found}."
        )
    for key in ("noise_levels", "drawn_levels", "step_shares"):
        if settings[key] != sorted(settings[key]):
            problems.append(f"trajectories.{key} must ascend, not {settings[key]}.")
    if not any(0 < weight < 1 for weight in config["encoding"]["weights"]):
        problems.append("encoding.weights must hold at least one share between 0 and 1.")
    controls = CONTROLS + PARTS
    taken = ", ".join(sorted(set(settings["variants"]) & set(controls)))
    if taken:
        problems.append(f"trajectories.variants must have other names than {taken}, a control.")
    variants = {f"{space}-{name}" for space in planned for name in settings["variants"]}
    known = {"z", "z_logvar", "c", "zc", *planned, *variants}
    known |= {f"{space}-{control}" for space in known for control in controls}
    known |= {f"blocks-{space.removeprefix('zc-')}" for space in planned}
    taken = sorted(set(config["feature_spaces"]) & known)
    if taken:
        problems.append(f"feature_spaces must have names of their own, not {', '.join(taken)}.")
    return problems


def _check_trained(config):
    """Contradictions among the decoders that are trained."""
    problems, trained = [], config["trained"]
    for key, source in (("subjects", "subjects"), ("regions", "matrices")):
        unknown = sorted(set(trained[key] or []) - set(config[source]))
        if unknown:
            known, found = ", ".join(config[source]), ", ".join(unknown)
            problems.append(f"trained.{key} must name some of {source} ({known}), not {found}.")
    taken = sorted(set(trained["methods"]) & set(config["reconstruction"]["methods"]))
    if taken:
        names = ", ".join(taken)
        problems.append(f"trained.methods must have names of their own, not {names}, a ridge one.")
    methods = {name: own for name, own in trained["methods"].items() if name not in taken}
    return problems + check_methods(methods, trained["size"])


def _check_demo(config):
    """Contradictions among what the demo writes and what is read."""
    problems = []
    demo = config["demo"]
    if config["dataset"] == "demo":
        asked = {"nsd.sessions": config["nsd"]["sessions"]}
        for subject, own in config["overrides"].items():
            asked[f"overrides.{subject}.sessions"] = own.get("sessions", "all")
        for key, sessions in asked.items():
            last = (
                0
                if sessions == "all"
                else max(sessions if isinstance(sessions, list) else [sessions])
            )
            if last > demo["sessions"]:
                problems.append(
                    f"{key} must be within the {demo['sessions']} of demo.sessions, not {sessions}."
                )
        problems += [
            f"nsd.{key} must be {written} when dataset is demo, which writes no other, not "
            f"{config['nsd'][key]}."
            for key, written in DEMO_WRITES.items()
            if config["nsd"][key] != written
        ]
        trials = 750 * demo["sessions"]
        images = demo["shared_images"] + demo["unique_images"]
        if not images <= trials <= 3 * images:
            problems.append(
                f"demo.shared_images + demo.unique_images must be between {-(-trials // 3)} and "
                f"{trials}, so that {demo['sessions']} sessions of 750 trials show each image one "
                f"to three times, not {images}."
            )
    return problems
