// `sepllm bench ...`, and the parts that it measures with: positions of separators, operands, turns.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "apps/bench/data/separators.h"
#include "apps/bench/pattern_operands.h"
#include "apps/bench/turns.h"
#include "base/error.h"
#include "base/file.h"
#include "tests/support/cli.h"
#include "tests/support/expect_error.h"
#include "text/separators.h"
#include "text/tokenizer.h"

namespace sepllm::test {
namespace {

double number(const Json& row, const char* key) { return row.at(key).get<double>(); }

// As fast as possible: one round, one call.
std::vector<std::string> bench_attention(const std::vector<std::string>& more) {
  return std::vector<std::string>{"bench", "attention", "--repeats", "1", "--min-time", "0"} + more;
}

TEST(BenchAttention, RowsHaveAllFieldsAndTheFiguresFit) {
  const Json rows = run_json(bench_attention({"--tokens", "40,96", "--window", "8,200", "--heads", "4",
                                              "--kv-heads", "2", "--head-dim", "16", "--threads", "2"}));
  ASSERT_EQ(rows.size(), 8U);  // tokens x passes x windows
  for (size_t i = 0; i < rows.size(); ++i) {
    const Json& row = rows[i];
    const int64_t tokens = i < 4 ? 40 : 96;
    const int64_t window = i % 2 == 0 ? 8 : 200;
    const bool is_forward = i % 4 < 2;
    EXPECT_EQ(row["policy"], "sep");
    EXPECT_EQ(row["separators"], "paper");
    EXPECT_EQ(row["init"], 4);
    EXPECT_EQ(row["tokens"], tokens);
    EXPECT_EQ(row["window"], window);
    EXPECT_EQ(row["heads"], 4);
    EXPECT_EQ(row["kv_heads"], 2);
    EXPECT_EQ(row["head_dim"], 16);
    EXPECT_EQ(row["threads"], 2);
    EXPECT_EQ(row["pass"], is_forward ? "forward" : "forward+backward");
    const Pattern pattern{.n_initial = 4, .extra = bench::book_separators("paper", tokens), .window = window};
    const auto pairs = static_cast<double>(pattern.visible_pairs(tokens));
    const double causal = static_cast<double>(tokens) * static_cast<double>(tokens + 1) / 2;
    EXPECT_DOUBLE_EQ(number(row, "kept"), pairs / causal);
    EXPECT_EQ(window == 200, number(row, "kept") == 1.0);
    EXPECT_GT(number(row, "seconds"), 0.0);
    EXPECT_GT(number(row, "sgemm_gflops"), 0.0);
    EXPECT_DOUBLE_EQ(number(row, "efficiency"),
                     number(row, "kept") * number(row, "dense_seconds") / number(row, "seconds"));
    const double flops = pairs * 4 * 16 * (is_forward ? 4 : 14);
    EXPECT_NEAR(number(row, "gflops") * number(row, "seconds") * 1e9, flops, 1e-6 * flops);
    EXPECT_NEAR(number(row, "gemm_share"), number(row, "gflops") / number(row, "sgemm_gflops"), 1e-9);
    // q, k, v, out; in training also statistics, d_out and three gradients.
    const int64_t operands = 4 * tokens * 16 * (is_forward ? 4 + 2 + 2 + 4 : 2 * (4 + 2 + 2 + 4)) +
                             (is_forward ? 0 : 4 * tokens * 4);
    EXPECT_GE(row["peak_bytes"].get<int64_t>(), operands);
  }
}

TEST(BenchAttention, FullIsItsOwnDense) {
  const Json rows =
      run_json(bench_attention({"--policy", "full", "--tokens", "33", "--heads", "2", "--kv-heads", "1",
                                "--head-dim", "8", "--pass", "forward", "--threads", "1"}));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_TRUE(rows[0]["window"].is_null());
  EXPECT_TRUE(rows[0]["separators"].is_null());
  EXPECT_EQ(rows[0]["seconds"], rows[0]["dense_seconds"]);
  EXPECT_EQ(rows[0]["kept"], 1.0);
  EXPECT_EQ(rows[0]["efficiency"], 1.0);
  EXPECT_EQ(rows[0]["threads"], 1);
}

TEST(BenchAttention, OtherPoliciesKeepWhatTheySay) {
  const auto kept = [](const std::vector<std::string>& policy) {
    const Json rows =
        run_json(bench_attention({"--tokens", "100", "--window", "10", "--heads", "1", "--kv-heads", "1",
                                  "--head-dim", "8", "--pass", "backward", "--no-dense"}) +
                 policy);
    EXPECT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0]["pass"], "forward+backward");
    EXPECT_TRUE(rows[0]["dense_seconds"].is_null());
    EXPECT_TRUE(rows[0]["efficiency"].is_null());
    return number(rows[0], "kept") * 5050;
  };
  EXPECT_NEAR(kept({"--policy", "sink", "--init", "0"}), 955, 1e-6);  // 1 + ... + 10, then 90 times 10
  EXPECT_NEAR(kept({"--policy", "sink", "--init", "2"}), 955 + 90 + 89, 1e-6);
  // Of every two tokens one stays: a key at 2m + 1 is seen outside the window by the queries from 2m + 11 on.
  EXPECT_NEAR(kept({"--policy", "fixed", "--init", "0", "--interval", "2"}), 955 + 45 * (89 + 1) / 2, 1e-6);
  // All blocks, the window, and the means of the complete blocks before each query.
  EXPECT_NEAR(kept({"--policy", "nsa", "--block-size", "10", "--blocks", "10"}), 5050 + 955 + 460, 1e-6);
  expect_failure(bench_attention({"--policy", "nsa", "--blocks", "2"}), {"blocks", "3", "2"});
}

