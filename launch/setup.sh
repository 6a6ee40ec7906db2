# Sourced by launch/run, launch/test and launch/docs: makes .venv when needed. What goes
# into it is pinned with hashes in launch/requirements, which launch/lock writes.
#
#   PYTHON                interpreter to use (default: python3, else the newest of 3.11
#                         to 3.14 found)
#   CONTRASTIVE_JAX_VENV  where the environment lies (default: .venv)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${CONTRASTIVE_JAX_VENV:-$root/.venv}
# What is imported is compiled once, not by every process again (3 s of each).
unset PYTHONDONTWRITEBYTECODE

supported() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
    >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 \
    python3.11; do
    if supported "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  echo "needs Python 3.11, 3.12, 3.13 or 3.14 (set PYTHON to one)" >&2
  return 1
}

# Whether the pins were resolved for the interpreter of the environment.
pinned() {
  "$venv/bin/python" -c 'import sys
sys.exit(sys.implementation.name != "cpython" or sys.platform not in ("linux", "darwin"))'
}

install() {
  if command -v uv >/dev/null 2>&1; then
    uv pip install --quiet --python "$venv/bin/python" "$@"
  else
    # What is imported is compiled then; the rest never.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "$@"
  fi || exit 2
}

# setup EXTRA: installs the project with this extra unless that has been done for this
# very pyproject.toml and these pins.
setup() {
  local extra=$1 pins=$root/launch/requirements/$1.txt stamp python wanted
  wanted=$(cat "$root/pyproject.toml" "$root"/launch/requirements/*.txt \
    <(echo "$root") | sha256sum | cut -c1-16)
  stamp="$venv/.installed-$extra"
  if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  # The extra dev holds experiments.
  if [ "$extra" = experiments ] \
    && [ "$(cat "$venv/.installed-dev" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python) || exit 2
    echo "making $venv with $("$python" --version)" >&2
    "$python" -m venv "$venv" || exit 2
  fi
  echo "installing contrastive_jax[$extra] into $venv" >&2
  if [ -e "$pins" ] && pinned; then
    install --require-hashes -r "$pins"
    # With the setuptools just installed: nothing else is fetched.
    install --no-deps --no-build-isolation -e "$root"
  else
    echo "no pins for this extra or interpreter: the newest releases allowed" >&2
    install -e "$root[$extra]"
  fi
  echo "$wanted" > "$stamp"
}
