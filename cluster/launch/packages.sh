#!/usr/bin/env bash
# Install melray's dependencies in the releases of constraints.txt; used by the Dockerfiles and by node.sh.
#
#   packages.sh cpu|cuda [PYTHON]      in a folder with constraints.txt and pyproject.toml
set -euo pipefail

kind=$1
python=${2:-python}

# Torch first and in its exact release. PyPI has the CUDA build with the CUDA libraries, several GB; the other
# index has the CPU build, whose dependencies are installed from PyPI below.
torch=$(grep '^torch==' constraints.txt)
case $kind in
    cpu) "$python" -m pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "$torch" ;;
    cuda) "$python" -m pip install --constraint constraints.txt "$torch" ;;
    *) echo "packages.sh: '$kind' must be cpu or cuda" >&2 && exit 2 ;;
esac

"$python" -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["dependencies"], sep="\n")
' > requirements.txt
"$python" -m pip install --constraint constraints.txt --requirement requirements.txt
