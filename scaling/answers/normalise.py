r"""One way of writing: full-width signs, markdown, wrappers, spacing, synonyms and digit groups are made plain.

`\text{cm}` becomes `‹cm›`: what was marked as text stays marked, for `5\text{m}` is five metres and `5m` is a product.
"""

from __future__ import annotations

import re
import unicodedata

_SIGNS = {
    "²": "^2", "³": "^3", "⁴": "^4", "¹": "^1", "⁰": "^0", "⁻": "^-", "½": " 1/2", "⅓": " 1/3", "⅔": " 2/3",
    "¼": " 1/4", "¾": " 3/4", "⅕": " 1/5", "⅛": " 1/8", "√": r"\sqrt ", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ",
    "≥": r"\ge ",
    "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "×": "*", "·": "*", "⋅": "*", "∙": "*", "•": "*", "÷": "/", "∕": "/",
    "⁄": "/", "−": "-", "–": "-", "—": "-", "º": "°", "˚": "°", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ",
    "∈": r"\in ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "±": r"\pm ", "∓": r"\mp ",
    "≈": r"\approx ",
    "′": "'", "’": "'", "‘": "'",
    "“": '"', "”": '"', "。": ".", "、": ",", "，": ",", "；": ";", "：": ":", "…": r"\ldots ", "∖": r"\setminus ",
    "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ", "∠": r"\angle ", "→": r"\to ",
    "＄": "$", "￥": "¥",
    "⟨": r"\langle ", "⟩": r"\rangle ", "℃": "°C", "℉": "°F", "％": "%", "\u00ad": "", "\u200b": "", "\ufeff": "",
    "\u2061": "", "\u2062": "", "▁": " ",
}  # fmt: skip
_SIGN = re.compile("|".join(map(re.escape, _SIGNS)))
_SPACES = re.compile(
    r"(?<!\\)\\[;: ]|\\(?:quad|qquad|thinspace|medspace|thickspace|enspace|space|nobreakspace|hfill)(?![A-Za-z])|~"
)
_NOTHING = re.compile(
    r"\\!|\\(?:displaystyle|textstyle|scriptstyle|left|right|[bB]igg?[lrm]?|limits|nolimits|mathstrut|strut|negthinspace"
    r"|bf|rm|it|tt|sf|cal|normalsize|large|Large|small|boldmath|hline|tag\*?\{[^{}]*\})(?![A-Za-z])"
    r"|\\[hv]space\*?\{[^{}]*\}|\\phantom\{[^{}]*\}|\\label\{[^{}]*\}|\\color\{[^{}]*\}"
)
_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up|md|sc)?|math(?:rm|bf|it|sf|tt|normal|cal|scr|frak|ord|op|bin)|mbox|hbox"
    r"|operatorname\*?|bold|boldsymbol|pmb|bm|emph|underline|uline|ensuremath|textcolor\{\w*\}|mathit|unit|si|mathop)\s*\{([^{}]*)\}"
)
_BARE_TEXT = re.compile(r"\\(?:text|mathrm|mathbf)\s*([A-Za-z0-9])(?![A-Za-z])")
_SYNONYMS = [
    (r"\\(?:[dtc]|s|nice|display)?frac(?![A-Za-z])", r"\\frac "),
    (r"\\(?:leqslant|leqq|leq|le|lte)(?![A-Za-z])", r"\\le "),
    (r"\\(?:geqslant|geqq|geq|ge|gte)(?![A-Za-z])", r"\\ge "),
    (r"<=|=<", r"\\le "), (r">=|=>", r"\\ge "), (r"!=", r"\\ne "),
    (r"\\lt(?![A-Za-z])", "<"), (r"\\gt(?![A-Za-z])", ">"),
    (r"\\(?:neq|ne|not\s*=)(?![A-Za-z=])", r"\\ne "), (r"\\not\s*=", r"\\ne "),
    (r"\\(?:times|cdot|ast|bullet)(?![A-Za-z])", "*"), (r"(?<=[\w)}])\*\*(?=\s*[\d({a-z])", "^"),
    (r"\\div(?![A-Za-z])", "/"), (r"\\colon(?![A-Za-z])", ":"),
    (r"\\(?:varnothing|O|empty)(?![A-Za-z])", r"\\emptyset "), (r"\\\{\s*\\\}", r"\\emptyset "),
    (r"\\lbrace(?![A-Za-z])", r"\\{"), (r"\\rbrace(?![A-Za-z])", r"\\}"),
    (r"\\langle(?![A-Za-z])", "("), (r"\\rangle(?![A-Za-z])", ")"),
    (r"\\lbrack(?![A-Za-z])", "["), (r"\\rbrack(?![A-Za-z])", "]"),
    (r"\\lparen(?![A-Za-z])", "("), (r"\\rparen(?![A-Za-z])", ")"),
    (r"\\[lr]?[vV]ert(?![A-Za-z])|\\\|", "|"), (r"\\(?:mid|vert)(?![A-Za-z])", "|"),
    (r"\\(?:land|wedge|&)(?![A-Za-z])", " and "), (r"\\(?:lor|vee)(?![A-Za-z])", " or "),
    (r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\(?:degree|textdegree|circ)(?![A-Za-z])|\^\s*\{?\s*o\s*\}(?![A-Za-z])", "°"),
    (r"\^\s*\{\s*°\s*\}|\^\s*°", "°"),
    (r"\\(?:ldots|dots|cdots|dotsc|dotsb|hdots)(?![A-Za-z])|\.{3,}", r"\\ldots "),
    (r"\\(?:backslash|smallsetminus|diagdown)(?![A-Za-z])", r"\\setminus "),
    (r"\^\s*\{?\s*\\prime\s*\}?|\\prime(?![A-Za-z])", "'"),
    (r"\\infin(?![A-Za-z])", r"\\infty "),
    (r"\\(?:thickapprox|approxeq|simeq|fallingdotseq|doteq)(?![A-Za-z])", r"\\approx "),
    (r"\\[dt]?binom(?![A-Za-z])", r"\\binom "),
    (r"\\(?:dot|overset\{\.\})\s*\{?(\d)\}?\s*\\dot\s*\{?(\d)\}?", r"\\overline{\1\2}"),
    (r"\\dot\s*\{?(\d+)\}?", r"\\overline{\1}"), (r"(\d+\.\d*)\((\d+)\)(?!\s*[\d^!])", r"\1\\overline{\2}"),
    (r"\\bar\s*\{?(\d+)\}?", r"\\overline{\1}"), (r"\\overline\s*(\d)(?!\d)", r"\\overline{\1}"),
    (r"\\(?:mathbb|Bbb|mathds)\s*\{?\s*R\s*\}?|\\(?:Re|reals|R)(?![A-Za-z])", r"\\reals "),
    (r"\\(?:tg)(?![A-Za-z])", r"\\tan "), (r"\\(?:ctg|cotan)(?![A-Za-z])", r"\\cot "),
    (r"\\(arc(?:tg))(?![A-Za-z])", r"\\arctan "), (r"\\(?:lor|or)(?![A-Za-z])", " or "),
    (r"\\(?:displayStyle|mathrlap)(?![A-Za-z])", ""),
]  # fmt: skip
_COMPILED = [(re.compile(pattern), new) for pattern, new in _SYNONYMS]
_OVER = re.compile(r"\{([^{}]*?)\\over(?![A-Za-z])([^{}]*)\}")
_LEAD = re.compile(
    r"^[\s‹›]*(?:so|thus|hence|therefore)?,?[\s‹›]*(?:(?:the|my|our)\s+)?(?:final\s+|correct\s+)?(?:answers?|result|solutions?|value)"
    r"\s*(?:is|are|:|=|would be)+[\s›‹:]*"
    r"|^[\s‹]*(?:about|approximately|approx\.?|roughly|only|exactly|answer)\s*:?[\s›]+(?=[-\d\\$])"
    r"|^\s*#+\s*|^\s*答案[是为：:]*\s*",
    re.IGNORECASE,
)


_SAID = re.compile(
    r"^[‹\s]*[A-Za-z][A-Za-z\s‹›]*?(?<![A-Za-z])(?:is|are|equals)(?![A-Za-z])(?:\s*equal to)?[\s›:]*(?=[-+\d\\$({\[.])"
)
_DENIED = re.compile(r"\b(?:not|no|isn|wrong|never|or|if|nor|neither|cannot|false|unless)\b", re.IGNORECASE)


def normalise(text: str) -> str:
    """An answer in one way of writing; still LaTeX, with `*`, `/`, `°`, `%`, `$` as signs and `‹ ›` around text."""
    text = re.sub("(?:\\d[\u0304\u0305])+", lambda match: f"\\overline{{{match[0][::2]}}}", text)
    text = unicodedata.normalize("NFKC", _SIGN.sub(lambda match: _SIGNS[match.group()], text))
    text = re.sub("[‹›\ue000]", " ", text)  # our own marks
    if "####" in text:
        text = text.rpartition("####")[2]
    text = _unwrapped(text.strip())
    text = text.replace("{:}", ":").replace("{,}", ",\\!").replace("\\,", " ")
    text = re.sub(r"(?<=\d),(?:\\!|\\ )\s*(?=\d{3}(?!\d))", ",\ue000", text)  # marked as a separator of thousands
    text = re.sub(r"(?<=\d),\\!(?=\d)", ".", text)  # a decimal comma
    text = _NOTHING.sub("", _SPACES.sub(" ", text))
    for _ in range(6):  # wrappers inside wrappers
        unwrapped = _TEXT.sub(_marked, text)
        if unwrapped == text:
            break
        text = unwrapped
    text = _BARE_TEXT.sub(r"\1", text)
    if len(re.findall(r"(?<!\\)\$", text)) % 2 == 0:
        text = re.sub(r"(?<!\\)\$", "", text)
    text = text.replace("\\$", "$").replace("\\%", "%").replace("\\#", "#").replace("\\_", "_").replace("\\&", "&")
    for pattern, new in _COMPILED:
        text = pattern.sub(new, text)
    for _ in range(4):
        text = _OVER.sub(r"\\frac {\1}{\2}", text)
    text = re.sub(r"°\s*‹?\s*([CF])(?![A-Za-z])\s*›?", r" ‹°\1›", text)
    text = re.sub(r"(?<=\d)\s?\^?\s?\{?‹?(?:st|nd|rd|th)›?\}?(?![A-Za-z])", "", text)  # 3rd
    text = re.sub(r"(?<=\d)(?:E[+]?|(?<=\.\d)e[+]?|(?<=\.\d\d)e[+]?|e[+])(-?\d+)(?![\w.])", r"*10^{\1}", text)
    text = re.sub(r"(?<!\\)\\(?=[,.;:\s]|$)", " ", _grouped(text))
    text = _LEAD.sub("", " ".join(text.split()))
    said = _SAID.match(text)
    if said is not None and not _DENIED.search(said[0]):
        text = text[said.end() :]
    text = (
        re.sub(r"(?<=[\d}›])\s*(?:\(\s*(‹?[A-Za-z/^\d\s]+›?)\s*\)|‹\s*\(\s*([A-Za-z/^\d\s]+)\)\s*›)$", r" ‹\1\2›", text)
        if "‹" in text
        else text
    )
    return _stripped(text)


def _marked(match: re.Match[str]) -> str:
    inner = match.group(1)
    letters = re.sub(r"[\s‹›]", "", inner)
    # A number, or a letter, in bold type is what it is; words are text.
    return inner if not re.search(r"[A-Za-z一-鿿]", letters) else f"‹{inner}›"


def _unwrapped(text: str) -> str:
    """Without what stands around the whole: boxes, $ $, \\( \\), \\[ \\], ** **, quotes."""
    for _ in range(8):
        before = text
        for pattern in (
            r"\\f?box(?:ed)?\s*\{(.*)\}", r"\$\$(.*)\$\$", r"(?<!\\)\$([^$]*)(?<!\\)\$", r"\\\((.*)\\\)",
            r"\\\[(.*)\\\]",
            r"\*\*(.*)\*\*", r"__(.*)__", r"`+(.*?)`+", r'"(.*)"', r"\*([^*]*)\*", r"''(.*)''",
        ):  # fmt: skip
            match = re.fullmatch(pattern, text, re.DOTALL)
            if match is not None and _balanced(match.group(1)):
                text = match.group(1).strip()
        text = re.sub(r"\s*[.;,]+$", "", text) if not text.endswith(("...", "\\,", "\\;")) else text
        if text == before:
            break
    return re.sub(r"\\f?box(?:ed)?(?=\s*\{)", "", text)


def _balanced(text: str) -> bool:
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth < 0:
            return False
    return depth == 0


def _stripped(text: str) -> str:
    """Without braces around the whole, and without a full stop at the end."""
    for _ in range(8):
        before = text
        text = text.strip()
        if text.startswith("{") and text.endswith("}") and _balanced(text[1:-1]):
            text = text[1:-1]
        if not text.endswith("\\ldots"):
            text = re.sub(r"[\s.,;:]+$", "", text)
        if text.startswith("‹") and text.endswith("›") and text.count("‹") == 1:
            text = f"‹{text[1:-1].strip().rstrip('.')}›"
        text = text.rstrip("*").lstrip("*") if text.startswith("**") or text.endswith("**") else text
        if text == before:
            return text
    return text


def _grouped(text: str) -> str:
    """Digit groups made one number: 12,345 and 12 345 678, but not the two numbers of (100,200)."""
    text = re.sub(r"(?<![\d.])(\d{1,3})((?: \d{3})+)(?![\d/]| ?\d)", lambda m: m[1] + m[2].replace(" ", ""), text)
    spaced = ", " in text or "; " in text
    found, depth, place = "", 0, 0
    for match in re.finditer(r"\\?[(\[{]|\\?[)\]}]|(?<![\d.,\ue000])\d{1,3}(?:,\ue000?\d{3})+(?![\d,])", text):
        token = match.group()
        if token[-1] in "([{":
            depth += 1
        elif token[-1] in ")]}":
            depth -= 1
        elif depth == 0 or spaced or "\ue000" in token:
            found += text[place : match.start()] + token.replace(",", "").replace("\ue000", "")
            place = match.end()
    return (found + text[place:]).replace("\ue000", "")


def words(text: str) -> str:
    """A text for comparison as words: without marks, case, articles and end signs."""
    plain = re.sub(r"\\(?:text|mathrm)|[‹›{}\"'`*$\\]", " ", text).lower()
    plain = re.sub(r"\b(?:the|a|an)\b", " ", plain)
    return " ".join(re.sub(r"[.,;:!?]+(?=\s|$)", " ", plain).split())
