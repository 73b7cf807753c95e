"""Whether a text is English, by the small words in it."""

import re
from functools import lru_cache

_WORDS = {
    "en": """
        a about after all an and any are as at be been before but by can could did do does for from had has have he her
        his how i if in is it its may me my not of on or our she so that the their them there they this to was we were
        what when where which who will with would you your
    """,
    "de": """
        aber als am an auf aus bei bin bis bitte das dass dem den der des die durch ein eine einen einer er es für
        haben hat ich ihr ihre im in ist kann mein meine mich mit nach nicht noch oder sich sie sind über um und uns
        unter von vor war wie wir wird wurde zu zum zur
    """,
    "fr": """
        à au aux avec ce cette dans de des du elle en est et il ils j je l la le les leur mais me mes mon ne nous ou où
        par pas plus pour que qui sa se ses son sont sur un une vos votre vous
    """,
    "es": """
        a al como con de del donde el ella en es esta este está la las le lo los me mi mis muy más no nos o para pero
        por que se sin son su sus tengo un una y ya yo
    """,
    "it": """
        a al alla anche che con da dal dalla dei del della di e è gli ha ho i il in io la le lei lo ma mi mia mio nel
        nella noi non o per più sono su sua suo un una
    """,
    "nl": """
        aan als bij dan dat de die dit door een en er haar heb heeft het hij hoe ik in is je kan kunt maar mijn naar
        niet nog of om ook op over te tot u uit uw van voor was wat we wij ze zijn
    """,
    "pt": """
        a ao aos as com como da das de do dos e é ela ele em eu foi meu minha mais na não nas no nos o os ou para pela
        pelo por que se sem seu sua são tenho um uma você
    """,
}
_SMALL = {language: frozenset(words.split()) for language, words in _WORDS.items()}
SMALL_WORDS = frozenset[str]().union(*_SMALL.values())
"""Small words of all seven languages together."""

_LETTERS = re.compile(r"[^\W\d_]+")


@lru_cache(maxsize=256)
def is_english(text: str) -> bool:
    """Tell whether a text has as many small words of English as of German, French, Spanish, Italian, Dutch, Portuguese.

    Args:
        text: Without any of these words it is taken for English.
    """
    words = [word.lower() for word in _LETTERS.findall(text)]
    counts = {language: sum(word in small for word in words) for language, small in _SMALL.items()}
    return counts["en"] >= max(counts.values())
