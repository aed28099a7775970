// A shared library opened by dlopen, and its symbols.
#pragma once

#include <string>
#include <vector>

namespace gdn::runtime {

// Stays open for the life of the process: compilers and drivers register handlers at exit that must still be there.
class Library {
 public:
  // Opens the first candidate that loads. Throws kMissingLibrary: `what` (for people), every candidate with why it
  // failed, and `fix`.
  Library(const std::string& what, const std::vector<std::string>& candidates, const std::string& fix);

  // The file that was opened.
  const std::string& path() const { return path_; }

  // Null when the library lacks it.
  void* find(const char* symbol) const;

  // Throws kMissingLibrary when the library lacks it.
  void* require(const char* symbol) const;

  // Fills a function pointer.
  template <class Function>
  void bind(Function*& function, const char* symbol) const {
    function = reinterpret_cast<Function*>(require(symbol));
  }
  template <class Function>
  void bind_optional(Function*& function, const char* symbol) const {
    function = reinterpret_cast<Function*>(find(symbol));
  }

 private:
  std::string what_;
  std::string path_;
  void* handle_ = nullptr;
};

// $name, or nothing when it is unset or empty.
std::string environment(const char* name);

}  // namespace gdn::runtime
