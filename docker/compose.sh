#!/bin/sh
# docker compose over docker-compose.yml, as the present user; takes the plugin or the older docker-compose.
# Takes the services of the gpu profile where the engine can use a GPU, of the cpu profile elsewhere.
#
# PROFILES   other profiles instead: "serving", "serving monitoring" (serving becomes serving-gpu on a GPU)
set -eu
cd "$(dirname "$0")/.."
DOCKER=${DOCKER:-docker}
HOST_UID=${HOST_UID:-$(id -u)}
HOST_GID=${HOST_GID:-$(id -g)}
export HOST_UID HOST_GID
if "$DOCKER" compose version >/dev/null 2>&1; then
    compose="$DOCKER compose"
elif command -v docker-compose >/dev/null 2>&1; then
    compose=docker-compose
    # It builds with the `docker` that it finds: let that be the client that was chosen.
    program=$(command -v "$DOCKER") && PATH=$(dirname "$program"):$PATH
else
    echo "error: neither 'docker compose' nor docker-compose is installed: install the compose plugin" >&2
    exit 1
fi
profile=cpu
if [ "${DEVICE:-auto}" = gpu ] || { [ "${DEVICE:-auto}" = auto ] && nvidia-smi -L >/dev/null 2>&1 &&
    "$DOCKER" info --format '{{json .Runtimes}}' | grep -q nvidia; }; then
    profile=gpu
fi
case ${1:-} in
    down | logs | ps) profiles="$profile serving serving-gpu monitoring" ;; # whatever runs
    *) profiles=${PROFILES:-$profile} ;;
esac
options=
for name in $profiles; do
    if [ "$name" = serving ] && [ "$profile" = gpu ] && [ "${1:-}" != down ]; then name=serving-gpu; fi
    options="$options --profile $name"
done
export DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
# shellcheck disable=SC2086  # words on purpose
exec $compose $options "$@"
