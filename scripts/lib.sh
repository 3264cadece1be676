# shellcheck shell=bash
#
# What scripts/test and scripts/demo share: saying what happens, and installing what is missing.
# Sourced after `set -euo pipefail`; POMBO_ROOT is the repository.

POMBO_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\n==> %s\n' "$*"; }

die() {
    printf '\nerror: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND...: runs it as root, by sudo if need be. sudo may ask for a password only where there is a terminal.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif ! have sudo; then
        die "this needs root: $* (run it as root, or install sudo)"
    elif [ -t 0 ]; then
        sudo -- "$@"
    else
        sudo -n -- "$@"
    fi
}

# While packages are installed, Debian's own mechanism keeps their services from being started: policy-rc.d answers 101
# ("forbidden") to whoever asks. What stood there before comes back afterwards, also after Ctrl-C; what a run that was killed
# left behind is recognised by the next one.
POLICY=/usr/sbin/policy-rc.d
services_held=no

hold_services() {
    if [ -e "$POLICY" ] && ! grep -q '^# by pombo$' "$POLICY"; then
        as_root mv -- "$POLICY" "$POLICY.before-pombo"
    fi
    services_held=yes
    printf '#!/bin/sh\n# by pombo\nexit 101\n' | as_root tee "$POLICY" >/dev/null
    as_root chmod 755 "$POLICY"
}

release_services() {
    [ "$services_held" = yes ] || return 0
    services_held=no
    if [ -e "$POLICY.before-pombo" ]; then
        as_root mv -- "$POLICY.before-pombo" "$POLICY"
    else
        as_root rm -f -- "$POLICY"
    fi
}

# step NAME COMMAND...: runs it, named and timed. It stands in no condition, so that `set -e` holds inside of it.
current_step=
step() {
    local begun=$SECONDS
    current_step=$1
    shift
    say "$current_step"
    "$@"
    printf -- '--- %s: %d s\n' "$current_step" "$((SECONDS - begun))"
    current_step=
}

on_exit() {
    local code=$?
    release_services
    if [ "$code" -ne 0 ] && [ -n "$current_step" ]; then
        printf '\nerror: %s failed\n' "$current_step" >&2
    fi
}
trap on_exit EXIT

# apt_install PACKAGE...: installs Debian packages without questions and without starting, now or at the next boot, any
# service that comes with them. A service that was installed before keeps running as it did.
apt_install() {
    have apt-get || die "these packages are missing, and there is no apt-get to install them with: $*"
    local -a options=(-y --no-install-recommends -o DPkg::Lock::Timeout=300)
    local -a services=()
    local package log
    log=$(mktemp)
    for package in "$@"; do
        case $package in
            redis-server | prometheus) services+=("$package.service") ;;
        esac
    done
    say "installing with apt: $*"
    hold_services
    if ! { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update \
        && as_root env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install "$@"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        die "apt could not install: $*"
    fi
    rm -f "$log"
    release_services
    if [ "${#services[@]}" -gt 0 ] && have systemctl; then
        as_root systemctl disable --quiet "${services[@]}" >/dev/null 2>&1 || true
    fi
}

# need COMMAND PACKAGE...: notes the packages to install if the command is missing.
missing=()
need() {
    local command=$1
    shift
    have "$command" || missing+=("$@")
}

# install_missing: installs what `need` noted, in one go.
install_missing() {
    [ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}"
    missing=()
}

# need_c_toolchain: ring is partly C, and Rust links with the C compiler.
need_c_toolchain() {
    need cc gcc libc6-dev
    [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
}

# at_least HAVE WANTED: compares versions.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# require_cargo: Rust itself is not installed by any script here: which toolchain to use is the user's choice.
require_cargo() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$POMBO_ROOT/Cargo.toml")
    if ! have cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    have cargo || die "cargo is missing: install Rust $wanted or newer with rustup (https://rustup.rs)"
    found=$(cargo --version | cut -d ' ' -f 2) || die "cargo does not run: rustup default stable"
    at_least "$found" "$wanted" || die "cargo is $found, and Pombo needs $wanted or newer: rustup update"
    say "cargo $found ($wanted or newer is needed)"
}

# require_component NAME...: the same for what rustup calls components.
require_component() {
    local component
    for component in "$@"; do
        cargo "${component#rust}" --version >/dev/null 2>&1 \
            || die "cargo ${component#rust} is missing: rustup component add $component"
    done
}

# interop_setup: installs what tests/it/interop and tests/it/api need into target/interop, again only when its pinned versions change.
interop_setup() {
    local from=$POMBO_ROOT/tests/it/interop
    local into=$POMBO_ROOT/target/interop
    local stamp
    stamp=$(cat "$from/package-lock.json" "$from/requirements.txt" | sha256sum)
    if [ "$(cat "$into/stamp" 2>/dev/null)" = "$stamp" ] && "$into/python/bin/python" -c '' 2>/dev/null; then
        return
    fi
    rm -rf "$into"
    mkdir -p "$into/node"
    cp "$from/package.json" "$from/package-lock.json" "$into/node/"
    npm ci --prefix "$into/node" --ignore-scripts --no-audit --no-fund --loglevel=error
    python3 -m venv "$into/python"
    "$into/python/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$from/requirements.txt"
    printf '%s' "$stamp" >"$into/stamp"
}
