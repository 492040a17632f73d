// What the tests of flipped details share: a model with one detail wrong, run against the golden of
// the right one.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "families.hpp"
#include "golden.hpp"
#include "kvring/kernels/activation.hpp"
#include "kvring/kernels/norm.hpp"
#include "kvring/kernels/per_layer_input.hpp"
#include "kvring/kernels/rope.hpp"
#include "kvring/kernels/rows.hpp"

namespace kvring::test {

/// A flip is noticed if it moves a logit by this many tolerances of the golden.
inline constexpr double clear_factor = 50;
/// The tolerance of families_test.cpp.
inline constexpr double family_tolerance = 2e-4;

// ---- Details that are numbers of a type.

/// `Model` with a block that `Change` was called on.
template <class Model, auto Change>
struct WithBlock : Model {
  static constexpr Block block = [] {
    Block changed = Model::block;
    Change(changed);
    return changed;
  }();
};

/// A kind of layer with a RoPE that `Change` was called on.
template <class Kind, auto Change>
struct WithRope : Kind {
  static constexpr Rope rope = [] {
    Rope changed = Kind::rope;
    Change(changed);
    return changed;
  }();
};

template <class Kind, std::int64_t Scalar>
struct WithQueryScalar : Kind {
  static constexpr double query_scalar = Scalar;
};

template <class Kind>
struct WithValueFromKey : Kind {
  static constexpr bool value_from_key = true;
};

template <class Kind>
struct WithOwnValue : Kind {
  static constexpr bool value_from_key = false;
};

template <class Model, bool MinusOne>
struct WithNorms : Model {
  static constexpr bool norms_store_minus_one = MinusOne;
};

// ---- Details that are in the decoder: a back end that does some steps wrongly.

struct Mistakes {
  bool value_from_normed_key = false;   // of a layer whose values are its keys
  bool value_from_rotated_key = false;  // the same
  bool neighbours_turn = false;         // RoPE pairs 2i with 2i + 1
  bool inputs_unscaled = false;         // no 1 / sqrt(hidden) before the norm of per-layer inputs
  bool inputs_not_halved = false;       // no 1 / sqrt(2) after it
  std::int64_t input_offset = 0;        // a slice of the per-layer inputs begins so much later

