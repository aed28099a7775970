// The disk cache in one process: hits, damaged entries, folders that can't be used, eviction.
#include "cache/disk_cache.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "compile/headers.h"
#include "compile/process.h"
#include "support/cache.h"
#include "support/catch.h"
#include "support/environment.h"
#include "support/thrown.h"

namespace {

namespace fs = std::filesystem;
using namespace gdn::runtime;
using gdn::test::cache_source;
using gdn::test::CacheFixture;
using gdn::test::Environment;
using gdn::test::thrown_by;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

TEST_CASE("the second compilation of a kernel is a read") {
  const CacheFixture fixture;
  const CachedCompiler cached = fixture.cached();
  const Binary expected = fixture.compiler->expected(cache_source(), "sm_90a");
  for (int i = 0; i < 3; ++i) {
    const Binary binary = cached.compile(cache_source(), "sm_90a");
    CHECK(binary.bytes == expected.bytes);
    CHECK(binary.log == expected.log);
    CHECK(binary.assembly == expected.assembly);
    CHECK(binary.cached == (i > 0));
  }
  CHECK(fixture.compiler->compilations() == 1);
  // Another object, as another process would have it.
  CHECK(fixture.cached().compile(cache_source(), "sm_90a").cached);
  CHECK_FALSE(fixture.cached().compile(cache_source(), "sm_80").cached);
  CHECK_FALSE(fixture.cached().compile(cache_source("changed"), "sm_90a").cached);
  CHECK(fixture.compiler->compilations() == 3);
  CHECK(fixture.warnings.empty());
}

TEST_CASE("an entry is readable, and nothing else is left behind") {
  const CacheFixture fixture;
  const CachedCompiler cached = fixture.cached();
  cached.compile(cache_source("the source"), "sm_90a");
  const CacheKey key = make_key(cached, cache_source("the source"), "sm_90a", {});
  CHECK(fixture.names() == std::vector<std::string>{key.name});
  const fs::path entry = fixture.settings.root / "v1" / key.name;
  CHECK(read(entry / "source.cu") == "the source");
  CHECK(read(entry / "key") == key.text);
  CHECK(read(entry / "binary") == "code of the source for sm_90a");
  CHECK(read(entry / "log") == "no remarks\n");
  for (const fs::path& path : {fixture.settings.root, fixture.settings.root / "v1", entry}) {
    struct stat info = {};
    REQUIRE(stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0700);
  }
}

TEST_CASE("a compilation that is to be measured passes by the cache") {
  const CacheFixture fixture;
  Options options;
  options.no_cache = true;
  for (int i = 0; i < 2; ++i) CHECK_FALSE(fixture.cached().compile(cache_source(), "sm_90a", options).cached);
  CHECK(fixture.compiler->compilations() == 2);
  CHECK(fixture.names().empty());
}

TEST_CASE("anything odd about an entry is a miss, and the next compilation mends it") {
  CacheFixture fixture;
  const CachedCompiler cached = fixture.cached();
  cached.compile(cache_source(), "sm_90a");
  const CacheKey key = make_key(cached, cache_source(), "sm_90a", {});
  const fs::path entry = fixture.settings.root / "v1" / key.name;

  std::vector<std::pair<std::string, std::function<void()>>> damages;
  for (const char* name : {"info", "key", "binary", "log", "assembly"}) {
    const fs::path file = entry / name;
    damages.emplace_back(fmt::format("{} is missing", name), [file] { fs::remove(file); });
    damages.emplace_back(fmt::format("{} is empty", name), [file] { write(file, ""); });
    damages.emplace_back(fmt::format("{} is truncated", name),
                         [file] { fs::resize_file(file, fs::file_size(file) - 1); });
    damages.emplace_back(fmt::format("{} is longer", name), [file] { fs::resize_file(file, fs::file_size(file) + 1); });
    damages.emplace_back(fmt::format("{} is a folder", name), [file] {
      fs::remove(file);
      fs::create_directory(file);
    });
    damages.emplace_back(fmt::format("{} is a link", name), [file] {
      fs::copy_file(file, file.parent_path() / "copy");
      fs::remove(file);
      fs::create_symlink("copy", file);
    });
    damages.emplace_back(fmt::format("{} is a pipe", name), [file] {
      fs::remove(file);
      REQUIRE(mkfifo(file.c_str(), 0600) == 0);
    });
    damages.emplace_back(fmt::format("{} belongs to another format", name),
                         [file] { write(file, "gdn-gen cache entry 2\n"); });
  }
  damages.emplace_back("the entry is an empty folder", [entry] {
    fs::remove_all(entry);
    fs::create_directory(entry);
  });
  damages.emplace_back("the entry is a file", [entry] {
    fs::remove_all(entry);
    write(entry, "text");
  });
  damages.emplace_back("the entry is a link to a whole one", [entry] {
    fs::rename(entry, entry.parent_path() / "moved");
    fs::create_symlink("moved", entry);
  });
  damages.emplace_back("the entry is that of another key", [&] {  // of the same length
    const CacheKey other = make_key(cached, cache_source("lenrek"), "sm_90a", {});
    cached.compile(cache_source("lenrek"), "sm_90a");
    fs::remove_all(entry);
    fs::rename(fixture.settings.root / "v1" / other.name, entry);
  });

  const Binary expected = fixture.compiler->expected(cache_source(), "sm_90a");
  for (const auto& [what, damage] : damages) {
    INFO(what);
    REQUIRE(cached.compile(cache_source(), "sm_90a").cached);
    damage();
    const Binary binary = cached.compile(cache_source(), "sm_90a");
    CHECK_FALSE(binary.cached);
    CHECK(binary.bytes == expected.bytes);
    CHECK(cached.compile(cache_source(), "sm_90a").cached);
  }
  CHECK(fixture.warnings.empty());
}

TEST_CASE("no flipped bit of an entry goes unnoticed") {
  const CacheFixture fixture;
  const CachedCompiler cached = fixture.cached();
  cached.compile(cache_source(), "sm_90a");
  const CacheKey key = make_key(cached, cache_source(), "sm_90a", {});
  const fs::path entry = fixture.settings.root / "v1" / key.name;
  std::mt19937 random(7);
  for (const char* name : {"info", "key", "binary", "log", "assembly"}) {
    const std::string whole = read(entry / name);
    for (int i = 0; i < 100; ++i) {
      std::string broken = whole;
      const std::size_t at = random() % broken.size();
      broken[at] = static_cast<char>(broken[at] ^ (1 << (random() % 8)));
      write(entry / name, broken);
      INFO(name << " at " << at);
      CHECK_FALSE(fixture.cache()->load(key));
    }
    write(entry / name, whole);
    REQUIRE(fixture.cache()->load(key));
  }
}

TEST_CASE("a folder that can't be trusted is not used: one warning, and kernels all the same") {
  struct Case {
    const char* what;
    std::function<void(const fs::path& root)> prepare;
    const char* words;
  };
  const auto mode = [](const fs::path& path, mode_t bits) {
    fs::create_directories(path);
    REQUIRE(chmod(path.c_str(), bits) == 0);
  };
  std::vector<Case> cases = {
      {"others may write", [&](const fs::path& root) { mode(root, 0707); }, "others may write"},
      {"the group may write", [&](const fs::path& root) { mode(root, 0770); }, "group"},
      {"v1 may be written by others", [&](const fs::path& root) { mode(root / "v1", 0702); }, "v1"},
      {"the root is a file", [](const fs::path& root) { write(root, ""); }, "no folder"},
      {"a file is in the way",
       [](const fs::path& root) {
         fs::create_directory(root);
         write(root / "v1", "");
       },
       "no folder"},
      {"a link into nowhere", [](const fs::path& root) { fs::create_symlink("/nonexistent/x", root); }, "cache"},
  };
  if (geteuid() == 0) {
    cases.push_back({"it belongs to another user",
                     [&](const fs::path& root) {
                       mode(root, 0700);
                       REQUIRE(chown(root.c_str(), 12345, 12345) == 0);
                     },
                     "belongs to user 12345"});
    cases.push_back({"v1 belongs to another user",
                     [&](const fs::path& root) {
                       mode(root, 0700);
                       mode(root / "v1", 0700);
                       REQUIRE(chown((root / "v1").c_str(), 12345, 12345) == 0);
                     },
                     "belongs to user 12345"});
  } else {
    cases.push_back(
        {"it belongs to root", [](const fs::path& root) { fs::create_symlink("/usr", root); }, "belongs to user 0"});
  }
  for (const Case& test : cases) {
    INFO(test.what);
    CacheFixture fixture;
    test.prepare(fixture.settings.root);
    const CachedCompiler cached = fixture.cached();
    for (int i = 0; i < 3; ++i) {
      const Binary binary = cached.compile(cache_source(), "sm_90a");
      CHECK_FALSE(binary.cached);
      CHECK(binary.bytes == fixture.compiler->expected(cache_source(), "sm_90a").bytes);
    }
    CHECK(fixture.names().empty());
    REQUIRE(fixture.warnings.size() == 1);
    CHECK_THAT(fixture.warnings[0], Catch::Contains(test.words));
    CHECK_THAT(fixture.warnings[0], Catch::Contains(fixture.settings.root.string()));
    CHECK_THAT(fixture.warnings[0], Catch::Contains("GDN_CACHE_DIR"));
  }
}

TEST_CASE("no entry of another user is read, even in a folder of one's own") {
  if (geteuid() != 0) {
    WARN("only root can give a file away");
    return;
  }
  const CacheFixture fixture;
  const CachedCompiler cached = fixture.cached();
  const CacheKey key = make_key(cached, cache_source(), "sm_90a", {});
  const fs::path entry = fixture.settings.root / "v1" / key.name;
  for (const char* name : {"", "info", "key", "binary", "log", "assembly"}) {
    INFO(name);
    cached.compile(cache_source(), "sm_90a");
    REQUIRE(fixture.cache()->load(key));
    REQUIRE(chown((*name == '\0' ? entry : entry / name).c_str(), 12345, 12345) == 0);
    CHECK_FALSE(fixture.cache()->load(key));
  }
}

// Runs `body` in a child that can't write what its owner forbade; returns its warnings.
std::string as_nobody(const CacheFixture& fixture, const std::function<void()>& body, std::string& errors) {
  const ProcessResult result = run_forked(
      [&]() -> std::string {
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) throw std::runtime_error("can't be nobody");
        body();
        return fixture.warnings.empty() ? std::string() : fixture.warnings[0];
      },
      std::chrono::seconds(60));
  errors = result.errors + (result.ok() ? "" : result.ending());
  return result.output;
}

