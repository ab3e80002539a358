#!/usr/bin/env bash
# The experiments of docs/results, each with its page: run.sh WHAT... where WHAT is
#   own    trains the embedded model (hours)
#   ship   makes models/sepllm-5m from it (minutes)
#   e1     policies from scratch (less than 2 hours of two cores)
#   e2     speed of training, full compared with sep, by length (on a machine with nothing else running)
#   e3     post-training: e1's full model continues under sep (needs e1)
#   e4     streams, one row for each family (a quarter of an hour; needs own and e1)
#   e5     where attention goes (minutes; needs e1 and e4)
#   e6     one prefix, many continuations (minutes; needs own and e1)
#   mixed  training in bf16 compared with f32 (half an hour of two cores; needs AMX or AVX512_BF16)
#   pages  rebuilds all pages from the runs that exist
# All of them can be interrupted at any time and resume where they were; finished parts are not run again.
# Text: $SEPLLM_TEXTS (default ../shared/data/text), with pg19/test/*.txt, tinyshakespeare/input.txt and
# tinystories/tiny_stories.txt. Runs are kept
# under $SEPLLM_RUNS (default build/experiments); $SEPLLM_JOBS of them run at the same time (default: one per core).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/.." && pwd)
program=$repository/build/release/bin/sepllm
texts=$(realpath -m "${SEPLLM_TEXTS:-$repository/../shared/data/text}")
runs=${SEPLLM_RUNS:-$repository/build/experiments}
at_once=${SEPLLM_JOBS:-$(nproc)}
held_out=(10146 4128 41607 31974) # of PG19's test books; 10146 is that of the published streaming demo

