#include "server/service.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "server/admission.h"
#include "server/service_queue.h"

namespace sepllm::server {
namespace {

// How often flags are looked at while nothing runs.
constexpr std::chrono::milliseconds kTick{50};

// The number of likely tokens in the scores of the prompt.
size_t n_top_of(const ServiceRequest& r) { return r.n_top > 0 ? static_cast<size_t>(r.n_top) : 0; }

}  // namespace

class Service::Impl {
 public:
  Impl(const Model& model, const Context& ctx, const ServiceSettings& settings)
      : model_(model), ctx_(ctx), settings_(settings), admission_(model, ctx, settings) {
    SEPLLM_CHECK(settings.parallel >= 1 && settings.max_queue >= 1);
    make_scheduler();
    published_.kv_limit = kv_limit();
    thread_ = std::thread([this] { run(); });
  }
  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      cancel_all_ = true;
      admitting_ = false;
    }
    wake_.notify_all();
    thread_.join();
  }

  std::optional<int64_t> submit(ServiceRequest request);
  int64_t kv_bytes_at_most(const PolicySettings& policy, int64_t n_tokens) const {
    return admission_.kv_bytes_at_most(policy, n_tokens);
  }
  int64_t kv_limit() const { return admission_.kv_limit(); }
  const Model& model() const { return model_; }
  void stop_admitting() {
    const std::lock_guard lock(mutex_);
    admitting_ = false;
  }
  bool wait_idle(double seconds) {
    std::unique_lock lock(mutex_);
    return idle_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return n_unfinished_ == 0; });
  }
  void cancel_all() {
    {
      const std::lock_guard lock(mutex_);
      cancel_all_ = true;
    }
    wake_.notify_all();
  }
  ServiceState state() const {
    const std::lock_guard lock(mutex_);
    ServiceState out = published_;
    out.n_waiting = n_waiting_;
    out.admitting = admitting_;
    out.requests = next_id_;
    out.rejected = rejected_;
    return out;
  }

 private:
  using Entry = ServiceEntry;

  // the service's thread
  void make_scheduler() {
    scheduler_ = std::make_unique<Scheduler>(model_, ctx_, std::numeric_limits<int32_t>::max());
  }
  void run();
  bool take_mail();
  void end_cancelled();
  void admit();
  void start(const std::shared_ptr<Entry>& entry);
  bool step();
  void fail_all(const std::exception_ptr& failure);
  void finish_ended();
  void publish(double busy_seconds);
  void look_up(Entry& entry);
  SchedulerRequest::Start begin(Entry& entry);
  std::shared_ptr<Session> new_session(const Entry& entry) const;
  void on_prompt(Entry& entry, const PromptStep& step);
  bool on_text(const Entry& entry, const TextStep& step);
  void on_end(Entry& entry, const EndStep& step);
  void end_unstarted(Entry& entry);
  int64_t reserved() const;
  int64_t n_sequences() const;

  const Model& model_;
  const Context ctx_;
  const ServiceSettings settings_;
  Admission admission_;

  mutable std::mutex mutex_;
  std::condition_variable wake_, idle_;
  // guarded by mutex_
  std::deque<std::shared_ptr<Entry>> mail_;
  bool admitting_ = true, stop_ = false, cancel_all_ = false;
  int64_t next_id_ = 0, rejected_ = 0;
  int64_t n_waiting_ = 0;     // in the mailbox and in the queue
  int64_t n_unfinished_ = 0;  // these and the active ones
  ServiceState published_;

  // of the service's thread
  std::unique_ptr<Scheduler> scheduler_;
  PrefixStore store_;
  std::deque<std::shared_ptr<Entry>> queue_;
  std::map<int64_t, std::shared_ptr<Entry>> active_;  // by the scheduler's number
  ServiceState counters_;
  int64_t n_over_ = 0;  // requests that have ended since publish()

  std::thread thread_;
};

// --- Any thread ---

std::optional<int64_t> Service::Impl::submit(ServiceRequest request) {
  auto entry = std::make_shared<Entry>(0, std::move(request));
  admission_.prepare(entry.get());
  {
    const std::lock_guard lock(mutex_);
    if (!admitting_ || n_waiting_ >= settings_.max_queue) {
      ++rejected_;
      return std::nullopt;
    }
    entry->id = next_id_++;
    ++n_waiting_;
    ++n_unfinished_;
    mail_.push_back(entry);
  }
  wake_.notify_all();
  return entry->id;
}

