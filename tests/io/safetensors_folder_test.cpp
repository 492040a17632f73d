// Folders of safetensors: what a valid one says, and every way in which config.json, the index and
// the shards may be wrong, alone or together.
#include "kvring/io/safetensors_folder.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io_test.hpp"
#include "safetensors_writer.hpp"

using io_test::check_refused;
using io_test::raw;
using io_test::safetensors_bytes;
using io_test::SafetensorsEntry;
using io_test::TempFolder;
using kvring::SafetensorsFolder;

namespace {

using Words = std::initializer_list<std::string_view>;

const char* const single = "model.safetensors";
const char* const index_name = "model.safetensors.index.json";
const char* const first_shard = "model-00001-of-00002.safetensors";
const char* const second_shard = "model-00002-of-00002.safetensors";

SafetensorsEntry tensor(const std::string& name, float value) {
  return {name, "F32", {1}, raw(value)};
}

std::string index_of(const std::string& map) {
  return kvring::concat("{\"metadata\":{\"total_size\":12},\"weight_map\":", map, "}");
}
std::string good_index() {
  return index_of(kvring::concat("{\"a\":\"", first_shard, "\",\"b\":\"", second_shard,
                                 "\",\"c\":\"", first_shard, "\"}"));
}

void fill_single(TempFolder& folder) {
  folder.write("config.json", "{\"model_type\":\"llama\"}");
  folder.write(single, safetensors_bytes({tensor("a", 1), tensor("b", 2)}));
}
void fill_shards(TempFolder& folder) {
  folder.write("config.json", "{}").write(index_name, good_index());
  folder.write(first_shard, safetensors_bytes({tensor("a", 1), tensor("c", 3)}));
  folder.write(second_shard, safetensors_bytes({tensor("b", 2)}));
}

void refused(const std::filesystem::path& path, Words words) {
  check_refused([&] { SafetensorsFolder{path}; }, words);
}

float value_of(const SafetensorsFolder& folder, const char* name) {
  float value;
  std::memcpy(&value, folder.at(name).data, sizeof value);
  return value;
}

}  // namespace

TEST_CASE("safetensors folder: one file, named by its folder or by itself") {
  TempFolder temp;
  fill_single(temp);
  for (const auto& path : {temp.path(), temp / single}) {
    const SafetensorsFolder folder(path);
    CHECK(folder.path() == path.string());
    CHECK(folder.config().root["model_type"] == "llama");
    CHECK(folder.config().path == (temp / "config.json").string());
    REQUIRE(folder.files().size() == 1);
    CHECK(folder.files()[0].path() == (temp / single).string());
    CHECK(value_of(folder, "a") == 1);
    CHECK(value_of(folder, "b") == 2);
    CHECK(folder.find("nope") == nullptr);
    check_refused([&] { folder.at("nope"); }, {path.string(), "has no tensor nope"});
  }
}

TEST_CASE("safetensors folder: shards") {
  TempFolder temp;
  fill_shards(temp);
  temp.write("consolidated.safetensors", "not asked for, not opened");
  SafetensorsFolder folder(temp.path());
  REQUIRE(folder.files().size() == 2);
  CHECK(value_of(folder, "a") == 1);
  CHECK(value_of(folder, "b") == 2);
  CHECK(value_of(folder, "c") == 3);

  const kvring::SafetensorsTensor* before = folder.find("b");
  const SafetensorsFolder moved = std::move(folder);
  CHECK(moved.find("b") == before);
  CHECK(value_of(moved, "b") == 2);
}

TEST_CASE("safetensors folder: no folder, no file, the wrong kind of file") {
  TempFolder temp;
  refused(temp / "none", {(temp / "none").string(), "No such file"});
  refused(temp.path(), {"config.json", "No such file"});
  temp.write("config.json", "{}");
  refused(temp.path(), {"has neither model.safetensors nor model.safetensors.index.json"});

  fill_single(temp);
  temp.write(index_name, good_index());
  refused(temp.path(), {"has both model.safetensors and model.safetensors.index.json"});
  { CHECK_NOTHROW(SafetensorsFolder{temp / single}); }
  temp.remove(index_name);

  temp.write(single, "");
  refused(temp.path(), {single, "is empty (0 bytes)"});
  temp.remove(single).make_folder(single);
  refused(temp.path(), {single, "is a directory"});
  refused(temp / "config.json", {"config.json is truncated or no safetensors file"});

  fill_single(temp.remove(single));
  temp.remove("config.json");
  refused(temp / single, {"config.json", "No such file"});
  temp.make_folder("config.json");
  refused(temp.path(), {"config.json is a directory"});

  fill_shards(temp.remove("config.json").remove(single));
  temp.remove(index_name).make_folder(index_name);
  refused(temp.path(), {index_name, "is a directory"});
}

