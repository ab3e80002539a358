"""Writes src/text/template/letter_cases.inc: what utf8proc does not know of letter case, from Python's own tables.

Characters that become several in upper or title case (ß: SS, Ss), and characters that have case without being
letters of a case (ª). Run: python oracles/make_letter_cases.py > src/text/template/letter_cases.inc
"""

import unicodedata

ALL = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges(characters):
    out = []
    for c in sorted(map(ord, characters)):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def literal(text):
    return "".join(f"\\x{byte:02X}" for byte in text.encode())


def has_case(c):
    return (c + "a").title().endswith("a")


print("// Written by oracles/make_letter_cases.py: do not edit.")
print("constexpr SeveralLetters kSeveralLetters[] = {")
for c in ALL:
    if len(c.upper()) > 1:
        print(f'    {{0x{ord(c):04X}, "{literal(c.upper())}", "{literal(c.title())}"}},')
print("};\n")
print("constexpr CodePointRange kOtherCased[] = {")
for first, last in ranges(c for c in ALL if has_case(c) and unicodedata.category(c) not in ("Lu", "Ll", "Lt")):
    print(f"    {{0x{first:04X}, 0x{last:04X}}},")
print("};\n")
print("constexpr CodePointRange kOtherDigits[] = {")
for first, last in ranges(c for c in ALL if c.isdigit() and not c.isdecimal()):
    print(f"    {{0x{first:04X}, 0x{last:04X}}},")
print("};")
