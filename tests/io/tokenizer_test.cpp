// The tokenizer: each of its rules on a small vocabulary, naive statements of merging and of
// special tokens, and the real vocabulary against llama.cpp's ids.
#include "kvring/io/tokenizer.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "io_test.hpp"
#include "kvring/io/load_tokenizer.hpp"
#include "kvring/io/safetensors.hpp"
#include "vocabulary_writer.hpp"

using io_test::check_refused;
using io_test::GgufWriter;
using io_test::Random;
using io_test::TempFile;
using io_test::VocabularyWriter;
using kvring::ControlTokens;
using kvring::StreamDecoder;
using kvring::TokenId;
using kvring::Tokenizer;

namespace {

using Ids = std::vector<TokenId>;

// The file is gone when this returns: the tokenizer must not need it.
std::unique_ptr<Tokenizer> load(const GgufWriter& file) {
  const TempFile temp(file.bytes());
  return kvring::load_tokenizer(kvring::GgufFile(temp.path()));
}
std::unique_ptr<Tokenizer> load(const VocabularyWriter& vocabulary) {
  return load(vocabulary.file());
}

void refused(const GgufWriter& file, std::initializer_list<std::string_view> words) {
  check_refused([&] { load(file); }, words);
}
GgufWriter without(std::string_view key) { return VocabularyWriter{}.file().without(key); }

Ids bytes(std::string_view text) {
  Ids out;
  for (const char c : text) out.push_back(VocabularyWriter::byte(static_cast<unsigned char>(c)));
  return out;
}

Ids join(std::initializer_list<Ids> parts) {
  Ids out;
  for (const Ids& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

const std::string space = "\xe2\x96\x81";

}  // namespace

TEST_CASE("utf8: what begins a character") {
  using kvring::utf8_front;
  CHECK(utf8_front("a\xff") == 1);
  CHECK(utf8_front(std::string_view("\0", 1)) == 1);
  CHECK(utf8_front("\xc3\xa9") == 2);
  CHECK(utf8_front("\xe2\x82\xac!") == 3);
  CHECK(utf8_front("\xf0\x9f\x91\x8d") == 4);
  CHECK(utf8_front("\xf4\x8f\xbf\xbf") == 4);
  CHECK(utf8_front("\xed\x9f\xbf") == 3);
  CHECK(utf8_front("\xc3") == -1);
  CHECK(utf8_front("\xe2\x82") == -2);
  CHECK(utf8_front("\xf0\x9f\x91") == -3);
  // A lone continuation, overlong forms, surrogates, beyond U+10FFFF, no lead at all, a break.
  for (const char* bad :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xed\xa0\x80",
        "\xf4\x90\x80\x80", "\xf5\x80", "\xff", "\xc3(", "\xe2\x82(", "\xf0\x9f\x91("}) {
    CHECK(utf8_front(bad) == 0);
  }
  CHECK(kvring::utf8_unfinished("") == 0);
  CHECK(kvring::utf8_unfinished("ab") == 0);
  CHECK(kvring::utf8_unfinished("a\xf0\x9f\x91") == 3);
  CHECK(kvring::utf8_unfinished("\xc3\xa9\xe2") == 1);
  CHECK(kvring::utf8_unfinished("\xe2\x82\xac") == 0);
  CHECK(kvring::utf8_unfinished("\x82\xac") == 0);
  CHECK(kvring::utf8_unfinished("\xed\xa0") == 0);
}

TEST_CASE("utf8: counts of every lead and second byte, by the code points they can stand for") {
  // Independent count: encode every code point and collect the two-byte beginnings.
  std::set<std::string> beginnings;
  for (unsigned c = 0x80; c <= 0x10ffff; ++c) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    const int extra = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    const unsigned lead = (extra == 1 ? 0xc0u : extra == 2 ? 0xe0u : 0xf0u) | c >> 6 * extra;
    const unsigned second = 0x80u | (c >> 6 * (extra - 1) & 63u);
    beginnings.insert({static_cast<char>(lead), static_cast<char>(second)});
  }
  int wrong = 0;
  for (int a = 0x80; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string text{static_cast<char>(a), static_cast<char>(b)};
      wrong += (kvring::utf8_front(text) != 0) != beginnings.contains(text);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("tokenizer: the best score merges first, whatever is further left") {
  VocabularyWriter v;
  const TokenId a = v.add("a", -9), b = v.add("b", -9), c = v.add("c", -9);
  const TokenId ab = v.add("ab", -2), bc = v.add("bc", -1), abc = v.add("abcc", -0.5f);
  const auto t = load(v);
  CHECK(t->encode("abc", false) == Ids{a, bc});
  CHECK(t->encode("abab", false) == Ids{ab, ab});
  CHECK(t->encode("abcc", false) == Ids{a, bc, c});  // no path of pairs leads to abcc
  CHECK(t->encode("b", false) == Ids{b});
  CHECK(t->vocabulary().text(abc) == "abcc");
}

TEST_CASE("tokenizer: of equal scores the leftmost merges first") {
  VocabularyWriter v;
  const TokenId a = v.add("a", -9), aa = v.add("aa", -1);
  const auto t = load(v);
  CHECK(t->encode("aaa", false) == Ids{aa, a});
  CHECK(t->encode("aaaaa", false) == Ids{aa, aa, a});
}

TEST_CASE("tokenizer: merges build on merges, and stale ones are dropped") {
  VocabularyWriter v;
  for (const char* one : {"a", "b", "c", "d"}) v.add(one, -9);
  const TokenId ab = v.add("ab", -3), cd = v.add("cd", -4), abcd = v.add("abcd", -5);
  const TokenId bc = v.add("bc", -3.5f);
  const auto t = load(v);
  CHECK(t->encode("abcd", false) == Ids{abcd});  // bc was proposed, but b is gone
  CHECK(t->encode("abcdab", false) == Ids{abcd, ab});
  CHECK(t->encode("bcd", false) == join({{bc}, t->encode("d", false)}));
  CHECK(t->encode("cd", false) == Ids{cd});
}

TEST_CASE("tokenizer: a token may come from parts that are none") {
  VocabularyWriter v;
  const TokenId ab = v.add("ab", -1);
  const auto t = load(v);
  CHECK(t->encode("abb", false) == join({{ab}, bytes("b")}));
}

TEST_CASE("tokenizer: a space is U+2581 inside, and a space again outside") {
  VocabularyWriter v;
  const TokenId a = v.add("a", -9), s = VocabularyWriter::space, sa = v.add(space + "a", -1);
  const auto t = load(v);
  CHECK(t->encode("a a", false) == Ids{a, sa});
  CHECK(t->encode("  a ", false) == Ids{s, sa, s});
  CHECK(t->decode(Ids{s, sa, a}) == "  aa");
  // No prefix is added, and U+2581 in the text itself is taken for a space: it can't come back.
  CHECK(t->encode("a", false) == Ids{a});
  CHECK(t->decode(t->encode(space + "a", false)) == " a");
}

TEST_CASE("tokenizer: what no token covers becomes bytes") {
  VocabularyWriter v;
  const TokenId a = v.add("a", -9), e = v.add("\xc3\xa9", -9);
  const auto t = load(v);
  CHECK(t->encode("a\xe2\x82\xac"
                  "a",
                  false) == join({{a}, bytes("\xe2\x82\xac"), {a}}));
  CHECK(t->encode("\xc3\xa9z", false) == join({{e}, bytes("z")}));
  CHECK(t->encode(std::string_view("\0\n", 2), false) == bytes(std::string_view("\0\n", 2)));
  CHECK(t->decode(bytes("\xe2\x82\xac")) == "\xe2\x82\xac");
}

TEST_CASE("tokenizer: invalid UTF-8 becomes bytes and spoils no neighbour") {
  VocabularyWriter v;
  const TokenId a = v.add("a", -9);
  const auto t = load(v);
  for (const char* bad : {"\x80", "\xff", "\xc3", "\xc0\x80", "\xe2\x96", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xf0\x9f\x91"}) {
    const std::string text = std::string("a") + bad + "a" + bad;
    CHECK(t->encode(text, false) == join({{a}, bytes(bad), {a}, bytes(bad)}));
    CHECK(t->decode(t->encode(text)) == text);
  }
}

TEST_CASE("tokenizer: special tokens are taken whole, the longest first") {
  VocabularyWriter v;
  for (const char* one : {"<", ">", "b", "o", "s", "x"}) v.add(one, -9);
  const TokenId run2 = v.add("  ", -1000, 4), run3 = v.add("   ", -1000, 4);
  const TokenId tag = v.add("<b>", -1000, 4), turn = v.add("<x><b>", -1000, 3);
  const auto t = load(v);
  const TokenId s = VocabularyWriter::space, x = *t->vocabulary().find("x");
  CHECK(t->encode("<bos>x<eos>", false) == Ids{1, x, 2});
  CHECK(t->encode("<bos>", true) == Ids{1, 1});
  CHECK(t->encode("x<b>x", false) == Ids{x, tag, x});
  CHECK(t->encode("<x><b>", false) == Ids{turn});
  CHECK(t->encode("       ", false) == Ids{run3, run3, s});
  CHECK(t->encode("     ", false) == Ids{run3, run2});
  CHECK(t->encode("<unk>", false) == Ids{0});
  CHECK(t->encode("<bos", false).size() == 4);
  const Ids ids = t->encode("<bos>x  <x><b><b><unk>", false);
  CHECK(t->decode(ids) == "x  <b>");
  CHECK(t->decode(ids, ControlTokens::show) == "<bos>x  <x><b><b><unk>");
}

TEST_CASE("tokenizer: a longer special token wins over one that begins further left") {
  VocabularyWriter v;
  v.add("x", -9);
  const TokenId ab = v.add("ab", -1000, 4), bcd = v.add("bcd", -1000, 4);
  const auto t = load(v);
  CHECK(t->encode("abcd", false) == join({bytes("a"), {bcd}}));
  CHECK(t->encode("abc", false) == join({{ab}, bytes("c")}));
}

TEST_CASE("tokenizer: text that looks like a byte token is text") {
  VocabularyWriter v;
  for (const char* part : {"<", "0", "x", "4", "1", ">"}) v.add(part, -9);
  v.add("<0", -1), v.add("<0x", -1), v.add("<0x4", -1);
  const TokenId almost = v.add("<0x41", -1);
  const auto t = load(v);
  const Ids ids = t->encode("<0x41>", false);
  CHECK(ids == Ids{almost, *t->vocabulary().find(">")});
  CHECK(t->decode(ids) == "<0x41>");
}

TEST_CASE("tokenizer: the token in front") {
  const auto t = load(VocabularyWriter{});
  CHECK(t->vocabulary().add_bos());
  CHECK(t->encode("") == Ids{1});
  CHECK(t->encode("", false).empty());
  CHECK(t->encode("a") == join({{1}, bytes("a")}));
  CHECK(t->decode(Ids{1}) == "");
  CHECK(t->decode(Ids{}) == "");
  GgufWriter file = without("tokenizer.ggml.add_bos_token");
  file.add("tokenizer.ggml.add_bos_token", false);
  CHECK(load(file)->encode("a") == bytes("a"));
}

TEST_CASE("tokenizer: ids outside the vocabulary") {
  const auto t = load(VocabularyWriter{});
  REQUIRE(t->vocabulary().size() == 260);
  StreamDecoder stream(*t);
  for (const TokenId id :
       {-1, 260, std::numeric_limits<TokenId>::max(), std::numeric_limits<TokenId>::min()}) {
    const std::string digits = std::to_string(id);
    check_refused([&] { t->decode(Ids{id}); }, {"token id " + digits, "260 tokens"});
    check_refused([&] { t->vocabulary().text(id); }, {"token id " + digits, "260 tokens"});
    check_refused([&] { stream.push(id); }, {"token id " + digits, "260 tokens"});
  }
}

TEST_CASE("tokenizer: a stream never splits a character") {
  VocabularyWriter v;
  const TokenId euro_head = v.add("x", -9);
  const auto t = load(v);
  StreamDecoder stream(*t);
  const auto byte = [](unsigned b) { return VocabularyWriter::byte(b); };
  CHECK(stream.push(euro_head) == "x");
  CHECK(stream.push(byte(0xe2)) == "");
  CHECK(stream.push(1) == "");
  CHECK(stream.push(byte(0x82)) == "");
  CHECK(stream.push(byte(0xac)) == "\xe2\x82\xac");
  CHECK(stream.push(byte(0xf0)) == "");
  CHECK(stream.push(byte(0x9f)) == "");
  CHECK(stream.push(euro_head) == "\xf0\x9fx");  // it will never be whole
  CHECK(stream.push(byte(0xc3)) == "");
  CHECK(stream.push(byte(0xc3)) == "\xc3");
  CHECK(stream.flush() == "\xc3");
  CHECK(stream.flush() == "");
  CHECK(StreamDecoder(*t, ControlTokens::show).push(1) == "<bos>");
}

TEST_CASE("tokenizer: a stream's texts, joined, are the decoded text") {
  VocabularyWriter v;
  v.add("\xc3\xa9", -1), v.add(space + "a", -1), v.add("\xf0\x9f\x91\x8d", -1);
  const auto t = load(v);
  Random random(3);
  for (int round = 0; round < 300; ++round) {
    Ids ids;
    for (int i = 0; i < 40; ++i) {
      // Mostly bytes that begin or continue characters.
      const std::size_t pick = random.below(4);
      ids.push_back(pick == 0 ? static_cast<TokenId>(random.below(t->vocabulary().size()))
                    : pick == 1
                        ? VocabularyWriter::byte(0xc2 + static_cast<unsigned>(random.below(51)))
                        : VocabularyWriter::byte(0x80 + static_cast<unsigned>(random.below(64))));
    }
    // The places where a piece may end: between characters, and beside bytes that belong to none.
    const std::string whole = t->decode(ids);
    std::set<std::size_t> borders{0};
    for (std::size_t at = 0; at < whole.size();) {
      const int length = kvring::utf8_front(std::string_view(whole).substr(at));
      borders.insert(at += static_cast<std::size_t>(std::max(length, 1)));
    }
    StreamDecoder stream(*t);
    std::string joined;
    for (const TokenId id : ids) {
      joined += stream.push(id);
      CHECK(borders.contains(joined.size()));
    }
    const std::string rest = stream.flush();
    CHECK(rest.size() <= 3);
    CHECK(joined + rest == whole);
  }
}

TEST_CASE("tokenizer: merging equals its naive statement") {
  Random random(11);
  for (int round = 0; round < 60; ++round) {
    VocabularyWriter v;
    std::set<std::string> known;
    const auto score = [&] { return -static_cast<float>(random.below(6)); };
    for (const char* one : {"a", "b", "c"}) {
      if (random.below(5) != 0) v.add(one, score()), known.insert(one);
    }
    for (int i = 0; i < 25; ++i) {
      std::string token;
      for (std::size_t n = 2 + random.below(4); n > 0; --n) {
        token += static_cast<char>('a' + random.below(3));
      }
      if (known.insert(token).second) v.add(token, score());
    }
    const auto t = load(v);
    for (int text_number = 0; text_number < 20; ++text_number) {
      std::string text;
      for (std::size_t n = random.below(40); n > 0; --n) {
        text += static_cast<char>('a' + random.below(3));
      }
      // Look at all pairs, merge the best, start again.
      std::vector<std::string> parts;
      for (const char c : text) parts.emplace_back(1, c);
      for (;;) {
        std::size_t best = parts.size();
        float best_score = -1e9f;
        for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
          if (!known.contains(parts[i] + parts[i + 1])) continue;
          const auto id = *t->vocabulary().find(parts[i] + parts[i + 1]);
          const float here = v.scores[static_cast<std::size_t>(id)];
          if (here > best_score) best = i, best_score = here;
        }
        if (best == parts.size()) break;
        parts[best] += parts[best + 1];
        parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
      }
      Ids want;
      for (const std::string& part : parts) {
        want = join({want, known.contains(part) ? Ids{*t->vocabulary().find(part)} : bytes(part)});
      }
      CHECK(t->encode(text, false) == want);
      CHECK(t->decode(want) == text);
    }
  }
}

TEST_CASE("tokenizer: special tokens equal their naive statement") {
  Random random(12);
  for (int round = 0; round < 60; ++round) {
    VocabularyWriter v;
    std::vector<std::string> specials;
    for (int i = 0; i < 12; ++i) {
      std::string token;
      for (std::size_t n = 1 + random.below(4); n > 0; --n) {
        token += static_cast<char>('p' + random.below(3));
      }
      if (std::find(specials.begin(), specials.end(), token) != specials.end()) continue;
      specials.push_back(token);
      v.add(token, 0, random.below(2) == 0 ? 3 : 4);
    }
    std::stable_sort(specials.begin(), specials.end(),
                     [](auto& a, auto& b) { return a.size() > b.size(); });
    const auto t = load(v);
    for (int text_number = 0; text_number < 20; ++text_number) {
      std::string text;
      for (std::size_t n = random.below(30); n > 0; --n) {
        text += static_cast<char>('p' + random.below(4));
      }
      // Mark the characters that each token takes, in order of length.
      std::vector<TokenId> owner(text.size(), -1), start(text.size(), -1);
      for (const std::string& special : specials) {
        for (std::size_t i = 0; i + special.size() <= text.size(); ++i) {
          const bool free =
              std::all_of(owner.begin() + static_cast<std::ptrdiff_t>(i),
                          owner.begin() + static_cast<std::ptrdiff_t>(i + special.size()),
                          [](TokenId id) { return id < 0; });
          if (!free || text.compare(i, special.size(), special) != 0) continue;
          start[i] = *t->vocabulary().find(special);
          for (std::size_t k = 0; k < special.size(); ++k) owner[i + k] = start[i];
        }
      }
      Ids want;
      for (std::size_t i = 0; i < text.size(); ++i) {
        if (start[i] >= 0) want.push_back(start[i]);
        if (owner[i] < 0) want.push_back(bytes(text.substr(i, 1))[0]);
      }
      CHECK(t->encode(text, false) == want);
      CHECK(t->decode(want, ControlTokens::show) == text);
    }
  }
}

TEST_CASE("tokenizer: any bytes come back") {
  VocabularyWriter v;
  for (const char* token : {"a", "e", "th", "the", "<", "\xc3\xa9", "\n"}) v.add(token, -1);
  v.add(space + "the", -1), v.add("  ", 0, 4), v.add("\n\n", 0, 4);
  const auto t = load(v);
  Random random(5);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    const char some[] = "  the\n<\xc3\xa9\xe2\x96";
    for (std::size_t n = random.below(60); n > 0; --n) {
      text += random.below(4) == 0 ? static_cast<char>(random()) : some[random.below(sizeof some)];
    }
    if (text.find(space) != std::string::npos) continue;
    CHECK(t->decode(t->encode(text)) == text);
  }
}

TEST_CASE("tokenizer: what a file must hold") {
  CHECK_NOTHROW(load(VocabularyWriter{}));
  for (const char* key : {"model", "tokens", "scores", "token_type", "bos_token_id", "eos_token_id",
                          "add_bos_token"}) {
    const std::string name = std::string("tokenizer.ggml.") + key;
    refused(without(name), {"no metadata key " + name});
    GgufWriter file = without(name);
    file.add(name, 1.5f);
    refused(file, {"metadata key " + name + " is f32"});
  }
  VocabularyWriter other;
  other.model = "bert";
  refused(other.file(), {"tokenizer.ggml.model is bert", "supported: llama", "gpt2"});

  refused(without("tokenizer.ggml.add_space_prefix"),
          {"add_space_prefix is true (by default)", "supported: false"});
  GgufWriter file = without("tokenizer.ggml.add_space_prefix");
  file.add("tokenizer.ggml.add_space_prefix", true);
  refused(file, {"add_space_prefix is true", "supported: false"});
  file = VocabularyWriter{}.file();
  file.add("tokenizer.ggml.add_eos_token", true);
  refused(file, {"add_eos_token is true", "supported: false"});

  for (const char* key : {"bos_token_id", "eos_token_id", "eot_token_id"}) {
    const std::string name = std::string("tokenizer.ggml.") + key;
    file = without(name);
    file.add(name, std::uint32_t{260});
    refused(file, {name + " is 260", "260 tokens"});
    file = without(name);
    file.add(name, std::int32_t{-1});
    refused(file, {name + " is -1"});
  }
}

TEST_CASE("tokenizer: the token that ends a turn") {
  GgufWriter file = VocabularyWriter{}.file();
  const auto eot = [&] {
    const TempFile temp(file.bytes());
    return kvring::Vocabulary(kvring::GgufFile(temp.path())).eot();
  };
  CHECK(!eot().has_value());
  file.add("tokenizer.ggml.eot_token_id", std::uint32_t{17});
  CHECK(eot() == kvring::TokenId{17});
}

TEST_CASE("tokenizer: arrays that don't fit the vocabulary") {
  VocabularyWriter v;
  v.scores.pop_back();
  refused(v.file(), {"tokenizer.ggml.scores has 259 entries", "tokens has 260"});
  v = {};
  v.kinds.push_back(1);
  refused(v.file(), {"tokenizer.ggml.token_type has 261 entries", "tokens has 260"});
  v = {};
  v.add("x", std::numeric_limits<float>::quiet_NaN());
  refused(v.file(), {"token 260 has score NaN"});
  for (const std::int32_t kind : {0, 7, -1}) {
    v = {};
    v.add("x", 0, kind);
    refused(v.file(), {"token 260", "unknown kind " + std::to_string(kind)});
  }
  v = {};
  v.add("", 0);
  refused(v.file(), {"token 260", "no text"});
  v = {};
  v.add("x", 0), v.add("x", 1);
  refused(v.file(), {"tokens 260 and 261", "same text, x"});
  v = {};
  v.kinds[3 + 0x41] = 1;
  refused(v.file(), {"no token for byte 65"});
  v = {};
  v.kinds[VocabularyWriter::space] = 4;
  refused(v.file(), {"no token for the space"});
  for (const char* name : {"<0x4>", "<0x4g>", "[0x41]", "<0xAa>"}) {
    v = {};
    v.tokens[3 + 0x41] = name;
    refused(v.file(), {"byte token 68", name});
  }
}

TEST_CASE("tokenizer: Gemma 3 gives llama.cpp's ids") {
  const char* path =
      io_test::path_or_skip("KVRING_GEMMA3", "tokenizer: Gemma 3 gives llama.cpp's ids");
  if (path == nullptr) return;
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto ms = [](auto duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
  };
  const auto before_load = now();
  const auto t = kvring::load_tokenizer(kvring::GgufFile(path));
  MESSAGE("loaded in ", ms(now() - before_load), " ms");
  CHECK(t->vocabulary().size() == 262144);
  CHECK(t->vocabulary().bos() == 2);
  CHECK(t->vocabulary().eos() == 1);

  const auto cases =
      nlohmann::json::parse(io_test::read_file(KVRING_TEST_DATA "/real/tokenizer-gemma3.json"));
  CHECK(cases.size() == 31);
  for (const auto& each : cases) {
    const auto text = each["text"].get<std::string>();
    CAPTURE(text);
    const Ids ids = t->encode(text);
    CHECK(ids == each["ids"].get<Ids>());
    // What was added in front is no part of the text; control tokens that it spells out are.
    const std::span<const TokenId> own = std::span(ids).subspan(1);
    CHECK(t->decode(own, ControlTokens::show) == text);
    const bool plain = std::none_of(own.begin(), own.end(), [&](TokenId id) {
      return t->vocabulary().kind(id) == kvring::TokenKind::control;
    });
    if (plain) CHECK(t->decode(ids) == text);
    StreamDecoder stream(*t);
    std::string joined;
    for (const TokenId id : ids) joined += stream.push(id);
    CHECK(joined + stream.flush() == t->decode(ids));
  }

  const std::string licence = io_test::read_file("/usr/share/common-licenses/GPL-3");
  const auto before_encode = now();
  const Ids ids = t->encode(licence);
  MESSAGE(licence.size(), " bytes to ", ids.size(), " ids in ", ms(now() - before_encode), " ms");
  const auto want = kvring::SafetensorsFile(KVRING_TEST_DATA "/real/gemma3-270m-gpl3.safetensors")
                        .read_i64("ids");
  REQUIRE(want.size() == 5400);
  REQUIRE(ids.size() >= want.size());
  CHECK(std::equal(want.begin(), want.end(), ids.begin()));
  CHECK(t->decode(ids) == licence);
}
