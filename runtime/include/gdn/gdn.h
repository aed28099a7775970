/* gdn-gen's runtime for engines: open kernels, state what operands are, launch.
 *
 * The order of things: open a set of kernels (gdn_set_open_*, or gdn_jit_open of gdn/jit.h), open a kernel of it at a
 * place (gdn_kernel_open), make a layout for each tensor of yours (gdn_layout_from_text, gdn_jit_layout), wrap tensors
 * as views (gdn_view_create), launch (gdn_launch, or gdn_prepare once and gdn_prepared_launch many times).
 *
 * Layouts are statements. A view carries the layout that its owner says it has, and a launch compares it with what the
 * kernel was made for; where they differ nothing is launched and the error shows both. Whoever copies a layout out of
 * the kernel that it is about to launch switches this protection off.
 *
 * Conventions
 * - Every function that can fail returns gdn_status; results come through the last pointer, which is set to null (or
 *   left alone where it is a number) on failure. gdn_last_error_text() explains the last failure of this thread.
 * - Handles are opaque. gdn_X_close() takes null. Closing a handle never invalidates another one: a kernel keeps its
 *   set alive, a view its layout, a prepared launch its kernel.
 * - Texts and arrays that are passed in are copied; texts that are handed out live as long as the handle they came
 *   from. Texts are UTF-8 and end with a zero.
 * - Sizes and strides are in elements, slowest dimension first; memory is in bytes.
 * - Every function may be called from any thread. Sets, kernels and layouts may be used by several threads at once. A
 *   view, a pool, a prepared launch or a probe may be read by several threads at once (a launch reads), and must not be
 *   changed (gdn_view_set_*) while another thread uses it.
 * - No C++ exception leaves a function. Structs begin with their size, so that later versions can append fields: set
 *   it with sizeof, and zero the rest.
 * - A place is where a kernel runs: "cpu"; "cuda" or "cuda:1"; "hip" or "hip:1"; "simt" or "simt:gfx942", which runs
 *   the source of a GPU target (sm_90a unless named) on the CPU, slowly, for tests.
 */
#ifndef GDN_GDN_H_
#define GDN_GDN_H_

#include <stddef.h>
#include <stdint.h>

#include "gdn/dlpack.h"

#if defined(_WIN32)
#define GDN_API
#else
#define GDN_API __attribute__((visibility("default")))
#endif

/* A type of 32 bits that holds any number, also one that a later version knows and this one does not. */
#ifdef __cplusplus
#define GDN_ENUM(name) enum name : int32_t
#else
#define GDN_ENUM(name)  \
  typedef int32_t name; \
  enum
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a function or struct changes in a way that callers notice; appended functions and fields don't. */
#define GDN_ABI_VERSION 1

/* GDN_ABI_VERSION of the library that is loaded. Compare once after loading. */
GDN_API int gdn_abi_version(void);

/* ---- Errors ---------------------------------------------------------------------------------------------------- */

GDN_ENUM(gdn_status){
    GDN_OK = 0,
    GDN_BAD_ARGUMENT = 1,      /* a null pointer, a wrong number of operands, an unknown word, rows < 0 */
    GDN_DTYPE_MISMATCH = 2,    /* a view of another element type than the kernel was made for */
    GDN_LAYOUT_MISMATCH = 3,   /* a view whose stated layout is not the kernel's; a probe that found a difference */
    GDN_SIZE_MISMATCH = 4,     /* too few rows, another number of slots or inner elements */
    GDN_STRIDE_MISMATCH = 5,   /* inner dimensions not dense, or a leading stride that the kernel can't take */
    GDN_ALIGNMENT = 6,         /* address or leading stride not a multiple of what the kernel needs */
    GDN_OVERLAP = 7,           /* an operand that is written shares memory with another one */
    GDN_SLOT_OUT_OF_RANGE = 8, /* a slot index neither in the pool nor padding */
    GDN_SLOT_REPEATED = 9,     /* two rows of a launch on one slot */
    GDN_MISSING_LIBRARY = 10,  /* a driver, compiler or tool that is not there */
    GDN_UNSUPPORTED = 11,      /* the set, device, processor or compiler can't do it; the text says why */
    GDN_COMPILE_FAILED = 12,   /* the compiler refused the source, crashed, or returned no binary */
    GDN_TIMED_OUT = 13,        /* the compiler was killed at its time limit */
    GDN_DEVICE_ERROR = 14,     /* the driver returned an error */
    GDN_SYSTEM = 15,           /* the operating system refused: no disk, no permission, no such file */
    GDN_NOT_BUILT = 16,        /* GDN_JIT=off, and the kernel was not built ahead of time */
    GDN_TRUNCATED = 17,        /* a bundle that ends too early */
    GDN_ALTERED = 18,          /* a bundle whose bytes are not those that were written */
    GDN_OTHER_VERSION = 19,    /* a bundle, plan or struct of another version of this project */
    GDN_OUT_OF_MEMORY = 20,    /* host or device memory could not be had */
    GDN_WRONG_DEVICE = 21,     /* an operand in memory that the kernel's device can't reach: a host pointer on a GPU */
    GDN_NAN_IN_STATE = 22,     /* GDN_CHECK=1: a state that holds NaN */
    GDN_BAD_SPEC = 23,         /* a spec with errors; the text holds all of them with their places */
    GDN_INTERNAL = 24          /* a bug of this library */
};

