// Traps of many layers: lengths, offsets, donors, plans and copies of sequences whose layers keep
// different histories; and of rotary embeddings. For each element type and both host kernels.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "kvring/kernels/rope.hpp"
#include "kvring/snapshot.hpp"
#include "memory/ledger.hpp"
#include "refusal.hpp"
#include "traps.hpp"
#include "traps_model.hpp"

using namespace kvring;
using namespace kvring::test;
using namespace kvring::test::traps;

namespace {

TEST_CASE_TEMPLATE("trap_11_a_prefix_is_reused_only_if_every_layer_still_has_it", T, f32, f16,
                   bf16) {
  // At every length, back to every position: what the timeline allows gives the right bits in all
  // layers; what it refuses is wrong in one of them, though others would have allowed it.
  constexpr std::int64_t most = 44, context = 60;
  const Text<T> text(11, context);
  with_each_kernel([&](auto kernel) {
    using Kernel = decltype(kernel);
    long allowed = 0, refused = 0, allowed_by_others = 0;
    for (std::int64_t length = 1; length <= most; ++length) {
      for (std::int64_t p = 1; p <= length; ++p) {
        Caches<MixedPlan<T>, Host> caches(Host{}, context, 1);
        grow(caches, 0, text, length);
        auto& timeline = caches.timeline(0);
        if (p >= timeline.rewind_floor().value) {
          timeline.rewind_to({p});
          REQUIRE(wrong_step<Kernel>(caches, 0, text, 3) == 0);
          ++allowed;
          continue;
        }
        REQUIRE_THROWS_AS(timeline.rewind_to({p}), Error);
        REQUIRE(timeline.length() == length);
        write(caches, 0, text, p, 1);
        REQUIRE(wrong_layers<Kernel>(caches, 0, text, p, 1) > 0);
        ++refused;
        allowed_by_others += timeline.range_of_kind(1).may_rewind_to({p});
      }
    }
    CHECK(allowed > 100);
    CHECK(refused > 100);
    CHECK(allowed_by_others > 10);
  });
}

TEST_CASE_TEMPLATE("trap_13_the_length_is_no_layers_own", T, f32, f16, bf16) {
  // The first layer is the narrowest, and every layer counts what the sequence has, not what it
  // keeps.
  constexpr std::int64_t context = 70;
  const Text<T> text(13, context);
  with_each_kernel([&](auto kernel) {
    for (const std::int64_t rows : {1, 3, 4}) {
      Caches<MixedPlan<T>, Host> caches(Host{}, context, 1);
      const auto& timeline = caches.timeline(0);
      for (std::int64_t done = 0; done + rows <= context; done += rows) {
        REQUIRE(wrong_step<decltype(kernel)>(caches, 0, text, rows) == 0);
        REQUIRE(timeline.length() == done + rows);
        for (int kind = 0; kind < MixedPlan<T>::kinds; ++kind) {
          REQUIRE(timeline.range_of_kind(kind).length() == done + rows);
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("trap_23_a_reader_leaves_its_donor_as_it_is", T, f32, f16, bf16) {
  // Rows are written by their owners. Then layers 3 and 4 attend to the same positions, and no byte
  // has changed.
  using PlanType = MixedPlan<T>;
  static_assert(!PlanType::owns_cache(3) && !PlanType::owns_cache(4));
  static_assert(PlanType::layer_bytes(3, 60) == 0 && PlanType::layer_bytes(4, 60) == 0);
  constexpr std::int64_t context = 60;
  const Text<T> text(23, context);
  const auto image = [](Caches<PlanType, Host>& caches) {
    std::vector<float> all;
    const Snapshot<PlanType> snapshot(caches, 0);
    for (const T x : snapshot.rows()) all.push_back(to_f32(x));
    return all;
  };
  with_each_kernel([&](auto kernel) {
    Caches<PlanType, Host> caches(Host{}, context, 1);
    CHECK(caches.template view<Wide>(3).k == caches.template view<Wide>(1).k);
    CHECK(caches.template view<Global>(4).v == caches.template view<Global>(2).v);
    for (std::int64_t start = 0; start + 3 <= context; start += 3) {
      caches.timeline(0).append(3);
      write(caches, 0, text, start, 3);
      const std::vector<float> before = image(caches);
      REQUIRE(wrong_layers<decltype(kernel)>(caches, 0, text, start, 3) == 0);
      REQUIRE(!differing_bits(image(caches), before));
    }
  });
}

struct Odd : Layer<Swa<7>, Heads{.q = 3, .kv = 3, .dim = 7}> {};
struct Large : Layer<Dense, Heads{.q = 4, .kv = 2, .dim = 20}> {};
struct Unlike {
  using Layers = Hybrid<6, Narrow, Odd, Large>;
};

TEST_CASE_TEMPLATE("trap_24_layers_of_unlike_heads_keep_to_their_own_rows", T, f32, f16, bf16) {
  // Each value says where it belongs; each is looked for where counting by hand puts it.
  using PlanType = Plan<Unlike, T, Chunk<4>, Rewind<6>, KeyTile<4>>;
  const auto mark = [](std::int64_t layer, std::int64_t sequence, std::int64_t p, std::int64_t i) {
    return static_cast<float>((layer * 59 + sequence * 31 + p * 7 + i) % 251 + 1);  // exact in bf16
  };
  for (const std::int64_t context : {3, 12, 13, 40}) {
    CAPTURE(context);
    Ledger ledger;
    const Guarded backend(ledger);
    Caches<PlanType, Guarded> caches(backend, context, 3);
    for (std::int64_t layer = 0; layer < PlanType::layers; ++layer) {
      PlanType::with_kind(PlanType::kind_of[static_cast<std::size_t>(layer)], [&](auto of) {
        constexpr std::int64_t width = decltype(of)::type::heads.kv_dim();
        const auto view = caches.template view<typename decltype(of)::type>(layer);
        for (std::int64_t s = 0; s < 3; ++s) {
          for (std::int64_t p = 0; p < context; ++p) {
            std::vector<float> k, v;
            for (std::int64_t i = 0; i < width; ++i) k.push_back(mark(layer, s, p, i));
            for (std::int64_t i = 0; i < width; ++i) v.push_back(mark(layer, s, p, i + 97));
            const Segment segment{.sequence = s, .start = {p}, .first_row = 0, .rows = 1};
            Append<std::remove_const_t<decltype(view)>>{
                view, {&segment, 1, 1}, k.data(), v.data()}(0);
          }
        }
      });
    }
    long wrong = 0;
    for (std::int64_t layer = 0; layer < PlanType::layers; ++layer) {
      PlanType::with_kind(PlanType::kind_of[static_cast<std::size_t>(layer)], [&](auto of) {
        constexpr std::int64_t width = decltype(of)::type::heads.kv_dim();
        const auto view = caches.template view<typename decltype(of)::type>(layer);
        const std::int64_t ring = layer % 3 == 0 ? 12 : layer % 3 == 1 ? 12 : context;
        const std::int64_t kept = std::min(ring, context);
        wrong += view.slots != kept || view.v != view.k + 3 * kept * width;
        for (std::int64_t s = 0; s < 3; ++s) {
          for (std::int64_t p = context - kept; p < context; ++p) {
            const std::int64_t at = (s * kept + p % kept) * width;
            for (std::int64_t i = 0; i < width; ++i) {
              wrong += to_f32(view.k[at + i]) != mark(layer, s, p, i);
              wrong += to_f32(view.v[at + i]) != mark(layer, s, p, i + 97);
            }
          }
        }
      });
    }
    CHECK(wrong == 0);
    CHECK(backend.damage() == 0);
  }
}

TEST_CASE_TEMPLATE("trap_32_a_full_context_is_refused_not_shifted", T, f32, f16, bf16) {
  // Keys are stored rotated by their positions, so a row is never given another position: when the
  // context is full the append is refused, and no byte moves.
  constexpr std::int64_t context = 24;
  const Text<T> text(32, context + 1);
  Caches<MixedPlan<T>, Host> caches(Host{}, context, 1);
  grow(caches, 0, text, context);
  const Snapshot<MixedPlan<T>> before(caches, 0);
  CHECK(contains(refusal([&] { caches.timeline(0).append(1); }),
                 "cannot append 1 rows at position 24: the context holds 24 positions"));
  const Snapshot<MixedPlan<T>> after(caches, 0);
  CHECK(after.length() == context);
  CHECK(std::memcmp(after.rows().data(), before.rows().data(), before.bytes()) == 0);
  static_assert(!std::is_convertible_v<Slot, Position> && !std::is_convertible_v<Position, Slot>);
  // Rings alone would have room, and are refused all the same.
  LiveRange ring(12, 5, context);
  while (ring.length() < context) ring.append(1);
  CHECK(contains(refusal([&] { ring.append(1); }), "the context holds 24 positions"));
}

TEST_CASE_TEMPLATE("trap_33_a_copy_knows_how_far_it_was_written", T, f32, f16, bf16) {
  // Drafts were taken back before the copy was made. It may go back as far as the original, and no
  // further; whatever is allowed gives the right bits.
  constexpr std::int64_t context = 60;
  const Text<T> text(33, context);
  with_each_kernel([&](auto kernel) {
    using Kernel = decltype(kernel);
    for (std::int64_t length = 5; length <= 48; length += 3) {
      for (const std::int64_t taken_back : {0, 2, 4}) {
        CAPTURE(length);
        CAPTURE(taken_back);
        Caches<MixedPlan<T>, Host> caches(Host{}, context, 2);
        grow(caches, 0, text, length);
        caches.timeline(0).rewind_to({length - taken_back});
        const Snapshot<MixedPlan<T>> saved(caches, 0);
        fork(caches, 0, 1);
        const Position floor = caches.timeline(0).rewind_floor();
        CHECK(caches.timeline(1).rewind_floor() == floor);
        CHECK(caches.timeline(1).written() == length);
        for (std::int64_t p = 1; p <= length - taken_back; ++p) {
          Caches<MixedPlan<T>, Host> elsewhere(Host{}, context + 7, 1);
          saved.restore(elsewhere, 0);
          auto& timeline = elsewhere.timeline(0);
          if (p < floor.value) {
            REQUIRE_THROWS_AS(timeline.rewind_to({p}), Error);
            continue;
          }
          timeline.rewind_to({p});
          REQUIRE(wrong_step<Kernel>(elsewhere, 0, text, 3) == 0);
        }
        caches.timeline(1).rewind_to({floor});
        CHECK(wrong_step<Kernel>(caches, 1, text, 3) == 0);
      }
    }
  });
}

TEST_CASE_TEMPLATE("trap_35_the_plan_is_what_is_allocated", T, f32, f16, bf16) {
  using PlanType = MixedPlan<T>;
  // By hand: rings of 5 - 1 + 6 and 9 - 1 + 6 slots in tiles of 4, not of 5 and 9.
  constexpr std::int64_t row = 2 * few.kv_dim() * std::int64_t{sizeof(T)};
  static_assert(PlanType::cache_bytes(1'000) == row * (12 + 16 + 1'000));
  static_assert(PlanType::cache_bytes(7, 5) == 5 * row * (7 + 7 + 7));
  for (const std::int64_t context : {1, 5, 9, 11, 12, 13, 16, 17, 1'000}) {
    for (const std::int64_t sequences : {1, 3}) {
      Ledger ledger;
      {
        const Caches<PlanType, Counting> caches(Counting(ledger), context, sequences);
        CHECK(ledger.taken == static_cast<std::size_t>(PlanType::cache_bytes(context, sequences)));
      }
      CHECK(ledger.taken == 0);
    }
  }
}

TEST_CASE_TEMPLATE("trap_37_partial_rotary_turns_its_pairs_and_nothing_else", T, f32, f16, bf16) {
  // Rotated on their way into a ring, against the rotation in double precision. `turning`: of the
  // pairs that exist, how many have an angle (Gemma 4's global layers: 0.25 of them).
  constexpr Heads shape{.q = 2, .kv = 2, .dim = 16};
  constexpr std::int64_t rows = 40, ring = 12;
  // Half a unit of the last place; for f16, of a subnormal too.
  constexpr double rounding = std::is_same_v<T, f32>   ? 0x1p-24
                              : std::is_same_v<T, f16> ? 0x1p-11
                                                       : 0x1p-8;
  for (const Rope rope :
       {Rope{.theta = 100, .rotated = 4}, Rope{.theta = 100, .rotated = 6},
        Rope{.theta = 100, .rotated = 16, .turning = 2}, Rope{.theta = 100, .rotated = 16}}) {
    const Prompt<shape, T> prompt(37, rows);
    TestCache<shape, T> cache(1, ring);
    const Segment segment{.sequence = 0, .start = {0}, .first_row = 0, .rows = rows};
    const Batch batch{&segment, 1, rows};
    std::vector<float> angles(static_cast<std::size_t>(rows * rope.rotated)), k = prompt.k;
    for (std::int64_t row = 0; row < rows; ++row) RopeTable{batch, rope, angles.data()}(row);
    for (std::int64_t row = 0; row < rows; ++row) {
      RotateHeads{angles.data(), k.data(), shape.kv, shape.dim, rope.rotated}(row);
    }
    for (std::int64_t row = 0; row < rows; ++row) {
      Append<typename TestCache<shape, T>::View>{cache.view(), batch, k.data(),
                                                 prompt.v.data()}(row);
    }
    long wrong = 0;
    for (std::int64_t p = rows - ring; p < rows; ++p) {
      for (std::int64_t head = 0; head < shape.kv; ++head) {
        const auto raw = prompt.k_at(p).subspan(static_cast<std::size_t>(head * shape.dim));
        const T* kept = cache.view().k + cache.view().row(0, {p}) + head * shape.dim;
        const std::int64_t half = rope.rotated / 2;
        for (std::int64_t i = 0; i < shape.dim; ++i) {
          const auto at = static_cast<std::size_t>(i);
          const double x = to_f32(kept[i]);
          const std::int64_t pair = i % std::max<std::int64_t>(half, 1);
          if (i >= rope.rotated || (rope.turning > 0 && pair >= rope.turning)) {
            wrong += x != raw[at];
            continue;
          }
          const double exponent =
              -2.0 * static_cast<double>(pair) / static_cast<double>(rope.rotated);
          const double angle = static_cast<double>(p) * std::pow(rope.theta, exponent);
          const double a = raw[static_cast<std::size_t>(pair)];
          const double b = raw[static_cast<std::size_t>(pair + half)];
          const double right = i < half ? a * std::cos(angle) - b * std::sin(angle)
                                        : b * std::cos(angle) + a * std::sin(angle);
          // The angle carries five roundings of f32, the rotation three, |a| and |b| are below 1.
          const double bound =
              (5 * angle + 6) * 0x1p-24 * 2 + rounding * std::fabs(right) + 0x1p-25;
          wrong += !(std::fabs(x - right) <= bound);
        }
      }
    }
    CHECK(wrong == 0);
  }
}

}  // namespace
