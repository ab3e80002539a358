#!/usr/bin/env bash
# Real clients against the real server: tests/clients/run.sh MODEL [HF_FOLDER]
#   MODEL      a model with a chat template, as of tools/fetch_model.sh smollm2-135m
#   HF_FOLDER  the same or another model as a Hugging Face folder: lm-eval scores it too, by transformers and by the server
# Makes virtual environments in build/clients (SEPLLM_CLIENTS: another folder), by pip, and starts servers on free ports.
# What cannot be installed is skipped, with a message. Exit code 1 if a client fails.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if (($# < 1 || $# > 2)); then
  sed -n '2,6s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 1
fi
model=$1
folder=${2:-}
environments=${SEPLLM_CLIENTS:-$root/build/clients}
failed=()
skipped=()

# environment NAME: makes the virtual environment of NAME.txt; fails if its packages cannot be had.
environment() {
  local home=$environments/$1
  if [[ ! -x $home/bin/python ]]; then python3 -m venv "$home" || return 1; fi
  cmp -s "$here/$1.txt" "$home/installed.txt" && return 0
  echo "installing $1.txt" >&2
  "$home/bin/pip" install --quiet -r "$here/$1.txt" >"$home/pip.log" 2>&1 && cp "$here/$1.txt" "$home/installed.txt"
}

# run ENVIRONMENT SCRIPT ARGUMENTS...
run() {
  local name=$1 script=$2
  shift 2
  if ! environment "$name"; then
    echo "skipped: $script, because the packages of $name.txt could not be installed ($environments/$name/pip.log)" >&2
    skipped+=("$script")
    return
  fi
  "$environments/$name/bin/python" "$root/$script" "$@" || failed+=("$script")
}

# plain SCRIPT ARGUMENTS...: needs Python only.
plain() {
  local script=$1
  shift
  python3 "$root/$script" "$@" || failed+=("$script")
}

mkdir -p "$environments"
run clients tests/clients/openai_client.py --model "$model"
run clients tests/clients/langchain_client.py --model "$model"
run llama_index tests/clients/llama_index_client.py --model "$model"
plain tests/clients/hostile.py --model "$model"
plain tests/clients/restart.py --model "$model"
plain tests/clients/idle.py --model "$model"
plain tests/clients/turns.py --model "$model" --output "$environments/turns"
plain tests/clients/load.py --model "$model" --kv-memory 128 --duration "${DURATION:-20}" --output "$environments/load.json"
if [[ -n $folder ]]; then
  for policy in full sep; do
    for side in hf server; do
      run lm_eval tools/lm_eval/compare_with_hf.py "$side" "$folder" --policy "$policy" -o "$environments/$side-$policy.json"
    done
    run lm_eval tools/lm_eval/compare_with_hf.py compare "$environments/hf-$policy.json" "$environments/server-$policy.json"
  done
fi
echo "failed: ${#failed[@]} ${failed[*]:-}, skipped: ${#skipped[@]} ${skipped[*]:-}"
((${#failed[@]} == 0))
