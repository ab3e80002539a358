// `sepllm score`: compares its figures with what the definitions of the policies imply, on random weights and
// on the embedded model.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "attention/policy.h"
#include "base/file.h"
#include "tests/support/cli.h"
#include "text/separators.h"
#include "text/tokenizer.h"

namespace sepllm::test {
namespace {

struct Expected {
  double mean_keys = 0;
  int64_t peak_keys = 0;
  int64_t peak_slots = 0;  // of one layer, including the chunk in flight
};

// sep-stream, token by token, directly from docs/METHOD.md#streaming.
Expected simulate_sep_stream(const Policy& policy, const std::vector<int32_t>& ids,
                             const TokenSet& separators) {
  Expected out;
  std::vector<int32_t> separator_block, rest;  // past and local window together
  int64_t initial = 0, keys = 0;
  for (const int32_t id : ids) {
    if (initial < policy.init) {
      ++initial;
    } else {
      rest.push_back(id);
    }
    const auto slots = initial + static_cast<int64_t>(separator_block.size() + rest.size());
    keys += slots;  // what was cached, and the token itself
    out.peak_keys = std::max(out.peak_keys, slots);
    if (slots <= policy.capacity) continue;
    const auto past = static_cast<std::ptrdiff_t>(rest.size()) - policy.window;
    for (std::ptrdiff_t k = 0; k < past; ++k) {
      if (separators.contains(rest[static_cast<size_t>(k)]))
        separator_block.push_back(rest[static_cast<size_t>(k)]);
    }
    rest.erase(rest.begin(), rest.begin() + past);
    const auto excess = static_cast<std::ptrdiff_t>(separator_block.size()) - policy.seps;
    if (excess > 0) separator_block.erase(separator_block.begin(), separator_block.begin() + excess);
  }
  out.mean_keys = static_cast<double>(keys) / static_cast<double>(ids.size());
  out.peak_slots = out.peak_keys;
  return out;
}

// A static policy is given by its mask; the cache holds the kept tokens that have left the window, and the
// window's band.
Expected from_mask(const Pattern& pattern, int64_t n, int64_t chunk) {
  Expected out;
  out.mean_keys = static_cast<double>(pattern.visible_pairs(n)) / static_cast<double>(n);
  const std::vector<int64_t> kept = pattern.kept(n);
  const auto kept_up_to = [&](int64_t position) {
    return std::upper_bound(kept.begin(), kept.end(), position) - kept.begin();
  };
  for (int64_t i = 0; i < n; ++i) {
    const int64_t far = i - pattern.window;
    out.peak_keys = std::max<int64_t>(out.peak_keys, kept_up_to(far) + std::min(i + 1, pattern.window));
  }
  for (int64_t begin = 0; begin < n; begin += chunk) {
    const int64_t end = std::min(n, begin + chunk);
    const int64_t band = end - std::max<int64_t>(0, begin - pattern.window + 1);
    out.peak_slots = std::max<int64_t>(out.peak_slots, kept_up_to(end - 1 - pattern.window) + band);
  }
  return out;
}

Expected expected_of(const PolicySettings& settings, const std::vector<int32_t>& ids,
                     const TokenSet& separators) {
  if (settings.policy.kind == PolicyKind::kSepStream) {
    return simulate_sep_stream(settings.policy, ids, separators);
  }
  const auto n = static_cast<int64_t>(ids.size());
  return from_mask(settings.policy.pattern(ids.data(), n, separators, 0, 1), n, settings.prefill_chunk);
}

PolicySettings settings_of(PolicyKind kind) {
  PolicySettings settings;
  settings.policy.kind = kind;
  if (settings.policy.streaming()) settings.policy.positions = PositionMode::kCache;
  return settings;
}

void expect_kv(const Json& result, const Expected& expected, int64_t bytes_per_token) {
  const Json& kv = result["kv"];
  EXPECT_NEAR(kv["mean_keys"].get<double>(), expected.mean_keys, 1e-9 * expected.mean_keys);
  EXPECT_EQ(kv["peak_keys"].get<int64_t>(), expected.peak_keys);
  EXPECT_EQ(kv["peak_bytes"].get<int64_t>(), expected.peak_slots * bytes_per_token);
  EXPECT_GE(kv["reserved_bytes"].get<int64_t>(), kv["peak_bytes"].get<int64_t>());
}

constexpr PolicyKind kKinds[] = {PolicyKind::kFull, PolicyKind::kSep,        PolicyKind::kSepStream,
                                 PolicyKind::kSink, PolicyKind::kSinkStream, PolicyKind::kFixed};

class CliScore : public RandomModelTest {
 protected:
  static std::string text() {
    std::string out;
    for (int i = 0; i < 40; ++i)
      out += "This is sentence " + std::to_string(i) + ", and it goes on; is it? Yes!\n";
    return out;
  }
};

TEST_F(CliScore, FieldsAreThoseOfTheDesign) {
  const Json result = run_json(with_model("score", {"--text", write("t.txt", text())}));
  std::vector<std::string> names;
  for (const auto& [key, value] : result.items()) names.push_back(key);
  EXPECT_EQ(names,
            (std::vector<std::string>{"tokens", "perplexity", "nll_mean", "seconds", "tokens_per_second",
                                      "peak_rss_bytes", "program", "policy", "kv"}));
  for (const char* key :
       {"mean_keys", "peak_keys", "mean_share", "peak_bytes", "full_bytes", "reserved_bytes"}) {
    EXPECT_TRUE(result["kv"][key].is_number()) << key;
  }
  EXPECT_NEAR(std::log(result["perplexity"].get<double>()), result["nll_mean"].get<double>(), 1e-9);
  EXPECT_NEAR(result["kv"]["mean_share"].get<double>(), 1.0, 1e-12);
  EXPECT_GT(result["peak_rss_bytes"].get<int64_t>(), 1 << 20);
}

TEST_F(CliScore, KeysAndBytesAreWhatThePoliciesImply) {
  const std::string path = write("t.txt", text());
  const auto tokenizer = load_tokenizer(model());
  std::vector<int32_t> ids = tokenizer->encode(read_file(path));
  if (tokenizer->adds_bos()) ids.insert(ids.begin(), *tokenizer->bos_id());
  for (const PolicyKind kind : kKinds) {
    PolicySettings settings = settings_of(kind);
    settings.policy.window = 20;
    settings.policy.seps = 30;
    settings.policy.capacity = 90;
    settings.prefill_chunk = 32;
    std::vector<std::string> flags = {"--text", path, "--policy", policy_name(kind), "--prefill-chunk", "32"};
    if (kind != PolicyKind::kFull && kind != PolicyKind::kSinkStream)
      flags = flags + std::vector<std::string>{"--window", "20"};
    if (kind == PolicyKind::kSepStream) flags = flags + std::vector<std::string>{"--seps", "30"};
    if (settings.policy.streaming()) flags = flags + std::vector<std::string>{"--capacity", "90"};
    SCOPED_TRACE(policy_name(kind));
    const Json result = run_json(with_model("score", flags));
    const TokenSet separators =
        make_separators(*tokenizer, "text", kByteTokenizerVocab, settings.policy.streaming());
    // 3 layers, 2 kv heads of 16 floats, keys and values.
    expect_kv(result, expected_of(settings, ids, separators), int64_t{3} * 2 * 2 * 64);
    EXPECT_EQ(result["kv"]["full_bytes"].get<int64_t>(), static_cast<int64_t>(ids.size()) * 3 * 2 * 2 * 64);
  }
}

TEST_F(CliScore, NllsAreOneALineAndGiveThePerplexity) {
  const std::string path = write("t.txt", text());
  for (const char* bos : {"on", "off"}) {
    const std::string out = file("nll.txt");
    const Json result =
        run_json(with_model("score", {"--text", path, "--bos", bos, "--tokens", "300", "--nll-out", out}));
    std::istringstream lines(read_file(out));
    double sum = 0, x = 0;
    int64_t count = 0;
    while (lines >> x) {
      sum += x;
      ++count;
    }
    EXPECT_EQ(result["tokens"].get<int64_t>(), 300);
    EXPECT_EQ(count, bos == std::string("on") ? 300 : 299);
    EXPECT_NEAR(sum / static_cast<double>(count), result["nll_mean"].get<double>(), 1e-9);
  }
}

TEST_F(CliScore, FilesAreTokenisedAloneAndJoined) {
  const std::string a = write("a.txt", "Hello, "), b = write("b.txt", "world.");
  const std::string both = write("ab.txt", "Hello, world.");
  const Json joined = run_json(with_model("score", {"--text", a, b}));
  const Json whole = run_json(with_model("score", {"--text", both}));
  EXPECT_EQ(joined["tokens"], whole["tokens"]);
  EXPECT_EQ(joined["perplexity"], whole["perplexity"]);
}

TEST_F(CliScore, IdsAreUsedAsTheyAre) {
  const std::string text_file = write("h.txt", "Hello");
  const Json text = run_json(with_model("score", {"--text", text_file, "--bos", "off"}));
  const Json ids = run_json(with_model("score", {"--ids", write("h.ids", "72 101\n108\t108 111\n")}));
  EXPECT_EQ(text["perplexity"], ids["perplexity"]);
  EXPECT_EQ(ids["tokens"].get<int64_t>(), 5);
}

TEST_F(CliScore, TheLogHasALineAtTheEnd) {
  const std::string log = file("log.jsonl");
  const Json result = run_json(with_model("score", {"--text", write("t.txt", text()), "--log", log}));
  const Json line = parse_json(read_file(log), log);
  for (const char* key :
       {"tokens", "perplexity", "perplexity_window", "tokens_per_second", "rss_bytes", "kv_bytes"}) {
    EXPECT_TRUE(line[key].is_number()) << key;
  }
  EXPECT_EQ(line["tokens"], result["tokens"]);
  EXPECT_EQ(line["perplexity"], result["perplexity"]);
}

TEST_F(CliScore, ALongTextLogsEveryIntervalInConstantMemory) {
  std::string book;
  while (book.size() < 140000) book += text();
  const std::string log = file("long.jsonl");
  const Json result =
      run_json(with_model("score", {"--text", write("book.txt", book), "--policy", "sep-stream", "--seps",
                                    "16", "--window", "32", "--capacity", "96", "--log", log}));
  std::istringstream lines(read_file(log));
  std::string line;
  int64_t count = 0, last = 0;
  while (std::getline(lines, line)) {
    const Json entry = parse_json(line, log);
    const int64_t tokens = entry["tokens"].get<int64_t>();
    ++count;
    if (tokens != result["tokens"].get<int64_t>()) {
      EXPECT_EQ(tokens / 65536, count);
      EXPECT_LT(tokens % 65536, 512);
    }
    EXPECT_GT(tokens, last);
    EXPECT_LE(entry["kv_bytes"].get<int64_t>(), int64_t{97} * 3 * 2 * 2 * 64);
    last = tokens;
  }
  EXPECT_EQ(count, result["tokens"].get<int64_t>() / 65536 + 1);
  EXPECT_LE(result["kv"]["reserved_bytes"].get<int64_t>(), int64_t{2} * 97 * 3 * 2 * 2 * 64);
}

TEST_F(CliScore, CtrlCPrintsTheFiguresSoFar) {
  std::string book = text();
  while (book.size() < 4000000) book += book;
  const std::string path = write("book.txt", book), log = file("stopped.jsonl");
  // The signal comes when the first interval has been scored, a small part of the text.
  const std::string script = std::string(SEPLLM_BINARY) + " score --json --policy sink --window 8 --model " +
                             model() + " --text " + path + " --log " + log + " > " + file("out") +
                             " & pid=$!\n" + "until [ -s " + log +
                             " ] || ! kill -0 $pid; do sleep 0.05; done\n" +
                             "kill -INT $pid; wait $pid; echo $? > " + file("code") + "\n";
  ASSERT_EQ(std::system(("bash " + write("interrupt.sh", script)).c_str()), 0);
  EXPECT_EQ(read_file(file("code")), "0\n");
  const Json result = parse_json(read_file(file("out")), "standard output");
  EXPECT_TRUE(result["interrupted"].get<bool>());
  EXPECT_GE(result["tokens"].get<int64_t>(), 65536);
  EXPECT_LT(result["tokens"].get<int64_t>(), static_cast<int64_t>(book.size()));
}

TEST_F(CliScore, ThreadsAndKernelsDoNotChangeTheResult) {
  const std::string path = write("t.txt", text());
  const std::vector<std::string> flags = {"--text", path, "--policy", "sep", "--window", "32"};
  const Json one = run_json(with_model("score", flags + std::vector<std::string>{"--threads", "1"}));
  const Json three = run_json(with_model("score", flags + std::vector<std::string>{"--threads", "3"}));
  EXPECT_EQ(one["perplexity"], three["perplexity"]);
  const Json plain =
      run_json(with_model("score", flags + std::vector<std::string>{"--attention-impl", "reference"}));
  EXPECT_NEAR(plain["nll_mean"].get<double>(), one["nll_mean"].get<double>(), 1e-5);
}

TEST_F(CliScore, TheConfigsOwnPolicyHoldsUnlessAFlagSaysOtherwise) {
  const std::string folder = file("own");
  write_random_model(folder,
                     {.extra_config = {{"sepllm", {{"policy", "sep"}, {"window", 16}, {"init", 2}}}}});
  const std::string path = write("t.txt", text());
  const Json own = run_json({"score", "--model", folder, "--text", path});
  EXPECT_EQ(own["policy"]["policy"], "sep");
  EXPECT_EQ(own["policy"]["window"], 16);
  const Json flags = run_json({"score", "--model", folder, "--text", path, "--window", "8"});
  EXPECT_EQ(flags["policy"]["window"], 8);
  EXPECT_EQ(flags["policy"]["init"], 2);
  EXPECT_EQ(run_json({"score", "--model", folder, "--text", path, "--policy", "full"})["policy"]["policy"],
            "full");
}

// A trained model over six times its positions.
TEST(CliScoreBook, EveryPolicyGoesBeyondThePositionLimit) {
  SEPLLM_EMBEDDED_MODEL_OR_SKIP(model);
  const auto tokenizer = load_tokenizer(model);
  const std::vector<int32_t> all = tokenizer->encode(read_file(demo_text_file()));
  for (const PolicyKind kind : kKinds) {
    SCOPED_TRACE(policy_name(kind));
    const int64_t tokens = kind == PolicyKind::kFull ? 1024 : 6000;
    const PolicySettings settings = settings_of(kind);
    std::vector<std::string> flags = {"--policy", policy_name(kind)};
    // The model has a window of its own.
    if (policy_json(settings).contains("window"))
      flags.insert(flags.end(), {"--window", std::to_string(settings.policy.window)});
    const ProgramResult run =
        run_sepllm(std::vector<std::string>{"score", "--model", model, "--text", demo_text_file(), "--tokens",
                                            std::to_string(tokens), "--json"} +
                   flags);
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Json result = parse_json(run.out, "standard output");
    EXPECT_EQ(result["tokens"].get<int64_t>(), tokens);
    EXPECT_TRUE(std::isfinite(result["perplexity"].get<double>()));
    const std::vector<int32_t> ids(all.begin(), all.begin() + tokens);
    const TokenSet separators =
        make_separators(*tokenizer, "text", tokenizer->vocab_size(), settings.policy.streaming());
    // 5 layers, 8 kv heads of 32 floats, keys and values.
    expect_kv(result, expected_of(settings, ids, separators), int64_t{5} * 8 * 2 * 128);
    const auto warnings = std::count(run.err.begin(), run.err.end(), '\n');
    // Streams count slots of the cache: no position is beyond the limit.
    EXPECT_EQ(warnings, kind == PolicyKind::kFull || settings.policy.streaming() ? 0 : 1) << run.err;
  }
}

}  // namespace
}  // namespace sepllm::test