# train.bin/.idx, valid.bin/.idx and the tokenizer, trained on the training part only.
prepare() {
  if [[ -f valid.idx ]]; then return; fi
  if [[ ! -d $texts/pg19/test ]]; then
    echo "error: no texts: $texts/pg19/test" >&2
    exit 1
  fi
  local file train=("$texts/tinyshakespeare/input.txt") valid=()
  for file in "$texts"/pg19/test/*.txt; do
    if [[ " ${held_out[*]} " == *" $(basename "$file" .txt) "* ]]; then valid+=("$file"); else train+=("$file"); fi
  done
  if [[ ! -d tokenizer ]]; then
    "$program" prepare --train-tokenizer bpe --vocab-size 5120 --out tokenizer "${train[@]}"
  fi
  "$program" prepare --tokenizer tokenizer --out train "${train[@]}"
  "$program" prepare --tokenizer tokenizer --out valid "${valid[@]}"
}

# train CONFIG RUN [KEY=VALUE...]: a finished run is left as it is, an interrupted one is resumed.
train() {
  local config=$1 run=$2 sets=() change
  shift 2
  if [[ -d $run/model ]]; then return; fi
  for change in "save=$run" "$@"; do sets+=(--set "$change"); done
  mkdir -p "$run"
  echo "$run"
  if ! "${launch[@]}" "$program" train --config "$config" "${sets[@]}" 2>>"$run/log"; then
    tail -n 1 "$run/log" >&2
    exit 1
  fi
}
launch=()

# The same in the background; all_ended waits for them.
start() {
  while (($(jobs -rp | wc -l) >= at_once)); do wait -n; done
  train "$@" &
}
all_ended() { while [[ -n $(jobs -p) ]]; do wait -n; done; }

# Of so small a model, ranks of one thread use the cores better than threads do.
own() {
  if command -v mpirun >/dev/null && (($(nproc) > 1)); then
    launch=(mpirun --oversubscribe -np "$(nproc)")
    if ((EUID == 0)); then launch+=(--allow-run-as-root); fi
    train "$here/own_model.yaml" own threads=1
    launch=()
  else
    train "$here/own_model.yaml" own
  fi
}

ship() {
  local books=("${held_out[@]/%/.txt}")
  "$here/ship_model.py" --program "$program" --run own "${books[@]/#/$texts/pg19/test/}"
}

declare -A policies=(
  [full]='{policy: full}'
  [sep]='{policy: sep, init: 4, window: 16}'
  [sink]='{policy: sink, init: 4, window: 16}'
  [sep-H]='{policy: sep, init: 4, window: 16, layer-window: "0=full"}'
  [sep-HT]='{policy: sep, init: 4, window: 16, layer-window: "0=full,-1=full"}'
  [sep-2n]='{policy: sep, init: 4, window: 32}'
  # As many keys as sep, in the mean over the queries:
  [fixed]='{policy: fixed, init: 4, window: 16, interval: 6}'
  [sink-57]='{policy: sink, init: 4, window: 57}'
)

# Seeds change the weights and the order of the samples.
e1() {
  local seed policy
  for seed in 1 2 3; do
    for policy in full sep sink; do start "$here/e1.yaml" "e1/$policy-$seed" "seed=$seed" "policy=${policies[$policy]}"; done
    if ((seed > 1)); then continue; fi
    for policy in fixed sink-57 sep-HT sep-H sep-2n; do start "$here/e1.yaml" "e1/$policy-1" seed=1 "policy=${policies[$policy]}"; done
  done
  all_ended
  # All of the held-out text, for all of them: while they train, only a part is looked at.
  for policy in "${!policies[@]}"; do
    for seed in 1 2 3; do
      if [[ ! -d e1/$policy-$seed/model ]]; then continue; fi
      start "$here/e3.yaml" "e1/whole-$policy-$seed" "init_from=e1/$policy-$seed/model" train_steps=1 "policy=${policies[$policy]}"
    done
  done
  all_ended
  # What a step takes when nothing else runs.
  for policy in "${!policies[@]}"; do
    train "$here/e1.yaml" "e1/speed-$policy" seed=1 "policy=${policies[$policy]}" train_steps=12 warmup=2 eval_samples=1
  done
}

# The policies in turn, since a machine's speed changes by the minute. A file for each step, so that it can be measured
# again by removing its file.
e2() {
  local shape tokens policy file round rounds repeats
  mkdir -p e2
  for shape in pythia-160m sepllm-5m; do
    for tokens in 1024 2048 4096 8192 16384; do
      rounds=3 repeats=1
      if [[ $shape == pythia-160m ]] && ((tokens >= 8192)); then rounds=1; fi # steps of minutes
      if [[ $shape == sepllm-5m ]] && ((tokens <= 2048)); then repeats=9; fi    # steps of less than a second
      for ((round = 1; round <= rounds; ++round)); do
        for policy in "full" "sep --init 4 --window 64"; do
          file=e2/$shape-$tokens-${policy%% *}-$round.json
          if [[ -s $file ]]; then continue; fi
          echo "$file"
          # shellcheck disable=SC2086
          "$program" bench train --shape $shape --tokens $tokens --policy $policy --activation-checkpointing --breakdown \
            --repeats $repeats --json >"$file.part"
          mv "$file.part" "$file"
        done
      done
    done
  done
}

e3() {
  local policy
  for policy in sep full; do start "$here/e3.yaml" "e3/$policy" "policy=${policies[$policy]}"; done
  all_ended
}

# Models of the other families, with full attention.
e4() {
  start "$here/e1.yaml" e4/gpt2 family=gpt2 init=gpt2 seed=1 train_steps=1200 "policy=${policies[full]}"
  start "$here/e1.yaml" e4/falcon family=falcon init=gpt2 n_kv_heads=1 seed=1 train_steps=1200 "policy=${policies[full]}"
  all_ended
}

mixed() {
  local text prefix compute seed
  mkdir -p mixed
  for text in tinyshakespeare/input.txt tinystories/tiny_stories.txt; do
    prefix=mixed/$(dirname "$text")
    if [[ ! -f $prefix.idx ]]; then "$program" prepare --tokenizer tokenizer --out "$prefix" "$texts/$text"; fi
  done
  for seed in 1 2 3; do
    for compute in f32 bf16; do
      start "$here/mixed.yaml" "mixed/shakespeare-$compute-$seed" seed=$seed compute=$compute data=mixed/tinyshakespeare
      start "$here/mixed.yaml" "mixed/stories-$compute-$seed" seed=$seed compute=$compute data=mixed/tinystories
    done
  done
  all_ended
}

pages() {
  python3 "$here/pages.py" --program "$program" --runs "$runs" --texts "$texts" --to "$repository/docs/results" "$@"
}

if (($# == 0)); then
  sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 1
fi
# $SEPLLM: another program than that of this repository.
if [[ -n ${SEPLLM:-} ]]; then
  program=$(realpath "$SEPLLM")
else
  (
    cd "$repository"
    source tools/setup.sh
    install_build_packages
    build_preset release sepllm
  )
fi
mkdir -p "$runs"
runs=$(realpath "$runs")
cd "$runs"
for what in "$@"; do
  case $what in
    own)
      prepare
      own
      ;;
    ship) ship ;;
    e1 | e2 | e3 | e4 | mixed)
      prepare
      "$what"
      pages "$what"
      ;;
    e5 | e6)
      prepare
      pages "$what"
      ;;
    pages) pages e1 e2 e3 e4 e5 e6 mixed ;;
    *)
      echo "error: unknown experiment: $what (known: own ship e1 e2 e3 e4 e5 e6 mixed pages)" >&2
      exit 1
      ;;
  esac
done
