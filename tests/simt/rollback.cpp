// Drafts that are rejected leave no trace: speculative decoding through the host shim against plain decoding.
#include "support/rollback_cases.h"

std::unique_ptr<gdn::verify::Executor> gdn::test::rollback_executor() {
  return verify::open_executor("simt", plan::find_target(GDN_TEST_TARGET));
}
