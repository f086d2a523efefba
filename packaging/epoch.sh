#!/bin/sh
# The time that all files of a release get, in seconds since 1970: that of the last commit, or of the changelog where
# the sources are not a git checkout.
set -eu
cd "$(dirname "$0")/.."
if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
    echo "$SOURCE_DATE_EPOCH"
else
    git log -1 --format=%ct 2>/dev/null || stat --format=%Y CHANGELOG.md
fi
