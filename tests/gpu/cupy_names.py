"""What CuPy has, as JSON for mockcupy.py: ``python cupy_names.py cupy_names.json`` where CuPy is
installed; no GPU is needed.
"""

import inspect
import json
import re
import sys

import cupy
import cupyx
import cupyx.scipy.special


def parameters(function):
    """The names of its arguments; those of a compiled function stand in its docstring."""
    try:
        found = [p.name for p in inspect.signature(function).parameters.values()]
    except (ValueError, TypeError):
        first = (function.__doc__ or "").split("\n")[0]
        match = re.search(r"\((.*?)\)( ->|$)", first)
        if not match:
            return None
        found = re.findall(r"(?:^|, )\*{0,2}(?:[\w. ]+ )?(\w+)(?==|,|$)", match[1])
    return [p for p in found if p != "self"]


def public(thing):
    return [n for n in dir(thing) if not n.startswith("_")]


out = {"cupy": cupy.__version__, "functions": {}, "ufuncs": {}, "others": [], "methods": {}}
for n in public(cupy):
    o = getattr(cupy, n)
    if type(o).__name__ == "ufunc":
        out["ufuncs"][n] = list(o.types)
    elif inspect.isroutine(o) or type(o).__name__ == "_GUFunc":
        out["functions"][n] = parameters(o)
    else:
        out["others"].append(n)
for n in public(cupy.ndarray):
    o = getattr(cupy.ndarray, n)
    if callable(o):
        out["methods"][n] = parameters(o)
runtime = [n for n in public(cupy.cuda.runtime) if not re.match(r"cuda[A-Z]|CUDA_", n)]
out |= {"cuda": public(cupy.cuda), "runtime": runtime, "cupyx": public(cupyx)}
out["special"] = public(cupyx.scipy.special)


def text(value):
    """An entry a line."""
    if not isinstance(value, dict):
        return json.dumps(value)
    lines = [f'  "{name}": {json.dumps(v)}' for name, v in value.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


with open(sys.argv[1], "w") as file:
    entries = [f'"{key}": {text(value)}' for key, value in out.items()]
    file.write("{\n" + ",\n".join(entries) + "\n}\n")
