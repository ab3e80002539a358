// Authors of bytes, limits, and what errors say. What templates write is tested in
// tests/golden/chat_template_golden_test.cc.
#include "text/template/template.h"

#include <gtest/gtest.h>

#include <ctime>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/expect_error.h"

namespace sepllm::jinja {
namespace {

using test::expect_error;

const std::tm kClock{};

// The text with what the user wrote in <>.
std::string marked(const MarkedText& text) {
  std::string out;
  bool open = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const bool user = text.origin_at(at) == Origin::kUser;
    if (user != open) out += user ? "<" : ">";
    open = user;
    out += text.bytes()[at];
  }
  return open ? out + ">" : out;
}

MarkedText render(const std::string& source, const Limits& limits = {}) {
  const Json user = {{"u", "User Ünd"}, {"list", {"a", "b"}}, {"number", "12"}, {"pair", {{"k", "v\"w"}}}};
  Interpreter::Variables variables;
  for (const auto& [name, value] : user.items())
    variables.emplace_back(name, value_from_json(value, Origin::kUser));
  variables.emplace_back("t", Value::text("tmpl", Origin::kTemplate));
  return Template(source, "file", limits).render(variables, kClock);
}

TEST(Template, EveryByteKnowsWhoWroteIt) {
  // In `result`, two adjacent texts of the user may be marked separately.
  const auto expect = [](const std::string& source, std::string result) {
    SCOPED_TRACE(source);
    for (size_t at = result.find("><"); at != std::string::npos; at = result.find("><")) result.erase(at, 2);
    EXPECT_EQ(marked(render(source)), result);
  };
  expect("a{{ u }}b", "a<User Ünd>b");
  expect("{{ t + u + t }}", "tmpl<User Ünd>tmpl");
  expect("{{ 'x' ~ u ~ 1 }}", "x<User Ünd>1");
  expect("{{ (t + u)[2:6] }}{{ (t + u)[::-1] }}", "pl<Us><dnÜ resU>lpmt");
  expect("{{ (t + u) | upper }}{{ u.lower() }}{{ (t + u) | title }}",
         "TMPL<USER ÜND><user ünd>Tmpl<user Ünd>");
  expect("{{ (' ' + u + ' ') | trim }}{{ u.strip('Ud') }}", "<User Ünd><ser Ün>");
  expect("{{ u.replace('e', t) }}{{ t.replace('m', u) }}{{ u | replace('s', 'S') }}",
         "<Us>tmpl<r Ünd>t<User Ünd>pl<U>S<er Ünd>");
  expect("{{ u.split(' ') | join('+') }}{{ list | join(', ') }}{{ '-'.join(list) }}",
         "<User>+<Ünd><a>, <b><a>-<b>");
  expect("{{ list }}{{ pair | tojson }}{{ pair }}", "['<a>', '<b>']{\"<k>\": \"<v\\\"w>\"}{'<k>': '<v\"w>'}");
  expect("{{ '%s|%5s' % (u, 'x') }}{{ '{}-{}'.format(u, t) }}{{ '%s' | format(u) }}",
         "<User Ünd>|    x<User Ünd>-tmpl<User Ünd>");
  expect("{{ (u ~ '\n' ~ u) | indent(2) }}", "<User Ünd>\n  <User Ünd>");
  expect("{% set b %}a{{ u }}{% endset %}{{ b }}{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(u) }}",
         "a<User Ünd>[<User Ünd>]");
  expect(
      "{{ u | list | first }}{{ u[0] }}{{ u | first }}{{ u | last }}{% for c in u[:2] %}{{ c }}.{% endfor %}",
      "<U><U><U><d><U>.<s>.");
  expect("{{ u | center(10) }}{{ u.ljust(9, '*') }}{{ number.zfill(4) }}", " <User Ünd> <User Ünd>*00<12>");
  expect("{{ ('&' ~ u) | e }}{{ ('&' | safe) + number }}", "&amp;<User Ünd>&<12>");
  expect("{{ u.partition(' ') | join('') }}{{ u.splitlines()[0] }}{{ u | reverse }}",
         "<User Ünd><User Ünd><dnÜ resU>");
  expect("{{ u * 2 }}{{ u | default('x') }}{{ missing | default(u) }}{{ u | length }}",
         "<User Ünd><User Ünd><User Ünd><User Ünd>8");
  expect("{{ list | sort(reverse=true) | join }}{{ list | map('upper') | join }}{{ list | max }}",
         "<baAB><b>");
  // Digits of a number that came from a text of the user count as the user's.
  expect("{{ 5 }}{{ number | int + 1 }}{{ 5 }}", "5<135>");
  expect("{{ '7' | int }}{{ 5 }}", "75");
  expect("{{ strftime_now('%Y') }}{{ strftime_now(number ~ '%Y') }}", "1900<12>1900");
}

TEST(Template, TheTemplatesBytesAreRanges) {
  const MarkedText text = render("ab{{ u }}{{ t }}c");
  const std::vector<TextRange> ranges = text.template_ranges();
  ASSERT_EQ(ranges.size(), 2U);
  EXPECT_EQ(text.bytes().substr(ranges[0].begin, ranges[0].end - ranges[0].begin), "ab");
  EXPECT_EQ(text.bytes().substr(ranges[1].begin, ranges[1].end - ranges[1].begin), "tmplc");
}

TEST(Template, EndsWhatDoesNotEndWithinASecond) {
  Limits limits;
  const auto refuses = [&](const std::string& source, const std::vector<std::string>& parts) {
    SCOPED_TRACE(source);
    const std::clock_t start = std::clock();
    expect_error([&] { render(source, limits); }, ErrorCode::kOutOfRange, parts);
    // the process's own time, because others may keep the machine busy
    EXPECT_LT(std::clock() - start, CLOCKS_PER_SEC);
  };
  const std::string forever =
      "{% for i in range(100000) %}{% for j in range(100000) %}{% for k in range(100000) %}";
  const std::string ends = "{% endfor %}{% endfor %}{% endfor %}";
  refuses(forever + ends, {"file: line 1:", "steps", "chat-format"});
  refuses(forever + "{{ 'x' * 1000 }}" + ends, {"line 1", "more than"});
  refuses("{% set ns = namespace(l=[1]) %}{% for i in range(100000) %}{{ 'a' * 100000 }}{% endfor %}",
          {"more than"});
  limits.steps = 100'000;  // the others would take as long
  refuses("{{ 'x' * 1000000000 }}", {"bytes"});
  refuses("{{ [0] * 1000000000 }}", {"bytes"});
  refuses("{{ 'x'.ljust(1000000000) }}", {"more than"});
  refuses("{% set s = 'x' * 1000 %}{{ s.replace('', s) | replace('', s) }}", {"more than"});
  refuses("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", {"levels of nesting"});
  refuses("{% macro f(n) %}{{ f(n - 1) }}{{ f(n - 1) }}{% endmacro %}{{ f(100) }}", {"more than"});
  refuses("{% set ns = namespace(s='x') %}{% for i in range(1000) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
          {"more than"});
  refuses("{% set ns = namespace(l=[1]) %}{% for i in range(1000) %}{% set ns.l = [ns.l] %}{% endfor %}",
          {"deep"});
  // A list that contains itself twice, again and again: small, but printing or comparing it takes 2^90 steps.
  const std::string twice =
      "{% set ns = namespace(l=[1], k=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] %}"
      "{% set ns.k = [ns.k, ns.k] %}{% endfor %}";
  refuses(twice + "{{ ns.l }}", {"more than"});
  refuses(twice + "{{ ns.l == ns.k }}", {"steps"});
  refuses(twice + "{{ ns.l | tojson }}", {"more than"});
  // These searches are slow by nature.
  const std::string alike = "{% set a = 'a' * 1000000 %}{% set b = 'a' * 500000 ~ 'b' %}";
  refuses(alike + forever + "{{ b in a }}{{ a.find(b) }}" + ends, {"more than"});
  refuses(alike + "{{ a.rfind('b' ~ b[:-1]) }}" + forever + ends, {"more than"});
  refuses(alike + forever + "{{ a[5] }}" + ends, {"more than"});
  refuses(alike + "{{ (' ' * 1000000).strip(a ~ ' ') }}", {"more than"});
  refuses("{{ (' ' * 1000000) | trim }}", {"more than"});
}

TEST(Template, LimitsTheOutput) {
  Limits limits;
  limits.output = 1000;
  EXPECT_EQ(render("{{ 'x' * 1000 }}", limits).size(), 1000U);
  expect_error([&] { render("{{ 'x' * 1001 }}", limits); }, ErrorCode::kOutOfRange,
               {"writes more than 1000 bytes"});
}

TEST(Template, LimitsItsOwnSize) {
  const auto refuses = [](const std::string& source) {
    expect_error([&] { Template(source, "file"); }, ErrorCode::kOutOfRange, {"file"});
  };
  refuses(std::string((1 << 20) + 1, 'x'));
  std::string chain = "{{ 1";
  for (int k = 0; k < 100000; ++k) chain += "+1";
  refuses(chain + "}}");
  for (const char* link : {".a", "|e", "[0]", " is none", "()", " or 1", " if 1 else 1", "**1", "*1"}) {
    std::string long_chain = "{{ x";
    for (int k = 0; k < 100000; ++k) long_chain += link;
    SCOPED_TRACE(link);
    EXPECT_THROW(Template(long_chain + "}}", "file"), Error);
  }
  refuses("{{" + std::string(100000, '(') + "1" + std::string(100000, ')') + "}}");
  refuses("{{" + std::string(100000, '[') + "1" + std::string(100000, ']') + "}}");
  refuses("{{" + std::string(100000, '-') + "1}}");
  std::string nested, nots = "{{";
  for (int k = 0; k < 10000; ++k) {
    nested += "{% if 1 %}";
    nots += " not";
  }
  refuses(nested);
  refuses(nots + " 1}}");
}

TEST(Template, ErrorsNameTheFileTheLineAndTheWayOut) {
  const auto expect = [](const std::string& source, ErrorCode code, const std::vector<std::string>& parts) {
    SCOPED_TRACE(source);
    expect_error([&] { render(source); }, code, parts);
  };
  expect("a\nb\n{{ u.encode() }}", ErrorCode::kUnsupported,
         {"file: line 3: ", "the method 'encode' of strings is not supported", "chat-format"});
  expect("a\n{% include 'x' %}", ErrorCode::kUnsupported, {"file: line 2: ", "'include'", "chat-format"});
  expect("\n\n{% if u %}\n{{ u + }}", ErrorCode::kBadFile, {"file: line 4: ", "expected an expression"});
  expect("\n{% if u %}\n", ErrorCode::kBadFile, {"line 2", "endif"});
  expect("{% macro m() %}\n{{ 1 / 0 }}\n{% endmacro %}\n\n{{ m() }}", ErrorCode::kInvalidArgument,
         {"line 2", "division by zero"});
  expect("\n{{ raise_exception('roles!') }}", ErrorCode::kInvalidArgument,
         {"line 2: the template refuses the conversation: roles!"});
  expect("\n{{\n\nmissing.x }}", ErrorCode::kInvalidArgument, {"line 4", "'missing' is undefined"});
  expect("\xFF", ErrorCode::kBadFile, {"invalid UTF-8"});
  expect("{{ '\xC3' }}", ErrorCode::kBadFile, {"invalid UTF-8"});
}

TEST(Template, ValuesOfJson) {
  EXPECT_THROW(value_from_json(Json::parse("18446744073709551615"), Origin::kUser), Error);
  Json deep = 1;
  for (int k = 0; k < 200; ++k) deep = Json::array({deep});
  EXPECT_THROW(value_from_json(deep, Origin::kUser), Error);
}

}  // namespace
}  // namespace sepllm::jinja
