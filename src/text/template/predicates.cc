// Tests, written as: value is name(arguments).
#include <cstdint>
#include <map>
#include <string>

#include "text/template/compare.h"
#include "text/template/filters.h"

namespace sepllm::jinja {
namespace {

using Test = bool (*)(Interpreter&, const Value&, Parameters&);

int64_t whole(const Value& value, Parameters& parameters) {
  int64_t buffer;
  const int64_t* integer = value.as_integer(buffer);
  if (integer == nullptr) parameters.refuse("takes an integer, not " + std::string(value.type_name()));
  return *integer;
}

template <int64_t rest>
bool has_rest_of_two(Interpreter&, const Value& value, Parameters& parameters) {
  return (whole(value, parameters) % 2 != 0) == (rest != 0);
}

bool divisible_by(Interpreter&, const Value& value, Parameters& parameters) {
  const Value result = arithmetic(Operator::kModulo, Value::integer(whole(value, parameters)),
                                  Value::integer(whole(parameters.required("num"), parameters)));
  return *result.get<int64_t>() == 0;
}

template <bool (*holds)(const Value&)>
bool is_kind(Interpreter&, const Value& value, Parameters&) {
  return holds(value);
}

bool is_defined(const Value& v) { return !v.is_undefined(); }
bool is_undefined(const Value& v) { return v.is_undefined(); }
bool is_none(const Value& v) { return v.is_none(); }
bool is_boolean(const Value& v) { return v.get<bool>() != nullptr; }
bool is_literally_true(const Value& v) { return v.get<bool>() != nullptr && *v.get<bool>(); }
bool is_literally_false(const Value& v) { return v.get<bool>() != nullptr && !*v.get<bool>(); }
bool is_integer(const Value& v) { return v.get<int64_t>() != nullptr; }
bool is_float(const Value& v) { return v.get<double>() != nullptr; }
bool is_number(const Value& v) { return v.is_number(); }
bool is_string(const Value& v) { return v.as_text() != nullptr; }
bool is_mapping(const Value& v) { return v.as_dict() != nullptr; }
bool is_callable(const Value& v) { return v.as_callable() != nullptr || v.is_undefined(); }
bool is_escaped(const Value& v) { return v.as_text() != nullptr && v.as_text()->is_markup; }
bool is_sequence(const Value& v) {
  const bool is_view = v.as_list() != nullptr && v.as_list()->kind == List::Kind::kView;
  return v.is_undefined() || v.as_text() != nullptr || v.as_dict() != nullptr ||
         (v.as_list() != nullptr && !is_view);
}
bool is_iterable(const Value& v) {
  return v.is_undefined() || v.as_text() != nullptr || v.as_list() != nullptr || v.as_dict() != nullptr ||
         v.as_iterator() != nullptr || v.as_loop() != nullptr;
}

// True if the sign of the comparison lies between these two.
template <int least, int most>
bool is_ordered(Interpreter& run, const Value& value, Parameters& parameters) {
  const int compared = order(value, parameters.required("other"), run.budget());
  const int sign = compared < 0 ? -1 : compared > 0 ? 1 : 0;
  return sign >= least && sign <= most;
}

template <bool wanted>
bool is_equal(Interpreter& run, const Value& value, Parameters& parameters) {
  return equal(value, parameters.required("other"), run.budget()) == wanted;
}

// Whether both are the same object. Numbers and texts have no identity here, so of them only true, false and
// none are compared.
bool is_same(Interpreter& run, const Value& value, Parameters& parameters) {
  const Value& other = parameters.required("other");
  const bool simple = value.is_number() || value.as_text() != nullptr;
  const bool singleton = is_boolean(value) || is_boolean(other);
  if (singleton) return is_boolean(value) && is_boolean(other) && equal(value, other, run.budget());
  if (simple && (other.is_number() || other.as_text() != nullptr)) {
    fail_unsupported("the test 'sameas' of numbers and strings is not supported");
  }
  if (value.as_list() != nullptr) return value.as_list() == other.as_list();
  if (value.as_dict() != nullptr) return value.as_dict() == other.as_dict();
  return equal(value, other, run.budget());
}

bool is_in(Interpreter& run, const Value& value, Parameters& parameters) {
  return contains(parameters.required("seq"), value, run.budget());
}

template <bool (*exists)(const std::string&)>
bool names_one(Interpreter&, const Value& value, Parameters&) {
  return value.as_text() != nullptr && exists(value.as_text()->text.bytes());
}

bool left_out(Interpreter&, const Value&, Parameters&) {
  fail_unsupported("the tests 'lower' and 'upper' are not supported");
}

const std::map<std::string, Test>& tests() {
  static const std::map<std::string, Test> kTests = {
      {"!=", is_equal<false>},
      {"<", is_ordered<-1, -1>},
      {"<=", is_ordered<-1, 0>},
      {"==", is_equal<true>},
      {">", is_ordered<1, 1>},
      {">=", is_ordered<0, 1>},
      {"boolean", is_kind<is_boolean>},
      {"callable", is_kind<is_callable>},
      {"defined", is_kind<is_defined>},
      {"divisibleby", divisible_by},
      {"eq", is_equal<true>},
      {"equalto", is_equal<true>},
      {"escaped", is_kind<is_escaped>},
      {"even", has_rest_of_two<0>},
      {"false", is_kind<is_literally_false>},
      {"filter", names_one<is_filter>},
      {"float", is_kind<is_float>},
      {"ge", is_ordered<0, 1>},
      {"greaterthan", is_ordered<1, 1>},
      {"gt", is_ordered<1, 1>},
      {"in", is_in},
      {"integer", is_kind<is_integer>},
      {"iterable", is_kind<is_iterable>},
      {"le", is_ordered<-1, 0>},
      {"lessthan", is_ordered<-1, -1>},
      {"lower", left_out},
      {"lt", is_ordered<-1, -1>},
      {"mapping", is_kind<is_mapping>},
      {"ne", is_equal<false>},
      {"none", is_kind<is_none>},
      {"number", is_kind<is_number>},
      {"odd", has_rest_of_two<1>},
      {"sameas", is_same},
      {"sequence", is_kind<is_sequence>},
      {"string", is_kind<is_string>},
      {"test", names_one<is_test>},
      {"true", is_kind<is_literally_true>},
      {"undefined", is_kind<is_undefined>},
      {"upper", left_out},
  };
  return kTests;
}

}  // namespace

bool is_test(const std::string& name) { return tests().contains(name); }

bool Interpreter::test(const std::string& name, const Value& subject, const Arguments& arguments) {
  const auto test = tests().find(name);
  if (test == tests().end()) fail("there is no test '" + name + "'");
  budget_.step();
  Parameters parameters("test '" + name + "'", arguments);
  const bool holds = test->second(*this, subject, parameters);
  parameters.done();
  return holds;
}

}  // namespace sepllm::jinja
