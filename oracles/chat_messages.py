"""Messages of conversations, as apply_chat_template takes them."""


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


# With and without system message, several turns, odd characters.
ODD = "  \tZwölf größere\u00a0Bären, 字 と 🙂 \"quoted\" 'it's' \\n {{ x }} {% if %}\r\n\r\n\n end 1234567 \n"
CONVERSATIONS = [
    [user("What is your name?")],
    [system("Be brief."), user("Hello")],
    [user("Hello"), assistant(" Hi there. "), user("How are you?\n"), assistant("Well."), user("Bye")],
    [system(" Rules.\n"), user("a"), assistant("b"), user("c")],
    [system(ODD), user(ODD), assistant(ODD), user(ODD)],
    [user("")],
    [user("1+1?"), assistant("<think>\nIt is two.\n</think>\n\n2"), user("Sure?")],
]
