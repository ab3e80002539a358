"""Writes tests/golden/chat_templates/cases.json: what jinja2, set up by transformers, makes of templates.

Two kinds of cases: conversations through the templates next to the file, which restate the formats of well-known
models, and small templates, one for each construct. Where jinja2 raises, the case says so. Needs transformers and
jinja2. Run: python oracles/make_template_cases.py
"""

import datetime
import itertools
import json
import pathlib

from chat_messages import assistant, system, user
from transformers.utils import chat_template_utils

FOLDER = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "chat_templates"
CLOCK = (2026, 3, 7, 9, 5, 2)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(*CLOCK)


chat_template_utils.datetime = Clock

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'Tells the "weather" of a <place> & time, e.g. in Köln',
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string"}, "days": {"type": "integer", "enum": [1, 2.5, None, True]}},
                "required": ["place"],
            },
        },
    }
]


ODD = "  \tZwölf größere\u00a0Bären, 字 と 🙂 \"quoted\" 'it's' \\n <|im_end|></s> {{ x }} {% if %}\r\n\r\n\n end \n"
CONVERSATIONS = {
    "one": [user("Hello")],
    "system": [system("Be brief."), user("Hello")],
    "turns": [user("Hello"), assistant(" Hi there. "), user("How are you?\n"), assistant("Well."), user("Bye")],
    "system turns": [system(" Rules.\n"), user("a"), assistant("b"), user("c")],
    "odd": [system(ODD), user(ODD), assistant(ODD), user(ODD)],
    "empty": [user("")],
    "ends with answer": [user("a"), assistant("b")],
    "thinking": [user("1+1?"), assistant("<think>\nIt is two.\n</think>\n\n2"), user("Sure?"),
                 assistant("<think>\n\n</think>\n\nYes"), user("ok")],
    "two users": [user("a"), user("b")],
    "late system": [user("a"), system("b"), user("c")],
    "parts": [{"role": "user", "content": [{"type": "text", "text": " look "}, {"type": "image"}]}],
    "tool": [user("Weather?"),
             {"role": "assistant", "tool_calls": [{"type": "function", "function": {
                 "name": "weather", "arguments": {"place": "Köln", "days": 2}}}]},
             {"role": "tool", "content": "{\"rain\": true}"}, user("Thanks")],
}

VARIABLES = {
    "messages": CONVERSATIONS["system turns"],
    "n": 7,
    "x": 2.5,
    "s": "Hello World, ähnlich GROß",
    "empty": "",
    "none_value": None,
    "yes": True,
    "items": [3, 1, 2, 1],
    "words": ["b", "A", "c", "a"],
    "people": [{"name": "Bo", "age": 3}, {"name": "ann", "age": 1}, {"name": "Cy"}],
    "d": {"b": 1, "a": [1, {"k": "v"}], "items": "own", "z": None},
    "lines": "one\ntwo\r\nthree\n\nfive",
    "spaces": "  a  b c  ",
    "html": "<a href=\"x\">&'</a>",
    "tools": TOOLS,
}

