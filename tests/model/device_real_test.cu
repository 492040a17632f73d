// Gemma 3 270M on a GPU in bf16 and f16, real weights and real text, against transformers in
// float64 at 5,400 positions; and the bits of every logit for every way to cut the text.
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/device.cuh"
#include "kvring/kernels/attend_cuda.cuh"
#include "kvring/model/decoder.hpp"
#include "kvring/model/decoder_cuda.cuh"
#include "kvring/model/linear_cuda.cuh"
#include "kvring/model/load_gguf.hpp"
#include "kvring/model/prefill.hpp"
#include "kvring/models/gemma3.hpp"
#include "oracle.hpp"

namespace kvring::test {
namespace {

using Model = models::Gemma3_270M;
constexpr std::int64_t vocabulary = Model::vocabulary, context = 6144;

/// The same model with a slot for every position.
struct FullModel : Model {
  struct Local : Model::Local {
    using Storage = Full;
  };
  using Layers = Hybrid<18, Repeat<5, Local>, Model::Global>;
};

template <class T>
using RingPlan = Plan<Model, T, Chunk<4096>, Rewind<64>>;
using WholePlan = Plan<FullModel, bf16, Chunk<6144>, Rewind<64>>;

template <class M, class T>
CudaWeights<M, T> load(const Cuda& gpu) {
  const GgufFile file(std::getenv("KVRING_GEMMA3"));
  GgufSource<M> source(file);
  return load_cuda_weights<M, T>(gpu, source);
}

/// True, and said, if there is no GPU or no model.
bool cannot_run(const char* name) {
  if (no_gpu(name)) return true;
  if (std::getenv("KVRING_GEMMA3") != nullptr) return false;
  skip(name, "KVRING_GEMMA3 is unset");
  return true;
}

/// What is kept of a row of logits.
struct RowFigures {
  std::uint64_t hash;  // of all bits
  double logsumexp;
  std::int32_t best;
  float picked[9];
};

/// A block a row.
struct FiguresKernel {
  struct Params {
    const float* logits;      // [rows, vocabulary]
    const std::int32_t* ids;  // [rows, 9]
    RowFigures* figures;      // [rows]
  };
  static constexpr int threads = 256, blocks_per_sm = 4;
  struct SharedStorage {
    float highest[threads];
    std::int32_t best[threads];
    double sums[threads];
    unsigned long long hashes[threads];
  };

  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    const float* row = params.logits + std::int64_t{blockIdx.x} * vocabulary;
    const int t = static_cast<int>(threadIdx.x);
    float highest = -INFINITY;
    std::int32_t best = 0;
    unsigned long long hash = 0;
    for (std::int32_t i = t; i < vocabulary; i += threads) {
      if (row[i] > highest) {
        highest = row[i];
        best = i;
      }
      hash += random_bits(__float_as_uint(row[i]), static_cast<std::uint64_t>(i));
    }
    shared.highest[t] = highest;
    shared.best[t] = best;
    shared.hashes[t] = hash;
    __syncthreads();
    for (int i = 0; i < threads; ++i) {
      const bool better =
          shared.highest[i] > highest || (shared.highest[i] == highest && shared.best[i] < best);
      if (better) {
        highest = shared.highest[i];
        best = shared.best[i];
      }
    }
    double sum = 0;
    for (std::int32_t i = t; i < vocabulary; i += threads) sum += expf(row[i] - highest);
    shared.sums[t] = sum;
    __syncthreads();
    if (t != 0) return;
    RowFigures& figures = params.figures[blockIdx.x];
    sum = 0;
    hash = 0;
    for (int i = 0; i < threads; ++i) {
      sum += shared.sums[i];
      hash += shared.hashes[i];
    }
    figures.hash = hash;
    figures.logsumexp = highest + log(sum);
    figures.best = best;
    for (int k = 0; k < 9; ++k) figures.picked[k] = row[params.ids[blockIdx.x * 9 + k]];
  }
};

/// Figures of rows of the last forward, those of positions `position` on of the oracle's text.
class Figures {
 public:
  Figures(const Cuda& gpu, const Oracle& oracle)
      : gpu_(gpu),
        count_(std::ssize(oracle.ids)),
        logits_(gpu, block * vocabulary),
        ids_(gpu, count_ * 9),
        figures_(gpu, block),
        all(static_cast<std::size_t>(count_)) {
    std::vector<std::int32_t> ids;
    for (std::size_t p = 0; p < oracle.ids.size(); ++p) {
      for (std::size_t k = 0; k < 8; ++k) {
        ids.push_back(static_cast<std::int32_t>(oracle.top_ids[p * 8 + k]));
      }
      ids.push_back(p + 1 < oracle.ids.size() ? oracle.ids[p + 1] : 0);
    }
    ids_.from_host(ids.data(), ids_.size());
  }

