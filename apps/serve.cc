// sepllm serve: the model over HTTP.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "base/file.h"
#include "engine/sampling_defaults.h"
#include "server/routes/api_server.h"

namespace sepllm {
namespace {

using server::AccessRecord;
using server::ApiServer;
using server::ApiSettings;
using server::HttpSettings;
using server::ServedModel;

constexpr uint64_t kMaxKeyFile = 1 << 20;

// Prompts share whole chunks, and a chunk of one delays all others: shorter ones than elsewhere, as long as
// they are nearly as fast (docs/PERFORMANCE.md).
PolicySettings policy_defaults() {
  PolicySettings out;
  out.prefill_chunk = 256;
  return out;
}

class ServeCommand : public Command {
 public:
  ServeCommand() {
    declare_network();
    declare_requests();
    common_.declare(&common_options_, true);
  }
  std::string name() const override { return "serve"; }
  std::string summary() const override { return "Serve a model over HTTP, as OpenAI's API does"; }
  std::string usage() const override { return "--model M [--host H] [--port P] [--parallel N] [policy]"; }
  std::vector<OptionGroup> groups() override {
    return {{"Network", &network_},
            {"Requests", &requests_},
            {"What the cache keeps", &policy_.options},
            {"General", &common_options_}};
  }

  int run() override {
    if (common_.json) throw Error(ErrorCode::kInvalidArgument, "serve has no --json output");
    const std::vector<std::string> keys = api_keys();
    Model model = common_.load(&policy_);
    Runtime runtime(common_, &model.decoder);
    const InterruptGuard guard;
    ApiServer server(model, runtime.context(), api_settings(model, keys), http_,
                     no_log_ ? std::function<void(const AccessRecord&)>() : log_line);
    if (!is_loopback(http_.host) && keys.empty()) {
      print_note(
          fmt::format("sepllm: warning: everybody who reaches {} can use this server; {} asks for a key",
                      http_.host, option_name("api-key")));
    }
    const std::string host = http_.host.find(':') == std::string::npos ? http_.host : "[" + http_.host + "]";
    print(fmt::format("listening on http://{}:{}\n", host, server.port()));
    while (!guard.interrupted()) std::this_thread::sleep_for(kLook);
    return drain(server);
  }

 private:
  static constexpr auto kLook = std::chrono::milliseconds(50);

  void declare_network() {
    network_.add_string("host", &http_.host, "address to listen on; 0.0.0.0: all of IPv4", "HOST");
    network_.add_int("port", &http_.port, 0, 65535,
                     "port to listen on; 0: any that is free, which is printed");
    network_.add_strings("api-key", &keys_, "a key that requests must have; may be given several times",
                         "KEY");
    network_.add_string("api-key-file", &key_file_, "file with keys, one a line", "FILE");
    network_.add_string("cors", &cors_, "pages of this origin may use the server; *: all", "ORIGIN");
    network_.add_int("max-connections", &http_.limits.connections, 1, 1 << 16,
                     "connections at the same time");
    network_.add_int("max-body", &http_.limits.body_bytes, 1024, int64_t{1} << 30, "bytes of a request");
    network_.add_int("request-timeout", &request_seconds_, 1, 86400,
                     "seconds in which a request must arrive");
    network_.add_int("idle-timeout", &idle_seconds_, 1, 86400,
                     "seconds between the requests of a connection");
    network_.add_int("drain-timeout", &drain_seconds_, 0, 86400,
                     "after SIGTERM: seconds in which running requests may end");
    network_.add_flag("no-access-log", &no_log_, "no line for each request");
  }

  void declare_requests() {
    ApiSettings& s = settings_;
    requests_.add_int("parallel", &s.service.parallel, 1, 1024, "sequences that run at the same time");
    requests_.add_int("max-queue", &s.service.max_queue, 1, 1 << 20,
                      "requests that wait; further ones are answered with status 429");
    requests_.add_int("kv-memory", &kv_mib_, 0, int64_t{1} << 30,
                      "MiB for all caches; 0: by the memory at hand", "MIB");
    requests_.add_flag("no-prefix-reuse", &no_prefixes_, "keep no caches for later requests");
    requests_.add_string("served-name", &served_name_, "name of the model in requests", "NAME").default_note =
        "the name of its folder or file";
    requests_.add_strings("alias", &aliases_,
                          "another name, with a policy of its own: fast=sep-stream,seps=64; may be given "
                          "several times",
                          "NAME=POLICY");
    requests_
        .add_string("chat-format", &chat_format_, "format of chats",
                    fmt::format("{}", fmt::join(chat_format_names(), "|")))
        .default_note = "the model's own template; plain if it has none";
    requests_.add_int("max-tokens-default", &s.max_tokens_default, 1, INT32_MAX,
                      "tokens of a chat's answer if the request does not say");
  }

