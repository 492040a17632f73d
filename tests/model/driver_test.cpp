// The prefill driver and the decoder on the tiny Gemma 3: what must not change a bit, what must be
// refused, and what it allocates.
#include <doctest/doctest.h>

#include <cstring>

#include "counting_host.hpp"
#include "refusal.hpp"
#include "tiny_gemma3.hpp"

namespace kvring::test {
namespace {

// The seed's own ring: a window of 512 and chunks of 4,096 make 4,608 slots.
using Model = TinyGemma3<512>;
using SeedPlan = Plan<Model, f32, Chunk<4096>, Rewind<64>>;
static_assert(SeedPlan::ring_slots<0>() == 4608);
constexpr std::size_t vocabulary = static_cast<std::size_t>(Model::vocabulary);

using TinyDecoder = Decoder<SeedPlan, Host>;

struct Fixture {
  TinyFile file;
  Weights<Model, Host> weights = load_tiny<Model>(file);

  std::vector<float> logits(std::span<const std::int32_t> ids, std::int64_t context,
                            std::int64_t chunk) const {
    TinyDecoder decoder(Host{}, weights, context, 1, chunk);
    return all_logits(decoder, 0, ids);
  }
};

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

}  // namespace

TEST_CASE("the seed's lengths: chunked and per token give the same bits at every position") {
  const Fixture fixture;
#if defined(__SANITIZE_ADDRESS__)
  constexpr std::int64_t longest = 5040;  // wraps the ring; the others take minutes here
#else
  constexpr std::int64_t longest = 8292;
#endif
  const std::vector<std::int32_t> ids = seed_tokens(longest, 128);
  const std::vector<float> per_token = fixture.logits(ids, 9216, 1);
  for (const auto& [length, context] : std::vector<std::pair<std::size_t, std::int64_t>>{
           {700, 6144}, {4296, 6144}, {5040, 6144}, {8192, 9216}, {8292, 9216}}) {
    if (length > ids.size()) continue;
    CAPTURE(length);
    const std::vector<float> chunked =
        fixture.logits(std::span(ids).first(length), context, SeedPlan::chunk);
    CHECK(same_bits(chunked, std::span(per_token).first(length * vocabulary)));
  }
}

TEST_CASE("any start and any chunk: a prompt in two calls, a last chunk of 1, of fewer than W") {
  const Fixture fixture;
  const std::vector<std::int32_t> ids = seed_tokens(1400, 128);
  const std::vector<float> whole = fixture.logits(ids, 2048, SeedPlan::chunk);
  for (const std::int64_t chunk : {1399, 700, 512, 511, 233, 7}) {
    CAPTURE(chunk);
    CHECK(same_bits(fixture.logits(ids, 2048, chunk), whole));
  }
  for (const std::size_t cut : {1, 5, 511, 512, 513, 1399}) {
    CAPTURE(cut);
    TinyDecoder decoder(Host{}, fixture.weights, 2048);
    std::vector<float> logits = all_logits(decoder, 0, std::span(ids).first(cut));
    const std::vector<float> rest = all_logits(decoder, 0, std::span(ids).subspan(cut));
    logits.insert(logits.end(), rest.begin(), rest.end());
    CHECK(same_bits(logits, whole));
  }
}

TEST_CASE("only the last row: the same logits as when all are asked for") {
  const Fixture fixture;
  const std::vector<std::int32_t> ids = seed_tokens(900, 128);
  const std::vector<float> whole = fixture.logits(ids, 1024, SeedPlan::chunk);
  for (const std::int64_t chunk : {4096, 400, 300, 1}) {
    CAPTURE(chunk);
    TinyDecoder decoder(Host{}, fixture.weights, 1024, 1, chunk);
    std::int64_t last_row = 0;
    const PrefillReport report =
        prefill(decoder, 0, ids, Wanted::last, [&](Span span) { last_row = span.rows - 1; });
    CHECK(report.chunks == ceil_div(900, chunk));
    std::vector<float> logits(vocabulary);
    decoder.logits(last_row, logits.data());
    CHECK(same_bits(logits, std::span(whole).last(vocabulary)));
    if (last_row > 0) {
      CHECK(contains(refusal([&] { decoder.logits(0, logits.data()); }), "rows 0 to 0"));
    }
  }
}

TEST_CASE("logits of many rows at once do not depend on how many") {
  const Fixture fixture;
  const std::vector<std::int32_t> ids = seed_tokens(64, 128);
  TinyDecoder decoder(Host{}, fixture.weights, 64);
  const NewTokens tokens{0, ids};
  decoder.forward({&tokens, 1}, Wanted::all);
  std::vector<float> whole(64 * vocabulary);
  decoder.logits(0, 64, whole.data());
  for (const std::int64_t count : {1, 2, 3, 5, 63}) {
    CAPTURE(count);
    for (const std::int64_t row : {std::int64_t{0}, 64 - count}) {
      std::vector<float> part(static_cast<std::size_t>(round_up(count, 4)) * vocabulary);
      decoder.logits(row, count, part.data());
      const auto rows = static_cast<std::size_t>(count) * vocabulary;
      CHECK(same_bits(std::span(part).first(rows),
                      std::span(whole).subspan(static_cast<std::size_t>(row) * vocabulary, rows)));
    }
  }
}

TEST_CASE("the report says which path was taken and why") {
  const Fixture fixture;
  const std::vector<std::int32_t> ids = seed_tokens(100, 128);
  const auto path = [&](std::int64_t chunk) {
    TinyDecoder decoder(Host{}, fixture.weights, 128, 1, chunk);
    return prefill(decoder, 0, ids, Wanted::last, [](Span) {}).path;
  };
  CHECK(path(4096) == "one chunk: 100 tokens fit a chunk of at most 4096 rows");
  CHECK(path(64) == "chunked: 100 tokens in 2 chunks of at most 64 rows");
  CHECK(path(1) == "per-token: 100 tokens, since the chunk is 1 row");
}

TEST_CASE("a sequence has the same bits whatever its neighbours in the batch are") {
  const Fixture fixture;
  const std::vector<std::int64_t> lengths{1, 511, 512, 513, 900};
  TinyDecoder batched(Host{}, fixture.weights, 1024, 5);
  std::vector<std::vector<std::int32_t>> prompts;
  std::vector<NewTokens> batch;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    prompts.push_back(seed_tokens(lengths[i] + 3, 128));
    std::rotate(prompts[i].begin(),
                prompts[i].begin() + static_cast<std::ptrdiff_t>(i) % lengths[i], prompts[i].end());
  }
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    batch.push_back({static_cast<std::int64_t>(i),
                     std::span(prompts[i]).first(static_cast<std::size_t>(lengths[i]))});
  }
  batched.forward(batch, Wanted::last);
  std::vector<std::vector<float>> alone;
  std::int64_t row = -1;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    CAPTURE(lengths[i]);
    alone.push_back(fixture.logits(prompts[i], 1024, SeedPlan::chunk));
    row += lengths[i];
    std::vector<float> logits(vocabulary);
    batched.logits(row, logits.data());
    CHECK(
        same_bits(logits, std::span(alone[i]).subspan(
                              static_cast<std::size_t>(lengths[i] - 1) * vocabulary, vocabulary)));
  }
  // Three more tokens for each: a batch of decoding sequences of unequal lengths.
  for (std::size_t step = 0; step < 3; ++step) {
    std::vector<NewTokens> next;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      next.push_back(
          {static_cast<std::int64_t>(i),
           std::span(prompts[i]).subspan(static_cast<std::size_t>(lengths[i]) + step, 1)});
    }
    batched.forward(next, Wanted::last);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      std::vector<float> logits(vocabulary);
      batched.logits(static_cast<std::int64_t>(i), logits.data());
      const auto position = static_cast<std::size_t>(lengths[i]) + step;
      CHECK(same_bits(logits, std::span(alone[i]).subspan(position * vocabulary, vocabulary)));
    }
  }
}