TEST(BenchAttention, SeparatorsOfAGivenText) {
  const TemporaryFolder folder;
  write_random_model(folder.file("model"), {});  // its tokens are bytes
  const std::string text = folder.write("text.txt", std::string(50, 'x') + "." + std::string(49, 'x'));
  const std::vector<std::string> given =
      bench_attention({"--text", text, "--tokenizer", folder.file("model"), "--init", "0", "--window", "10",
                       "--heads", "1", "--head-dim", "8", "--pass", "forward", "--separators"});
  const Json rows = run_json(given + std::vector<std::string>{"text", "--tokens", "100"});
  EXPECT_NEAR(number(rows.at(0), "kept") * 5050, 955 + 40, 1e-6);  // the mark at 50, seen from 60 on
  const Json none = run_json(given + std::vector<std::string>{"strings:;", "--tokens", "100"});
  EXPECT_NEAR(number(none.at(0), "kept") * 5050, 955, 1e-6);
  expect_failure(given + std::vector<std::string>{"text", "--tokens", "101"},
                 {"text.txt", "--tokens does not fit the text", "at most 100"});
  expect_failure(bench_attention({"--text", folder.file("absent"), "--tokenizer", folder.file("model"),
                                  "--separators", "text"}),
                 {"absent"});
}

TEST(BenchAttention, TheTableIsForReading) {
  const ProgramResult result = run_sepllm(bench_attention({"--tokens", "32", "--threads", "1"}));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  for (const char* part : {"12 heads x 64", "1 thread\n", "policy", "of sgemm", "forward+backward"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 4);
}

TEST(BenchAttention, WrongFlagsAreOneLine) {
  for (const char* list : {"0", "-1", "4,", ",4", "1,,2", "4x", "", "16777217", "99999999999999999999"}) {
    expect_failure(bench_attention({"--tokens", list}), {"wrong value for --tokens", "expected integers"});
  }
  expect_failure(bench_attention({"--window", "0"}), {"wrong value for --window"});
  expect_failure(bench_attention({"--policy", "sep-stream"}),
                 {"wrong value for --policy", "sep|full|sink|fixed"});
  expect_failure({"bench", "attention", "--min-time", "-1"}, {"wrong value for --min-time"});
  expect_failure(bench_attention({"--heads", "3", "--kv-heads", "2"}), {"--kv-heads must divide --heads"});
  expect_failure(bench_attention({"--policy", "full", "--window", "8"}), {"--window does not apply"});
  expect_failure(bench_attention({"--policy", "sink", "--separators", "text"}),
                 {"--separators does not apply"});
  expect_failure(bench_attention({"--interval", "8"}), {"--interval does not apply to --policy sep"});
  expect_failure(bench_attention({"--separators", "strings:."}), {"paper or text", "strings:."});
  expect_failure(bench_attention({"--text", "x"}), {"go together", "--tokenizer"});
  expect_failure(bench_attention({"--tokenizer", "x"}), {"go together", "--text"});
  expect_failure(bench_attention({"--tokens", "131073"}), {"at most 131072", "--text"});
  expect_failure(
      bench_attention({"--policy", "sink", "--tokens", "16777216", "--heads", "1024", "--head-dim", "1024"}),
      {"out of memory"});
  expect_failure({"bench", "attention", "64"}, {"unexpected argument '64'"});
}

TEST(BenchAttention, CtrlCEndsItWithTheRowsSoFar) {
  const TemporaryFolder folder;
  const std::string out = folder.file("out"), code = folder.file("code"), err = folder.file("err");
  // The program is ready when it catches SIGINT (bit 1 of the mask).
  const std::string script =
      std::string(SEPLLM_BINARY) + " bench attention --tokens 8 --repeats 10000 --min-time 0.01 --json > " +
      out + " 2> " + err + " & pid=$!\n" +
      "until caught=$(grep SigCgt /proc/$pid/status) && (( 0x${caught##*:[[:space:]]} & 2 ))\n" +
      "do kill -0 $pid || break; sleep 0.02; done\nkill -INT $pid; wait $pid; echo $? > " + code + "\n";
  ASSERT_EQ(std::system(("bash " + folder.write("interrupt.sh", script)).c_str()), 0);
  EXPECT_EQ(read_file(code), "0\n");
  EXPECT_EQ(parse_json(read_file(out), "standard output"), Json::array());
  EXPECT_NE(read_file(err).find("interrupted"), std::string::npos);
}

// docs/METHOD.md#training: 16.5 % of the tokens; visible shares .22 (2048, 64), .18 (8192, 64), .22 (8192,
// 256).
TEST(BookSeparators, AreAsDenseAsInTheBook) {
  const std::vector<int64_t> all = bench::book_separators("paper", bench::kBookTokens);
  const double share = static_cast<double>(all.size()) / static_cast<double>(bench::kBookTokens);
  EXPECT_GT(share, 0.16);
  EXPECT_LT(share, 0.17);
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
  const auto kept = [](int64_t tokens, int64_t window) {
    const Pattern p{.n_initial = 4, .extra = bench::book_separators("paper", tokens), .window = window};
    return 2.0 * static_cast<double>(p.visible_pairs(tokens)) / static_cast<double>(tokens * (tokens + 1));
  };
  EXPECT_NEAR(kept(2048, 64), 0.22, 0.005);
  EXPECT_NEAR(kept(8192, 64), 0.18, 0.005);
  EXPECT_NEAR(kept(8192, 256), 0.22, 0.005);
}

TEST(BookSeparators, AShorterListIsABeginning) {
  for (const char* rule : {"paper", "text"}) {
    const std::vector<int64_t> all = bench::book_separators(rule, bench::kBookTokens);
    for (const int64_t n : {0, 1, 4, 5, 63, 1000}) {
      const std::vector<int64_t> some = bench::book_separators(rule, n);
      const auto end = std::lower_bound(all.begin(), all.end(), n);
      EXPECT_EQ(some, std::vector<int64_t>(all.begin(), end)) << rule << " " << n;
    }
  }
  expect_error([] { bench::book_separators("words", 1); }, ErrorCode::kInvalidArgument, {"paper or text"});
  expect_error([] { bench::book_separators("text", bench::kBookTokens + 1); }, ErrorCode::kOutOfRange,
               {"131072"});
}

// The script that wrote the bits has its own text rule: it must agree with this one.
TEST(BookSeparators, AgreeWithTokenizerAndRules) {
  SEPLLM_DATA_OR_SKIP(data);
  const auto tokenizer = load_tokenizer(data + "/tokenizers/gpt-neox-20b/tokenizer.json");
  const std::vector<int32_t> ids = tokenizer->encode(read_file(data + "/text/pg19/test/30754.txt"));
  ASSERT_GE(ids.size(), static_cast<size_t>(bench::kBookTokens));
  for (const char* rule : {"paper", "text"}) {
    const TokenSet set = make_separators(*tokenizer, rule, tokenizer->vocab_size(), false);
    std::vector<int64_t> expected;
    for (int64_t j = 0; j < bench::kBookTokens; ++j) {
      if (set.contains(ids[static_cast<size_t>(j)])) expected.push_back(j);
    }
    EXPECT_EQ(bench::book_separators(rule, bench::kBookTokens), expected) << rule;
  }
}

// Every query sees the first token and itself: a softmax of two scores, which is easy to write out.
TEST(PatternOperands, LieAsTheKernelReadsThem) {
  const bench::AttentionShape shape{.tokens = 9, .heads = 6, .kv_heads = 3, .head_dim = 8};
  bench::PatternOperands operands(shape, true);
  ThreadPool pool(1);
  Arena arena;
  const Pattern pattern{.n_initial = 1, .window = 1};
  operands.run({.pool = pool, .arena = arena}, pattern, bench::AttentionPass::kForwardBackward);
  for (int64_t h = 0; h < shape.heads; ++h) {
    const int64_t g = h / 2;
    const auto row = [&](const float* data, int64_t r, int64_t heads, int64_t head) {
      return data + (r * heads + head) * shape.head_dim;
    };
    for (int64_t r = 0; r < shape.tokens; ++r) {
      double score[2] = {0, 0};
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        score[0] += double{row(operands.q(), r, 6, h)[d]} * row(operands.k(), 0, 3, g)[d];
        score[1] += double{row(operands.q(), r, 6, h)[d]} * row(operands.k(), r, 3, g)[d];
      }
      const double own = r == 0 ? 1.0 : 1.0 / (1.0 + std::exp((score[0] - score[1]) / std::sqrt(8.0)));
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        const double expected =
            own * row(operands.v(), r, 3, g)[d] + (1 - own) * row(operands.v(), 0, 3, g)[d];
        EXPECT_NEAR(row(operands.out(), r, 6, h)[d], expected, 1e-5) << h << " " << r << " " << d;
      }
    }
  }
  EXPECT_EQ(bench::attention_flops(shape, 10, bench::AttentionPass::kForward), 4.0 * 8 * 10 * 6);
  EXPECT_EQ(bench::attention_flops(shape, 10, bench::AttentionPass::kForwardBackward), 14.0 * 8 * 10 * 6);
}

