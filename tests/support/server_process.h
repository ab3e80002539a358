// Runs `sepllm serve` on a free port of the loopback.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "tests/support/http_client.h"
#include "tests/support/support.h"

namespace sepllm::test {

class ServerProcess {
 public:
  explicit ServerProcess(const std::string& model, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = {SEPLLM_BINARY, "serve", "--model",   model,
                                      "--port",      "0",     "--threads", "2"};
    words.insert(words.end(), more.begin(), more.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    const int flags = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, folder_.file("out").c_str(), flags, 0600);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, folder_.file("err").c_str(), flags, 0600);
    if (posix_spawn(&pid_, argv[0], &files, nullptr, argv.data(), environ) != 0) pid_ = 0;
    posix_spawn_file_actions_destroy(&files);
    port_ = wait_for_port();
    EXPECT_GT(port_, 0) << errors();
  }
  ~ServerProcess() {
    if (pid_ == 0) return;
    signal(SIGKILL);
    wait();
  }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  int64_t port() const { return port_; }
  std::string errors() const {
    return file_exists(folder_.file("err")) ? read_file(folder_.file("err")) : "";
  }
  void signal(int number) const {
    if (pid_ != 0) ::kill(pid_, number);
  }
  // Its exit code, or 128 + signal.
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  HttpAnswer get(const std::string& path, const std::string& headers = "") const {
    return HttpClient(port_).get(path, headers);
  }
  HttpAnswer post(const std::string& path, const Json& body, const std::string& headers = "") const {
    return HttpClient(port_).post(path, body, headers);
  }
  // Waits until the error output has this text.
  bool says(const std::string& text) const {
    return eventually([&] { return errors().find(text) != std::string::npos; });
  }
  template <typename Condition>
  static bool eventually(const Condition& condition) {
    for (int k = 0; k < 1000; ++k) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

 private:
  int64_t wait_for_port() const {
    std::string line;
    eventually([&] {
      if (file_exists(folder_.file("out"))) line = read_file(folder_.file("out"));
      return line.ends_with("\n") || ::waitpid(pid_, nullptr, WNOHANG) != 0;
    });
    const size_t colon = line.rfind(':');
    return colon == std::string::npos ? 0 : std::stoll(line.substr(colon + 1));
  }

  TemporaryFolder folder_;
  pid_t pid_ = 0;
  int64_t port_ = 0;
};

}  // namespace sepllm::test
