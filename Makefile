# 밑바닥 LLM 워크숍: the front door. `make help` lists what there is.
# Works with GNU Make 3.81 (macOS) and later; every recipe is POSIX sh.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# --- dials -----------------------------------------------------------------------------------------
SCALE ?= laptop
DATA ?= sample
SEED ?= 0
ARGS ?=
FORCE ?=
SERVE ?= 1
PORT ?= 7860
DEVICE ?= auto
TORCH ?= auto
PYTHON_HOST ?=
DOCKER ?= docker
EX ?=
DIR ?=
export SCALE DATA SEED ARGS FORCE SERVE PORT DEVICE DOCKER PYTHON_HOST EX DIR

ifneq ($(filter-out smoke laptop gpu,$(SCALE))$(filter-out 1,$(words $(SCALE))),)
  $(error SCALE=$(SCALE) is unknown: use smoke, laptop or gpu)
endif
ifneq ($(filter-out docker local,$(RUN)),)
  $(error RUN=$(RUN) is unknown: use docker or local, or leave it out)
endif

# Inside the container everything is local. Elsewhere a reachable Docker engine wins.
override IN_CONTAINER := $(WORKSHOP_CONTAINER)
ifneq ($(IN_CONTAINER),)
  override RUN := local
  RUN_REASON := inside the container
else ifneq ($(strip $(RUN)),)
  RUN_REASON := chosen by you
else ifneq ($(shell DOCKER='$(DOCKER)' docker/engine.sh 2>/dev/null),)
  RUN := docker
  RUN_REASON := a Docker engine answers
else
  RUN := local
  RUN_REASON := no Docker engine that builds images answers
endif

# --- unknown steps, before anything is built ---------------------------------------------------------
# weekN-NAME is labs/weekNN_topic/NAME.py; chN-NAME is labs/chNN_topic/NAME.py.  A dash within NAME is _ in the file's.
NOT_STEPS := exercises solutions test_%
two_digits = $(if $(filter 1 2 3 4 5 6 7 8 9,$(1)),0$(1),$(1))
track_of = $(if $(filter week%,$(1)),week,ch)
number_of = $(patsubst $(call track_of,$(1))%,%,$(firstword $(subst -, ,$(1))))
name_of = $(patsubst $(firstword $(subst -, ,$(1)))-%,%,$(1))
folder_of = $(firstword $(wildcard labs/$(call track_of,$(1))$(call two_digits,$(call number_of,$(1)))_*))
# week6-peft is adapters.py: a script called peft.py would hide the library from everything beside it.
script_of = $(if $(filter $(NOT_STEPS),$(call name_of,$(1))),,$(wildcard $(call folder_of,$(1))/$(subst -,_,$(patsubst peft,adapters,$(call name_of,$(1)))).py))
scripts_in = $(filter-out $(NOT_STEPS),$(basename $(notdir $(wildcard $(1)/*.py))))
steps_in = $(subst _,-,$(call scripts_in,$(1)))
known_in = $(subst _,,$(sort $(foreach lab,$(wildcard labs/$(1)[0-9][0-9]_*),$(patsubst $(1)0%,$(1)%,$(firstword $(subst _, ,$(notdir $(lab))))))))
check_step = $(if $(call folder_of,$(1)),$(if $(call script_of,$(1)),,$(error no step '$(call name_of,$(1))' in $(call folder_of,$(1)): it has $(call steps_in,$(call folder_of,$(1))))),$(error no lab for '$(1)': there are $(call known_in,$(call track_of,$(1)))))
# weekN-check, -solution and -quiz are of every lab that has exercises, or a quiz.
STUDY_GOALS := $(foreach word,check solution quiz,$(filter week%-$(word) ch%-$(word),$(MAKECMDGOALS)))
has_exercises = $(wildcard $(call folder_of,$(1))/test_exercises.py)
check_study = $(if $(call folder_of,$(1)),$(if $(call has_exercises,$(1)),,$(error no exercises in $(call folder_of,$(1)): they are in $(patsubst labs/%/test_exercises.py,%,$(wildcard labs/*/test_exercises.py)))),$(error no lab for '$(1)': there are $(call known_in,$(call track_of,$(1)))))
$(foreach goal,$(filter-out %-quiz,$(STUDY_GOALS)),$(call check_study,$(goal)))
STEP_GOALS := $(filter-out $(STUDY_GOALS),$(foreach goal,$(MAKECMDGOALS),$(if $(filter week%-$(lastword $(subst -, ,$(goal))) ch%-$(lastword $(subst -, ,$(goal))),$(goal)),$(goal))))
$(foreach goal,$(STEP_GOALS),$(call check_step,$(goal)))
TARGETS := help doctor clean clean-all image up down logs test-container install env-triton env-curate env-nemo env-nemorun corpus tokenizer tokens base-model \
  demo watch tensorboard generate report chat serve progress class-report test lint lock bench notebooks jupyter shell
