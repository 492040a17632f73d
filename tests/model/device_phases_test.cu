// The two phases of the fast decoder for GPUs: what must not change a bit, what must be refused,
// and what it allocates.
#include "device_tiny.cuh"

namespace kvring::test {
namespace {

using Model = TinyGemma3<>;
constexpr auto vocabulary = static_cast<std::size_t>(Model::vocabulary);

/// The same model with a slot for every position.
struct FullModel : Model {
  struct Local : Model::Local {
    using Storage = Full;
  };
  using Layers = Hybrid<7, Repeat<5, Local>, Model::Global, Tail<Local>>;
};

using RingPlan = Plan<Model, bf16, Chunk<64>, Rewind<16>>;
using FullPlan = Plan<FullModel, bf16, Chunk<512>, Rewind<16>>;
template <class M>
using StagedPlan = Plan<M, bf16, StagedChunk<256>, Rewind<16>>;
static_assert(StagedPlan<Model>::ring_slots<0>() == 64);
static_assert(RingPlan::ring_slots<0>() == 128);

struct Fixture {
  Stream stream;
  Cuda gpu = stream.backend();
  TinyOnGpu<Model, bf16> tiny{gpu, "gemma3"};
  TinyOnGpu<FullModel, bf16> full{gpu, "gemma3"};
  std::vector<std::int32_t> ids = seed_tokens(700, 128);
};

}  // namespace

TEST_CASE("device decoder: ring or full, any chunk, any start: the same bits") {
  if (no_gpu("device decoder: ring or full")) return;
  const Fixture f;
  CudaDecoder<FullPlan> whole(f.gpu, f.full.weights, 1024);
  const std::vector<float> expected = all_logits(whole, 0, f.ids);
  for (const std::int64_t chunk : {1, 7, 63, 64}) {
    CAPTURE(chunk);
    CudaDecoder<RingPlan> decoder(f.gpu, f.tiny.weights, 1024, 1, chunk);
    CHECK(same_bits(all_logits(decoder, 0, f.ids), expected));
  }
  for (const std::size_t cut : {1, 11, 12, 13, 128, 699}) {
    CAPTURE(cut);
    CudaDecoder<RingPlan> decoder(f.gpu, f.tiny.weights, 1024);
    std::vector<float> logits = all_logits(decoder, 0, std::span(f.ids).first(cut));
    const std::vector<float> rest = all_logits(decoder, 0, std::span(f.ids).subspan(cut));
    logits.insert(logits.end(), rest.begin(), rest.end());
    CHECK(same_bits(logits, expected));
  }
  // Only the last row, and many rows at once.
  CudaDecoder<RingPlan> decoder(f.gpu, f.tiny.weights, 1024);
  std::int64_t last = 0;
  prefill(decoder, 0, f.ids, Wanted::last, [&](Span span) { last = span.rows - 1; });
  std::vector<float> logits(vocabulary);
  decoder.logits(last, logits.data());
  CHECK(same_bits(logits, std::span(expected).last(vocabulary)));
  CHECK(refusal([&] { decoder.logits(last - 1, logits.data()); }).find("were asked for") !=
        std::string::npos);
}

TEST_CASE("device decoder: staged, with headroom or full: the same bits, and the same tokens") {
  if (no_gpu("device decoder: staged")) return;
  const Fixture f;
  CudaDecoder<FullPlan> whole(f.gpu, f.full.weights, 1024);
  const std::vector<float> expected = all_logits(whole, 0, f.ids);
  const std::vector<std::int32_t> text = whole.generate(3, 150);
  for (const std::int64_t chunk : {256, 255, 60, 53, 7}) {  // 53 rows and fewer fit in place
    CAPTURE(chunk);
    CudaDecoder<StagedPlan<Model>> decoder(f.gpu, f.tiny.weights, 1024, 1, chunk);
    CHECK(same_bits(all_logits(decoder, 0, f.ids), expected));
    CHECK(decoder.generate(3, 150) == text);
  }
  // Only the last row is wanted, or none; then a rewind as deep as the plan allows.
  CudaDecoder<StagedPlan<Model>> decoder(f.gpu, f.tiny.weights, 1024, 2);
  std::int64_t last = 0;
  prefill(decoder, 1, f.ids, Wanted::last, [&](Span span) { last = span.rows - 1; });
  std::vector<float> logits(vocabulary);
  decoder.logits(last, logits.data());
  CHECK(same_bits(logits, std::span(expected).last(vocabulary)));
  prefill(decoder, 0, std::span(f.ids).first(500), Wanted::none, [](Span) {});
  decoder.timeline(0).rewind_to({484});
  prefill(decoder, 0, std::span(f.ids).subspan(484), Wanted::last,
          [&](Span span) { last = span.rows - 1; });
  decoder.logits(last, logits.data());
  CHECK(same_bits(logits, std::span(expected).last(vocabulary)));
}

TEST_CASE("device decoder: staged rows that other layers read") {
  if (no_gpu("device decoder: staged rows that other layers read")) return;
  const Stream stream;
  const TinyOnGpu<TinyGemma4E, bf16> tiny(stream.backend(), "gemma4-e");
  const std::vector<std::int32_t> ids = seed_tokens(600, 128);
  CudaDecoder<Plan<TinyGemma4E, bf16, Chunk<256>, Rewind<16>>> headroom(stream.backend(),
                                                                        tiny.weights, 1024);
  const std::vector<float> expected = all_logits(headroom, 0, ids);
  CudaDecoder<StagedPlan<TinyGemma4E>> staged(stream.backend(), tiny.weights, 1024);
  CHECK(same_bits(all_logits(staged, 0, ids), expected));
  CHECK(staged.generate(3, 100) == headroom.generate(3, 100));
}

TEST_CASE("device decoder: logits of many rows at once have the bits of single ones") {
  if (no_gpu("device decoder: logits of many rows")) return;
  const Fixture f;
  CudaDecoder<RingPlan> decoder(f.gpu, f.tiny.weights, 64);
  const NewTokens tokens{0, std::span(f.ids).first(64)};
  decoder.forward({&tokens, 1}, Wanted::all);
  std::vector<float> single(64 * vocabulary);
  for (std::int64_t row = 0; row < 64; ++row) {
    decoder.logits(row, single.data() + static_cast<std::size_t>(row) * vocabulary);
  }
  for (const std::int64_t count : {1, 3, 17, 64}) {
    CAPTURE(count);
    Buffer<float, Cuda> block(f.gpu, count * Model::vocabulary);
    decoder.logits(64 - count, count, block.data());
    CHECK(same_bits(to_host(f.gpu, block),
                    std::span(single).last(static_cast<std::size_t>(count) * vocabulary)));
  }
}

TEST_CASE("device decoder: a sequence has the same bits beside others") {
  if (no_gpu("device decoder: beside others")) return;
  const Fixture f;
  const std::vector<std::size_t> lengths{1, 13, 30, 20};
  std::vector<std::vector<float>> alone;
  for (const std::size_t length : lengths) {
    CudaDecoder<RingPlan> decoder(f.gpu, f.tiny.weights, 256);
    alone.push_back(all_logits(decoder, 0, std::span(f.ids).subspan(length, length)));
  }
  CudaDecoder<RingPlan> batched(f.gpu, f.tiny.weights, 256, 4);
  for (const bool backwards : {false, true}) {
    CAPTURE(backwards);
    std::vector<NewTokens> batch;
    std::vector<std::size_t> order{0, 1, 2, 3};
    if (backwards) std::reverse(order.begin(), order.end());
    for (const std::size_t i : order) {
      batched.timeline(static_cast<std::int64_t>(i)).rewind_to({0});
      batch.push_back(
          {static_cast<std::int64_t>(i), std::span(f.ids).subspan(lengths[i], lengths[i])});
    }
    batched.forward(batch, Wanted::all);
    std::int64_t row = 0;
    for (const std::size_t i : order) {
      std::vector<float> logits(lengths[i] * vocabulary);
      for (std::size_t t = 0; t < lengths[i]; ++t) {
        batched.logits(row++, logits.data() + t * vocabulary);
      }
      CHECK(same_bits(logits, alone[i]));
    }
  }
}

TEST_CASE("device decoder: a replayed graph gives the ids and bits of single kernels, past wraps") {
  if (no_gpu("device decoder: a replayed graph")) return;
  const Fixture f;
  constexpr std::size_t steps = 3 * 128 + 70;
  // 3 tokens: the graph is captured before any window is full.
  for (const std::size_t prompt : {3, 130}) {
    CAPTURE(prompt);
    std::vector<float> logits[2];
    std::vector<std::int32_t> chosen[2];
    for (const bool graph : {false, true}) {
      CudaDecoder<RingPlan> decoder(f.gpu, f.tiny.weights, 1024);
      decoder.replays_graph = graph;
      prefill(decoder, 0, std::span(f.ids).first(prompt), Wanted::last, [](Span) {});
      std::vector<float>& all = logits[graph];
      all.resize(steps * vocabulary);
      decoder.step(f.ids[prompt]);
      for (std::size_t i = 0; i < steps; ++i) {
        if (i > 0) decoder.step();
        decoder.logits(0, all.data() + i * vocabulary);
        chosen[graph].push_back(decoder.chosen());
        const std::span<const float> row(all.data() + i * vocabulary, vocabulary);
        REQUIRE(chosen[graph].back() == std::max_element(row.begin(), row.end()) - row.begin());
      }
    }
    CHECK(chosen[0] == chosen[1]);
    CHECK(same_bits(logits[0], logits[1]));
    CHECK(std::isfinite(std::accumulate(logits[0].begin(), logits[0].end(), 0.0)));

    // The same with norms and sums in kernels of their own.
    CudaDecoder<RingPlan> apart(f.gpu, f.tiny.weights, 1024);
    apart.fuses = false;
    prefill(apart, 0, std::span(f.ids).first(prompt), Wanted::last, [](Span) {});
    apart.step(f.ids[prompt]);
    for (std::size_t i = 1; i < 200; ++i) apart.step();
    std::vector<float> row(vocabulary);
    apart.logits(0, row.data());
    CHECK(same_bits(row, std::span(logits[0]).subspan(199 * vocabulary, vocabulary)));

    // The same by generate(), ring or full; and with a prefill and a rewind between.
    CudaDecoder<RingPlan> ring(f.gpu, f.tiny.weights, 1024);
    prefill(ring, 0, std::span(f.ids).first(prompt), Wanted::last, [](Span) {});
    CHECK(ring.generate(f.ids[prompt], steps) == chosen[0]);
    CudaDecoder<FullPlan> full(f.gpu, f.full.weights, 1024);
    prefill(full, 0, std::span(f.ids).first(prompt), Wanted::last, [](Span) {});
    CHECK(full.generate(f.ids[prompt], steps) == chosen[0]);
    full.timeline(0).rewind_to({static_cast<std::int64_t>(prompt)});
    CHECK(full.generate(f.ids[prompt], steps) == chosen[0]);
    full.timeline(0).rewind_to({0});
    prefill(full, 0, std::span(f.ids).first(prompt), Wanted::none, [](Span) {});
    std::vector<std::int32_t> some;
    const std::int64_t taken = full.generate(f.ids[prompt], steps, [&](std::int32_t id) {
      some.push_back(id);
      return some.size() < 10;
    });
    CHECK(taken == 10);
    CHECK(full.timeline(0).length() == static_cast<std::int64_t>(prompt) + 10);
    CHECK(std::equal(some.begin(), some.end(), chosen[0].begin()));
  }
}

TEST_CASE("device decoder: sequences that step together have the bits of any neighbours") {
  if (no_gpu("device decoder: sequences that step together")) return;
  const Fixture f;
  std::vector<float> first;
  for (const std::size_t other : {1, 40}) {
    CudaDecoder<RingPlan> decoder(f.gpu, f.tiny.weights, 512, 3);
    for (std::int64_t s = 0; s < 3; ++s) {
      const std::size_t length = s == 1 ? 20 : other + static_cast<std::size_t>(s);
      prefill(decoder, s, std::span(f.ids).subspan(s == 1 ? 0 : 100, length), Wanted::none,
              [](Span) {});
    }
    std::vector<float> logits(150 * vocabulary);
    for (std::size_t i = 0; i < 150; ++i) {
      if (i == 0) {
        const std::vector<std::int32_t> ids{static_cast<std::int32_t>(other), 7, 9};
        decoder.step(ids);
      } else {
        decoder.step();
      }
      decoder.logits(1, logits.data() + i * vocabulary);
    }
    if (first.empty()) {
      first = logits;
    } else {
      CHECK(same_bits(logits, first));
    }
  }
}

TEST_CASE("device decoder: a step past the context is refused and changes nothing") {
  if (no_gpu("device decoder: a step past the context")) return;
  const Fixture f;
  CudaDecoder<RingPlan> decoder(f.gpu, f.tiny.weights, 10);
  CHECK(refusal([&] { decoder.step(); }).find("the first step takes one") != std::string::npos);
  CHECK(refusal([&] { decoder.step(128); }).find("outside the vocabulary") != std::string::npos);
  for (int i = 0; i < 10; ++i) decoder.step(f.ids[static_cast<std::size_t>(i)]);
  std::vector<float> before(vocabulary), after(vocabulary);
  decoder.logits(0, before.data());
  CHECK(refusal([&] { decoder.step(1); }).find("the context holds 10") != std::string::npos);
  decoder.logits(0, after.data());
  CHECK(same_bits(before, after));
  CHECK(decoder.timeline(0).length() == 10);
}

TEST_CASE("device decoder: out of memory names the longest context, and the process goes on") {
  if (no_gpu("device decoder: out of memory")) return;
  const Fixture f;
  using LongPlan = Plan<Model, bf16, Chunk<64>>;
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total));
  const std::int64_t context =
      2 * static_cast<std::int64_t>(total) / LongPlan::row_bytes(5);  // one Global layer
  const std::string words =
      refusal([&] { CudaDecoder<LongPlan> decoder(f.gpu, f.tiny.weights, context); });
  MESSAGE(words);
  CHECK(words.find("out of memory: a context of " + std::to_string(context)) != std::string::npos);
  const std::string mark = "the longest context that fits is ";
  REQUIRE(words.find(mark) != std::string::npos);
  const std::int64_t fits = std::stoll(words.substr(words.find(mark) + mark.size()));
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(refusal([&] { CudaDecoder<LongPlan> decoder(f.gpu, f.tiny.weights, fits); }) == "");
  CudaDecoder<LongPlan> decoder(f.gpu, f.tiny.weights, 160);
  std::vector<float> logits = all_logits(decoder, 0, f.tiny.ids);
  CHECK(compare(logits, f.tiny.logits).worst < 10);
}

