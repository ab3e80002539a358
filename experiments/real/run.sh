#!/usr/bin/env bash
# What docs/results/real-models.md and docs/results/post-training.md are made of: run.sh WHAT... where WHAT is
#   texts   excerpts of held-out books, of books for the search, and of wikitext-2
#   tune    sepllm tune on SmolLM2 at 25, 12 and 50 % of the keys
#   tables  perplexity under the policies: books and wikitext at 2K, books at 8K, streams of 100,000 tokens
#   tasks   likelihood tasks at 5 shots, and the check of full attention against lm-eval's own backend
#   long    RULER's tasks and needles at 1K and 2K
#   query   caches chosen by attention scores, on one prefix with several questions
#   train   post-training: token files, learning rates, runs (hours), page
#   pages   all tables again from the logs
# $MODEL: a GGUF file (tools/fetch_model.sh smollm2-135m); $FOLDER: the same model as a Hugging Face folder; $SEPLLM: the program; $PYTHON: a
# Python with lm-eval[api]==0.4.13, torch, transformers, tokenizers and the package sepllm. Results are lines of files in experiments/real/logs.
# All of it can be interrupted at any time; what is measured is not measured again. $THREADS: threads of each program.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
export SEPLLM=${SEPLLM:-$repository/build/release/bin/sepllm}
export SEPLLM_TEXTS=${SEPLLM_TEXTS:-$repository/../shared/data/text}
python=${PYTHON:-python3}
work=${SEPLLM_RUNS:-$repository/build/experiments}/real
logs=$here/logs
page=$repository/docs/results/real-models.md
threads=${THREADS:-$(nproc)}
model=${MODEL:?a GGUF file}
folder=${FOLDER:-}
mkdir -p "$work" "$logs"

excerpts() { "$here/texts.py" excerpts "$work/$1" --model "$model" "${@:2}" >"$work/$1.list"; }

texts() {
  excerpts search --list train --count 8
  excerpts report --count 8
  excerpts books2k --place 0.6 --count 8
  excerpts wiki2k --file "$SEPLLM_TEXTS/wikitext-2-raw/wiki.test.raw" --count 8
  excerpts books8k --tokens 8192 --count 6
}

tune() {
  local keys
  for keys in 25 12 50; do
    if [[ -f $logs/tune-$keys.json ]]; then continue; fi
    "$SEPLLM" tune --model "$model" --text $(cat "$work/search.list" "$work/report.list") --keys "$keys%" --context 2048 \
      --search-tokens 4096 --report-tokens 16384 --threads "$threads" --out "$work/tune-$keys.html" --policy-out "$logs/tune-$keys.json" \
      --json >"$logs/tune-$keys.report.json"
  done
}

tuned() { find "$logs" -name 'tune-??.json' | sort; }

listed() { [[ ! -f $work/$1.list ]] || cat "$work/$1.list"; } # without excerpts there are still pages from the logs

table() {
  local name=$1 list=$2
  "$repository/tools/real_models.py" --model "$model" --threads "$threads" --results "$logs/$list.jsonl" --name "$name" --page "$page" "${@:3}"
}

tables() {
  table "held-out books" books2k --texts $(listed books2k) --tuned $(tuned) "$@"
  table wikitext-2 wiki2k --texts $(listed wiki2k) --tuned $(tuned) "$@"
  table "held-out books" books8k --tokens 8192 --texts $(listed books8k) "$@"
  table "held-out books as streams" stream100k --tokens 100000 --only streams --texts "$SEPLLM_TEXTS"/pg19/test/{30312,6941,37702}.txt "$@"
}

tasks() {
  "$python" "$repository/tools/real_tasks.py" "$model" --tokenizer "$folder" --threads "$threads" --results "$logs/tasks.jsonl" \
    --tuned $(tuned) --page "$page" "$@"
  local check=("$python" "$repository/tools/real_tasks.py" "$folder" --tokenizer "$folder" --threads "$threads" --documents 50
    --tasks sciq,arc_easy --results "$logs/tasks-f32.jsonl")
  "${check[@]}" --hf "$@"
  "${check[@]}" "$@"
}

long() {
  local name
  "$python" "$repository/tools/long_context/make_tasks.py" "$work/long" --tokenizer "$folder" --lengths 1024,2048
  "$python" "$repository/tools/long_context/make_tasks.py" "$work/long" --tokenizer "$folder" --lengths 1024 --question before
  for name in 1024 1024_q 2048; do
    "$repository/tools/long_context/run.py" "$work/long" --model "$model" --out "$logs/long.jsonl" --policies "$here/long_policies.json" \
      --tasks "$(cd "$work/long" && ls ./*_"$name".jsonl | sed 's|./||; s|.jsonl||' | paste -sd,)" --name "long contexts $name" --page "$page" \
      --serve --threads "$threads" --kv-memory 1024
  done
}

query() {
  "$python" "$repository/tools/query_driven.py" --check
  "$python" "$repository/tools/query_driven.py" "$folder" --results "$logs/query.jsonl" --threads "$threads" --documents 10 --page "$page"
}

train() {
  local step
  for step in prepare probe run logs; do "$python" "$here/post_training.py" "$step" $([[ $step == logs ]] || echo "$folder"); done
  "$python" "$here/post_trained.py" measure "$folder" --threads "$threads"
  "$python" "$here/post_trained.py" page
}

pages() {
  tables --only-page
  tasks --only-page
  "$python" "$repository/tools/query_driven.py" "$folder" --results "$logs/query.jsonl" --only-table --page "$page"
  "$here/frontier.py"
}

if (($# == 0)); then
  sed -n '2,15s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 1
fi
for what in "$@"; do
  [[ $what =~ ^(texts|tune|tables|tasks|long|query|train|pages)$ ]] || { echo "unknown: $what" >&2; exit 1; }
  "$what"
done
