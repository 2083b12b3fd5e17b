"""Check that what settings name exists: models, modules, weights, metrics, functions, labels.

Checked before the first job, because Snakemake removes the outputs of a job before it runs again.
For a model in a hub only the downloaded files can be checked; the job that loads it checks again.
Standard library only.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import struct
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from nsdldm.demo.atlases import check_regions
from nsdldm.diffusion.check import check_model
from nsdldm.evaluation.names import SAMPLED
from nsdldm.features.views import VIEWS, list_metrics
from nsdldm.support.errors import Finding
from nsdldm.support.hub import find_snapshot
from nsdldm.workflow.arguments import name_keys
from nsdldm.workflow.networks import find_weights
from nsdldm.workflow.settings import LAYERS

CORRECT = "Correct it"
WEIGHTS = "diffusion_pytorch_model.safetensors"
# Endings of module paths in diffusers' U-Net that have no weights.
WITHOUT_WEIGHTS = ("act", "conv_act", "dropout", "nonlinearity", "time_proj", "net.1", "to_out.1")
LARGEST_HEADER = 100_000_000
# The files of the demo model that each of its networks reads.
DEMO_FILES = {
    "demo-clip": ("clip/config.json", "clip/model.safetensors"),
    "demo-alexnet": ("clip/config.json", "classifier/model.safetensors"),
    "demo-judge": ("clip/config.json", "judge/model.safetensors"),
}
CLIPS = ("clip", "clip-b32")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
OURS = "nsdldm.features.pictures.embed_pictures"


def check_named(config: dict, functions: bool = True) -> list[Finding]:
    """List what settings name but does not exist.

    Parameters
    ----------
    config : dict
        Complete, as `nsdldm.workflow.loading.load_settings` returns it.
    functions : bool
        Whether jobs have the same import path as this process, so that functions can be looked up.

    Returns
    -------
    list of Finding
    """
    own = config["model"]
    folder = Path(own["path"])
    if not folder.is_dir() and own["revision"]:
        folder = find_snapshot(own["path"], own["revision"])
    spaces = config["feature_spaces"] if functions else {}
    return [
        *name_keys(check_model(own["path"], own["revision"], _list_chains(config))),
        *name_keys(check_regions(config["rois"]) if config["dataset"] == "demo" else ()),
        *_check_resolutions(config, folder / "vae/config.json"),
        *check_blocks(config["trajectories"]["blocks"], folder / "unet"),
        *_check_networks(config["evaluation"]["networks"]),
        *_check_scores(config["evaluation"]),
        *(
            finding
            for name, own in spaces.items()
            for finding in check_function(
                f"feature_spaces.{name}", own["function"], own["settings"]
            )
        ),
        *(
            finding
            for name, own in (config["beyond"]["generators"] if functions else {}).items()
            for finding in check_function(
                f"beyond.generators.{name}", own["function"], own.get("settings", {}), 2
            )
        ),
        *_check_layers(config if functions else {"feature_spaces": {}}),
        *check_paths(*_list_paths(config)),
        *_check_captions(config["beyond"]["captions"]),
        *(
            finding
            for name, own in config["networks"].items()
            for finding in _check_layered(f"networks.{name}", own, functions)
        ),
    ]


def _check_layers(config):
    """The network of a space of layers that a function makes, which is imported by the job."""
    for name, own in config["feature_spaces"].items():
        key, settings = f"feature_spaces.{name}.settings", own.get("settings", {})
        if own["function"] != LAYERS or not settings.get("function"):
            continue
        yield from check_function(key, settings["function"], settings.get("options", {}), 0)
        if settings.get("weights") and not settings.get("sha256"):
            expected, remedy = "the SHA-256 of the weights", "Give it"
            yield Finding(f"{key}.sha256", expected, "none", remedy)


def _check_layered(where, own, functions):
    """Function and weights of a network whose layers are compared."""
    if own["network"]:
        return check_weights(own["network"], own, where)
    findings, function, weights = [], own["function"], own["weights"]
    if functions:
        # What a class of transformers takes is a matter of its model.
        options = {} if function.startswith("transformers.") else own["options"]
        findings += check_function(where, function, options, 0)
    if functions and function.startswith("timm.") and find_spec("torchvision") is None:
        remedy = "Install the build of torchvision for the torch there is (docs/feature_spaces.md)"
        expected = "torchvision, which timm needs"
        findings.append(Finding(f"{where}.function {function}", expected, "none", remedy))
    if weights and Path(weights).is_file() and not own["sha256"]:
        expected, remedy = "the SHA-256 of the weights", "Add it, as their publisher gives it"
        findings.append(Finding(f"{where}.sha256", expected, "none", remedy))
    return findings + check_paths({f"{where}.weights": weights}, {})


def _check_captions(captions):
    if captions["target"] is None:
        return []
    clip, revision = captions["clip"], captions["revision"]
    return check_clip(clip, revision, "beyond.captions", "clip")


def _list_paths(config):
    """Paths of weights and models that the configuration names, by key."""
    beyond, spaces = config["beyond"], config["feature_spaces"].items()
    # Those of the project's own function are checked with it.
    parts = {f"feature_spaces.{name}": own for name, own in spaces if own["function"] != OURS}
    parts |= {f"beyond.generators.{name}": own for name, own in beyond["generators"].items()}
    paths = {f"{key}.path": own.get("path") for key, own in parts.items()}
    files = {"beyond.captions.wordnet": beyond["captions"]["wordnet"]}
    for key, own in parts.items():
        given = own.get("settings", {})
        weights, place = given.get("weights"), find_weights(given)
        # A part of a folder; of a hub id it is looked up by the job.
        local = isinstance(weights, str) and Path(weights).exists()
        paths[f"{key}.settings.weights"] = place if local else weights
        files[f"{key}.settings.negative"] = given.get("negative")
    paths["beyond.captions.captioner.path"] = beyond["captions"]["captioner"]["path"]
    return paths, files


def check_paths(paths: dict[str, str | None], files: dict[str, str | None]) -> list[Finding]:
    """List paths that lead nowhere.

    Parameters
    ----------
    paths, files : dict of str or None
        By key. Of `paths`, a hub id, which is of the form owner/name, and an address are not looked
        up.

    Returns
    -------
    list of Finding
    """
    expected, remedy = "a file or folder", "Correct it, or put it there"
    remote = {
        key for key, path in paths.items() if path and (HUB_ID.fullmatch(path) or "://" in path)
    }
    return [
        Finding(key, expected, f"nothing at {path}", remedy)
        for key, path in (paths | files).items()
        if isinstance(path, str) and key not in remote and not Path(path).exists()
    ]


def _list_chains(config):
    """Key of the steps, sampler and number of steps of each reverse process."""
    processes = {name: config[name] for name in ("denoising", "reconstruction")}
    processes["trained.sampling"] = config["trained"]["sampling"]
    key = "num_inference_steps"
    return [(f"{name}.{key}", own["scheduler"], own[key]) for name, own in processes.items()]


def _check_resolutions(config, path):
    """Sides of pictures that are not a multiple of the autoencoder's factor."""
    try:
        channels = json.loads(path.read_text(encoding="utf-8")).get("block_out_channels", [64])
        factor = 2 ** (len(channels) - 1)
    except (OSError, ValueError, TypeError, AttributeError):
        return  # A missing or damaged model is reported elsewhere.
    for section in ("model", "reconstruction"):
        side = config[section]["resolution"]
        if side % factor:
            below = side // factor * factor
            expected = f"a multiple of {factor} pixels, by which {path} divides"
            remedy = f"Set it to {below} or {below + factor}" if below else f"Set it to {factor}"
            yield Finding(f"{section}.resolution", expected, str(side), remedy)


