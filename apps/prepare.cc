// sepllm prepare: turns text into the token files that training reads.
#include "train/prepare.h"

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/line_notes.h"
#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/output.h"
#include "apps/train_tokenizer.h"
#include "base/error.h"
#include "base/file.h"
#include "base/output_place.h"
#include "base/utf8.h"
#include "text/separators.h"
#include "train/data_facts.h"

namespace sepllm {
namespace {

void require(bool given, const char* message, const char* expected) {
  if (!given) throw Error(ErrorCode::kInvalidArgument, message, {.expected = expected});
}

// "\n", "\r", "\t" and "\\" have the same meaning as in C, because it is not easy to write a line break in a
// shell.
std::string unescaped(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    const char next = i + 1 < text.size() ? text[++i] : '\0';
    const size_t which = std::string_view("nrt\\").find(next);
    if (which == std::string_view::npos)
      refuse_value("split-on", R"(\n, \r, \t or \\ after a backslash)", text);
    out += "\n\r\t\\"[which];
  }
  return out;
}

class PrepareCommand : public Command {
 public:
  PrepareCommand() {
    input_options_
        .add_strings("input", &input_,
                     "text or JSON lines, plain or compressed with gzip or zstd; may be a pipe")
        .takes_list = true;
    input_options_.add_choice("format", &format_, {"auto", "text", "jsonl"},
                              "auto: jsonl if the name (without .gz, .zst) ends in .jsonl, .ndjson or .json; "
                              "jsonl also reads a JSON array");
    input_options_.add_choice(
        "on-bad-line", &on_bad_line_, {"error", "skip", "replace"},
        "for a line without valid text: error ends the run; skip leaves it out; replace puts U+FFFD in place "
        "of invalid characters, and leaves out lines that this cannot repair");
    input_options_.add_string("json-key", &documents_.json_key, "key of the text in each line", "KEY");
    input_options_
        .add_string("split-on", &split_on_,
                    R"(text: documents end at this string (\n, \t are understood; '\n\n' means blank )"
                    "lines)")
        .default_note = "one document per file";
    own_.add_string("tokenizer", &tokenizer_, "folder or file of the tokenizer", "PATH");
    own_.add_string("out", &out_, "write PREFIX.bin and PREFIX.idx (or the tokenizer's folder)", "PREFIX");
    own_.add_choice("append-eod", &append_eod_, {"auto", "on", "off"},
                    "put the end token after each document; auto: if the tokenizer has one");
    own_.add_string("eod", &eod_, "the end token", "TOKEN|ID").default_note = "the tokenizer's";
    own_.add_choice("bos", &bos_, {"auto", "on", "off"},
                    "put the BOS token before each document; auto: if the tokenizer's files say so");
    own_.add_flag("no-special", &no_special_, "treat names of special tokens in the text as ordinary text");
    own_.add_string("separators", &separators_, "which tokens the summary counts as separators", "RULE");
    training_.add_choice("train-tokenizer", &train_tokenizer_, {"bpe"},
                         "train a byte-level BPE on the input; --out is then the folder for tokenizer.json");
    training_
        .add_int("vocab-size", &bpe_.vocab_size, 1, INT32_MAX,
                 "number of its tokens, including the 256 bytes and the special tokens")
        .default_value = {};
    training_.add_int("min-frequency", &bpe_.min_frequency, 1, INT64_MAX,
                      "merge only pairs that occur at least this often");
    training_.add_strings("special-token", &specials_, "a special token; the first one ends texts", "TOKEN")
        .default_note = "<|endoftext|>";
    declare_threads_option(&general_, &threads_);
    general_.add_flag("json", &json_, "print exactly one JSON value on standard output");
  }
  std::string name() const override { return "prepare"; }
  std::string summary() const override {
    return "Turn text and JSON lines into token files for training, or train a tokenizer on them";
  }
  std::string usage() const override {
    return "(--tokenizer T | --train-tokenizer bpe --vocab-size N) --out PREFIX FILE... [--json]";
  }
  std::string positional() const override { return "input"; }
  std::vector<OptionGroup> groups() override {
    return {{"Input", &input_options_},
            {"Tokens", &own_},
            {"Training a tokenizer", &training_},
            {"General", &general_}};
  }

