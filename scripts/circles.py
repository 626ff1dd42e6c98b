"""Finds circles of files: `scripts/circles.py CRATE_FOLDER…` names files of a crate that need each other, and fails if there are any.

A file needs another whose module it names in a `use` or a path that begins with `crate`, `self` or `super`; a `mod.rs` needs the modules
of its folder. A file and the folder of its name are one module, whose root may hand on to its parts. The root of a crate, which lists them
all, is left out, and so are tests.
"""

import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

TESTS = re.compile(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))?\s+)?mod \w+ \{.*", re.DOTALL)
USE = re.compile(r"\buse ((?:crate|super|self)\b[^;]*);")
PATH = re.compile(r"\b((?:crate|super)(?:::\w+)+)")
CHILD = re.compile(r"^\s*(?:pub(?:\([^)]*\))? )?mod (\w+);", re.MULTILINE)


def modules(source: Path) -> dict[tuple[str, ...], Path]:
    found = {}
    for path in sorted(source.rglob("*.rs")):
        module = path.relative_to(source).with_suffix("").parts
        if module[-1] in ("mod", "lib", "main"):
            module = module[:-1]
        found[module] = path
    return found


def leaves(tree: str, prefix: str = "") -> list[str]:
    """The paths that a `use` names: `a::{b, c::d}` is `a::b` and `a::c::d`."""
    parts, depth, part = [], 0, ""
    for character in tree:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += character
    paths = []
    for each in (each.strip() for each in [*parts, part] if each.strip()):
        if "{" in each:
            paths += leaves(each[each.index("{") + 1 : each.rindex("}")], prefix + each[: each.index("{")])
        else:
            paths.append(prefix + each.split(" as ")[0].strip())
    return paths


def needs(module: tuple[str, ...], path: Path, known: dict[tuple[str, ...], Path]) -> set[tuple[str, ...]]:
    text = TESTS.sub("", re.sub(r"//.*", "", path.read_text()))
    named = [leaf for use in USE.findall(text) for leaf in leaves(use)] + PATH.findall(text)
    found = set()
    for name in named:
        parts = name.split("::")
        base = () if parts[0] == "crate" else module
        while parts[0] in ("crate", "self", "super"):
            base = base[:-1] if parts.pop(0) == "super" else base
            if not parts:
                break
        target = (*base, *parts)
        while target not in known:
            target = target[:-1]
        found.add(target)
    if path.name == "mod.rs":
        found |= {(*module, child) for child in CHILD.findall(text) if re.search(rf"\b{child}::", text)}
    return found & known.keys() - {module, ()}


def main() -> int:
    circles = 0
    for crate in sys.argv[1:]:
        known = modules(Path(crate) / "src")
        graph = {module: needs(module, path, known) for module, path in known.items() if module}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circles += 1
            print(f"{crate}: a circle of files: " + " -> ".join("::".join(module) for module in error.args[1]))
    return 1 if circles else 0


if __name__ == "__main__":
    sys.exit(main())