void hand_over(const fs::path& path) {
  if (geteuid() != 0) return;
  REQUIRE(chown(path.c_str(), 65534, 65534) == 0);
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    REQUIRE(chown(entry.path().c_str(), 65534, 65534) == 0);
  }
}

void expect(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(what);
}

TEST_CASE("a read-only cache gives hits, and a miss costs one warning") {
  CacheFixture fixture;
  fixture.cached().compile(cache_source("known"), "sm_90a");
  REQUIRE(chmod((fixture.settings.root / "v1").c_str(), 0500) == 0);
  REQUIRE(chmod(fixture.settings.root.c_str(), 0500) == 0);
  hand_over(fixture.dir.path());
  std::string errors;
  const std::string warning = as_nobody(
      fixture,
      [&] {
        const CachedCompiler cached = fixture.cached();
        expect(cached.compile(cache_source("known"), "sm_90a").cached, "no hit");
        expect(fixture.warnings.empty(), "a warning for a hit");
        for (int i = 0; i < 2; ++i) {
          const Binary binary = cached.compile(cache_source("other"), "sm_90a");
          expect(!binary.cached && binary.bytes == fixture.compiler->expected(cache_source("other"), "sm_90a").bytes,
                 "the kernel of a miss");
        }
        expect(fixture.warnings.size() == 1, "not one warning");
      },
      errors);
  CHECK(errors.empty());
  CHECK_THAT(warning, Catch::Contains("can't be written: Permission denied"));
  chmod(fixture.settings.root.c_str(), 0700);
  chmod((fixture.settings.root / "v1").c_str(), 0700);
}

