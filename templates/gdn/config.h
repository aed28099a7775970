// The one seam between CUDA (nvcc, NVRTC), HIP (hiprtc, clang with or without the ROCm headers) and the host shim.
//
// Every other header of templates/gdn is plain C++17 over what stands here. Nothing is included but headers of this
// folder: the include list is the compile time of a kernel, and NVRTC has no standard headers. Each part of the
// seam has a header of its own:
//
//   qualifiers.h GDN_HD, GDN_DEVICE, GDN_KERNEL(threads), GDN_RESIDENT_KERNEL(threads, resident),
//                GDN_CLUSTER_KERNEL(threads, resident, blocks), GDN_SHARED(type, name), GDN_UNROLL
//   threads.h    thread_id, block_number, block_row, block_head, kWaveSize, lane_id, wave_id, barrier, shuffle_xor,
//                shuffle_from; kHasClusters, cluster_arrive, cluster_wait, Mailbox, mailbox_open, cluster_send,
//                mailbox_wait; launch_dependents, wait_for_previous
//   memory.h     Global<T>, to_global, count_up, fence_device, Raw<bytes>, load, load_stream, store, store_stream,
//                bring_near, bring_run_near
//   arithmetic.h bits_of, float_of, exp2, log2, square_root, inverse_root, quotient, fused, half and bf16 conversions
//
// Blocks are one-dimensional: thread_id() runs from 0 to threads - 1 and a wave is kWaveSize consecutive threads (a
// warp of 32 on CUDA; 32 or 64 on AMD and in the shim).
#pragma once

#include "gdn/args.h"
#include "gdn/arithmetic.h"
#include "gdn/enums.h"
#include "gdn/memory.h"
#include "gdn/qualifiers.h"
#include "gdn/threads.h"
