"""Speech engines that tell when which phone sounds: espeak-ng's library (through ctypes) and flite (`-psdur`).

Both are mapped onto one inventory of phones, so that a phone of one engine, language or voice is the same label as
that of another. Knows no model and no files.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import subprocess
import tempfile

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torchaudio.functional import resample

from model.config import SAMPLE_RATE
from model.errors import TrainingError

SILENCE = "_"
PHONES = (
    *(
        SILENCE,
        "p",
        "b",
        "t",
        "d",
        "k",
        "ɡ",
        "f",
        "v",
        "θ",
        "ð",
        "s",
        "z",
        "ʃ",
        "ʒ",
        "tʃ",
        "dʒ",
        "h",
        "m",
        "n",
    ),
    *(
        "ŋ",
        "l",
        "ɹ",
        "ɾ",
        "j",
        "w",
        "x",
        "ç",
        "ʁ",
        "i",
        "ɪ",
        "e",
        "ɛ",
        "æ",
        "a",
        "ɑ",
        "ɒ",
        "ɔ",
        "o",
        "ʊ",
        "u",
    ),
    *("ʌ", "ə", "ɐ", "ɚ", "ɜ", "y", "ø", "œ", "ɪə", "aɪ", "aʊ", "eɪ", "oʊ", "ɔɪ", "ɛɹ"),
)
FIRST_VOWEL = PHONES.index("i")  # all from it on are vowels
ARPABET = {  # flite's names
    "aa": "ɑ",
    "ae": "æ",
    "ah": "ʌ",
    "ao": "ɔ",
    "aw": "aʊ",
    "ax": "ə",
    "ay": "aɪ",
    "b": "b",
    "ch": "tʃ",
    "d": "d",
    "dh": "ð",
    "dx": "ɾ",
    "eh": "ɛ",
    "er": "ɚ",
    "ey": "eɪ",
    "f": "f",
    "g": "ɡ",
    "hh": "h",
    "ih": "ɪ",
    "iy": "i",
    "jh": "dʒ",
    "k": "k",
    "l": "l",
    "m": "m",
    "n": "n",
    "ng": "ŋ",
    "ow": "oʊ",
    "oy": "ɔɪ",
    "p": "p",
    "r": "ɹ",
    "s": "s",
    "sh": "ʃ",
    "t": "t",
    "th": "θ",
    "uh": "ʊ",
    "uw": "u",
    "v": "v",
    "w": "w",
    "y": "j",
    "z": "z",
    "zh": "ʒ",
    "pau": SILENCE,
}
ALIASES = {  # espeak-ng's names for sounds that PHONES calls otherwise
    "r": "ɹ",
    "g": "ɡ",
    "əʊ": "oʊ",
    "ɜː": "ɚ",
    "ɫ": "l",
    "ʔ": SILENCE,
    "": SILENCE,
    "ɐ̃": "ɐ",
    "ɔø": "ɔɪ",
    "aʊə": "aʊ",
    "ɑ̃": "ɑ",
    "ɛ̃": "ɛ",
    "ɔ̃": "ɔ",
    "œ̃": "œ",
    "ts": "s",
    "pf": "f",
    "eə": "ɛɹ",
    "iə": "ɪə",
    "ʊə": "ʊ",
    "ɑɹ": "ɑ",
    "ɔɹ": "ɔ",
    "oɹ": "ɔ",
    "ɪɹ": "ɪə",
    "ʊɹ": "ʊ",
    "aɪə": "aɪ",
    "aɪɚ": "aɪ",
    "əl": "l",
    "n̩": "n",
    "ᵻ": "ɪ",
}


def phone_index(symbol: str) -> int:
    """Index into PHONES of an IPA symbol as espeak-ng writes it, -1 for one that the set lacks."""
    symbol = symbol.strip("ˈˌ")
    for candidate in (
        ALIASES.get(symbol, symbol),
        ALIASES.get(symbol.rstrip("ːʲ"), symbol.rstrip("ːʲ")),
        symbol[:1],
    ):
        if candidate in PHONES:
            return PHONES.index(candidate)
    return -1


Spoken = tuple[
    npt.NDArray[np.float32], list[tuple[float, int]]
]  # waveform at 16 kHz; (second a phone starts, phone)


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
                ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
                ("user_data", ctypes.c_void_p), ("id", _Id)]  # fmt: skip


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_LIST_END, _PHONEME = 0, 7  # espeak_EVENT_TYPE
_SYNCHRONOUS, _PHONEME_EVENTS, _PHONEME_IPA = 2, 1, 2  # espeak_Initialize
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER


class Espeak:
    """espeak-ng's library. Raises TrainingError when it is not installed.

    It speaks in the calling thread: espeak-ng's own one waits for ever once the library is started twice in a process.
    """

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise TrainingError(
                "the library espeak-ng is not installed (Debian: libespeak-ng1, espeak-ng-data)"
            )
        self._library = ctypes.CDLL(name)
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS | _PHONEME_IPA)
        if self._rate <= 0:
            raise TrainingError(f"espeak-ng did not start (espeak_Initialize: {self._rate})")
        self._pieces: list[npt.NDArray[np.int16]] = []
        self._starts: list[tuple[float, int]] = []
        self._callback = _Callback(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(
        self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]
    ) -> int:
        if count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _LIST_END:
            if events[index].type == _PHONEME:
                symbol = events[index].id.string.decode("utf-8", "replace")
                self._starts.append((events[index].sample / self._rate, phone_index(symbol)))
            index += 1
        return 0

    def speak(self, text: str, voice: str, rng: np.random.Generator) -> Spoken:
        """Speak `text` at a random rate and pitch."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise TrainingError(f"espeak-ng has no voice {voice!r}")
        for parameter, low, high in ((_RATE, 130, 210), (_PITCH, 25, 75), (_RANGE, 25, 75)):
            self._library.espeak_SetParameter(parameter, int(rng.integers(low, high)), 0)
        self._pieces, self._starts = [], []
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
        samples = np.concatenate(self._pieces or [np.zeros(1, np.int16)]).astype(np.float32) / 32768
        return resample(torch.from_numpy(samples), self._rate, SAMPLE_RATE).numpy(), self._starts


def speak_flite(text: str, voice: str, rng: np.random.Generator) -> Spoken:
    """Speak `text` with one of flite's voices at a random rate. Raises TrainingError when flite is not installed."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        stretch = f"duration_stretch={rng.uniform(0.85, 1.2):.2f}"
        command = ["flite", "-voice", voice, "--setf", stretch, "-psdur", "-t", text, "-o", file.name]
        try:
            printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            raise TrainingError(f"flite does not speak: {error}") from None
        samples, rate = soundfile.read(file.name, dtype="float32")
    starts, start = [], 0.0
    for item in printed.split():  # phone:end
        phone, end = item.rsplit(":", 1)
        starts.append((start, PHONES.index(ARPABET[phone]) if phone in ARPABET else -1))
        start = float(end)
    return resample(torch.from_numpy(samples), rate, SAMPLE_RATE).numpy(), starts
