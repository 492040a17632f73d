// Prompt lookup: drafts found in the text itself, and the greedy verification of drafts. After
// Saxena, "Prompt Lookup Decoding", 2023 (github.com/apoorvumang/prompt-lookup-decoding).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kvring/model/decoder.hpp"
#include "kvring/model/sampler.hpp"
#include "kvring/units.hpp"

namespace kvring {

struct LookupOptions {
  std::int64_t drafts = 8;    // most tokens that are proposed at a time
  std::int64_t shortest = 2;  // tokens at the end of the text that must occur before
  std::int64_t longest = 8;   // a longer match is not worth more
};

/// What followed where the text's last tokens occurred before: of the places with the longest match
/// the latest one. Empty if there is none. The draft may run past the end of the text into itself,
/// so that a text that repeats goes on repeating.
inline std::vector<std::int32_t> lookup_draft(std::span<const std::int32_t> text, std::int64_t most,
                                              const LookupOptions& options = {}) {
  const std::int64_t end = std::ssize(text);
  std::int64_t best = 0, from = 0;
  for (std::int64_t next = end - 1; next >= 1 && best < options.longest; --next) {
    std::int64_t match = 0;
    while (match < smaller(next, options.longest) &&
           text[static_cast<std::size_t>(next - 1 - match)] ==
               text[static_cast<std::size_t>(end - 1 - match)]) {
      ++match;
    }
    if (match > best) {
      best = match;
      from = next;
    }
  }
  std::vector<std::int32_t> draft;
  if (best < options.shortest) return draft;
  for (std::int64_t i = 0; i < most; ++i) {
    const std::int64_t at = from + i;
    draft.push_back(at < end ? text[static_cast<std::size_t>(at)]
                             : draft[static_cast<std::size_t>(at - end)]);
  }
  return draft;
}

struct LookupReport {
  std::int64_t tokens = 0;    // chosen
  std::int64_t passes = 0;    // through the layers
  std::int64_t drafted = 0;   // proposed
  std::int64_t accepted = 0;  // of them, chosen
};

namespace detail {

/// The likeliest token after each row of a decoder's last forward, for rows asked in order. Where
/// the decoder can, logits are made for a few rows at once: it costs little more than for one, and
/// most drafts end soon.
template <class DecoderType>
class ChosenOfRows {
 public:
  ChosenOfRows(DecoderType& decoder, std::int64_t rows)
      : decoder_(&decoder),
        rows_(rows),
        vocabulary_(decoder.vocabulary()),
        logits_(static_cast<std::size_t>(smaller(at_once, rows) * vocabulary_)) {}

  std::int32_t operator()(std::int64_t row) {
    const std::int64_t in_group = row % at_once;
    if (in_group == 0) {
      if constexpr (at_once > 1) {
        decoder_->logits_of_each(row, smaller(at_once, rows_ - row), logits_.data());
      } else {
        decoder_->logits(row, logits_.data());
      }
    }
    return argmax(std::span(logits_).subspan(static_cast<std::size_t>(in_group * vocabulary_),
                                             static_cast<std::size_t>(vocabulary_)));
  }

 private:
  static constexpr std::int64_t at_once = requires(DecoderType & d, float* out) {
    d.logits_of_each(0, 1, out);
  }
  ? 4 : 1;

  DecoderType* decoder_;
  std::int64_t rows_, vocabulary_;
  std::vector<float> logits_;  // [at_once, vocabulary]
};

}  // namespace detail

/// Appends `rows`, the last token of a text and drafts of those after it, all at once, and keeps
/// what greedy decoding would have appended: the first, and each draft up to the first wrong one.
/// Takes the rest back. take(id) is called with each token chosen, one more than there are drafts
/// kept; false ends it, as if the drafts ended there. Returns how many rows were kept.
///
/// A row's bits do not depend on the rows that it is computed with, so this chooses what appending
/// one token at a time would.
template <class DecoderType, class Take>
std::int64_t verify_greedy(DecoderType& decoder, std::int64_t sequence,
                           std::span<const std::int32_t> rows, Take take) {
  auto& timeline = decoder.timeline(sequence);
  const Position start{timeline.length()};
  const NewTokens tokens{.sequence = sequence, .ids = rows};
  decoder.forward({&tokens, 1}, Wanted::all);
  detail::ChosenOfRows<DecoderType> chosen(decoder, std::ssize(rows));
  std::int64_t kept = 0;
  std::int32_t id = 0;
  do {
    id = chosen(kept++);
  } while (take(id) && kept < std::ssize(rows) && id == rows[static_cast<std::size_t>(kept)]);
  timeline.rewind_to(start + kept);
  return kept;
}

/// Greedy decoding with drafts: the same tokens as without, in fewer passes. propose(text, n) gives
/// up to n drafts of what follows a text. `text` ends with a token that is not appended yet; the
/// sequence holds those before it, or the newest of them. At most `count` tokens are chosen;
/// take(id) is called with each, and ends it by returning false.
template <class DecoderType, class Propose, class Take>
LookupReport generate_by_drafts(DecoderType& decoder, std::int64_t sequence,
                                std::span<const std::int32_t> text, std::int64_t count,
                                std::int64_t drafts, Propose propose, Take take) {
  constexpr std::int64_t rewind = DecoderType::Plan::rewind;
  const std::int64_t most = smaller(decoder.chunk(), rewind) - 1;
  require(drafts >= 1 && drafts <= most, drafts,
          " drafts at a time were asked for, but with the token before them they must fit a chunk "
          "of ",
          decoder.chunk(), " rows and a rewind of ", rewind, ": ask for 1 to ", most);
  require(!text.empty(), "no token to begin with: give the text one or more");
  std::vector<std::int32_t> all(text.begin(), text.end()), rows;
  LookupReport report;
  bool more = true;
  while (more && report.tokens < count) {
    const std::int64_t room = larger(1, decoder.timeline(sequence).appendable());
    const std::vector<std::int32_t> draft =
        propose(std::span<const std::int32_t>(all),
                smaller(drafts, smaller(count - report.tokens, room) - 1));
    rows = {all.back()};
    rows.insert(rows.end(), draft.begin(), draft.end());
    const std::int64_t before = report.tokens;
    verify_greedy(decoder, sequence, rows, [&](std::int32_t id) {
      const auto at = static_cast<std::size_t>(report.tokens++ - before);
      report.accepted += at < draft.size() && id == draft[at];
      all.push_back(id);
      more = take(id);
      return more;
    });
    ++report.passes;
    report.drafted += std::ssize(draft);
  }
  return report;
}

/// The same, with drafts by lookup in the text and in what is chosen.
template <class DecoderType, class Take>
LookupReport generate_by_lookup(DecoderType& decoder, std::int64_t sequence,
                                std::span<const std::int32_t> text, std::int64_t count,
                                const LookupOptions& options, Take take) {
  return generate_by_drafts(
      decoder, sequence, text, count, options.drafts,
      [&](std::span<const std::int32_t> so_far, std::int64_t most) {
        return lookup_draft(so_far, most, options);
      },
      take);
}

}  // namespace kvring
