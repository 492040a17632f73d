// GPT-OSS: its attention and its plan. Numbers: config.json of openai/gpt-oss-{20b,120b}.
#pragma once

#include <cstdint>

#include "kvring/hybrid.hpp"

namespace kvring::models {

namespace gpt_oss {

inline constexpr Heads heads{.q = 64, .kv = 8, .dim = 64};

/// YaRN. `Rope` can't say it, so the layer kinds state no `rope`.
struct YarnRope {
  double theta = 150'000, factor = 32, beta_fast = 32, beta_slow = 1;
  std::int64_t original_context = 4096;
};

/// What both kinds add to Layer.
struct Attention {
  static constexpr YarnRope yarn{};
  static constexpr bool learned_sinks = true;  // a score of each query head joins the softmax
  static constexpr double query_scalar = heads.dim;
};

struct Local : Layer<Swa<128>, heads>, Attention {
  static constexpr const char* name = "local";
};
struct Global : Layer<Dense, heads>, Attention {
  static constexpr const char* name = "global";
};

/// Common to the family. No `ffn` and no `block`: a Decoder of it does not compile.
struct Family {
  static constexpr const char* architecture = "gpt-oss";
  static constexpr const char* model_type = "gpt_oss";  // in config.json
  static constexpr const char* plan_only = "mixtures of experts and YaRN are not built";
  using Local = gpt_oss::Local;
  using Global = gpt_oss::Global;
  static constexpr double norm_epsilon = 1e-5;
  static constexpr std::int64_t hidden = 2880, vocabulary = 201'088, max_context = 131'072;
};

}  // namespace gpt_oss

struct GptOss_20B : gpt_oss::Family {
  static constexpr const char* name = "GptOss_20B";
  using Layers = Hybrid<24, Local, Global>;
};

struct GptOss_120B : gpt_oss::Family {
  static constexpr const char* name = "GptOss_120B";
  using Layers = Hybrid<36, Local, Global>;
};

}  // namespace kvring::models
