# 밑바닥 LLM 워크숍: one file, two devices.
#   CPU   docker build --target workshop .
#   GPU   docker build --target workshop --build-arg BASE_IMAGE=nvcr.io/nvidia/pytorch:26.08-py3 .
#   a Triton server without a GPU: docker build --target triton .
#   NeMo Curator, NeMo AutoModel:  docker build --target curate .   docker build --target nemo .
# `make image` chooses and passes the uid and gid of whoever builds. Needs BuildKit (Docker 20.10 or later).
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG SERVING_GPU_BASE=nvcr.io/nvidia/tritonserver:25.12-trtllm-python-py3

# --- base: what every environment of the workshop needs from the system ------------------------------
FROM ${BASE_IMAGE} AS base
SHELL ["/bin/sh", "-eu", "-c"]
USER root

# g++ and Python's headers for torch.compile, make for the targets, tini to reap and to pass signals on.
# A base whose Python cannot make virtual environments (Debian, Ubuntu, NGC) gets python3-venv as well.
ARG EXTRA_APT=""
RUN apt-get update; \
    packages="ca-certificates g++ git make tini ${EXTRA_APT}"; \
    if ! python3 -c 'import ensurepip, venv'; then packages="$packages python3-venv"; fi; \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $packages; \
    rm -rf /var/lib/apt/lists/*

# The certificate of a company's TLS proxy: docker build --secret id=extra_ca,src=company.pem
RUN --mount=type=secret,id=extra_ca \
    if [ -s /run/secrets/extra_ca ]; then \
        cp /run/secrets/extra_ca /usr/local/share/ca-certificates/extra-ca.crt; \
        chmod 0644 /usr/local/share/ca-certificates/extra-ca.crt; \
        update-ca-certificates; \
    fi
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt

# --- core: the Python environment, before any source, so that editing code never installs again --------
FROM base AS core
COPY pyproject.toml /workspace/
COPY environments/core.txt environments/install.py /workspace/environments/
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    python3 /workspace/environments/install.py --venv /opt/workshop --keep-base-torch --dependencies-only
ENV PATH=/opt/workshop/bin:$PATH

# --- workshop: the source and an ordinary user --------------------------------------------------------
FROM core AS workshop
# GPT-2's vocabulary for tiktoken without a network, where its files were put into docker/tiktoken.
COPY docker/tiktoken/ /opt/tiktoken/
RUN cd /opt/tiktoken; \
    if [ -f vocab.bpe ]; then mv vocab.bpe 6d1cbeee0f20b3d9449abfede4726ed8212e3aee; fi; \
    if [ -f encoder.json ]; then mv encoder.json 6c7ea1a7e38e3a7f062df639a5b80947f075ffe6; fi; \
    chmod -R a+rwX /opt/tiktoken

# The user outside and the one inside have one uid, so that artifacts belong to who made them. NGC images
# bring a user `ubuntu` with uid 1000, which is renamed. The cache is open to any uid: volumes outlive builds.
ARG HOST_UID=1000
ARG HOST_GID=1000
RUN if ! getent group "$HOST_GID" > /dev/null; then groupadd --gid "$HOST_GID" workshop; fi; \
    uid="$HOST_UID"; if [ "$uid" = 0 ]; then uid=1000; fi; \
    taken="$(getent passwd "$uid" | cut -d: -f1)"; \
    if [ -n "$taken" ]; then usermod --login workshop --home /home/workshop --gid "$HOST_GID" "$taken"; \
    else useradd --uid "$uid" --gid "$HOST_GID" --no-create-home --home-dir /home/workshop workshop; fi; \
    usermod --shell /bin/bash workshop; \
    mkdir -p /home/workshop/.cache /workspace; \
    chown -R "$uid:$HOST_GID" /home/workshop /workspace; \
    chmod 0777 /home/workshop /home/workshop/.cache

WORKDIR /workspace
COPY --chown=${HOST_UID}:${HOST_GID} . /workspace
RUN python3 environments/install.py --venv /opt/workshop --project-only

ENV WORKSHOP_CONTAINER=1 \
    HOME=/home/workshop \
    USER=workshop \
    TIKTOKEN_CACHE_DIR=/opt/tiktoken \
    HF_HOME=/home/workshop/.cache/huggingface \
    TORCHINDUCTOR_CACHE_DIR=/home/workshop/.cache/torchinductor \
    MPLCONFIGDIR=/home/workshop/.cache/matplotlib \
    PYTHONUNBUFFERED=1
USER ${HOST_UID}:${HOST_GID}
EXPOSE 7860 8888
LABEL org.opencontainers.image.title="밑바닥 LLM 워크숍" \
      org.opencontainers.image.description="From an empty machine to a Korean chat model built by hand" \
      org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["tini", "-g", "--"]
CMD ["make", "help"]

# --- triton: a Triton server for machines without a GPU, beside the workshop's own environment -----------
# Made from the base, not from core: its NumPy is older than core's, and editing one leaves the other cached.
FROM base AS triton-environment
COPY pyproject.toml /workspace/
COPY environments/triton.txt environments/install.py /workspace/environments/
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    python3 /workspace/environments/install.py --environment triton --venv /opt/triton --dependencies-only

FROM workshop AS triton
ARG HOST_UID=1000
ARG HOST_GID=1000
USER root
COPY --from=triton-environment /opt/triton /opt/triton
RUN python3 environments/install.py --environment triton --venv /opt/triton --project-only
ENV WORKSHOP_TRITON_ENVIRONMENT=/opt/triton
USER ${HOST_UID}:${HOST_GID}
# Triton's HTTP, gRPC and metrics; the OpenAI-compatible endpoint.
EXPOSE 8000 8001 8002 8080
CMD ["workshop", "serve", "--only", "triton"]

# --- curate: NeMo Curator and datatrove beside the workshop's own environment (week 2) ---------------------
FROM base AS curate-environment
COPY pyproject.toml /workspace/
COPY environments/curate.txt environments/install.py /workspace/environments/
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    python3 /workspace/environments/install.py --environment curate --venv /opt/curate --dependencies-only

FROM workshop AS curate
ARG HOST_UID=1000
ARG HOST_GID=1000
USER root
COPY --from=curate-environment /opt/curate /opt/curate
ENV WORKSHOP_CURATE_ENVIRONMENT=/opt/curate
USER ${HOST_UID}:${HOST_GID}

# --- nemo: NeMo AutoModel, NeMo's tokenizers and Megatron core (weeks 1, 5, 6) -----------------------------
FROM base AS nemo-environment
COPY pyproject.toml /workspace/
COPY environments/nemo.txt environments/install.py /workspace/environments/
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    python3 /workspace/environments/install.py --environment nemo --venv /opt/nemo --dependencies-only

FROM workshop AS nemo
ARG HOST_UID=1000
ARG HOST_GID=1000
USER root
COPY --from=nemo-environment /opt/nemo /opt/nemo
ENV WORKSHOP_NEMO_ENVIRONMENT=/opt/nemo
USER ${HOST_UID}:${HOST_GID}

# --- serving-gpu: TensorRT-LLM behind Triton ------------------------------------------------------------
# The base has both, tested together: Triton 25.12 with its Python backend, TensorRT-LLM 1.1, Python 3.12, CUDA 13.0.
# Its Python backend uses the system's Python, so our package goes there, and nothing that the base ships may move.
FROM ${SERVING_GPU_BASE} AS serving-gpu
SHELL ["/bin/sh", "-eu", "-c"]
USER root
RUN --mount=type=secret,id=extra_ca \
    if [ -s /run/secrets/extra_ca ]; then \
        cp /run/secrets/extra_ca /usr/local/share/ca-certificates/extra-ca.crt; \
        chmod 0644 /usr/local/share/ca-certificates/extra-ca.crt; \
        update-ca-certificates; \
    fi
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    python3 -m pip list --format=freeze --exclude-editable | grep -v ' @ ' > /tmp/installed.txt; \
    python3 -m pip install --break-system-packages --constraint /tmp/installed.txt \
        psutil regex rich fastapi uvicorn prometheus_client "tritonclient[grpc]"; \
    rm /tmp/installed.txt
WORKDIR /workspace
COPY . /workspace
RUN python3 -m pip install --break-system-packages --no-deps --no-build-isolation -e .
RUN python3 -c "import importlib.util as u, llm_workshop.serving.tensorrt_llm.engine; assert u.find_spec('tensorrt_llm'), 'the base has no TensorRT-LLM'"
ARG HOST_UID=1000
ARG HOST_GID=1000
RUN mkdir -p /home/workshop/.cache; chown -R "$HOST_UID:$HOST_GID" /home/workshop /workspace; chmod -R 0777 /home/workshop
ENV WORKSHOP_CONTAINER=1 \
    HOME=/home/workshop \
    USER=workshop \
    PYTHONUNBUFFERED=1
USER ${HOST_UID}:${HOST_GID}
EXPOSE 8000 8001 8002 8080
CMD ["workshop", "serve", "--only", "triton", "--scale", "gpu", "serving.engine=tensorrt_llm", "serving.device=cuda"]