$(foreach goal,$(filter-out $(TARGETS) $(STEP_GOALS) $(STUDY_GOALS) artifacts/% notebooks/% .venv/%,$(MAKECMDGOALS)),$(error no target '$(goal)': 'make help' lists what there is))

# --- targets that stay on this machine ---------------------------------------------------------------
.PHONY: help doctor clean clean-all image up down logs test-container always
HOST_GOALS := help doctor clean clean-all image up down logs test-container install env-triton env-curate env-nemo env-nemorun

help:
	@RUN='$(RUN)' RUN_REASON='$(RUN_REASON)' environments/help.sh

doctor:  # needs nothing installed: takes the best Python there is
	@export RUN='$(RUN)'; if [ -x '$(LOCAL_PYTHON)' ] || [ -n '$(IN_CONTAINER)' ]; then PYTHONPATH=src '$(LOCAL_PYTHON)' -m llm_workshop.doctor; \
	elif python=$$(environments/find-python.sh 2>/dev/null); then PYTHONPATH=src "$$python" -m llm_workshop.doctor; \
	elif [ '$(RUN)' = docker ]; then docker/run.sh make doctor; \
	else environments/find-python.sh; fi

clean:
	rm -rf '$(RUN_FOLDER)'
	rm -rf build dist notebooks .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src labs tests benchmarks environments -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

clean-all: clean
	rm -rf '$(ARTIFACTS)' .venv .envs

image:
	@docker/run.sh --build-only

up:
	@docker/compose.sh up --detach --build $(ARGS)
down:
	@docker/compose.sh down
logs:
	@docker/compose.sh logs --follow

test-container:
	@tests/container/run.sh

# --- artifacts/<run>/<stage>/manifest.json -----------------------------------------------------------
ARTIFACTS := $(if $(ARTIFACTS_DIR),$(ARTIFACTS_DIR),artifacts)
# The run's name as llm_workshop.settings.Settings.run_name spells it; a path counts by its last part.
ifeq ($(DATA),sample)
  RUN_NAME := $(SCALE)
else
  RUN_NAME := $(SCALE)-$(shell DATA='$(subst ','\'',$(DATA))' environments/run-name.sh)
endif
RUN_FOLDER := $(ARTIFACTS)/$(RUN_NAME)

ifneq ($(IN_CONTAINER),)
  LOCAL_PYTHON := python
  ENVIRONMENT :=
else
  LOCAL_PYTHON := .venv/bin/python
  ENVIRONMENT := .venv/.installed
endif
PYTHON := $(LOCAL_PYTHON)

.PHONY: install
install: $(ENVIRONMENT)
.venv/.installed: pyproject.toml environments/core.txt environments/install.py
	@python=$$(environments/find-python.sh) && "$$python" environments/install.py --torch $(TORCH)
