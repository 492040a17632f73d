// NewFile: whole or not at all, whatever happens meanwhile; and the checksum that state files bear.
#include "kvring/io/new_file.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <string>

#include "io_test.hpp"
#include "kvring/io/xxh64.hpp"

using namespace kvring;
using namespace io_test;

namespace {

/// A folder that vanishes.
struct TempFolder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / concat("kvring-test-folder-", ::getpid());
  TempFolder() { std::filesystem::create_directory(path); }
  ~TempFolder() { std::filesystem::remove_all(path); }
  std::string file(const char* name) const { return (path / name).string(); }
  long files() const {
    return std::distance(std::filesystem::directory_iterator(path),
                         std::filesystem::directory_iterator());
  }
};

void write_whole(const std::string& path, const std::string& text) {
  NewFile file(path);
  file.write(text);
  file.commit();
}

/// f() in a process of its own; how that ended.
template <class F>
int status_of_child(F f) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    f();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace

TEST_CASE("a file is replaced when it is committed, and otherwise stays") {
  const TempFolder folder;
  const std::string path = folder.file("file");
  write_whole(path, "first");
  CHECK(read_file(path) == "first");
  {
    NewFile file(path);
    CHECK(file.is_regular());
    file.reserve(1000);
    file.write("second");
    CHECK(read_file(path) == "first");
  }
  CHECK(read_file(path) == "first");
  CHECK(folder.files() == 1);
  write_whole(path, "third, which is longer");
  CHECK(read_file(path) == "third, which is longer");
  CHECK(folder.files() == 1);

  std::filesystem::create_symlink(path, folder.file("link"));
  write_whole(folder.file("link"), "by a link");
  CHECK(std::filesystem::is_symlink(folder.file("link")));
  CHECK(read_file(path) == "by a link");
  check_refused([&] { NewFile{folder.path.string()}; }, {"is a directory"});
  check_refused([&] { NewFile{folder.file("no/such")}; }, {"no/such", "No such file"});
}

TEST_CASE("a writer that is killed leaves the old file") {
  const TempFolder folder;
  const std::string path = folder.file("file");
  write_whole(path, "old");
  for (int i = 0; i < 3; ++i) {
    const int status = status_of_child([&] {
      NewFile file(path);
      file.write(std::string(100'000, 'x'));
      ::raise(SIGKILL);
    });
    CHECK(WIFSIGNALED(status));
    CHECK(read_file(path) == "old");
  }
  CHECK(folder.files() == 4);  // what it had written stays beside it
  write_whole(path, "new");
  CHECK(read_file(path) == "new");
}

TEST_CASE("a name that a killed process of the same number left behind is passed over") {
  const TempFolder folder;
  const std::string path = folder.file("file");
  write_whole(concat(path, ".", ::getpid(), ".0.tmp"), "left behind");
  write_whole(path, "new");
  CHECK(read_file(path) == "new");
  CHECK(folder.files() == 2);
}

TEST_CASE("a full disk is an error, and leaves the old file") {
  const TempFolder folder;
  const std::string path = folder.file("file");
  write_whole(path, "old");
  const int status = status_of_child([&] {
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::signal(SIGXFSZ, SIG_IGN);
    int caught = 0;
    try {
      NewFile(path).reserve(1001);
    } catch (const Error& error) {
      caught += std::string(error.what()).find("no room for 1001 bytes") != std::string::npos;
    }
    try {
      write_whole(path, std::string(1001, 'x'));
    } catch (const Error& error) {
      caught += std::string(error.what()).find("File too large") != std::string::npos;
    }
    ::_exit(caught);
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 2);
  CHECK(read_file(path) == "old");
  CHECK(folder.files() == 1);
  check_refused([] { write_whole("/dev/full", "text"); }, {"/dev/full", "No space left"});
  write_whole("/dev/null", "text");
  CHECK(std::filesystem::is_character_file("/dev/null"));
}

TEST_CASE("XXH64: values that other implementations publish, in one piece and in many") {
  const auto sum = [](const std::string& text, std::size_t piece) {
    Xxh64 hash;
    for (std::size_t at = 0; at < text.size(); at += piece) {
      hash.add(text.data() + at, std::min(piece, text.size() - at));
    }
    return hash.value();
  };
  for (const std::size_t piece : {1, 3, 7, 31, 32, 33, 1000}) {
    CAPTURE(piece);
    CHECK(sum("", piece) == 0xEF46DB3751D8E999);
    CHECK(sum("a", piece) == 0xD24EC4F1A98C6E5B);
    CHECK(sum("abc", piece) == 0x44BC2CF5AD770999);
    CHECK(sum("Nobody inspects the spammish repetition", piece) == 0xFBCEA83C8A378BF1);
  }
  std::string text;
  for (int i = 0; i < 500; ++i) text += static_cast<char>(i * 37 + i / 3);
  for (std::size_t size = 0; size <= text.size(); ++size) {
    const std::string part = text.substr(0, size);
    for (const std::size_t piece : {1, 5, 32, 40}) REQUIRE(sum(part, piece) == sum(part, 1000));
  }
}