  template <class DecoderType>
  void take(DecoderType& decoder, std::int64_t row, std::int64_t position, std::int64_t rows) {
    for (std::int64_t done = 0; done < rows; done += block) {
      const std::int64_t count = smaller(block, rows - done);
      decoder.logits(row + done, count, logits_.data());
      keep(position + done, count);
    }
  }
  /// Of host logits.
  void take(const float* logits, std::int64_t position) {
    logits_.from_host(logits, vocabulary);
    keep(position, 1);
  }

 private:
  static constexpr std::int64_t block = 256;
  void keep(std::int64_t position, std::int64_t count) {
    launch_kernel<FiguresKernel>(
        gpu_, {.grid = static_cast<unsigned>(count)},
        {.logits = logits_.data(), .ids = ids_.data() + position * 9, .figures = figures_.data()});
    gpu_.to_host(all.data() + position, figures_.data(),
                 static_cast<std::size_t>(count) * sizeof(RowFigures));
  }

  Cuda gpu_;
  std::int64_t count_;
  Buffer<float, Cuda> logits_;
  Buffer<std::int32_t, Cuda> ids_;
  Buffer<RowFigures, Cuda> figures_;

 public:
  std::vector<RowFigures> all;  // [positions]
};

/// Distance of rows begin ... end - 1 from the oracle.
Distance distance_of(const Figures& figures, const Oracle& oracle, std::size_t begin,
                     std::size_t end) {
  Distance d;
  std::size_t scored = 0;
  for (std::size_t p = begin; p < end; ++p) {
    const RowFigures& row = figures.all[p];
    const double off = std::abs(row.logsumexp - oracle.logsumexp[p]);
    d.logsumexp = Distance::larger_of(d.logsumexp, off);
    d.logsumexp_rms += off * off;
    for (std::size_t k = 0; k < 8; ++k) {
      const double difference = std::abs(row.picked[k] - oracle.top_logits[p * 8 + k]);
      d.logit = Distance::larger_of(d.logit, difference);
      d.logit_rms += difference * difference;
    }
    if (p + 1 < oracle.ids.size()) {
      d.mean_nll += row.logsumexp - row.picked[8];
      ++scored;
    }
    if (row.best != oracle.top_ids[p * 8]) {
      ++d.top1_differs;
      d.largest_margin = std::max(d.largest_margin, oracle.margin(p));
    }
  }
  const auto n = static_cast<double>(end - begin);
  d.logsumexp_rms = std::sqrt(d.logsumexp_rms / n);
  d.logit_rms = std::sqrt(d.logit_rms / (8 * n));
  d.mean_nll /= static_cast<double>(scored);
  return d;
}

std::string text(const Distance& d) {
  return concat("logsumexp differs by ", d.logsumexp, " at most, ", d.logsumexp_rms,
                " rms; top-8 logits by ", d.logit, " at most, ", d.logit_rms, " rms; mean NLL ",
                d.mean_nll, "; top-1 differs at ", d.top1_differs, " positions, margins up to ",
                d.largest_margin);
}

template <class T>
void check_distance(double factor) {
  const Stream stream;
  const Cuda gpu = stream.backend();
  const Oracle oracle("gemma3-270m-gpl3");
  const auto weights = load<Model, T>(gpu);
  CudaDecoder<RingPlan<T>> decoder(gpu, weights, context);
  MESSAGE(decoder.gemm_report().text());
  Figures figures(gpu, oracle);
  prefill(decoder, 0, oracle.ids, Wanted::all,
          [&](Span span) { figures.take(decoder, 0, span.start.value, span.rows); });
  const Distance d = distance_of(figures, oracle, 0, oracle.ids.size());
  MESSAGE(std::string(element_name<T>), ", prefill: ", text(d), "; oracle's mean NLL ",
          oracle.mean_nll());
  CHECK(std::abs(d.mean_nll - oracle.mean_nll()) <= 3e-3 * factor);
  CHECK(d.logit_rms <= 0.08 * factor);
  CHECK(d.logit <= 0.8 * factor);
  CHECK(d.largest_margin <= 0.5 * factor);

  // The decode phase, by replays, on the last 300 tokens.
  const std::size_t begin = oracle.ids.size() - 300;
  CudaDecoder<RingPlan<T>> steps(gpu, weights, context);
  prefill(steps, 0, std::span(oracle.ids).first(begin), Wanted::none, [](Span) {});
  std::vector<float> logits(static_cast<std::size_t>(vocabulary));
  for (std::size_t p = begin; p < oracle.ids.size(); ++p) {
    steps.step(oracle.ids[p]);
    steps.logits(0, logits.data());
    figures.take(logits.data(), static_cast<std::int64_t>(p));
  }
  const Distance decoded = distance_of(figures, oracle, begin, oracle.ids.size());
  MESSAGE(std::string(element_name<T>), ", decode: ", text(decoded));
  CHECK(decoded.logit_rms <= 0.08 * factor);
  CHECK(decoded.logit <= 0.8 * factor);
  CHECK(decoded.largest_margin <= 0.5 * factor);
}

}  // namespace