TEST_CASE("device decoder: scratch and caches are what the plan says") {
  if (no_gpu("device decoder: scratch and caches")) return;
  const Fixture f;
  check_cuda(cudaStreamSynchronize(f.gpu.stream));
  const auto used = [&] {
    check_cuda(cudaStreamSynchronize(f.gpu.stream));
    cudaMemPool_t pool;
    check_cuda(cudaDeviceGetDefaultMemPool(&pool, 0));
    std::uint64_t bytes = 0;
    check_cuda(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &bytes));
    return static_cast<std::int64_t>(bytes);
  };
  const std::int64_t before = used();
  const auto check = [&]<class P>(std::type_identity<P>) {
    CudaDecoder<P> decoder(f.gpu, f.tiny.weights, 4096, 2);
    const std::int64_t wanted = P::cache_bytes(4096, 2) + CudaDecoder<P>::scratch_bytes(4096, 2);
    const std::int64_t taken = used() - before;
    CHECK(taken >= wanted);
    CHECK(taken <= wanted + (P::layers + 4) * (std::int64_t{2} << 20));
    all_logits(decoder, 0, f.ids);
    decoder.step(std::vector<std::int32_t>{1, 2});
    decoder.step();
    decoder.step();
    CHECK(used() - before == taken);
  };
  check(std::type_identity<RingPlan>{});
  CHECK(used() == before);
  check(std::type_identity<StagedPlan<Model>>{});
  CHECK(used() == before);
}

}  // namespace kvring::test
