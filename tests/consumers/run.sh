#!/usr/bin/env bash
# Builds and runs one tiny project for each way to use kvring: installed, fetched, as a subdirectory.
# Each must work without any library that only kvring's tests and programs need. Then own_model, which
# runs the conformance suite (and so needs doctest) on a model and kernels of its own, right and wrong.
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
work="$root/build/consumers"
passed=0
failed=0
generator=()
! command -v ninja > /dev/null || generator=(-G Ninja)

rm -rf "$work"
mkdir -p "$work"

try() { # try NAME OPTION...: configure, build, run
  local name="$1"
  shift
  if cmake -S "$root/tests/consumers/$name" -B "$work/$name" "${generator[@]}" "$@" &&
    cmake --build "$work/$name" && "$work/$name/consumer"; then
    passed=$((passed + 1))
    echo "ok    $name"
  else
    failed=$((failed + 1))
    echo "FAIL  $name"
  fi
}

# Installing compiles nothing; a copy of the headers and three CMake files must be enough.
cmake -S "$root" -B "$work/install" "${generator[@]}" -DKVRING_BUILD_TESTS=OFF \
  -DKVRING_BUILD_EXAMPLES=OFF -DKVRING_BUILD_BENCH=OFF -DCMAKE_INSTALL_PREFIX="$work/prefix" &&
  cmake --install "$work/install" || failed=$((failed + 1))

try find_package -DCMAKE_PREFIX_PATH="$work/prefix"
try fetch_content -DFETCHCONTENT_SOURCE_DIR_KVRING="$root" -DFETCHCONTENT_FULLY_DISCONNECTED=ON
try add_subdirectory -DKVRING_SOURCE="$root"

own_model="$work/own_model"
report="$work/own_model.txt"
cmake -S "$root/tests/consumers/own_model" -B "$own_model" "${generator[@]}" \
  -DCMAKE_PREFIX_PATH="$work/prefix" && cmake --build "$own_model" &&
  "$root/tests/consumers/own_model/run.py" "$own_model/consumer" | tee "$report"
if read -r p f < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, .*/\1 \2/p' "$report"); then
  passed=$((passed + p))
  failed=$((failed + f))
else
  failed=$((failed + 1))
  echo "FAIL  own_model"
fi

# The example of kernels on raw pointers: nvcc and the headers, nothing else. It runs where it can.
skipped=0
if command -v nvcc > /dev/null; then
  attention="$work/attention"
  arch=sm_80
  ! nvidia-smi -L > /dev/null 2>&1 || arch=native
  if nvcc -std=c++20 -arch="$arch" -I"$root/include" "$root/examples/05_attention_on_a_gpu.cu" \
    -o "$attention" && { [ "$arch" = sm_80 ] || "$attention" | grep -q "position 1055: .* 800$"; }; then
    passed=$((passed + 1))
    echo "ok    nvcc alone"
  else
    failed=$((failed + 1))
    echo "FAIL  nvcc alone"
  fi
else
  skipped=1
  echo "SKIP nvcc alone: no CUDA toolkit"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