TEST_CASE("device: Gemma 3 270M in bf16, every position, prefilled and decoded") {
  if (cannot_run("device: Gemma 3 270M in bf16")) return;
  check_distance<bf16>(1);
}

TEST_CASE("device: Gemma 3 270M in f16, every position, prefilled and decoded") {
  if (cannot_run("device: Gemma 3 270M in f16")) return;
  check_distance<f16>(1);
}

TEST_CASE("device: Gemma 3 270M in f32 by the generic decoder, at the host's tolerances") {
  if (cannot_run("device: Gemma 3 270M in f32")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const Oracle oracle("gemma3-270m-gpl3");
  const GgufFile file(std::getenv("KVRING_GEMMA3"));
  const auto weights = load_gguf<Model>(gpu, file);
  Decoder<RingPlan<f32>, Cuda> decoder(gpu, weights, context);
  Figures figures(gpu, oracle);
  prefill(decoder, 0, oracle.ids, Wanted::all,
          [&](Span span) { figures.take(decoder, 0, span.start.value, span.rows); });
  const Distance d = distance_of(figures, oracle, 0, oracle.ids.size());
  MESSAGE("f32: ", text(d), "; oracle's mean NLL ", oracle.mean_nll());
  CHECK(d.logsumexp <= 5e-4);
  CHECK(d.logit <= 5e-4);
  CHECK(std::abs(d.mean_nll - oracle.mean_nll()) <= 1e-5);
  CHECK(d.largest_margin <= 1e-3);
}

TEST_CASE("device: Gemma 3 270M, greedy tokens after every cut") {
  if (cannot_run("device: Gemma 3 270M, greedy tokens")) return;
  const Stream stream;
  const Oracle oracle("gemma3-270m-gpl3");
  const auto weights = load<Model, bf16>(stream.backend());
  const std::vector<std::int64_t> cuts = oracle.file.read_i64("greedy_cuts");
  const std::vector<std::int64_t> expected = oracle.file.read_i64("greedy_ids");  // [cuts, 32]
  const std::vector<float> margins = oracle.file.read_f32("greedy_margin");       // [cuts, 32]
  CudaDecoder<RingPlan<bf16>> decoder(stream.backend(), weights, context);
  std::vector<float> logits(static_cast<std::size_t>(vocabulary));
  for (std::size_t cut = 0; cut < cuts.size(); ++cut) {
    CAPTURE(cuts[cut]);
    const auto begin = static_cast<std::size_t>(decoder.timeline(0).length());
    std::int64_t row = 0;
    prefill(decoder, 0,
            std::span(oracle.ids).subspan(begin, static_cast<std::size_t>(cuts[cut]) - begin),
            Wanted::last, [&](Span span) { row = span.rows - 1; });
    decoder.logits(row, logits.data());
    std::vector<std::int32_t> ids{
        static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin())};
    for (const std::int32_t id : decoder.generate(ids[0], 31)) ids.push_back(id);
    std::size_t equal = 0, wanted = 0;
    while (equal < 32 && ids[equal] == expected[cut * 32 + equal]) ++equal;
    while (wanted < 32 && margins[cut * 32 + wanted] > 0.3f) ++wanted;
    MESSAGE("after ", cuts[cut], " tokens: ", equal,
            " greedy tokens equal, margins exceed 0.3 for ", wanted);
    CHECK(equal >= wanted);
    decoder.timeline(0).rewind_to({cuts[cut]});
  }
}

