/* libgdn_jit: kernels straight from a spec. The only library of the runtime that reads specs; an engine that ships
 * bundles does without it. The conventions are those of gdn.h, and so is the last error. */
#ifndef GDN_JIT_H_
#define GDN_JIT_H_

#include "gdn/gdn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A set of every operation of a spec. `spec_path` is the spec's file, and after a '+' each an engine's overlay: a file,
 * or the name of one in the folder engines/ beside the spec ("specs/qwen3_next_80b.yaml+vllm_ds"). `targets` is a
 * target or several with commas between; null, "" and "auto": all. Plans and sources are made now, a few milliseconds;
 * a kernel is compiled when it is opened, or found in the disk cache ($GDN_CACHE_DIR). An operation that a target can't
 * hold is in the set as unavailable, with the reason. `ranks`: tensor parallelism, the layout of one rank of so many; 0
 * and 1: the whole layer. GDN_BAD_SPEC: the text holds every error of the file with its place. GDN_UNSUPPORTED: a
 * target that is none, or a number of ranks that does not divide the heads. */
GDN_API gdn_status gdn_jit_open(const char* spec_path, const char* targets, int32_t ranks,
                                const gdn_set_options* options, gdn_set** set);

/* The layout that a spec gives to a tensor: `tensor` as the spec names it ("qkvz", "state", "handover.q"), with what
 * its values mean to `operation` (q, k and v between the parts are raw to unpack, convolved to conv_update; null:
 * decode). Open the spec that describes the engine's tensors, which need not be the one whose kernels are launched. */
GDN_API gdn_status gdn_jit_layout(const char* spec_path, const char* operation, const char* tensor, int32_t ranks,
                                  gdn_layout** layout);

/* Whether the kernels of a set (of a bundle, of the registry) are those that this spec makes: GDN_LAYOUT_MISMATCH names
 * the first kernel that is another one, and where its identity differs. Compiles nothing. */
GDN_API gdn_status gdn_jit_check(const char* spec_path, int32_t ranks, const gdn_set* set);

#ifdef __cplusplus
}
#endif

#endif /* GDN_JIT_H_ */
