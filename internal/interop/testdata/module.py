"""Runs a module as `python -m` does, and ends with its parent: module.py NAME ARGUMENT..."""
import runpy
import sys

import checks

checks.end_with_parent()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
