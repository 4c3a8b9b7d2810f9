#!/usr/bin/env bash
# Runs a command with a container engine and a base image:
#
#   tests/compose/with_engine.sh pytest tests/compose
#
# A running engine is used, and so is WINNOW_BASE_IMAGE if it is present or can be pulled. What is missing is provided
# for the duration of the command: engine and compose from Debian's packages, and a base image from debootstrap if no
# registry answers. This needs root on a Debian machine. Afterwards an engine started here is stopped and all its data
# deleted; Debian's packages stay installed.
#
# Exit status: the command's, or 77 if containers cannot run on this machine.
set -euo pipefail

readonly CANNOT_RUN=77
readonly MADE_BASE_IMAGE=winnow-base:debian
export WINNOW_BASE_IMAGE=${WINNOW_BASE_IMAGE:-python:3.11-slim}

state=

main() {
  if ! engine_answers; then
    install_package dockerd docker.io
    # On a machine with an init system, the package has already started it.
    engine_answers || start_engine
  fi
  docker compose version >/dev/null 2>&1 || install_package docker-compose docker-compose
  if ! base_image_is_there; then
    make_base_image
    export WINNOW_BASE_IMAGE=$MADE_BASE_IMAGE
    # The base image has this machine's certificates, and the build uses its network.
    export WINNOW_BUILD_NETWORK=${WINNOW_BUILD_NETWORK:-host}
  fi
  "$@" 9>&-
}

say() { echo "with_engine: $*" >&2; }

cannot_run() {
  say "containers cannot run here: $*"
  exit $CANNOT_RUN
}

engine_answers() { docker info >/dev/null 2>&1; }

# install_package COMMAND PACKAGE: installs Debian's package unless the command is there.
install_package() {
  if command -v "$1" >/dev/null; then return; fi
  [[ $EUID -eq 0 ]] || cannot_run "no $1, and only root can install it"
  command -v apt-get >/dev/null || cannot_run "no $1, and only Debian's can be installed from here"
  say "installing Debian's $2"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$2" >/dev/null ||
    cannot_run "Debian's $2 cannot be installed"
}

start_engine() {
  [[ $EUID -eq 0 ]] || cannot_run "no engine answers, and only root can start one"
  # Two engines would remove each other's bridge and firewall rules.
  exec 9>/tmp/winnow-engine.lock
  flock --nonblock 9 || { say "waiting until another engine started by this script ends" && flock 9; }
  state=$(mktemp -d -t winnow-engine.XXXXXX)
  trap stop_engine EXIT
  export DOCKER_HOST=unix://$state/docker.sock
  # For restoring later: empty tables, then their present rules. Tables that are not in use are not saved.
  { printf '*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n*nat\nCOMMIT\n' && iptables-save; } >"$state/iptables"
  dockerd --host "$DOCKER_HOST" --data-root "$state/data" --exec-root "$state/exec" --pidfile "$state/docker.pid" \
    >"$state/dockerd.log" 2>&1 9>&- &
  local engine=$!
  for _ in {1..60}; do
    if engine_answers; then
      say "engine started"
      return
    fi
    kill -0 "$engine" 2>/dev/null || break
    sleep 1
  done
  tail -n 20 "$state/dockerd.log" >&2
  cannot_run "dockerd does not start: see its log above"
}

stop_engine() {
  trap - EXIT
  if [[ -f $state/docker.pid ]]; then
    local engine
    engine=$(<"$state/docker.pid")
    # If the command was interrupted, its containers and networks still exist.
    docker ps --all --quiet | xargs --no-run-if-empty docker rm --force >/dev/null || true
    docker network prune --force >/dev/null || true
    kill "$engine" 2>/dev/null || true
    # The engine stops its containers first.
    for _ in {1..60}; do
      kill -0 "$engine" 2>/dev/null || break
      sleep 0.5
    done
    ip link delete docker0 2>/dev/null || true
    iptables-restore <"$state/iptables" || true
  fi
  # The engine leaves its handle on the machine's network mounted.
  umount "$state"/exec/netns/* 2>/dev/null || true
  rm -rf "$state"
}

base_image_is_there() {
  docker image inspect "$WINNOW_BASE_IMAGE" >/dev/null 2>&1 || timeout 120 docker pull --quiet "$WINNOW_BASE_IMAGE" 2>/dev/null
}

make_base_image() {
  if docker image inspect $MADE_BASE_IMAGE >/dev/null 2>&1; then return; fi
  say "no registry has $WINNOW_BASE_IMAGE: building a base image"
  install_package debootstrap debootstrap
  local root
  root=$(mktemp -d -t winnow-base.XXXXXX)
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root" >"$root.log" 2>&1 || {
    tail -n 20 "$root.log" >&2
    exit 1
  }
  # Behind a TLS-inspecting proxy, packages can only be downloaded with this machine's certificates.
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,locale,man}/*
  tar --directory "$root" --create . |
    docker import --change "ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt" - $MADE_BASE_IMAGE >/dev/null
  rm -rf "$root" "$root.log"
}

# On one line with exit: bash reads a script while running it, and this file may change meanwhile.
main "$@"; exit
