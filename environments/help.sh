#!/bin/sh
# `make help`: the targets by week, and the dials with their present values. Runs where nothing is installed.
set -eu
line() { printf '  %-26s %s\n' "$1" "$2"; }

# The steps of a lab, in the order in which its guide names their targets; the others behind them.
steps_of() {
    for script in "$1"/*.py; do
        step=$(basename "$script" .py)
        case $step in exercises | solutions | test_* | __init__ | '*') continue ;; esac
        place=$(grep -n -m 1 -w "make $2-$(printf '%s' "$step" | tr _ -)" "$1/README.md" 2>/dev/null | cut -d : -f 1)
        printf '%s %s\n' "${place:-9999}" "$step"
    done | sort -n | cut -d ' ' -f 2
}

# What a step does: the first Markdown heading of its script.
title_of() { sed -n -e 's/^# # *//p' "$1" | head -n 1; }

cat <<'TEXT'
밑바닥 LLM 워크숍: from an empty machine to a Korean chat model built by hand

Start here
TEXT
line "make demo" "corpus, tokenizer, base model, samples, report, then a chat page (SERVE=0: without the page)"
line "make test" "the test suite"
line "make doctor" "check this machine: each finding with its remedy"
line "make help" "this list"
for track in week ch; do
    for lab in labs/"$track"[0-9][0-9]_*; do
        [ -d "$lab" ] || continue
        name=${lab#labs/}
        number=${name#"$track"}
        number=${number%%_*}
        number=${number#0}
        topic=$(printf '%s' "${name#*_}" | tr '_' ' ')
        [ "$track" = week ] && printf '\nWeek %s: %s\n' "$number" "$topic"
        [ "$track" = ch ] && printf '\nChapter %s: %s\n' "$number" "$topic"
        for step in $(steps_of "$lab" "$track$number"); do
            line "make $track$number-$(printf '%s' "$step" | tr _ -)" "$(title_of "$lab/$step.py")"
        done
        if [ -f "$lab/test_exercises.py" ]; then
            line "make $track$number-check" "연습 문제 채점: $lab/exercises.py (EX=name: one; $track$number-solution EX=name: its solution)"
        fi
        if [ -f "workshop/quizzes/$(basename "$lab" | sed 's/_.*//').yaml" ]; then
            line "make $track$number-quiz" "퀴즈 (ARGS=--page: in the browser)"
        fi
    done
done
printf '\nLearning\n'
line "make progress" "what you have done: steps, exercises, quizzes"
line "make class-report" "DIR=folder: the participants' progress files as one report"
printf '\nStages of the main job (built when something needs them)\n'
line "make corpus" "the documents: the embedded sample, or DATA"
line "make tokenizer" "byte-level BPE learnt from the corpus"
line "make tokens" "the corpus as memory-mapped token files"
line "make base-model" "pretraining; goes on from its last checkpoint"
line "make watch" "training as a page that goes on by itself (127.0.0.1:7870), from a second terminal"
line "make tensorboard" "TensorBoard (127.0.0.1:6006) of runs with ARGS=pretrain.tensorboard=true"
line "make generate" "a few generations of the base model"
line "make chat" "the chat page alone"
line "make serve" "Triton, an OpenAI-compatible endpoint and the chat page, started again when they break"
line "make report" "all reports of this run as one HTML page"
printf '\nTools\n'
line "make notebooks" "every lab as .ipynb under notebooks/"
line "make jupyter" "JupyterLab on 127.0.0.1:8888, with a token"
line "make shell" "a shell with the environment"
line "make bench" "benchmarks: ratios against peers in one run"
line "make lint" "ruff, import rules, shellcheck"
line "make clean" "remove artifacts/<run> and caches (clean-all: every run, .venv and .envs)"
line "make install" "make .venv now; other targets do it when they need it"
line "make env-triton" "make .envs/triton: a Triton server without a container"
line "make env-curate" "make .envs/curate: NeMo Curator and datatrove (week 2)"
line "make env-nemo" "make .envs/nemo: NeMo AutoModel, its tokenizers, Megatron (weeks 1, 5, 6)"
line "make env-nemorun" "make .envs/nemorun: NeMo Run, which sends recipes to clusters (week 5)"
line "make image" "build the container image now"
line "make up / down / logs" "the services of docker-compose.yml (PROFILES=\"serving monitoring\" for those)"
line "make test-container" "build and run the containers for real (needs a Docker engine)"
printf '\nDials (make TARGET NAME=value)\n'
line "RUN=$RUN" "docker | local ($RUN_REASON)"
line "SCALE=$SCALE" "smoke | laptop | gpu"
line "DATA=$DATA" "sample, names of the catalogue, or paths, by comma"
line "SEED=$SEED" "seed of every random choice"
line "ARGS=\"$ARGS\"" "any setting: ARGS=\"pretrain.learning_rate=3e-4\""
line "EX=$EX  DIR=$DIR" "one exercise (weekN-check, weekN-solution); the folder of class-report"
line "FORCE=$FORCE" "1 builds again what is up to date"
line "SERVE=$SERVE  PORT=$PORT" "the chat page: 0 leaves it out; where it listens on 127.0.0.1"
line "DEVICE=$DEVICE" "auto | cpu | gpu: which container image"
