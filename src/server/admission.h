// What a request of the service will take at most, and whether it can run at all.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "engine/session.h"
#include "server/service.h"
#include "server/service_queue.h"

namespace sepllm::server {

// May be used from several threads.
class Admission {
 public:
  Admission(const Model& model, const Context& ctx, const ServiceSettings& settings);

  // Fills in what follows from the request: its policy, an empty session of it, and the memory that it can
  // take. Error as for Service::submit.
  void prepare(ServiceEntry* entry);
  // A session that is continued may have more room and other marks than a new one would have: counts these.
  void count_room(const Session& session, ServiceEntry* entry) const;
  int64_t kv_bytes_at_most(const PolicySettings& policy, int64_t n_tokens) const;
  int64_t kv_limit() const { return kv_limit_; }

 private:
  void check(const ServiceRequest& request) const;
  void check_positions(const ServiceEntry& entry) const;
  void plan(ServiceEntry* entry) const;
  int64_t mark_bytes_at_most(const PolicySettings& policy, int64_t n_tokens) const;
  std::shared_ptr<const Session> blank_of(const std::string& policy_text, const PolicySettings& policy);

  const Model& model_;
  const Context ctx_;
  const ServiceSettings settings_;
  const int64_t kv_limit_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const Session>> blanks_;  // guarded by mutex_
};

}  // namespace sepllm::server