  CopyRows postponed{};  // values that are still to be taken from keys
};

/// The host on one thread.
struct FlippedHost : Host {
  Mistakes* mistakes = nullptr;
};

template <class F>
inline constexpr bool is_gate = false;
template <class Activation>
inline constexpr bool is_gate<Gate<Activation>> = true;

template <class F>
void one_by_one(std::int64_t count, const F& f) {
  for (std::int64_t i = 0; i < count; ++i) f(i);
}

inline void turn_neighbours(const RotateHeads& right, std::int64_t row) {
  const float* cosines = right.table + row * right.rotated;
  const float* sines = cosines + right.rotated / 2;
  for (std::int64_t head = 0; head < right.heads; ++head) {
    float* x = right.x + (row * right.heads + head) * right.head_dim;
    for (std::int64_t i = 0; i < right.rotated / 2; ++i) {
      const float a = x[2 * i], b = x[2 * i + 1];
      x[2 * i] = a * cosines[i] - b * sines[i];
      x[2 * i + 1] = b * cosines[i] + a * sines[i];
    }
  }
}

/// Not inlined, so that each kernel is compiled once and not for each of a hundred decoders.
template <class F>
[[gnu::noinline]] void for_each(const FlippedHost& host, std::int64_t count, F f) {
  if (host.mistakes == nullptr) return one_by_one(count, f);
  Mistakes& mistakes = *host.mistakes;
  if constexpr (std::is_same_v<F, CopyRows>) {
    mistakes.postponed = f;  // whole prompts: only values are ever copied
    if (mistakes.value_from_normed_key) return;
  }
  if constexpr (std::is_same_v<F, RotateHeads>) {
    if (mistakes.neighbours_turn) {
      return one_by_one(count, [&](std::int64_t row) { turn_neighbours(f, row); });
    }
  }
  if constexpr (std::is_same_v<F, MixPerLayerInputs>) {
    if (mistakes.inputs_unscaled) f.scale = 1;
  }
  if constexpr (is_gate<F>) {
    if (f.up_stride != f.width) f.up += mistakes.input_offset;
  }
  one_by_one(count, f);
  if constexpr (std::is_same_v<F, RmsNorm>) {
    const bool of_keys = f.y == mistakes.postponed.from && f.y != nullptr;
    if (of_keys && mistakes.value_from_normed_key) {
      one_by_one(count * f.width / mistakes.postponed.width, mistakes.postponed);
    }
  }
  if constexpr (std::is_same_v<F, RotateHeads>) {
    const bool of_keys = f.x == mistakes.postponed.from && f.x != nullptr;
    if (of_keys && mistakes.value_from_rotated_key) {
      one_by_one(count, mistakes.postponed);
      one_by_one(count * f.heads,
                 PlainRmsNorm{.x = mistakes.postponed.to, .width = f.head_dim, .epsilon = 1e-6f});
    }
    if (of_keys) mistakes.postponed = {};  // the next layer may have values of its own
  }
  if constexpr (std::is_same_v<F, MixPerLayerInputs>) {
    if (mistakes.inputs_not_halved) {
      one_by_one(count * f.layers * f.width,
                 [&](std::int64_t i) { f.mixed[i] *= std::sqrt(2.0f); });
    }
  }
}

template <LayerPolicy Policy, std::int64_t Tile, class View>
[[gnu::noinline]] void attend(const FlippedHost&, Policy, KeyTile<Tile>, View cache, Batch batch,
                              Batch, const float* q, float* out, Scores score) {
  using Task = AttendHost<Policy, Tile, View>;
  one_by_one(Task::blocks(batch),
             Task{.cache = cache, .batch = batch, .q = q, .out = out, .score = score});
}

// ---- Details that are in the weights.

/// A tensor as it is asked for.
struct Asked {
  std::int64_t layer;
  std::string name;
  friend bool operator==(const Asked&, const Asked&) = default;
};

struct Edit {
  /// The tensor to read instead.
  std::function<Asked(Asked)> instead = {};
  /// Changes values [out, in]; whether it did.
  std::function<bool(const Asked&, std::vector<float>& values, std::int64_t out, std::int64_t in)>
      change = {};
  /// Vectors that are ones, whatever the file has.
  std::function<bool(std::string_view name)> ones = {};
};

/// A source with an edit. Its matrices must not outlive it.
template <class Source>
class Edited {
 public:
  Edited(Source source, Edit edit) : source_(std::move(source)), edit_(std::move(edit)) {}

  [[gnu::noinline]] Matrix matrix(std::int64_t layer, std::string_view name, std::int64_t out,
                                  std::int64_t in) {
    const Asked read = instead({layer, std::string(name)});
    const Matrix matrix = source_.matrix(read.layer, read.name, out, in);
    if (!edit_.change) return matrix;
    std::vector<float> values(static_cast<std::size_t>(out * in));
    for (std::int64_t row = 0; row < out; ++row) matrix.read_row(row, values.data() + row * in);
    if (!edit_.change({layer, std::string(name)}, values, out, in)) return matrix;
    ++edits_;
    const std::vector<float>& kept = changed_.emplace_back(std::move(values));
    return {.type = GgmlType::f32,
            .data = reinterpret_cast<const std::byte*>(kept.data()),
            .out = out,
            .in = in};
  }

  [[gnu::noinline]] std::vector<float> vector(std::int64_t layer, std::string_view name,
                                              std::int64_t size) {
    if (edit_.ones && edit_.ones(name)) {
      ++edits_;
      return std::vector<float>(static_cast<std::size_t>(size), 1);
    }
    const Asked read = instead({layer, std::string(name)});
    std::vector<float> values = source_.vector(read.layer, read.name, size);
    if (edit_.change) edits_ += edit_.change({layer, std::string(name)}, values, 1, size);
    return values;
  }

  void done_with_layer(std::int64_t layer) { source_.done_with_layer(layer); }

