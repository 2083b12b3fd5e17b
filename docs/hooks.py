"""What mkdocs adds to the pages in docs: those beside it, notebooks, and one per part of nsdldm.

The site has the folders of the project, so that links work here as they do in a repository.
"""

import importlib
import pkgutil
import re
from pathlib import Path

import jupytext
from mkdocs.structure.files import File, Files

import nsdldm

PROJECT = Path(__file__).resolve().parents[1]
BESIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")
LINK = re.compile(r"\]\(([^)#\s:]+)[)#]")


def list_modules():
    """Public modules by part of the package; those beside the folders are parts of nsdldm itself.

    Returns
    -------
    dict of list of str
        Dotted names of the modules, by that of the folder.
    """
    parts = {"nsdldm": ["nsdldm"]}
    for module in pkgutil.walk_packages(nsdldm.__path__, "nsdldm."):
        folder = module.name if module.ispkg else module.name.rpartition(".")[0]
        parts.setdefault(folder, [])
        if not module.ispkg and "._" not in module.name:
            parts[folder].append(module.name)
    return parts


def write_part(part, modules):
    """Page of the modules of a part."""
    about = importlib.import_module(part).__doc__
    if part == "nsdldm":
        about = "`nsdldm.load` opens a finished run, and `nsdldm.results` says what it gives."
    members = [f"## {name}\n\n::: {name}" for name in modules]
    return "\n\n".join([f"# {part}", about, *members, ""])


def write_notebook(path):
    """Page of a notebook: its text, its code, and the figure that it draws of the demo."""
    text = []
    for cell in jupytext.read(path).cells:
        fence = "{0}" if cell.cell_type == "markdown" else "```python\n{0}\n```"
        text.append(fence.format(cell.source))
    figure = f"../images/{path.stem}.png"
    text += [f"![What it draws of the demo]({figure})", f"The notebook: [{path.name}]({path.name})"]
    return "\n\n".join(text) + "\n"


def on_config(config):
    """Add the pages of the package and of the notebooks to the menu."""
    notebooks = sorted((PROJECT / "docs/notebooks").glob("*.py"))
    pages = [f"docs/notebooks/{path.stem}.md" for path in notebooks]
    pages += [f"docs/api/{part}.md" for part in list_modules()]
    config.nav.insert(-1, {"In Python": pages})
    return config


def on_files(files, config):
    """Move pages to where they are in the project, and add the others."""
    ours, theme = [], []
    for file in files:
        own = Path(file.abs_src_path or "").is_relative_to(config.docs_dir)
        (ours if own else theme).append(file)
    found = {f"docs/{file.src_uri}": file.abs_src_path for file in ours}
    found.pop("docs/hooks.py")
    found |= {name: str(PROJECT / name) for name in BESIDE}
    for name in [name for name in found if name.endswith(".md")]:
        for link in LINK.findall((PROJECT / name).read_text(encoding="utf-8")):
            path = (PROJECT / name).parent.joinpath(link).resolve()
            if path.is_file():
                found.setdefault(path.relative_to(PROJECT).as_posix(), str(path))
    added = [File.generated(config, name, abs_src_path=path) for name, path in found.items()]
    for path in sorted((PROJECT / "docs/notebooks").glob("*.py")):
        page = f"docs/notebooks/{path.stem}.md"
        added.append(File.generated(config, page, content=write_notebook(path)))
    for part, modules in list_modules().items():
        page = f"docs/api/{part}.md"
        added.append(File.generated(config, page, content=write_part(part, modules)))
    return Files(added + theme)
