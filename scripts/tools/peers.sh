#!/usr/bin/env bash
# peers.sh FOLDER: the systems the benchmarks measure beside ours; what cannot be had is said and left out.
#
# The NATS server comes from Debian, with PATCHELF; Python's packages into a folder of their own, never into .venv.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
fetch() {
  local name=$1
  shift
  [ ! -e "$folder/$name.done" ] || return 0
  if "$@" >"$folder/$name.log" 2>&1; then
    touch "$folder/$name.done"
  else
    echo "bench: no $name; its log is ${folder##*/}/$name.log"
  fi
}
fetch nats bash "$here/nats.sh" "$folder/nats"
fetch python uv pip install -q --python "$(command -v python)" --target "$folder/python" persist-queue litequeue nats-py
# Its store alone is played, which needs none of what its connectors need.
fetch thingsboard uv pip install -q --no-deps --python "$(command -v python)" --target "$folder/thingsboard" thingsboard-gateway
