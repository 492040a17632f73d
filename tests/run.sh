#!/usr/bin/env bash
# Proves kvring on this machine. Installs what is missing, builds, runs every check, prints a table and
# ends with one line: N passed, N failed, N skipped. May be run again; logs are in build/logs.
#
#   tests/run.sh [--long] [--no-asan] [--quick]
#
#   --long      real weights, chunked against per-token, at 700, 4,296 and 5,040 tokens as well
#   --no-asan   without the second run of the suites under ASan and UBSan
#   --quick     only the layout checks and the suites: no sanitizers, compile-fail cases, mutants,
#               consumers, nvcc
#
# KVRING_GEMMA3=FILE and KVRING_SMOLLM2=FILE name models that are here already; KVRING_JOBS=N builds
# with N jobs.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=cmake/setup.sh
. cmake/setup.sh

asan=1
quick=0
long=0
for option in "$@"; do
  case "$option" in
    --long) long=1 ;;
    --no-asan) asan=0 ;;
    --quick) quick=1 asan=0 ;;
    -h | --help)
      sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' tests/run.sh
      exit
      ;;
    *) kvring_die "tests/run.sh has no option $option" ;;
  esac
done

logs=build/logs
rm -rf "$logs"
mkdir -p "$logs"
passed=0
failed=0
skipped=0
table=()
count_line='^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$'

log_of() { printf '%s/%s.log' "$logs" "${1//[ \/]/-}"; } # log_of NAME

# run NAME COMMAND...: the command's output goes to a log, its exit code and seconds to a file beside.
run() {
  local log start=$SECONDS
  log="$(log_of "$1")"
  shift
  { "$@" > "$log" 2>&1 < /dev/null; } 2> /dev/null # the shell's own word on a crash is no news
  printf '%d %d\n' "$?" "$((SECONDS - start))" > "$log.end"
}

