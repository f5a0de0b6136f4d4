#!/usr/bin/env bash
# Prove the containers on a real Docker engine: build the unchanged Dockerfile, run the smoke demo as an
# ordinary user without a network, bring up the services and ask their pages, build on a base that has its
# own torch, serve the smoke model and kill its engine, bring up the dev container. Takes the engine that is there; as root on Debian it starts one.
# Without any it says so and succeeds. Logs stay in build/container-test; the last line counts.
# shellcheck disable=SC2317,SC2016  # functions are called by name through check; Go templates are not shell
set -euo pipefail
cd "$(dirname "$0")/../.."
unset SCALE DATA SEED ARGS FORCE SERVE PORT RUN ARTIFACTS_DIR DATA_DIR
repository=$PWD
logs=$repository/build/container-test
rm -rf "$logs" && mkdir -p "$logs"
work=$(mktemp -d)
chmod 0755 "$work"
passed=0 failed=0 ok=1 started=$SECONDS
dockerd_pid=
made_user=
DEVCONTAINER_CLI=0.89.0
test_uid=12345
project=workshop-test
page_port=17860 jupyter_port=18888 api_port=18080
export TRITON_HTTP_PORT=18000 TRITON_GRPC_PORT=18001 TRITON_METRICS_PORT=18002 API_PORT=$api_port

say() { printf '%s\n' "$*"; }
skip_all() {
    say "###############################################################################"
    say "## SKIPPED: the container tests did NOT run: $*"
    say "###############################################################################"
    exit 0
}

tear_down() {
    set +e
    if [ -n "${DOCKER:-}" ] && "$DOCKER" version > /dev/null 2>&1; then
        { "$DOCKER" ps --all --quiet --filter "label=com.docker.compose.project=$project"
          "$DOCKER" ps --all --quiet --filter "label=devcontainer.local_folder=$work/checkout"
        } | xargs --no-run-if-empty "$DOCKER" rm --force --volumes > /dev/null 2>&1
        "$DOCKER" volume rm --force "${project}_cache" "${project}_prometheus" "${project}_grafana" llm-workshop-test-cache > /dev/null 2>&1
        "$DOCKER" network rm "${project}_default" > /dev/null 2>&1
        # What is kept is the cache of the next run: the base images and BuildKit's own.
        "$DOCKER" image prune --force > /dev/null 2>&1
    fi
    if [ -n "$dockerd_pid" ]; then
        kill "$dockerd_pid"
        for _ in $(seq 30); do kill -0 "$dockerd_pid" 2>/dev/null || break; sleep 0.5; done
    fi
    if [ -n "$made_user" ]; then userdel "$made_user"; fi
    rm -rf "$work"
}
trap tear_down EXIT
trap 'exit 130' INT TERM