TEST(Turns, GoRoundAndThrowTheFirstAway) {
  std::string order;
  std::vector<bench::Series> series;
  for (const char name : {'a', 'b'}) {
    series.push_back({[&order, name] { return static_cast<double>((order += name).size()); }});
  }
  EXPECT_TRUE(bench::measure_in_turns(series, 2, [] { return true; }));
  EXPECT_EQ(order, "ababab");
  EXPECT_EQ(series[0].values, (std::vector<double>{3, 5}));
  EXPECT_EQ(series[1].values, (std::vector<double>{4, 6}));
  EXPECT_FALSE(bench::measure_in_turns(series, 2, [&] { return order.size() < 7; }));
  EXPECT_EQ(order, "abababa");
}

TEST(Turns, ShortCallsAreRepeated) {
  int calls = 0;
  bench::TimedCall timed([&] { ++calls; }, 1e-4);
  timed();
  EXPECT_EQ(calls, 1);
  const double seconds = timed();
  EXPECT_GT(calls, 10);
  EXPECT_LT(seconds, 1e-4);
}

TEST(Turns, Median) {
  EXPECT_EQ(bench::median({3}), 3);
  EXPECT_EQ(bench::median({9, 1, 4}), 4);
  EXPECT_EQ(bench::median({9, 1, 4, 2}), 3);
}

