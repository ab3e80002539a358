# Shared by ./run and ./test: installs what is missing and builds a preset. To be sourced from the repository root.

# install_packages NAME...: only the missing ones; a second call asks dpkg and nothing else.
install_packages() {
  local missing=() name as_root=()
  for name in "$@"; do
    if [[ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null || true)" != installed ]]; then
      missing+=("$name")
    fi
  done
  if ((${#missing[@]} == 0)); then return 0; fi
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "error: these packages are missing and only root can install them: ${missing[*]}" >&2
      echo "as root: apt-get install ${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "installing: ${missing[*]}" >&2
  "${as_root[@]}" apt-get update -qq >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# The packages of tools/packages.txt.
install_build_packages() {
  local names
  mapfile -t names < <(grep -v '^#' tools/packages.txt)
  install_packages "${names[@]}"
}

# build_preset PRESET [TARGET]: configures and builds; quiet unless it fails.
build_preset() {
  local preset=$1 log
  shift
  mkdir -p "build/$preset"
  log="build/$preset/configure.log"
  if ! cmake --preset "$preset" >"$log" 2>&1; then
    cat "$log" >&2
    return 1
  fi
  cmake --build --preset "$preset" -j "$(nproc)" ${1:+--target "$@"} >&2
}
