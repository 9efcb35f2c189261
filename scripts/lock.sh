#!/usr/bin/env bash
# Renews scripts/constraints.txt: the newest versions that pyproject.toml allows, as installed.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
.venv/bin/python -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check '.[dev]'
{
    sed -n '/^#/p' scripts/constraints.txt
    "$venv/bin/python" -m pip freeze --exclude fusedm
} >"$venv/constraints.txt"
cp "$venv/constraints.txt" scripts/constraints.txt
