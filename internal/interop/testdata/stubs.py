"""Reads type hints that were generated: stubs.py FILE..."""
import ast
import os
import sys

import checks
from checks import add, check, equal

trees = {}


def compiles(path):
    def stub():
        with open(path) as f:
            text = f.read()
        compile(text, path, "exec")
        trees[os.path.basename(path)] = ast.parse(text)
    return stub


for path in sys.argv[1:]:
    add(os.path.basename(path), compiles(path))


def classes(name):
    return {node.name: node for node in trees[name].body if isinstance(node, ast.ClassDef)}


@check
def docstrings():
    doc = ast.get_docstring(classes("kinds.pyi")["Kinds"])
    equal(doc, 'Kinds has a method of every kind.\n\nIts comment has "quotes", a \\ and a second paragraph:\n\n    and code')
    methods = {m.name: m for m in classes("calculator.pyi")["Calculator"].body if isinstance(m, ast.FunctionDef)}
    equal(ast.get_docstring(methods["add"]), "Add returns the sum of all terms.")


@check
def signatures():
    methods = {m.name: m for m in classes("kinds.pyi")["Kinds"].body if isinstance(m, ast.FunctionDef)}

    def signature(name):
        return ast.unparse(methods[name].args), ast.unparse(methods[name].returns)
    equal(signature("by_keyword"), ("self, user_id: int, url_path: str", "str"))
    equal(signature("variadic"), ("self, prefix: str, *values: int", "int"))
    equal(signature("unnamed"), ("self, arg1: int, arg2: str, /", "str"))
    equal(signature("blank"), ("self, arg1: int, /, text: str", "str"))
    equal(signature("nothing"), ("self", "None"))
    equal(signature("move"), ("self, target: Point", "Point"))


@check
def structs():
    fields = {f.target.id: ast.unparse(f.annotation) for f in classes("kinds.pyi")["Item"].body}
    equal(fields, {"id": "str", "name": "str", "label": "str", "price": "float", "parts": "list[Item]", "tags": "dict[str, int]",
                   "place": "Point", "made": "datetime.datetime | str"})


checks.run()
