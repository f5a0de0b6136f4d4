#!/bin/sh
# Print the version of the Docker engine if one answers and its client can build images; else say on
# standard error what is missing, and fail. Clients from 23 on build with a plugin, buildx.
DOCKER=${DOCKER:-docker}
command -v "$DOCKER" >/dev/null 2>&1 || { echo "Docker is not installed" >&2; exit 1; }
versions=$("$DOCKER" version --format '{{.Client.Version}} {{.Server.Version}}' 2>/dev/null) ||
    { echo "no Docker engine answers '$DOCKER version'" >&2; exit 1; }
client=${versions%%.*}
case $client in
    '' | *[!0-9]*) ;;
    *) if [ "$client" -ge 23 ] && ! "$DOCKER" buildx version >/dev/null 2>&1; then
        echo "the Docker client cannot build images: its plugin buildx is missing" >&2
        exit 1
    fi ;;
esac
echo "${versions#* }"
