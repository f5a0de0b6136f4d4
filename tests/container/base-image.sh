#!/usr/bin/env bash
# Make a stand-in for the slim Python image out of Debian packages, for machines that reach a Debian mirror
# and a package index but no container registry:  base-image.sh NAME[:TAG]
#
# What is particular to this machine (its certificates, its pip configuration, local wheel folders, its
# mirror) is read from it at run time and put into that image, so that the Dockerfile can stay as it is.
set -euo pipefail

image=$1
docker=${DOCKER:-docker}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
largest_folder_mb=1000 # a bigger local package folder is left out: the index has the packages too

# shellcheck disable=SC2016  # apt's own template
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
echo "debootstrap bookworm from the mirror that apt uses"
debootstrap --variant=minbase --include=ca-certificates,python3,python3-dev,python3-pip,python3-venv \
    bookworm "$root" "${mirror%/}" > "$work/debootstrap.log" || { tail -n 20 "$work/debootstrap.log"; exit 1; }
# As in the slim image, Python is free to install into.
rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
apt-config dump | grep -E '^Acquire::Check-(Valid-Until|Date) ' > "$root/etc/apt/apt.conf.d/90host" || true

# Certificates: those added to this machine, and the bundle it uses as a whole.
mkdir -p "$root/usr/local/share/ca-certificates"
cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
if [ -f "$bundle" ]; then cp -L "$bundle" "$root/etc/ssl/certs/ca-certificates.crt"; fi

# pip: its files and PIP_ variables together, with local folders copied to the same place.
python3 - "$root" "$largest_folder_mb" <<'PYTHON'
import configparser, json, os, shutil, subprocess, sys
from pathlib import Path

root, limit = Path(sys.argv[1]), int(sys.argv[2])
listing = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
values: dict[str, str] = {}
for line in listing.stdout.splitlines():  # later lines are of higher rank: files, then :env:
    key, _, value = line.partition("=")
    values[key.rpartition(".")[2]] = value.strip("'\"")
wanted = ("index-url", "extra-index-url", "find-links", "trusted-host", "default-timeout")
kept = {}
for key in wanted:
    entries = []
    for entry in values.get(key, "").replace("\\n", " ").split():
        path = Path(entry.removeprefix("file://"))
        if path.is_dir() and (entry.startswith("/") or entry.startswith("file:")):
            size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 2**20
            if size > limit or key == "extra-index-url":
                print(f"left out: a local package folder of {size:.0f} MB")
                continue
            shutil.copytree(path, root / path.relative_to("/"), dirs_exist_ok=True)
        entries.append(entry)
    if entries:
        kept[key] = " ".join(entries)
config = configparser.ConfigParser()
config["global"] = {**kept, "disable-pip-version-check": "1"}
with open(root / "etc/pip.conf", "w") as stream:
    config.write(stream)
print("pip settings taken over:", ", ".join(sorted(kept)) or "none")
PYTHON

tar --create --numeric-owner --directory "$root" . | "$docker" import \
    --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]' - "$image" > /dev/null
echo "imported $image"