// --- The service's thread ---

void Service::Impl::run() {
  while (take_mail()) {
    const auto start_time = ServiceClock::now();
    end_cancelled();
    admit();
    const bool worked = step();
    finish_ended();
    publish(worked ? seconds_since(start_time) : 0.0);
    if (worked) continue;
    std::unique_lock lock(mutex_);
    const auto has_mail = [&] { return !mail_.empty() || stop_ || cancel_all_; };
    if (queue_.empty()) {
      wake_.wait(lock, has_mail);
    } else {
      wake_.wait_for(lock, kTick, has_mail);
    }
  }
}

// False: the service ends.
bool Service::Impl::take_mail() {
  const std::lock_guard lock(mutex_);
  for (auto& entry : mail_) queue_.push_back(std::move(entry));
  mail_.clear();
  if (cancel_all_) {
    for (const auto& entry : queue_) entry->cancelled = true;
    for (const auto& [number, entry] : active_) entry->cancelled = true;
    cancel_all_ = false;
  }
  return !stop_ || !queue_.empty() || !active_.empty();
}

// Ends requests in the queue that are not wanted any more.
void Service::Impl::end_cancelled() {
  std::vector<std::shared_ptr<Entry>> unwanted;
  std::erase_if(queue_, [&](const auto& entry) {
    if (!entry->is_cancelled()) return false;
    unwanted.push_back(entry);
    return true;
  });
  for (const auto& entry : unwanted) {
    end_unstarted(*entry);
    ++n_over_;
    const std::lock_guard lock(mutex_);
    --n_waiting_;
  }
}

void Service::Impl::end_unstarted(Entry& entry) {
  entry.queue_seconds = seconds_since(entry.submitted);
  GenerateResult result;
  result.prompt_tokens = entry.n_prompt();
  result.finish_reason = FinishReason::kCancelled;
  for (int64_t c = 0; c < entry.request.n_choices; ++c) on_end(entry, {c, result, nullptr});
}

int64_t Service::Impl::reserved() const {
  int64_t sum = 0;
  for (const auto& [number, entry] : active_) sum += entry->reserved();
  return sum;
}

int64_t Service::Impl::n_sequences() const {
  int64_t sum = 0;
  for (const auto& [number, entry] : active_) sum += entry->request.n_choices;
  return sum;
}

// In order: a request that does not fit yet holds up those after it.
void Service::Impl::admit() {
  while (!queue_.empty()) {
    const std::shared_ptr<Entry> entry = queue_.front();
    const int64_t taken = reserved();
    const bool alone = active_.empty();
    if (!alone && (n_sequences() + entry->request.n_choices > settings_.parallel ||
                   taken + entry->reserved() > kv_limit()))
      return;
    queue_.pop_front();
    // A session that it takes is taken now: its memory is then the request's own. One that it copies is not
    // dropped if others suffice.
    if (entry->keeps && entry->request.reuse_prefix && store_.touch(entry->wanted())) look_up(*entry);
    store_.drop_to(kv_limit() - taken - entry->reserved());
    {
      const std::lock_guard lock(mutex_);
      --n_waiting_;
    }
    start(entry);
  }
}

void Service::Impl::start(const std::shared_ptr<Entry>& entry) {
  entry->admitted = ServiceClock::now();
  entry->queue_seconds = seconds_since(entry->submitted);
  const ServiceRequest& r = entry->request;
  SchedulerRequest s;
  s.generate = r.generate;
  s.generate.n_fed = 0;
  // The scheduler lives longer than its requests, and they longer than their entries.
  s.generate.go_on = [e = entry.get()] { return !e->is_cancelled(); };
  s.sampling = r.sampling;
  s.policy = r.policy;
  s.n_choices = r.n_choices;
  s.n_top = r.n_top;
  s.score_prompt = r.score_prompt;
  s.on_start = [this, entry] { return begin(*entry); };
  s.on_prompt = [this, entry](const PromptStep& step) { on_prompt(*entry, step); };
  if (r.on_text) s.on_text = [this, entry](const TextStep& step) { return on_text(*entry, step); };
  s.on_end = [this, entry](const EndStep& step) { on_end(*entry, step); };
  active_.emplace(scheduler_->add(std::move(s)), entry);
}

std::shared_ptr<Session> Service::Impl::new_session(const Entry& entry) const {
  auto session = std::make_shared<Session>(entry.blank->fork(ctx_));
  if (entry.keeps) session->keep_marks(entry.mark_settings);
  return session;
}

