// The published models that kvring has as types.
#pragma once

#include <string>
#include <type_traits>

#include "kvring/error.hpp"
#include "kvring/hybrid.hpp"
#include "kvring/models/dense.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/models/gemma4.hpp"
#include "kvring/models/gpt_oss.hpp"

namespace kvring::programs {

using PublishedModels =
    TypeList<models::Gemma3_270M, models::Gemma3_1B, models::Gemma3_4B, models::Gemma3_12B,
             models::Gemma3_27B, models::Gemma4_E2B, models::Gemma4_E4B, models::Gemma4_12B,
             models::Gemma4_31B, models::Llama3_1_8B, models::Llama3_2_1B, models::Llama3_2_3B,
             models::Llama3_3_70B, models::SmolLM2_135M, models::SmolLM2_360M, models::SmolLM2_1_7B,
             models::Qwen3_0_6B, models::Qwen3_1_7B, models::Qwen3_4B, models::Qwen3_8B,
             models::Qwen3_14B, models::Qwen3_32B, models::Mistral_7B_v0_1, models::GptOss_20B,
             models::GptOss_120B>;

/// Models that no decoder can be made of yet say why.
template <class Model>
concept PlanOnly = requires {
  Model::plan_only;
};

template <class F, class... T>
void for_each_type(TypeList<T...>, F f) {
  (f(std::type_identity<T>{}), ...);
}

/// The names of the types in a list: "A, B, C".
template <class... T, class NameOf>
std::string type_names(TypeList<T...>, NameOf name_of) {
  std::string out;
  ((out += concat(out.empty() ? "" : ", ", name_of(std::type_identity<T>{}))), ...);
  return out;
}

}  // namespace kvring::programs