# check NAME COMMAND...: run it, keep its log, count it, set $ok. Never call it in a condition: `set -e` would
# be off inside, and a function that fails in its middle would pass.
check() {
    local name=$1 log=$logs/$((passed + failed + 1))-${1//[^A-Za-z0-9]/-}.log since=$SECONDS status
    shift
    set +e
    ( set -euo pipefail; "$@" ) > "$log" 2>&1
    status=$?
    set -e
    if [ "$status" -eq 0 ]; then
        passed=$((passed + 1)) ok=1
        say "ok    $name ($((SECONDS - since)) s)"
    else
        failed=$((failed + 1)) ok=0
        say "FAIL  $name ($((SECONDS - since)) s); the end of $log:"
        tail -n 25 "$log" | sed 's/^/      /'
    fi
}
finish() {
    say "container tests: $((SECONDS - started)) s, logs in build/container-test"
    say "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
    exit
}

# --- an engine ---------------------------------------------------------------------------------------
engine_answers() { "$DOCKER" version --format '{{.Server.Version}}' > /dev/null 2>&1; }
client_builds() { # BuildKit: built into clients up to 20.10, a plugin after
    printf 'FROM scratch\nLABEL a=b\n' | DOCKER_BUILDKIT=1 "$DOCKER" build --quiet - > /dev/null 2>&1
}
find_engine() {
    local candidate
    for candidate in ${DOCKER:-docker /usr/bin/docker}; do
        DOCKER=$(command -v "$candidate") || continue
        if engine_answers && client_builds; then return 0; fi
    done
    return 1
}
start_engine() {
    [ "$(id -u)" = 0 ] || skip_all "no Docker engine answers, and only root can start one"
    command -v apt-get > /dev/null || skip_all "no Docker engine answers, and there is no apt to install one"
    local program missing=
    for program in /usr/bin/docker dockerd debootstrap docker-compose; do
        command -v "$program" > /dev/null || missing+=" $program"
    done
    if [ -n "$missing" ]; then
        say "installing docker.io, docker-compose and debootstrap"
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
            docker.io docker-compose debootstrap iptables; } > "$logs/apt.log" 2>&1 ||
            skip_all "apt could not install docker.io (see $logs/apt.log)"
    fi
    # The engine's bridge must not send larger packets than the way out of this machine takes.
    local device mtu=1500
    device=$(ip route show default 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1) || true
    if [ -n "$device" ]; then mtu=$(cat "/sys/class/net/$device/mtu"); fi
    dockerd --mtu "$mtu" > "$logs/dockerd.log" 2>&1 &
    dockerd_pid=$!
    DOCKER=/usr/bin/docker
    for _ in $(seq 60); do
        if engine_answers; then break; fi
        kill -0 "$dockerd_pid" 2>/dev/null || break
        sleep 0.5
    done
    if ! engine_answers || ! client_builds; then
        skip_all "dockerd does not start on this machine: $(tail -n 1 "$logs/dockerd.log")"
    fi
}
find_engine || start_engine
export DOCKER
say "engine $("$DOCKER" version --format '{{.Server.Version}}') ($DOCKER)"

# --- the ordinary user and the checkout -----------------------------------------------------------------
# As root, everything below runs as a user who owns a copy of the checkout, like somebody at their desk.
mkdir -p "$work/checkout" "$work/home"
git ls-files --cached --others --exclude-standard -z | while IFS= read -r -d '' file; do
    if [ -f "$file" ]; then printf '%s\0' "$file"; fi
done | tar --create --null --files-from=- | tar --extract --directory "$work/checkout"
data=${WORKSHOP_SHARED_DATA:-$repository/../shared/data}
if [ -f "$data/gpt2_bpe/vocab.bpe" ]; then
    cp "$data/gpt2_bpe/vocab.bpe" "$data/gpt2_bpe/encoder.json" "$work/checkout/docker/tiktoken/"
fi
as_user=()
if [ "$(id -u)" = 0 ]; then
    # The dev container's tool asks for the name of whoever calls it, so the uid must have one.
    if ! getent passwd "$test_uid" > /dev/null; then
        useradd --uid "$test_uid" --user-group --home-dir "$work/home" --no-create-home workshop-test
        made_user=workshop-test
    fi
    chown -R "$test_uid:$test_uid" "$work/checkout" "$work/home"
    socket_group=$(stat --format %g /var/run/docker.sock)
    as_user=(setpriv --reuid "$test_uid" --regid "$test_uid" --groups "$socket_group" --)
else
    test_uid=$(id -u)
fi
cd "$work/checkout"
export HOME=$work/home IMAGE=llm-workshop-test COMPOSE_PROJECT_NAME=$project DEVICE=cpu DOCKER_BUILDKIT=1
user() { "${as_user[@]}" env -u SSL_CERT_DIR "$@"; }
in_image() { "$DOCKER" run --rm "$@"; }

# --- base image ------------------------------------------------------------------------------------------
official=$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)
if timeout 60 "$DOCKER" pull --quiet "$official" > "$logs/pull.log" 2>&1; then
    BASE_IMAGE=$official
