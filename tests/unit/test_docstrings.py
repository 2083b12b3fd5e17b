"""What docstrings of the package must say: every argument, and of arrays shape and type."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "nsdldm"
PATHS = sorted(PACKAGE.rglob("*.py"))
ARRAYS = re.compile(r"ndarray|memmap|Tensor\b")
SHAPE = re.compile(r"\bshapes?\b|\((?:n|\d|\.\.\.|X|height|rows)[\w ]*,|[Ss]calar|[Oo]ne value|1-D")
TYPE = re.compile(
    r"\b(float\d*|u?int\d*|bool|booleans?|complex\d*|str|numbers?|dtype|type|integers?|indices)\b"
)
# Where another docstring says it.
ELSEWHERE = re.compile(
    r"\b[Aa]s (?:in |from |for |of |what )?(?:`|that|those|it\b|given)|\b[Ss]ame\b"
)
# Tensors of a network by name have the shapes that it gives them.
WEIGHTS = re.compile(r"^dict of .*tensors?\b")
# Ends of names of numbers, and the unit that their description has.
UNITS = {"_gb": "1e9|GB", "_mm": "mm|millimet", "_seconds": "second", "_degrees": "degree"}
SECTIONS = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Notes", "Examples")
# Fewer arguments may be named in a sentence.
LISTED = 4


def list_public(body, inside=""):
    """Public functions and classes, and public methods of the latter."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield inside + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from list_public(node.body, f"{inside}{node.name}.")


def read_sections(text):
    """Entries of the sections of a docstring: names and all that is said of them."""
    sections = {"": text}
    parts = re.split(rf"^({'|'.join(SECTIONS)})\n-+\n", text, flags=re.MULTILINE)
    sections[""] = parts[0]
    for name, content in zip(parts[1::2], parts[2::2], strict=True):
        entries = re.split(r"\n(?=\S)", content.strip("\n"))
        sections[name] = [entry.partition(" : ")[::2] for entry in entries if entry.strip()]
    return sections


def split_names(head):
    """Names that an entry describes together."""
    return [name.strip("* ") for name in head.partition("\n")[0].split(",")]


def list_arguments(node):
    """Arguments of a function, but self and cls, with their hints."""
    taken = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    taken += [each for each in (node.args.vararg, node.args.kwarg) if each]
    hints = {each.arg: ast.unparse(each.annotation) if each.annotation else "" for each in taken}
    return {name: hint for name, hint in hints.items() if name not in ("self", "cls")}


def complain(node):
    """What a docstring leaves out."""
    text = ast.get_docstring(node)
    if not text:
        return ["no docstring"]
    sections, wrong = read_sections(text), []
    for section in ("Parameters", "Attributes", "Returns", "Yields"):
        for head, rest in sections.get(section, []):
            kind = rest.partition("\n")[0] if rest else head.partition("\n")[0]
            said = f"{head} {rest}"
            for name in split_names(head) if section == "Parameters" else ():
                for end, unit in UNITS.items():
                    if name.endswith(end) and rest and not re.search(unit, said):
                        wrong.append(f"no unit of {name}")
            if WEIGHTS.search(kind) or ELSEWHERE.search(said):
                continue
            what = head.partition("\n")[0]
            if re.search(r"\b(arrays?|tensors?)\b", kind) and not SHAPE.search(said):
                wrong.append(f"no shape of {what}")
            # Tensors are floating-point unless they say otherwise.
            if re.search(r"\barrays?\b", kind) and not TYPE.search(said):
                wrong.append(f"no type of {what}")
    if isinstance(node, ast.FunctionDef):
        wrong += _complain_of_function(node, sections)
    return wrong


def _complain_of_function(node, sections):
    """The same for what only functions have: arguments and what is returned."""
    arguments, wrong = list_arguments(node), []
    returned = ast.unparse(node.returns) if node.returns else "None"
    if "Parameters" not in sections:
        if len(arguments) >= LISTED and not all(
            re.search(rf"\b{name}\b", sections[""]) for name in arguments
        ):
            wrong.append("arguments are not listed")
        hints = [*arguments.values(), "" if {"Returns", "Yields"} & {*sections} else returned]
        brief = sections[""]
        if any(map(ARRAYS.search, hints)) and not (SHAPE.search(brief) or ELSEWHERE.search(brief)):
            wrong.append("no shape of an array")
        return wrong
    described = {name: f"{h} {r}" for h, r in sections["Parameters"] for name in split_names(h)}
    wrong += [f"nothing about {name}" for name in arguments if name not in described]
    wrong += [f"{name} is no argument" for name in described if name not in arguments]
    for name, hint in arguments.items():
        said = described.get(name, "shape")
        whole = SHAPE.search(said) or ELSEWHERE.search(said) or "dict of" in said
        if ARRAYS.search(hint) and "Callable" not in hint and not whole:
            wrong.append(f"no shape of {name}")
    if returned not in ("None", "Iterator[None]") and not {"Returns", "Yields"} & {*sections}:
        wrong.append("nothing about what is returned")
    return wrong


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_say_what_callers_need(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    found = {name: complain(node) for name, node in list_public(tree.body)}
    assert not {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Do it.\n\n    Parameters\n    ----------\n    x : array\n", "no shape of x"),
        ("Do it.\n\n    Parameters\n    ----------\n    x : array of shape (n,)\n", "no type of x"),
        ("Do it.\n\n    Parameters\n    ----------\n    y : float\n", "nothing about x"),
        ("Do it.\n\n    Parameters\n    ----------\n    x, y : float\n", "y is no argument"),
        ("Do it.", "no shape of an array"),
        ("", "no docstring"),
    ],
)
def test_what_is_left_out_is_found(docstring, expected):
    (node,) = ast.parse(f'def f(x: np.ndarray) -> None:\n    """{docstring}"""\n').body
    assert expected in complain(node)


def test_a_whole_docstring_passes():
    text = '''
def f(x: np.ndarray, memory_gb: float) -> float:
    """Do it.

    Parameters
    ----------
    x : float32 array of shape (n,)
    memory_gb : float
        In units of 1e9 bytes.

    Returns
    -------
    float
    """
'''
    (node,) = ast.parse(text).body
    assert complain(node) == []
    (node,) = ast.parse(text.replace("In units of 1e9 bytes", "Memory")).body
    assert complain(node) == ["no unit of memory_gb"]
