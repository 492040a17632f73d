// Snapshots, forks, verified drafts and prompt lookup through a decoder: the bits and the tokens of
// a sequence that went its way alone.
#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <utility>

#include "kvring/model/lookup.hpp"
#include "kvring/snapshot.hpp"
#include "refusal.hpp"
#include "tiny_gemma3.hpp"

namespace kvring::test {
namespace {

using Model = TinyGemma3<12>;
template <class T, std::int64_t Tile = 1>
using TightPlan = Plan<Model, T, Chunk<16>, Rewind<20>, KeyTile<Tile>>;
static_assert(TightPlan<f32>::ring_slots<0>() == 31 && TightPlan<f32, 8>::ring_slots<0>() == 32);

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// Before the ring of 31 wraps, around its end, in its middle the second time, and later.
constexpr std::int64_t cuts[] = {1, 5, 12, 30, 31, 32, 47, 62, 63, 93, 100};

/// A sequence of `cut` tokens, `back` drafts taken back from its end, goes on as it is, as a fork,
/// restored beside it and restored in other caches.
template <class PlanType, class WeightsType>
void go_on_everywhere(const WeightsType& weights) {
  const std::vector<std::int32_t> ids = seed_tokens(140, 128);
  const auto vocabulary = static_cast<std::size_t>(Model::vocabulary);
  Decoder<PlanType, Host> alone(Host{}, weights, 160);
  const std::vector<float> expected = all_logits(alone, 0, ids);
  const std::vector<std::int32_t> drafts(7, 9);
  for (const std::int64_t cut : cuts) {
    for (const std::int64_t back : {0, 7}) {
      CAPTURE(cut);
      CAPTURE(back);
      Decoder<PlanType, Host> decoder(Host{}, weights, 160, 4);
      all_logits(decoder, 1, std::span(ids).first(static_cast<std::size_t>(cut)));
      if (back > 0) all_logits(decoder, 1, std::span(drafts).first(static_cast<std::size_t>(back)));
      decoder.timeline(1).rewind_to({cut});
      all_logits(decoder, 2, seed_tokens(77, 100));  // what its places held before
      all_logits(decoder, 3, seed_tokens(33, 100));

      const Snapshot<PlanType> snapshot(decoder.caches(), 1);
      CHECK(std::ssize(snapshot.rows()) == Snapshot<PlanType>::elements(cut, cut + back));
      fork(decoder.caches(), 1, 2);
      snapshot.restore(decoder.caches(), 3);
      Decoder<PlanType, Host> elsewhere(Host{}, weights, 150, 1, 5);
      snapshot.restore(elsewhere.caches(), 0);

      const auto rest = std::span(ids).subspan(static_cast<std::size_t>(cut), 40);
      const auto wanted =
          std::span(expected).subspan(static_cast<std::size_t>(cut) * vocabulary, 40 * vocabulary);
      for (const std::int64_t sequence : {2, 1, 3}) {
        CAPTURE(sequence);
        CHECK(same_bits(all_logits(decoder, sequence, rest), wanted));
      }
      CHECK(same_bits(all_logits(elsewhere, 0, rest), wanted));
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("forked and restored sequences go on to the same bits", T, f32, f16, bf16) {
  const TinyFile file;
  const auto weights = load_tiny<Model>(file);
  go_on_everywhere<TightPlan<T>>(weights);
  go_on_everywhere<TightPlan<T, 8>>(weights);
}

TEST_CASE("the same where layers read the cache of a donor") {
  const TinyFile file("gemma4-e");
  const auto weights = load_tiny<TinyGemma4E>(file);
  go_on_everywhere<Plan<TinyGemma4E, f32, Chunk<16>, Rewind<20>, KeyTile<1>>>(weights);
}

TEST_CASE("a fork and its original part: each is what it would be alone") {
  const TinyFile file;
  const auto weights = load_tiny<Model>(file);
  using PlanType = TightPlan<f32>;
  const std::vector<std::int32_t> system = seed_tokens(80, 128);
  Decoder<PlanType, Host> decoder(Host{}, weights, 160, 3);
  all_logits(decoder, 0, system);
  for (std::int32_t question = 1; question <= 4; ++question) {
    CAPTURE(question);
    const std::vector<std::int32_t> words(50, 10 * question);
    fork(decoder.caches(), 0, 1 + question % 2);
    Decoder<PlanType, Host> alone(Host{}, weights, 160);
    all_logits(alone, 0, system);
    CHECK(same_bits(all_logits(decoder, 1 + question % 2, words), all_logits(alone, 0, words)));
    CHECK(decoder.timeline(0).length() == 80);
  }
}

TEST_CASE("logits of each of a few rows have the bits of one row") {
  const TinyFile file;
  const auto weights = load_tiny<Model>(file);
  Decoder<TightPlan<f32>, Host> decoder(Host{}, weights, 64);
  const std::vector<std::int32_t> ids = seed_tokens(16, 128);
  const NewTokens tokens{0, ids};
  decoder.forward({&tokens, 1}, Wanted::all);
  const auto vocabulary = static_cast<std::size_t>(Model::vocabulary);
  std::vector<float> each(16 * vocabulary), one(vocabulary);
  for (const std::int64_t count : {1, 3, 4, 7, 16}) {
    for (std::int64_t first = 0; first + count <= 16; first += 3) {
      decoder.logits_of_each(first, count, each.data());
      for (std::int64_t row = 0; row < count; ++row) {
        decoder.logits(first + row, one.data());
        CHECK(same_bits(
            one, std::span(each).subspan(static_cast<std::size_t>(row) * vocabulary, vocabulary)));
      }
    }
  }
}

namespace {

/// Notes where each pass began and how many rows it had.
template <class PlanType>
struct Watched : Decoder<PlanType, Host> {
  using Decoder<PlanType, Host>::Decoder;
  std::vector<Span> passes;

  void forward(std::span<const NewTokens> batch, Wanted wanted) {
    passes.push_back({{this->timeline(0).length()}, std::ssize(batch[0].ids)});
    Decoder<PlanType, Host>::forward(batch, wanted);
  }
  /// Passes of which a row was taken back that lay beyond the end of a ring of `slots`.
  std::int64_t taken_back_across(std::int64_t slots) {
    passes.push_back({{this->timeline(0).length()}, 0});
    std::int64_t count = 0;
    for (std::size_t i = 0; i + 1 < passes.size(); ++i) {
      const std::int64_t begin = passes[i].start.value, kept_end = passes[i + 1].start.value;
      if (passes[i].end().value == kept_end) continue;
      count += begin / slots != (passes[i].end().value - 1) / slots;
    }
    return count;
  }
};

/// The greedy continuation of a text, one token at a time.
template <class PlanType, class WeightsType>
std::vector<std::int32_t> greedy(const WeightsType& weights, std::span<const std::int32_t> text,
                                 std::int64_t count, std::int64_t context) {
  Decoder<PlanType, Host> decoder(Host{}, weights, context);
  all_logits(decoder, 0, text.first(text.size() - 1));
  std::vector<std::int32_t> out;
  std::vector<float> logits(static_cast<std::size_t>(decoder.vocabulary()));
  std::int32_t id = text.back();
  for (std::int64_t i = 0; i < count; ++i) {
    const NewTokens token{0, {&id, 1}};
    decoder.forward({&token, 1}, Wanted::last);
    decoder.logits(0, logits.data());
    out.push_back(id = argmax(logits));
  }
  return out;
}

/// Texts that a model copies from, and one that it does not.
std::vector<std::vector<std::int32_t>> texts() {
  std::vector<std::vector<std::int32_t>> all;
  for (const std::int64_t period : {1, 3, 7, 200}) {
    std::vector<std::int32_t> text = seed_tokens(45, 128);
    for (std::size_t i = static_cast<std::size_t>(period); i < text.size(); ++i) {
      text[i] = text[i - static_cast<std::size_t>(period)];
    }
    all.push_back(std::move(text));
  }
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("lookup chooses the tokens of plain greedy decoding", T, f32, f16, bf16) {
  const TinyFile file;
  const auto weights = load_tiny<Model>(file);
  using PlanType = TightPlan<T, 8>;
  LookupReport all;
  for (const std::vector<std::int32_t>& text : texts()) {
    const std::vector<std::int32_t> wanted = greedy<PlanType>(weights, text, 100, 160);
    for (const std::int64_t drafts : {1, 2, 5, 15}) {
      for (const std::int64_t shortest : {1, 3}) {
        CAPTURE(drafts);
        CAPTURE(shortest);
        Watched<PlanType> decoder(Host{}, weights, 160);
        all_logits(decoder, 0, std::span(text).first(text.size() - 1));
        decoder.passes.clear();
        std::vector<std::int32_t> ids;
        const LookupReport report = generate_by_lookup(
            decoder, 0, text, 100, {.drafts = drafts, .shortest = shortest}, [&](std::int32_t id) {
              ids.push_back(id);
              return true;
            });
        CHECK(ids == wanted);
        CHECK(report.tokens == 100);
        CHECK(report.tokens == report.passes + report.accepted);
        CHECK(report.passes == std::ssize(decoder.passes));
        CHECK(decoder.timeline(0).length() == 44 + 100);
        all.accepted += report.accepted;
        all.drafted += report.drafted;
      }
    }
  }
  MESSAGE(std::string(element_name<T>), ": ", all.accepted, " of ", all.drafted,
          " drafts by lookup accepted");
  CHECK(all.accepted > 100);
}

TEST_CASE_TEMPLATE("drafts that are wrong again and again, all around the ring, change no token", T,
                   f32, f16, bf16) {
  const TinyFile file;
  const auto weights = load_tiny<Model>(file);
  using PlanType = TightPlan<T, 8>;
  std::int64_t rejected = 0, across = 0;
  const std::vector<std::int32_t> text = texts()[2];
  const std::vector<std::int32_t> wanted = greedy<PlanType>(weights, text, 140, 200);
  for (const std::int64_t drafts : {1, 3, 8, 15}) {
    for (std::uint32_t state = 1; state <= 5; ++state) {
      CAPTURE(drafts);
      CAPTURE(state);
      Watched<PlanType> decoder(Host{}, weights, 200);
      all_logits(decoder, 0, std::span(text).first(text.size() - 1));
      decoder.passes.clear();
      // The right tokens, one in six of them spoilt.
      std::uint32_t random = state;
      const auto propose = [&](std::span<const std::int32_t> so_far, std::int64_t most) {
        const auto done = so_far.size() - text.size();
        std::vector<std::int32_t> draft(
            wanted.begin() + static_cast<long>(done),
            wanted.begin() + static_cast<long>(done) + static_cast<long>(most));
        for (std::int32_t& id : draft) {
          random = random * 1664525u + 1013904223u;
          if ((random >> 16) % 6 == 0) id = (id + 1) % 128;
        }
        return draft;
      };
      std::vector<std::int32_t> ids;
      const LookupReport report =
          generate_by_drafts(decoder, 0, text, 140, drafts, propose, [&](std::int32_t id) {
            ids.push_back(id);
            return true;
          });
      CHECK(ids == wanted);
      CHECK(report.tokens == 140);
      rejected += report.drafted - report.accepted;
      across += decoder.taken_back_across(32);
    }
  }
  MESSAGE(std::string(element_name<T>), ": ", rejected, " drafts rejected, ", across,
          " passes taken back across the wrap");
  CHECK(rejected > 500);
  CHECK(across > 20);
}

TEST_CASE("lookup stops where it is told, and the sequence holds what was chosen before") {
  const TinyFile file;
  const auto weights = load_tiny<Model>(file);
  using PlanType = TightPlan<f32>;
  const std::vector<std::int32_t> text = texts()[1];
  const std::vector<std::int32_t> wanted = greedy<PlanType>(weights, text, 60, 160);
  for (std::size_t stop = 1; stop <= 25; ++stop) {
    CAPTURE(stop);
    for (const bool by_count : {false, true}) {
      Decoder<PlanType, Host> decoder(Host{}, weights, 160);
      all_logits(decoder, 0, std::span(text).first(text.size() - 1));
      std::vector<std::int32_t> ids;
      const auto take = [&](std::int32_t id) {
        ids.push_back(id);
        return by_count || ids.size() < stop;
      };
      generate_by_lookup(decoder, 0, text, by_count ? static_cast<std::int64_t>(stop) : 60,
                         {.drafts = 6}, take);
      REQUIRE(ids == std::vector(wanted.begin(), wanted.begin() + static_cast<long>(stop)));
      // All but the last one chosen are appended; plain decoding goes on from there.
      REQUIRE(decoder.timeline(0).length() == 44 + static_cast<long>(stop));
      std::vector<float> logits(static_cast<std::size_t>(Model::vocabulary));
      const NewTokens next{0, {&ids.back(), 1}};
      decoder.forward({&next, 1}, Wanted::last);
      decoder.logits(0, logits.data());
      REQUIRE(argmax(logits) == wanted[stop]);
    }
  }
}

TEST_CASE(
    "lookup fills a context to its end, and refuses more drafts than the plan can take back") {
  const TinyFile file;
  const auto weights = load_tiny<Model>(file);
  using PlanType = TightPlan<f32>;
  const std::vector<std::int32_t> text = texts()[0];
  const auto drop = [](std::int32_t) { return true; };
  Decoder<PlanType, Host> decoder(Host{}, weights, 64);
  all_logits(decoder, 0, std::span(text).first(text.size() - 1));
  CHECK(generate_by_lookup(decoder, 0, text, 20, {.drafts = 15}, drop).tokens == 20);
  CHECK(decoder.timeline(0).length() == 64);
  CHECK(contains(refusal([&] { generate_by_lookup(decoder, 0, text, 1, {.drafts = 15}, drop); }),
                 "the context holds 64 positions"));
  CHECK(contains(refusal([&] { generate_by_lookup(decoder, 0, text, 1, {.drafts = 16}, drop); }),
                 "a chunk of 16 rows and a rewind of 20: ask for 1 to 15"));
  CHECK(contains(refusal([&] { generate_by_lookup(decoder, 0, text, 1, {.drafts = 0}, drop); }),
                 "0 drafts at a time"));
  CHECK(contains(refusal([&] { generate_by_lookup(decoder, 0, {}, 1, {.drafts = 1}, drop); }),
                 "no token to begin with"));
  Decoder<PlanType, Host> short_chunks(Host{}, weights, 64, 1, 4);
  CHECK(
      contains(refusal([&] { generate_by_lookup(short_chunks, 0, text, 1, {.drafts = 4}, drop); }),
               "ask for 1 to 3"));
  CHECK(decoder.timeline(0).length() == 64);
}

TEST_CASE("verify: k rows are appended and attend, j of them stay, for every j") {
  const TinyFile file;
  const auto weights = load_tiny<Model>(file);
  using PlanType = TightPlan<f32>;
  const std::vector<std::int32_t> text = seed_tokens(58, 128);  // the rows lie across 62 = 2 * 31
  const std::vector<std::int32_t> right = greedy<PlanType>(weights, text, 30, 128);
  for (std::size_t j = 1; j <= 12; ++j) {
    CAPTURE(j);
    Decoder<PlanType, Host> decoder(Host{}, weights, 128);
    all_logits(decoder, 0, std::span(text).first(57));
    std::vector<std::int32_t> rows{text.back()};
    rows.insert(rows.end(), right.begin(), right.begin() + 11);
    if (j < 12) rows[j] = (rows[j] + 1) % 128;  // the first wrong draft
    std::vector<std::int32_t> chosen;
    const std::int64_t kept = verify_greedy(decoder, 0, rows, [&](std::int32_t id) {
      chosen.push_back(id);
      return true;
    });
    CHECK(kept == static_cast<std::int64_t>(j));
    CHECK(chosen == std::vector(right.begin(), right.begin() + static_cast<long>(j)));
    CHECK(decoder.timeline(0).length() == 57 + kept);
    CHECK(decoder.timeline(0).written() == 57 + 12);
    // The rest, one at a time, is what it would have been.
    std::int32_t id = chosen.back();
    std::vector<float> logits(static_cast<std::size_t>(Model::vocabulary));
    for (std::size_t i = j; i < right.size(); ++i) {
      const NewTokens next{0, {&id, 1}};
      decoder.forward({&next, 1}, Wanted::last);
      decoder.logits(0, logits.data());
      REQUIRE((id = argmax(logits)) == right[i]);
    }
  }
}

}  // namespace kvring::test