TEST_CASE("a root that can't be made costs one warning") {
  CacheFixture fixture;
  const fs::path above = fixture.settings.root;
  fs::create_directory(above);
  REQUIRE(chmod(above.c_str(), 0500) == 0);
  fixture.settings.root = above / "deep" / "cache";
  hand_over(fixture.dir.path());
  std::string errors;
  const std::string warning = as_nobody(
      fixture,
      [&] {
        const CachedCompiler cached = fixture.cached();
        for (int i = 0; i < 3; ++i) expect(!cached.compile(cache_source(), "sm_90a").bytes.empty(), "no kernel");
        expect(fixture.warnings.size() == 1, "not one warning");
      },
      errors);
  CHECK(errors.empty());
  CHECK_THAT(warning, Catch::Contains("can't be made: Permission denied"));
  chmod(above.c_str(), 0700);
}

TEST_CASE("a full disk costs one warning and leaves nothing half-written") {
  CacheFixture fixture;
  fixture.cached().compile(cache_source("small"), "sm_90a");
  const auto large = std::make_shared<gdn::test::CountingCompiler>(fixture.dir.path() / "compilations",
                                                                   std::chrono::milliseconds(0), 100000);
  const ProcessResult result = run_forked(
      [&]() -> std::string {
        signal(SIGXFSZ, SIG_IGN);
        const rlimit limit = {50000, 50000};
        expect(setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit");
        const CachedCompiler cached(large, fixture.cache());
        for (int i = 0; i < 2; ++i) {
          const Binary binary = cached.compile(cache_source("large"), "sm_90a");
          expect(!binary.cached && binary.bytes == large->expected(cache_source("large"), "sm_90a").bytes, "no kernel");
        }
        expect(cached.compile(cache_source("small"), "sm_90a").cached, "no hit of what was there before");
        expect(fixture.warnings.size() == 1, "not one warning");
        return fixture.warnings[0];
      },
      std::chrono::seconds(60));
  CHECK(result.ok());
  CHECK(result.errors.empty());
  CHECK_THAT(result.output, Catch::Contains("can't be written: File too large"));
  CHECK(fixture.names().size() == 1);
}

// A file system of 300 KiB over the cache's root, for this process alone. False where the system does not allow it.
bool mount_small_disk(const fs::path& root) {
  const std::string user = fmt::format("0 {} 1", geteuid()), group = fmt::format("0 {} 1", getegid());
  fs::create_directories(root);
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  write("/proc/self/uid_map", user);
  write("/proc/self/setgroups", "deny");
  write("/proc/self/gid_map", group);
  return mount("none", root.c_str(), "tmpfs", 0, "size=300k,mode=0700") == 0;
}

TEST_CASE("a disk that fills up, and one that is mounted read-only") {
  CacheFixture fixture;
  const auto large = std::make_shared<gdn::test::CountingCompiler>(fixture.dir.path() / "compilations",
                                                                   std::chrono::milliseconds(0), 60000);
  const ProcessResult result = run_forked(
      [&]() -> std::string {
        if (!mount_small_disk(fixture.settings.root)) return "no mount";
        const CachedCompiler cached(large, fixture.cache());
        const auto compile = [&](const CachedCompiler& compiler, int number) {
          const Source source = cache_source(std::to_string(number));
          const Binary binary = compiler.compile(source, "sm_90a");
          expect(binary.bytes == large->expected(source, "sm_90a").bytes, "wrong kernel");
          return binary.cached;
        };
        for (int i = 0; i < 12; ++i) expect(!compile(cached, i), "a hit out of nothing");
        expect(fixture.warnings.size() == 1, "not one warning of the full disk");
        const std::size_t entries = fixture.names().size();
        expect(entries >= 2 && entries <= 4, fmt::format("{} entries, {}", entries, fixture.warnings[0]).c_str());
        for (const std::string& name : fixture.names()) expect(name[0] != '.', "something half-written is left");
        expect(compile(cached, 0) && compile(cached, 1), "no hit of what was there before");
        expect(mount("none", fixture.settings.root.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, "size=300k") == 0,
               "remount");
        const CachedCompiler other(large, fixture.cache());
        expect(compile(other, 0), "no hit on a read-only disk");
        expect(!compile(other, 50) && !compile(other, 50), "a hit of what was never stored");
        expect(fixture.warnings.size() == 2, "not one warning of the read-only disk");
        return fixture.warnings[0] + "\n" + fixture.warnings[1];
      },
      std::chrono::seconds(60));
  CHECK(result.errors == "");
  REQUIRE(result.ok());
  if (result.output == "no mount") {
    WARN("the system lets this user mount nothing, not even in a namespace of its own");
    return;
  }
  CHECK_THAT(result.output, Catch::Contains("can't be written: No space left on device"));
  CHECK_THAT(result.output, Catch::Contains("can't be written: Read-only file system"));
}

TEST_CASE("without a place for a cache every compilation is done") {
  CacheFixture fixture;
  fixture.settings.root.clear();
  const CachedCompiler cached = fixture.cached();
  for (int i = 0; i < 2; ++i) CHECK_FALSE(cached.compile(cache_source(), "sm_90a").cached);
  REQUIRE(fixture.warnings.size() == 1);
  CHECK_THAT(fixture.warnings[0], Catch::Contains("HOME"));
}

TEST_CASE("GDN_JIT=off: what is there is used, and a miss says what to build ahead") {
  CacheFixture fixture;
  fixture.cached().compile(cache_source("known"), "sm_90a");
  fixture.settings.jit = false;
  CHECK(fixture.cached().compile(cache_source("known"), "sm_90a").cached);
  for (const bool no_cache : {false, true}) {
    Options options;
    options.no_cache = no_cache;
    const auto thrown = thrown_by([&] { fixture.cached().compile(cache_source("unknown"), "sm_90a", options); });
    CHECK(thrown.code == Code::kNotBuilt);
    for (const char* word : {"GDN_JIT=off", "gdn_model_decode_sm_90a", "gdn-gen build", "--target sm_90a"}) {
      CHECK(thrown.has(word));
    }
    CHECK(thrown.has(fixture.settings.root.string()));
  }
  CHECK(fixture.compiler->compilations() == 1);
}

TEST_CASE("the settings of the environment") {
  const Environment home("HOME", "/home/someone");
  const struct {
    const char *own, *xdg, *root;
  } roots[] = {
      {"/own/place", "/xdg", "/own/place"},
      {"", "/xdg", "/xdg/gdn-gen"},
      {"", "relative", "/home/someone/.cache/gdn-gen"},
      {"", "", "/home/someone/.cache/gdn-gen"},
  };
  for (const auto& test : roots) {
    INFO(test.own << " " << test.xdg);
    const Environment own("GDN_CACHE_DIR", test.own), xdg("XDG_CACHE_HOME", test.xdg);
    CHECK(CacheSettings::from_environment().root == test.root);
  }
  const Environment relative("GDN_CACHE_DIR", "below");
  CHECK(CacheSettings::from_environment().root == fs::current_path() / "below");
  CHECK(CacheSettings::from_environment().jit);
  CHECK(CacheSettings::from_environment().max_bytes == std::uint64_t{1} << 30);
  {
    const Environment jit("GDN_JIT", "off"), size("GDN_CACHE_MIB", "3");
    CHECK_FALSE(CacheSettings::from_environment().jit);
    CHECK(CacheSettings::from_environment().max_bytes == 3 << 20);
  }
  for (const char* text : {"1 GB", "-1", "x", "99999999999999999999"}) {
    const Environment size("GDN_CACHE_MIB", text);
    const auto thrown = thrown_by([] { CacheSettings::from_environment(); });
    CHECK(thrown.code == Code::kBadArgument);
    CHECK(thrown.has(text));
  }
  const Environment jit("GDN_JIT", "0");
  CHECK(thrown_by([] { CacheSettings::from_environment(); }).has("GDN_JIT=0"));
}

TEST_CASE("the cache stays below its bound, and what was used longest ago goes first") {
  CacheFixture fixture;
  fixture.compiler = std::make_shared<gdn::test::CountingCompiler>(fixture.dir.path() / "compilations",
                                                                   std::chrono::milliseconds(0), 20000);
  fixture.settings.max_bytes = 70000;  // three entries
  const CachedCompiler cached = fixture.cached();
  const auto age = [&](const char* text, int seconds) {
    const CacheKey key = make_key(cached, cache_source(text), "sm_90a", {});
    const fs::path info = fixture.settings.root / "v1" / key.name / "info";
    if (fs::exists(info)) fs::last_write_time(info, fs::file_time_type::clock::now() - std::chrono::seconds(seconds));
  };
  const auto there = [&](const char* text) {
    const CacheKey key = make_key(cached, cache_source(text), "sm_90a", {});
    return fs::exists(fixture.settings.root / "v1" / key.name);
  };
  for (const char* text : {"a", "b", "c"}) cached.compile(cache_source(text), "sm_90a");
  CHECK((there("a") && there("b") && there("c")));
  age("a", 300);
  age("b", 200);
  age("c", 100);
  CHECK(cached.compile(cache_source("a"), "sm_90a").cached);  // used: the newest again
  cached.compile(cache_source("d"), "sm_90a");
  CHECK((there("a") && !there("b") && there("c") && there("d")));
  cached.compile(cache_source("e"), "sm_90a");
  CHECK((there("a") && !there("c") && there("d") && there("e")));
  for (int i = 0; i < 10; ++i) cached.compile(cache_source(std::to_string(i)), "sm_90a");
  CHECK(fixture.names().size() == 3);

  SECTION("one that is larger than the bound is kept until the next") {
    fixture.settings.max_bytes = 1000;
    const CachedCompiler small = fixture.cached();
    small.compile(cache_source("x"), "sm_90a");
    CHECK(fixture.names().size() == 1);
    CHECK(small.compile(cache_source("x"), "sm_90a").cached);
    small.compile(cache_source("y"), "sm_90a");
    CHECK((fixture.names().size() == 1 && there("y")));
  }
}

TEST_CASE("what killed processes left behind is removed, what living ones hold is not") {
  const CacheFixture fixture;
  const CachedCompiler cached = fixture.cached();
  cached.compile(cache_source("first"), "sm_90a");
  const fs::path folder = fixture.settings.root / "v1";
  for (const char* name : {".stage.dead", ".stage.living", ".stage.fresh"}) {
    fs::create_directory(folder / name);
    write(folder / name / "binary", "half");
  }
  for (const char* name : {".lock.dead", ".lock.living", ".lock.fresh"}) write(folder / name, "");
  const auto old = fs::file_time_type::clock::now() - std::chrono::hours(2);
  for (const char* name : {".stage.dead", ".stage.living", ".lock.dead", ".lock.living"}) {
    fs::last_write_time(folder / name, old);
  }
  std::vector<int> held;
  for (const char* name : {".stage.living", ".lock.living"}) {
    held.push_back(open((folder / name).c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(flock(held.back(), LOCK_EX) == 0);
  }
  cached.compile(cache_source("second"), "sm_90a");
  for (const char* name : {".stage.living", ".lock.living", ".stage.fresh", ".lock.fresh"}) {
    INFO(name);
    CHECK(fs::exists(folder / name));
  }
  CHECK_FALSE(fs::exists(folder / ".stage.dead"));
  CHECK_FALSE(fs::exists(folder / ".lock.dead"));
  for (const int file : held) close(file);
}

TEST_CASE("a warm hit of a kernel with all its headers takes less than 10 ms") {
  CacheFixture fixture;
  fixture.compiler = std::make_shared<gdn::test::CountingCompiler>(fixture.dir.path() / "compilations",
                                                                   std::chrono::milliseconds(0), 200000);
  Source source = cache_source(std::string(20000, 'k'));
  source.headers = template_headers();
  fixture.cached().compile(source, "sm_90a");
  std::vector<double> times;
  for (int i = 0; i < 21; ++i) {
    const auto start = std::chrono::steady_clock::now();
    REQUIRE(fixture.cached().compile(source, "sm_90a").cached);
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  fmt::print("warm disk-cache hit: {:.2f} ms (median of {})\n", times[times.size() / 2], times.size());
  CHECK(times[times.size() / 2] < 10);
}

}  // namespace
