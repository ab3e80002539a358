// Bytes that wait to be sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>

namespace sepllm::server {

class OutQueue {
 public:
  void push(std::string data) {
    bytes_ += std::ssize(data);
    if (!data.empty()) parts_.push_back(std::move(data));
  }
  bool empty() const { return parts_.empty(); }
  int64_t bytes() const { return bytes_; }
  // What is to be sent next; stays valid until take(), whatever is pushed.
  std::string_view front() const { return std::string_view(parts_.front()).substr(sent_); }
  // The first n bytes of front() were sent.
  void take(size_t n) {
    bytes_ -= static_cast<int64_t>(n);
    sent_ += n;
    if (sent_ < parts_.front().size()) return;
    parts_.pop_front();
    sent_ = 0;
  }

 private:
  std::deque<std::string> parts_;
  size_t sent_ = 0;  // bytes of the first part
  int64_t bytes_ = 0;
};

}  // namespace sepllm::server
