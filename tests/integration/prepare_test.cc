// `sepllm prepare` and `inspect data`, from text to the files that training reads.
#include <filesystem>

#include "base/file.h"
#include "tests/support/cli.h"
#include "tests/support/golden.h"
#include "tests/support/packed.h"
#include "text/tokenizer.h"

namespace sepllm::test {
namespace {

namespace fs = std::filesystem;

class PrepareCommand : public RandomModelTest {
 protected:
  static std::vector<std::string> prepare(const std::string& out, const std::vector<std::string>& more) {
    return std::vector<std::string>{"prepare", "--tokenizer", model(), "--out", file(out)} + more;
  }
  // There is an error, and nothing of the output exists.
  static void fails(const std::vector<std::string>& more, const std::vector<std::string>& parts) {
    expect_failure(prepare("failed", more), parts);
    for (const auto& entry : fs::directory_iterator(fs::path(file("x")).parent_path())) {
      EXPECT_FALSE(entry.path().filename().string().starts_with("failed")) << entry.path();
    }
  }
  static Json inspect(const std::string& out, const std::vector<std::string>& more = {}) {
    return run_json(std::vector<std::string>{"inspect", "data", file(out), "--tokenizer", model()} + more);
  }
};

const char* const kLines = "{\"text\": \"One, two.\"}\n{\"text\": \"\"}\n{\"id\": 1, \"text\": \"Three\"}\n";

TEST_F(PrepareCommand, JsonLinesPackedOrNot) {
  const std::string plain = write("a.jsonl", kLines);
  const Json report = run_json(prepare("a", {plain}));
  EXPECT_EQ(report["documents"], 2);
  EXPECT_EQ(report["empty_documents"], 1);
  EXPECT_EQ(report["text_bytes"], 14);
  EXPECT_EQ(report["tokens"], 14 + 2);  // bytes and the end tokens
  EXPECT_EQ(report["eod_id"], kByteTokenizerEos);
  EXPECT_EQ(report["separators"], 3);  // comma, blank, full stop
  for (const std::string& packed : {write("b.jsonl.gz", gzip(kLines)), write("b.jsonl.zst", zstd(kLines))}) {
    run_json(prepare("b", {packed, "--threads", "3"}));
    EXPECT_EQ(read_file(file("b.bin")), read_file(file("a.bin")));
    EXPECT_EQ(read_file(file("b.idx")), read_file(file("a.idx")));
  }
  const Json facts = inspect("a");
  EXPECT_EQ(facts["documents"], 2);
  EXPECT_EQ(facts["tokens"], 16);
  EXPECT_EQ(facts["token_bytes"], 2);
  EXPECT_EQ(facts["shortest"], 6);
  EXPECT_EQ(facts["longest"], 10);
  EXPECT_EQ(facts["largest_id"], kByteTokenizerEos);
  EXPECT_DOUBLE_EQ(facts["separator_share"], 3.0 / 16);
  EXPECT_EQ(facts["beginnings"][1]["text"].get<std::string>().substr(0, 5), "Three");
}

TEST_F(PrepareCommand, TextFilesWholeOrSplit) {
  const std::string a = write("a.txt", "one\n\ntwo\n\n"), b = write("b.txt", "three");
  EXPECT_EQ(run_json(prepare("t", {a, b}))["documents"], 2);
  const Json report = run_json(prepare("t", {a, b, "--split-on", "\\n\\n"}));
  EXPECT_EQ(report["documents"], 3);
  EXPECT_EQ(report["tokens"], 3 + 3 + 5 + 3);
  EXPECT_EQ(inspect("t")["beginnings"][1]["tokens"], 4);
  // From a pipe, as JSON lines of another key.
  const ProgramResult piped =
      run_sepllm(prepare("p", {"/dev/stdin", "--format", "jsonl", "--json-key", "body", "--json"}),
                 "{\"body\": \"x\"}\n");
  EXPECT_EQ(piped.exit_code, 0) << piped.err;
  EXPECT_EQ(inspect("p")["tokens"], 2);
}

TEST_F(PrepareCommand, EndAndBeginTokens) {
  const std::string a = write("a.txt", "one");
  const auto ids = [&](const std::vector<std::string>& more) {
    run_json(prepare("e", std::vector<std::string>{a} + more));
    return inspect("e")["beginnings"][0]["ids"].get<std::vector<int32_t>>();
  };
  const std::vector<int32_t> text = {'o', 'n', 'e'};
  EXPECT_EQ(ids({"--append-eod", "off"}), text);
  EXPECT_EQ(ids({"--eod", "65"}), (std::vector<int32_t>{'o', 'n', 'e', 65}));
  EXPECT_EQ(ids({"--eod", "B"}), (std::vector<int32_t>{'o', 'n', 'e', 66}));
  EXPECT_EQ(ids({"--bos", "on", "--append-eod", "off"}),
            (std::vector<int32_t>{kByteTokenizerBos, 'o', 'n', 'e'}));
}

TEST_F(PrepareCommand, WhatIsWrongIsSaidAndNothingIsWritten) {
  const std::string good = write("good.jsonl", kLines);
  fails({write("bad.jsonl", std::string(kLines) + "{\"text\": 3}\n")},
        {"bad.jsonl: line 4", "a string", "3"});
  fails({good, "--json-key", "content"}, {"good.jsonl: line 1", "no key \"content\"", "--json-key"});
  fails({write("bad.txt", "a\nb\xff")}, {"bad.txt: line 2, byte 2", "UTF-8"});
  const std::string packed = gzip(kLines);
  fails({write("cut.gz", packed.substr(0, packed.size() - 3))}, {"cut.gz", "cut off"});
  fails({good, file("missing.txt")}, {"missing.txt", "No such file"});
  fails({write("empty.txt", "")}, {"empty.txt", "no text", "nothing was written"});
  fails({}, {"no input given"});
  fails({good, "--eod", "<nope>"}, {"--eod", "<nope>"});
  fails({good, "--eod", "1", "--append-eod", "off"}, {"--append-eod is off"});
  fails({good, "--split-on", "\\x"}, {"--split-on"});
  fails({good, "--vocab-size", "300"}, {"--vocab-size needs --train-tokenizer"});
  expect_failure({"prepare", good, "--out", file("failed")}, {"no tokenizer given"});
  expect_failure({"prepare", good, "--tokenizer", model()}, {"--out PREFIX"});
  expect_failure({"prepare", good, "--tokenizer", model(), "--out", file("failed.bin")},
                 {"--out", "without"});
  expect_failure({"inspect", "data"}, {"no data given"});
  expect_failure({"inspect", "data", file("missing")}, {"missing.idx"});
}

TEST_F(PrepareCommand, FilesOfOtherKindsAreCalledByTheirNames) {
  fails({write("t.jsonl.xz", std::string("\xfd\x37zXZ\0\0\4\xe6\xd6", 10))},
        {"t.jsonl.xz", "packed by xz", "xz -dc", "--format jsonl"});
  fails({write("t.bz2", "BZh91AY&SY\x70\x2d\x25")}, {"t.bz2", "packed by bzip2", "bzip2 -dc"});
  fails({write("t.parquet", "PAR1 in plain letters")}, {"t.parquet", "a Parquet file", "read_parquet"});
  fails({write("t.jsonl", "version https://git-lfs.github.com/spec/v1\n")},
        {"Git LFS pointer", "git lfs pull"});
  fails({"--train-tokenizer", "bpe", "--vocab-size", "300", write("t.pdf", "%PDF-1.7\n")}, {"--tokenizer"});
  expect_failure(
      {"prepare", "--train-tokenizer", "bpe", "--vocab-size", "300", "--out", file("tp"), file("t.pdf")},
      {"a PDF document", "pdftotext"});
  // By its content, whatever capitals or spelling the ending has.
  run_json(prepare("lines", {write("t.jsonl", kLines)}));
  const std::string array = "[{\"text\": \"One, two.\"},\n {\"text\": \"\"},\n {\n\"text\": \"Three\"}\n]\n";
  for (const std::string& same : {write("T.JSONL", kLines), write("t.jsonl.zstd", zstd(kLines)),
                                  write("t.json", array), write("t.JSON.GZ", gzip(array))}) {
    EXPECT_EQ(run_json(prepare("same", {same}))["documents"], 2);
    EXPECT_EQ(read_file(file("same.bin")), read_file(file("lines.bin"))) << same;
  }
  // JSON as text: as requested, but with a warning.
  const ProgramResult text = run_sepllm(prepare("text", {write("t.txt", kLines)}));
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_NE(text.err.find("warning: " + file("t.txt") + ": looks like JSON"), std::string::npos) << text.err;
  EXPECT_EQ(run_sepllm(prepare("text", {file("t.txt"), "--format", "text"})).err, "");
}

TEST_F(PrepareCommand, BadLinesEndTheRunOrAreCounted) {
  const std::string bad = write("crawl.jsonl",
                                "{\"text\": \"a\\ud83d b\"}\n{\"text\": \"good\"}\n{\"text\": null}\n"
                                "{\"text\": \"also\", \"score\": NaN, \"score\": -Infinity}\n");
  fails({bad}, {"crawl.jsonl: line 1: text", "a lone surrogate", "--on-bad-line skip"});
  fails({bad, "--on-bad-line", "maybe"}, {"--on-bad-line", "error|skip|replace"});
  const auto counts = [&](const char* how) {
    const Json report = run_json(prepare(how, {bad, "--on-bad-line", how, "--threads", "2"}));
    return std::vector<Json>{report["documents"], report["skipped_lines"], report["replaced_lines"]};
  };
  EXPECT_EQ(counts("skip"), (std::vector<Json>{2, 2, 0}));
  EXPECT_EQ(counts("replace"), (std::vector<Json>{3, 1, 1}));
  EXPECT_EQ(inspect("replace")["beginnings"][0]["text"].get<std::string>().substr(0, 6), "a\ufffd b");
  const ProgramResult said = run_sepllm(prepare("replace", {bad, "--on-bad-line", "replace"}));
  for (const char* part :
       {"1 line left out, the first: ", "crawl.jsonl: line 3: text", "1 line with U+FFFD",
        "crawl.jsonl: line 1: a lone surrogate", "1 line with JSON that is not valid but that Python reads",
        "crawl.jsonl: line 4: score: NaN"}) {
    EXPECT_NE(said.err.find(part), std::string::npos) << part << ": " << said.err;
  }
  fails({write("none.jsonl", "{}\n[]\n"), "--on-bad-line", "skip"},
        {"nothing was written", "2 bad lines", "none.jsonl: line 1: no key"});
  const Json tokenizer = run_json({"prepare", "--train-tokenizer", "bpe", "--vocab-size", "300", "--out",
                                   file("bt"), bad, "--on-bad-line", "skip"});
  EXPECT_EQ(tokenizer["skipped_lines"], 2);
  EXPECT_EQ(tokenizer["text_bytes"], 8);
}

// Whatever system call fails, and however: what was there before is intact, and nothing is left next to it.
TEST_F(PrepareCommand, AFailingDiskLeavesWhatWasThere) {
  const std::string text = write("a.txt", "one"), other = write("b.txt", "another");
  fs::create_directory(file("disk"));
  const auto run = [&](const std::string& fault, const std::string& input) {
    const std::string command = std::string("ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD=") +
                                SEPLLM_FAULTY_CALLS + " SEPLLM_FAULT=" + fault + " " + SEPLLM_BINARY +
                                " prepare --tokenizer " + model() + " --out " + file("disk/d") + " " + input +
                                " > " + file("out") + " 2> " + file("err");
    return std::system(("bash -c '" + command + "' 2> " + file("shell")).c_str());
  };
  ASSERT_EQ(run("none:0:0", text), 0) << read_file(file("err"));
  const std::string bin = read_file(file("disk/d.bin")), idx = read_file(file("disk/d.idx"));
  // The files are written, and the tokens and their index are synced, before any of them gets its name.
  for (const char* fault : {"create:1:30", "create:2:30", "create:3:30", "write:1:28", "write:2:28",
                            "write:3:28", "fsync:1:5", "fsync:2:5", "rename:1:5"}) {
    EXPECT_NE(run(fault, other), 0) << fault;
    EXPECT_EQ(read_file(file("err")).rfind("sepllm: error: ", 0), 0u) << read_file(file("err"));
    EXPECT_EQ(read_file(file("disk/d.bin")), bin) << fault;
    EXPECT_EQ(read_file(file("disk/d.idx")), idx) << fault;
    EXPECT_EQ(std::distance(fs::directory_iterator(file("disk")), {}), 3) << fault;
  }
  EXPECT_EQ(run("write:1:short", other), 0) << read_file(file("err"));
  const std::string new_bin = read_file(file("disk/d.bin"));
  EXPECT_NE(new_bin, bin);
  // Killed: what can then be opened is all old or all new, and the next run repairs it.
  int kills = 0, opened = 0;
  for (const std::string call : {"create", "write", "fsync", "rename"}) {
    for (int n = 1;; ++n) {
      SCOPED_TRACE(call + std::to_string(n));
      ASSERT_EQ(run("none:0:0", text), 0);
      if (run(call + ":" + std::to_string(n) + ":kill", other) == 0) break;
      ++kills;
      const ProgramResult shown = run_sepllm({"inspect", "data", file("disk/d")});
      if (shown.exit_code == 0) {
        ++opened;
        EXPECT_EQ(read_file(file("disk/d.bin")) == bin, read_file(file("disk/d.idx")) == idx);
      }
      ASSERT_EQ(run("none:0:0", other), 0);
      EXPECT_EQ(read_file(file("disk/d.bin")), new_bin);
    }
  }
  EXPECT_GE(kills, 12);
  EXPECT_EQ(opened, kills - 2);  // new tokens with the old index are refused
}

TEST_F(PrepareCommand, NotesTheTokenizerAndTrainingHoldsToIt) {
  const std::string text = write("long.txt", read_file(std::string(SEPLLM_SOURCE_DIR) + "/docs/CLI.md"));
  run_json(prepare("mine", {text}));
  const auto train = [&](const std::string& data) {
    const std::string settings = write(
        "t.yaml",
        "n_layers: 1\nn_heads: 2\nhidden_size: 16\nseq_length: 16\nglobal_batch_size: 1\ntrain_steps: 1\n"
        "lr: 1e-3\ndata: " +
            file(data) + "\nsave: " + file(data + "-run") + "\ntokenizer: " + model() + "\n");
    return std::vector<std::string>{"train", "--config", settings};
  };
  EXPECT_EQ(run_sepllm(train("mine")).exit_code, 0);
  // Prepared with another tokenizer: its ids would fit.
  const ProgramResult bpe =
      run_sepllm({"prepare", "--train-tokenizer", "bpe", "--vocab-size", "258", "--out", file("bpe"), text});
  ASSERT_EQ(bpe.exit_code, 0) << bpe.err;
  run_json({"prepare", "--tokenizer", file("bpe"), "--out", file("other"), text});
  expect_failure(train("other"), {"other", "another tokenizer", "258"});
  EXPECT_FALSE(file_exists(file("other-run")));
  // Without a note: trained without a warning.
  fs::remove(file("other.meta.json"));
  EXPECT_EQ(run_sepllm(train("other")).exit_code, 0);
  write("mine.meta.json", "{\"documents\": 1");
  fs::remove_all(file("mine-run"));
  expect_failure(train("mine"), {"mine.meta.json"});
}

TEST_F(PrepareCommand, TrainsATokenizerThatPreparesText) {
  const std::string text = write("long.txt", read_file(std::string(SEPLLM_SOURCE_DIR) + "/docs/CLI.md"));
  const std::vector<std::string> train = {"prepare", "--train-tokenizer", "bpe", "--vocab-size", "600"};
  const Json report = run_json(train + std::vector<std::string>{"--out", file("tok"), text});
  EXPECT_EQ(report["vocab_size"], 600);
  EXPECT_EQ(report["merges"], 600 - 257);
  const auto tokenizer = load_tokenizer(file("tok"));
  EXPECT_EQ(tokenizer->vocab_size(), 600);
  EXPECT_EQ(tokenizer->eos_id(), 0);
  EXPECT_EQ(tokenizer->find("<|endoftext|>"), 0);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("no such w\u00f6rd")), "no such w\u00f6rd");
  const Json data = run_json({"prepare", "--tokenizer", file("tok"), "--out", file("d"), text});
  EXPECT_EQ(data["eod_id"], 0);
  EXPECT_LT(data["tokens"].get<int64_t>(), data["text_bytes"].get<int64_t>() / 2);
  // The same on other threads, and a folder that is there stays.
  run_json(train + std::vector<std::string>{"--out", file("tok3"), text, "--threads", "3"});
  EXPECT_EQ(read_file(file("tok3") + "/tokenizer.json"), read_file(file("tok") + "/tokenizer.json"));
  expect_failure(train + std::vector<std::string>{"--out", file("tok"), text}, {"already exists"});
  expect_failure(train + std::vector<std::string>{"--out", file("tok4"), file("missing")}, {"missing"});
  EXPECT_FALSE(file_exists(file("tok4")));
  expect_failure(train + std::vector<std::string>{"--out", file("tok4"), text, "--eod", "1"}, {"--eod"});
  expect_failure({"prepare", "--train-tokenizer", "bpe", "--out", file("tok4"), text}, {"--vocab-size"});
  const auto special = std::vector<std::string>{"--out", file("tok5"), text, "--special-token", "<pad>"};
  run_json(train + special + std::vector<std::string>{"--special-token", "<end>"});
  EXPECT_EQ(load_tokenizer(file("tok5"))->find("<end>"), 1);
}

}  // namespace
}  // namespace sepllm::test
