// Report of kernels: which kernels the layers of a plan run on, and how their blocks are cut, in
// words.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <type_traits>

#include "kvring/kernels/decode_plan.hpp"
#include "kvring/kernels/mma_shape.hpp"
#include "kvring/kernels/prefill_kernel.hpp"
#include "kvring/kernels/wgmma_shape.hpp"
#include "kvring/report.hpp"

namespace kvring {

/// A GPU that kernels are listed for: 10 * major + minor, and how many multiprocessors it has.
struct GpuInWords {
  const char* name;
  int arch, multiprocessors;
};
inline constexpr GpuInWords h100{"sm_90a, 132 SMs", 90, 132}, a100{"sm_80, 108 SMs", 80, 108};

namespace detail {

/// Rows of a block are query heads of a group by positions.
inline std::string rows_in_words(std::int64_t rows, std::int64_t group) {
  return rows % group == 0
             ? fmt::format("{} rows = {} positions x {} heads", rows, rows / group, group)
             : fmt::format("{} rows, {} heads packed", rows, group);
}

template <class Kind, class T>
std::string prefill_in_words(const GpuInWords& gpu) {
  constexpr Heads heads = Kind::heads;
  using Policy = typename Kind::Policy;
  if constexpr (std::is_same_v<T, f32>) {
    return "attend_simt";
  } else {
    constexpr PrefillKernel kernel = prefill_kernel<Policy, heads, T>;
    if (gpu.arch == 90 && kernel == PrefillKernel::wgmma512) {
      constexpr Wgmma512Shape shape = wgmma512_shape;
      return fmt::format(
          "attend_wgmma512: {} in a cluster of {}, tiles of {} keys, {} slots of 16 KiB",
          rows_in_words(shape.cluster * shape.rows, heads.group()), shape.cluster, shape.keys,
          shape.slots);
    }
    if (gpu.arch == 90 && kernel == PrefillKernel::wgmma) {
      constexpr WgmmaShape shape = wgmma_shape(heads.dim, Policy::window);
      return fmt::format("attend_wgmma: {}, tiles of {} keys, {} slots{}",
                         rows_in_words(128, heads.group()), shape.keys, shape.slots,
                         shape.ordered ? ", in turns" : "");
    }
    const MmaShape shape = prefill_shape(heads.dim, Policy::window, gpu.arch);
    return fmt::format("attend_mma: {}, tiles of {} keys, {} x {} warps, {} an SM",
                       rows_in_words(shape.rows, heads.group()), shape.keys, shape.row_warps,
                       shape.column_warps, shape.blocks_per_sm);
  }
}

template <class Kind, class T>
std::string decode_in_words(const GpuInWords& gpu, std::int64_t slots, std::int64_t sequences) {
  if constexpr (std::is_same_v<T, f32>) {
    return "attend_simt";
  } else {
    constexpr Heads heads = Kind::heads;
    const MmaShape shape = decode_shape(heads.dim, Kind::Policy::window, 16, gpu.arch);
    const DecodePlan plan =
        plan_decode<typename Kind::Policy, heads>(slots, sequences, gpu.multiprocessors, gpu.arch);
    return fmt::format("attend_decode: {} part{}{}, tiles of {} keys", plan.parts,
                       plan.parts == 1 ? "" : "s",
                       plan.parts == 1   ? ""
                       : plan.one_launch ? " in a cluster"
                                         : " in two launches",
                       plan.tile_keys(shape));
  }
}

}  // namespace detail

/// Two lines for each kind of layer of a plan and each GPU: prefill and decode, with `sequences`
/// sequences of up to `context` positions.
template <class PlanType>
std::string kernel_table(std::int64_t context, std::int64_t sequences, const GpuInWords& gpu) {
  using T = typename PlanType::Element;
  std::string out = fmt::format("  kernels on {}\n", gpu.name);
  for (int kind = 0; kind < PlanType::kinds; ++kind) {
    PlanType::with_kind(kind, [&](auto of) {
      using Kind = typename decltype(of)::type;
      const std::int64_t slots = PlanType::template PlacementOf<Kind>::capacity(context);
      out += fmt::format("  {:<10} {}\n  {:<10} {}\n", detail::kind_name<Kind>(kind),
                         detail::prefill_in_words<Kind, T>(gpu), "",
                         detail::decode_in_words<Kind, T>(gpu, slots, sequences));
    });
  }
  return out;
}

}  // namespace kvring