/* "ok", "bad_argument", "layout_mismatch", ...; "?" for a number that is no status. Never null. */
GDN_API const char* gdn_status_name(gdn_status status);

/* Of the last call on this thread that failed; a call that succeeds leaves them. The text names the thing, the rule and
 * what to do, may have several lines, is never null, and lives until the next failing call of this thread. */
GDN_API gdn_status gdn_last_error(void);
GDN_API const char* gdn_last_error_text(void);

/* For libraries that add functions to this one (libgdn_jit): sets both for this thread and returns `status`. */
GDN_API gdn_status gdn_set_last_error(gdn_status status, const char* text);

/* Lines that nobody waits for: an operation that is unsupported (once for each reason and set), a cache that can't be
 * written. `log` may be called from any thread, one call at a time; null (the default): they are dropped. Applies to
 * the whole process. */
typedef void (*gdn_log_function)(void* user, const char* text);
GDN_API void gdn_set_log(gdn_log_function log, void* user);

/* ---- Sets of kernels ------------------------------------------------------------------------------------------- */

typedef struct gdn_set gdn_set;

/* Where kernels on the CPU get their threads from. */
GDN_ENUM(gdn_threading){
    GDN_THREADS_POOL = 0, /* the library's own, one set of them for all kernels that ask for as many: they wait for the
                             next launch in a loop for spin_us, then asleep. Each is pinned to a processor of the mask
                             that the process had when it loaded the library, if they are as many as that; GDN_PIN=0
                             in the environment: none is. The thread that launches does its part and is never pinned; a
                             worker leaves the processor that it has come to. Launches from several threads take turns.
                             After a fork the child starts its own. */
    GDN_THREADS_CALLER = 1, /* those of parallel_for */
    GDN_THREADS_OPENMP = 2  /* of the OpenMP runtime that the process has loaded, else of an installed one; see the
                               runtime's own variables. GNU's can't be used in a child that was forked after it was used
                               in the parent. GDN_MISSING_LIBRARY when a kernel is opened and there is none */
};

/* Calls body(context, part) once for each part from 0 to parts - 1, in any order, on any threads, side by side or one
 * after the other, and returns when all have returned. No part waits for another one. The body never fails. */
typedef void (*gdn_parallel_for)(void* user, int32_t parts, void (*body)(void* context, int32_t part), void* context);

/* Edges that launches stand on: gdn_edge. */
GDN_ENUM(gdn_edges){GDN_EDGES_BOTH = 0, GDN_EDGES_PLAIN = 1, GDN_EDGES_PROGRAMMATIC = 2};