  /// Whether the edit, if there is one, found what it is for.
  bool edited() const { return edits_ > 0 || !(edit_.instead || edit_.change || edit_.ones); }

 private:
  Asked instead(const Asked& asked) {
    if (!edit_.instead) return asked;
    const Asked read = edit_.instead(asked);
    edits_ += !(read == asked);
    return read;
  }

  Source source_;
  Edit edit_;
  std::int64_t edits_ = 0;
  std::deque<std::vector<float>> changed_;
};

/// The tensors named `name` times `factor`.
inline Edit scaled(std::string_view name, float factor) {
  return {.change = [name, factor](const Asked& asked, std::vector<float>& values, auto, auto) {
    if (asked.name != name) return false;
    for (float& value : values) value *= factor;
    return true;
  }};
}

/// Query head h reads kv head h % 2 instead of h / 2: the four query heads of the layers with heads
/// of `dim` change places, with the columns of the output that they go through.
inline Edit kv_heads_in_turn(std::int64_t dim) {
  return {.change = [dim](const Asked& asked, std::vector<float>& values, std::int64_t out,
                          std::int64_t in) {
    const bool queries = asked.name == "attn_q" && out == 4 * dim;
    const bool output = asked.name == "attn_output" && in == 4 * dim;
    if (!queries && !output) return false;
    const std::vector<float> right = values;
    for (std::int64_t row = 0; row < out; ++row) {
      for (std::int64_t column = 0; column < in; ++column) {
        const auto moved = [&](std::int64_t i) {  // 0 2 1 3
          const std::int64_t head = i / dim;
          return (head == 1 || head == 2 ? 3 - head : head) * dim + i % dim;
        };
        const std::int64_t from_row = queries ? moved(row) : row;
        const std::int64_t from_column = output ? moved(column) : column;
        values[static_cast<std::size_t>(row * in + column)] =
            right[static_cast<std::size_t>(from_row * in + from_column)];
      }
    }
    return true;
  }};
}

/// In the first `layers` layers, `a` is read as `b`, and `b` as `a`.
inline Edit swapped(std::string a, std::string b, std::int64_t layers) {
  return {.instead = [a, b, layers](Asked asked) {
    if (asked.layer < layers && asked.name == a) return Asked{asked.layer, b};
    if (asked.layer < layers && asked.name == b) return Asked{asked.layer, a};
    return asked;
  }};
}

/// A head of its own that is the embedding times `factor`.
inline Edit head_of_embedding(float factor) {
  Edit edit = scaled("output", factor);
  edit.instead = [](Asked asked) {
    return asked.name == "output" ? Asked{whole_model, "token_embd"} : asked;
  };
  return edit;
}

/// Norms of queries and keys with weights of 1.
inline Edit plain_qk_norms() {
  return {
      .ones = [](std::string_view name) { return name == "attn_q_norm" || name == "attn_k_norm"; }};
}

// ---- The table.

inline void print_flip(const char* family, const char* detail, const std::string& difference,
                       const char* verdict) {
  std::printf("flip  %-13s  %-60s  %-8s  %s\n", family, detail, difference.c_str(), verdict);
}
inline std::string as_text(double difference) {
  char text[16];
  std::snprintf(text, sizeof(text), "%.1e", difference);
  return text;
}

/// Runs models that differ from `Right` in one detail.
template <class Right>
class Flips {
 public:
  static constexpr int layers = static_cast<int>(Right::Layers::layers);
  static constexpr int logits_only = layers;

  Flips(const char* family, const char* folder, double tolerance)
      : family_(family), file_(folder), tolerance_(tolerance) {
    right_ = run<Right, Right>({}, nullptr);
    print_flip(family_, "none", as_text(right_.difference),
               right_.difference <= tolerance_ ? "passes" : "fails");
    CHECK(right_.difference <= tolerance_);
    Mistakes none;  // the back end that could make mistakes makes none
    CHECK((run<Right, Right>({}, &none).logits == right_.logits));
  }