# A real Triton server and what its models import, apart from core, whose NumPy it cannot use.
ENVIRONMENT_TRITON := .envs/triton/.installed
.PHONY: env-triton
env-triton: $(ENVIRONMENT_TRITON)
# NeMo Curator and datatrove (week 2); NeMo AutoModel, NeMo's tokenizers and Megatron (weeks 1, 5 and 6); NeMo Run (week 5).
.PHONY: env-curate env-nemo env-nemorun
env-curate: .envs/curate/.installed
env-nemo: .envs/nemo/.installed
env-nemorun: .envs/nemorun/.installed
.envs/curate/.installed .envs/nemo/.installed .envs/nemorun/.installed: .envs/%/.installed: pyproject.toml environments/%.txt environments/install.py
	@python=$$(environments/find-python.sh) && "$$python" environments/install.py --environment $* --torch $(TORCH)
# An image that has a server needs no further one.
TRITON := $(if $(WORKSHOP_TRITON_ENVIRONMENT)$(wildcard /opt/tritonserver),,$(ENVIRONMENT_TRITON))
$(ENVIRONMENT_TRITON): pyproject.toml environments/triton.txt environments/install.py
	@python=$$(environments/find-python.sh) && "$$python" environments/install.py --environment triton --torch $(TORCH)

ifeq ($(RUN),docker)
# --- the same goals, in the container ----------------------------------------------------------------
.PHONY: serve
serve:  # as services, each in a container of its own
	@[ -e '$(RUN_FOLDER)/base-model/manifest.json' ] || docker/run.sh make base-model
	@PROFILES=serving CHAT_PORT="$${CHAT_PORT:-$$PORT}" docker/compose.sh up --build
CONTAINER_GOALS := $(filter-out $(HOST_GOALS) serve,$(MAKECMDGOALS))
ifneq ($(CONTAINER_GOALS),)
.PHONY: $(CONTAINER_GOALS)
$(CONTAINER_GOALS):
	@docker/run.sh make $@
endif
else

# --- stages of the main job --------------------------------------------------------------------------
CORPUS := $(RUN_FOLDER)/corpus/manifest.json
TOKENIZER := $(RUN_FOLDER)/tokenizer/manifest.json
TOKENS := $(RUN_FOLDER)/tokens/manifest.json
BASE_MODEL := $(RUN_FOLDER)/base-model/manifest.json
# Its time changes when SEED or ARGS do; the stages then compare digests and build only what differs.
SETTINGS := $(RUN_FOLDER)/.settings
DIALS = --scale '$(SCALE)' --data '$(DATA)' --seed '$(SEED)'
WORKSHOP := $(PYTHON) -m llm_workshop.cli
SERVE_SETTINGS = $(CHAT_SETTINGS)$(if $(IN_CONTAINER), serving.host=0.0.0.0)
CHAT_SETTINGS := chat.port=$(PORT)$(if $(IN_CONTAINER), chat.host=0.0.0.0)$(if $(filter 0,$(SERVE)), chat.serve=false)

# FORCE=1 rebuilds the stage that was asked for by name, or all of them for `demo`.
forced = $(if $(filter 1,$(FORCE)),$(filter demo $(1),$(MAKECMDGOALS)))
stage = @FORCE='$(if $(call forced,$(1)),1)' $(2) $(DIALS) $(ARGS) && touch -c '$@'

$(SETTINGS): always
	@mkdir -p '$(@D)'; printf '%s\n' "$$SEED" "$$ARGS" > '$@.partial'; \
	if cmp -s '$@' '$@.partial'; then rm '$@.partial'; else mv '$@.partial' '$@'; fi

$(CORPUS): $(SETTINGS) $(if $(call forced,corpus),always) | $(ENVIRONMENT)
	$(call stage,corpus,$(WORKSHOP) corpus)
$(TOKENIZER): $(CORPUS) $(if $(call forced,tokenizer),always)
	$(call stage,tokenizer,$(WORKSHOP) tokenizer)
$(TOKENS): $(TOKENIZER) $(if $(call forced,tokens),always)
	$(call stage,tokens,$(WORKSHOP) tokens)
$(BASE_MODEL): $(TOKENS) $(if $(call forced,base-model),always)
	$(call stage,base-model,$(PYTHON) labs/week05_pretraining/pretrain.py)

.PHONY: corpus tokenizer tokens base-model
corpus: $(CORPUS)
tokenizer: $(TOKENIZER)
tokens: $(TOKENS)
base-model: $(BASE_MODEL)

