/* One decode step and a second one through a prepared launch, in C.
 *
 *   example_decode_c SPEC [PLACE]        PLACE: cpu (the default) or simt
 *
 * The operands are filled with numbers that every dtype holds exactly; the checksums of output and state are those that
 * decode.cpp and decode.py print. Then the state is claimed to have another layout, and nothing is launched. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gdn/jit.h"

enum { ROWS = 3, SLOTS = 5 };

static int fail(const char* what) {
  fprintf(stderr, "%s: %s (%s)\n", what, gdn_last_error_text(), gdn_status_name(gdn_last_error()));
  return 1;
}

/* -8/16 to 8/16 in steps of 1/16, in the bits of a dtype. */
static void store(unsigned char* to, gdn_dtype dtype, size_t i, size_t operand) {
  const float number = (float)((int)((i * 7 + operand * 13) % 17) - 8) / 16.0f;
  uint32_t bits;
  memcpy(&bits, &number, sizeof(bits));
  if (dtype == GDN_FP32) {
    memcpy(to, &bits, 4);
    return;
  }
  uint16_t half = (uint16_t)(bits >> 16);
  if (dtype == GDN_FP16) {
    half = (uint16_t)(half & 0x8000);
    if ((bits & 0x7fffffff) != 0) half = (uint16_t)(half | ((bits >> 23 & 255) - 112) << 10 | (bits >> 13 & 1023));
  }
  memcpy(to, &half, 2);
}

/* FNV-1a. */
static unsigned long long checksum(const void* data, size_t bytes) {
  unsigned long long hash = 0xcbf29ce484222325ull;
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ ((const unsigned char*)data)[i]) * 0x100000001b3ull;
  return hash;
}

static void fill(void* memory, const gdn_operand* operand, size_t index, size_t elements) {
  const size_t bytes = gdn_dtype_bytes(operand->dtype);
  if (strcmp(operand->role, "slots") == 0) {
    for (size_t row = 0; row < elements; ++row) {
      const int64_t slot = (int64_t)row + 1;
      memcpy((unsigned char*)memory + row * bytes, &slot, bytes); /* little-endian */
    }
    return;
  }
  for (size_t i = 0; i < elements; ++i) store((unsigned char*)memory + i * bytes, operand->dtype, i, index);
}

int main(int argc, char** argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s SPEC [cpu|simt]\n", argv[0]);
    return 2;
  }
  const char* const spec = argv[1];
  const char* const place = argc > 2 ? argv[2] : "cpu";
  if (gdn_abi_version() != GDN_ABI_VERSION) {
    fprintf(stderr, "libgdn has interface %d, this program %d\n", gdn_abi_version(), GDN_ABI_VERSION);
    return 1;
  }

  gdn_set* set;
  gdn_kernel* kernel;
  if (gdn_jit_open(spec, "auto", 1, NULL, &set) != GDN_OK) return fail("opening the spec");
  if (gdn_supported(set, "decode", place, 0, 0, NULL, 0) != GDN_OK) {
    printf("unsupported: %s\n", gdn_last_error_text());
    return 4;
  }
  if (gdn_kernel_open(set, "decode", place, &kernel) != GDN_OK) return fail("opening the kernel");

  /* Each operand: memory, the layout that this engine says it has (here: what the spec says), a view. */
  const gdn_view* views[GDN_MAX_OPERANDS];
  gdn_view* owned[GDN_MAX_OPERANDS];
  gdn_pool* pools[GDN_MAX_OPERANDS] = {0};
  void* memory[GDN_MAX_OPERANDS] = {0};
  gdn_operand operands[GDN_MAX_OPERANDS];
  const size_t count = gdn_kernel_operands(kernel);
  size_t out = 0, state = 0;
  for (size_t i = 0; i < count; ++i) {
    gdn_operand* const operand = &operands[i];
    gdn_layout* layout;
    operand->struct_size = sizeof(*operand);
    if (gdn_kernel_operand(kernel, i, operand) != GDN_OK) return fail("asking for an operand");
    if (gdn_jit_layout(spec, "decode", operand->name, 1, &layout) != GDN_OK) return fail("stating a layout");
    if (strcmp(operand->role, "pool") == 0) {
      if (gdn_pool_create(NULL, operand->dtype, SLOTS, operand->inner, 0, layout, place, &pools[i]) != GDN_OK) {
        return fail("making a pool");
      }
      fill(gdn_pool_data(pools[i]), operand, i, (size_t)(SLOTS * operand->inner));
      if (gdn_pool_view(pools[i], &owned[i]) != GDN_OK) return fail("viewing a pool");
    } else {
      const int64_t rows = operand->leading == 1 ? ROWS : 1;
      const int64_t sizes[2] = {rows, operand->inner};
      const int is_slots = strcmp(operand->role, "slots") == 0;
      const size_t elements = (size_t)(rows * operand->inner);
      memory[i] = calloc(elements, gdn_dtype_bytes(operand->dtype));
      if (memory[i] == NULL) return 1;
      fill(memory[i], operand, i, elements);
      if (gdn_view_create(memory[i], operand->dtype, operand->leading == 1 && !is_slots ? 2 : 1,
                          operand->leading == 1 ? sizes : sizes + 1, NULL, layout, &owned[i]) != GDN_OK) {
        return fail("making a view");
      }
    }
    gdn_layout_close(layout); /* the view keeps it */
    views[i] = owned[i];
    if (strcmp(operand->name, "out") == 0) out = i;
    if (strcmp(operand->name, "state") == 0) state = i;
  }

  if (gdn_launch(kernel, ROWS, SLOTS, views, count, NULL) != GDN_OK) return fail("launching");
  gdn_prepared* prepared;
  if (gdn_prepare(kernel, ROWS, SLOTS, views, count, &prepared) != GDN_OK) return fail("preparing");
  if (gdn_prepared_launch(prepared, ROWS, NULL) != GDN_OK) return fail("launching again");
  printf("%s\n", gdn_kernel_symbol(kernel));
  printf("out   %016llx\n",
         checksum(memory[out], (size_t)(ROWS * operands[out].inner) * gdn_dtype_bytes(operands[out].dtype)));
  printf("state %016llx\n", checksum(gdn_pool_data(pools[state]),
                                     (size_t)(SLOTS * operands[state].inner) * gdn_dtype_bytes(operands[state].dtype)));

  /* The same memory, stated to be something else. */
  gdn_layout* other;
  gdn_pool* claimed;
  gdn_view* wrong;
  if (gdn_layout_from_text("fp32 [slot@launch, key first]", &other) != GDN_OK) return fail("a layout");
  if (gdn_pool_create(gdn_pool_data(pools[state]), operands[state].dtype, SLOTS, operands[state].inner, 0, other, NULL,
                      &claimed) != GDN_OK ||
      gdn_pool_view(claimed, &wrong) != GDN_OK) {
    return fail("a second pool");
  }
  views[state] = wrong;
  const gdn_status refused = gdn_launch(kernel, ROWS, SLOTS, views, count, NULL);
  printf("another layout: %s\n", gdn_status_name(refused));

  gdn_view_close(wrong);
  gdn_pool_close(claimed);
  gdn_layout_close(other);
  gdn_prepared_close(prepared);
  for (size_t i = 0; i < count; ++i) {
    gdn_view_close(owned[i]);
    gdn_pool_close(pools[i]);
    free(memory[i]);
  }
  gdn_kernel_close(kernel);
  gdn_set_close(set);
  return 0;
}
