// Report: what a plan takes, as numbers and as a table for people.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "kvring/plan.hpp"
#include "kvring/stage_plan.hpp"

namespace kvring {

/// 5313 as "5,313".
inline std::string grouped(std::int64_t n) {
  std::string digits = fmt::format("{}", n);
  const std::int64_t sign = n < 0 ? 1 : 0;
  for (auto at = static_cast<std::int64_t>(digits.size()) - 3; at > sign; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
}

/// Bytes in MiB, to one decimal: "1,220.0".
inline std::string mebibytes(std::int64_t bytes) {
  constexpr std::int64_t mebi = 1 << 20;
  const std::int64_t tenths = (bytes % mebi * 10 + mebi / 2) / mebi;
  return fmt::format("{}.{}", grouped(bytes / mebi + tenths / 10), tenths % 10);
}

/// The layers of one kind that own a cache, or those that read another layer's.
struct MemoryRow {
  std::string kind{};
  std::string sees{};    // the policy, in words
  std::string stored{};  // the storage, in words
  std::int64_t layers = 0;
  std::int64_t slots = 0;  // of each layer and sequence
  std::int64_t bytes = 0;  // of all layers and sequences
};

struct MemoryReport {
  std::string model{}, element{};
  std::int64_t context = 0, sequences = 0;
  std::vector<MemoryRow> rows{};
  std::int64_t layers = 0;
  std::int64_t cache_bytes = 0, full_cache_bytes = 0;
  std::int64_t stage_bytes = 0;  // of the plan's stages; part of scratch_bytes
  /// What the caches and the stages of PlanType::Staged take.
  std::int64_t staged_cache_bytes = 0, staged_stage_bytes = 0;
  std::int64_t scratch_bytes = 0;  // 0: not asked for
};

namespace detail {

template <class Kind>
std::string kind_name(int kind) {
  if constexpr (requires { Kind::name; }) {
    return Kind::name;
  } else {
    return fmt::format("kind {}", kind);
  }
}

template <class Policy>
std::string policy_in_words() {
  if constexpr (Policy::window == unbounded) {
    return "all before it";
  } else {
    return fmt::format("{} keys", grouped(Policy::window));
  }
}

template <class Storage>
std::string storage_in_words() {
  if constexpr (Storage::is_ring) {
    return fmt::format("ring of {}", grouped(Storage::slots));
  } else {
    return "full";
  }
}

}  // namespace detail

/// What the caches of a plan take for `sequences` sequences of `context` positions.
/// `scratch_bytes`: Decoder<PlanType, B>::scratch_bytes(...), or 0 to leave it out.
template <class PlanType>
MemoryReport memory_report(std::int64_t context, std::int64_t sequences = 1,
                           std::int64_t scratch_bytes = 0) {
  using Model = typename PlanType::Model;
  MemoryReport report{
      .element = element_name<typename PlanType::Element>,
      .context = context,
      .sequences = sequences,
      .layers = PlanType::layers,
      .cache_bytes = PlanType::cache_bytes(context, sequences),
      .full_cache_bytes = PlanType::full_cache_bytes(context, sequences),
      .stage_bytes = StagePlan<PlanType>::bytes(context, sequences),
      .staged_stage_bytes = StagePlan<PlanType>::bytes_if_staged(context, sequences),
      .scratch_bytes = scratch_bytes};
  if constexpr (requires { Model::name; }) report.model = Model::name;

  for (int kind = 0; kind < PlanType::kinds; ++kind) {
    PlanType::with_kind(kind, [&](auto of) {
      using Kind = typename decltype(of)::type;
      using Storage = typename PlanType::template PlacementOf<Kind>::Storage;
      MemoryRow own{.kind = detail::kind_name<Kind>(kind),
                    .sees = detail::policy_in_words<typename Kind::Policy>(),
                    .stored = detail::storage_in_words<Storage>(),
                    .slots = PlanType::template PlacementOf<Kind>::capacity(context)};
      MemoryRow shared{.kind = own.kind, .sees = own.sees, .stored = "shared"};
      for (std::int64_t layer = 0; layer < PlanType::layers; ++layer) {
        if (PlanType::kind_of[static_cast<std::size_t>(layer)] != kind) continue;
        MemoryRow& row = PlanType::owns_cache(layer) ? own : shared;
        ++row.layers;
        row.bytes += PlanType::layer_bytes(layer, context, sequences);
      }
      report.staged_cache_bytes +=
          own.layers == 0 ? 0
                          : own.bytes / own.slots *
                                PlanType::template StagedPlacementOf<Kind>::capacity(context);
      if (own.layers > 0) report.rows.push_back(own);
      if (shared.layers > 0) report.rows.push_back(shared);
    });
  }
  return report;
}

/// The report as lines of text, each with its newline.
inline std::string memory_table(const MemoryReport& report) {
  const auto line = [](const auto& kind, const auto& layers, const auto& sees, const auto& stored,
                       const auto& slots, const auto& size, const std::string& remark = {}) {
    std::string text = fmt::format("  {:<10} {:>6}  {:<13}  {:<14} {:>9}  {:>10}", kind, layers,
                                   sees, stored, slots, size);
    return text + (remark.empty() ? "" : "  " + remark) + "\n";
  };
  const std::int64_t full = report.full_cache_bytes, saved = full - report.cache_bytes;

  std::string out =
      fmt::format("{}{} of {} positions in {}\n", report.model.empty() ? "" : report.model + ": ",
                  report.sequences == 1 ? "1 sequence" : grouped(report.sequences) + " sequences",
                  grouped(report.context), report.element);
  out += line("layers", "", "a query sees", "stored in", "slots", "MiB");
  for (const MemoryRow& row : report.rows) {
    out += line(row.kind, row.layers, row.sees, row.stored,
                row.slots > 0 ? grouped(row.slots) : "-", mebibytes(row.bytes));
  }
  out += line("caches", report.layers, "", "", "", mebibytes(report.cache_bytes),
              fmt::format("{} bytes", grouped(report.cache_bytes)));
  out += line("full", report.layers, "", "", "", mebibytes(full),
              fmt::format("what full caches would take: {} MiB ({:.0f}%) saved", mebibytes(saved),
                          full == 0 ? 0.0 : 100.0 * static_cast<double>(saved) / full));
  if (report.stage_bytes > 0) {
    out += line("stage", "", "", "", "", mebibytes(report.stage_bytes),
                fmt::format("{} bytes, of the scratch", grouped(report.stage_bytes)));
  }
  const std::int64_t staged = report.staged_cache_bytes + report.staged_stage_bytes;
  if (staged < report.cache_bytes) {
    out += line(
        "staged", report.layers, "", "", "", mebibytes(report.staged_cache_bytes),
        fmt::format("what staged chunks would take, and a stage of {} MiB: {} MiB saved",
                    mebibytes(report.staged_stage_bytes), mebibytes(report.cache_bytes - staged)));
  }
  if (report.scratch_bytes > 0) {
    out += line("scratch", "", "", "", "", mebibytes(report.scratch_bytes),
                fmt::format("{} bytes", grouped(report.scratch_bytes)));
  }
  return out;
}

}  // namespace kvring