// `sepllm bench train` on the smallest shape.
std::vector<std::string> bench_train(const std::vector<std::string>& more) {
  return std::vector<std::string>{"bench",     "train", "--shape",   "pythia-14m",
                                  "--repeats", "1",     "--threads", "2"} +
         more;
}

TEST(BenchTrain, RowsHaveAllFieldsAndTheFiguresFit) {
  const Json rows = run_json(bench_train({"--tokens", "24,40", "--batch", "2", "--policy", "sep", "--init",
                                          "1", "--window", "8", "--separators", "paper", "--breakdown"}));
  ASSERT_EQ(rows.size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    const Json& row = rows[i];
    const int64_t tokens = i == 0 ? 24 : 40;
    EXPECT_EQ(row["shape"], "pythia-14m");
    EXPECT_EQ(row["parameters"], 14'067'712);
    EXPECT_EQ(row["policy"], "sep");
    EXPECT_EQ(row["tokens"], tokens);
    EXPECT_EQ(row["batch"], 2);
    EXPECT_EQ(row["threads"], 2);
    EXPECT_NEAR(number(row, "tokens_per_second") * number(row, "seconds"), 2.0 * static_cast<double>(tokens),
                1e-6);
    // The separators of the book; each sample has its part of them.
    double pairs = 0;
    for (const int64_t first : {int64_t{0}, tokens}) {
      Pattern pattern{.n_initial = 1, .extra = {}, .window = 8};
      for (const int64_t at : bench::book_separators("paper", first + tokens)) {
        if (at >= first) pattern.extra.push_back(at - first);
      }
      pairs += static_cast<double>(pattern.visible_pairs(tokens));
    }
    EXPECT_NEAR(number(row, "kept"), pairs / static_cast<double>(tokens * (tokens + 1)), 1e-12);
    EXPECT_NEAR(number(row, "attention_flops"), 14.0 * pairs * 6 * 128, 1.0);
    // Every matrix but the embedding: 6 layers of 12 x 128 x 128, and the head.
    EXPECT_NEAR(number(row, "dense_flops"),
                6.0 * 2 * static_cast<double>(tokens) * (6 * 12 * 128 * 128 + 50304 * 128), 1.0);
    EXPECT_NEAR(number(row, "gemm_share"),
                number(row, "dense_flops") / number(row, "seconds") / number(row, "sgemm_gflops") * 1e-9,
                1e-9);
    EXPECT_GT(number(row, "gemm_share_with_attention"), number(row, "gemm_share"));
    EXPECT_GE(row["peak_bytes"].get<int64_t>(), 16 * 14'067'712);
    EXPECT_NEAR(number(row, "loss"), std::log(50304.0), 1.0);
    for (const char* part :
         {"linear_forward", "linear_backward", "attention_backward", "head_forward", "adamw"})
      EXPECT_GT(number(row["breakdown"], part), 0.0) << part;
  }
}