# --- exercises, quizzes, progress: they stand on no artifacts, and come before the steps, whose rule fits them too ---
study = @$(WORKSHOP) $(1) --$(2) '$*' $(if $(EX),--exercise '$(EX)') $(ARGS)
week%-check: always | $(ENVIRONMENT)
	$(call study,check,week)
ch%-check: always | $(ENVIRONMENT)
	$(call study,check,chapter)
week%-solution: always | $(ENVIRONMENT)
	$(call study,solution,week)
ch%-solution: always | $(ENVIRONMENT)
	$(call study,solution,chapter)
week%-quiz: always | $(ENVIRONMENT)
	@exec $(WORKSHOP) quiz --week '$*' $(ARGS)
ch%-quiz: always | $(ENVIRONMENT)
	@exec $(WORKSHOP) quiz --chapter '$*' $(ARGS)
.PHONY: progress class-report
progress: | $(ENVIRONMENT)
	@$(WORKSHOP) progress $(ARGS)
class-report: | $(ENVIRONMENT)
	@if [ -z '$(DIR)' ]; then echo "error: make class-report DIR=folder: the folder with the participants' progress.json files" >&2; exit 1; fi
	@$(WORKSHOP) class-report '$(DIR)' $(ARGS)

# --- weeks and chapters ------------------------------------------------------------------------------
# One pattern rule for each number (one rule with several patterns would run once for equal stems).
page_settings = $(if $(filter week10-chat week6-classifier-page,$@),$(CHAT_SETTINGS))$(if $(filter week8-serve,$@),$(SERVE_SETTINGS))
run_step = @FORCE='$(FORCE)' $(PYTHON) $(call script_of,$@) $(DIALS) $(page_settings) $(ARGS)
define step_rule
$(1)-%: $(2) always | $(ENVIRONMENT)
	$$(run_step)
endef
NEEDS_week3 := $(CORPUS)
NEEDS_week4 := $(TOKENS)
NEEDS_week5 := $(TOKENS)
# A model that is there is used as it was trained: a chat must not overwrite the work of hours.
TRAINED := $(if $(wildcard $(BASE_MODEL)),,$(BASE_MODEL))
$(foreach week,6 7 8 9 10,$(eval NEEDS_week$(week) := $(TRAINED)))
$(foreach week,1 2 3 4 5 6 7 8 9 10,$(eval $(call step_rule,week$(week),$(NEEDS_week$(week)))))
$(foreach chapter,1 2 3 4 5 6 7 8,$(eval $(call step_rule,ch$(chapter),)))
# What these need besides: the words that the quantisation is measured and calibrated on, a Triton server.
week8-quantize week8-export: $(if $(wildcard $(TOKENS)),,$(TOKENS))
week8-serve: free-ports
$(SETTINGS): | $(if $(filter week8-serve,$(MAKECMDGOALS)),free-ports)
week8-serve week8-loadtest: | $(TRITON)
week4-flops: always | $(ENVIRONMENT)  # counts, and reads no text
	$(run_step)

# --- the whole job -----------------------------------------------------------------------------------
.PHONY: demo watch tensorboard generate report chat serve free-port free-ports
free-port: | $(ENVIRONMENT)  # told before the training, not after it
	@if [ '$(SERVE)' != 0 ]; then $(WORKSHOP) page --check-port $(DIALS) $(CHAT_SETTINGS) $(ARGS); fi
demo: free-port $(BASE_MODEL)
	@$(WORKSHOP) generate $(DIALS) $(ARGS)
	@$(WORKSHOP) report $(DIALS) $(ARGS)
	@if [ '$(SERVE)' != 0 ]; then exec $(WORKSHOP) page $(DIALS) $(CHAT_SETTINGS) $(ARGS); fi
watch: | $(ENVIRONMENT)  # beside a training, in another terminal
	@exec $(WORKSHOP) watch $(DIALS) $(if $(IN_CONTAINER),--host 0.0.0.0) $(ARGS)