# Each line is a case; what jinja2 does with it is the truth.
SNIPPETS = r"""
{{ n }} {{ x }} {{ s }} {{ yes }} {{ none_value }} {{ missing }}|
{{ 1e16 }} {{ 1e15 }} {{ 0.1 }} {{ 1e-5 }} {{ 0.0001 }} {{ 123456789.123 }} {{ 1.0 }} {{ 2e300 }} {{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1.5e3 }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ -n }} {{ +n }} {{ 2 - -3 }} {{ 2**3**2 }} {{ -2**2 }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 'a' + 1 }}
{{ 'a' ~ 1 ~ none ~ true ~ missing ~ 1.5 }}
{{ 'ab' * 3 }}{{ [1, 2] * 2 }}{{ 2 * 'x' }}{{ 'x' * -1 }}|{{ (1,) * 2 }}
{{ [1] + [2, 3] }} {{ (1, 2) + (3,) }} {{ 'a' + 'b' }}
{{ [1] + (2,) }}
{{ [1, 'a', none, 2.0, {'k': (1,)}, [], (), {}] }}
{{ ['it\'s', "say \"x\"", 'both \' "', 'tab\t', 'nl\n', '\x00\x7f\u00a0\u2028é', 'back\\slash'] }}
{{ {'a': 1, 'b': [true, false]} }} {{ (1, 2) }} {{ 1, 2 }}
{{ 'esc \n \t \\ \' \" \x41 \u00e9 \U0001F600 \101 \d' }}
{{ "adjacent " 'strings' }}
{{ 1 < 2 }} {{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ (1, 2) >= (1,) }} {{ 1 != 2 }} {{ 'é' > 'z' }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ missing == missing2 }} {{ missing == none }} {{ missing != 1 }} {{ [] == () }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }} {{ [1, [2]] == [1, [2.0]] }}
{{ 'ell' in s }} {{ 'x' not in s }} {{ 1 in items }} {{ 9 in items }} {{ 'a' in d }} {{ none in [none] }} {{ 1 in missing }} {{ '' in '' }}
{{ 1 in 'a' }}
{{ 1 in 5 }}
{{ not true }} {{ not missing }} {{ not [] }} {{ 1 and 2 }} {{ 0 or 'x' }} {{ '' or none }} {{ not 1 == 2 }} {{ true and not false }}
{{ 'a' if yes else 'b' }} {{ 'a' if missing else 'b' }} {{ 'a' if missing }}| {{ 1 if false else 2 if false else 3 }}
{{ d['items'] }} {{ d.nope }}| {{ d.get('b') }} {{ d.get('q') }} {{ d.get('q', 5) }} {{ d['a'][1].k }} {{ d.z.q }}
{{ d.nope.deeper }}
{{ missing.attribute }}
{{ missing[0] }}
{{ missing() }}
{{ missing + 1 }}
{{ 1 + missing }}
{{ -missing }}
{{ missing < 1 }}
{{ none_value.x }}|{{ n.x }}|{{ s.nope }}|{{ items.nope }}
{{ items[0] }} {{ items[-1] }} {{ items[9] }}| {{ items.0 }} {{ s[0] }} {{ s[-1] }} {{ s[99] }}| {{ items['x'] }}| {{ s[true] }} {{ d[0] }}|
{{ items[1:] }} {{ items[:2] }} {{ items[::-1] }} {{ items[::2] }} {{ items[-2:] }} {{ items[5:1] }} {{ items[3:0:-2] }} {{ s[1:4] }} {{ s[::-1] }} {{ s[-3:] }} {{ s[:-3] }} {{ s[::3] }} {{ (1,2,3)[1:] }} {{ items[:] }} {{ items[none:2] }} {{ s[100:] }}| {{ s[-100:3] }} {{ items[9223372036854775807:] }} {{ items[::9223372036854775807] }} {{ items[::-9223372036854775807] }}
{{ items[::0] }}
{{ items['a':] }}
{{ d[1:] }}|{{ n[1:] }}
{% for i in items %}{{ i }},{% endfor %}
{% for i in [] %}x{% else %}none{% endfor %}
{% for i in items %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.previtem }}/{{ loop.nextitem }}/{{ loop.depth }}/{{ loop.depth0 }};{% endfor %}
{% for i in items if i > 1 %}{{ i }}:{{ loop.index }}/{{ loop.length }}/{{ loop.last }}/{{ loop.nextitem }} {% else %}no{% endfor %}
{% for i in items if i > 9 %}{{ i }}{% else %}no{% endfor %}
{% set ns = namespace(stop=false) %}{% for i in items if not ns.stop %}{{ i }}{% if i == 1 %}{% set ns.stop = true %}{% endif %}{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k in d %}{{ k }}{% endfor %} {% for c in 'añb' %}{{ c }}.{% endfor %} {% for x in missing %}x{% endfor %} {% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% for a in 5 %}{% endfor %}
{% for i in items %}{{ loop.cycle('odd', 'even') }} {% if loop.changed(i) %}c{% endif %}{% endfor %}
{% for i in items %}{% for j in [1, 2] %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
{% for i in items %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% if loop.index == 3 %}{% break %}{% endif %}{% endfor %}
{% for i in items %}{% break %}{% else %}never{% endfor %}
{% break %}
{% set a = 1 %}{% for i in items %}{{ a }}{% set a = i %}{{ a }} {% endfor %}{{ a }}
{% set a = 1 %}{% if yes %}{% set a = 2 %}{% endif %}{{ a }}
{% if n > 100 %}a{% elif n > 5 %}b{% else %}c{% endif %}{% if missing %}x{% endif %}{% if not missing %}y{% endif %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d2) = (3, 4) %}{{ c }}{{ d2 }}{% set t = 1, 2 %}{{ t }}
{% set block %}in {{ n }} block{% set inner = 1 %}{% endset %}{{ block }}|{{ block | length }}|{{ inner }}
{% set block | upper | replace('N', 'm') %}in block{% endset %}{{ block }}
{% set ns = namespace() %}{% set ns.a = 1 %}{% for i in items %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }} {{ ns.b }}|
{% set ns = namespace(a=1, b='x') %}{{ ns.a }}{{ ns.b }}{% set ns.c %}block{% endset %}{{ ns.c }}{% set ns2 = namespace({'k': 5}) %}{{ ns2.k }}
{% set ns = namespace(_a=1) %}
{% set d.x = 1 %}
{% set nothing.x = 1 %}
{% macro greet(name, mark='!') %}Hi {{ name }}{{ mark }}{% endmacro %}{{ greet('Bo') }} {{ greet('Bo', '?') }} {{ greet(name='Al', mark='.') }} {{ greet() }}
{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, z=3) }}
{% macro m(a) %}{{ a }}/{{ g }}/{{ loop }}{% endmacro %}{% set g = 5 %}{% for i in [1] %}{{ m(i) }}{% endfor %}
{% macro f(k) %}{% if k > 0 %}{{ k }}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(5) }}
{% macro outer() %}{% macro inner() %}in{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}
{% macro m(l) %}{% for i in l %}{{ i }}{% endfor %}{% endmacro %}{{ m([1,2]) | upper ~ '!' }}{{ m('ab') is string }}
{% macro box(t) %}<{{ t }}:{{ caller() }}>{% endmacro %}{% call box('x') %}body {{ n }}{% endcall %}
{% macro each(l) %}{% for i in l %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(i) each([1, 2]) %}[{{ i }}]{% endcall %}
{% filter upper %}abc {{ s }}{% endfilter %}
{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}
{% generation %}text {{ n }}{% endgeneration %} after
{% generation %}{% set inside = 1 %}{% endgeneration %}{{ inside }}|
{% raw %}{{ not run }} {% if %}{% endraw %}|
a {%- raw -%} b {%- endraw -%} c
{# comment #}x{# multi
line #}y{#- strip -#} z
{{ namespace(a=1).a }} {{ dict(a=1, b=2) }} {{ dict([('x', 1)]) }} {{ dict({'q': 1}, r=2) }}
{{ range(5) | list }} {{ range(2, 5) | list }} {{ range(5, 0, -2) | list }} {% for i in range(3) %}{{ i }}{% endfor %} {{ range(3)[1] }} {{ range(4) | length }}
{{ range(100001) }}
{{ range(1.5) }}
{{ raise_exception('told so: ' ~ n) }}
{{ strftime_now('%d %b %Y, %A %B %H:%M:%S %j %y %-d %p %%') }}
{{ s | upper }} {{ s | lower }} {{ s | title }} {{ s | capitalize }} {{ 'ﬁne ŉ ǆ İI ΑΣ ΑΣΑ ᾳ' | upper }} {{ 'ﬁNE ŉ ǆ İI ΑΣ ΑΣΑ ᾳ' | lower }} {{ 'ﬁne ŉ ǆ ΑΣ' | title }} {{ 'ﬁne' | capitalize }}
{{ 'hello-world (foo) [bar] it\'s {x} <y> a.b' | title }} {{ 'hello-world it\'s ǆ' .title() }} {{ 'ﬁne ΑΣ'.capitalize() }}
{{ spaces | trim }}|{{ spaces.strip() }}|{{ spaces.lstrip() }}|{{ spaces.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'abcba'.strip('ab') }}|{{ '\x1c\u2003 a \x85' | trim }}|{{ 'xax' | trim('x') }}|{{ 5 | trim }}|{{ missing | trim }}
{{ s | replace('l', 'L') }} {{ s | replace('l', 'L', 1) }} {{ s.replace('l', 'L', 2) }} {{ 'abc'.replace('', '-') }} {{ 'abc'.replace('', '-', 2) }} {{ 'aaa'.replace('aa', 'b') }} {{ 5 | replace(5, 6) }}
{{ s | length }} {{ items | length }} {{ d | length }} {{ missing | length }} {{ s | count }}
{{ 5 | length }}
{{ items | first }} {{ items | last }} {{ s | first }} {{ s | last }} {{ [] | first }}| {{ [] | last }}| {{ d | first }} {{ missing | first }}|
{{ items | join }} {{ items | join(', ') }} {{ people | join('/', attribute='name') }} {{ 'abc' | join('-') }} {{ missing | join('x') }} {{ [1, none, missing] | join('|') }} {{ items | join(1) }}
{{ ', '.join(words) }} {{ '-'.join('abc') }} {{ ''.join([]) }}|
{{ ','.join([1]) }}
{{ missing | default('dflt') }} {{ '' | default('dflt') }} {{ '' | default('dflt', true) }} {{ none | default('dflt') }} {{ none | d('dflt', boolean=true) }} {{ missing | default }}|
{{ '42' | int }} {{ '42.7' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ 3.9 | int }} {{ -3.9 | int }} {{ '0x1F' | int(0, 16) }} {{ '0b11' | int(base=2) }} {{ ' 1_000 ' | int }} {{ true | int }} {{ none | int(3) }} {{ 'inf' | int }} {{ '1e3' | int }} {{ '--5' | int }}
{{ '1.5' | float }} {{ 'x' | float }} {{ 'x' | float(2) }} {{ 2 | float }} {{ 'nan' | float }} {{ '-inf' | float }} {{ '1_0.5' | float }} {{ '.5' | float }} {{ '5.' | float }} {{ '--5' | float }} {{ '1e400' | float }}
{{ n | string }} {{ (n | string) + 'x' }} {{ [1] | string }} {{ none | string }} {{ missing | string }}|
{{ 'abc' | list }} {{ d | list }} {{ missing | list }} {{ (1, 2) | list }}
{{ d | items | list }} {{ missing | items | list }} {% for k, v in d | items %}{{ k }}{% endfor %}
{{ d.keys() | list }} {{ d.values() | list }} {{ d.items() | list }} {{ d.keys() }} {{ d.items() | length }} {% for k in d.keys() %}{{ k }}{% endfor %} {{ 'a' in d.keys() }}
{{ people | map(attribute='name') | list }} {{ people | map(attribute='age', default=0) | list }} {{ words | map('upper') | list }} {{ words | map('replace', 'a', 'x') | join }} {{ people | map(attribute='age') | list }}
{{ people | selectattr('age') | list }} {{ people | selectattr('age', 'equalto', 3) | list }} {{ people | selectattr('age', 'defined') | map(attribute='name') | join(',') }} {{ people | rejectattr('age', 'defined') | list }} {{ people | selectattr('age', '>', 1) | list }}
{{ people | selectattr('age', 'gt', 1) | list }}
{{ items | select('odd') | list }} {{ items | reject('odd') | list }} {{ items | select | list }} {{ ['', 'a', none] | select | list }} {{ items | select('in', [1, 2]) | list }} {{ words | reject('equalto', 'b') | list }}
{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('+') }} {{ (messages | selectattr('role', 'equalto', 'user') | list)[-1].content }} {{ (messages | selectattr('role', 'eq', 'user') | list | length) }}
{% set g = items | map('string') %}{{ g | list }}{{ g | list }} {% if g %}true{% endif %}
{{ items | map('string') | length }}
{{ items | map('nope') | list }}
{{ items | select('nope') | list }}
{{ (items | map('string'))[0] }}|{{ items | map('string') | last }}
{{ items | sort }} {{ items | sort(reverse=true) }} {{ words | sort }} {{ words | sort(case_sensitive=true) }} {{ people | selectattr('age', 'defined') | sort(attribute='age') | map(attribute='name') | list }} {{ people | sort(attribute='name') | map(attribute='name') | list }} {{ 'hello' | sort | join }} {{ [[2, 1], [1, 2]] | sort }}
{{ [1, 'a'] | sort }}
{{ d | dictsort }} {{ d | dictsort(reverse=true) }} {{ {'b': 2, 'A': 3, 'c': 1} | dictsort }} {{ {'b': 2, 'A': 3} | dictsort(true) }} {{ {'b': 2, 'A': 3, 'c': 1} | dictsort(false, 'value') }}
{{ items | unique | list }} {{ words | unique | list }} {{ ['a', 'A', 'b'] | unique | list }} {{ ['a', 'A'] | unique(case_sensitive=true) | list }} {{ people | unique(attribute='name') | list | length }}
{{ items | reverse | list }} {{ 'abc' | reverse }} {% for i in items | reverse %}{{ i }}{% endfor %} {{ 'añb' | reverse }}
{{ items | min }} {{ items | max }} {{ words | max }} {{ [] | max }}| {{ people | map(attribute='name') | max }} {{ people | selectattr('age') | max(attribute='age') }}
{{ items | sum }} {{ people | selectattr('age', 'defined') | sum(attribute='age') }} {{ items | sum(start=10) }} {{ [1.5, 2] | sum }} {{ [] | sum }}
{{ 2.5 | round }} {{ 3.5 | round }} {{ 2.567 | round(2) }} {{ 2.1 | round(0, 'ceil') }} {{ 2.9 | round(method='floor') }} {{ 2.675 | round(2) }} {{ 7 | round }} {{ 42.55 | round(1, 'floor') }}
{{ -5 | abs }} {{ (-5.5) | abs }} {{ true | abs }}
{{ items | batch(3) | list }} {{ items | batch(3, 'x') | list }} {{ items | slice(3) | list }} {{ items | slice(3, 'x') | list }}
{{ lines | indent }} {{ lines | indent(2) }} {{ lines | indent(2, true) }} {{ lines | indent(2, true, true) }} {{ lines | indent('> ') }} {{ 'a' | indent }}|{{ '' | indent(2, true) }}|{{ 'a\n' | indent(2) }}|
{{ s | wordcount }} {{ 'a b_c d-e 字' | wordcount }}
{{ 'ab' | center(6) }}|{{ 'ab' | center(7) }}|{{ 'ab'.center(5, '*') }}|{{ 'abc'.center(6, '*') }}|{{ 'ab'.ljust(4) }}|{{ 'ab'.rjust(4, '0') }}|{{ '-5'.zfill(5) }}|{{ '+5'.zfill(1) }}|{{ '5'.zfill(3) }}
{{ '%s and %s' | format('a', 1) }} {{ '%s' % 'x' }} {{ '%d%%' % 5 }} {{ '%5.2f|%-5s|%05d|%x|%X|%+d|% d|%.3s|%r' % (3.14159, 'ab', 42, 255, 255, 5, 5, 'abcdef', 'q') }} {{ '%(a)s' % {'a': 1} }} {{ '%s' % [1, 2] }} {{ '%.2f' | format(2.675) }} {{ '%i' % 3.9 }}
{{ '%s %s' % ('a',) }}
{{ '%s' % ('a', 'b') }}
{{ '%d' % 'a' }}
{{ '{} {}'.format('a', 1) }} {{ '{1}{0}'.format('a', 'b') }} {{ '{x}{{}}'.format(x=5) }} {{ '{!r}'.format('q') }} {{ '{}'.format(missing) }}|{{ '{}'.format(none) }}
{{ '{} {}'.format('a') }}
{{ '{'.format() }}
{{ html | e }} {{ html | escape | length }} {{ html | safe }} {{ (html | safe) + '<b>' }} {{ '<b>' + (html | safe) }} {{ (html | e) ~ '<b>' }} {{ html | e | e }} {{ html | safe is escaped }} {{ html is escaped }} {{ html | safe | trim }}
{{ s.split() }} {{ s.split('o') }} {{ s.split('o', 1) }} {{ s.rsplit('o', 1) }} {{ spaces.split() }} {{ spaces.split(none, 1) }} {{ spaces.rsplit(none, 1) }} {{ spaces.split(' ') }} {{ ''.split() }} {{ ''.split('x') }} {{ 'a,b,c'.split(',', -1) }} {{ 'a b'.split(maxsplit=0) }} {{ '  a b '.split(none, 1) }} {{ '  a b '.split(none, 2) }} {{ ' a b  '.rsplit(none, 1) }} {{ 'a'.split(none, 0) }} {{ 'abcb'.rsplit('b') }} {{ 'aXbXc'.rsplit('X', 1)[0] }}
{{ s.split('') }}
{{ lines.splitlines() }} {{ lines.splitlines(true) }} {{ 'a\u2028b\x0bc\x1cd\n'.splitlines() }} {{ ''.splitlines() }}
{{ s.startswith('Hell') }} {{ s.endswith('ß') }} {{ s.startswith(('x', 'H')) }} {{ ''.startswith('') }}
{{ s.startswith(['x']) }}
{{ s.find('o') }} {{ s.rfind('o') }} {{ s.find('zz') }} {{ s.index('W') }} {{ s.find('ä') }} {{ s.find('L', 5) }} {{ s.find('H', 1) }} {{ s.find('', 99) }} {{ s.find('l', 3, 5) }} {{ s.count('l') }} {{ s.count('') }} {{ 'aaa'.count('aa') }} {{ s.rindex('o') }}
{{ s.index('zz') }}
{{ s.partition(' ') }} {{ s.rpartition(' ') }} {{ s.partition('zz') }} {{ s.rpartition('zz') }}
{{ s.removeprefix('Hello ') }} {{ s.removesuffix('ß') }} {{ s.removeprefix('x') }} {{ s.upper() }} {{ s.lower() }} {{ s.capitalize() }} {{ s.title() }}
{{ '12'.isdigit() }} {{ ''.isdigit() }} {{ '²'.isdigit() }} {{ '²'.isdecimal() }} {{ 'aé'.isalpha() }} {{ 'a1'.isalnum() }} {{ ' \t'.isspace() }} {{ 'é'.isascii() }} {{ '½'.isalnum() }} {{ '٣'.isdecimal() }}
{{ items.index(2) }} {{ items.count(1) }} {{ (1, 2).index(2) }} {{ items.copy() }} {{ d.copy() }}
{{ items.index(99) }}
{{ items.append(1) }}
{{ d.update({'a': 1}) }}
{% set _ = items.pop() %}
{{ d.clear }}|{{ s.__class__ }}|{{ s['__class__'] }}|{{ items.__len__ }}
{{ s.__class__.__mro__ }}
{{ d | tojson }} {{ s | tojson }} {{ [1, 2.0, none, true, 'ä\n\t"\\/\x01\x7f\u2028😀'] | tojson }} {{ {} | tojson }} {{ [] | tojson }} {{ {'a': {}, 'b': []} | tojson }} {{ (1, 2) | tojson }} {{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }} {{ html | tojson }} {{ 1e16 | tojson }} {{ '' | tojson }}
{{ d | tojson(indent=2) }} {{ d | tojson(indent=0) }} {{ d | tojson(indent='--') }} {{ {'b': 1, 'a': {'d': 1, 'c': 2}} | tojson(sort_keys=true) }} {{ d | tojson(separators=(',', ':')) }} {{ ['ä😀'] | tojson(ensure_ascii=true) }} {{ [] | tojson(indent=2) }} {{ tools | tojson(indent=4) }} {{ [[1], {}] | tojson(indent=1, separators=(';', '=')) }}
{{ missing | tojson }}
{{ [missing] | tojson }}
{{ d.items() | tojson }}
{{ n is defined }} {{ missing is defined }} {{ missing is undefined }} {{ missing is not defined }} {{ none is none }} {{ n is none }} {{ none is not none }} {{ d.nope is defined }} {{ d.z is none }} {{ d.nope is none }}
{{ s is string }} {{ n is number }} {{ yes is number }} {{ n is integer }} {{ yes is integer }} {{ x is float }} {{ yes is boolean }} {{ yes is true }} {{ yes is false }} {{ 1 is true }} {{ d is mapping }} {{ items is mapping }} {{ items is sequence }} {{ s is sequence }} {{ d is sequence }} {{ n is sequence }} {{ items is iterable }} {{ s is iterable }} {{ n is iterable }} {{ missing is iterable }} {{ missing is sequence }} {{ none is iterable }} {{ range is callable }} {{ n is callable }} {{ (1,) is sequence }} {{ d.items() is sequence }} {{ d.items() is iterable }}
{{ 3 is odd }} {{ 3 is even }} {{ 6 is divisibleby 3 }} {{ 6 is divisibleby(4) }} {{ 1 is eq 1 }} {{ 1 is equalto 2 }} {{ 1 is ne 2 }} {{ 1 is lt 2 }} {{ 1 is gt 2 }} {{ 2 is ge 2 }} {{ 1 is le 0 }} {{ 1 is in [1] }} {{ 'a' is in 'abc' }} {{ 1 is not in [1] }} {{ yes is sameas true }} {{ 1 is sameas true }} {{ none is sameas none }} {{ items is sameas items }} {{ 1 is lessthan 2 }} {{ 1 is greaterthan 2 }}
{{ 'upper' is filter }} {{ 'nope' is filter }} {{ 'odd' is test }} {{ 'nope' is test }} {{ 'xmlattr' is filter }}
{{ n is nope }}
{{ n | nope }}
{{ n is string is defined }}
{{ not n is string }} {{ n is string or yes }} {{ n is defined and s is string }} {{ (n is defined) and 1 }} {{ n is divisibleby 7 and true }}
{{ 'abc' | upper | lower | length + 1 }} {{ 'a' ~ 'b' | upper }} {{ ('a' ~ 'b') | upper }} {{ -1 | abs }} {{ 1 + '2' | int }} {{ 'x' if yes else 'y' | upper }} {{ [3,1] | sort | first }}
{{ s.upper().lower()[0:3].title() }} {{ (s | list)[0] }} {{ {'a': [1, 2]}['a'][1] }} {{ [1, 2, 3][1:][0] }} {{ 'abc'[1] }} {{ {'a': {}} }}
{{ 5() }}
{{ s() }}
{{ d.get() }}
{{ s.strip(1) }}
{{ s | replace }}
{{ s | upper(1) }}
{{ s | default('a', bogus=1) }}
{{ 1 if }}
{{ }}
{{ 1 + }}
{% if %}{% endif %}
{% for %}{% endfor %}
{% for x in items %}
{% endfor %}
{% unknown %}
{{ 'unclosed }}
{{ unclosed
{% if yes %}unclosed
{# unclosed
{{ [1, 2 }}
{{ (1 }}
{{ 1) }}
{{ a b }}
{{ a.'b' }}
{{ ! }}
{{ $x }}
{% set 1 = 2 %}
{% set true = 2 %}
{% macro %}{% endmacro %}
{% endif %}
{% raw %} unclosed
text { { % not tags } } %} }} #}
{{ '}}' }} {{ "{%" }} {{ {'a': {'b': 1}}['a']['b'] }} {{ {'a':{'b':2}} }}
{{ messages[0].role }} {{ messages[-1]['content'] }} {{ messages | length }} {{ messages[1:] | length }} {{ messages[::-1][0].role }} {{ (messages | last).content }} {{ messages[0]['role'] == 'system' and messages[1].role == 'user' }}
{%- set a = 1 -%}   x   {%- set b = 2 %}   y
{{ 1 -}}   x   {{- 2 }}
{% print n %}
{{ loop.index }}
{{ [] is sameas [] }} {{ dict is callable }} {{ namespace is callable }}
{% for i in items %}{% set x2 = loop %}{{ x2.index }}{% endfor %}
{% set m = s.upper %}{{ m() }}
{{ messages | map(attribute='content') | map('trim') | map('upper') | join(' / ') }}
{{ people | map(attribute='name.0') | list }} {{ [[1, 2], [3, 4]] | map(attribute=1) | list }} {{ [[1, 2], [3]] | map('first') | list }} {{ [[1, 2], [3]] | map('length') | sum }}
{{ d | attr('items') is callable }} {{ d | attr('b') }}|
{{ s | list | unique | sort | join }}
{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}{% for m in loop_messages %}{{ m.role[0] }}{% endfor %}
{% set messages = messages[1:] %}{{ messages | length }}{% for m in messages %}{% set messages = [] %}{{ messages | length }}{% endfor %}{{ messages | length }}
{{ 'a' 'b' ~ 'c' }} {{ 1.5.real }}|{{ 1..x }}|
{{ true }} {{ True }} {{ false }} {{ False }} {{ none }} {{ None }}
{% set x = [] %}{% for i in items %}{% set x = x + [i] %}{% endfor %}{{ x }}
{{ [1,2,] }} {{ (1,) }} {{ {'a': 1,} }} {{ [] }} {{ () }}
{{ {'a': 1, 'a': 2} }} {{ {1: 'a', true: 'b', 1.0: 'c'} }}
{{ {[1]: 2} }}
{{ 'x'.join(d) }} {{ d | join('-') }} {{ 'x' in {'x': 1} }} {{ d.a[1]['k'] }}
{{ 0.1 + 0.2 }} {{ 1 / 3 }} {{ 10 / 5 }} {{ 1e3 | int }} {{ 3.0 == 3 }} {{ 1e100 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }} {{ 100000000000000000000.0 }}
{{ 9223372036854775807 }} {{ -9223372036854775807 }}
{{ ''.join(['a', 'b']) ~ '\n' ~ 'c' }}
{{ kwargs }} {{ varargs }}|
{{ dict(a=1)['a'] }} {{ dict(a=1).a }} {{ dict(**d).b }} {{ '{} {}'.format(*['a', 'b']) }}
{{ "a\
b" }}
"""

