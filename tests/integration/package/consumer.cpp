// Opens the kernels that are inside the program and says what they are.
#include <cstdio>
#include <cstring>

#include "model_kernels.h"
#include "named_kernels.h"

namespace {

// The first line of a text that begins with `start`.
void print_line(const char* text, const char* start) {
  for (const char* line = text; line != nullptr; line = std::strchr(line, '\n'), line = line ? line + 1 : nullptr) {
    if (std::strncmp(line, start, std::strlen(start)) != 0) continue;
    std::printf("%.*s\n", static_cast<int>(std::strcspn(line, "\n")), line);
    return;
  }
}

int fail(const char* what) {
  std::printf("%s: %s: %s\n", what, gdn_status_name(gdn_last_error()), gdn_last_error_text());
  return 1;
}

}  // namespace

int main() {
  gdn_set* set = nullptr;
  if (model_kernels_open(nullptr, nullptr, &set) != GDN_OK) return fail("model_kernels");
  for (size_t i = 0; i < gdn_set_size(set); ++i) {
    const char *operation = nullptr, *target = nullptr, *symbol = nullptr, *reason = nullptr, *plan = nullptr;
    if (gdn_set_entry(set, i, &operation, &target, &symbol, &reason) != GDN_OK) return fail("entry");
    std::printf("%s\n", symbol);
    if (gdn_set_plan(set, operation, target, &plan) != GDN_OK) return fail("plan");
    print_line(plan, "identity");
  }
  gdn_set_close(set);
  // Two specs in one bundle: one has to be named.
  if (named_kernels_open(nullptr, nullptr, &set) != GDN_BAD_ARGUMENT) return fail("named_kernels without a name");
  if (named_kernels_open("qwen3_5_27b", nullptr, &set) != GDN_OK) return fail("named_kernels");
  std::printf("named: %zu\n", gdn_set_size(set));
  gdn_set_close(set);
  return 0;
}
