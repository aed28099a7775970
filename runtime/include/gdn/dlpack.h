/* The part of DLPack that gdn.h takes tensors through: the same names, numbers and layout as DLPack 1.0
 * (https://dmlc.github.io/dlpack/latest/c_api.html), prefixed so that both headers can be included.
 *
 * DLPack 0.x hands over GdnDLManagedTensor, 1.x GdnDLManagedTensorVersioned; both hold a GdnDLTensor. */
#ifndef GDN_DLPACK_H_
#define GDN_DLPACK_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GDN_DLPACK_MAJOR_VERSION 1
#define GDN_DLPACK_MINOR_VERSION 0

typedef struct {
  uint32_t major;
  uint32_t minor;
} GdnDLPackVersion;

/* device_type */
enum {
  GDN_DL_CPU = 1,
  GDN_DL_CUDA = 2,
  GDN_DL_CUDA_HOST = 3,
  GDN_DL_ROCM = 10,
  GDN_DL_ROCM_HOST = 11,
  GDN_DL_CUDA_MANAGED = 13
};

typedef struct {
  int32_t device_type;
  int32_t device_id;
} GdnDLDevice;

/* GdnDLDataType::code */
enum {
  GDN_DL_INT = 0,
  GDN_DL_UINT = 1,
  GDN_DL_FLOAT = 2,
  GDN_DL_BFLOAT = 4,
  GDN_DL_BOOL = 6,
  GDN_DL_FLOAT8_E4M3FN = 10,
  GDN_DL_FLOAT8_E4M3FNUZ = 11
};

typedef struct {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
} GdnDLDataType;

typedef struct {
  void* data;
  GdnDLDevice device;
  int32_t ndim;
  GdnDLDataType dtype;
  int64_t* shape;
  int64_t* strides; /* elements; null: dense, slowest first */
  uint64_t byte_offset;
} GdnDLTensor;

typedef struct GdnDLManagedTensor {
  GdnDLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(struct GdnDLManagedTensor* self);
} GdnDLManagedTensor;

typedef struct GdnDLManagedTensorVersioned {
  GdnDLPackVersion version;
  void* manager_ctx;
  void (*deleter)(struct GdnDLManagedTensorVersioned* self);
  uint64_t flags;
  GdnDLTensor dl_tensor;
} GdnDLManagedTensorVersioned;

#ifdef __cplusplus
}
#endif

#endif /* GDN_DLPACK_H_ */
