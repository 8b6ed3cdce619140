#!/usr/bin/env bash
# mosquitto.sh ROOT: the Mosquitto broker of Debian testing in ROOT. Needs PATCHELF.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
root=$(cd "$1" && pwd)
SKIP='systemd|libsystemd-shared|sysvinit-utils|openssl-provider-legacy|libc-gconv-modules-extra|libmount1|libblkid1|libselinux1|libpcre2-8-0' \
  bash "$here/debs.sh" testing "$root" mosquitto
bash "$here/elf.sh" "$root" "$root/usr/sbin/mosquitto"
