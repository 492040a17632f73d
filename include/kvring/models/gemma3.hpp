// Gemma 3, text. Numbers: config.json of google/gemma-3-{270m,1b-pt,4b-pt,12b-pt,27b-pt}.
#pragma once

#include <cstdint>

#include "kvring/block.hpp"
#include "kvring/hybrid.hpp"
#include "kvring/rope.hpp"

namespace kvring::models {

/// What Gemma 3's layer kinds add to Layer. `QueryScalar`: attention scores are multiplied by its
/// inverse square root.
namespace gemma3 {

template <std::int64_t Window, Heads Shape, std::int64_t QueryScalar = Shape.dim>
struct Local : Layer<Swa<Window>, Shape> {
  static constexpr const char* name = "local";
  static constexpr Rope rope{.theta = 10'000, .rotated = Shape.dim};
  static constexpr double query_scalar = QueryScalar;
};

template <Heads Shape, std::int64_t Scaling = 1, std::int64_t QueryScalar = Shape.dim>
struct Global : Layer<Dense, Shape> {
  static constexpr const char* name = "global";
  static constexpr Rope rope{.theta = 1'000'000, .scaling = Scaling, .rotated = Shape.dim};
  static constexpr double query_scalar = QueryScalar;
};

/// Common to the family.
struct Family {
  static constexpr const char* architecture = "gemma3";
  static constexpr const char* model_type = "gemma3_text";  // in config.json
  static constexpr const char* chat = "gemma";              // name of a ChatTemplate
  static constexpr Block block{.activation = Activation::gelu_tanh,
                               .qk_norm = true,
                               .sandwich_norms = true,
                               .scaled_embedding = true};
  static constexpr bool norms_store_minus_one = true;  // in transformers' files
  static constexpr double norm_epsilon = 1e-6;
  static constexpr std::int64_t vocabulary = 262'144;
};

}  // namespace gemma3

struct Gemma3_270M : gemma3::Family {
  static constexpr const char* name = "Gemma3_270M";
  static constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
  using Local = gemma3::Local<512, heads>;
  using Global = gemma3::Global<heads>;
  using Layers = Hybrid<18, Repeat<5, Local>, Global>;
  static constexpr std::int64_t hidden = 640, ffn = 2048, max_context = 32'768;
};

struct Gemma3_1B : gemma3::Family {
  static constexpr const char* name = "Gemma3_1B";
  static constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
  using Local = gemma3::Local<512, heads>;
  using Global = gemma3::Global<heads>;
  using Layers = Hybrid<26, Repeat<5, Local>, Global, Tail<Repeat<2, Local>>>;
  static constexpr std::int64_t hidden = 1152, ffn = 6912, max_context = 32'768;
};

struct Gemma3_4B : gemma3::Family {
  static constexpr const char* name = "Gemma3_4B";
  static constexpr Heads heads{.q = 8, .kv = 4, .dim = 256};
  using Local = gemma3::Local<1024, heads>;
  using Global = gemma3::Global<heads, 8>;
  using Layers = Hybrid<34, Repeat<5, Local>, Global, Tail<Repeat<4, Local>>>;
  static constexpr std::int64_t hidden = 2560, ffn = 10'240, max_context = 131'072;
  static constexpr std::int64_t vocabulary = 262'208;
};

struct Gemma3_12B : gemma3::Family {
  static constexpr const char* name = "Gemma3_12B";
  static constexpr Heads heads{.q = 16, .kv = 8, .dim = 256};
  using Local = gemma3::Local<1024, heads>;
  using Global = gemma3::Global<heads, 8>;
  using Layers = Hybrid<48, Repeat<5, Local>, Global>;
  static constexpr std::int64_t hidden = 3840, ffn = 15'360, max_context = 131'072;
  static constexpr std::int64_t vocabulary = 262'208;
};

struct Gemma3_27B : gemma3::Family {
  static constexpr const char* name = "Gemma3_27B";
  static constexpr Heads heads{.q = 32, .kv = 16, .dim = 128};
  using Local = gemma3::Local<1024, heads, 168>;  // query_pre_attn_scalar = hidden / q heads
  using Global = gemma3::Global<heads, 8, 168>;
  using Layers = Hybrid<62, Repeat<5, Local>, Global, Tail<Repeat<2, Local>>>;
  static constexpr std::int64_t hidden = 5376, ffn = 21'504, max_context = 131'072;
  static constexpr std::int64_t vocabulary = 262'208;
};

}  // namespace kvring::models