# stage KIND NAME [COMMAND...]: runs a command, and counts. Without a command: `run NAME` did run it.
#   step      must exit 0; counted only if it does not
#   suite     ends with a count line
#   again     a suite that ran before, under a sanitizer: its skips were counted then
stage() {
  local kind="$1" name="$2" log seconds code counts p=0 f=0 s=0
  shift 2
  log="$(log_of "$name")"
  printf '%-28s ' "$name"
  [ $# = 0 ] || run "$name" "$@"
  read -r code seconds < "$log.end"

  if [ "$kind" != step ]; then
    counts="$(grep -aE "$count_line" "$log" | tail -n 1)"
    if [ -n "$counts" ]; then
      read -r p f s <<< "$(tr -dc '0-9 ' <<< "$counts")"
    else
      f=1 # it crashed, or was killed, before it could count
    fi
    [ "$kind" != again ] || s=0
  fi
  [ "$code" = 0 ] || [ "$f" -gt 0 ] || f=1
  passed=$((passed + p))
  failed=$((failed + f))
  skipped=$((skipped + s))

  local row
  if [ "$kind" = step ]; then
    row="$(printf '%5d s  %s' "$seconds" "$([ "$f" = 0 ] && echo 'done' || echo 'FAILED')")"
  else
    row="$(printf '%5d s  %5d passed  %3d failed  %3d skipped' "$seconds" "$p" "$f" "$s")"
  fi
  printf '%s\n' "$row"
  table+=("$(printf '%-28s %s' "$name" "$row")")
  if [ "$f" -gt 0 ]; then
    printf -- '--- %s (exit code %d), the end of %s:\n' "$name" "$code" "$log"
    grep -aE '(FAIL|ERROR|error:|Sanitizer)' "$log" | head -n 20
    printf -- '...\n'
    tail -n 30 "$log"
    printf -- '---\n'
  fi
  return "$((f > 0))"
}

skip() { # skip NAME COUNT REASON
  printf '%-28s %s\n' "$1" "skipped: $3"
  printf 'SKIP %s: %s\n' "$1" "$3" > "$logs/skip-${1//[ \/]/-}.log"
  table+=("$(printf '%-28s         %5d passed  %3d failed  %3d skipped' "$1" 0 0 "$2")")
  skipped=$((skipped + $2))
}

suites_of() { # suites_of PRESET PATTERN: the test executables that CMake knows, one a line
  grep -E -e "$2" "build/$1/tests/suites.txt" 2> /dev/null
}

# suites KIND PRESET [PREFIX...]: all suites of a preset side by side, since few use more than one core
# for long. PREFIX goes before each command.
suites() {
  local kind="$1" preset="$2" suite
  shift 2
  for suite in $(suites_of "$preset" .); do
    run "${preset#host-} $suite" "$@" timeout "$limit" "build/$preset/tests/$suite" &
  done
  wait
  for suite in $(suites_of "$preset" .); do
    stage "$kind" "${preset#host-} $suite"
  done
}

kvring_say "looking for what is needed"
kvring_packages clang-format
kvring_cccl || kvring_die "no CCCL headers"
kvring_model || {
  kvring_say "no model: the tests on real weights will be skipped"
  unset KVRING_GEMMA3
}
kvring_smollm2 || {
  kvring_say "no SmolLM2: its tests will be skipped"
  unset KVRING_SMOLLM2
}
kvring_say "Thrust: $KVRING_CCCL_INCLUDE"
kvring_say "models: ${KVRING_GEMMA3:-none}, ${KVRING_SMOLLM2:-none}"
unset KVRING_LONG
[ "$long" = 0 ] || export KVRING_LONG=1
export KVRING_BIN="$PWD/build/host/bin"
# Threads that wait should sleep: suites run thousands of short parallel loops, and other work may
# share the machine.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
limit=$((long ? 5400 : 1500)) # seconds for one suite, beside others

stage suite "ladder self-test" tests/layout/ladder.py --self-test
stage suite "ladder" tests/layout/ladder.py
stage suite "format" tests/layout/format.py
stage suite "docs" tests/docs/check_docs.py --jobs "$kvring_jobs"
nvcc_option=()
[ "$quick" = 0 ] || nvcc_option=(--no-nvcc)
stage suite "headers alone" tests/layout/headers.py --jobs "$kvring_jobs" "${nvcc_option[@]}" \
  --table "$logs/compile-times.txt"
if [ "$quick" = 0 ]; then
  stage suite "compile-fail self-test" tests/compile_fail/gate.py --self-test
  stage suite "compile-fail" tests/compile_fail/gate.py --jobs "$kvring_jobs"
fi

stage step "host build" kvring_build host
suites suite host
[ -n "$(suites_of host .)" ] || {
  kvring_say "no test suite was built: that is a failure"
  failed=$((failed + 1))
}
if [ -f tests/programs/run.py ]; then
  stage suite "programs" timeout "$limit" python3 tests/programs/run.py
fi

if [ "$asan" = 1 ]; then
  # Real weights are left to the host run: here their cases skip themselves.
  stage step "asan build" kvring_build host-asan suites
  suites again host-asan env -u KVRING_GEMMA3 -u KVRING_SMOLLM2 -u KVRING_LONG \
    ASAN_OPTIONS=strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1
fi

# Ends with `mutants: N killed, N survived`, which is turned into a count line.
mutants() {
  local text="$logs/mutants.txt" code
  timeout "$limit" python3 tests/mutants.py --jobs "$kvring_jobs" | tee "$text"
  code=${PIPESTATUS[0]}
  sed -nE 's/^mutants: ([0-9]+) killed, ([0-9]+) survived$/\1 passed, \2 failed, 0 skipped/p' "$text"
  return "$code"
}
if [ "$quick" = 0 ]; then
  if [ -f tests/mutants.py ]; then
    stage suite "mutants" mutants
  fi
  stage suite "consumers" tests/consumers/run.sh
fi

device_cases="$(cat tests/*/*_test.cu 2> /dev/null | grep -cE '^[[:space:]]*TEST_CASE')"
conformance_cases="$(grep -c '^  KVRING_CONFORMANCE_CASE_' include/kvring/testing/conformance.hpp)" # a suite's
device_suites="$(cat tests/*/*_test.cu 2> /dev/null | grep -c '^KVRING_CONFORMANCE_SUITE')"
device_cases=$((device_cases + device_suites * conformance_cases))
if kvring_has_nvcc && [ "$quick" = 0 ]; then
  # Without a GPU too: an engine must compile with nvcc. All the rest takes a quarter of an hour more.
  targets=(examples/CMakeFiles/kvring_engine.dir/engine_cuda_bf16.cu.o)
  ! kvring_has_gpu || targets=(programs device-suites)
  stage step "cuda build" kvring_build cuda "${targets[@]}"
fi
if kvring_has_nvcc && kvring_has_gpu && [ "$quick" = 0 ]; then
  for suite in $(suites_of cuda -device$); do
    stage suite "cuda $suite" timeout "$limit" "build/cuda/tests/$suite"
  done
  for tool in memcheck racecheck initcheck synccheck; do
    stage suite "cuda $tool" tests/sanitize.sh "$tool"
  done
elif [ "$device_cases" -gt 0 ]; then
  reason="no GPU here"
  kvring_has_nvcc || reason="no CUDA toolkit here"
  [ "$quick" = 0 ] || reason="--quick"
  skip "device tests" "$device_cases" "$reason"
fi

printf '\none detail flipped at a time, and by how much the oracle notices\n'
grep -ah '^flip ' "$logs/host-model.log"
printf '\ncompile time of each header\n'
cat "$logs/compile-times.txt"
[ "$skipped" = 0 ] || {
  printf '\nskipped\n'
  find "$logs" -name '*.log' ! -name 'asan-*' -exec grep -haE '^SKIP ' {} +
}
printf '\nstages\n'
printf '%s\n' "${table[@]}"
printf '%-28s %5d s\n\n' "all" "$SECONDS"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
