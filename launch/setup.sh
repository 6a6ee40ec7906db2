# Sourced by launch/run and launch/test: makes .venv from pyproject.toml when needed.
#
#   PYTHON                interpreter to use (default: the newest of 3.11 to 3.13 found)
#   CONTRASTIVE_JAX_VENV  where the environment lies (default: .venv)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${CONTRASTIVE_JAX_VENV:-$root/.venv}

supported() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3 python3.13 python3.12 python3.11; do
    if supported "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  echo "needs Python 3.11, 3.12 or 3.13 (set PYTHON to one)" >&2
  return 1
}

# setup EXTRAS: installs the project with these extras unless that has been done for
# this very pyproject.toml.
setup() {
  local extras=$1 stamp python wanted
  wanted=$(cat "$root/pyproject.toml" <(echo "$root") | sha256sum | cut -c1-16)
  stamp="$venv/.installed-${extras:-base}"
  if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  # What was installed with more extras serves as well.
  if [ -z "$extras" ] && [ "$(cat "$venv/.installed-dev" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python) || exit 2
    echo "making $venv with $("$python" --version)" >&2
    "$python" -m venv "$venv" || exit 2
  fi
  echo "installing contrastive_jax${extras:+[$extras]} into $venv" >&2
  if command -v uv >/dev/null 2>&1; then
    uv pip install --quiet --python "$venv/bin/python" -e "$root${extras:+[$extras]}"
  else
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      -e "$root${extras:+[$extras]}"
  fi || exit 2
  echo "$wanted" > "$stamp"
}
