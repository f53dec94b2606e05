r"""Expressions in LaTeX or plain text as trees, by recursive descent: what normalise leaves, `2\frac{1}{3}x^2-\sqrt2`.

A tree is a tuple: ("number", Fraction), ("constant", "pi" | "e" | "i"), ("variable", name), ("+", a, b), ("-", a),
("*", a, b), ("/", a, b), ("^", a, b), ("!", a), ("call", function, argument, ...).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from scaling.answers import TooLargeError, UnreadableError

Tree = tuple[Any, ...]
DEPTH, DIGITS = 60, 200  # of nested parts, of one number

_GREEK = """
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau
upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell
"""
GREEK = set(_GREEK.split())
_FUNCTIONS = """
sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp abs floor ceil arcsinh arccosh
arctanh
"""
FUNCTIONS = set(_FUNCTIONS.split())
_PLAIN = sorted([*FUNCTIONS, "sqrt", "pi", *(g for g in GREEK if len(g) > 2)], key=len, reverse=True)
_DECORATED = {"overline", "vec", "hat", "bar", "tilde", "overrightarrow", "widehat", "angle", "triangle"}
_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>\d+(?:\.\d*)?|\.\d+)"
    r"|\\(?P<command>[A-Za-z]+)"
    rf"|(?P<plain>{'|'.join(_PLAIN)})(?![a-z])"
    r"|(?P<letter>[^\W\d_])"
    r"|(?P<sign>[-+*/^!(){}\[\]|,_'°%])"
)
_OPENING = {"(": ")", "[": "]", "{": "}"}


class _Token:
    __slots__ = ("after_space", "kind", "text")

    def __init__(self, kind: str, text: str, after_space: bool):
        self.kind, self.text, self.after_space = kind, text, after_space


def _tokens(text: str) -> list[_Token]:
    found, place, space = [], 0, False
    text = text.replace("‹", " ").replace("›", " ")
    # Runs of letters that are no known name are words, not products; `ab` and `xyz` are products.
    for word in re.findall(r"(?<![\\A-Za-z])[A-Za-z]{4,}", text):
        if not re.fullmatch("(?:" + "|".join(_PLAIN) + ")+[a-zA-Z]{0,2}", word):
            raise UnreadableError(f"a word: {word}")
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise UnreadableError(f"a sign that is not read: {text[place]!r}")
        kind = str(match.lastgroup)
        if kind != "space":
            found.append(_Token(kind, match.group(kind), space))
        place, space = match.end(), kind == "space"
    return found


def parse(text: str) -> Tree:
    """The tree of an expression. Raises UnreadableError, or TooLargeError for a number that no key holds."""
    parser = _Parser(_tokens(text))
    tree = parser.sum()
    if parser.token is not None:
        raise UnreadableError(f"nothing is expected at {parser.token.text!r}")
    return tree


class _Parser:
    def __init__(self, tokens: list[_Token]):
        self.tokens, self.place, self.depth, self.bars = tokens, 0, 0, 0

    @property
    def token(self) -> _Token | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def at(self, *texts: str) -> bool:
        """Whether a sign (or command, as \\name) is next."""
        token = self.token
        return token is not None and (
            (token.kind == "sign" and token.text in texts) or (token.kind == "command" and "\\" + token.text in texts)
        )

    def take(self) -> _Token:
        token = self.token
        if token is None:
            raise UnreadableError("the expression ends too early")
        self.place += 1
        return token

    def expect(self, text: str) -> None:
        if not self.at(text):
            raise UnreadableError(f"{text!r} is missing")
        self.place += 1

    # ------------------------------------------------------------ sums, products, powers

    def sum(self) -> Tree:
        self.depth += 1
        if self.depth > DEPTH:
            raise TooLargeError("too deeply nested")
        if self.at("+"):
            self.take()
        tree = self.product()
        while self.at("+", "-"):
            minus = self.take().text == "-"
            part = self.product()
            tree = ("+", tree, ("-", part) if minus else part)
        self.depth -= 1
        return tree

    def product(self) -> Tree:
        if self.at("-"):
            self.take()
            return ("-", self.product())
        tree = self.power()
        while True:
            if self.at("*", "/"):
                sign = self.take().text
                if self.at("-", "+"):
                    minus = self.take().text == "-"
                    part = ("-", self.power()) if minus else self.power()
                else:
                    part = self.power()
                tree = (sign, tree, part)
            elif self.starts():
                tree = self.juxtaposed(tree)
            else:
                return tree

    def starts(self) -> bool:
        """Whether the next token can begin a factor."""
        token = self.token
        if token is None or (token.kind == "sign" and token.text not in "({[|"):
            return False
        if token.text == "|" and token.kind == "sign":
            return self.bars == 0
        return not (token.kind == "command" and token.text in ("rfloor", "rceil"))

    def juxtaposed(self, tree: Tree) -> Tree:
        token = self.token
        assert token is not None
        if token.kind == "number" and self.tokens[self.place - 1].text != "!":
            # 2 3/4 is a mixed number and 3!7! a product; any other number behind a factor is none of ours: 7 8, x2.
            raise UnreadableError("a number behind a factor")
        part = self.power()
        whole = tree[0] == "number" and tree[1].denominator == 1
        if whole and token.kind == "command" and token.text == "frac" and part[0] == "/":
            top, bottom = part[1], part[2]
            if top[0] == bottom[0] == "number" and top[1].denominator == bottom[1].denominator == 1:
                if not 0 < top[1] < bottom[1]:
                    raise UnreadableError("a whole number before an improper fraction")
                return ("+", tree, part)
        return ("*", tree, part)

    def power(self) -> Tree:
        tree = self.postfix(self.atom())
        if self.at("^"):
            self.take()
            tree = self.postfix(("^", tree, self.exponent()))
        return tree

    def exponent(self) -> Tree:
        if self.at("-", "+"):
            minus = self.take().text == "-"
            inner = self.exponent()
            return ("-", inner) if minus else inner
        tree = self.atom()
        if self.at("^"):
            self.take()
            return ("^", tree, self.exponent())
        return tree

    def postfix(self, tree: Tree) -> Tree:
        while self.at("!", "°", "%"):
            sign = self.take().text
            if sign == "!":
                if tree[0] == "!" or self.at("!"):
                    raise UnreadableError("a factorial of a factorial")
                tree = ("!", tree)
            elif sign == "%":
                tree = ("/", tree, ("number", Fraction(100)))
            else:
                tree = ("*", tree, ("/", ("constant", "pi"), ("number", Fraction(180))))
        return tree

    # ------------------------------------------------------------ atoms

    def atom(self) -> Tree:
        token = self.take()
        if token.kind == "number":
            return self.number(token)
        if token.kind == "letter":
            return self.name(token.text)
        if token.kind == "sign":
            if token.text in _OPENING:
                tree = self.inside(_OPENING[token.text])
                return tree
            if token.text == "|":
                self.bars += 1
                tree = self.sum()
                self.bars -= 1
                self.expect("|")
                return ("call", "abs", tree)
            raise UnreadableError(f"nothing is expected at {token.text!r}")
        return self.command(token.text)

    def inside(self, closing: str) -> Tree:
        bars, self.bars = self.bars, 0
        tree = self.sum()
        self.bars = bars
        self.expect(closing)
        return tree

    def number(self, token: _Token) -> Tree:
        if len(token.text) > DIGITS:
            raise TooLargeError("a number of too many digits")
        value = Fraction(token.text.rstrip(".") or "0") if token.text != "." else Fraction(0)
        if "." in token.text and self.at("\\overline"):
            self.take()
            self.expect("{")
            block = self.take()
            self.expect("}")
            if block.kind != "number" or not block.text.isdigit() or len(block.text) > DIGITS:
                raise UnreadableError("a block that does not repeat")
            places = len(token.text.partition(".")[2])
            value += Fraction(int(block.text), 10**places * (10 ** len(block.text) - 1))
        following = self.tokens[self.place : self.place + 3]
        mixed = len(following) == 3 and following[0].after_space and following[1].text == "/"
        if mixed and all(part.kind == "number" and part.text.isdigit() for part in following[::2]):
            top, bottom = int(following[0].text), int(following[2].text)
            if value.denominator != 1 or not 0 < top < bottom:
                raise UnreadableError("a whole number before an improper fraction")
            self.place += 3
            return ("+", ("number", value), ("number", Fraction(top, bottom)))
        return ("number", value)

    def name(self, text: str) -> Tree:
        subscript = ""
        if self.at("_"):
            self.take()
            if self.at("{"):
                self.take()
                while not self.at("}"):
                    subscript += self.take().text
                self.take()
            else:
                subscript = self.take().text
        while self.at("'"):
            subscript += self.take().text
        if not subscript:
            if text in ("e", "i"):
                return ("constant", text)
            if text in ("π", "pi"):
                return ("constant", "pi")
        return ("variable", f"{text}_{subscript}" if subscript else text)

    def argument(self) -> Tree:
        """Of \\frac, \\sqrt: a group, or the next digit or letter alone: \\frac12, \\sqrt2x."""
        token = self.token
        if token is not None and token.kind == "number" and len(token.text) > 1 and "." not in token.text:
            token.text, digit = token.text[1:], token.text[0]
            token.after_space = False
            return ("number", Fraction(int(digit)))
        if token is not None and token.kind == "sign" and token.text not in "({[|":
            raise UnreadableError("an argument is missing")
        return self.atom()

    def command(self, name: str) -> Tree:
        if name == "frac":
            return ("/", self.argument(), self.argument())
        if name in ("binom", "tbinom", "dbinom"):
            return ("call", "binomial", self.argument(), self.argument())
        if name == "sqrt":
            index: Tree | None = None
            if self.at("["):
                self.take()
                index = self.inside("]")
            inner = self.root_argument()
            return ("call", "sqrt", inner) if index is None else ("call", "root", inner, index)
        if name in ("lfloor", "lceil"):
            tree = self.sum()
            self.expect("\\rfloor" if name == "lfloor" else "\\rceil")
            return ("call", "floor" if name == "lfloor" else "ceil", tree)
        if name in FUNCTIONS:
            return self.function(name)
        if name == "pi":
            return self.name("pi")
        if name in GREEK:
            return self.name(name)
        if name in _DECORATED:
            start = self.place
            if name in ("angle", "triangle") and not self.at("{"):
                while self.token is not None and self.token.kind == "letter":
                    self.take()
            if self.place == start:
                self.argument()
            inner = "".join(token.text for token in self.tokens[start : self.place])
            return ("variable", f"{name} {inner.strip('{}')}")
        raise UnreadableError(f"a command that is not read: \\{name}")

    def root_argument(self) -> Tree:
        token = self.token
        if token is not None and token.kind == "number":  # \sqrt10 is meant as the root of 10
            self.take()
            return self.number(token)
        return self.argument()

    def function(self, name: str) -> Tree:
        base: Tree | None = None
        power: Tree | None = None
        while self.at("_", "^"):
            if self.take().text == "_":
                base = self.argument()
            else:
                power = self.exponent()
        if self.at("(", "{", "["):
            inner = self.postfix(self.atom())
            if self.at("^"):  # \ln(x)^2 is the square of the logarithm
                self.take()
                power = self.exponent()
        else:
            minus = self.at("-") and bool(self.take())
            if not self.starts():
                raise UnreadableError(f"{name} of nothing")
            inner = self.power()
            while self.starts() and not self.function_next() and not self.at("("):
                inner = self.juxtaposed(inner)
            inner = ("-", inner) if minus else inner
        minus_one = ("-", ("number", Fraction(1)))
        if power == minus_one and name in ("sin", "cos", "tan"):
            return ("call", f"arc{name}", inner)
        tree: Tree = ("call", name, inner) if base is None else ("call", name, inner, base)
        return tree if power is None else ("^", tree, power)

    def function_next(self) -> bool:
        token = self.token
        return token is not None and token.kind in ("command", "plain") and token.text in FUNCTIONS


def variables(tree: Tree) -> set[str]:
    """Names of the variables of a tree."""
    if tree[0] == "variable":
        return {tree[1]}
    found: set[str] = set()
    for part in tree[1:]:
        if isinstance(part, tuple):
            found |= variables(part)
    return found