  ApiSettings api_settings(const Model& model, const std::vector<std::string>& keys) {
    ApiSettings s = settings_;
    http_.limits.request_seconds = static_cast<double>(request_seconds_);
    http_.limits.idle_seconds = static_cast<double>(idle_seconds_);
    s.models = {{served_name(), policy_.settings}};
    for (const std::string& alias : aliases_) {
      s.models.push_back(server::parse_alias(alias, policy_.settings, model.config()));
    }
    for (size_t k = 1; k < s.models.size(); ++k) {
      for (size_t j = 0; j < k; ++j) {
        if (s.models[j].name == s.models[k].name)
          refuse_value("alias", "names that differ", s.models[k].name);
      }
    }
    // What a model states; else what OpenAI's API does.
    s.sampling = sampling_defaults(common_.model, {.temperature = 1.0}).settings;
    if (model.tokenizer) {
      s.chat = chat_format_.empty() ? ChatTemplate::of_model(*model.tokenizer)
                                    : ChatTemplate::by_name(*model.tokenizer, chat_format_);
    }
    s.api_keys = keys;
    s.cors_origin = cors_;
    s.service.kv_memory = kv_mib_ << 20;
    s.service.keep_prefixes = !no_prefixes_;
    return s;
  }

  // "SmolLM2-135M-Instruct" of a path to its folder or .gguf file.
  std::string served_name() const {
    if (!served_name_.empty()) return served_name_;
    if (common_.model.empty()) return common_.shape;
    std::filesystem::path path = std::filesystem::absolute(common_.model).lexically_normal();
    if (!path.has_filename()) path = path.parent_path();
    if (path.extension() == ".gguf") path = path.stem();
    return path.filename().string();
  }

  std::vector<std::string> api_keys() const {
    std::vector<std::string> keys = keys_;
    if (!key_file_.empty()) {
      std::istringstream lines(read_file(key_file_, kMaxKeyFile));
      for (std::string line; std::getline(lines, line);) {
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (!line.empty()) keys.push_back(line);
      }
      if (keys.size() == keys_.size())
        throw Error(ErrorCode::kInvalidArgument, "no key in the file", {.file = key_file_});
    }
    if (std::find(keys.begin(), keys.end(), "") != keys.end())
      refuse_value("api-key", "a key", "an empty text");
    return keys;
  }

  static bool is_loopback(const std::string& host) {
    return host == "localhost" || host == "::1" || host.starts_with("127.");
  }

  // No line has a text of a prompt or an answer.
  static void log_line(const AccessRecord& r) {
    print_note(fmt::format("{} {} {} {} {} {:.1f} ms {}{}{}", r.peer, r.method, r.path, r.status, r.bytes,
                           r.seconds * 1000.0, r.id, r.note.empty() ? "" : " ", r.note));
  }

  // Lets running requests end. A second signal ends the program at once.
  int drain(ApiServer& server) const {
    print_note(
        fmt::format("sepllm: shutting down: up to {} s for running requests; a second signal ends at once",
                    drain_seconds_));
    server.begin_drain();
    if (server.wait_drained(static_cast<double>(drain_seconds_))) return 0;
    print_note("sepllm: time is up: the requests that still run are ended");
    server.cancel_all();
    server.wait_drained(2.0);
    return 0;
  }

  OptionSet network_, requests_, common_options_;
  PolicyOptions policy_{policy_defaults()};
  CommonOptions common_;
  HttpSettings http_;
  ApiSettings settings_;
  std::vector<std::string> keys_, aliases_;
  std::string key_file_, cors_, served_name_, chat_format_;
  int64_t kv_mib_ = 0, drain_seconds_ = 30, request_seconds_ = 30, idle_seconds_ = 60;
  bool no_prefixes_ = false, no_log_ = false;
};

}  // namespace

std::unique_ptr<Command> make_serve_command() { return std::make_unique<ServeCommand>(); }

}  // namespace sepllm
