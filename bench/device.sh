#!/usr/bin/env bash
# Measures kvring and its peers on this machine's GPU, in one session: builds the programs of bench/
# with nvcc, several at a time, runs each of ours twice and peers.py once, and joins everything into
# OUT/device-DATE.json. Prints a short table last.
#
#   bench/device.sh [--no-transformers] [--no-peers] [--quick] [--per-token] [--bin DIR] [OUT]
#
#   OUT                where the JSON goes (default bench/results); what each program wrote goes to
#                      OUT/raw
#   --no-transformers  without the end-to-end runs of transformers
#   --no-peers         without peers.py at all
#   --quick            fewer of our rows, one run of each, and fewer peers
#   --per-token        prefill of both models with one token a chunk too (minutes)
#   --bin DIR          where programs are built; those that are there already, named as CMake names
#                      them (bench-prefill, ...), are not built again (default build/bench, all anew)
#
# KVRING_GEMMA3=FILE runs Gemma 3 270M with its real weights instead of random ones. KVRING_COMMIT names
# the commit where there is no git. Needs nvcc and Google Benchmark, CLI11 for the end-to-end program
# (CPATH may lead to their headers), and PyTorch for peers.py. What cannot be built or run is said, and
# the rest goes on.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=cmake/setup.sh
. cmake/setup.sh

out=bench/results
bin=
quick=0
per_token=0
peers=1
parts=copy,matmul,sdpa,flex,decode,transformers
while [ $# -gt 0 ]; do
  case "$1" in
    --no-transformers) parts="${parts%,transformers}" ;;
    --no-peers) peers=0 ;;
    --quick) quick=1 ;;
    --per-token) per_token=1 ;;
    --bin) bin="${2:?--bin needs a folder}" && shift ;;
    -h | --help)
      sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' bench/device.sh
      exit
      ;;
    -*) kvring_die "bench/device.sh has no option $1" ;;
    *) out="$1" ;;
  esac
  shift
done
kvring_has_gpu || kvring_die "no GPU here: bench/generate.py measures the host"
raw="$out/raw"
rm -rf "$raw"
mkdir -p "$raw"
: "${KVRING_COMMIT:=$(git describe --always --abbrev=40 --exclude "*" --dirty 2> /dev/null)}"
export KVRING_COMMIT
printf '{"device": "%s", "driver": "%s", "commit": "%s", "nvcc": "%s"}\n' \
  "$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)" \
  "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)" "$KVRING_COMMIT" \
  "$(nvcc --version 2> /dev/null | sed -n 's/.*release .*, V//p')" > "$raw/machine.json"
quick_option=()
[ "$quick" = 0 ] || quick_option=(--quick)

# build NAME LIBRARIES...: bench/NAME.cu to $bin/bench-NAME; the log tells how long it took.
build() {
  local name="$1" begin=$SECONDS
  shift
  if nvcc -std=c++20 -O3 -gencode "arch=compute_$arch,code=sm_$arch" -Iinclude -Ibench \
    -include "$bin/models.hpp" "bench/$name.cu" -o "$bin/bench-${name//_/-}" "$@" > "$raw/build-$name.log" 2>&1; then
    printf '{"name": "build/%s", "value": %d, "unit": "s"}\n' "$name" $((SECONDS - begin)) > "$raw/build-$name.json"
  else
    kvring_say "bench/$name.cu was not built: $(grep -m 1 -E 'error|cannot' "$raw/build-$name.log")"
  fi
}

programs=(prefill wgmma decode append ring simt)
began=$SECONDS
[ -n "$bin" ] || {
  bin=build/bench
  rm -rf "$bin"
}
mkdir -p "$bin"
arch="$(kvring_gpu_architecture)"
echo '#define KVRING_BENCH_MODELS models::Gemma4_E4B, models::Gemma3_270M' > "$bin/models.hpp"
for name in "${programs[@]}"; do
  [ -x "$bin/bench-$name" ] || build "$name" -lbenchmark -lpthread &
done
[ -x "$bin/bench-decode-e2e" ] || build decode_e2e -lcublas -lcublasLt &
# flex_attention's kernels are compiled while nvcc compiles ours: the GPU has nothing to do.
if [ "$peers" = 1 ]; then
  python3 bench/peers.py --prepare "${quick_option[@]}" > "$raw/prepare.log" 2>&1 &
fi
wait
kvring_say "built in $((SECONDS - began)) s"

filter=.
[ "$quick" = 0 ] || filter='length=(8192|4096|32768)|append|copy|empty|ragged'
run_ours() { # run_ours TURN
  local name
  for name in "${programs[@]}"; do
    [ -x "$bin/bench-$name" ] || continue
    timeout 200 "$bin/bench-$name" --benchmark_filter="$filter" --benchmark_out="$raw/$name-$1.json" \
      --benchmark_out_format=json > "$raw/$name-$1.log" 2>&1 ||
      kvring_say "bench-$name failed: $(tail -n 1 "$raw/$name-$1.log")"
  done
}
run_model() { # run_model NAME PROMPT OPTIONS...: weights of the file that $gguf names, or random
  local name="$1" prompt="$2" weights=(--random) file
  shift 2
  [ -x "$bin/bench-decode-e2e" ] || return
  [ -z "$gguf" ] || weights=(--gguf "$gguf")
  file="$raw/e2e-$name${*//[^0-9a-z]/-}"
  timeout 300 "$bin/bench-decode-e2e" --model "$name" --prompt "$prompt" "${weights[@]}" "$@" --json "$file.json" \
    > "$file.log" 2>&1 || kvring_say "$name failed: $(tail -n 1 "$file.log")"
}
# stage NAME COMMAND...: runs it and says how long it took.
stage() {
  local name="$1" begin=$SECONDS
  shift
  "$@"
  kvring_say "$name: $((SECONDS - begin)) s"
}

stage "ours" run_ours 1
if [ "$peers" = 1 ]; then
  stage "peers" timeout 300 python3 bench/peers.py --parts "$parts" "${quick_option[@]}" --out "$raw/peers.json" \
    > "$raw/peers.log" 2>&1
  tail -n 2 "$raw/peers.log"
fi
[ "$quick" = 1 ] || stage "ours again" run_ours 2
gguf=
stage "Gemma 4 E4B" run_model Gemma4_E4B 5313
[ "$per_token" = 0 ] || stage "Gemma 4 E4B, a token a chunk" run_model Gemma4_E4B 5313 --chunk=1 --repeats=1
gguf="${KVRING_GEMMA3:-}"
stage "Gemma 3 270M" run_model Gemma3_270M 5400
[ "$per_token" = 0 ] || stage "Gemma 3 270M, a token a chunk" run_model Gemma3_270M 5400 --chunk=1 --repeats=1

python3 bench/report.py --join "$raw" --out "$out"