TEST(BenchTrain, TheTableIsForReadingAndWrongFlagsAreOneLine) {
  const ProgramResult result = run_sepllm(bench_train({"--tokens", "8"}));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  for (const char* part :
       {"pythia-14m, 14067712 parameters", "policy full", "2 threads", "of sgemm", "tokens/s"})
    EXPECT_NE(result.out.find(part), std::string::npos) << part;
  expect_failure({"bench", "train"}, {"no model given", "--shape NAME"});
  expect_failure(bench_train({"--policy", "sep-stream"}), {"do not stream", "got sep-stream"});
  expect_failure(bench_train({"--policy", "sep", "--separators", "ids:3"}), {"paper or text"});
  expect_failure({"bench", "train", "--shape", "gpt2-124m", "--tokens", "1025"},
                 {"at most 1024", "got 1025"});
}

// `sepllm bench decode|prefill|memory`: the fields exist and agree with each other and with the model. As
// fast as possible.
const std::vector<std::string> kShort = {"-r", "3", "--threads", "2"};
const std::vector<std::string> kDecode = kShort + std::vector<std::string>{"--read-mib", "1"};

class BenchSpeed : public RandomModelTest {
 protected:
  static Json bench(const std::string& kind, const std::vector<std::string>& more) {
    return run_json(std::vector<std::string>{"bench", kind, "--model", model()} +
                    (kind == "decode" ? kDecode : kShort) + more);
  }
};

