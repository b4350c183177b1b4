from __future__ import annotations

from builder.toolchain import pyconfig

TEMPLATE = """\
/* Define to 1 if you have the <sys/event.h> header file. */
/* #undef HAVE_SYS_EVENT_H */

/* Define to 1 if you have the `preadv' function. */
#define HAVE_PREADV 1

/* Define if you have the 'openpty' function. */
#define HAVE_OPENPTY 1

/* Define to 1 if the system has the type `foo'. */
#define HAVE_FOO 1

#define SIZEOF_PTHREAD_KEY_T 4
#define SIZEOF_LONG_DOUBLE 16
# define _GNU_SOURCE 1
#define PLATLIBDIR "lib"
"""


def test_the_template_says_what_to_ask() -> None:
    questions = pyconfig.questions_of(TEMPLATE)
    assert questions.headers == {"HAVE_SYS_EVENT_H": "sys/event.h"}
    assert questions.functions == {"HAVE_PREADV": "preadv", "HAVE_OPENPTY": "openpty"}
    assert questions.sizes == {
        "SIZEOF_PTHREAD_KEY_T": "sizeof(pthread_key_t)",
        "SIZEOF_LONG_DOUBLE": "sizeof(long double)",
    }


def test_a_function_newer_than_the_baseline_is_not_there() -> None:
    questions, symbols = pyconfig.questions_of(TEMPLATE), frozenset({"preadv"})
    at_11 = pyconfig.function_macros(questions, symbols, (11, 0))
    assert at_11 == {"HAVE_PREADV": "1", "HAVE_OPENPTY": None}
    assert pyconfig.function_macros(questions, symbols, (10, 15))["HAVE_PREADV"] is None


def test_answers_take_the_place_of_the_template() -> None:
    answers = {"HAVE_SYS_EVENT_H": "1", "HAVE_PREADV": None, "NEW": "2", "NEVER": None}
    text = pyconfig.with_macros(TEMPLATE, answers)
    macros = pyconfig.macros_of(text)
    assert macros["HAVE_SYS_EVENT_H"] == "1"
    assert macros["HAVE_PREADV"] is None
    assert macros["NEW"] == "2"
    assert "NEVER" not in macros
    assert macros["PLATLIBDIR"] == '"lib"'
    assert pyconfig.with_macros(text, answers) == text


def test_assembly_flags_follow_the_architecture() -> None:
    arm, intel = (pyconfig.darwin_macros(a, free_threaded=False) for a in ("arm64", "x86_64"))
    assert arm["HAVE_GCC_ASM_FOR_X64"] is None
    assert intel["HAVE_GCC_ASM_FOR_X64"] == "1"
    assert pyconfig.darwin_macros("arm64", free_threaded=True)["Py_GIL_DISABLED"] == "1"
