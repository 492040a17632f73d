// Drafts by lookup, and their verification, on a decoder that is a rule of the last tokens:
// whatever is proposed, the tokens are those of the rule, and the sequence holds what they say.
#include "kvring/model/lookup.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace kvring::test {
namespace {

using Ids = std::vector<std::int32_t>;

/// What the rule says comes after a text.
std::int32_t next(std::span<const std::int32_t> text) {
  const auto at = [&](std::size_t back) {
    return back <= text.size() ? text[text.size() - back] : 0;
  };
  return static_cast<std::int32_t>(
      (at(1) * 5 + at(2) * 3 + static_cast<std::int32_t>(text.size()) / 40) % 11);
}

struct ToyModel {
  using Layers = Hybrid<2, Layer<Swa<4>, Heads{1, 1, 1}>, Layer<Dense, Heads{1, 1, 1}>>;
};

/// Has the members of Decoder that verification uses, and no layers.
class ToyDecoder {
 public:
  using Plan = kvring::Plan<ToyModel, f32, Chunk<6>, Rewind<9>, KeyTile<1>>;

  explicit ToyDecoder(std::int64_t context) : timeline_(context) {}
  std::int64_t chunk() const { return Plan::chunk; }
  std::int64_t vocabulary() const { return 11; }
  Timeline<Plan>& timeline(std::int64_t) { return timeline_; }
  Ids held() const { return {held_.begin(), held_.begin() + timeline_.length()}; }

  void forward(std::span<const NewTokens> batch, Wanted) {
    require(std::ssize(batch[0].ids) <= chunk(), "more rows than a chunk");
    held_.resize(static_cast<std::size_t>(timeline_.length()));
    start_ = held_.size();
    timeline_.append(std::ssize(batch[0].ids));
    held_.insert(held_.end(), batch[0].ids.begin(), batch[0].ids.end());
  }
  void logits(std::int64_t row, float* out) const {
    std::fill_n(out, vocabulary(), 0.0f);
    out[next(std::span(held_).first(start_ + static_cast<std::size_t>(row) + 1))] = 1;
  }

 private:
  Timeline<Plan> timeline_;
  Ids held_;
  std::size_t start_ = 0;
};

const Ids beginning{3, 1, 4, 1, 5, 9, 2, 6};

Ids by_the_rule(std::size_t count) {
  Ids text = beginning;
  while (text.size() < beginning.size() + count) text.push_back(next(text));
  return text;
}

/// A decoder that holds all of `beginning` but its last token.
ToyDecoder begun(std::int64_t context) {
  ToyDecoder decoder(context);
  for (std::size_t i = 0; i + 1 < beginning.size(); ++i) {
    const NewTokens token{0, std::span(beginning).subspan(i, 1)};
    decoder.forward({&token, 1}, Wanted::none);
  }
  return decoder;
}

}  // namespace

TEST_CASE("the draft is what followed the latest of the longest matches") {
  using Ids = std::vector<std::int32_t>;
  const auto draft = [](const Ids& text, std::int64_t most, LookupOptions options = {}) {
    return lookup_draft(text, most, options);
  };
  CHECK(draft({}, 3) == Ids{});
  CHECK(draft({1, 2, 3}, 3) == Ids{});
  CHECK(draft({1, 2, 7, 8, 9, 1, 2}, 3) == Ids{7, 8, 9});
  CHECK(draft({1, 2, 7, 8, 9, 1, 2}, 0) == Ids{});
  CHECK(draft({1, 2, 7, 1, 2, 8, 5, 1, 2}, 2) == Ids{8, 5});           // the latest
  CHECK(draft({3, 1, 2, 7, 1, 2, 8, 3, 1, 2}, 1) == Ids{7});           // the longest
  CHECK(draft({4, 5, 5}, 4, {.shortest = 1}) == Ids{5, 5, 5, 5});      // into itself
  CHECK(draft({6, 1, 2, 3, 1, 2, 3}, 7) == Ids{1, 2, 3, 1, 2, 3, 1});  // a text that repeats
  CHECK(draft({2, 9, 2}, 2) == Ids{});  // a match of one is too short
  CHECK(draft({2, 9, 2}, 2, {.shortest = 1}) == Ids{9, 2});
  // No match is longer than `longest`: of those the latest counts.
  CHECK(draft({1, 2, 3, 4, 9, 3, 4, 8, 1, 2, 3, 4}, 1, {.longest = 2}) == Ids{8});
  CHECK(draft({1, 2, 3, 4, 9, 3, 4, 8, 1, 2, 3, 4}, 1) == Ids{9});
}