void expect_samples_fit(const Json& row, int64_t tokens) {
  const Json& ns = row.at("samples_ns");
  const Json& ts = row.at("samples_ts");
  ASSERT_EQ(ns.size(), 3U);
  ASSERT_EQ(ts.size(), 3U);
  double sum = 0, sum_ns = 0;
  std::vector<double> values;
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_GT(ns[i].get<int64_t>(), 0);
    EXPECT_NEAR(ts[i].get<double>() * ns[i].get<double>() * 1e-9, static_cast<double>(tokens), 1e-3);
    values.push_back(ts[i].get<double>());
    sum += values.back();
    sum_ns += ns[i].get<double>();
  }
  std::sort(values.begin(), values.end());
  EXPECT_EQ(number(row, "median_ts"), values[1]);
  EXPECT_NEAR(number(row, "avg_ts"), sum / 3, 1e-9 * sum);
  EXPECT_NEAR(number(row, "avg_ns"), sum_ns / 3, 2);
  double squares = 0;
  for (const double v : values) squares += (v - sum / 3) * (v - sum / 3);
  EXPECT_NEAR(number(row, "stddev_ts"), std::sqrt(squares / 2), 1e-6 * sum);
}

TEST_F(BenchSpeed, DecodeRowsHaveTheFieldsOfLlamaBenchAndMore) {
  const Json rows = bench("decode", {"-d", "0,300", "-n", "5", "--kv", "f16"});
  ASSERT_EQ(rows.size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    const Json& row = rows[i];
    const int64_t depth = i == 0 ? 0 : 300;
    EXPECT_EQ(row["n_depth"], depth);
    EXPECT_EQ(row["n_gen"], 5);
    EXPECT_EQ(row["n_prompt"], 0);
    EXPECT_EQ(row["n_threads"], 2);
    EXPECT_EQ(row["type_k"], "f16");
    EXPECT_EQ(row["type_v"], "f16");
    EXPECT_EQ(row["model_type"], "model f32");
    EXPECT_EQ(row["model_filename"], model());
    EXPECT_EQ(row["model_size"].get<int64_t>(), 4 * row["model_n_params"].get<int64_t>());
    EXPECT_NE(row["cpu_info"], "");
    EXPECT_EQ(row["test_time"].get<std::string>().size(), 20U);
    EXPECT_EQ(row["policy"], "full");
    EXPECT_EQ(row["policy_settings"]["kv"], "f16");
    expect_samples_fit(row, 5);
    // 3 layers, 2 heads of 16 elements for keys and values of 2 bytes.
    constexpr int64_t kSlot = 3 * 2 * 2 * 16 * 2;
    EXPECT_DOUBLE_EQ(number(row, "mean_keys"), static_cast<double>(depth) + 3);
    EXPECT_EQ(row["kv_bytes"], (depth + 5) * kSlot);
    // All weights but the table of 258 embeddings of 64 elements.
    const int64_t weights = row["model_size"].get<int64_t>() - 258 * 64 * 4;
    EXPECT_EQ(row["bytes_per_token"], weights + (depth + 3) * kSlot);
    EXPECT_NEAR(number(row, "bandwidth_share"),
                number(row, "bytes_per_token") * number(row, "median_ts") / number(row, "read_bandwidth"),
                1e-9);
    // The other share uses the reads measured next to the repetitions, of which none is faster than the best.
    EXPECT_GE(number(row, "bandwidth_share_in_turns"), number(row, "bandwidth_share") * (1 - 1e-9));
  }
}

TEST_F(BenchSpeed, StreamsAtAnyDepthHoldWhatTheyAlwaysHold) {
  const Json rows = bench("decode", {"-d", "1000,3000000", "--policy", "sep-stream", "--window", "12",
                                     "--seps", "8", "--capacity", "40", "-n", "17", "--kv", "q8"});
  ASSERT_EQ(rows.size(), 2U);
  for (const Json& row : rows) {
    // A cycle of 40 + 1 - (4 + 8 + 12) = 17 tokens: queries see 25 to 41 keys, including themselves.
    EXPECT_DOUBLE_EQ(number(row, "mean_keys"), 33.0);
    EXPECT_EQ(row["type_k"], "q8");
    const int64_t held = row["kv_bytes"].get<int64_t>() / (3 * 2 * 2 * (16 + 4));
    EXPECT_GE(held, 24);
    EXPECT_LE(held, 40);
  }
}

