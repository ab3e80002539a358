// `sepllm generate` and `chat`.
#include <algorithm>
#include <numeric>
#include <sstream>

#include "base/file.h"
#include "base/utf8.h"
#include "tests/support/cli.h"

namespace sepllm::test {
namespace {

class CliGenerate : public RandomModelTest {};

TEST_F(CliGenerate, FieldsAreThoseOfTheDesign) {
  const Json result = run_json(with_model("generate", {"--prompt", "Hello", "-n", "12", "--ignore-eos"}));
  for (const char* key : {"prompt_tokens", "prefill_tokens_per_second", "decode_tokens_per_second"}) {
    EXPECT_TRUE(result[key].is_number()) << key;
  }
  EXPECT_TRUE(result["text"].is_string());
  EXPECT_EQ(result["ids"].size(), 12U);
  EXPECT_EQ(result["policy"]["policy"], "full");
  for (const char* key :
       {"mean_keys", "peak_keys", "mean_share", "peak_bytes", "full_bytes", "reserved_bytes"}) {
    EXPECT_TRUE(result["kv"][key].is_number()) << key;
  }
}

TEST_F(CliGenerate, StreamedTextIsTheTextOfTheJson) {
  const std::vector<std::string> flags = {"--prompt", "One, two", "-n",     "60", "--ignore-eos",
                                          "--temp",   "1",        "--seed", "3"};
  const ProgramResult streamed = run_sepllm(with_model("generate", flags));
  ASSERT_EQ(streamed.exit_code, 0) << streamed.err;
  EXPECT_EQ(streamed.out, run_json(with_model("generate", flags))["text"].get<std::string>());
  EXPECT_FALSE(utf8_find_invalid(streamed.out));
  // The line of figures.
  EXPECT_EQ(std::count(streamed.err.begin(), streamed.err.end(), '\n'), 1) << streamed.err;
  for (const char* part : {"tokens/s", "keys: mean", "peak", "KV:", "% of full"}) {
    EXPECT_NE(streamed.err.find(part), std::string::npos) << streamed.err;
  }
}

TEST_F(CliGenerate, AQuantizedFolderTellsTheSame) {
  for (const std::string type : {"q8_0", "q4_0"}) {
    const std::string out = file(type);
    const Json report = run_json(with_model("quantize", {"--type", type, "--out", out, "--threads", "2"}));
    EXPECT_EQ(report["type"], type);
    EXPECT_LT(report["bytes_after"], report["bytes_before"]);
    EXPECT_GT(report["converted"], 0);
    const std::vector<std::string> flags = {"--prompt", "One, two", "-n", "30", "--ignore-eos"};
    EXPECT_EQ(run_json(std::vector<std::string>{"generate", "--model", out} + flags)["ids"],
              run_json(with_model("generate", flags + std::vector<std::string>{"--weights", type}))["ids"]);
    expect_failure({"quantize", "--model", out, "--type", type, "--out", file("again")},
                   {"quantised already", type});
  }
}

TEST_F(CliGenerate, TheSeedDecides) {
  const auto ids = [&](const std::string& seed) {
    return run_json(with_model(
        "generate", {"--prompt", "a", "-n", "40", "--temp", "1", "--ignore-eos", "--seed", seed}))["ids"];
  };
  EXPECT_EQ(ids("1"), ids("1"));
  EXPECT_NE(ids("1"), ids("2"));
}

TEST_F(CliGenerate, AnEmptyPromptStartsFromBos) {
  const Json empty = run_json(with_model("generate", {"--prompt", "", "-n", "5", "--ignore-eos"}));
  const Json by_ids = run_json(
      with_model("generate", {"--prompt-ids", std::to_string(kByteTokenizerBos), "-n", "5", "--ignore-eos"}));
  EXPECT_EQ(empty["ids"], by_ids["ids"]);
  EXPECT_EQ(empty["prompt_tokens"].get<int64_t>(), 1);
}

TEST_F(CliGenerate, NoNewTokens) {
  const Json result = run_json(with_model("generate", {"--prompt", "a", "-n", "0"}));
  EXPECT_EQ(result["text"], "");
  EXPECT_TRUE(result["ids"].empty());
}

TEST_F(CliGenerate, StopStringsEndTheTextBeforeThem) {
  const std::vector<std::string> flags = {"--prompt", "a",      "-n", "80",          "--temp",
                                          "1",        "--seed", "5",  "--ignore-eos"};
  const std::string text = run_json(with_model("generate", flags))["text"].get<std::string>();
  // A character of one byte from the middle, where it first comes.
  size_t at = text.size() / 2;
  while (at < text.size() && static_cast<unsigned char>(text[at]) >= 0x80) ++at;
  ASSERT_LT(at, text.size());
  const std::string stop(1, text[at]);
  const Json stopped = run_json(
      with_model("generate", flags + std::vector<std::string>{"--stop", "[no, such]", "--stop", stop}));
  EXPECT_EQ(stopped["text"].get<std::string>(), text.substr(0, text.find(stop)));
  EXPECT_EQ(stopped["finish_reason"], "stop");
}

// As in transformers: generation_config.json before config.json, and both before the tokenizer's EOS.
TEST_F(CliGenerate, TheFirstFileThatStatesEndTokensDecides) {
  const std::string folder = file("ends");
  write_random_model(folder, {});
  const std::vector<std::string> flags = {"generate", "--model", folder, "--prompt", "a", "-n",
                                          "40",       "--temp",  "1",    "--seed",   "7"};
  const auto all =
      run_json(flags + std::vector<std::string>{"--ignore-eos"})["ids"].get<std::vector<int32_t>>();
  const auto up_to = [&](int32_t id) {
    return std::vector<int32_t>(all.begin(), std::find(all.begin(), all.end(), id));
  };
  const auto ids = [&] { return run_json(flags)["ids"].get<std::vector<int32_t>>(); };
  const Json config = parse_json(read_file(folder + "/config.json"), "config.json");
  const auto write_config = [&](const Json& eos) {
    Json changed = config;
    changed["eos_token_id"] = eos;
    write("ends/config.json", changed.dump());
  };
  ASSERT_NE(all[3], all[9]);
  write("ends/tokenizer_config.json", Json({{"eos_token", ""}}).dump());
  write_config(all[3]);
  EXPECT_EQ(ids(), up_to(all[3]));
  write("ends/generation_config.json", Json({{"eos_token_id", all[9]}}).dump());
  EXPECT_EQ(ids(), up_to(all[9]));
  write("ends/generation_config.json", "{}");
  EXPECT_EQ(ids(), up_to(all[3]));
  write_config(nullptr);
  EXPECT_EQ(ids(), all);
  // From the tokenizer: a token of its vocabulary by its text.
  const Json tokenizer = parse_json(read_file(folder + "/tokenizer.json"), "tokenizer.json");
  for (const auto& item : tokenizer["model"]["vocab"].items()) {
    if (item.value() == all[3]) write("ends/tokenizer_config.json", Json({{"eos_token", item.key()}}).dump());
  }
  EXPECT_EQ(ids(), up_to(all[3]));
  write_config(all[9]);
  EXPECT_EQ(ids(), up_to(all[9]));
}

TEST_F(CliGenerate, AllPoliciesAgreeWhileTheWindowReachesBack) {
  const auto ids = [&](const std::string& policy) {
    return run_json(with_model(
        "generate", {"--prompt", "Hello, world", "-n", "40", "--ignore-eos", "--policy", policy}))["ids"];
  };
  const Json full = ids("full");
  for (const char* policy : {"sep", "sep-stream", "sink", "sink-stream", "fixed"})
    EXPECT_EQ(ids(policy), full) << policy;
}

TEST_F(CliGenerate, WithoutATokenizerIdsAreTheResult) {
  const std::string folder = file("bare");
  write_random_model(folder, {});
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    std::remove((folder + "/" + name).c_str());
  const ProgramResult plain =
      run_sepllm({"generate", "--model", folder, "--prompt-ids", "1,2,3", "-n", "4", "--ignore-eos"});
  ASSERT_EQ(plain.exit_code, 0) << plain.err;
  std::istringstream ids(plain.out);
  int32_t id = 0;
  int count = 0;
  while (ids >> id) ++count;
  EXPECT_EQ(count, 4);
}

TEST_F(CliGenerate, AClosedOutputEndsQuietly) {
  const std::string command = std::string(SEPLLM_BINARY) + " generate --model " + model() +
                              " --prompt a -n 20000 --ignore-eos --policy sink --window 16 2> " +
                              file("err") + " | head -c 10 > " + file("out") + "; echo ${PIPESTATUS[0]} > " +
                              file("code");
  ASSERT_EQ(std::system(("bash -c '" + command + "'").c_str()), 0);
  EXPECT_EQ(read_file(file("code")), "0\n");
  EXPECT_EQ(read_file(file("err")).find("error"), std::string::npos);
  EXPECT_EQ(read_file(file("out")).size(), 10U);
}

TEST_F(CliGenerate, Stories260kGreedyTextIsTheExpected) {
  SEPLLM_DATA_OR_SKIP(data);
  const ProgramResult result =
      run_sepllm({"generate", "--model", data + "/derived/stories260k-hf", "--tokenizer",
                  data + "/weights/stories260k/tok512.bin", "--prompt", "", "-n", "256"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, read_file(data + "/expected/stories260k_greedy_256.txt"));
}

class CliChat : public RandomModelTest {
 protected:
  // `more` overrides the usual options, and its later options override its earlier ones.
  static ProgramResult chat(const std::string& input, const std::vector<std::string>& more = {}) {
    std::vector<std::string> flags = {"--temp", "0", "-n", "8", "--chat-format", "plain"};
    for (size_t k = 0; k < more.size(); k += 2) {
      const auto at = std::find(flags.begin(), flags.end(), more[k]);
      if (at != flags.end()) flags.erase(at, at + 2);
      flags.insert(flags.end(), {more[k], more[k + 1]});
    }
    return run_sepllm(with_model("chat", flags), input);
  }
};

TEST_F(CliChat, AnswersEachLineAndEndsWithTheInput) {
  const ProgramResult result = chat("Hello\nHow are you?\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_GE(std::count(result.out.begin(), result.out.end(), '\n'), 2);
}

TEST_F(CliChat, TheSecondTurnRemembersTheFirst) {
  // The statistics show how many tokens the cache has seen: the second turn adds to the first.
  const ProgramResult one = chat("Hello\n/stats\n"), two = chat("Hello\nHow are you?\n/stats\n");
  const auto tokens = [](const std::string& err) {
    return std::stoll(err.substr(err.find_first_of("0123456789")));
  };
  ASSERT_NE(one.err.find("tokens so far"), std::string::npos) << one.err;
  EXPECT_GT(tokens(two.err), tokens(one.err) + 12);
}

TEST_F(CliChat, CommandsAreNotSaid) {
  const ProgramResult result = chat("/help\n/nonsense\n/exit\nnever read\n");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("/stats"), std::string::npos);
  EXPECT_NE(result.err.find("unknown command /nonsense"), std::string::npos);
}

TEST_F(CliChat, SpecialStringsOfTheUserArePlainText) {
  // As a special token the string would be one token; as text it is one token per byte.
  const ProgramResult plain = chat("<|end|>\n/stats\n", {"-n", "1"});
  const ProgramResult other = chat("(|end|)\n/stats\n", {"-n", "1"});
  const auto first_line = [](const std::string& s) { return s.substr(0, s.find(" tokens so far")); };
  EXPECT_EQ(first_line(plain.err), first_line(other.err));
}

TEST_F(CliChat, StreamsForEverUnderAStreamingPolicy) {
  std::string input;
  for (int i = 0; i < 30; ++i) input += "This is line " + std::to_string(i) + ", is it not?\n";
  const ProgramResult result = chat(
      input + "/stats\n", {"--policy", "sep-stream", "--seps", "16", "--window", "24", "--capacity", "64"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("peak 65"), std::string::npos) << result.err;
}

// A model with a generation_config.json of this content.
class CliChatSettings : public CliChat {
 protected:
  using Strings = std::vector<std::string>;
  static void SetUpTestSuite() {
    CliChat::SetUpTestSuite();
    write_random_model(file("own"), {});
  }
  static void state(const std::string& content) { write("own/generation_config.json", content); }
  static std::string said(const Strings& more, const std::string& command = "chat") {
    Strings flags = {command, "--model", file("own")};
    flags = flags + (command == "chat" ? Strings{"-n", "30", "--chat-format", "plain"}
                                       : Strings{"-n", "30", "--prompt", "Hello"});
    const ProgramResult result = run_sepllm(flags + more, "Hello\nWhy?\n");
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  }
};

TEST_F(CliChatSettings, TheModelsSettingsAreTheDefaultsAndOptionsWin) {
  state("{}");
  const Strings defaults = {"--temp", "0.8", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.05"};
  const std::string own = said({}), greedy = said({"--temp", "0"});
  EXPECT_EQ(own, said(defaults));
  EXPECT_NE(own, greedy);
  state(R"({"do_sample": true, "temperature": 2.0, "top_k": 0, "repetition_penalty": 1.5})");
  const Strings stated = {"--temp",  "2", "--top-k",          "0",   "--top-p",         "1",
                          "--min-p", "0", "--repeat-penalty", "1.5", "--repeat-last-n", "-1"};
  EXPECT_EQ(said({}), said(stated));
  EXPECT_NE(said({}), own);
  EXPECT_EQ(said(defaults + Strings{"--repeat-penalty", "1"}), own);
  EXPECT_EQ(said({"--temp", "0", "--repeat-penalty", "1"}), greedy);
  state(R"({"do_sample": false})");
  EXPECT_EQ(said({}), greedy);
  // generate stays greedy.
  const std::string text = said({}, "generate");
  state(R"({"do_sample": true, "temperature": 2.0, "repetition_penalty": 1.5})");
  EXPECT_EQ(said({}, "generate"), text);
}

TEST_F(CliChatSettings, WrongValuesAreErrorsThatNameFileAndKey) {
  for (const char* content : {R"({"top_p": 1.5})", R"({"top_p": "x"})"}) {
    state(content);
    expect_failure({"chat", "--model", file("own"), "--chat-format", "plain"},
                   {"own/generation_config.json", "top_p"}, "Hello\n");
    expect_failure({"inspect", file("own")}, {"own/generation_config.json", "top_p"});
  }
}

TEST_F(CliChatSettings, EndTokensOfTheFileEndATurn) {
  state("{}");
  const Strings greedy = {"--temp", "0", "-n", "6"};
  const auto tokens = [&] {
    const ProgramResult result =
        run_sepllm(Strings{"chat", "--model", file("own"), "--chat-format", "plain"} + greedy, "Hello\n");
    const size_t at = result.err.find(" tokens in at ");
    EXPECT_NE(at, std::string::npos) << result.err;
    const size_t comma = result.err.find(", ", at);
    return std::stoll(result.err.substr(comma + 2));
  };
  EXPECT_EQ(tokens(), 6);
  // Several: whatever comes first is one of them.
  std::vector<int32_t> every(kByteTokenizerVocab);
  std::iota(every.begin(), every.end(), 0);
  state(Json({{"eos_token_id", every}}).dump());
  EXPECT_EQ(tokens(), 0);
}

TEST_F(CliChatSettings, InspectShowsThem) {
  state(
      R"({"do_sample": true, "temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1, "eos_token_id": [3, 5]})");
  const Json all = run_json({"inspect", file("own")});
  const Json& sampling = all["chat_sampling"];
  EXPECT_EQ(sampling["from"], file("own") + "/generation_config.json");
  EXPECT_EQ(sampling["temp"], 0.6);
  EXPECT_EQ(sampling["top-k"], 20);
  EXPECT_EQ(sampling["repeat-last-n"], -1);
  EXPECT_EQ(all["end_tokens"], Json::parse("[3, 5]"));
  const std::string table = run_sepllm({"inspect", file("own")}).out;
  for (const char* part : {"temperature 0.6, top-k 20, repeat penalty 1.1 over the whole context", "3, 5"}) {
    EXPECT_NE(table.find(part), std::string::npos) << table;
  }
  state("{}");
  EXPECT_EQ(run_json({"inspect", file("own")})["chat_sampling"]["from"], nullptr);
  EXPECT_NE(run_sepllm({"inspect", file("own")}).out.find("the model states none"), std::string::npos);
}

// Turns that are taken back, answered again and saved: under policies that drop nothing and policies that
// evict.
class CliChatGoesBack : public CliChat {
 protected:
  using Strings = std::vector<std::string>;
  static std::vector<Strings> policies() {
    return {{"--policy", "full"},
            {"--policy", "sep", "--window", "16"},
            {"--policy", "sep-stream", "--seps", "8", "--window", "16", "--capacity", "48"},
            {"--policy", "sink-stream", "--capacity", "24", "--kv", "q8"}};
  }
  static constexpr const char* kFirst =
      "It was a long story, and nobody, not even she, could tell its end. \n";
  static std::string said(const std::string& input, const Strings& more) {
    const ProgramResult result = chat(input, Strings{"--temp", "0.9", "-n", "20"} + more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err.find("error"), std::string::npos) << result.err;
    return result.out;
  }
};

TEST_F(CliChatGoesBack, AnAnswerComesAgainWithItsSeed) {
  for (const Strings& policy : policies()) {
    SCOPED_TRACE(policy[1]);
    const std::string first = said(kFirst, policy), both = said(kFirst + std::string("Why?\n"), policy);
    ASSERT_EQ(both.substr(0, first.size()), first);
    const std::string answer = both.substr(first.size());
    EXPECT_EQ(said(kFirst + std::string("Why?\n/retry 0\n/retry 0\n"), policy), both + answer + answer);
    // With another seed there is another answer, and the conversation continues after the last one.
    const std::string other = said(kFirst + std::string("Why?\n/retry\n"), policy).substr(both.size());
    EXPECT_NE(other, answer);
    const std::string all = said(kFirst + std::string("Why?\n/retry\n/retry 0\nSo?\n"), policy);
    const std::string last = said(kFirst + std::string("Why?\nSo?\n"), policy).substr(both.size());
    EXPECT_EQ(all, both + other + answer + last);
  }
}

TEST_F(CliChatGoesBack, WhatWasTakenBackHasNeverBeen) {
  for (const Strings& policy : policies()) {
    SCOPED_TRACE(policy[1]);
    const std::string first = said(kFirst, policy);
    const std::string without = said(kFirst + std::string("So?\n"), policy).substr(first.size());
    const std::string with = said(kFirst + std::string("Why, and who?\n"), policy);
    EXPECT_EQ(said(kFirst + std::string("Why, and who?\n/undo\nSo?\n"), policy), with + without);
    // Undoes everything and starts again.
    EXPECT_EQ(said(kFirst + std::string("Why, and who?\n/undo\n/undo\n") + kFirst, policy), with + first);
  }
}

TEST_F(CliChatGoesBack, ASavedConversationGoesOnInAnotherProcess) {
  for (const Strings& policy : policies()) {
    SCOPED_TRACE(policy[1]);
    const std::string state = file("chat.state");
    const std::string before = said(kFirst + std::string("Why?\n/save ") + state + "\n", policy);
    const std::string after = said(kFirst + std::string("Why?\nSo?\n"), policy).substr(before.size());
    EXPECT_EQ(said("/load " + state + "\nSo?\n", policy), after);
    EXPECT_EQ(said("Something else.\n/load " + state + "\nSo?\n/retry 0\n", policy),
              said("Something else.\n", policy) + after + after);
    // Its text is there too. (Tokens that are fed again come in other chunks: this may change the last bits,
    // but not the most likely token.)
    const std::string& kv = policy.back();
    if (kv == "q8") continue;
    const Strings greedy = policy + Strings{"--temp", "0"};
    const std::string first = said(kFirst, greedy);
    const std::string instead = said(kFirst + std::string("So?\n"), greedy).substr(first.size());
    said(kFirst + std::string("Why?\n/save ") + state + "\n", greedy);
    EXPECT_EQ(said("/load " + state + "\n/undo\nSo?\n", greedy), instead);
  }
}

TEST_F(CliChatGoesBack, ThePartOfAStopStringIsNotInTheCache) {
  const auto tokens = [](const std::string& err) {
    const size_t end = err.find(" tokens so far");
    return std::stoll(err.substr(err.rfind('\n', end) + 1));
  };
  for (const Strings& policy : policies()) {
    SCOPED_TRACE(policy[1]);
    // Two ASCII bytes that occur for the first time, and not at the beginning.
    Strings usual;
    std::string all;
    size_t at = 0;
    const auto fits = [&] {
      const bool ascii = all[at] > 32 && all[at] < 127 && all[at + 1] > 32 && all[at + 1] < 127;
      return ascii && all.find(all.substr(at, 2)) == at;
    };
    for (int seed = 0; at + 2 >= all.size(); ++seed) {
      ASSERT_LT(seed, 20);
      usual = policy + Strings{"--temp", "0.9", "-n", "100", "--seed", std::to_string(seed)};
      all = chat(kFirst, usual).out;
      for (at = 12; at + 2 < all.size() && !fits();) ++at;
    }
    const std::string script = kFirst + std::string("/stats\nSo?\n");
    const ProgramResult stopped = chat(script, usual + Strings{"--stop", all.substr(at, 2)});
    EXPECT_EQ(stopped.out.substr(0, at + 1), all.substr(0, at) + "\n");
    // An answer of as many tokens, of which the last one has not been fed yet.
    bool found = false;
    for (size_t n = at / 3; n <= at && !found; ++n) {
      const ProgramResult cut =
          chat(kFirst + std::string("/stats\n"), usual + Strings{"-n", std::to_string(n)});
      found = cut.out == all.substr(0, at) + "\n";
      if (found) {
        EXPECT_EQ(tokens(stopped.err), tokens(cut.err) + 1);
      }
    }
    EXPECT_TRUE(found);
  }
}

TEST_F(CliChatGoesBack, WhatCannotBeDoneIsSaidAndChangesNothing) {
  const std::string state = file("refused.state");
  chat(kFirst + ("/save " + state + "\n"));
  const std::string without = chat(kFirst + std::string("So?\n")).out;
  const auto refuse = [&](const std::string& command, const std::string& part, const Strings& more = {}) {
    SCOPED_TRACE(command);
    const ProgramResult result = chat(kFirst + command + "\nSo?\n", more);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    if (more.empty()) {
      EXPECT_EQ(result.out, without);
    }
  };
  refuse("/load " + state, "another --policy", {"--policy", "sink"});
  refuse("/load " + state, "another --chat-format", {"--chat-format", "falcon"});
  refuse("/load " + file("none"), file("none"));
  refuse("/load", "/load needs a file");
  refuse("/save " + file("missing/x"), file("missing/x"));
  refuse("/retry x", "no seed: x");
  std::string bytes = read_file(state);
  refuse("/load " + write("cut.state", bytes.substr(0, bytes.size() / 2)), "truncated");
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  refuse("/load " + write("flipped.state", bytes), "checksum");
  run_json(with_model("score", {"--text", write("t.txt", "some text of a few words"), "--prefill-chunk", "8",
                                "--state", file("score.state")}));
  refuse("/load " + file("score.state"), "another");
  const ProgramResult none = chat("/undo\n/retry\n");
  EXPECT_EQ(none.err, "error: there is no turn yet\nerror: there is no turn yet\n");
}

}  // namespace
}  // namespace sepllm::test