/* How a set compiles and runs. Null wherever an options pointer is taken: every field's zero. */
typedef struct {
  size_t struct_size;      /* sizeof(gdn_set_options) */
  int32_t threads;         /* of kernels on the CPU; 0: as many as this process may use, by its affinity mask and its
                              control group's quota. The pool never has more than that */
  int32_t compile_seconds; /* time limit of one compilation in a process of its own; 0: 120 */
  /* Called before and after each compilation, from the thread that opens the kernel. `seconds` is negative before. */
  void (*progress)(void* user, const char* symbol, const char* compiler, double seconds);
  void* user;
  gdn_threading threading;
  int32_t spin_us; /* GDN_THREADS_POOL: how long a thread waits awake; 0: 100, negative: not at all */
  /* GDN_THREADS_CALLER; null with the others. Called from the thread that launches, from several at once where several
   * launch. A launch into which it puts fewer parts than it was told fails with GDN_BAD_ARGUMENT. */
  gdn_parallel_for parallel_for;
  void* parallel_user; /* its first argument */
  int32_t rows; /* of gdn_jit_open: how many tokens the launches that matter have. Where a kernel has forms for launches
                 * of few and of many tokens, the form of such a launch alone is compiled, in a part of the time; it
                 * serves any other number too, at another speed. 0: all forms */
  int32_t reserved; /* not looked at */
  gdn_edges edges;  /* of gdn_jit_open: the edges that the launches that matter are on. Where a kernel has one form for
                     * plain and another for programmatic ones, that one alone is compiled and serves both */
} gdn_set_options;

/* One kernel of a set, or the reason why there is none. */
typedef struct {
  size_t struct_size;      /* sizeof(gdn_kernel_source) */
  const char* plan;        /* text of the plan, as `gdn-gen dump --stage plan` prints it; null: see `unavailable` */
  const char* source_name; /* for diagnostics: "gdn_x_decode_sm_90a.cu" */
  const char* source;      /* to compile when the kernel is opened; null with a binary, and on the CPU */
  const void* binary;      /* cubin, code object; null: none */
  size_t binary_bytes;
  const char* operation; /* without a plan: what is unavailable, on which target, and why */
  const char* target;
  const char* unavailable;
} gdn_kernel_source;

/* A set from plans with sources or binaries. Everything is copied; nothing is compiled. GDN_BAD_ARGUMENT for a plan
 * that can't be read, or two kernels of one operation and target. */
GDN_API gdn_status gdn_set_open_kernels(const gdn_kernel_source* kernels, size_t count, const gdn_set_options* options,
                                        gdn_set** set);

/* A set of one spec's kernels from a bundle that `gdn-gen build` wrote. `spec` may be null where the bundle holds one
 * spec. GDN_TRUNCATED, GDN_ALTERED, GDN_OTHER_VERSION, GDN_SYSTEM; GDN_BAD_ARGUMENT for a spec that is not in it. */
GDN_API gdn_status gdn_set_open_bundle(const char* path, const char* spec, const gdn_set_options* options,
                                       gdn_set** set);

/* The same from a bundle in memory, such as one inside the program's own image. It is read now and not kept. */
GDN_API gdn_status gdn_set_open_bundle_bytes(const void* data, size_t bytes, const char* spec,
                                             const gdn_set_options* options, gdn_set** set);

/* Adds kernels to the registry of this process: what kernels that are compiled into a program call before main. The
 * structs and everything they point at must live as long as the process. */
GDN_API gdn_status gdn_register_kernels(const gdn_kernel_source* kernels, size_t count);

/* A set of the registered kernels of one spec ("qwen3_next_80b"). GDN_UNSUPPORTED when none is registered. */
GDN_API gdn_status gdn_set_open_registry(const char* spec, const gdn_set_options* options, gdn_set** set);

GDN_API void gdn_set_close(gdn_set* set);

/* How many kernels a set has; and of how many operations and targets it knows that it has none, and why. */
GDN_API size_t gdn_set_size(const gdn_set* set);
GDN_API size_t gdn_set_absent(const gdn_set* set);

/* Kernels by index, in the order they were added; from gdn_set_size() on the absent ones, in theirs. Each pointer may
 * be null. `reason` is null for a kernel, and why there is none for an absent one, whose symbol is empty.
 * GDN_BAD_ARGUMENT for an index beyond the last. */
GDN_API gdn_status gdn_set_entry(const gdn_set* set, size_t index, const char** operation, const char** target,
                                 const char** symbol, const char** reason);

/* The plan of an operation on a target as text. GDN_UNSUPPORTED when the set has none, with the reason. */
GDN_API gdn_status gdn_set_plan(const gdn_set* set, const char* operation, const char* target, const char** text);

/* Bytes of workspace that a launch of so many rows needs; 0 for operations that take none. `where` is a place or a
 * target. The launch has at most `slots` sequences and snapshots together, padding counted, or any number if `slots`
 * is 0.
 *
 * Of decode, where it has an operand `arrivals`, the bytes that the largest launch of up to so many rows needs there:
 * its blocks count in it who comes last. Zero it once, before the first launch; every launch leaves its counters at
 * zero, so that a graph can be replayed. Launches that may run at the same time need one each. Without it (null)
 * launches of few rows take a slower form. */