# What jinja2 can do (or refuses for another reason) and SepLLM says that it does not: a part of its message.
REFUSED = {
    "{% include 'x' %}": "statement 'include'",
    "{% import 'x' as y %}": "statement 'import'",
    "{% from 'x' import y %}": "statement 'from'",
    "a\n{% extends 'x' %}": "line 2",
    "{% block a %}{% endblock %}": "statement 'block'",
    "{% do 1 %}": "statement 'do'",
    "{% autoescape true %}{% endautoescape %}": "statement 'autoescape'",
    "{% for i in items recursive %}{{ i }}{% endfor %}": "recursive loops",
    "{{ d.items }}": "printing a function",
    "{{ range }}": "printing a function",
    "{{ s.upper }}": "printing a function",
    "{{ range(3) }}": "printing a range()",
    "{{ items | map('upper') }}": "printing a generator",
    "{{ namespace() }}": "printing a Namespace",
    "{{ lipsum() }}": "function 'lipsum'",
    "{{ joiner() }}": "function 'joiner'",
    "{{ cycler(1)() }}": "function 'cycler'",
    "{{ html | striptags }}": "filter 'striptags'",
    "{{ s | truncate(5) }}": "filter 'truncate'",
    "{{ s | wordwrap(5) }}": "filter 'wordwrap'",
    "{{ s | urlencode }}": "filter 'urlencode'",
    "{{ d | xmlattr }}": "filter 'xmlattr'",
    "{{ d | pprint }}": "filter 'pprint'",
    "{{ people | groupby('name') | list }}": "filter 'groupby'",
    "{{ 'a' | random }}": "filter 'random'",
    "{{ s.swapcase() }}": "method 'swapcase'",
    "{{ s.encode() }}": "method 'encode'",
    "{{ s | lower is lower }}": "tests 'lower' and 'upper'",
    "{{ '{:>5}'.format('a') }}": "widths and types",
    "{{ '{0.x}'.format('a') }}": "attributes within a format",
    "{{ '%e' % 1.5 }}": "format '%e'",
    "{{ '\\N{DASH}' }}": "characters by name",
    "{{ 1 is sameas 1 }}": "test 'sameas'",
    "{{ '\u0663' | int }}": "digits of other scripts",
    "{{ (html | safe).upper() }}": "marked as safe",
    "{{ (-8) ** 0.5 }}": "complex numbers",
    "{% for i in items %}{% for j in loop %}{% endfor %}{% endfor %}": "walking over 'loop'",
    "{{ strftime_now('%Q') }}": "strftime_now()",
    "{% set \u00e4 = 1 %}": "letters outside ASCII",
    "{{ 99999999999 * 99999999999 }}": "64 bits",
    "{{ 99999999999999999999 }}": "64 bits",
    "{{ 2 ** 64 }}": "64 bits",
    "{{ -9223372036854775807 - 2 }}": "64 bits",
}

