// A kernel that can be launched: its plan and the machine code for one target, on a device or on this CPU.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "checked.h"
#include "compile/compiler.h"
#include "core/plan.h"
#include "device/device.h"
#include "gdn/args.h"
#include "view.h"
#include "workers.h"

namespace gdn::runtime {

using core::Edge;

class Kernel {
 public:
  virtual ~Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  const core::KernelPlan& plan() const { return plan_; }

  // Compares the views with the plan (check.h), and launches only if they agree. Operands that the host can read
  // (on_host) have their slot indices checked too. GPU kernels are enqueued on the stream and not waited for; kernels
  // on the host are done when it returns and ignore the stream.
  // Of 0 rows, a warm-up call: the code is loaded when there is a Kernel, so nothing is enqueued and no memory is
  // touched. `promises` are Args::promises, for a programmatic edge.
  // Throws Error; nothing was launched then, except with kDeviceError.
  void launch(int rows, int slots, const Views& views, Stream stream = nullptr, Edge edge = Edge::kPlain,
              unsigned promises = 0) const;

  // The comparison that launch() makes, alone. Allocates nothing when everything agrees.
  void check_views(int rows, int slots, const Views& views) const;

  // Throws Error kWrongDevice for an operand in memory that this kernel's device can't reach. Asks the driver about
  // each pointer; on the host it does nothing.
  void check_memory(const Views& views) const;
  void check_memory(const core::Operand& operand, const void* address) const;

  // Launches over a block that check_views() and make_args() were called for before: nothing is compared again, except
  // in checked mode (checked.h). For a block that is prepared once and used many times, and for the tests that show
  // what the comparison protects from.
  void launch_prepared(const Args& args, Stream stream = nullptr, Edge edge = Edge::kPlain) const;

  // Whether the operands are memory of the host.
  virtual bool on_host() const = 0;

  // Where it runs.
  virtual DeviceKind device_kind() const { return DeviceKind::kCpu; }
  virtual int device_ordinal() const { return 0; }

 protected:
  // Reads GDN_CHECK.
  explicit Kernel(core::KernelPlan plan) : plan_(std::move(plan)), checked_(checked_mode()) {}
  virtual void start(const Args& args, Stream stream, Edge edge) const = 0;

  // Whether the kernel's device can reach an address; if not, `whose` is filled with whose memory it is.
  virtual bool reaches(const void* /*address*/, std::string& /*whose*/) const { return true; }

  // For checked mode: waits for the stream first.
  virtual std::unique_ptr<OperandReader> reader(Stream /*stream*/) const { return std::make_unique<HostReader>(); }

 private:
  core::KernelPlan plan_;
  bool checked_ = false;
};

// A cubin or an AMD code object on a device. Throws kUnsupported when the device can't run plan.target, kDeviceError
// when the driver refuses the binary or it has no kernel plan.symbol.
std::unique_ptr<Kernel> load_gpu(const Device& device, const core::KernelPlan& plan, const Binary& binary);

// The shared object that make_host_compiler() made from a GPU source: it runs on this CPU with waves of wave_of(target)
// threads. It is loaded from a private directory that is gone when this returns. Throws kCompileFailed when it is no
// shared object or lacks plan.symbol. `order` is that of blocks and threads: 0 forward, 1 reverse, any other number a
// shuffle; results must not depend on it. A kernel that breaks a rule of the shim (a barrier or shuffle that some
// threads skip, an unaligned access) throws kDeviceError at its launch, and its output is worthless then.
std::unique_ptr<Kernel> load_host(const core::KernelPlan& plan, const Binary& binary, unsigned order = 0);

// A CPU kernel generated into memory of this process by plan.target ("avx2", "avx512bf16", "amx"). Throws kUnsupported
// when the processor can't run the target, naming the missing feature, and what workers_of() throws. A launch throws
// kBadArgument when the caller's parallel_for left parts out.
std::unique_ptr<Kernel> load_cpu(const core::KernelPlan& plan, const Threading& threading = {});

}  // namespace gdn::runtime