def check_blocks(blocks: dict[str, str], folder: Path) -> list[Finding]:
    """List modules that a U-Net does not have, by the names of its weights.

    Parameters
    ----------
    blocks : dict of str to str
        Names and module paths.
    folder : Path
        Folder of the U-Net, with its weights as safetensors, in one file or sharded.

    Returns
    -------
    list of Finding
        Empty if the names cannot be read, which is reported elsewhere.
    """
    children = {}
    for name in _list_weights(folder):
        parts = name.split(".")[:-1]
        for depth, part in enumerate(parts):
            children.setdefault(".".join(parts[:depth]), set()).add(part)
    modules = {f"{parent}.{part}".lstrip(".") for parent, own in children.items() for part in own}
    lists = {path for path, own in children.items() if all(map(str.isdecimal, own))}
    findings = []
    for name, path in blocks.items() if modules else ():
        where = f"trajectories.blocks.{name}"
        parent = path.rpartition(".")[0]
        plain = f".{path}".endswith(tuple(f".{end}" for end in WITHOUT_WEIGHTS))
        if path in lists:
            expected, found = "a module that runs", f"{path}, a list of modules"
            remedy = f"Name one of it, such as {path}.{min(children[path])}"
            findings.append(Finding(where, expected, found, remedy))
        elif path not in modules and not (plain and parent in ("", *modules)):
            near = difflib.get_close_matches(path, sorted(modules - lists), n=5, cutoff=0.5)
            expected = "the path of a module of the U-Net, such as "
            expected += ", ".join(near or sorted(children[""]))
            findings.append(Finding(where, expected, repr(path), "Correct the path"))
    return findings