  /// `first`: the first layer whose output the detail changes; logits_only: none.
  template <class Model = Right, class SourceModel = Right>
  void flip(const char* detail, int first, Edit edit = {}, Mistakes mistakes = {}) {
    CAPTURE(family_);
    CAPTURE(detail);
    const Outcome flipped = run<Model, SourceModel>(std::move(edit), &mistakes);
    const bool noticed = flipped.difference > clear_factor * tolerance_;
    print_flip(family_, detail, as_text(flipped.difference), noticed ? "noticed" : "missed");
    CHECK(noticed);
    CHECK(std::isfinite(flipped.difference));
    CHECK(first_changed(flipped) == first);
  }

  /// The same for a block that `Change` was called on.
  template <auto Change>
  void flip_block(const char* detail, int first, Edit edit = {}) {
    flip<WithBlock<Right, Change>>(detail, first, std::move(edit));
  }

  /// A detail that moves logits by hardly more than the golden's tolerance, or by less. It must
  /// move them by 5 times what a right model differs by.
  template <class Model>
  void flip_faint(const char* detail) {
    CAPTURE(family_);
    CAPTURE(detail);
    const double difference = run<Model, Right>({}, nullptr).difference;
    const bool noticed = difference > 5 * right_.difference;
    print_flip(family_, detail, as_text(difference),
               !noticed                  ? "missed"
               : difference > tolerance_ ? "noticed, faint"
                                         : "beneath the tolerance");
    CHECK(noticed);
  }

  /// A detail that later norms take out again, up to their epsilon: a golden can't notice it. That
  /// it changed something at all is checked by the bits.
  void flip_cancels(const char* detail, Mistakes mistakes) {
    CAPTURE(family_);
    CAPTURE(detail);
    const Outcome flipped = run<Right, Right>({}, &mistakes);
    const bool cancels = flipped.difference <= tolerance_ && flipped.logits != right_.logits;
    print_flip(family_, detail, as_text(flipped.difference),
               cancels ? "cancels in a norm" : "does not cancel");
    CHECK(cancels);
  }

  /// A model that the file's tensors refuse.
  template <class Model>
  void flip_refused(const char* detail, const std::string& words) {
    CAPTURE(family_);
    CAPTURE(detail);
    std::string said;
    try {
      run<Model, Right>({}, nullptr);
    } catch (const Error& error) {
      said = error.what();
    }
    CAPTURE(said);
    const bool noticed = said.find(words) != std::string::npos;
    print_flip(family_, detail, "refused", noticed ? "noticed" : "missed");
    CHECK(noticed);
  }

 private:
  struct Outcome {
    double difference;  // of logits, from the golden's
    std::vector<float> logits;
    std::vector<std::vector<float>> residuals;  // after each layer
  };

  /// Cold, so that a hundred decoders, each used once, compile in little time.
  template <class Model, class SourceModel>
  [[gnu::cold]] Outcome run(Edit edit, Mistakes* mistakes) {
    FlippedHost host;
    host.mistakes = mistakes;
    Edited source(SafetensorsSource<SourceModel>(file_.weights), std::move(edit));
    const auto weights = load_weights<Model>(host, source);
    CHECK(source.edited());
    const std::vector<std::int32_t> ids = to_ids(file_.golden.read_i64("input_ids"));
    using OnePlan = Plan<Model, f32, Chunk<160>, Rewind<0>, KeyTile<16>>;
    Decoder<OnePlan, FlippedHost> decoder(host, weights, 160);
    Outcome outcome;
    decoder.probe = [&](std::int64_t, const float* residual, std::int64_t rows) {
      outcome.residuals.emplace_back(residual, residual + rows * Model::hidden);
    };
    outcome.logits = all_logits(decoder, 0, ids);
    outcome.difference = max_difference(outcome.logits, file_.golden.read_f32("logits"));
    return outcome;
  }

  int first_changed(const Outcome& flipped) const {
    for (int layer = 0; layer < layers; ++layer) {
      const auto i = static_cast<std::size_t>(layer);
      if (max_difference(flipped.residuals[i], right_.residuals[i]) > tolerance_) return layer;
    }
    return logits_only;
  }

  const char* family_;
  TinyFile file_;
  double tolerance_;
  Outcome right_;
};

}  // namespace kvring::test
