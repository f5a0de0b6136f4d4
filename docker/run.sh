#!/bin/sh
# Run a command in the workshop's container over this checkout, building the image first if what it is
# made from has changed. Needs a Docker engine and nothing else.
#
#   docker/run.sh make week5-pretrain        docker/run.sh --build-only
#
# DOCKER      the client (default: docker)
# DEVICE      auto | cpu | gpu
# BASE_IMAGE  another base than the device's usual one
# IMAGE       the image's name without its tag (default: llm-workshop)
# TARGET      curate | nemo: the image with that environment (make image TARGET=curate); once it is built, the steps
#             that use it take it by themselves
# EXTRA_APT   more Debian packages for the image, such as "chromium"
# EXTRA_CA    a PEM file with the certificate of a company's TLS proxy, given to the build as a secret
#
# DOCKER_RUN_OPTIONS   more options of `docker run`, such as "--network none"
set -eu
cd "$(dirname "$0")/.."
DOCKER=${DOCKER:-docker}
fail() { echo "error: $*" >&2; exit 1; }

engine=$(docker/engine.sh 2>&1) || fail "$engine: mend that, or use RUN=local"

# --- which image ---------------------------------------------------------------------------------
has_gpu() {
    nvidia-smi -L 2>/dev/null | grep -q GPU && "$DOCKER" info --format '{{json .Runtimes}}' | grep -q nvidia
}
device=${DEVICE:-auto}
if [ "$device" = auto ]; then
    if has_gpu; then device=gpu; else device=cpu; fi
fi
case $device in
    cpu) base=${BASE_IMAGE:-python:3.11-slim-bookworm} ;;
    gpu) base=${BASE_IMAGE:-nvcr.io/nvidia/pytorch:26.08-py3} ;;
    *) fail "DEVICE=$device is unknown: use auto, cpu or gpu" ;;
esac
image=${IMAGE:-llm-workshop}:$device
target=workshop
# These start a Triton server of their own, which an image of its own has; with a GPU it computes on the CPU all the
# same: `make serve` takes the image with TensorRT-LLM.
case "$*" in
    *week8-serve* | *week8-loadtest*)
        target=triton image=${IMAGE:-llm-workshop}:triton device=cpu base=${BASE_IMAGE:-python:3.11-slim-bookworm} ;;
esac
built() { "$DOCKER" image inspect "${IMAGE:-llm-workshop}:$1" > /dev/null 2>&1; }
further=${TARGET:-}
case "$*" in
    *week2-report*) if built curate; then further=curate; fi ;;
    *week1-tools*) if built nemo; then further=nemo; fi ;;
esac
case $further in
    "") ;;
    curate | nemo) target=$further image=${IMAGE:-llm-workshop}:$further device=cpu base=${BASE_IMAGE:-python:3.11-slim-bookworm} ;;
    *) fail "TARGET=$further is unknown: use curate or nemo" ;;
esac

# The user in the container is the user outside, so that what it writes is theirs. A rootless engine maps
# the container's root to that user by itself.
uid=$(id -u)
gid=$(id -g)
if "$DOCKER" info --format '{{.SecurityOptions}}' | grep -q rootless; then
    uid=0
    gid=0
fi

# --- build, unless the image at hand was made from the same inputs ---------------------------------
inputs() {
    echo "$base $uid $gid ${EXTRA_APT:-} $target"
    cat Dockerfile .dockerignore pyproject.toml environments/core.txt environments/triton.txt environments/curate.txt \
        environments/nemo.txt environments/install.py
    for file in docker/tiktoken/*; do echo "$file"; cat "$file"; done
    if [ -n "${EXTRA_CA:-}" ]; then cat "$EXTRA_CA"; fi
}
digest=$(inputs | cksum | tr ' ' '-')
present=$("$DOCKER" image inspect --format '{{index .Config.Labels "workshop.inputs"}}' "$image" 2>/dev/null || true)
if [ "$present" != "$digest" ]; then
    echo "building $image on $base (the first time takes minutes)" >&2
    DOCKER_BUILDKIT=1 "$DOCKER" build --target "$target" --tag "$image" --label "workshop.inputs=$digest" \
        --build-arg "BASE_IMAGE=$base" --build-arg "HOST_UID=$uid" --build-arg "HOST_GID=$gid" \
        --build-arg "EXTRA_APT=${EXTRA_APT:-}" ${EXTRA_CA:+--secret "id=extra_ca,src=$EXTRA_CA"} . >&2 ||
        fail "docker build failed (its message is above); RUN=local works without an image"
fi
if [ "${1:-}" = --build-only ]; then
    echo "image $image is up to date"
    exit 0
fi

# --- run -------------------------------------------------------------------------------------------
add() { options="$options $*"; }
options="--rm --user $uid:$gid --shm-size 2g ${DOCKER_RUN_OPTIONS:-}"
if [ -t 0 ] && [ -t 1 ]; then add --interactive --tty; fi
if [ "$device" = gpu ]; then add --gpus all --ipc=host --ulimit memlock=-1 --ulimit stack=67108864; fi
port=${PORT:-7860}
case "$*" in
    *demo* | *chat*) if [ "${SERVE:-1}" != 0 ]; then add --publish "127.0.0.1:$port:$port"; fi ;;
    *week8-serve*)
        for each in "$port" 8000 8001 8002 8080; do add --publish "127.0.0.1:$each:$each"; done ;;
    *jupyter*) add --publish 127.0.0.1:8888:8888 ;;
    *watch*) add --publish 127.0.0.1:7870:7870 ;;
    *tensorboard*) add --publish 127.0.0.1:6006:6006 ;;
    *-quiz*) case ${ARGS:-} in *--page*) add --publish 127.0.0.1:7861:7861 ;; esac ;;
esac
for name in SCALE DATA SEED ARGS FORCE SERVE PORT EX HF_TOKEN HF_HUB_OFFLINE HF_ENDPOINT WORKSHOP_DEBUG \
    JUPYTER_TOKEN WORKSHOP_API_KEY WORKSHOP_NAME HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    if [ -n "$(printenv "$name" || true)" ]; then add --env "$name"; fi
done
set -- --env "WORKSHOP_HOST_DOCKER=$engine" "$image" "$@"
for name in DATA_DIR WORKSHOP_SHARED_DATA; do
    folder=$(printenv "$name" || true)
    if [ -n "$folder" ]; then
        [ -d "$folder" ] || fail "$name=$folder is no folder: name one that exists, or unset it"
        inside=/data/$(printf '%s' "$name" | tr '[:upper:]' '[:lower:]')
        set -- --volume "$(cd "$folder" && pwd):$inside:ro" --env "$name=$inside" "$@"
    fi
done
case "$*" in
    *class-report*)  # writes its tables into the folder that it reads
        [ -d "${DIR:-}" ] || fail "DIR=${DIR:-} is no folder: name the one with the participants' progress.json files"
        set -- --volume "$(cd "$DIR" && pwd):/data/class" --env DIR=/data/class "$@" ;;
esac
# shellcheck disable=SC2086  # $options is a list of words without spaces
exec "$DOCKER" run $options --volume "$PWD:/workspace" --volume "${IMAGE:-llm-workshop}-cache:/home/workshop/.cache" "$@"
