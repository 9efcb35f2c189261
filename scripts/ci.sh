#!/usr/bin/env bash
# What CI runs, here as there: the README's test command with nothing skipped, then what it left
# behind and whether the wheel is whole.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
export CI=true FUSEDM_REQUIRE=fuse,loop,kernel,ceph
# The same every time, as hypothesis does it under CI: to look further is for make nightly.
export FUSEDM_SIM_SEED=1 FUSEDM_FUZZ_SEED=1 FUSEDM_STORM_SEED=1

fail() {
    printf 'ci: %s\n' "$@" >&2
    exit 1
}

# All that the tests make is below here, which is how it is told from what others have.
base=$(mktemp -d /tmp/fusedm-ci.XXXXXX)
trap 'rm -rf --one-file-system "$base"' EXIT
export TMPDIR=$base/tmp
mkdir "$TMPDIR"

print_environment() {
    uname -srm
    ls -l /dev/fuse || true
    linux.uml --version | sed 's/^/Linux as a process /'
    pkg-config --modversion fuse3 | sed 's/^/libfuse /'
    .venv/bin/python - <<'END'
import platform, cryptography, pyfuse3
from cryptography.hazmat.backends.openssl import backend
print("Python", platform.python_version())
print("pyfuse3", pyfuse3.__version__)
print("cryptography", cryptography.__version__, "with", backend.openssl_version_text())
from fusedm.crypto import libcrypto_version
print("compiled ciphers with", libcrypto_version())
END
}

check_nothing_is_left() {
    local left
    left=$(.venv/bin/python -c '
import sys
from tests.helpers.tiers import left_behind
print(*left_behind(sys.argv[1]), sep="\n")' "$TMPDIR")
    [[ -z $left ]] || fail "the tests left behind:" "$left"
}

# In a copy, since a build leaves its own files, which a next build would take up.
check_wheel() {
    mkdir "$base/source"
    cp -r pyproject.toml setup.py README.md fusedm "$base/source"
    find "$base/source" -name '*.so' -delete -o -name '*.bin' -delete
    .venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps \
        --wheel-dir "$base" "$base/source"
    # What is compiled comes with its source.
    (
        cd "$base/source"
        find fusedm -name '*.py' -o -name '*.pyi' -o -name '*.md' -o -name '*.toml' -o -name '*.fio' \
            -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name client.c
        find fusedm -name '*.pyx' | sed 's/pyx$/so/'
        echo fusedm/dmsetup/client.bin
    ) | sort >"$base/wanted"
    .venv/bin/python -m zipfile -l "$base"/fusedm-*.whl | awk '$1 ~ "^fusedm/" { print $1 }' |
        sed -E 's/[.]cpython-[^/]*[.]so$/.so/' | sort >"$base/packed"
    diff "$base/wanted" "$base/packed" || fail "the wheel is not the package (< missing, > extra)"
}

scripts/setup.sh
print_environment
# A bound for what hangs, far above what it takes. INT, on which pytest still cleans up.
timeout --signal=INT --kill-after=60 3000 make test </dev/null 2>&1 | tee "$base/log"
check_nothing_is_left
check_wheel
# Every run of pytest that make tells of has executed tests.
runs=$(make --dry-run test | grep -c ' -m pytest ')
closing=$(grep -E '^=+ .* in [0-9.]+s.* =+$' "$base/log" || true)
printf '%s\n' "$closing"
[[ $(grep -c ' passed' <<<"$closing") -eq $runs ]] ||
    fail "of $runs runs of pytest some executed no test"
echo "ci: passed in ${SECONDS} s"