TEST_CASE("whatever is proposed, the tokens are those of the rule") {
  const Ids right = by_the_rule(300);
  for (const std::int64_t drafts : {1, 2, 3, 5}) {
    for (int kind = 0; kind < 5; ++kind) {
      for (const std::int64_t count : {1, 2, 7, 90, 200}) {
        CAPTURE(drafts);
        CAPTURE(kind);
        CAPTURE(count);
        const auto propose = [&](std::span<const std::int32_t> text, std::int64_t most) {
          REQUIRE(most >= 0);
          REQUIRE(most <= drafts);
          if (kind == 0) return lookup_draft(text, most, {.shortest = 1, .longest = 3});
          Ids draft(right.begin() + std::ssize(text), right.begin() + std::ssize(text) + most);
          for (std::size_t i = 0; i < draft.size(); ++i) {  // right, wrong at one place, all wrong
            const bool wrong = kind == 4 || (kind == 2 && i == text.size() % 4) ||
                               (kind == 3 && (text.size() + i) % 5 == 0);
            if (wrong) draft[i] = (draft[i] + 1) % 11;
          }
          return draft;
        };
        ToyDecoder decoder = begun(240);
        Ids ids;
        const LookupReport report =
            generate_by_drafts(decoder, 0, beginning, count, drafts, propose,
                               [&](std::int32_t id) { return ids.push_back(id), true; });
        const auto end = right.begin() + std::ssize(beginning) + count;
        REQUIRE(ids == Ids(right.begin() + std::ssize(beginning), end));
        REQUIRE(decoder.held() == Ids(right.begin(), end - 1));
        REQUIRE(report.tokens == count);
        REQUIRE(report.tokens == report.passes + report.accepted);
        if (kind == 1) REQUIRE(report.accepted == report.drafted);
        if (kind == 4) REQUIRE(report.accepted == 0);
      }
    }
  }
}

TEST_CASE("a context is filled to its end, and take() may end it anywhere") {
  const Ids right = by_the_rule(60);
  const auto propose = [&](std::span<const std::int32_t> text, std::int64_t most) {
    return Ids(right.begin() + std::ssize(text), right.begin() + std::ssize(text) + most);
  };
  for (std::int64_t stop = 1; stop <= 40; ++stop) {
    CAPTURE(stop);
    ToyDecoder full = begun(7 + stop);
    Ids ids;
    const auto take_all = [&](std::int32_t id) { return ids.push_back(id), true; };
    CHECK_THROWS_AS(generate_by_drafts(full, 0, beginning, 60, 5, propose, take_all), Error);
    CHECK(std::ssize(ids) == stop);  // the last position has been appended, and its token is known
    CHECK(full.held() == Ids(right.begin(), right.begin() + 7 + stop));

    ToyDecoder ended = begun(100);
    ids.clear();
    const LookupReport report = generate_by_drafts(
        ended, 0, beginning, 60, 5, propose,
        [&](std::int32_t id) { return ids.push_back(id), std::ssize(ids) < stop; });
    CHECK(report.tokens == stop);
    CHECK(ids == Ids(right.begin() + 8, right.begin() + 8 + stop));
    CHECK(ended.held() == Ids(right.begin(), right.begin() + 7 + stop));
  }
}

}  // namespace kvring::test
