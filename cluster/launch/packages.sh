#!/usr/bin/env bash
# Installs all packages that melray needs, in the releases of constraints.txt; the images and the set-up of cloud machines use it.
#
#   packages.sh cpu|cuda [PYTHON]      in a folder that holds constraints.txt and pyproject.toml
set -euo pipefail

kind=$1
python=${2:-python}

# Torch first and by its exact version. PyPI has its CUDA build, with the CUDA libraries: some GB that a machine without a GPU
# has no use for. The other index has its CPU build; what torch itself needs comes from PyPI below, like everything else.
torch=$(grep '^torch==' constraints.txt)
case $kind in
    cpu) "$python" -m pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "$torch" ;;
    cuda) "$python" -m pip install --constraint constraints.txt "$torch" ;;
    *) echo "packages.sh: '$kind' is neither cpu nor cuda" >&2 && exit 2 ;;
esac

"$python" -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["dependencies"], sep="\n")
' > requirements.txt
"$python" -m pip install --constraint constraints.txt --requirement requirements.txt