GDN_API gdn_status gdn_set_workspace(const gdn_set* set, const char* operation, const char* where, int32_t rows,
                                     int32_t slots, uint64_t* bytes);

/* Compiles and loads every operation that the set has for a place, as many side by side as the machine has processors
 * and memory for, so that gdn_kernel_open finds them. Operations that the set does not have there are left out. Tries
 * all, then returns the first failure. */
GDN_API gdn_status gdn_set_load(const gdn_set* set, const char* place);

/* ---- Layouts ---------------------------------------------------------------------------------------------------- */

typedef struct gdn_layout gdn_layout;

/* A layout from its canonical text, as `gdn-gen dump --stage layout` prints it:
 * "bf16 [token@launch, value_head:32, value_dim:128]". Every byte counts. */
GDN_API gdn_status gdn_layout_from_text(const char* text, gdn_layout** layout);
GDN_API void gdn_layout_close(gdn_layout* layout);

/* The 64-bit identity (FNV-1a of the text, the same in every version), and the text. */
GDN_API uint64_t gdn_layout_identity(const gdn_layout* layout);
GDN_API const char* gdn_layout_text(const gdn_layout* layout);

/* ---- Views ------------------------------------------------------------------------------------------------------ */

GDN_ENUM(gdn_dtype){GDN_FP32 = 0,  GDN_BF16 = 1,   GDN_FP16 = 2,     GDN_INT32 = 3,
                    GDN_INT64 = 4, GDN_E4M3FN = 5, GDN_E4M3FNUZ = 6, GDN_UINT8 = 7};

/* "fp32", "bf16", ...; null for a number that is no dtype. Bytes of an element; 0 for no dtype. */
GDN_API const char* gdn_dtype_name(gdn_dtype dtype);
GDN_API size_t gdn_dtype_bytes(gdn_dtype dtype);

/* Whose memory an address is in; the numbers are DLPack's. Unstated: a launch on the CPU believes it, a launch on a GPU
 * asks the driver (the first time that it sees a view's address). */
GDN_ENUM(gdn_device_kind){GDN_DEVICE_UNSTATED = 0, GDN_DEVICE_CPU = 1, GDN_DEVICE_CUDA = 2, GDN_DEVICE_HIP = 10};

enum { GDN_MAX_RANK = 8, GDN_MAX_OPERANDS = 32 };

/* An operand as its owner sees it. Does not own the memory. */
typedef struct gdn_view gdn_view;

/* `data` may be null for an operand that is left out. `sizes` and `strides` have `rank` numbers (at most GDN_MAX_RANK),
 * in elements; null strides: dense. The view keeps `layout` alive; null: not stated, which a launch takes of a
 * workspace (and of decode's arrivals) alone: nobody else reads those bytes. */
GDN_API gdn_status gdn_view_create(void* data, gdn_dtype dtype, int32_t rank, const int64_t* sizes,
                                   const int64_t* strides, const gdn_layout* layout, gdn_view** view);

/* From a DLPack tensor, with its device. The tensor is read and not kept: whoever made it still deletes it, and its
 * memory must outlive the launches. GDN_BAD_ARGUMENT for element types and devices that no kernel takes. */
GDN_API gdn_status gdn_view_from_dlpack(const GdnDLTensor* tensor, const gdn_layout* layout, gdn_view** view);
GDN_API void gdn_view_close(gdn_view* view);

/* Other memory, or another number of rows (the first size and stride), for the next launch. */
GDN_API gdn_status gdn_view_set_data(gdn_view* view, void* data);
GDN_API gdn_status gdn_view_set_leading(gdn_view* view, int64_t size, int64_t stride);
/* States whose memory it is. */
GDN_API gdn_status gdn_view_set_device(gdn_view* view, gdn_device_kind device, int32_t ordinal);

GDN_API void* gdn_view_data(const gdn_view* view);

/* ---- Pools ------------------------------------------------------------------------------------------------------ */

/* State that is kept between launches, indexed by slot. The layout that it is created with stays with it as long as it
 * lives: a kernel of another layout is refused, whoever wrote the pool. */
typedef struct gdn_pool gdn_pool;

