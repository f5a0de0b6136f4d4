#!/bin/sh
# Print the first Python that the workshop can use, or say in one line what to install.
# PYTHON_HOST=... chooses one by hand. A Python newer than the pins were tested with comes last.
set -u

version_of() {
    "$1" -c 'import sys; print("%d %d" % sys.version_info[:2])' 2>/dev/null
}

newer=
seen=
for candidate in ${PYTHON_HOST:-python3 python3.13 python3.12 python3.11 python}; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    version=$(version_of "$candidate") || continue
    major=${version% *}
    minor=${version#* }
    seen="$seen $candidate is $major.$minor;"
    [ "$major" -eq 3 ] || continue
    if [ "$minor" -ge 11 ] && [ "$minor" -le 13 ]; then
        echo "$candidate"
        exit 0
    fi
    [ "$minor" -gt 13 ] && [ -z "$newer" ] && newer=$candidate
done
if [ -n "$newer" ]; then
    echo "$newer"
    exit 0
fi
echo "error: no Python 3.11 or newer found (${seen:- none on PATH} ): install one" \
    "(Debian/Ubuntu: apt install python3.11-venv; macOS: brew install python@3.11) or start Docker" >&2
exit 1