TEST_F(BenchSpeed, BatchRowsHaveTheFieldsOfLlamaBatchedBenchAndMore) {
  const Json rows =
      run_json({"bench", "batch", "--model", model(), "--read-mib", "1", "-r",   "1",   "-b",        "1,3",
                "-d",    "0,300", "-p",      "20",    "-n",         "5", "--kv", "f16", "--threads", "2"});
  ASSERT_EQ(rows.size(), 4U);
  for (size_t i = 0; i < 4; ++i) {
    const Json& row = rows[i];
    const int64_t b = i % 2 == 0 ? 1 : 3, depth = i < 2 ? 0 : 300;
    EXPECT_EQ(row["b"], b);
    EXPECT_EQ(row["pp"], 20);
    EXPECT_EQ(row["tg"], 5);
    EXPECT_EQ(row["n_kv"], b * (depth + 25));
    EXPECT_NEAR(number(row, "s_pp") * number(row, "t_pp"), static_cast<double>(20 * b), 1e-6);
    EXPECT_NEAR(number(row, "s_tg") * number(row, "t_tg"), static_cast<double>(5 * b), 1e-6);
    EXPECT_NEAR(number(row, "s") * number(row, "t"), static_cast<double>(25 * b), 1e-6);
    constexpr int64_t kSlot = 3 * 2 * 2 * 16 * 2;
    EXPECT_EQ(row["kv_bytes"], b * (depth + 25) * kSlot);
    // The 20 tokens of the prompt see depth + 10.5 keys in the mean, the 5 others depth + 23.
    EXPECT_DOUBLE_EQ(number(row, "mean_keys"), static_cast<double>(depth) + 13);
  }
  expect_failure({"bench", "batch", "--model", model(), "-b", "0"}, {"wrong value for -b"});
  const ProgramResult table =
      run_sepllm({"bench", "batch", "--model", model(), "--read-mib", "1", "-r", "1", "-b", "2", "-n", "2"});
  EXPECT_EQ(table.exit_code, 0) << table.err;
  EXPECT_NE(table.out.find("per seq."), std::string::npos) << table.out;
}

// Each sequence of a batch keeps what it would keep by itself.
TEST_F(BenchSpeed, SequencesOfABatchKeepWhatThePolicySays) {
  const std::vector<std::string> stream = {"-d", "3000000", "--policy", "sep-stream", "--window",
                                           "12", "--seps",  "8",        "--capacity", "40",
                                           "-n", "17",      "--kv",     "q8"};
  const Json one = bench("decode", stream);
  const Json many = run_json(std::vector<std::string>{"bench", "batch", "--model", model(), "-b", "4", "-r",
                                                      "1", "--read-mib", "1"} +
                             stream);
  EXPECT_EQ(many[0]["mean_keys"], one[0]["mean_keys"]);
  EXPECT_EQ(many[0]["kv_bytes"].get<int64_t>(), 4 * one[0]["kv_bytes"].get<int64_t>());
}

TEST_F(BenchSpeed, SeparatorsHaveTheShareAskedFor) {
  const auto mean_keys = [](const char* share) {
    const Json rows = bench("decode", {"-d", "20000", "--policy", "sep", "--window", "8", "-n", "1",
                                       "--positions", "original", "--separator-share", share});
    return number(rows.at(0), "mean_keys");
  };
  EXPECT_EQ(mean_keys("0"), 4 + 8);
  EXPECT_EQ(mean_keys("1"), 20001);
  EXPECT_NEAR(mean_keys("0.165"), 4 + 8 + 0.165 * 20000, 5 * std::sqrt(0.165 * 0.835 * 20000));
}