TEST_CASE("device: Gemma 3 270M, the chunk never changes a bit of 5,400 x 262,144 logits") {
  if (cannot_run("device: Gemma 3 270M, the chunk never changes a bit")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const Oracle oracle("gemma3-270m-gpl3");
  const auto weights = load<Model, bf16>(gpu);
  const auto full_weights = load<FullModel, bf16>(gpu);

  Figures whole(gpu, oracle);
  {
    CudaDecoder<WholePlan> decoder(gpu, full_weights, context);
    prefill(decoder, 0, oracle.ids, Wanted::all,
            [&](Span span) { whole.take(decoder, 0, span.start.value, span.rows); });
  }
  const auto different = [&](const Figures& other, std::size_t count) {
    std::int64_t rows = 0;
    for (std::size_t p = 0; p < count; ++p) rows += other.all[p].hash != whole.all[p].hash;
    return rows;
  };
  for (const std::int64_t chunk : {4096, 1000, 512, 7, 1}) {
    CAPTURE(chunk);
    Figures figures(gpu, oracle);
    CudaDecoder<RingPlan<bf16>> decoder(gpu, weights, context, 1, chunk);
    prefill(decoder, 0, oracle.ids, Wanted::all,
            [&](Span span) { figures.take(decoder, 0, span.start.value, span.rows); });
    const std::int64_t rows = different(figures, oracle.ids.size());
    MESSAGE("chunk ", chunk, ", ring of ", RingPlan<bf16>::ring_slots<0>(), ": ", rows,
            " rows differ");
    CHECK(rows == 0);
  }
  // Beside two others, each a chunk of its own length.
  Figures figures(gpu, oracle);
  CudaDecoder<RingPlan<bf16>> decoder(gpu, weights, context, 3);
  const auto ids = std::span(oracle.ids);
  for (std::size_t begin = 0; begin < ids.size(); begin += 900) {
    const std::size_t count = std::min<std::size_t>(900, ids.size() - begin);
    const std::vector<NewTokens> batch{{2, ids.subspan(begin / 2, count / 3)},
                                       {0, ids.subspan(begin, count)},
                                       {1, ids.subspan(begin / 3, 1)}};
    decoder.forward(batch, Wanted::all);
    figures.take(decoder, static_cast<std::int64_t>(count / 3), static_cast<std::int64_t>(begin),
                 static_cast<std::int64_t>(count));
  }
  const std::int64_t rows = different(figures, ids.size());
  MESSAGE("beside two other sequences: ", rows, " rows differ");
  CHECK(rows == 0);
}

}  // namespace kvring::test
