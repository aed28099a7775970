// How slow this machine is now, for tests that are no C++: one number, at least 1.
#include "support/pace.h"

#include <cstdio>

int main() {
  const gdn::test::Pace pace;
  return std::printf("%.3f\n", pace.slowness()) > 0 ? 0 : 1;
}
