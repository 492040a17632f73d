#!/usr/bin/env bash
# The kernels of the GPU under one tool of compute-sanitizer, on few and short cases.
#
#   tests/sanitize.sh memcheck|racecheck|initcheck|synccheck [BUILD]     BUILD: build/cuda
#
# Ends with a line `N passed, N failed, N skipped`, counted in suites.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
tool="${1:?which tool?}"
build="${2:-build/cuda}"
export KVRING_SMALL_SWEEP=compare
passed=0
failed=0

# check SUITE TEST-CASES: what is compared as bits over many launches adds nothing here but time.
check() {
  local log
  log="$(mktemp)"
  # Errors that calls return are the subject of some tests, and are handled there.
  compute-sanitizer --tool "$tool" --report-api-errors no --error-exitcode 99 \
    "$build/tests/$1" "-tc=$2" "-tce=*change no bit*" > "$log" 2>&1
  local code=$?
  if [ "$code" = 0 ] && grep -qE '^[1-9][0-9]* passed, 0 failed' "$log"; then
    passed=$((passed + 1))
    printf '%s %s: %s\n' "$tool" "$1" "$(grep -E '^[0-9]+ passed' "$log")"
  else
    failed=$((failed + 1))
    printf 'FAIL %s %s, exit code %d\n' "$tool" "$1" "$code"
    grep -E '=========|ERROR|passed' "$log" | head -n 40
  fi
  rm -f "$log"
}
kernels="*random cases*,*fused append is its steps*,*append_rows writes*,*norms of rows*,*gates of rows*"
kernels+=",*embedding of rows*,*argmax*,*top-k*"
if [ "$tool" = racecheck ]; then
  # The slowest: every kernel once, in bf16, without the reference in double precision.
  export KVRING_SMALL_SWEEP=run
  kernels="device mma: random*bf16*,device decode: random*bf16*"
  kernels+=",device wgmma: random*bf16*,device wgmma 512: random*bf16*"
  kernels+=",*append_rows writes*,*norms of rows*bf16*,*argmax*"
fi
check kernels-device "$kernels"
[ "$tool" = racecheck ] || check model-device "device decoder: tiny*"
printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" = 0 ]