  int run() override {
    require(!input_.empty(), "no input given", "files of text or JSON lines");
    require(!out_.empty(), "no output given", "--out PREFIX");
    finish_document_options();
    return train_tokenizer_.empty() ? run_prepare() : run_training();
  }

 private:
  void finish_document_options() {
    documents_.format = format_ == "auto"   ? DocumentFormat::kAuto
                        : format_ == "text" ? DocumentFormat::kText
                                            : DocumentFormat::kJsonLines;
    documents_.on_bad_line = on_bad_line_ == "skip"      ? OnBadLine::kSkip
                             : on_bad_line_ == "replace" ? OnBadLine::kReplace
                                                         : OnBadLine::kError;
    if (input_options_.was_set("split-on") && split_on_.empty())
      refuse_value("split-on", "a string", "nothing");
    if (utf8_find_invalid(split_on_)) refuse_value("split-on", "valid UTF-8", split_on_);
    documents_.split_on = unescaped(split_on_);
  }

  int n_threads() const { return threads_or_default(threads_); }

  int run_training() {
    for (const Option& option : own_.options()) {
      if (option.was_set && option.name != "out") {
        throw Error(ErrorCode::kInvalidArgument,
                    fmt::format("--{} cannot be used with --train-tokenizer", option.name));
      }
    }
    require(training_.was_set("vocab-size"), "no size of the vocabulary given", "--vocab-size N");
    if (training_.was_set("special-token")) bpe_.specials = specials_;
    const OutputPlace place(out_, OutputKind::kFolder);
    train_tokenizer({.input = input_,
                     .documents = documents_,
                     .bpe = bpe_,
                     .out = out_,
                     .n_threads = n_threads(),
                     .json = json_});
    return 0;
  }

  int run_prepare() {
    for (const Option& option : training_.options()) {
      if (option.was_set) {
        throw Error(ErrorCode::kInvalidArgument, fmt::format("--{} needs --train-tokenizer", option.name));
      }
    }
    require(!tokenizer_.empty(), "no tokenizer given", "--tokenizer PATH");
    if (out_.back() == '/' || out_.ends_with(".bin") || out_.ends_with(".idx")) {
      refuse_value("out", "the names of both files without .bin and .idx", out_);
    }
    const OutputPlace tokens(out_ + ".bin"), index(out_ + ".idx"), facts(data_facts_path(out_));
    const auto start = std::chrono::steady_clock::now();
    const auto tokenizer = load_tokenizer(tokenizer_);
    const PrepareOptions options = {
        .bos = choose_bos(*tokenizer), .eod = choose_eod(*tokenizer), .parse_special = !no_special_};
    const TokenSet separators = make_separators(*tokenizer, separators_, tokenizer->vocab_size(), false);
    documents_.may_cut = tokenizer->cuts_before_line_break();
    const PrepareReport report = prepare(*tokenizer, separators, options);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    print_report(report, options, time.count());
    return 0;
  }

  PrepareReport prepare(const Tokenizer& tokenizer, const TokenSet& separators,
                        const PrepareOptions& options) const {
    ThreadPool pool(n_threads());
    const InterruptGuard guard;
    DocumentReader reader(input_, documents_);
    reader.check_files();
    TokenFileWriter writer(out_, tokenizer.vocab_size());
    Progress progress("preparing", total_megabytes(input_));
    const PrepareReport report = prepare_tokens(
        reader, tokenizer, separators, options, writer, pool, [&](const PrepareReport& so_far) {
          progress.show(static_cast<int64_t>(reader.bytes_read()) / kMegabyte,
                        fmt::format("MB, {:.1f}M tokens", static_cast<double>(so_far.tokens) * 1e-6));
          return !guard.interrupted();
        });
    if (report.documents == 0) {
      throw Error(ErrorCode::kInvalidArgument, "no text in the input: nothing was written",
                  {.file = input_.front(),
                   .got = report.lines.skipped > 0 ? skipped_text(report.lines)
                                                   : fmt::format("{} empty documents", report.empty)});
    }
    AtomicFile facts(data_facts_path(out_));
    facts.write(data_facts(tokenizer, writer.n_documents(), writer.n_tokens()));
    writer.finish();
    facts.commit();
    return report;
  }

