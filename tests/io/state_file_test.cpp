// State files: what is written is read again, bit for bit; and what is cut short, damaged, another
// version's or another model's is refused, in words that name what differs.
#include "kvring/io/state_file.hpp"

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "io_test.hpp"
#include "kvring/kernels/append.hpp"

using namespace kvring;
using namespace io_test;

namespace {

/// A model for a decoder, with one number to change for each field that must be equal.
struct Numbers {
  std::int64_t window = 5, q = 2, kv = 1, dim = 4, layers = 6, hidden = 8, ffn = 16, words = 50;
  double theta = 10'000, scaling = 1, epsilon = 1e-6, scalar = 4;
  std::int64_t rotated = 4, turning = 0, shared = 0, ring = 0, inputs = 0;
  bool v_norm = false, own_values = true, mirrored = false;
};
template <Numbers N>
struct LocalOf : Layer<Swa<N.window>, Heads{.q = N.q, .kv = N.kv, .dim = N.dim}> {
  static constexpr const char* name = "local";
  static constexpr Rope rope{
      .theta = N.theta, .scaling = N.scaling, .rotated = N.rotated, .turning = N.turning};
  static constexpr double query_scalar = N.scalar;
  static constexpr bool value_from_key = !N.own_values;
};
template <Numbers N>
struct GlobalOf : Layer<Dense, Heads{.q = N.q, .kv = N.kv, .dim = N.dim}> {
  static constexpr const char* name = "global";
};
template <Numbers N>
struct Small {
  static constexpr const char* name = "Small";
  using Local = LocalOf<N>;
  using Global = GlobalOf<N>;
  using Layers = std::conditional_t<N.mirrored, Hybrid<N.layers, Local, Global, Local>,
                                    Hybrid<N.layers, Local, Local, Global>>;
  using Sharing = SharedKv<N.shared>;
  static constexpr Block block{.v_norm = N.v_norm, .per_layer_width = N.inputs};
  static constexpr double norm_epsilon = N.epsilon;
  static constexpr std::int64_t hidden = N.hidden, ffn = N.ffn, vocabulary = N.words;
};
template <Numbers N, class T = f32, class ChunkType = Chunk<3>, class Tile = KeyTile<2>>
using PlanOf = Plan<Small<N>, T, ChunkType, Rewind<2>, Tile>;
using SmallPlan = PlanOf<Numbers{}>;

struct OtherName : Small<Numbers{}> {
  static constexpr const char* name = "Other";
};

/// A sequence whose rows are numbers of their position and layer.
template <class PlanType>
void fill(Caches<PlanType, Host>& caches, std::int64_t rows) {
  for (std::int64_t p = 0; p < rows; ++p) {
    caches.timeline(0).append(1);
    const Segment segment{0, {p}, 0, 1};
    for (std::int64_t layer = 0; layer < PlanType::layers; ++layer) {
      if (!PlanType::owns_cache(layer)) continue;
      PlanType::with_kind(PlanType::kind_of[layer], [&](auto of) {
        const auto view = caches.template view<typename decltype(of)::type>(layer);
        const std::vector<float> k(16, static_cast<float>(p + 100 * layer)), v(16, -k[0]);
        Append<std::remove_const_t<decltype(view)>>{view, {&segment, 1, 1}, k.data(), v.data()}(0);
      });
    }
  }
}

template <class PlanType>
Snapshot<PlanType> small_snapshot(std::int64_t rows = 12, std::int64_t back = 1) {
  Caches<PlanType, Host> caches(Host{}, 40, 1);
  fill(caches, rows);
  caches.timeline(0).rewind_to({rows - back});
  return Snapshot<PlanType>(caches, 0);
}

const std::vector<std::int32_t> tokens{7, 1, 4, 9, 0, 3, 3, 3, 8, 2, 6, 5, 11};
const std::vector<PlanField> weights{{"weights", "1234abcd"}};

/// The bytes of a state file of the small plan.
std::string small_state() {
  const TempFile file("");
  write_state(file.path().string(), small_snapshot<SmallPlan>(), tokens, weights);
  return read_file(file.path());
}

template <class T>
bool same_bits(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

std::string resealed(std::string bytes) {
  bytes.resize(bytes.size() - 8);
  Xxh64 sum;
  sum.add(bytes.data(), bytes.size());
  const std::uint64_t value = sum.value();
  return bytes + std::string(reinterpret_cast<const char*>(&value), 8);
}

}  // namespace

TEST_CASE_TEMPLATE("what is written is read again", T, f32, f16, bf16) {
  using PlanType = PlanOf<Numbers{}, T>;
  for (const std::int64_t rows : {1, 2, 7, 8, 9, 12}) {
    for (const std::int64_t back : {0, 1}) {
      if (rows == 1 && back == 1) continue;
      CAPTURE(rows);
      CAPTURE(back);
      const TempFile file("");
      const auto snapshot = small_snapshot<PlanType>(rows, back);
      write_state(file.path().string(), snapshot, tokens, weights);
      const StateFile state(file.path().string());
      CHECK(state.length() == rows - back);
      CHECK(state.written() == rows);
      CHECK(same_bits(state.tokens(), std::span<const std::int32_t>(tokens)));
      CHECK(state.differences<PlanType>(weights) == "");
      const Snapshot<PlanType> again = state.snapshot<PlanType>(weights);
      CHECK(again.length() == rows - back);
      CHECK(again.written() == rows);
      CHECK(same_bits(again.rows(), snapshot.rows()));
    }
  }
  // Nothing at all, and no tokens.
  const TempFile file("");
  Caches<PlanType, Host> empty(Host{}, 5, 1);
  write_state(file.path().string(), Snapshot<PlanType>(empty, 0), {});
  const StateFile state(file.path().string());
  CHECK(state.length() == 0);
  CHECK(state.tokens().empty());
  CHECK(state.snapshot<PlanType>().rows().empty());
  check_refused([&] { write_state(file.path().string(), small_snapshot<PlanType>(), {}); },
                {"11 positions needs their tokens; 0 were given"});
}

TEST_CASE("a state file costs what is live") {
  // 12 positions of a context of 40: 8 slots of each ring. 11 are held: 7 live rows of each of the
  // four rings, 11 of each of the two full caches, K and V of 4 floats.
  static_assert(SmallPlan::ring_slots<0>() == 8);
  const std::size_t values = std::size_t{2 * 4 * sizeof(float)} * (4 * 7 + 2 * 11);
  CHECK(small_snapshot<SmallPlan>().bytes() == values);
  const std::string bytes = small_state();
  CHECK(bytes.size() > values + tokens.size() * 4);
  CHECK(bytes.size() < values + 2000);
}

TEST_CASE("a state file that ends early is refused, wherever it ends") {
  const std::string whole = small_state();
  TempFile file("");
  const std::string name = file.path().filename().string();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    file.write(whole.substr(0, size));
    check_refused([&] { StateFile{file.path().string()}; },
                  {name, size == 0 ? "is empty" : "is truncated or damaged"});
  }
  file.write(whole + "x");
  check_refused([&] { StateFile{file.path().string()}; }, {name, "1 bytes follow its end"});
  file.write(whole);
  CHECK(StateFile(file.path().string()).differences<SmallPlan>(weights) == "");
}