/* `slots` x `inner` elements, slots `slot_stride` elements apart (0: dense). `data` is the owner's memory; null: the
 * pool allocates zeroed memory at `place` ("cpu", "cuda:0") and frees it. With `data`, `place` states whose memory it
 * is; null: not stated. GDN_OUT_OF_MEMORY. */
GDN_API gdn_status gdn_pool_create(void* data, gdn_dtype dtype, int64_t slots, int64_t inner, int64_t slot_stride,
                                   const gdn_layout* layout, const char* place, gdn_pool** pool);
GDN_API void gdn_pool_close(gdn_pool* pool);
GDN_API void* gdn_pool_data(const gdn_pool* pool);

/* A view of the whole pool; it keeps the pool alive. */
GDN_API gdn_status gdn_pool_view(const gdn_pool* pool, gdn_view** view);

/* ---- Support and dispatch --------------------------------------------------------------------------------------- */

/* GDN_OK when a launch would be taken; otherwise the status that it would fail with, and gdn_last_error_text() is the
 * reason. Compiles and launches nothing. `where` is a place, whose device and compiler are looked for, or a target
 * ("sm_90a"), of which only the set is asked. `views` may be null: then rows, slots and count are not looked at. */
GDN_API gdn_status gdn_supported(const gdn_set* set, const char* operation, const char* where, int32_t rows,
                                 int32_t slots, const gdn_view* const* views, size_t count);

/* A run of rows of a batch. */
GDN_ENUM(gdn_row_kind){
    GDN_ROWS_DECODE = 0,      /* one token each */
    GDN_ROWS_SPECULATIVE = 1, /* several tokens each, with roll-back */
    GDN_ROWS_PREFILL = 2      /* a prompt, or a piece of one */
};

typedef struct {
  gdn_row_kind kind;
  int32_t rows; /* at least 1 */
} gdn_rows;

/* One launch: an operation over rows [first_row, first_row + rows) of the batch. */
typedef struct {
  char operation[24];
  gdn_row_kind kind;
  int32_t first_row;
  int32_t rows;
} gdn_step;

/* Which operations run a batch at a place, in their order: the fused one for each kind of rows, its parts where the
 * fused one is not available there. `steps` has room for `capacity`; `count` receives how many there are.
 * GDN_UNSUPPORTED when some rows can be run by nothing: the reason is the error's text, goes to the log once, and the
 * caller takes its own path for the batch. GDN_SIZE_MISMATCH when there are more steps than room. Compiles nothing. */
GDN_API gdn_status gdn_dispatch(const gdn_set* set, const char* where, const gdn_rows* batch, size_t batch_count,
                                gdn_step* steps, size_t capacity, size_t* count);

/* ---- Kernels ---------------------------------------------------------------------------------------------------- */

typedef struct gdn_kernel gdn_kernel;

/* Compiles (or takes from binary or cache) and loads a kernel; the second time it is found in the set. Of the set's
 * targets the best that the place runs is taken. GDN_UNSUPPORTED: the set has no such operation for this place, or the
 * device is older than every kernel of the set. GDN_MISSING_LIBRARY: no driver or no compiler. GDN_CHECK=1 in the
 * environment now turns checked mode on for the kernel. */
GDN_API gdn_status gdn_kernel_open(gdn_set* set, const char* operation, const char* place, gdn_kernel** kernel);
GDN_API void gdn_kernel_close(gdn_kernel* kernel);

GDN_API const char* gdn_kernel_symbol(const gdn_kernel* kernel);
GDN_API const char* gdn_kernel_target(const gdn_kernel* kernel);
/* Of the kernel: operation, layouts of all operands, and every number. */
GDN_API uint64_t gdn_kernel_identity(const gdn_kernel* kernel);

/* What a kernel expects of an operand. For reading, logging and allocating; its layout is not for views. */
typedef struct {
  size_t struct_size; /* sizeof(gdn_operand) */
  const char* name;   /* as the spec names the tensor: "qkvz", "conv_state" */
  const char* role;   /* "input", "parameter", "pool", "slots", "output", "scale", "record", "workspace",
                       * "counts", "offsets", "flags", "seed", "snapshots" */
  gdn_dtype dtype;
  int32_t written;    /* 1: the kernel writes it */
  int32_t leading;    /* 0: no leading dimension; 1: rows; 2: slots; 3: sequences (of offsets one more);
                         4: `inner` groups of scales, in each a number a row, side by side; 5: snapshots */
  int32_t any_stride; /* 1: the leading stride is given at launch; 0: it must be `inner` */
  int32_t optional;   /* 1: may be left out */
  int64_t inner;      /* elements below the leading dimension */
  int64_t align;      /* bytes */
  const char* layout; /* canonical text */
} gdn_operand;