else
    BASE_IMAGE=workshop-test-base:$({ cat "$repository/tests/container/base-image.sh"; python3 -m pip config list 2>/dev/null; } |
        cksum | cut -d ' ' -f 1)
    say "no registry gives $official: a stand-in from Debian packages"
    if ! "$DOCKER" image inspect "$BASE_IMAGE" > /dev/null 2>&1; then
        check "base image from debootstrap" "$repository/tests/container/base-image.sh" "$BASE_IMAGE"
        if [ "$ok" = 0 ]; then finish; fi
    fi
fi
export BASE_IMAGE

# The images of an earlier run go, so that this one builds; the layers that are still right come from the cache.
"$DOCKER" image rm "$IMAGE:cpu" "$IMAGE:gpu" "$IMAGE:triton" > /dev/null 2>&1 || true

# --- build -------------------------------------------------------------------------------------------------
check "make image builds the unchanged Dockerfile" user make image RUN=docker
if [ "$ok" = 0 ]; then finish; fi
image=$IMAGE:cpu
image_facts() {
    [ "$(in_image "$image" id -u)" = "$test_uid" ]
    in_image "$image" python -c '
import importlib.metadata as m, torch
assert torch.version.cuda is None, torch.__version__
names = {d.metadata["Name"].lower() for d in m.distributions()} - {"nvidia-modelopt", "nvidia-ml-py"}  # no CUDA in these
assert not [n for n in names if n.startswith(("nvidia-", "cuda-"))], names'
    "$DOCKER" image inspect --format '{{json .Config.Labels}}' "$image" | grep org.opencontainers.image.licenses
    if "$DOCKER" image history --no-trunc "$image" | grep -i 'http.*://[^ ]*simple'; then return 1; fi
    say "size: $("$DOCKER" image inspect --format '{{.Size}}' "$image") bytes"
}
check "ordinary user, CPU build of torch, labels" image_facts
compiles() { in_image "$image" python -c '
import torch
f = torch.compile(lambda x: torch.sin(x) * 2 + 1)
x = torch.randn(64)
torch.testing.assert_close(f(x), torch.sin(x) * 2 + 1)'; }
check "torch.compile finds its compiler" compiles
if [ -f docker/tiktoken/vocab.bpe ]; then
    tiktoken_offline() { in_image --network none "$image" python -c '
import tiktoken
assert tiktoken.get_encoding("gpt2").encode("hello world") == [31373, 995]'; }
    check "tiktoken has GPT-2 without a network" tiktoken_offline
fi
unchanged() { local since=$SECONDS; user make image RUN=docker; [ $((SECONDS - since)) -le 2 ]; }
check "make image with nothing to do takes under 2 s" unchanged

# --- the main job, in the container, without a network -------------------------------------------------------
smoke_demo() {
    user env DOCKER_RUN_OPTIONS="--network none" make demo SCALE=smoke SERVE=0 RUN=docker
    test -f artifacts/smoke/base-model/model.safetensors
    [ -z "$(find artifacts ! -user "$test_uid" -print -quit)" ] # all of it belongs to who asked for it
}
check "make demo SCALE=smoke SERVE=0 RUN=docker, offline, as uid $test_uid" smoke_demo

inside() {
    user docker/run.sh make doctor
    user docker/run.sh make test ARGS="-q -p no:cacheprovider tests/test_makefile.py tests/test_environment.py tests/llm_workshop/test_doctor.py"
}
check "make doctor finds no problem and the front door's tests pass inside" inside

graded() {
    if user env DOCKER_RUN_OPTIONS="--network none" make week3-check RUN=docker; then return 1; fi # nothing is done yet
    user cp labs/week03_tokenizers/solutions.py labs/week03_tokenizers/exercises.py
    user env DOCKER_RUN_OPTIONS="--network none" make week3-check EX=merge RUN=docker
    user make week3-solution EX=merge RUN=docker | grep "^def merge"
    [ "$(stat --format %u .workshop/checks/week03.json)" = "$test_uid" ]
}
check "exercises are graded in the container, their results are the participant's" graded

# --- services ---------------------------------------------------------------------------------------------------
export CHAT_PORT=$page_port JUPYTER_PORT=$jupyter_port JUPYTER_TOKEN=test-token-$RANDOM SCALE=smoke
check "compose file is valid" user env DEVICE=cpu docker/compose.sh config --quiet
check "compose file is valid with the gpu profile" user env DEVICE=gpu docker/compose.sh config --quiet
check "compose file is valid with the profiles that serve" user env DEVICE=gpu PROFILES="serving monitoring" docker/compose.sh config --quiet
services_healthy() { # SERVICE...: those that are up become healthy
    local service id state
    for service in "$@"; do
        id=$("$DOCKER" ps --quiet --filter "label=com.docker.compose.project=$project" \
            --filter "label=com.docker.compose.service=$service")
        for _ in $(seq 90); do
            state=$("$DOCKER" inspect --format '{{.State.Status}} {{.State.Health.Status}}' "$id")
            [ "$state" = "running healthy" ] && break
            [ "${state%% *}" = running ] || break
            sleep 2
        done
        say "$service: $state"
        [ "$state" = "running healthy" ] || { "$DOCKER" logs --tail 40 "$id"; return 1; }
    done
}
loopback_only() {
    local addresses
    addresses=$("$DOCKER" ps --filter "label=com.docker.compose.project=$project" --format '{{.Ports}}')
    say "$addresses"
    [ -n "$addresses" ]
    ! grep -E '(0\.0\.0\.0|\[?::\]?):[0-9]+->' <<< "$addresses"
}
up_and_healthy() { user docker/compose.sh up --detach chat jupyter && services_healthy chat jupyter; }
check "compose brings up chat and jupyter, both healthy" up_and_healthy
if [ "$ok" = 1 ]; then
    chat_page() { curl --fail --silent --show-error --max-time 20 "http://127.0.0.1:$page_port/" | grep --ignore-case gradio > /dev/null; }
    check "the chat page answers" chat_page
    jupyter_token() {
        local url=http://127.0.0.1:$jupyter_port/api/contents
        [ "$(curl --silent --output /dev/null --write-out '%{http_code}' "$url")" = 403 ]
        curl --fail --silent --show-error --header "Authorization: token $JUPYTER_TOKEN" "$url" | grep labs > /dev/null
    }
    check "Jupyter answers with the token only" jupyter_token
    check "ports are on 127.0.0.1 only" loopback_only
fi
user docker/compose.sh down --volumes > "$logs/compose-down.log" 2>&1 || true

# --- the serving stack, on a Triton server of its own image ----------------------------------------------------
builds_triton() {
    user env PROFILES=serving docker/compose.sh build triton
    in_image "$IMAGE:triton" python -c '
from llm_workshop.serving.triton.installation import find_installation
assert str(find_installation().environment) == "/opt/triton"'
    say "size: $("$DOCKER" image inspect --format '{{.Size}}' "$IMAGE:triton") bytes"
}
check "the image with a Triton server builds" builds_triton
if [ "$ok" = 1 ] && [ -f artifacts/smoke/base-model/model.safetensors ]; then
    export PROFILES=serving
    serving_healthy() { user docker/compose.sh up --detach && services_healthy triton gateway page; }
    check "compose brings up Triton, the endpoint and the page, all healthy" serving_healthy
fi
if [ "$ok" = 1 ] && [ "${PROFILES:-}" = serving ]; then
    triton=$("$DOCKER" ps --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=triton")
    check "these ports are on 127.0.0.1 only too" loopback_only
    # shellcheck disable=SC2016
    kill_engine='import json, os, signal
[engine] = json.load(open("artifacts/smoke/serving/service-triton.json"))["parts"]["triton"]["engine_pids"]
os.kill(engine, signal.SIGKILL)'
    served() {
        "$repository/.venv/bin/python" "$repository/tests/container/ask_serving.py" "$api_port" "$page_port" smoke \
            "$DOCKER" exec "$triton" python -c "$kill_engine"
        "$DOCKER" logs "$triton" 2>&1 | grep "ready again after"
    }
    if [ -x "$repository/.venv/bin/python" ]; then
        check "OpenAI's client and Chromium are answered, again after kill -9 of the engine" served
    else
        say "skip  asking the serving stack: no .venv here (make install RUN=local)"
    fi
    serving_down() {
        local since=$SECONDS
        user docker/compose.sh down
        [ $((SECONDS - since)) -le 30 ] # ended by themselves, not killed after the grace period
        [ -z "$(find artifacts/smoke/serving -name 'service*.json')" ]
    }
    check "compose takes it down cleanly" serving_down
fi
unset PROFILES

# --- a base that has its own torch, like NGC's -----------------------------------------------------------------
keeps_torch() {
    "$DOCKER" build --quiet --build-arg "BASE_IMAGE=$BASE_IMAGE" --tag workshop-test-gpu-base - \
        < "$repository/tests/container/gpu-base.Dockerfile"
    "$DOCKER" build --target workshop --build-arg BASE_IMAGE=workshop-test-gpu-base --tag "$IMAGE:gpu" .
    in_image "$IMAGE:gpu" python -c '
import getpass, importlib.metadata as m, os, torch
assert torch.__version__ == m.version("torch") == "2.14.0a0+stand.in", torch.__version__
assert m.version("numpy") == "2.3.5", m.version("numpy")
assert m.version("jinja2") == "3.1.5", "a shipped package that suffices is kept, not " + m.version("jinja2")
assert m.version("pydantic") != "2.6.4", "a shipped package that is too old is replaced"
assert m.version("transformers").startswith("5."), m.version("transformers")
assert os.getuid() == 1000 and getpass.getuser() == "workshop"
names = {d.metadata["Name"] for d in m.distributions()} - {"nvidia-modelopt", "nvidia-ml-py"}
assert not [n for n in names if n.startswith("nvidia-")], names'
    [ "$(in_image "$IMAGE:gpu" id -un)" = workshop ]
}
check "a base image with its own torch keeps it" keeps_torch

# --- dev container ------------------------------------------------------------------------------------------------
if ! command -v npm > /dev/null; then
    say "skip  dev container: no npm here"
elif ! npm install --silent --prefix "$work/cli" "@devcontainers/cli@$DEVCONTAINER_CLI" > "$logs/npm.log" 2>&1; then
    say "skip  dev container: npm could not install @devcontainers/cli (see $logs/npm.log)"
else
    cli() { # VERB OPTIONS...
        local verb=$1
        shift
        user node "$work/cli/node_modules/@devcontainers/cli/devcontainer.js" "$verb" --docker-path "$DOCKER" "$@"
    }
    read_configuration() {
        local kind
        for kind in cpu gpu; do
            cli read-configuration --workspace-folder . --config ".devcontainer/$kind/devcontainer.json" |
                tee /dev/stderr | grep '"remoteUser":"workshop"' > /dev/null
        done
    }
    check "devcontainer read-configuration, cpu and gpu" read_configuration
    up() { cli up --workspace-folder . --config .devcontainer/cpu/devcontainer.json | tee /dev/stderr | grep '"outcome":"success"'; }
    check "devcontainer up" up
    if [ "$ok" = 1 ]; then
        works_inside() {
            local run=(cli exec --workspace-folder . --config .devcontainer/cpu/devcontainer.json)
            [ "$("${run[@]}" id -un | tail -n 1 | tr -d '\r')" = workshop ]
            "${run[@]}" sh -c 'touch artifacts/written-inside && make help | head -n 3 && python -c "import scratch_llm"'
            [ "$(stat --format %u artifacts/written-inside)" = "$test_uid" ]
        }
        check "the dev container's user writes the checkout and imports the package" works_inside
    fi
fi
finish