TEST_CASE(
    "taken back within the headroom and continued: the same bits as never having gone there") {
  const Fixture fixture;
  using TightPlan = Plan<TinyGemma3<12>, f32, Chunk<16>, Rewind<20>, KeyTile<1>>;
  static_assert(TightPlan::ring_slots<0>() == 31);
  const TinyFile file;
  const auto weights = load_tiny<TinyGemma3<12>>(file);
  const std::vector<std::int32_t> ids = seed_tokens(100, 128);
  const std::vector<std::int32_t> drafts(20, 7);
  Decoder<TightPlan, Host> plain(Host{}, weights, 128), rewound(Host{}, weights, 128);
  const std::vector<float> expected = all_logits(plain, 0, ids);

  std::vector<float> logits = all_logits(rewound, 0, std::span(ids).first(70));
  all_logits(rewound, 0, drafts);
  CHECK(contains(refusal([&] { rewound.timeline(0).rewind_to({69}); }), "rewind to 70 or later"));
  rewound.timeline(0).rewind_to({70});
  const std::vector<float> rest = all_logits(rewound, 0, std::span(ids).subspan(70));
  logits.insert(logits.end(), rest.begin(), rest.end());
  CHECK(same_bits(logits, expected));
}

TEST_CASE("what does not fit is refused before anything is written") {
  const Fixture fixture;
  TinyDecoder decoder(Host{}, fixture.weights, 1024);
  const std::vector<std::int32_t> ids = seed_tokens(1030, 128);
  const auto try_prefill = [&](std::span<const std::int32_t> prompt) {
    return refusal([&] { prefill(decoder, 0, prompt, Wanted::last, [](Span) {}); });
  };
  const std::string too_long = try_prefill(std::span(ids).first(1025));
  CHECK(contains(too_long, "1025 tokens"));
  CHECK(contains(too_long, "context of 1024"));
  CHECK(contains(try_prefill({}), "empty prompt"));
  std::vector<std::int32_t> outside(ids.begin(), ids.begin() + 5);
  outside[3] = 128;
  CHECK(contains(try_prefill(outside), "token id 128 is outside the vocabulary of 128"));
  outside[3] = -1;
  CHECK(contains(try_prefill(outside), "token id -1"));
  CHECK(decoder.timeline(0).length() == 0);

  CHECK(try_prefill(std::span(ids).first(1000)).empty());
  CHECK(contains(try_prefill(std::span(ids).first(25)), "25 tokens at position 1000"));
  CHECK(try_prefill(std::span(ids).first(24)).empty());
  CHECK(decoder.timeline(0).length() == 1024);
  CHECK(contains(try_prefill(std::span(ids).first(1)), "at position 1024"));

  CHECK(contains(
      refusal([&] { TinyDecoder(Host{}, fixture.weights, 1024, 1, 4097); }),
      "chunk of 4097 rows was asked for, but this plan is proved for chunks of 1 to 4096"));
  CHECK(contains(refusal([&] { TinyDecoder(Host{}, fixture.weights, 0); }), "context of 0"));
  const NewTokens twice[]{{0, std::span(ids).first(1)}, {0, std::span(ids).first(1)}};
  TinyDecoder fresh(Host{}, fixture.weights, 64);
  CHECK(contains(refusal([&] { fresh.forward(twice, Wanted::last); }), "stands twice"));
  const NewTokens nowhere{3, std::span(ids).first(1)};
  CHECK(contains(refusal([&] { fresh.forward({&nowhere, 1}, Wanted::last); }), "sequence 3 of 1"));
  CHECK(fresh.timeline(0).length() == 0);
}

TEST_CASE("a decoder allocates what the plan said, to the byte, and nothing afterwards") {
  const TinyFile file;
  SafetensorsSource<Model> source(file.weights);
  const auto weights = load_weights<Model>(CountingHost{}, source);
  const std::int64_t before = CountingHost::bytes;
  for (const std::int64_t context : {1, 63, 64, 1000, 4608, 5000}) {
    for (const std::int64_t sequences : {1, 3}) {
      CAPTURE(context);
      CAPTURE(sequences);
      Decoder<SeedPlan, CountingHost> decoder(CountingHost{}, weights, context, sequences);
      const std::int64_t planned =
          SeedPlan::cache_bytes(context, sequences) + decoder.scratch_bytes(context, sequences);
      CHECK(CountingHost::bytes - before == planned);
      const std::vector<std::int32_t> ids = seed_tokens(smaller(context, 40), 128);
      all_logits(decoder, sequences - 1, ids);
      CHECK(CountingHost::bytes - before == planned);
    }
    CHECK(CountingHost::bytes == before);
  }
}

}  // namespace kvring::test
