#!/usr/bin/env bash
# A small Ceph on 127.0.0.1, of Debian's packages and without installing them: one monitor and one OSD.
#
#   scripts/ceph.sh fetch        get the packages and unpack them in build/ceph, unless that is done
#   scripts/ceph.sh start DIR    make a cluster in a new folder and leave it running
#   scripts/ceph.sh stop DIR     end it; the folder goes too
#   scripts/ceph.sh run          start one, say how it is used, and stop it at Ctrl-C
#
# Needs no root and no systemd; DIR/ceph.conf is all that a client needs. Exit codes: 2 where something
# is missing or asked for wrongly.
set -euo pipefail

here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$here/build/ceph
programs=(ceph-mon ceph-osd ceph-common)

give_up() {
    printf 'ceph: %s\n' "$@" >&2
    exit 2
}

# What apt would install for them, but for what is neither Ceph's nor a library.
packages() {
    apt-get --simulate --no-install-recommends install "${programs[@]}" |
        awk '$1 == "Inst" && $2 ~ /^(ceph|lib)/ { print $2 }'
}

fetch() {
    [[ ! -f $cache/complete ]] || return 0
    command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
        give_up "this is not Debian or Ubuntu: the packages of Ceph cannot be had"
    local listed wanted
    mkdir -p "$cache"
    # Of two that fetch at a time, the second waits and finds it done.
    exec 9>"$cache/lock"
    flock 9
    [[ ! -f $cache/complete ]] || return 0
    listed=$(packages) || give_up "the packages of Ceph are not known here: try apt-get update"
    # None where all of them are installed: they are used from where they are.
    read -ra wanted <<<"${listed//$'\n'/ }"
    work=$(mktemp -d "$cache/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/debs" "$work/root"
    if [[ ${#wanted[@]} -gt 0 ]]; then
        (cd "$work/debs" && apt-get download -q "${wanted[@]}" >"$work/log" 2>&1) ||
            give_up "the packages cannot be had (try apt-get update):" "$(tail -3 "$work/log")"
        for package in "$work"/debs/*.deb; do
            dpkg -x "$package" "$work/root"
        done
    fi
    rm -rf "$cache/root"
    mv "$work/root" "$cache/root"
    : >"$cache/complete"
}

cluster() {
    fetch
    cd "$here"
    exec .venv/bin/python -m tests.helpers.ceph.cluster "$@"
}

case ${1:-} in
    fetch) [[ $# -eq 1 ]] || give_up "fetch takes no argument" && fetch ;;
    start | stop)
        [[ $# -eq 2 ]] || give_up "$1 takes a folder"
        cluster "$1" "$(realpath -m "$2")"
        ;;
    run) [[ $# -eq 1 ]] || give_up "run takes no argument" && cluster run ;;
    *) give_up "use fetch, start DIR, stop DIR or run" ;;
esac