WHITESPACE = [
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "  {% if true %}  \n  b\n  {% endif %}  \nc",
    "a {% if true %} b {% endif %} c",
    "{%- if true -%}\n\n b \n\n{%- endif -%}\n c",
    "a\n  {%+ if true %}\nb\n  {%+ endif %}\n",
    "a\n{% if true +%}\nb{% endif +%}\nc",
    "  {# c #}\nb\n  {# c #} d\n",
    "a\n  {{ 1 }}\n  {{- 2 -}}\n  b",
    "a\r\n{% if true %}\r\nb\r{% endif %}\r\nc\r\n",
    "line\n\n",
    "\n\n{{ 1 }}\n\n",
    "a\n   {%- for i in [1,2] %}\n   {{ i }}\n   {%- endfor %}\nb",
    "a\n\t {% for i in [1,2] %}\n\t {{ i }}\n\t {% endfor %}\nb",
    "x {#- c -#} y\n{#+ d +#}\nz",
    "  {% raw %}\n  {{ x }}\n  {% endraw %}\n  y",
    "  {%- raw %}\n  {{ x }}\n  {%- endraw %}\n  y",
    "{% set x = 1 %}  {% set y = 2 %}\n\n  {% set z = 3 %}z",
    "\u00a0{% if true %}\u2003{%- endif %}x",
    "a{% if true %}\n\nb{% endif %}\n\n\nc",
    "  {%- if true %} x{% endif -%}  \n  y",
    "{{ 'x' }}\n{% if true %}\ny\n{% endif %}{{ 'z' }}\n",
    "{#c#}\n  {#c#}  {% if true %}q{% endif %}",
    "",
    "\n",
    "\r\n",
    " {%+raw%} x {%+ endraw +%}\n y",
    "{{'a'}}  {% if true %}\n b",
]