GDN_API size_t gdn_kernel_operands(const gdn_kernel* kernel);
GDN_API gdn_status gdn_kernel_operand(const gdn_kernel* kernel, size_t index, gdn_operand* operand);

/* Compares the views with the kernel and launches it if they agree; nothing is launched otherwise. Views stand in the
 * order of the kernel's operands. A GPU kernel is enqueued on `stream` (CUstream or hipStream_t; null: the default
 * stream) and not waited for; on the CPU it is done on return, and slot indices are checked too.
 * An operation of several tokens a sequence (decode_spec) takes the tokens as rows; it has as many sequences as the
 * view of its operand cu_seqlens has numbers, less one. Of state_commit the sequences are the rows.
 * Its states stay fp32 from token to token of a launch; what it stores is rounded as decode rounds it (with scales, or
 * by the launch's seed): each token's state in its slot, or once a launch the state that records were folded into.
 * Intermediate states of 8 bits or rounded by chance are fp32, and state_commit rounds the accepted one.
 * 0 rows are a warm-up call, such as an engine makes before it knows any batch: nothing is enqueued and no memory is
 * touched (gdn_kernel_open compiled and loaded the kernel). Views may be missing then, all of them too; of those that
 * are given dtype and layout are compared, so that a wrong statement is found before the first token.
 * Nothing is kept for a backward pass: a view has no word for a gradient, so who holds a graph has to ask before it
 * launches (the Python package refuses tensors that require one). */
GDN_API gdn_status gdn_launch(const gdn_kernel* kernel, int32_t rows, int32_t slots, const gdn_view* const* views,
                              size_t count, void* stream);

/* How a launch stands to what is ahead of it in its stream. */
GDN_ENUM(gdn_edge){
    GDN_EDGE_PLAIN = 0,       /* it begins when that is through */
    GDN_EDGE_PROGRAMMATIC = 1 /* it may begin before, and waits itself (CUDA's programmatic dependent launch) */
};

/* What the caller of a programmatic launch vouches for. */
enum {
  /* Slot indices (of decode_spec cu_seqlens and accepted too), and recurrent states in the slots of this launch, are
   * written by nothing that may still run when it begins: by none of the launches ahead of it that are joined to it by
   * programmatic edges alone. A launch that another one follows on a programmatic edge lets it begin at once, so such
   * a chain may have several at work: put a plain edge into each step (its first launch), and the step before is
   * through. */
  GDN_PROMISE_POOLS_READY = 1
};

/* Null wherever a pointer to it is taken: every field's zero. */
typedef struct {
  size_t struct_size; /* sizeof(gdn_launch_options) */
  gdn_edge edge;
  uint32_t promises; /* a sum of GDN_PROMISE_..., for a programmatic edge */
} gdn_launch_options;

/* gdn_launch with options. On a programmatic edge decode and decode_spec may be put on the device while the launch
 * ahead still runs. Before that one is through and what it wrote can be seen, the kernel reads nothing but its argument
 * block; with GDN_PROMISE_POOLS_READY also what that promises. It writes nothing before. So the result is that of a
 * plain edge as long as the promise holds. What the kernel itself writes is seen by a following launch that waits as
 * CUDA says (griddepcontrol.wait, cudaGridDependencySynchronize), or that follows on a plain edge. Other
 * operations, and places other than CUDA's (sm_90a and newer), take every edge as plain. A kernel may have forms that
 * are the faster ones on programmatic edges; launches on such edges take them. GDN_BAD_ARGUMENT for an edge
 * or a promise that this version does not know. */
GDN_API gdn_status gdn_launch_with(const gdn_kernel* kernel, int32_t rows, int32_t slots, const gdn_view* const* views,
                                   size_t count, void* stream, const gdn_launch_options* options);

/* A tensor under the name of the operand that it is given for. */
typedef struct {
  const char* operand; /* "qkvz", "state", "slots"; of a workspace "workspace", or
                          "<operation>.workspace"; of decode's "arrivals", or "decode.arrivals" */
  const gdn_view* view;
} gdn_named_view;

