// Checks Errors, the exceptions for bad input: the code, and that the message says what it should.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"

namespace sepllm::test {

// `call` must throw an Error of this code whose single line contains every one of `parts`.
template <typename Call>
void expect_error(const Call& call, ErrorCode code, const std::vector<std::string>& parts) {
  try {
    call();
    ADD_FAILURE() << "no Error was thrown";
  } catch (const Error& e) {
    const std::string what = e.what();
    EXPECT_EQ(static_cast<int>(e.code()), static_cast<int>(code)) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
    for (const std::string& part : parts) EXPECT_NE(what.find(part), std::string::npos) << what;
  }
}

}  // namespace sepllm::test
