// The fast decoder for GPUs on tiny models: against transformers in float64, and bit against bit
// where nothing may change one.
#include "device_tiny.cuh"

namespace kvring::test {
namespace {

/// Unit roundoff.
template <class T>
inline constexpr double unit = std::is_same_v<T, bf16> ? 0x1p-8 : 0x1p-11;

// Of what is computed here, T rounds in every layer: the normed row, the projection, q, k and v
// again, the probabilities, what was attended, the next normed row, gate and up, and their product:
// eight roundings in a row, each with a relative error that is uniform in +-unit, u / sqrt(3) rms.
// Errors of `layers` layers are independent and add as squares: a logit's is near
// sqrt(8 * layers / 3) * u of the logits' own rms. Gemma 4, whose scores are not scaled, comes to
// two thirds of that, the others to a fifth. Of 20,000 normally distributed errors the largest is 4
// times the rms, but rows differ: Gemma 4's worst row reaches 12 times the rms of all.
template <class Model, class T>
double rms_bound(double scale) {
  return std::sqrt(8.0 * Model::Layers::layers / 3) * unit<T> * scale;
}

// A ring of 128 slots and 160 positions: it wraps.
template <class Model, class T>
using RingPlan = Plan<Model, T, Chunk<64>, Rewind<16>>;
template <class Model, class T>
using WidePlan = Plan<Model, T, Chunk<512>, Rewind<0>>;

template <class Plan, class T = typename Plan::Element>
std::vector<float> logits_of(const Cuda& gpu, const CudaWeights<typename Plan::Model, T>& weights,
                             std::span<const std::int32_t> ids, std::int64_t chunk = Plan::chunk) {
  CudaDecoder<Plan> decoder(gpu, weights, static_cast<std::int64_t>(ids.size()), 1, chunk);
  return all_logits(decoder, 0, ids);
}

template <class Model, class T>
void check_golden(const char* folder) {
  const Stream stream;
  const Cuda gpu = stream.backend();
  const TinyOnGpu<Model, T> tiny(gpu, folder);
  const std::vector<float> whole = logits_of<WidePlan<Model, T>>(gpu, tiny.weights, tiny.ids);
  const auto check = [&](const char* what, std::span<const float> logits,
                         std::span<const float> expected) {
    const Error2 error = compare(logits, expected);
    const double bound = rms_bound<Model, T>(error.scale);
    MESSAGE(std::string(Model::name), ", ", std::string(element_name<T>), ", ", std::string(what),
            ": rms ", error.rms, " of ", error.scale, " (bound ", bound, "), largest ",
            error.worst);
    CHECK(error.rms <= bound);
    CHECK(error.worst <= 15 * bound);
  };
  check("prefill", whole, tiny.logits);
  for (const std::int64_t chunk : {1, 7, 64}) {
    CAPTURE(chunk);
    CHECK(same_bits(logits_of<RingPlan<Model, T>>(gpu, tiny.weights, tiny.ids, chunk), whole));
  }

  // The decode phase, by replays of its graph: the same prompt from its 5th token on.
  constexpr std::size_t prompt = 5;
  constexpr auto vocabulary = static_cast<std::size_t>(Model::vocabulary);
  CudaDecoder<RingPlan<Model, T>> decoder(gpu, tiny.weights, std::ssize(tiny.ids));
  prefill(decoder, 0, std::span(tiny.ids).first(prompt), Wanted::last, [](Span) {});
  std::vector<float> logits((tiny.ids.size() - prompt) * vocabulary);
  for (std::size_t i = prompt; i < tiny.ids.size(); ++i) {
    decoder.step(tiny.ids[i]);
    decoder.logits(0, logits.data() + (i - prompt) * vocabulary);
  }
  check("decode", logits, std::span(tiny.logits).subspan(prompt * vocabulary));
}

}  // namespace

TEST_CASE("device decoder: tiny Gemma 3 equals its oracle") {
  if (no_gpu("device decoder: tiny Gemma 3")) return;
  check_golden<TinyGemma3<>, bf16>("gemma3");
  check_golden<TinyGemma3<>, f16>("gemma3");
}
TEST_CASE("device decoder: tiny Gemma 4 E equals its oracle") {
  if (no_gpu("device decoder: tiny Gemma 4 E")) return;
  check_golden<TinyGemma4E, bf16>("gemma4-e");
  check_golden<TinyGemma4E, f16>("gemma4-e");
}
TEST_CASE("device decoder: tiny Gemma 4 with V from K equals its oracle") {
  if (no_gpu("device decoder: tiny Gemma 4 with V from K")) return;
  check_golden<TinyGemma4KeqV, bf16>("gemma4-k-eq-v");
  check_golden<TinyGemma4KeqV, f16>("gemma4-k-eq-v");
}
TEST_CASE("device decoder: tiny Qwen3 equals its oracle") {
  if (no_gpu("device decoder: tiny Qwen3")) return;
  check_golden<TinyQwen3, bf16>("qwen3");
  check_golden<TinyQwen3, f16>("qwen3");
}
TEST_CASE("device decoder: tiny Mistral equals its oracle") {
  if (no_gpu("device decoder: tiny Mistral")) return;
  check_golden<TinyMistral, bf16>("mistral");
  check_golden<TinyMistral, f16>("mistral");
}

}  // namespace kvring::test