TEST_CASE("safetensors folder: config.json and the index are strict JSON objects") {
  TempFolder temp;
  const auto check = [&](const char* name, const std::string& bytes, Words words) {
    fill_shards(temp);
    temp.write(name, bytes);
    refused(temp.path(), {name});
    refused(temp.path(), words);
  };
  for (const char* name : {"config.json", index_name}) {
    CAPTURE(std::string(name));
    check(name, "", {"is empty (0 bytes)"});
    check(name, "nonsense", {"is not valid JSON"});
    check(name, "[]", {"is no JSON object but array"});
    check(name, "null", {"is no JSON object but null"});
    check(name, "17", {"is no JSON object but number"});
    check(name, "{} {}", {"is not valid JSON"});
    check(name, "{\"a\":1", {"is not valid JSON"});
    check(name, "{\"a\":\"\xff\"}", {"is not valid JSON"});
    check(name, "{\"a\":1e999}", {"is not valid JSON"});
    check(name, "{\"a\":NaN}", {"is not valid JSON"});
    check(name, "{\"a\":{\"k\":1,\"k\":2}}", {"has key k twice"});
    check(name, "{\"a\":" + std::string(100'000, '['), {"is nested more than 32 deep"});
    std::string deep = "1";
    for (int i = 0; i < 40; ++i) deep = "{\"a\":" + deep + "}";
    check(name, deep, {"is nested more than 32 deep"});
  }
}

TEST_CASE("safetensors folder: a shard, truncated at every byte or with a wrong header length") {
  TempFolder temp;
  fill_shards(temp);
  const std::string whole = io_test::read_file(temp / first_shard);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    temp.write(first_shard, whole.substr(0, size));
    refused(temp.path(), {first_shard, size == 0 ? "is empty" : "truncated"});
  }
  for (const std::uint64_t length : {std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    std::string bytes = whole;
    bytes.replace(0, 8, raw(length));
    temp.write(first_shard, bytes);
    refused(temp.path(), {first_shard, "header claims", std::to_string(length)});
  }
}

TEST_CASE("safetensors folder: tensors that are twice, nowhere, or not where the index says") {
  TempFolder temp;
  fill_shards(temp);
  temp.write(first_shard, safetensors_bytes({tensor("a", 1), tensor("a", 1), tensor("c", 3)}));
  refused(temp.path(), {first_shard, "has key a twice"});

  fill_shards(temp);
  temp.write(second_shard, safetensors_bytes({tensor("a", 1), tensor("b", 2)}));
  refused(temp.path(), {"tensor a is in two shards", first_shard, second_shard});

  fill_shards(temp);
  temp.write(second_shard, safetensors_bytes({tensor("b", 2), tensor("d", 4)}));
  refused(temp.path(), {second_shard, "tensor d is not in the weight_map of", index_name});

  fill_shards(temp);
  temp.write(second_shard, safetensors_bytes({}));
  refused(temp.path(), {index_name, "tensor b is not in its shard", second_shard});

  fill_shards(temp);
  temp.write(first_shard, safetensors_bytes({tensor("b", 1), tensor("c", 3)}));
  temp.write(second_shard, safetensors_bytes({tensor("a", 2)}));
  refused(temp.path(), {index_name, "tensor a is not in its shard", first_shard});

  fill_shards(temp);
  temp.remove(second_shard);
  refused(temp.path(), {index_name, "names shard", second_shard, "which is missing"});
}

TEST_CASE("safetensors folder: an index that is not what it should be") {
  TempFolder temp;
  fill_shards(temp);
  const auto check = [&](const std::string& index, Words words) {
    temp.write(index_name, index);
    refused(temp.path(), {index_name});
    refused(temp.path(), words);
  };
  for (const char* map : {"null", "1", "[]", "{}", "\"a\""}) {
    check(index_of(map), {"has no weight_map of tensors to shards"});
  }
  check("{}", {"has no weight_map of tensors to shards"});
  for (const char* shard : {"1", "null", "[\"x\"]", "{}"}) {
    check(index_of(kvring::concat("{\"a\":", shard, "}")),
          {"the shard of tensor a is no string but", shard});
  }
  check(index_of("{\"a\":\"x\",\"a\":\"y\"}"), {"has key a twice"});

  // Names only: a path could lead out of the folder.
  std::filesystem::create_directory(temp / "sub");
  temp.write("sub/x.safetensors", safetensors_bytes({tensor("a", 1)}));
  for (const char* shard :
       {"", ".", "..", "sub/x.safetensors", "../x.safetensors", "/x.safetensors", "./x.safetensors",
        "sub\\\\x.safetensors", "x\\u0000.safetensors", "config.json", "x.bin", "x.safetensors/",
        "\\u0000.safetensors/../x.safetensors"}) {
    CAPTURE(std::string(shard));
    check(index_of(kvring::concat("{\"a\":\"", shard, "\"}")),
          {"the shard of tensor a is", "which is no name of a .safetensors file"});
  }
}

TEST_CASE("JSON objects: values of another kind than is asked for") {
  const kvring::JsonDocument document{
      "f.json", kvring::parse_json_object("{\"null\":null,\"bool\":true,\"whole\":7,"
                                          "\"negative\":-1,\"half\":0.5,\"huge\":1e30,"
                                          "\"most\":9223372036854775807,"
                                          "\"more\":9223372036854775808,\"text\":\"x\\u0007\","
                                          "\"list\":[\"a\",\"b\"],\"mixed\":[\"a\",1],"
                                          "\"inner\":{\"deep\":{\"x\":1}}}",
                                          "f.json")};
  const kvring::JsonObject object(document);
  CHECK(!object.integer("absent"));
  CHECK(!object.integer("null"));
  CHECK(!object.number("null"));
  CHECK(!object.boolean("null"));
  CHECK(!object.string("null"));
  CHECK(!object.strings("null"));
  CHECK(!object.object("null"));
  CHECK(object.find("null") == nullptr);
  CHECK(object.find_even_null("null") != nullptr);
  CHECK(object.find_even_null("absent") == nullptr);
  CHECK(object.integer("whole") == 7);
  CHECK(object.integer("most") == INT64_MAX);
  CHECK(object.number("whole") == 7.0);
  CHECK(object.number("negative") == -1.0);
  CHECK(object.number("huge") == 1e30);
  CHECK(object.boolean("bool") == true);
  CHECK(object.string("text") == "x\a");
  CHECK(object.strings("list") == std::vector<std::string>{"a", "b"});
  CHECK(object.object("inner")->object("deep")->integer("x") == 1);
  CHECK(object.object("inner")->object("deep")->name("x") == "inner.deep.x");
  CHECK(object.object("inner")->fields() == std::vector<std::string>{"deep"});

  for (const char* field : {"negative", "half", "huge", "more", "bool", "text", "list", "inner"}) {
    CAPTURE(std::string(field));
    check_refused([&] { object.integer(field); },
                  {"f.json: ", field, " is ", ", wanted a whole number from 0 to 2^63 - 1"});
  }
  check_refused([&] { object.number("text"); }, {"text is \"x\\u0007\", wanted a number"});
  check_refused([&] { object.number("bool"); }, {"bool is true, wanted a number"});
  check_refused([&] { object.boolean("whole"); }, {"whole is 7, wanted true or false"});
  check_refused([&] { object.string("whole"); }, {"whole is 7, wanted a string"});
  check_refused([&] { object.strings("text"); }, {"wanted an array of strings"});
  check_refused([&] { object.strings("mixed"); }, {"[\"a\",1], wanted an array of strings"});
  check_refused([&] { object.object("list"); }, {"[\"a\",\"b\"], wanted an object"});
  check_refused([&] { object.object("inner")->string("deep"); },
                {"f.json: inner.deep is {\"x\":1}, wanted a string"});
}