  std::optional<int32_t> choose_bos(const Tokenizer& tokenizer) const {
    if (bos_ == "off" || (bos_ == "auto" && !tokenizer.adds_bos())) return std::nullopt;
    if (!tokenizer.bos_id()) {
      throw Error(ErrorCode::kInvalidArgument, "the tokenizer has no BOS token", {.expected = "--bos off"});
    }
    return tokenizer.bos_id();
  }

  std::optional<int32_t> choose_eod(const Tokenizer& tokenizer) const {
    if (append_eod_ == "off") {
      if (own_.was_set("eod")) {
        throw Error(ErrorCode::kInvalidArgument, "--eod is given and --append-eod is off");
      }
      return std::nullopt;
    }
    if (own_.was_set("eod")) {
      if (const auto id = tokenizer.find(eod_)) return id;
      const auto id = parse_integer(eod_);
      if (id && *id >= 0 && *id < tokenizer.vocab_size()) return static_cast<int32_t>(*id);
      refuse_value("eod",
                   fmt::format("a token of the tokenizer, or an id from 0 to {}", tokenizer.vocab_size() - 1),
                   eod_);
    }
    if (!tokenizer.eos_id() && append_eod_ == "on") {
      throw Error(ErrorCode::kInvalidArgument, "the tokenizer has no end token",
                  {.expected = "--eod TOKEN|ID"});
    }
    return tokenizer.eos_id();
  }

  void print_report(const PrepareReport& r, const PrepareOptions& options, double seconds) const {
    const TokenFile file(out_);  // checks that the written file can be read
    say_of_lines(r.lines);
    const auto tokens = static_cast<double>(r.tokens), bytes = static_cast<double>(r.text_bytes);
    const double share = static_cast<double>(r.separators) / tokens;
    if (json_) {
      print_json({{"out", out_},
                  {"documents", r.documents},
                  {"empty_documents", r.empty},
                  {"skipped_lines", r.lines.skipped},
                  {"replaced_lines", r.lines.replaced},
                  {"text_bytes", r.text_bytes},
                  {"tokens", r.tokens},
                  {"token_bytes", token_bytes(file.type())},
                  {"bytes_per_token", bytes / tokens},
                  {"separators", r.separators},
                  {"separator_share", share},
                  {"bos_id", options.bos ? Json(*options.bos) : Json()},
                  {"eod_id", options.eod ? Json(*options.eod) : Json()},
                  {"seconds", seconds}});
      return;
    }
    print(
        fmt::format("{}.bin, {}.idx: {} documents, {} tokens of {} bytes\n"
                    "{} of text in {:.1f} s ({:.1f} MB/s), {:.2f} bytes per token, {:.1f} % of the tokens "
                    "are separators\n",
                    out_, out_, r.documents, r.tokens, token_bytes(file.type()), human_bytes(r.text_bytes),
                    seconds, bytes / seconds * 1e-6, bytes / tokens, 100 * share));
    if (r.empty > 0) print_note(fmt::format("note: {} documents without text were left out", r.empty));
    if (!options.eod) print_note("note: the documents have no end token (--append-eod, --eod)");
  }

  OptionSet input_options_, own_, training_, general_;
  DocumentOptions documents_;
  BpeTrainOptions bpe_;
  std::vector<std::string> input_, specials_;
  std::string format_ = "auto", on_bad_line_ = "error", split_on_, tokenizer_, out_, append_eod_ = "auto",
              eod_, bos_ = "auto", separators_ = "text", train_tokenizer_;
  bool no_special_ = false, json_ = false;
  int64_t threads_ = 0;
};

}  // namespace

std::unique_ptr<Command> make_prepare_command() { return std::make_unique<PrepareCommand>(); }

}  // namespace sepllm
