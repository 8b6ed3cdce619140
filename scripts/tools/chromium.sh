#!/usr/bin/env bash
# chromium.sh ROOT: Debian testing's headless Chromium in ROOT, with fonts and a fonts.conf. Needs PATCHELF.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
root=$(cd "$1" && pwd)
SKIP='xdg-utils|x11-utils|x11-common|debconf|lsb-base|sysvinit-utils|at-spi2-common|libllvm.*|libz3-.*|mesa-.*|libgl1.*|libglx.*|libvulkan1|libxaw7|libxmu6|libxt6t64|libsm6|libice6|libxpm4|libxft2|libxv1|libxxf86.*|libxkbfile1|pci.ids|libdrm-(amdgpu1|intel1)|libpciaccess0|libsensors.*|libelf1t64|libc-gconv-modules-extra|fonts-dejavu-mono' \
  bash "$here/debs.sh" testing "$root" chromium-headless-shell fonts-dejavu-core fonts-liberation
cat >"$root/fonts.conf" <<XML
<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>$root/usr/share/fonts</dir><cachedir prefix="xdg">fontconfig</cachedir>
<alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
<alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias></fontconfig>
XML
browser=$(find "$root/usr/lib/chromium" -name chromium-headless-shell -o -name headless_shell | head -1)
EXTRA_RPATH='$ORIGIN' bash "$here/elf.sh" "$root" "$browser"
crash_handler=$root/usr/lib/chromium/chrome_crashpad_handler
[ ! -x "$crash_handler" ] || bash "$here/elf.sh" "$root" "$crash_handler"
ln -sf "$browser" "$root/chromium"
