#!/usr/bin/env bash
# Does the field's own software read what stablerep writes? webdataset, TensorBoard and timm from PyPI, in .venv (about 3 minutes and 6 GB when new).
#
#     dev/check/pypi.sh [target/release/stablerep]
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=${1:-target/release/stablerep}
for built in "$binary" "$(dirname "$binary")/examples/features"; do
    [ -x "$built" ] || { echo "$built is not there: cargo build --release --bins --examples" >&2; exit 2; }
done

wanted=dev/check/requirements.txt
installed=.venv/.installed-for-check
if ! cmp -s "$wanted" "$installed"; then
    if ! { [ -x .venv/bin/python ] || python3 -m venv .venv; }; then
        echo "python3 -m venv failed: on Debian, apt-get install python3-venv" >&2
        exit 2
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$installed"
fi
exec .venv/bin/python dev/check/pypi.py "$binary"