TEST_CASE("every flipped bit is found") {
  const std::string whole = small_state();
  TempFile file("");
  long refused = 0, bits = 0;
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit, ++bits) {
    std::string bytes = whole;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    file.write(bytes);
    try {
      StateFile{file.path().string()};
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(bits > 10'000);
  CHECK(refused == bits);
}

TEST_CASE("numbers that a sealed file lies about are refused") {
  const std::string whole = small_state();
  TempFile file("");
  const auto with = [&](std::size_t at, std::int64_t value) {
    std::string bytes = whole;
    std::memcpy(bytes.data() + at, &value, sizeof value);
    file.write(resealed(bytes));
    return [&] { StateFile(file.path().string()).snapshot<SmallPlan>(weights); };
  };
  constexpr std::size_t length = 16, written = 24, count = 32, size = 40;
  check_refused(with(length, 14), {"holds 14 positions, but 13 tokens"});
  check_refused(with(length, -1), {"holds -1 positions"});
  check_refused(with(length, 13), {"no sequence holds 13 positions of 12 written"});
  check_refused(with(length, 10), {"a snapshot of 10 positions", "were given"});
  check_refused(with(length, 3), {"no appends and rewinds lead there"});
  check_refused(with(written, std::int64_t{1} << 62), {"no sequence holds"});
  check_refused(with(written, 11), {"values", "were given"});
  for (const std::int64_t huge : {std::int64_t{1} << 40, std::int64_t{-1}, std::int64_t{1} << 62}) {
    check_refused(with(count, huge), {"tokens", "are left"});
    check_refused(with(size, huge), {"values", "are left"});
  }
  check_refused(with(count, 14), {"damaged"});
}

TEST_CASE("another version, another kind of file") {
  std::string bytes = small_state();
  TempFile file("");
  bytes[8] = 2;
  file.write(resealed(bytes));
  check_refused([&] { StateFile{file.path().string()}; },
                {"state file of version 2", "reads version 1"});
  for (const char* other : {"GGUF, and more than eight bytes", "k", "kvringSU and more"}) {
    file.write(other);
    check_refused([&] { StateFile{file.path().string()}; }, {file.path().filename().string()});
  }
  check_refused([&] { StateFile{"/nowhere/state"}; }, {"/nowhere/state", "No such file"});
  check_refused([&] { StateFile{"/dev/null"}; }, {"/dev/null"});
}

TEST_CASE("another model is refused, and each differing field is named with both values") {
  const TempFile file("");
  write_state(file.path().string(), small_snapshot<SmallPlan>(), tokens, weights);
  const StateFile state(file.path().string());
  const auto refused = [&]<class PlanType>(std::type_identity<PlanType>, std::string_view words) {
    CHECK(state.differences<PlanType>(weights) == words);
    check_refused([&] { state.snapshot<PlanType>(weights); },
                  {"is the state of another model: ", words});
  };
#define KVRING_OTHER(CHANGE, WORDS) refused(std::type_identity<PlanOf<Numbers{CHANGE}>>{}, WORDS)
  KVRING_OTHER(.window = 6, "window of local (kind 0) is 5 in the file, 6 here");
  KVRING_OTHER(.q = 4,
               "query heads of local (kind 0) is 2 in the file, 4 here; query heads of global "
               "(kind 1) is 2 in the file, 4 here");
  KVRING_OTHER(.kv = 2,
               "kv heads of local (kind 0) is 1 in the file, 2 here; kv heads of global (kind 1) "
               "is 1 in the file, 2 here");
  KVRING_OTHER(.dim = 8,
               "head width of local (kind 0) is 4 in the file, 8 here; head width of global (kind "
               "1) is 4 in the file, 8 here");
  KVRING_OTHER(.hidden = 9, "hidden width is 8 in the file, 9 here");
  KVRING_OTHER(.ffn = 15,
               "feed-forward widths is 16 16 16 16 16 16 in the file, 15 15 15 15 15 15 here");
  KVRING_OTHER(.words = 51, "vocabulary is 50 in the file, 51 here");
  KVRING_OTHER(.theta = 1e6, "RoPE theta of local (kind 0) is 10000 in the file, 1e+06 here");
  KVRING_OTHER(.scaling = 8, "RoPE scaling of local (kind 0) is 1 in the file, 8 here");
  KVRING_OTHER(.epsilon = 1e-5, "norm epsilon is 1e-06 in the file, 1e-05 here");
  KVRING_OTHER(.scalar = 8, "query scalar of local (kind 0) is 4 in the file, 8 here");
  KVRING_OTHER(.rotated = 2, "rotated values of local (kind 0) is 4 in the file, 2 here");
  KVRING_OTHER(.turning = 1, "turning pairs of local (kind 0) is 0 in the file, 1 here");
  KVRING_OTHER(.shared = 2, "donors of the layers is 0 1 2 3 4 5 in the file, 0 1 2 3 3 2 here");
  KVRING_OTHER(.inputs = 4, "per-layer width is 0 in the file, 4 here");
  KVRING_OTHER(.v_norm = true, "V norm is no in the file, yes here");
  KVRING_OTHER(.own_values = false,
               "values from keys of local (kind 0) is no in the file, yes here");
  KVRING_OTHER(.mirrored = true,
               "kinds of the layers is 0 0 1 0 0 1 in the file, 0 1 0 0 1 0 here");
#undef KVRING_OTHER
  refused(std::type_identity<PlanOf<Numbers{}, f16>>{}, "element is f32 in the file, f16 here");
  refused(std::type_identity<PlanOf<Numbers{}, f32, Chunk<3>, KeyTile<4>>>{},
          "key tile is 2 in the file, 4 here");
  refused(std::type_identity<PlanOf<Numbers{}, f32, Chunk<5>>>{},
          "ring slots of local (kind 0) is 8 in the file, 10 here");
  refused(std::type_identity<Plan<OtherName, f32, Chunk<3>, Rewind<2>, KeyTile<2>>>{},
          "model is Small in the file, Other here");
  refused(
      std::type_identity<PlanOf<Numbers{.layers = 3}>>{},
      "layers is 6 in the file, 3 here; feed-forward widths is 16 16 16 16 16 16 in the file, "
      "16 16 16 here; kinds of the layers is 0 0 1 0 0 1 in the file, 0 0 1 here; donors of the "
      "layers is 0 1 2 3 4 5 in the file, 0 1 2 here");
  // A chunk that makes the same ring is no difference; other weights are one.
  CHECK(state.differences<PlanOf<Numbers{}, f32, Chunk<4>>>(weights) == "");
  const std::vector<PlanField> others{{"weights", "0000"}};
  CHECK(state.differences<SmallPlan>(others) == "weights is 1234abcd in the file, 0000 here");
  CHECK(state.differences<SmallPlan>() == "weights is 1234abcd in the file, absent here");
}
