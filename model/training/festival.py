"""Festival's voices (Debian: festival and the packages in VOICES), which tell when which phone sounds.

Most are people of other languages, recorded in pieces (diphones) and joined: what they share with English is named as
in English, the rest is left unnamed. They speak made-up words in their own spelling, which all of these languages
pronounce by rule. Knows no model and no files.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torchaudio.functional import resample

from model.config import SAMPLE_RATE
from model.errors import TrainingError
from model.training.phones import ARPABET, PHONES, SILENCE, Spoken

FOLDER = Path("/usr/share/festival/voices")


@dataclass(frozen=True)
class Language:
    """How its voices spell and name: `encoding` of the text, syllables of `onsets` + `vowels`, phones by name.

    Sounds without an entry go unlabelled. No onsets: its voices read sentences.
    """

    encoding: str
    onsets: tuple[str, ...]
    vowels: tuple[str, ...]
    phones: Mapping[str, str]

    def made_up(self, rng: np.random.Generator) -> str:
        """Twelve words of one to three syllables; none where sentences are given."""
        if not self.onsets:
            return ""
        words = [
            "".join(
                str(rng.choice(self.onsets)) + str(rng.choice(self.vowels)) for _ in range(rng.integers(1, 4))
            )
            for _ in range(12)
        ]
        return " ".join(words)


def _names(apart: str) -> tuple[str, ...]:
    return tuple(apart.split())


def _same(names: str) -> dict[str, str]:
    """Phones that are called as in PHONES."""
    return {name: name for name in _names(names)}


_SHARED = _same("p b t d k f v s z m n l j a e i o u") | {"g": "ɡ", "r": "ɹ", "#": SILENCE, "pau": SILENCE}
ENGLISH = Language(
    "utf-8", (), (), ARPABET | {"axr": "ɚ", "el": "l", "em": "m", "en": "n", "hv": "h", "nx": "n"}
)
CZECH = Language(
    "iso-8859-2",
    _names("p b t d k g f v s z š ž č c ch h j l m n r st pr kl"),
    _names("a e i o u á é í ou"),
    _SHARED
    | {"a:": "a", "e": "ɛ", "e:": "ɛ", "i": "ɪ", "i:": "i", "o:": "o", "u": "ʊ", "u:": "u", "c": "s"}
    | {"c~": "tʃ", "ch": "x", "dz": "z", "dz~": "dʒ", "h": "h", "n*": "ŋ", "s~": "ʃ", "z~": "ʒ"},
)
FINNISH = Language(
    "latin-1",
    _names("p t k h j l m n r s v d"),
    _names("a e i o u y ä ö aa ii uu oo ei"),
    _SHARED
    | {"a": "ɑ", "e": "ɛ", "@": "æ", "7": "ø", "y": "y", "N": "ŋ", "h": "h", "S": "ʃ", "w": "w"}
    | {"a:": "ɑ", "e:": "ɛ", "@:": "æ", "7:": "ø", "y:": "y", "i:": "i", "o:": "o", "u:": "u"},
)
INDIC_PHONES = _same("p b k f v s m n l h") | {
    "a": "ə", "aa": "a", "ih": "ɪ", "iy": "i", "uh": "ʊ", "uw": "u", "eh": "ɛ", "ee": "e", "oh": "o", "oo": "o",
    "g": "ɡ", "ch": "tʃ", "j": "dʒ", "T": "t", "D": "d", "N": "n", "th": "t", "dh": "d", "y": "j", "r": "ɹ", "L": "l",
    "sh": "ʃ", "w": "w", "pau": SILENCE,
}  # fmt: skip
HINDI = Language("utf-8", tuple("कगचजटडतदनपबमयरलवशसह"), ("", *"ािीुूेैोौ"), INDIC_PHONES)
TELUGU = Language("utf-8", tuple("కగచజటడతదనపబమయరలవశసహ"), ("", *"ాిీుూెేొో"), INDIC_PHONES)
ITALIAN = Language(
    "latin-1",
    _names("p b t d c ch g gh f v s z l r m n sc qu st tr"),
    tuple("aeiou"),
    _SHARED
    | {"E": "ɛ", "O": "ɔ", "w": "w", "S": "ʃ", "ts": "s", "tS": "tʃ", "dz": "z", "dZ": "dʒ", "ng": "ŋ"}
    | {f"{v}1": n for v, n in zip("ieEaoOu", "ieɛaoɔu", strict=True)},
)
CATALAN = Language(
    "latin-1",
    _names("p b t d c qu g f s z l r m n x j rr tr"),
    tuple("aeiou"),
    _SHARED
    | {"ax": "ə", "E": "ɛ", "O": "ɔ", "w": "w", "S": "ʃ", "Z": "ʒ", "rr": "ɹ"}
    | {f"{v}1": n for v, n in zip("ieEaoOu", "ieɛaoɔu", strict=True)},
)
RUSSIAN = Language(
    "utf-8",
    _names("п б т д к г ф в с з ш ж ч ц х м н л р пр ст"),
    _names("а е и о у ы я ё ю э"),
    {"pau": SILENCE, "ii": "i", "i": "ɪ", "uu": "u", "u": "ʊ", "ee": "ɛ", "oo": "o", "aa": "a", "a": "ɐ", "ur": "ə"}
    | {"c": "s", "ch": "tʃ", "sh": "ʃ", "sch": "ʃ", "zh": "ʒ", "h": "x", "hh": "x", "j": "j"}
    | {name * n: phone for name, phone in zip("pbtdkgfvszmnlr", "pbtdkɡfvszmnlɹ", strict=True) for n in (1, 2)},
)  # fmt: skip
VOICES: dict[str, tuple[str, Language]] = {  # name: (Debian package, language)
    "ked_diphone": ("festvox-kdlpc16k", ENGLISH),
    "czech_dita": ("festvox-czech-dita", CZECH),
    "czech_krb": ("festvox-czech-krb", CZECH),
    "czech_machac": ("festvox-czech-machac", CZECH),
    "czech_ph": ("festvox-czech-ph", CZECH),
    "hy_fi_mv_diphone": ("festvox-suopuhe-mv", FINNISH),
    "suo_fi_lj_diphone": ("festvox-suopuhe-lj", FINNISH),
    "hindi_NSK_diphone": ("festvox-hi-nsk", HINDI),
    "telugu_NSK_diphone": ("festvox-te-nsk", TELUGU),
    "lp_diphone": ("festvox-italp16k", ITALIAN),
    "pc_diphone": ("festvox-itapc16k", ITALIAN),
    "msu_ru_nsh_clunits": ("festvox-ru", RUSSIAN),
    "upc_ca_ona_hts": ("festvox-ca-ona-hts", CATALAN),
}
_SAY = """
(define (say text file)
  (let ((spoken (utt.synth (eval (list 'Utterance 'Text text)))))
    (utt.save.wave spoken file 'riff)
    (mapcar (lambda (s) (format t "phone %s %.4f\\n" (item.name s) (item.feat s 'end)))
            (utt.relation.items spoken 'Segment))
    (format t "spoken\\n")
    (fflush nil)))
"""


def installed_voices() -> tuple[str, ...]:
    """Those of VOICES that this machine has, in their order."""
    if shutil.which("festival") is None:
        return ()
    return tuple(name for name in VOICES if any(FOLDER.glob(f"*/{name}")))


class Festival:
    """One voice, in a process of its own. Raises TrainingError when it is not installed or does not speak."""

    def __init__(self, voice: str) -> None:
        if voice not in installed_voices():  # festival would only complain, and speak with its default one
            raise TrainingError(
                f"festival's voice {voice} is not installed (Debian: festival, {VOICES[voice][0]})"
            )
        self.voice, self.language = voice, VOICES[voice][1]
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            ["festival", "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._tell(f"(voice_{voice})\n{_SAY}")

    def _tell(self, commands: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(commands.encode(self.language.encoding))
        self._process.stdin.flush()

    def speak(self, text: str, rng: np.random.Generator) -> Spoken:
        """Speak `text` at a random rate."""
        assert self._process.stdout is not None
        sound = Path(self._folder.name) / "said.wav"
        quoted = text.replace("\\", "").replace('"', "")
        self._tell(
            f'(Parameter.set \'Duration_Stretch {rng.uniform(0.85, 1.25):.2f})\n(say "{quoted}" "{sound}")\n'
        )
        starts, start = [], 0.0
        for line in self._process.stdout:
            words = line.decode(self.language.encoding, "replace").split()
            if words[-1:] == ["spoken"]:
                break
            if words[:1] == ["phone"]:
                name = self.language.phones.get(words[1])
                starts.append((start, -1 if name is None else PHONES.index(name)))
                start = float(words[2])
        else:
            raise TrainingError(f"festival's voice {self.voice} ended at {text!r}")
        samples, rate = soundfile.read(sound, dtype="float32")
        return resample(torch.from_numpy(samples), rate, SAMPLE_RATE).numpy(), starts

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()
