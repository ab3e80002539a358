// The module of the Python package: classes over the handles of the C library (include/sepllm/sepllm.h), with
// the GIL released in every call that computes. The package's own classes (python/sepllm/_model.py) say what
// arguments mean.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <pthread.h>
#include <sepllm/sepllm.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace nb = nanobind;

namespace {

// --- The GIL ---

pthread_t main_thread;                      // of the interpreter
std::atomic<bool> interpreter_ends{false};  // set by at_exit()
std::atomic<int> n_returning{0};            // threads that are about to take the GIL

// While it lives, other threads of Python run. A thread that would take the GIL of an interpreter that ends
// would be ended within our C++ frames, which ends the process: it waits for that end instead. (CPython does
// the same from 3.14 on.)
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() {
    n_returning.fetch_add(1);
    if (interpreter_ends && pthread_equal(pthread_self(), main_thread) == 0) {
      n_returning.fetch_sub(1);
      for (;;) pause();
    }
    PyEval_RestoreThread(state_);
    n_returning.fetch_sub(1);
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

// Called by Python's atexit, before the interpreter ends: waits for threads that take the GIL at this moment.
void at_exit() {
  interpreter_ends = true;
  const WithoutGil without;
  while (n_returning > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

// Asked between chunks of tokens: whether Ctrl-C was pressed. Only the main thread is told of signals.
int poll_signals(void* /*user*/) {
  if (pthread_equal(pthread_self(), main_thread) == 0) return 0;
  const PyGILState_STATE gil = PyGILState_Ensure();
  // (A session of the same call may have been told before: its exception waits.)
  const int interrupted = PyErr_Occurred() != nullptr ? 1 : PyErr_CheckSignals();
  PyGILState_Release(gil);
  return interrupted;
}

// --- Errors ---

// Raises sepllm._errors.CLASSES[status](message), or what a signal's handler raised.
[[noreturn]] void raise(sepllm_status status, const std::string& message) {
  if (PyErr_Occurred() == nullptr) {
    const nb::object classes = nb::module_::import_("sepllm._errors").attr("CLASSES");
    const nb::object type = classes[static_cast<size_t>(status)];
    PyErr_SetString(type.ptr(), message.c_str());
  }
  throw nb::python_error();
}

// Runs a call without the GIL: every one that may wait for another thread, which may need the GIL to continue
// (for the log, or to ask for signals). The message is taken in the same thread, before anything else can
// fail.
template <typename Call>
void run(const Call& call) {
  sepllm_status status = SEPLLM_OK;
  std::string message;
  {
    const WithoutGil without;
    status = call();
    if (status != SEPLLM_OK) message = sepllm_last_error();
  }
  if (status != SEPLLM_OK) raise(status, message);
}

// --- Arrays and handles ---

using Ids = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Array = nb::ndarray<nb::numpy, T, nb::ndim<1>>;

// An array of Python that owns this memory.
template <typename T>
Array<T> owned(T* data, size_t n, void (*free)(void*) noexcept) {
  const nb::capsule owner(data, free);
  return Array<T>(data, {n}, owner);
}
void free_of_library(void* p) noexcept { sepllm_free(p); }
template <typename T>
void free_of_ours(void* p) noexcept {
  delete[] static_cast<T*>(p);
}
template <typename T>
Array<T> copied(const T* data, size_t n) {
  auto copy = std::make_unique<T[]>(std::max<size_t>(n, 1));
  std::copy_n(data, n, copy.get());
  return owned(copy.release(), n, free_of_ours<T>);
}
// An allocated array of the library (null for none).
template <typename T>
Array<T> taken(T* data, size_t n) {
  return data == nullptr ? copied<T>(nullptr, 0) : owned(data, n, free_of_library);
}

// A handle of the library. Each call holds a share of it: closing it in another thread frees it when the call
// has returned.
template <typename T>
class Handle {
 public:
  Handle() = default;
  Handle(T* handle, void (*free)(T*)) : shared_(handle, free) {}
  std::shared_ptr<T> get() const {
    if (shared_ == nullptr) raise(SEPLLM_INVALID_STATE, "it is closed");
    return shared_;
  }
  void close() { shared_.reset(); }

 private:
  std::shared_ptr<T> shared_;
};

// --- Classes ---

struct Runtime {
  Handle<sepllm_runtime> handle;

  explicit Runtime(int threads) {
    sepllm_runtime* out = nullptr;
    run([&] { return sepllm_runtime_new(threads, &out); });
    handle = {out, sepllm_runtime_free};
  }
  int threads() const { return sepllm_runtime_threads(handle.get().get()); }
};

struct Tokenizer {
  Handle<sepllm_tokenizer> handle;

  static Tokenizer load(const std::string& path) {
    sepllm_tokenizer* out = nullptr;
    run([&] { return sepllm_tokenizer_load(path.c_str(), &out); });
    return {{out, sepllm_tokenizer_free}};
  }
  Array<int32_t> encode(const nb::bytes& text, bool add_special, bool parse_special) const {
    const auto tokenizer = handle.get();
    int32_t* ids = nullptr;
    size_t n = 0;
    const int flags = (add_special ? SEPLLM_ADD_SPECIAL : 0) | (parse_special ? 0 : SEPLLM_PLAIN_TEXT);
    run([&] { return sepllm_tokenizer_encode(tokenizer.get(), text.c_str(), text.size(), flags, &ids, &n); });
    return taken(ids, n);
  }
  nb::bytes decode(const Ids& ids, bool skip_special) const {
    const auto tokenizer = handle.get();
    char* text = nullptr;
    size_t n = 0;
    const int flags = skip_special ? SEPLLM_SKIP_SPECIAL : 0;
    run([&] { return sepllm_tokenizer_decode(tokenizer.get(), ids.data(), ids.size(), flags, &text, &n); });
    const std::unique_ptr<char, decltype(&sepllm_free)> owner(text, sepllm_free);
    return nb::bytes(text, n);
  }
  Array<int32_t> separators(const std::string& rule, int64_t vocab_size, bool streaming) const {
    const auto tokenizer = handle.get();
    int32_t* ids = nullptr;
    size_t n = 0;
    run([&] {
      return sepllm_tokenizer_separators(tokenizer.get(), rule.c_str(), vocab_size, streaming ? 1 : 0, &ids,
                                         &n);
    });
    return taken(ids, n);
  }
};

struct Generation {
  Handle<sepllm_generation> handle;
  std::shared_ptr<std::mutex> mutex =
      std::make_shared<std::mutex>();  // while texts of the library are copied

  std::pair<nb::bytes, bool> next() const {
    const auto generation = handle.get();
    std::string piece;
    int more = 0;
    run([&] {
      const std::lock_guard lock(*mutex);
      const char* text = nullptr;
      size_t n = 0;
      const sepllm_status status = sepllm_generation_next(generation.get(), &text, &n, &more);
      if (status == SEPLLM_OK) piece.assign(text, n);
      return status;
    });
    return {nb::bytes(piece.data(), piece.size()), more != 0};
  }
  std::tuple<int, Array<int32_t>, nb::bytes, int64_t, double, double> get() const {
    const auto generation = handle.get();
    sepllm_generation_result r{};
    std::string text;
    std::vector<int32_t> ids;
    run([&] {
      const std::lock_guard lock(*mutex);
      const sepllm_status status = sepllm_generation_get(generation.get(), &r);
      if (status != SEPLLM_OK) return status;
      text.assign(r.text, r.n_bytes);
      ids.assign(r.ids, r.ids + r.n_ids);
      return status;
    });
    return {static_cast<int>(r.finish),
            copied(ids.data(), ids.size()),
            nb::bytes(text.data(), text.size()),
            r.n_fed,
            r.prefill_seconds,
            r.decode_seconds};
  }
};

struct Session {
  Handle<sepllm_session> handle;

  explicit Session(sepllm_session* session) : handle(session, sepllm_session_free) {
    run([&] { return sepllm_session_set_poll(session, poll_signals, nullptr); });
  }
  void feed(const Ids& ids) const {
    const auto session = handle.get();
    run([&] { return sepllm_session_feed(session.get(), ids.data(), ids.size()); });
  }
  Array<float> logits(int64_t n) const {
    const auto session = handle.get();
    auto data = std::make_unique<float[]>(static_cast<size_t>(n));
    run([&] { return sepllm_session_logits(session.get(), data.get(), n); });
    return owned(data.release(), static_cast<size_t>(n), free_of_ours<float>);
  }
  void set_sampling(const std::string& options) const {
    const auto session = handle.get();
    run([&] { return sepllm_session_set_sampling(session.get(), options.c_str()); });
  }
  int32_t sample() const {
    const auto session = handle.get();
    int32_t id = 0;
    run([&] { return sepllm_session_sample(session.get(), &id); });
    return id;
  }
  Array<double> score(const Ids& ids) const {
    const auto session = handle.get();
    auto nll = std::make_unique<double[]>(std::max<size_t>(ids.size(), 1));
    run([&] { return sepllm_session_score(session.get(), ids.data(), ids.size(), nll.get(), nullptr); });
    return owned(nll.release(), ids.size(), free_of_ours<double>);
  }
  std::pair<Array<double>, Array<int32_t>> score_best(const Ids& ids, size_t n_scored) const {
    const auto session = handle.get();
    const size_t n = std::max<size_t>(std::min(n_scored, ids.size()), 1);  // a larger n_scored is refused
    auto nll = std::make_unique<double[]>(n);
    auto best = std::make_unique<int32_t[]>(n);
    run([&] {
      return sepllm_session_score_last(session.get(), ids.data(), ids.size(), n_scored, nll.get(),
                                       best.get());
    });
    return {owned(nll.release(), n_scored, free_of_ours<double>),
            owned(best.release(), n_scored, free_of_ours<int32_t>)};
  }
  Generation generate(const Ids& ids, const std::string& options) const {
    const auto session = handle.get();
    sepllm_generation* out = nullptr;
    run([&] { return sepllm_generation_new(session.get(), ids.data(), ids.size(), options.c_str(), &out); });
    return {{out, sepllm_generation_free}};
  }
  Session fork(const Runtime* runtime) const {
    const auto session = handle.get();
    const auto on = runtime != nullptr ? runtime->handle.get() : nullptr;
    sepllm_session* out = nullptr;
    run([&] { return sepllm_session_fork(session.get(), on.get(), &out); });
    return Session(out);
  }
  void rewind(int64_t position) const {
    const auto session = handle.get();
    run([&] { return sepllm_session_rewind(session.get(), position); });
  }
  void save(const std::string& path) const {
    const auto session = handle.get();
    run([&] { return sepllm_session_save(session.get(), path.c_str()); });
  }
  void restore(const std::string& path) const {
    const auto session = handle.get();
    run([&] { return sepllm_session_restore(session.get(), path.c_str()); });
  }
  nb::tuple kv() const {
    const auto session = handle.get();
    sepllm_kv_stats s{};
    run([&] { return sepllm_session_kv_stats(session.get(), &s); });
    return nb::make_tuple(s.queries, s.keys, s.full_keys, s.peak_keys, s.held_bytes, s.peak_bytes,
                          s.full_bytes, s.reserved_bytes, s.mean_keys, s.mean_share);
  }
  std::pair<Array<int64_t>, Array<int32_t>> kept(int64_t layer) const {
    const auto session = handle.get();
    int64_t* positions = nullptr;
    int32_t* ids = nullptr;
    size_t n = 0;
    run([&] { return sepllm_session_kv_slots(session.get(), layer, &positions, &ids, &n); });
    return {taken(positions, n), taken(ids, n)};
  }
  int64_t length() const { return sepllm_session_length(handle.get().get()); }
};

// One token for each session: ids is [n].
void sessions_decode(const nb::list& sessions, const Ids& ids) {
  std::vector<std::shared_ptr<sepllm_session>> held;
  std::vector<sepllm_session*> all;
  for (const nb::handle item : sessions) {
    held.push_back(nb::cast<const Session&>(item).handle.get());
    all.push_back(held.back().get());
  }
  if (ids.size() != all.size()) raise(SEPLLM_INVALID_ARGUMENT, "there are not as many ids as sessions");
  run([&] { return sepllm_sessions_decode(all.data(), all.size(), ids.data()); });
}

// One token for each text. Whether each continues; raises what the first of those that fail has failed with.
nb::list generations_next(const nb::list& generations) {
  std::vector<Generation> held;
  std::vector<sepllm_generation*> all;
  std::set<std::mutex*> mutexes;  // in one order for all threads
  for (const nb::handle item : generations) {
    held.push_back(nb::cast<const Generation&>(item));
    all.push_back(held.back().handle.get().get());
    mutexes.insert(held.back().mutex.get());
  }
  std::vector<sepllm_generation_step> steps(all.size());
  sepllm_status failed = SEPLLM_OK;
  std::string message;
  run([&] {
    std::vector<std::unique_lock<std::mutex>> locks;
    for (std::mutex* mutex : mutexes) locks.emplace_back(*mutex);
    const sepllm_status status = sepllm_generations_next(all.data(), all.size(), steps.data());
    if (status != SEPLLM_OK) return status;
    const auto failure =
        std::find_if(steps.begin(), steps.end(), [](const auto& s) { return s.status != SEPLLM_OK; });
    if (failure != steps.end()) {
      failed = failure->status;
      message = failure->error;
    }
    return status;
  });
  if (failed != SEPLLM_OK) raise(failed, message);
  nb::list out;
  for (const sepllm_generation_step& step : steps) out.append(step.more != 0);
  return out;
}

struct Model {
  Handle<sepllm_model> handle;

  static Model load(const std::string& path, const std::string& options) {
    sepllm_model* out = nullptr;
    run([&] { return sepllm_model_load(path.c_str(), options.c_str(), &out); });
    return {{out, sepllm_model_free}};
  }
  static std::string text_of(char* text) {
    const std::unique_ptr<char, decltype(&sepllm_free)> owner(text, sepllm_free);
    return text;
  }
  std::string info() const {
    const auto model = handle.get();
    char* text = nullptr;
    run([&] { return sepllm_model_info(model.get(), &text); });
    return text_of(text);
  }
  std::string policy(const std::string& options) const {
    const auto model = handle.get();
    char* text = nullptr;
    run([&] { return sepllm_policy_resolve(model.get(), options.c_str(), &text); });
    return text_of(text);
  }
  int64_t vocab_size() const { return sepllm_model_vocab_size(handle.get().get()); }
  Tokenizer tokenizer() const {
    const auto model = handle.get();
    sepllm_tokenizer* out = nullptr;
    run([&] { return sepllm_model_tokenizer(model.get(), &out); });
    return {{out, sepllm_tokenizer_free}};
  }
  Session session(const std::string& options, const Runtime* runtime) const {
    const auto model = handle.get();
    const auto on = runtime != nullptr ? runtime->handle.get() : nullptr;
    sepllm_session* out = nullptr;
    run([&] { return sepllm_session_new(model.get(), options.c_str(), on.get(), &out); });
    return Session(out);
  }
};

// --- Attention ---

using Floats = nb::ndarray<float, nb::ndim<4>, nb::device::cpu>;
using ReadFloats = nb::ndarray<const float, nb::ndim<4>, nb::device::cpu>;
using Positions = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename Tensor>
sepllm_tensor view(const Tensor& x) {
  if (x.stride(3) != 1 && x.shape(3) > 1)
    raise(SEPLLM_INVALID_ARGUMENT, "the last dimension is not contiguous");
  return {const_cast<float*>(x.data()), x.stride(0), x.stride(1), x.stride(2)};
}

template <typename Tensor>
void require_shape(const Tensor& x, std::array<size_t, 4> shape, const char* name) {
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (x.shape(axis) == shape[axis]) continue;
    raise(SEPLLM_INVALID_ARGUMENT, std::string(name) + " has another shape than it must have");
  }
}

// One sequence's pattern: (n_tokens, n_initial, window, kept, document_starts).
using PatternOfPython = std::tuple<int64_t, int64_t, int64_t, Positions, Positions>;

class AttentionCall {
 public:
  AttentionCall(const ReadFloats& q, const ReadFloats& k, const ReadFloats& v, const Floats& out,
                const Floats& log_sum_exp, float scale, const nb::list& patterns) {
    const size_t batch = q.shape(0), tokens = q.shape(2), dim = q.shape(3);
    require_shape(k, {batch, k.shape(1), tokens, dim}, "k");
    require_shape(v, {batch, k.shape(1), tokens, dim}, "v");
    require_shape(out, {batch, q.shape(1), tokens, dim}, "out");
    require_shape(log_sum_exp, {batch, q.shape(1), tokens, 1}, "log_sum_exp");
    for (const nb::handle item : patterns) sequences_.push_back(nb::cast<PatternOfPython>(item));
    for (const auto& [n_tokens, n_initial, window, kept, starts] : sequences_) {
      const int64_t* documents = starts.size() > 0 ? starts.data() : nullptr;
      patterns_.push_back({n_tokens, n_initial, window, kept.data(), kept.size(), documents, starts.size()});
    }
    call_ = {static_cast<int64_t>(batch),
             static_cast<int64_t>(q.shape(1)),
             static_cast<int64_t>(k.shape(1)),
             static_cast<int64_t>(tokens),
             static_cast<int64_t>(dim),
             scale,
             view(q),
             view(k),
             view(v),
             view(out),
             view(log_sum_exp),
             nullptr,
             patterns_.data(),
             patterns_.size()};
  }
  const sepllm_attention* get() const { return &call_; }

 private:
  std::vector<PatternOfPython> sequences_;
  std::vector<sepllm_pattern> patterns_;
  sepllm_attention call_{};
};

void attention_forward(const Runtime& runtime, const ReadFloats& q, const ReadFloats& k, const ReadFloats& v,
                       const Floats& out, const Floats& log_sum_exp, float scale, const nb::list& patterns) {
  const auto on = runtime.handle.get();
  const AttentionCall call(q, k, v, out, log_sum_exp, scale, patterns);
  run([&] { return sepllm_attention_forward(on.get(), call.get()); });
}

struct Gradients {
  ReadFloats d_out;
  Floats d_q, d_k, d_v;
};

void attention_backward(const Runtime& runtime, const ReadFloats& q, const ReadFloats& k, const ReadFloats& v,
                        const Floats& out, const Floats& log_sum_exp, float scale, const nb::list& patterns,
                        const std::tuple<ReadFloats, Floats, Floats, Floats>& gradients) {
  const auto on = runtime.handle.get();
  const AttentionCall call(q, k, v, out, log_sum_exp, scale, patterns);
  const auto& [d_out, d_q, d_k, d_v] = gradients;
  const auto shape = [](const ReadFloats& x) {
    return std::array<size_t, 4>{x.shape(0), x.shape(1), x.shape(2), x.shape(3)};
  };
  require_shape(d_out, shape(q), "d_out");
  require_shape(d_q, shape(q), "d_q");
  require_shape(d_k, shape(k), "d_k");
  require_shape(d_v, shape(k), "d_v");
  const sepllm_tensor of_out = view(d_out), of_q = view(d_q), of_k = view(d_k), of_v = view(d_v);
  run([&] { return sepllm_attention_backward(on.get(), call.get(), of_out, of_q, of_k, of_v); });
}

// --- The log ---

PyObject* log_function = nullptr;  // owned; with the GIL held

void log_to_python(sepllm_log_level level, const char* message, void* /*user*/) {
  if (interpreter_ends) return;
  const PyGILState_STATE gil = PyGILState_Ensure();
  if (log_function != nullptr) {
    PyObject* result = PyObject_CallFunction(log_function, "is", static_cast<int>(level), message);
    if (result == nullptr) PyErr_WriteUnraisable(log_function);
    Py_XDECREF(result);
  }
  PyGILState_Release(gil);
}

void set_log(const nb::object& function) {
  PyObject* next = function.is_none() ? nullptr : function.ptr();
  Py_XINCREF(next);
  std::swap(log_function, next);
  Py_XDECREF(next);
  const bool on = log_function != nullptr;
  run([on] { return sepllm_set_log(on ? log_to_python : nullptr, nullptr); });
}

}  // namespace

NB_MODULE(_core, m) {
  // An interpreter that ends while other threads generate does not free what they use: that is no leak.
  nb::set_leak_warnings(false);
  main_thread =
      nb::cast<unsigned long>(nb::module_::import_("threading").attr("main_thread")().attr("ident"));
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(at_exit));
  m.attr("__version__") = sepllm_version();

  nb::class_<Runtime>(m, "Runtime").def(nb::init<int>()).def_prop_ro("threads", &Runtime::threads);
  nb::class_<Tokenizer>(m, "Tokenizer")
      .def_static("load", &Tokenizer::load)
      .def("encode", &Tokenizer::encode)
      .def("decode", &Tokenizer::decode)
      .def("separators", &Tokenizer::separators)
      .def_prop_ro("vocab_size",
                   [](const Tokenizer& t) { return sepllm_tokenizer_vocab_size(t.handle.get().get()); })
      .def_prop_ro("bos", [](const Tokenizer& t) { return sepllm_tokenizer_bos(t.handle.get().get()); })
      .def_prop_ro("eos", [](const Tokenizer& t) { return sepllm_tokenizer_eos(t.handle.get().get()); })
      .def_prop_ro("adds_bos",
                   [](const Tokenizer& t) { return sepllm_tokenizer_adds_bos(t.handle.get().get()) != 0; });
  nb::class_<Generation>(m, "Generation").def("next", &Generation::next).def("get", &Generation::get);
  nb::class_<Session>(m, "Session")
      .def("feed", &Session::feed)
      .def("logits", &Session::logits)
      .def("set_sampling", &Session::set_sampling)
      .def("sample", &Session::sample)
      .def("score", &Session::score)
      .def("score_best", &Session::score_best)
      .def("generate", &Session::generate)
      .def("fork", &Session::fork, nb::arg("runtime").none())
      .def("rewind", &Session::rewind)
      .def("save", &Session::save)
      .def("restore", &Session::restore)
      .def("kv", &Session::kv)
      .def("kept", &Session::kept)
      .def("length", &Session::length)
      .def("close", [](Session& s) { s.handle.close(); });
  nb::class_<Model>(m, "Model")
      .def_static("load", &Model::load)
      .def("info", &Model::info)
      .def("policy", &Model::policy)
      .def_prop_ro("vocab_size", &Model::vocab_size)
      .def("tokenizer", &Model::tokenizer)
      .def("session", &Model::session, nb::arg("options"), nb::arg("runtime").none());
  // Tensors are taken as they are: a converted copy of an output would be lost.
  const auto tensor = [](const char* name) { return nb::arg(name).noconvert(); };
  m.def("attention_forward", &attention_forward, nb::arg("runtime"), tensor("q"), tensor("k"), tensor("v"),
        tensor("out"), tensor("log_sum_exp"), nb::arg("scale"), nb::arg("patterns"));
  m.def("attention_backward", &attention_backward, nb::arg("runtime"), tensor("q"), tensor("k"), tensor("v"),
        tensor("out"), tensor("log_sum_exp"), nb::arg("scale"), nb::arg("patterns"), tensor("gradients"));
  m.def("sessions_decode", &sessions_decode, nb::arg("sessions"), nb::arg("ids"));
  m.def("generations_next", &generations_next, nb::arg("generations"));
  m.def("policy", [](const std::string& options) {
    char* text = nullptr;
    run([&] { return sepllm_policy_resolve(nullptr, options.c_str(), &text); });
    return Model::text_of(text);
  });
  m.def("set_log", &set_log, nb::arg("log").none());
}
