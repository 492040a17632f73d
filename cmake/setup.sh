# shellcheck shell=bash
# Sourced by tests/run.sh and examples/demo.sh: gets what is missing, and says so.
#
#   kvring_packages [PACKAGE...]  the Debian packages that the build needs, and those named
#   kvring_cccl                   CCCL's headers; exports KVRING_CCCL_INCLUDE
#   kvring_model                  Gemma 3 270M; exports KVRING_GEMMA3
#   kvring_smollm2                SmolLM2 135M; exports KVRING_SMOLLM2
#   kvring_has_nvcc, kvring_has_gpu
#   kvring_build PRESET [TARGET...]

kvring_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
kvring_jobs="${KVRING_JOBS:-$(nproc)}"

kvring_say() { printf 'kvring: %s\n' "$*"; }
kvring_die() { printf 'kvring: %s\n' "$*" >&2; exit 1; }

# nvcc is often installed but not on the path.
if ! command -v nvcc > /dev/null && [ -x /usr/local/cuda/bin/nvcc ]; then
  export PATH="/usr/local/cuda/bin:$PATH"
fi
kvring_has_nvcc() { command -v nvcc > /dev/null; }
kvring_has_gpu() { nvidia-smi --list-gpus 2> /dev/null | grep -q '^GPU'; }

kvring_has_header() {
  printf '#include <%s>\n' "$1" | g++ -std=c++20 -fopenmp -E -x c++ - > /dev/null 2>&1
}

# Is what a package brings here? Asked of the machine, not of dpkg: it may come from elsewhere.
kvring_has_package() {
  case "$1" in
    g++) command -v g++ > /dev/null && kvring_has_header compare && kvring_has_header omp.h ;;
    cmake) command -v cmake > /dev/null ;;
    ninja-build) command -v ninja > /dev/null ;;
    ccache) command -v ccache > /dev/null ;;
    python3) command -v python3 > /dev/null ;;
    python3-pip) python3 -m pip --version > /dev/null 2>&1 ;;
    clang-format) command -v clang-format > /dev/null || command -v clang-format-14 > /dev/null ;;
    libfmt-dev) kvring_has_header fmt/format.h ;;
    libcli11-dev) kvring_has_header CLI/CLI.hpp ;;
    libeigen3-dev) kvring_has_header eigen3/Eigen/Core || kvring_has_header Eigen/Core ;;
    nlohmann-json3-dev) kvring_has_header nlohmann/json.hpp ;;
    doctest-dev) kvring_has_header doctest/doctest.h ;;
    *) kvring_die "no way to look for $1" ;;
  esac
}

kvring_missing() {
  local package
  for package in "$@"; do
    kvring_has_package "$package" || printf '%s\n' "$package"
  done
}

# Root may install; everyone else is told what to install. Without ccache and clang-format the rest
# still works, so their absence is only said.
kvring_packages() {
  local wanted=(g++ cmake ninja-build python3 python3-pip libfmt-dev libcli11-dev libeigen3-dev
    nlohmann-json3-dev doctest-dev ccache "$@")
  local missing vital cure package
  mapfile -t missing < <(kvring_missing "${wanted[@]}")
  if [ "${#missing[@]}" -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    kvring_say "installing ${missing[*]}"
    cure=(apt-get install -y --no-install-recommends "${missing[@]}")
    # Stale package lists name files that are gone: on failure refresh them and try again.
    DEBIAN_FRONTEND=noninteractive "${cure[@]}" > /dev/null 2>&1 ||
      { apt-get update > /dev/null && DEBIAN_FRONTEND=noninteractive "${cure[@]}" > /dev/null; } ||
      kvring_say "apt-get could not install them"
    mapfile -t missing < <(kvring_missing "${wanted[@]}")
  fi
  vital=()
  for package in "${missing[@]}"; do
    case "$package" in
      ccache | clang-format) kvring_say "without $package" ;;
      *) vital+=("$package") ;;
    esac
  done
  [ "${#vital[@]}" -eq 0 ] || kvring_die "missing: ${vital[*]}. Install with" \
    "sudo apt-get install -y --no-install-recommends ${missing[*]}"
  local version
  version="$(cmake --version | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')"
  [ "$(printf '3.25\n%s\n' "$version" | sort -V | head -n 1)" = 3.25 ] ||
    kvring_die "cmake is $version, and 3.25 or later is needed (python3 -m pip install cmake)"
}

kvring_cccl() {
  local folder
  if [ -n "${KVRING_CCCL_INCLUDE:-}" ]; then
    [ -f "$KVRING_CCCL_INCLUDE/thrust/version.h" ] ||
      kvring_die "KVRING_CCCL_INCLUDE is $KVRING_CCCL_INCLUDE, which holds no thrust/version.h"
    return
  fi
  if kvring_has_nvcc; then
    folder="$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")/include/cccl"
    if [ -f "$folder/thrust/version.h" ]; then
      export KVRING_CCCL_INCLUDE="$folder"
      return
    fi
  fi
  folder="$(python3 "$kvring_root/cmake/fetch.py" cccl)" || return 1
  export KVRING_CCCL_INCLUDE="$folder"
}

# kvring_weights VARIABLE NAME: what fetch.py calls NAME, unless the variable says where it is.
kvring_weights() {
  local file
  if [ -n "${!1:-}" ]; then
    [ -f "${!1}" ] || kvring_die "$1 is ${!1}, which is no file"
    return
  fi
  file="$(python3 "$kvring_root/cmake/fetch.py" "$2")" || return 1
  export "$1=$file"
}
kvring_model() { kvring_weights KVRING_GEMMA3 model; }
kvring_smollm2() { kvring_weights KVRING_SMOLLM2 smollm2; }

# The architecture of the first GPU, for CMAKE_CUDA_ARCHITECTURES; nothing without a GPU.
kvring_gpu_architecture() {
  local capability
  capability="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -n 1)"
  case "$capability" in
    9.0) echo 90a ;;
    [1-9]*.[0-9]) echo "${capability/./}" ;;
  esac
}

# Builds as much as it can, so that one broken program does not hide what the others say.
kvring_build() {
  local preset="$1" targets=() architecture=
  shift
  [ $# -eq 0 ] || targets=(--target "$@")
  [ "$preset" != cuda ] || architecture="$(kvring_gpu_architecture)"
  (
    cd "$kvring_root" &&
      cmake --preset "$preset" -DKVRING_CCCL_INCLUDE="$KVRING_CCCL_INCLUDE" \
        ${architecture:+-DCMAKE_CUDA_ARCHITECTURES="$architecture"} &&
      cmake --build --preset "$preset" --parallel "$kvring_jobs" "${targets[@]}" \
        -- -k 0
  )
}