TEST_F(BenchSpeed, PrefillReadsPromptsOfEachLengthAtEachDepth) {
  const Json rows = bench("prefill", {"-p", "7,40", "-d", "0,100", "--weights", "q8_0", "--policy", "sink",
                                      "--window", "10", "--prefill-chunk", "16"});
  ASSERT_EQ(rows.size(), 4U);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(rows[i]["n_prompt"], i % 2 == 0 ? 7 : 40);
    EXPECT_EQ(rows[i]["n_depth"], i < 2 ? 0 : 100);
    EXPECT_EQ(rows[i]["n_gen"], 0);
    EXPECT_EQ(rows[i]["n_batch"], 16);
    EXPECT_EQ(rows[i]["weights"], "q8_0");
    EXPECT_FALSE(rows[i].contains("bandwidth_share"));
    expect_samples_fit(rows[i], i % 2 == 0 ? 7 : 40);
  }
  EXPECT_DOUBLE_EQ(number(rows[0], "mean_keys"), 4.0);   // 1, 2, ... 7
  EXPECT_DOUBLE_EQ(number(rows[2], "mean_keys"), 14.0);  // the initial tokens and the window
}

TEST_F(BenchSpeed, TheTableIsForReading) {
  const ProgramResult result = run_sepllm(
      std::vector<std::string>{"bench", "decode", "--model", model(), "-d", "0,5", "-n", "2"} + kDecode);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  for (const char* part : {"model f32", "KV f32", "2 threads", "tokens/s", "mean keys", "of bandwidth"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 4);
}

TEST_F(BenchSpeed, WrongFlagsAreOneLine) {
  for (const char* list : {"-1", "4,", ",", "x", "", "1073741825", "99999999999999999999"}) {
    expect_failure({"bench", "decode", "--model", model(), "-d", list}, {"wrong value for -d"});
  }
  expect_failure({"bench", "prefill", "--model", model(), "-p", "0"}, {"wrong value for -p"});
  expect_failure({"bench", "decode", "--model", model(), "-n", "0"}, {"wrong value for"});
  expect_failure({"bench", "decode", "--model", model(), "-r", "0"}, {"wrong value for"});
  expect_failure({"bench", "decode", "--model", model(), "-p", "5"}, {"unknown option -p"});
  expect_failure({"bench", "decode", "--model", model(), "--separator-share", "1.5"}, {"separator-share"});
  expect_failure({"bench", "decode"}, {"no model given"});
  expect_failure({"bench", "decode", "--shape", "gpt-5"}, {"--shape", "tinyllama-1.1b"});
  expect_failure({"bench", "prefill", "--model", file("absent")}, {"absent"});
  expect_failure({"bench", "decode", "--model", model(), "--window", "3"}, {"--window does not apply"});
  // 768 bytes a token and a thousand million tokens, twice.
  expect_failure({"bench", "decode", "--model", model(), "-d", "1073741824,1073741824"},
                 {"out of memory for the caches", "at most"});
  expect_failure({"bench", "memory", "--threads", "0"}, {"threads"});
  expect_failure({"bench", "memory", "--read-mib", "0"}, {"read-mib"});
}

TEST(BenchMemory, HasARowForEachNumberOfThreads) {
  const Json rows = run_json({"bench", "memory", "--threads", "3", "--read-mib", "2", "-r", "3"});
  ASSERT_EQ(rows.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(rows[i]["n_threads"], i + 1);
    EXPECT_EQ(rows[i]["bytes"], 2 << 20);
    ASSERT_EQ(rows[i]["samples"].size(), 3U);
    EXPECT_GE(number(rows[i], "read_bandwidth"), number(rows[i], "median"));
    EXPECT_GT(number(rows[i], "median"), 0);
  }
  const ProgramResult table = run_sepllm({"bench", "memory", "--threads", "2", "--read-mib", "1", "-r", "1"});
  EXPECT_EQ(std::count(table.out.begin(), table.out.end(), '\n'), 4);
}

TEST(BenchScripts, Compile) {
  if (std::system("python3 -c 'import ast' > /dev/null 2>&1") != 0) GTEST_SKIP() << "no python3";
  for (const char* script :
       {"apps/bench/data/make_separators.py", "oracles/peers/attention.py", "oracles/peers/llama_cpp.py"}) {
    const std::string path = std::string(SEPLLM_SOURCE_DIR) + "/" + script;
    const std::string command = "python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' " + path;
    EXPECT_EQ(std::system(command.c_str()), 0) << script;
  }
}

}  // namespace
}  // namespace sepllm::test