/* A run of rows of one kind in a mixed batch, and what only its kernels take. */
typedef struct {
  size_t struct_size; /* sizeof(gdn_run) */
  gdn_row_kind kind;
  int32_t rows;              /* tokens */
  const gdn_named_view* own; /* slots, cu_seqlens (from 0, within the run), has_initial_state, accepted, ... */
  size_t own_count;
} gdn_run;

/* A batch of prefill, decode and speculative rows in one call. `shared` are the tensors of all runs: rows of the
 * batch's tokens, of which each run has its range in order, parameters and pools. `kernels` are those that may be
 * launched; of each run the fused operation's is, or those of all its parts. Everything is compared before anything is
 * launched; the launches go to `stream` in the batch's order, and nothing waits. A sequence stands in one run. */
GDN_API gdn_status gdn_launch_mixed(const gdn_kernel* const* kernels, size_t kernel_count, const gdn_run* runs,
                                    size_t run_count, int32_t slots, const gdn_named_view* shared, size_t shared_count,
                                    void* stream);

/* A launch whose views were compared once. */
typedef struct gdn_prepared gdn_prepared;

/* The addresses, strides and sizes are taken now: later changes of the views don't reach it. */
GDN_API gdn_status gdn_prepare(const gdn_kernel* kernel, int32_t rows, int32_t slots, const gdn_view* const* views,
                               size_t count, gdn_prepared** prepared);
GDN_API void gdn_prepared_close(gdn_prepared* prepared);

/* Launches over the first `rows` rows: 1 to the number that it was prepared for; 0: a warm-up call, which launches
 * nothing. What the operands hold (slot indices) is not looked at, except in checked mode. */
GDN_API gdn_status gdn_prepared_launch(const gdn_prepared* prepared, int32_t rows, void* stream);
GDN_API gdn_status gdn_prepared_launch_with(const gdn_prepared* prepared, int32_t rows, void* stream,
                                            const gdn_launch_options* options);

/* ---- Layout probe ----------------------------------------------------------------------------------------------- */

/* For engines that hold bare pointers: does the engine's own unpacking see the same elements as the kernel? Every
 * operand is filled with values that say which element they are; the engine reads parts of them its own way, and what
 * it read is compared with the kernel's address maps. One call at start-up, before there is anything to lose: the
 * operands are overwritten. */

/* Fills `values` with the part's elements as the engine's own code reads them from its tensors, converted to float, in
 * this order, slowest first (row and slot: the first `rows` of the tensor):
 *   q, k                               [row, key_head, key_dim]
 *   v, z, o, out                       [row, value_head, value_dim]
 *   b, beta                            [row, value_head]
 *   a, g                               [row, value_head]; of a kda layer [row, value_head, key_dim]
 *   conv_weight.q, .k, .v              [head, dim, tap], tap 0 being the oldest or newest as the weight is stored
 *   conv_bias.q, .k, .v                [head, dim]
 *   conv_state.q, .k, .v               [slot, head, dim, tap], tap in the order of the window
 *   state                              [slot, value_head, value_dim, key_dim]
 *   a_log                              [value_head]
 *   dt_bias                            [value_head]; of a kda layer [value_head, key_dim]
 *   norm_weight                        [value_dim]
 * What an operation writes for its successor is named out.q, out.k, ..., out.g, out.beta, out.o and has the order of q,
 * k, ..., g, beta, o.
 * Returns 0; 1 for a part that the engine does not read (it is left out); anything else ends the probe with
 * GDN_BAD_ARGUMENT. Called several times for each part. */
typedef int (*gdn_probe_function)(void* user, const char* part, int32_t rows, float* values, size_t count);

/* Probes the operands of an operation at a place. The views' tensors must have at least `rows` rows or slots (2 is
 * enough). Nothing is compiled. GDN_LAYOUT_MISMATCH: the first element that differs is named as the kernel and as the
 * engine name it. GDN_BAD_ARGUMENT when the engine read no part at all. `where` says which
 * kernel's maps are meant and whose memory the operands are in: a place, or a target for operands on the host. */
GDN_API gdn_status gdn_probe(const gdn_set* set, const char* operation, const char* where, int32_t rows,
                             const gdn_view* const* views, size_t count, gdn_probe_function read, void* user);

#ifdef __cplusplus
}
#endif

#endif /* GDN_GDN_H_ */