def made(template, variables):
    try:
        return {"expected": chat_template_utils._compile_jinja_template(template).render(**variables)}
    except Exception as error:  # whatever it is: ours has to refuse the template too
        return {"error": f"{type(error).__name__}: {error}"}


def conversations():
    for path in sorted(FOLDER.glob("*.jinja")):
        for (name, messages), prompt in itertools.product(CONVERSATIONS.items(), (False, True)):
            variables = {"messages": messages, "add_generation_prompt": prompt, "tools": None, **SPECIAL}
            yield path, f"{name}{', prompt' if prompt else ''}", variables
        variables = {"messages": CONVERSATIONS["tool"], "add_generation_prompt": True, "tools": TOOLS, **SPECIAL}
        yield path, "with tools", variables
        variables = {"messages": CONVERSATIONS["one"], "add_generation_prompt": True, "enable_thinking": False}
        yield path, "no special tokens", variables


def main():
    cases = []
    for path, name, variables in conversations():
        made_of = made(path.read_text(encoding="utf-8"), variables)
        cases.append({"file": path.name, "name": name, "variables": variables, **made_of})
    multi_line = SNIPPETS.strip("\n").replace("\\\nb\"", "\\\x00b\"")
    lines = []
    for line in multi_line.split("\n"):
        # A construct may run on: a comment or string over two lines.
        if line.startswith(("line #}", "{% endfor %}")) and lines:
            lines[-1] += "\n" + line
        else:
            lines.append(line.replace("\x00", "\n"))
    for template in lines + WHITESPACE:
        cases.append({"template": template, **made(template, VARIABLES)})
    cases += [{"template": template, "refused": part} for template, part in REFUSED.items()]
    document = {"clock": CLOCK, "variables": VARIABLES, "cases": cases}
    text = json.dumps(document, ensure_ascii=True, indent=0)
    (FOLDER / "cases.json").write_text(text + "\n", encoding="utf-8")
    errors = sum("error" in case for case in cases)
    print(f"{len(cases)} cases, {errors} of them errors")


main()