// Looks for what need not be fed.
void Service::Impl::look_up(Entry& entry) {
  entry.has_looked = true;
  entry.found = store_.take(entry.wanted(), ctx_);
  entry.held = entry.found.held;
  counters_.prefix_queries += entry.n_prompt();
  counters_.prefix_hits += entry.found.n_fed;
  if (entry.held) admission_.count_room(*entry.held->session, &entry);
}

// The first chunk of the prompt is due: chooses its session.
SchedulerRequest::Start Service::Impl::begin(Entry& entry) {
  const ServiceRequest& r = entry.request;
  SchedulerRequest::Start out;
  if (entry.keeps && r.reuse_prefix && !entry.has_looked) {
    look_up(entry);
    store_.drop_to(kv_limit() - reserved());
  }
  const PrefixStore::Found& found = entry.found;
  if (entry.keeps && !entry.held) entry.held = store_.add(new_session(entry), entry.policy_text);
  out.session = entry.held ? entry.held->session : new_session(entry);
  out.n_fed = found.n_fed;
  if (found.n_fed == entry.n_prompt()) {
    out.last_hidden = entry.held->last_hidden;
    entry.held->first_generated = std::min(entry.held->first_generated, found.n_fed);
  }
  out.session->cache().expect_at_most(entry.n_tokens);
  // The next request with this prefix should find a place to begin. For scores, the prefix's last token is
  // fed again.
  const int64_t shared = std::min(found.in_common, entry.n_prompt()) - (r.score_prompt ? 1 : 0);
  if (entry.sets_marks && !out.session->cache().drops_nothing() && shared > found.n_fed) {
    entry.mark_at = shared;
    if (r.score_prompt) out.cut = shared;
  }
  entry.fed = entry.cached = found.n_fed;
  counters_.prompt_tokens += found.n_fed;
  counters_.cached_tokens += found.n_fed;
  if (found.n_fed > 0 && r.on_prompt) {
    std::vector<TokenScore> scores;
    if (r.score_prompt) scores = entry.held->scores;
    for (TokenScore& s : scores) s.top.resize(std::min(s.top.size(), n_top_of(r)));
    r.on_prompt({entry.fed, entry.n_prompt(), entry.cached, 1, scores, out.session.get()});
  }
  return out;
}

void Service::Impl::on_prompt(Entry& entry, const PromptStep& step) {
  const ServiceRequest& r = entry.request;
  ++counters_.prompt_steps;
  counters_.prompt_tokens += step.fed - entry.fed;
  entry.fed = step.fed;
  const bool complete = step.fed == step.total;
  if (entry.held) {
    HeldSession& held = *entry.held;
    if (r.score_prompt && std::ssize(held.scores) == step.first - 1) {
      held.scores.insert(held.scores.end(), step.scores.begin(), step.scores.end());
      if (!step.scores.empty()) held.n_top = std::min(held.n_top, static_cast<int64_t>(n_top_of(r)));
    }
    if (complete) {
      held.prompt_end = step.total;
      // (For scores, chunks may have been cut, so a text would not have the same bits.)
      held.last_hidden.clear();
      if (!r.score_prompt) held.last_hidden.assign(step.last_hidden.begin(), step.last_hidden.end());
      held.first_generated = std::min(held.first_generated, step.total);
    }
    const bool before_shared =
        step.fed <= entry.mark_at && step.fed + step.session.next_chunk() > entry.mark_at;
    if (entry.sets_marks && !step.session.cache().drops_nothing() &&
        (before_shared || (complete && !r.score_prompt))) {
      try {
        step.session.mark();
      } catch (const std::bad_alloc&) {
        log_debug("no memory for a mark");  // the next request begins further back
      } catch (const Error&) {
        log_debug("no memory for a mark");
      }
    }
  }
  if (r.on_prompt) r.on_prompt({step.fed, step.total, entry.cached, step.first, step.scores, &step.session});
}

bool Service::Impl::on_text(const Entry& entry, const TextStep& step) {
  entry.request.on_text({step.choice, step.text, step.scores, &step.session});
  return !entry.is_cancelled();
}

