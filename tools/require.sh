#!/usr/bin/env bash
# Says which of the named tools are missing, each with the way to get it; exit 1 if any is.
set -u
missing=0
lack() { printf 'missing: %s\n  get it: %s\n' "$1" "$2" >&2; missing=1; }
for tool in "$@"; do
  case $tool in
    python3.11)
      python=$(command -v python3.11 || command -v python3) &&
        "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] < (3, 11))' 2>/dev/null ||
        lack "Python 3.11 or newer with venv" "apt-get install python3 python3-venv python3-dev" ;;
    node) command -v node >/dev/null || lack "Node.js" "apt-get install nodejs (20 or newer)" ;;
    npm) command -v npm >/dev/null || lack "npm" "apt-get install npm" ;;
    gcc) { command -v gcc && command -v g++; } >/dev/null || lack "a C and C++ compiler" "apt-get install build-essential" ;;
    go) command -v go >/dev/null || lack "Go 1.26 or newer (to build Kubo for the tests)" "your package manager, or https://go.dev" ;;
    *) lack "$tool" "your package manager" ;;
  esac
done
exit $missing
