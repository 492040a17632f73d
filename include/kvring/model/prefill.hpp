// Prefill: a prompt of any length in chunks, from wherever its sequence stands.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "kvring/chunk.hpp"
#include "kvring/model/decoder.hpp"

namespace kvring {

/// What a prefill did, and why.
struct PrefillReport {
  std::int64_t chunks = 0;
  std::string path;
};

/// Appends `ids` to a sequence in chunks of at most decoder.chunk() rows. `after_chunk(span)` is
/// called when a chunk is through the layers; the logits of its wanted rows can then be asked for.
/// With Wanted::last only the last row of the last chunk is wanted.
///
/// The whole prompt is checked before the first append: what cannot fit is refused, and has changed
/// nothing.
template <class DecoderType, class AfterChunk>
PrefillReport prefill(DecoderType& decoder, std::int64_t sequence,
                      std::span<const std::int32_t> ids, Wanted wanted, AfterChunk after_chunk) {
  const auto& timeline = decoder.timeline(sequence);
  const Position start{timeline.length()};
  const auto rows = static_cast<std::int64_t>(ids.size());
  require(rows >= 1, "an empty prompt: give it one token or more");
  require(rows <= decoder.context() - start.value, "a prompt of ", rows, " tokens at position ",
          start.value, " does not fit a context of ", decoder.context(),
          ": shorten it, or ask for a longer context");
  for (const std::int32_t id : ids) {
    require(id >= 0 && id < decoder.vocabulary(), "token id ", id, " is outside the vocabulary of ",
            decoder.vocabulary());
  }

  const ChunkSchedule schedule(start, rows, decoder.chunk());
  for (const Span span : schedule) {
    const NewTokens tokens{.sequence = sequence,
                           .ids = ids.subspan(static_cast<std::size_t>(span.start - start),
                                              static_cast<std::size_t>(span.rows))};
    const bool last = span.end() == start + rows;
    decoder.forward({&tokens, 1}, wanted == Wanted::last && !last ? Wanted::none : wanted);
    after_chunk(span);
  }

  const std::string size = concat(rows, rows == 1 ? " token" : " tokens");
  const std::string limit = concat(" of at most ", decoder.chunk(), " rows");
  if (decoder.chunk() == 1) {
    return {schedule.size(), concat("per-token: ", size, ", since the chunk is 1 row")};
  }
  if (schedule.size() == 1) {
    return {1, concat("one chunk: ", size, " fit a chunk", limit)};
  }
  return {schedule.size(), concat("chunked: ", size, " in ", schedule.size(), " chunks", limit)};
}

}  // namespace kvring