void Service::Impl::on_end(Entry& entry, const EndStep& step) {
  const auto choice = static_cast<size_t>(step.choice);
  if (entry.ended[choice]) return;
  entry.ended[choice] = true;
  ++entry.n_ended;
  entry.new_tokens += step.result.sampled_tokens();
  entry.failed = entry.failed || step.result.finish_reason == FinishReason::kError;
  counters_.generated_tokens += step.result.sampled_tokens();
  if (!entry.request.on_end) return;
  entry.request.on_end(
      {step.choice, &step.result, entry.n_prompt(), entry.cached, entry.queue_seconds, step.session});
}

bool Service::Impl::step() {
  if (active_.empty()) return false;
  try {
    scheduler_->step();
  } catch (const std::exception& e) {  // a bug, or no memory for the scheduler's own lists
    log_warning(std::string("a step of the service failed: ") + e.what());
    fail_all(std::current_exception());
  }
  const Scheduler::LastStep& last = scheduler_->last_step();
  if (last.rows > 0) {
    ++counters_.decode_steps;
    counters_.decode_rows += last.rows;
  }
  return true;
}

// Ends everything that runs. What waits may still succeed.
void Service::Impl::fail_all(const std::exception_ptr& failure) {
  for (const auto& [number, entry] : active_) {
    GenerateResult result;
    result.prompt_tokens = entry->n_prompt();
    result.finish_reason = FinishReason::kError;
    result.failure = failure;
    for (int64_t c = 0; c < entry->request.n_choices; ++c) on_end(*entry, {c, result, nullptr});
    entry->failed = true;
  }
  make_scheduler();
}

void Service::Impl::finish_ended() {
  const int64_t n_before = n_over_;
  for (auto it = active_.begin(); it != active_.end();) {
    Entry& entry = *it->second;
    if (!entry.is_over()) {
      ++it;
      continue;
    }
    if (entry.held && entry.failed) store_.remove(entry.held);
    if (entry.held && !entry.failed) store_.give_back(entry.held);
    entry.held = nullptr;
    it = active_.erase(it);
    ++n_over_;
  }
  if (n_over_ > n_before) store_.drop_to(kv_limit() - reserved());
}

void Service::Impl::publish(double busy_seconds) {
  counters_.busy_seconds += busy_seconds;
  std::map<int64_t, ActiveRequest> now;
  for (const auto& [number, entry] : active_) {
    ActiveRequest& a = now[number];
    a.id = entry->id;
    a.prompt_tokens = entry->n_prompt();
    a.in_prompt = entry->fed < a.prompt_tokens;
    a.fed = entry->fed;
    a.cached = entry->cached;
    a.n_choices = entry->request.n_choices;
    a.new_tokens = entry->new_tokens;
    a.kv_reserved = entry->reserved();
    a.policy = entry->policy;
    a.seconds = seconds_since(entry->admitted);
  }
  int64_t n_running = 0;  // new tokens of what has not ended
  scheduler_->visit([&](const Scheduler::SequenceState& s) {
    const auto it = now.find(s.id);
    if (it == now.end()) return;
    it->second.new_tokens += s.new_tokens;
    n_running += s.new_tokens;
    if (s.session != nullptr) it->second.kv_bytes += s.session->cache().held_bytes();
  });
  const std::lock_guard lock(mutex_);
  n_unfinished_ -= std::exchange(n_over_, 0);
  published_ = counters_;
  published_.generated_tokens += n_running;
  published_.kv_limit = kv_limit();
  published_.kv_prefixes = store_.idle_bytes();
  published_.n_prefixes = store_.n_idle();
  for (auto& [number, a] : now) {
    published_.kv_reserved += a.kv_reserved;
    published_.active.push_back(std::move(a));
  }
  if (n_unfinished_ == 0) idle_.notify_all();
}

// --- The interface ---

Service::Service(const Model& model, const Context& ctx, const ServiceSettings& settings)
    : impl_(std::make_unique<Impl>(model, ctx, settings)) {}
Service::~Service() = default;
std::optional<int64_t> Service::submit(ServiceRequest request) { return impl_->submit(std::move(request)); }
int64_t Service::kv_bytes_at_most(const PolicySettings& policy, int64_t n_tokens) const {
  return impl_->kv_bytes_at_most(policy, n_tokens);
}
int64_t Service::kv_limit() const { return impl_->kv_limit(); }
void Service::stop_admitting() { impl_->stop_admitting(); }
bool Service::wait_idle(double seconds) { return impl_->wait_idle(seconds); }
void Service::cancel_all() { impl_->cancel_all(); }
ServiceState Service::state() const { return impl_->state(); }
const Model& Service::model() const { return impl_->model(); }

}  // namespace sepllm::server
