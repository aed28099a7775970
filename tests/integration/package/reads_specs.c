/* Makes kernels from a spec file at run time. */
#include <stdio.h>

#include "gdn/jit.h"

int main(int argc, char** argv) {
  gdn_set* set = NULL;
  if (argc != 2) return 2;
  if (gdn_jit_open(argv[1], "avx512bf16", 1, NULL, &set) != GDN_OK) {
    printf("%s\n", gdn_last_error_text());
    return 1;
  }
  printf("%zu kernels, %zu absent\n", gdn_set_size(set), gdn_set_absent(set));
  gdn_set_close(set);
  return 0;
}
