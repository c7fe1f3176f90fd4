"""Imports the modules of a command in the process from which workers are forked, when it is imported there.

An error, such as of a file of the user that has the name of a library, is that of the command too, which
reports it in one line; here it would be a traceback in addition.
"""

from __future__ import annotations

import importlib
import os
from contextlib import suppress

# Environment variable with the names of the modules, separated by commas.
MODULES_VARIABLE = "MELRAY_WORKER_IMPORTS"

for _name in filter(None, os.environ.get(MODULES_VARIABLE, "").split(",")):
    with suppress(Exception):
        importlib.import_module(_name)
