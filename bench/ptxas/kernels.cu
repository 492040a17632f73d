// The tuned kernels, for bench/ptxas.py: compiled for one architecture, it prints the shared memory
// and threads of a block, which the compiler's own report does not know. Needs no GPU.
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <typeinfo>

#include "kvring/kernels/append_fused.cuh"
#include "kvring/kernels/append_rows.cuh"
#include "kvring/kernels/attend_prefill.cuh"
#include "kvring/kernels/attend_simt.cuh"
#include "kvring/kernels/decode.cuh"

using namespace kvring;

namespace {

template <class Kernel>
void show(const char* label) {
  [[maybe_unused]] static const auto compiled = &detail::run_kernel<Kernel>;
  char* type = abi::__cxa_demangle(typeid(Kernel).name(), nullptr, nullptr, nullptr);
  std::printf("%s\t%d\t%zu\t%s\n", label, Kernel::threads, sizeof(typename Kernel::SharedStorage),
              type);
  std::free(type);
}

/// A full cache, or a ring for chunks of 4,096.
template <class Policy>
using Storage = std::conditional_t<Policy::window == unbounded, Full,
                                   Ring<round_up(Policy::window % (1 << 20), 64) + 4096>>;

template <class Policy, Heads heads>
void prefill(const char* label) {
  show<AttendMma<Policy, CacheView<Storage<Policy>, heads, bf16>>>(label);
}

template <class Policy, Heads heads>
void wgmma(const char* label) {
  if constexpr (prefill_kernel<Policy, heads, bf16> == PrefillKernel::wgmma) {
    show<AttendWgmma<Policy, CacheView<Storage<Policy>, heads, bf16>>>(label);
  }
  if constexpr (prefill_kernel<Policy, heads, bf16> == PrefillKernel::wgmma512) {
    show<AttendWgmma512<Policy, CacheView<Storage<Policy>, heads, bf16>>>(label);
  }
}

template <class Policy, Heads heads, int cluster>
void decode(const char* label) {
  constexpr auto group = static_cast<int>(heads.group());
  show<AttendDecode<Policy, CacheView<Storage<Policy>, heads, bf16>, 16, group, cluster>>(label);
}

template <Heads heads>
void combine(const char* label) {
  show<CombineParts<bf16, heads>>(label);
}

template <Heads heads>
void simt(const char* label) {
  show<AttendSimt<Dense, CacheView<Full, heads, float>>>(label);
}

template <Heads heads>
void append(const char* fused_label, const char* plain_label) {
  show<AppendFusedKernel<CacheView<Full, heads, bf16>, bf16, 8>>(fused_label);
  show<AppendRowsKernel<CacheView<Full, heads, bf16>, bf16>>(plain_label);
}

}  // namespace

int main() {
  constexpr Heads llama64{.q = 32, .kv = 8, .dim = 64}, llama96{.q = 32, .kv = 8, .dim = 96};
  constexpr Heads llama128{.q = 32, .kv = 8, .dim = 128}, llama192{.q = 32, .kv = 8, .dim = 192};
  constexpr Heads gpt_oss{.q = 64, .kv = 8, .dim = 64};
  constexpr Heads gemma256{.q = 8, .kv = 2, .dim = 256}, gemma512{.q = 8, .kv = 2, .dim = 512};
  prefill<Dense, llama64>("prefill, hd 64, 32/8, causal");
  prefill<Dense, llama96>("prefill, hd 96, 32/8, causal");
  prefill<Dense, llama128>("prefill, hd 128, 32/8, causal");
  prefill<Dense, gemma256>("prefill, hd 256, 8/2, causal");
  prefill<Dense, gemma512>("prefill, hd 512, 8/2, causal");
  prefill<Swa<512>, gemma256>("prefill, hd 256, 8/2, W 512");
  prefill<Swa<1024>, gemma256>("prefill, hd 256, 8/2, W 1024");
  prefill<Swa<1024>, llama128>("prefill, hd 128, 32/8, W 1024");
  prefill<Swa<128>, gpt_oss>("prefill, hd 64, 64/8, W 128");
  wgmma<Dense, llama64>("prefill by wgmma, hd 64, 32/8, causal");
  wgmma<Dense, llama96>("prefill by wgmma, hd 96, 32/8, causal");
  wgmma<Dense, llama128>("prefill by wgmma, hd 128, 32/8, causal");
  wgmma<Dense, llama192>("prefill by wgmma, hd 192, 32/8, causal");
  wgmma<Dense, gemma256>("prefill by wgmma, hd 256, 8/2, causal");
  wgmma<Swa<512>, gemma256>("prefill by wgmma, hd 256, 8/2, W 512");
  wgmma<Dense, gemma512>("prefill by wgmma, hd 512, 8/2, causal");
#if __CUDA_ARCH_LIST__ >= 900
  decode<Swa<512>, gemma256, 8>("decode, hd 256, 8/2, W 512, cluster of 8");
  show<AttendInCluster<Swa<512>, CacheView<Storage<Swa<512>>, gemma256, bf16>, 4, 1, 16,
                       DecodePlan::wide_cluster_keys>>("decode, hd 256, 8/2, W 512, cluster of 16");
#endif
  decode<Dense, llama128, 1>("decode, hd 128, 32/8, causal");
  decode<Dense, gemma256, 1>("decode, hd 256, 8/2, causal");
  decode<Dense, gemma512, 1>("decode, hd 512, 8/2, causal");
  combine<gemma256>("decode, combining, hd 256");
  simt<llama64>("f32 prefill, hd 64, 32/8");
  simt<llama128>("f32 prefill, hd 128, 32/8");
  simt<gemma256>("f32 prefill, hd 256, 8/2");
  append<gemma256>("fused append, hd 256, 8/2", "append, hd 256, 8/2");
}
