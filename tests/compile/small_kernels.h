// Kernels of a few lines for the tests of the compilers. They use no header of the project.
#pragma once

#include <filesystem>
#include <string>

#include "compile/compiler.h"
#include "compile/private_dir.h"

namespace gdn::test {

// out[i] = factor * in[i], with the factor in a header.
inline runtime::Source small_cuda_source() {
  return {"small.cu",
          "#include \"small/factor.h\"\n"
          "extern \"C\" __global__ void scale(float* out, const float* in, int count) {\n"
          "  const int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
          "  if (i < count) out[i] = kFactor * in[i];\n"
          "}\n",
          {{"small/factor.h", "#pragma once\nconstexpr float kFactor = 2.5f;\n"}}};
}

// The same for clang without ROCm's headers and for hiprtc.
inline runtime::Source small_hip_source() {
  return {"small.hip",
          "#include \"small/factor.h\"\n"
          "extern \"C\" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(256, 256))) void\n"
          "scale(float* out, const float* in, int count) {\n"
          "  const int i = __builtin_amdgcn_workgroup_id_x() * 256 + __builtin_amdgcn_workitem_id_x();\n"
          "  if (i < count) out[i] = kFactor * in[i];\n"
          "}\n",
          {{"small/factor.h", "#pragma once\nconstexpr float kFactor = 2.5f;\n"}}};
}

// An array indexed at run time: it has to live in memory of the thread.
inline std::string with_stack(std::string text) {
  const std::string line = "if (i < count) out[i] = kFactor * in[i];";
  return text.replace(text.find(line), line.size(),
                      "volatile float table[64]; for (int j = 0; j < count; ++j) table[j & 63] = in[j];\n"
                      "  out[i] = table[(count / 2) & 63];");
}

// A program that stands in for a compiler: a shell script of these lines. Returns its path.
inline std::string fake_program(const runtime::PrivateDir& dir, const std::string& name, const std::string& lines) {
  const auto path = dir.write(name, "#!/bin/sh\n" + lines + "\n");
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path.string();
}

}  // namespace gdn::test
