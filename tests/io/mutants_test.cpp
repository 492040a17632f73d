// Damaged files: every mutant of a small file is either read or refused with kvring::Error.
// Whatever is read is touched to the last byte, and must lie inside the file. Meant to run under
// ASan too.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gguf_writer.hpp"
#include "io_test.hpp"
#include "kvring/io/load_tokenizer.hpp"
#include "kvring/io/safetensors.hpp"
#include "vocabulary_writer.hpp"

using io_test::Random;
using io_test::TempFile;

namespace {

struct Tally {
  int read = 0, refused = 0, wrong = 0;
};

// Reads every mutant of `original`. `touch` opens the file and looks at all of it.
class Mutants {
 public:
  Mutants(std::string original, std::function<void(const std::filesystem::path&)> touch)
      : original_(std::move(original)), touch_(std::move(touch)) {}

  void bit_flips() {
    each_byte([&](std::string& bytes, std::size_t at) {
      for (int bit = 0; bit < 8; ++bit) {
        bytes[at] = static_cast<char>(original_[at] ^ 1 << bit);
        run(bytes);
      }
    });
  }
  void byte_sets() {
    each_byte([&](std::string& bytes, std::size_t at) {
      for (const int value : {0x00, 0xff, 0x7f, 0x80}) {
        bytes[at] = static_cast<char>(value);
        run(bytes);
      }
    });
  }
  void words(std::size_t step) {
    const std::uint64_t huge = ~std::uint64_t{0};
    for (std::size_t at = 0; at + 8 <= original_.size(); at += step) {
      for (const std::uint64_t word : {huge, huge - 7, huge / 2, huge / 2 + 1, huge / 32 + 1,
                                       std::uint64_t{original_.size()}}) {
        std::string bytes = original_;
        std::memcpy(bytes.data() + at, &word, sizeof word);
        run(bytes);
      }
    }
  }
  void truncations() {
    for (std::size_t size = 0; size < original_.size(); ++size) run(original_.substr(0, size));
  }
  // A piece of the file moved over, put into, or cut out of another place; often several times.
  void splices(int count, std::uint64_t seed) {
    Random random(seed);
    for (int i = 0; i < count; ++i) {
      std::string bytes = original_;
      for (std::size_t cuts = 1 + random.below(3); cuts > 0; --cuts) {
        const std::string piece =
            original_.substr(random.below(original_.size()), 1 + random.below(40));
        const std::size_t at = random.below(bytes.size());
        const std::size_t kind = random.below(3);
        if (kind == 0) bytes.replace(at, piece.size(), piece);
        if (kind == 1) bytes.insert(at, piece);
        if (kind == 2) bytes.erase(at, piece.size());
        if (bytes.empty()) bytes = "x";
      }
      run(bytes);
    }
  }
  // Some random bytes anywhere.
  void noise(int count, std::uint64_t seed) {
    Random random(seed);
    for (int i = 0; i < count; ++i) {
      std::string bytes = original_;
      for (std::size_t n = 1 + random.below(4); n > 0; --n) {
        bytes[random.below(bytes.size())] = static_cast<char>(random());
      }
      run(bytes);
    }
  }

  const Tally& tally() const { return tally_; }
  int count() const { return tally_.read + tally_.refused + tally_.wrong; }

 private:
  void each_byte(const std::function<void(std::string&, std::size_t)>& change) {
    std::string bytes = original_;
    for (std::size_t at = 0; at < original_.size(); ++at) {
      change(bytes, at);
      bytes[at] = original_[at];
    }
  }

  void run(const std::string& bytes) {
    file_.write(bytes);
    try {
      touch_(file_.path());
      ++tally_.read;
    } catch (const kvring::Error& error) {
      ++tally_.refused;
      if (!std::string_view(error.what()).starts_with("kvring: ")) ++tally_.wrong;
    } catch (const std::exception& error) {
      ++tally_.wrong;
      FAIL_CHECK("mutant ", count(), " threw ", error.what());
    }
  }

  std::string original_;
  std::function<void(const std::filesystem::path&)> touch_;
  TempFile file_{"x"};
  Tally tally_;
};

// Counts the reads that would leave the file, and keeps the compiler from dropping them.
struct Touch {
  std::span<const std::byte> file;
  unsigned sum = 0;
  int outside = 0;

