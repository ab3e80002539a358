#include "apps/shell/manual.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace sepllm {
namespace {

std::string dashed(const std::string& name) { return (name.size() == 1 ? "-" : "--") + name; }

// Text as roff takes it: a backslash and a dash are written out, and no line begins with a control character.
std::string roff(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const bool at_start = out.empty() || out.back() == '\n';
    if (at_start && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

std::string roff_option(const Option& o) {
  std::string head = "\\fB" + roff(dashed(o.name)) + "\\fR";
  if (!o.value_name.empty()) head += " \\fI" + roff(o.value_name) + "\\fR";
  if (o.repeatable) head += "...";
  const std::string value = o.default_text();
  const std::string help = value.empty() ? o.help : fmt::format("{} (default: {})", o.help, value);
  return fmt::format(".TP\n{}\n{}\n", head, roff(help));
}

// What bash takes as one word, in single quotes.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string words(const std::vector<std::string>& list) {
  return quoted(fmt::format("{}", fmt::join(list, " ")));
}

// The branch of one command: its options, and the values of those with a closed list.
std::string completion_of(Command& command) {
  std::vector<std::string> options = {"--help"};
  std::string values;
  for (const OptionGroup& group : command.groups()) {
    for (const Option& o : group.options->options()) {
      options.push_back(dashed(o.name));
      if (!o.choices.empty())
        values += fmt::format("        {}) values={} ;;\n", dashed(o.name), words(o.choices));
    }
  }
  std::string out = fmt::format("    {})\n      options={}\n", quoted(command.name()), words(options));
  if (!values.empty()) out += "      case \"$previous\" in\n" + values + "      esac\n";
  return out + "      ;;\n";
}

}  // namespace

std::string manual_page(const Commands& commands) {
  std::string out =
      ".\\\" Written by `sepllm --help-man`.\n"
      ".TH SEPLLM 1 \"\" \"sepllm " SEPLLM_VERSION
      "\" \"User Commands\"\n"
      ".SH NAME\n"
      "sepllm \\- language models whose attention keeps only initial tokens, separators and a neighbouring "
      "window\n"
      ".SH SYNOPSIS\n"
      ".B sepllm\n"
      ".I COMMAND\n"
      "[options]\n"
      ".SH DESCRIPTION\n"
      "Results go to standard output; progress, figures and warnings go to standard error. The exit code is "
      "0, or 1 "
      "with one line that says what is wrong.\n"
      ".SH COMMANDS\n";
  for (const auto& c : commands) {
    out += fmt::format(".SS sepllm {}\n{}.\n.PP\n.B sepllm {}\n{}\n", roff(c->name()), roff(c->summary()),
                       roff(c->name()), roff(c->usage()));
    for (const OptionGroup& group : c->groups()) {
      out += fmt::format(".PP\n\\fI{}\\fR\n", roff(group.title));
      for (const Option& o : group.options->options()) out += roff_option(o);
    }
  }
  return out;
}

std::string bash_completion(const Commands& commands) {
  std::vector<std::string> first = {"--help", "--version"}, pairs;
  std::map<std::string, std::vector<std::string>> second;
  std::string branches;
  for (const auto& c : commands) {
    const std::string name = c->name();
    const size_t blank = name.find(' ');
    const std::string word = name.substr(0, blank);
    if (first.back() != word) first.push_back(word);
    if (blank != std::string::npos) {
      second[word].push_back(name.substr(blank + 1));
      pairs.push_back(quoted(name));
    }
    branches += completion_of(*c);
  }
  std::string seconds;
  for (const auto& [word, list] : second)
    seconds += fmt::format("      {}) values={} ;;\n", word, words(list));
  return fmt::format(
      "# Completions of sepllm for bash; written by `sepllm --completion bash`.\n"
      "_sepllm() {{\n"
      "  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} options= values=\n"
      "  local command=${{COMP_WORDS[1]}}\n"
      "  if ((COMP_CWORD > 2)); then\n"
      "    case \"$command ${{COMP_WORDS[2]}}\" in\n"
      "      {}) command+=\" ${{COMP_WORDS[2]}}\" ;;\n"
      "    esac\n"
      "  fi\n"
      "  if ((COMP_CWORD == 1)); then\n"
      "    options={} values=$options\n"
      "  elif ((COMP_CWORD == 2)); then\n"
      "    case \"$command\" in\n"
      "{}"
      "    esac\n"
      "  fi\n"
      "  case \"$command\" in\n"
      "{}"
      "  esac\n"
      "  if [[ $current == -* ]]; then values=$options; fi\n"
      "  COMPREPLY=($(compgen -W \"$values\" -- \"$current\"))\n"
      "}}\n"
      "complete -o default -F _sepllm sepllm\n",
      fmt::join(pairs, "|"), words(first), seconds, branches);
}

}  // namespace sepllm
