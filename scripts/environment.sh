# Sourced by the other scripts: set up what is missing, then put the project's own tools first on the PATH.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup
unset PYTHONDONTWRITEBYTECODE PYTHONPATH
PATH=$PWD/.venv/bin:$PWD/.tools/mosquitto/usr/sbin:$PWD/.tools/python/tools/bin:$PATH
export PATH FONTCONFIG_FILE=$PWD/.tools/chromium/fonts.conf CHROMIUM=$PWD/.tools/chromium/chromium