  void operator()(const void* data, std::size_t bytes) {
    const auto* p = static_cast<const std::byte*>(data);
    if (bytes == 0) return;
    if (p < file.data() || bytes > file.size() ||
        static_cast<std::size_t>(p - file.data()) > file.size() - bytes) {
      ++outside;
      return;
    }
    for (std::size_t i = 0; i < bytes; ++i) sum += static_cast<unsigned>(p[i]);
  }
};

void ignore_error(const std::function<void()>& read) {
  try {
    read();
  } catch (const kvring::Error&) {  // a value of another type
  }
}

void touch_gguf(const std::filesystem::path& path) {
  const kvring::GgufFile file(path);
  Touch touch{file.file().bytes()};
  for (const kvring::GgufValue& value : file.values()) {
    touch(value.key.data(), value.key.size());
    touch.sum += static_cast<unsigned>(value.type_name().size());
    ignore_error([&] { touch.sum += static_cast<unsigned>(value.u64()); });
    ignore_error([&] { touch.sum += value.f64() > 0; });
    ignore_error([&] { touch.sum += value.boolean(); });
    ignore_error([&] { touch(value.string().data(), value.string().size()); });
    ignore_error([&] {
      for (const std::string_view text : value.strings()) touch(text.data(), text.size());
    });
    ignore_error([&] {
      for (const float x : value.f32s()) touch.sum += x > 0;
    });
    ignore_error([&] {
      for (const std::int64_t x : value.i64s()) touch.sum += x > 0;
    });
    CHECK(&file.value(value.key) == &value);
  }
  for (const kvring::GgufTensor& tensor : file.tensors()) {
    touch(tensor.name.data(), tensor.name.size());
    touch(tensor.data, tensor.bytes);
    touch.sum += static_cast<unsigned>(tensor.shape().size());
    std::vector<float> row(tensor.dims[0]);
    kvring::dequantize(tensor.type, tensor.data, row.data(), row.size());
    CHECK(file.find(tensor.name) == &tensor);
  }
  CHECK(touch.outside == 0);
}

void touch_safetensors(const std::filesystem::path& path) {
  const kvring::SafetensorsFile file(path);
  Touch touch{file.file().bytes()};
  std::size_t bytes = 0;
  for (const kvring::SafetensorsTensor& tensor : file.tensors()) {
    touch(tensor.data, tensor.bytes);
    bytes += tensor.bytes;
    std::size_t elements = 0;
    ignore_error([&] { elements += file.read_f32(tensor.name).size(); });
    ignore_error([&] { elements += file.read_i64(tensor.name).size(); });
    CHECK(elements == tensor.elements());  // exactly one of the two fits its type
    CHECK(file.find(tensor.name) == &tensor);
  }
  CHECK(bytes <= touch.file.size());
  CHECK(touch.outside == 0);
}

void touch_tokenizer(const std::filesystem::path& path) {
  const kvring::GgufFile file(path);
  const auto tokenizer = kvring::load_tokenizer(file);
  const std::string text = "ab  ab<bos>\xe2\x82\xac\xff \n<0x41>";
  const auto ids = tokenizer->encode(text, true);
  CHECK(!tokenizer->decode(ids, kvring::ControlTokens::show).empty());
  kvring::StreamDecoder stream(*tokenizer);
  for (kvring::TokenId id = 0; static_cast<std::size_t>(id) < tokenizer->vocabulary().size();
       ++id) {
    stream.push(id);
  }
}

std::string small_safetensors() {
  const std::string header =
      "{\"__metadata__\":{\"a\":\"b\"},"
      "\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
      "\"h\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]},"
      "\"i\":{\"dtype\":\"I64\",\"shape\":[1,2],\"data_offsets\":[32,48]},"
      "\"e\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[48,48]}}  ";
  return io_test::raw(std::uint64_t{header.size()}) + header + std::string(48, '\x11');
}

void report(const std::string& what, const Mutants& mutants) {
  MESSAGE(what, ": ", mutants.count(), " mutants, ", mutants.tally().read, " read, ",
          mutants.tally().refused, " refused");
  CHECK(mutants.tally().wrong == 0);
  CHECK(mutants.tally().read > 100);
  CHECK(mutants.tally().refused > 1000);
}

}  // namespace

TEST_CASE("mutants: GGUF") {
  const std::string original = io_test::small_gguf().bytes();
  { CHECK_NOTHROW(touch_gguf(TempFile(original).path())); }
  Mutants mutants(original, touch_gguf);
  mutants.bit_flips();
  mutants.byte_sets();
  mutants.words(2);
  mutants.truncations();
  mutants.splices(6000, 1);
  mutants.noise(4000, 2);
  CHECK(mutants.count() >= 20000);
  report("GGUF", mutants);
}

TEST_CASE("mutants: safetensors") {
  const std::string original = small_safetensors();
  { CHECK_NOTHROW(touch_safetensors(TempFile(original).path())); }
  Mutants mutants(original, touch_safetensors);
  mutants.bit_flips();
  mutants.byte_sets();
  mutants.words(1);
  mutants.truncations();
  mutants.splices(11000, 3);
  mutants.noise(5000, 4);
  CHECK(mutants.count() >= 20000);
  report("safetensors", mutants);
}

TEST_CASE("mutants: a tokenizer's vocabulary") {
  io_test::VocabularyWriter vocabulary;
  for (const char* token : {"a", "b", "ab",
                            "\xe2\x96\x81"
                            "ab"})
    vocabulary.add(token, -1);
  vocabulary.add("  ", 0, 4);
  const std::string original = vocabulary.file().bytes();
  { CHECK_NOTHROW(touch_tokenizer(TempFile(original).path())); }
  Mutants mutants(original, touch_tokenizer);
  mutants.splices(1500, 5);
  mutants.noise(1500, 6);
  mutants.words(40);
  report("tokenizer", mutants);
}