def _list_weights(folder):
    """Names of a network's weights, without reading them."""
    try:
        index = folder / f"{WEIGHTS}.index.json"
        if index.is_file():
            return list(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        with open(folder / WEIGHTS, "rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(size)) if size <= LARGEST_HEADER else {}
        return [name for name in header if name != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return []


def _check_networks(networks):
    """Weights of networks that compare pictures."""
    for name, own in networks.items():
        if own.get("weights"):
            yield from check_weights(name, own, f"evaluation.networks.{name}")


def check_weights(name: str, own: dict, where: str) -> list[Finding]:
    """List what is missing to load a network.

    Parameters
    ----------
    name : str
        Key of `nsdldm.features.views.VIEWS`.
    own : dict
        weights, and as needed revision and sha256.
    where : str
        Key of these settings.

    Returns
    -------
    list of Finding
    """
    weights, key = own["weights"], f"{where}.weights {own['weights']}"
    if name in DEMO_FILES:
        absent = [file for file in DEMO_FILES[name] if not (Path(weights) / file).is_file()]
        expected = f"the demo model's folder, with {' and '.join(DEMO_FILES[name])}"
        return [Finding(key, expected, f"no {absent[0]}", CORRECT)] if absent else []
    findings = []
    if not own.get("sha256"):
        expected, remedy = "the SHA-256 of the weights", "Add it, as their publisher gives it"
        findings.append(Finding(f"{where}.sha256", expected, "none", remedy))
    if name in CLIPS:
        findings += check_clip(weights, own.get("revision"), where, "weights")
    elif not str(weights).startswith("https://") and not Path(weights).is_file():
        findings.append(Finding(key, "a file, or an https address", _find(weights), CORRECT))
    return findings


def check_clip(path: str, revision: str | None, where: str, key: str = "path") -> list[Finding]:
    """List what is missing to load a CLIP model.

    Parameters
    ----------
    path : str
        A folder in the layout of transformers, or a hub id.
    revision : str or None
    where, key : str
        The settings, and which of them is the path.

    Returns
    -------
    list of Finding
    """
    folder = Path(path)
    if folder.is_dir():
        absent = [n for n in ("config.json", "model.safetensors") if not (folder / n).is_file()]
        expected = "a CLIP model in the layout of transformers, saved as safetensors"
        found = f"no {' and no '.join(absent)}"
        return [Finding(f"{where}.{key} {path}", expected, found, CORRECT)] if absent else []
    if revision:
        return []
    expected, found = "a folder, or a hub id with a revision", "no folder, no revision"
    remedy = f"Correct it, or set {where}.revision to a commit if it is a hub id"
    return [Finding(f"{where}.{key} {path}", expected, found, remedy)]


def _find(path):
    """What is at a path that should be a file."""
    return "a folder" if Path(path).is_dir() else "nothing"


def _check_scores(evaluation):
    """Scores that no network provides, and more classes than a network distinguishes."""
    given = [name for name, own in evaluation["networks"].items() if own.get("weights")]
    ways = evaluation["n_way"]
    known = [kind for kind in SAMPLED if kind in ("pixcorr", "ssim", "corr16")]
    for name in given:
        known += [m for m in list_metrics(name) if m.partition(":")[0] in SAMPLED]
        for view in VIEWS[name]:
            _, first, last = view.pairs.get("nway", (None, 0, 0))
            wrong = [n for n in (ways if isinstance(ways, list) else [ways]) if n > last - first]
            if last and wrong:
                expected = f"from 2 to {last - first} classes, which {name} tells apart"
                yield Finding("evaluation.n_way", expected, str(wrong[0]), CORRECT)
    score = evaluation["best_by"]
    if score not in known:
        near = difflib.get_close_matches(score, known, n=3, cutoff=0.6) or known
        expected = f"a score that every sample has, such as {', '.join(near)}"
        remedy = "Correct it, or give weights to the network that it is of"
        yield Finding("evaluation.best_by", expected, score, remedy)


def check_function(where: str, function: str, settings: dict, n_given: int = 1) -> list[Finding]:
    """List what is wrong with a function of pictures, or of a model, without running its module.

    Parameters
    ----------
    where : str
        Key of the feature space or generator.
    function : str
        Dotted name.
    settings : dict
        Its keywords.
    n_given : int
        Arguments before them.

    Returns
    -------
    list of Finding
    """
    module, _, name = function.rpartition(".")
    expected, key = "the dotted name of a function", f"{where}.function {function}"
    source = _find_source(module)
    if source is None:
        remedy = "Correct it, or install what has it"
        return [Finding(key, expected, f"no module {module}", remedy)]
    if source == "":
        return []
    try:
        tree = ast.parse(Path(source).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        return [Finding(key, expected, f"{source}, which is no Python ({error})", CORRECT)]
    defined = dict(_list_defined(tree.body))
    if name not in defined and not {"*", "__getattr__"} & set(defined):
        near = difflib.get_close_matches(name, defined, n=3, cutoff=0.6)
        found = f"no {name} in {source}" + (f", but {', '.join(near)}" if near else "")
        return [Finding(key, expected, found, CORRECT)]
    findings = _check_keywords(where, function, defined.get(name), settings, n_given)
    return findings or (_check_ours(where, settings) if function == OURS else [])


def _find_source(module):
    """The file of a module: empty if it is not Python, None if there is no such module."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # not a module, such as __main__
        return None
    name = top
    for part in rest:
        within = spec and spec.submodule_search_locations
        name = f"{name}.{part}"
        # Not with find_spec, which would run the parent packages.
        spec = PathFinder.find_spec(name, within) if within is not None else None
    if spec is None:
        return None
    return spec.origin if str(spec.origin).endswith(".py") else ""


def _list_defined(body):
    """Names that a module's statements define, with the function if it is one."""
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef | ast.AsyncFunctionDef):
            yield node.name, None
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield (alias.asname or alias.name).partition(".")[0], None
        else:
            names = (own for own in ast.walk(node) if isinstance(own, ast.Name))
            yield from ((own.id, None) for own in names if isinstance(own.ctx, ast.Store))
            for part in ("body", "orelse", "handlers", "finalbody"):
                yield from _list_defined(getattr(node, part, ()))


def _check_keywords(where, function, node, settings, n_given):
    """Settings that a function does not take, or lacks."""
    if node is None or node.decorator_list:
        return []
    given = node.args
    named = [own.arg for own in (*given.posonlyargs, *given.args)][n_given:]
    optional = named[len(named) - len(given.defaults) :] if given.defaults else []
    required = [name for name in named if name not in optional]
    required += [
        own.arg
        for own, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
        if default is None
    ]
    known = [*named, *(own.arg for own in given.kwonlyargs)]
    unknown = [] if given.kwarg else [name for name in settings if name not in known]
    missing = [name for name in required if name not in settings]
    if not unknown and not missing:
        return []
    expected = f"settings that {function} takes: {', '.join(known) or 'none'}"
    found = " and ".join(
        f"{word} {', '.join(names)}" for word, names in (("", unknown), ("no", missing)) if names
    ).strip()
    return [Finding(f"{where}.settings", expected, found, "Correct them")]


def _check_ours(where, settings):
    """Network, layer and weights of the project's own function."""
    name, layer = settings["network"], settings["layer"]
    key, layers = f"{where}.settings", []
    if name in VIEWS:
        layers = [own for view in VIEWS[name] for own in view.layers]
    for part, value, known in (("network", name, list(VIEWS)), ("layer", layer, layers)):
        if value not in known and known:
            expected = f"one of {', '.join(known)}"
            return [Finding(f"{key}.{part}", expected, repr(value), CORRECT)]
    if not settings["weights"]:
        return [Finding(f"{key}.weights", "the weights of the network", "none", "Give them")]
    return check_weights(name, settings, key)