tensorboard: | $(ENVIRONMENT)
	@[ -d '$(RUN_FOLDER)/tensorboard' ] || { echo "error: no run under $(RUN_FOLDER) was recorded for TensorBoard: run 'make week5-pretrain$(if $(filter-out laptop,$(SCALE)), SCALE=$(SCALE)) ARGS=\"pretrain.tensorboard=true\"' first" >&2; exit 1; }
	@exec $(PYTHON) -m tensorboard.main --logdir '$(RUN_FOLDER)/tensorboard' --port 6006 $(if $(IN_CONTAINER),--bind_all,--host 127.0.0.1) $(ARGS)
generate: $(TRAINED) | $(ENVIRONMENT)
	@$(WORKSHOP) generate $(DIALS) $(ARGS)
chat: $(TRAINED) | $(ENVIRONMENT)
	@exec $(WORKSHOP) page $(DIALS) $(CHAT_SETTINGS) $(ARGS)
free-ports: | $(ENVIRONMENT)
	@$(WORKSHOP) serve --check-port $(DIALS) $(SERVE_SETTINGS) $(ARGS)
serve: free-ports $(TRAINED) | $(ENVIRONMENT) $(TRITON)
	@exec $(WORKSHOP) serve $(DIALS) $(SERVE_SETTINGS) $(ARGS)
report: $(ENVIRONMENT)
	@$(WORKSHOP) report $(DIALS) $(ARGS)

# --- work on the workshop itself ---------------------------------------------------------------------
.PHONY: test lint bench notebooks jupyter shell lock
test: $(ENVIRONMENT)
	@$(PYTHON) -m pytest -n logical $(ARGS)
lint: $(ENVIRONMENT)
	@$(PYTHON) -m ruff check .
	@PYTHONPATH=src $(dir $(PYTHON))lint-imports
	@if command -v shellcheck >/dev/null 2>&1; then shellcheck environments/*.sh docker/*.sh .ci/run tests/container/*.sh; \
	else echo "lint: no shellcheck here, shell scripts not checked"; fi
lock: $(ENVIRONMENT)
	@$(PYTHON) environments/lock.py
	@if [ -e '$(ENVIRONMENT_TRITON)' ]; then $(PYTHON) environments/lock.py --environment triton; fi
# The peers go beside the core environment, whose versions they contradict; without a network they are left out.
BENCH_PEERS := .envs/bench/.installed
$(BENCH_PEERS): environments/bench.txt | $(ENVIRONMENT)
	@echo "bench: installing the peers of environments/bench.txt into .envs/bench"; mkdir -p '$(@D)'; \
	if $(PYTHON) -m pip install --quiet --no-deps --upgrade --target '$(@D)' -r '$<'; then touch '$@'; \
	else echo "bench: the peers could not be installed; those that are missing are left out" >&2; fi
bench: $(ENVIRONMENT) $(BENCH_PEERS)
	@$(PYTHON) benchmarks/run.py $(ARGS)

LAB_SCRIPTS := $(foreach lab,$(wildcard labs/*_*),$(addprefix $(lab)/,$(addsuffix .py,$(call scripts_in,$(lab)))))
NOTEBOOKS := $(patsubst labs/%.py,notebooks/%.ipynb,$(LAB_SCRIPTS))
notebooks: $(NOTEBOOKS)
	@echo "notebooks: $(words $(NOTEBOOKS)) under notebooks/"
notebooks/%.ipynb: labs/%.py | $(ENVIRONMENT)
	@mkdir -p '$(@D)'; echo "notebooks: $@"
	@$(PYTHON) -m jupytext --quiet --to ipynb --output '$@' '$<'
jupyter: $(ENVIRONMENT)
	@exec $(PYTHON) -m jupyterlab --no-browser --port 8888 $(if $(IN_CONTAINER),--ip 0.0.0.0,--ip 127.0.0.1) $(ARGS)
shell: $(ENVIRONMENT)
	@PATH="$(if $(IN_CONTAINER),,$(CURDIR)/.venv/bin:)$$PATH" exec "$${SHELL:-/bin/sh}"
endif
